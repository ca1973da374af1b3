/* SPDX-License-Identifier: MIT
 *
 * txn.h: the transaction as the reload hook sees it.
 */
#ifndef SEGUE_BIND_TXN_H
#define SEGUE_BIND_TXN_H

#include <lauxlib.h>

#include "../../reload/engine.h"
#include "../runtime/state.h"

/* Counted: the hook's and the userdata's. txn is NULL once the transaction is over. */
typedef struct segue__txn_handle {
  int refs;
  segue__txn *txn;
  const segue_snapshot *prev; /* a reference on what was live at the start; NULL: the first */
} segue__txn_handle;

int segue__txn_handle_new(segue__txn_handle **out, segue__txn *txn);
void segue__txn_handle_unref(segue__txn_handle *handle);
/* Pushes a userdata that takes a reference of its own. */
void segue__txn_push(lua_State *L, segue__txn_handle *handle);

/* A verb that waits: the engine is called after Lua has been left, and its answer resumes the task
 * with true, or nil, message, code. name is copied; NULL: it is not about one module. */
typedef struct segue__txn_verb {
  void (*call)(segue__txn *txn, const char *name, const segue__drain *drain, segue__txn_cb cb,
               void *data);
  const char *name;
  segue__drain drain; /* of the one that is a drain */
} segue__txn_verb;
/* Throws at the caller's line if this call is a misuse of the transaction at its present stage. */
void segue__txn_check_use(lua_State *L, const segue__txn *txn, segue__txn_call call,
                          const char *module);
int segue__txn_wait(lua_State *L, segue__txn *txn, const char *what, const segue__txn_verb *verb);

/* The types of the userdata that a hook gets. */
typedef struct segue__txn_type {
  const char *name;        /* of the metatable */
  const luaL_Reg *methods; /* the first upvalue of index */
  const char *wrapped;     /* by the Lua half's wrap_NAME; NULL: none of them */
  lua_CFunction index, refuse, collect, to_string; /* refuse: called by an assignment */
} segue__txn_type;
/* Gives the userdata on the stack its metatable. */
void segue__txn_set_type(lua_State *L, const segue__txn_type *type);

/* txn_module.c: txn.module. */
void segue__txn_modules_push(lua_State *L, segue__txn_handle *handle);

#endif
