/* SPDX-License-Identifier: MIT
 *
 * file_fold.h: the files that several reloads changed, one after the other, as one list: each file
 * once, with the difference from its first version to its last one. The texts of the versions are
 * not kept anywhere; the result is made of the kept differences. One thread at a time.
 */
#ifndef SEGUE_RECORD_FILE_FOLD_H
#define SEGUE_RECORD_FILE_FOLD_H

#include "file_change.h"

typedef struct segue__file_fold segue__file_fold;

int segue__file_fold_new(segue__file_fold **out);
void segue__file_fold_free(segue__file_fold *fold); /* NULL allowed */
/* Adds the files that the next reload changed; they are copied. UV_ENOMEM: the fold can only be
 * freed. */
int segue__file_fold_add(segue__file_fold *fold, const segue__file_changes *changes);
/* Makes the list, in the order in which the files were added first. A file that is as it was before
 * is not in it; a file whose differences do not join has a note in place of one. backward: from the
 * last version to the first one. */
int segue__file_fold_finish(segue__file_fold *fold, bool backward, segue__file_changes *out);

#endif
