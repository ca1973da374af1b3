/* SPDX-License-Identifier: MIT
 *
 * version.h: one version of a file: its bytes as a hash, its mode and its owner. Two versions are
 * compared by value, never by time or inode number: both change when a backup is restored, and
 * neither changes when a program writes the file in place within one tick of the clock.
 */
#ifndef SEGUE_FILES_VERSION_H
#define SEGUE_FILES_VERSION_H

#include "../config/tree.h"
#include "../os/os.h"

typedef enum segue__file_kind {
  SEGUE__FILE_NONE, /* there is no file; the other fields are 0 */
  SEGUE__FILE_REGULAR,
  SEGUE__FILE_LINK /* a symbolic link, which is not followed; the hash is of its target */
} segue__file_kind;

typedef struct segue__file_version {
  segue__file_kind kind;
  unsigned mode, uid, gid;
  uint64_t size;
  segue__hash hash;
} segue__file_version;

/* Writes how b differs from a, for messages: "its content was changed". */
void segue__file_version_explain(const segue__file_version *a, const segue__file_version *b,
                                 char *out, size_t size);

/* The largest file that may be replaced: undo has to be able to compare it. */
#define SEGUE__FILE_MAX ((size_t)256 << 20)

/* Reads the version of the file at `path`. *bytes, which may be NULL, gets the content of a regular
 * file (free bytes->data). err names the file and the remedy: UV_EISDIR a folder, UV_EFTYPE a
 * device, pipe or socket, SEGUE_ELIMIT too large, else the system's code. Blocks. [any thread] */
int segue__file_version_read(const char *path, segue__file_version *out, segue__bytes *bytes,
                             segue_error *err);
/* Whether rc, of such a read, is about this process (memory, descriptors) and not about the file.
 * Nothing is known of the file then: it must not count as one that differs or does not exist. */
bool segue__file_read_failed(int rc);
bool segue__file_version_equal(const segue__file_version *a, const segue__file_version *b);
/* As a JSON object, and back. Returns false if node is none. */
void segue__file_version_write(const segue__file_version *version, segue__buf *json);
bool segue__file_version_parse(const segue_node *node, segue__file_version *out);

#endif
