/* SPDX-License-Identifier: MIT
 *
 * Timers: a binary heap in the caller's memory plus one array of pointers, with a single libuv
 * timer armed for the earliest. The real and the simulated clock use the same heap, so the daemon
 * runs the code that the specs test.
 */
#include "loop_internal.h"
#include "mem.h"

static void on_uv_timer(uv_timer_t *handle);

static bool timers_before(const segue__timer *a, const segue__timer *b) {
  return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->order < b->order;
}

static void timers_place(segue__timers *t, size_t slot, segue__timer *timer) {
  t->heap[slot] = timer;
  timer->slot = slot;
}

static void sift_up(segue__timers *t, size_t slot, segue__timer *timer) {
  for (; slot > 1 && timers_before(timer, t->heap[slot / 2]); slot /= 2)
    timers_place(t, slot, t->heap[slot / 2]);
  timers_place(t, slot, timer);
}

static void sift_down(segue__timers *t, size_t slot, segue__timer *timer) {
  for (;;) {
    size_t child = slot * 2;
    if (child > t->count) break;
    if (child < t->count && timers_before(t->heap[child + 1], t->heap[child])) child++;
    if (!timers_before(t->heap[child], timer)) break;
    timers_place(t, slot, t->heap[child]);
    slot = child;
  }
  timers_place(t, slot, timer);
}

static void reposition(segue__timers *t, size_t slot, segue__timer *timer) {
  if (slot > 1 && timers_before(timer, t->heap[slot / 2]))
    sift_up(t, slot, timer);
  else
    sift_down(t, slot, timer);
}

static int timers_reserve(segue__timers *t) {
  if (t->count + 1 < t->capacity) return 0;
  size_t capacity = t->capacity ? t->capacity * 2 : 16;
  segue__timer **heap = segue__realloc(t->heap, capacity * sizeof *heap);
  if (!heap) return UV_ENOMEM;
  t->heap = heap;
  t->capacity = capacity;
  return 0;
}

/* Arms the libuv timer for the top of the heap. */
static void timers_arm(segue__loop *loop) {
  segue__timers *t = &loop->timers;
  if (!loop->uv || loop->closing || t->firing) return;
  if (!t->count) {
    uv_timer_stop(&loop->uv_timer);
    return;
  }
  uint64_t now = uv_now(loop->uv), due = t->heap[1]->due_ms;
  uv_timer_start(&loop->uv_timer, on_uv_timer, due > now ? due - now : 0, 0);
}

int segue__timer_start(segue__loop *loop, segue__timer *timer, uint64_t delay_ms,
                       void (*cb)(segue__timer *timer)) {
  segue__timers *t = &loop->timers;
  if (loop->closing) return UV_ECANCELED;
  int rc = timer->slot ? 0 : timers_reserve(t);
  if (rc) return rc;
  uint64_t now = segue__loop_now_ms(loop);
  segue__timer *top = t->count ? t->heap[1] : NULL;
  timer->cb = cb;
  timer->due_ms = delay_ms > UINT64_MAX - now ? UINT64_MAX : now + delay_ms;
  timer->order = t->next_order++;
  if (!timer->slot)
    sift_up(t, ++t->count, timer);
  else
    reposition(t, timer->slot, timer);
  if (t->heap[1] != top || top == timer) timers_arm(loop);
  return 0;
}

static void take_out(segue__timers *t, segue__timer *timer) {
  size_t slot = timer->slot;
  segue__timer *last = t->heap[t->count--];
  if (last != timer) reposition(t, slot, last);
  timer->slot = 0;
}

void segue__timer_stop(segue__loop *loop, segue__timer *timer) {
  if (!timer->slot) return;
  bool was_top = timer->slot == 1;
  take_out(&loop->timers, timer);
  if (was_top) timers_arm(loop);
}

bool segue__timer_active(const segue__timer *timer) {
  return timer->slot != 0;
}

/* Fires the timers that are due now. A timer started meanwhile waits for the next batch, even with
 * no delay: otherwise one that re-arms itself would keep the loop from its sockets. */
size_t segue__timers_fire(segue__loop *loop, uint64_t now_ms) {
  segue__timers *t = &loop->timers;
  uint64_t limit = t->next_order;
  size_t fired = 0;
  t->firing = true;
  while (t->count && t->heap[1]->due_ms <= now_ms && t->heap[1]->order < limit) {
    segue__timer *timer = t->heap[1];
    take_out(t, timer);
    fired++;
    timer->cb(timer);
  }
  t->firing = false;
  timers_arm(loop);
  return fired;
}

static void on_uv_timer(uv_timer_t *handle) {
  segue__loop *loop = handle->data;
  segue__timers_fire(loop, uv_now(loop->uv));
}

void segue__timers_deinit(segue__loop *loop) {
  segue__timers *t = &loop->timers;
  for (size_t i = 1; i <= t->count; i++)
    t->heap[i]->slot = 0;
  segue__free(t->heap);
  t->heap = NULL;
  t->count = t->capacity = 0;
}
