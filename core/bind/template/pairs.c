/* SPDX-License-Identifier: MIT
 *
 * pairs and tostring for Lua code of templates. A file is written and applied where its bytes have
 * changed, and Lua's order of keys and the addresses in its names of tables differ from process to
 * process. So pairs visits numbers first, in their order, then texts by their bytes, then all other
 * keys; and a table has no address.
 */
#include "pairs.h"

#include <stdlib.h>
#include <string.h>

typedef struct pairs_key {
  const char *text; /* NULL: a number, or neither */
  size_t len;
  double number;
  int at; /* in the list of keys */
  bool is_number;
} pairs_key;

static int pairs_rank(const pairs_key *key) {
  return key->is_number ? 0 : key->text ? 1 : 2;
}

static int pairs_compare(const void *a, const void *b) {
  const pairs_key *x = a, *y = b;
  int rank = pairs_rank(x) - pairs_rank(y);
  if (rank) return rank;
  if (x->is_number) return (x->number > y->number) - (x->number < y->number);
  if (!x->text) return x->at - y->at;
  int order = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
  return order ? order : (x->len > y->len) - (x->len < y->len);
}

/* upvalues: the keys in order, how many were visited */
static int pairs_step(lua_State *L) {
  lua_Integer at = lua_tointeger(L, lua_upvalueindex(2));
  lua_settop(L, 1);
  for (;;) {
    lua_rawgeti(L, lua_upvalueindex(1), (int)++at);
    if (lua_isnil(L, 2)) return 1;
    lua_pushvalue(L, 2);
    lua_rawget(L, 1);
    if (!lua_isnil(L, 3)) break; /* else the loop has removed it */
    lua_settop(L, 1);
  }
  lua_pushinteger(L, at);
  lua_replace(L, lua_upvalueindex(2));
  return 2;
}

/* Pushes the list of the keys of the table at index 1, in order. The texts are borrowed from the
 * table, whose keys stay alive meanwhile. */
static void pairs_push_keys(lua_State *L) {
  int count = 0;
  lua_newtable(L);
  for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
    lua_pushvalue(L, -2);
    lua_rawseti(L, 2, ++count);
  }
  pairs_key *keys = lua_newuserdata(L, (size_t)(count + 1) * sizeof *keys);
  for (int i = 0; i < count; i++) {
    keys[i] = (pairs_key){.at = i};
    lua_rawgeti(L, 2, i + 1);
    keys[i].is_number = lua_type(L, -1) == LUA_TNUMBER;
    if (keys[i].is_number) keys[i].number = lua_tonumber(L, -1);
    if (lua_type(L, -1) == LUA_TSTRING) keys[i].text = lua_tolstring(L, -1, &keys[i].len);
    lua_pop(L, 1);
  }
  qsort(keys, (size_t)count, sizeof *keys, pairs_compare);
  lua_createtable(L, count, 0);
  for (int i = 0; i < count; i++) {
    lua_rawgeti(L, 2, keys[i].at + 1);
    lua_rawseti(L, -2, i + 1);
  }
}

int segue__sorted_pairs(lua_State *L) {
  lua_settop(L, 1);
  pairs_push_keys(L);
  lua_pushinteger(L, 0);
  lua_pushcclosure(L, pairs_step, 2);
  lua_pushvalue(L, 1);
  lua_pushnil(L);
  return 3;
}

/* upvalue: the pairs of the sandbox, for configuration values */
static int template_pairs(lua_State *L) {
  if (lua_type(L, 1) == LUA_TTABLE) return segue__sorted_pairs(L);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, 3);
  return 3;
}

/* upvalue: the tostring of the sandbox */
static int template_tostring(lua_State *L) {
  luaL_checkany(L, 1);
  int type = lua_type(L, 1);
  bool has_address = type == LUA_TTABLE || type == LUA_TFUNCTION || type == LUA_TTHREAD;
  if (has_address && !luaL_getmetafield(L, 1, "__tostring")) {
    lua_pushstring(L, lua_typename(L, type));
    return 1;
  }
  lua_settop(L, 1);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, 1, 1);
  return 1;
}

void segue__pairs_open(lua_State *L) {
  lua_getglobal(L, "pairs");
  lua_pushcclosure(L, template_pairs, 1);
  lua_setglobal(L, "pairs");
  lua_getglobal(L, "tostring");
  lua_pushcclosure(L, template_tostring, 1);
  lua_setglobal(L, "tostring");
}
