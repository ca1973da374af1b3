/* SPDX-License-Identifier: MIT
 *
 * pattern.h: Lua's patterns, matched by us. No hook reaches LuaJIT's own matcher, and a dozen bytes
 * of pattern can keep it busy for years; this one counts its steps, asks now and then whether it
 * may go on, and gives up. Knows nothing of Lua states. [any thread]
 */
#ifndef SEGUE_BIND_PATTERN_H
#define SEGUE_BIND_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SEGUE__CAPTURES_MAX = 32 };

typedef struct segue__pattern segue__pattern;

/* Memory that a pattern of len bytes takes, to be aligned to 16 bytes. */
size_t segue__pattern_size(size_t len);
/* Compiles text, which is terminated, into memory, and is done with text. Cannot fail: what is
 * wrong with a pattern is told when matching gets there, as Lua does it. anchor: a leading ^ is
 * one. */
const segue__pattern *segue__pattern_compile(void *memory, const char *text, size_t len,
                                             bool anchor);
/* How many captures the pattern has. */
unsigned segue__pattern_captures(const segue__pattern *pattern);
bool segue__pattern_is_anchored(const segue__pattern *pattern);

/* One use of a pattern on one subject. */
typedef struct segue__match {
  const segue__pattern *pattern;
  const char *subject, *end;
  /* NULL: never. Called every few thousand steps; false stops the match. */
  bool (*may_go_on)(void *data);
  void *data;
  const char *error; /* why there is no answer; static */
  bool stopped;      /* by may_go_on; error is set too */
  /* The matcher's own. */
  int64_t fuel;
  uint64_t spent, spent_max;
  int depth;
  const char *from[SEGUE__CAPTURES_MAX], *to[SEGUE__CAPTURES_MAX];
} segue__match;

/* The subject must outlive the match. */
void segue__match_init(segue__match *m, const segue__pattern *pattern, const char *subject,
                       size_t len);
/* Matches at `at`, inside of the subject or at its end: where the match ends; NULL if there is none
 * or m->error is set. */
const char *segue__match_at(segue__match *m, const char *at);
/* The first match at or after *at: its end, and its beginning in *at. */
const char *segue__match_search(segue__match *m, const char **at);
/* Counts work that the caller did for a match, as so many steps; false: m->error is set. */
bool segue__match_charge(segue__match *m, unsigned steps);

/* Capture i (from 0) of the last match. SEGUE__CAPTURE_BAD: it was never closed, m->error says so.
 */
typedef enum segue__capture {
  SEGUE__CAPTURE_TEXT,
  SEGUE__CAPTURE_POSITION, /* *from only */
  SEGUE__CAPTURE_BAD
} segue__capture;
segue__capture segue__match_capture(segue__match *m, unsigned i, const char **from, size_t *len);

#endif
