/* SPDX-License-Identifier: MIT
 *
 * The journal: a record for each call that is stored, was tried, or is done. Each record has its
 * length and a checksum. A record that is cut at the end of the file was never acknowledged and is
 * dropped. Calls that the dispatcher holds while the queue is replaced are marked for the next
 * instance in the same process, which must not hand them out again. Another process, which starts
 * after a crash, ignores the mark.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "queue.h"

enum { KEPT = 1, TRIED, GONE, OUT_NOW, HEAD };
enum { LONG_ENOUGH = 4 << 20 };

typedef struct record {
  uint32_t size; /* of all of it */
  uint32_t sum;  /* of what follows */
  uint64_t id;
  int64_t due_wall_ms; /* HEAD: the process */
  uint32_t attempts;
  uint16_t kind, target_len;
} record;

/* ---- Time ---- */

static uint64_t clock_ms(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

uint64_t now_ms(void) {
  return clock_ms(CLOCK_MONOTONIC);
}

static int64_t to_wall(uint64_t due_ms) {
  return due_ms ? (int64_t)(due_ms - now_ms() + clock_ms(CLOCK_REALTIME)) : 0;
}

static uint64_t from_wall(int64_t wall_ms) {
  int64_t left = wall_ms - (int64_t)clock_ms(CLOCK_REALTIME);
  return left > 0 ? now_ms() + (uint64_t)left : 0;
}

/* ---- Records ---- */

static uint32_t sum_of(const char *data, size_t len) {
  uint32_t sum = 2166136261u;
  for (size_t i = 0; i < len; i++)
    sum = (sum ^ (unsigned char)data[i]) * 16777619u;
  return sum;
}

static char *room(bytes *out, size_t len) {
  if (out->len + len > out->capacity) {
    size_t capacity = out->capacity ? out->capacity : 4096;
    while (capacity < out->len + len)
      capacity *= 2;
    char *more = realloc(out->data, capacity);
    if (!more) {
      out->failed = true;
      return NULL;
    }
    out->data = more;
    out->capacity = capacity;
  }
  out->len += len;
  return out->data + out->len - len;
}

static void add(bytes *out, record head, const pipe_call *call) {
  size_t len = call ? call->len : 0;
  head.target_len = call ? (uint16_t)strlen(call->target) : 0;
  head.size = (uint32_t)(sizeof head + head.target_len + len);
  char *at = room(out, head.size);
  if (!at) return;
  if (call) {
    memcpy(at + sizeof head, call->target, head.target_len);
    if (len) memcpy(at + sizeof head + head.target_len, call->payload, len);
  }
  memcpy(at, &head, sizeof head);
  size_t skip = offsetof(record, id);
  head.sum = sum_of(at + skip, head.size - skip);
  memcpy(at, &head, sizeof head);
}

void record_kept(bytes *out, const pipe_call *call, uint32_t attempts, uint64_t due_ms) {
  add(out,
      (record){.kind = KEPT, .id = call->id, .attempts = attempts, .due_wall_ms = to_wall(due_ms)},
      call);
}

void record_tried(bytes *out, uint64_t id, uint32_t attempts, uint64_t due_ms) {
  add(out, (record){.kind = TRIED, .id = id, .attempts = attempts, .due_wall_ms = to_wall(due_ms)},
      NULL);
}

void record_gone(bytes *out, uint64_t id) {
  add(out, (record){.kind = GONE, .id = id}, NULL);
}

void record_out(bytes *out, uint64_t id) {
  add(out, (record){.kind = OUT_NOW, .id = id}, NULL);
}

/* ---- Whose marks count ---- */

/* The boot, the process and when it began: no two are alike. */
static uint64_t this_process(void) {
  static const char *const files[] = {"/proc/sys/kernel/random/boot_id", "/proc/self/stat"};
  uint64_t hash = 14695981039346656037u;
  char text[1024];
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    FILE *file = fopen(files[i], "re");
    size_t len = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file) fclose(file);
    text[len] = 0;
    char *at = i ? strrchr(text, ')') : NULL; /* fields from the third on; the 22nd is the start */
    for (int field = 2; at && field < 22; field++)
      at = strchr(at + 1, ' ');
    const char *from = at ? at + 1 : text;
    size_t span = i ? strspn(from, "0123456789") : len;
    for (size_t k = 0; k < span; k++)
      hash = (hash ^ (unsigned char)from[k]) * 1099511628211u;
  }
  return hash ^ ((uint64_t)getpid() << 32);
}

/* ---- The files ---- */

static char *in_folder(const char *folder, const char *name) {
  size_t size = strlen(folder) + strlen(name) + 2;
  char *path = malloc(size);
  if (path) snprintf(path, size, "%s/%s", folder, name);
  return path;
}

static int failed(segue_error *error, const char *path, const char *what) {
  int rc = -errno;
  return segue_error_set(error, rc, "%s %s: %s", path, what, strerror(-rc));
}

static int take_lock(journal *j, const char *folder, segue_error *error) {
  j->folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (j->folder < 0) return failed(error, folder, "cannot be opened");
  j->lock = openat(j->folder, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0640);
  if (j->lock < 0) return failed(error, folder, "cannot be locked");
  if (flock(j->lock, LOCK_EX | LOCK_NB) == 0) return 0;
  return segue_error_set(
      error, -errno,
      "%s is in use by another queue: a module that cannot be there twice is replaced "
      "by \"restart\"",
      folder);
}

int journal_open(journal *j, const char *folder, segue_error *error) {
  *j = (journal){.folder = -1, .lock = -1, .fd = -1, .dead = -1, .next_id = 1};
  j->process = this_process();
  j->path = in_folder(folder, "journal");
  j->next_path = in_folder(folder, "journal.new");
  j->dead_path = in_folder(folder, "dead.jsonl");
  if (!j->path || !j->next_path || !j->dead_path)
    return segue_error_set(error, UV_ENOMEM, "out of memory");
  int rc = take_lock(j, folder, error);
  if (rc) return rc;
  j->dead = open(j->dead_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
  return j->dead < 0 ? failed(error, j->dead_path, "cannot be opened") : 0;
}

void journal_close(journal *j) {
  int *files[] = {&j->fd, &j->dead, &j->folder, &j->lock}; /* the lock goes last */
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    if (*files[i] >= 0) close(*files[i]);
    *files[i] = -1;
  }
  free(j->path);
  free(j->next_path);
  free(j->dead_path);
  j->path = j->next_path = j->dead_path = NULL;
}

static int write_all(int fd, const char *data, size_t len) {
  while (len) {
    ssize_t n = write(fd, data, len);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n ? -errno : -EIO;
    data += n;
    len -= (size_t)n;
  }
  return 0;
}

/* Nothing of what could not be written whole may stay: the next record follows the last good one.
 */
int journal_append(journal *j, const bytes *records) {
  if (records->failed) return UV_ENOMEM;
  if (j->torn && (ftruncate(j->fd, (off_t)j->size) || lseek(j->fd, (off_t)j->size, SEEK_SET) < 0))
    return -errno;
  int rc = write_all(j->fd, records->data, records->len);
  j->torn = rc != 0;
  if (!rc) j->size += records->len;
  return rc;
}

int journal_sync(journal *j) {
  return fdatasync(j->fd) ? -errno : 0;
}

uint64_t journal_inode(const journal *j) {
  struct stat s;
  return fstat(j->fd, &s) ? 0 : (uint64_t)s.st_ino;
}

bool journal_resume(journal *j, uint64_t inode, uint64_t size, uint64_t next_id) {
  struct stat s;
  int fd = open(j->path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return false;
  if (fstat(fd, &s) || (uint64_t)s.st_ino != inode || (uint64_t)s.st_size != size ||
      lseek(fd, 0, SEEK_END) < 0) {
    close(fd);
    return false;
  }
  j->fd = fd;
  j->size = size;
  j->next_id = next_id;
  return true;
}

int journal_remove(journal *j) {
  if (j->fd >= 0) close(j->fd);
  j->fd = -1;
  return unlink(j->path) && errno != ENOENT ? -errno : 0;
}

/* ---- Writing it again ---- */

bool journal_is_long(const journal *j, const calls *c) {
  uint64_t live = c->bytes + c->count * sizeof(record);
  return j->size > LONG_ENOUGH && j->size / 4 > live && j->size / 2 > j->began;
}

static int write_kept(int fd, const journal *j, const calls *c, uint64_t *size) {
  bytes out = {0};
  entry **all = calls_sorted(c);
  int rc = all ? 0 : UV_ENOMEM;
  add(&out, (record){.kind = HEAD, .id = j->next_id, .due_wall_ms = (int64_t)j->process}, NULL);
  *size = 0;
  for (size_t i = 0; !rc && i <= c->count; i++) {
    if (i < c->count)
      record_kept(&out, all[i]->call, all[i]->attempts,
                  all[i]->state == LATER ? all[i]->due_ms : 0);
    if (out.len < 1 << 20 && i < c->count) continue;
    rc = out.failed ? UV_ENOMEM : write_all(fd, out.data, out.len);
    *size += out.len;
    out.len = 0;
  }
  free(all);
  free(out.data);
  return rc;
}

int journal_rewrite(journal *j, const calls *c) {
  uint64_t size = 0;
  int fd = open(j->next_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
  int rc = fd < 0 ? -errno : write_kept(fd, j, c, &size);
  if (!rc && fdatasync(fd)) rc = -errno;
  if (!rc && rename(j->next_path, j->path)) rc = -errno;
  if (!rc && fsync(j->folder)) rc = -errno;
  j->began = rc ? j->size : size;
  if (rc) {
    if (fd >= 0) close(fd);
    return rc;
  }
  if (j->fd >= 0) close(j->fd);
  j->fd = fd;
  j->size = size;
  j->torn = false;
  return 0;
}

/* ---- Reading ---- */

typedef struct reading {
  journal *journal;
  calls *calls;
  bool ours; /* the process that wrote it is this one */
} reading;

static int read_kept(const reading *r, const record *head, const char *data) {
  size_t len = head->size - sizeof *head - head->target_len;
  pipe_call *call = head->target_len <= PIPE_TARGET_MAX ? pipe_call_new(len) : NULL;
  entry *e = call ? entry_new(call) : NULL;
  if (!e) {
    pipe_call_unref(call);
    return UV_ENOMEM;
  }
  call->id = head->id;
  memcpy(call->target, data, head->target_len);
  if (len) memcpy(call->payload, data + head->target_len, len);
  e->attempts = head->attempts;
  e->due_ms = from_wall(head->due_wall_ms);
  e->state = WAITING;
  calls_add(r->calls, e);
  return 0;
}

/* WAITING and OUT are notes here: nothing is in a line before all was read. */
static int read_one(reading *r, const record *head, const char *data) {
  if (head->id >= r->journal->next_id) r->journal->next_id = head->id + (head->kind != HEAD);
  if (head->kind == KEPT) return read_kept(r, head, data);
  if (head->kind == HEAD) r->ours = (uint64_t)head->due_wall_ms == r->journal->process;
  entry *e = head->kind == HEAD ? NULL : calls_find(r->calls, head->id);
  if (!e) return 0;
  if (head->kind == TRIED) {
    e->attempts = head->attempts;
    e->due_ms = from_wall(head->due_wall_ms);
  }
  e->state = OUT;
  if (head->kind == GONE)
    calls_remove(r->calls, e);
  else if (head->kind == TRIED || !r->ours)
    e->state = WAITING;
  return 0;
}

/* How much of it is good; negative: out of memory. */
static int64_t read_all(reading *r, const char *data, size_t len) {
  size_t at = 0;
  record head;
  for (; len - at >= sizeof head; at += head.size) {
    memcpy(&head, data + at, sizeof head);
    if (head.size < sizeof head + head.target_len || head.size > len - at) break;
    size_t skip = offsetof(record, id);
    if (sum_of(data + at + skip, head.size - skip) != head.sum) break;
    int rc = read_one(r, &head, data + at + sizeof head);
    if (rc) return rc;
  }
  return (int64_t)at;
}

static int slurp(int fd, bytes *out) {
  struct stat s;
  if (fstat(fd, &s)) return -errno;
  char *data = room(out, (size_t)s.st_size);
  if (!data && s.st_size) return UV_ENOMEM;
  out->len = 0;
  while (out->len < (size_t)s.st_size) {
    ssize_t n = read(fd, out->data + out->len, (size_t)s.st_size - out->len);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -errno;
    if (!n) break;
    out->len += (size_t)n;
  }
  return 0;
}

static int place_all(calls *c) {
  entry **all = calls_sorted(c);
  int rc = all ? 0 : UV_ENOMEM;
  for (size_t i = 0; i < c->count && !rc; i++)
    if (all[i]->state == WAITING)
      rc = all[i]->due_ms ? calls_wait_until(c, all[i], all[i]->due_ms) : calls_wait(c, all[i]);
  free(all);
  return rc;
}

int journal_load(journal *j, calls *c, segue_error *error) {
  bytes all = {0};
  reading r = {.journal = j, .calls = c};
  j->fd = open(j->path, O_RDWR | O_CLOEXEC);
  if (j->fd < 0 && errno != ENOENT) return failed(error, j->path, "cannot be opened");
  int rc = j->fd < 0 ? 0 : slurp(j->fd, &all);
  int64_t good = rc ? rc : read_all(&r, all.data, all.len);
  bool whole = good == (int64_t)all.len;
  free(all.data);
  if (good >= 0) rc = place_all(c);
  j->size = good > 0 ? (uint64_t)good : 0;
  if (good < 0 || rc)
    return segue_error_set(error, rc ? rc : (int)good, "%s cannot be read: %s", j->path,
                           segue_strerror(rc ? rc : (int)good));
  rc = whole && r.ours && !journal_is_long(j, c) ? 0 : journal_rewrite(j, c);
  return rc ? segue_error_set(error, rc, "%s cannot be written: %s", j->path, segue_strerror(rc))
            : 0;
}

/* ---- Dead letters ---- */

static void add_text(bytes *out, const char *text, size_t len) {
  static const char digits[] = "0123456789abcdef";
  for (size_t i = 0; i < len; i++) {
    unsigned char c = (unsigned char)text[i];
    bool plain = c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
    char escaped[6] = {'\\', 'u', '0', '0', digits[c >> 4], digits[c & 15]};
    char *at = room(out, plain ? 1 : sizeof escaped);
    if (at) memcpy(at, plain ? text + i : escaped, plain ? 1 : sizeof escaped);
  }
}

int journal_bury(journal *j, const pipe_call *call, uint32_t attempts) {
  bytes out = {0};
  char head[160];
  snprintf(head, sizeof head, "{\"id\":\"%016llx\",\"attempts\":%u,\"target\":\"",
           (unsigned long long)call->id, attempts);
  struct {
    const char *before, *text;
    size_t len;
  } parts[] = {{head, call->target, strlen(call->target)},
               {"\",\"reason\":\"", call->reason, strlen(call->reason)},
               {"\",\"payload\":\"", call->payload, call->len},
               {"\"}\n", NULL, 0}};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    char *at = room(&out, strlen(parts[i].before));
    if (at) memcpy(at, parts[i].before, strlen(parts[i].before));
    add_text(&out, parts[i].text, parts[i].len);
  }
  int rc = out.failed ? UV_ENOMEM : write_all(j->dead, out.data, out.len);
  free(out.data);
  return rc;
}
