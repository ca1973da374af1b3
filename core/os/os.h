/* SPDX-License-Identifier: MIT
 *
 * os.h: the file system and processes behind one struct of function pointers that tests replace.
 * (The clock, timers and threads are loop.h.) segue__os_default() is the real one. The functions
 * block and are for the worker thread, except spawn and
 * start_child, which are for the control thread.
 */
#ifndef SEGUE_OS_OS_H
#define SEGUE_OS_OS_H

#include "../segue.h"
#include "claim.h"
#include "spawn.h"

/* Bytes of one file as they were at one instant. */
typedef struct segue__bytes {
  char *data; /* owned, terminated past len; free with segue__free */
  size_t len;
} segue__bytes;

/* One match of a directory listing. */
typedef struct segue__names {
  char **items; /* each owned: full paths, sorted by byte value */
  size_t count;
  char *odd; /* owned; of a listing: one that matches and is no regular file. NULL: none */
} segue__names;
void segue__names_deinit(segue__names *names);
/* Appends folder[0 .. folder_len) followed by name, copied. Start from a zeroed struct, and add
 * only by this function. Does not sort. */
int segue__names_add(segue__names *names, const char *folder, size_t folder_len, const char *name);

/* How a file is written: all of it or nothing, durably (temporary file ".NAME.segue-XXXXXXXX"
 * beside it, fsync, rename, fsync of the folder). Where path is a symbolic link, the file that it
 * leads to is replaced, not the link. */
typedef struct segue__write {
  const char *path;
  const void *data;
  size_t len;
  unsigned mode;   /* 0 = keep the existing file's, else 0600 */
  bool keep_owner; /* give the new file the owner of the one it replaces */
  /* Taken right before the rename. If it is cancelled the old file stays: SEGUE_ECANCELLED. NULL:
   * none. */
  segue__claim *claim;
} segue__write;

typedef struct segue__os {
  void *data; /* for the functions' own use; passed as first argument */
  /* NULL, or: data stays valid until it is released as often as it was held. A job that hangs in a
   * read may outlive the object that started it. [any thread] */
  void (*hold)(void *data);
  void (*release)(void *data);
  /* Reads a regular file of at most max bytes. A file that changes while it is read is read again
   * (up to 5 times). err names the file and what to do. Codes: UV_ENOENT missing, UV_EACCES
   * unreadable, UV_EISDIR a directory, UV_EFTYPE a device, pipe or socket, UV_ELOOP a loop of
   * symbolic links, SEGUE_ELIMIT too large, UV_EAGAIN never at rest, else the system's. */
  int (*read_file)(void *data, const char *path, size_t max, segue__bytes *out, segue_error *err);
  /* As read_file, for files that must be complete: UV_ETXTBSY while a program has the file open for
   * writing. NULL: read_file is used. */
  int (*read_whole)(void *data, const char *path, size_t max, segue__bytes *out, segue_error *err);
  /* Regular files that match a glob pattern ("conf.d/" followed by "*.{yaml,yml}", glob.h), sorted;
   * wildcards in the last part only (SEGUE_EUSAGE). Hidden names (leading dot) match only a pattern
   * that starts with a dot. A broken symbolic link is listed: reading it then reports an error,
   * where leaving it out would silently drop its content. No match is success with count 0; a
   * folder that is missing or unreadable is an error. */
  int (*list_files)(void *data, const char *pattern, segue__names *out, segue_error *err);
  /* UV_ENOSPC, UV_EROFS, UV_EBUSY (a mount point, which no rename can replace) and so on; whatever
   * fails, no temporary file stays behind. After a failed fsync of the folder the new file is in
   * place and only its durability is unknown. */
  int (*write_file)(void *data, const segue__write *w, segue_error *err);
  const char *(*getenv)(void *data, const char *name);
  char **(*environ)(void *data); /* NULL-terminated "NAME=value" array, borrowed */
  /* The permission bits of a file, through symbolic links; a negative code if they are not known.
   * May be NULL. */
  int (*file_mode)(void *data, const char *path, unsigned *mode);
  /* Reads a credential (token, key, certificate) from the disk, also where read_file returns stored
   * bytes; its bytes are not stored. NULL: read_file does. */
  int (*read_credential)(void *data, const char *path, size_t max, segue__bytes *out,
                         segue_error *err);
  /* See spawn.h. Control thread. */
  int (*spawn)(void *data, segue__loop *loop, const segue__spawn_options *options,
               segue__spawn **out, segue_error *err);
  /* See child.h. Control thread. */
  int (*start_child)(void *data, segue__loop *loop, const segue__child_options *options,
                     segue__child **out, segue_error *err);
} segue__os;

const segue__os *segue__os_default(void);
int segue__read_whole(const segue__os *os, const char *path, size_t max, segue__bytes *out,
                      segue_error *err);
int segue__read_credential(const segue__os *os, const char *path, size_t max, segue__bytes *out,
                           segue_error *err);

#endif
