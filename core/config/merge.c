/* SPDX-License-Identifier: MIT
 *
 * Merging: all documents at once, level by level, so that each map is read once, however many
 * documents exist. A subtree that only one document has is not copied: the merged tree points into
 * that document's.
 */
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "config.h"
#include "node.h"
#include "path.h"

/* A member of one of the maps, and the index of the next map's member with the same key. */
typedef struct cell {
  const segue__member *member;
  uint32_t next; /* cell + 1, 0 = none */
  uint32_t last; /* in the first cell of a key: the last one's index */
} cell;

/* One level: the members of n maps, grouped by key. */
typedef struct level {
  cell *cells;
  uint32_t *firsts;        /* first cell of each key, in order of appearance */
  uint32_t *index;         /* open addressing: key + 1, 0 = free */
  const segue_node **maps; /* scratch for the level below */
  segue__tree_entry *entries;
  size_t mask, cell_count, key_count;
} level;

typedef struct merger {
  segue__config *config;
  segue__errors *hidden; /* lists that a later one replaces, or NULL */
  segue__buf path;       /* of the level */
} merger;

static void merge_cut(segue__buf *path, size_t len) {
  path->len = len;
  if (path->data) path->data[len] = 0;
}

static void level_deinit(level *l) {
  segue__free(l->cells);
  segue__free(l->firsts);
  segue__free(l->index);
  segue__free(l->maps);
  segue__free(l->entries);
}

static int level_init(level *l, const segue_node *const *maps, size_t n) {
  size_t total = 0, slots = 16;
  for (size_t i = 0; i < n; i++)
    total += maps[i]->count;
  while (slots < 2 * total)
    slots *= 2;
  memset(l, 0, sizeof *l);
  l->mask = slots - 1;
  l->cells = segue__malloc(total * sizeof *l->cells);
  l->firsts = segue__malloc(total * sizeof *l->firsts);
  l->index = segue__calloc(slots, sizeof *l->index);
  l->maps = segue__malloc(n * sizeof *l->maps);
  l->entries = segue__malloc(total * sizeof *l->entries);
  if (l->cells && l->firsts && l->index && l->maps && l->entries) return 0;
  level_deinit(l);
  return UV_ENOMEM;
}

static void level_add(level *l, const segue__member *member) {
  uint32_t own = (uint32_t)l->cell_count++;
  l->cells[own] = (cell){.member = member, .last = own};
  size_t at = member->key_hash & l->mask;
  for (; l->index[at]; at = (at + 1) & l->mask) {
    cell *first = &l->cells[l->firsts[l->index[at] - 1]];
    if (!segue__key_equal(first->member, member)) continue;
    l->cells[first->last].next = own + 1;
    first->last = own;
    return;
  }
  l->firsts[l->key_count++] = own;
  l->index[at] = (uint32_t)l->key_count;
}

static int merge_maps(merger *m, const segue_node *const *maps, size_t n, segue_node *out);

/* Warns about a list that another file replaces. Files of one folder are usually written
 * independently, so a list that is replaced there is usually lost by mistake; two sources in a
 * policy override each other on purpose, and are not reported. */
static void report_hidden(merger *m, const segue_node *list, const segue__member *by) {
  const segue__document *old = segue__config_document(m->config, list);
  const segue__document *new = segue__config_document(m->config, &by->value);
  if (!old || !new || strcmp(old->source, new->source) != 0 || segue__node_equal(list, &by->value))
    return;
  segue_error error;
  size_t len = m->path.len;
  const char *file;
  uint32_t line, column;
  segue__path_add_key(&m->path, by->key, by->key_len);
  segue__document_place(old, list, &file, &line, &column);
  segue__errorf(&error, SEGUE_ESOURCE,
                "this list replaces the one of %.200s:%u: lists of several files are not joined "
                "(by = \"file\" keeps each file's own)",
                file, line);
  segue__document_place(new, &by->value, &file, &line, &column);
  segue__error_set_place(&error, file, line, column);
  segue__error_source(&error, new->source);
  segue__error_path(&error, m->path.failed ? NULL : m->path.data);
  segue__errors_add(m->hidden, &error);
  merge_cut(&m->path, len);
}

/* Merges one key: the last value wins; if it is a map, the maps right before it are merged with it.
 */
static int merge_key(merger *m, level *l, size_t key) {
  const cell *c = &l->cells[l->firsts[key]];
  segue__tree_entry *entry = &l->entries[key];
  entry->member = *l->cells[c->last].member;
  entry->key = segue__key_hash(entry->member.key, entry->member.key_len);
  size_t n = 0;
  const segue_node *list = NULL;
  for (;; c = &l->cells[c->next - 1]) {
    bool is_list = c->member->value.type == SEGUE_LIST;
    if (list && is_list && m->hidden) report_hidden(m, list, c->member);
    list = is_list ? &c->member->value : NULL;
    if (c->member->value.type == SEGUE_MAP)
      l->maps[n++] = &c->member->value;
    else
      n = 0;
    if (!c->next) break;
  }
  if (n < 2) return 0;
  size_t len = m->path.len;
  if (m->hidden) segue__path_add_key(&m->path, entry->member.key, entry->member.key_len);
  int rc = merge_maps(m, l->maps, n, &entry->member.value);
  merge_cut(&m->path, len);
  return rc;
}

/* Removes maps that change nothing: empty ones, and a map equal to the one before it. */
static size_t merge_reduce(const segue_node *const *maps, size_t n, const segue_node **out) {
  size_t kept = 0;
  for (size_t i = 0; i < n; i++)
    if (maps[i]->count && !(kept && segue__node_equal(out[kept - 1], maps[i])))
      out[kept++] = maps[i];
  if (!kept) out[kept++] = maps[n - 1];
  return kept;
}

static int merge_level(merger *m, const segue_node *const *maps, size_t n, segue_node *out) {
  level l;
  int rc = level_init(&l, maps, n);
  if (rc) return rc;
  for (size_t i = 0; i < n; i++)
    for (uint32_t k = 0; k < maps[i]->count; k++)
      level_add(&l, &maps[i]->v.members[k]);
  for (size_t key = 0; !rc && key < l.key_count; key++)
    rc = merge_key(m, &l, key);
  size_t same[2];
  *out = *maps[n - 1];
  if (!rc) rc = segue__map_seal(&m->config->arena, out, l.entries, l.key_count, same);
  level_deinit(&l);
  return rc;
}

static int merge_maps(merger *m, const segue_node *const *maps, size_t n, segue_node *out) {
  const segue_node **kept = segue__malloc(n * sizeof *kept);
  if (!kept) return UV_ENOMEM;
  int rc = 0;
  n = merge_reduce(maps, n, kept);
  if (n == 1)
    *out = *kept[0];
  else
    rc = merge_level(m, kept, n, out);
  segue__free(kept);
  return rc;
}

static int merge_roots(segue__config *config, segue__errors *hidden) {
  size_t n = config->document_count, same[2];
  config->root = (segue_node){.type = SEGUE_MAP};
  if (!n) return segue__map_seal(&config->arena, &config->root, NULL, 0, same);
  const segue_node **roots = segue__malloc(n * sizeof *roots);
  if (!roots) return UV_ENOMEM;
  for (size_t i = 0; i < n; i++)
    roots[i] = &config->documents[i]->root;
  merger m = {.config = config, .hidden = hidden};
  segue__buf_init(&m.path);
  int rc = merge_maps(&m, roots, n, &config->root);
  segue__buf_deinit(&m.path);
  segue__free(roots);
  return rc;
}

static int by_id(const void *a, const void *b) {
  uint32_t x = (*(segue__document *const *)a)->id, y = (*(segue__document *const *)b)->id;
  return (x > y) - (x < y);
}

static int take_documents(segue__config *config, segue__document *const *docs, size_t n) {
  config->documents = segue__malloc(n * sizeof *docs);
  config->by_id = segue__malloc(n * sizeof *docs);
  if (!config->documents || !config->by_id) return UV_ENOMEM;
  for (size_t i = 0; i < n; i++)
    config->documents[i] = config->by_id[i] = segue__document_ref(docs[i]);
  config->document_count = n;
  if (n) qsort(config->by_id, n, sizeof *config->by_id, by_id);
  return 0;
}

int segue__config_merge(segue__config **out, segue__document *const *docs, size_t n,
                        segue_error *err) {
  return segue__config_merge_warned(out, docs, n, NULL, err);
}

int segue__config_merge_warned(segue__config **out, segue__document *const *docs, size_t n,
                               segue__errors *hidden, segue_error *err) {
  *out = NULL;
  segue__config *config = segue__calloc(1, sizeof *config);
  if (!config) return segue__errorf(err, UV_ENOMEM, "out of memory while merging %zu documents", n);
  config->refs = 1;
  segue__arena_init(&config->arena);
  int rc = take_documents(config, docs, n);
  if (!rc) rc = merge_roots(config, hidden);
  if (rc) {
    segue__config_unref(config);
    return segue__errorf(err, rc, "out of memory while merging %zu documents", n);
  }
  *out = config;
  return 0;
}

int segue__config_fill(segue__config **out, segue__config *base, segue__document *filled,
                       segue__document *const *schemas, size_t count) {
  *out = NULL;
  segue__config *config = segue__calloc(1, sizeof *config);
  if (!config) return UV_ENOMEM;
  config->refs = 1;
  segue__arena_init(&config->arena);
  config->base = segue__config_ref(base);
  config->filled = segue__document_ref(filled);
  config->root = filled->root;
  config->schemas = (segue__document **)segue__calloc(count + 1, sizeof(segue__document *));
  for (size_t i = 0; config->schemas && i < count; i++)
    config->schemas[config->schema_count++] = segue__document_ref(schemas[i]);
  int rc =
      config->schemas ? take_documents(config, base->documents, base->document_count) : UV_ENOMEM;
  if (rc) {
    segue__config_unref(config);
    return rc;
  }
  *out = config;
  return 0;
}

segue__config *segue__config_ref(segue__config *config) {
  __atomic_add_fetch(&config->refs, 1, __ATOMIC_RELAXED);
  return config;
}

size_t segue__config_bytes(const segue__config *config) {
  size_t bytes = sizeof *config + config->arena.used;
  if (config->base) bytes += config->base->arena.used + config->filled->arena.used;
  for (size_t i = 0; i < config->document_count; i++)
    bytes += config->documents[i]->len + config->documents[i]->arena.used;
  return bytes;
}

void segue__config_unref(segue__config *config) {
  if (!config || __atomic_sub_fetch(&config->refs, 1, __ATOMIC_ACQ_REL)) return;
  for (size_t i = 0; i < config->document_count; i++)
    segue__document_unref(config->documents[i]);
  segue__free(config->documents);
  segue__free(config->by_id);
  segue__arena_deinit(&config->arena);
  segue__config_unref(config->base);
  segue__document_unref(config->filled);
  for (size_t i = 0; i < config->schema_count; i++)
    segue__document_unref(config->schemas[i]);
  segue__free((void *)config->schemas);
  segue__config_views_free(config->views);
  segue__free(config);
}

const segue__document *segue__config_document(const segue__config *config, const segue_node *node) {
  size_t low = 0, high = config->document_count;
  for (size_t i = 0; i < config->schema_count; i++)
    if (node->document && node->document == config->schemas[i]->id) return config->schemas[i];
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (config->by_id[middle]->id < node->document)
      low = middle + 1;
    else
      high = middle;
  }
  if (low == config->document_count || config->by_id[low]->id != node->document) return NULL;
  return config->by_id[low];
}
