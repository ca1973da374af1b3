/* SPDX-License-Identifier: MIT
 *
 * Any pattern on any subject: PATTERN NUL SUBJECT. Matching ends within its steps, what it found
 * lies inside of the subject, and where to begin makes no difference to what is found there.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/bind/runtime/pattern.h"
#include "core/os/mem.h"

static bool may_go_on(void *data) {
  unsigned *looks = data;
  return ++*looks < 4;
}

static void check_captures(segue__match *m, const char *from, const char *to) {
  unsigned n = segue__pattern_captures(m->pattern);
  assert(n <= SEGUE__CAPTURES_MAX);
  for (unsigned i = 0; i < n; i++) {
    const char *at;
    size_t len = 0;
    segue__capture kind = segue__match_capture(m, i, &at, &len);
    if (kind == SEGUE__CAPTURE_BAD) {
      assert(m->error);
      return;
    }
    assert(at >= from && at + len <= to);
  }
}

static void use(const char *pattern, size_t pattern_len, const char *subject, size_t len,
                bool anchor) {
  void *memory = malloc(segue__pattern_size(pattern_len));
  const segue__pattern *compiled = segue__pattern_compile(memory, pattern, pattern_len, anchor);
  unsigned looks = 0;
  segue__match m;
  segue__match_init(&m, compiled, subject, len);
  m.may_go_on = may_go_on;
  m.data = &looks;
  const char *at = subject;
  for (int i = 0; i < 50 && at <= m.end; i++) {
    const char *from = at, *to = segue__match_search(&m, &from);
    if (m.error || !to) break;
    assert(from >= at && to >= from && to <= m.end);
    check_captures(&m, from, to);
    if (m.error) break;
    const char *again = segue__match_at(&m, from);
    assert(m.error || again == to);
    if (m.error || segue__pattern_is_anchored(compiled)) break;
    at = to > from ? to : from + 1;
  }
  assert(!m.stopped || m.error);
  free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
  if (!nul) return 0;
  /* Copies of their own, so that a read past an end is found; both are terminated. */
  size_t pattern_len = (size_t)(nul - data), len = size - pattern_len - 1;
  char *pattern = segue__strndup((const char *)data, pattern_len);
  char *subject = malloc(len + 1);
  memcpy(subject, nul + 1, len);
  subject[len] = 0;
  use(pattern, pattern_len, subject, len, true);
  use(pattern, pattern_len, subject, len, false);
  free(subject);
  segue__free(pattern);
  return 0;
}
