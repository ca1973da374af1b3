/* SPDX-License-Identifier: MIT
 *
 * access_log_writer.h: the thread that writes access logs, its queues of lines (one for each worker
 * thread), and the logs, which are counted by the routes that use them.
 */
#ifndef SEGUE_INGRESS_ACCESS_LOG_WRITER_H
#define SEGUE_INGRESS_ACCESS_LOG_WRITER_H

#include <uv.h>

#include "../module/module.h"
#include "../os/line_queue.h"

typedef struct segue__access_log_writer segue__access_log_writer;
typedef struct segue__access_log segue__access_log;

typedef struct segue__access_log_writer_options {
  const segue__logger *log; /* receives failures */
  size_t queues;
  /* The current log, for access logs without a file; may wait. */
  int (*write_log)(void *data, const segue_log_entry *entry);
  void *data;
} segue__access_log_writer_options;

int segue__access_log_writer_new(segue__access_log_writer **out,
                                 const segue__access_log_writer_options *options);
void segue__access_log_writer_abandon(
    segue__access_log_writer *log_writer); /* in a child after fork: closes descriptors */
/* Writes all queued lines and ends the thread. keep: an abandoned thread may add more lines, which
 * are lost; the memory stays. NULL allowed. */
void segue__access_log_writer_end(segue__access_log_writer *log_writer, bool keep);
segue__line_queue *segue__access_log_writer_queue(segue__access_log_writer *log_writer,
                                                  size_t index);
void segue__access_log_writer_reopen(segue__access_log_writer *log_writer); /* NULL allowed */
void segue__access_log_writer_metrics(const segue__access_log_writer *log_writer, uint64_t *lines,
                                      uint64_t *dropped);

/* Opens the file; err has its name. */
int segue__access_log_new(segue__access_log **out, segue__access_log_writer *log_writer,
                          const segue__access_spec *spec, segue_error *err);
/* [any thread] NULL allowed. */
segue__access_log *segue__access_log_ref(segue__access_log *log);
void segue__access_log_unref(segue__access_log *log);
bool segue__access_log_is_json(const segue__access_log *log);
bool segue__access_log_has_query(const segue__access_log *log);

/* Adds a line with its newline, on the worker thread of the queue; never waits. */
void segue__access_log_put(segue__access_log *log, segue__line_queue *queue, const char *text,
                           size_t len);

#endif
