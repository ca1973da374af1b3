/* SPDX-License-Identifier: MIT
 *
 * Gates: which lease is open, and when the others end. A lease ends when no caller is inside by it
 * and none can enter by it. A caller inside a module that needs this one may still enter by the
 * snapshot that it has, so the leases of such modules end first. The control thread checks this
 * when a lease closes, and again when a caller leaves that finds its lease closed. No function here
 * waits.
 */
#include "gate.h"

#include <string.h>
#include <uv.h>

#include "../config/publication.h"
#include "gate_internal.h"
#include "module.h"

struct segue__gates {
  pthread_mutex_t lock;
  unsigned refs; /* atomic: owners, and messages under way */
  bool fenced;
  const uint32_t *mark;
  segue__loop *loop;
  int refusal; /* of gates that are made from now on */
  segue_gate *first;
};

const char *segue__refusal_name(segue__refusal refusal) {
  static const char *const names[] = {
#define X(name, text) text,
      SEGUE__REFUSALS(X)
#undef X
  };
  return names[refusal];
}

/* ---- The end of a lease ---------------------------------------------------------------------- */

/* `over` and `instance` change under the lock, because a caller inside another module searches the
 * leases under it (find_lease). Snapshots are released after that: no caller can enter by them any
 * more. */
static void lease_end(segue__lease *lease) {
  segue__instance *instance = lease->instance;
  pthread_mutex_lock(&lease->gate->lock);
  lease->over = true;
  lease->instance = NULL;
  pthread_mutex_unlock(&lease->gate->lock);
  segue_snapshot_unref(lease->snapshot);
  while (lease->orphaned) {
    segue__orphaned *next = lease->orphaned->next;
    segue_snapshot_unref(lease->orphaned->snapshot);
    segue__free(lease->orphaned);
    lease->orphaned = next;
  }
  segue__instance_unpin(instance);
}

static bool gate_is_over(const segue_gate *gate, const segue__lease *lease) {
  return lease->instance && lease != gate->open && lease != gate->next && lease != gate->kept;
}

static segue_gate *first_gate(segue__gates *gates) {
  pthread_mutex_lock(&gates->lock);
  segue_gate *first = gates->first;
  pthread_mutex_unlock(&gates->lock);
  return first;
}

static bool may_call(const segue_gate *from, const char *name, const segue_snapshot *snapshot) {
  for (size_t i = 0; i < SEGUE__LEASES; i++) {
    const segue__lease *t = &from->leases[i];
    if (t->instance && !t->over && t->snapshot == snapshot &&
        segue__instance_needs(t->instance, name))
      return true;
  }
  return false;
}

/* At a shut gate callers wait, whatever snapshot they have; and a swapped module is always entered
 * by its open lease. So in both cases no caller can arrive with this lease's snapshot. */
static bool is_held(const segue_gate *gate, const segue__lease *lease) {
  if (gate->state == SEGUE__GATE_SHUT || segue__instance_is_swapped(lease->instance)) return false;
  for (const segue_gate *g = first_gate(gate->all); g; g = g->next_gate)
    if (g != gate && may_call(g, gate->name, lease->snapshot)) return true;
  return false;
}

static bool can_end(const segue_gate *gate, const segue__lease *lease) {
  return gate_is_over(gate, lease) && (lease->over || !is_held(gate, lease));
}

/* Returns one lease at a time: the end of an instance may call back into this file, which changes
 * the leases. It sets `over` under the lock in the same step as it reads the count, so that a
 * caller that holds the lease's snapshot cannot enter between the two (step_in_by). */
static segue__lease *left_by_all(segue_gate *gate) {
  segue__lease *found = NULL;
  for (size_t i = 0; i < SEGUE__LEASES && !found; i++) {
    segue__lease *lease = &gate->leases[i];
    if (!can_end(gate, lease)) continue;
    pthread_mutex_lock(&gate->lock);
    if (segue__gate_count(gate, lease) == 0) found = lease;
    if (found) found->over = true;
    pthread_mutex_unlock(&gate->lock);
  }
  return found;
}

/* Returns true if leases have ended. */
static bool gate_look_at(segue_gate *gate) {
  bool any = false;
  for (size_t i = 0; i < SEGUE__LEASES; i++)
    any = any || can_end(gate, &gate->leases[i]);
  if (!any || !segue__gate_barrier(gate)) return false;
  any = false;
  for (segue__lease *lease; (lease = left_by_all(gate)); any = true)
    lease_end(lease);
  return any;
}

/* Ends the leases that all calls have left. The end of a lease may make leases of other gates ready
 * to end, so all gates are checked until none ends. */
static void gate_look(segue_gate *gate) {
  for (bool ended = gate_look_at(gate); ended;) {
    ended = false;
    for (segue_gate *g = first_gate(gate->all); g; g = g->next_gate)
      ended = gate_look_at(g) || ended;
  }
}

/* ---- Waking the control thread ---- */

static void gate_woken(segue__message *message) {
  segue_gate *gate = (segue_gate *)((char *)message - offsetof(segue_gate, message));
  segue__gates *all = gate->all;
  (void)__atomic_exchange_n(&gate->posted, false, __ATOMIC_SEQ_CST);
  if (gate->loop) {
    segue__gate_queue_stamp(gate);
    gate_look(gate);
    segue__gate_queue_flow(gate, false);
  }
  segue__gates_unref(all);
}

/* Any thread may call this, also while the instance ends: the loop is read under the lock under
 * which set_loop removes it. The message keeps a reference on the gates, because it may arrive
 * after their owner has released them. While a message is under way a second one is not needed: it
 * would look at the same counts. */
void segue__gate_wake(segue_gate *gate) {
  if (segue__in_child(gate->mark)) return;
  if (__atomic_exchange_n(&gate->posted, true, __ATOMIC_SEQ_CST)) return;
  pthread_mutex_lock(&gate->lock);
  if (gate->loop) {
    segue__gates_ref(gate->all);
    gate->message.fn = gate_woken;
    segue__post(gate->loop, &gate->message);
  }
  pthread_mutex_unlock(&gate->lock);
}

/* ---- All gates ---- */

int segue__gates_new(segue__gates **out) {
  segue__gates *gates = segue__calloc(1, sizeof *gates);
  *out = gates;
  if (!gates) return UV_ENOMEM;
  pthread_mutex_init(&gates->lock, NULL);
  gates->refs = 1;
  gates->refusal = SEGUE_EMODULE;
  gates->fenced = segue__gate_fenced();
  return 0;
}

void segue__gates_set_mark(segue__gates *gates, const uint32_t *mark) {
  gates->mark = mark;
}

bool segue__gate_in_child(const segue_gate *gate) {
  return segue__in_child(gate->mark);
}

segue__gates *segue__gates_ref(segue__gates *gates) {
  __atomic_add_fetch(&gates->refs, 1, __ATOMIC_RELAXED);
  return gates;
}

static void gate_free(segue_gate *gate) {
  segue__gate_forget_slots(gate);
  pthread_mutex_destroy(&gate->lock);
  segue__free(gate->name);
  segue__free(gate->memory);
}

void segue__gates_unref(segue__gates *gates) {
  if (!gates || __atomic_sub_fetch(&gates->refs, 1, __ATOMIC_ACQ_REL)) return;
  while (gates->first) {
    segue_gate *gate = gates->first;
    gates->first = gate->next_gate;
    gate_free(gate);
  }
  pthread_mutex_destroy(&gates->lock);
  segue__free(gates);
}

static segue_gate *gate_new(segue__gates *gates, const char *name) {
  void *memory;
  segue_gate *gate = segue__aligned_alloc(sizeof *gate, &memory);
  if (!gate) return NULL;
  memset(gate, 0, sizeof *gate);
  gate->memory = memory;
  gate->name = segue__strdup(name);
  if (!gate->name) {
    segue__free(memory);
    return NULL;
  }
  for (size_t i = 0; i < SEGUE__LEASES; i++)
    gate->leases[i].gate = gate;
  pthread_mutex_init(&gate->lock, NULL);
  gate->all = gates;
  gate->loop = gates->loop;
  gate->fenced = gates->fenced;
  gate->mark = gates->mark;
  gate->state = SEGUE__GATE_REFUSING;
  gate->refusal = gates->refusal;
  segue__gate_limit(gate, &(segue__gate_limits){0});
  return gate;
}

const char *segue__gate_name(const segue_gate *gate) {
  return gate->name;
}

segue_gate *segue__gates_get(segue__gates *gates, const char *name) {
  if (segue__in_child(gates->mark)) return NULL;
  pthread_mutex_lock(&gates->lock);
  segue_gate *gate = gates->first;
  while (gate && strcmp(gate->name, name) != 0)
    gate = gate->next_gate;
  if (!gate && (gate = gate_new(gates, name))) {
    gate->next_gate = gates->first;
    gates->first = gate;
  }
  pthread_mutex_unlock(&gates->lock);
  return gate;
}

static void set_loop(segue__gates *gates, segue__loop *loop) {
  pthread_mutex_lock(&gates->lock);
  gates->loop = loop;
  gates->refusal = loop ? SEGUE_EMODULE : SEGUE_ECLOSED;
  for (segue_gate *gate = gates->first; gate; gate = gate->next_gate) {
    pthread_mutex_lock(&gate->lock);
    gate->loop = loop;
    pthread_mutex_unlock(&gate->lock);
  }
  pthread_mutex_unlock(&gates->lock);
}

void segue__gates_begin(segue__gates *gates, segue__loop *loop) {
  set_loop(gates, loop);
}

/* The loop below needs no lock: gates are never removed from the list, and new ones are added at
 * its front. */
void segue__gates_end(segue__gates *gates) {
  pthread_mutex_lock(&gates->lock);
  gates->refusal = SEGUE_ECLOSED;
  segue_gate *first = gates->first;
  pthread_mutex_unlock(&gates->lock);
  for (segue_gate *gate = first; gate; gate = gate->next_gate) {
    segue__gate_unreserve(gate);
    segue__gate_refuse(gate, SEGUE_ECLOSED);
    segue__gate_queue_flow(gate, true);
    segue__timer_stop(gate->loop, &gate->age);
  }
  set_loop(gates, NULL);
}

/* ---- Limits and status ----------------------------------------------------------------------- */

void segue__gate_limit(segue_gate *gate, const segue__gate_limits *limits) {
  pthread_mutex_lock(&gate->lock);
  gate->limits.items = limits->items ? limits->items : SEGUE__BUFFER_ITEMS;
  gate->limits.bytes = limits->bytes ? limits->bytes : SEGUE__BUFFER_BYTES;
  uint64_t age_ms = limits->age_ms ? limits->age_ms : SEGUE__BUFFER_AGE_MS;
  bool other_age = gate->limits.age_ms != age_ms && gate->first;
  gate->limits.age_ms = age_ms;
  pthread_mutex_unlock(&gate->lock);
  /* The timer is still set to the time when the oldest queued call would reach the previous
   * limit. */
  if (other_age && gate->loop) segue__gate_queue_stamp(gate);
}

segue__gate_state segue__gate_state_get(const segue_gate *gate) {
  return gate->state;
}

void segue__gate_status_get(const segue_gate *gate, segue__gate_status *out) {
  pthread_mutex_t *lock = (pthread_mutex_t *)&gate->lock;
  int64_t inside = 0;
  pthread_mutex_lock(lock);
  for (size_t i = 0; i < SEGUE__LEASES; i++)
    inside += segue__gate_count(gate, &gate->leases[i]);
  out->state = gate->state;
  out->inside = inside > 0 ? (size_t)inside : 0;
  out->waiting = gate->waiting;
  memcpy(out->refused, gate->refused, sizeof out->refused);
  memcpy(out->waited, gate->waited, sizeof out->waited);
  out->waited_ms = gate->waited_ms;
  pthread_mutex_unlock(lock);
}

/* The barrier makes the counts exact for a lease that is closed: without it a thread that is
 * entering at this moment might not be counted. */
size_t segue__gate_inside(const segue_gate *gate, const segue__instance *instance) {
  pthread_mutex_t *lock = (pthread_mutex_t *)&gate->lock;
  int64_t inside = 0;
  (void)segue__gate_barrier(gate);
  pthread_mutex_lock(lock);
  for (size_t i = 0; i < SEGUE__LEASES; i++)
    if (gate->leases[i].instance == instance) inside += segue__gate_count(gate, &gate->leases[i]);
  pthread_mutex_unlock(lock);
  return inside > 0 ? (size_t)inside : 0;
}

void segue__gate_abandon(segue_gate *gate, const segue__instance *instance) {
  pthread_mutex_lock(&gate->lock);
  for (size_t i = 0; i < SEGUE__LEASES; i++)
    if (gate->leases[i].instance == instance) gate->leases[i].over = true;
  pthread_mutex_unlock(&gate->lock);
  gate_look(gate);
}

/* ---- Flipping ---- */

static segue__lease *free_lease(segue_gate *gate) {
  for (size_t i = 0; i < SEGUE__LEASES; i++)
    if (!gate->leases[i].instance) return &gate->leases[i];
  return NULL;
}

/* Every lease has callers inside. The open one can continue with another snapshot, and keeps the
 * previous one until all of them have left. */
static int reserve_exchange(segue_gate *gate, const segue__instance *instance,
                            const segue_snapshot *snapshot) {
  if (!gate->open || gate->open->instance != instance) return SEGUE_ELIMIT;
  gate->reserved = segue__malloc(sizeof *gate->reserved);
  if (!gate->reserved) return UV_ENOMEM;
  gate->reserved->snapshot = segue_snapshot_ref(snapshot);
  return 0;
}

int segue__gate_reserve(segue_gate *gate, segue__instance *instance,
                        const segue_snapshot *snapshot) {
  segue__gate_unreserve(gate);
  gate_look(gate);
  segue__lease *lease = free_lease(gate);
  if (!lease) return reserve_exchange(gate, instance, snapshot);
  pthread_mutex_lock(&gate->lock);
  lease->object = segue__instance_object(instance);
  lease->snapshot = segue_snapshot_ref(snapshot);
  lease->instance = instance;
  lease->over = false;
  pthread_mutex_unlock(&gate->lock);
  segue__instance_pin(instance, gate);
  gate->next = lease;
  return 0;
}

void segue__gate_unreserve(segue_gate *gate) {
  segue__lease *next = gate->next;
  gate->next = NULL;
  if (next) lease_end(next);
  if (!gate->reserved || gate->exchanged) return;
  segue_snapshot_unref(gate->reserved->snapshot);
  segue__free(gate->reserved);
  gate->reserved = NULL;
}

/* The store of `open` is the flip: callers that load it from now on get the new lease, without a
 * lock. */
static void set_open(segue_gate *gate, segue__lease *lease, segue__gate_state closed, int refusal) {
  pthread_mutex_lock(&gate->lock);
  gate->state = lease ? SEGUE__GATE_OPEN : closed;
  gate->refusal = refusal;
  __atomic_store_n(&gate->open, lease, __ATOMIC_SEQ_CST);
  bool waits = gate->first && gate->state != SEGUE__GATE_SHUT;
  pthread_mutex_unlock(&gate->lock);
  if (waits) segue__gate_wake(gate);
}

static void gate_exchange(segue_gate *gate) {
  const segue_snapshot *before = gate->open->snapshot;
  pthread_mutex_lock(&gate->lock);
  __atomic_store_n(&gate->open->snapshot, gate->reserved->snapshot, __ATOMIC_SEQ_CST);
  gate->reserved->snapshot = before;
  pthread_mutex_unlock(&gate->lock);
}

/* The previous lease stays as `kept` until the transaction settles: unflip only stores it again,
 * which cannot fail. */
void segue__gate_flip(segue_gate *gate) {
  segue__gate_settle(gate);
  if (gate->reserved) {
    gate_exchange(gate);
    gate->exchanged = true;
    return;
  }
  gate->kept = gate->open;
  segue__lease *next = gate->next;
  set_open(gate, next, SEGUE__GATE_REFUSING, SEGUE_EMODULE);
  gate->next = NULL;
}

void segue__gate_unflip(segue_gate *gate) {
  if (gate->reserved) {
    gate_exchange(gate);
    segue__gate_settle(gate);
    return;
  }
  set_open(gate, gate->kept, SEGUE__GATE_REFUSING, SEGUE_EMODULE);
  gate->kept = NULL;
  gate_look(gate);
}

/* The snapshot that was replaced in an open lease stays referenced until the lease ends: passes of
 * callers inside have its pointer. */
void segue__gate_settle(segue_gate *gate) {
  if (gate->reserved && gate->exchanged) {
    gate->reserved->next = gate->open->orphaned;
    pthread_mutex_lock(&gate->lock);
    gate->open->orphaned = gate->reserved;
    pthread_mutex_unlock(&gate->lock);
    gate->reserved = NULL;
    gate->exchanged = false;
  }
  gate->kept = NULL;
  gate_look(gate);
}

void segue__gate_shut(segue_gate *gate) {
  segue__gate_settle(gate);
  set_open(gate, NULL, SEGUE__GATE_SHUT, 0);
  gate_look(gate);
}

int segue__gate_open(segue_gate *gate, segue__instance *instance, const segue_snapshot *snapshot) {
  int rc = segue__gate_reserve(gate, instance, snapshot);
  if (rc < 0) return rc;
  segue__gate_flip(gate);
  segue__gate_settle(gate);
  return 0;
}

void segue__gate_refuse(segue_gate *gate, int code) {
  segue__gate_settle(gate);
  set_open(gate, NULL, SEGUE__GATE_REFUSING, code);
  gate_look(gate);
}
