/* SPDX-License-Identifier: MIT
 *
 * txn.h: the transaction as the reload hook sees it.
 */
#ifndef SEGUE_BIND_TXN_H
#define SEGUE_BIND_TXN_H

#include "../reload/engine.h"
#include "state.h"

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
  void (*call)(segue__txn *txn, const char *name, uint64_t within_ms, segue__txn_cb cb, void *data);
  const char *name;
  uint64_t within_ms;
} segue__txn_verb;
int segue__txn_wait(lua_State *L, segue__txn *txn, const char *what, const segue__txn_verb *verb);

/* txn_module.c: txn.module. */
void segue__txn_modules_push(lua_State *L, segue__txn_handle *handle);

#endif
