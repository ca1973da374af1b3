/* SPDX-License-Identifier: MIT
 *
 * Content-defined chunks by a gear hash: each byte shifts the hash by one bit, so its upper bits
 * depend on the last 64 bytes only. A chunk ends where these bits are zero.
 */
#include "chunks.h"

enum { LARGE_VALUE = 4 << 20, WINDOW = 64 };

/* One number for each byte (splitmix64); part of the format of the history: the chunks of a later
 * version must be those that are stored. */
static uint64_t gear_of(uint64_t byte) {
  uint64_t z = (byte + 1) * UINT64_C(0x9E3779B97F4A7C15);
  z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
  return z ^ (z >> 31);
}

void segue__chunker_init(segue__chunker *chunker, size_t value_len, int fine) {
  for (unsigned i = 0; i < 256; i++)
    chunker->gear[i] = gear_of(i);
  chunker->bits = fine ? 9 : 11;
  if (value_len > LARGE_VALUE) chunker->bits++;
  chunker->least = (size_t)1 << (chunker->bits - 1);
  chunker->most = (size_t)1 << (chunker->bits + 3);
}

size_t segue__chunker_next(const segue__chunker *chunker, const char *data, size_t len) {
  if (len <= chunker->least) return len;
  size_t end = len < chunker->most ? len : chunker->most, i = chunker->least - WINDOW;
  uint64_t hash = 0;
  for (; i < end; i++) {
    hash = (hash << 1) + chunker->gear[(unsigned char)data[i]];
    if (i >= chunker->least && !(hash >> (64 - chunker->bits))) return i;
  }
  return end;
}
