/* SPDX-License-Identifier: MIT
 *
 * txn.module in Lua: `txn.module.bidder:drain { within = "2s" }`. A module is a name and the handle
 * of its transaction; what may be done with it when is the engine's to say.
 */
#include <string.h>

#include "../runtime/task.h"
#include "txn.h"

static const char modules_table[] = "segue.txn.modules", module_table[] = "segue.txn.module";

typedef struct module {
  segue__txn_handle *handle; /* a reference, NULL: collected */
  char name[];
} module;

static segue__txn *txn_of(lua_State *L, const segue__txn_handle *handle) {
  segue__txn *txn = handle ? handle->txn : NULL;
  if (!txn) luaL_error(L, "this transaction has ended: txn is for its own reload hook only");
  return txn;
}

static module *txn_module_check(lua_State *L, segue__txn **txn) {
  module *m = luaL_checkudata(L, 1, module_table);
  *txn = txn_of(L, m->handle);
  return m;
}

/* ---- Verbs ---- */

static int txn_module_wait_for(lua_State *L, const char *what,
                               void (*call)(segue__txn *, const char *, const segue__drain *,
                                            segue__txn_cb, void *),
                               const segue__drain *drain, segue__txn_call use) {
  segue__txn *txn;
  const module *m = txn_module_check(L, &txn);
  segue__txn_check_use(L, txn, use, m->name);
  return segue__txn_wait(L, txn, what,
                         &(segue__txn_verb){.call = call, .name = m->name, .drain = *drain});
}

static void call_restart(segue__txn *txn, const char *name, const segue__drain *drain,
                         segue__txn_cb cb, void *data) {
  (void)drain;
  segue__txn_restart(txn, name, cb, data);
}

static void call_replace(segue__txn *txn, const char *name, const segue__drain *drain,
                         segue__txn_cb cb, void *data) {
  (void)drain;
  segue__txn_replace(txn, name, cb, data);
}

/* drain(milliseconds, over, again): the Lua half turns { within = "2s", over = "cut" } into that.
 */
static int txn_module_drain(lua_State *L) {
  lua_Number ms = luaL_optnumber(L, 2, 0), again = luaL_optnumber(L, 4, 0);
  const char *over = luaL_optstring(L, 3, NULL);
  segue__drain how = {.over = SEGUE__OVER_ASK};
  if (!(ms >= 0 && ms <= 1e13) || !(again >= 0 && again <= 1e6))
    return luaL_error(L, "drain: the time is out of range");
  if (over && !segue__over_find(over, &how.over))
    return luaL_error(L, "drain: over cannot be '%s'", over);
  how.within_ms = (uint64_t)ms;
  how.again = (uint64_t)again;
  return txn_module_wait_for(L, "txn.module:drain", segue__txn_drain, &how, SEGUE__TXN_OLD);
}

static int txn_module_restart(lua_State *L) {
  return txn_module_wait_for(L, "txn.module:restart", call_restart, &(segue__drain){0},
                             SEGUE__TXN_NEXT);
}

static int txn_module_replace(lua_State *L) {
  return txn_module_wait_for(L, "txn.module:replace", call_replace, &(segue__drain){0},
                             SEGUE__TXN_NEXT);
}

static int txn_module_answer(lua_State *L, int rc, const segue_error *error) {
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
  const module *m = txn_module_check(L, &txn);
  segue__txn_check_use(L, txn, SEGUE__TXN_OLD, m->name);
  return txn_module_answer(L, segue__txn_shut(txn, m->name, &error), &error);
}

static int open_gate(lua_State *L) {
  segue__txn *txn;
  segue_error error;
  const module *m = txn_module_check(L, &txn);
  segue__txn_check_use(L, txn, SEGUE__TXN_OLD, m->name);
  return txn_module_answer(L, segue__txn_open(txn, m->name, &error), &error);
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

static int txn_module_refuse_write(lua_State *L) {
  return luaL_error(L, "txn.module cannot be changed");
}

static int push_module(lua_State *L, segue__txn_handle *handle, const char *name) {
  static const luaL_Reg methods[] = {{"drain", txn_module_drain},
                                     {"restart", txn_module_restart},
                                     {"replace", txn_module_replace},
                                     {"shut", shut_gate},
                                     {"open", open_gate},
                                     {NULL, NULL}};
  static const segue__txn_type type = {
      module_table,   methods,         "drain", index_module, txn_module_refuse_write,
      collect_module, module_to_string};
  size_t size = strlen(name) + 1;
  module *m = lua_newuserdata(L, sizeof *m + size);
  m->handle = NULL;
  memcpy(m->name, name, size);
  segue__txn_set_type(L, &type);
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

static int modules_to_string(lua_State *L) {
  lua_pushliteral(L, "the modules of a transaction");
  return 1;
}

void segue__txn_modules_push(lua_State *L, segue__txn_handle *handle) {
  static const luaL_Reg methods[] = {{NULL, NULL}};
  static const segue__txn_type type = {
      modules_table,   methods,          NULL, index_modules, txn_module_refuse_write,
      collect_modules, modules_to_string};
  segue__txn_handle **box = lua_newuserdata(L, sizeof(*box));
  *box = NULL;
  segue__txn_set_type(L, &type);
  *box = handle;
  handle->refs++;
}
