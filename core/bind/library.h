/* SPDX-License-Identifier: MIT
 *
 * library.h: the Lua half in memory. Each Lua state loads it anew, also hours after the start: one
 * that hit a limit is built again. So it is read once, or a daemon whose installation is replaced
 * or gone by then would answer every request with 500. [any thread] but new and free.
 */
#ifndef SEGUE_BIND_LIBRARY_H
#define SEGUE_BIND_LIBRARY_H

#include "../os/os.h"

typedef struct segue__library segue__library;

/* Reads every file of the Lua half in lua_dir, and of the plugins beside it. A file that cannot be
 * read is left out: then a state reads it where it lies, and fails with the reason. */
int segue__library_new(segue__library **out, const segue__os *os, const char *lua_dir);
void segue__library_free(segue__library *library); /* NULL allowed */
/* The text of a file by its path; NULL: it was not read. NULL library allowed. */
const char *segue__library_find(const segue__library *library, const char *path, size_t *len);

#endif
