/* SPDX-License-Identifier: MIT
 *
 * Patterns of secrets: parses a pattern, and matches a path step by step. The state is the set of
 * all positions in the pattern that the path may have reached, one bit each, so that "**" needs no
 * backtracking.
 */
#include <string.h>
#include <uv.h>

#include "../os/text.h"
#include "mask_internal.h"

static int mask_pattern_bad(const char *text, size_t at, const char *why, segue_error *err) {
  return segue__errorf(err, SEGUE_EPOLICY,
                       "secrets: '%.200s' is no pattern: %s at byte %zu; write db.password, "
                       "**.token or users[*].key",
                       text, why, at + 1);
}

static segue__pattern_step *add_step(segue__pattern *p, segue__pattern_kind kind) {
  if (p->count == SEGUE__PATTERN_STEPS) return NULL;
  segue__pattern_step *step = &p->steps[p->count++];
  *step = (segue__pattern_step){.kind = kind};
  return step;
}

/* Parses [3] or [*]. s is behind the bracket. */
static const char *read_index(segue__pattern *p, const char *s) {
  segue__pattern_step *step;
  if (s[0] == '*' && s[1] == ']') {
    step = add_step(p, SEGUE__PATTERN_ITEMS);
    return step ? s + 2 : NULL;
  }
  size_t digits = strspn(s, "0123456789"), index = 0;
  if (!digits || digits > 9 || s[digits] != ']') return NULL;
  for (size_t i = 0; i < digits; i++)
    index = index * 10 + (size_t)(s[i] - '0');
  step = add_step(p, SEGUE__PATTERN_ITEM);
  if (!step) return NULL;
  step->index = index;
  return s + digits + 1;
}

/* Parses "key"; s is behind the quote. Returns the closing quote, or NULL. */
static const char *read_quoted(segue__pattern_step *step, const char *s) {
  segue__buf text;
  segue__buf_init(&text);
  segue__buf_add(&text, "", 0);
  for (; *s && *s != '"'; s++) {
    if (*s == '\\' && s[1]) s++;
    segue__buf_addc(&text, *s);
  }
  if (!*s || text.failed) {
    segue__buf_deinit(&text);
    return NULL;
  }
  step->text = text.data;
  step->len = text.len;
  step->literal = true;
  return s + 1;
}

static bool key_byte(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         (unsigned char)c > 127 || segue__is_one_of(c, "_-/:*");
}

static const char *mask_pattern_read_key(segue__pattern *p, const char *s) {
  size_t len = 0;
  while (key_byte(s[len]))
    len++;
  bool deep = len == 2 && s[0] == '*' && s[1] == '*', any = len == 1 && *s == '*';
  segue__pattern_step *step = add_step(p, deep  ? SEGUE__PATTERN_DEEP
                                          : any ? SEGUE__PATTERN_ANY
                                                : SEGUE__PATTERN_KEY);
  if (!step) return NULL;
  if (*s == '"') return read_quoted(step, s + 1);
  if (!len) return NULL;
  step->text = segue__strndup(s, len);
  step->len = len;
  return step->text ? s + len : NULL;
}

int segue__pattern_parse(segue__pattern *out, const char *text, segue_error *err) {
  memset(out, 0, sizeof *out);
  const char *s = text, *next;
  if (!*s) return mask_pattern_bad(text, 0, "there is nothing", err);
  while (*s) {
    bool first = s == text;
    if (*s == '[')
      next = read_index(out, s + 1);
    else if (first || *s == '.')
      next = mask_pattern_read_key(out, s + !first);
    else
      next = NULL;
    if (!next) {
      segue__pattern_deinit(out);
      return mask_pattern_bad(text, (size_t)(s - text), "it cannot be read", err);
    }
    s = next;
  }
  return 0;
}

void segue__pattern_deinit(segue__pattern *pattern) {
  for (unsigned i = 0; i < pattern->count; i++)
    segue__free(pattern->steps[i].text);
  pattern->count = 0;
}

/* ---- Following ------------------------------------------------------------------------------- */

/* Returns whether the key matches a text with "*". After a mismatch only the last "*" is extended:
 * an earlier one could not lead further, so no other backtracking is needed. */
static bool text_matches(const segue__pattern_step *step, const char *key, size_t len) {
  const char *p = step->text, *end = p + step->len, *star = NULL, *from = NULL;
  const char *s = key, *stop = key + len;
  if (step->literal) return step->len == len && memcmp(p, key, len) == 0;
  while (s < stop) {
    if (p < end && *p == '*') {
      star = p++;
      from = s;
    } else if (p < end && *p == *s) {
      p++;
      s++;
    } else if (star) {
      p = star + 1;
      s = ++from;
    } else {
      return false;
    }
  }
  while (p < end && *p == '*')
    p++;
  return p == end;
}

static bool step_matches(const segue__pattern_step *want, const segue__path_step *step) {
  switch (want->kind) {
  case SEGUE__PATTERN_KEY:
    return step->key && text_matches(want, step->key, step->key_len);
  case SEGUE__PATTERN_ITEM:
    return !step->key && step->index == want->index;
  case SEGUE__PATTERN_ITEMS:
    return !step->key;
  default:
    return true;
  }
}

/* "**" also matches no step, so the position after it is reached together with the position before
 * it. */
static uint64_t mask_pattern_settle(const segue__pattern *p, uint64_t state) {
  for (unsigned i = 0; i < p->count; i++)
    if ((state >> i & 1) && p->steps[i].kind == SEGUE__PATTERN_DEEP) state |= UINT64_C(2) << i;
  return state;
}

uint64_t segue__pattern_begin(const segue__pattern *pattern) {
  return mask_pattern_settle(pattern, 1);
}

uint64_t segue__pattern_next(const segue__pattern *pattern, uint64_t state,
                             const segue__path_step *step) {
  uint64_t next = 0;
  for (unsigned i = 0; i < pattern->count && state >> i; i++) {
    if (!(state >> i & 1)) continue;
    if (pattern->steps[i].kind == SEGUE__PATTERN_DEEP)
      next |= UINT64_C(1) << i;
    else if (step_matches(&pattern->steps[i], step))
      next |= UINT64_C(2) << i;
  }
  return next ? mask_pattern_settle(pattern, next) : 0;
}

bool segue__pattern_met(const segue__pattern *pattern, uint64_t state) {
  return state >> pattern->count & 1;
}
