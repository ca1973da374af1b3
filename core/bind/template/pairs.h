/* SPDX-License-Identifier: MIT
 *
 * pairs.h: pairs and tostring that give the same in each process, for Lua code of templates.
 */
#ifndef SEGUE_BIND_PAIRS_H
#define SEGUE_BIND_PAIRS_H

#include "../runtime/state.h"

/* Replaces the globals pairs and tostring of a state. */
void segue__pairs_open(lua_State *L);
/* pairs(table): numbers, then texts by their bytes, then the others. Costs a sort of the keys. */
int segue__sorted_pairs(lua_State *L);

#endif
