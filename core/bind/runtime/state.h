/* SPDX-License-Identifier: MIT
 *
 * state.h: one Lua state that runs untrusted code: what it may use, its limits, and the one
 * function through which every call into it passes. Only core/bind includes this header.
 */
#ifndef SEGUE_BIND_STATE_H
#define SEGUE_BIND_STATE_H

#include <lauxlib.h>
#include <lua.h>
#include <uv.h>

#include "../../config/tree.h"
#include "../../os/error.h"
#include "../../os/log.h"
#include "../../os/loop.h"
#include "../../os/os.h"
#include "../../os/reserve.h"
#include "budget.h"
#include "library.h"
#include "services.h"

/* A source text: the policy itself (module NULL) or a module beside it. */
typedef struct segue__chunk {
  char *module;
  char *path;
  char *text;
  size_t len;
  segue__hash hash;
} segue__chunk;

/* All texts that a policy consists of, so that its state can be built again from the same bytes. */
typedef struct segue__program {
  char *folder; /* of the policy; "" = the current one */
  segue__chunk *chunks;
  size_t count, capacity;
  bool sealed; /* loaded: no text may be added any more */
} segue__program;
void segue__program_deinit(segue__program *program);
/* Reads a file and appends it; a file that was read before is found again without reading. */
int segue__program_add(segue__program *program, const segue__os *os, const char *module,
                       const char *path, const segue__chunk **out, segue_error *err);
/* Pushes the compiled chunk; raises an error if it has a syntax error. */
int segue__chunk_load(lua_State *L, const segue__chunk *chunk);
/* Returns the full path for a name that Lua shortened to "...tail"; else the name. */
const char *segue__program_path(const segue__program *program, const char *name);

typedef struct segue__lua segue__lua;
struct segue__task;

/* The position of a call when its time was over. */
typedef struct segue__place {
  char file[256];
  uint32_t line;
} segue__place;

/* Activity of a thread that runs Lua, for a watchdog on another thread. Atomic. */
typedef struct segue__pulse {
  uint64_t turns;  /* odd while a call runs */
  const char *who; /* owner of the running code; static while states of the owner exist */
  bool endless;    /* compiled code runs, which no limit interrupts */
} segue__pulse;

struct segue__lua {
  lua_State *L;
  segue__loop *loop;
  const segue__logger *log;
  const segue__os *os;
  segue__budget *budget;
  segue__program *program;
  const char *lua_dir;
  const segue__library *library;
  struct segue__async_io *async_io; /* of core/bind/io */
  struct segue__turns *turns;       /* task.h */
  void (*open)(lua_State *L);       /* see segue__lua_setup */
  segue__lua_services services;
  const char *owner; /* name of the module; NULL: a policy */
  bool jit;
  segue__pulse *pulse;           /* NULL: no watchdog */
  void (*on_broken)(void *data); /* Called once, when the state hits a limit; must not call into it.
                                    NULL: none. */
  void *on_broken_data;
  bool broken_reported;
  char *last_traceback; /* of a module: for the caller that logs the error */
  struct segue__task *spares;
  size_t spare_count;
  size_t async_io_bytes; /* bytes of operations that it started */
  size_t copied;         /* bytes copied out by the running outermost call */
  size_t bytes, bytes_max;
  size_t collect_above,
      lived;        /* a call begins with a collection above this size; size after the last one */
  size_t postponed; /* see segue__lua_pace */
  segue__reserve reserve; /* while the state is built */
  bool spoiled;           /* an allocation failed: results cannot be trusted */
  bool over_limit;        /* the failed allocation exceeded bytes_max; memory was not short */
  bool overran;           /* a call exceeded its CPU time */
  bool closing;           /* close it when the running call returns */
  int depth;              /* running calls and other users that keep the state open */
  int calls;              /* calls that are running */
  int world;              /* error of a file that the outermost call required and could not read */
  const char *stack_base;
  size_t refs;
  struct segue__task *tasks, *current;
  segue__place place;
  char *traceback;
  segue_error fatal; /* error of the call that first hit the limit */
};

typedef struct segue__lua_setup {
  segue__loop *loop;
  const segue__logger *log;
  const segue__os *os;
  segue__budget *budget;
  segue__program *program;
  struct segue__async_io *async_io; /* borrowed for `open` and the functions that it adds */
  struct segue__turns *turns;       /* NULL: the state runs no tasks */
  /* Adds the functions of other folders to the table segue.core, which is on top of the stack.
   * NULL: nothing is added. */
  void (*open)(lua_State *L);
  const char *lua_dir;
  const segue__library *library; /* NULL: files of the Lua half are read from lua_dir */
  size_t bytes_max;
  segue__lua_services services;
  const char *owner; /* see segue__lua; NULL: a policy */
  bool jit;          /* compiled code cannot be interrupted */
  segue__pulse *pulse;
} segue__lua_setup;

#ifdef SEGUE_TEST
/* Test builds: new states collect all the time, and completely before and after each call. */
extern int segue__lua_stress;
#endif

/* Creates a state with the sandbox. Borrows everything in setup. */
int segue__lua_new(segue__lua **out, const segue__lua_setup *setup, segue_error *err);
/* Cancels the tasks and closes the state, at the latest when the running call returns. NULL
 * allowed. */
void segue__lua_free(segue__lua *lua);
segue__lua *segue__lua_of(lua_State *L);
/* Returns whether the state hit a limit: then it rejects calls and must be built again. */
bool segue__lua_is_broken(const segue__lua *lua);

/* Calls body in protected mode within cpu_ms of CPU time. Every call into Lua passes here (or a
 * task, which uses this). An error, or the exceeded limit, is stored in err with file and line, and
 * its traceback is logged. The stack is restored. body may also fail by returning a negative code
 * with *err set. `what` names the call in messages: "check". */
typedef int (*segue__lua_body)(lua_State *L, void *data, segue_error *err);
int segue__lua_call(segue__lua *lua, const char *what, uint64_t cpu_ms, segue__lua_body body,
                    void *data, segue_error *err);

/* The same, with left_ns as the rest of cpu_ms, which several calls share. */
int segue__lua_call_on(segue__lua *lua, const char *what, uint64_t cpu_ms, uint64_t left_ns,
                       segue__lua_body body, void *data, segue_error *err);

/* Converts the error value at index to err: texts with position, error tables of segue, and any
 * other value. thread raised it. Raises an error only if memory is short. */
int segue__lua_describe(lua_State *L, int index, lua_State *thread, segue_error *err);
/* Splits "file:line: text". */
void segue__program_message(const segue__program *program, const char *text, segue_error *err);
void segue__lua_note_place(segue__lua *lua, lua_State *L, lua_Debug *ar);
/* Finds file and line of the innermost Lua function of a thread; returns false if there is none. */
bool segue__lua_place(const segue__lua *lua, lua_State *thread, int level, segue__place *out);
/* Finds the definition of the function on top of the stack, and pops it. */
void segue__lua_place_of(const segue__lua *lua, lua_State *L, segue__place *out);
void segue__lua_log_traceback(segue__lua *lua, const char *what, const char *traceback);

/* Raises an error if too much of the C stack is in use: Lua does not limit calls that nest through
 * C. */
void segue__lua_guard(lua_State *L);

/* Returns the text at index for a log line, cut to the length of a log line. */
const char *segue__lua_log_text(lua_State *L, int index);

/* Announces to the collector that values refer to so many bytes outside of the state. Without this
 * it sees a few bytes where a whole configuration generation is kept alive, and collects too late.
 * Within a call. */
void segue__lua_pace(lua_State *L, size_t bytes);

/* Counts memory outside of a state against its limit, until it is discharged. Returns false, and
 * counts nothing, if the limit would be exceeded. */
bool segue__lua_charge(segue__lua *lua, size_t bytes);
void segue__lua_discharge(segue__lua *lua, size_t bytes);
/* Counts bytes that are about to be copied out of the state, within the outermost running call.
 * Their sum must stay within the limit of the state, because a table may refer to one long text a
 * thousand times. Returns false if the bytes must not be copied; segue__lua_refuse_copy sets err.
 */
bool segue__lua_copies(segue__lua *lua, size_t bytes);
size_t segue__lua_copies_left(const segue__lua *lua);
int segue__lua_refuse_copy(const segue__lua *lua, segue_error *err);

/* Counted references to Lua values. */
int segue__lua_ref(segue__lua *lua, lua_State *L); /* pops the value */
void segue__lua_unref(segue__lua *lua, int ref);

/* ---- Parts of the sandbox, one file each ----------------------------------------------------- */
void segue__sandbox_open(lua_State *L);              /* sandbox.c: libraries, reduced */
void segue__string_open(lua_State *L);               /* string.c: patterns, long texts and lists */
void segue__require_open(lua_State *L);              /* require.c: require, load */
void segue__core_open(lua_State *L);                 /* core.c: the module segue.core */
uint64_t segue__arg_number(lua_State *L, int index); /* 0 for nil */
void segue__tables_open(lua_State *L);    /* tables.c: pairs, type ... that know config values */
void segue__coroutine_open(lua_State *L); /* coroutine.c */

#endif
