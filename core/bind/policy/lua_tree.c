/* SPDX-License-Identifier: MIT
 *
 * Tables of a policy as trees: the files and lines of their nodes, and the limits of a policy.
 */
#include "lua_tree.h"

#include <string.h>

#include "../../config/builder.h"

enum { DEPTH_MAX = 100, VALUES_MAX = 1000000 };

/* Finds or adds a file. Out of memory ends the conversion: with another number, errors would name a
 * wrong file. */
static int tree_add_file(void *data, const char *name, uint32_t *number) {
  segue__lua_tree *tree = data;
  for (*number = 0; *number < tree->file_count; ++*number)
    if (!strcmp(tree->files[*number], name)) return 0;
  if (tree->file_count == tree->file_capacity) {
    size_t capacity = tree->file_capacity + 8;
    const char **files = segue__realloc(tree->files, capacity * sizeof *files);
    if (!files) return UV_ENOMEM;
    tree->files = files;
    tree->file_capacity = capacity;
  }
  const char *copy = segue__arena_strndup(&tree->doc->arena, name, strlen(name));
  if (!copy) return UV_ENOMEM;
  tree->files[tree->file_count++] = copy;
  return 0;
}

static int tree_convert(segue__lua_tree *tree, lua_State *L, int index, uint32_t line,
                        segue_error *err) {
  static const segue__conversion_errors errors = {
      .keys = "the keys of a table must be texts, or 1, 2, 3 ... without a gap",
      .cycle = "a table contains itself",
      .depth = "tables are nested too deeply: flatten them",
      .size = "the tables of the policy are too large",
      .code = SEGUE_EPOLICY};
  const segue__conversion options = {.errors = &errors,
                                     .depth_max = DEPTH_MAX,
                                     .values_max = VALUES_MAX,
                                     .bytes_max = segue__lua_copies_left(segue__lua_of(L)),
                                     .line = line,
                                     .lines = tree->lines.slots ? &tree->lines : NULL,
                                     .file = tree_add_file,
                                     .data = tree};
  int rc = segue__lua_convert(L, index, tree->builder, &options, err);
  if (!rc) rc = segue__builder_finish(tree->builder, err);
  if (rc) {
    const char *file = segue__lua_tree_file(tree, tree->builder->document);
    segue__error_set_place(err, file, tree->builder->line, 0);
    return rc;
  }
  tree->root = tree->doc->root;
  return segue__lua_copies(segue__lua_of(L), tree->doc->arena.used)
             ? 0
             : segue__lua_refuse_copy(segue__lua_of(L), err);
}

int segue__lua_tree_init(segue__lua_tree *tree, lua_State *L, int index, const char *file,
                         uint32_t line, const char *text, size_t len, segue_error *err) {
  uint32_t first;
  memset(tree, 0, sizeof *tree);
  int rc = segue__document_new(&tree->doc, 0, "", "", SEGUE__BUILT, NULL, 0);
  if (!rc) {
    tree->doc->foreign = true; /* the root may be of any type */
    rc = segue__builder_new(&tree->builder, tree->doc, NULL);
  }
  if (!rc && text) rc = segue__lua_lines_init(&tree->lines, text, len);
  if (!rc) rc = tree_add_file(tree, file, &first);
  if (rc) return segue__errorf(err, UV_ENOMEM, "out of memory");
  return tree_convert(tree, L, index, line, err);
}

void segue__lua_tree_deinit(segue__lua_tree *tree) {
  segue__lua_lines_deinit(&tree->lines);
  segue__builder_free(tree->builder);
  segue__document_unref(tree->doc);
  segue__free(tree->files);
  memset(tree, 0, sizeof *tree);
}

const char *segue__lua_tree_file(void *data, uint32_t document) {
  const segue__lua_tree *tree = data;
  return document < tree->file_count ? tree->files[document] : NULL;
}
