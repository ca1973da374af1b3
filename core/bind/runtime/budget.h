/* SPDX-License-Identifier: MIT
 *
 * budget.h: limits of CPU time for calls into Lua. The JIT is off in these states, so a debug hook
 * reaches every loop. A hook that is always on costs 60 to 80 %, so it is installed only when the
 * time is over: a timer on the thread's CPU clock sends a signal to this thread, and the handler
 * installs the hook. Without a signal (embedded) a count hook is always on. Once the time is over,
 * the hook raises an error at every instruction until the call has returned, so that a pcall in a
 * loop cannot swallow it.
 */
#ifndef SEGUE_BIND_BUDGET_H
#define SEGUE_BIND_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

typedef struct segue__budget segue__budget;
struct segue__lua;
struct lua_State;

/* signum 0: uses a count hook. */
int segue__budget_new(segue__budget **out, int signum);
void segue__budget_free(segue__budget *budget);

/* State that `enter` replaces and `leave` restores; calls nest. */
typedef struct segue__cpu_slice {
  struct segue__lua *lua;
  uint64_t end_ns;
} segue__cpu_slice;
void segue__budget_enter(segue__budget *budget, struct segue__lua *lua, uint64_t cpu_ns,
                         segue__cpu_slice *outer);
void segue__budget_leave(segue__budget *budget, const segue__cpu_slice *outer);
/* Returns the CPU time of this thread, at most a millisecond too high; mostly without a system
 * call. */
uint64_t segue__budget_cpu_ns(segue__budget *budget);
/* For C functions, which a hook does not interrupt: returns whether the running call has used up
 * its time. The function then calls raise. */
bool segue__budget_is_spent(const segue__budget *budget);
void segue__budget_raise(struct lua_State *L);
/* The handler of the signal. [any thread, in a signal handler] */
void segue__budget_on_signal(void *budget);
/* Installs the count hook in a new state if there is no signal. */
void segue__budget_adopt(segue__budget *budget, struct segue__lua *lua);

#endif
