/* SPDX-License-Identifier: MIT
 *
 * A ring of records of any length. A thread that puts a record reserves room for it by advancing
 * the tail, fills the room, and marks the record complete; the writer goes from one complete record
 * to the next. A record never wraps: the rest at the end of the ring becomes a filler record, which
 * the writer skips. The memory behind the head is zero, so the writer can distinguish reserved room
 * from a complete record.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "log.h"

enum { EMPTY, COMPLETE, FILLER };
enum { AWAKE, NAPPING, ASLEEP };
enum { UNIT = 16 };

int log_queue_init(log_queue *queue, size_t size) {
  memset(queue, 0, sizeof *queue);
  queue->memory = aligned_alloc(64, size);
  if (!queue->memory) return -ENOMEM;
  memset(queue->memory, 0, size);
  queue->size = size;
  return 0;
}

void log_queue_deinit(log_queue *queue) {
  free(queue->memory);
  queue->memory = NULL;
}

static log_record *queue_record_at(const log_queue *queue, size_t at) {
  return (log_record *)(void *)(queue->memory + (at & (queue->size - 1)));
}

/* Reserves `size` bytes at *at. Returns -EAGAIN if there is no room. A thread that was suspended
 * between its two loads may have a tail that the head has passed since then; so the result "no
 * room" counts only if the tail is still the same. */
static int take_piece(log_queue *queue, size_t size, size_t *at) {
  size_t tail = atomic_load_explicit(&queue->tail, memory_order_relaxed);
  for (;;) {
    size_t left = queue->size - (tail & (queue->size - 1)), filler = left < size ? left : 0;
    size_t head = atomic_load_explicit(&queue->head, memory_order_acquire);
    if (tail + filler + size - head > queue->size) {
      size_t seen = tail;
      tail = atomic_load_explicit(&queue->tail, memory_order_relaxed);
      if (tail == seen) return -EAGAIN;
      continue;
    }
    if (!atomic_compare_exchange_weak_explicit(&queue->tail, &tail, tail + filler + size,
                                               memory_order_relaxed, memory_order_relaxed))
      continue;
    if (filler) {
      queue_record_at(queue, tail)->size = (uint32_t)filler;
      atomic_store_explicit(&queue_record_at(queue, tail)->state, FILLER, memory_order_release);
    }
    *at = tail + filler;
    return 0;
  }
}

static void queue_wake(log_queue *queue) {
  if (atomic_exchange(&queue->sleep, AWAKE) != AWAKE)
    syscall(SYS_futex, &queue->sleep, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static bool is_filling(const log_queue *queue, size_t tail) {
  return tail - atomic_load_explicit(&queue->head, memory_order_relaxed) > queue->size / 4;
}

/* A wake is a system call, and an interrupt of another processor: 11 us, fifty times the rest of a
 * line. So a line does not wake a writer that naps and will look at the queue in a moment, unless
 * the line is urgent or the queue may be full before the nap is over. */
static void wake_writer(log_queue *queue, size_t tail, bool is_urgent) {
  unsigned sleep = atomic_load(&queue->sleep);
  if (sleep == AWAKE) return;
  if (sleep == ASLEEP || is_urgent || is_filling(queue, tail)) queue_wake(queue);
}

int log_queue_put(log_queue *queue, const char *text, size_t len, bool is_urgent) {
  size_t size = (sizeof(log_record) + len + UNIT - 1) / UNIT * UNIT, at;
  struct timespec now;
  if (size > queue->size / 4) return SEGUE_ELIMIT;
  clock_gettime(CLOCK_REALTIME, &now);
  int rc = take_piece(queue, size, &at);
  if (rc) return rc;
  log_record *record = queue_record_at(queue, at);
  record->size = (uint32_t)size;
  record->len = (uint32_t)len;
  record->second = now.tv_sec;
  record->nanosecond = (uint32_t)now.tv_nsec;
  memcpy(record->text, text, len);
  /* Sequentially consistent, as the store of `sleep` in log_queue_wait: either the writer sees the
   * record before it sleeps, or this thread sees that the writer sleeps. */
  atomic_store(&record->state, COMPLETE);
  wake_writer(queue, at + size, is_urgent);
  return 0;
}

/* The record is zeroed before the head passes it, because a thread that reserves this room next
 * leaves its state at zero until the record is complete. */
static void queue_release(log_queue *queue, size_t head, const log_record *record) {
  size_t size = record->size;
  memset(queue->memory + (head & (queue->size - 1)), 0, size);
  atomic_store_explicit(&queue->head, head + size, memory_order_release);
}

const log_record *log_queue_get(log_queue *queue) {
  for (;;) {
    size_t head = atomic_load_explicit(&queue->head, memory_order_relaxed);
    log_record *record = queue_record_at(queue, head);
    unsigned state = atomic_load(&record->state);
    if (state != FILLER) return state == COMPLETE ? record : NULL;
    queue_release(queue, head, record);
  }
}

void log_queue_next(log_queue *queue) {
  size_t head = atomic_load_explicit(&queue->head, memory_order_relaxed);
  queue_release(queue, head, queue_record_at(queue, head));
}

bool log_queue_is_empty(const log_queue *queue) {
  return atomic_load(&queue->head) == atomic_load(&queue->tail);
}

/* The order of the store of `sleep` and the look at the queue is the other half of the handshake in
 * log_queue_put. futex(2) compares `sleep` once more, so a wake between the look and the call is
 * not lost. */
void log_queue_wait(log_queue *queue, unsigned ms, log_wait how) {
  struct timespec limit = {ms / 1000, (long)(ms % 1000) * 1000000};
  unsigned sleep = how == LOG_NAP ? NAPPING : ASLEEP;
  atomic_store(&queue->sleep, sleep);
  if (!log_queue_get(queue) && !atomic_exchange(&queue->poked, false))
    syscall(SYS_futex, &queue->sleep, FUTEX_WAIT_PRIVATE, sleep, &limit, NULL, 0);
  atomic_store(&queue->sleep, AWAKE);
}

void log_queue_poke(log_queue *queue) {
  atomic_store(&queue->poked, true);
  queue_wake(queue);
}
