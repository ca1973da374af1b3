/* SPDX-License-Identifier: MIT
 *
 * gate_internal.h: the inside of a gate. gate_enter.c counts the calls inside, without a lock;
 * gate_queue.c holds the waiting requests, under the gate's lock; gate.c changes the open lease, on
 * the control thread and also under the lock.
 */
#ifndef SEGUE_MODULE_GATE_INTERNAL_H
#define SEGUE_MODULE_GATE_INTERNAL_H

#include <pthread.h>

#include "../os/fork.h"
#include "gate.h"

/* A snapshot that passes of a lease may still have, after another one has replaced it. */
typedef struct segue__orphaned {
  const segue_snapshot *snapshot;
  struct segue__orphaned *next;
} segue__orphaned;

typedef struct segue__lease {
  segue_gate *gate;          /* never changes */
  segue__instance *instance; /* pinned; NULL: free */
  void *object;
  const segue_snapshot *snapshot; /* atomic; a reference */
  segue__orphaned *orphaned;
  bool over; /* no caller may enter by this lease any more; written under the lock */
} segue__lease;

enum { SEGUE__LEASES = 16, SEGUE__KEYS = 256 };

/* The counts of one thread for one gate: calls that entered on it minus calls that left on it, per
 * lease. Only the sum over all threads has a meaning, since a call may leave on another thread. */
typedef struct segue__count_slot segue__count_slot;
struct segue__count_slot {
  int32_t inside[SEGUE__LEASES]; /* atomic: written by its thread, read by the control thread */
  segue_gate *gate;              /* atomic; NULL: its gate was freed */
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
  segue__orphaned *reserved; /* reserved: only the snapshot of the open lease changes */
  bool exchanged;
  segue__count_slot *slots;
  int32_t unslotted[SEGUE__LEASES]; /* atomic: of threads that have exited or got no slot */

  segue_arrival *first, *last, *unstamped;
  size_t waiting, waiting_bytes;
  uint32_t keys[SEGUE__KEYS]; /* atomic: waiting requests by hash of the key; 0 has none */
  segue__gate_limits limits;
  uint64_t refused[SEGUE__REFUSAL_COUNT], waited[SEGUE__WAIT_BUCKETS], waited_ms;

  segue__loop *loop; /* NULL: no control thread to wake */
  segue__timer age;
  segue__message message;
  bool posted; /* atomic */

  segue__gates *all;
  char *name;
  segue_gate *next_gate;
  void *memory;
};

/* gate_enter.c */
/* Returns false if the gate is not open. from may be NULL; else the caller is inside another
 * module, and enters by the snapshot of that pass if it can. */
bool segue__gate_try_from(segue_gate *gate, const segue_pass *from, segue_pass *pass);
/* Returns the number of calls inside by this lease. Exact if the lease is not open any more and
 * segue__gate_barrier was called since; else an estimate. Under the lock. */
int64_t segue__gate_count(const segue_gate *gate, const segue__lease *lease);
/* Executes a barrier in all threads. Returns false if that failed: then no count can be trusted. */
bool segue__gate_barrier(const segue_gate *gate);
bool segue__gate_fenced(void);
void segue__gate_forget_slots(segue_gate *gate);
/* Test builds: fn is called when this thread enters next, after it has counted itself and before it
 * loads the open lease again. */
void segue__gate_call_between(void (*fn)(segue_gate *gate));

/* gate.c: makes the control thread look at the gate. [any thread] */
void segue__gate_wake(segue_gate *gate);
/* gate_queue.c, on the control thread. flow answers waiting requests; all: every one, else one
 * batch per turn of the loop. */
void segue__gate_queue_flow(segue_gate *gate, bool all);
void segue__gate_queue_stamp(segue_gate *gate);
/* Counts a refused arrival and returns its error code; under the lock. */
int segue__gate_queue_refuse(segue_gate *gate, segue__refusal refusal);
segue__refusal segue__gate_refusal(const segue_gate *gate);

#endif
