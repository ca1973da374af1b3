/* SPDX-License-Identifier: MIT
 *
 * Configuration values. LuaJIT ignores __pairs and __len of tables, so lists and maps are userdata,
 * and the replacements in tables.c know them. Child values are created when they are read, and
 * once: as long as a value is in use, reading it again returns the same one.
 */
#include "value.h"

#include <math.h>
#include <string.h>

static const char metatable[] = "segue.config";
static char cache_key, null_key, meta_key;

static int index_value(lua_State *L);

static int value_collect(lua_State *L) {
  segue__value *value = lua_touserdata(L, 1);
  segue_snapshot_unref(value->snapshot);
  value->snapshot = NULL;
  return 0;
}

static int value_length(lua_State *L) {
  segue__value *value = luaL_checkudata(L, 1, metatable);
  lua_pushnumber(L, value->node->type == SEGUE_LIST ? value->node->count : 0);
  return 1;
}

static int value_equal(lua_State *L) {
  segue__value *a = segue__value_test(L, 1), *b = segue__value_test(L, 2);
  lua_pushboolean(L, a && b && segue__node_equal(a->node, b->node));
  return 1;
}

static int value_refuse_write(lua_State *L) {
  return luaL_error(L, "config values cannot be changed: use segue.copy(v)");
}

static int value_to_string(lua_State *L) {
  segue__value *value = luaL_checkudata(L, 1, metatable);
  const char *source, *file = NULL;
  uint32_t line = 0, column = 0;
  if (segue_node_origin(value->snapshot, value->node, &source, &file, &line, &column)) file = NULL;
  lua_pushfstring(L, "config %s of %d (%s:%d:%d)", segue_type_name(value->node->type),
                  (int)value->node->count, file ? file : "merged", (int)line, (int)column);
  return 1;
}

static void registry_set(lua_State *L, void *key) { /* pops the value */
  lua_pushlightuserdata(L, key);
  lua_insert(L, -2);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

static void registry_get(lua_State *L, void *key) {
  lua_pushlightuserdata(L, key);
  lua_rawget(L, LUA_REGISTRYINDEX);
}

static int null_to_string(lua_State *L) {
  lua_pushliteral(L, "null");
  return 1;
}

void segue__value_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"__index", index_value},
                                       {"__len", value_length},
                                       {"__eq", value_equal},
                                       {"__newindex", value_refuse_write},
                                       {"__gc", value_collect},
                                       {"__tostring", value_to_string},
                                       {NULL, NULL}};
  luaL_newmetatable(L, metatable);
  luaL_setfuncs(L, functions, 0);
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  registry_set(L, &meta_key);
  lua_newtable(L); /* the cache: nodes -> values, weak */
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "v");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  registry_set(L, &cache_key);
  lua_newuserdata(L, 1);
  lua_createtable(L, 0, 2);
  lua_pushcfunction(L, null_to_string);
  lua_setfield(L, -2, "__tostring");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_setmetatable(L, -2);
  registry_set(L, &null_key);
  segue__int_open(L);
}

void segue__value_push_null(lua_State *L) {
  registry_get(L, &null_key);
}

bool segue__value_is_null(lua_State *L, int index) {
  if (lua_type(L, index) != LUA_TUSERDATA) return false;
  const void *p = lua_touserdata(L, index);
  registry_get(L, &null_key);
  bool same = lua_touserdata(L, -1) == p;
  lua_pop(L, 1);
  return same;
}

segue__value *segue__value_test(lua_State *L, int index) {
  if (lua_type(L, index) != LUA_TUSERDATA || !lua_getmetatable(L, index)) return NULL;
  registry_get(L, &meta_key);
  bool same = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return same ? lua_touserdata(L, index) : NULL;
}

/* The cache has weak values, so it keeps no value alive. The metatable with the finalizer is set
 * before the reference is taken: an error of Lua after that (a longjmp) loses no reference. */
static void push_container(lua_State *L, const segue_snapshot *snapshot, const segue_node *node) {
  registry_get(L, &cache_key);
  lua_pushlightuserdata(L, (void *)node);
  lua_rawget(L, -2);
  if (!lua_isnil(L, -1)) {
    lua_remove(L, -2);
    return;
  }
  lua_pop(L, 1);
  segue__value *value = lua_newuserdata(L, sizeof *value);
  value->snapshot = NULL;
  value->node = node;
  registry_get(L, &meta_key);
  lua_setmetatable(L, -2);
  value->snapshot = segue_snapshot_ref(snapshot);
  lua_pushlightuserdata(L, (void *)node);
  lua_pushvalue(L, -2);
  lua_rawset(L, -4);
  lua_remove(L, -2);
}

void segue__value_push(lua_State *L, const segue_snapshot *snapshot, const segue_node *node) {
  switch (node ? node->type : SEGUE_NULL) {
  case SEGUE_BOOL:
    lua_pushboolean(L, node->v.b);
    break;
  case SEGUE_INT:
    segue__int_push(L, node->flags & SEGUE__NODE_UNSIGNED ? (segue__wide)node->v.u
                                                          : (segue__wide)node->v.i);
    break;
  case SEGUE_FLOAT:
    lua_pushnumber(L, node->v.f);
    break;
  case SEGUE_STRING:
    lua_pushlstring(L, node->v.s, node->count);
    break;
  case SEGUE_LIST:
  case SEGUE_MAP:
    push_container(L, snapshot, node);
    break;
  default:
    lua_pushnil(L);
  }
}

void segue__value_push_item(lua_State *L, const segue__value *value, size_t i) {
  const segue_node *item = &value->node->v.items[i];
  if (item->type == SEGUE_NULL)
    segue__value_push_null(L);
  else
    segue__value_push(L, value->snapshot, item);
}

/* Returns the 0-based position for a Lua number, or -1 if it is not a position of the list. */
static int64_t value_position(lua_State *L, const segue_node *list, int key) {
  lua_Number n = lua_tonumber(L, key);
  return n >= 1 && n <= list->count && n == floor(n) ? (int64_t)n - 1 : -1;
}

const segue_node *segue__value_find(lua_State *L, const segue__value *value, int key) {
  const segue_node *node = value->node;
  if (node->type == SEGUE_LIST) {
    int64_t at = lua_type(L, key) == LUA_TNUMBER ? value_position(L, node, key) : -1;
    return at < 0 ? NULL : &node->v.items[at];
  }
  if (lua_type(L, key) != LUA_TSTRING) return NULL;
  size_t len;
  const char *text = lua_tolstring(L, key, &len);
  return strlen(text) == len ? segue_node_member(node, text) : NULL;
}

static int index_value(lua_State *L) {
  segue__value *value = luaL_checkudata(L, 1, metatable);
  const segue_node *child = segue__value_find(L, value, 2);
  if (child && child->type == SEGUE_NULL && value->node->type == SEGUE_LIST)
    segue__value_push_null(L);
  else
    segue__value_push(L, value->snapshot, child);
  return 1;
}

static int value_next_item(lua_State *L, const segue__value *value, int key) {
  size_t i = 0;
  if (!lua_isnil(L, key)) {
    int64_t at = lua_type(L, key) == LUA_TNUMBER ? value_position(L, value->node, key) : -1;
    if (at < 0) return luaL_error(L, "invalid key to 'next'");
    i = (size_t)at + 1;
  }
  if (i >= value->node->count) {
    lua_pushnil(L);
    return 1;
  }
  lua_pushnumber(L, (lua_Number)i + 1);
  segue__value_push_item(L, value, i);
  return 2;
}

/* Null members are skipped: in Lua a nil value would end the traversal, and the key counts as
 * absent. The position of a key is computed from the address of its member, so that a traversal
 * does not search. */
int segue__value_next(lua_State *L, const segue__value *value, int key) {
  const segue_node *node = value->node;
  if (node->type == SEGUE_LIST) return value_next_item(L, value, key);
  size_t i = 0;
  if (!lua_isnil(L, key)) {
    const segue_node *child = segue__value_find(L, value, key);
    if (!child) return luaL_error(L, "invalid key to 'next'");
    const char *member = (const char *)child - offsetof(segue__member, value);
    i = (size_t)((const segue__member *)member - node->v.members) + 1;
  }
  while (i < node->count && node->v.members[i].value.type == SEGUE_NULL)
    i++;
  if (i >= node->count) {
    lua_pushnil(L);
    return 1;
  }
  const segue__member *member = &node->v.members[i];
  lua_pushlstring(L, member->key, member->key_len);
  segue__value_push(L, value->snapshot, &member->value);
  return 2;
}
