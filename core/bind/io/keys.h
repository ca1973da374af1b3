/* SPDX-License-Identifier: MIT
 *
 * keys.h: key spaces (segue.keys) as values of Lua, for the sources that deliver them.
 */
#ifndef SEGUE_BIND_KEYS_H
#define SEGUE_BIND_KEYS_H

#include "../../source/space.h"
#include "../runtime/state.h"

/* Returns the key space that is the value at index; NULL: it is none. */
segue__space *segue__keys_test(lua_State *L, int index);
void segue__keys_open(lua_State *L); /* for segue__io_open */

#endif
