/* SPDX-License-Identifier: MIT
 *
 * Coroutines for policies. Lua's own nest on the C stack without limit and would let a policy
 * resume or leave a task; these do neither.
 */
#include "state.h"
#include "task.h"

enum { MOVED_MAX = 200 }; /* values passed through resume and yield */

static lua_State *check_thread(lua_State *L) {
  lua_State *co = lua_tothread(L, 1);
  luaL_argcheck(L, co, 1, "coroutine expected");
  return co;
}

static const char *coroutine_status_of(lua_State *L, lua_State *co) {
  lua_Debug ar;
  if (L == co) return "running";
  if (lua_status(co) == LUA_YIELD) return "suspended";
  if (lua_status(co)) return "dead";
  if (lua_getstack(co, 0, &ar)) return "normal";
  return lua_gettop(co) ? "suspended" : "dead";
}

static int coroutine_status(lua_State *L) {
  lua_pushstring(L, coroutine_status_of(L, check_thread(L)));
  return 1;
}

static int coroutine_create(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_State *co = lua_newthread(L);
  lua_pushvalue(L, 1);
  lua_xmove(L, co, 1);
  return 1;
}

/* Returns the number of results on L, or -1 with the error on L. */
static int resume_with(lua_State *L, lua_State *co, int nargs) {
  segue__lua_guard(L);
  const char *state = coroutine_status_of(L, co);
  if (*state != 's' || segue__task_owns(L, co)) {
    lua_pushfstring(L, "cannot resume a %s coroutine", *state != 's' ? state : "task's");
    return -1;
  }
  if (nargs > MOVED_MAX || !lua_checkstack(co, nargs)) return luaL_error(L, "too many arguments");
  lua_xmove(L, co, nargs);
  int rc = lua_resume(co, nargs);
  if (rc && rc != LUA_YIELD) {
    lua_xmove(co, L, 1);
    return -1;
  }
  int n = lua_gettop(co);
  if (n > MOVED_MAX || !lua_checkstack(L, n)) return luaL_error(L, "too many results");
  lua_xmove(co, L, n);
  return n;
}

static int coroutine_resume(lua_State *L) {
  lua_State *co = check_thread(L);
  int n = resume_with(L, co, lua_gettop(L) - 1);
  lua_pushboolean(L, n >= 0);
  n = n < 0 ? 1 : n;
  lua_insert(L, -n - 1);
  return n + 1;
}

static int call_wrapped(lua_State *L) {
  int n = resume_with(L, lua_tothread(L, lua_upvalueindex(1)), lua_gettop(L));
  if (n < 0) return lua_error(L);
  return n;
}

static int coroutine_wrap(lua_State *L) {
  coroutine_create(L);
  lua_pushcclosure(L, call_wrapped, 1);
  return 1;
}

static int coroutine_yield(lua_State *L) {
  if (lua_pushthread(L) || segue__task_owns(L, L))
    return luaL_error(L, "coroutine.yield outside of a coroutine: to wait, use segue.sleep");
  lua_pop(L, 1);
  if (!lua_isyieldable(L)) return luaL_error(L, "attempt to yield across C-call boundary");
  return lua_yield(L, lua_gettop(L));
}

static int coroutine_running(lua_State *L) {
  if (lua_pushthread(L)) return 0;
  return 1;
}

static int isyieldable(lua_State *L) {
  lua_pushboolean(L, lua_isyieldable(L));
  return 1;
}

void segue__coroutine_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"create", coroutine_create},   {"resume", coroutine_resume},
                                       {"running", coroutine_running}, {"status", coroutine_status},
                                       {"wrap", coroutine_wrap},       {"yield", coroutine_yield},
                                       {"isyieldable", isyieldable},   {NULL, NULL}};
  lua_createtable(L, 0, 8);
  luaL_setfuncs(L, functions, 0);
  lua_setglobal(L, "coroutine");
}
