/* SPDX-License-Identifier: MIT
 *
 * The sandbox: the functions of Lua that a policy gets. Functions that are not listed are removed;
 * some are replaced by versions with limits. io, package, debug and ffi are never opened. Neither
 * is jit, without which LuaJIT compiles nothing, except for trusted modules (jit = true), which
 * also get Lua's own string functions.
 */
#include <lualib.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "state.h"

static const char *const globals[] = {
    "_G",         "_VERSION", "assert", "bit",    "error",        "getmetatable",
    "ipairs",     "math",     "next",   "os",     "pairs",        "pcall",
    "rawequal",   "rawget",   "rawset", "select", "string",       "table",
    "tonumber",   "tostring", "type",   "unpack", "setmetatable", "xpcall",
    "loadstring", "load",     NULL};
static const char *const strings[] = {"byte",  "char",  "find", "format",  "gmatch", "gsub",  "len",
                                      "lower", "match", "rep",  "reverse", "sub",    "upper", NULL};
static const char *const times[] = {"clock", "date", "difftime", "time", NULL};

static bool sandbox_listed(const char *const *list, const char *name) {
  for (; *list; list++) {
    if (!strcmp(*list, name)) return true;
  }
  return false;
}

/* Removes every member of the table on top that is not listed. */
static void keep_only(lua_State *L, const char *const *list) {
  lua_pushnil(L);
  while (lua_next(L, -2)) {
    lua_pop(L, 1);
    if (lua_type(L, -1) == LUA_TSTRING && sandbox_listed(list, lua_tostring(L, -1))) continue;
    lua_pushvalue(L, -1);
    lua_pushnil(L);
    lua_rawset(L, -4); /* clearing a member during the traversal is allowed */
  }
}

static void open_library(lua_State *L, lua_CFunction open, const char *name) {
  lua_pushcfunction(L, open);
  lua_pushstring(L, name);
  lua_call(L, 1, 0);
}

/* Methods of strings come from a private copy: changes to the table `string` do not affect it, and
 * the metatable cannot be reached. */
static void freeze_strings(lua_State *L) {
  lua_getglobal(L, "string");
  lua_createtable(L, 0, 16);
  lua_pushnil(L);
  while (lua_next(L, -3)) {
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, -4);
  }
  lua_pushliteral(L, "");
  lua_getmetatable(L, -1);
  lua_pushvalue(L, -3);
  lua_setfield(L, -2, "__index");
  lua_pushliteral(L, "string");
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 4);
}

static int os_getenv(lua_State *L) {
  const segue__os *os = segue__lua_of(L)->os;
  lua_pushstring(L, os->getenv(os->data, luaL_checkstring(L, 1)));
  return 1;
}

static lua_Number seconds_now(lua_State *L) {
  const segue__lua *lua = segue__lua_of(L);
  return lua->loop ? floor((lua_Number)segue__loop_wall_ms(lua->loop) / 1000)
                   : (lua_Number)time(NULL);
}

/* The time is that of the loop: the simulated clock in a rehearsal. */
static int os_time(lua_State *L) {
  if (lua_isnoneornil(L, 1)) {
    lua_pushnumber(L, seconds_now(L));
    return 1;
  }
  lua_settop(L, 1);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, 1, 1);
  return 1;
}

/* strftime takes 180 ns for each byte, and no hook interrupts it. */
static int os_date(lua_State *L) {
  enum { FORMAT_MAX = 4096 };
  size_t len;
  const char *format = luaL_optlstring(L, 1, "%c", &len);
  if (len > FORMAT_MAX)
    return luaL_error(L, "os.date: the format is longer than %d bytes", FORMAT_MAX);
  lua_Number when = lua_isnoneornil(L, 2) ? seconds_now(L) : luaL_checknumber(L, 2);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushstring(L, format);
  lua_pushnumber(L, when);
  lua_call(L, 2, 1);
  return 1;
}

/* Replaces a function of the table on top by one that calls it. */
static void sandbox_wrap(lua_State *L, const char *name, lua_CFunction fn) {
  lua_getfield(L, -1, name);
  lua_pushcclosure(L, fn, 1);
  lua_setfield(L, -2, name);
}

/* print goes to the log. */
static int sandbox_print(lua_State *L) {
  segue__lua *lua = segue__lua_of(L);
  int n = lua_gettop(L);
  luaL_Buffer b;
  segue__lua_guard(L);
  luaL_buffinit(L, &b);
  for (int i = 1; i <= n; i++) {
    if (i > 1) luaL_addchar(&b, ' ');
    lua_getglobal(L, "tostring");
    lua_pushvalue(L, i);
    lua_call(L, 1, 1);
    if (lua_type(L, -1) != LUA_TSTRING)
      return luaL_error(L, "tostring must return a text to print");
    luaL_addvalue(&b);
  }
  luaL_pushresult(&b);
  SEGUE__LOG(lua->log, SEGUE_INFO, lua->owner ? lua->owner : "policy",
             segue__lua_log_text(L, lua_gettop(L)));
  return 0;
}

/* The handler of xpcall. When the time of a call is over, the hook raises an error, and LuaJIT runs
 * the handler while that hook is still active: nothing could interrupt the handler there. upvalue:
 * the handler that the caller passed. */
static int handle_error(lua_State *L) {
  lua_settop(L, 1);
  if (segue__lua_is_broken(segue__lua_of(L))) return 1;
  segue__lua_guard(L);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, 1, 1);
  return 1;
}

static int guard_handler(lua_State *L) {
  if (lua_type(L, 1) != LUA_TFUNCTION) {
    luaL_where(L, 2);
    lua_pushfstring(L, "bad argument #2 to 'xpcall' (function expected, got %s)",
                    luaL_typename(L, 1));
    lua_concat(L, 2);
    return lua_error(L);
  }
  lua_pushcclosure(L, handle_error, 1);
  return 1;
}

/* Written in Lua, because a task cannot wait in a function called through a C function. */
static void guard_xpcall(lua_State *L) {
  static const char text[] = "local xpcall, guard = ...\n"
                             "return function(f, handler, ...)\n"
                             "  return xpcall(f, guard(handler), ...)\n"
                             "end\n";
  if (luaL_loadbuffer(L, text, sizeof text - 1, "=xpcall")) lua_error(L);
  lua_getglobal(L, "xpcall");
  lua_pushcfunction(L, guard_handler);
  lua_call(L, 2, 1);
  lua_setglobal(L, "xpcall");
}

void segue__sandbox_open(lua_State *L) {
  open_library(L, luaopen_base, "");
  open_library(L, luaopen_table, LUA_TABLIBNAME);
  open_library(L, luaopen_string, LUA_STRLIBNAME);
  open_library(L, luaopen_math, LUA_MATHLIBNAME);
  open_library(L, luaopen_bit, LUA_BITLIBNAME);
  open_library(L, luaopen_os, LUA_OSLIBNAME);
  if (segue__lua_of(L)->jit) open_library(L, luaopen_jit, LUA_JITLIBNAME); /* enables compilation */
  lua_pushvalue(L, LUA_GLOBALSINDEX);
  keep_only(L, globals);
  lua_getfield(L, -1, "os");
  keep_only(L, times);
  lua_pushcfunction(L, os_getenv);
  lua_setfield(L, -2, "getenv");
  sandbox_wrap(L, "time", os_time);
  sandbox_wrap(L, "date", os_date);
  lua_pop(L, 1);
  lua_getfield(L, -1, "string");
  keep_only(L, strings);
  lua_pop(L, 2);
  if (!segue__lua_of(L)->jit) segue__string_open(L);
  guard_xpcall(L);
  lua_pushcfunction(L, sandbox_print);
  lua_setglobal(L, "print");
  freeze_strings(L);
}
