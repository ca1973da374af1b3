/* SPDX-License-Identifier: MIT
 *
 * scripts.h: finding the Lua half of segue, and its plugins.
 */
#ifndef SEGUE_SCRIPTS_H
#define SEGUE_SCRIPTS_H

#include "../os/error.h"
#include "../os/mem.h"

/* given, else $SEGUE_LUA_DIR, else near the program or the library, else where it is installed.
 * *out is the caller's. */
int segue__scripts_find(const char *given, char **out, segue_error *err);
/* The folder of the plugins that segue brings, by the same rule ($SEGUE_PLUGIN_DIR). NULL: there is
 * none. *out is the caller's. */
int segue__plugin_dir_find(char **out, segue_error *err);

#endif
