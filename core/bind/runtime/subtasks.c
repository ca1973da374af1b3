/* SPDX-License-Identifier: MIT
 *
 * segue.spawn and the functions built on it (all, any, race, timeout): tasks started by tasks. A
 * spawned task ends with its parent at the latest. Its results or its error are stored in its
 * userdata. Tasks that wait for it continue through the loop, so that no task is resumed from
 * within another one.
 */
#include <string.h>

#include "task.h"

typedef enum state { RUNNING, DONE, FAILED, BROKEN, CANCELLED, LATE } state;

typedef struct spawned spawned;
typedef struct join join;

/* One place of a join, in the list of the task that it waits for. */
typedef struct seat {
  join *join;
  spawned *of; /* NULL: the seat is not in a list any more */
  struct seat *prev, *next;
} seat;

typedef enum mode { ALL, ANY, RACE } mode;

struct join {
  segue__wait wait; /* first */
  segue__message message;
  bool posted;
  mode mode;
  size_t count, over;
  seat seats[];
};

struct spawned {
  int refs; /* the userdata's and the task's */
  segue__lua *lua;
  segue__task *task; /* NULL: it has ended */
  state state;
  int fn;      /* reference to { n = count, function, arguments ... } */
  int results; /* reference to { n = count, results ... } */
  segue_error error;
  seat *seats;
};

static const char metatable[] = "segue.task";

/* ---- Joins ----------------------------------------------------------------------------------- */

static void subtasks_leave(seat *seat) {
  spawned *of = seat->of;
  if (!of) return;
  seat->of = NULL;
  if (seat->prev)
    seat->prev->next = seat->next;
  else
    of->seats = seat->next;
  if (seat->next) seat->next->prev = seat->prev;
}

static void leave_all(join *j) {
  for (size_t i = 0; i < j->count; i++)
    subtasks_leave(&j->seats[i]);
}

static void subtasks_woken(segue__message *message) {
  join *j = (join *)((char *)message - offsetof(join, message));
  leave_all(j);
  if (j->wait.task) segue__wait_end(&j->wait, NULL, NULL);
  segue__free(j);
}

static void cancel_join(segue__wait *wait) {
  join *j = (join *)wait; /* its first member */
  leave_all(j);
  if (!j->posted) segue__free(j);
}

static bool subtasks_decides(mode mode, state state) {
  return mode == RACE || (mode == ALL ? state != DONE : state == DONE || state == BROKEN);
}

static bool subtasks_is_over(const join *j, state last) {
  return j->over == j->count || subtasks_decides(j->mode, last);
}

/* A join continues by a message: the task that ends here is still inside its own call into Lua, and
 * must not run another task on top of it. */
static void subtasks_wake(spawned *s) {
  segue__loop *loop = s->lua->loop;
  for (seat *at = s->seats, *next; at; at = next) {
    join *j = at->join;
    next = at->next;
    subtasks_leave(at);
    j->over++;
    if (j->posted || !subtasks_is_over(j, s->state)) continue;
    j->posted = true;
    j->message.fn = subtasks_woken;
    segue__post(loop, &j->message);
  }
}

static spawned *subtasks_check(lua_State *L, int index) {
  spawned **box = luaL_checkudata(L, index, metatable);
  if (!*box) luaL_error(L, "this task was never started");
  return *box;
}

static spawned *subtasks_item(lua_State *L, int i) {
  lua_rawgeti(L, 2, i + 1);
  spawned *s = subtasks_check(L, lua_gettop(L));
  lua_pop(L, 1); /* the list still holds it */
  return s;
}

/* join(mode, { task, task ... }) waits until the result of the mode is known. "all": until one task
 * has not succeeded, or all have ended. "any": until one has succeeded or broken, or all have
 * ended. "race": until the first one has ended. */
static int join_tasks(lua_State *L) {
  static const char *const modes[] = {"all", "any", "race", NULL};
  mode mode = (enum mode)luaL_checkoption(L, 1, NULL, modes);
  luaL_checktype(L, 2, LUA_TTABLE);
  int count = (int)lua_objlen(L, 2), over = 0;
  segue__wait_check(L, "segue.spawn");
  for (int i = 0; i < count; i++) {
    const spawned *s = subtasks_item(L, i);
    over += s->state != RUNNING;
    if (s->state != RUNNING && subtasks_decides(mode, s->state)) return 0;
  }
  if (over == count) return 0;
  join *j = segue__calloc(1, sizeof *j + (size_t)count * sizeof j->seats[0]);
  if (!j) return luaL_error(L, "out of memory");
  j->mode = mode;
  j->count = (size_t)count;
  j->over = (size_t)over;
  for (int i = 0; i < count; i++) {
    spawned *s = subtasks_item(L, i);
    seat *at = &j->seats[i];
    if (s->state != RUNNING) continue;
    *at = (seat){j, s, NULL, s->seats};
    if (s->seats) s->seats->prev = at;
    s->seats = at;
  }
  j->wait.cancel = cancel_join;
  j->wait.inside = true;
  return segue__wait_begin(L, &j->wait, "other tasks");
}

/* ---- Spawned tasks --------------------------------------------------------------------------- */

/* Memory of a task outside of its Lua state. */
static size_t charge_of_task(void) {
  return sizeof(spawned) + segue__task_bytes();
}

static void subtasks_unref(spawned *s) {
  if (--s->refs) return;
  segue__lua_discharge(s->lua, charge_of_task());
  segue__free(s);
}

static void subtasks_drop(spawned *s, int *ref) {
  if (!s->lua->closing) segue__lua_unref(s->lua, *ref);
  *ref = LUA_NOREF;
}

static int subtasks_begin(lua_State *co, void *data, segue_error *err) {
  spawned *s = data;
  (void)err;
  lua_rawgeti(co, LUA_REGISTRYINDEX, s->fn);
  lua_getfield(co, 1, "n");
  int n = (int)lua_tonumber(co, -1);
  lua_pop(co, 1);
  luaL_checkstack(co, n + LUA_MINSTACK, "a task's arguments");
  for (int i = 1; i <= n; i++)
    lua_rawgeti(co, 1, i);
  lua_remove(co, 1);
  subtasks_drop(s, &s->fn);
  return n - 1;
}

/* Stores the results. By the convention of the library nil and a text mean a failure. */
static int subtasks_finish(lua_State *co, int n, void *data, segue_error *err) {
  spawned *s = data;
  (void)err;
  bool failed = n >= 2 && !lua_toboolean(co, 1) && !lua_isnil(co, 2);
  lua_createtable(co, n, 1);
  lua_insert(co, 1);
  for (int i = n; i >= 1; i--)
    lua_rawseti(co, 1, i);
  lua_pushnumber(co, n);
  lua_setfield(co, 1, "n");
  s->results = segue__lua_ref(s->lua, co);
  s->state = failed ? FAILED : DONE;
  return 0;
}

static void subtasks_done(void *data, int status, const segue_error *err) {
  spawned *s = data;
  if (status) {
    s->error = *err;
    s->state = status == SEGUE_ECANCELLED                                  ? CANCELLED
               : status == SEGUE_ETIMEOUT && !segue__lua_is_broken(s->lua) ? LATE
                                                                           : BROKEN;
  }
  subtasks_drop(s, &s->fn);
  if (s->refs == 1) subtasks_drop(s, &s->results); /* the userdata was collected */
  subtasks_wake(s);
  subtasks_unref(s);
}

/* spawn(name, limit ms, { n = count, function, arguments ... }) -> task. name is one of the list
 * below. */
static int subtasks_spawn(lua_State *L) {
  static const char *const names[] = {"segue.spawn", "segue.timeout", "segue.all",
                                      "segue.any",   "segue.race",    NULL};
  segue__lua *lua = segue__lua_of(L);
  lua_settop(L, 3);
  const char *name = names[luaL_checkoption(L, 1, NULL, names)];
  uint64_t limit_ms = segue__arg_number(L, 2);
  luaL_checktype(L, 3, LUA_TTABLE);
  segue__wait_check(L, name);
  spawned **box = lua_newuserdata(L, sizeof(spawned *));
  *box = NULL;
  luaL_getmetatable(L, metatable);
  lua_setmetatable(L, -2);
  if (!segue__lua_charge(lua, charge_of_task()))
    return luaL_error(L, "%s: more tasks would need more memory than the %d MiB of the %s", name,
                      (int)(lua->bytes_max >> 20), lua->owner ? "module" : "policy");
  spawned *s = segue__calloc(1, sizeof *s);
  if (!s) {
    segue__lua_discharge(lua, charge_of_task());
    return luaL_error(L, "%s: out of memory", name);
  }
  s->refs = 1;
  s->lua = lua;
  s->fn = s->results = LUA_NOREF;
  *box = s;
  lua_pushvalue(L, 3);
  s->fn = segue__lua_ref(lua, L);
  segue__task_options options = {.name = name,
                                 .limit_ms = limit_ms,
                                 .slice_cpu_ms = segue__task_slice_ms(lua->current),
                                 .begin = subtasks_begin,
                                 .finish = subtasks_finish,
                                 .done = subtasks_done,
                                 .data = s,
                                 .slot = &s->task};
  if (segue__task_start_child(lua, &options)) return luaL_error(L, "%s: out of memory", name);
  s->refs++;
  return 1;
}

static int subtasks_collect(lua_State *L) {
  spawned **box = lua_touserdata(L, 1), *s = *box;
  if (!s) return 0;
  *box = NULL;
  subtasks_drop(s, &s->results);
  if (s->refs == 1) subtasks_drop(s, &s->fn);
  subtasks_unref(s);
  return 0;
}

/* cancel(task): no effect on a task that has ended. */
static int subtasks_cancel(lua_State *L) {
  segue__task_cancel_soon(subtasks_check(L, 1)->task);
  return 0;
}

static int subtasks_status_of(lua_State *L) {
  static const char *const names[] = {"running", "done", "failed", "broken", "cancelled", "late"};
  lua_pushstring(L, names[subtasks_check(L, 1)->state]);
  return 1;
}

/* outcome(task) -> { n = count, results ... }; or nil, message, code, file, line of the error that
 * ended it. */
static int subtasks_outcome(lua_State *L) {
  const spawned *s = subtasks_check(L, 1);
  if (s->state == DONE || s->state == FAILED) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->results);
    return 1;
  }
  lua_pushnil(L);
  lua_pushstring(L, s->error.message);
  lua_pushstring(L, segue_error_name(s->error.code));
  lua_pushstring(L, s->error.file);
  lua_pushnumber(L, s->error.line);
  return 5;
}

static int subtasks_to_string(lua_State *L) {
  const spawned *s = subtasks_check(L, 1);
  lua_pushfstring(L, "task (%s)", s->state == RUNNING ? "running" : "over");
  return 1;
}

/* The Lua half fills the metatable's __index, core.task_methods. */
void segue__spawn_open(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"spawn", subtasks_spawn},           {"join", join_tasks},
      {"cancel", subtasks_cancel},         {"outcome", subtasks_outcome},
      {"task_status", subtasks_status_of}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
  luaL_newmetatable(L, metatable);
  lua_newtable(L);
  lua_pushvalue(L, -1);
  lua_setfield(L, -4, "task_methods");
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, subtasks_collect);
  lua_setfield(L, -2, "__gc");
  lua_pushcfunction(L, subtasks_to_string);
  lua_setfield(L, -2, "__tostring");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 1);
}
