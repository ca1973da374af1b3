/* SPDX-License-Identifier: MIT
 *
 * Finds the values that are secrets: a path is followed through all subschemas that could apply to
 * it; conditions and alternatives count as fulfilled. So a value is a secret if one writeOnly on
 * any possible way marks it. Callers ask for one path, or step by step while they walk a whole
 * config.
 */
#include <string.h>
#include <uv.h>

#include "../config/mask_internal.h"
#include "schema_internal.h"

/* The subschemas that apply to one place: a list, and a bit for each member of it. */
typedef struct set {
  const segue__sub **items;
  uint32_t count;
  uint64_t *bits;
  segue__matcher *matcher;
} set;

static void secret_add(set *s, const segue__sub *sub) {
  uint64_t bit = UINT64_C(1) << sub->index % 64;
  if (s->bits[sub->index / 64] & bit) return;
  s->bits[sub->index / 64] |= bit;
  s->items[s->count++] = sub;
}

static bool secret_is(const segue__keyword *k, const char *name) {
  return strcmp(k->def->name, name) == 0;
}

/* A dynamic reference may lead to any anchor of its name, so all of them are added. */
static void add_dynamic(const segue__schema *schema, set *s, int32_t dynamic) {
  for (const segue__resource *r = schema->resources; r; r = r->next)
    for (const segue__anchor *a = r->anchors; a; a = a->next)
      if (a->dynamic == dynamic) secret_add(s, a->sub);
}

/* Adds the subschemas that apply to the same value. Returns true if one of them marks a secret. */
static bool close_set(const segue__schema *schema, set *s) {
  for (uint32_t i = 0; i < s->count; i++) {
    const segue__sub *sub = s->items[i];
    if (sub->secret) return true;
    for (uint32_t j = 0; j < sub->keyword_count; j++) {
      const segue__keyword *k = &sub->keywords[j];
      if (!k->def->in_place) continue;
      if (k->dynamic >= 0) add_dynamic(schema, s, k->dynamic);
      if (k->sub) secret_add(s, k->sub);
      for (uint32_t n = 0; n < k->sub_count; n++)
        if (k->subs[n]) secret_add(s, k->subs[n]);
    }
  }
  return false;
}

static void member_subs(const segue__sub *sub, const char *key, size_t len, set *next) {
  for (uint32_t j = 0; j < sub->keyword_count; j++) {
    const segue__keyword *k = &sub->keywords[j];
    if (secret_is(k, "properties")) {
      const segue__member *m = segue__node_find(k->value, key, len);
      if (m) secret_add(next, k->subs[m - k->value->v.members]);
    } else if (secret_is(k, "patternProperties")) {
      for (uint32_t n = 0; n < k->sub_count; n++)
        if (segue__regex_match(k->regexes[n], next->matcher, key, len) != 0)
          secret_add(next, k->subs[n]);
    } else if (secret_is(k, "additionalProperties") || secret_is(k, "unevaluatedProperties")) {
      secret_add(next, k->sub);
    }
  }
}

static void item_subs(const segue__sub *sub, size_t index, set *next) {
  for (uint32_t j = 0; j < sub->keyword_count; j++) {
    const segue__keyword *k = &sub->keywords[j];
    if (secret_is(k, "prefixItems") && index < k->sub_count)
      secret_add(next, k->subs[index]);
    else if (secret_is(k, "items") || secret_is(k, "contains") || secret_is(k, "unevaluatedItems"))
      secret_add(next, k->sub);
  }
}

static int secret_follow(const segue__schema *schema, const segue__path *path, set *now,
                         set *next) {
  size_t words = (size_t)schema->sub_count / 64 + 1;
  secret_add(now, schema->root);
  for (size_t i = 0;; i++) {
    if (close_set(schema, now)) return (int)i;
    if (i == path->count) return -1;
    next->count = 0;
    memset(next->bits, 0, words * sizeof *next->bits);
    for (uint32_t n = 0; n < now->count; n++) {
      const segue__path_step *step = &path->steps[i];
      if (step->key)
        member_subs(now->items[n], step->key, step->key_len, next);
      else
        item_subs(now->items[n], step->index, next);
    }
    set swap = *now;
    *now = *next;
    *next = swap;
  }
}

bool segue__schema_secret(const segue__schema *schema, const segue__path *path) {
  return segue__schema_secret_depth(schema, path) >= 0;
}

int segue__schema_secret_depth(const segue__schema *schema, const segue__path *path) {
  if (!schema->any_secret) return -1;
  size_t words = (size_t)schema->sub_count / 64 + 1;
  segue__matcher matcher = {0};
  set sets[2];
  for (int i = 0; i < 2; i++)
    sets[i] = (set){.items = segue__malloc((size_t)schema->sub_count * sizeof(const segue__sub *)),
                    .bits = segue__calloc(words, sizeof(uint64_t)),
                    .matcher = &matcher};
  bool memory = sets[0].items && sets[0].bits && sets[1].items && sets[1].bits;
  int depth = memory ? secret_follow(schema, path, &sets[0], &sets[1]) : 0;
  for (int i = 0; i < 2; i++) {
    segue__free((void *)sets[i].items);
    segue__free(sets[i].bits);
  }
  segue__matcher_deinit(&matcher);
  return depth;
}

/* ---- A walk ---------------------------------------------------------------------------------- */

struct segue__schema_walk {
  const segue__schema *schema;
  segue__matcher matcher;
  set *sets; /* one for each depth */
  segue__seen *seen;
  size_t depth, capacity;
  size_t starved; /* depths that there was no memory for */
};

static int set_init(segue__schema_walk *w, set *s) {
  size_t words = (size_t)w->schema->sub_count / 64 + 1;
  *s = (set){.items = segue__malloc((size_t)w->schema->sub_count * sizeof(const segue__sub *)),
             .bits = segue__calloc(words, sizeof(uint64_t)),
             .matcher = &w->matcher};
  return s->items && s->bits ? 0 : UV_ENOMEM;
}

static int secret_make_room(segue__schema_walk *w) {
  size_t capacity = w->capacity + 8;
  set *sets = segue__realloc(w->sets, capacity * sizeof *sets);
  if (!sets) return UV_ENOMEM;
  w->sets = sets;
  segue__seen *seen = segue__realloc(w->seen, capacity * sizeof *seen);
  if (!seen) return UV_ENOMEM;
  w->seen = seen;
  for (; w->capacity < capacity; w->capacity++)
    if (set_init(w, &w->sets[w->capacity]) < 0) {
      segue__free((void *)w->sets[w->capacity].items);
      segue__free(w->sets[w->capacity].bits);
      return UV_ENOMEM;
    }
  return 0;
}

static segue__seen secret_validate(const segue__schema_walk *w, set *s) {
  if (!s->count) return SEGUE__SEEN_CLEAR;
  return close_set(w->schema, s) ? SEGUE__SEEN_SECRET : SEGUE__SEEN_OPEN;
}

int segue__schema_walk_new(segue__schema_walk **out, const segue__schema *schema) {
  *out = NULL;
  segue__schema_walk *w = segue__calloc(1, sizeof *w);
  if (!w) return UV_ENOMEM;
  w->schema = schema;
  if (secret_make_room(w) < 0) {
    segue__schema_walk_free(w);
    return UV_ENOMEM;
  }
  if (schema->any_secret) secret_add(&w->sets[0], schema->root);
  w->seen[0] = secret_validate(w, &w->sets[0]);
  *out = w;
  return 0;
}

void segue__schema_walk_free(segue__schema_walk *walk) {
  if (!walk) return;
  for (size_t i = 0; i < walk->capacity; i++) {
    segue__free((void *)walk->sets[i].items);
    segue__free(walk->sets[i].bits);
  }
  segue__matcher_deinit(&walk->matcher);
  segue__free(walk->sets);
  segue__free(walk->seen);
  segue__free(walk);
}

segue__seen segue__schema_walk_top(const segue__schema_walk *walk) {
  return walk->seen[walk->depth];
}

/* Below a secret, and below a value that no schema describes, nothing changes. If memory runs out
 * the depth is counted but not entered: everything below counts as a secret. */
segue__seen segue__schema_walk_down(segue__schema_walk *w, const segue__path_step *step) {
  segue__seen above = w->starved ? SEGUE__SEEN_SECRET : w->seen[w->depth];
  if (w->starved || (w->depth + 1 == w->capacity && secret_make_room(w) < 0)) {
    w->starved++;
    return SEGUE__SEEN_SECRET;
  }
  const set *now = &w->sets[w->depth++];
  set *next = &w->sets[w->depth];
  next->count = 0;
  memset(next->bits, 0, ((size_t)w->schema->sub_count / 64 + 1) * sizeof *next->bits);
  for (uint32_t n = 0; above == SEGUE__SEEN_OPEN && n < now->count; n++) {
    if (step->key)
      member_subs(now->items[n], step->key, step->key_len, next);
    else
      item_subs(now->items[n], step->index, next);
  }
  w->seen[w->depth] = above == SEGUE__SEEN_OPEN ? secret_validate(w, next) : above;
  return w->seen[w->depth];
}

bool segue__schema_walk_starved(const segue__schema_walk *walk) {
  return walk->starved > 0;
}

void segue__schema_walk_up(segue__schema_walk *walk) {
  if (walk->starved)
    walk->starved--;
  else
    walk->depth--;
}
