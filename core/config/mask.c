/* SPDX-License-Identifier: MIT
 *
 * Masks: makes and joins them, and looks up one path. (json_write.c writes masked values,
 * mask_words.c finds secrets in sentences.)
 */
#include "mask.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "mask_internal.h"

/* ---- Making ---------------------------------------------------------------------------------- */

static void patterns_unref(segue__patterns *patterns) {
  if (!patterns || __atomic_sub_fetch(&patterns->refs, 1, __ATOMIC_ACQ_REL)) return;
  for (size_t i = 0; i < patterns->count; i++)
    segue__pattern_deinit(&patterns->items[i]);
  segue__free(patterns);
}

static segue__mask *mask_alloc(void) {
  segue__mask *mask = segue__calloc(1, sizeof *mask);
  if (mask) mask->refs = 1;
  return mask;
}

int segue__mask_new(segue__mask **out, const char *const *patterns, size_t count,
                    segue_error *err) {
  *out = NULL;
  if (count > SEGUE__PATTERNS_MAX)
    return segue__errorf(err, SEGUE_EPOLICY, "secrets: at most %d patterns, not %zu",
                         SEGUE__PATTERNS_MAX, count);
  segue__mask *mask = mask_alloc();
  segue__patterns *list = segue__calloc(1, sizeof *list + count * sizeof list->items[0]);
  if (!mask || !list) {
    segue__free(mask);
    segue__free(list);
    return segue__errorf(err, UV_ENOMEM, "secrets: out of memory");
  }
  int rc = 0;
  list->refs = 1;
  for (size_t i = 0; i < count && !rc; i++) {
    rc = segue__pattern_parse(&list->items[i], patterns[i], err);
    list->count += !rc;
  }
  if (rc) {
    patterns_unref(list);
    segue__free(mask);
    return rc;
  }
  mask->patterns[mask->pattern_count++] = list;
  *out = mask;
  return 0;
}

int segue__mask_all(segue__mask **out) {
  static const char *const everything[] = {"**"};
  segue_error err;
  return segue__mask_new(out, everything, 1, &err);
}

int segue__mask_none(segue__mask **out) {
  *out = mask_alloc();
  return *out ? 0 : UV_ENOMEM;
}

const struct segue__mask *segue__mask_given(void *data) {
  return data;
}

/* A part that the mask already has is not added twice: masks of successive generations mostly share
 * their parts. Returns false if there are too many parts. */
static bool take_patterns(segue__mask *to, segue__patterns *patterns) {
  for (size_t i = 0; i < to->pattern_count; i++)
    if (to->patterns[i] == patterns) return true;
  if (to->pattern_count == SEGUE__MASK_PARTS) return false;
  __atomic_add_fetch(&patterns->refs, 1, __ATOMIC_RELAXED);
  to->patterns[to->pattern_count++] = patterns;
  return true;
}

static bool mask_take_schema(segue__mask *to, segue__schema *schema) {
  for (size_t i = 0; i < to->schema_count; i++)
    if (to->schemas[i] == schema) return true;
  if (to->schema_count == SEGUE__MASK_PARTS) return false;
  to->schemas[to->schema_count++] = segue__schema_ref(schema);
  return true;
}

static bool mask_take(segue__mask *to, const segue__mask *from) {
  bool good = true;
  for (size_t i = 0; from && i < from->pattern_count; i++)
    good = good && take_patterns(to, from->patterns[i]);
  for (size_t i = 0; from && i < from->schema_count; i++)
    good = good && mask_take_schema(to, from->schemas[i]);
  return good;
}

int segue__mask_join(segue__mask **out, const segue__mask *a, const segue__mask *b,
                     segue__schema *schema) {
  *out = NULL;
  if (!a && !b && !schema) return 0;
  segue__mask *mask = mask_alloc();
  if (!mask) return UV_ENOMEM;
  if (mask_take(mask, a) && mask_take(mask, b) && (!schema || mask_take_schema(mask, schema))) {
    *out = mask;
    return 0;
  }
  segue__mask_unref(mask);
  return segue__mask_all(out); /* too many to check: the mask hides everything */
}

segue__mask *segue__mask_ref(const segue__mask *mask) {
  if (mask) __atomic_add_fetch(&((segue__mask *)mask)->refs, 1, __ATOMIC_RELAXED);
  return (segue__mask *)mask;
}

void segue__mask_unref(segue__mask *mask) {
  if (!mask || __atomic_sub_fetch(&mask->refs, 1, __ATOMIC_ACQ_REL)) return;
  for (size_t i = 0; i < mask->pattern_count; i++)
    patterns_unref(mask->patterns[i]);
  for (size_t i = 0; i < mask->schema_count; i++)
    segue__schema_unref(mask->schemas[i]);
  segue__mask_words_deinit(&mask->words);
  segue__free(mask);
}

bool segue__mask_hides(const segue__mask *mask, const char *text) {
  segue__path path;
  segue_error ignored;
  if (!mask) return false;
  if (segue__path_parse(&path, text, &ignored) < 0) return true;
  size_t depth;
  int rc = segue__mask_depth(mask, &path, &depth);
  segue__path_deinit(&path);
  return rc != 0;
}

/* ---- Paths that lead into a secret ----------------------------------------------------------- */

int segue__mask_cut(const segue__mask *mask, const char *text, segue__buf *out) {
  segue__path path;
  segue_error error;
  size_t depth = 0;
  segue__buf_adds(out, "");
  if (!mask) {
    segue__buf_adds(out, text);
    return out->failed ? UV_ENOMEM : 0;
  }
  int rc = segue__path_parse(&path, text, &error);
  if (rc < 0) return rc == UV_ENOMEM || out->failed ? UV_ENOMEM : 1;
  rc = segue__mask_depth(mask, &path, &depth);
  if (rc == 0) segue__buf_adds(out, text);
  for (size_t i = 0; i < depth && rc > 0; i++)
    if (path.steps[i].key)
      segue__path_add_key(out, path.steps[i].key, path.steps[i].key_len);
    else
      segue__path_add_index(out, path.steps[i].index);
  segue__path_deinit(&path);
  return out->failed ? UV_ENOMEM : rc;
}

/* Returns 1 if the path changed. The nodes need not be the ones at the new path: neither is ever
 * shown. */
static int cut_change(const segue__mask *mask, segue__change *change) {
  segue__buf path;
  segue__buf_init(&path);
  int rc = segue__mask_cut(mask, change->path, &path);
  change->secret = rc != 0;
  if (rc == 1 && strcmp(path.data, change->path) != 0) {
    char *copy = segue__strdup(path.data);
    segue__free(copy ? change->path : NULL);
    if (copy)
      *change = (segue__change){.op = SEGUE__CHANGE,
                                .path = copy,
                                .from = change->from ? change->from : change->to,
                                .to = change->to ? change->to : change->from,
                                .secret = true};
    rc = copy ? 1 : UV_ENOMEM;
  } else if (rc == 1) {
    rc = 0;
  }
  segue__buf_deinit(&path);
  return rc;
}

/* Empties a list that is masked only in part: a caller that ignores the error must not be able to
 * show a secret. */
static void mask_drop_changes(segue__changes *changes) {
  for (size_t i = 0; i < changes->count; i++)
    segue__free(changes->items[i].path);
  changes->count = 0;
}

int segue__mask_changes(const segue__mask *mask, segue__changes *changes) {
  size_t kept = 0;
  int rc = 0;
  for (size_t i = 0; mask && i < changes->count; i++) {
    segue__change change = changes->items[i];
    int cut = rc ? 0 : cut_change(mask, &change);
    if (cut < 0) rc = cut;
    if (cut == 1 && kept && strcmp(changes->items[kept - 1].path, change.path) == 0) {
      segue__free(change.path); /* all changes below one secret become one row */
      changes->total--;
    } else {
      changes->items[kept++] = change;
    }
  }
  if (mask) changes->count = kept;
  if (rc) mask_drop_changes(changes);
  return rc;
}

/* Replaces each `what` by `by`, which is shorter or as long. */
static void mask_replace(char *text, const char *what, const char *by) {
  size_t n = strlen(what), m = strlen(by);
  for (char *at = text; (at = strstr(at, what)); at += m) {
    memcpy(at, by, m);
    memmove(at + m, at + n, strlen(at + n) + 1);
  }
}

/* A text as long as its buffer was cut to fit into it. */
static void scrub_field(const segue__mask *mask, char *text, size_t size) {
  segue__mask_scrub(mask, text, strlen(text) + 1 >= size);
}

void segue__mask_error(const segue__mask *mask, segue_error *error) {
  segue__buf path;
  scrub_field(mask, error->message, sizeof error->message);
  scrub_field(mask, error->file, sizeof error->file);
  scrub_field(mask, error->source, sizeof error->source);
  if (!mask || !error->path[0] || error->path[0] == '#') return; /* a place in a schema */
  segue__buf_init(&path);
  if (segue__mask_cut(mask, error->path, &path) < 0) {
    /* The message may name keys below a secret, and without the path it is not known which. */
    snprintf(error->message, sizeof error->message, "the message is not shown: out of memory");
    error->path[0] = 0;
  } else if (strcmp(path.data, error->path) != 0) {
    bool shorter = path.len < strlen(error->path); /* without quotes that were not needed */
    if (path.len) mask_replace(error->message, error->path, shorter ? path.data : SEGUE__MASKED);
    segue__error_path(error, path.data);
  }
  segue__buf_deinit(&path);
}
