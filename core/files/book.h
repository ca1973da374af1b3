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

/* record: the file of the versions; NULL: they are kept in memory only. One that is damaged, or may
 * not be read, is ignored: then every version is unknown, and a file that is replaced is kept as a
 * copy. Fails where this process has no memory or descriptor to read it. */
int segue__file_book_new(segue__file_book **out, const char *record);
const char *segue__file_book_record(const segue__file_book *book); /* its path, or NULL */
/* From now on nothing is locked, and the record is not written: for a plan beside a process that
 * has the locks. record() returns NULL. */
void segue__file_book_rehearse(segue__file_book *book);
bool segue__file_book_rehearses(const segue__file_book *book);
void segue__file_book_free(segue__file_book *book); /* releases all locks; NULL allowed */

/* The way in which a destination changes. */
typedef enum segue__file_part {
  SEGUE__PART_FILE,  /* it is replaced by its staged file */
  SEGUE__PART_LINK,  /* a symbolic link to a folder of files, which is replaced by another link */
  SEGUE__PART_MEMBER /* a file in such a folder: it changes with the link, whose lock covers it */
} segue__file_part;

/* Locks a destination for a module; a member is noted without a lock, because a lock file in its
 * folder would be one of the files there. A module may take one several times, because its next
 * instance takes it while the live one has it. UV_EBUSY: another module, or another process, has
 * it. */
int segue__file_book_take(segue__file_book *book, const char *path, const char *module,
                          segue__file_part part, segue_error *err);
void segue__file_book_release(segue__file_book *book, const char *path);

/* Returns false if no version of this destination is known. */
bool segue__file_book_known(segue__file_book *book, const char *path, segue__file_version *out);
/* Returns whether `version`, which another program has written, is left by the policy's wish. */
bool segue__file_book_adopted(segue__file_book *book, const char *path,
                              const segue__file_version *version);
/* The answer to a change of a file by another program. */
typedef enum segue__drift_mode {
  SEGUE__DRIFT_REPORT, /* nothing, before the next change of the module */
  SEGUE__DRIFT_RESTORE,
  SEGUE__DRIFT_ADOPT /* it stays until the rendered content changes */
} segue__drift_mode;
/* The end of a file that its module no longer declares. */
typedef enum segue__removed_mode {
  SEGUE__REMOVED_KEEP, /* it stays */
  SEGUE__REMOVED_REMOVE,
  SEGUE__REMOVED_RESTORE /* the version from before the first write of segue is back */
} segue__removed_mode;
/* Notes the module of a destination, for the time when it is dropped. before: the end of the name
 * of the copy that has the version from before the first write (segue__file_hidden); "": there was
 * no file; NULL: not known. A module that has the file already keeps its `before`. Call it before
 * note. */
void segue__file_book_own(segue__file_book *book, const char *path, const char *module,
                          segue__file_part part, segue__removed_mode removed, const char *before);
/* A file of a module, as it was noted. */
typedef struct segue__owned_file {
  char *path, *before;
  segue__file_part part;
  segue__removed_mode removed;
} segue__owned_file;
typedef struct segue__owned_files {
  segue__owned_file *items;
  size_t count, capacity;
} segue__owned_files;
/* The files that this module has written, and that no other module has taken since. */
int segue__file_book_owned(segue__file_book *book, const char *module, segue__owned_files *out);
void segue__owned_files_deinit(segue__owned_files *files);
/* The modules that own files: names, each once. */
int segue__file_book_owners(segue__file_book *book, segue__names *out);
/* The modules of the next policy. The files of others may be taken by these while the others are
 * still live. Takes the list. */
void segue__file_book_stay(segue__file_book *book, segue__names *modules);
/* The module no longer has the file: nothing is known of it any more. Another module keeps it. */
void segue__file_book_forget(segue__file_book *book, const char *path, const char *module);

/* Notes the version that was written last. Returns 0, or UV_ENOMEM, which a destination that is
 * taken never needs. */
int segue__file_book_note(segue__file_book *book, const char *path,
                          const segue__file_version *version);
/* The mode and owner of a folder of generations, beside the version of the link to it. */
typedef struct segue__folder_attributes {
  unsigned mode, uid, gid;
} segue__folder_attributes;
void segue__file_book_note_folder(segue__file_book *book, const char *path,
                                  const segue__folder_attributes *attributes);
/* Whether the folder that this link leads to is as it was written, but for the versions of its
 * files. true too if that is not known. Blocks. */
bool segue__file_book_folder_fits(segue__file_book *book, const char *path);
/* A file is looked after from now on; a set calls it when it is settled. */
void segue__file_book_guard(segue__file_book *book, const char *path, segue__drift_mode mode);
/* Between begin and end a set writes the file itself: it is not looked at. */
void segue__file_book_begin(segue__file_book *book, const char *path);
void segue__file_book_end(segue__file_book *book, const char *path);

/* A file that is not as segue has written it last. */
typedef struct segue__drifted {
  char *path, *module;
  segue__drift_mode mode;
  bool fresh;    /* no scan before has found this version */
  bool no_file;  /* a folder, device, pipe or socket is in its place */
  char how[160]; /* "its content was changed" */
} segue__drifted;
typedef struct segue__drifts {
  segue__drifted *items;
  size_t count, capacity;
} segue__drifts;
/* Compares the files that are guarded and taken with the versions that were written last. A file
 * whose inode has not changed since it was read is not read again. In mode ADOPT the found version
 * is accepted: the next scan does not report it. Blocks. */
int segue__file_book_scan(segue__file_book *book, segue__drifts *out);
void segue__drifts_deinit(segue__drifts *drifts);
/* The paths of these files, for a watch. */
int segue__file_book_paths(segue__file_book *book, segue__names *out);
/* Writes the record, if a note changed it. */
int segue__file_book_save(segue__file_book *book, segue_error *err);

#endif
