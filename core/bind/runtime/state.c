/* SPDX-License-Identifier: MIT
 *
 * Lua states: the allocator with its limit, the protected call, and conversion of errors to
 * segue_error.
 */
#include "state.h"

#include <stdlib.h>
#include <string.h>

#include "../../segue.h"
#include "task.h"

/* Nested frames of C functions that call Lua may use this much of the stack. */
enum { STACK_MAX = 512 * 1024 };

/* Pause and step of the collector, in percent: LuaJIT's own 200, and 100 KB of work in each step.
 */
enum { PAUSE_MAX = 200, STEPMUL = 10000 };

#ifdef SEGUE_TEST
int segue__lua_stress;

static void state_stress(lua_State *L, bool fresh) {
  if (!segue__lua_stress) return;
  if (fresh) {
    lua_gc(L, LUA_GCSETPAUSE, 0);
    lua_gc(L, LUA_GCSETSTEPMUL, 1000);
  }
  lua_gc(L, LUA_GCCOLLECT, 0);
}
#define STRESS(L, fresh) state_stress(L, fresh)
#else
#define STRESS(L, fresh) ((void)0)
#endif

/* Stores the stack at the point where memory ran out. The stack is gone when the call has failed,
 * and Lua's own traceback needs memory; this one only reads. */
static void note_stack(segue__lua *lua) {
  enum { LEVELS = 20 };
  if (!lua->L || !lua->depth) return;
  lua_State *L = lua->current ? segue__task_thread(lua->current) : NULL;
  if (!L) L = lua->L;
  segue__buf text;
  lua_Debug ar;
  segue__buf_init(&text);
  segue__buf_adds(&text, "stack traceback:");
  for (int level = 0; level < LEVELS && lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "Sln", &ar);
    segue__buf_addf(&text, "\n\t%s:", ar.short_src);
    if (ar.currentline > 0) segue__buf_addf(&text, "%d:", ar.currentline);
    segue__buf_addf(&text, " in %s", ar.name ? ar.name : "?");
  }
  segue__lua_place(lua, L, 0, &lua->place);
  segue__free(lua->traceback);
  lua->traceback = text.failed ? NULL : text.data;
  if (text.failed) segue__buf_deinit(&text);
}

/* The only place where the memory limit is checked. An allocation that fails sets `spoiled`: LuaJIT
 * then raises an error, but code of the policy may catch it and continue, so the state is not used
 * after the call. */
static void *state_allocate(void *data, void *p, size_t old_size, size_t new_size) {
  segue__lua *lua = data;
  if (!p) old_size = 0;
  if (!new_size) {
    if (!segue__reserve_has(&lua->reserve, p)) segue__free(p);
    lua->bytes -= old_size;
    return NULL;
  }
  bool over = new_size > old_size && lua->bytes - old_size + new_size > lua->bytes_max;
  bool reserve_only = lua->reserve.memory && lua->spoiled;
  void *q = over || reserve_only ? NULL : segue__realloc(p, new_size);
  if (!q) {
    if (!lua->spoiled) note_stack(lua);
    lua->spoiled = true;
    lua->over_limit = over;
    q = segue__reserve_use(&lua->reserve, p, old_size, new_size);
  }
  if (q) lua->bytes += new_size - old_size;
  return q;
}

segue__lua *segue__lua_of(lua_State *L) {
  void *data;
  lua_getallocf(L, &data);
  return data;
}

bool segue__lua_is_broken(const segue__lua *lua) {
  return lua->spoiled || lua->overran;
}

static int state_open_all(lua_State *L, void *data, segue_error *err) {
  (void)data, (void)err;
  segue__sandbox_open(L);
  segue__coroutine_open(L);
  segue__core_open(L);
  segue__tables_open(L);
  segue__require_open(L);
  /* The registry's list of free references begins at 0 and ends with the number 0, never with nil.
   * So its slot is never moved when the table grows, and releasing a reference, which happens
   * outside of protected calls, never allocates. */
  lua_pushinteger(L, 0);
  lua_rawseti(L, LUA_REGISTRYINDEX, 0);
  return 0;
}

int segue__lua_new(segue__lua **out, const segue__lua_setup *setup, segue_error *err) {
  *out = NULL;
  segue__lua *lua = segue__calloc(1, sizeof *lua);
  if (!lua) goto no_memory;
  lua->loop = setup->loop;
  lua->log = setup->log;
  lua->os = setup->os;
  lua->budget = setup->budget;
  lua->program = setup->program;
  lua->async_io = setup->async_io;
  lua->turns = setup->turns;
  lua->open = setup->open;
  lua->lua_dir = setup->lua_dir;
  lua->library = setup->library;
  lua->services = setup->services;
  lua->owner = setup->owner;
  lua->jit = setup->jit;
  lua->pulse = setup->pulse;
  lua->bytes_max = setup->bytes_max;
  lua->collect_above = setup->bytes_max / 4;
  if (!segue__reserve_new(&lua->reserve)) lua->L = lua_newstate(state_allocate, lua);
  if (!lua->L || lua->spoiled) goto no_memory;
  segue__reserve_free(&lua->reserve);
  segue__budget_adopt(lua->budget, lua);
  STRESS(lua->L, true);
  int rc = segue__lua_call(lua, "opening Lua", 1000, state_open_all, NULL, err);
  if (rc) {
    segue__lua_free(lua);
    return rc;
  }
  *out = lua;
  return 0;
no_memory:
  if (lua && lua->L) lua_close(lua->L);
  if (lua) segue__reserve_free(&lua->reserve);
  segue__free(lua);
  return segue__errorf(err, UV_ENOMEM, "no memory for a Lua state");
}

/* Spares are freed after lua_close, which frees their coroutines. */
static void state_destroy(segue__lua *lua) {
  lua_close(lua->L);
  segue__tasks_free_spares(lua);
  segue__free(lua->traceback);
  segue__free(lua->last_traceback);
  segue__free(lua);
}

void segue__lua_free(segue__lua *lua) {
  if (!lua) return;
  lua->closing = true;
  segue__task_cancel_all(lua);
  if (!lua->depth) state_destroy(lua);
}

/* ---- Calls ----------------------------------------------------------------------------------- */

struct call {
  segue__lua *lua;
  const char *what;
  uint64_t cpu_ns;
  segue__lua_body body;
  void *data;
  segue_error *err;
  int status;
};

static int run_body(lua_State *L) {
  struct call *call = lua_touserdata(L, 1);
  lua_settop(L, 0);
  call->status = call->body(L, call->data, call->err);
  return 0;
}

/* The handler of the protected call. It runs where the error was raised, while the stack still
 * exists. */
static int keep_traceback(lua_State *L) {
  segue__lua *lua = segue__lua_of(L);
  segue__lua_place(lua, L, 1, &lua->place);
  luaL_traceback(L, L, NULL, 1);
  segue__free(lua->traceback);
  lua->traceback = segue__strdup(lua_tostring(L, -1));
  lua_pop(L, 1);
  return 1;
}

/* LuaJIT does not collect when an allocation fails, and lets a heap grow to twice its live size:
 * garbage must not be what exceeds the limit. So from a quarter of the limit on, a call begins with
 * a full collection once half of the remaining room was used. It is repeated when half of the live
 * size is gone, so that small calls do not pay for large ones. */
static void state_make_room(segue__lua *lua) {
  bool has_room = lua->bytes <= lua->collect_above && lua->bytes >= lua->lived / 2;
  if (lua->calls > 1 || has_room) return;
  lua_gc(lua->L, LUA_GCCOLLECT, 0);
  size_t room = lua->bytes < lua->bytes_max ? (lua->bytes_max - lua->bytes) / 2 : 0;
  size_t pause = 100 + room / (lua->bytes / 100 + 1);
  lua_gc(lua->L, LUA_GCSETPAUSE, pause < PAUSE_MAX ? (int)pause : PAUSE_MAX);
  lua_gc(lua->L, LUA_GCSETSTEPMUL, STEPMUL);
  lua_gc(lua->L, LUA_GCRESTART, -1); /* as after a cycle: the new pause counts */
  lua->lived = lua->bytes;
  size_t quarter = lua->bytes_max / 4;
  lua->collect_above = lua->bytes + room > quarter ? lua->bytes + room : quarter;
}

static int protected_call(lua_State *L) {
  struct call *call = lua_touserdata(L, 1);
  segue__lua *lua = call->lua;
  segue__cpu_slice outer;
  lua_pushcfunction(L, keep_traceback);
  lua_pushcfunction(L, run_body);
  lua_pushlightuserdata(L, call);
  STRESS(L, false);
  state_make_room(lua);
  segue__budget_enter(lua->budget, lua, call->cpu_ns, &outer);
  int rc = lua_pcall(L, 1, 0, -3);
  /* Runs within the budget: an error object has its own __tostring, which may loop. */
  if (rc) call->status = SEGUE_EPOLICY;
  if (rc && !segue__lua_is_broken(lua)) segue__lua_describe(L, -1, NULL, call->err);
  segue__budget_leave(lua->budget, &outer);
  STRESS(L, false);
  if (rc && !segue__lua_is_broken(lua)) segue__lua_log_traceback(lua, call->what, lua->traceback);
  return 0;
}

/* Makes the error of a state that hit a limit. It replaces the result of the call, also if the code
 * caught the error and returned as if nothing had happened. */
static int state_broken(segue__lua *lua, const char *what, uint64_t cpu_ms, segue_error *err) {
  int code = SEGUE_ETIMEOUT;
  if (lua->spoiled && lua->over_limit)
    code = segue__errorf(err, SEGUE_ELIMIT, "%s needed more than %zu MiB of memory", what,
                         lua->bytes_max >> 20);
  else if (lua->spoiled)
    code = segue__errorf(err, UV_ENOMEM, "%s: the machine is out of memory", what);
  else
    segue__errorf(err, code, "%s used more than %llu ms of CPU time: is there an endless loop?",
                  what, (unsigned long long)cpu_ms);
  segue__error_set_place(err, lua->place.file, lua->place.line, 0);
  if (!lua->fatal.code) lua->fatal = *err;
  return code;
}

/* Counts that the thread enters or leaves Lua, for the watchdog (module.c). The name is stored
 * before the count, so the watchdog never sees a count with the name of the module before. */
static void state_beat(const segue__lua *lua) {
  if (!lua->pulse) return;
  uint64_t turns = __atomic_load_n(&lua->pulse->turns, __ATOMIC_RELAXED) + 1;
  if (turns & 1) {
    __atomic_store_n(&lua->pulse->who, lua->owner, __ATOMIC_RELAXED);
    __atomic_store_n(&lua->pulse->endless, lua->jit, __ATOMIC_RELAXED);
  }
  __atomic_store_n(&lua->pulse->turns, turns, __ATOMIC_RELEASE);
}

static void report_broken(segue__lua *lua) {
  if (lua->broken_reported || !lua->on_broken) return;
  lua->broken_reported = true;
  lua->on_broken(lua->on_broken_data);
}

int segue__lua_call(segue__lua *lua, const char *what, uint64_t cpu_ms, segue__lua_body body,
                    void *data, segue_error *err) {
  return segue__lua_call_on(lua, what, cpu_ms, cpu_ms * 1000000, body, data, err);
}

int segue__lua_call_on(segue__lua *lua, const char *what, uint64_t cpu_ms, uint64_t left_ns,
                       segue__lua_body body, void *data, segue_error *err) {
  segue_error scratch;
  if (!err) err = &scratch;
  if (segue__lua_is_broken(lua)) {
    segue__errorf(err, SEGUE_EPOLICY, "%s: the %s's state has hit a limit: %.400s", what,
                  lua->owner ? "module" : "policy", lua->fatal.message);
    segue__error_set_place(err, lua->fatal.file, lua->fatal.line, 0);
    return SEGUE_EPOLICY;
  }
  struct call call = {lua, what, left_ns, body, data, err, 0};
  if (!lua->depth++) lua->stack_base = __builtin_frame_address(0);
  memset(&lua->place, 0, sizeof lua->place);
  int top = lua_gettop(lua->L);
  bool outermost = !lua->calls++; /* nested calls are part of it */
  if (outermost) {
    state_beat(lua);
    lua->copied = 0;
    lua->world = 0;
  }
  int rc = lua_cpcall(lua->L, protected_call, &call);
  if (outermost) state_beat(lua);
  lua->calls--;
  if (rc) call.status = segue__errorf(err, UV_ENOMEM, "%s: out of memory", what);
  lua_settop(lua->L, top);
  /* The code is correct: the system failed to read a file that it requires. */
  if (call.status == SEGUE_EPOLICY && lua->world) call.status = err->code = lua->world;
  if (segue__lua_is_broken(lua)) {
    call.status = state_broken(lua, what, cpu_ms, err);
    segue__lua_log_traceback(lua, what, lua->traceback);
    report_broken(lua);
  }
  segue__free(lua->traceback);
  lua->traceback = NULL;
  if (!--lua->depth && lua->closing) state_destroy(lua);
  return call.status;
}

/* A quarter is enough: the collector traverses twice its heap while twice its heap, or one
 * generation of the configuration, is kept alive. */
void segue__lua_pace(lua_State *L, size_t bytes) {
  enum { STEP = 65536 };
  segue__lua *lua = segue__lua_of(L);
  lua->postponed += bytes / 4;
  if (lua->postponed < STEP) return;
  lua_gc(L, LUA_GCSTEP, lua->postponed > (size_t)1 << 30 ? 1 << 20 : (int)(lua->postponed >> 10));
  lua->postponed = 0;
}

/* Cuts a text for a log line. A sink formats the whole line: a text of 200 MiB would take more than
 * a gigabyte. */
const char *segue__lua_log_text(lua_State *L, int index) {
  size_t len;
  const char *text = lua_tolstring(L, index, &len);
  if (!text || len <= SEGUE__LOG_TEXT_MAX) return text;
  lua_pushlstring(L, text, SEGUE__LOG_TEXT_MAX);
  lua_pushliteral(L, "...");
  lua_concat(L, 2);
  lua_replace(L, index);
  return lua_tostring(L, index);
}

/* Memory outside of Lua counts against the same limit as the Lua heap, as long as it is held. */
bool segue__lua_charge(segue__lua *lua, size_t bytes) {
  size_t used = lua->bytes + lua->async_io_bytes;
  if (used > lua->bytes_max || bytes > lua->bytes_max - used) return false;
  lua->async_io_bytes += bytes;
  return true;
}

void segue__lua_discharge(segue__lua *lua, size_t bytes) {
  lua->async_io_bytes -= bytes;
}

size_t segue__lua_copies_left(const segue__lua *lua) {
  return lua->copied < lua->bytes_max ? lua->bytes_max - lua->copied : 0;
}

bool segue__lua_copies(segue__lua *lua, size_t bytes) {
  if (bytes > segue__lua_copies_left(lua)) return false;
  lua->copied += bytes;
  return true;
}

int segue__lua_refuse_copy(const segue__lua *lua, segue_error *err) {
  return segue__errorf(err, SEGUE_ELIMIT,
                       "its values are longer than the %zu MiB that the %s may use, each counted "
                       "as often as it is named",
                       lua->bytes_max >> 20, lua->owner ? "module" : "policy");
}

void segue__lua_guard(lua_State *L) {
  const char *base = segue__lua_of(L)->stack_base, *here = __builtin_frame_address(0);
  size_t used = base > here ? (size_t)(base - here) : (size_t)(here - base);
  if (used > STACK_MAX) luaL_error(L, "stack overflow (calls nest too deeply)");
  luaL_checkstack(L, LUA_MINSTACK, "calls nest too deeply");
}

/* ---- Errors ---------------------------------------------------------------------------------- */

/* Positions in the Lua half are skipped: authors of policies want to see their own lines. */
static bool in_library(const segue__lua *lua, const char *file) {
  size_t prefix = strlen(lua->lua_dir);
  return !strncmp(file, lua->lua_dir, prefix) && !strncmp(file + prefix, "/segue/", 7);
}

bool segue__lua_place(const segue__lua *lua, lua_State *thread, int level, segue__place *out) {
  lua_Debug ar;
  for (; lua_getstack(thread, level, &ar); level++) {
    lua_getinfo(thread, "Sl", &ar);
    if (ar.currentline <= 0) continue;
    const char *name = *ar.source == '@' ? ar.source + 1 : ar.short_src;
    if (in_library(lua, name)) continue;
    snprintf(out->file, sizeof out->file, "%s", name);
    out->line = (uint32_t)ar.currentline;
    return true;
  }
  return false;
}

void segue__lua_place_of(const segue__lua *lua, lua_State *L, segue__place *out) {
  lua_Debug ar;
  lua_getinfo(L, ">S", &ar);
  memset(out, 0, sizeof *out);
  if (ar.linedefined < 0) return; /* a function in C */
  const char *name = *ar.source == '@' ? ar.source + 1 : ar.short_src;
  snprintf(out->file, sizeof out->file, "%s", segue__program_path(lua->program, name));
  out->line = ar.linedefined ? (uint32_t)ar.linedefined : 1;
}

void segue__lua_note_place(segue__lua *lua, lua_State *L, lua_Debug *ar) {
  (void)ar;
  segue__lua_place(lua, L, 0, &lua->place);
  luaL_traceback(L, L, NULL, 0);
  segue__free(lua->traceback);
  lua->traceback = segue__strdup(lua_tostring(L, -1));
  lua_pop(L, 1);
}

void segue__lua_log_traceback(segue__lua *lua, const char *what, const char *traceback) {
  if (!traceback) return;
  if (lua->owner) {
    segue__free(lua->last_traceback);
    lua->last_traceback = segue__strdup(traceback);
    return;
  }
  /* The error itself is in the result of the reload: log only the traceback. */
  SEGUE__LOG(lua->log, SEGUE_DEBUG, "policy", "an error in the policy", SEGUE__FIELD("hook", what),
             SEGUE__FIELD("traceback", traceback));
}

void segue__program_message(const segue__program *program, const char *text, segue_error *err) {
  segue__errorf(err, SEGUE_EPOLICY, "%s", text);
  for (const char *colon = strchr(text, ':'); colon; colon = strchr(colon + 1, ':')) {
    size_t digits = strspn(colon + 1, "0123456789");
    if (!digits || strncmp(colon + 1 + digits, ": ", 2)) continue;
    char name[256];
    snprintf(name, sizeof name, "%.*s", (int)(colon - text), text);
    segue__errorf(err, SEGUE_EPOLICY, "%s", colon + 1 + digits + 2);
    segue__error_set_place(err, segue__program_path(program, name),
                           (uint32_t)strtoul(colon + 1, NULL, 10), 0);
    return;
  }
}

static const char *state_field(lua_State *L, int index, const char *key) {
  lua_pushstring(L, key);
  lua_rawget(L, index);
  const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
  lua_pop(L, 1); /* the table still holds it */
  return text;
}

static uint32_t field_number(lua_State *L, int index, const char *key) {
  lua_pushstring(L, key);
  lua_rawget(L, index);
  lua_Number n = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : 0;
  lua_pop(L, 1);
  return n > 0 && n < 4e9 ? (uint32_t)n : 0;
}

/* Fills err from a table with message, file, line, column, path. */
static bool describe_table(lua_State *L, int index, segue_error *err) {
  const char *message = state_field(L, index, "message");
  if (!message) return false;
  segue__errorf(err, SEGUE_EPOLICY, "%s", message);
  segue__error_set_place(err, state_field(L, index, "file"), field_number(L, index, "line"),
                         field_number(L, index, "column"));
  segue__error_path(err, state_field(L, index, "path"));
  return true;
}

static void describe_other(lua_State *L, int index, segue_error *err) {
  int type = lua_type(L, index);
  if (type == LUA_TNIL || type == LUA_TNONE) {
    segue__errorf(err, SEGUE_EPOLICY,
                  "error() was called with nil: give it a text with the reason");
  } else if ((type == LUA_TTABLE || type == LUA_TUSERDATA) &&
             luaL_callmeta(L, index, "__tostring")) {
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "?";
    segue__errorf(err, SEGUE_EPOLICY, "%s", text);
    lua_pop(L, 1);
  } else {
    segue__errorf(err, SEGUE_EPOLICY,
                  "error() was called with a %s: give it a text with the reason",
                  lua_typename(L, type));
  }
}

static int describe_body(lua_State *L) {
  segue_error *err = lua_touserdata(L, 2);
  segue__lua *lua = segue__lua_of(L);
  if (lua_type(L, 1) == LUA_TSTRING)
    segue__program_message(lua->program, lua_tostring(L, 1), err);
  else if (lua_type(L, 1) != LUA_TTABLE || !describe_table(L, 1, err))
    describe_other(L, 1, err);
  return 0;
}

int segue__lua_describe(lua_State *L, int index, lua_State *thread, segue_error *err) {
  segue__lua *lua = segue__lua_of(L);
  if (thread) segue__lua_place(lua, thread, 0, &lua->place);
  lua_pushvalue(L, index);
  lua_pushcfunction(L, describe_body);
  lua_insert(L, -2);
  lua_pushlightuserdata(L, err);
  if (lua_pcall(L, 2, 0, 0)) {
    segue__errorf(err, SEGUE_EPOLICY, "an error was thrown whose text cannot be made");
    lua_pop(L, 1);
  }
  if (!err->file[0] || (in_library(lua, err->file) && lua->place.line))
    segue__error_set_place(err, lua->place.file, lua->place.line, 0);
  return SEGUE_EPOLICY;
}

/* ---- References ------------------------------------------------------------------------------ */

int segue__lua_ref(segue__lua *lua, lua_State *L) {
  int ref = luaL_ref(L, LUA_REGISTRYINDEX);
  if (ref != LUA_REFNIL) lua->refs++;
  return ref;
}

/* luaL_unref writes to the registry only. In a state that ran out of memory even that is left out:
 * the state is going to be closed. */
void segue__lua_unref(segue__lua *lua, int ref) {
  if (ref == LUA_NOREF || ref == LUA_REFNIL) return;
  if (!lua->spoiled) luaL_unref(lua->L, LUA_REGISTRYINDEX, ref);
  lua->refs--;
}
