/* SPDX-License-Identifier: MIT
 *
 * txn.module in Lua: `txn.module.bidder:drain { within = "2s" }`. A module is a name and the handle
 * of its transaction; what may be done with it when is the engine's to say.
 */
#include <string.h>

#include "task.h"
#include "txn.h"

static const char modules_table[] = "segue.txn.modules", module_table[] = "segue.txn.module";

typedef struct module {
  segue__txn_handle *handle; /* a reference, NULL: collected */
  char name[];
} module;

static segue__txn *txn_of(lua_State *L, const segue__txn_handle *handle) {
  segue__txn *txn = handle ? handle->txn : NULL;
  if (!txn) luaL_error(L, "this transaction is over: txn is for its own reload hook only");
  return txn;
}

static module *check(lua_State *L, segue__txn **txn) {
  module *m = luaL_checkudata(L, 1, module_table);
  *txn = txn_of(L, m->handle);
  return m;
}

/* ---- Verbs ---- */

static int wait_for(lua_State *L, const char *what,
                    void (*call)(segue__txn *, const char *, uint64_t, segue__txn_cb, void *),
                    uint64_t within_ms) {
  segue__txn *txn;
  const module *m = check(L, &txn);
  return segue__txn_wait(L, txn, what,
                         &(segue__txn_verb){.call = call, .name = m->name, .within_ms = within_ms});
}

static void call_restart(segue__txn *txn, const char *name, uint64_t within_ms, segue__txn_cb cb,
                         void *data) {
  (void)within_ms;
  segue__txn_restart(txn, name, cb, data);
}

static void call_replace(segue__txn *txn, const char *name, uint64_t within_ms, segue__txn_cb cb,
                         void *data) {
  (void)within_ms;
  segue__txn_replace(txn, name, cb, data);
}

/* drain(milliseconds): the Lua half turns { within = "2s" } into that. */
static int drain(lua_State *L) {
  lua_Number ms = luaL_optnumber(L, 2, 0);
  if (!(ms >= 0 && ms <= 1e13)) return luaL_error(L, "drain: the time is out of range");
  return wait_for(L, "txn.module:drain", segue__txn_drain, (uint64_t)ms);
}

static int restart(lua_State *L) {
  return wait_for(L, "txn.module:restart", call_restart, 0);
}

static int replace(lua_State *L) {
  return wait_for(L, "txn.module:replace", call_replace, 0);
}

static int answer(lua_State *L, int rc, const segue_error *error) {
  if (!rc) {
    lua_pushboolean(L, 1);
    return 1;
  }
  lua_pushnil(L);
  lua_pushstring(L, error->message);
  lua_pushstring(L, segue_error_name(rc));
  return 3;
}

static int shut_gate(lua_State *L) {
  segue__txn *txn;
  segue_error error;
  const module *m = check(L, &txn);
  return answer(L, segue__txn_shut(txn, m->name, &error), &error);
}

static int open_gate(lua_State *L) {
  segue__txn *txn;
  segue_error error;
  const module *m = check(L, &txn);
  return answer(L, segue__txn_open(txn, m->name, &error), &error);
}

/* ---- Handles ---- */

static int index_module(lua_State *L) {
  lua_pushvalue(L, 2);
  lua_rawget(L, lua_upvalueindex(1));
  if (!lua_isnil(L, -1)) return 1;
  const module *m = luaL_checkudata(L, 1, module_table);
  return luaL_error(L, "txn.module.%s has no '%s': it has drain, restart, replace, shut and open",
                    m->name, luaL_checkstring(L, 2));
}

static int collect_module(lua_State *L) {
  module *m = lua_touserdata(L, 1);
  segue__txn_handle_unref(m->handle);
  m->handle = NULL;
  return 0;
}

static int module_to_string(lua_State *L) {
  const module *m = luaL_checkudata(L, 1, module_table);
  lua_pushfstring(L, "module %s", m->name);
  return 1;
}

static int refuse_write(lua_State *L) {
  return luaL_error(L, "txn.module cannot be changed");
}

static void finish_metatable(lua_State *L, lua_CFunction collect) {
  lua_pushcfunction(L, refuse_write);
  lua_setfield(L, -2, "__newindex");
  lua_pushcfunction(L, collect);
  lua_setfield(L, -2, "__gc");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
}

static void push_module_metatable(lua_State *L) {
  static const luaL_Reg methods[] = {{"drain", drain},     {"restart", restart},
                                     {"replace", replace}, {"shut", shut_gate},
                                     {"open", open_gate},  {NULL, NULL}};
  if (!luaL_newmetatable(L, module_table)) return;
  lua_createtable(L, 0, 8);
  luaL_setfuncs(L, methods, 0);
  lua_getfield(L, LUA_REGISTRYINDEX, "segue.core");
  lua_getfield(L, -1, "wrap_drain"); /* the Lua half's, which knows durations */
  lua_getfield(L, -3, "drain");
  lua_call(L, 1, 1);
  lua_setfield(L, -3, "drain");
  lua_pop(L, 1);
  lua_pushcclosure(L, index_module, 1);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, module_to_string);
  lua_setfield(L, -2, "__tostring");
  finish_metatable(L, collect_module);
}

static int push_module(lua_State *L, segue__txn_handle *handle, const char *name) {
  size_t size = strlen(name) + 1;
  module *m = lua_newuserdata(L, sizeof *m + size);
  m->handle = NULL;
  memcpy(m->name, name, size);
  push_module_metatable(L);
  lua_setmetatable(L, -2);
  m->handle = handle;
  handle->refs++;
  return 1;
}

static int unknown_module(lua_State *L, const segue__txn *txn, const char *asked) {
  const char *name;
  luaL_Buffer names;
  luaL_buffinit(L, &names);
  for (size_t i = 0; segue__txn_module_at(txn, i, &name); i++) {
    if (i) luaL_addstring(&names, ", ");
    luaL_addstring(&names, name);
  }
  luaL_pushresult(&names);
  return luaL_error(L, "there is no module '%s' in this reload: there %s", asked,
                    *lua_tostring(L, -1) ? lua_pushfstring(L, "are %s", lua_tostring(L, -1))
                                         : "are none");
}

static int index_modules(lua_State *L) {
  segue__txn_handle **box = luaL_checkudata(L, 1, modules_table);
  const char *asked = luaL_checkstring(L, 2), *name;
  segue__txn_handle *handle = *box;
  segue__txn *txn = txn_of(L, handle);
  for (size_t i = 0; handle && segue__txn_module_at(txn, i, &name); i++)
    if (!strcmp(name, asked)) return push_module(L, handle, name);
  return unknown_module(L, txn, asked);
}

static int collect_modules(lua_State *L) {
  segue__txn_handle **box = lua_touserdata(L, 1);
  segue__txn_handle_unref(*box);
  *box = NULL;
  return 0;
}

void segue__txn_modules_push(lua_State *L, segue__txn_handle *handle) {
  segue__txn_handle **box = lua_newuserdata(L, sizeof(*box));
  *box = NULL;
  if (luaL_newmetatable(L, modules_table)) {
    lua_pushcfunction(L, index_modules);
    lua_setfield(L, -2, "__index");
    finish_metatable(L, collect_modules);
  }
  lua_setmetatable(L, -2);
  *box = handle;
  handle->refs++;
}
