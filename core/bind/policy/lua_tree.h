/* SPDX-License-Identifier: MIT
 *
 * lua_tree.h: tables of a policy as a tree of nodes that know file and line, so that C validates by
 * tables of options what a policy returned or a constructor was given (runtime/convert.h).
 *
 * Lua does not store where a table was written. A constructor (segue.file ...) stores the place of
 * its call in its result; that is the place of all nodes in it. For all other nodes the text of the
 * policy is searched for the assignment of the key (lua_positions).
 */
#ifndef SEGUE_BIND_LUA_TREE_H
#define SEGUE_BIND_LUA_TREE_H

#include "../../options/options.h"
#include "../runtime/convert.h"

typedef struct segue__lua_tree {
  segue_node root; /* lives as long as the document */
  segue__document *doc;
  segue__builder *builder; /* while it is built */
  segue__lua_lines lines;
  const char **files; /* by segue_node.document */
  size_t file_count, file_capacity;
} segue__lua_tree;

/* Converts the value at index. text: of the policy, where positions are searched; NULL: every node
 * is at file and line. May raise as segue__lua_convert does; what tree holds is freed by deinit in
 * any case. Returns 0, UV_ENOMEM or SEGUE_ELIMIT with err filled. */
int segue__lua_tree_init(segue__lua_tree *tree, lua_State *L, int index, const char *file,
                         uint32_t line, const char *text, size_t len, segue_error *err);
void segue__lua_tree_deinit(segue__lua_tree *tree); /* zeroed or initialized */
/* For segue__options_env.file, with the tree as data. */
const char *segue__lua_tree_file(void *tree, uint32_t document);

#endif
