/* SPDX-License-Identifier: MIT
 *
 * pattern.h: a matcher for Lua's patterns with limits. No hook interrupts LuaJIT's own matcher, and
 * a pattern of a dozen bytes can keep it busy for years. This one counts its steps, asks regularly
 * whether it may continue, and stops. Independent of Lua states. [any thread]
 */
#ifndef SEGUE_BIND_PATTERN_H
#define SEGUE_BIND_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SEGUE__CAPTURES_MAX = 32 };

typedef struct segue__pattern segue__pattern;

/* Memory for a pattern of len bytes, aligned to 16 bytes. */
size_t segue__pattern_size(size_t len);
/* Compiles the terminated text into memory; text is not used afterwards. Cannot fail: errors in a
 * pattern are reported when matching reaches them, as in Lua. anchor: a leading ^ anchors. */
const segue__pattern *segue__pattern_compile(void *memory, const char *text, size_t len,
                                             bool anchor);
/* Number of captures of the pattern. */
unsigned segue__pattern_captures(const segue__pattern *pattern);
bool segue__pattern_is_anchored(const segue__pattern *pattern);

/* A pattern applied to a subject. */
typedef struct segue__match {
  const segue__pattern *pattern;
  const char *subject, *end;
  /* Called every few thousand steps; returning false stops the match. NULL: never. */
  bool (*may_go_on)(void *data);
  void *data;
  const char *error; /* error message, static; NULL: none */
  bool stopped;      /* by may_go_on; error is set too */
  /* Internal to the matcher. */
  int64_t fuel;
  uint64_t spent, spent_max;
  int depth;
  const char *from[SEGUE__CAPTURES_MAX], *to[SEGUE__CAPTURES_MAX];
} segue__match;

/* The subject must outlive the match. */
void segue__match_init(segue__match *m, const segue__pattern *pattern, const char *subject,
                       size_t len);
/* Matches at `at` (within the subject or at its end). Returns the end of the match; NULL if there
 * is none, or if m->error is set. */
const char *segue__match_at(segue__match *m, const char *at);
/* Finds the first match at or after *at. Returns its end and stores its start in *at. */
const char *segue__match_search(segue__match *m, const char **at);
/* Counts work of the caller as steps of the match. Returns false if m->error is set. */
bool segue__match_charge(segue__match *m, unsigned steps);

/* Capture i (from 0) of the last match. SEGUE__CAPTURE_BAD: it was never closed; m->error has the
 * message. */
typedef enum segue__capture {
  SEGUE__CAPTURE_TEXT,
  SEGUE__CAPTURE_POSITION, /* *from only */
  SEGUE__CAPTURE_BAD
} segue__capture;
segue__capture segue__match_capture(segue__match *m, unsigned i, const char **from, size_t *len);

#endif
