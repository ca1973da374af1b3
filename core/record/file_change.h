/* SPDX-License-Identifier: MIT
 *
 * file_change.h: files outside of the state folder that a reload changes, as results list them:
 * what a file was and what it becomes, and the difference of its text without secrets.
 */
#ifndef SEGUE_RECORD_FILE_CHANGE_H
#define SEGUE_RECORD_FILE_CHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../config/mask.h"
#include "../segue.h"

/* One version of a file. */
typedef struct segue__file_side {
  bool exists; /* false: there is no file, and the other fields are 0 */
  bool link;   /* a symbolic link; the size and the hash are those of its target's name */
  unsigned mode, uid, gid;
  uint64_t size;
  char hash[33];
} segue__file_side;

typedef struct segue__file_change {
  char *module, *path;
  segue__file_side before, after;
  char *diff;                      /* unified, secrets masked; NULL: there is none */
  char *note;                      /* why there is none; NULL */
  size_t added, removed, left_out; /* lines; left_out: of the diff, which was too long */
} segue__file_change;

typedef struct segue__file_changes {
  segue__file_change *items;
  size_t count;
  size_t more; /* files that change and are not listed, because the list is too long */
} segue__file_changes;

void segue__file_changes_deinit(segue__file_changes *changes);
/* Moves all items of `from` behind those of `to`; `from` is empty then. Without memory they are
 * freed, and the result is UV_ENOMEM. */
int segue__file_changes_move(segue__file_changes *to, segue__file_changes *from);
/* Reads the changed files of an answer (core/admin/render_files.c). A missing list is an empty one.
 * UV_ENOMEM: *out is empty. */
int segue__file_changes_read(segue__file_changes *out, const segue_node *answer);
/* Hides the secrets of the mask in all diffs. A mask that hides everything leaves a note in place
 * of each diff. UV_ENOMEM: the list must not be shown. */
int segue__file_changes_clean(segue__file_changes *changes, const segue__mask *mask);
/* Cuts the diffs, at ends of lines, to `each` bytes for a file and `all` bytes for the list. */
void segue__file_changes_cut(segue__file_changes *changes, size_t each, size_t all);

#endif
