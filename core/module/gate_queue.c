/* SPDX-License-Identifier: MIT
 *
 * Calls that wait at a gate: a list in order of arrival. Its memory belongs to the waiting calls,
 * so that waiting cannot fail for lack of memory. Arrivals may come from any thread; only the
 * control thread answers waiting calls. While a call waits, arrivals with the same key wait behind
 * it, even if the gate is open already: that keeps the order of a connection.
 */
#include <string.h>
#include <uv.h>

#include "gate_internal.h"

enum { IDLE, WAITING, TAKEN };
enum { BATCH = 256 }; /* answered in one turn of the loop */

static const int codes[] = {SEGUE_ELIMIT, SEGUE_ETIMEOUT, SEGUE_EMODULE, SEGUE_ECLOSED};

/* Returns the counter of a key, or NULL if the request needs no order. Keys with the same hash
 * share a counter: then a request may wait for one of another connection, which costs time but not
 * order. */
static uint32_t *key_count(segue_gate *gate, uint64_t key) {
  return key ? &gate->keys[(key * 0x9e3779b97f4a7c15u) >> 56] : NULL;
}

segue__refusal segue__gate_refusal(const segue_gate *gate) {
  return gate->refusal == SEGUE_ECLOSED ? SEGUE__REFUSED_CLOSED : SEGUE__REFUSED_MODULE;
}

int segue__gate_queue_refuse(segue_gate *gate, segue__refusal refusal) {
  gate->refused[refusal]++;
  return codes[refusal];
}

/* ---- Arriving ---- */

static int wait_in_line(segue_gate *gate, segue_arrival *request) {
  const segue__gate_limits *limits = &gate->limits;
  if (gate->waiting >= limits->items || request->bytes > limits->bytes ||
      gate->waiting_bytes > limits->bytes - request->bytes)
    return segue__gate_queue_refuse(gate, SEGUE__REFUSED_OVERFLOW);
  uint32_t *count = key_count(gate, request->key);
  if (count) __atomic_add_fetch(count, 1, __ATOMIC_ACQ_REL);
  request->state = WAITING;
  request->next = NULL;
  request->prev = gate->last;
  if (gate->last)
    gate->last->next = request;
  else
    gate->first = request;
  gate->last = request;
  if (!gate->unstamped) gate->unstamped = request;
  gate->waiting++;
  gate->waiting_bytes += request->bytes;
  return SEGUE_QUEUED;
}

/* Returns whether a request with this key waits or is being answered. */
static bool is_behind(segue_gate *gate, uint64_t key) {
  uint32_t *count = key_count(gate, key);
  return count && __atomic_load_n(count, __ATOMIC_ACQUIRE);
}

/* First tries without the lock. If the gate is not open, its state is read under the lock: between
 * the two it may have been opened, and then the request tries again and does not wait at an open
 * gate, where nothing would answer it. */
int segue_gate_submit(segue_gate *gate, segue_arrival *request) {
  request->state = IDLE;
  request->stamped = false;
  request->pass = (segue_pass){0};
  if (!gate) return SEGUE_EUSAGE;
  if (segue__in_child(gate->mark)) return SEGUE_ECLOSED;
  for (;;) {
    if (!is_behind(gate, request->key) && segue__gate_try_from(gate, request->from, &request->pass))
      return SEGUE_RUN;
    pthread_mutex_lock(&gate->lock);
    int rc = SEGUE_RUN;
    if (gate->state == SEGUE__GATE_REFUSING)
      rc = segue__gate_queue_refuse(gate, segue__gate_refusal(gate));
    else if (gate->state == SEGUE__GATE_SHUT || is_behind(gate, request->key))
      rc = wait_in_line(gate, request);
    pthread_mutex_unlock(&gate->lock);
    if (rc == SEGUE_QUEUED) segue__gate_wake(gate);
    if (rc != SEGUE_RUN) return rc;
  }
}

/* ---- Out of the line; under the lock ---- */

static void queue_take(segue_gate *gate, segue_arrival *request) {
  if (gate->unstamped == request) gate->unstamped = request->next;
  if (request->prev)
    request->prev->next = request->next;
  else
    gate->first = request->next;
  if (request->next)
    request->next->prev = request->prev;
  else
    gate->last = request->prev;
  request->state = TAKEN;
  gate->waiting--;
  gate->waiting_bytes -= request->bytes;
}

bool segue_gate_cancel(segue_gate *gate, segue_arrival *request) {
  if (!gate || segue__in_child(gate->mark)) return false;
  pthread_mutex_lock(&gate->lock);
  bool waits = request->state == WAITING;
  if (waits) {
    queue_take(gate, request);
    uint32_t *count = key_count(gate, request->key);
    if (count) __atomic_sub_fetch(count, 1, __ATOMIC_ACQ_REL);
  }
  pthread_mutex_unlock(&gate->lock);
  return waits;
}

/* ---- Answering ---- */

static void observe_wait(segue_gate *gate, const segue_arrival *request) {
  static const uint64_t bounds[] = SEGUE__WAIT_BOUNDS_MS;
  uint64_t ms = request->stamped ? segue__loop_now_ms(gate->loop) - request->since_ms : 0;
  size_t i = 0;
  while (i < SEGUE__WAIT_BUCKETS - 1 && ms > bounds[i])
    i++;
  gate->waited[i]++;
  gate->waited_ms += ms;
}

/* The callback may free the request. The count falls only after the callback: a request of the same
 * connection that arrives meanwhile would otherwise find no waiting one, enter at once and overtake
 * this one. */
static void queue_answer(segue_gate *gate, segue_arrival *request, int status) {
  uint32_t *count = key_count(gate, request->key);
  request->cb(request, status);
  if (count) __atomic_sub_fetch(count, 1, __ATOMIC_ACQ_REL);
}

/* Answers the first request. Only the control thread opens and closes gates, and this is the
 * control thread: a gate that is open under the lock is still open at try_from. */
static bool flow_one(segue_gate *gate) {
  pthread_mutex_lock(&gate->lock);
  segue_arrival *request = gate->state == SEGUE__GATE_SHUT ? NULL : gate->first;
  int status = 0;
  if (request) {
    queue_take(gate, request);
    if (gate->state == SEGUE__GATE_REFUSING)
      status = segue__gate_queue_refuse(gate, segue__gate_refusal(gate));
    else
      observe_wait(gate, request);
  }
  pthread_mutex_unlock(&gate->lock);
  if (!request) return false;
  if (status == 0) segue__gate_try_from(gate, request->from, &request->pass);
  queue_answer(gate, request, status);
  return true;
}

void segue__gate_queue_flow(segue_gate *gate, bool all) {
  for (unsigned i = 0; all || i < BATCH; i++)
    if (!flow_one(gate)) return;
  segue__gate_wake(gate);
}

/* ---- Age ---- */

static segue_arrival *queue_too_old(segue_gate *gate) {
  pthread_mutex_lock(&gate->lock);
  segue_arrival *request = gate->first;
  bool old = request && request->stamped &&
             segue__loop_now_ms(gate->loop) - request->since_ms >= gate->limits.age_ms;
  if (old) {
    queue_take(gate, request);
    (void)segue__gate_queue_refuse(gate, SEGUE__REFUSED_AGE);
  }
  pthread_mutex_unlock(&gate->lock);
  return old ? request : NULL;
}

static void queue_aged(segue__timer *timer) {
  segue_gate *gate = timer->data;
  for (segue_arrival *request; (request = queue_too_old(gate));)
    queue_answer(gate, request, SEGUE_ETIMEOUT);
  segue__gate_queue_stamp(gate);
}

/* Only the control thread may read the loop's clock: an arrival of another thread gets its time
 * when the control thread has received its message. */
void segue__gate_queue_stamp(segue_gate *gate) {
  pthread_mutex_lock(&gate->lock);
  uint64_t now = segue__loop_now_ms(gate->loop), due = UINT64_MAX;
  for (segue_arrival *r = gate->unstamped; r; r = r->next) {
    r->stamped = true;
    r->since_ms = now;
  }
  gate->unstamped = NULL;
  if (gate->first) due = gate->first->since_ms + gate->limits.age_ms;
  pthread_mutex_unlock(&gate->lock);
  gate->age.data = gate;
  if (due == UINT64_MAX)
    segue__timer_stop(gate->loop, &gate->age);
  else /* if the timer cannot be set, no request times out */
    (void)segue__timer_start(gate->loop, &gate->age, due > now ? due - now : 0, queue_aged);
}
