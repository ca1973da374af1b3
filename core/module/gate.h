/* SPDX-License-Identifier: MIT
 *
 * gate.h: the entrance to a module. An open gate lets callers enter the current instance; a shut
 * gate makes them wait; a refusing gate returns an error. A lease is the right of callers to one
 * instance with one snapshot: a caller that entered by it keeps both until it leaves, and the lease
 * pins the instance until the last one has left. Control thread, except the functions of segue.h.
 */
#ifndef SEGUE_MODULE_GATE_H
#define SEGUE_MODULE_GATE_H

#include "../os/loop.h"
#include "../segue.h"

typedef struct segue__instance segue__instance;
typedef struct segue__gates segue__gates;

typedef enum segue__gate_state {
  SEGUE__GATE_SHUT,
  SEGUE__GATE_OPEN,
  SEGUE__GATE_REFUSING
} segue__gate_state;

/* X(name, text): why an arrival was refused. */
#define SEGUE__REFUSALS(X)                                                                         \
  X(OVERFLOW, "overflow") X(AGE, "age") X(MODULE, "module") X(CLOSED, "closed")
typedef enum segue__refusal {
#define X(name, text) SEGUE__REFUSED_##name,
  SEGUE__REFUSALS(X)
#undef X
      SEGUE__REFUSAL_COUNT
} segue__refusal;
const char *segue__refusal_name(segue__refusal refusal);

/* Limits of the requests that wait at a shut gate: their number, bytes and age. 0: the default. */
typedef struct segue__gate_limits {
  uint64_t items, bytes, age_ms;
} segue__gate_limits;
#define SEGUE__BUFFER_ITEMS 10000
#define SEGUE__BUFFER_BYTES (64 << 20)
#define SEGUE__BUFFER_AGE_MS 30000

/* Upper bounds of the histogram of waiting times; one more bucket counts the longer waits. */
#define SEGUE__WAIT_BOUNDS_MS                                                                      \
  { 1, 5, 10, 50, 100, 500, 1000, 5000, 30000 }
enum { SEGUE__WAIT_BUCKETS = 10 };

typedef struct segue__gate_status {
  segue__gate_state state;
  size_t inside, waiting;
  uint64_t refused[SEGUE__REFUSAL_COUNT];
  uint64_t waited[SEGUE__WAIT_BUCKETS]; /* requests that entered after a wait, by its length */
  uint64_t waited_ms;                   /* all of them together */
} segue__gate_status;

/* All gates of an instance of the library, by the names of their modules. Gates live as long as
 * this, because hosts keep pointers to them. */
int segue__gates_new(segue__gates **out);
void segue__gates_set_mark(segue__gates *gates, const uint32_t *mark); /* before the first gate */
bool segue__gate_in_child(const segue_gate *gate);                     /* [any thread] */
segue__gates *segue__gates_ref(segue__gates *gates);
void segue__gates_unref(segue__gates *gates);
void segue__gates_begin(segue__gates *gates, segue__loop *loop);
/* Called when the loop ends: refuses all waiting requests before it returns, and every later
 * arrival. */
void segue__gates_end(segue__gates *gates);
/* Returns the gate of a module. The first call makes it, in the state refusing. NULL: out of
 * memory. [any thread] */
segue_gate *segue__gates_get(segue__gates *gates, const char *name);
const char *segue__gate_name(const segue_gate *gate); /* [any thread] */

void segue__gate_limit(segue_gate *gate, const segue__gate_limits *limits);
void segue__gate_status_get(const segue_gate *gate, segue__gate_status *out);
segue__gate_state segue__gate_state_get(const segue_gate *gate);
/* Number of calls inside this instance; exact once the gate lets no further call in to it. */
size_t segue__gate_inside(const segue_gate *gate, const segue__instance *instance);

/* The instance is being stopped: callers inside other modules cannot enter it any more either. */
void segue__gate_abandon(segue_gate *gate, const segue__instance *instance);

/* A flip in parts. reserve: prepares the lease that flip will open, and pins the instance; it may
 * be the instance that is open already, with another snapshot. SEGUE_ELIMIT: too many instances
 * still have callers inside. flip opens the reserved lease (none: arrivals are refused), unflip
 * opens the previous one again; neither can fail. settle: unflip will not be called, so the
 * previous lease may end. */
int segue__gate_reserve(segue_gate *gate, segue__instance *instance,
                        const segue_snapshot *snapshot);
void segue__gate_unreserve(segue_gate *gate);
void segue__gate_flip(segue_gate *gate);
void segue__gate_unflip(segue_gate *gate);
void segue__gate_settle(segue_gate *gate);

void segue__gate_shut(segue_gate *gate); /* until open or refuse; settles a flip */
int segue__gate_open(segue_gate *gate, segue__instance *instance, const segue_snapshot *snapshot);
void segue__gate_refuse(segue_gate *gate, int code); /* SEGUE_EMODULE or SEGUE_ECLOSED */

#endif
