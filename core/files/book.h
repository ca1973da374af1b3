/* SPDX-License-Identifier: MIT
 *
 * book.h: the destinations of one instance of segue: which module owns each of them, a lock against
 * other processes, and the version that was written last, by which a change by another program is
 * noticed. The versions are kept in a file, because a restarted process has to notice such a change
 * too.
 *
 * The lock is one byte of the file `.segue.lock` in the folder of the destination, at an offset
 * that is the hash of its name. The kernel releases it when the process ends, however it ends. The
 * lock file stays: a process that removed it could leave two processes with a lock each, one of
 * them on a file without a name.
 *
 * Every function is [any thread]; those that touch a file block.
 */
#ifndef SEGUE_FILES_BOOK_H
#define SEGUE_FILES_BOOK_H

#include "version.h"

typedef struct segue__file_book segue__file_book;

/* record: the file of the versions; NULL: they are kept in memory only. One that cannot be read is
 * ignored: then every version is unknown, and a file that is replaced is kept as a copy. */
int segue__file_book_new(segue__file_book **out, const char *record);
void segue__file_book_free(segue__file_book *book); /* releases all locks; NULL allowed */

/* Locks a destination for a module. A module may take one several times, because its next instance
 * takes it while the live one has it. UV_EBUSY: another module, or another process, has it. */
int segue__file_book_take(segue__file_book *book, const char *path, const char *module,
                          segue_error *err);
void segue__file_book_release(segue__file_book *book, const char *path);

/* Returns false if no version of this destination is known. */
bool segue__file_book_known(segue__file_book *book, const char *path, segue__file_version *out);
/* Notes the version that was written last. Without memory the older one stays. */
void segue__file_book_note(segue__file_book *book, const char *path,
                           const segue__file_version *version);
/* Writes the record, if a note changed it. */
int segue__file_book_save(segue__file_book *book, segue_error *err);

#endif
