/* SPDX-License-Identifier: MIT
 *
 * set.h: several files that change as one. A set is staged beside the live files, compared with
 * them, committed, and then settled or undone.
 *
 *   new, add...   what is wanted
 *   stage         writes each file that differs beside its destination; nothing visible changes.
 *                 Files that the module has written before, and that are not wanted any more, are
 *                 of the set too: they are removed, restored or left by the same commit
 *   commit        moves the staged files into place, in order
 *   undo          brings back bytes, mode and owner of all that commit has replaced
 *   settle        instead of undo: removes what undo would have needed, makes backups
 *   free          removes staged files that are not in place, releases the locks
 *
 * A set may have a folder whose files change by one step: its destination is a symbolic link to
 * the folder of a generation beside it, which stage writes as a whole and commit switches to
 * (folder.c). Its files are members of the set like others; the link is one more file of it.
 *
 * The order of the calls is as above; commit may fail after a part of its work, and undo follows
 * then too. For a process that is killed in between there is the intent: a JSON text for the
 * journal (core/record/journal.h), from which segue__file_set_recover finishes the change or undoes
 * it.
 *
 * All functions but new, add, get and intent block: they are for a worker. A set is used by one
 * thread at a time.
 */
#ifndef SEGUE_FILES_SET_H
#define SEGUE_FILES_SET_H

#include "book.h"

typedef struct segue__file_set segue__file_set;
typedef struct segue__file_simulation segue__file_simulation; /* simulation.h */

/* A folder that is switched as a whole. */
typedef struct segue__file_folder {
  const char *path;  /* of the link; NULL: the set has no such folder */
  unsigned mode;     /* of the folder; 0: 0755 */
  const char *owner; /* as of a file; NULL: of this process */
  unsigned backups;  /* how many replaced links stay, as .NAME.backup-1 and so on */
} segue__file_folder;

/* Everything is copied but the book, which has to outlive the set. */
typedef struct segue__file_set_options {
  size_t size;
  segue__file_book *book;             /* NULL: a plan, which is never committed, locks nothing */
  segue__file_simulation *simulation; /* NULL: the files are on the disk; else there is no book */
  const char *module;                 /* the owner of the destinations */
  const char *folder;                 /* of relative destinations; absolute */
  const char *root; /* destinations must be below it; relative to folder; NULL: any */
  segue__drift_mode drift;
  /* The files that the module has written before, and that the set has no longer. */
  segue__removed_mode removed;
  bool plan;                  /* it is never committed: its staged files need not reach the disk */
  segue__file_folder members; /* of the files that are members */
} segue__file_set_options;

/* A file as it is wanted. Everything is copied. */
typedef struct segue__file_want {
  const char *to; /* destination; missing parent folders are created */
  const void *data;
  size_t len;
  unsigned mode;     /* 0: of the live file, else 0644 */
  const char *owner; /* "user" or "user:group"; NULL: of the live file, else of this process */
  unsigned backups;  /* how many replaced versions stay, as .NAME.backup-1 (the newest) and so on */
  bool replace_link; /* a destination that is a symbolic link is replaced; else its target is */
  bool member;       /* of the folder of the set; to is "FOLDER/NAME" */
} segue__file_want;

/* Takes a rendered file in place of a set. path is absolute; all is borrowed. */
typedef int segue__file_capture(void *data, const char *path, unsigned mode, const void *bytes,
                                size_t len, segue_error *err);

/* A file of a set, for answers. Strings are borrowed from the set. */
typedef struct segue__file_status {
  const char *to, *path; /* path: resolved, once it was staged */
  const char *source;    /* where its wanted bytes are: the staged file, or path if it is equal; of
                            a link, the folder that it will lead to */
  segue__file_part part;
  bool changed;
  segue__file_version previous, next;
  /* The name under which a version that segue has not written stays, once it was replaced; NULL:
   * there was none. */
  const char *kept;
  /* A file that the module no longer declares; next is the version that it gets (SEGUE__FILE_NONE:
   * it is removed). why: it stays against the wish of the policy, for this reason; or NULL. */
  bool dropped;
  bool added; /* dropped: another program had added it to a folder of generations */
  const char *why;
  bool shown; /* for lists: a link whose members changed is none of its own */
} segue__file_status;

int segue__file_set_new(segue__file_set **out, const segue__file_set_options *options);
int segue__file_set_add(segue__file_set *set, const segue__file_want *want, segue_error *err);
/* On failure nothing is staged; free releases the rest. err names the file and the remedy. */
int segue__file_set_stage(segue__file_set *set, segue_error *err);
int segue__file_set_commit(segue__file_set *set, segue_error *err);
/* Undoes as much as it can: a file that cannot be restored does not prevent the undo of the others.
 */
int segue__file_set_undo(segue__file_set *set, segue_error *err);
/* err, which is set if the result is negative, is about what stays on disk needlessly, or about the
 * record of the book; the files are in place. */
int segue__file_set_settle(segue__file_set *set, segue_error *err);
/* Removes staged files that are not in place, and releases the locks: for a worker, before free. */
void segue__file_set_discard(segue__file_set *set);
void segue__file_set_free(segue__file_set *set); /* discards first; NULL allowed */

size_t segue__file_set_count(const segue__file_set *set);
size_t
segue__file_set_changed(const segue__file_set *set); /* how many differ; once it was staged */
void segue__file_set_get(const segue__file_set *set, size_t index, segue__file_status *out);

/* Appends the intent of a staged set. */
void segue__file_set_intent(const segue__file_set *set, segue__buf *json);
/* Finishes the change, or undoes it; may be called again after it was interrupted at any point.
 * Files that another program has changed since stay, or are kept as copies: *report, which may be
 * NULL, gets a sentence about each. Returns 0, UV_EINVAL if the text is no intent, or the first
 * error; the other files are done nevertheless. */
int segue__file_set_recover(const char *intent, size_t len, bool finish, segue__buf *report,
                            segue_error *err);

#endif
