/* SPDX-License-Identifier: MIT
 *
 * The index of paths: open addressing with linear steps, at most half full.
 */
#include "path_index.h"

#include <string.h>
#include <uv.h>

#include "../config/tree.h"
#include "../os/mem.h"

static uint32_t index_hash(const char *path, size_t len) {
  return (uint32_t)segue__hash_bytes(path, len, (segue__hash){0, 0}).lo;
}

/* Returns the slot of a path, or the free one where it belongs. There is always a free slot. */
static segue__path_slot *index_slot(const segue__path_index *index, const char *path, size_t len,
                                    uint32_t hash) {
  size_t mask = index->capacity - 1, i = hash & mask;
  for (;; i = (i + 1) & mask) {
    segue__path_slot *slot = &index->slots[i];
    if (!slot->path) return slot;
    if (slot->hash == hash && slot->len == len && !memcmp(slot->path, path, len)) return slot;
  }
}

static int index_grow(segue__path_index *index) {
  segue__path_index grown = {.count = index->count,
                             .capacity = index->capacity ? index->capacity * 2 : 16};
  grown.slots = segue__calloc(grown.capacity, sizeof *grown.slots);
  if (!grown.slots) return UV_ENOMEM;
  for (size_t i = 0; i < index->capacity; i++) {
    const segue__path_slot *old = &index->slots[i];
    if (old->path) *index_slot(&grown, old->path, old->len, old->hash) = *old;
  }
  segue__free(index->slots);
  *index = grown;
  return 0;
}

void segue__path_index_deinit(segue__path_index *index) {
  segue__free(index->slots);
  *index = (segue__path_index){0};
}

int segue__path_index_add(segue__path_index *index, const char *path, size_t len, size_t at) {
  if (index->count * 2 >= index->capacity && index_grow(index)) return UV_ENOMEM;
  uint32_t hash = index_hash(path, len);
  segue__path_slot *slot = index_slot(index, path, len, hash);
  if (slot->path) return 0;
  *slot = (segue__path_slot){path, (uint32_t)len, hash, at};
  index->count++;
  return 0;
}

size_t segue__path_index_find(const segue__path_index *index, const char *path, size_t len) {
  if (!index->count) return SEGUE__PATH_NONE;
  const segue__path_slot *slot = index_slot(index, path, len, index_hash(path, len));
  return slot->path ? slot->at : SEGUE__PATH_NONE;
}
