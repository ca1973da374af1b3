/* SPDX-License-Identifier: MIT
 *
 * Kind `env`: environment variables as a document. Names are sorted by path, so that one pass
 * builds the tree and a name that is a value and a map at once stands beside its rival.
 */
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "../config/quote.h"
#include "kinds.h"
#include "source_options.h"

/* Between the keys of a path: below every byte that a name has, so that paths sort key by key. */
enum { BETWEEN = '\1' };

typedef struct variable {
  const char *text; /* NAME=value, borrowed from the environment */
  const char *value;
  int name_len;
  char *path; /* keys in lower case */
} variable;

typedef struct variables {
  variable *items;
  size_t count, capacity;
} variables;

static void variables_deinit(variables *list) {
  for (size_t i = 0; i < list->count; i++)
    segue__free(list->items[i].path);
  segue__free(list->items);
}

static int env_fail_memory(const segue__source *source, segue_error *err) {
  int rc = segue__errorf(err, UV_ENOMEM, "out of memory while reading %s", source->name);
  segue__error_source(err, source->name);
  return rc;
}

/* The name of a variable for a message. The parts of the name are the keys of a path, and keys
 * below a secret are not shown. path NULL: the variable has no path, so its name is shown only if
 * there are no secrets at all. */
static const char *show_name(const variable *v, const char *path, const segue__limits *limits,
                             segue__quoted *out) {
  enum { KEYS_MAX = 32 };
  segue__path_step steps[KEYS_MAX];
  segue__path parents = {.steps = steps};
  const segue__mask *mask = limits && limits->mask ? limits->mask(limits->mask_data) : NULL;
  for (const char *next; path && (next = strchr(path, BETWEEN)); path = next + 1) {
    if (parents.count == KEYS_MAX) return segue__quote_text(out, false, "", 0);
    steps[parents.count++] = (segue__path_step){.key = path, .key_len = (size_t)(next - path)};
  }
  segue__quote_place place = path ? SEGUE__QUOTE_KEY : SEGUE__QUOTE_STRAY;
  bool allowed = segue__quote_allows(mask, &parents, place);
  return segue__quote_text(out, allowed, v->text, (size_t)v->name_len);
}

/* Writes the path of a name into `path`, which is as long. False: a key in it is empty. */
static bool to_path(const char *name, size_t len, const char *separator, char *path) {
  size_t sep = strlen(separator), n = 0;
  for (size_t i = 0; i < len;) {
    if (sep && len - i >= sep && !memcmp(name + i, separator, sep)) {
      if (!n || path[n - 1] == BETWEEN) return false;
      path[n++] = BETWEEN;
      i += sep;
    } else {
      char c = name[i++];
      path[n++] = c >= 'A' && c <= 'Z' ? (char)(c | 32) : c;
    }
  }
  path[n] = 0;
  return n && path[n - 1] != BETWEEN;
}

static int env_add(const segue__source *source, const segue__limits *limits, variables *list,
                   const char *text, segue_error *err) {
  segue__quoted name;
  const char *equals = strchr(text, '='), *separator = source->separator;
  size_t prefix = strlen(source->prefix ? source->prefix : "");
  size_t len = (size_t)(equals - text) - prefix;
  if (list->count == list->capacity) {
    size_t capacity = list->capacity ? list->capacity * 2 : 16;
    variable *items = segue__realloc(list->items, capacity * sizeof *items);
    if (!items) return env_fail_memory(source, err);
    list->items = items;
    list->capacity = capacity;
  }
  variable *v = &list->items[list->count];
  *v = (variable){text, equals + 1, (int)(equals - text), segue__malloc(len + 1)};
  if (!v->path) return env_fail_memory(source, err);
  list->count++;
  if (to_path(text + prefix, len, separator ? separator : "__", v->path)) return 0;
  int rc = segue__errorf(err, SEGUE_ESOURCE,
                         "environment variable %s has an empty key in its name: rename it",
                         show_name(v, NULL, limits, &name));
  segue__error_source(err, source->name);
  return rc;
}

static int env_collect(const segue__source *source, const segue__limits *limits, char **environ,
                       variables *list, segue_error *err) {
  const char *prefix = source->prefix ? source->prefix : "";
  int rc = 0;
  for (char **e = environ; !rc && e && *e; e++)
    if (!strncmp(*e, prefix, strlen(prefix)) && strchr(*e, '=') > *e)
      rc = env_add(source, limits, list, *e, err);
  return rc;
}

static int env_by_path(const void *a, const void *b) {
  return strcmp(((const variable *)a)->path, ((const variable *)b)->path);
}

/* Two variables for one place, or one for a place inside of the other's. */
static int check_rivals(const segue__source *source, const segue__limits *limits,
                        const variables *list, segue_error *err) {
  segue__quoted first, second;
  for (size_t i = 1; i < list->count; i++) {
    const variable *a = &list->items[i - 1], *b = &list->items[i];
    size_t len = strlen(a->path);
    if (strncmp(a->path, b->path, len) != 0 || (b->path[len] && b->path[len] != BETWEEN)) continue;
    int rc =
        segue__errorf(err, SEGUE_ESOURCE, "environment variables %s and %s %s: remove one",
                      show_name(a, a->path, limits, &first), show_name(b, b->path, limits, &second),
                      b->path[len] ? "make the same key a value and a map" : "set the same key");
    segue__error_source(err, source->name);
    return rc;
  }
  return 0;
}

/* Length of the leading keys that two paths share, and how many these are. */
static size_t env_shared(const char *a, const char *b, size_t *keys) {
  size_t len = 0;
  *keys = 0;
  for (size_t i = 0; a[i] && a[i] == b[i]; i++)
    if (a[i] == BETWEEN) {
      len = i + 1;
      ++*keys;
    }
  return len;
}

/* Ends the maps that the path leaves, begins those that it enters, and sets the value. */
static int build_one(segue__builder *b, const variable *v, bool as_text, const char *before,
                     size_t *depth) {
  size_t keys;
  const char *key = v->path + env_shared(before, v->path, &keys);
  for (; *depth > keys; --*depth)
    segue__builder_end(b);
  for (const char *next; (next = strchr(key, BETWEEN)); key = next + 1) {
    segue__builder_key(b, key, (size_t)(next - key));
    segue__builder_begin(b, SEGUE_MAP);
    ++*depth;
  }
  segue__builder_key(b, key, strlen(key));
  return as_text ? segue__builder_string(b, v->value, strlen(v->value))
                 : segue__builder_untyped(b, v->value, strlen(v->value));
}

static int env_build(segue__builder *b, const variables *list, bool as_text,
                     const segue__limits *limits, segue_error *err) {
  segue__quoted name;
  size_t depth = 0;
  const char *before = "";
  segue__builder_begin(b, SEGUE_MAP);
  for (size_t i = 0; i < list->count; i++) {
    const variable *v = &list->items[i];
    int rc = build_one(b, v, as_text, before, &depth);
    if (rc && rc != UV_ENOMEM) {
      segue_error why;
      segue__builder_finish(b, &why);
      segue__errorf(err, rc, "environment variable %s: %s", show_name(v, v->path, limits, &name),
                    why.message);
      segue__error_path(err, why.path);
      return rc;
    }
    before = v->path;
  }
  for (; depth; depth--)
    segue__builder_end(b);
  segue__builder_end(b);
  return segue__builder_finish(b, err);
}

static int build_document(const segue__source *source, const variables *list,
                          const segue__limits *limits, uint32_t id, segue__document **out,
                          segue_error *err) {
  segue__builder *b = NULL;
  int rc = segue__document_new(out, id, source->name, source->name, SEGUE__BUILT, NULL, 0);
  if (!rc) rc = segue__builder_new(&b, *out, limits);
  if (rc) {
    segue__document_unref(*out);
    return env_fail_memory(source, err);
  }
  rc = env_build(b, list, source->as_text, limits, err);
  segue__builder_free(b);
  if (!rc) return 0;
  segue__error_source(err, source->name);
  segue__document_unref(*out);
  return rc;
}

static segue__document *env_known(const segue__source *source, const segue__documents *previous,
                                  const segue__document *doc) {
  for (size_t i = 0; previous && i < previous->count; i++) {
    segue__document *old = previous->items[i];
    if (old->format == SEGUE__BUILT && !strcmp(old->source, source->name) &&
        segue__hash_equal(old->hash, doc->hash))
      return old;
  }
  return NULL;
}

static int fetch_env(const segue__source *source, const segue__os *os, const segue__limits *limits,
                     const segue__documents *previous, uint32_t *next_id, segue__documents *out,
                     segue_error *err) {
  variables list = {NULL, 0, 0};
  segue__document *doc = NULL;
  int rc = env_collect(source, limits, os->environ(os->data), &list, err);
  if (!rc && list.count) qsort(list.items, list.count, sizeof *list.items, env_by_path);
  if (!rc) rc = check_rivals(source, limits, &list, err);
  if (!rc) rc = build_document(source, &list, limits, (*next_id)++, &doc, err);
  variables_deinit(&list);
  if (rc) return rc;
  segue__document *old = env_known(source, previous, doc);
  if (old) {
    segue__document_unref(doc);
    doc = segue__document_ref(old);
  }
  return segue__documents_add(out, doc) ? env_fail_memory(source, err) : 0;
}

static int env_watch_nothing(const segue__source *source, segue__names *paths) {
  (void)source, (void)paths;
  return 0;
}

const segue__source_kind segue__source_env = {.name = "env",
                                              .options = &segue__source_env_options,
                                              .fetch = fetch_env,
                                              .watch = env_watch_nothing};
