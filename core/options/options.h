/* SPDX-License-Identifier: MIT
 *
 * options.h: validating a tree by a table of options, and filling a struct from it. The tree comes
 * from a policy, from Lua arguments or from a configuration; its nodes know their lines. [any
 * thread]: nothing here is shared.
 */
#ifndef SEGUE_OPTIONS_OPTIONS_H
#define SEGUE_OPTIONS_OPTIONS_H

#include "../config/tree.h"

/* A kind of a family: "source" "file"; name NULL: the family itself, or a table on its own, for
 * documentation. data: what an element of this kind gets with it. */
typedef struct segue__option_kind {
  const char *family, *name;
  const segue_option_table *table;
  const void *data;
} segue__option_kind;

/* Where a tree comes from, and how its errors are written. All borrowed; zero: does not apply. */
typedef struct segue__options_env {
  const segue__option_kind *kinds;
  size_t kind_count;
  const char *folder;  /* for relative paths */
  const char *subject; /* before every path in a message: "segue.file" */
  const char *path; /* of the tree, where it is a part of a larger one: "modules.cache.options" */
  int code;         /* of the errors; 0: SEGUE_EPOLICY */
  uint32_t first;   /* number of the first item of a list: 1 in Lua, 0 in configuration */
  /* Returns the name of the file of a node's document; NULL: not known. */
  const char *(*file)(void *data, uint32_t document);
  void *data;
  bool hide; /* values of the tree may be secrets: messages do not show them */
} segue__options_env;

/* Opaque values: a node of type SEGUE_NULL that stands for a value that is no data. */
enum { SEGUE__NODE_OPAQUE = 2 }; /* flag; v.u is the number of a function, 0: reserved names it */
typedef enum segue__opaque { SEGUE__OPAQUE_FUNCTION = 1, SEGUE__OPAQUE_OTHER } segue__opaque;

/* The member of a table that holds its items without a key, in a tree whose language has tables
 * that are list and map at once. */
#define SEGUE__POSITIONAL ""

/* Fills *out (struct_size bytes) from node, a map or list; NULL: from the defaults alone. All
 * errors are added. Returns 0; else the code of the first error or UV_ENOMEM, and *out is zeroed
 * and owns nothing. */
int segue__options_fill(const segue_option_table *table, const segue_node *node, void *out,
                        const segue__options_env *env, segue__errors *errors);
/* Frees what the struct owns, and zeroes it. NULL allowed. */
void segue__options_clear(const segue_option_table *table, void *out);

/* Validates one value by the type, range and choices of a row, and stores it at `at`. Not for
 * lists, maps and tables. */
int segue__option_validate(const segue_option *row, const segue_node *node, void *at,
                           const segue__options_env *env, segue__errors *errors);

/* Options of a plugin or a host, validated and kept: a struct that a table filled, and the tree
 * that it may point into (SEGUE_OPTION_ANY). Counted, because an instance of a module keeps its
 * options longer than the policy that they were written in. Control thread. */
typedef struct segue__option_values segue__option_values;
/* node: a map of plain data, which is copied; table NULL: only the tree is kept. Returns 0, or a
 * code with errors added: the same as segue__options_fill. */
int segue__option_values_new(segue__option_values **out, const segue_option_table *table,
                             const segue_node *node, const segue__options_env *env,
                             segue__errors *errors);
segue__option_values *segue__option_values_ref(segue__option_values *values); /* NULL allowed */
void segue__option_values_unref(segue__option_values *values);                /* NULL allowed */
/* The struct; NULL: there are no values, or no table. */
void *segue__option_values_get(const segue__option_values *values);
/* The tree, without places. */
const segue_node *segue__option_values_tree(const segue__option_values *values);

/* Returns a sentence about a mistake in a table that a plugin or a host brings, such as "has an
 * option without a name"; NULL: there is none. */
const char *segue__options_problem(const segue_option_table *table);

/* For those that read tables: rows with those of the included tables, in order; NULL past the end.
 */
const segue_option *segue__options_row(const segue_option_table *table, size_t index);
const segue_option *segue__options_find(const segue_option_table *table, const char *name,
                                        size_t len);
/* The option that a function stands for where a value that is no table is written: the first one
 * that takes a function. NULL: there is none, or shorthand names it already. */
const segue_option *segue__options_function(const segue_option *row);
/* The choice at an index; *len is its length; NULL past the end. */
const char *segue__choices_at(const char *choices, size_t index, size_t *len);
size_t segue__option_scalar_size(segue_option_type type);

#endif
