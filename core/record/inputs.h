/* SPDX-License-Identifier: MIT
 *
 * inputs.h: the files that a run reads. This layer is between a run and the file system. It copies
 * each file that the run reads, so that the bytes stored later are the bytes that were validated,
 * even if the file has changed since. In a replay the run reads the stored bytes of an earlier run,
 * the policy included, and no file of the disk. Environment variables are not stored: each start
 * has them. Credentials are not stored either; a replay reads them from the disk, because a revoked
 * credential must not become valid again.
 */
#ifndef SEGUE_RECORD_INPUTS_H
#define SEGUE_RECORD_INPUTS_H

#include "../os/os.h"
#include "lazy_bytes.h"

/* Files as they were: sorted by path, each once, immutable. Counted. */
typedef struct segue__file {
  char *path, *data; /* data is terminated past len */
  size_t len;
  segue__lazy_bytes *lazy; /* a reference, instead of data; NULL: data is there */
} segue__file;
/* The bytes of a file, also of one whose bytes were not made yet: 0 or a negative code. */
int segue__file_bytes(const segue__file *file, const char **data, size_t *len);
typedef struct segue__files {
  long refs; /* atomic */
  segue__file *items;
  size_t count;
} segue__files;
/* From items that are the caller's until it succeeds: sorts, and of a path that is there twice the
 * later one stays. [any thread] */
int segue__files_new(segue__files **out, segue__file *items, size_t count);
segue__files *segue__files_ref(segue__files *files); /* [any thread]; NULL allowed */
void segue__files_unref(segue__files *files);        /* [any thread]; NULL allowed */
const segue__file *segue__files_find(const segue__files *files, const char *path);

typedef struct segue__inputs segue__inputs;

/* pass: paths that begin with it are neither copied nor replayed (the Lua half, which comes with
 * the program); NULL: none. */
int segue__inputs_new(segue__inputs **out, const segue__os *os, const char *pass);
void segue__inputs_free(
    segue__inputs *inputs); /* jobs that read through it keep it; NULL allowed */

/* The system interface that the loader and the engine read through. Its functions: [any thread]. */
const segue__os *segue__inputs_os(const segue__inputs *inputs);

/* Control thread. A run begins: frees the copies of the run before. files: the run replays them (a
 * reference is taken); NULL: it reads the real files. */
void segue__inputs_begin(segue__inputs *inputs, segue__files *files);
/* The run is over. */
void segue__inputs_end(segue__inputs *inputs);
/* Returns the inputs that the run has read so far, or that it replays, and stops copying until the
 * next run. UV_ENOMEM also if there was no memory for a copy during the run. */
int segue__inputs_take(segue__inputs *inputs, segue__files **out);
bool segue__inputs_replaying(segue__inputs *inputs); /* [any thread] */

/* Returns whether the value of a variable of the environment was read, at any time: by the policy
 * or by a document. [any thread] */
bool segue__inputs_asked(segue__inputs *inputs, const char *name, size_t len);

/* For what does not come from a file (a document of a remote source): kept under a key that is no
 * path, and read back in a replay. UV_ENOENT: no replay, or it has no such key. [any thread] */
void segue__inputs_keep(segue__inputs *inputs, const char *key, const void *data, size_t len);
/* The same for bytes that are made later; takes the reference. */
void segue__inputs_keep_lazy(segue__inputs *inputs, const char *key, segue__lazy_bytes *lazy);
int segue__inputs_kept(segue__inputs *inputs, const char *key, segue__bytes *out);

#endif
