/* SPDX-License-Identifier: MIT
 *
 * ordered.h: Lua's functions on tables and texts for the Lua code of templates. Their results are
 * the same in each process, and they know views (view.h).
 */
#ifndef SEGUE_BIND_ORDERED_H
#define SEGUE_BIND_ORDERED_H

#include "../runtime/state.h"

/* Replaces the functions of a state. Their originals are those of the sandbox. */
void segue__ordered_open(lua_State *L);

#endif
