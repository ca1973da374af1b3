/* SPDX-License-Identifier: MIT
 *
 * saved_state.h: segue.state, the table that survives a change of the policy: plain data copied out
 * of one Lua state and into the next. Other values are left out, which is logged.
 */
#ifndef SEGUE_BIND_SAVED_STATE_H
#define SEGUE_BIND_SAVED_STATE_H

#include "../runtime/state.h"

/* Works on a state that has hit a limit, too. */
void segue__saved_state_save(segue__lua *lua, segue__buf *out);
/* Inside a call. */
void segue__saved_state_load(lua_State *L, const segue__buf *saved);

#endif
