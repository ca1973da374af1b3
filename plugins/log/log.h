/* SPDX-License-Identifier: MIT
 *
 * log.h: declarations that the files of the log share. A line passes three of them: format.c turns
 * an entry into text on the thread that logs, queue.c carries the text to the writer without a
 * lock, and writer.c puts the time before it and writes it, together with all lines that arrived
 * meanwhile, by one call.
 */
#ifndef LOG_H
#define LOG_H

#include <pthread.h>
#include <segue.h>
#include <stdatomic.h>
#include <time.h>

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
void log_clock_format(log_clock *clock, time_t second, long nanosecond, char *out);

/* ---- queue.c ---- */

typedef struct log_record {
  uint32_t size;     /* of all of it, a multiple of 16; 0: nothing is here yet */
  atomic_uint state; /* enum in queue.c */
  uint32_t len;      /* of the text */
  uint32_t nanosecond;
  int64_t second;
  uint64_t unused; /* texts begin at a multiple of 16 */
  char text[];
} log_record;

/* Bounded; many threads put records, one takes them. */
typedef struct log_queue {
  char *memory;
  size_t size;
  _Alignas(64) atomic_size_t tail; /* where the next record begins; counts up for ever */
  _Alignas(64) atomic_size_t head; /* what is before it was taken */
  _Alignas(64) atomic_uint sleep;  /* enum in queue.c: how deep the writer sleeps; a futex */
  atomic_bool poked;               /* the writer must handle events besides the queue */
} log_queue;

int log_queue_init(log_queue *queue, size_t size);
void log_queue_deinit(log_queue *queue);
/* Returns 0; UV_EAGAIN if there is no room now; SEGUE_ELIMIT if there never is. Wakes a writer that
 * sleeps. Wakes a writer that naps only for an urgent record, or when a quarter of the queue is
 * full. [any thread] */
int log_queue_put(log_queue *queue, const char *text, size_t len, bool is_urgent);
/* Returns the next record, which stays until log_queue_next is called, or NULL if none is complete.
 */
const log_record *log_queue_get(log_queue *queue);
void log_queue_next(log_queue *queue);
bool log_queue_is_empty(const log_queue *queue); /* false also for a record that is not complete */
/* Waits until log_queue_put wakes the caller, log_queue_poke was called (since the last wait), or
 * the time is over. Returns at once if there is a record. */
typedef enum log_wait { LOG_NAP, LOG_SLEEP } log_wait;
void log_queue_wait(log_queue *queue, unsigned ms, log_wait how);
void log_queue_poke(log_queue *queue); /* [any thread] */

/* ---- writer.c ---- */

/* Counts over all instances of one module, past ones included. */
typedef struct log_counts {
  atomic_int refs;
  atomic_ullong lines, bytes, dropped, failures, rotations, reopened;
} log_counts;

typedef struct log_writer {
  log_config config;
  log_counts *counts; /* a reference */
  log_queue queue;
  int fd; /* -1: not open */
  bool regular;
  pthread_t thread;
  bool running;
  atomic_bool reopen, abandon;
  _Atomic(segue_op *) drain; /* to be done when everything is written */
  /* the thread's own */
  uint64_t file_bytes;
  time_t file_since;
  unsigned long long told_dropped;
  log_clock clock;
  char *batch;
  size_t batch_len;
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
