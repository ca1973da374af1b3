/* SPDX-License-Identifier: MIT
 *
 * Structural difference. The cost depends on what changed, not on the size of the trees: equal
 * hashes end the descent, and wide containers are compared chunk by chunk (node.h) before child by
 * child.
 */
#include <assert.h>
#include <string.h>
#include <uv.h>

#include "config.h"
#include "node.h"
#include "path.h"

typedef struct differ {
  segue__changes *out;
  segue__buf path; /* of the pair that is compared now */
} differ;

static int diff_report(differ *d, segue__change_op op, const segue_node *from,
                       const segue_node *to) {
  segue__changes *out = d->out;
  out->total++;
  if (out->count == SEGUE__CHANGES_MAX) return 0;
  if (out->count == out->capacity) {
    size_t capacity = out->capacity ? out->capacity * 2 : 8;
    segue__change *items = segue__realloc(out->items, capacity * sizeof *items);
    if (!items) return UV_ENOMEM;
    out->items = items;
    out->capacity = capacity;
  }
  char *path =
      d->path.failed ? NULL : segue__strndup(d->path.data ? d->path.data : "", d->path.len);
  if (!path) return UV_ENOMEM;
  out->items[out->count++] = (segue__change){.op = op, .path = path, .from = from, .to = to};
  return 0;
}

static void diff_cut(segue__buf *b, size_t len) {
  b->len = len;
  if (b->data) b->data[len] = 0;
}

static int diff_compare(differ *d, const segue_node *from, const segue_node *to);

/* Compares two children under one key or index. NULL means that a tree has no such child. */
static int compare_child(differ *d, const segue__member *key, size_t index, const segue_node *from,
                         const segue_node *to) {
  size_t len = d->path.len;
  if (key)
    segue__path_add_key(&d->path, key->key, key->key_len);
  else
    segue__path_add_index(&d->path, index);
  int rc = from && to ? diff_compare(d, from, to)
                      : diff_report(d, from ? SEGUE__REMOVE : SEGUE__ADD, from, to);
  diff_cut(&d->path, len);
  return rc;
}

/* The chunk hashes of two containers, looked up once: a wide map is mostly a walk over them. */
typedef struct chunk_pair {
  const segue__hash *a, *b;
  size_t end; /* index of the first child that one of the two does not have; 0: no chunks */
} chunk_pair;

static chunk_pair chunks_of_both(const segue_node *a, const segue_node *b) {
  chunk_pair pair = {segue__node_chunks(a), segue__node_chunks(b), 0};
  if (pair.a && pair.b) pair.end = a->count < b->count ? a->count : b->count;
  return pair;
}

/* Returns whether the chunk that starts at child i is the same in both. */
static bool same_chunk(const chunk_pair *pair, size_t i) {
  return i % SEGUE__CHUNK == 0 && i < pair->end &&
         segue__hash_equal(pair->a[i / SEGUE__CHUNK], pair->b[i / SEGUE__CHUNK]);
}

/* Returns the member of `map` with m's key. Two versions of a map mostly have the same order, so it
 * tries the member at *hint first and advances the hint. */
static const segue__member *counterpart(const segue_node *map, const segue__member *m,
                                        size_t *hint) {
  assert(m); /* a map with a count has members */
  if (*hint < map->count && segue__key_equal(&map->v.members[*hint], m))
    return &map->v.members[(*hint)++];
  const segue__member *found = segue__node_find(map, m->key, m->key_len);
  if (found) *hint = (size_t)(found - map->v.members) + 1;
  return found;
}

static int compare_maps(differ *d, const segue_node *from, const segue_node *to) {
  int rc = 0;
  size_t hint = 0;
  const chunk_pair chunks = chunks_of_both(from, to);
  for (size_t i = 0; !rc && i < from->count; i++) {
    if (same_chunk(&chunks, i)) {
      i += SEGUE__CHUNK - 1;
      hint = i + 1;
      continue;
    }
    const segue__member *m = &from->v.members[i], *other = counterpart(to, m, &hint);
    if (!other || !segue__node_equal(&m->value, &other->value))
      rc = compare_child(d, m, 0, &m->value, other ? &other->value : NULL);
  }
  hint = 0;
  for (size_t i = 0; !rc && i < to->count; i++) {
    if (same_chunk(&chunks, i)) {
      i += SEGUE__CHUNK - 1;
      hint = i + 1;
      continue;
    }
    const segue__member *m = &to->v.members[i];
    if (!counterpart(from, m, &hint)) rc = compare_child(d, m, 0, NULL, &m->value);
  }
  return rc;
}

static int compare_lists(differ *d, const segue_node *from, const segue_node *to) {
  const segue_node *a = from->v.items, *b = to->v.items;
  size_t n = from->count, m = to->count, shorter = n < m ? n : m, start = 0, tail = 0;
  const chunk_pair chunks = chunks_of_both(from, to);
  while (start < shorter) {
    if (same_chunk(&chunks, start) && start + SEGUE__CHUNK <= shorter)
      start += SEGUE__CHUNK;
    else if (segue__node_equal(&a[start], &b[start]))
      start++;
    else
      break;
  }
  while (n != m && tail < shorter - start && segue__node_equal(&a[n - 1 - tail], &b[m - 1 - tail]))
    tail++;
  int rc = 0;
  size_t i = start;
  for (; !rc && i < shorter - tail; i++)
    if (n == m && same_chunk(&chunks, i))
      i += SEGUE__CHUNK - 1;
    else if (!segue__node_equal(&a[i], &b[i]))
      rc = compare_child(d, NULL, i, &a[i], &b[i]);
  for (size_t k = i; !rc && k < n - tail; k++)
    rc = compare_child(d, NULL, k, &a[k], NULL);
  for (size_t k = i; !rc && k < m - tail; k++)
    rc = compare_child(d, NULL, k, NULL, &b[k]);
  return rc;
}

static int diff_compare(differ *d, const segue_node *from, const segue_node *to) {
  if (segue__node_equal(from, to)) return 0;
  if (from->type == SEGUE_MAP && to->type == SEGUE_MAP) return compare_maps(d, from, to);
  if (from->type == SEGUE_LIST && to->type == SEGUE_LIST) return compare_lists(d, from, to);
  return diff_report(d, SEGUE__CHANGE, from, to);
}

int segue__diff(const segue_node *from, const segue_node *to, segue__changes *out) {
  memset(out, 0, sizeof *out);
  differ d = {.out = out};
  segue__buf_init(&d.path);
  int rc = diff_compare(&d, from, to);
  segue__buf_deinit(&d.path);
  if (rc) segue__changes_deinit(out);
  return rc;
}

void segue__changes_deinit(segue__changes *changes) {
  for (size_t i = 0; i < changes->count; i++)
    segue__free(changes->items[i].path);
  segue__free(changes->items);
  memset(changes, 0, sizeof *changes);
}
