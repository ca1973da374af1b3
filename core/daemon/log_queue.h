/* SPDX-License-Identifier: MIT
 *
 * log_queue.h: the log of the daemon on its way to standard error, which may block without limit. A
 * thread writes it. The flags of the descriptor (O_NONBLOCK) stay, because other processes share
 * them.
 */
#ifndef SEGUE_DAEMON_LOG_QUEUE_H
#define SEGUE_DAEMON_LOG_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "../os/mem.h"

typedef struct segue__log_queue segue__log_queue;

typedef struct segue__log_queue_options {
  int fd;
  /* Formats the line that reports `count` lost lines. error: the errno of the write, or 0 if the
   * queue had no room. Called on the queue's thread. */
  void (*report_lost)(void *data, segue__buf *out, uint64_t count, int error);
  void *data;
} segue__log_queue_options;

/* Starts the thread. Returns 0 or a negative code. */
int segue__log_queue_open(segue__log_queue **out, const segue__log_queue_options *options);
/* Copies one line, with its newline. Never waits: the queue has 1 MiB; without room the line is
 * lost and counted, and so are the following ones, until half of the room is free. Lines are
 * written whole and in order; a count of lost lines is written in their place. [any thread] */
void segue__log_queue_add(segue__log_queue *queue, const char *line, size_t len);
/* Waits until all added lines are written, at most limit_ms; false: some are not. Takes no lock, so
 * that the handler of a fatal signal may call it. [any thread but its own] */
bool segue__log_queue_flush(const segue__log_queue *queue, unsigned limit_ms);
/* Flushes and frees. A thread that still hangs in a write keeps its memory: the process is about to
 * end. NULL allowed. */
void segue__log_queue_close(segue__log_queue *queue, unsigned limit_ms);

#endif
