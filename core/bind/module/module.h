/* SPDX-License-Identifier: MIT
 *
 * module.h: modules in Lua from the inside. A code is what a policy says of one, and its texts; an
 * instance of it has a cell on each lane that it serves on: a Lua state of its own, with the tasks
 * and requests in it. Only the thread of its lane touches a cell. What the states of one lane share
 * is a berth.
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

/* What can go wrong. X(NAME, text) */
#define SEGUE__LUA_FAULTS(X)                                                                       \
  X(ERROR, "error") X(CPU, "cpu") X(MEMORY, "memory") X(TIMEOUT, "timeout")
typedef enum segue__lua_fault {
#define X(name, text) SEGUE__LUA_##name,
  SEGUE__LUA_FAULTS(X)
#undef X
      SEGUE__LUA_FAULT_COUNT
} segue__lua_fault;

/* What is counted for the modules of one name, as long as the program runs. */
typedef struct segue__tally {
  struct segue__tally *next;
  uint64_t faults[SEGUE__LUA_FAULT_COUNT]; /* atomic, like rebuilds */
  uint64_t rebuilds;
  char name[];
} segue__tally;

struct segue__lua_modules {
  segue__lua_modules_options options;
  segue__library *library;
  segue__thread_context *contexts; /* one for each lane, from the first instance on */
  size_t context_count, contexts_closed, contexts_abandoned;
  struct instance *first; /* of those that are not destroyed; module.c */
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
  segue__lua_request *pool; /* free ones; none is given back before the berth closes */
  segue__buf body;          /* of the answer that is being made */
  segue__message open_message, close_message, closed_message;
  uint64_t seen, since_ms; /* the watchdog's */
  bool reported;
  bool stuck; /* it does not come back, and nobody waits for it: its memory stays */
};

/* ---- module.c ---- */
extern const segue_module_ops segue__lua_module_ops;

/* ---- module_code.c ---- */
typedef struct segue__module_code {
  int refs; /* atomic */
  segue__lua_modules *all;
  segue__program program; /* sealed: nobody changes it */
  char *name, *slice;
  uint64_t budget_ms;
  uint64_t timeout_ms; /* limits a handler until its answer begins; 0: none */
  size_t memory_bytes;
  bool jit, listens;
  segue__tally *tally;
} segue__module_code;
/* all NULL: it can be judged, and not run. */
int segue__module_code_new(segue__module_code **out, segue__lua_modules *all,
                           const segue__kind_place *place, const char *const *values,
                           const segue__module_spec *spec, segue_error *err);
segue__module_code *segue__module_code_ref(segue__module_code *code);
void segue__module_code_unref(segue__module_code *code);
/* Adds every file whose name is written out in a require of a text to the program. */
int segue__requires_add(segue__program *program, const segue__os *os, segue_error *err);

/* ---- lua_state.c: one state, on its lane ---- */
enum { SEGUE__ON_HANDLE, SEGUE__ON_START, SEGUE__ON_DRAIN, SEGUE__ON_STOP, SEGUE__ON_COUNT };

struct segue__lua_state {
  segue__thread_context *context;
  const segue__module_code *code;
  const segue_snapshot *snapshot;
  const segue_node *config;
  segue__lua *lua;         /* NULL: none, it hit a limit and could not be made anew yet */
  int on[SEGUE__ON_COUNT]; /* references */
  segue__place places[SEGUE__ON_COUNT]; /* where they are written */
  segue__task *task[SEGUE__ON_COUNT];   /* those that run, of the operations */
  bool started, stopped, starting;
  void (*reported)(segue__lua_state *state, int verb, int status, const segue_error *err);
  segue__lua_request *first, **last; /* wait for the state */
  size_t inside;                     /* requests that the state has */
  uint64_t again_ms;                 /* not built anew before */
  segue__message look_message;
  bool look_posted, gone;
  void (*free)(segue__lua_state *state);
};
/* Makes the state and loads its code. */
int segue__lua_state_build(segue__lua_state *state, segue_error *err);
/* SEGUE__ON_START, DRAIN, STOP: told comes once, when it is over. */
void segue__lua_state_run(segue__lua_state *state, int verb);
void segue__lua_state_cancel(segue__lua_state *state, int verb);
/* Ends everything in it; then free is called, soon. */
void segue__lua_state_close(segue__lua_state *state);
void segue__lua_state_handle(segue__lua_state *state, segue_request *request);
/* One line that names the module, the place and what went wrong there, and its traceback. */
void segue__lua_state_log(segue__lua_state *state, const char *what, const segue_error *err);

/* ---- lua_request.c: one request in a state ---- */
enum { SEGUE__HEADERS = 64 }; /* of an answer */

struct segue__lua_request {
  segue__lua_state *state;
  segue_request *request; /* NULL: it is answered */
  uint64_t serial;        /* of the request: what Lua keeps of another one is refused */
  bool streaming;
  segue_answer answer;
  segue_header headers[SEGUE__HEADERS];
  segue__task *task;                 /* the task that runs handle */
  size_t headers_bytes;              /* size of the headers of the answer */
  size_t at_a_time;                  /* bytes that a stream wrote since it last waited */
  segue__stream_wait *waiting;       /* pieces that wait for a slow client */
  segue__gone_waiting *gone_waiting; /* tasks that wait until the client leaves */
  segue__lua *lua;                   /* the state that is charged for this request */
  size_t charged;                    /* number of bytes charged; 0: none */
  segue__lua_request *next;
};
segue__lua_request *segue__lua_request_new(segue__lua_state *state,
                                           segue_request *request); /* NULL: no memory */
/* Calls handle in a task, and answers by what it returns. */
void segue__lua_request_run(segue__lua_request *lua_request);
/* Answers in the place of the module. */
void segue__lua_request_refuse(segue__lua_request *lua_request, int status);
void segue__lua_request_open(lua_State *L); /* metatables */

#endif
