/* SPDX-License-Identifier: MIT
 *
 * One thread writes all access logs, so that no worker thread waits for a file. A worker thread
 * puts its lines into a ring, which only it writes and only the writer reads; a line that does not
 * fit is dropped and counted. While there is work the writer reads the rings a hundred times a
 * second, and needs no wake-up.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../os/thread.h"
#include "../os/write.h"
#include "access_log_writer.h"

enum { RING = 1 << 20, BATCH = 1 << 17, TURN_MS = 10 };

struct segue__ring {
  uint64_t head __attribute__((aligned(64))); /* atomic; of the writer */
  uint64_t tail __attribute__((aligned(64))); /* atomic; of the worker thread */
  segue__access_log_writer *log_writer;
  char *memory;
};

typedef struct record {
  uint32_t size, len;     /* of the record; of the text */
  segue__access_log *log; /* NULL: unused up to the end of the memory */
  char text[];
} record;

struct segue__access_log {
  int refs; /* atomic */
  segue__access_log_writer *log_writer;
  char *path; /* NULL: the current log */
  bool json, query;
  segue__access_log *next, *todo;
  bool reopen; /* under the lock of the writer, like next */
  /* of the writer */
  int fd;
  bool failing, torn;
  uint64_t lines;
  size_t len;
  char batch[BATCH];
};

struct segue__access_log_writer {
  segue__access_log_writer_options options;
  pthread_t thread;
  pthread_mutex_t lock;
  segue__access_log *logs, *retired; /* under the lock */
  segue__ring *rings;
  size_t ring_count;
  int wake;
  int asleep, stop; /* atomic */
  uint64_t lines, dropped;
};

/* ---- Rings ---- */

static void log_writer_wake(segue__access_log_writer *log_writer) {
  uint64_t one = 1;
  ssize_t n = write(log_writer->wake, &one, sizeof one);
  (void)n; /* it is read before it can be full */
}

static record *log_writer_record_at(const segue__ring *ring, uint64_t at) {
  return (record *)(void *)(ring->memory + (at & (RING - 1)));
}

/* A record is contiguous: if it does not fit before the end of the memory, a filler is put there.
 *
 * The writer sets `asleep` and then looks at the rings once more; this function publishes the
 * record and then looks at `asleep`. Both do so with sequential consistency, so at least one of
 * them sees the other: a line cannot stay in the ring while the writer sleeps without a time limit.
 * The exchange makes sure that only one thread pays for the wake-up. */
void segue__ring_put(segue__ring *ring, segue__access_log *log, const char *text, size_t len) {
  size_t size = (sizeof(record) + len + 15) & ~(size_t)15;
  uint64_t tail = ring->tail, left = RING - (tail & (RING - 1));
  uint64_t filler = left < size ? left : 0;
  uint64_t head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);
  if (tail + filler + size - head > RING) {
    __atomic_add_fetch(&ring->log_writer->dropped, 1, __ATOMIC_RELAXED);
    return;
  }
  if (filler) *log_writer_record_at(ring, tail) = (record){.size = (uint32_t)filler};
  record *r = log_writer_record_at(ring, tail + filler);
  *r = (record){.size = (uint32_t)size, .len = (uint32_t)len, .log = log};
  memcpy(r->text, text, len);
  __atomic_store_n(&ring->tail, tail + filler + size, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&ring->log_writer->asleep, __ATOMIC_SEQ_CST) &&
      __atomic_exchange_n(&ring->log_writer->asleep, 0, __ATOMIC_SEQ_CST))
    log_writer_wake(ring->log_writer);
}

/* ---- Writing ---- */

static void log_writer_report(segue__access_log *log, int error) {
  const segue__logger *to = log->log_writer->options.log;
  if (error && !log->failing)
    SEGUE__LOG(to, SEGUE_ERROR, "ingress", "the access log cannot be written: lines are lost",
               SEGUE__FIELD("file", log->path), SEGUE__FIELD("error", strerror(error)));
  else if (!error && log->failing)
    SEGUE__LOG(to, SEGUE_INFO, "ingress", "the access log can be written again",
               SEGUE__FIELD("file", log->path));
  log->failing = error != 0;
}

/* O_NONBLOCK, because the control thread opens the log of a new policy: opening a FIFO that has no
 * reader must fail and not block. */
static int log_writer_open_file(const char *path) {
  int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
  return fd < 0 ? -errno : fd;
}

static void take_file(segue__access_log *log, int fd) {
  close(log->fd);
  log->fd = fd;
  log->torn = false;
}

/* Opens the log again if its file was deleted. A file without a name cannot be read: after a
 * rotation that deletes the file and sends no signal, all later lines would be lost. */
static int replace_deleted(segue__access_log *log) {
  struct stat st;
  if (fstat(log->fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_nlink > 0) return 0;
  int fd = log_writer_open_file(log->path);
  if (fd < 0) return -fd;
  take_file(log, fd);
  return 0;
}

static void log_writer_flush(segue__access_log *log) {
  if (!log->len) return;
  int error = replace_deleted(log);
  if (!error) error = -segue__write_lines(log->fd, log->batch, log->len, &log->torn, NULL);
  __atomic_add_fetch(error ? &log->log_writer->dropped : &log->log_writer->lines, log->lines,
                     __ATOMIC_RELAXED);
  log_writer_report(log, error);
  log->len = log->lines = 0;
}

static void hand_on(segue__access_log_writer *log_writer, record *r) {
  r->text[r->len - 1] = 0;
  segue_log_entry entry = {.level = SEGUE_INFO, .group = "access", .message = r->text};
  int rc = log_writer->options.write_log
               ? log_writer->options.write_log(log_writer->options.data, &entry)
               : -1;
  __atomic_add_fetch(rc < 0 ? &log_writer->dropped : &log_writer->lines, 1, __ATOMIC_RELAXED);
}

/* Lines of one log are collected and written by one call. The record's place in the ring is free as
 * soon as its line is copied. */
static void log_writer_take(segue__access_log_writer *log_writer, record *r) {
  segue__access_log *log = r->log;
  if (!log->path) {
    hand_on(log_writer, r);
    return;
  }
  if (log->len + r->len > BATCH) log_writer_flush(log);
  memcpy(log->batch + log->len, r->text, r->len);
  log->len += r->len;
  log->lines++;
}

static bool drain_one(segue__access_log_writer *log_writer, segue__ring *ring) {
  uint64_t head = ring->head, tail = __atomic_load_n(&ring->tail, __ATOMIC_SEQ_CST);
  bool any = head != tail;
  while (head != tail) {
    record *r = log_writer_record_at(ring, head);
    uint32_t size = r->size;
    if (r->log) log_writer_take(log_writer, r);
    head += size;
    __atomic_store_n(&ring->head, head, __ATOMIC_RELEASE);
  }
  return any;
}

static bool ingress_log_writer_drain(segue__access_log_writer *log_writer) {
  bool any = false;
  for (size_t i = 0; i < log_writer->ring_count; i++)
    any = drain_one(log_writer, &log_writer->rings[i]) || any;
  return any;
}

/* ---- Files ---- */

static void ingress_log_writer_reopen(segue__access_log *log) {
  int fd = log_writer_open_file(log->path);
  if (fd < 0) {
    SEGUE__LOG(log->log_writer->options.log, SEGUE_ERROR, "ingress",
               "the access log cannot be opened again: lines go to the old file",
               SEGUE__FIELD("file", log->path), SEGUE__FIELD("error", strerror(-fd)));
    return;
  }
  take_file(log, fd);
}

static void free_log(segue__access_log *log) {
  if (log->fd >= 0) close(log->fd);
  segue__free(log->path);
  segue__free(log);
}

/* Logs are freed only here, so a log that is to be reopened stays until that is done. */
static void flush_all(segue__access_log_writer *log_writer) {
  segue__access_log *todo = NULL;
  pthread_mutex_lock(&log_writer->lock);
  for (segue__access_log *log = log_writer->logs; log; log = log->next) {
    log->todo = todo;
    todo = log;
  }
  pthread_mutex_unlock(&log_writer->lock);
  for (segue__access_log *log = todo; log; log = log->todo) {
    log_writer_flush(log);
    if (__atomic_exchange_n(&log->reopen, false, __ATOMIC_ACQ_REL)) ingress_log_writer_reopen(log);
  }
}

static segue__access_log *log_writer_take_retired(segue__access_log_writer *log_writer) {
  pthread_mutex_lock(&log_writer->lock);
  segue__access_log *first = log_writer->retired;
  log_writer->retired = NULL;
  pthread_mutex_unlock(&log_writer->lock);
  return first;
}

static void sleep_until_woken(segue__access_log_writer *log_writer, int ms) {
  struct pollfd p = {.fd = log_writer->wake, .events = POLLIN};
  uint64_t count;
  if (poll(&p, 1, ms) > 0 && read(log_writer->wake, &count, sizeof count) < 0) return;
}

/* A thread writes nothing to a log after its last reference is gone, so the lines of a retired log
 * are all in the rings by then: the list of retired logs is taken first, and one pass over the
 * rings finds their last lines. */
static void *log_writer_run(void *data) {
  segue__access_log_writer *log_writer = data;
  bool stop = false;
  while (!stop) {
    stop = __atomic_load_n(&log_writer->stop, __ATOMIC_SEQ_CST);
    segue__access_log *retired = log_writer_take_retired(log_writer);
    bool any = ingress_log_writer_drain(log_writer);
    flush_all(log_writer);
    for (segue__access_log *next; retired; retired = next) {
      next = retired->next;
      log_writer_flush(retired);
      free_log(retired);
    }
    if (stop) break;
    if (any) {
      sleep_until_woken(log_writer, TURN_MS);
      continue;
    }
    __atomic_store_n(&log_writer->asleep, 1, __ATOMIC_SEQ_CST);
    if (!ingress_log_writer_drain(log_writer)) sleep_until_woken(log_writer, -1);
    __atomic_store_n(&log_writer->asleep, 0, __ATOMIC_SEQ_CST);
  }
  return NULL;
}

/* ---- Life ---- */

static void free_log_writer(segue__access_log_writer *log_writer) {
  for (size_t i = 0; i < log_writer->ring_count; i++)
    segue__free(log_writer->rings[i].memory);
  segue__free(log_writer->rings);
  if (log_writer->wake >= 0) close(log_writer->wake);
  pthread_mutex_destroy(&log_writer->lock);
  segue__free(log_writer);
}

int segue__access_log_writer_new(segue__access_log_writer **out,
                                 const segue__access_log_writer_options *options) {
  segue__access_log_writer *log_writer = segue__calloc(1, sizeof *log_writer);
  *out = NULL;
  if (!log_writer) return UV_ENOMEM;
  log_writer->options = *options;
  pthread_mutex_init(&log_writer->lock, NULL);
  log_writer->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  int rc = log_writer->wake < 0 ? -errno : 0;
  log_writer->rings = segue__calloc(options->rings, sizeof *log_writer->rings);
  if (!log_writer->rings) rc = UV_ENOMEM;
  for (size_t i = 0; i < options->rings && rc == 0; i++) {
    log_writer->rings[i].log_writer = log_writer;
    log_writer->rings[i].memory = segue__malloc(RING);
    log_writer->ring_count = i + 1;
    if (!log_writer->rings[i].memory) rc = UV_ENOMEM;
  }
  if (rc == 0)
    rc = segue__thread_start(&log_writer->thread, "segue-access", 0, log_writer_run, log_writer);
  if (rc < 0)
    free_log_writer(log_writer);
  else
    *out = log_writer;
  return rc;
}

segue__ring *segue__access_log_writer_ring(segue__access_log_writer *log_writer, size_t index) {
  return &log_writer->rings[index];
}

void segue__access_log_writer_abandon(segue__access_log_writer *log_writer) {
  for (segue__access_log *log = log_writer->logs; log; log = log->next)
    if (log->fd >= 0) close(log->fd);
  close(log_writer->wake);
}

void segue__access_log_writer_end(segue__access_log_writer *log_writer, bool keep) {
  if (!log_writer) return;
  __atomic_store_n(&log_writer->stop, 1, __ATOMIC_SEQ_CST);
  log_writer_wake(log_writer);
  pthread_join(log_writer->thread, NULL);
  if (!keep) free_log_writer(log_writer);
}

void segue__access_log_writer_reopen(segue__access_log_writer *log_writer) {
  if (!log_writer) return;
  pthread_mutex_lock(&log_writer->lock);
  for (segue__access_log *log = log_writer->logs; log; log = log->next)
    if (log->path) __atomic_store_n(&log->reopen, true, __ATOMIC_RELEASE);
  pthread_mutex_unlock(&log_writer->lock);
  log_writer_wake(log_writer);
}

void segue__access_log_writer_metrics(const segue__access_log_writer *log_writer, uint64_t *lines,
                                      uint64_t *dropped) {
  *lines = __atomic_load_n(&log_writer->lines, __ATOMIC_RELAXED);
  *dropped = __atomic_load_n(&log_writer->dropped, __ATOMIC_RELAXED);
}

int segue__access_log_new(segue__access_log **out, segue__access_log_writer *log_writer,
                          const segue__access_spec *spec, segue_error *err) {
  segue__access_log *log = segue__malloc(sizeof *log);
  *out = NULL;
  if (log) {
    memset(log, 0, offsetof(segue__access_log, batch));
    log->path = segue__strdup(spec->path);
  }
  if (!log || (spec->path && !log->path)) {
    segue__free(log);
    return segue__errorf(err, UV_ENOMEM, "the access log cannot be opened: out of memory");
  }
  log->refs = 1;
  log->log_writer = log_writer;
  log->json = spec->json;
  log->query = spec->query;
  log->fd = spec->path ? log_writer_open_file(spec->path) : -1;
  if (spec->path && log->fd < 0) {
    int rc = segue__errorf(err, log->fd, "the access log %s cannot be opened: %s", spec->path,
                           strerror(-log->fd));
    log->fd = -1;
    free_log(log);
    return rc;
  }
  pthread_mutex_lock(&log_writer->lock);
  log->next = log_writer->logs;
  log_writer->logs = log;
  pthread_mutex_unlock(&log_writer->lock);
  *out = log;
  return 0;
}

segue__access_log *segue__access_log_ref(segue__access_log *log) {
  if (log) __atomic_add_fetch(&log->refs, 1, __ATOMIC_RELAXED);
  return log;
}

/* Its last lines may still be in a ring: the writer frees it when it has written them. */
void segue__access_log_unref(segue__access_log *log) {
  if (!log || __atomic_sub_fetch(&log->refs, 1, __ATOMIC_ACQ_REL)) return;
  segue__access_log_writer *log_writer = log->log_writer;
  pthread_mutex_lock(&log_writer->lock);
  segue__access_log **link = &log_writer->logs;
  while (*link != log)
    link = &(*link)->next;
  *link = log->next;
  log->next = log_writer->retired;
  log_writer->retired = log;
  pthread_mutex_unlock(&log_writer->lock);
  log_writer_wake(log_writer);
}

bool segue__access_log_is_json(const segue__access_log *log) {
  return log->json;
}

bool segue__access_log_has_query(const segue__access_log *log) {
  return log->query;
}
