/* SPDX-License-Identifier: MIT
 *
 * view.h: data of a template in the Lua code of a policy. A view is a read-only userdata over a
 * table that the code never gets, so that the data can be sent once and passed again and again: no
 * function changes what another one sees.
 */
#ifndef SEGUE_BIND_VIEW_H
#define SEGUE_BIND_VIEW_H

#include "../runtime/state.h"

typedef struct segue__view {
  uint32_t id; /* of the table in the state of templates, see transfer.h; 0: it has none */
  uint32_t epoch;
  /* The members that were not read are not there yet. fetch(view, key) pushes the member, or the
   * whole table as a view where there is no key. NULL: the view is complete. */
  lua_CFunction fetch;
} segue__view;

/* Creates the metatable, and the global segue with copy, array and null. */
void segue__view_open(lua_State *L);
/* Replaces the table on top of the stack by a view of it. */
segue__view *segue__view_wrap(lua_State *L);
/* NULL: the value is no view. */
segue__view *segue__view_test(lua_State *L, int index);
/* Pushes the table of a view, complete; any other value as it is. */
void segue__view_content(lua_State *L, int index);
/* Raises the error of a change if the value is a view. */
void segue__view_refuse(lua_State *L, int index);

#endif
