/* SPDX-License-Identifier: MIT
 *
 * os.h: the file system and processes behind one struct of function pointers that tests replace.
 * (The clock, timers and threads are loop.h.) segue__os_default() is the real one. The functions
 * block; they are called on the worker thread, spawn excepted.
 */
#ifndef SEGUE_OS_OS_H
#define SEGUE_OS_OS_H

#include "../segue.h"

/* Bytes of one file as they were at one instant. */
typedef struct segue__bytes {
  char *data; /* owned, terminated past len; free with segue__free */
  size_t len;
} segue__bytes;

/* One match of a directory listing. */
typedef struct segue__names {
  char **items; /* each owned: full paths, sorted by byte value */
  size_t count;
} segue__names;
void segue__names_deinit(segue__names *names);

/* How a file is written: all of it or nothing, durably (temporary file beside it, fsync, rename,
 * fsync of the folder). */
typedef struct segue__write {
  const char *path;
  const void *data;
  size_t len;
  unsigned mode;   /* 0 = keep the existing file's, else 0600 */
  bool keep_owner; /* give the new file the owner of the one it replaces */
} segue__write;

typedef struct segue__os {
  void *data; /* for the functions' own use; passed as first argument */
  /* Reads a regular file of at most max bytes. A file that changes while it is read is read again
   * (up to 5 times). err names the file and what to do: missing, unreadable, a directory, a device
   * or pipe, a loop of symbolic links, too large. err->code is the UV_ or SEGUE_E code. */
  int (*read_file)(void *data, const char *path, size_t max, segue__bytes *out, segue_error *err);
  /* Regular files that match a glob pattern ("conf.d/" followed by "*.yaml"), sorted. Hidden names
   * (leading dot) match only a pattern that starts with a dot. No match is success with count 0;
   * a folder that is missing or unreadable is an error. */
  int (*list_files)(void *data, const char *pattern, segue__names *out, segue_error *err);
  int (*write_file)(void *data, const segue__write *w, segue_error *err);
  const char *(*getenv)(void *data, const char *name);
  char **(*environ)(void *data); /* NULL-terminated "NAME=value" array, borrowed */
} segue__os;

const segue__os *segue__os_default(void);

#endif
