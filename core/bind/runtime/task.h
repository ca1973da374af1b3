/* SPDX-License-Identifier: MIT
 *
 * task.h: tasks. Every hook of a policy runs in one: a coroutine that Segue resumes, so that
 * waiting looks sequential. A task ends when it returns, by an error, by its time limit, or by a
 * cancel; what it waits for is then closed, and it is never resumed again.
 */
#ifndef SEGUE_BIND_TASK_H
#define SEGUE_BIND_TASK_H

#include "state.h"

typedef struct segue__task segue__task;
typedef struct segue__wait segue__wait;

/* An operation that a task waits for; embedded in the struct of the operation. */
struct segue__wait {
  segue__task *task;                /* NULL: no task waits any more */
  bool inside;                      /* waits for tasks of its own family: earns no new CPU slice */
  const char *what;                 /* "segue.sleep", for messages */
  void (*start)(segue__wait *wait); /* begins the operation after Lua has returned; may be NULL */
  void (*cancel)(
      segue__wait *wait); /* no task waits any more: close the operation, or let it end */
};

/* Tasks that are ready and wait for a turn of the loop. All states of one loader or worker thread
 * share it. Zeroed, with loop, begin and end set, before the first use. */
typedef struct segue__turns {
  segue__loop *loop;
  void (*begin)(struct segue__turns *turns); /* a message to the loop is on its way ... */
  void (*end)(struct segue__turns *turns);   /* ... and has arrived */
  struct segue__task *first, **last;
  uint64_t used_ns; /* CPU time that tasks used since the loop last ran other work */
  segue__message message;
  bool posted;
} segue__turns;

typedef struct segue__task_options {
  const char *name;      /* "check", for messages; static */
  uint64_t limit_ms;     /* for the whole task including waits; 0: none */
  uint64_t due_ms;       /* when the limit ends, by segue__loop_now_ms; 0: limit_ms after the first
                            wait */
  uint64_t slice_cpu_ms; /* CPU time between two waits, shared with the tasks that it starts */
  /* Protected; before the first resume. Pushes the function and its arguments; returns the number
   * of arguments, or a negative code. */
  int (*begin)(lua_State *co, void *data, segue_error *err);
  /* Protected; after the function returned. The results are 1 .. n on co. NULL: they are ignored.
   */
  int (*finish)(lua_State *co, int n, void *data, segue_error *err);
  /* Protected; the function threw an error (it was not stopped at a limit). NULL: not needed. */
  void (*threw)(void *data);
  /* Runs once, at the end, outside of Lua; status SEGUE_ECANCELLED after a cancel. May run before
   * segue__task_start returns. */
  void (*done)(void *data, int status, const segue_error *err);
  void *data;
  /* Set to the task while it is alive, and to NULL afterwards. May be NULL. */
  segue__task **slot;
  /* The coroutine is reused: the results stay on its stack until `done` has returned, then it
   * serves the next task. Creating a coroutine costs more than a short task does. */
  bool recycles;
  bool frees_children; /* its child tasks outlive it, until the state closes */
} segue__task_options;

void segue__task_start(segue__lua *lua, const segue__task_options *options);
/* From Lua: starts a child task with the next turn of the loop. It ends at the latest with the
 * running task. Returns 0; or UV_ENOMEM, and `done` never runs. */
int segue__task_start_child(segue__lua *lua, const segue__task_options *options);
/* Removes the time limit. */
void segue__task_end_limit(segue__task *task);
/* From Lua: cancels the task where it waits, after Lua has returned. NULL allowed. */
void segue__task_cancel_soon(segue__task *task);
/* Cancels the task where it waits. NULL allowed. */
void segue__task_cancel(segue__task *task);
void segue__task_cancel_all(segue__lua *lua);
/* Call it after the state has closed. */
void segue__tasks_free_spares(segue__lua *lua);
size_t segue__task_count(const segue__lua *lua);
size_t segue__task_bytes(void); /* memory of one task outside of its state */
struct lua_State *segue__task_thread(const segue__task *task);
uint64_t segue__task_slice_ms(const segue__task *task);
/* Returns whether co is the coroutine of a task, running or ended. */
bool segue__task_owns(lua_State *L, lua_State *co);

/* For functions that wait. check raises an error unless the caller is a task that may wait here:
 * call it before anything is started. begin: `return segue__wait_begin(...)` with start and cancel
 * set. end: called once, from the loop; resumes the task with the values that push (protected; may
 * be NULL) leaves on its stack. */
void segue__wait_check(lua_State *L, const char *what);
bool segue__can_wait(lua_State *L);
int segue__wait_begin(lua_State *L, segue__wait *wait, const char *what);
typedef int (*segue__wait_push)(lua_State *co, void *data);
void segue__wait_end(segue__wait *wait, segue__wait_push push, void *data);

/* Lua: sleep(milliseconds) */
int segue__sleep(lua_State *L);
/* Adds the functions of subtasks.c to segue.core, the table on top of the stack. */
void segue__spawn_open(lua_State *L);

#endif
