/* SPDX-License-Identifier: MIT
 *
 * module.h: modules in Lua, internal to this folder. A segue__module_code is the declaration of one
 * module with its texts. An instance has one segue__lua_state for each worker thread that serves
 * it, with the tasks and requests in it; only that thread touches the state. All states of one
 * worker thread share its segue__thread_context.
 */
#ifndef SEGUE_BIND_MODULE_H
#define SEGUE_BIND_MODULE_H

#include "../io/async_io.h"
#include "../runtime/state.h"
#include "../runtime/task.h"
#include "modules.h"

typedef struct segue__thread_context segue__thread_context;
typedef struct segue__lua_state segue__lua_state;
typedef struct segue__lua_request segue__lua_request;
typedef struct segue__stream_wait segue__stream_wait;
typedef struct segue__gone_waiting segue__gone_waiting;

/* Kinds of errors that are counted. X(NAME, text) */
#define SEGUE__LUA_FAULTS(X)                                                                       \
  X(ERROR, "error") X(CPU, "cpu") X(MEMORY, "memory") X(TIMEOUT, "timeout")
typedef enum segue__lua_fault {
#define X(name, text) SEGUE__LUA_##name,
  SEGUE__LUA_FAULTS(X)
#undef X
      SEGUE__LUA_FAULT_COUNT
} segue__lua_fault;

/* Counters of all modules with one name, for the life of the program. */
typedef struct segue__tally {
  struct segue__tally *next;
  uint64_t faults[SEGUE__LUA_FAULT_COUNT]; /* atomic, like rebuilds */
  uint64_t rebuilds;
  char name[];
} segue__tally;

struct segue__lua_modules {
  segue__lua_modules_options options;
  segue__library *library;
  segue__thread_context *contexts; /* one for each worker thread; created with the first instance */
  size_t context_count, contexts_closed, contexts_abandoned;
  struct instance *first; /* instances that are not destroyed; module.c */
  size_t instances;       /* atomic */
  segue__tally *tallies;
  segue__timer watchdog;
  bool closing;
  void (*cb)(void *data);
  void *data;
};

struct segue__thread_context {
  segue__lua_modules *all;
  size_t index;
  segue__loop *loop;
  segue__budget *budget;
  segue__async_io *async_io;
  segue__pulse pulse;
  bool opened;
  segue__lua_request *pool; /* free requests; the memory is freed when the context closes */
  segue__buf body;          /* body of the answer that is being built */
  segue__message open_message, close_message, closed_message;
  uint64_t seen, since_ms; /* written by the watchdog */
  bool reported;
  bool stuck; /* the thread does not return from a module: nothing waits for it, its memory stays */
};

/* ---- module.c ---- */
extern const segue_module_ops segue__lua_module_ops;

/* ---- module_code.c --------------------------------------------------------------------------- */
typedef struct segue__module_code {
  int refs; /* atomic */
  segue__lua_modules *all;
  segue__program program; /* sealed: it never changes */
  char *name, *slice;
  uint64_t budget_ms;
  uint64_t timeout_ms; /* limits `handle` until its answer begins; 0: no limit */
  size_t memory_bytes;
  bool jit, listens;
  segue__tally *tally;
} segue__module_code;
segue__module_code *segue__module_code_ref(segue__module_code *code);
void segue__module_code_unref(segue__module_code *code);
/* Adds every file that is named by a literal in a require of a text to the program. */
int segue__requires_add(segue__program *program, const segue__os *os, segue_error *err);

/* ---- lua_state.c: one state, on its worker thread -------------------------------------------- */
enum { SEGUE__ON_HANDLE, SEGUE__ON_START, SEGUE__ON_DRAIN, SEGUE__ON_STOP, SEGUE__ON_COUNT };

struct segue__lua_state {
  segue__thread_context *context;
  const segue__module_code *code;
  const segue_snapshot *snapshot;
  const segue_node *config;
  segue__lua *lua;                      /* NULL: it hit a limit and could not be built again yet */
  int on[SEGUE__ON_COUNT];              /* references */
  segue__place places[SEGUE__ON_COUNT]; /* their place in the source */
  segue__task *task[SEGUE__ON_COUNT];   /* running tasks of the operations */
  bool started, stopped, starting;
  void (*reported)(segue__lua_state *state, int verb, int status, const segue_error *err);
  void (*failed)(segue__lua_state *state, const segue_error *err); /* the module reports it */
  segue__lua_request *first, **last; /* requests that wait until the state is built again */
  size_t inside;                     /* requests in the state */
  uint64_t again_ms;                 /* earliest time of the next attempt to build it */
  segue__message look_message;
  bool look_posted, gone;
  void (*free)(segue__lua_state *state);
};
/* Creates the Lua state and loads the code of the module. */
int segue__lua_state_build(segue__lua_state *state, segue_error *err);
/* Runs an operation (SEGUE__ON_START, DRAIN or STOP); `reported` runs once, when it ends. */
void segue__lua_state_run(segue__lua_state *state, int verb);
void segue__lua_state_cancel(segue__lua_state *state, int verb);
/* Ends all tasks and requests of the state; `free` runs soon after. */
void segue__lua_state_close(segue__lua_state *state);
void segue__lua_state_handle(segue__lua_state *state, segue_request *request);
/* Logs an error with the module, the place and the traceback. */
void segue__lua_state_log(segue__lua_state *state, const char *what, const segue_error *err);

/* ---- lua_request.c: one request in a state ---- */
enum { SEGUE__HEADERS = 64 }; /* of an answer */

struct segue__lua_request {
  segue__lua_state *state;
  segue_request *request; /* NULL: it was answered */
  uint64_t
      serial; /* serial number of the request: Lua objects of an earlier request are rejected */
  bool streaming;
  segue_answer answer;
  segue_header headers[SEGUE__HEADERS];
  segue__task *task;                 /* the task that runs handle */
  size_t headers_bytes;              /* size of the headers of the answer */
  size_t at_a_time;                  /* bytes that a stream wrote since it last waited */
  segue__stream_wait *waiting;       /* chunks that wait for a slow client */
  segue__gone_waiting *gone_waiting; /* tasks that wait until the client leaves */
  segue__lua *lua;                   /* the state that is charged for this request */
  size_t charged;                    /* number of bytes charged; 0: none */
  segue__lua_request *next;
};
segue__lua_request *segue__lua_request_new(segue__lua_state *state,
                                           segue_request *request); /* NULL: no memory */
/* Calls `handle` in a task and answers with its results. */
void segue__lua_request_run(segue__lua_request *lua_request);
/* Answers with this status in place of the module. */
void segue__lua_request_refuse(segue__lua_request *lua_request, int status);
void segue__lua_request_open(lua_State *L); /* metatables */

#endif
