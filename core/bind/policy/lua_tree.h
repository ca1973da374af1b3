/* SPDX-License-Identifier: MIT
 *
 * lua_tree.h: a Lua value as a tree of nodes that know file and line, so that C judges by tables of
 * options what a policy returned or a constructor was given. A table with texts as keys is a map in
 * the order of its keys, one with 1, 2, 3 ... a list; in one with both, the items are the list
 * SEGUE__POSITIONAL of the map. A function is an opaque node.
 *
 * Lua does not store where a table was written. A constructor (segue.file ...) stores the place of
 * its call in its result; that is the place of all nodes in it. For all other nodes the text of the
 * policy is searched for the assignment of the key (lua_positions).
 */
#ifndef SEGUE_BIND_LUA_TREE_H
#define SEGUE_BIND_LUA_TREE_H

#include "../../options/options.h"
#include "../runtime/state.h"

typedef struct segue__lua_tree segue__lua_tree;
struct segue__lua_tree {
  segue__arena arena;
  segue_node root;
  const char **files; /* by segue_node.document */
  size_t file_count, file_capacity;
  struct tree_entries *entries; /* private, while it is built */
};

/* Converts the value at index. text: of the policy, where positions are searched for; NULL: every
 * node is at file and line. May raise only for the CPU budget; what tree holds is freed by deinit
 * in any case. Returns 0, UV_ENOMEM or SEGUE_ELIMIT with err filled. */
int segue__lua_tree_init(segue__lua_tree *tree, lua_State *L, int index, const char *file,
                         uint32_t line, const char *text, size_t len, segue_error *err);
void segue__lua_tree_deinit(segue__lua_tree *tree); /* zeroed or initialized */
/* For segue__options_env.file, with the tree as data. */
const char *segue__lua_tree_file(void *tree, uint32_t document);

#endif
