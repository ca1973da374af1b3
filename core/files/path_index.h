/* SPDX-License-Identifier: MIT
 *
 * path_index.h: finds a path among thousands. Each operation on a set looks up every one of its
 * files, so a list that is searched from its first entry costs a set of 5,000 files 25 million
 * comparisons. The index borrows the texts: they outlive it, and do not move. Entries are never
 * removed. For one thread at a time.
 */
#ifndef SEGUE_FILES_PATH_INDEX_H
#define SEGUE_FILES_PATH_INDEX_H

#include <stddef.h>
#include <stdint.h>

#define SEGUE__PATH_NONE SIZE_MAX

typedef struct segue__path_slot {
  const char *path; /* NULL: free */
  uint32_t len, hash;
  size_t at;
} segue__path_slot;

typedef struct segue__path_index { /* zeroed: empty */
  segue__path_slot *slots;
  size_t count, capacity;
} segue__path_index;

void segue__path_index_deinit(segue__path_index *index);
/* The first len bytes of path get the number `at`; a path that is there keeps its number. Returns 0
 * or UV_ENOMEM. */
int segue__path_index_add(segue__path_index *index, const char *path, size_t len, size_t at);
/* Returns the number, or SEGUE__PATH_NONE. */
size_t segue__path_index_find(const segue__path_index *index, const char *path, size_t len);

#endif
