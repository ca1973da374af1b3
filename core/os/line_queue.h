/* SPDX-License-Identifier: MIT
 *
 * line_queue.h: carries lines from the threads that log to one thread that writes them, so that no
 * thread waits for a file, a pipe or a terminal. The access logs, the log of the daemon and the
 * plugin log stand on it.
 *
 * A queue is a ring of bounded memory. Threads put lines without a lock, one thread takes them. The
 * lines of one thread keep their order. A line that finds no room is refused: the caller waits, or
 * calls segue__line_queue_lost. Then the next line carries the count of the lost ones, so that the
 * loss is reported in its place.
 *
 * A writer is the thread, with all queues that it takes lines from. It calls `turn` of its owner
 * again and again while there are lines, and sleeps without a time limit while there are none.
 *
 * The owner has the memory of both, and frees it after the thread has ended. Nothing here allocates
 * memory or has a descriptor, so a forked child has nothing to close: it must not use them.
 *
 * Cost for a thread that puts a line: about 40 ns and a copy of the text. A wake-up costs 11 us (a
 * system call, and an interrupt of another processor): only the first line after a pause pays it.
 *
 * The plugin log is compiled with this file (see Makefile): it may use segue.h and the C library.
 */
#ifndef SEGUE_OS_LINE_QUEUE_H
#define SEGUE_OS_LINE_QUEUE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A line in a queue. */
typedef struct segue__line_record {
  uint32_t size;    /* of all of it, a multiple of 16; 0: nothing is here yet */
  uint32_t state;   /* atomic; enum in line_queue.c */
  uint32_t len;     /* of the text; may be 0 if `lost` is not */
  uint32_t lost;    /* lines that were lost just before this one */
  uint64_t time_ns; /* as it was put */
  void *tag;        /* as it was put */
  char text[];      /* the taker may change it; not terminated */
} segue__line_record;

/* The fields of two sides stand 64 bytes apart, so that they do not share a cache line, nor do they
 * share one with what stands beside the struct: that is 15 % of the time of a line. */
typedef struct segue__line_queue {
  char *memory;
  size_t size;
  struct segue__line_writer *writer;
  uint32_t lost; /* atomic: lines that were lost since the last record; both sides read it often */
  char apart_0[64];
  size_t tail; /* atomic: where the next record begins; counts up without end */
  char apart_1[64];
  size_t head; /* atomic: where the first record begins that was not taken */
  char apart_2[64];
} segue__line_queue;

typedef struct segue__line_put {
  const char *text; /* copied */
  size_t len;
  uint64_t time_ns; /* for the taker */
  void *tag;        /* for the taker */
  bool is_urgent;   /* also wakes a writer that naps */
} segue__line_put;

/* memory: zeroed, of a size that is a power of two. It stays the caller's. */
void segue__line_queue_init(segue__line_queue *queue, void *memory, size_t size,
                            struct segue__line_writer *writer);
/* The longest text that fits: a quarter of the queue. */
size_t segue__line_queue_longest(const segue__line_queue *queue);
/* Returns 0; UV_EAGAIN if there is no room now; SEGUE_ELIMIT if there never is. Never waits. Wakes
 * a writer that sleeps; wakes a writer that naps only for an urgent line, or if a quarter of the
 * queue is full. [any thread] */
int segue__line_queue_put(segue__line_queue *queue, const segue__line_put *put);
/* Counts a line that was refused and is not put again. The next record has the count; if no line
 * follows, a record without a text. Which one is next is exact for a queue that one thread uses, or
 * for threads that hold a lock around both calls. [any thread] */
void segue__line_queue_lost(segue__line_queue *queue);
/* Returns the first record, which stays until segue__line_queue_next is called, or NULL if none is
 * complete. [writer's thread] */
segue__line_record *segue__line_queue_get(segue__line_queue *queue);
void segue__line_queue_next(segue__line_queue *queue);
/* Takes the lines that are there now, and returns whether there were any. Lines that arrive
 * meanwhile stay for the next call: so it returns also if the queue never becomes empty. [writer's
 * thread] */
bool segue__line_queue_drain(segue__line_queue *queue,
                             void (*take)(void *data, segue__line_record *record), void *data);
/* Returns whether every line was taken, and every loss. [any thread] */
bool segue__line_queue_is_empty(const segue__line_queue *queue);
/* Waits until the queue is empty, at most limit_ms; returns whether it is. Loads only atomics and
 * sleeps: the handler of a fatal signal may call it. [any thread but the writer's] */
bool segue__line_queue_flush(const segue__line_queue *queue, unsigned limit_ms);
/* Returns the bytes that wait, those of the records' heads included. [any thread] */
size_t segue__line_queue_used(const segue__line_queue *queue);

typedef enum segue__line_turn {
  SEGUE__LINES_NONE,  /* there was nothing to take: wait for lines */
  SEGUE__LINES_TAKEN, /* there may be more */
  SEGUE__LINES_END    /* end the thread */
} segue__line_turn;

typedef struct segue__line_writer_options {
  const char *name; /* of the thread: at most 15 bytes, static */
  segue__line_queue *queues;
  size_t queue_count;
  /* Takes lines and writes them, on the writer's thread. Returns SEGUE__LINES_END only after
   * segue__line_writer_stop, or after a mark of the owner that segue__line_writer_poke announced.
   */
  segue__line_turn (*turn)(void *data);
  void *data;
  /* How long it pauses after lines were taken, so that it writes many by one call. 0: no pause. */
  unsigned rest_ms;
  /* How long after the last line it naps before it sleeps: naps of 1 ms, then longer ones, up to
   * 32 ms. The line that comes during a nap pays for no wake-up. 0: it sleeps at once. */
  unsigned naps_ms;
} segue__line_writer_options;

typedef struct segue__line_writer {
  segue__line_writer_options options;
  pthread_t thread;
  bool poked, stopping, ended; /* atomic */
  char apart_0[64];
  uint32_t sleep; /* atomic; enum in line_queue.c; a futex; read for each line */
  char apart_1[64];
} segue__line_writer;

/* Starts the thread. Its queues must be initialized. Returns 0 or a negative code. */
int segue__line_writer_start(segue__line_writer *writer, const segue__line_writer_options *options);
/* Makes the writer call `turn` soon, also without a line. [any thread] */
void segue__line_writer_poke(segue__line_writer *writer);
/* Asks `turn` to end the thread when all is written. [any thread] */
void segue__line_writer_stop(segue__line_writer *writer);
bool segue__line_writer_is_stopping(const segue__line_writer *writer);
/* Waits for the end of the thread without a limit. */
void segue__line_writer_join(segue__line_writer *writer);
/* The same, at most limit_ms. Returns false if the thread hangs in `turn`: it is abandoned then,
 * and all memory that it uses must stay. */
bool segue__line_writer_try_join(segue__line_writer *writer, unsigned limit_ms);

#endif
