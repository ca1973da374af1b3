/* SPDX-License-Identifier: MIT
 *
 * gate_internal.h: a gate from the inside. gate_enter.c counts who is inside, without a lock;
 * gate_queue.c keeps who waits, under the gate's lock; gate.c changes what is open, on the control
 * thread, under the lock as well.
 */
#ifndef SEGUE_MODULE_GATE_INTERNAL_H
#define SEGUE_MODULE_GATE_INTERNAL_H

#include <pthread.h>

#include "../os/fork.h"
#include "gate.h"

/* A snapshot that passes of a tenure may still have, after another took its place. */
typedef struct segue__orphaned {
  const segue_snapshot *snapshot;
  struct segue__orphaned *next;
} segue__orphaned;

typedef struct segue__lease {
  segue_gate *gate;          /* for ever */
  segue__instance *instance; /* pinned; NULL: free */
  void *object;
  const segue_snapshot *snapshot; /* atomic; a reference */
  segue__orphaned *orphaned;
  bool over; /* nobody comes in by it any more, whoever calls; written under the lock */
} segue__lease;

enum { SEGUE__LEASES = 16, SEGUE__KEYS = 256 };

/* The counts of one thread for one gate: calls that entered on it minus calls that left on it, per
 * tenure. Only the sum over all threads has a meaning, since a call may leave on another thread. */
typedef struct segue__count_slot segue__count_slot;
struct segue__count_slot {
  int32_t inside[SEGUE__LEASES]; /* atomic: written by its thread, read by the control thread */
  segue_gate *gate;              /* atomic; NULL: its gate is gone */
  bool fenced;
  segue__count_slot *prev, *next; /* in the gate */
  segue__count_slot *thread_next;
  void *memory;
} __attribute__((aligned(128)));

struct segue_gate {
  /* Read-mostly fields, kept off the lock's cache line. */
  segue__lease *open;   /* atomic */
  bool fenced;          /* the system has no membarrier(2): each enter executes a fence */
  const uint32_t *mark; /* os/fork.h */
  segue__lease leases[SEGUE__LEASES];

  pthread_mutex_t lock __attribute__((aligned(128)));
  segue__gate_state state;
  int refusal; /* while refusing: the code */
  segue__lease *next, *kept;
  segue__orphaned *reserved; /* reserved: only the snapshot of the open tenure changes */
  bool exchanged;
  segue__count_slot *slots;
  int32_t unslotted[SEGUE__LEASES]; /* atomic: of threads that are gone or got no slot */

  segue_arrival *first, *last, *unstamped;
  size_t waiting, waiting_bytes;
  uint32_t keys[SEGUE__KEYS]; /* atomic: who waits, by key; 0 is not counted */
  segue__gate_limits limits;
  uint64_t refused[SEGUE__REFUSAL_COUNT], waited[SEGUE__WAIT_BUCKETS], waited_ms;

  segue__loop *loop; /* NULL: nobody is there to wake */
  segue__timer age;
  segue__message message;
  bool posted; /* atomic */

  segue__gates *all;
  char *name;
  segue_gate *next_gate;
  void *memory;
};

/* gate_enter.c */
/* False: it is not open. from, which may be NULL: he is inside elsewhere, and comes in rather by
 * the snapshot that he has. */
bool segue__gate_try_from(segue_gate *gate, const segue_pass *from, segue_pass *pass);
/* How many are inside by this tenure. Exact once it is not open any more and a barrier was put
 * into all threads, else a guess. Under the lock. */
int64_t segue__gate_count(const segue_gate *gate, const segue__lease *lease);
/* False: nothing can be said of who is inside. */
bool segue__gate_barrier(const segue_gate *gate);
bool segue__gate_fenced(void);
void segue__gate_forget_slots(segue_gate *gate);
/* Test builds: fn is called when this thread goes in next, after it has counted itself and before
 * it looks again. */
void segue__gate_call_between(void (*fn)(segue_gate *gate));

/* gate.c: something is to be looked at on the control thread. [any thread] */
void segue__gate_wake(segue_gate *gate);
/* gate_queue.c, on the control thread. all: without end, however long it takes. */
void segue__gate_queue_flow(segue_gate *gate, bool all);
void segue__gate_queue_stamp(segue_gate *gate);
/* The code with which arrivals are refused, counted; under the lock. */
int segue__gate_queue_refuse(segue_gate *gate, segue__refusal refusal);
segue__refusal segue__gate_refusal(const segue_gate *gate);

#endif
