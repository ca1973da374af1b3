/* SPDX-License-Identifier: MIT
 *
 * each.h: work on many files that waits for the disk, done by several threads.
 */
#ifndef SEGUE_FILES_EACH_H
#define SEGUE_FILES_EACH_H

#include <stdbool.h>
#include <stddef.h>

#include "../segue.h"

/* Calls run for each index below count, from several threads at a time, and returns when the last
 * call has returned. A call that fails ends it: no further index is begun, and the result and err
 * are those of the lowest index that failed, as with one thread. waits: the calls wait for the
 * disk; false: all are made by the calling thread. */
int segue__file_each(size_t count, bool waits,
                     int (*run)(void *data, size_t index, segue_error *err), void *data,
                     segue_error *err);

#endif
