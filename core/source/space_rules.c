/* SPDX-License-Identifier: MIT
 *
 * The rules of a key space: which keys of the store count, and where they are in the tree.
 */
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "../config/utf8.h"
#include "space_internal.h"

enum { PATTERN_MAX = 255, KEYS_DEFAULT = 1000000, BYTES_DEFAULT = 128 << 20 };

/* ---- Patterns -------------------------------------------------------------------------------- */

/* One step of the pattern from each of its positions that is reached. The cost is the product of
 * the two lengths for each pattern, because the writers of the store choose the keys. */
static void pattern_step(const char *pattern, size_t len, char c, char separator,
                         const unsigned char *from, unsigned char *to) {
  memset(to, 0, len + 1);
  for (size_t i = 0; i < len; i++) {
    if (!from[i]) continue;
    bool star = pattern[i] == '*';
    if (star)
      to[i] |= c != separator || pattern[i + 1] == '*';
    else if (pattern[i] == '?' ? c != separator : pattern[i] == c)
      to[i + 1] = 1;
  }
}

/* A star also matches nothing: the position behind it is reached, too. */
static void pattern_pass_stars(const char *pattern, size_t len, unsigned char *set) {
  for (size_t i = 0; i < len; i++)
    if (set[i] && pattern[i] == '*') {
      if (pattern[i + 1] == '*') set[i + 2] = 1;
      set[i + 1] |= pattern[i + 1] != '*';
    }
}

/* `*` matches any text within a part of the key, `**` any text, `?` one character. */
static bool pattern_match(const char *pattern, const char *key, size_t key_len, char separator) {
  unsigned char sets[2][PATTERN_MAX + 3] = {{1}};
  size_t len = strlen(pattern), now = 0;
  pattern_pass_stars(pattern, len, sets[0]);
  for (size_t i = 0; i < key_len; i++, now ^= 1) {
    pattern_step(pattern, len, key[i], separator, sets[now], sets[now ^ 1]);
    pattern_pass_stars(pattern, len, sets[now ^ 1]);
  }
  return sets[now][len];
}

static bool matches_any(char *const *patterns, size_t count, const space_route *route,
                        char separator) {
  for (size_t i = 0; i < count; i++)
    if (pattern_match(patterns[i], route->rest, route->rest_len, separator)) return true;
  return false;
}

static bool rules_include(const space_rules *rules, const space_route *route) {
  char separator = *rules->separator;
  return (!rules->include_count ||
          matches_any(rules->include, rules->include_count, route, separator)) &&
         !matches_any(rules->exclude, rules->exclude_count, route, separator);
}

/* ---- Routes ---------------------------------------------------------------------------------- */

static bool begins_with(const char *text, size_t len, const char *start, size_t start_len) {
  return len >= start_len && !memcmp(text, start, start_len);
}

/* A prefix ends where a part of the key ends: "app" is no prefix of "application/x". */
static bool mount_has(const space_rules *rules, const space_mount *mount, const char *key,
                      size_t len) {
  size_t n = mount->prefix_len, sep = rules->separator_len;
  if (!begins_with(key, len, mount->prefix, n)) return false;
  if (mount->whole || n == len) return n == len;
  return !n || begins_with(key + n, len - n, rules->separator, sep) ||
         (n >= sep && !memcmp(mount->prefix + n - sep, rules->separator, sep));
}

bool space_next_part(const space_rules *rules, space_route *route, const char **part, size_t *len) {
  size_t sep = rules->separator_len;
  while (begins_with(route->rest, route->rest_len, rules->separator, sep)) {
    route->rest += sep;
    route->rest_len -= sep;
  }
  if (!route->rest_len) return false;
  const char *end = memmem(route->rest, route->rest_len, rules->separator, sep);
  *part = route->rest;
  *len = end ? (size_t)(end - route->rest) : route->rest_len;
  route->rest += *len;
  route->rest_len -= *len;
  return true;
}

static const char *wrong_with_key(const space_rules *rules, const space_route *route,
                                  const char *key, size_t len) {
  const char *part;
  size_t part_len, depth = route->mount->at_count;
  space_route walk = *route;
  if (len > SPACE_KEY_MAX) return "the key is longer than 64 KiB: leave it out with exclude";
  if (segue__utf8_check(key, len) != len || memchr(key, 0, len))
    return "the key is not UTF-8 text: leave it out with exclude";
  while (space_next_part(rules, &walk, &part, &part_len))
    depth++;
  if (depth > SPACE_DEPTH_MAX) return "the key has more than 120 parts: leave it out with exclude";
  if (!depth && !route->mount->whole && !rules->value_key)
    return "the key is the prefix itself: name it as key = ... if its value is a document, or name "
           "a value_key";
  return NULL;
}

space_route space_find_route(const space_rules *rules, const char *key, size_t len) {
  space_route route = {.where = SPACE_IGNORED};
  if (rules->commit && len == rules->commit_len && !memcmp(key, rules->commit, len)) {
    route.where = SPACE_MARKER;
    return route;
  }
  size_t i = 0;
  while (i < rules->mount_count && !mount_has(rules, &rules->mounts[i], key, len))
    i++;
  if (i == rules->mount_count) return route;
  route.mount = &rules->mounts[i];
  route.rest = key + route.mount->prefix_len;
  route.rest_len = len - route.mount->prefix_len;
  space_route inside = route;
  while (begins_with(inside.rest, inside.rest_len, rules->separator, rules->separator_len)) {
    inside.rest += rules->separator_len;
    inside.rest_len -= rules->separator_len;
  }
  if (!route.mount->whole && !rules_include(rules, &inside)) return route;
  route.wrong = wrong_with_key(rules, &route, key, len);
  route.where = route.wrong ? SPACE_BAD_KEY : SPACE_IN_TREE;
  return route;
}

/* ---- Options --------------------------------------------------------------------------------- */

static int rules_copy_list(char ***to, size_t *count, const char *const *from, size_t n,
                           segue_error *err) {
  *to = segue__calloc(n + 1, sizeof(char *));
  for (size_t i = 0; *to && i < n; i++) {
    size_t len = strlen(from[i]);
    if (!len || len > PATTERN_MAX)
      return segue__errorf(err, SEGUE_EUSAGE, "a pattern must have 1 to %d characters: \"%.40s\"",
                           PATTERN_MAX, from[i]);
    (*to)[i] = segue__strdup(from[i]);
    if (!(*to)[i]) return UV_ENOMEM;
    *count = i + 1;
  }
  return *to ? 0 : UV_ENOMEM;
}

/* "db.main" -> its keys. at: of all mounts; own: of this one. */
static int mount_split(space_mount *mount, const char *at, const char *own, segue_error *err) {
  const char *const texts[] = {at ? at : "", own ? own : ""};
  size_t most = 0;
  for (size_t i = 0; i < 2; i++)
    most += strlen(texts[i]) + 1;
  mount->at = segue__calloc(most, sizeof(char *));
  if (!mount->at) return UV_ENOMEM;
  for (size_t i = 0; i < 2; i++)
    for (const char *p = texts[i]; *p;) {
      size_t len = strcspn(p, ".");
      if (!len || len == strlen(p) - 1 || segue__utf8_check(p, len) != len)
        return segue__errorf(err, SEGUE_EUSAGE,
                             "at = \"%.60s\" is no path: write keys with dots between them",
                             texts[i]);
      if (mount->at_count == SPACE_DEPTH_MAX / 2)
        return segue__errorf(err, SEGUE_EUSAGE, "at = \"%.60s\" is too deep", texts[i]);
      char *part = segue__strndup(p, len);
      if (!part) return UV_ENOMEM;
      mount->at[mount->at_count++] = part;
      p += len + (p[len] == '.');
    }
  return 0;
}

static int longest_first(const void *a, const void *b) {
  size_t x = ((const space_mount *)a)->prefix_len, y = ((const space_mount *)b)->prefix_len;
  return (x < y) - (x > y);
}

static int rules_mount(space_rules *rules, const segue__space_options *options, segue_error *err) {
  if (!options->mount_count)
    return segue__errorf(err, SEGUE_EUSAGE, "a key space needs a prefix, or a key");
  rules->mounts = segue__calloc(options->mount_count, sizeof *rules->mounts);
  if (!rules->mounts) return UV_ENOMEM;
  for (size_t i = 0; i < options->mount_count; i++) {
    const segue__space_mount *from = &options->mounts[i];
    space_mount *mount = &rules->mounts[rules->mount_count++];
    mount->whole = from->whole;
    mount->prefix = segue__strdup(from->prefix ? from->prefix : "");
    if (!mount->prefix) return UV_ENOMEM;
    mount->prefix_len = strlen(mount->prefix);
    int rc = mount_split(mount, options->at, from->at, err);
    if (rc) return rc;
  }
  qsort(rules->mounts, rules->mount_count, sizeof *rules->mounts, longest_first);
  for (size_t i = 1; i < rules->mount_count; i++)
    if (!strcmp(rules->mounts[i - 1].prefix, rules->mounts[i].prefix))
      return segue__errorf(err, SEGUE_EUSAGE, "the prefix \"%.80s\" is here twice",
                           rules->mounts[i].prefix);
  return 0;
}

static int rules_text(char **to, const char *from) {
  *to = segue__strdup(from);
  return from && !*to ? UV_ENOMEM : 0;
}

int space_rules_init(space_rules *rules, const segue__space_options *options, segue_error *err) {
  *rules = (space_rules){.values = options->values,
                         .by_suffix = options->by_suffix,
                         .lists = options->lists,
                         .base64 = options->base64,
                         .max_keys = options->max_keys ? options->max_keys : KEYS_DEFAULT,
                         .max_bytes = options->max_bytes ? options->max_bytes : BYTES_DEFAULT};
  const char *separator = options->separator ? options->separator : "/";
  err->code = 0;
  int rc = 0;
  if (!*separator || (options->value_key && !*options->value_key))
    rc = segue__errorf(err, SEGUE_EUSAGE, "%s must not be empty",
                       *separator ? "value_key" : "separator");
  if (!rc) rc = rules_text(&rules->separator, separator);
  if (!rc) rc = rules_text(&rules->value_key, options->value_key);
  if (!rc) rc = rules_text(&rules->commit, options->commit);
  if (!rc) rc = rules_mount(rules, options, err);
  if (!rc)
    rc = rules_copy_list(&rules->include, &rules->include_count, options->include,
                         options->include_count, err);
  if (!rc)
    rc = rules_copy_list(&rules->exclude, &rules->exclude_count, options->exclude,
                         options->exclude_count, err);
  if (rc) {
    if (!err->code) segue__errorf(err, rc, "out of memory for a key space");
    space_rules_deinit(rules);
    return rc;
  }
  rules->separator_len = strlen(rules->separator);
  rules->commit_len = rules->commit ? strlen(rules->commit) : 0;
  return 0;
}

static void free_texts(char **texts, size_t count) {
  for (size_t i = 0; texts && i < count; i++)
    segue__free(texts[i]);
  segue__free(texts);
}

void space_rules_deinit(space_rules *rules) {
  for (size_t i = 0; i < rules->mount_count; i++) {
    free_texts(rules->mounts[i].at, rules->mounts[i].at_count);
    segue__free(rules->mounts[i].prefix);
  }
  segue__free(rules->mounts);
  free_texts(rules->include, rules->include_count);
  free_texts(rules->exclude, rules->exclude_count);
  segue__free(rules->separator);
  segue__free(rules->value_key);
  segue__free(rules->commit);
  *rules = (space_rules){0};
}
