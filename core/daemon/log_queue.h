/* SPDX-License-Identifier: MIT
 *
 * log_queue.h: lines on their way to a file descriptor that may block for as long as its reader
 * likes: a thread of its own writes them. Nothing that is shared with other processes (O_NONBLOCK
 * of the descriptor) is changed.
 */
#ifndef SEGUE_DAEMON_LOG_QUEUE_H
#define SEGUE_DAEMON_LOG_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "../os/mem.h"

typedef struct segue__log_queue segue__log_queue;

typedef struct segue__log_queue_options {
  int fd;
  size_t bytes_max; /* of lines that wait; 0: 1 MiB */
  /* The line that tells of `count` lost lines. error: why they could not be written (an errno), or
   * 0 where there was no room. Called by the thread. */
  void (*tell_lost)(void *data, segue__buf *out, uint64_t count, int error);
  void *data;
} segue__log_queue_options;

/* Starts the thread. Returns 0 or a negative code. */
int segue__log_queue_open(segue__log_queue **out, const segue__log_queue_options *options);
/* Takes a copy of one line, with its newline. Never waits: where there is no room the line is
 * lost and counted, and so is what follows, until half of the room is free again. Lines come out
 * whole and in order; a count of lost ones stands where they would have stood. [any thread] */
void segue__log_queue_add(segue__log_queue *queue, const char *line, size_t len);
/* Waits until what was added is written, at most limit_ms; false: some is not. Takes no lock, so
 * that a handler of a deadly signal may call it. [any thread but its own] */
bool segue__log_queue_flush(segue__log_queue *queue, unsigned limit_ms);
/* Flushes and frees. A thread that still hangs in a write is left behind with what it needs: the
 * process is about to end. NULL allowed. */
void segue__log_queue_close(segue__log_queue *queue, unsigned limit_ms);

#endif
