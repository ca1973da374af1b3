/* SPDX-License-Identifier: MIT
 *
 * log.h: declarations that the files of the log share. format.c turns an entry into text on the
 * thread that logs; a queue of lines carries it to the writer without a lock; writer.c puts the
 * time before it and writes it, together with all lines that arrived meanwhile, by one call.
 *
 * The queue and the file are those of the other logs of segue (core/os/line_queue.h, line_file.h).
 * A plugin reaches no function of the core that is not in segue.h, so these sources are compiled
 * into it: a function that the library exports would be an interface to keep.
 */
#ifndef LOG_H
#define LOG_H

#include <segue.h>
#include <stdatomic.h>
#include <time.h>

#include "os/line_file.h"
#include "os/line_queue.h"

/* ---- config.c ---- */

typedef struct log_config {
  char *file; /* owned; "-": standard error */
  segue_level level;
  bool json, drop;
  size_t queue_bytes; /* a power of two */
  uint64_t rotate_bytes, rotate_s;
  unsigned keep;
  unsigned mode; /* of a file that is made */
} log_config;

/* Reads the slice of a module; sets error, with the place of the mistake, on failure. */
int log_config_read(log_config *out, const segue_slice *slice, segue_error *error);
void log_config_deinit(log_config *config);

/* ---- format.c ---- */

/* A text that begins in memory of the caller (on its stack) and moves to the heap when it grows. */
typedef struct log_text {
  char *data;
  size_t len, cap;
  bool owned, failed;
} log_text;

void log_text_init(log_text *text, char *memory, size_t size);
void log_text_deinit(log_text *text);
/* Writes a line without its time, which the writer puts before it. */
void log_format(log_text *out, const segue_log_entry *entry, bool json);
/* "2026-01-31T12:00:00.123Z"; the seconds are formatted once for all lines of one. */
enum { LOG_TIME_LEN = 24 };
typedef struct log_clock {
  time_t second;
  char text[40];
} log_clock;
uint64_t log_now_ns(void); /* of the day */
void log_clock_format(log_clock *clock, uint64_t ns, char *out);

/* ---- writer.c ---- */

/* Counts over all instances of one module, past ones included. */
typedef struct log_counts {
  atomic_int refs;
  atomic_ullong lines, bytes, dropped, failures, rotations, reopened;
  /* Lost lines that no queue counts: a drain was cut. The next instance reports them. */
  atomic_ullong unreported;
  atomic_ullong torn_inode; /* of the file whose last line such a drain left torn; 0: none */
} log_counts;

typedef struct log_writer {
  log_config config;
  log_counts *counts; /* a reference */
  char *memory;       /* of the queue */
  segue__line_queue lines;
  segue__line_writer thread;
  bool running;
  atomic_bool reopen, abandon;
  _Atomic(segue_op *) drain; /* to be done when everything is written */
  /* the thread's own */
  segue__line_file file;
  time_t file_since;
  log_clock clock;
  char *batch;
  size_t batch_len, batch_lines;
  uint64_t batch_lost; /* by its report */
} log_writer;

/* Opens the file and starts the thread. */
int log_writer_start(log_writer *writer, segue_error *error);
/* Writes the lines in the queue, ends the thread, and completes op. */
void log_writer_drain(log_writer *writer, segue_op *op);
void log_writer_reopen(log_writer *writer);
/* Ends the thread; lines that are not written yet are lost. */
void log_writer_end(log_writer *writer);

/* ---- file.c: the file under the writer ---- */

int log_file_open(log_writer *writer);
/* Before a batch: locks the file against other instances, and rotates or reopens it if necessary.
 */
void log_file_begin(log_writer *writer, size_t coming);
void log_file_end(log_writer *writer);
void log_file_reopen(log_writer *writer);

#endif
