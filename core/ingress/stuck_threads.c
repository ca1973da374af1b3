/* SPDX-License-Identifier: MIT
 *
 * Worker threads whose module does not return: code that loops or waits for ever keeps its thread,
 * and nothing can interrupt it there. While the ingress serves, such a thread is only reported.
 * Once the ingress closes, each thread gets a message again and again; one that does not handle it
 * for longer than connections have to end is abandoned. It counts as empty and as ended, is never
 * joined, and keeps all the memory that it may still touch.
 */
#include "../module/gate.h"
#include "../os/fault.h"
#include "ingress_internal.h"

enum { LOOK_MS = 500, PATIENCE_MS = 5000, SERVING_LOOK_MS = 1000, STALL_MS = 2000 };

/* On the worker thread. */
static void probe_answered(segue__message *message) {
  segue__worker_thread *worker =
      (segue__worker_thread *)((char *)message - offsetof(segue__worker_thread, probe));
  __atomic_store_n(&worker->answered, true, __ATOMIC_RELEASE);
}

/* A message that was not handled is still in the queue of the thread: it must not be posted again.
 */
static void stuck_probe(segue__worker_thread *worker, uint64_t now_ms) {
  bool is_posted = worker->probed && !__atomic_load_n(&worker->answered, __ATOMIC_ACQUIRE);
  worker->probed_ms = now_ms;
  if (is_posted) return;
  worker->probed = true;
  __atomic_store_n(&worker->answered, false, __ATOMIC_RELAXED);
  worker->probe.fn = probe_answered;
  segue__post(worker->loop, &worker->probe);
}

/* An abandoned thread cannot close its listeners. Without this, clients would continue to connect
 * and wait forever, and no process could bind the address again while the host's process lives.
 * shutdown(2) ends the socket for the descriptors of all worker threads, which stay open: a thread
 * that returns closes its own, so no number is closed twice. */
static void shut_listeners(const segue__ingress *ingress) {
  for (segue__listener *listener = ingress->leaving; listener; listener = listener->next) {
    pthread_mutex_lock(&listener->lock);
    for (size_t i = 0; i < listener->thread_listener_count; i++)
      if (listener->thread_listeners[i]) segue__socket_shut(&listener->thread_listeners[i]->lease);
    pthread_mutex_unlock(&listener->lock);
  }
}

/* The module is known from `inside`, which the worker thread sets around each call of a handler.
 * From here on the thread counts as ended in both counts of the ingress, so that the end does not
 * wait for it. */
static void stuck_abandon(segue__ingress *ingress, size_t index, uint64_t silent_ms) {
  segue__worker_thread *worker = ingress->workers[index];
  const segue_gate *inside = __atomic_load_n(&worker->inside, __ATOMIC_RELAXED);
  bool was_empty = worker->is_empty;
  worker->stuck = worker->is_empty = true;
  ingress->workers_stuck++;
  shut_listeners(ingress);
  if (ingress->options.on_lost)
    ingress->options.on_lost(ingress->options.data, index, inside ? segue__gate_name(inside) : NULL,
                             silent_ms);
  if (!was_empty) worker->events.on_empty(ingress);
}

static void stuck_look(segue__timer *timer);

static void stuck_look_soon(segue__ingress *ingress) {
  (void)segue__timer_start(ingress->options.loop, &ingress->watch, LOOK_MS, stuck_look);
}

/* The callback of the last thread may end the ingress, whose memory stays if a thread is abandoned.
 */
static void stuck_look(segue__timer *timer) {
  segue__ingress *ingress = timer->data;
  uint64_t now = segue__loop_now_ms(ingress->options.loop);
  stuck_look_soon(ingress);
  for (size_t i = 0; i < ingress->worker_count; i++) {
    segue__worker_thread *worker = ingress->workers[i];
    if (worker->stuck) continue;
    if (__atomic_load_n(&worker->answered, __ATOMIC_ACQUIRE))
      stuck_probe(worker, now);
    else if (now - worker->probed_ms >= ingress->patience_ms)
      stuck_abandon(ingress, i, now - worker->probed_ms);
  }
}

/* ---- While the ingress serves ---- */

static void look_at_calls(segue__timer *timer);

static int look_at_calls_soon(segue__ingress *ingress) {
  return segue__timer_start(ingress->options.loop, &ingress->watch,
                            SEGUE_TEST_MS("LOOK_MS", SERVING_LOOK_MS), look_at_calls);
}

/* Only a thread that is inside a module gets the message: an idle one is not woken. */
static void look_at_call(segue__ingress *ingress, size_t index, uint64_t now_ms) {
  segue__worker_thread *worker = ingress->workers[index];
  const segue_gate *inside = __atomic_load_n(&worker->inside, __ATOMIC_RELAXED);
  uint64_t silent_ms = now_ms - worker->probed_ms;
  if (!worker->probed || __atomic_load_n(&worker->answered, __ATOMIC_ACQUIRE)) {
    worker->is_reported = false;
    if (inside) stuck_probe(worker, now_ms);
  } else if (inside && !worker->is_reported && silent_ms >= SEGUE_TEST_MS("STALL_MS", STALL_MS)) {
    worker->is_reported = true;
    if (ingress->options.on_busy)
      ingress->options.on_busy(ingress->options.data, index, segue__gate_name(inside), silent_ms);
  }
}

static void look_at_calls(segue__timer *timer) {
  segue__ingress *ingress = timer->data;
  uint64_t now = segue__loop_now_ms(ingress->options.loop);
  for (size_t i = 0; i < ingress->worker_count; i++)
    look_at_call(ingress, i, now);
  (void)look_at_calls_soon(ingress); /* cannot fail: its slot in the timer queue still exists */
}

int segue__worker_threads_watch_calls(segue__ingress *ingress) {
  ingress->watch.data = ingress;
  return look_at_calls_soon(ingress);
}

/* ---- At the end ---- */

void segue__worker_threads_watch(segue__ingress *ingress, uint64_t grace_ms) {
  uint64_t now = segue__loop_now_ms(ingress->options.loop);
  ingress->patience_ms = grace_ms + SEGUE_TEST_MS("PATIENCE_MS", PATIENCE_MS);
  ingress->watch.data = ingress;
  for (size_t i = 0; i < ingress->worker_count; i++)
    stuck_probe(ingress->workers[i], now);
  stuck_look_soon(ingress);
}
