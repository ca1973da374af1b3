/* SPDX-License-Identifier: MIT
 *
 * lua_positions.h: the lines at which a Lua text assigns names, found without running it. Best
 * effort.
 */
#ifndef SEGUE_BIND_LUA_POSITIONS_H
#define SEGUE_BIND_LUA_POSITIONS_H

#include <stddef.h>
#include <stdint.h>

/* A table constructor in the text, or the prefix of a name with a dot. The first one is the text
 * itself. */
typedef struct segue__lua_positions_table {
  const char *name; /* in the text; NULL: it has none */
  uint32_t len;
  int32_t parent; /* its index; -1: inside a function, where names have no position */
} segue__lua_positions_table;
typedef struct segue__line {
  const char *name; /* in the text */
  uint32_t len, line;
  int32_t table; /* the table it is assigned in; -1 as above */
} segue__line;
typedef struct segue__lua_positions {
  segue__line *items;
  size_t count, capacity;
  segue__lua_positions_table *tables;
  size_t table_count, table_capacity;
  int32_t root;         /* the table that the text returns; 0: unknown */
  const char *variable; /* or the variable; NULL: unknown */
  uint32_t variable_len;
} segue__lua_positions;

/* Borrows the text. Returns 0 or UV_ENOMEM. */
int segue__lua_positions_init(segue__lua_positions *lines, const char *text, size_t len);
void segue__lua_positions_deinit(segue__lua_positions *lines);
/* Returns the line of a key of the returned table, such as "timeouts.check". If the key has no
 * position, returns that of the only other key with this name, or that of its parent; 0: unknown.
 */
uint32_t segue__lua_positions_at(const segue__lua_positions *lines, const char *path);

/* The lines of keys by the hash of their path from the value that the text returns ("modules",
 * "web", "kind"). One look-up for each key: a policy of 200 modules has 200 keys `kind`, and
 * comparing each with each is slower than everything else together. */
typedef struct segue__lua_lines {
  struct segue__lua_lines_slot *slots;
  size_t mask;
} segue__lua_lines;
enum { SEGUE__LUA_LINES_ROOT = 1 };
int segue__lua_lines_init(segue__lua_lines *lines, const char *text, size_t len); /* as above */
void segue__lua_lines_deinit(segue__lua_lines *lines); /* zeroed or initialized */
/* Returns the path of a key in the table at the path `parent`. */
uint64_t segue__lua_lines_path(uint64_t parent, const char *name, size_t len);
/* Returns the line that assigns the key of the table at `parent`; 0: a list is on the way. Without
 * it, the line of the only key with this name in lists, or outside of the returned value. Returns 0
 * if there is none, or more than one: a wrong line would mislead the reader more than none. */
uint32_t segue__lua_lines_find(const segue__lua_lines *lines, uint64_t parent, const char *name,
                               size_t len);

#endif
