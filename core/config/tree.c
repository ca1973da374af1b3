/* SPDX-License-Identifier: MIT
 *
 * Trees: content hashes, the layout of containers, and the public functions that read nodes. The
 * hash of a map adds up the hashes of its members, so that their order does not count and chunks of
 * it can be compared on their own.
 */
#include "tree.h"

#include <string.h>
#include <uv.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "../os/hex.h"
#include "node.h"

/* One seed per kind of value keeps 1, 1.0, "1" and [1] apart. */
enum { SEED_KEY = 16, SEED_MEMBER, SEED_CHUNK, SEED_CHAIN };

static segue__hash tree_hash_of(const void *data, size_t len, uint64_t seed) {
  XXH128_hash_t h = XXH3_128bits_withSeed(data, len, seed);
  return (segue__hash){h.low64, h.high64};
}

bool segue__hash_equal(segue__hash a, segue__hash b) {
  return a.lo == b.lo && a.hi == b.hi;
}

segue__hash segue__hash_bytes(const void *data, size_t len, segue__hash seed) {
  segue__hash pair[2] = {seed, tree_hash_of(data ? data : "", data ? len : 0, 0)};
  return tree_hash_of(pair, sizeof pair, SEED_CHAIN);
}

void segue__hash_hex(segue__hash hash, char out[33]) {
  for (int i = 0; i < 16; i++) {
    out[i] = segue__hex_digit((unsigned)(hash.hi >> (60 - 4 * i)));
    out[i + 16] = segue__hex_digit((unsigned)(hash.lo >> (60 - 4 * i)));
  }
  out[32] = 0;
}

bool segue__hash_parse(const char *text, segue__hash *out) {
  *out = (segue__hash){0};
  if (strlen(text) != 32) return false;
  for (int i = 0; i < 32; i++) {
    int value = segue__hex_value(text[i]);
    if (value < 0) return false;
    uint64_t *half = i < 16 ? &out->hi : &out->lo;
    *half = *half << 4 | (unsigned)value;
  }
  return true;
}

segue__hash segue__key_hash(const char *key, size_t len) {
  return tree_hash_of(key, len, SEED_KEY);
}

bool segue__key_equal(const segue__member *a, const segue__member *b) {
  return a->key_hash == b->key_hash && a->key_len == b->key_len &&
         (a->key == b->key || !memcmp(a->key, b->key, a->key_len));
}

/* ---- Values ---------------------------------------------------------------------------------- */

/* All NaNs count as the same value. */
static uint64_t float_bits(double f) {
  uint64_t bits = UINT64_C(0x7ff8000000000000);
  if (f == f) memcpy(&bits, &f, 8);
  return bits;
}

static segue__hash container_hash(const segue_node *node) {
  const void *children = node->type == SEGUE_LIST ? (const void *)node->v.items : node->v.members;
  return children ? ((const segue__hash *)children)[-1] : (segue__hash){0, 0};
}

segue__hash segue__node_hash(const segue_node *node) {
  uint64_t bits;
  switch (node->type) {
  case SEGUE_NULL:
    return tree_hash_of("", 0, SEGUE_NULL + 1);
  case SEGUE_BOOL:
    return tree_hash_of(node->v.b ? "t" : "f", 1, SEGUE_BOOL + 1);
  case SEGUE_INT: /* an unsigned one differs from the negative number of the same bits */
    return tree_hash_of(&node->v.u, 8, SEGUE_INT + 1 + 32 * (uint64_t)node->flags);
  case SEGUE_FLOAT:
    bits = float_bits(node->v.f);
    return tree_hash_of(&bits, 8, SEGUE_FLOAT + 1);
  case SEGUE_STRING:
    return tree_hash_of(node->v.s, node->count, SEGUE_STRING + 1);
  default:
    return container_hash(node);
  }
}

bool segue__node_equal(const segue_node *a, const segue_node *b) {
  if (a->type != b->type) return false;
  switch (a->type) {
  case SEGUE_NULL:
    return true;
  case SEGUE_BOOL:
    return a->v.b == b->v.b;
  case SEGUE_INT:
    return a->v.u == b->v.u && a->flags == b->flags;
  case SEGUE_FLOAT:
    return float_bits(a->v.f) == float_bits(b->v.f);
  case SEGUE_STRING:
    return a->count == b->count && (a->v.s == b->v.s || !memcmp(a->v.s, b->v.s, a->count));
  default:
    return a->count == b->count && segue__hash_equal(container_hash(a), container_hash(b));
  }
}

/* ---- Containers ------------------------------------------------------------------------------ */

size_t segue__chunk_count(size_t n) {
  return n < SEGUE__CHUNK ? 0 : (n + SEGUE__CHUNK - 1) / SEGUE__CHUNK;
}

size_t segue__map_slots(size_t n) {
  if (n <= SEGUE__LINEAR) return 0;
  size_t slots = 32;
  while (slots < 2 * n)
    slots *= 2;
  return slots;
}

const segue__hash *segue__node_chunks(const segue_node *node) {
  if (node->count < SEGUE__CHUNK) return NULL;
  if (node->type == SEGUE_LIST) return (const segue__hash *)(node->v.items + node->count);
  return (const segue__hash *)(node->v.members + node->count);
}

const uint32_t *segue__map_index(const segue_node *map) {
  const segue__hash *chunks = (const segue__hash *)(map->v.members + map->count);
  return (const uint32_t *)(chunks + segue__chunk_count(map->count));
}

/* Returns the place where the children begin: behind the hash, which an empty container has too. */
static void *tree_block(segue__arena *arena, size_t size) {
  segue__hash *hash = segue__arena_alloc(arena, sizeof *hash + size);
  return hash ? hash + 1 : NULL;
}

static segue__hash hash_items(const segue_node *items, size_t n) {
  segue__hash hashes[SEGUE__CHUNK];
  for (size_t i = 0; i < n; i++)
    hashes[i] = segue__node_hash(&items[i]);
  return tree_hash_of(hashes, n * sizeof *hashes, SEED_CHUNK);
}

size_t segue__list_bytes(size_t n) {
  return (1 + segue__chunk_count(n)) * sizeof(segue__hash) + n * sizeof(segue_node);
}

void segue__list_write(void *memory, const segue__tree_entry *entries, size_t n, segue_node *node) {
  size_t chunk_count = segue__chunk_count(n);
  segue_node *items = (segue_node *)((segue__hash *)memory + 1);
  for (size_t i = 0; i < n; i++)
    items[i] = entries[i].member.value;
  node->type = SEGUE_LIST;
  node->count = (uint32_t)n;
  node->v.items = items;
  segue__hash *chunks = (segue__hash *)(items + n);
  for (size_t i = 0; i < chunk_count; i++) {
    size_t start = i * SEGUE__CHUNK;
    chunks[i] = hash_items(items + start, n - start < SEGUE__CHUNK ? n - start : SEGUE__CHUNK);
  }
  segue__hash all = chunk_count ? tree_hash_of(chunks, chunk_count * sizeof *chunks, SEED_CHUNK)
                                : hash_items(items, n);
  uint64_t end[3] = {all.lo, all.hi, n};
  ((segue__hash *)items)[-1] = tree_hash_of(end, sizeof end, SEGUE_LIST + 1);
}

int segue__list_seal(segue__arena *arena, segue_node *node, const segue__tree_entry *entries,
                     size_t n) {
  void *memory = segue__arena_alloc(arena, segue__list_bytes(n));
  if (!memory) return UV_ENOMEM;
  segue__list_write(memory, entries, n, node);
  return 0;
}

segue__hash segue__member_hash(segue__hash key, const segue_node *value) {
  segue__hash pair[2] = {key, segue__node_hash(value)};
  return tree_hash_of(pair, sizeof pair, SEED_MEMBER);
}

segue__hash segue__hash_plus(segue__hash a, segue__hash b) {
  uint64_t lo = a.lo + b.lo;
  return (segue__hash){lo, a.hi + b.hi + (lo < a.lo)};
}

segue__hash segue__hash_minus(segue__hash a, segue__hash b) {
  return (segue__hash){a.lo - b.lo, a.hi - b.hi - (a.lo < b.lo)};
}

segue__hash segue__map_hash(segue__hash sum, size_t n) {
  uint64_t end[3] = {sum.lo, sum.hi, n};
  return tree_hash_of(end, sizeof end, SEGUE_MAP + 1);
}

static bool same_key(const segue__tree_entry *a, const segue__tree_entry *b) {
  return segue__hash_equal(a->key, b->key) && segue__key_equal(&a->member, &b->member);
}

/* Finds two entries of the same key, or fills the index if there is one. */
static bool index_entries(uint32_t *index, size_t slots, const segue__tree_entry *entries, size_t n,
                          size_t same[2]) {
  for (size_t i = 0; i < n; i++) {
    same[1] = i;
    if (!slots) {
      for (size_t k = 0; k < i; k++)
        if (same_key(&entries[k], &entries[i])) {
          same[0] = k;
          return false;
        }
      continue;
    }
    size_t at = entries[i].member.key_hash & (slots - 1);
    for (; index[at]; at = (at + 1) & (slots - 1))
      if (same_key(&entries[index[at] - 1], &entries[i])) {
        same[0] = index[at] - 1;
        return false;
      }
    index[at] = (uint32_t)i + 1;
  }
  return true;
}

int segue__map_seal(segue__arena *arena, segue_node *node, segue__tree_entry *entries, size_t n,
                    size_t same[2]) {
  size_t chunk_count = segue__chunk_count(n), slots = segue__map_slots(n);
  segue__member *members = tree_block(
      arena, n * sizeof *members + chunk_count * sizeof(segue__hash) + slots * sizeof(uint32_t));
  if (!members) return UV_ENOMEM;
  segue__hash *chunks = (segue__hash *)(members + n);
  uint32_t *index = (uint32_t *)(chunks + chunk_count);
  if (slots) memset(index, 0, slots * sizeof *index);
  segue__hash sum = {0, 0}, before = {0, 0};
  for (size_t i = 0; i < n; i++) {
    entries[i].member.key_hash = (uint32_t)entries[i].key.lo;
    members[i] = entries[i].member;
    sum = segue__hash_plus(sum, segue__member_hash(entries[i].key, &entries[i].member.value));
    if (chunk_count && ((i + 1) % SEGUE__CHUNK == 0 || i + 1 == n)) {
      chunks[i / SEGUE__CHUNK] = segue__hash_minus(sum, before);
      before = sum;
    }
  }
  if (!index_entries(index, slots, entries, n, same)) return SEGUE_ESYNTAX;
  node->count = (uint32_t)n;
  node->v.members = members;
  ((segue__hash *)members)[-1] = segue__map_hash(sum, n);
  return 0;
}

const segue__member *segue__node_find(const segue_node *node, const char *key, size_t len) {
  if (!node || node->type != SEGUE_MAP) return NULL;
  const segue__member *members = node->v.members;
  if (node->count <= SEGUE__LINEAR) {
    for (uint32_t i = 0; i < node->count; i++)
      if (members[i].key_len == len && !memcmp(members[i].key, key, len)) return &members[i];
    return NULL;
  }
  const uint32_t *index = segue__map_index(node);
  size_t mask = segue__map_slots(node->count) - 1;
  uint32_t hash = (uint32_t)segue__key_hash(key, len).lo;
  for (size_t at = hash & mask; index[at]; at = (at + 1) & mask) {
    const segue__member *m = &members[index[at] - 1];
    if (m->key_hash == hash && m->key_len == len && !memcmp(m->key, key, len)) return m;
  }
  return NULL;
}

/* ---- Public ---------------------------------------------------------------------------------- */

segue_type segue_node_type(const segue_node *node) {
  return node ? (segue_type)node->type : SEGUE_NULL;
}

size_t segue_node_count(const segue_node *node) {
  return node && node->type >= SEGUE_STRING ? node->count : 0;
}

const segue_node *segue_node_at(const segue_node *node, size_t index, const char **key) {
  const segue_node *found = NULL;
  const char *name = NULL;
  if (node && node->type == SEGUE_LIST && index < node->count) {
    found = &node->v.items[index];
  } else if (node && node->type == SEGUE_MAP && index < node->count) {
    found = &node->v.members[index].value;
    name = node->v.members[index].key;
  }
  if (key) *key = name;
  return found;
}

const segue_node *segue_node_member(const segue_node *node, const char *key) {
  const segue__member *m = segue__node_find(node, key, strlen(key));
  return m ? &m->value : NULL;
}

static int tree_check_type(const segue_node *node, segue_type type) {
  return !node ? SEGUE_EPATH : node->type == type ? 0 : SEGUE_ETYPE;
}

int segue_node_bool(const segue_node *node, bool *out) {
  int rc = tree_check_type(node, SEGUE_BOOL);
  if (!rc) *out = node->v.b;
  return rc;
}

int segue_node_int(const segue_node *node, int64_t *out) {
  int rc = tree_check_type(node, SEGUE_INT);
  if (!rc && node->flags & SEGUE__NODE_UNSIGNED) rc = SEGUE_ERANGE;
  if (!rc) *out = node->v.i;
  return rc;
}

int segue_node_uint(const segue_node *node, uint64_t *out) {
  int rc = tree_check_type(node, SEGUE_INT);
  if (!rc && !(node->flags & SEGUE__NODE_UNSIGNED) && node->v.i < 0) rc = SEGUE_ERANGE;
  if (!rc) *out = node->v.u;
  return rc;
}

int segue_node_double(const segue_node *node, double *out) {
  if (node && node->type == SEGUE_INT) {
    *out = node->flags & SEGUE__NODE_UNSIGNED ? (double)node->v.u : (double)node->v.i;
    return 0;
  }
  int rc = tree_check_type(node, SEGUE_FLOAT);
  if (!rc) *out = node->v.f;
  return rc;
}

int segue_node_string(const segue_node *node, const char **out, size_t *length) {
  int rc = tree_check_type(node, SEGUE_STRING);
  if (rc) return rc;
  *out = node->v.s;
  if (length) *length = node->count;
  return 0;
}

/* ---- Copies ---------------------------------------------------------------------------------- */

static int copy_text(segue__arena *arena, const char *from, size_t len, const char **out) {
  *out = segue__arena_strndup(arena, from, len);
  return *out ? 0 : UV_ENOMEM;
}

static int copy_child(segue__arena *arena, const segue_node *from, uint32_t i,
                      segue__tree_entry *out) {
  memset(out, 0, sizeof *out);
  if (from->type == SEGUE_LIST)
    return segue__node_copy(arena, &from->v.items[i], &out->member.value);
  const segue__member *m = &from->v.members[i];
  out->member.key_len = m->key_len;
  out->member.key_hash = m->key_hash;
  out->key = segue__key_hash(m->key, m->key_len);
  int rc = copy_text(arena, m->key, m->key_len, &out->member.key);
  return rc ? rc : segue__node_copy(arena, &m->value, &out->member.value);
}

int segue__node_copy(segue__arena *arena, const segue_node *from, segue_node *out) {
  size_t same[2];
  segue_node copy = *from;
  copy.document = copy.line = copy.column = 0;
  *out = (segue_node){.type = SEGUE_NULL};
  int rc = 0;
  if (from->type == SEGUE_STRING) {
    rc = copy_text(arena, from->v.s, from->count, &copy.v.s);
  } else if (from->type == SEGUE_LIST || from->type == SEGUE_MAP) {
    segue__tree_entry *entries = segue__calloc((size_t)from->count + 1, sizeof *entries);
    if (!entries) return UV_ENOMEM;
    for (uint32_t i = 0; i < from->count && !rc; i++)
      rc = copy_child(arena, from, i, &entries[i]);
    if (!rc)
      rc = from->type == SEGUE_LIST ? segue__list_seal(arena, &copy, entries, from->count)
                                    : segue__map_seal(arena, &copy, entries, from->count, same);
    segue__free(entries);
  }
  if (!rc) *out = copy;
  return rc;
}
