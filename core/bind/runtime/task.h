/* SPDX-License-Identifier: MIT
 *
 * task.h: tasks. Every hook of a policy runs in one: a coroutine that Segue resumes, so that what
 * waits looks sequential. A task ends by returning, by an error, by its time limit or by being
 * cancelled; what it waits for is then closed, and it is never resumed again.
 */
#ifndef SEGUE_BIND_TASK_H
#define SEGUE_BIND_TASK_H

#include "state.h"

typedef struct segue__task segue__task;
typedef struct segue__wait segue__wait;

/* What a task waits for; part of a struct that owns the operation. */
struct segue__wait {
  segue__task *task;                 /* NULL: nobody waits any more */
  bool inside;                       /* waits for tasks of its family: earns no new CPU slice */
  const char *what;                  /* "segue.sleep", for messages */
  void (*start)(segue__wait *wait);  /* NULL, or begins the operation, after Lua has been left */
  void (*cancel)(segue__wait *wait); /* nobody waits any more: close, or let it end by itself */
};

typedef struct segue__task_options {
  const char *name;      /* "check", for messages; static */
  uint64_t limit_ms;     /* for all of it, waits included; 0 = none */
  uint64_t slice_cpu_ms; /* CPU time between two waits, shared with all tasks that it starts */
  /* Protected, before the first resume: pushes the function, then its arguments; returns how many
   * arguments, or a negative code. */
  int (*begin)(lua_State *co, void *data, segue_error *err);
  /* Protected, after it returned: results are 1 .. n on co. NULL: they do not matter. */
  int (*finish)(lua_State *co, int n, void *data, segue_error *err);
  /* Once, at the end, outside of Lua; SEGUE_ECANCELLED after a cancel. May come before
   * segue__task_start returns. */
  void (*done)(void *data, int status, const segue_error *err);
  void *data;
  /* Holds the task while it is alive, NULL afterwards. May be NULL. */
  segue__task **slot;
  /* Results stay on the stack of the coroutine until done has returned; then that serves the next
   * such task: making one costs more than a short task does. */
  bool recycles;
  bool frees_children; /* what it spawned goes on after it, as long as the state does */
} segue__task_options;

void segue__task_start(segue__lua *lua, const segue__task_options *options);
/* From Lua: begins with the next turn of the loop, and ends at the latest with the task that runs
 * now. Returns 0, or UV_ENOMEM and done never runs. */
int segue__task_start_child(segue__lua *lua, const segue__task_options *options);
/* Removes the time limit from now on. */
void segue__task_end_limit(segue__task *task);
/* From Lua: ends it where it waits, when Lua has been left. NULL allowed. */
void segue__task_cancel_soon(segue__task *task);
/* Ends it where it waits. NULL allowed. */
void segue__task_cancel(segue__task *task);
void segue__task_cancel_all(segue__lua *lua);
/* The state is closed. */
void segue__tasks_free_spares(segue__lua *lua);
size_t segue__task_count(const segue__lua *lua);
size_t segue__task_bytes(void); /* memory of one task outside of its state */
struct lua_State *segue__task_thread(const segue__task *task);
uint64_t segue__task_slice_ms(const segue__task *task);
/* True for the coroutine of a task, also of one that is over. */
bool segue__task_owns(lua_State *L, lua_State *co);

/* For functions that wait. check raises unless the caller is a task that can wait here: call it
 * before anything is started. begin: `return segue__wait_begin(...)` with start and cancel set;
 * end: from the loop, once, resumes the task with what push (protected; may be NULL) leaves on its
 * stack.
 */
void segue__wait_check(lua_State *L, const char *what);
bool segue__can_wait(lua_State *L);
int segue__wait_begin(lua_State *L, segue__wait *wait, const char *what);
typedef int (*segue__wait_push)(lua_State *co, void *data);
void segue__wait_end(segue__wait *wait, segue__wait_push push, void *data);

/* Lua: sleep(milliseconds) */
int segue__sleep(lua_State *L);

#endif
