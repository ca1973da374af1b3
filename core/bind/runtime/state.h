/* SPDX-License-Identifier: MIT
 *
 * state.h: one Lua state that runs users' code: what it may use, how much of it, and the one
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
#include "budget.h"
#include "library.h"
#include "services.h"

/* The text of one chunk: the policy itself (module NULL) or a module beside it. */
typedef struct segue__chunk {
  char *module;
  char *path;
  char *text;
  size_t len;
  segue__hash hash;
} segue__chunk;

/* Everything a policy was made of, so that its state can be built anew from the same bytes. */
typedef struct segue__program {
  char *folder; /* of the policy; "" = the current one */
  segue__chunk *chunks;
  size_t count, capacity;
  bool sealed; /* loaded: no chunk may be added any more */
} segue__program;
void segue__program_deinit(segue__program *program);
/* Reads a file and appends it; what is there already is found again without reading. */
int segue__program_add(segue__program *program, const segue__os *os, const char *module,
                       const char *path, const segue__chunk **out, segue_error *err);
/* Pushes the chunk as a function; raises if its text is wrong. */
int segue__chunk_load(lua_State *L, const segue__chunk *chunk);
/* The full path for a name that Lua cut to "...tail"; else the name. */
const char *segue__program_path(const segue__program *program, const char *name);

typedef struct segue__lua segue__lua;
struct segue__task;

/* Where a call was when its time was over. */
typedef struct segue__place {
  char file[256];
  uint32_t line;
} segue__place;

/* What a watchdog on another thread sees of a thread that runs Lua. Atomic. */
typedef struct segue__pulse {
  uint64_t turns;  /* odd: in a call */
  const char *who; /* whose; static as long as states of its are */
  bool endless;    /* it may be: what is compiled is not cut */
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
  struct segue__async_io *async_io;
  segue__lua_services services;
  const char *owner; /* the module whose code it is; NULL: a policy's */
  bool jit;
  segue__pulse *pulse; /* NULL: nobody looks how long calls take */
  void (*on_broken)(
      void *data); /* once, when it hit a limit; must not call it. NULL: nobody asks */
  void *on_broken_data;
  bool broken_reported;
  char *last_traceback; /* of a module's: for who logs the error */
  struct segue__task *spares;
  size_t spare_count;
  size_t async_io_bytes; /* held for it by what it started */
  size_t copied;         /* by the outermost call that runs */
  size_t bytes, bytes_max;
  size_t collect_above, lived; /* a call begins with a collection there; what the last one left */
  size_t postponed;            /* see segue__lua_pace */
  char *reserve;               /* memory for the state while it is being made */
  size_t reserve_used;
  bool spoiled;    /* an allocation was refused: results cannot be trusted */
  bool over_limit; /* the refusal came from bytes_max, not from a lack of memory */
  bool overran;    /* a call used up its CPU time */
  bool closing;    /* close it as soon as the running call returns */
  int depth;       /* running calls, and other holders that keep the state open */
  int calls;       /* calls that are running */
  int world;       /* error of a file that the outermost call required and could not read */
  const char *stack_base;
  size_t refs;
  struct segue__task *tasks, *current;
  segue__place place;
  char *traceback;
  segue_error fatal; /* what the call said that hit the limit first */
};

typedef struct segue__lua_setup {
  segue__loop *loop;
  const segue__logger *log;
  const segue__os *os;
  segue__budget *budget;
  segue__program *program;
  struct segue__async_io *async_io;
  const char *lua_dir;
  const segue__library *library; /* NULL: files of the Lua half are read from lua_dir */
  size_t bytes_max;
  segue__lua_services services;
  const char *owner; /* see segue__lua; NULL: a policy */
  bool jit;          /* what is compiled cannot be cut */
  segue__pulse *pulse;
} segue__lua_setup;

#ifdef SEGUE_TEST
/* New states collect without a pause, and everything before and after each call. */
extern int segue__lua_stress;
#endif

/* A state with the sandbox in place. Everything in setup is borrowed. */
int segue__lua_new(segue__lua **out, const segue__lua_setup *setup, segue_error *err);
/* Cancels its tasks and closes it, at the latest when the running call is left. NULL allowed. */
void segue__lua_free(segue__lua *lua);
segue__lua *segue__lua_of(lua_State *L);
/* Hit a limit: it refuses calls, and has to be built anew. */
bool segue__lua_is_broken(const segue__lua *lua);

/* The way into Lua. body runs protected, within cpu_ms of CPU time; whatever it throws, or the
 * limit it breaks, ends up in err (with file and line) and its traceback in the log. The stack is
 * as before afterwards. body may also fail by returning a negative code with *err filled. what
 * names the call in messages: "check". */
typedef int (*segue__lua_body)(lua_State *L, void *data, segue_error *err);
int segue__lua_call(segue__lua *lua, const char *what, uint64_t cpu_ms, segue__lua_body body,
                    void *data, segue_error *err);

/* The same, with left_ns as the remainder of the cpu_ms that several calls share. */
int segue__lua_call_on(segue__lua *lua, const char *what, uint64_t cpu_ms, uint64_t left_ns,
                       segue__lua_body body, void *data, segue_error *err);

/* Turns the error value at index into err: texts with their position, our own error tables, and
 * whatever else was thrown. thread is the one that threw it. Throws only for lack of memory. */
int segue__lua_describe(lua_State *L, int index, lua_State *thread, segue_error *err);
/* Splits "file:line: text". */
void segue__program_message(const segue__program *program, const char *text, segue_error *err);
void segue__lua_note_place(segue__lua *lua, lua_State *L, lua_Debug *ar);
/* The innermost Lua function of a thread: file and line; false if there is none. */
bool segue__lua_place(const segue__lua *lua, lua_State *thread, int level, segue__place *out);
/* Where the function on top, which is popped, begins. */
void segue__lua_place_of(const segue__lua *lua, lua_State *L, segue__place *out);
void segue__lua_log_traceback(segue__lua *lua, const char *what, const char *traceback);

/* Raises if too much of the C stack is in use: calls that nest through C are not limited by Lua. */
void segue__lua_guard(lua_State *L);

/* The text at index for a log line; a text longer than a log line is cut. */
const char *segue__lua_log_text(lua_State *L, int index);

/* Tells the collector of memory outside of its sight that values from now on may hold back. It
 * sees a few bytes where a generation of the configuration hangs on them. Within a call. */
void segue__lua_pace(lua_State *L, size_t bytes);

/* Counts memory that is held outside of a state against the limit of that state, until it is
 * discharged. Returns false and counts nothing if the limit would be passed. */
bool segue__lua_charge(segue__lua *lua, size_t bytes);
void segue__lua_discharge(segue__lua *lua, size_t bytes);
/* Counts bytes that are about to be copied out of the state for good, within the outermost call
 * that runs. Their sum must stay within the limit of the state, because a table may refer to one
 * long text a thousand times. Returns false if the bytes must not be copied; segue__lua_refuse_copy
 * sets err. */
bool segue__lua_copies(segue__lua *lua, size_t bytes);
size_t segue__lua_copies_left(const segue__lua *lua);
int segue__lua_refuse_copy(const segue__lua *lua, segue_error *err);

/* Counted references to values. */
int segue__lua_ref(segue__lua *lua, lua_State *L); /* pops the value */
void segue__lua_unref(segue__lua *lua, int ref);

/* ---- Parts of the sandbox, each in a file of its own ---- */
void segue__sandbox_open(lua_State *L);   /* sandbox.c: libraries, reduced */
void segue__string_open(lua_State *L);    /* string.c: patterns, long texts and lists */
void segue__require_open(lua_State *L);   /* require.c: require, load */
void segue__core_open(lua_State *L);      /* core.c: the module segue.core */
void segue__tables_open(lua_State *L);    /* tables.c: pairs, type ... that know config values */
void segue__coroutine_open(lua_State *L); /* coroutine.c */

#endif
