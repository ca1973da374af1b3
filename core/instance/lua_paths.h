/* SPDX-License-Identifier: MIT
 *
 * lua_paths.h: finds the Lua half of segue, and its plugins.
 */
#ifndef SEGUE_INSTANCE_LUA_PATHS_H
#define SEGUE_INSTANCE_LUA_PATHS_H

#include "../os/error.h"
#include "../os/mem.h"

/* Finds the folder of the Lua half: `given`, else $SEGUE_LUA_DIR, else near the program or the
 * library, else where it is installed. The caller frees *out. */
int segue__lua_paths_find(const char *given, char **out, segue_error *err);
/* Finds the folder of the plugins that come with segue, by the same rule ($SEGUE_PLUGIN_DIR). NULL:
 * there is none. The caller frees *out. */
int segue__plugin_dir_find(char **out, segue_error *err);

#endif
