/* SPDX-License-Identifier: MIT
 *
 * sink.h: the log of the daemon: lines on standard error.
 */
#ifndef SEGUE_DAEMON_SINK_H
#define SEGUE_DAEMON_SINK_H

#include "cli.h"
#include "log_queue.h"

typedef struct segue__sink {
  segue_level level;
  bool json, colour;
  segue__log_queue *queue; /* NULL: each line is written by the thread that logs it */
} segue__sink;

/* Reads --log-format and --log-level; 0, or an exit code after an error was printed. */
int segue__sink_init(segue__sink *sink, const segue__cli *cli);
/* For a process that serves: from now on a thread writes, and no other thread waits for the reader
 * of standard error. Lines that find no room or cannot be written are counted and reported later. A
 * fatal signal waits a moment for the queued lines. One sink per process. */
int segue__sink_start(segue__sink *sink);
/* Queued lines get limit_ms to be written. stop: entries are written directly again. */
void segue__sink_flush(const segue__sink *sink, unsigned limit_ms);
void segue__sink_stop(segue__sink *sink, unsigned limit_ms);
/* One entry, one line, one write. [any thread] */
void segue__sink_write(const segue__sink *sink, const segue_log_entry *entry);

#endif
