/* SPDX-License-Identifier: MIT
 *
 * node.h: the layout of containers in memory, for the code that builds and compares them: builder,
 * merge, diff.
 *
 * A container is one block in an arena. Lists: hash, items, chunk hashes. Maps: hash, members,
 * chunk hashes, hash index. The node points to the first item or member; the hash of the container
 * lies just before it. Most nodes of a tree are scalars: a hash in every node would cost them 16
 * bytes each, so a scalar is hashed when it is requested. Chunk hashes exist from SEGUE__CHUNK
 * children on, one for each SEGUE__CHUNK of them: comparing two wide containers that differ in one
 * child reads one hash per chunk instead of every child. The index exists for maps of more than
 * SEGUE__LINEAR members: open addressing with linear probing, a power of two of uint32_t (member +
 * 1, 0 = free), at most half full.
 */
#ifndef SEGUE_CONFIG_NODE_H
#define SEGUE_CONFIG_NODE_H

#include "tree.h"

enum { SEGUE__CHUNK = 64, SEGUE__LINEAR = 8 };

/* A child while its container is being built. */
typedef struct segue__tree_entry {
  segue__member member; /* lists use only the value */
  segue__hash key;      /* full hash of the key */
} segue__tree_entry;

segue__hash segue__key_hash(const char *key, size_t len);
bool segue__key_equal(const segue__member *a, const segue__member *b);
/* Hashes of each SEGUE__CHUNK children of a list or map; NULL if it has fewer than that. */
const segue__hash *segue__node_chunks(const segue_node *node);

/* Copy children into the arena, compute the hash, and fill count and v of node, whose type is set.
 * The map version returns SEGUE_ESYNTAX with the two entries of a duplicate key in same[]. */
int segue__list_seal(segue__arena *arena, segue_node *node, const segue__tree_entry *entries,
                     size_t n);
int segue__map_seal(segue__arena *arena, segue_node *node, segue__tree_entry *entries, size_t n,
                    size_t same[2]);

/* The same for a list, into memory of the caller. */
size_t segue__list_bytes(size_t n);
void segue__list_write(void *memory, const segue__tree_entry *entries, size_t n, segue_node *node);

/* One difference between a map and its next version. Edits come in the order of `at`; those that
 * insert at the same place come first there. */
typedef struct segue__map_edit {
  enum { SEGUE__MAP_INSERT, SEGUE__MAP_REPLACE, SEGUE__MAP_REMOVE } op;
  uint32_t at;             /* the old member, or the one that the new member goes before */
  segue__tree_entry entry; /* of INSERT and REPLACE; its key is in no other member */
} segue__map_edit;

/* map_edit.c: copies a map with the edits applied, into memory of the caller. One changed value
 * costs a copy of the block and one hash of a chunk; the other hashes are not computed again. The
 * result equals the map that segue__map_seal makes of the same members. */
size_t segue__map_edited_bytes(const segue_node *old, const segue__map_edit *edits, size_t n);
void segue__map_write_edited(void *memory, const segue_node *old, const segue__map_edit *edits,
                             size_t n, segue_node *out);

/* The parts of a map, for map_edit.c. */
size_t segue__chunk_count(size_t n); /* of n children */
size_t segue__map_slots(size_t n);   /* of the index of n members */
const uint32_t *segue__map_index(const segue_node *map);
segue__hash segue__member_hash(segue__hash key, const segue_node *value);
segue__hash segue__map_hash(segue__hash sum_of_members, size_t n);
segue__hash segue__hash_plus(segue__hash a, segue__hash b);
segue__hash segue__hash_minus(segue__hash a, segue__hash b);

#endif
