/* SPDX-License-Identifier: MIT
 *
 * "Did you mean": the nearest of a few known words, by the number of letters that would have to be
 * changed (two neighbours swapped count as one).
 */
#include "suggest.h"

#include <string.h>

enum { LONGEST = 63, FAR = 1000 };

static size_t least_of(size_t a, size_t b, size_t c) {
  size_t ab = a < b ? a : b;
  return ab < c ? ab : c;
}

static char lower(char c) {
  return c >= 'A' && c <= 'Z' ? (char)(c | 32) : c;
}

size_t segue__suggest_distance(const char *a, size_t a_len, const char *b, size_t b_len) {
  size_t rows[3][LONGEST + 1];
  size_t *before = rows[0], *last = rows[1], *row = rows[2];
  if (a_len > LONGEST || b_len > LONGEST) return FAR;
  for (size_t j = 0; j <= b_len; j++)
    last[j] = j;
  for (size_t i = 1; i <= a_len; i++) {
    char here = lower(a[i - 1]), left = i > 1 ? lower(a[i - 2]) : 0;
    row[0] = i;
    for (size_t j = 1; j <= b_len; j++) {
      row[j] = least_of(last[j] + 1, row[j - 1] + 1, last[j - 1] + (here != lower(b[j - 1])));
      if (i > 1 && j > 1 && here == lower(b[j - 2]) && left == lower(b[j - 1]) &&
          before[j - 2] < row[j])
        row[j] = before[j - 2] + 1;
    }
    size_t *spare = before;
    before = last;
    last = row;
    row = spare;
  }
  return last[b_len];
}

const char *segue__suggest(const char *word, const char *const *candidates, size_t count) {
  size_t len = strlen(word);
  if (!len || len > LONGEST) return NULL;
  size_t best = len / 3 + 1; /* farther than that is another word */
  const char *found = NULL;
  for (size_t i = 0; i < count; i++) {
    size_t d = segue__suggest_distance(word, len, candidates[i], strlen(candidates[i]));
    if (d < best || (d == best && !found)) {
      best = d;
      found = candidates[i];
    }
  }
  return found;
}
