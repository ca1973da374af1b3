/* SPDX-License-Identifier: MIT
 *
 * Patterns of file names: fnmatch(3), and braces, which fnmatch lacks. A brace group is replaced by
 * one of its alternatives, and the result is matched again. The number of all combinations is
 * counted first: {a,b}{a,b}... doubles with each group.
 */
#include "glob.h"

#include <fnmatch.h>
#include <limits.h>
#include <string.h>

enum { ALTERNATIVES_MAX = 256 };

/* A group of alternatives: a '{' and its matching '}'. */
typedef struct group {
  const char *open, *close;
  bool is_alternative; /* the group has a comma */
} group;

/* Finds the next group at or behind s; returns false if there is none. close is NULL if the group
 * is not closed. */
static bool find_group(const char *s, group *out) {
  for (; *s && *s != '{'; s++)
    if (*s == '\\' && s[1]) s++;
  if (!*s) return false;
  unsigned depth = 0;
  *out = (group){.open = s};
  for (; *s; s++) {
    if (*s == '\\' && s[1])
      s++;
    else if (*s == '{')
      depth++;
    else if (*s == ',' && depth == 1)
      out->is_alternative = true;
    else if (*s == '}' && --depth == 0) {
      out->close = s;
      return true;
    }
  }
  return true;
}

/* Returns the end of the alternative that starts at s: its comma, or the '}' of the group. */
static const char *alternative_end(const char *s, const char *close) {
  for (unsigned depth = 0; s < close; s++) {
    if (*s == '\\' && s + 1 < close)
      s++;
    else if (*s == '{')
      depth++;
    else if (*s == '}')
      depth--;
    else if (*s == ',' && !depth)
      return s;
  }
  return close;
}

/* from: the text before it has no group of alternatives left. */
static bool glob_match(const char *glob, size_t from, const char *name) {
  group g;
  char one[NAME_MAX * 4 + 1];
  while (find_group(glob + from, &g) && g.close && !g.is_alternative)
    from = (size_t)(g.open - glob) + 1;
  if (!find_group(glob + from, &g) || !g.close) return !fnmatch(glob, name, FNM_PERIOD);
  size_t head = (size_t)(g.open - glob), tail = strlen(g.close + 1);
  for (const char *start = g.open + 1; start <= g.close;) {
    const char *end = alternative_end(start, g.close);
    size_t len = (size_t)(end - start);
    if (head + len + tail < sizeof one) {
      memcpy(one, glob, head);
      memcpy(one + head, start, len);
      memcpy(one + head + len, g.close + 1, tail + 1);
      if (glob_match(one, head, name)) return true;
    }
    start = end + 1;
  }
  return false;
}

bool segue__glob_match(const char *glob, const char *name) {
  return glob_match(glob, 0, name);
}

bool segue__glob_is_pattern(const char *text) {
  return strpbrk(text, "*?[{") != NULL;
}

/* Counts the patterns without braces that a pattern stands for; past the limit the number only
 * means "too many". */
static unsigned long combinations(const char *s, const char *end) {
  unsigned long all = 1;
  group g;
  while (s < end && find_group(s, &g) && g.open < end && g.close) {
    unsigned long sum = 0;
    for (const char *start = g.open + 1; start <= g.close;) {
      const char *stop = alternative_end(start, g.close);
      sum += combinations(start, stop);
      start = stop + 1;
    }
    all *= sum;
    if (all > ALTERNATIVES_MAX) return all;
    s = g.close + 1;
  }
  return all;
}

const char *segue__glob_problem(const char *glob) {
  group g;
  if (strlen(glob) > NAME_MAX) return "it is longer than a file name can be";
  for (const char *s = glob; find_group(s, &g); s = g.close + 1)
    if (!g.close) return "a '{' has no '}'";
  if (combinations(glob, glob + strlen(glob)) > ALTERNATIVES_MAX)
    return "its braces stand for more than 256 patterns";
  return NULL;
}

bool segue__glob_match_path(const char *pattern, const char *path) {
  const char *slash = strrchr(pattern, '/'), *own = strrchr(path, '/');
  size_t folder = slash ? (size_t)(slash - pattern) + 1 : 0;
  size_t before = own ? (size_t)(own - path) + 1 : 0;
  return folder == before && !memcmp(pattern, path, folder) &&
         segue__glob_match(pattern + folder, path + before);
}
