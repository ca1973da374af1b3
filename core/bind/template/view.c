/* SPDX-License-Identifier: MIT
 *
 * Views: the table is the environment of the userdata. LuaJIT ignores __pairs and __len of tables,
 * so an empty table with a metatable would not do; ordered.c has the functions on tables that know
 * views.
 */
#include "view.h"

#include "../runtime/lua_document.h"
#include "transfer.h"

enum { CHECK_BUDGET = 1024 };

static const char view_metatable[] = "segue.template.view";
static char meta_key; /* its address is a key in the registry */

static const char refusal[] = "config values cannot be changed: use segue.copy(v)";

/* ---- Reading --------------------------------------------------------------------------------- */

/* A struct raises an error for a field that it does not declare, by the metatable of its table. */
static int view_index(lua_State *L) {
  segue__view *view = lua_touserdata(L, 1);
  lua_settop(L, 2);
  lua_getfenv(L, 1);
  lua_pushvalue(L, 2);
  lua_gettable(L, 3);
  if (!lua_isnil(L, -1) || !view->fetch || lua_type(L, 2) != LUA_TSTRING) return 1;
  lua_settop(L, 2);
  view->fetch(L);
  lua_getfenv(L, 1);
  lua_pushvalue(L, 2);
  lua_pushvalue(L, -3);
  lua_rawset(L, -3);
  lua_pop(L, 1);
  return 1;
}

static int view_length(lua_State *L) {
  segue__view_content(L, 1);
  lua_pushnumber(L, (lua_Number)lua_objlen(L, -1));
  return 1;
}

/* The same table is the same view only as long as it is known by its number, so that views compare
 * by their content. */
static int view_equal(lua_State *L) {
  segue__lua_guard(L);
  luaL_checkstack(L, 12, "the data is nested too deeply");
  lua_settop(L, 2);
  segue__view_content(L, 1);
  segue__view_content(L, 2); /* 3 and 4 */
  long count = 0;
  bool equal = true;
  for (lua_pushnil(L); equal && lua_next(L, 3); lua_pop(L, 1), count++) {
    lua_pushvalue(L, -2);
    lua_rawget(L, 4);
    equal = lua_equal(L, -1, -2);
    lua_pop(L, 1);
    if (!equal) lua_pop(L, 1);
  }
  lua_settop(L, 4);
  for (lua_pushnil(L); equal && lua_next(L, 4); lua_pop(L, 1))
    count--;
  lua_pushboolean(L, equal && !count);
  return 1;
}

static int view_set(lua_State *L) {
  return luaL_error(L, refusal);
}

static int view_to_string(lua_State *L) {
  lua_pushliteral(L, "table");
  return 1;
}

segue__view *segue__view_wrap(lua_State *L) {
  segue__view *view = lua_newuserdata(L, sizeof *view);
  *view = (segue__view){0};
  lua_insert(L, -2);
  lua_setfenv(L, -2);
  lua_pushlightuserdata(L, &meta_key);
  lua_rawget(L, LUA_REGISTRYINDEX);
  lua_setmetatable(L, -2);
  return view;
}

segue__view *segue__view_test(lua_State *L, int index) {
  if (lua_type(L, index) != LUA_TUSERDATA || !lua_getmetatable(L, index)) return NULL;
  lua_pushlightuserdata(L, &meta_key);
  lua_rawget(L, LUA_REGISTRYINDEX);
  bool same = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return same ? lua_touserdata(L, index) : NULL;
}

void segue__view_content(lua_State *L, int index) {
  segue__view *view = segue__view_test(L, index);
  if (view && view->fetch) {
    lua_pushcfunction(L, view->fetch);
    lua_pushvalue(L, index);
    lua_call(L, 1, 1);
    lua_getfenv(L, -1);
    lua_setfenv(L, index);
    lua_pop(L, 1);
    view->fetch = NULL;
  }
  if (view)
    lua_getfenv(L, index);
  else
    lua_pushvalue(L, index);
}

void segue__view_refuse(lua_State *L, int index) {
  if (segue__view_test(L, index)) luaL_error(L, refusal);
}

/* ---- The table segue ------------------------------------------------------------------------- */

static void view_copy(lua_State *L, int index, unsigned depth, unsigned *count);

/* A list stays a list, also an empty one, and a struct keeps its fields. Metatables of the code
 * itself are not copied, as segue.copy of policies does not. */
static void copy_table(lua_State *L, int index, unsigned depth, unsigned *count) {
  luaL_checkstack(L, 8, "segue.copy: the value is nested too deeply");
  if (depth > SEGUE__LUA_DEPTH_MAX)
    luaL_error(L, "segue.copy: the value is nested too deeply, or contains itself");
  segue__view_content(L, index);
  int from = lua_gettop(L), to = from + 1;
  lua_createtable(L, (int)lua_objlen(L, from), 0);
  for (lua_pushnil(L); lua_next(L, from); lua_pop(L, 1)) {
    lua_pushvalue(L, -2);
    view_copy(L, lua_gettop(L) - 1, depth + 1, count);
    lua_rawset(L, to);
  }
  if (segue__list_test(L, from))
    segue__list_mark(L, to);
  else
    segue__transfer_copy_type(L, from, to);
  lua_remove(L, from);
}

static void view_copy(lua_State *L, int index, unsigned depth, unsigned *count) {
  if (!(++*count & (CHECK_BUDGET - 1)) && segue__budget_is_spent(segue__lua_of(L)->budget))
    segue__budget_raise(L);
  if (lua_istable(L, index) || segue__view_test(L, index))
    copy_table(L, index, depth, count);
  else
    lua_pushvalue(L, index);
}

/* copy(v): an ordinary table with the same content, all the way down. */
static int segue_copy(lua_State *L) {
  unsigned count = 0;
  luaL_checkany(L, 1);
  view_copy(L, 1, 1, &count);
  return 1;
}

/* array(t): marks a list, so that an empty one is not taken for a map. */
static int segue_array(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  segue__list_mark(L, 1);
  return 1;
}

void segue__view_open(lua_State *L) {
  static const luaL_Reg methods[] = {{"__index", view_index},        {"__len", view_length},
                                     {"__eq", view_equal},           {"__newindex", view_set},
                                     {"__tostring", view_to_string}, {NULL, NULL}},
                        functions[] = {{"copy", segue_copy}, {"array", segue_array}, {NULL, NULL}};
  lua_pushlightuserdata(L, &meta_key);
  luaL_newmetatable(L, view_metatable);
  luaL_setfuncs(L, methods, 0);
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_rawset(L, LUA_REGISTRYINDEX);
  lua_createtable(L, 0, 3);
  luaL_setfuncs(L, functions, 0);
  segue__value_push_null(L);
  lua_setfield(L, -2, "null");
  lua_setglobal(L, "segue");
}
