/* SPDX-License-Identifier: MIT
 *
 * numbers.h: the numbers of reloads and generations up to which they are reserved, in two files
 * that are written in turn: numbers.a and numbers.b. Blocks: for the record thread. The value
 * (little endian): u64 reload, u64 generation.
 *
 * Clients see a number as soon as a run begins: in the event stream, in /status, in a policy's
 * hook. If the process is killed then, no later run may have the same number, or an operator looks
 * up the wrong reload. So numbers are reserved on disk, a block at a time, before the first of them
 * is used: one write per block, none per reload. After a kill the numbers continue behind the
 * block; a stop in good order writes the numbers that were really given, so that it leaves no gap.
 */
#ifndef SEGUE_RECORD_NUMBERS_H
#define SEGUE_RECORD_NUMBERS_H

#include "two_slot_file.h"

typedef struct segue__numbers {
  uint64_t reload, generation;
} segue__numbers;

/* The length of a block. */
enum { SEGUE__NUMBERS_RELOADS = 64, SEGUE__NUMBERS_GENERATIONS = 8 };

int segue__numbers_init(segue__two_slot_file *state_file, const segue__logger *log,
                        const char *folder);
/* The end of the block that begins behind `given`. */
segue__numbers segue__numbers_block(const segue__numbers *given);
int segue__numbers_write(segue__two_slot_file *state_file, const segue__numbers *numbers);
/* UV_ENOENT: there is no file, or none that can be used; *numbers is zeroed. */
int segue__numbers_read(segue__two_slot_file *state_file, segue__numbers *numbers);

#endif
