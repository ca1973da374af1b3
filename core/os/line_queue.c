/* SPDX-License-Identifier: MIT
 *
 * A ring of records of any length. A thread that puts a record reserves room for it by advancing
 * the tail, fills the room, and marks the record complete; the writer goes from one complete record
 * to the next. A record never wraps: the rest at the end of the ring becomes a filler record, which
 * the writer skips. The memory behind the head is zero, so the writer can distinguish reserved room
 * from a complete record.
 */
#include "line_queue.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../segue.h"
#include "thread.h"

enum { EMPTY, COMPLETE, FILLER };
enum { AWAKE, NAPPING, ASLEEP };
enum { UNIT = 16, NAP_MIN_MS = 1, NAP_MAX_MS = 32 };

/* ---- Putting --------------------------------------------------------------------------------- */

void segue__line_queue_init(segue__line_queue *queue, void *memory, size_t size,
                            segue__line_writer *writer) {
  *queue = (segue__line_queue){.memory = memory, .size = size, .writer = writer};
}

static segue__line_record *queue_record_at(const segue__line_queue *queue, size_t at) {
  return (segue__line_record *)(void *)(queue->memory + (at & (queue->size - 1)));
}

/* Reserves `size` bytes at *at. Returns -EAGAIN if there is no room. A thread that was suspended
 * between its two loads may have a tail that the head has passed since then; so the result "no
 * room" counts only if the tail is still the same. */
static int queue_reserve(segue__line_queue *queue, size_t size, size_t *at) {
  size_t tail = __atomic_load_n(&queue->tail, __ATOMIC_RELAXED);
  for (;;) {
    size_t left = queue->size - (tail & (queue->size - 1)), filler = left < size ? left : 0;
    size_t head = __atomic_load_n(&queue->head, __ATOMIC_ACQUIRE);
    if (tail + filler + size - head > queue->size) {
      size_t seen = tail;
      tail = __atomic_load_n(&queue->tail, __ATOMIC_RELAXED);
      if (tail == seen) return -EAGAIN;
      continue;
    }
    if (!__atomic_compare_exchange_n(&queue->tail, &tail, tail + filler + size, true,
                                     __ATOMIC_RELEASE, __ATOMIC_RELAXED))
      continue;
    if (filler) {
      queue_record_at(queue, tail)->size = (uint32_t)filler;
      __atomic_store_n(&queue_record_at(queue, tail)->state, FILLER, __ATOMIC_RELEASE);
    }
    *at = tail + filler;
    return 0;
  }
}

static void writer_wake(segue__line_writer *writer) {
  if (__atomic_exchange_n(&writer->sleep, AWAKE, __ATOMIC_SEQ_CST) != AWAKE)
    syscall(SYS_futex, &writer->sleep, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static bool queue_is_filling(const segue__line_queue *queue, size_t tail) {
  return tail - __atomic_load_n(&queue->head, __ATOMIC_RELAXED) > queue->size / 4;
}

/* A wake-up costs fifty times the rest of a line. So a line does not wake a writer that naps and
 * will look at the queue in a moment, unless the line is urgent or the queue may be full before the
 * nap is over. */
static void queue_wake(segue__line_queue *queue, size_t tail, bool is_urgent) {
  unsigned sleep = __atomic_load_n(&queue->writer->sleep, __ATOMIC_SEQ_CST);
  if (sleep == AWAKE) return;
  if (sleep == ASLEEP || is_urgent || queue_is_filling(queue, tail)) writer_wake(queue->writer);
}

size_t segue__line_queue_longest(const segue__line_queue *queue) {
  return queue->size / 4 - sizeof(segue__line_record);
}

/* The count of lost lines is taken after the tail has advanced: so at each instant there is a loss
 * or a record, and segue__line_queue_is_empty does not miss both. */
int segue__line_queue_put(segue__line_queue *queue, const segue__line_put *put) {
  size_t size = (sizeof(segue__line_record) + put->len + UNIT - 1) / UNIT * UNIT, at;
  if (size > queue->size / 4) return SEGUE_ELIMIT;
  int rc = queue_reserve(queue, size, &at);
  if (rc) return rc;
  segue__line_record *record = queue_record_at(queue, at);
  record->size = (uint32_t)size;
  record->len = (uint32_t)put->len;
  record->time_ns = put->time_ns;
  record->tag = put->tag;
  record->lost = 0;
  if (__atomic_load_n(&queue->lost, __ATOMIC_RELAXED))
    record->lost = __atomic_exchange_n(&queue->lost, 0, __ATOMIC_SEQ_CST);
  memcpy(record->text, put->text, put->len);
  /* Sequentially consistent, as the store of `sleep` in writer_wait: either the writer sees the
   * record before it sleeps, or this thread sees that the writer sleeps. */
  __atomic_store_n(&record->state, COMPLETE, __ATOMIC_SEQ_CST);
  queue_wake(queue, at + size, put->is_urgent);
  return 0;
}

/* Wakes a writer that sleeps: it may have emptied the queue since the line was refused, and
 * perhaps no line follows. */
void segue__line_queue_lost(segue__line_queue *queue) {
  __atomic_add_fetch(&queue->lost, 1, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&queue->writer->sleep, __ATOMIC_SEQ_CST) == ASLEEP)
    writer_wake(queue->writer);
}

/* ---- Taking ---------------------------------------------------------------------------------- */

/* The record is zeroed before the head passes it, because a thread that reserves this room next
 * leaves its state at zero until the record is complete. */
static void queue_release(segue__line_queue *queue, size_t head, const segue__line_record *record) {
  size_t size = record->size;
  memset(queue->memory + (head & (queue->size - 1)), 0, size);
  __atomic_store_n(&queue->head, head + size, __ATOMIC_RELEASE);
}

/* If lines were lost and none follows, a record without a text is put for their count. */
segue__line_record *segue__line_queue_get(segue__line_queue *queue) {
  for (;;) {
    size_t head = __atomic_load_n(&queue->head, __ATOMIC_RELAXED);
    segue__line_record *record = queue_record_at(queue, head);
    unsigned state = __atomic_load_n(&record->state, __ATOMIC_SEQ_CST);
    if (state == COMPLETE) return record;
    if (state == FILLER)
      queue_release(queue, head, record);
    else if (!__atomic_load_n(&queue->lost, __ATOMIC_SEQ_CST) ||
             __atomic_load_n(&queue->tail, __ATOMIC_ACQUIRE) != head)
      return NULL;
    else
      segue__line_queue_put(queue, &(segue__line_put){.text = ""});
  }
}

void segue__line_queue_next(segue__line_queue *queue) {
  size_t head = __atomic_load_n(&queue->head, __ATOMIC_RELAXED);
  queue_release(queue, head, queue_record_at(queue, head));
}

bool segue__line_queue_drain(segue__line_queue *queue,
                             void (*take)(void *data, segue__line_record *record), void *data) {
  size_t left = segue__line_queue_used(queue), size = 0;
  segue__line_record *record = segue__line_queue_get(queue);
  bool any = record != NULL;
  for (; record; record = left > size ? segue__line_queue_get(queue) : NULL) {
    left -= size;
    size = record->size;
    take(data, record);
    segue__line_queue_next(queue);
  }
  return any;
}

size_t segue__line_queue_used(const segue__line_queue *queue) {
  size_t head = __atomic_load_n(&queue->head, __ATOMIC_ACQUIRE);
  return __atomic_load_n(&queue->tail, __ATOMIC_ACQUIRE) - head;
}

bool segue__line_queue_is_empty(const segue__line_queue *queue) {
  return !__atomic_load_n(&queue->lost, __ATOMIC_SEQ_CST) && !segue__line_queue_used(queue);
}

/* ---- The thread ------------------------------------------------------------------------------ */

static bool writer_has_lines(const segue__line_writer *writer) {
  for (size_t i = 0; i < writer->options.queue_count; i++)
    if (segue__line_queue_get(&writer->options.queues[i])) return true;
  return false;
}

/* The order of the store of `sleep` and the look at the queues is the other half of the handshake
 * in segue__line_queue_put. futex(2) compares `sleep` once more, so a wake-up between the look and
 * the call is not lost. ms 0: without a limit. */
static void writer_wait(segue__line_writer *writer, unsigned sleep, unsigned ms, bool look) {
  struct timespec limit = {ms / 1000, (long)(ms % 1000) * 1000000};
  __atomic_store_n(&writer->sleep, sleep, __ATOMIC_SEQ_CST);
  if (!(look && writer_has_lines(writer)) &&
      !__atomic_exchange_n(&writer->poked, false, __ATOMIC_SEQ_CST))
    syscall(SYS_futex, &writer->sleep, FUTEX_WAIT_PRIVATE, sleep, ms ? &limit : NULL, NULL, 0);
  __atomic_store_n(&writer->sleep, AWAKE, __ATOMIC_SEQ_CST);
}

static void *writer_run(void *data) {
  segue__line_writer *writer = data;
  const segue__line_writer_options *options = &writer->options;
  unsigned idle_ms = options->naps_ms, nap_ms = NAP_MIN_MS;
  segue__line_turn turn;
  while ((turn = options->turn(options->data)) != SEGUE__LINES_END) {
    if (turn == SEGUE__LINES_TAKEN) {
      idle_ms = 0;
      nap_ms = NAP_MIN_MS;
      if (options->rest_ms) writer_wait(writer, NAPPING, options->rest_ms, false);
    } else if (idle_ms < options->naps_ms) {
      writer_wait(writer, NAPPING, nap_ms, true);
      idle_ms += nap_ms;
      if (nap_ms < NAP_MAX_MS) nap_ms *= 2;
    } else {
      writer_wait(writer, ASLEEP, 0, true);
    }
  }
  __atomic_store_n(&writer->ended, true, __ATOMIC_RELEASE);
  return NULL;
}

int segue__line_writer_start(segue__line_writer *writer,
                             const segue__line_writer_options *options) {
  *writer = (segue__line_writer){.options = *options};
  return segue__thread_start(&writer->thread, options->name, 0, writer_run, writer);
}

void segue__line_writer_poke(segue__line_writer *writer) {
  __atomic_store_n(&writer->poked, true, __ATOMIC_SEQ_CST);
  writer_wake(writer);
}

void segue__line_writer_stop(segue__line_writer *writer) {
  __atomic_store_n(&writer->stopping, true, __ATOMIC_SEQ_CST);
  segue__line_writer_poke(writer);
}

bool segue__line_writer_is_stopping(const segue__line_writer *writer) {
  return __atomic_load_n(&writer->stopping, __ATOMIC_SEQ_CST);
}

void segue__line_writer_join(segue__line_writer *writer) {
  pthread_join(writer->thread, NULL);
}

/* ---- Waiting for the thread -------------------------------------------------------------------
 */

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Looks again and again, without a lock and without a condition: the handler of a fatal signal may
 * wait here, and the crashed thread may hold any lock. */
static bool wait_until(bool (*is_done)(const void *of), const void *of, unsigned limit_ms) {
  int64_t until = now_ns() + limit_ms * 1000000LL;
  while (!is_done(of)) {
    if (now_ns() >= until) return false;
    nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
  }
  return true;
}

static bool queue_is_empty(const void *queue) {
  return segue__line_queue_is_empty(queue);
}

bool segue__line_queue_flush(const segue__line_queue *queue, unsigned limit_ms) {
  return wait_until(queue_is_empty, queue, limit_ms);
}

static bool writer_has_ended(const void *writer) {
  return __atomic_load_n(&((const segue__line_writer *)writer)->ended, __ATOMIC_ACQUIRE);
}

/* Not pthread_timedjoin_np(3): its limit is a time of day, and an operator may set that back. */
bool segue__line_writer_try_join(segue__line_writer *writer, unsigned limit_ms) {
  if (!wait_until(writer_has_ended, writer, limit_ms)) {
    pthread_detach(writer->thread);
    return false;
  }
  segue__line_writer_join(writer);
  return true;
}
