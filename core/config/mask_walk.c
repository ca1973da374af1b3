/* SPDX-License-Identifier: MIT
 *
 * A walk through a config under a mask: at each depth it knows the positions in each pattern and
 * the subschemas that apply. Where no pattern and no subschema can match below, the caller need not
 * descend.
 */
#include <assert.h>
#include <uv.h>

#include "mask_internal.h"

struct segue__mask_walk {
  const segue__mask *mask;
  size_t pattern_total;   /* over all parts */
  uint64_t *states;       /* pattern_total for each depth */
  size_t depth, capacity; /* number of depths */
  segue__schema_walk *schemas[SEGUE__MASK_PARTS];
  bool starved; /* a step counted as a secret because there was no memory to look */
  segue__seen seen[SEGUE__DEPTH_MAX + 2];
};

static segue__seen mask_walk_worse(segue__seen a, segue__seen b) {
  return a > b ? a : b;
}

/* Advances every pattern by one step: *now is the place of this depth in states, pattern by
 * pattern. before NULL: the root. */
static segue__seen mask_walk_follow(segue__mask_walk *w, const uint64_t *before, uint64_t *now,
                                    const segue__path_step *step) {
  segue__seen seen = SEGUE__SEEN_CLEAR;
  size_t at = 0;
  assert(now); /* every depth that is entered has memory */
  for (size_t i = 0; i < w->mask->pattern_count; i++)
    for (size_t j = 0; j < w->mask->patterns[i]->count; j++, at++) {
      const segue__pattern *p = &w->mask->patterns[i]->items[j];
      now[at] = before ? segue__pattern_next(p, before[at], step) : segue__pattern_begin(p);
      if (now[at])
        seen = mask_walk_worse(seen, segue__pattern_met(p, now[at]) ? SEGUE__SEEN_SECRET
                                                                    : SEGUE__SEEN_OPEN);
    }
  return seen;
}

static int mask_walk_grow(segue__mask_walk *w) {
  size_t capacity = w->capacity ? w->capacity * 2 : 16;
  uint64_t *states = segue__realloc(w->states, capacity * (w->pattern_total + 1) * sizeof *states);
  if (!states) return UV_ENOMEM;
  w->states = states;
  w->capacity = capacity;
  return 0;
}

int segue__mask_walk_new(segue__mask_walk **out, const segue__mask *mask) {
  *out = NULL;
  segue__mask_walk *w = segue__calloc(1, sizeof *w);
  if (!w) return UV_ENOMEM;
  w->mask = mask;
  for (size_t i = 0; i < mask->pattern_count; i++)
    w->pattern_total += mask->patterns[i]->count;
  int rc = mask_walk_grow(w);
  for (size_t i = 0; i < mask->schema_count && !rc; i++)
    rc = segue__schema_walk_new(&w->schemas[i], mask->schemas[i]);
  if (rc) {
    segue__mask_walk_free(w);
    return rc;
  }
  w->seen[0] = mask_walk_follow(w, NULL, w->states, NULL);
  for (size_t i = 0; i < mask->schema_count; i++)
    w->seen[0] = mask_walk_worse(w->seen[0], segue__schema_walk_top(w->schemas[i]));
  *out = w;
  return 0;
}

void segue__mask_walk_free(segue__mask_walk *walk) {
  if (!walk) return;
  for (size_t i = 0; i < SEGUE__MASK_PARTS; i++)
    segue__schema_walk_free(walk->schemas[i]);
  segue__free(walk->states);
  segue__free(walk);
}

segue__seen segue__mask_walk_top(const segue__mask_walk *walk) {
  return walk->seen[walk->depth];
}

/* A path deeper than a config can be counts as a secret: only an attempt to evade the mask has such
 * a path. */
segue__seen segue__mask_walk_down(segue__mask_walk *w, const segue__path_step *step) {
  segue__seen above = w->seen[w->depth];
  size_t n = w->pattern_total;
  if (w->depth + 1 >= sizeof w->seen / sizeof *w->seen) return SEGUE__SEEN_SECRET;
  bool memory = w->depth + 1 < w->capacity || mask_walk_grow(w) == 0;
  segue__seen seen =
      memory ? mask_walk_follow(w, w->states + w->depth * n, w->states + (w->depth + 1) * n, step)
             : SEGUE__SEEN_SECRET;
  for (size_t i = 0; i < w->mask->schema_count; i++)
    seen = mask_walk_worse(seen, segue__schema_walk_down(w->schemas[i], step));
  for (size_t i = 0; i < w->mask->schema_count; i++)
    w->starved = w->starved || segue__schema_walk_starved(w->schemas[i]);
  w->starved = w->starved || !memory;
  if (!memory || above == SEGUE__SEEN_SECRET) seen = SEGUE__SEEN_SECRET;
  w->seen[++w->depth] = seen;
  return seen;
}

/* Follows the path while a value below can be a secret. */
static int mask_walk_descend(const segue__mask *mask, const segue__path *path, segue__seen *seen,
                             size_t *depth) {
  segue__mask_walk *walk;
  *seen = SEGUE__SEEN_SECRET;
  *depth = 0;
  int rc = segue__mask_walk_new(&walk, mask);
  if (rc != 0) return rc;
  size_t n = 0;
  segue__seen now = segue__mask_walk_top(walk);
  for (; n < path->count && now == SEGUE__SEEN_OPEN; n++)
    now = segue__mask_walk_down(walk, &path->steps[n]);
  bool starved = walk->starved;
  segue__mask_walk_free(walk);
  if (starved) return UV_ENOMEM;
  *seen = now;
  *depth = n;
  return 0;
}

int segue__mask_look(const segue__mask *mask, const segue__path *path, segue__seen *seen) {
  size_t depth;
  return mask_walk_descend(mask, path, seen, &depth);
}

int segue__mask_depth(const segue__mask *mask, const segue__path *path, size_t *depth) {
  segue__seen seen;
  int rc = mask_walk_descend(mask, path, &seen, depth);
  return rc < 0 ? rc : seen == SEGUE__SEEN_SECRET;
}

void segue__mask_walk_up(segue__mask_walk *walk) {
  walk->depth--;
  for (size_t i = 0; i < walk->mask->schema_count; i++)
    segue__schema_walk_up(walk->schemas[i]);
}
