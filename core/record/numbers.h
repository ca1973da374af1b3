/* SPDX-License-Identifier: MIT
 *
 * numbers.h: the highest numbers that were given to reloads and generations, in two files that are
 * written in turn: numbers.a and numbers.b. Blocks: for the record thread. The value (little
 * endian): u64 reload, u64 generation.
 *
 * The history has these numbers too, but milliseconds after the answer to a reload. A daemon that
 * is killed in between would give the same number to another reload, and an operator would look up
 * the wrong one. So the number is in this file before the answer leaves. The file is not synced:
 * the kernel keeps what a killed process has written. After a power failure the numbers go on from
 * the history, the last good generation and the decisions, which are synced.
 */
#ifndef SEGUE_RECORD_NUMBERS_H
#define SEGUE_RECORD_NUMBERS_H

#include "two_slot_file.h"

typedef struct segue__numbers {
  uint64_t reload, generation;
} segue__numbers;

int segue__numbers_init(segue__two_slot_file *state_file, const segue__logger *log,
                        const char *folder);
/* Raises each number to that of `numbers`, never lowers one. */
void segue__numbers_raise(segue__numbers *numbers, const segue__numbers *to);
int segue__numbers_write(segue__two_slot_file *state_file, const segue__numbers *numbers);
/* UV_ENOENT: there is no file, or none that can be used; *numbers is zeroed. */
int segue__numbers_read(segue__two_slot_file *state_file, segue__numbers *numbers);

#endif
