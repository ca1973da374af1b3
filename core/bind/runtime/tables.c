/* SPDX-License-Identifier: MIT
 *
 * Replacements of Lua's functions on tables that also accept configuration values: type, pairs,
 * ipairs, next, rawget, unpack, getmetatable and table.*. Changing a configuration value is an
 * error. Other arguments are passed to Lua's own function, the upvalue.
 */
#include <math.h>

#include "value.h"

enum {
  UNPACK_MAX = 7000, /* limit of the stack of a C function */
  MOVE_MAX = 1 << 20 /* no hook interrupts a loop in C */
};

static int tables_original(lua_State *L) {
  segue__lua_guard(L);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
  return lua_gettop(L);
}

static int tables_type(lua_State *L) {
  luaL_checkany(L, 1);
  if (segue__value_test(L, 1))
    lua_pushliteral(L, "table");
  else
    lua_pushstring(L, luaL_typename(L, 1));
  return 1;
}

static int tables_next(lua_State *L) {
  lua_settop(L, 2);
  segue__value *value = segue__value_test(L, 1);
  if (value) return segue__value_next(L, value, 2);
  luaL_checktype(L, 1, LUA_TTABLE);
  if (lua_next(L, 1)) return 2;
  lua_pushnil(L);
  return 1;
}

/* upvalues: Lua's pairs, our next. Our userdata may have a __pairs. */
static int tables_pairs(lua_State *L) {
  if (lua_type(L, 1) == LUA_TUSERDATA && luaL_getmetafield(L, 1, "__pairs")) {
    lua_pushvalue(L, 1);
    lua_call(L, 1, 3);
    return 3;
  }
  if (!segue__value_test(L, 1)) return tables_original(L);
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_pushvalue(L, 1);
  lua_pushnil(L);
  return 3;
}

static int next_in_list(lua_State *L) {
  segue__value *value = segue__value_test(L, 1);
  size_t i = (size_t)luaL_checknumber(L, 2);
  if (!value || value->node->type != SEGUE_LIST || i >= value->node->count) return 0;
  lua_pushnumber(L, (lua_Number)i + 1);
  segue__value_push_item(L, value, i);
  return 2;
}

/* upvalues: Lua's ipairs, next_in_list */
static int tables_ipairs(lua_State *L) {
  if (!segue__value_test(L, 1)) return tables_original(L);
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_pushvalue(L, 1);
  lua_pushnumber(L, 0);
  return 3;
}

static int tables_rawget(lua_State *L) {
  if (!segue__value_test(L, 1)) return tables_original(L);
  lua_settop(L, 2);
  lua_gettable(L, 1);
  return 1;
}

static int getmetatable(lua_State *L) {
  if (!segue__value_test(L, 1)) return tables_original(L);
  lua_pushnil(L);
  return 1;
}

static int tables_refuse(lua_State *L) {
  for (int i = 1; i <= lua_gettop(L); i++) {
    if (segue__value_test(L, i))
      return luaL_error(L, "config values cannot be changed: use segue.copy(v)");
  }
  return tables_original(L);
}

/* Reads bounds from arguments at and at+1; the default is the whole list. Returns the count and
 * stores the first index. */
static int tables_bounds(lua_State *L, const segue__value *value, int at, lua_Number *first) {
  lua_Number count = value->node->type == SEGUE_LIST ? value->node->count : 0;
  *first = luaL_optnumber(L, at, 1);
  lua_Number last = luaL_optnumber(L, at + 1, count);
  if (last - *first >= INT32_MAX) luaL_error(L, "too many items");
  return last >= *first ? (int)(last - *first) + 1 : 0;
}

static int tables_unpack(lua_State *L) {
  segue__value *value = segue__value_test(L, 1);
  if (!value) return tables_original(L);
  lua_Number first;
  int n = tables_bounds(L, value, 2, &first);
  if (n > UNPACK_MAX || !lua_checkstack(L, n + 1))
    return luaL_error(L, "too many results to unpack");
  for (int i = 0; i < n; i++) {
    lua_pushnumber(L, first + i);
    lua_gettable(L, 1);
  }
  return n;
}

/* Pushes the text of item `index`. */
static void push_item_text(lua_State *L, lua_Number index) {
  segue__wide wide;
  lua_pushnumber(L, index);
  lua_gettable(L, 1);
  if (segue__int_test(L, -1, &wide)) {
    luaL_callmeta(L, -1, "__tostring");
    lua_remove(L, -2);
  }
  if (!lua_isstring(L, -1))
    luaL_error(L, "invalid value (%s) at index %d in table for 'concat'", luaL_typename(L, -1),
               (int)index);
}

static int tables_concat(lua_State *L) {
  segue__value *value = segue__value_test(L, 1);
  if (!value) return tables_original(L);
  size_t gap_len;
  const char *gap = luaL_optlstring(L, 2, "", &gap_len);
  lua_Number first;
  int n = tables_bounds(L, value, 3, &first);
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (int i = 0; i < n; i++) {
    if (i) luaL_addlstring(&b, gap, gap_len);
    push_item_text(L, first + i);
    luaL_addvalue(&b);
  }
  luaL_pushresult(&b);
  return 1;
}

static int tables_getn(lua_State *L) {
  segue__value *value = segue__value_test(L, 1);
  if (!value) return tables_original(L);
  lua_pushnumber(L, value->node->type == SEGUE_LIST ? value->node->count : 0);
  return 1;
}

/* foreach(t, f), foreachi(t, f) */
static int tables_foreach(lua_State *L) {
  segue__value *value = segue__value_test(L, 1);
  if (!value) return tables_original(L);
  segue__lua_guard(L);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_settop(L, 2);
  lua_pushnil(L);
  while (segue__value_next(L, value, 3) == 2) { /* f key value -> 4: key, 5: value */
    lua_pushvalue(L, 2);
    lua_pushvalue(L, 4);
    lua_pushvalue(L, 5);
    lua_call(L, 2, 1);
    if (!lua_isnil(L, -1)) return 1;
    lua_pushvalue(L, 4);
    lua_replace(L, 3);
    lua_settop(L, 3);
  }
  return 0;
}

/* move(a, f, e, t [, b]): from a configuration value into a table */
static int tables_move(lua_State *L) {
  segue__value *value = segue__value_test(L, 1);
  if (!value) return tables_refuse(L);
  lua_Number f = luaL_checknumber(L, 2), e = luaL_checknumber(L, 3), t = luaL_checknumber(L, 4);
  luaL_checktype(L, 5, LUA_TTABLE);
  if (e - f >= MOVE_MAX) return luaL_error(L, "too many elements to move");
  int n = e >= f ? (int)(e - f) + 1 : 0;
  for (int i = 0; i < n; i++) {
    lua_pushnumber(L, t + i);
    lua_pushnumber(L, f + i);
    lua_gettable(L, 1);
    lua_settable(L, 5);
  }
  lua_settop(L, 5);
  return 1;
}

/* Replaces member `name` of the table on top by fn with its old value as upvalue. */
static void tables_replace(lua_State *L, const char *name, lua_CFunction fn) {
  lua_getfield(L, -1, name);
  lua_pushcclosure(L, fn, 1);
  lua_setfield(L, -2, name);
}

static void replace_iterator(lua_State *L, const char *name, lua_CFunction fn,
                             lua_CFunction iterator) {
  lua_getfield(L, -1, name);
  lua_pushcfunction(L, iterator);
  lua_pushcclosure(L, fn, 2);
  lua_setfield(L, -2, name);
}

void segue__tables_open(lua_State *L) {
  static const struct {
    const char *name;
    lua_CFunction fn;
  } in_globals[] = {{"type", tables_type},           {"next", tables_next},
                    {"rawget", tables_rawget},       {"rawset", tables_refuse},
                    {"setmetatable", tables_refuse}, {"getmetatable", getmetatable},
                    {"unpack", tables_unpack}},
    in_table[] = {
        {"concat", tables_concat},    {"insert", tables_refuse}, {"remove", tables_refuse},
        {"sort", tables_refuse},      {"getn", tables_getn},     {"foreach", tables_foreach},
        {"foreachi", tables_foreach}, {"maxn", tables_getn},     {"move", tables_move}};
  lua_pushvalue(L, LUA_GLOBALSINDEX);
  replace_iterator(L, "pairs", tables_pairs, tables_next);
  replace_iterator(L, "ipairs", tables_ipairs, next_in_list);
  for (size_t i = 0; i < sizeof in_globals / sizeof *in_globals; i++)
    tables_replace(L, in_globals[i].name, in_globals[i].fn);
  lua_getfield(L, -1, "table");
  for (size_t i = 0; i < sizeof in_table / sizeof *in_table; i++)
    tables_replace(L, in_table[i].name, in_table[i].fn);
  lua_pop(L, 2);
}
