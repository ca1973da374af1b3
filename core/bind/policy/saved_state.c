/* SPDX-License-Identifier: MIT
 *
 * segue.state as bytes: a tag for each value, tables as keys and values up to an end tag. Reading a
 * table allocates nothing in its state, so the table of a state that ran out of memory can be saved
 * too.
 */
#include "saved_state.h"

#include <string.h>

#include "../runtime/value.h"

enum { DEPTH_MAX = 32, BYTES_MAX = 16 * 1024 * 1024, SPARE = 1024 * 1024 };

/* The copy is limited, and its size is counted before copying: a table may refer to one long text a
 * thousand times. */
struct saving {
  segue__lua *lua;
  segue__buf *out;
  const char *left_behind; /* type of the first value that cannot be copied */
};

static bool save_scalar(lua_State *L, int index, segue__buf *out) {
  segue__wide wide;
  if (lua_type(L, index) == LUA_TNUMBER) {
    lua_Number n = lua_tonumber(L, index);
    segue__buf_addc(out, 'n');
    segue__buf_add(out, &n, sizeof n);
  } else if (lua_type(L, index) == LUA_TBOOLEAN) {
    segue__buf_addc(out, lua_toboolean(L, index) ? 't' : 'f');
  } else if (lua_type(L, index) == LUA_TSTRING) {
    size_t len;
    const char *text = lua_tolstring(L, index, &len);
    segue__buf_addc(out, 's');
    segue__buf_add(out, &len, sizeof len);
    segue__buf_add(out, text, len);
  } else if (segue__int_test(L, index, &wide)) {
    segue__buf_addc(out, 'i');
    segue__buf_add(out, &wide, sizeof wide);
  } else if (segue__value_is_null(L, index)) {
    segue__buf_addc(out, '0');
  } else {
    return false;
  }
  return true;
}

static bool save_value(lua_State *L, int index, struct saving *s, int depth);

/* A key whose value cannot be saved is removed from the bytes again (`mark`), so that the other
 * members stay readable. */
static void save_members(lua_State *L, int index, struct saving *s, int depth) {
  segue__buf_addc(s->out, '{');
  for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
    int key = lua_gettop(L) - 1;
    size_t mark = s->out->len;
    if (lua_type(L, key) == LUA_TTABLE || !save_value(L, key, s, depth + 1))
      s->left_behind = s->left_behind ? s->left_behind : luaL_typename(L, key);
    else if (!save_value(L, key + 1, s, depth + 1))
      s->out->len = mark;
  }
  segue__buf_addc(s->out, '}');
}

static bool save_value(lua_State *L, int index, struct saving *s, int depth) {
  if (lua_type(L, index) == LUA_TTABLE && depth < DEPTH_MAX && s->out->len < BYTES_MAX) {
    luaL_checkstack(L, 8, "segue.state");
    save_members(L, index, s, depth);
    return true;
  }
  size_t len = lua_type(L, index) == LUA_TSTRING ? lua_objlen(L, index) : 0;
  bool fits = len <= BYTES_MAX && s->out->len <= BYTES_MAX - len;
  if (fits && save_scalar(L, index, s->out)) return true;
  s->left_behind = !fits || lua_type(L, index) == LUA_TTABLE
                       ? "table that is too deep, or the rest of 16 MiB"
                       : luaL_typename(L, index);
  return false;
}

static int save_body(lua_State *L) {
  struct saving *s = lua_touserdata(L, 1);
  lua_getfield(L, LUA_REGISTRYINDEX, "segue.state");
  if (lua_istable(L, -1)) save_value(L, lua_gettop(L), s, 0);
  return 0;
}

/* The limit of the state is raised by SPARE while it is saved, because LuaJIT may need memory for
 * the call itself. */
void segue__saved_state_save(segue__lua *lua, segue__buf *out) {
  struct saving s = {lua, out, NULL};
  lua->bytes_max += SPARE;
  int top = lua_gettop(lua->L);
  if (lua_cpcall(lua->L, save_body, &s) || out->failed) {
    out->len = 0;
    s.left_behind = "state at all";
  }
  lua_settop(lua->L, top);
  lua->bytes_max -= SPARE;
  if (s.left_behind)
    SEGUE__LOG(lua->log, SEGUE_WARN, "policy", "segue.state holds what cannot be kept",
               SEGUE__FIELD("type", s.left_behind));
}

/* ---- Loading: the bytes are our own, so they are well formed. ---- */

static void saved_state_take(const char **at, void *out, size_t len) {
  memcpy(out, *at, len);
  *at += len;
}

static void load_value(lua_State *L, const char **at);

static void load_table(lua_State *L, const char **at) {
  luaL_checkstack(L, 8, "segue.state");
  lua_newtable(L);
  while (**at != '}') {
    load_value(L, at);
    load_value(L, at);
    lua_rawset(L, -3);
  }
  ++*at;
}

static void load_value(lua_State *L, const char **at) {
  lua_Number n;
  size_t len;
  segue__wide wide;
  switch (*(*at)++) {
  case 'n':
    saved_state_take(at, &n, sizeof n);
    lua_pushnumber(L, n);
    break;
  case 's':
    saved_state_take(at, &len, sizeof len);
    lua_pushlstring(L, *at, len);
    *at += len;
    break;
  case 'i':
    saved_state_take(at, &wide, sizeof wide);
    segue__int_push(L, wide);
    break;
  case '{':
    load_table(L, at);
    break;
  case '0':
    segue__value_push_null(L);
    break;
  default:
    lua_pushboolean(L, (*at)[-1] == 't');
  }
}

void segue__saved_state_load(lua_State *L, const segue__buf *saved) {
  if (!saved->len || saved->data[0] != '{') return;
  const char *at = saved->data;
  load_value(L, &at);
  lua_getfield(L, LUA_REGISTRYINDEX, "segue.state");
  for (lua_pushnil(L); lua_next(L, -3);) {
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, -4);
  }
  lua_pop(L, 2);
}
