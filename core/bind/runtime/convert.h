/* SPDX-License-Identifier: MIT
 *
 * convert.h: a Lua value as a tree of nodes: documents, configuration files written in Lua, and the
 * tables of a policy. A table with texts as keys is a map, in the order of its keys; one with the
 * keys 1, 2, 3 ... is a list; an empty table is a map. Numbers without a fraction up to 2^53 are
 * integers, larger integers are segue.int.
 */
#ifndef SEGUE_BIND_CONVERT_H
#define SEGUE_BIND_CONVERT_H

#include "../../config/tree.h"
#include "lua_positions.h"
#include "state.h"

/* The error messages of a caller. code is that of keys, cycle and depth; 0: SEGUE_ETYPE, and
 * SEGUE_ELIMIT for depth. */
typedef struct segue__conversion_errors {
  const char *type; /* of a function and the like; %s is the type in Lua */
  const char *keys; /* a table is neither a list nor a map */
  const char *cycle, *depth, *size;
  int code;
} segue__conversion_errors;

typedef struct segue__conversion {
  const segue__conversion_errors *errors;
  unsigned depth_max;      /* tables in tables; never more than SEGUE__DEPTH_MAX */
  uint32_t values_max;     /* 0: the limits of the builder are enough, and below */
  size_t bytes_max;        /* of the tree */
  bool finite;             /* refuses NaN and the infinities */
  bool shows_path;         /* err gets the path of the value, whether or not it is a secret */
  uint32_t line;           /* of the value; 0: not known */
  segue__lua_lines *lines; /* finds the lines of keys; NULL: all nodes are at `line` */

  /* The value is made of options: a function is an opaque node, as every value that is no data; a
   * table with both kinds of keys is a map with the list SEGUE__POSITIONAL; texts are bytes; and
   * what a constructor made (segue.file ...) is at the place where the constructor was called.
   * Returns the number of the file of that place, with which its nodes are marked. */
  int (*file)(void *data, const char *name, uint32_t *number);
  void *data;
} segue__conversion;

/* Adds the value at index to the builder, whose owner is on the stack or behind a protected call:
 * raises if the budget of the call or the memory of the state is used up. Returns 0, or the code of
 * the failure, which also ends the builder, and fills err. No metamethod is called, so no code of
 * the policy runs in the middle. */
int segue__lua_convert(lua_State *L, int index, segue__builder *b, const segue__conversion *options,
                       segue_error *err);

#endif
