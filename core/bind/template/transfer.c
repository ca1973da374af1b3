/* SPDX-License-Identifier: MIT
 *
 * Values for the Lua code of a policy that templates call, and back. They are as configuration
 * values are anywhere in a policy: numbers of Lua, segue.int beyond 2^53, null only in lists. A
 * number without a fraction goes back as an integer, because Lua has one kind of numbers; float(n)
 * marks one that is none.
 */
#include "transfer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../os/suggest.h"
#include "../runtime/lua_document.h"
#include "../runtime/value.h"
#include "view.h"

enum { DEPTH_MAX = 200, CHECK_BUDGET = 1024, FIELDS_MAX = 64 };

static const char float_metatable[] = "segue.template.float";
static const char structs_key[] = "segue.template.structs"; /* type -> metatable */
static const char sent_key[] = "segue.template.sent";       /* ID -> view; epoch -> at 0 */

/* ---- Floats and structs ---------------------------------------------------------------------- */

static int float_new(lua_State *L) {
  segue__wide wide;
  double n = segue__int_test(L, 1, &wide) ? (double)wide : luaL_checknumber(L, 1);
  double *box = lua_newuserdata(L, sizeof *box);
  *box = n;
  luaL_getmetatable(L, float_metatable);
  lua_setmetatable(L, -2);
  return 1;
}

static int float_to_string(lua_State *L) {
  lua_pushnumber(L, *(double *)luaL_checkudata(L, 1, float_metatable));
  lua_tostring(L, -1);
  return 1;
}

void segue__transfer_number(segue__buf *out, double n) {
  char text[40];
  for (int digits = 15; digits <= 17; digits++) {
    snprintf(text, sizeof text, "%.*g", digits, n);
    if (strtod(text, NULL) == n) break;
  }
  if (n == floor(n) && fabs(n) <= 9007199254740992.0) snprintf(text, sizeof text, "%.0f", n);
  segue__buf_adds(out, text);
}

/* __index of a struct: called for a field that has no value. upvalues: its fields, its type. */
static int struct_index(lua_State *L) {
  const char *names[FIELDS_MAX];
  size_t count = 0;
  if (lua_type(L, 2) != LUA_TSTRING) return 0;
  lua_settop(L, 2);
  lua_pushvalue(L, 2);
  lua_rawget(L, lua_upvalueindex(1));
  if (!lua_isnil(L, -1)) return 0;
  lua_settop(L, 2);
  for (lua_pushnil(L); lua_next(L, lua_upvalueindex(1)); lua_pop(L, 1))
    if (count < FIELDS_MAX) names[count++] = lua_tostring(L, -2);
  const char *word = lua_tostring(L, 2), *meant = segue__suggest(word, names, count);
  return luaL_error(L, "there is no field %s in type %s%s%s%s", word,
                    lua_tostring(L, lua_upvalueindex(2)), meant ? " (did you mean " : "",
                    meant ? meant : "", meant ? "?)" : "");
}

/* Replaces the type of structs on top of the stack by their metatable. at: the list of fields,
 * which is nil for a type that is known. */
static const char *struct_metatable(lua_State *L, const char *at) {
  int type = lua_gettop(L), structs = type + 1, list = type + 2;
  lua_getfield(L, LUA_REGISTRYINDEX, structs_key);
  at = segue__transfer_push(L, at);
  lua_pushvalue(L, type);
  lua_rawget(L, structs);
  if (lua_isnil(L, -1)) {
    lua_createtable(L, 0, 3);
    lua_createtable(L, 0, FIELDS_MAX);
    for (size_t i = 1, n = lua_objlen(L, list); i <= n; i++) {
      lua_rawgeti(L, list, (int)i);
      lua_pushboolean(L, 1);
      lua_rawset(L, -3);
    }
    lua_pushvalue(L, type);
    lua_pushcclosure(L, struct_index, 2);
    lua_setfield(L, -2, "__index");
    lua_pushvalue(L, type);
    lua_setfield(L, -2, "__metatable");
    lua_pushvalue(L, type);
    lua_pushvalue(L, -2);
    lua_rawset(L, structs);
  }
  lua_replace(L, type);
  lua_settop(L, type);
  return at;
}

/* ---- From templates -------------------------------------------------------------------------- */

static uint32_t take_u32(const char **at) {
  uint32_t n;
  memcpy(&n, *at, sizeof n);
  *at += sizeof n;
  return n;
}

static const char *push_members(lua_State *L, const char *at) {
  uint32_t count = take_u32(&at);
  lua_createtable(L, 0, (int)count);
  for (uint32_t i = 0; i < count; i++) {
    at = segue__transfer_push(L, at);
    at = segue__transfer_push(L, at);
    lua_rawset(L, -3);
  }
  return at;
}

static const char *push_list(lua_State *L, const char *at) {
  uint32_t count = take_u32(&at);
  lua_createtable(L, (int)count, 0);
  segue__list_mark(L, lua_gettop(L));
  for (uint32_t i = 1; i <= count; i++) {
    at = segue__transfer_push(L, at);
    lua_rawseti(L, -2, (int)i);
  }
  return at;
}

static const char *push_text(lua_State *L, const char *at) {
  uint32_t len = take_u32(&at);
  lua_pushlstring(L, at, len);
  return at + len;
}

static const char *push_struct(lua_State *L, const char *at) {
  at = segue__transfer_push(L, at);
  at = struct_metatable(L, at);
  at = push_members(L, at);
  lua_insert(L, -2);
  lua_setmetatable(L, -2);
  return at;
}

static void push_sent(lua_State *L) {
  lua_getfield(L, LUA_REGISTRYINDEX, sent_key);
}

/* A table that is sent for the first time, as a view. */
static const char *push_new(lua_State *L, const char *at) {
  at = segue__transfer_push(L, at);
  segue__view *view = segue__view_wrap(L);
  view->id = take_u32(&at);
  push_sent(L);
  lua_rawgeti(L, -1, 0);
  view->epoch = (uint32_t)lua_tonumber(L, -1);
  lua_pop(L, 1);
  lua_pushvalue(L, -2);
  if (view->id)
    lua_rawseti(L, -2, (int)view->id);
  else
    lua_pop(L, 1);
  lua_pop(L, 1);
  return at;
}

static const char *push_again(lua_State *L, const char *at) {
  uint32_t id = take_u32(&at);
  push_sent(L);
  lua_rawgeti(L, -1, (int)id);
  if (lua_isnil(L, -1)) luaL_error(L, "a value of the template was lost");
  lua_remove(L, -2);
  return at;
}

void segue__transfer_forget(lua_State *L) {
  lua_newtable(L);
  lua_setfield(L, LUA_REGISTRYINDEX, sent_key);
}

const char *segue__transfer_begin(lua_State *L, const char *at) {
  uint32_t epoch = take_u32(&at);
  push_sent(L);
  lua_rawgeti(L, -1, 0);
  bool same = lua_tonumber(L, -1) == epoch;
  lua_pop(L, 2);
  if (same) return at;
  segue__transfer_forget(L);
  push_sent(L);
  lua_pushnumber(L, epoch);
  lua_rawseti(L, -2, 0);
  lua_pop(L, 1);
  return at;
}

static const char *push_number(lua_State *L, const char *at, char kind) {
  union {
    int64_t i;
    uint64_t u;
    double d;
  } number;
  memcpy(&number, at, sizeof number);
  if (kind == 'd')
    lua_pushnumber(L, number.d);
  else
    segue__int_push(L, kind == 'i' ? (segue__wide)number.i : (segue__wide)number.u);
  return at + sizeof number;
}

const char *segue__transfer_push(lua_State *L, const char *at) {
  luaL_checkstack(L, 12, "the data is nested too deeply");
  char kind = *at++;
  switch (kind) {
  case 't':
  case 'f':
    lua_pushboolean(L, kind == 't');
    return at;
  case 'i':
  case 'u':
  case 'd':
    return push_number(L, at, kind);
  case 's':
    return push_text(L, at);
  case 'z':
    segue__value_push_null(L);
    return at;
  case 'l':
    return push_list(L, at);
  case 'm':
    return push_members(L, at);
  case 'S':
    return push_struct(L, at);
  case 'R':
    return push_new(L, at);
  case 'r':
    return push_again(L, at);
  default:
    lua_pushnil(L);
    return at;
  }
}

/* ---- To templates ---------------------------------------------------------------------------- */

typedef struct transfer {
  lua_State *L;
  segue__buf *out;
  unsigned depth, count;
} transfer;

static void add_value(transfer *t, int index);

static void add_u32(segue__buf *out, size_t n) {
  uint32_t plain = (uint32_t)n;
  segue__buf_add(out, &plain, sizeof plain);
}

static void add_text(transfer *t, int index) {
  size_t len;
  const char *text = lua_tolstring(t->L, index, &len);
  if (len > SEGUE__TRANSFER_MAX - t->out->len)
    luaL_error(t->L, "the value is larger than %d MiB", (int)(SEGUE__TRANSFER_MAX >> 20));
  segue__buf_addc(t->out, 's');
  add_u32(t->out, len);
  segue__buf_add(t->out, text, len);
}

static void add_number(segue__buf *out, double n) {
  bool whole = n == floor(n) && fabs(n) <= 9007199254740992.0;
  int64_t i = whole ? (int64_t)n : 0;
  segue__buf_addc(out, whole ? 'i' : 'd');
  segue__buf_add(out, whole ? (const void *)&i : &n, 8);
}

static void add_wide(segue__buf *out, segue__wide wide) {
  uint64_t bits = (uint64_t)wide;
  segue__buf_addc(out, wide > INT64_MAX ? 'u' : 'i');
  segue__buf_add(out, &bits, sizeof bits);
}

static void add_list(transfer *t, int index) {
  size_t count = lua_objlen(t->L, index);
  segue__buf_addc(t->out, 'l');
  add_u32(t->out, count);
  for (size_t i = 1; i <= count; i++) {
    lua_rawgeti(t->L, index, (int)i);
    add_value(t, lua_gettop(t->L));
    lua_pop(t->L, 1);
  }
}

static void add_members(transfer *t, int index) {
  size_t at = t->out->len, count = 0;
  add_u32(t->out, 0);
  for (lua_pushnil(t->L); lua_next(t->L, index); lua_pop(t->L, 1)) {
    if (lua_type(t->L, -2) != LUA_TSTRING)
      luaL_error(t->L, "a table is neither a list nor a map: it has a key that is a %s",
                 luaL_typename(t->L, -2));
    add_text(t, lua_gettop(t->L) - 1);
    add_value(t, lua_gettop(t->L));
    count++;
  }
  uint32_t plain = (uint32_t)count;
  if (!t->out->failed) memcpy(t->out->data + at, &plain, sizeof plain);
}

/* Returns the type of a struct, on top of the stack; or false, with nothing there. */
static bool table_struct(lua_State *L, int index) {
  if (!lua_getmetatable(L, index)) return false;
  lua_getfield(L, LUA_REGISTRYINDEX, structs_key);
  lua_pushliteral(L, "__metatable");
  lua_rawget(L, -3);
  lua_pushvalue(L, -1);
  lua_rawget(L, -3); /* metatable, structs, type, its metatable */
  bool is_struct = lua_type(L, -2) == LUA_TSTRING && lua_rawequal(L, -1, -4);
  lua_pop(L, 1);
  if (is_struct) lua_replace(L, -3);
  lua_pop(L, is_struct ? 1 : 3);
  return is_struct;
}

void segue__transfer_copy_type(lua_State *L, int from, int to) {
  if (!table_struct(L, from)) return;
  lua_pop(L, 1);
  lua_getmetatable(L, from);
  lua_setmetatable(L, to);
}

static void add_table(transfer *t, int index) {
  lua_State *L = t->L;
  luaL_checkstack(L, 12, "the value is nested too deeply");
  if (++t->depth > DEPTH_MAX)
    luaL_error(L, "tables are nested more than %d deep, or one contains itself", DEPTH_MAX);
  if (table_struct(L, index)) {
    segue__buf_addc(t->out, 'S');
    add_text(t, lua_gettop(L));
    lua_pop(L, 1);
    add_members(t, index);
  } else if (segue__list_test(L, index) || lua_objlen(L, index)) {
    size_t keys = 0;
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1))
      keys++;
    if (keys != lua_objlen(L, index))
      luaL_error(L, "a table is neither a list nor a map: it has other keys beside 1 to %d",
                 (int)lua_objlen(L, index));
    add_list(t, index);
  } else {
    segue__buf_addc(t->out, 'm');
    add_members(t, index);
  }
  t->depth--;
}

/* A table that the state of templates still knows by its number goes back as that. */
static void add_view(transfer *t, int index, const segue__view *view) {
  lua_State *L = t->L;
  if (view->fetch) {
    segue__buf_addc(t->out, 'D');
    return;
  }
  luaL_checkstack(L, 4, "the value is nested too deeply");
  push_sent(L);
  lua_rawgeti(L, -1, 0);
  bool known = view->id && lua_tonumber(L, -1) == view->epoch;
  lua_pop(L, 2);
  if (known) {
    segue__buf_addc(t->out, 'r');
    add_u32(t->out, view->id);
    return;
  }
  segue__view_content(L, index);
  add_table(t, lua_gettop(L));
  lua_pop(L, 1);
}

static void add_userdata(transfer *t, int index) {
  segue__wide wide;
  const segue__view *view = segue__view_test(t->L, index);
  if (view) {
    add_view(t, index, view);
    return;
  }
  const double *box = luaL_testudata(t->L, index, float_metatable);
  if (box) {
    segue__buf_addc(t->out, 'd');
    segue__buf_add(t->out, box, sizeof *box);
  } else if (segue__int_test(t->L, index, &wide)) {
    add_wide(t->out, wide);
  } else if (segue__value_is_null(t->L, index)) {
    segue__buf_addc(t->out, 'z');
  } else {
    luaL_error(t->L, "templates have no values of this kind: %s", luaL_typename(t->L, index));
  }
}

static void add_value(transfer *t, int index) {
  lua_State *L = t->L;
  if (!(++t->count & (CHECK_BUDGET - 1)) && segue__budget_is_spent(segue__lua_of(L)->budget))
    segue__budget_raise(L);
  if (t->out->len > SEGUE__TRANSFER_MAX)
    luaL_error(L, "the value is larger than %d MiB", (int)(SEGUE__TRANSFER_MAX >> 20));
  switch (lua_type(L, index)) {
  case LUA_TNIL:
  case LUA_TNONE:
    segue__buf_addc(t->out, 'n');
    break;
  case LUA_TBOOLEAN:
    segue__buf_addc(t->out, lua_toboolean(L, index) ? 't' : 'f');
    break;
  case LUA_TNUMBER:
    add_number(t->out, lua_tonumber(L, index));
    break;
  case LUA_TSTRING:
    add_text(t, index);
    break;
  case LUA_TTABLE:
    add_table(t, index);
    break;
  case LUA_TUSERDATA:
    add_userdata(t, index);
    break;
  default:
    luaL_error(L, "templates have no values of this kind: %s", luaL_typename(L, index));
  }
}

void segue__transfer_add(lua_State *L, int index, segue__buf *out) {
  transfer t = {.L = L, .out = out};
  add_value(&t, index);
  if (out->failed) luaL_error(L, "not enough memory");
}

void segue__transfer_open(lua_State *L) {
  luaL_newmetatable(L, float_metatable);
  lua_pushcfunction(L, float_to_string);
  lua_setfield(L, -2, "__tostring");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 1);
  lua_newtable(L);
  lua_setfield(L, LUA_REGISTRYINDEX, structs_key);
  segue__transfer_forget(L);
  lua_pushcfunction(L, float_new);
  lua_setglobal(L, "float");
}
