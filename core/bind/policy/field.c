/* SPDX-License-Identifier: MIT
 *
 * Fields of tables that are known to be right.
 */
#include "field.h"

#include <string.h>

#include "../runtime/state.h"

char *segue__field_text(lua_State *L, int index, const char *key) {
  lua_getfield(L, index, key);
  char *copy = lua_type(L, -1) == LUA_TSTRING ? segue__field_copy(L) : NULL;
  lua_pop(L, 1);
  return copy;
}

char *segue__field_copy(lua_State *L) {
  segue__lua *lua = segue__lua_of(L);
  segue_error err;
  if (!segue__lua_copies(lua, lua_objlen(L, -1))) {
    segue__lua_refuse_copy(lua, &err);
    luaL_error(L, "%s", err.message);
  }
  char *copy = segue__strdup(lua_tostring(L, -1));
  if (!copy) luaL_error(L, "out of memory");
  return copy;
}

double segue__field_number(lua_State *L, int index, const char *key, double otherwise) {
  lua_getfield(L, index, key);
  double n = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : otherwise;
  lua_pop(L, 1);
  return n;
}

uint64_t segue__field_count(lua_State *L, int index, const char *key, uint64_t otherwise) {
  lua_getfield(L, index, key);
  uint64_t n = lua_type(L, -1) == LUA_TNUMBER ? (uint64_t)lua_tonumber(L, -1) : otherwise;
  lua_pop(L, 1);
  return n;
}

bool segue__field_flag(lua_State *L, int index, const char *key) {
  lua_getfield(L, index, key);
  bool on = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return on;
}

size_t segue__field_list(lua_State *L, int index, const char *key, size_t item_size, void *items) {
  lua_getfield(L, index, key);
  size_t n = lua_istable(L, -1) ? lua_objlen(L, -1) : 0;
  void *memory = n ? segue__calloc(n, item_size) : NULL;
  if (n && !memory) luaL_error(L, "out of memory");
  memcpy(items, &memory, sizeof memory);
  return n;
}
