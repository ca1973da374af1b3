/* SPDX-License-Identifier: MIT
 *
 * gate.h: the entrance to a module. Open, it lets callers in to the current instance; shut, they
 * wait; refusing, they are told so. A tenure is the time during which a gate lets in to one
 * instance with one snapshot: whoever entered keeps both until he leaves, and the instance is
 * pinned until everybody has. Control thread, except what segue.h says of its functions.
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

/* X(name, text): why somebody who wanted to go in was refused. */
#define SEGUE__REFUSALS(X)                                                                         \
  X(OVERFLOW, "overflow") X(AGE, "age") X(MODULE, "module") X(CLOSED, "closed")
typedef enum segue__refusal {
#define X(name, text) SEGUE__REFUSED_##name,
  SEGUE__REFUSALS(X)
#undef X
      SEGUE__REFUSAL_COUNT
} segue__refusal;
const char *segue__refusal_name(segue__refusal refusal);

/* How many may wait at a shut gate, with how much, for how long. 0: the default. */
typedef struct segue__gate_limits {
  uint64_t items, bytes, age_ms;
} segue__gate_limits;
#define SEGUE__BUFFER_ITEMS 10000
#define SEGUE__BUFFER_BYTES (64 << 20)
#define SEGUE__BUFFER_AGE_MS 30000

/* Upper bounds of the histogram of waiting; one more bucket is for what is above. */
#define SEGUE__WAIT_BOUNDS_MS                                                                      \
  { 1, 5, 10, 50, 100, 500, 1000, 5000, 30000 }
enum { SEGUE__WAIT_BUCKETS = 10 };

typedef struct segue__gate_status {
  segue__gate_state state;
  size_t inside, waiting;
  uint64_t refused[SEGUE__REFUSAL_COUNT];
  uint64_t waited[SEGUE__WAIT_BUCKETS]; /* who waited and went in, by how long */
  uint64_t waited_ms;                   /* all of them together */
} segue__gate_status;

/* All gates of an instance of the library, by the names of their modules. They last as long as
 * this, because hosts keep pointers to them. */
int segue__gates_new(segue__gates **out);
void segue__gates_set_mark(segue__gates *gates, const uint32_t *mark); /* before the first gate */
bool segue__gate_in_child(const segue_gate *gate);                     /* [any thread] */
segue__gates *segue__gates_ref(segue__gates *gates);
void segue__gates_unref(segue__gates *gates);
void segue__gates_begin(segue__gates *gates, segue__loop *loop);
/* The loop goes: who waits is refused before this returns, and everybody else from now on. */
void segue__gates_end(segue__gates *gates);
/* Made on first asking, refusing; NULL: out of memory. [any thread] */
segue_gate *segue__gates_get(segue__gates *gates, const char *name);
const char *segue__gate_name(const segue_gate *gate); /* [any thread] */

void segue__gate_limit(segue_gate *gate, const segue__gate_limits *limits);
void segue__gate_status_get(const segue_gate *gate, segue__gate_status *out);
segue__gate_state segue__gate_state_get(const segue_gate *gate);
/* Number of calls inside this instance; exact once the gate lets no further call in to it. */
size_t segue__gate_inside(const segue_gate *gate, const segue__instance *instance);

/* It is being stopped: who is inside elsewhere is not let in to it any more either. */
void segue__gate_abandon(segue_gate *gate, const segue__instance *instance);

/* A flip in parts. reserve: what flip lets in to; pins the instance; it may be the one that is open
 * already, with another snapshot. SEGUE_ELIMIT: too many instances have somebody inside. flip and
 * unflip cannot fail: arrivals meet what was reserved (nothing: they are refused); and again what
 * was open before. settle: unflip will not come. */
int segue__gate_reserve(segue_gate *gate, segue__instance *instance,
                        const segue_snapshot *snapshot);
void segue__gate_unreserve(segue_gate *gate);
void segue__gate_flip(segue_gate *gate);
void segue__gate_unflip(segue_gate *gate);
void segue__gate_settle(segue_gate *gate);

void segue__gate_shut(segue_gate *gate); /* until open or refuse; settles */
int segue__gate_open(segue_gate *gate, segue__instance *instance, const segue_snapshot *snapshot);
void segue__gate_refuse(segue_gate *gate, int code); /* SEGUE_EMODULE or SEGUE_ECLOSED */

#endif
