/* SPDX-License-Identifier: MIT
 *
 * sink.h: where the daemon's log entries end: lines on standard error.
 */
#ifndef SEGUE_DAEMON_SINK_H
#define SEGUE_DAEMON_SINK_H

#include "cli.h"

typedef struct segue__sink {
  segue_level level;
  bool json, colour;
} segue__sink;

/* From --log-format and --log-level; 0, or an exit code after an error was told. */
int segue__sink_init(segue__sink *sink, const segue__cli *cli);
/* One entry, one line, one write. A reader that is gone or too slow costs lines, nothing else.
 * [any thread] */
void segue__sink_write(const segue__sink *sink, const segue_log_entry *entry);

#endif
