/* SPDX-License-Identifier: MIT
 *
 * file_fold.h: joins the file changes of several successive reloads to one list. Each file is in it
 * once, with the difference from its first version to its last one. The history stores only the
 * differences, not the versions, so the result is computed from the differences. One thread at a
 * time.
 */
#ifndef SEGUE_RECORD_FILE_FOLD_H
#define SEGUE_RECORD_FILE_FOLD_H

#include "file_change.h"

typedef struct segue__file_fold segue__file_fold;

int segue__file_fold_new(segue__file_fold **out);
void segue__file_fold_free(segue__file_fold *fold); /* NULL allowed */
/* Adds copies of the files that the next reload changed. SEGUE_ELIMIT: all of them together are too
 * much work. After an error the fold can only be freed. */
int segue__file_fold_add(segue__file_fold *fold, const segue__file_changes *changes);
/* Writes the list to *out, in the order in which the files were added first. Its `more` is the
 * largest of those that were added. A file whose last
 * version equals its first one is left out. A file whose differences cannot be joined has a note
 * instead of a difference. backward: the differences lead from the last version to the first one.
 */
int segue__file_fold_finish(segue__file_fold *fold, bool backward, segue__file_changes *out);

#endif
