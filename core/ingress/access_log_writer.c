/* SPDX-License-Identifier: MIT
 *
 * One thread writes all access logs, so that no worker thread waits for a file. Each worker thread
 * puts its lines into a queue of its own, so worker threads do not disturb each other; a line that
 * does not fit is dropped and counted. While there is work the writer takes the lines of all queues
 * a hundred times a second, and needs no wake-up.
 */
#include "access_log_writer.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "../os/line_file.h"

enum { QUEUE = 1 << 20, BATCH = 1 << 17, TURN_MS = 10, MODE = 0640 };

struct segue__access_log {
  int refs; /* atomic */
  segue__access_log_writer *log_writer;
  char *path; /* NULL: the current log */
  bool json, query;
  segue__access_log *next, *todo;
  bool reopen; /* under the lock of the writer, like next */
  /* of the writer */
  segue__line_file file;
  bool failing;
  size_t lines, len;
  char batch[BATCH];
};

struct segue__access_log_writer {
  segue__access_log_writer_options options;
  segue__line_writer thread;
  pthread_mutex_t lock;
  segue__access_log *logs, *retired; /* under the lock */
  segue__line_queue *queues;
  size_t queue_count;
  uint64_t lines, dropped; /* atomic */
};

void segue__access_log_put(segue__access_log *log, segue__line_queue *queue, const char *text,
                           size_t len) {
  segue__line_put put = {.text = text, .len = len, .tag = log};
  if (segue__line_queue_put(queue, &put))
    __atomic_add_fetch(&log->log_writer->dropped, 1, __ATOMIC_RELAXED);
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

/* If the disk is full, the lines that are in the file are not counted as lost. */
static void log_writer_flush(segue__access_log *log) {
  if (!log->len) return;
  size_t lost = log->lines;
  int error = segue__line_file_is_deleted(&log->file)
                  ? segue__line_file_open(&log->file, log->path, MODE)
                  : 0;
  if (!error) error = segue__line_file_write(&log->file, log->batch, log->len, &lost);
  __atomic_add_fetch(&log->log_writer->lines, log->lines - lost, __ATOMIC_RELAXED);
  __atomic_add_fetch(&log->log_writer->dropped, lost, __ATOMIC_RELAXED);
  log_writer_report(log, -error);
  log->len = log->lines = 0;
}

static void hand_on(segue__access_log_writer *log_writer, segue__line_record *r) {
  r->text[r->len - 1] = 0;
  segue_log_entry entry = {.level = SEGUE_INFO, .group = "access", .message = r->text};
  int rc = log_writer->options.write_log
               ? log_writer->options.write_log(log_writer->options.data, &entry)
               : -1;
  __atomic_add_fetch(rc < 0 ? &log_writer->dropped : &log_writer->lines, 1, __ATOMIC_RELAXED);
}

/* Lines of one log are collected and written by one call. The record's place in the queue is free
 * as soon as its line is copied. */
static void log_writer_take(void *data, segue__line_record *r) {
  segue__access_log_writer *log_writer = data;
  segue__access_log *log = r->tag;
  if (!log->path) {
    hand_on(log_writer, r);
    return;
  }
  if (log->len + r->len > BATCH) log_writer_flush(log);
  memcpy(log->batch + log->len, r->text, r->len);
  log->len += r->len;
  log->lines++;
}

/* ---- Files ---- */

static void log_writer_reopen(segue__access_log *log) {
  int rc = segue__line_file_open(&log->file, log->path, MODE);
  if (rc < 0)
    SEGUE__LOG(log->log_writer->options.log, SEGUE_ERROR, "ingress",
               "the access log cannot be opened again: lines go to the old file",
               SEGUE__FIELD("file", log->path), SEGUE__FIELD("error", strerror(-rc)));
}

static void free_log(segue__access_log *log) {
  segue__line_file_close(&log->file);
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
    if (__atomic_exchange_n(&log->reopen, false, __ATOMIC_ACQ_REL)) log_writer_reopen(log);
  }
}

static segue__access_log *log_writer_take_retired(segue__access_log_writer *log_writer) {
  pthread_mutex_lock(&log_writer->lock);
  segue__access_log *first = log_writer->retired;
  log_writer->retired = NULL;
  pthread_mutex_unlock(&log_writer->lock);
  return first;
}

/* A thread writes nothing to a log after its last reference is gone, so the lines of a retired log
 * are all in the queues by then: the list of retired logs is taken first, and one pass over the
 * queues finds their last lines. At the end one pass is enough likewise, and a stuck worker thread
 * that still adds lines cannot prolong it. */
static segue__line_turn log_writer_turn(void *data) {
  segue__access_log_writer *log_writer = data;
  bool stopping = segue__line_writer_is_stopping(&log_writer->thread);
  segue__access_log *retired = log_writer_take_retired(log_writer);
  bool any = false;
  for (size_t i = 0; i < log_writer->queue_count; i++)
    any = segue__line_queue_drain(&log_writer->queues[i], log_writer_take, log_writer) || any;
  flush_all(log_writer);
  for (segue__access_log *next; retired; retired = next) {
    next = retired->next;
    log_writer_flush(retired);
    free_log(retired);
  }
  return stopping ? SEGUE__LINES_END : any ? SEGUE__LINES_TAKEN : SEGUE__LINES_NONE;
}

/* ---- Life ---- */

static void free_log_writer(segue__access_log_writer *log_writer) {
  for (size_t i = 0; i < log_writer->queue_count; i++)
    segue__free(log_writer->queues[i].memory);
  segue__free(log_writer->queues);
  pthread_mutex_destroy(&log_writer->lock);
  segue__free(log_writer);
}

static int log_writer_add_queue(segue__access_log_writer *log_writer) {
  char *memory = segue__calloc(1, QUEUE);
  if (!memory) return UV_ENOMEM;
  segue__line_queue_init(&log_writer->queues[log_writer->queue_count++], memory, QUEUE,
                         &log_writer->thread);
  return 0;
}

int segue__access_log_writer_new(segue__access_log_writer **out,
                                 const segue__access_log_writer_options *options) {
  segue__access_log_writer *log_writer = segue__calloc(1, sizeof *log_writer);
  *out = NULL;
  if (!log_writer) return UV_ENOMEM;
  log_writer->options = *options;
  pthread_mutex_init(&log_writer->lock, NULL);
  log_writer->queues = segue__calloc(options->queues, sizeof *log_writer->queues);
  int rc = log_writer->queues ? 0 : UV_ENOMEM;
  while (rc == 0 && log_writer->queue_count < options->queues)
    rc = log_writer_add_queue(log_writer);
  segue__line_writer_options thread = {.name = "segue-access",
                                       .queues = log_writer->queues,
                                       .queue_count = log_writer->queue_count,
                                       .turn = log_writer_turn,
                                       .data = log_writer,
                                       .rest_ms = TURN_MS};
  if (rc == 0) rc = segue__line_writer_start(&log_writer->thread, &thread);
  if (rc < 0)
    free_log_writer(log_writer);
  else
    *out = log_writer;
  return rc;
}

segue__line_queue *segue__access_log_writer_queue(segue__access_log_writer *log_writer,
                                                  size_t index) {
  return &log_writer->queues[index];
}

/* The lists may be in the middle of a change: only descriptors are closed, nothing is freed. */
void segue__access_log_writer_abandon(segue__access_log_writer *log_writer) {
  for (segue__access_log *log = log_writer->logs; log; log = log->next)
    segue__line_file_close(&log->file);
  for (segue__access_log *log = log_writer->retired; log; log = log->next)
    segue__line_file_close(&log->file);
}

void segue__access_log_writer_end(segue__access_log_writer *log_writer, bool keep) {
  if (!log_writer) return;
  segue__line_writer_stop(&log_writer->thread);
  segue__line_writer_join(&log_writer->thread);
  if (!keep) free_log_writer(log_writer);
}

void segue__access_log_writer_reopen(segue__access_log_writer *log_writer) {
  if (!log_writer) return;
  pthread_mutex_lock(&log_writer->lock);
  for (segue__access_log *log = log_writer->logs; log; log = log->next)
    if (log->path) __atomic_store_n(&log->reopen, true, __ATOMIC_RELEASE);
  pthread_mutex_unlock(&log_writer->lock);
  segue__line_writer_poke(&log_writer->thread);
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
  log->file.fd = -1;
  int rc = spec->path ? segue__line_file_open(&log->file, spec->path, MODE) : 0;
  if (rc < 0) {
    free_log(log);
    return segue__errorf(err, rc, "the access log %s cannot be opened: %s", spec->path,
                         strerror(-rc));
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

/* Its last lines may still be in a queue: the writer frees it when it has written them. */
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
  segue__line_writer_poke(&log_writer->thread);
}

bool segue__access_log_is_json(const segue__access_log *log) {
  return log->json;
}

bool segue__access_log_has_query(const segue__access_log *log) {
  return log->query;
}
