/* SPDX-License-Identifier: MIT
 *
 * The thread that writes. It takes the records in the queue, up to a batch, and writes them by one
 * call: whole lines, so that another process that appends to the same file does not write in
 * between. Lines that cannot be written now (a full disk) are tried again: the queue fills
 * meanwhile, and `overflow` decides about further lines.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"

enum { BATCH = 1 << 16, RETRY_MS = 50 };
/* While lines arrive the writer polls the queue, so that no line pays for waking it: at first after
 * 1 ms, later less often. After a second without a line it sleeps until it is woken. So an idle
 * program costs nothing, and a line waits at most NAP_MAX_MS for the file. */
enum { NAP_MIN_MS = 1, NAP_MAX_MS = 32, NAPS_MS = 1000, SLEEP_MS = 1000 };

/* ---- A batch ---- */

static const char json_begin[] = "{\"time\":\"";

static size_t room_of(const log_record *record) {
  return sizeof json_begin + LOG_TIME_LEN + record->len;
}

static void writer_add(log_writer *writer, const char *text, size_t len) {
  memcpy(writer->batch + writer->batch_len, text, len);
  writer->batch_len += len;
}

static void writer_add_line(log_writer *writer, time_t second, long nanosecond, const char *text,
                            size_t len) {
  char now[LOG_TIME_LEN];
  log_clock_format(&writer->clock, second, nanosecond, now);
  if (writer->config.json) writer_add(writer, json_begin, sizeof json_begin - 1);
  writer_add(writer, now, sizeof now);
  writer_add(writer, text, len);
}

/* Reports dropped lines at the place where they are missing, before the next line. */
static unsigned long long add_dropped(log_writer *writer) {
  unsigned long long dropped = atomic_load(&writer->counts->dropped);
  char memory[256];
  log_text text;
  struct timespec now;
  if (dropped == writer->told_dropped) return dropped;
  segue_log_field count = {"lines", NULL, (int64_t)(dropped - writer->told_dropped)};
  segue_log_entry entry = {SEGUE_WARN, "log", "lines were lost", &count, 1};
  log_text_init(&text, memory, sizeof memory);
  log_format(&text, &entry, writer->config.json);
  clock_gettime(CLOCK_REALTIME, &now);
  if (!text.failed) writer_add_line(writer, now.tv_sec, now.tv_nsec, text.data, text.len);
  log_text_deinit(&text);
  return dropped;
}

static bool writer_fits(const log_writer *writer, const log_record *record) {
  return writer->batch_len + room_of(record) <= BATCH;
}

/* A record that is larger than a batch is written alone. */
static bool is_large(const log_record *record) {
  return room_of(record) > BATCH - 512;
}

/* ---- Writing ---- */

static bool is_abandoned(log_writer *writer) {
  const segue_op *drain = atomic_load(&writer->drain);
  return atomic_load(&writer->abandon) || (drain && segue_op_cancelled(drain));
}

/* Waits before the write is tried again: a pipe until it can be written, a full disk for RETRY_MS.
 */
static void wait_after(log_writer *writer, int error) {
  struct pollfd ready = {.fd = writer->fd, .events = POLLOUT};
  if (error == EINTR) return;
  if (error == EAGAIN) {
    poll(&ready, 1, RETRY_MS);
    return;
  }
  atomic_fetch_add(&writer->counts->failures, 1);
  poll(NULL, 0, RETRY_MS);
}

/* Returns false if the write was abandoned. */
static bool writer_write_all(log_writer *writer, const char *data, size_t len) {
  while (len) {
    ssize_t n = write(writer->fd, data, len);
    if (n >= 0) {
      data += n;
      len -= (size_t)n;
      atomic_fetch_add_explicit(&writer->counts->bytes, (unsigned long long)n,
                                memory_order_relaxed);
    } else {
      if (is_abandoned(writer)) return false;
      wait_after(writer, errno);
    }
  }
  return true;
}

static void write_out(log_writer *writer, const char *data, size_t len, size_t lines) {
  if (!len) return;
  log_file_begin(writer, len);
  bool good = writer_write_all(writer, data, len);
  log_file_end(writer);
  atomic_fetch_add_explicit(good ? &writer->counts->lines : &writer->counts->dropped, lines,
                            memory_order_relaxed);
}

static void write_large(log_writer *writer, const log_record *record) {
  char *line = malloc(room_of(record)), *batch = writer->batch;
  if (!line) {
    atomic_fetch_add(&writer->counts->dropped, 1);
    return;
  }
  writer->batch = line;
  writer->batch_len = 0;
  writer_add_line(writer, (time_t)record->second, record->nanosecond, record->text, record->len);
  write_out(writer, line, writer->batch_len, 1);
  writer->batch = batch;
  writer->batch_len = 0;
  free(line);
}

/* Returns false if there was nothing to write. A record leaves the queue when it is in the batch,
 * before the write: so the room is free for other threads while the disk is slow. */
static bool write_batch(log_writer *writer) {
  size_t lines = 0;
  writer->batch_len = 0;
  unsigned long long dropped = add_dropped(writer);
  const log_record *record = log_queue_get(&writer->queue);
  for (; record && !is_large(record) && writer_fits(writer, record);
       record = log_queue_get(&writer->queue)) {
    writer_add_line(writer, (time_t)record->second, record->nanosecond, record->text, record->len);
    log_queue_next(&writer->queue);
    lines++;
  }
  bool some = writer->batch_len != 0;
  write_out(writer, writer->batch, writer->batch_len, lines);
  writer->told_dropped = dropped;
  if (!record || !is_large(record)) return some;
  write_large(writer, record);
  log_queue_next(&writer->queue);
  return true;
}

/* ---- The thread ---- */

static bool writer_is_over(log_writer *writer) {
  return is_abandoned(writer) ||
         (atomic_load(&writer->drain) && log_queue_is_empty(&writer->queue));
}

static void wait_for_lines(log_writer *writer, unsigned *idle_ms, unsigned *nap_ms) {
  if (*idle_ms >= NAPS_MS) {
    log_queue_wait(&writer->queue, SLEEP_MS, LOG_SLEEP);
    return;
  }
  log_queue_wait(&writer->queue, *nap_ms, LOG_NAP);
  *idle_ms += *nap_ms;
  if (*nap_ms < NAP_MAX_MS) *nap_ms *= 2;
}

static void *writer_run(void *data) {
  log_writer *writer = data;
  unsigned idle_ms = NAPS_MS, nap_ms = NAP_MIN_MS;
  for (;;) {
    if (atomic_exchange(&writer->reopen, false)) log_file_reopen(writer);
    if (write_batch(writer)) {
      idle_ms = 0;
      nap_ms = NAP_MIN_MS;
      continue;
    }
    if (writer_is_over(writer)) break;
    wait_for_lines(writer, &idle_ms, &nap_ms);
  }
  segue_op *drain = atomic_load(&writer->drain);
  if (drain) segue_op_done(drain, 0, NULL);
  return NULL;
}

/* The thread takes no signals: a handler of the host must not run on it. */
static int log_writer_start_thread(log_writer *writer) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int rc = pthread_create(&writer->thread, NULL, writer_run, writer);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (rc == 0) pthread_setname_np(writer->thread, "segue-log");
  return -rc;
}

int log_writer_start(log_writer *writer, segue_error *error) {
  int rc = log_file_open(writer);
  if (rc)
    return segue_error_set(error, rc, "%s cannot be opened: %s", writer->config.file,
                           strerror(-rc));
  writer->batch = malloc(BATCH);
  writer->told_dropped = atomic_load(&writer->counts->dropped);
  rc = writer->batch ? log_writer_start_thread(writer) : -ENOMEM;
  if (rc) return segue_error_set(error, rc, "cannot start its thread: %s", strerror(-rc));
  writer->running = true;
  return 0;
}

void log_writer_drain(log_writer *writer, segue_op *op) {
  atomic_store(&writer->drain, op);
  log_queue_poke(&writer->queue);
}

void log_writer_reopen(log_writer *writer) {
  atomic_store(&writer->reopen, true);
  log_queue_poke(&writer->queue);
}

void log_writer_end(log_writer *writer) {
  atomic_store(&writer->abandon, true);
  log_queue_poke(&writer->queue);
  if (writer->running) pthread_join(writer->thread, NULL);
  writer->running = false;
  if (writer->fd >= 0) close(writer->fd);
  free(writer->batch);
}
