/* SPDX-License-Identifier: MIT
 *
 * The log of the daemon as a queue of lines. Each line is one write, so that other processes on the
 * same pipe do not cut it. A line that cannot be written is lost and counted, and the count is
 * written as soon as possible: a full disk or a missing reader must not stop a server.
 */
#include "log_queue.h"

#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <uv.h>

#include "../os/line_file.h"
#include "../os/line_queue.h"

enum { BYTES = 1 << 20 };

struct segue__log_queue {
  segue__log_queue_options options;
  segue__line_queue lines;
  segue__line_writer writer;
  pthread_mutex_t mutex; /* of the threads that add lines, see segue__log_queue_add */
  bool dropping;         /* under the mutex */
  /* of the thread */
  segue__line_file file;
  uint64_t failed; /* lines that could not be written */
  int error;       /* why: a negative code */
  _Alignas(16) char memory[BYTES];
};

/* A line that is longer than the queue allows. Its record has this as its tag, and no text. */
typedef struct large_line {
  size_t len;
  char text[];
} large_line;

/* ---- Writing --------------------------------------------------------------------------------- */

/* If another process made the descriptor non-blocking, this waits until it is writable. */
static bool wait_writable(void *data, int error) {
  const segue__log_queue *q = data;
  struct pollfd ready = {.fd = q->options.fd, .events = POLLOUT};
  if (error == UV_EAGAIN) poll(&ready, 1, -1);
  return error == UV_EAGAIN;
}

static int log_queue_report(segue__log_queue *q, uint64_t count, int error) {
  segue__buf out;
  segue__buf_init(&out);
  q->options.report_lost(q->options.data, &out, count, -error);
  int rc = out.failed ? UV_ENOMEM : segue__line_file_write(&q->file, out.data, out.len, NULL);
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
  if (error == 0 && len) error = segue__line_file_write(&q->file, text, len, NULL);
  if (error == 0) return;
  q->error = error;
  q->failed += len != 0;
}

/* A record leaves the queue after it is written: segue__log_queue_flush waits for that. */
static segue__line_turn log_queue_turn(void *data) {
  segue__log_queue *q = data;
  const segue__line_record *record = segue__line_queue_get(&q->lines);
  if (!record) {
    bool ends = segue__line_writer_is_stopping(&q->writer) && segue__line_queue_is_empty(&q->lines);
    return ends ? SEGUE__LINES_END : SEGUE__LINES_NONE;
  }
  large_line *large = record->tag;
  if (large)
    write_one(q, record->lost, large->text, large->len);
  else
    write_one(q, record->lost, record->text, record->len);
  segue__free(large);
  segue__line_queue_next(&q->lines);
  return SEGUE__LINES_TAKEN;
}

static void free_queue(segue__log_queue *q) {
  pthread_mutex_destroy(&q->mutex);
  segue__free(q);
}

int segue__log_queue_open(segue__log_queue **out, const segue__log_queue_options *options) {
  *out = NULL;
  segue__log_queue *q = segue__calloc(1, sizeof *q);
  if (!q) return UV_ENOMEM;
  q->options = *options;
  q->file = (segue__line_file){.fd = options->fd, .again = wait_writable, .data = q};
  pthread_mutex_init(&q->mutex, NULL);
  segue__line_queue_init(&q->lines, q->memory, BYTES, &q->writer);
  segue__line_writer_options writer = {.name = "segue-log",
                                       .queues = &q->lines,
                                       .queue_count = 1,
                                       .turn = log_queue_turn,
                                       .data = q};
  int rc = segue__line_writer_start(&q->writer, &writer);
  if (rc < 0)
    free_queue(q);
  else
    *out = q;
  return rc;
}

/* ---- From any thread ------------------------------------------------------------------------- */

/* The memory of the log has a bound, so a large line needs an empty queue. */
static int put_large_locked(segue__log_queue *queue, const char *text, size_t len) {
  if (!segue__line_queue_is_empty(&queue->lines)) return UV_EAGAIN;
  large_line *large = segue__malloc(sizeof *large + len);
  if (!large) return UV_ENOMEM;
  large->len = len;
  memcpy(large->text, text, len);
  int rc = segue__line_queue_put(&queue->lines, &(segue__line_put){.text = "", .tag = large});
  if (rc) segue__free(large);
  return rc;
}

/* Once lines are dropped, they are dropped until half of the memory is free: the log then has one
 * long gap with a count, and not a gap at every second line. The lock makes the place of the count
 * exact: without it, a line that has its room already could take the count of a loss that happened
 * after it. */
void segue__log_queue_add(segue__log_queue *queue, const char *text, size_t len) {
  pthread_mutex_lock(&queue->mutex);
  if (segue__line_queue_used(&queue->lines) <= BYTES / 2) queue->dropping = false;
  if (!queue->dropping)
    queue->dropping = len > segue__line_queue_longest(&queue->lines)
                          ? put_large_locked(queue, text, len) != 0
                          : segue__line_queue_put(
                                &queue->lines, &(segue__line_put){.text = text, .len = len}) != 0;
  if (queue->dropping) segue__line_queue_lost(&queue->lines);
  pthread_mutex_unlock(&queue->mutex);
}

bool segue__log_queue_flush(const segue__log_queue *queue, unsigned limit_ms) {
  return segue__line_queue_flush(&queue->lines, limit_ms);
}

/* If the thread hangs in a write, because the reader of standard error reads no more, the thread
 * and the queue are abandoned: the process must end in time. */
void segue__log_queue_close(segue__log_queue *queue, unsigned limit_ms) {
  if (!queue) return;
  segue__line_writer_stop(&queue->writer);
  if (segue__line_writer_try_join(&queue->writer, limit_ms)) free_queue(queue);
}
