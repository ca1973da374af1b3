/* SPDX-License-Identifier: MIT
 *
 * value.h: configuration values in Lua. A list or map is a read-only userdata that behaves like a
 * plain table in policies and holds a counted reference to its snapshot; scalars are plain Lua
 * values. An explicit null reads as nil in a map (like an absent key) and as segue.null in a list
 * (so that positions stay). Integers beyond 2^53 are segue.int, exact.
 */
#ifndef SEGUE_BIND_VALUE_H
#define SEGUE_BIND_VALUE_H

#include "../../config/snapshot.h"
#include "state.h"

typedef struct segue__value {
  const segue_snapshot *snapshot; /* a reference */
  const segue_node *node;         /* a list or map */
} segue__value;

/* Creates the metatables; call it before all other functions here. */
void segue__value_open(lua_State *L);
/* Pushes any node; NULL and nulls push nil. */
void segue__value_push(lua_State *L, const segue_snapshot *snapshot, const segue_node *node);
/* Returns the configuration value at index; NULL if it is something else. */
segue__value *segue__value_test(lua_State *L, int index);
/* Pushes item i (0-based) of a list, with null as segue.null. Below: the member or item for the Lua
 * key at index key; NULL if there is none. */
void segue__value_push_item(lua_State *L, const segue__value *value, size_t i);
const segue_node *segue__value_find(lua_State *L, const segue__value *value, int key);
/* Pushes the key and value that follow the key at index key, and returns 2; pushes nil at the end,
 * and returns 1. */
int segue__value_next(lua_State *L, const segue__value *value, int key);
void segue__value_push_null(lua_State *L);
bool segue__value_is_null(lua_State *L, int index);

/* int64.c: integers become numbers if these are exact, else segue.int. */
typedef __int128 segue__wide;
void segue__int_open(lua_State *L);
void segue__int_push(lua_State *L, segue__wide value);
bool segue__int_test(lua_State *L, int index, segue__wide *out); /* a segue.int */
int segue__int_new(lua_State *L); /* Lua: segue.int(number or text) */

#endif
