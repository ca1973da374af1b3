/* SPDX-License-Identifier: MIT
 *
 * The content of a call: all of it follows from its number and the seed.
 */
#include <stdio.h>
#include <string.h>

#include "load.h"

const char *const target_names[TARGETS] = {"billing", "mail", "search"};

static uint64_t mix(uint64_t n, uint64_t what) {
  uint64_t x = n * 0x9e3779b97f4a7c15u + what * 0xbf58476d1ce4e5b9u + given.seed;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

unsigned call_target(unsigned n) {
  return (unsigned)(mix(n, 1) % TARGETS);
}

size_t call_payload(unsigned n, char *out) {
  size_t len = (size_t)snprintf(out, PAYLOAD_MAX, "call %u:", n);
  size_t more = mix(n, 2) % (PAYLOAD_MAX - 32);
  uint64_t fill = mix(n, 3);
  for (size_t i = 0; i < more; i++)
    out[len + i] = (char)('a' + (fill >> (i % 56)) % 26);
  return len + more;
}

bool call_is_poisoned(unsigned n) {
  return mix(n, 4) % 1000 == 0;
}

answer call_answer(unsigned n, unsigned attempt) {
  uint64_t fate = mix(n, 5) % 1000;
  if (call_is_poisoned(n)) return ANSWER_500;
  if (attempt > 2) return ANSWER_OK;
  if (fate < 10) return ANSWER_500;
  if (attempt > 1) return ANSWER_OK;
  if (fate < 30) return ANSWER_500;
  if (fate < 40) return ANSWER_CLOSE;
  return fate < 42 ? ANSWER_NEVER : ANSWER_OK;
}
