/* SPDX-License-Identifier: MIT
 *
 * Entering and leaving. segue_gate_enter() adds one to a counter that belongs to its thread and to
 * the open lease, then checks that this lease is still open: if so the call is inside. There is no
 * barrier between the two steps. The control thread closes a lease and then calls membarrier(2),
 * which executes a barrier in all running threads, before it trusts the counters. So each entering
 * thread either shows in its counter, or sees that the lease is closed and steps out again.
 * segue_gate_leave() subtracts one from a counter of the thread it runs on. If the lease is no
 * longer open it wakes the control thread, which may be waiting for the last call to leave.
 */
#include <linux/membarrier.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <uv.h>

#include "../config/publication.h"
#include "gate_internal.h"
#include "module.h"

/* With this model a thread-local variable is at a constant offset from the thread's own pointer.
 * With the default model of a shared library each access calls a function, __tls_get_addr(). */
#define INITIAL_EXEC __attribute__((tls_model("initial-exec")))

static __thread segue__count_slot *last_slot INITIAL_EXEC; /* the one that this thread used last */
static __thread segue__count_slot *thread_slots INITIAL_EXEC;

/* The key exists for its destructor alone, which runs when a thread exits. */
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static int key_status;
/* Taken when a thread exits and when a gate is freed: either frees or detaches slots of the
 * other. */
static pthread_mutex_t slots_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- Slots ---- */

/* Under the slots' lock. Adds the counts of the thread to the gate's: calls that this thread
 * entered may leave on another one later. */
static void enter_detach(segue__count_slot *slot) {
  segue_gate *gate = slot->gate;
  pthread_mutex_lock(&gate->lock);
  for (int i = 0; i < SEGUE__LEASES; i++)
    __atomic_add_fetch(&gate->unslotted[i], slot->inside[i], __ATOMIC_SEQ_CST);
  if (slot->prev)
    slot->prev->next = slot->next;
  else
    gate->slots = slot->next;
  if (slot->next) slot->next->prev = slot->prev;
  pthread_mutex_unlock(&gate->lock);
  __atomic_store_n(&slot->gate, NULL, __ATOMIC_RELAXED);
}

void segue__gate_forget_slots(segue_gate *gate) {
  pthread_mutex_lock(&slots_lock);
  while (gate->slots)
    enter_detach(gate->slots);
  pthread_mutex_unlock(&slots_lock);
}

/* The variables are cleared first: the destructor of another key may enter a gate after this one,
 * and then gets a new slot. */
static void enter_thread_exit(void *first) {
  last_slot = thread_slots = NULL;
  for (segue__count_slot *slot = first; slot;) {
    segue__count_slot *next = slot->thread_next;
    pthread_mutex_lock(&slots_lock);
    if (slot->gate) enter_detach(slot);
    pthread_mutex_unlock(&slots_lock);
    segue__free(slot->memory);
    slot = next;
  }
}

static void enter_make_key(void) {
  key_status = -pthread_key_create(&key, enter_thread_exit);
}

/* The library is being unloaded: threads that exit later must not call into it. */
__attribute__((destructor)) static void enter_drop_key(void) {
  pthread_once(&key_once, enter_make_key);
  if (!key_status) pthread_key_delete(key);
}

static segue__count_slot *enter_slot_of(const segue_gate *gate) {
  segue__count_slot *slot = thread_slots;
  while (slot && __atomic_load_n(&slot->gate, __ATOMIC_RELAXED) != gate)
    slot = slot->thread_next;
  return slot;
}

static segue__count_slot *enter_slot_new(void) {
  void *memory;
  pthread_once(&key_once, enter_make_key);
  segue__count_slot *slot = key_status ? NULL : segue__aligned_alloc(sizeof *slot, &memory);
  if (!slot) return NULL;
  memset(slot, 0, sizeof *slot);
  slot->memory = memory;
  slot->thread_next = thread_slots;
  if (pthread_setspecific(key, slot)) {
    segue__free(memory);
    return NULL;
  }
  thread_slots = slot;
  return slot;
}

static void enter_attach(segue__count_slot *slot, segue_gate *gate) {
  pthread_mutex_lock(&slots_lock);
  pthread_mutex_lock(&gate->lock);
  memset(slot->inside, 0, sizeof slot->inside);
  slot->fenced = gate->fenced;
  slot->prev = NULL;
  slot->next = gate->slots;
  if (gate->slots) gate->slots->prev = slot;
  gate->slots = slot;
  pthread_mutex_unlock(&gate->lock);
  __atomic_store_n(&slot->gate, gate, __ATOMIC_RELAXED);
  pthread_mutex_unlock(&slots_lock);
}

/* Returns NULL if memory runs out. */
static __attribute__((noinline)) segue__count_slot *enter_find(segue_gate *gate) {
  segue__count_slot *slot = enter_slot_of(gate);
  if (!slot) {
    slot = enter_slot_of(NULL); /* one of a freed gate */
    if (!slot) slot = enter_slot_new();
    if (slot) enter_attach(slot, gate);
  }
  if (slot) last_slot = slot;
  return slot;
}

static inline segue__count_slot *slot_get(segue_gate *gate) {
  segue__count_slot *slot = last_slot;
  if (__builtin_expect(slot && __atomic_load_n(&slot->gate, __ATOMIC_RELAXED) == gate, 1))
    return slot;
  return enter_find(gate);
}

/* ---- Counting ---- */

/* Changes a counter of this thread. A thread that reads the counter sees all earlier writes of this
 * one. A later load of this thread may run before the change, until the membarrier of the control
 * thread; from then on it runs after it. */
static inline void enter_count(segue_gate *gate, segue__count_slot *slot, size_t i,
                               int32_t change) {
  if (__builtin_expect(!slot, 0)) {
    __atomic_add_fetch(&gate->unslotted[i], change, __ATOMIC_SEQ_CST);
    return;
  }
#ifdef SEGUE__TSAN
  __atomic_store_n(&slot->inside[i], slot->inside[i] + change, __ATOMIC_SEQ_CST);
#else
  __atomic_store_n(&slot->inside[i], slot->inside[i] + change, __ATOMIC_RELEASE);
  if (__builtin_expect(slot->fenced, 0)) __atomic_thread_fence(__ATOMIC_SEQ_CST);
  __atomic_signal_fence(__ATOMIC_SEQ_CST);
#endif
}

static inline segue__lease *open_now(const segue_gate *gate) {
#ifdef SEGUE__TSAN
  return __atomic_load_n(&gate->open, __ATOMIC_SEQ_CST);
#else
  return __atomic_load_n(&gate->open, __ATOMIC_ACQUIRE);
#endif
}

static inline void step_out(segue_gate *gate, segue__count_slot *slot, const segue__lease *lease) {
  enter_count(gate, slot, (size_t)(lease - gate->leases), -1);
  if (__builtin_expect(open_now(gate) != lease, 0)) segue__gate_wake(gate);
}

#ifdef SEGUE_TEST
static __thread void (*call_between)(segue_gate *gate);

void segue__gate_call_between(void (*fn)(segue_gate *gate)) {
  call_between = fn;
}

static void enter_between(segue_gate *gate) {
  void (*fn)(segue_gate *) = call_between;
  call_between = NULL;
  if (fn) fn(gate);
}
#else
static inline void enter_between(segue_gate *gate) {
  (void)gate;
}
#endif

/* Between the two loads of `open` the control thread may have closed the lease without seeing the
 * count. So the instance is used only if the lease is still open afterwards; otherwise the call is
 * subtracted again, and the new lease is tried. */
static inline bool step_in(segue_gate *gate, segue_pass *pass) {
  segue__count_slot *slot = slot_get(gate);
  for (segue__lease *lease = open_now(gate); lease; lease = open_now(gate)) {
    enter_count(gate, slot, (size_t)(lease - gate->leases), 1);
    enter_between(gate);
    if (__builtin_expect(open_now(gate) == lease, 1)) {
      pass->instance = lease->object;
      pass->snapshot = __atomic_load_n(&lease->snapshot, __ATOMIC_ACQUIRE);
      pass->place = lease;
      return true;
    }
    step_out(gate, slot, lease);
  }
  return false;
}

/* ---- By the snapshot of a caller ---- */

static bool enter_has(const segue__lease *lease, const segue_snapshot *snapshot) {
  if (__atomic_load_n(&lease->snapshot, __ATOMIC_ACQUIRE) == snapshot) return true;
  const segue__orphaned *orphaned = lease->orphaned;
  while (orphaned && orphaned->snapshot != snapshot)
    orphaned = orphaned->next;
  return orphaned != NULL;
}

/* Under the lock. */
static segue__lease *find_lease(segue_gate *gate, const segue_snapshot *snapshot) {
  if (gate->state == SEGUE__GATE_SHUT || gate->refusal == SEGUE_ECLOSED) return NULL;
  for (size_t i = 0; i < SEGUE__LEASES; i++) {
    segue__lease *lease = &gate->leases[i];
    if (lease->instance && !lease->over && enter_has(lease, snapshot) &&
        !segue__instance_is_swapped(lease->instance))
      return lease;
  }
  return NULL;
}

/* A lease that is not open may end at any moment: left_by_all ends it under the lock when its count
 * is zero. So the search and the count are one step under the same lock. */
static __attribute__((noinline)) bool step_in_by(segue_gate *gate, const segue_snapshot *snapshot,
                                                 segue_pass *pass) {
  segue__count_slot *slot = slot_get(gate);
  pthread_mutex_lock(&gate->lock);
  segue__lease *lease = find_lease(gate, snapshot);
  if (lease) {
    enter_count(gate, slot, (size_t)(lease - gate->leases), 1);
    *pass = (segue_pass){.instance = lease->object, .snapshot = snapshot, .place = lease};
  }
  pthread_mutex_unlock(&gate->lock);
  return lease != NULL;
}

bool segue__gate_try_from(segue_gate *gate, const segue_pass *from, segue_pass *pass) {
  segue_pass by = {0};
  bool inside = step_in(gate, pass);
  if (!from || !from->place || (inside && pass->snapshot == from->snapshot)) return inside;
  if (!step_in_by(gate, from->snapshot, &by)) return inside;
  if (inside) segue_gate_leave(pass);
  *pass = by;
  return true;
}

/* The gate was not open. Its state decides under the lock between a refusal and UV_EAGAIN; if it
 * was opened meanwhile the call enters after all. The loop ends because each round sees a change by
 * the control thread. */
static __attribute__((noinline)) int enter_late(segue_gate *gate, segue_pass *pass) {
  for (;;) {
    pthread_mutex_lock(&gate->lock);
    segue__gate_state state = gate->state;
    int rc = state == SEGUE__GATE_REFUSING
                 ? segue__gate_queue_refuse(gate, segue__gate_refusal(gate))
                 : UV_EAGAIN;
    pthread_mutex_unlock(&gate->lock);
    if (state == SEGUE__GATE_OPEN && !step_in(gate, pass)) continue;
    if (state == SEGUE__GATE_OPEN) return 0;
    *pass = (segue_pass){0};
    return rc;
  }
}

/* A gate that is NULL, and a gate in a child after fork, refuse every call. */
static inline int refuse_early(const segue_gate *gate, segue_pass *pass) {
  if (__builtin_expect(gate && !segue__in_child(gate->mark), 1)) return 0;
  *pass = (segue_pass){0};
  return gate ? SEGUE_ECLOSED : SEGUE_EUSAGE;
}

int segue_gate_enter(segue_gate *gate, segue_pass *pass) {
  int rc = refuse_early(gate, pass);
  if (rc) return rc;
  return __builtin_expect(step_in(gate, pass), 1) ? 0 : enter_late(gate, pass);
}

int segue_gate_enter_from(segue_gate *gate, const segue_pass *from, segue_pass *pass) {
  int rc = refuse_early(gate, pass);
  if (rc) return rc;
  return segue__gate_try_from(gate, from, pass) ? 0 : enter_late(gate, pass);
}

void segue_gate_leave(segue_pass *pass) {
  segue__lease *lease = pass->place;
  if (!lease) return;
  pass->place = NULL;
  segue_gate *gate = lease->gate;
  if (segue__in_child(gate->mark)) return;
  step_out(gate, slot_get(gate), lease);
}

const segue_module_ops *segue__pass_ops(const segue_pass *pass) {
  return segue__instance_ops(((const segue__lease *)pass->place)->instance);
}

int64_t segue__gate_count(const segue_gate *gate, const segue__lease *lease) {
  size_t i = (size_t)(lease - gate->leases);
  int64_t sum = __atomic_load_n(&gate->unslotted[i], __ATOMIC_SEQ_CST);
  for (const segue__count_slot *slot = gate->slots; slot; slot = slot->next)
    sum += __atomic_load_n(&slot->inside[i], __ATOMIC_SEQ_CST);
  return sum;
}

bool segue__gate_fenced(void) {
  return syscall(__NR_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) != 0;
}

/* The process is registered, so the call cannot fail, unless a sandbox that was installed later
 * forbids it. */
bool segue__gate_barrier(const segue_gate *gate) {
  return gate->fenced || !syscall(__NR_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}
