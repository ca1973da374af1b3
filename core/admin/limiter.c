/* SPDX-License-Identifier: MIT
 *
 * Token buckets in a set-associative table of fixed size. A table that grew with the number of
 * clients would let an attacker with many addresses use up the memory.
 */
#include "limiter.h"

#include <arpa/inet.h>
#include <string.h>

#include "../config/tree.h"

/* An IPv6 client chooses the lower 64 bits of its address freely, so the key is its /64. The key 0
 * marks a free bucket, so a hash of 0 becomes 1. */
uint64_t segue__limiter_key(const char *peer, uint64_t salt) {
  struct in6_addr v6;
  char host[INET6_ADDRSTRLEN];
  const void *bytes = peer;
  const char *uid = strncmp(peer, "unix:", 5) == 0 ? strstr(peer, "uid=") : NULL;
  const char *colon = strrchr(peer, ':'), *bracket = strchr(peer, ']');
  size_t len = colon ? (size_t)(colon - peer) : strlen(peer);
  if (uid) {
    bytes = uid;
    len = strlen(uid);
  } else if (*peer == '[' && bracket && (size_t)(bracket - peer) <= sizeof host) {
    memcpy(host, peer + 1, (size_t)(bracket - peer) - 1);
    host[bracket - peer - 1] = 0;
    if (inet_pton(AF_INET6, host, &v6) == 1) {
      bytes = &v6;
      len = 8;
    }
  }
  uint64_t key = segue__hash_bytes(bytes, len, (segue__hash){salt, 0}).lo;
  return key ? key : 1;
}

/* Returns the client's bucket. If it has none, a free one of its set is used, or the one that was
 * idle for the longest time: that client begins with a full bucket when it comes again, which
 * allows it more, not less. */
static segue__bucket *limiter_find(segue__limiter *limiter, uint64_t key, double burst,
                                   uint64_t now_ms) {
  segue__bucket *set = limiter->buckets[key % SEGUE__LIMITER_SETS], *oldest = set;
  for (int i = 0; i < SEGUE__LIMITER_WAYS; i++) {
    if (set[i].key == key) return &set[i];
    if (!set[i].key || (oldest->key && set[i].at_ms < oldest->at_ms)) oldest = &set[i];
  }
  *oldest = (segue__bucket){.key = key, .at_ms = now_ms, .level = (float)burst};
  return oldest;
}

/* The level grows with the time since the last request, computed when the next one comes: no timer
 * runs for idle clients. */
uint64_t segue__limiter_take(segue__limiter *limiter, uint64_t key, double rate, double burst,
                             uint64_t now_ms, bool *first) {
  segue__bucket *bucket = limiter_find(limiter, key, burst, now_ms);
  double level = bucket->level + (double)(now_ms - bucket->at_ms) * rate / 1000;
  if (level > burst) level = burst;
  bucket->at_ms = now_ms;
  *first = false;
  if (level >= 1) {
    bucket->level = (float)(level - 1);
    bucket->reported = false;
    return 0;
  }
  bucket->level = (float)level;
  *first = !bucket->reported;
  bucket->reported = true;
  double wait = (1 - level) / rate * 1000;
  return wait < 1 ? 1 : (uint64_t)wait;
}
