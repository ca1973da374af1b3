/* SPDX-License-Identifier: MIT
 *
 * store.h: segue.state, the table that survives: plain data copied out of one Lua state and into
 * the next. What is not plain data stays behind, and the log says so.
 */
#ifndef SEGUE_BIND_STORE_H
#define SEGUE_BIND_STORE_H

#include "state.h"

/* Works on a state that has hit a limit, too. */
void segue__store_save(segue__lua *lua, segue__buf *out);
/* Inside a call. */
void segue__store_load(lua_State *L, const segue__buf *saved);

#endif
