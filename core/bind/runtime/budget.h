/* SPDX-License-Identifier: MIT
 *
 * budget.h: CPU time for calls into Lua. The JIT is never on in these states, so a hook reaches
 * every loop. The hook costs nothing until it is needed: a timer on the thread's CPU clock sends a
 * signal to this very thread, whose handler arms the hook. Without a signal (embedded) a count hook
 * is always on. Once the time is over the hook throws at every instruction, so that no pcall
 * swallows it, until the call has been left.
 */
#ifndef SEGUE_BIND_BUDGET_H
#define SEGUE_BIND_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

typedef struct segue__budget segue__budget;
struct segue__lua;
struct lua_State;

/* signum 0: by count hook. */
int segue__budget_new(segue__budget **out, int signum);
void segue__budget_free(segue__budget *budget);

/* What enter replaces and leave puts back; calls nest. */
typedef struct segue__cpu_slice {
  struct segue__lua *lua;
  uint64_t end_ns;
} segue__cpu_slice;
void segue__budget_enter(segue__budget *budget, struct segue__lua *lua, uint64_t cpu_ns,
                         segue__cpu_slice *outer);
void segue__budget_leave(segue__budget *budget, const segue__cpu_slice *outer);
/* CPU time of this thread, at most a millisecond too high; in most calls without a system call. */
uint64_t segue__budget_cpu_ns(segue__budget *budget);
/* For C functions that no hook reaches: the running call has used up its time; then raise. */
bool segue__budget_is_spent(const segue__budget *budget);
void segue__budget_raise(struct lua_State *L);
/* For a new state: the count hook, where there is no signal. */
void segue__budget_adopt(segue__budget *budget, struct segue__lua *lua);

#endif
