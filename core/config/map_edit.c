/* SPDX-License-Identifier: MIT
 *
 * The next version of a map from the one before. A map of 100,000 members is one block of 6 MB, and
 * hashing its members takes some milliseconds, copying it less than one. So the hash of each new
 * chunk is computed from the sums of the old chunks: if N(j) is the sum of the hashes of the first
 * j members of the new map, then N(j) = S(i) + E, where S(i) is that sum for the i old members that
 * were copied or passed so far, and E the sum of what the edits have added and taken. S(i) is the
 * sum of whole chunks and of at most half a chunk of members.
 */
#include <string.h>

#include "node.h"

typedef struct map_writer {
  const segue_node *old;
  const segue__hash *old_chunks; /* NULL: the old map has none */
  size_t summed;                 /* whole old chunks in `sum` */
  segue__hash sum;
  segue__hash edits; /* E */
  segue__member *members;
  segue__hash *chunks;
  size_t made;        /* members so far */
  segue__hash before; /* N at the last boundary of a chunk */
  size_t chunk_count;
} map_writer;

static segue__hash edit_hash_old(const segue__member *m) {
  return segue__member_hash(segue__key_hash(m->key, m->key_len), &m->value);
}

static segue__hash edit_hash_range(const segue_node *map, size_t from, size_t to) {
  segue__hash sum = {0, 0};
  for (size_t i = from; i < to; i++)
    sum = segue__hash_plus(sum, edit_hash_old(&map->v.members[i]));
  return sum;
}

/* S(i). The calls come in the order of i. */
static segue__hash edit_sum_old(map_writer *w, size_t i) {
  if (!w->old_chunks) return edit_hash_range(w->old, 0, i);
  size_t whole = i / SEGUE__CHUNK, rest = i % SEGUE__CHUNK;
  for (; w->summed < whole; w->summed++)
    w->sum = segue__hash_plus(w->sum, w->old_chunks[w->summed]);
  if (!rest) return w->sum;
  size_t start = whole * SEGUE__CHUNK, end = start + SEGUE__CHUNK;
  if (end > w->old->count) end = w->old->count;
  if (rest <= end - i)
    return segue__hash_plus(w->sum, edit_hash_range(w->old, start, start + rest));
  segue__hash with_chunk = segue__hash_plus(w->sum, w->old_chunks[whole]);
  return segue__hash_minus(with_chunk, edit_hash_range(w->old, i, end));
}

/* The new map has a whole chunk more, and the old map is copied or passed up to i. */
static void edit_end_chunk(map_writer *w, size_t boundary, size_t i) {
  if (!w->chunk_count) return;
  segue__hash now = segue__hash_plus(edit_sum_old(w, i), w->edits);
  w->chunks[(boundary - 1) / SEGUE__CHUNK] = segue__hash_minus(now, w->before);
  w->before = now;
}

static void edit_copy(map_writer *w, size_t from, size_t to) {
  if (from == to) return;
  size_t end = w->made + (to - from);
  memcpy(w->members + w->made, w->old->v.members + from, (to - from) * sizeof *w->members);
  for (size_t b = w->made - w->made % SEGUE__CHUNK + SEGUE__CHUNK; b <= end; b += SEGUE__CHUNK)
    edit_end_chunk(w, b, from + (b - w->made));
  w->made = end;
}

/* Returns the index of the old member that is next. */
static size_t edit_apply(map_writer *w, const segue__map_edit *edit) {
  size_t next = edit->at + (edit->op != SEGUE__MAP_INSERT);
  if (edit->op != SEGUE__MAP_INSERT)
    w->edits = segue__hash_minus(w->edits, edit_hash_old(&w->old->v.members[edit->at]));
  if (edit->op == SEGUE__MAP_REMOVE) return next;
  segue__member *m = &w->members[w->made++];
  *m = edit->entry.member;
  m->key_hash = (uint32_t)edit->entry.key.lo;
  w->edits = segue__hash_plus(w->edits, segue__member_hash(edit->entry.key, &m->value));
  if (w->made % SEGUE__CHUNK == 0) edit_end_chunk(w, w->made, next);
  return next;
}

static size_t edit_count(const segue_node *old, const segue__map_edit *edits, size_t n,
                         bool *same_keys) {
  size_t count = old->count;
  *same_keys = true;
  for (size_t i = 0; i < n; i++) {
    if (edits[i].op == SEGUE__MAP_REPLACE) continue;
    *same_keys = false;
    count = edits[i].op == SEGUE__MAP_INSERT ? count + 1 : count - 1;
  }
  return count;
}

static void edit_index(const segue_node *old, const segue__member *members, size_t n,
                       uint32_t *index, bool same_keys) {
  size_t slots = segue__map_slots(n);
  if (!slots) return;
  if (same_keys) {
    memcpy(index, segue__map_index(old), slots * sizeof *index);
    return;
  }
  memset(index, 0, slots * sizeof *index);
  for (size_t i = 0; i < n; i++) {
    size_t at = members[i].key_hash & (slots - 1);
    while (index[at])
      at = (at + 1) & (slots - 1);
    index[at] = (uint32_t)i + 1;
  }
}

size_t segue__map_edited_bytes(const segue_node *old, const segue__map_edit *edits, size_t n) {
  bool same_keys;
  size_t count = edit_count(old, edits, n, &same_keys);
  return sizeof(segue__hash) + count * sizeof(segue__member) +
         segue__chunk_count(count) * sizeof(segue__hash) +
         segue__map_slots(count) * sizeof(uint32_t);
}

void segue__map_write_edited(void *memory, const segue_node *old, const segue__map_edit *edits,
                             size_t n, segue_node *out) {
  bool same_keys;
  size_t count = edit_count(old, edits, n, &same_keys), next = 0;
  segue__hash *hash = memory;
  map_writer w = {.old = old,
                  .old_chunks = segue__node_chunks(old),
                  .members = (segue__member *)(hash + 1),
                  .chunk_count = segue__chunk_count(count)};
  w.chunks = (segue__hash *)(w.members + count);
  for (size_t i = 0; i < n; i++) {
    edit_copy(&w, next, edits[i].at);
    next = edit_apply(&w, &edits[i]);
  }
  edit_copy(&w, next, old->count);
  if (count % SEGUE__CHUNK) edit_end_chunk(&w, count, old->count);
  *hash = segue__map_hash(segue__hash_plus(edit_sum_old(&w, old->count), w.edits), count);
  edit_index(old, w.members, count, (uint32_t *)(w.chunks + w.chunk_count), same_keys);
  *out = *old;
  out->type = SEGUE_MAP;
  out->count = (uint32_t)count;
  out->v.members = w.members;
}
