/* SPDX-License-Identifier: MIT
 *
 * See line_harness.h.
 */
#include "line_harness.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS_MOST = 8, BATCH = 1 << 16, TEXT = 100, MODE = 0600 };

typedef struct producer {
  pthread_t thread;
  line_harness *harness;
  segue__line_queue *queue;
  int number, put, dropped;
} producer;

struct line_harness {
  line_harness_options options;
  segue__line_queue queues[THREADS_MOST];
  size_t queue_count;
  segue__line_writer writer;
  producer producers[THREADS_MOST];
  bool joined;
  sem_t held;
  int reopen, reopened; /* atomic */
  /* of the writer */
  bool begun;
  segue__line_file file;
  char batch[BATCH];
  size_t batch_len, batch_lines;
  int written, failed, endless;
};

/* ---- Putting --------------------------------------------------------------------------------- */

static int put_text(segue__line_queue *queue, int thread, int number) {
  char text[TEXT];
  /* Of different lengths, so that lines end everywhere before the end of the memory. */
  int len = snprintf(text, sizeof text, "%d %d %.*s\n", thread, number, number % 50,
                     "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
  return segue__line_queue_put(queue, &(segue__line_put){.text = text, .len = (size_t)len});
}

static void *produce(void *data) {
  producer *p = data;
  for (int i = 1; i <= p->harness->options.lines; i++) {
    int rc;
    while ((rc = put_text(p->queue, p->number, i)) == -EAGAIN && !p->harness->options.drops)
      sched_yield();
    if (rc) segue__line_queue_lost(p->queue);
    *(rc ? &p->dropped : &p->put) += 1;
  }
  return NULL;
}

/* ---- Writing --------------------------------------------------------------------------------- */

static bool try_again(void *data, int error) {
  line_harness *h = data;
  (void)error;
  if (h->options.retries) poll(NULL, 0, 1);
  return h->options.retries;
}

static void write_batch(line_harness *h) {
  size_t lost;
  if (!h->batch_len) return;
  segue__line_file_write(&h->file, h->batch, h->batch_len, &lost);
  h->failed += (int)lost;
  h->written += (int)(h->batch_lines - lost);
  h->batch_len = h->batch_lines = 0;
}

static void add_line(line_harness *h, const char *text, size_t len) {
  if (h->batch_len + len > BATCH) write_batch(h);
  memcpy(h->batch + h->batch_len, text, len);
  h->batch_len += len;
  h->batch_lines++;
}

static void take(void *data, segue__line_record *record) {
  line_harness *h = data;
  char text[TEXT];
  if (record->lost)
    add_line(h, text, (size_t)snprintf(text, sizeof text, "lost %u\n", record->lost));
  if (record->len) add_line(h, record->text, record->len);
  if (h->options.endless && !h->reopened) put_text(&h->queues[0], 9, ++h->endless);
}

static segue__line_turn turn(void *data) {
  line_harness *h = data;
  bool any = false, stopping = segue__line_writer_is_stopping(&h->writer);
  if (h->options.held && !h->begun) sem_wait(&h->held);
  h->begun = true;
  for (size_t i = 0; i < h->queue_count; i++)
    any = segue__line_queue_drain(&h->queues[i], take, h) || any;
  write_batch(h);
  if (__atomic_exchange_n(&h->reopen, 0, __ATOMIC_SEQ_CST)) {
    segue__line_file_open(&h->file, h->options.path, MODE);
    __atomic_add_fetch(&h->reopened, 1, __ATOMIC_SEQ_CST);
  }
  return any ? SEGUE__LINES_TAKEN : stopping ? SEGUE__LINES_END : SEGUE__LINES_NONE;
}

/* ---- Life ------------------------------------------------------------------------------------ */

static void free_harness(line_harness *h) {
  for (size_t i = 0; i < h->queue_count; i++)
    free(h->queues[i].memory);
  segue__line_file_close(&h->file);
  sem_destroy(&h->held);
  free((char *)h->options.path);
  free(h);
}

line_harness *line_harness_start(const line_harness_options *options) {
  line_harness *h = calloc(1, sizeof *h);
  if (!h) return NULL;
  h->options = *options;
  h->options.path = strdup(options->path);
  sem_init(&h->held, 0, 0);
  h->queue_count = options->one_queue ? 1 : (size_t)options->threads;
  for (size_t i = 0; i < h->queue_count; i++)
    segue__line_queue_init(&h->queues[i], calloc(1, options->queue_bytes), options->queue_bytes,
                           &h->writer);
  h->file = (segue__line_file){.fd = -1, .again = try_again, .data = h};
  segue__line_writer_options writer = {.name = "spec-lines",
                                       .queues = h->queues,
                                       .queue_count = h->queue_count,
                                       .turn = turn,
                                       .data = h,
                                       .rest_ms = options->rest_ms,
                                       .naps_ms = options->naps_ms};
  if (segue__line_file_open(&h->file, h->options.path, MODE) ||
      segue__line_writer_start(&h->writer, &writer)) {
    free_harness(h);
    return NULL;
  }
  for (int i = 0; i < options->threads; i++) {
    producer *p = &h->producers[i];
    *p = (producer){.harness = h, .number = i, .queue = &h->queues[options->one_queue ? 0 : i]};
    if (pthread_create(&p->thread, NULL, produce, p)) abort();
  }
  return h;
}

void line_harness_release(line_harness *h) {
  sem_post(&h->held);
}

void line_harness_reopen(line_harness *h) {
  __atomic_store_n(&h->reopen, 1, __ATOMIC_SEQ_CST);
  segue__line_writer_poke(&h->writer);
}

int line_harness_reopened(line_harness *h) {
  return __atomic_load_n(&h->reopened, __ATOMIC_SEQ_CST);
}

void line_harness_join(line_harness *h) {
  for (int i = 0; i < h->options.threads && !h->joined; i++)
    pthread_join(h->producers[i].thread, NULL);
  h->joined = true;
}

int line_harness_put(line_harness *h, int thread, int number) {
  return put_text(&h->queues[0], thread, number);
}

void line_harness_lose(line_harness *h) {
  segue__line_queue_lost(&h->queues[0]);
}

int line_harness_fork(line_harness *h) {
  int status;
  pid_t child = fork();
  if (child == 0) {
    int rc = put_text(&h->queues[0], 9, 1);
    segue__line_queue_lost(&h->queues[0]);
    segue__line_writer_poke(&h->writer);
    segue__line_file_close(&h->file);
    _exit(rc ? 1 : 0);
  }
  while (waitpid(child, &status, 0) < 0 && errno == EINTR)
    ;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool line_harness_flush(line_harness *h, unsigned limit_ms) {
  bool all = true;
  for (size_t i = 0; i < h->queue_count; i++)
    all = segue__line_queue_flush(&h->queues[i], limit_ms) && all;
  return all;
}

bool line_harness_sleeps(line_harness *h) {
  return __atomic_load_n(&h->writer.sleep, __ATOMIC_SEQ_CST) == 2;
}

bool line_harness_end(line_harness *h, unsigned limit_ms, line_harness_counts *counts) {
  line_harness_join(h);
  segue__line_writer_stop(&h->writer);
  bool ended = segue__line_writer_try_join(&h->writer, limit_ms);
  *counts = (line_harness_counts){0};
  for (int i = 0; i < h->options.threads; i++) {
    counts->put += h->producers[i].put;
    counts->dropped += h->producers[i].dropped;
  }
  if (!ended) return false;
  counts->written = h->written;
  counts->failed = h->failed;
  free_harness(h);
  return true;
}

void line_harness_bury(line_harness *h) {
  while (!__atomic_load_n(&h->writer.ended, __ATOMIC_ACQUIRE))
    poll(NULL, 0, 1);
  free_harness(h);
}

int line_harness_disk_bytes(size_t bytes) {
  struct rlimit limit;
  signal(SIGXFSZ, SIG_IGN);
  if (getrlimit(RLIMIT_FSIZE, &limit)) return -errno;
  limit.rlim_cur = bytes ? bytes : limit.rlim_max;
  return setrlimit(RLIMIT_FSIZE, &limit) ? -errno : 0;
}
