/* SPDX-License-Identifier: MIT
 *
 * mask_internal.h: follows a path through the parts of a mask (patterns and schemas), one step at a
 * time.
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

/* Schema: from the root, one step down and back up. If memory runs out: SECRET. secret.c. */
/* Implemented by core/schema: a mask holds a schema and walks its writeOnly marks. */
segue__schema *segue__schema_ref(segue__schema *schema);
void segue__schema_unref(segue__schema *schema);
typedef struct segue__schema_walk segue__schema_walk;
int segue__schema_walk_new(segue__schema_walk **out, const segue__schema *schema);
void segue__schema_walk_free(segue__schema_walk *walk);
segue__seen segue__schema_walk_top(const segue__schema_walk *walk);
segue__seen segue__schema_walk_down(segue__schema_walk *walk, const segue__path_step *step);
void segue__schema_walk_up(segue__schema_walk *walk);
/* Returns whether the place counts as a secret only because memory ran out. */
bool segue__schema_walk_starved(const segue__schema_walk *walk);

/* Masks: the same. mask_walk.c. */
typedef struct segue__mask_walk segue__mask_walk;
int segue__mask_walk_new(segue__mask_walk **out, const segue__mask *mask);
void segue__mask_walk_free(segue__mask_walk *walk);
segue__seen segue__mask_walk_top(const segue__mask_walk *walk);
segue__seen segue__mask_walk_down(segue__mask_walk *walk, const segue__path_step *step);
void segue__mask_walk_up(segue__mask_walk *walk);

/* Looks up the value at a path and writes the answer to *seen. Returns UV_ENOMEM if memory runs
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

/* The values of secrets, for the search in sentences: all in one block of memory, sorted by their
 * bytes. */
typedef struct segue__mask_words {
  segue__buf text;
  struct segue__mask_word {
    size_t at;
    uint32_t len;
  } * items;
  size_t count, capacity;
  /* The first bytes of words, and hashes of their first four: most bytes of a text need no search.
   */
  bool first[256];
  uint64_t starts[1024];
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
/* Returns false if no word starts with the four bytes at text. */
bool segue__mask_words_start(const segue__mask_words *words, const char *text);
/* Finds the word that shares the longest beginning with the text. Returns how many bytes it shares;
 * 0: there is no word, and *word is NULL. */
size_t segue__mask_words_longest(const segue__mask_words *words, const char *text, size_t len,
                                 const char **word, size_t *word_len);
/* Returns whether a text may have been cut behind these bytes: nothing, or "...", follows. */
bool segue__mask_may_be_cut(const char *text, size_t left);
/* Returns whether the len bytes at text are a word. */
bool segue__mask_words_has(const segue__mask_words *words, const char *text, size_t len);

/* mask_encoded.c: returns the number of bytes at text that hold a secret, or the first 8 bytes of
 * one or more, as base64, hex digits or with escapes; 0: none. 4 bytes are enough at the end of the
 * text and before "...". */
size_t segue__mask_encoded_at(const segue__mask_words *words, const char *text, size_t left);
/* Returns the number of bytes at the end of a text that hold the first 1 to 3 bytes of a secret in
 * one of these forms, because the text was cut there; 0: none. */
size_t segue__mask_encoded_tail(const segue__mask_words *words, const char *text, size_t len);
/* Returns the number of bytes at the beginning of a text that hold the middle of a secret, as a
 * line of base64 or hex digits of which lines above are not shown; 0: none. */
size_t segue__mask_encoded_inside(const segue__mask_words *words, const char *text, size_t len);

/* mask_words.c: segue__mask_lines for a text that may begin inside of an encoded secret. */
bool segue__mask_part(const segue__mask *mask, const char *text, size_t len, segue__buf *out);

int segue__pattern_parse(segue__pattern *out, const char *text, segue_error *err);
void segue__pattern_deinit(segue__pattern *pattern);
/* Positions in a pattern as bits; the last bit is set when the whole pattern has matched. */
uint64_t segue__pattern_begin(const segue__pattern *pattern);
uint64_t segue__pattern_next(const segue__pattern *pattern, uint64_t state,
                             const segue__path_step *step);
bool segue__pattern_met(const segue__pattern *pattern, uint64_t state);

#endif
