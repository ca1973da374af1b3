/* SPDX-License-Identifier: MIT
 *
 * pairs, next, tostring, string.format and others for Lua code of templates. A file is written and
 * applied where its bytes have changed, and Lua's order of keys and the addresses in its names of
 * tables differ from process to process. So keys come in one order: numbers, then texts by their
 * bytes, then false and true; and a table has no address.
 */
#include "ordered.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "../../os/text.h"
#include "view.h"

enum { CHECK_BUDGET = 1024 };

/* ---- Keys in order --------------------------------------------------------------------------- */

typedef struct ordered_key {
  const char *text; /* of a text */
  size_t len;
  double number; /* of a number; a boolean is 0 or 1 */
  int type;      /* LUA_TNUMBER, LUA_TSTRING, LUA_TBOOLEAN, or another one, which has no order */
  int at;        /* in the list of keys */
} ordered_key;

static int key_rank(const ordered_key *key) {
  return key->type == LUA_TNUMBER    ? 0
         : key->type == LUA_TSTRING  ? 1
         : key->type == LUA_TBOOLEAN ? 2
                                     : 3;
}

static int key_compare(const void *a, const void *b) {
  const ordered_key *x = a, *y = b;
  int rank = key_rank(x) - key_rank(y);
  if (rank) return rank;
  if (!x->text) return (x->number > y->number) - (x->number < y->number);
  assert(y->text); /* a key of the same rank is a text too */
  int order = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
  return order ? order : (x->len > y->len) - (x->len < y->len);
}

/* The key at index; its text is borrowed. */
static ordered_key key_of(lua_State *L, int index) {
  ordered_key key = {.type = lua_type(L, index)};
  if (key.type == LUA_TNUMBER) key.number = lua_tonumber(L, index);
  if (key.type == LUA_TBOOLEAN) key.number = lua_toboolean(L, index);
  if (key.type == LUA_TSTRING) key.text = lua_tolstring(L, index, &key.len);
  return key;
}

static void check_budget(lua_State *L, int count) {
  if (!(count & (CHECK_BUDGET - 1)) && segue__budget_is_spent(segue__lua_of(L)->budget))
    segue__budget_raise(L);
}

/* One key that is a table or a function has a place, several have none. */
static void refuse_disorder(lua_State *L, const ordered_key *key, int *others) {
  if (key_rank(key) == 3 && ++*others > 1)
    luaL_error(L,
               "the keys of the table have no order that is the same in each process: two of them "
               "are neither numbers, texts nor booleans");
}

/* Pushes the list of the keys of the table at index, in order. The texts are borrowed from the
 * table, whose keys stay alive meanwhile. */
static void push_keys(lua_State *L, int index) {
  int count = 0, others = 0;
  lua_newtable(L);
  int list = lua_gettop(L);
  for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
    lua_pushvalue(L, -2);
    lua_rawseti(L, list, ++count);
    check_budget(L, count);
  }
  ordered_key *keys = lua_newuserdata(L, (size_t)(count + 1) * sizeof *keys);
  for (int i = 0; i < count; i++) {
    lua_rawgeti(L, list, i + 1);
    keys[i] = key_of(L, -1);
    keys[i].at = i;
    refuse_disorder(L, &keys[i], &others);
    lua_pop(L, 1);
  }
  qsort(keys, (size_t)count, sizeof *keys, key_compare);
  lua_createtable(L, count, 0);
  for (int i = 0; i < count; i++) {
    lua_rawgeti(L, list, keys[i].at + 1);
    lua_rawseti(L, -2, i + 1);
  }
  lua_replace(L, list);
  lua_settop(L, list);
}

/* Pushes the first key at or behind position `at` of the list of keys whose member is still there,
 * and its value; a loop may remove members. Returns its position; 0, and nothing pushed: none. */
static int push_next(lua_State *L, int list, int table, int at) {
  for (;; at++) {
    lua_rawgeti(L, list, at);
    if (lua_isnil(L, -1)) break;
    lua_pushvalue(L, -1);
    lua_rawget(L, table);
    if (!lua_isnil(L, -1)) return at;
    lua_pop(L, 2);
    check_budget(L, at);
  }
  lua_pop(L, 1);
  return 0;
}

/* ---- pairs, ipairs, foreach ------------------------------------------------------------------ */

/* upvalues: the keys in order, the position of the last one, the table */
static int pairs_step(lua_State *L) {
  lua_settop(L, 0);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushvalue(L, lua_upvalueindex(3));
  int at = push_next(L, 1, 2, (int)lua_tointeger(L, lua_upvalueindex(2)) + 1);
  if (!at) return 0;
  lua_pushinteger(L, at);
  lua_replace(L, lua_upvalueindex(2));
  return 2;
}

/* Replaces a view at index 1 by its table. Raises if the value is neither. */
static void take_table(lua_State *L) {
  if (!lua_istable(L, 1) && !segue__view_test(L, 1)) luaL_checktype(L, 1, LUA_TTABLE);
  segue__view_content(L, 1);
  lua_replace(L, 1);
}

/* The loop gets the table or view that was given, never the table of a view. */
static int ordered_pairs(lua_State *L) {
  lua_settop(L, 1);
  lua_pushvalue(L, 1);
  take_table(L);
  push_keys(L, 1);
  lua_pushinteger(L, 0);
  lua_pushvalue(L, 1);
  lua_pushcclosure(L, pairs_step, 3);
  lua_pushvalue(L, 2);
  lua_pushnil(L);
  return 3;
}

/* upvalue: the table */
static int items_step(lua_State *L) {
  int at = (int)luaL_checknumber(L, 2) + 1;
  lua_pushinteger(L, at);
  lua_rawgeti(L, lua_upvalueindex(1), at);
  return lua_isnil(L, -1) ? 0 : 2;
}

/* Calls the function of the sandbox, the upvalue. */
static int call_original(lua_State *L) {
  segue__lua_guard(L);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
  return lua_gettop(L);
}

static int ordered_ipairs(lua_State *L) {
  if (!segue__view_test(L, 1)) return call_original(L);
  lua_settop(L, 1);
  segue__view_content(L, 1);
  lua_pushcclosure(L, items_step, 1);
  lua_pushvalue(L, 1);
  lua_pushinteger(L, 0);
  return 3;
}

static int ordered_foreach(lua_State *L) {
  segue__lua_guard(L);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_settop(L, 2);
  take_table(L);
  push_keys(L, 1);
  for (int at = 0; (at = push_next(L, 3, 1, at + 1)); lua_settop(L, 3)) {
    lua_pushvalue(L, 2);
    lua_insert(L, -3);
    lua_call(L, 2, 1);
    if (!lua_isnil(L, -1)) return 1;
  }
  return 0;
}

/* ---- next ------------------------------------------------------------------------------------ */

/* In the registry, weak: table -> its keys in order, with the position of the last one at 0. A
 * traversal by next sorts once. */
static const char orders_key[] = "segue.template.orders";

/* The first member, without an order: code asks by next(t) == nil whether a table is empty. */
static int next_first(lua_State *L) {
  ordered_key best = {0};
  int count = 0, others = 0;
  lua_settop(L, 1);
  lua_pushnil(L); /* 2: the first key */
  for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
    ordered_key key = key_of(L, 3);
    check_budget(L, ++count);
    refuse_disorder(L, &key, &others);
    if (count > 1 && key_compare(&key, &best) > 0) continue;
    best = key;
    lua_pushvalue(L, 3);
    lua_replace(L, 2);
  }
  if (!count) return 1;
  lua_pushvalue(L, 2);
  lua_rawget(L, 1);
  return 2;
}

/* Returns the position of the last key at or before that at index 2, which may be removed. */
static int next_search(lua_State *L, int list) {
  ordered_key key = key_of(L, 2);
  int low = 0, high = (int)lua_objlen(L, list) + 1;
  while (high - low > 1) {
    int middle = low + (high - low) / 2;
    lua_rawgeti(L, list, middle);
    ordered_key other = key_of(L, -1);
    lua_pop(L, 1);
    if (key_compare(&other, &key) <= 0)
      low = middle;
    else
      high = middle;
  }
  return low;
}

static int ordered_next(lua_State *L) {
  lua_settop(L, 2);
  take_table(L);
  lua_getfield(L, LUA_REGISTRYINDEX, orders_key);
  lua_pushvalue(L, 1);
  if (lua_isnil(L, 2)) { /* a new traversal, of a table that may have changed */
    lua_pushnil(L);
    lua_rawset(L, 3);
    return next_first(L);
  }
  lua_rawget(L, 3);
  if (lua_isnil(L, 4)) {
    lua_settop(L, 3);
    push_keys(L, 1);
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 4);
    lua_rawset(L, 3);
  }
  lua_rawgeti(L, 4, 0); /* 5: the position of the last key */
  int at = (int)lua_tointeger(L, 5);
  lua_rawgeti(L, 4, at);
  if (!at || !lua_rawequal(L, -1, 2)) at = next_search(L, 4);
  lua_settop(L, 4);
  at = push_next(L, 4, 1, at + 1);
  if (!at) return lua_pushnil(L), 1;
  lua_pushinteger(L, at);
  lua_rawseti(L, 4, 0);
  return 2;
}

/* ---- Functions that know views --------------------------------------------------------------- */

static int ordered_type(lua_State *L) {
  if (!segue__view_test(L, 1)) return call_original(L);
  lua_pushliteral(L, "table");
  return 1;
}

static int ordered_getmetatable(lua_State *L) {
  if (!segue__view_test(L, 1)) return call_original(L);
  lua_pushnil(L);
  return 1;
}

/* Functions that read their first argument. */
static int read_table(lua_State *L) {
  if (segue__view_test(L, 1)) take_table(L);
  return call_original(L);
}

/* Functions that change it. */
static int change_table(lua_State *L) {
  segue__view_refuse(L, 1);
  return call_original(L);
}

/* move(from, first, last, at [, to]) */
static int ordered_move(lua_State *L) {
  segue__view_refuse(L, lua_isnoneornil(L, 5) ? 1 : 5);
  return read_table(L);
}

/* gsub(text, pattern, replacement [, limit]) */
static int ordered_gsub(lua_State *L) {
  if (segue__view_test(L, 3)) {
    segue__view_content(L, 3);
    lua_replace(L, 3);
  }
  return call_original(L);
}

/* ---- Texts of values ------------------------------------------------------------------------- */

/* Whether Lua's text of the value has its address. */
static bool has_address(lua_State *L, int index) {
  int type = lua_type(L, index);
  if (type != LUA_TTABLE && type != LUA_TFUNCTION && type != LUA_TTHREAD) return false;
  bool has_text = luaL_getmetafield(L, index, "__tostring");
  if (has_text) lua_pop(L, 1);
  return !has_text;
}

static int ordered_tostring(lua_State *L) {
  luaL_checkany(L, 1);
  lua_settop(L, 1);
  if (!has_address(L, 1)) return call_original(L);
  lua_pushstring(L, luaL_typename(L, 1));
  return 1;
}

/* Returns the letter of the conversion behind a "%", and sets *at behind it; 0: the text ends. */
static char format_letter(const char **at, const char *end) {
  while (*at < end && segue__is_one_of(**at, "-+ #0123456789."))
    ++*at;
  return *at < end ? *(*at)++ : 0;
}

static int ordered_format(lua_State *L) {
  size_t len;
  const char *at = luaL_checklstring(L, 1, &len), *end = at + len;
  for (int arg = 2; (at = memchr(at, '%', (size_t)(end - at)));) {
    at++;
    char letter = format_letter(&at, end);
    if (letter == 'p')
      return luaL_error(L, "string.format: %%p is an address, which differs in each process");
    if (letter == 's' && has_address(L, arg)) {
      lua_pushstring(L, luaL_typename(L, arg));
      lua_replace(L, arg);
    }
    if (letter != '%') arg++;
  }
  return call_original(L);
}

/* ---- Opening --------------------------------------------------------------------------------- */

/* Replaces member `name` of the table on top. upvalue: the function that was there. */
static void replace(lua_State *L, const char *name, lua_CFunction fn) {
  lua_getfield(L, -1, name);
  lua_pushcclosure(L, fn, 1);
  lua_setfield(L, -2, name);
}

static void replace_all(lua_State *L, const luaL_Reg *functions) {
  for (; functions->name; functions++)
    replace(L, functions->name, functions->func);
  lua_pop(L, 1);
}

void segue__ordered_open(lua_State *L) {
  static const luaL_Reg globals[] = {{"pairs", ordered_pairs},
                                     {"ipairs", ordered_ipairs},
                                     {"next", ordered_next},
                                     {"tostring", ordered_tostring},
                                     {"type", ordered_type},
                                     {"getmetatable", ordered_getmetatable},
                                     {"rawget", read_table},
                                     {"unpack", read_table},
                                     {"rawset", change_table},
                                     {"setmetatable", change_table},
                                     {NULL, NULL}},
                        tables[] = {{"foreach", ordered_foreach}, {"foreachi", read_table},
                                    {"concat", read_table},       {"getn", read_table},
                                    {"maxn", read_table},         {"insert", change_table},
                                    {"remove", change_table},     {"sort", change_table},
                                    {"move", ordered_move},       {NULL, NULL}},
                        strings[] = {
                            {"format", ordered_format}, {"gsub", ordered_gsub}, {NULL, NULL}};
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_setfield(L, LUA_REGISTRYINDEX, orders_key);
  lua_pushvalue(L, LUA_GLOBALSINDEX);
  replace_all(L, globals);
  lua_getglobal(L, "table");
  replace_all(L, tables);
  lua_getglobal(L, "string");
  replace_all(L, strings);
  /* Methods of texts are those of a table of their own, see the sandbox. */
  lua_pushliteral(L, "");
  luaL_getmetafield(L, -1, "__index");
  replace_all(L, strings);
  lua_pop(L, 1);
}
