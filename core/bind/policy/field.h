/* SPDX-License-Identifier: MIT
 *
 * field.h: fields of a table that the Lua half has judged, so that they have the right types. Each
 * raises a Lua error when memory runs out: call them in protected code.
 */
#ifndef SEGUE_BIND_FIELD_H
#define SEGUE_BIND_FIELD_H

#include <lua.h>

#include "../../os/mem.h"

#include <stdbool.h>
#include <stdint.h>

char *segue__field_text(lua_State *L, int index, const char *key); /* a copy; NULL: none */
char *segue__field_copy(lua_State *L); /* copies the text on top, which stays; never NULL */
double segue__field_number(lua_State *L, int index, const char *key, double otherwise);
uint64_t segue__field_count(lua_State *L, int index, const char *key, uint64_t otherwise);
bool segue__field_flag(lua_State *L, int index, const char *key);
/* Pushes the list `key`; returns its length, and zeroed room for so many items in *items (a pointer
 * to a pointer; NULL for none). */
size_t segue__field_list(lua_State *L, int index, const char *key, size_t item_size, void *items);

#endif
