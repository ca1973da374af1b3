/* SPDX-License-Identifier: MIT
 *
 * Values of Lua as documents: segue.value, and what a source in Lua delivers as values. The Lua
 * half has put the keys of maps in order (lua/segue/plain.lua).
 */
#include <math.h>
#include <string.h>

#include "../runtime/value.h"
#include "policy.h"

static void document_build(lua_State *L, int index, segue__builder *b);

static void build_number(lua_Number n, segue__builder *b) {
  if (n == floor(n) && fabs(n) <= 9007199254740992.0)
    segue__builder_int(b, (int64_t)n);
  else
    segue__builder_float(b, n);
}

static void build_list(lua_State *L, int index, segue__builder *b) {
  int n = (int)lua_objlen(L, index);
  segue__builder_begin(b, SEGUE_LIST);
  for (int i = 1; i <= n; i++) {
    lua_rawgeti(L, index, i);
    document_build(L, lua_gettop(L), b);
    lua_pop(L, 1);
  }
  segue__builder_end(b);
}

/* The Lua half has put the keys in order: { keys = {...}, values = {...} }. */
static void build_map(lua_State *L, int index, segue__builder *b) {
  lua_getfield(L, index, "keys");
  lua_getfield(L, index, "values");
  int keys = lua_gettop(L) - 1, n = (int)lua_objlen(L, keys);
  segue__builder_begin(b, SEGUE_MAP);
  for (int i = 1; i <= n; i++) {
    size_t len;
    lua_rawgeti(L, keys, i);
    const char *key = lua_tolstring(L, -1, &len);
    segue__builder_key(b, key, len);
    lua_rawgeti(L, keys + 1, i);
    document_build(L, lua_gettop(L), b);
    lua_pop(L, 2);
  }
  segue__builder_end(b);
  lua_pop(L, 2);
}

static void document_build(lua_State *L, int index, segue__builder *b) {
  segue__wide wide;
  size_t len;
  luaL_checkstack(L, 8, "segue.value");
  switch (lua_type(L, index)) {
  case LUA_TBOOLEAN:
    segue__builder_bool(b, lua_toboolean(L, index));
    break;
  case LUA_TNUMBER:
    build_number(lua_tonumber(L, index), b);
    break;
  case LUA_TSTRING: {
    const char *s = lua_tolstring(L, index, &len);
    segue__builder_string(b, s, len);
    break;
  }
  case LUA_TTABLE:
    lua_getfield(L, index, "keys");
    bool map = lua_istable(L, -1);
    lua_pop(L, 1);
    if (map)
      build_map(L, index, b);
    else
      build_list(L, index, b);
    break;
  default:
    if (!segue__int_test(L, index, &wide))
      segue__builder_null(b);
    else if (wide > INT64_MAX)
      segue__builder_uint(b, (uint64_t)wide);
    else
      segue__builder_int(b, (int64_t)wide);
  }
}

int segue__document_extract(lua_State *L, int index, segue__lua_loader *loader, const char *source,
                            const char *file, uint32_t line, segue__document **out,
                            segue_error *err) {
  segue__lua *lua = segue__lua_of(L);
  segue__builder *b = NULL;
  segue__limits limits = {.text = segue__lua_copies_left(lua)};
  int rc = segue__document_new(out, loader->next_document++, source, file, SEGUE__BUILT, NULL, 0);
  if (!rc && !limits.text) {
    rc = segue__lua_refuse_copy(lua, err);
    segue__error_set_place(err, file, line, 0);
    return rc;
  }
  if (limits.text > SEGUE__TEXT_MAX) limits.text = SEGUE__TEXT_MAX;
  if (!rc) rc = segue__builder_new(&b, *out, &limits);
  if (rc) return segue__errorf(err, rc, "%s: out of memory", source);
  segue__builder_at(b, line, 0);
  lua_getfield(L, index, "value");
  document_build(L, lua_gettop(L), b);
  lua_pop(L, 1);
  rc = segue__builder_finish(b, err);
  segue__builder_free(b);
  if (!rc && !segue__lua_copies(lua, (*out)->arena.used)) rc = segue__lua_refuse_copy(lua, err);
  if (rc) segue__error_set_place(err, file, line, 0);
  return rc;
}
