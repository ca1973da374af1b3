/* SPDX-License-Identifier: MIT
 *
 * Defaults: a tree with the schema's defaults in place of missing members. Only the maps and lists
 * on the path to an added member are new; all other nodes are shared. A default may contain further
 * defaults, so their number and depth are limited: a recursive schema could ask for endlessly many.
 */
#include <string.h>
#include <uv.h>

#include "../config/node.h"
#include "schema_internal.h"

enum { FILLED_MAX = 100000, NESTED_MAX = 160 };

typedef struct filler {
  segue__arena *arena;
  segue__matcher matcher;
  unsigned filled, depth;
} filler;

static int default_fill(filler *f, const segue__sub *sub, segue_node *node);

/* Returns the default of a subschema, or of the subschema that it refers to. */
static const segue_node *find_default(const segue__sub *sub) {
  for (uint32_t i = 0; i < sub->keyword_count; i++)
    if (!strcmp(sub->keywords[i].def->name, "default")) return sub->keywords[i].value;
  const segue_node *found = NULL;
  for (uint32_t i = 0; i < sub->keyword_count && !found; i++) {
    const segue__keyword *k = &sub->keywords[i];
    if (!strcmp(k->def->name, "$ref")) found = find_default(k->sub);
    for (uint32_t j = 0; k->def->check == segue__check_all_of && j < k->sub_count && !found; j++)
      found = find_default(k->subs[j]);
  }
  return found;
}

static int default_seal(filler *f, segue_node *node, segue__tree_entry *entries, size_t count) {
  size_t same[2];
  if (node->type == SEGUE_LIST) return segue__list_seal(f->arena, node, entries, count);
  return segue__map_seal(f->arena, node, entries, count, same);
}

/* An added default may itself lack members for which its schema has defaults, so it is filled too.
 * A new map is built only if something changed: unchanged parts stay shared with the document. */
static int fill_properties(filler *f, const segue__keyword *k, segue_node *node) {
  uint32_t count = node->count;
  bool changed = false;
  int rc = 0;
  segue__tree_entry *entries = segue__calloc((size_t)count + k->sub_count, sizeof *entries);
  if (!entries) return UV_ENOMEM;
  for (uint32_t i = 0; i < count; i++)
    entries[i] = (segue__tree_entry){
        .member = node->v.members[i],
        .key = segue__key_hash(node->v.members[i].key, node->v.members[i].key_len)};
  for (uint32_t j = 0; j < k->sub_count && !rc; j++) {
    const segue__member *p = &k->value->v.members[j];
    const segue__member *have = segue__node_find(node, p->key, p->key_len);
    const segue_node *value = have ? NULL : find_default(k->subs[j]);
    if (!have && !value) continue;
    segue__tree_entry *entry = &entries[have ? have - node->v.members : count];
    segue_node before = entry->member.value;
    if (!have) {
      entry->member = *p;
      entry->member.value = *value;
      entry->key = segue__key_hash(p->key, p->key_len);
      count++;
      if (++f->filled > FILLED_MAX) rc = SEGUE_ELIMIT;
    }
    if (!rc) rc = default_fill(f, k->subs[j], &entry->member.value);
    changed = changed || !have || !segue__node_equal(&before, &entry->member.value);
  }
  if (!rc && changed) rc = default_seal(f, node, entries, count);
  segue__free(entries);
  return rc;
}

/* Returns whether a pattern of the keyword matches the key. UV_ENOMEM is an error. A pattern that
 * exceeds its limits counts as no match here, because the validation that follows reports it. */
static int default_matches(filler *f, const segue__keyword *patterns, uint32_t i,
                           const segue__member *m) {
  int rc = segue__regex_match(patterns->regexes[i], &f->matcher, m->key, m->key_len);
  return rc == UV_ENOMEM ? rc : rc > 0;
}

/* Returns whether the member is left to additionalProperties: neither declared nor matched beside
 * it. */
static int is_additional(filler *f, const segue__keyword *k, const segue__member *m) {
  if (k->beside && segue__node_find(k->beside->value, m->key, m->key_len)) return 0;
  int rc = 0;
  for (uint32_t i = 0; k->also && i < k->also->sub_count && !rc; i++)
    rc = default_matches(f, k->also, i, m);
  return rc < 0 ? rc : !rc;
}

/* Fills one member by patternProperties or additionalProperties. */
static int default_fill_member(filler *f, const segue__keyword *k, segue__member *m) {
  int rc = 0, does = 0;
  if (k->def->check == segue__check_additional) {
    does = is_additional(f, k, m);
    return does > 0 ? default_fill(f, k->sub, &m->value) : does;
  }
  for (uint32_t i = 0; i < k->sub_count && !rc; i++) {
    does = default_matches(f, k, i, m);
    rc = does > 0 ? default_fill(f, k->subs[i], &m->value) : does;
  }
  return rc;
}

static int fill_members(filler *f, const segue__keyword *k, segue_node *node) {
  bool changed = false;
  int rc = 0;
  segue__tree_entry *entries = segue__calloc((size_t)node->count + 1, sizeof *entries);
  if (!entries) return UV_ENOMEM;
  for (uint32_t i = 0; i < node->count && !rc; i++) {
    const segue__member *m = &node->v.members[i];
    entries[i] = (segue__tree_entry){.member = *m, .key = segue__key_hash(m->key, m->key_len)};
    rc = default_fill_member(f, k, &entries[i].member);
    changed = changed || !segue__node_equal(&m->value, &entries[i].member.value);
  }
  if (!rc && changed) rc = default_seal(f, node, entries, node->count);
  segue__free(entries);
  return rc;
}

static int fill_items(filler *f, const segue__keyword *k, segue_node *node) {
  bool prefix = k->def->shape == SEGUE__SHAPE_LIST, changed = false;
  uint32_t first = prefix || !k->beside ? 0 : k->beside->sub_count;
  int rc = 0;
  segue__tree_entry *entries = segue__calloc((size_t)node->count + 1, sizeof *entries);
  if (!entries) return UV_ENOMEM;
  for (uint32_t i = 0; i < node->count && !rc; i++) {
    segue_node *item = &entries[i].member.value;
    *item = node->v.items[i];
    if (prefix && i < k->sub_count)
      rc = default_fill(f, k->subs[i], item);
    else if (!prefix && i >= first)
      rc = default_fill(f, k->sub, item);
    changed = changed || !segue__node_equal(item, &node->v.items[i]);
  }
  if (!rc && changed) rc = default_seal(f, node, entries, node->count);
  segue__free(entries);
  return rc;
}

static int fill_keyword(filler *f, const segue__keyword *k, segue_node *node) {
  const segue__keyword_def *def = k->def;
  if (def->check == segue__check_properties && node->type == SEGUE_MAP)
    return fill_properties(f, k, node);
  if ((def->check == segue__check_pattern_properties || def->check == segue__check_additional) &&
      node->type == SEGUE_MAP)
    return fill_members(f, k, node);
  if ((def->check == segue__check_items || def->check == segue__check_prefix_items) &&
      node->type == SEGUE_LIST)
    return fill_items(f, k, node);
  if (def->check == segue__check_ref && k->dynamic < 0) return default_fill(f, k->sub, node);
  int rc = 0;
  for (uint32_t i = 0; def->check == segue__check_all_of && i < k->sub_count && !rc; i++)
    rc = default_fill(f, k->subs[i], node);
  return rc;
}

/* Members that have a default come first, because patterns match them too; subschemas of the same
 * value come last. */
static int turn_of(const segue__keyword_def *def) {
  if (def->check == segue__check_properties) return 0;
  return def->in_place ? 2 : 1;
}

static int default_fill(filler *f, const segue__sub *sub, segue_node *node) {
  int rc = 0;
  if (node->type < SEGUE_LIST) return 0;
  if (++f->depth > NESTED_MAX) rc = SEGUE_ELIMIT;
  for (int turn = 0; turn < 3; turn++)
    for (uint32_t i = 0; i < sub->keyword_count && !rc; i++)
      if (turn_of(sub->keywords[i].def) == turn) rc = fill_keyword(f, &sub->keywords[i], node);
  f->depth--;
  return rc;
}

int segue__schema_defaults(const segue__schema *schema, const segue_node *root,
                           segue__document **out, segue_error *err) {
  const char *name = schema->root->resource->doc->name;
  int rc = segue__document_new(out, 0, "defaults", name, SEGUE__BUILT, NULL, 0);
  if (rc) return segue__errorf(err, rc, "%s: out of memory", name);
  filler f = {.arena = &(*out)->arena};
  segue_node filled = *root;
  rc = default_fill(&f, schema->root, &filled);
  segue__matcher_deinit(&f.matcher);
  if (rc == 0) {
    (*out)->root = filled;
    (*out)->hash = segue__node_hash(&filled);
    (*out)->parsed = true;
    return 0;
  }
  segue__document_unref(*out);
  *out = NULL;
  return rc == SEGUE_ELIMIT
             ? segue__errorf(err, rc,
                             "%s: its defaults ask for more than %d values or nest deeper than "
                             "%d: does one contain itself?",
                             name, FILLED_MAX, NESTED_MAX)
             : segue__errorf(err, rc, "%s: out of memory", name);
}
