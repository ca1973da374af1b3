/* SPDX-License-Identifier: MIT
 *
 * testing_internal.h: values for the state of specs. A field is set in the table on top; one
 * without a text is left out.
 */
#ifndef SEGUE_BIND_TESTING_INTERNAL_H
#define SEGUE_BIND_TESTING_INTERNAL_H

#include <lua.h>

#include "rehearsal.h"

void segue__testing_set_text(lua_State *L, const char *key, const char *value);
void segue__testing_set_number(lua_State *L, const char *key, lua_Number value);
void segue__testing_set_flag(lua_State *L, const char *key, bool value);
/* A null member of a map is left out; a null item of a list is testing.null, so that the items
 * after it keep their numbers. */
void segue__testing_push_node(lua_State *L, const segue_node *node);
void segue__testing_push_result(lua_State *L, const segue__result *result);

#endif
