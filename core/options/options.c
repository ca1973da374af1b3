/* SPDX-License-Identifier: MIT
 *
 * Validating a tree by a table, and filling the struct. One walk does both: a value is validated
 * where it is stored. All mistakes are collected; the struct is freed at the end if there was one,
 * so that no caller meets half of it.
 */
#include "options.h"

#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../config/path.h"
#include "../os/suggest.h"
#include "fill.h"

/* ---- Rows ------------------------------------------------------------------------------------ */

/* Rows of a plugin may be longer than ours or shorter: their distance is in the table. */
static const segue_option *row_at(const segue_option_table *table, size_t index) {
  return (const segue_option *)((const char *)table->rows + index * table->row_size);
}

const segue_option *segue__options_row(const segue_option_table *table, size_t index) {
  for (; table; table = table->include) {
    if (index < table->count) return row_at(table, index);
    index -= table->count;
  }
  return NULL;
}

const segue_option *segue__options_find(const segue_option_table *table, const char *name,
                                        size_t len) {
  for (; table; table = table->include)
    for (size_t i = 0; i < table->count; i++) {
      const segue_option *row = row_at(table, i);
      if (!strncmp(row->name, name, len) && !row->name[len]) return row;
    }
  return NULL;
}

static size_t items_size(const segue_option *row) {
  if (row->of == SEGUE_OPTION_TABLE) return row->table->struct_size;
  if (row->type == SEGUE_OPTION_MAP) return sizeof(segue_option_pair);
  return segue__option_scalar_size(row->of);
}

/* A LIST or MAP has this form in the struct. */
typedef struct items {
  char *data;
  size_t count;
} items;

/* ---- The written table ------------------------------------------------------------------------
 */

/* A table as it was written: options by name, items without a key, or a shorthand: one option. */
typedef struct written {
  const segue_node *node;  /* of the table, for its place */
  const segue_node *items; /* list; NULL: none */
  const segue_option *only;
} written;

static written written_as(const segue_node *node) {
  written w = {.node = node};
  if (node && node->type == SEGUE_LIST) w.items = node;
  if (node && node->type == SEGUE_MAP) {
    const segue__member *m = segue__node_find(node, SEGUE__POSITIONAL, 0);
    if (m && m->value.type == SEGUE_LIST) w.items = &m->value;
  }
  return w;
}

/* The value of an option; NULL: it is not given. A positional option of one value gets the item. */
static const segue_node *written_get(const written *w, const segue_option_table *table,
                                     const segue_option *row) {
  if (!w->node) return NULL;
  if (w->only) return row == w->only ? w->node : NULL;
  const segue__member *m = segue__node_find(w->node, row->name, strlen(row->name));
  if (m) return &m->value;
  if (!w->items || !table->positional || strcmp(row->name, table->positional)) return NULL;
  if (!segue__option_is_scalar(row->type)) return w->items;
  return w->items->count == 1 ? &w->items->v.items[0] : NULL;
}

/* ---- Checks of the table's own --------------------------------------------------------------- */

struct segue_option_report {
  segue__fill *validate;
  const segue_option_table *table;
  written written;
};

static const segue_node *report_node(const segue_option_report *report, const char *key,
                                     size_t len) {
  const segue_option *row = segue__options_find(report->table, key, len);
  return row ? written_get(&report->written, report->table, row) : NULL;
}

void segue_option_wrong(segue_option_report *report, const char *key, const char *format, ...) {
  segue__fill *j = report->validate;
  const segue_node *node = key ? report_node(report, key, strcspn(key, ".[")) : NULL;
  size_t before = j->path.len;
  bool shorthand = report->written.only && node;
  if (!node) node = report->written.node;
  if (key && !shorthand) segue__buf_addf(&j->path, "%s%s", before ? "." : "", key);
  va_list args;
  va_start(args, format);
  segue__fill_wrong_at(j, node->document, node->line, node->column, format, args);
  va_end(args);
  segue__fill_leave(j, before);
}

bool segue_option_given(const segue_option_report *report, const char *key) {
  return report_node(report, key, strlen(key)) != NULL;
}

static void run_checks(segue__fill *j, const segue_option_table *table, const written *w, void *out,
                       void *base) {
  for (const segue_option_table *part = table; part; part = part->include) {
    segue_option_report report = {j, table, *w};
    if (part->check) part->check(part->in_family ? base : out, &report);
  }
}

/* ---- Keys that are not known ----------------------------------------------------------------- */

enum { NAMES_MAX = 128 };

static size_t visible_names(const segue_option_table *const tables[2], const char **names) {
  size_t n = 0;
  for (int t = 0; t < 2; t++) {
    const segue_option *row;
    for (size_t i = 0; tables[t] && (row = segue__options_row(tables[t], i)); i++)
      if (!(row->flags & SEGUE_OPTION_HIDDEN) && n < NAMES_MAX) names[n++] = row->name;
  }
  return n;
}

static void add_known(segue__buf *out, const char **names, size_t count) {
  for (size_t i = 1; i < count; i++) /* few, and sorted for the reader */
    for (size_t k = i; k && strcmp(names[k - 1], names[k]) > 0; k--) {
      const char *name = names[k];
      names[k] = names[k - 1];
      names[k - 1] = name;
    }
  segue__buf_adds(out, count ? "known are " : "no key is known here");
  for (size_t i = 0; i < count; i++)
    segue__buf_addf(out, "%s%s", i ? ", " : "", names[i]);
}

static void unknown_key(segue__fill *j, const segue_option_table *const tables[2],
                        const segue__member *m) {
  const char *names[NAMES_MAX];
  char key[64];
  size_t count = visible_names(tables, names);
  const char *meant = NULL;
  if (m->key_len < sizeof key) {
    snprintf(key, sizeof key, "%s", m->key);
    meant = segue__suggest(key, names, count);
  }
  segue__buf hint;
  segue__buf_init(&hint);
  if (meant)
    segue__buf_addf(&hint, "did you mean \"%s\"?", meant);
  else
    add_known(&hint, names, count);
  size_t before = segue__fill_enter_key(j, m->key, m->key_len);
  segue_node place = {.document = m->value.document, .line = m->line, .column = m->column};
  if (hint.failed)
    segue__fill_no_memory(j);
  else
    segue__fill_wrong(j, &place, "is not a known key here: %s", hint.data);
  segue__fill_leave(j, before);
  segue__buf_deinit(&hint);
}

/* The row that items without a name are for; NULL: none. */
static const segue_option *find_positional(const segue_option_table *const tables[2]) {
  for (int t = 0; t < 2; t++)
    for (const segue_option_table *table = tables[t]; table; table = table->include)
      if (table->positional)
        return segue__options_find(tables[t], table->positional, strlen(table->positional));
  return NULL;
}

static void unknown_keys(segue__fill *j, const segue_option_table *const tables[2],
                         const written *w) {
  const segue_node *map = w->node && w->node->type == SEGUE_MAP && !w->only ? w->node : NULL;
  for (uint32_t i = 0; map && i < map->count; i++) {
    const segue__member *m = &map->v.members[i];
    bool family = tables[0]->family && ((m->key_len == 4 && !memcmp(m->key, "kind", 4)) ||
                                        (m->key_len == 3 && !memcmp(m->key, "tag", 3)));
    if (&m->value == w->items || family) continue;
    if (segue__options_find(tables[0], m->key, m->key_len)) continue;
    if (tables[1] && segue__options_find(tables[1], m->key, m->key_len)) continue;
    unknown_key(j, tables, m);
  }
  if (!w->items || !w->items->count || w->only) return;
  const segue_node *first = &w->items->v.items[0];
  const segue_option *row = find_positional(tables);
  size_t before = segue__fill_enter_item(j, 0);
  if (!row)
    segue__fill_wrong(j, first, "is not known here: an option is written as name = value");
  else if (map && segue__node_find(map, row->name, strlen(row->name)))
    segue__fill_wrong(j, first, "is %s, which is also given by its name", row->name);
  segue__fill_leave(j, before);
  if (row && segue__option_is_scalar(row->type) && w->items->count > 1)
    segue__fill_wrong(j, first, "must have one item without a name, %s, not %u", row->name,
                      w->items->count);
}

/* ---- Lists and maps -------------------------------------------------------------------------- */

static void fill_table(segue__fill *j, const segue_option *row, const segue_option_table *table,
                       const segue_node *node, char *out);

static void fill_item(segue__fill *j, const segue_option *row, const segue_node *node, char *at) {
  if (row->of == SEGUE_OPTION_TABLE)
    fill_table(j, row, row->table, node, at);
  else
    segue__option_scalar(j, row, row->of, node, at);
}

/* The text of an item of a MAP of texts. */
static void fill_pair(segue__fill *j, const segue_option *row, const char *key, size_t key_len,
                      const segue_node *node, segue_option_pair *out) {
  out->key = key ? segue__strndup(key, key_len) : NULL;
  if (key && !out->key) segue__fill_no_memory(j);
  if (node->type == SEGUE_BOOL && !node->v.b && row->flags & SEGUE_OPTION_FALSE) return;
  if (row->of != SEGUE_OPTION_STRING) {
    segue__option_scalar(j, row, row->of, node, &out->value);
    return;
  }
  segue_option_string string = {NULL, 0};
  segue__option_scalar(j, row, row->of, node, &string);
  if (string.data && memchr(string.data, 0, string.len))
    segue__fill_wrong(j, node, "must not contain a zero byte");
  out->value = string.data;
}

static bool validate_size(segue__fill *j, const segue_option *row, const segue_node *node,
                          size_t count) {
  const char *unit = row->unit ? row->unit : "items";
  if (!count && row->min) {
    segue__fill_wrong(j, node, "must not be empty%s%s", row->example ? ": " : "",
                      row->example ? row->example : "");
    return false;
  }
  if (row->min && (double)count < row->min) {
    segue__fill_wrong(j, node, "must have at least %.0f %s, not %zu", row->min, unit, count);
    return false;
  }
  if (row->max && (double)count > row->max) {
    segue__fill_wrong(j, node, "must have at most %.0f %s, not %zu", row->max, unit, count);
    return false;
  }
  return true;
}

static bool items_new(segue__fill *j, const segue_option *row, size_t count, items *out) {
  out->data = count ? segue__calloc(count, items_size(row)) : NULL;
  if (count && !out->data) segue__fill_no_memory(j);
  return out->data != NULL;
}

static bool is_empty(const segue_node *node) {
  return (node->type == SEGUE_MAP || node->type == SEGUE_LIST) && !node->count;
}

static void fill_list(segue__fill *j, const segue_option *row, const segue_node *node, items *out) {
  bool one = row->flags & SEGUE_OPTION_ONE && node->type != SEGUE_LIST && !is_empty(node);
  size_t count = one ? 1 : node->count;
  if (!one && node->type != SEGUE_LIST && !is_empty(node)) {
    segue__fill_wrong_type(j, row, row->type, node);
    return;
  }
  if (!validate_size(j, row, node, count) || !items_new(j, row, count, out)) return;
  const segue_option *outer = j->outer;
  if (one) j->outer = row; /* "must be a text or a list of texts" */
  for (size_t i = 0; i < count; i++) {
    size_t before = one ? j->path.len : segue__fill_enter_item(j, i);
    out->count++;
    fill_item(j, row, one ? node : &node->v.items[i], out->data + i * items_size(row));
    segue__fill_leave(j, before);
  }
  j->outer = outer;
}

/* Returns the number of pairs or tables of the members of a map. */
static size_t map_count(const segue_option *row, const written *w) {
  size_t n = w->items ? w->items->count : 0;
  for (uint32_t i = 0; w->node->type == SEGUE_MAP && i < w->node->count; i++) {
    const segue_node *value = &w->node->v.members[i].value;
    if (value == w->items) continue;
    n += row->flags & SEGUE_OPTION_ONE && value->type == SEGUE_LIST ? value->count : 1;
  }
  return n;
}

static void options_fill_member(segue__fill *j, const segue_option *row, const segue__member *m,
                                items *out) {
  const segue_node *value = &m->value;
  bool several = row->flags & SEGUE_OPTION_ONE && value->type == SEGUE_LIST;
  for (uint32_t k = 0; k < (several ? value->count : 1); k++) {
    char *at = out->data + out->count++ * items_size(row);
    const segue_node *item = several ? &value->v.items[k] : value;
    if (row->of != SEGUE_OPTION_TABLE) {
      fill_pair(j, row, m->key, m->key_len, item, (segue_option_pair *)at);
      continue;
    }
    if (row->table->key_offset != SEGUE_OPTION_NOT_STORED) {
      char **key = (char **)(at + row->table->key_offset);
      *key = segue__strndup(m->key, m->key_len);
      if (!*key) segue__fill_no_memory(j);
    }
    fill_table(j, row, row->table, item, at);
  }
}

static void fill_map(segue__fill *j, const segue_option *row, const segue_node *node, items *out) {
  written w = written_as(node);
  bool keyless = row->flags & SEGUE_OPTION_KEYLESS;
  if ((node->type != SEGUE_MAP && !is_empty(node) && !(keyless && w.items)) ||
      (w.items && w.items->count && !keyless)) {
    segue__fill_wrong_type(j, row, row->type, node);
    return;
  }
  size_t count = map_count(row, &w);
  if (!validate_size(j, row, node, count) || !items_new(j, row, count, out)) return;
  for (uint32_t i = 0; w.items && i < w.items->count; i++) {
    size_t before = segue__fill_enter_item(j, i);
    fill_pair(j, row, NULL, 0, &w.items->v.items[i], (segue_option_pair *)out->data + out->count++);
    segue__fill_leave(j, before);
  }
  for (uint32_t i = 0; node->type == SEGUE_MAP && i < node->count; i++) {
    const segue__member *m = &node->v.members[i];
    if (&m->value == w.items) continue;
    size_t before = segue__fill_enter_key(j, m->key, m->key_len);
    options_fill_member(j, row, m, out);
    segue__fill_leave(j, before);
  }
}

/* ---- Rows of a table ------------------------------------------------------------------------- */

static void free_row(const segue_option *row, char *at);
static void free_table(const segue_option_table *table, char *out);
static void free_rows(const segue_option_table *table, char *out, char *base);

size_t segue__option_row_bytes(const segue_option *row) {
  if (row->type == SEGUE_OPTION_TABLE) return row->table->struct_size;
  return segue__option_is_scalar(row->type) ? segue__option_scalar_size(row->type) : sizeof(items);
}

static void fill_value(segue__fill *j, const segue_option *row, const segue_node *node, char *at) {
  switch (row->type) {
  case SEGUE_OPTION_TABLE:
    fill_table(j, row, row->table, node, at);
    break;
  case SEGUE_OPTION_LIST:
    if (node) fill_list(j, row, node, (items *)at);
    break;
  case SEGUE_OPTION_MAP:
    if (node) fill_map(j, row, node, (items *)at);
    break;
  default:
    if (node)
      segue__option_scalar(j, row, row->type, node, at);
    else if (row->fallback)
      segue__option_fallback(j, row, at);
  }
}

/* An option that is validated and not kept. */
static void validate_value(segue__fill *j, const segue_option *row, const segue_node *node) {
  char *scratch = segue__calloc(1, segue__option_row_bytes(row) + 1);
  if (!scratch) {
    segue__fill_no_memory(j);
    return;
  }
  fill_value(j, row, node, scratch);
  free_row(row, scratch);
  segue__free(scratch);
}

static void fill_row(segue__fill *j, const segue_option_table *table, const segue_option *row,
                     const written *w, char *out) {
  const segue_node *node = written_get(w, table, row);
  size_t before = j->path.len;
  const segue_option *outer = j->outer;
  if (!w->only) {
    segue__fill_enter_key(j, row->name, strlen(row->name));
    j->outer = NULL;
  }
  if (node && row->given) *(bool *)(out + row->given - 1) = true;
  if (!node && w->node && row->flags & SEGUE_OPTION_REQUIRED)
    segue__fill_wrong(j, w->node, "is missing: %s", row->example ? row->example : row->doc);
  else if (row->offset != SEGUE_OPTION_NOT_STORED)
    fill_value(j, row, node, out + row->offset);
  else if (node)
    validate_value(j, row, node);
  segue__fill_leave(j, before);
  j->outer = outer;
}

/* base: the struct of the family of a kind, else out. */
static void fill_rows(segue__fill *j, const segue_option_table *table, const written *w, char *out,
                      char *base) {
  for (const segue_option_table *part = table; part; part = part->include)
    for (size_t i = 0; i < part->count; i++)
      fill_row(j, table, row_at(part, i), w, part->in_family ? base : out);
}

/* ---- Families -------------------------------------------------------------------------------- */

static const segue__option_kind *find_kind(const segue__fill *j, const char *family,
                                           const segue_node *name) {
  for (size_t i = 0; name && name->type == SEGUE_STRING && i < j->env->kind_count; i++) {
    const segue__option_kind *kind = &j->env->kinds[i];
    if (kind->name && !strcmp(kind->family, family) && strlen(kind->name) == name->count &&
        !memcmp(kind->name, name->v.s, name->count))
      return kind;
  }
  return NULL;
}

static void wrong_kind(segue__fill *j, const segue_option_table *table, const segue_node *node,
                       const segue_node *name) {
  segue__buf known;
  char found[128] = "";
  size_t n = 0, left = 0;
  segue__buf_init(&known);
  for (size_t i = 0; i < j->env->kind_count; i++)
    left += j->env->kinds[i].name && !strcmp(j->env->kinds[i].family, table->name);
  for (size_t i = 0; i < j->env->kind_count; i++) {
    if (!j->env->kinds[i].name || strcmp(j->env->kinds[i].family, table->name)) continue;
    segue__buf_addf(&known, "%s\"%s\"",
                    !n              ? ""
                    : n + 1 == left ? " or "
                                    : ", ",
                    j->env->kinds[i].name);
    n++;
  }
  size_t before = segue__fill_enter_key(j, "kind", 4);
  if (known.failed)
    segue__fill_no_memory(j);
  else if (!name)
    segue__fill_wrong(j, node, "is missing: %s%s", n ? "it is " : "this program has no kind",
                      n ? known.data : "");
  else
    segue__fill_wrong(j, name, "must be %s%s", n ? known.data : "left out: there is no kind",
                      segue__fill_found(j, NULL, name, found, sizeof found));
  segue__fill_leave(j, before);
  segue__buf_deinit(&known);
}

static bool is_tagged(const segue_option_table *table, const segue_node *node) {
  const segue__member *m = segue__node_find(node, "tag", 3);
  return m && m->value.type == SEGUE_STRING && !strcmp(m->value.v.s, table->name);
}

/* "must be a source such as segue.file "config.yaml", not a trigger" */
static void wrong_tag(segue__fill *j, const segue_option_table *table, const segue_node *node) {
  char found[128] = "";
  const segue__member *m = segue__node_find(node, "tag", 3);
  if (m && m->value.type == SEGUE_STRING)
    snprintf(found, sizeof found, ", not a %.40s", m->value.v.s);
  else if (node->flags & SEGUE__NODE_OPAQUE && node->reserved == SEGUE__OPAQUE_FUNCTION)
    snprintf(found, sizeof found, ", not a function that was not called");
  else
    segue__fill_found(j, NULL, node, found, sizeof found);
  segue__fill_wrong(j, node, "must be a %s such as %s%s", table->name, table->tag, found);
}

static void fill_family(segue__fill *j, const segue_option_table *table, const segue_node *node,
                        char *out) {
  if (table->tag && (!node || !is_tagged(table, node))) {
    if (node) wrong_tag(j, table, node);
    return;
  }
  const segue__member *m = segue__node_find(node, "kind", 4);
  const segue__option_kind *kind = find_kind(j, table->name, m ? &m->value : NULL);
  if (!kind) {
    wrong_kind(j, table, node, m ? &m->value : NULL);
    return;
  }
  const segue_option_table *own = kind->table;
  segue_option_kind_value nowhere, *value = &nowhere;
  if (table->kind_offset != SEGUE_OPTION_NOT_STORED)
    value = (segue_option_kind_value *)(out + table->kind_offset);
  *value = (segue_option_kind_value){kind->name, own, kind->data, NULL};
  if (own && own->struct_size) value->options = segue__calloc(1, own->struct_size);
  if (own && own->struct_size && !value->options) {
    segue__fill_no_memory(j);
    return;
  }
  written w = written_as(node);
  size_t errors = j->count;
  char *target = value->options ? value->options : out;
  unknown_keys(j, (const segue_option_table *const[2]){table, own}, &w);
  fill_rows(j, table, &w, out, out);
  if (own) fill_rows(j, own, &w, target, out);
  if (j->count == errors) {
    run_checks(j, table, &w, out, out);
    if (own) run_checks(j, own, &w, target, out);
  }
  if (value == &nowhere && own) {
    free_rows(own, target, out);
    segue__free(value->options);
  }
}

const segue_option *segue__options_function(const segue_option *row) {
  const segue_option *option = NULL;
  for (size_t i = 0; (option = segue__options_row(row->table, i)); i++)
    if (option->type == SEGUE_OPTION_FUNCTION) break;
  return option && strcmp(option->name, row->shorthand) != 0 ? option : NULL;
}

/* The option that a value which is no table stands for. */
static const segue_option *shorthand_row(const segue_option *row, const segue_option_table *table,
                                         const segue_node *node) {
  bool function = node->flags & SEGUE__NODE_OPAQUE && node->reserved == SEGUE__OPAQUE_FUNCTION;
  const segue_option *option = function ? segue__options_function(row) : NULL;
  return option ? option : segue__options_find(table, row->shorthand, strlen(row->shorthand));
}

/* row: of which the table is the value, NULL: at the top. node NULL: the defaults. */
static void fill_table(segue__fill *j, const segue_option *row, const segue_option_table *table,
                       const segue_node *node, char *out) {
  written w = written_as(node);
  size_t errors = j->count;
  const segue_option *outer = j->outer;
  bool map = node && (node->type == SEGUE_MAP || is_empty(node) ||
                      (node->type == SEGUE_LIST && table->positional));
  bool is_true = node && row && row->flags & SEGUE_OPTION_TRUE && node->type == SEGUE_BOOL &&
                 node->v.b; /* the defaults */
  bool is_value = node && !map && !is_true;
  if (is_value && row && row->shorthand) {
    w.only = shorthand_row(row, table, node);
    j->outer = row->type == SEGUE_OPTION_TABLE ? row : NULL;
  } else if (is_value && !table->tag) {
    if (row && row->type == SEGUE_OPTION_TABLE)
      segue__fill_wrong_type(j, row, row->type, node);
    else
      segue__fill_wrong_type(j, &(segue_option){.type = SEGUE_OPTION_TABLE, .table = table},
                             SEGUE_OPTION_TABLE, node);
    return;
  }
  if (table->family && !w.only) {
    if (node) fill_family(j, table, node, out);
    return;
  }
  unknown_keys(j, (const segue_option_table *const[2]){table, NULL}, &w);
  fill_rows(j, table, &w, out, out);
  j->outer = outer;
  if (node && j->count == errors) run_checks(j, table, &w, out, out);
}

/* ---- Freeing --------------------------------------------------------------------------------- */

static void free_items(const segue_option *row, items *list) {
  for (size_t i = 0; i < list->count; i++) {
    char *at = list->data + i * items_size(row);
    if (row->of == SEGUE_OPTION_TABLE) {
      if (row->type == SEGUE_OPTION_MAP && row->table->key_offset != SEGUE_OPTION_NOT_STORED)
        segue__free(*(char **)(at + row->table->key_offset));
      free_table(row->table, at);
    } else if (row->type == SEGUE_OPTION_MAP) {
      segue__free(((segue_option_pair *)at)->key);
      if (row->of != SEGUE_OPTION_ANY) segue__free(((segue_option_pair *)at)->value);
    } else {
      segue__option_scalar_free(row->of, at);
    }
  }
  segue__free(list->data);
}

static void free_row(const segue_option *row, char *at) {
  if (row->type == SEGUE_OPTION_TABLE)
    free_table(row->table, at);
  else if (segue__option_is_scalar(row->type))
    segue__option_scalar_free(row->type, at);
  else
    free_items(row, (items *)at);
}

static void free_rows(const segue_option_table *table, char *out, char *base) {
  for (; table; table = table->include)
    for (size_t i = 0; i < table->count; i++) {
      const segue_option *row = row_at(table, i);
      char *owner = table->in_family ? base : out;
      if (row->offset != SEGUE_OPTION_NOT_STORED) free_row(row, owner + row->offset);
    }
}

/* Zeroes nothing: a nested table may lie in the struct of its parent, whose rows come later. */
static void free_table(const segue_option_table *table, char *out) {
  if (table->family && table->kind_offset != SEGUE_OPTION_NOT_STORED) {
    segue_option_kind_value *kind = (segue_option_kind_value *)(out + table->kind_offset);
    /* A kind with a struct of its own has no rows in this one, also where that was not allocated.
     */
    bool has_rows = kind->table && (kind->options || !kind->table->struct_size);
    if (has_rows) free_rows(kind->table, kind->options ? kind->options : out, out);
    segue__free(kind->options);
  }
  free_rows(table, out, out);
}

void segue__options_clear(const segue_option_table *table, void *out) {
  if (!out) return;
  free_table(table, out);
  if (table->struct_size) memset(out, 0, table->struct_size);
}

/* ---- Public ---------------------------------------------------------------------------------- */

int segue__options_fill(const segue_option_table *table, const segue_node *node, void *out,
                        const segue__options_env *env, segue__errors *errors) {
  static const segue__options_env nothing;
  segue__fill j = {.env = env ? env : &nothing, .errors = errors};
  segue__buf_init(&j.path);
  if (j.env->path) segue__buf_adds(&j.path, j.env->path);
  if (table->struct_size) memset(out, 0, table->struct_size);
  fill_table(&j, NULL, table, node, out);
  if (j.path.failed) segue__fill_no_memory(&j);
  segue__buf_deinit(&j.path);
  if (j.rc) segue__options_clear(table, out);
  return j.rc;
}

int segue__option_validate(const segue_option *row, const segue_node *node, void *at,
                           const segue__options_env *env, segue__errors *errors) {
  static const segue__options_env nothing;
  segue__fill j = {.env = env ? env : &nothing, .errors = errors};
  segue__option_scalar(&j, row, row->type, node, at);
  return j.rc;
}
