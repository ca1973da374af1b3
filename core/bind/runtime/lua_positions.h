/* SPDX-License-Identifier: MIT
 *
 * lua_positions.h: where a Lua text assigns which name, as far as one can tell without running it.
 */
#ifndef SEGUE_BIND_LUA_POSITIONS_H
#define SEGUE_BIND_LUA_POSITIONS_H

#include <stddef.h>
#include <stdint.h>

/* A table that is written down, or what stands before a dot. The first one is the text itself. */
typedef struct segue__lua_positions_table {
  const char *name; /* in the text; NULL: it has none */
  uint32_t len;
  int32_t parent; /* its number; -1: inside a function, where nothing has a place */
} segue__lua_positions_table;
typedef struct segue__line {
  const char *name; /* in the text */
  uint32_t len, line;
  int32_t table; /* that it is assigned in; -1 as above */
} segue__line;
typedef struct segue__lua_positions {
  segue__line *items; /* sorted by name */
  size_t count, capacity;
  segue__lua_positions_table *tables;
  size_t table_count, table_capacity;
  int32_t root;         /* the table that the text returns; 0: not known */
  const char *variable; /* or the variable; NULL: not known */
  uint32_t variable_len;
} segue__lua_positions;

/* Borrows the text. Returns 0 or UV_ENOMEM. */
int segue__lua_positions_init(segue__lua_positions *lines, const char *text, size_t len);
void segue__lua_positions_deinit(segue__lua_positions *lines);
/* The line of `name = ...`, if the text has that once; else `otherwise`. */
uint32_t segue__lua_positions_find(const segue__lua_positions *lines, const char *name, size_t len,
                                   uint32_t otherwise);
/* The line of a key of what the text returns: "timeouts.check". Where the key is not written down
 * there, its only namesake elsewhere, or the line of what it belongs to. 0: not known. */
uint32_t segue__lua_positions_at(const segue__lua_positions *lines, const char *path);

#endif
