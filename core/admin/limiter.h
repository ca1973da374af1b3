/* SPDX-License-Identifier: MIT
 *
 * limiter.h: the rate limit: a bucket of tokens for each client, in a table of fixed size. Its cost
 * does not grow with the number of clients: among a few, the one that was idle for the longest time
 * is replaced, and begins with a full bucket when it comes again.
 */
#ifndef SEGUE_ADMIN_LIMITER_H
#define SEGUE_ADMIN_LIMITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SEGUE__LIMITER_SETS = 512, SEGUE__LIMITER_WAYS = 4 };

typedef struct segue__bucket {
  uint64_t key; /* 0: free */
  uint64_t at_ms;
  float level;   /* requests that are still allowed */
  bool reported; /* that there are none */
} segue__bucket;

/* Zeroed before the first use. */
typedef struct segue__limiter {
  segue__bucket buckets[SEGUE__LIMITER_SETS][SEGUE__LIMITER_WAYS];
} segue__limiter;

/* Returns the key of a client, from the name of its peer: "10.0.0.7:5000", "[2001:db8::1]:5000"
 * (its /64, of which a client has as many addresses as it likes), "unix:pid=7,uid=1000" (the user).
 * salt keeps listeners apart. Never 0. */
uint64_t segue__limiter_key(const char *peer, uint64_t salt);
/* Takes a token for one request. Returns 0, or the milliseconds until the next token; then *first
 * is set if the request before was allowed. rate: requests per second, more than 0. now_ms never
 * decreases. */
uint64_t segue__limiter_take(segue__limiter *limiter, uint64_t key, double rate, double burst,
                             uint64_t now_ms, bool *first);

#endif
