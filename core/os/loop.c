/* SPDX-License-Identifier: MIT
 *
 * The loop: opening and closing, clocks, and messages from other threads. One implementation with
 * two drivers: libuv wakes it in the daemon, segue__loop_step and segue__loop_advance in specs.
 */
#include "loop.h"

#include <string.h>
#include <time.h>
#include <uv.h>

#include "fork.h"
#include "loop_internal.h"
#include "mem.h"

static void loop_on_async(uv_async_t *handle);
static void loop_finish_close(segue__loop *loop);

static int loop_new(segue__loop **out) {
  *out = NULL;
  segue__loop *loop = segue__calloc(1, sizeof *loop);
  if (!loop) return UV_ENOMEM;
  if (pthread_mutex_init(&loop->mutex, NULL)) {
    segue__free(loop);
    return UV_ENOMEM;
  }
  loop->refs = 1;
  *out = loop;
  return 0;
}

int segue__loop_open_uv(segue__loop **out, struct uv_loop_s *uv) {
  segue__loop *loop;
  int rc = loop_new(&loop);
  *out = NULL;
  if (rc) return rc;
  rc = uv_async_init(uv, &loop->uv_async, loop_on_async);
  if (rc) {
    pthread_mutex_destroy(&loop->mutex);
    segue__free(loop);
    return rc;
  }
  uv_timer_init(uv, &loop->uv_timer); /* cannot fail */
  loop->uv = uv;
  loop->uv_async.data = loop->uv_timer.data = loop;
  loop->open_handles = 2;
  *out = loop;
  return 0;
}

int segue__loop_open_manual(segue__loop **out, uint64_t start_ms, int64_t wall_ms) {
  int rc = loop_new(out);
  if (rc) return rc;
  (*out)->now_ms = start_ms;
  (*out)->wall_ms = wall_ms;
  return 0;
}

/* libuv updates its clock once per iteration, and a callback may have worked for long. So the clock
 * is updated at each call: otherwise a timer that is started late in a callback would fire early.
 */
uint64_t segue__loop_now_ms(const segue__loop *loop) {
  if (!loop->uv) return loop->now_ms;
  uv_update_time(loop->uv);
  return uv_now(loop->uv);
}

int64_t segue__loop_wall_ms(const segue__loop *loop) {
  if (!loop->uv) return loop->wall_ms;
  struct timespec ts;
  clock_gettime(CLOCK_REALTIME, &ts);
  return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void segue__loop_set_child_files(segue__loop *loop, uint64_t files) {
  loop->child_files = files;
}

uint64_t segue__loop_child_files(const segue__loop *loop) {
  return loop->child_files;
}

void segue__loop_set_owner(segue__loop *loop, void *owner) {
  loop->owner = owner;
}

void *segue__loop_owner(const segue__loop *loop) {
  return loop->owner;
}

struct uv_loop_s *segue__loop_uv(const segue__loop *loop) {
  return loop->uv;
}

/* ---- Messages ---- */

/* Only the first message of a batch wakes the loop: later ones are delivered with it. */
void segue__post_locked(segue__loop *loop, segue__message *message) {
  if (loop->closed) return;
  bool was_empty = !loop->first;
  message->next = NULL;
  if (was_empty)
    loop->first = message;
  else
    loop->last->next = message;
  loop->last = message;
  /* Under the mutex, so that the handle cannot be closed in between. */
  if (was_empty && loop->uv) uv_async_send(&loop->uv_async);
}

void segue__loop_set_mark(segue__loop *loop, const uint32_t *mark) {
  loop->mark = mark;
}

void segue__post(segue__loop *loop, segue__message *message) {
  if (segue__in_child(loop->mark)) return;
  pthread_mutex_lock(&loop->mutex);
  segue__post_locked(loop, message);
  pthread_mutex_unlock(&loop->mutex);
}

/* Delivers the messages that are queued now; a message that is posted meanwhile is in the next
 * batch. Otherwise a thread that posts without a pause would keep the loop from its sockets. */
static size_t loop_deliver(segue__loop *loop) {
  pthread_mutex_lock(&loop->mutex);
  segue__message *message = loop->first;
  loop->first = loop->last = NULL;
  pthread_mutex_unlock(&loop->mutex);
  size_t count = 0;
  while (message) {
    segue__message *next = message->next; /* fn may post it again, or free it */
    message->fn(message);
    message = next;
    count++;
  }
  return count;
}

static void loop_on_async(uv_async_t *handle) {
  segue__loop *loop = handle->data;
  loop_deliver(loop);
  if (loop->closing) loop_finish_close(loop);
}

/* ---- Closing ---- */

void segue__loop_unref_unlock(segue__loop *loop) {
  bool last = --loop->refs == 0;
  pthread_mutex_unlock(&loop->mutex);
  if (!last) return;
  pthread_mutex_destroy(&loop->mutex);
  segue__free(loop);
}

void segue__loop_keep(segue__loop *loop) {
  pthread_mutex_lock(&loop->mutex);
  loop->refs++;
  pthread_mutex_unlock(&loop->mutex);
}

static void loop_release(segue__loop *loop) {
  void (*cb)(void *) = loop->closed_cb;
  void *data = loop->closed_data;
  segue__timers_deinit(loop);
  pthread_mutex_lock(&loop->mutex);
  segue__loop_unref_unlock(loop);
  if (cb) cb(data);
}

static void loop_on_handle_closed(uv_handle_t *handle) {
  segue__loop *loop = handle->data;
  if (--loop->open_handles == 0) loop_release(loop);
}

/* Closes the handles once the worker has ended and nothing is left to deliver. */
static void loop_finish_close(segue__loop *loop) {
  pthread_mutex_lock(&loop->mutex);
  bool finished = !loop->closed && segue__jobs_closed_locked(loop) && !loop->first;
  if (finished) {
    loop->closed = true;
    segue__workers_orphan_locked(loop);
  }
  pthread_mutex_unlock(&loop->mutex);
  if (!finished) return;
  if (!loop->uv) {
    loop_release(loop);
    return;
  }
  uv_close((uv_handle_t *)&loop->uv_timer, loop_on_handle_closed);
  uv_close((uv_handle_t *)&loop->uv_async, loop_on_handle_closed);
}

/* A manual loop that is being stepped is closed when its outermost step or advance is over. */
static void close_manual(segue__loop *loop) {
  if (loop->depth) return;
  while (loop_deliver(loop))
    ;
  loop_finish_close(loop);
}

void segue__loop_close(segue__loop *loop, void (*closed_cb)(void *data), void *data) {
  if (!loop || loop->closing) return;
  loop->closed_cb = closed_cb;
  loop->closed_data = data;
  segue__timers_deinit(loop);
  pthread_mutex_lock(&loop->mutex);
  loop->closing = true;
  segue__jobs_close_locked(loop);
  pthread_mutex_unlock(&loop->mutex);
  if (!loop->uv) {
    close_manual(loop);
    return;
  }
  uv_timer_stop(&loop->uv_timer);
  uv_async_send(&loop->uv_async); /* the rest happens outside the caller's stack */
}

/* ---- Manual driving ---- */

static size_t loop_step(segue__loop *loop) {
  size_t total = 0, done;
  do {
    done = loop_deliver(loop);
    while (segue__job_run_next(loop))
      done++;
    done += segue__timers_fire(loop, loop->now_ms);
    total += done;
  } while (done);
  return total;
}

size_t segue__loop_step(segue__loop *loop) {
  loop->depth++;
  size_t done = loop_step(loop);
  loop->depth--;
  if (loop->closing) close_manual(loop);
  return done;
}

static void move_clocks(segue__loop *loop, uint64_t to_ms) {
  loop->wall_ms += (int64_t)(to_ms - loop->now_ms);
  loop->now_ms = to_ms;
}

void segue__loop_advance(segue__loop *loop, uint64_t ms) {
  uint64_t end_ms = loop->now_ms + ms;
  loop->depth++;
  loop_step(loop);
  while (loop->timers.count && loop->timers.heap[1]->due_ms <= end_ms) {
    move_clocks(loop, loop->timers.heap[1]->due_ms);
    loop_step(loop);
  }
  move_clocks(loop, end_ms);
  loop->depth--;
  if (loop->closing) close_manual(loop);
}

void segue__loop_jump_wall(segue__loop *loop, int64_t ms) {
  loop->wall_ms += ms;
}

void segue__loop_hold_jobs(segue__loop *loop, bool hold) {
  loop->hold_jobs = hold;
}
