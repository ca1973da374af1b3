/* SPDX-License-Identifier: MIT
 *
 * mask_internal.h: following a path through what a mask consists of, one step at a time.
 */
#ifndef SEGUE_CONFIG_MASK_INTERNAL_H
#define SEGUE_CONFIG_MASK_INTERNAL_H

#include "mask.h"
#include "path.h"

typedef enum segue__seen {
  SEGUE__SEEN_CLEAR, /* no secret, here or below */
  SEGUE__SEEN_OPEN,  /* no secret, but there may be some below */
  SEGUE__SEEN_SECRET
} segue__seen;

/* Schema: from the root, a step down and back. Out of memory: SECRET. secret.c. */
/* Implemented by core/schema: a mask holds a schema and walks its writeOnly marks. */
segue__schema *segue__schema_ref(segue__schema *schema);
void segue__schema_unref(segue__schema *schema);
typedef struct segue__schema_walk segue__schema_walk;
int segue__schema_walk_new(segue__schema_walk **out, const segue__schema *schema);
void segue__schema_walk_free(segue__schema_walk *walk);
segue__seen segue__schema_walk_top(const segue__schema_walk *walk);
segue__seen segue__schema_walk_down(segue__schema_walk *walk, const segue__path_step *step);
void segue__schema_walk_up(segue__schema_walk *walk);
/* The place counts as a secret because there was no memory to look. */
bool segue__schema_walk_starved(const segue__schema_walk *walk);

/* Masks: the same. mask_walk.c. */
typedef struct segue__mask_walk segue__mask_walk;
int segue__mask_walk_new(segue__mask_walk **out, const segue__mask *mask);
void segue__mask_walk_free(segue__mask_walk *walk);
segue__seen segue__mask_walk_top(const segue__mask_walk *walk);
segue__seen segue__mask_walk_down(segue__mask_walk *walk, const segue__path_step *step);
void segue__mask_walk_up(segue__mask_walk *walk);

/* Writes to *seen what the mask knows about the value at a path. Returns UV_ENOMEM if memory runs
 * out. */
int segue__mask_look(const segue__mask *mask, const segue__path *path, segue__seen *seen);
/* Returns 1 if the value is a secret or inside one; *depth steps of the path lead to the topmost
 * one. Returns 0 if not. Returns UV_ENOMEM if that is not known; *depth is 0. Callers must check
 * for the error: a path that is cut at depth 0 is the path of the root, and the root is no
 * secret. */
int segue__mask_depth(const segue__mask *mask, const segue__path *path, size_t *depth);

/* One step of a pattern. */
typedef enum segue__pattern_kind {
  SEGUE__PATTERN_KEY,  /* text, "*" in it for any part */
  SEGUE__PATTERN_ITEM, /* index */
  SEGUE__PATTERN_ITEMS,
  SEGUE__PATTERN_ANY,
  SEGUE__PATTERN_DEEP
} segue__pattern_kind;

typedef struct segue__pattern_step {
  segue__pattern_kind kind;
  char *text;
  size_t len, index;
  bool literal; /* was quoted: "*" is itself */
} segue__pattern_step;

enum { SEGUE__PATTERN_STEPS = 60, SEGUE__PATTERNS_MAX = 64 };

typedef struct segue__pattern {
  segue__pattern_step steps[SEGUE__PATTERN_STEPS];
  unsigned count;
} segue__pattern;

/* Counted: joined masks share them. */
typedef struct segue__patterns {
  int refs; /* atomic */
  size_t count;
  segue__pattern items[];
} segue__patterns;

enum { SEGUE__MASK_PARTS = 4 };

/* The values of secrets, to be found in sentences: all in one block of memory, sorted by their
 * bytes. */
typedef struct segue__mask_words {
  segue__buf text;
  struct segue__mask_word {
    size_t at;
    uint32_t len;
  } * items;
  size_t count, capacity;
  bool first[256]; /* bytes that start a word: most bytes of a text need no search */
} segue__mask_words;

struct segue__mask {
  int refs; /* atomic */
  segue__patterns *patterns[SEGUE__MASK_PARTS];
  segue__schema *schemas[SEGUE__MASK_PARTS];
  size_t pattern_count, schema_count; /* parts */
  segue__mask_words words;            /* learned */
};

/* mask_words.c. */
void segue__mask_words_deinit(segue__mask_words *words);

int segue__pattern_parse(segue__pattern *out, const char *text, segue_error *err);
void segue__pattern_deinit(segue__pattern *pattern);
/* Positions in a pattern as bits; the last one means: all of it was met. */
uint64_t segue__pattern_begin(const segue__pattern *pattern);
uint64_t segue__pattern_next(const segue__pattern *pattern, uint64_t state,
                             const segue__path_step *step);
bool segue__pattern_met(const segue__pattern *pattern, uint64_t state);

#endif
