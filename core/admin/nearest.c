/* SPDX-License-Identifier: MIT
 *
 * "Did you mean": the nearest of a few known words, by the number of letters that would have to be
 * changed (two neighbours swapped count as one).
 */
#include "admin.h"

#include <string.h>

enum { LONGEST = 63 };

static size_t nearest_least(size_t a, size_t b, size_t c) {
  size_t ab = a < b ? a : b;
  return ab < c ? ab : c;
}

static size_t nearest_distance(const char *a, const char *b) {
  size_t n = strlen(a), m = strlen(b);
  size_t rows[3][LONGEST + 1];
  size_t *before = rows[0], *last = rows[1], *row = rows[2];
  for (size_t j = 0; j <= m; j++)
    last[j] = j;
  for (size_t i = 1; i <= n; i++) {
    row[0] = i;
    for (size_t j = 1; j <= m; j++) {
      row[j] = nearest_least(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] < row[j])
        row[j] = before[j - 2] + 1;
    }
    size_t *spare = before;
    before = last;
    last = row;
    row = spare;
  }
  return last[m];
}

const char *segue__nearest(const char *word, const char *const *candidates, size_t count) {
  size_t len = strlen(word);
  if (!len || len > LONGEST) return NULL;
  size_t best = len / 3 + 1; /* farther than that is another word */
  const char *found = NULL;
  for (size_t i = 0; i < count; i++) {
    if (strlen(candidates[i]) > LONGEST) continue;
    size_t d = nearest_distance(word, candidates[i]);
    if (d < best || (d == best && !found)) {
      best = d;
      found = candidates[i];
    }
  }
  return found;
}
