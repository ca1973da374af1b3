/* SPDX-License-Identifier: MIT
 *
 * The thread that writes. It takes the records in the queue, up to a batch, and writes them by one
 * call: whole lines, so that another process that appends to the same file does not write in
 * between. Lines that cannot be written now (a full disk) are tried again: the queue fills
 * meanwhile, and `overflow` decides about further lines.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

enum { BATCH = 1 << 16, REPORT_MOST = 256, RETRY_MS = 50 };
/* How long after the last line the writer naps before it sleeps. An idle program costs nothing
 * then, and a line of a busy one pays for no wake-up and waits for the file for 32 ms at most. */
enum { NAPS_MS = 1000 };

/* ---- A batch ---- */

static const char json_begin[] = "{\"time\":\"";

static size_t room_of(const segue__line_record *record) {
  return sizeof json_begin + LOG_TIME_LEN + record->len;
}

static void writer_add(log_writer *writer, const char *text, size_t len) {
  memcpy(writer->batch + writer->batch_len, text, len);
  writer->batch_len += len;
}

static void writer_add_line(log_writer *writer, uint64_t ns, const char *text, size_t len) {
  char now[LOG_TIME_LEN];
  log_clock_format(&writer->clock, ns, now);
  if (writer->config.json) writer_add(writer, json_begin, sizeof json_begin - 1);
  writer_add(writer, now, sizeof now);
  writer_add(writer, text, len);
}

/* Begins a batch, with the report of lost lines if there are any. The report is always the first
 * line: so a write that was cut short shows whether it is in the file. */
static void begin_batch(log_writer *writer, uint64_t lost) {
  char memory[REPORT_MOST];
  log_text text;
  writer->batch_len = writer->batch_lines = 0;
  writer->batch_lost = lost;
  if (!lost) return;
  segue_log_field count = {"lines", NULL, (int64_t)lost};
  segue_log_entry entry = {SEGUE_WARN, "log", "lines were lost", &count, 1};
  log_text_init(&text, memory, sizeof memory);
  log_format(&text, &entry, writer->config.json);
  writer_add_line(writer, log_now_ns(), text.data, text.len);
  log_text_deinit(&text);
}

static void add_record(log_writer *writer, const segue__line_record *record) {
  if (!record->len) return; /* it had a report only */
  writer_add_line(writer, record->time_ns, record->text, record->len);
  writer->batch_lines++;
}

static bool writer_fits(const log_writer *writer, const segue__line_record *record) {
  return writer->batch_len + room_of(record) <= BATCH;
}

/* A record that is larger than a batch is written alone. */
static bool is_large(const segue__line_record *record) {
  return room_of(record) > BATCH - REPORT_MOST;
}

/* ---- Writing ---- */

static bool is_abandoned(log_writer *writer) {
  const segue_op *drain = atomic_load(&writer->drain);
  return atomic_load(&writer->abandon) || (drain && segue_op_cancelled(drain));
}

/* Waits before the write is tried again: a pipe until it can be written, a full disk for RETRY_MS.
 */
static bool write_again(void *data, int error) {
  log_writer *writer = data;
  struct pollfd ready = {.fd = writer->file.fd, .events = POLLOUT};
  if (is_abandoned(writer)) return false;
  if (error != -EAGAIN) atomic_fetch_add(&writer->counts->failures, 1);
  poll(error == -EAGAIN ? &ready : NULL, error == -EAGAIN, RETRY_MS);
  return true;
}

/* Lines are lost only if the write was abandoned. Their number is for the instance that comes next;
 * so is the number in the report of this batch, if that was not written. */
static void write_out(log_writer *writer) {
  log_counts *counts = writer->counts;
  size_t lost, lines = writer->batch_lines;
  uint64_t before = writer->file.bytes;
  if (!writer->batch_len) return;
  log_file_begin(writer, writer->batch_len);
  int rc = segue__line_file_write(&writer->file, writer->batch, writer->batch_len, &lost);
  log_file_end(writer);
  bool unreported = rc && lost > lines;
  if (unreported) lost = lines; /* the report is a line too */
  atomic_fetch_add_explicit(&counts->bytes, writer->file.bytes - before, memory_order_relaxed);
  atomic_fetch_add_explicit(&counts->lines, lines - lost, memory_order_relaxed);
  atomic_fetch_add_explicit(&counts->dropped, lost, memory_order_relaxed);
  if (rc) atomic_fetch_add(&counts->unreported, lost + (unreported ? writer->batch_lost : 0));
}

static void write_large(log_writer *writer, const segue__line_record *record) {
  char *line = malloc(room_of(record)), *batch = writer->batch;
  if (!line) {
    atomic_fetch_add(&writer->counts->dropped, 1);
    atomic_fetch_add(&writer->counts->unreported, 1);
    return;
  }
  writer->batch = line;
  begin_batch(writer, 0);
  add_record(writer, record);
  write_out(writer);
  writer->batch = batch;
  free(line);
}

/* Returns how many lines were lost before the first record. An abandoned writer leaves the lines of
 * a drain that was cut to the next instance: its own report would be lost like they are, again and
 * again. */
static uint64_t take_lost(log_writer *writer, segue__line_record *record) {
  atomic_ullong *unreported = &writer->counts->unreported;
  uint64_t lost = record ? record->lost : 0;
  if (record) record->lost = 0;
  if (atomic_load_explicit(unreported, memory_order_relaxed) && !is_abandoned(writer))
    lost += atomic_exchange(unreported, 0);
  return lost;
}

/* Reports lost lines at the place where they are missing, and writes the lines up to the next such
 * place. Returns false if there was nothing to write. A record leaves the queue when it is in the
 * batch, before the write: so the room is free for other threads while the disk is slow. */
static bool write_batch(log_writer *writer) {
  segue__line_record *record = segue__line_queue_get(&writer->lines);
  begin_batch(writer, take_lost(writer, record));
  while (record && !record->lost && !is_large(record) && writer_fits(writer, record)) {
    add_record(writer, record);
    segue__line_queue_next(&writer->lines);
    record = segue__line_queue_get(&writer->lines);
  }
  bool some = writer->batch_len != 0;
  write_out(writer);
  if (!record || record->lost || !is_large(record)) return some;
  write_large(writer, record);
  segue__line_queue_next(&writer->lines);
  return true;
}

/* ---- The thread ---- */

static bool writer_is_over(log_writer *writer) {
  return is_abandoned(writer) ||
         (atomic_load(&writer->drain) && segue__line_queue_is_empty(&writer->lines));
}

static segue__line_turn writer_turn(void *data) {
  log_writer *writer = data;
  if (atomic_exchange(&writer->reopen, false)) log_file_reopen(writer);
  if (write_batch(writer)) return SEGUE__LINES_TAKEN;
  if (!writer_is_over(writer)) return SEGUE__LINES_NONE;
  segue_op *drain = atomic_load(&writer->drain);
  if (drain) segue_op_done(drain, 0, NULL);
  return SEGUE__LINES_END;
}

int log_writer_start(log_writer *writer, segue_error *error) {
  writer->file.again = write_again;
  writer->file.data = writer;
  int rc = log_file_open(writer);
  if (rc)
    return segue_error_set(error, rc, "%s cannot be opened: %s", writer->config.file,
                           strerror(-rc));
  writer->batch = malloc(BATCH);
  segue__line_writer_options thread = {.name = "segue-log",
                                       .queues = &writer->lines,
                                       .queue_count = 1,
                                       .turn = writer_turn,
                                       .data = writer,
                                       .naps_ms = NAPS_MS};
  rc = writer->batch ? segue__line_writer_start(&writer->thread, &thread) : -ENOMEM;
  if (rc) return segue_error_set(error, rc, "cannot start its thread: %s", strerror(-rc));
  writer->running = true;
  return 0;
}

void log_writer_drain(log_writer *writer, segue_op *op) {
  atomic_store(&writer->drain, op);
  segue__line_writer_poke(&writer->thread);
}

void log_writer_reopen(log_writer *writer) {
  atomic_store(&writer->reopen, true);
  segue__line_writer_poke(&writer->thread);
}

void log_writer_end(log_writer *writer) {
  atomic_store(&writer->abandon, true);
  if (writer->running) {
    segue__line_writer_poke(&writer->thread);
    segue__line_writer_join(&writer->thread);
  }
  writer->running = false;
  segue__line_file_close(&writer->file);
  free(writer->batch);
}
