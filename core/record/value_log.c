/* SPDX-License-Identifier: MIT
 *
 * The changes of a large value as an append-only file. The chunks of the last value are known by
 * their hashes; its bytes are not kept in memory.
 */
#include "value_log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "../config/tree.h"
#include "../os/fault.h"
#include "../os/write.h"
#include "chunks.h"
#include "two_slot_file.h"

enum { HEADER = 8 + 16, RECORD = 4 + 16, TARGET = 8 + 16, RECORDS_MAX = 256 };
static const char magic[] = "SEGUEVL1";

typedef struct chunk {
  segue__hash hash;
  size_t at, len; /* len 0: a free place of the table */
} chunk;

/* The chunks of a value, in a table by hash. */
typedef struct chunk_table {
  chunk *items;
  size_t size; /* a power of two */
} chunk_table;

struct segue__value_log {
  char *path;
  bool ready;       /* it continues the last value that was written */
  segue__hash last; /* of the last record, or of the base: the seed of the next one */
  uint64_t end;
  size_t base_len, records;
  chunk_table chunks;
};

/* ---- Chunks ---- */

static chunk *chunk_place(const chunk_table *table, segue__hash hash) {
  size_t i = hash.lo & (table->size - 1);
  while (table->items[i].len && !segue__hash_equal(table->items[i].hash, hash))
    i = (i + 1) & (table->size - 1);
  return &table->items[i];
}

/* Large enough for half of the least chunks that the value can have. */
static int chunk_table_init(chunk_table *table, const segue__chunker *chunker, size_t len) {
  table->size = 64;
  while (table->size < 2 * (len / chunker->least + 1))
    table->size *= 2;
  table->items = segue__calloc(table->size, sizeof *table->items);
  return table->items ? 0 : UV_ENOMEM;
}

static void chunk_table_deinit(chunk_table *table) {
  segue__free(table->items);
  *table = (chunk_table){0};
}

/* ---- Steps ---- */

typedef struct steps {
  segue__buf *out;
  size_t copy_at, copy_len; /* a copy that the next chunk may continue */
} steps;

static void steps_flush(steps *s) {
  if (!s->copy_len) return;
  segue__buf_addc(s->out, 'C');
  segue__put_number(s->out, s->copy_at, 8);
  segue__put_number(s->out, s->copy_len, 8);
  s->copy_len = 0;
}

static void steps_add(steps *s, const chunk *known, const char *data, size_t len) {
  if (known && s->copy_len && s->copy_at + s->copy_len == known->at) {
    s->copy_len += len;
    return;
  }
  steps_flush(s);
  if (known) {
    s->copy_at = known->at;
    s->copy_len = len;
    return;
  }
  segue__buf_addc(s->out, 'L');
  segue__put_number(s->out, len, 8);
  segue__buf_add(s->out, data, len);
}

/* Fills the table of the value; the steps that make it from the value of `before` go to out, unless
 * that is NULL. */
static int make_steps(const chunk_table *before, const char *value, size_t len, chunk_table *table,
                      segue__buf *out) {
  segue__chunker chunker;
  steps s = {.out = out};
  segue__chunker_init(&chunker, len, 1);
  if (chunk_table_init(table, &chunker, len) < 0) return UV_ENOMEM;
  for (size_t at = 0, n; (n = segue__chunker_next(&chunker, value + at, len - at)); at += n) {
    segue__hash hash = segue__hash_bytes(value + at, n, (segue__hash){0, 0});
    chunk *place = chunk_place(table, hash);
    if (!place->len) *place = (chunk){hash, at, n};
    if (!out) continue;
    const chunk *known = chunk_place(before, hash);
    steps_add(&s, known->len == n ? known : NULL, value + at, n);
  }
  if (out) steps_flush(&s);
  return out && out->failed ? UV_ENOMEM : 0;
}

/* ---- Writing ---- */

int segue__value_log_new(segue__value_log **out, const char *folder, const char *name) {
  segue__buf path;
  segue__buf_init(&path);
  segue__buf_addf(&path, "%s/%s.log", folder, name);
  segue__value_log *log = *out = segue__calloc(1, sizeof *log);
  if (log) log->path = path.failed ? NULL : segue__strdup(path.data);
  segue__buf_deinit(&path);
  if (log && log->path) return 0;
  segue__value_log_free(log);
  *out = NULL;
  return UV_ENOMEM;
}

void segue__value_log_free(segue__value_log *log) {
  if (!log) return;
  chunk_table_deinit(&log->chunks);
  segue__free(log->path);
  segue__free(log);
}

void segue__value_log_end(segue__value_log *log) {
  log->ready = false;
  chunk_table_deinit(&log->chunks);
}

/* at 0: the file is made if it is missing; else it must end there, because a record behind a hole,
 * in a file that was deleted meanwhile, would be lost. O_NOFOLLOW: a link in the state folder must
 * not lead the write to another file. */
static int open_log(const segue__value_log *log, uint64_t at) {
  struct stat st;
  int fd = open(log->path, O_WRONLY | (at ? 0 : O_CREAT) | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return -errno;
  if (!at || (!fstat(fd, &st) && (uint64_t)st.st_size == at)) return fd;
  close(fd);
  return UV_ENOENT;
}

/* Writes at the end of the log, and cuts off what a failed write left: its error was answered, so
 * a start must not find the value. */
static int write_at(const segue__value_log *log, uint64_t at, const segue__buf *bytes) {
  int rc = SEGUE_FAULT("last_good.log"), fd = rc ? rc : open_log(log, at);
  if (fd < 0) return fd;
  if (lseek(fd, (off_t)at, SEEK_SET) < 0) rc = -errno;
  if (!rc) rc = segue__write_all(fd, bytes->data, bytes->len, NULL);
  if (!rc && ftruncate(fd, (off_t)(at + bytes->len))) rc = -errno;
  if (!rc) rc = SEGUE_FAULT("last_good.log_sync");
  if (!rc && fdatasync(fd)) rc = -errno;
  if (rc && !ftruncate(fd, (off_t)at)) (void)fdatasync(fd);
  close(fd);
  return rc;
}

static void put_hash(segue__buf *out, segue__hash hash) {
  segue__put_number(out, hash.lo, 8);
  segue__put_number(out, hash.hi, 8);
}

/* A log that is missing after a power failure leaves the base only, so its name is durable before
 * the first record is answered. */
static int sync_name(const segue__value_log *log) {
  char *folder = segue__strdup(log->path);
  if (!folder) return UV_ENOMEM;
  *strrchr(folder, '/') = 0;
  int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int rc = fd < 0 || fsync(fd) ? -errno : 0;
  if (fd >= 0) close(fd);
  segue__free(folder);
  return rc;
}

void segue__value_log_begin(segue__value_log *log, const char *value, size_t len) {
  segue__buf head;
  segue__value_log_end(log);
  if (len < SEGUE__VALUE_LOG_LEAST) return;
  segue__buf_init(&head);
  log->last = segue__hash_bytes(value, len, (segue__hash){0, 0});
  log->end = HEADER;
  log->base_len = len;
  log->records = 0;
  segue__buf_add(&head, magic, 8);
  put_hash(&head, log->last);
  int rc = head.failed ? UV_ENOMEM : make_steps(NULL, value, len, &log->chunks, NULL);
  if (!rc) rc = write_at(log, 0, &head);
  if (!rc) rc = sync_name(log);
  segue__buf_deinit(&head);
  if (rc)
    segue__value_log_end(log);
  else
    log->ready = true;
}

int segue__value_log_append(segue__value_log *log, const char *value, size_t len) {
  segue__buf record, steps;
  chunk_table next = {0};
  if (!log->ready || len < SEGUE__VALUE_LOG_LEAST || log->records == RECORDS_MAX) return 1;
  segue__buf_init(&record);
  segue__buf_init(&steps);
  segue__put_number(&steps, len, 8);
  put_hash(&steps, segue__hash_bytes(value, len, (segue__hash){0, 0}));
  int rc = make_steps(&log->chunks, value, len, &next, &steps);
  segue__hash sum = segue__hash_bytes(steps.data, steps.len, log->last);
  if (!rc && log->end + RECORD + steps.len > HEADER + log->base_len) rc = 1;
  if (!rc) {
    segue__put_number(&record, steps.len, 4);
    put_hash(&record, sum);
    segue__buf_add(&record, steps.data, steps.len);
    rc = record.failed ? UV_ENOMEM : write_at(log, log->end, &record);
  }
  if (!rc) {
    log->end += record.len;
    log->last = sum;
    log->records++;
    chunk_table_deinit(&log->chunks);
    log->chunks = next;
  } else {
    chunk_table_deinit(&next);
  }
  segue__buf_deinit(&record);
  segue__buf_deinit(&steps);
  return rc;
}

/* ---- Reading ---- */

static segue__hash get_hash(const char *at) {
  return (segue__hash){segue__get_number(at, 8), segue__get_number(at + 8, 8)};
}

/* Makes the next value. UV_EINVAL: the steps do not fit the value, which is impossible for a record
 * with the right checksum, but must not read outside of it. */
static int take_steps(const char *at, const char *end, const segue__bytes *from, segue__buf *out) {
  while (at < end) {
    char step = *at++;
    if (end - at < (step == 'C' ? 16 : 8)) return UV_EINVAL;
    uint64_t n = segue__get_number(at, 8), len = step == 'C' ? segue__get_number(at + 8, 8) : n;
    at += step == 'C' ? 16 : 8;
    if (step == 'C' && n <= from->len && len <= from->len - n) {
      segue__buf_add(out, from->data + n, len);
    } else if (step == 'L' && len <= (uint64_t)(end - at)) {
      segue__buf_add(out, at, len);
      at += len;
    } else {
      return UV_EINVAL;
    }
  }
  return out->failed ? UV_ENOMEM : 0;
}

/* Takes the record at *at: 1 if there was one, 0 at the end of what counts, or UV_ENOMEM. */
static int take_record(const char **at, const char *end, segue__hash *last, segue__bytes *value) {
  if (end - *at < RECORD) return 0;
  size_t len = segue__get_number(*at, 4);
  const char *steps = *at + RECORD;
  if (len < TARGET || (size_t)(end - steps) < len) return 0;
  segue__hash sum = segue__hash_bytes(steps, len, *last);
  if (!segue__hash_equal(sum, get_hash(*at + 4))) return 0;
  segue__buf next;
  segue__buf_init(&next);
  int rc = take_steps(steps + TARGET, steps + len, value, &next);
  bool good = !rc && next.len == segue__get_number(steps, 8) &&
              segue__hash_equal(segue__hash_bytes(next.data, next.len, (segue__hash){0, 0}),
                                get_hash(steps + 8));
  if (!good) {
    segue__buf_deinit(&next);
    return rc == UV_ENOMEM ? rc : 0;
  }
  segue__free(value->data);
  *value = (segue__bytes){.data = next.data, .len = next.len};
  *last = sum;
  *at = steps + len;
  return 1;
}

int segue__value_log_read(const segue__value_log *log, segue__bytes *file, const char **value,
                          size_t *len) {
  const segue__os *os = segue__os_default();
  segue__bytes bytes = {0}, now = {0};
  segue_error error;
  int rc = os->read_file(os->data, log->path, SIZE_MAX / 4, &bytes, &error);
  if (rc) return rc == UV_ENOMEM ? rc : 0;
  segue__hash last = segue__hash_bytes(*value, *len, (segue__hash){0, 0});
  const char *at = bytes.data + HEADER, *end = bytes.data + bytes.len;
  bool continues = bytes.len >= HEADER && !memcmp(bytes.data, magic, 8) &&
                   segue__hash_equal(get_hash(bytes.data + 8), last);
  if (continues) {
    now = (segue__bytes){.data = segue__strndup(*value, *len), .len = *len};
    rc = now.data ? 1 : UV_ENOMEM;
    while (rc > 0)
      rc = take_record(&at, end, &last, &now);
  }
  segue__free(bytes.data);
  if (rc || !continues) {
    segue__free(now.data);
    return rc;
  }
  segue__free(file->data);
  *file = now;
  *value = now.data;
  *len = now.len;
  return 0;
}
