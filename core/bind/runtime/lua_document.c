/* SPDX-License-Identifier: MIT
 *
 * Trees as plain Lua values, marked lists, and a document with its builder as a userdata.
 */
#include "lua_document.h"

#include <string.h>

enum { CHECK_BUDGET = 1024 };

static char list_key; /* its address is a key in the registry */

/* ---- Marked lists ---------------------------------------------------------------------------- */

static void list_metatable(lua_State *L) {
  lua_pushlightuserdata(L, &list_key);
  lua_rawget(L, LUA_REGISTRYINDEX);
}

void segue__list_open(lua_State *L) {
  lua_pushlightuserdata(L, &list_key);
  lua_newtable(L);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

void segue__list_mark(lua_State *L, int index) {
  lua_pushvalue(L, index);
  list_metatable(L);
  lua_setmetatable(L, -2);
  lua_pop(L, 1);
}

bool segue__list_test(lua_State *L, int index) {
  if (lua_type(L, index) != LUA_TTABLE || !lua_getmetatable(L, index)) return false;
  list_metatable(L);
  bool same = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return same;
}

/* ---- The box --------------------------------------------------------------------------------- */

void segue__lua_document_clear(lua_State *L, segue__lua_document *box) {
  segue__builder_free(box->builder);
  segue__document_unref(box->doc);
  segue__buf_deinit(&box->text);
  if (box->charged) segue__lua_discharge(segue__lua_of(L), box->charged);
  memset(box, 0, sizeof *box);
}

static int document_collect(lua_State *L) {
  segue__lua_document_clear(L, lua_touserdata(L, 1));
  return 0;
}

segue__lua_document *segue__lua_document_push(lua_State *L) {
  segue__lua_document *box = lua_newuserdata(L, sizeof *box);
  memset(box, 0, sizeof *box);
  if (luaL_newmetatable(L, "segue.document")) {
    lua_pushcfunction(L, document_collect);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return box;
}

/* ---- Tree to Lua ----------------------------------------------------------------------------- */

static void push_node(lua_State *L, const segue_node *node, unsigned *count) {
  if (!(++*count & (CHECK_BUDGET - 1)) && segue__budget_is_spent(segue__lua_of(L)->budget))
    segue__budget_raise(L);
  switch (node->type) {
  case SEGUE_NULL:
    segue__value_push_null(L);
    break;
  case SEGUE_LIST:
    luaL_checkstack(L, 8, "the document is nested too deeply");
    lua_createtable(L, (int)node->count, 0);
    segue__list_mark(L, lua_gettop(L));
    for (uint32_t i = 0; i < node->count; i++) {
      push_node(L, &node->v.items[i], count);
      lua_rawseti(L, -2, (int)i + 1);
    }
    break;
  case SEGUE_MAP:
    luaL_checkstack(L, 8, "the document is nested too deeply");
    lua_createtable(L, 0, (int)node->count);
    for (uint32_t i = 0; i < node->count; i++) {
      lua_pushlstring(L, node->v.members[i].key, node->v.members[i].key_len);
      push_node(L, &node->v.members[i].value, count);
      lua_rawset(L, -3);
    }
    break;
  default:
    segue__value_push(L, NULL, node);
  }
}

void segue__lua_document_value(lua_State *L, const segue_node *node) {
  unsigned count = 0;
  push_node(L, node, &count);
}
