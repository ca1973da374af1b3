/* SPDX-License-Identifier: MIT
 *
 * library.h: the Lua half in memory. Each new Lua state loads it, also hours after the start: a
 * state that hit a limit is built again. If the files were read from disk each time, a daemon whose
 * installation is replaced or removed would answer every request with 500. [any thread] except new
 * and free.
 */
#ifndef SEGUE_BIND_LIBRARY_H
#define SEGUE_BIND_LIBRARY_H

#include "../../os/os.h"

typedef struct segue__library segue__library;

/* Reads every file of the Lua half in lua_dir, and those of the plugins beside it. Leaves out a
 * file that cannot be read: a state then reads that file from disk and reports the error. */
int segue__library_new(segue__library **out, const segue__os *os, const char *lua_dir);
void segue__library_free(segue__library *library); /* NULL allowed */
/* Returns the text of a file by its path; NULL if that file was not read. NULL library allowed. */
const char *segue__library_find(const segue__library *library, const char *path, size_t *len);
/* Returns the text of the i-th file of plugins in Lua; NULL if there are fewer. NULL library
 * allowed. */
const char *segue__library_plugin(const segue__library *library, size_t i, size_t *len);

#endif
