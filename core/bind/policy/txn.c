/* SPDX-License-Identifier: MIT
 *
 * The transaction in Lua. prepare, commit and confirm wait: the engine is called after Lua has
 * returned, and its answer resumes the task with true, or nil, message, code. The other methods
 * only read. A call that has no effect at this stage of the transaction throws.
 */
#include "txn.h"

#include <string.h>

#include "../runtime/task.h"
#include "../runtime/value.h"

static const char metatable[] = "segue.txn";

struct step {
  segue__wait wait;
  segue__txn *txn;
  segue__txn_verb verb;
  int status;
  segue_error error;
  char name[];
};

int segue__txn_handle_new(segue__txn_handle **out, segue__txn *txn) {
  *out = segue__calloc(1, sizeof **out);
  if (!*out) return UV_ENOMEM;
  (*out)->refs = 1;
  (*out)->txn = txn;
  const segue_snapshot *prev = segue__txn_prev(txn);
  if (prev) (*out)->prev = segue_snapshot_ref(prev);
  return 0;
}

void segue__txn_handle_unref(segue__txn_handle *handle) {
  if (!handle || --handle->refs > 0) return;
  segue_snapshot_unref(handle->prev);
  segue__free(handle);
}

static segue__txn *bind_txn_check(lua_State *L) {
  segue__txn_handle **box = luaL_checkudata(L, 1, metatable);
  segue__txn *txn = *box ? (*box)->txn : NULL;
  if (!txn) luaL_error(L, "this transaction has ended: txn is for its own reload hook only");
  return txn;
}

/* Throws at the caller's line: a policy would not check the result of a call that cannot
 * succeed. */
void segue__txn_check_use(lua_State *L, const segue__txn *txn, segue__txn_call call,
                          const char *module) {
  segue_error error;
  if (segue__txn_misuse(txn, call, module, &error)) luaL_error(L, "%s", error.message);
}

/* ---- prepare, commit, confirm ---- */

static int push_answer(lua_State *co, void *data) {
  struct step *step = data;
  if (!step->status) {
    lua_pushboolean(co, 1);
    return 1;
  }
  lua_pushnil(co);
  lua_pushstring(co, step->error.message[0] ? step->error.message : segue_strerror(step->status));
  lua_pushstring(co, segue_error_name(step->status));
  return 3;
}

static void txn_answered(void *data, int status, const segue_error *error) {
  struct step *step = data;
  step->status = status;
  if (error) step->error = *error;
  if (step->wait.task) segue__wait_end(&step->wait, push_answer, step);
  segue__free(step);
}

static void start_step(segue__wait *wait) {
  struct step *step = (struct step *)wait; /* its first member */
  const segue__txn_verb *verb = &step->verb;
  verb->call(step->txn, verb->name, &verb->drain, txn_answered, step);
}

/* The engine's answer still comes, and frees the step. */
static void txn_release(segue__wait *wait) {
  (void)wait;
}

int segue__txn_wait(lua_State *L, segue__txn *txn, const char *what, const segue__txn_verb *verb) {
  segue__wait_check(L, what);
  size_t size = verb->name ? strlen(verb->name) + 1 : 0;
  struct step *step = segue__calloc(1, sizeof *step + size);
  if (!step) return luaL_error(L, "%s: out of memory", what);
  step->txn = txn;
  step->verb = *verb;
  if (size) step->verb.name = memcpy(step->name, verb->name, size);
  step->wait.start = start_step;
  step->wait.cancel = txn_release;
  return segue__wait_begin(L, &step->wait, what);
}

static void call_prepare(segue__txn *txn, const char *name, const segue__drain *drain,
                         segue__txn_cb cb, void *data) {
  (void)name, (void)drain;
  segue__txn_prepare(txn, cb, data);
}

static int txn_prepare(lua_State *L) {
  segue__txn *txn = bind_txn_check(L);
  segue__txn_check_use(L, txn, SEGUE__TXN_PREPARE, NULL);
  return segue__txn_wait(L, txn, "txn:prepare", &(segue__txn_verb){.call = call_prepare});
}

static void call_commit(segue__txn *txn, const char *name, const segue__drain *drain,
                        segue__txn_cb cb, void *data) {
  (void)name, (void)drain;
  segue__txn_commit(txn, cb, data);
}

static int txn_commit(lua_State *L) {
  segue__txn *txn = bind_txn_check(L);
  segue__txn_check_use(L, txn, SEGUE__TXN_COMMIT, NULL);
  return segue__txn_wait(L, txn, "txn:commit", &(segue__txn_verb){.call = call_commit});
}

static void call_confirm(segue__txn *txn, const char *name, const segue__drain *drain,
                         segue__txn_cb cb, void *data) {
  (void)name, (void)drain;
  segue__txn_confirm(txn, cb, data);
}

static int txn_confirm(lua_State *L) {
  segue__txn *txn = bind_txn_check(L);
  segue__txn_check_use(L, txn, SEGUE__TXN_CONFIRM, NULL);
  return segue__txn_wait(L, txn, "txn:confirm", &(segue__txn_verb){.call = call_confirm});
}

/* ---- The rest ---- */

static int txn_reject(lua_State *L) {
  segue__txn *txn = bind_txn_check(L);
  const char *why = luaL_checkstring(L, 2);
  segue__txn_check_use(L, txn, SEGUE__TXN_REJECT, NULL);
  segue__txn_reject(txn, why);
  return 0;
}

/* defer(milliseconds, why): the Lua half turns durations into milliseconds. */
static int txn_defer(lua_State *L) {
  segue__txn *txn = bind_txn_check(L);
  lua_Number ms = luaL_checknumber(L, 2);
  if (!(ms >= 0 && ms <= 1e13)) return luaL_error(L, "txn:defer: the time is out of range");
  const char *why = luaL_checkstring(L, 3);
  segue__txn_check_use(L, txn, SEGUE__TXN_DEFER, NULL);
  segue__txn_defer(txn, (uint64_t)ms, why);
  return 0;
}

/* True if the change at `path` concerns `asked`: the same place, above or below it. */
static bool txn_concerns(const char *path, const char *asked) {
  size_t a = strlen(path), b = strlen(asked), n = a < b ? a : b;
  if (strncmp(path, asked, n) != 0) return false;
  const char *rest = a > b ? path + n : asked + n;
  return !n || !*rest || *rest == '.' || *rest == '[';
}

static int txn_changed(lua_State *L) {
  const segue__changes *changes = &segue__txn_result(bind_txn_check(L))->changes;
  const char *asked = luaL_optstring(L, 2, NULL);
  if (!asked) lua_createtable(L, (int)changes->count, 0);
  for (size_t i = 0; i < changes->count; i++) {
    if (asked && !txn_concerns(changes->items[i].path, asked)) continue;
    if (asked) {
      lua_pushboolean(L, 1);
      return 1;
    }
    lua_pushstring(L, changes->items[i].path);
    lua_rawseti(L, -2, (int)i + 1);
  }
  /* Past the limit the list is not complete: then anything may have changed. */
  if (asked) lua_pushboolean(L, changes->total > changes->count);
  return 1;
}

static void push_plan(lua_State *L, const segue__result *result) {
  lua_createtable(L, (int)result->step_count, 0);
  for (size_t i = 0; i < result->step_count; i++) {
    const segue__plan_step *step = &result->steps[i];
    lua_createtable(L, 0, 3);
    lua_pushstring(L, step->module);
    lua_setfield(L, -2, "module");
    lua_pushstring(L, step->action);
    lua_setfield(L, -2, "action");
    lua_pushstring(L, step->why);
    lua_setfield(L, -2, "why");
    lua_rawseti(L, -2, (int)i + 1);
  }
}

static void push_root(lua_State *L, const segue_snapshot *snapshot) {
  segue__value_push(L, snapshot, snapshot ? segue_snapshot_root(snapshot) : NULL);
}

static int index_txn(lua_State *L) {
  const char *key = luaL_checkstring(L, 2);
  lua_pushvalue(L, 2);
  lua_rawget(L, lua_upvalueindex(1));
  if (!lua_isnil(L, -1)) return 1;
  segue__txn *txn = bind_txn_check(L);
  const segue__result *result = segue__txn_result(txn);
  if (!strcmp(key, "cause"))
    lua_pushstring(L, result->cause);
  else if (!strcmp(key, "trigger"))
    lua_pushstring(L, segue__trigger_name(result->trigger));
  else if (!strcmp(key, "id"))
    lua_pushnumber(L, (lua_Number)result->id);
  else if (!strcmp(key, "next"))
    push_root(L, segue__txn_next(txn));
  else if (!strcmp(key, "prev"))
    push_root(L, (*(segue__txn_handle **)lua_touserdata(L, 1))->prev);
  else if (!strcmp(key, "plan"))
    push_plan(L, result);
  else if (!strcmp(key, "module"))
    segue__txn_modules_push(L, *(segue__txn_handle **)lua_touserdata(L, 1));
  else
    return luaL_error(L,
                      "txn has no '%s': it has prepare, commit, confirm, reject, defer, changed, "
                      "cause, trigger, id, next, prev, plan and module",
                      key);
  return 1;
}

static int txn_refuse_write(lua_State *L) {
  return luaL_error(L, "txn cannot be changed");
}

static int bind_txn_collect(lua_State *L) {
  segue__txn_handle **box = lua_touserdata(L, 1);
  segue__txn_handle_unref(*box);
  *box = NULL;
  return 0;
}

static int txn_to_string(lua_State *L) {
  segue__txn_handle **box = luaL_checkudata(L, 1, metatable);
  if (*box && (*box)->txn)
    lua_pushfstring(L, "transaction %d", (int)segue__txn_result((*box)->txn)->id);
  else
    lua_pushliteral(L, "transaction (over)");
  return 1;
}

/* The Lua half's, which knows durations, takes the place of one of the methods on the stack. */
static void txn_wrap(lua_State *L, const char *method) {
  lua_getfield(L, LUA_REGISTRYINDEX, "segue.core");
  lua_pushfstring(L, "wrap_%s", method);
  lua_gettable(L, -2);
  lua_getfield(L, -3, method);
  lua_call(L, 1, 1);
  lua_setfield(L, -3, method);
  lua_pop(L, 1);
}

static void set_function(lua_State *L, const char *field, lua_CFunction fn) {
  lua_pushcfunction(L, fn);
  lua_setfield(L, -2, field);
}

void segue__txn_set_type(lua_State *L, const segue__txn_type *type) {
  if (luaL_newmetatable(L, type->name)) {
    lua_createtable(L, 0, 8);
    luaL_setfuncs(L, type->methods, 0);
    if (type->wrapped) txn_wrap(L, type->wrapped);
    lua_pushcclosure(L, type->index, 1);
    lua_setfield(L, -2, "__index");
    set_function(L, "__newindex", type->refuse);
    set_function(L, "__gc", type->collect);
    set_function(L, "__tostring", type->to_string);
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
  }
  lua_setmetatable(L, -2);
}

void segue__txn_push(lua_State *L, segue__txn_handle *handle) {
  static const luaL_Reg methods[] = {{"prepare", txn_prepare},
                                     {"commit", txn_commit},
                                     {"confirm", txn_confirm},
                                     {"reject", txn_reject},
                                     {"defer", txn_defer},
                                     {"changed", txn_changed},
                                     {NULL, NULL}};
  static const segue__txn_type type = {metatable,        methods,          "defer",      index_txn,
                                       txn_refuse_write, bind_txn_collect, txn_to_string};
  segue__txn_handle **box = lua_newuserdata(L, sizeof(*box));
  *box = NULL;
  segue__txn_set_type(L, &type);
  *box = handle;
  handle->refs++;
}
