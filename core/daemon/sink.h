/* SPDX-License-Identifier: MIT
 *
 * sink.h: where the daemon's log entries end: lines on standard error.
 */
#ifndef SEGUE_DAEMON_SINK_H
#define SEGUE_DAEMON_SINK_H

#include "cli.h"
#include "log_queue.h"

typedef struct segue__sink {
  segue_level level;
  bool json, colour;
  segue__log_queue *queue; /* NULL: each line is written by who logs it */
} segue__sink;

/* From --log-format and --log-level; 0, or an exit code after an error was told. */
int segue__sink_init(segue__sink *sink, const segue__cli *cli);
/* For a process that serves: from now on nobody waits for whoever reads standard error. Lines that
 * find no room or cannot be written are counted, and told as soon as it goes on. A deadly signal
 * that nobody handles waits a moment for what is on its way. One sink per process. */
int segue__sink_start(segue__sink *sink);
/* What is on its way gets limit_ms to arrive. stop: entries are written directly again. */
void segue__sink_flush(const segue__sink *sink, unsigned limit_ms);
void segue__sink_stop(segue__sink *sink, unsigned limit_ms);
/* One entry, one line, one write. [any thread] */
void segue__sink_write(const segue__sink *sink, const segue_log_entry *entry);

#endif
