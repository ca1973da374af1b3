/* SPDX-License-Identifier: MIT
 *
 * One pass over the text: names with an equals sign behind them, those in comments left out. What
 * stands in a long text in brackets may be taken for an assignment; then a position is off, and
 * nothing else.
 */
#include "lines.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "../os/mem.h"

static bool in_name(char c) {
  return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static int compare(const char *a, size_t a_len, const char *b, size_t b_len) {
  int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
  return order ? order : (a_len > b_len) - (a_len < b_len);
}

static int by_name(const void *a, const void *b) {
  const segue__line *x = a, *y = b;
  return compare(x->name, x->len, y->name, y->len);
}

static int add(segue__lines *lines, const char *name, const char *end, uint32_t line) {
  if (lines->count == lines->capacity) {
    size_t capacity = lines->capacity ? lines->capacity * 2 : 64;
    segue__line *items = segue__realloc(lines->items, capacity * sizeof *items);
    if (!items) return UV_ENOMEM;
    lines->items = items;
    lines->capacity = capacity;
  }
  lines->items[lines->count++] = (segue__line){name, (uint32_t)(end - name), line};
  return 0;
}

/* Behind the name that ends here: = and not ==, perhaps behind ["name"]. */
static bool is_assigned(const char *at, const char *end) {
  if (at + 1 < end && (*at == '"' || *at == '\'') && at[1] == ']') at += 2;
  while (at < end && (*at == ' ' || *at == '\t'))
    at++;
  return at < end && *at == '=' && !(at + 1 < end && at[1] == '=');
}

int segue__lines_init(segue__lines *lines, const char *text, size_t len) {
  const char *end = text + len;
  uint32_t line = 1;
  memset(lines, 0, sizeof *lines);
  for (const char *at = text; at < end;) {
    const char *name = at;
    while (at < end && in_name(*at))
      at++;
    if (at > name) {
      if (is_assigned(at, end) && add(lines, name, at, line)) return UV_ENOMEM;
    } else if (at + 1 < end && at[0] == '-' && at[1] == '-') {
      while (at < end && *at != '\n')
        at++;
    } else {
      line += *at++ == '\n';
    }
  }
  if (lines->count) qsort(lines->items, lines->count, sizeof *lines->items, by_name);
  return 0;
}

void segue__lines_deinit(segue__lines *lines) {
  segue__free(lines->items);
  memset(lines, 0, sizeof *lines);
}

uint32_t segue__lines_find(const segue__lines *lines, const char *name, size_t len,
                           uint32_t otherwise) {
  size_t low = 0, high = lines->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    const segue__line *l = &lines->items[middle];
    if (compare(l->name, l->len, name, len) < 0)
      low = middle + 1;
    else
      high = middle;
  }
  if (low == lines->count) return otherwise;
  const segue__line *found = &lines->items[low];
  if (compare(found->name, found->len, name, len)) return otherwise;
  const segue__line *next = found + 1;
  bool again = low + 1 < lines->count && !compare(next->name, next->len, name, len);
  return again ? otherwise : found->line;
}
