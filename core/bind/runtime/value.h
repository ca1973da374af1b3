/* SPDX-License-Identifier: MIT
 *
 * value.h: config values in Lua. A list or map is a read-only userdata that behaves as a plain
 * table in policies and holds a counted reference on its snapshot; scalars are plain Lua values. An
 * explicit null reads as nil in a map (as if it were absent) and as segue.null in a list (so that
 * positions stay). Integers beyond 2^53 are segue.int, exact.
 */
#ifndef SEGUE_BIND_VALUE_H
#define SEGUE_BIND_VALUE_H

#include "../../config/snapshot.h"
#include "state.h"

typedef struct segue__value {
  const segue_snapshot *snapshot; /* a reference */
  const segue_node *node;         /* a list or map */
} segue__value;

/* Metatables; before anything else here. */
void segue__value_open(lua_State *L);
/* Pushes any node; NULL and nulls push nil. */
void segue__value_push(lua_State *L, const segue_snapshot *snapshot, const segue_node *node);
/* The config value at index, or NULL if it is something else. */
segue__value *segue__value_test(lua_State *L, int index);
/* Item i (0-based) of a list, with null as segue.null; the member or item for a Lua key at index
 * key, NULL if there is none. */
void segue__value_push_item(lua_State *L, const segue__value *value, size_t i);
const segue_node *segue__value_find(lua_State *L, const segue__value *value, int key);
/* The node after the key at index key: pushes key and value and returns 2, or pushes nil: 1. */
int segue__value_next(lua_State *L, const segue__value *value, int key);
void segue__value_push_null(lua_State *L);
bool segue__value_is_null(lua_State *L, int index);

/* int64.c: integers as numbers where those are exact, else as segue.int. */
typedef __int128 segue__wide;
void segue__int_open(lua_State *L);
void segue__int_push(lua_State *L, segue__wide value);
bool segue__int_test(lua_State *L, int index, segue__wide *out); /* a segue.int */
int segue__int_new(lua_State *L); /* Lua: segue.int(number or text) */

#endif
