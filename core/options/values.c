/* SPDX-License-Identifier: MIT
 *
 * Options of plugins and hosts: their tables come from another compilation, so they are checked
 * before they are used, and the values outlive the policy.
 */
#include <string.h>
#include <uv.h>

#include "../config/utf8.h"
#include "fill.h"

struct segue__option_values {
  size_t refs;
  const segue_option_table *table; /* NULL: none */
  void *filled;
  segue__arena arena; /* of the tree */
  segue_node tree;
};

/* ---- Plain data ------------------------------------------------------------------------------ */

static void validate_plain(segue__fill *j, const segue_node *node);

static void plain_member(segue__fill *j, const segue__member *m) {
  size_t before = segue__fill_enter_key(j, m->key, m->key_len);
  if (segue__utf8_check(m->key, m->key_len) != m->key_len)
    segue__fill_wrong(j, &m->value, "must have a name in UTF-8");
  validate_plain(j, &m->value);
  segue__fill_leave(j, before);
}

/* A tree of a policy in Lua may have functions, and tables that are list and map at once. A plugin
 * reads it by the functions for configuration, which know neither. */
static void validate_plain(segue__fill *j, const segue_node *node) {
  char found[128];
  if (node->flags & SEGUE__NODE_OPAQUE)
    segue__fill_wrong(j, node, "must be plain data%s",
                      segue__fill_found(j, NULL, node, found, sizeof found));
  else if (segue__node_find(node, SEGUE__POSITIONAL, 0))
    segue__fill_wrong(j, node, "must be a list, or a table with texts as keys, not both");
  else
    for (uint32_t i = 0; (node->type == SEGUE_LIST || node->type == SEGUE_MAP) && i < node->count;
         i++) {
      if (node->type == SEGUE_MAP) {
        plain_member(j, &node->v.members[i]);
        continue;
      }
      size_t before = segue__fill_enter_item(j, i);
      validate_plain(j, &node->v.items[i]);
      segue__fill_leave(j, before);
    }
}

static int values_validate(const segue_option_table *table, const segue_node *node, void *filled,
                           const segue__options_env *env, segue__errors *errors) {
  segue__fill j = {.env = env, .errors = errors};
  segue__buf_init(&j.path);
  if (env->path) segue__buf_adds(&j.path, env->path);
  validate_plain(&j, node);
  if (j.path.failed) segue__fill_no_memory(&j);
  segue__buf_deinit(&j.path);
  if (j.rc || !table) return j.rc;
  return segue__options_fill(table, node, filled, env, errors);
}

/* ---- Values ---------------------------------------------------------------------------------- */

/* Errors need the places of the tree of the policy, and a struct that stays must point into the
 * copy, which has none: its places would name files of the configuration. So the original is
 * validated, and the struct is filled again from the copy. */
static int values_fill(segue__option_values *values, const segue_node *node,
                       const segue__options_env *env, segue__errors *errors) {
  int rc = values_validate(values->table, node, values->filled, env, errors);
  if (rc) return rc;
  if (values->table) segue__options_clear(values->table, values->filled);
  rc = segue__node_copy(&values->arena, node, &values->tree);
  if (!rc && values->table)
    rc = segue__options_fill(values->table, &values->tree, values->filled, env, errors);
  return rc;
}

int segue__option_values_new(segue__option_values **out, const segue_option_table *table,
                             const segue_node *node, const segue__options_env *env,
                             segue__errors *errors) {
  segue_error err;
  segue__option_values *values = segue__calloc(1, sizeof *values);
  *out = NULL;
  if (values) *values = (segue__option_values){.refs = 1, .table = table};
  if (values) segue__arena_init(&values->arena);
  if (values && table) values->filled = segue__calloc(1, table->struct_size + 1);
  size_t before = errors->total;
  int rc = UV_ENOMEM;
  if (values && (!table || values->filled)) rc = values_fill(values, node, env, errors);
  if (!rc) {
    *out = values;
    return 0;
  }
  segue__option_values_unref(values);
  if (errors->total == before) {
    segue__errorf(&err, rc, "out of memory");
    segue__errors_add(errors, &err);
  }
  return rc;
}

segue__option_values *segue__option_values_ref(segue__option_values *values) {
  if (values) values->refs++;
  return values;
}

void segue__option_values_unref(segue__option_values *values) {
  if (!values || --values->refs > 0) return;
  if (values->table && values->filled) segue__options_clear(values->table, values->filled);
  segue__free(values->filled);
  segue__arena_deinit(&values->arena);
  segue__free(values);
}

void *segue__option_values_get(const segue__option_values *values) {
  return values ? values->filled : NULL;
}

const segue_node *segue__option_values_tree(const segue__option_values *values) {
  return &values->tree;
}

/* ---- Tables of plugins ----------------------------------------------------------------------- */

enum { TABLES_MAX = 16, ROWS_MAX = 1000 }; /* how deep tables contain tables; rows of one */

static const char *table_problem(const segue_option_table *table, size_t struct_size, int depth);

static const char *items_problem(const segue_option *row, int depth) {
  bool map = row->type == SEGUE_OPTION_MAP;
  if (row->of == SEGUE_OPTION_TABLE) {
    if (!row->table) return "has a list or map of tables without their table";
    if (!row->table->struct_size) return "has a list or map of tables without the size of a struct";
    return table_problem(row->table, row->table->struct_size, depth + 1);
  }
  if (map && row->of != SEGUE_OPTION_TEXT && row->of != SEGUE_OPTION_STRING &&
      row->of != SEGUE_OPTION_ANY)
    return "has a map of values that are neither texts, tables nor any values";
  return segue__option_is_scalar(row->of) ? NULL : "has a list of lists or maps";
}

static bool needs_choices(segue_option_type type) {
  return type == SEGUE_OPTION_CHOICE || type == SEGUE_OPTION_SWITCH || type == SEGUE_OPTION_FLAGS;
}

static const char *row_problem(const segue_option *row, size_t struct_size, int depth) {
  bool stored = row->offset != SEGUE_OPTION_NOT_STORED;
  if (!row->name || !*row->name) return "has an option without a name";
  if (!row->doc) return "has an option without doc";
  if ((unsigned)row->type > SEGUE_OPTION_ANY || (unsigned)row->of > SEGUE_OPTION_ANY)
    return "has an option of a type that this version does not know";
  if (row->type == SEGUE_OPTION_TABLE && !row->table) return "has an option without its table";
  segue_option_type of = segue__option_is_scalar(row->type) ? row->type : row->of;
  if (of == SEGUE_OPTION_FUNCTION) return "has an option that is a function, which C cannot call";
  if (needs_choices(of) && !row->choices) return "has an option without its choices";
  size_t bytes = segue__option_row_bytes(row);
  if (stored && (row->offset > struct_size || bytes > struct_size - row->offset))
    return "has an option outside of its struct";
  if (row->given > struct_size) return "has an option whose given is outside of its struct";
  if (row->type == SEGUE_OPTION_TABLE)
    return table_problem(row->table, stored ? struct_size - row->offset : bytes, depth + 1);
  return segue__option_is_scalar(row->type) ? NULL : items_problem(row, depth);
}

static const char *table_problem(const segue_option_table *table, size_t struct_size, int depth) {
  if (depth > TABLES_MAX) return "has tables that contain themselves, or too many in one another";
  if (table->size < sizeof *table || table->row_size < sizeof *table->rows ||
      table->row_size > sizeof *table->rows * 4)
    return "has a size that is not that of its struct: use SEGUE_OPTION_ROWS";
  if (table->count > ROWS_MAX || (table->count && !table->rows)) return "has an impossible count";
  if (table->family || table->in_family) return "is a family, which only segue itself has";
  if (table->struct_size > struct_size) return "has an option outside of its struct";
  if (table->key_offset != SEGUE_OPTION_NOT_STORED &&
      (table->key_offset > struct_size || sizeof(char *) > struct_size - table->key_offset))
    return "has a key outside of its struct: use SEGUE_OPTION_ROWS";
  for (size_t i = 0; i < table->count; i++) {
    const char *problem = row_problem(segue__options_row(table, i), struct_size, depth);
    if (problem) return problem;
  }
  if (table->positional &&
      !segue__options_find(table, table->positional, strlen(table->positional)))
    return "has a positional option that does not exist";
  return table->include ? table_problem(table->include, struct_size, depth + 1) : NULL;
}

const char *segue__options_problem(const segue_option_table *table) {
  if (!table->name || !*table->name) return "has no name";
  return table_problem(table, table->struct_size, 0);
}
