/* SPDX-License-Identifier: MIT
 *
 * line_harness.h: threads that put numbered lines, and a writer that writes them to a file: what
 * the specs of core/os/line_queue.h need in C, because it runs on other threads than Lua's.
 */
#ifndef SEGUE_SPEC_LINE_HARNESS_H
#define SEGUE_SPEC_LINE_HARNESS_H

#include "core/os/line_file.h"
#include "core/os/line_queue.h"

typedef struct line_harness line_harness;

typedef struct line_harness_options {
  const char *path;
  int threads, lines; /* of each thread: "THREAD NUMBER xxx", numbers from 1 */
  size_t queue_bytes;
  bool one_queue; /* for all threads; else one for each */
  bool drops;     /* a refused line is lost; else it is put again until there is room */
  bool retries;   /* a write that fails is tried again; else its lines are lost */
  bool held;      /* the writer begins when line_harness_release is called */
  bool endless;   /* until the file is reopened, a new line is put for each that is taken */
  unsigned rest_ms, naps_ms;
} line_harness_options;

typedef struct line_harness_counts {
  int put, dropped;    /* by the threads */
  int written, failed; /* by the writer */
} line_harness_counts;

/* NULL: it could not start. */
line_harness *line_harness_start(const line_harness_options *options);
void line_harness_release(line_harness *h);
void line_harness_reopen(line_harness *h); /* the file, soon */
int line_harness_reopened(line_harness *h);
void line_harness_join(line_harness *h); /* waits for the threads that put lines */
/* Puts a line into the first queue, on the thread of the caller. */
int line_harness_put(line_harness *h, int thread, int number);
void line_harness_lose(line_harness *h); /* a line, there */
/* Puts a line, loses one and pokes the writer in a forked child; returns the child's exit code. */
int line_harness_fork(line_harness *h);
bool line_harness_flush(line_harness *h, unsigned limit_ms); /* of all queues */
bool line_harness_sleeps(line_harness *h);                   /* the writer */
/* Ends the writer within limit_ms. Returns false if it hangs; then release, and line_harness_bury.
 */
bool line_harness_end(line_harness *h, unsigned limit_ms, line_harness_counts *counts);
void line_harness_bury(line_harness *h); /* waits for the thread that was left alone */
/* The largest size of a file that this process may write, for the rest as on a full disk: a write
 * is cut short, the next one fails. 0: no limit. */
int line_harness_disk_bytes(size_t bytes);
#endif
