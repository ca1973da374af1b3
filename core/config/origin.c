/* SPDX-License-Identifier: MIT
 *
 * The place that a value was read from, and errors that name that place.
 */
#include "../os/error.h"
#include "path.h"
#include "snapshot.h"

void segue__document_place(const segue__document *doc, const segue_node *node, const char **file,
                           uint32_t *line, uint32_t *column) {
  const char *label = doc->keys && node->line ? doc->keys->label(doc->keys, node->line) : NULL;
  *file = label ? label : doc->name;
  *line = doc->keys ? node->column : node->line;
  *column = doc->keys ? 0 : node->column;
}

int segue_node_origin(const segue_snapshot *snapshot, const segue_node *node, const char **source,
                      const char **file, uint32_t *line, uint32_t *column) {
  const segue__document *doc =
      snapshot && node ? segue__config_document(snapshot->config, node) : NULL;
  if (!doc) return SEGUE_EPATH;
  const char *name;
  uint32_t at_line, at_column;
  segue__document_place(doc, node, &name, &at_line, &at_column);
  if (source) *source = doc->source;
  if (file) *file = name;
  if (line) *line = at_line;
  if (column) *column = at_column;
  return 0;
}

/* Appends the path of node below top, if it is there. */
static bool origin_add_path(segue__buf *b, const segue_node *top, const segue_node *node) {
  if (top == node) return true;
  if (top->type != SEGUE_MAP && top->type != SEGUE_LIST) return false;
  size_t len = b->len;
  for (size_t i = 0; i < top->count; i++, b->len = len) {
    const segue__member *member = top->type == SEGUE_MAP ? &top->v.members[i] : NULL;
    if (member)
      segue__path_add_key(b, member->key, member->key_len);
    else
      segue__path_add_index(b, i);
    if (origin_add_path(b, member ? &member->value : &top->v.items[i], node)) return true;
  }
  return false;
}

int segue_error_at(segue_error *error, int code, const segue_snapshot *snapshot,
                   const segue_node *node, const char *format, ...) {
  if (!error) return code;
  va_list args;
  va_start(args, format);
  segue__error_vset(error, code, format, args);
  va_end(args);
  const char *file = NULL;
  if (!node || segue_node_origin(snapshot, node, NULL, &file, &error->line, &error->column))
    return code;
  segue__error_set_place(error, file, 0, 0);
  segue__buf path;
  segue__buf_init(&path);
  if (origin_add_path(&path, segue_snapshot_root(snapshot), node) && !path.failed)
    segue__error_path(error, path.data);
  segue__buf_deinit(&path);
  return code;
}
