/* SPDX-License-Identifier: MIT
 *
 * A list of lines and the thread that writes them. Each line is one write, so that other processes
 * on the same pipe do not cut it. A line that cannot be written is lost and counted, and the count
 * is written as soon as possible: a full disk or a missing reader must not stop a server.
 */
#include "log_queue.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "../os/thread.h"
#include "../os/write.h"

enum { BYTES_DEFAULT = 1 << 20 };

typedef struct line {
  struct line *next;
  uint64_t lost_before; /* lines that were dropped just before this one */
  size_t len;
  char text[];
} line;

struct segue__log_queue {
  segue__log_queue_options options;
  pthread_t thread;
  pthread_mutex_t mutex;
  pthread_cond_t wake;
  line *first, *last;
  size_t bytes;
  uint64_t lost; /* since the last line */
  bool dropping, closing;
  uint64_t added, done; /* atomic: lines and counts accepted; lines and counts written or dropped */
  bool ended;           /* atomic: the thread does not use the queue any more */
  /* of the thread */
  uint64_t failed; /* lines that could not be written */
  int error;       /* why */
  bool torn;       /* the last line is written in part */
};

/* ---- Writing --------------------------------------------------------------------------------- */

/* Writes one line. If another process made the descriptor non-blocking this waits until it is
 * writable, and continues with the rest of the line. */
static int log_queue_write_line(segue__log_queue *q, const char *text, size_t len) {
  size_t sent = 0;
  for (;;) {
    size_t written;
    int rc = sent ? segue__write_all(q->options.fd, text + sent, len - sent, &written)
                  : segue__write_lines(q->options.fd, text, len, &q->torn, &written);
    sent += written;
    if (rc != UV_EAGAIN) {
      q->torn = rc ? q->torn || sent : false;
      return -rc;
    }
    struct pollfd ready = {.fd = q->options.fd, .events = POLLOUT};
    poll(&ready, 1, -1);
  }
}

static int log_queue_report(segue__log_queue *q, uint64_t count, int error) {
  segue__buf out;
  segue__buf_init(&out);
  q->options.report_lost(q->options.data, &out, count, error);
  int rc = out.failed ? ENOMEM : log_queue_write_line(q, out.data, out.len);
  segue__buf_deinit(&out);
  return rc;
}

static int report_failed(segue__log_queue *q) {
  if (!q->failed) return 0;
  int rc = log_queue_report(q, q->failed, q->error);
  if (rc == 0) q->failed = 0;
  return rc;
}

/* Losses are reported first, in the order in which they happened: first lines that could not be
 * written, then lines that were dropped before this one. */
static void write_one(segue__log_queue *q, uint64_t lost, const char *text, size_t len) {
  int error = report_failed(q);
  if (error == 0 && lost) {
    error = log_queue_report(q, lost, 0);
    if (error) q->failed += lost;
  }
  if (error == 0 && len) error = log_queue_write_line(q, text, len);
  if (error == 0) return;
  q->error = error;
  q->failed += len != 0;
}

/* ---- The thread ------------------------------------------------------------------------------ */

static line *log_queue_pop_locked(segue__log_queue *q) {
  line *l = q->first;
  q->first = l->next;
  if (!q->first) q->last = NULL;
  q->bytes -= l->len;
  return l;
}

static void add_done(segue__log_queue *q) {
  __atomic_add_fetch(&q->done, 1, __ATOMIC_RELEASE);
}

static void write_next(segue__log_queue *q) {
  line *l = log_queue_pop_locked(q);
  pthread_mutex_unlock(&q->mutex);
  write_one(q, l->lost_before, l->text, l->len);
  segue__free(l);
  add_done(q);
  pthread_mutex_lock(&q->mutex);
}

/* All lines are written and none arrived after the lost ones, so no later line carries their count.
 */
static void report_lost_now(segue__log_queue *q) {
  uint64_t lost = q->lost;
  q->lost = 0;
  q->dropping = false;
  pthread_mutex_unlock(&q->mutex);
  write_one(q, lost, NULL, 0);
  add_done(q);
  pthread_mutex_lock(&q->mutex);
}

static void *log_queue_run(void *data) {
  segue__log_queue *q = data;
  pthread_mutex_lock(&q->mutex);
  for (;;) {
    if (q->first)
      write_next(q);
    else if (q->lost)
      report_lost_now(q);
    else if (q->closing)
      break;
    else
      pthread_cond_wait(&q->wake, &q->mutex);
  }
  pthread_mutex_unlock(&q->mutex);
  __atomic_store_n(&q->ended, true, __ATOMIC_RELEASE);
  return NULL;
}

static void free_queue(segue__log_queue *q) {
  pthread_cond_destroy(&q->wake);
  pthread_mutex_destroy(&q->mutex);
  segue__free(q);
}

int segue__log_queue_open(segue__log_queue **out, const segue__log_queue_options *options) {
  *out = NULL;
  segue__log_queue *q = segue__calloc(1, sizeof *q);
  if (!q) return UV_ENOMEM;
  q->options = *options;
  if (!q->options.bytes_max) q->options.bytes_max = BYTES_DEFAULT;
  pthread_mutex_init(&q->mutex, NULL);
  pthread_cond_init(&q->wake, NULL);
  int rc = segue__thread_start(&q->thread, "segue-log", 0, log_queue_run, q);
  if (rc < 0)
    free_queue(q);
  else
    *out = q;
  return rc;
}

/* ---- From any thread ------------------------------------------------------------------------- */

/* Once lines are dropped, they are dropped until half of the memory is free: the log then has one
 * long gap with a count, and not a gap at every second line. */
static bool has_room_locked(segue__log_queue *q, size_t len) {
  size_t max = q->options.bytes_max;
  if (q->dropping && q->bytes <= max / 2) q->dropping = false;
  if (!q->dropping && q->bytes + len > max && q->first) q->dropping = true;
  return !q->dropping;
}

/* Wakes the thread for a line, or for the first of a series of lost ones. */
static void add_task_locked(segue__log_queue *q) {
  __atomic_add_fetch(&q->added, 1, __ATOMIC_RELEASE);
  pthread_cond_signal(&q->wake);
}

static void append_locked(segue__log_queue *q, line *l) {
  if (q->lost) add_done(q); /* the report of the loss is a part of this line now */
  l->lost_before = q->lost;
  q->lost = 0;
  if (q->last)
    q->last->next = l;
  else
    q->first = l;
  q->last = l;
  q->bytes += l->len;
  add_task_locked(q);
}

void segue__log_queue_add(segue__log_queue *queue, const char *text, size_t len) {
  line *l = segue__malloc(sizeof *l + len);
  if (l) {
    *l = (line){.len = len};
    memcpy(l->text, text, len);
  }
  pthread_mutex_lock(&queue->mutex);
  if (l && has_room_locked(queue, len)) {
    append_locked(queue, l);
    l = NULL;
  } else if (!queue->lost++) {
    add_task_locked(queue);
  }
  pthread_mutex_unlock(&queue->mutex);
  segue__free(l);
}

static uint64_t log_queue_now_ms(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* Waits without the lock and without a condition, because a handler of a deadly signal calls it,
 * and the crashed thread may hold the lock. */
bool segue__log_queue_flush(segue__log_queue *queue, unsigned limit_ms) {
  uint64_t wanted = __atomic_load_n(&queue->added, __ATOMIC_ACQUIRE),
           until = log_queue_now_ms() + limit_ms;
  while (__atomic_load_n(&queue->done, __ATOMIC_ACQUIRE) < wanted) {
    if (log_queue_now_ms() >= until) return false;
    nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
  }
  return true;
}

static bool wait_ended(segue__log_queue *queue, unsigned limit_ms) {
  uint64_t until = log_queue_now_ms() + limit_ms;
  while (!__atomic_load_n(&queue->ended, __ATOMIC_ACQUIRE)) {
    if (log_queue_now_ms() >= until) return false;
    nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
  }
  return true;
}

/* If the thread hangs in a write, because the reader of standard error has stopped reading, the
 * thread and the queue are abandoned: the process must end in time. */
void segue__log_queue_close(segue__log_queue *queue, unsigned limit_ms) {
  if (!queue) return;
  pthread_mutex_lock(&queue->mutex);
  queue->closing = true;
  pthread_cond_signal(&queue->wake);
  pthread_mutex_unlock(&queue->mutex);
  if (!wait_ended(queue, limit_ms)) {
    pthread_detach(queue->thread);
    return;
  }
  pthread_join(queue->thread, NULL);
  free_queue(queue);
}
