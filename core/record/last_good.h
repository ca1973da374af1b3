/* SPDX-License-Identifier: MIT
 *
 * last_good.h: the last good generation on disk: every file that went into it, policy included, so
 * that a daemon can start when a file is gone or broken. Two slots, last-good.a and last-good.b.
 * Blocks: for the thread that records. The value (little endian): u64 generation, u64 reload, i64
 * wall ms, 32 bytes hash, 16 bytes input hash, u32 files, then for each: u32 length of path, u64
 * length of data, path, data; then u32 sources, and for each: u32 length of name, u64 items, name.
 */
#ifndef SEGUE_RECORD_LAST_GOOD_H
#define SEGUE_RECORD_LAST_GOOD_H

#include "../config/tree.h"
#include "inputs.h"
#include "two_slot_file.h"

/* How many items a source had, for the guard that checks what it delivers after a restart. */
typedef struct segue__source_items {
  char *source;
  uint64_t items;
} segue__source_items;
typedef struct segue__source_counts {
  segue__source_items *items;
  size_t count;
} segue__source_counts;
/* Zeroed or filled; zeroes it. */
void segue__source_counts_deinit(segue__source_counts *counts);
int segue__source_counts_add(segue__source_counts *counts, const char *source, size_t len,
                             uint64_t items); /* copies the name */
int segue__source_counts_copy(segue__source_counts *to, const segue__source_counts *from);

typedef struct segue__last_good {
  uint64_t generation; /* 0: there is none */
  uint64_t reload;     /* that made it live */
  int64_t wall_ms;
  char hash[33];     /* of the configuration */
  segue__hash input; /* of all that went into it */
  segue__source_counts sources;
} segue__last_good;
void segue__last_good_deinit(segue__last_good *info); /* zeroed or read */

#define SEGUE__LAST_GOOD_MAGIC "SEGUELG3"

int segue__last_good_write(segue__two_slot_file *state_file, const segue__last_good *info,
                           const segue__files *files);
/* UV_ENOENT: there is none. */
int segue__last_good_read(segue__two_slot_file *state_file, segue__last_good *info,
                          segue__files **files);

#endif
