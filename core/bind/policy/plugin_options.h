/* SPDX-License-Identifier: MIT
 *
 * plugin_options.h: the options that a plugin in Lua declares, as a table of rows like those of
 * plugins in C: the validation and `segue help options PLUGIN` use the same rows.
 */
#ifndef SEGUE_BIND_PLUGIN_OPTIONS_H
#define SEGUE_BIND_PLUGIN_OPTIONS_H

#include "../../options/options.h"
#include "../runtime/state.h"

/* Makes rows from the table at index `declared`:
 *   prefix = "text"                      the name of a type
 *   mode = { "all", "some" }             the texts that are allowed
 *   every = { type = "duration", default = "30s", doc = "...", required = false, min = 1, max = 9 }
 * The rows borrow texts of that table, and of the table at index `texts`, which is filled. *rows
 * belongs to the caller, also if an error is raised. */
void segue__lua_rows(lua_State *L, int declared, int texts, segue_option **rows,
                     segue_option_table *out);

#endif
