/* SPDX-License-Identifier: MIT
 *
 * source.h: where configuration comes from. A source spec is plain data in a policy; its kind's
 * operations deliver documents. The built-in kinds file, dir, env and value read on the worker.
 *   file   one file; absent and optional: no document
 *   dir    the files that match folder/glob, sorted by byte value, a document each; a missing
 * folder is an error unless optional, no match is none env    one document of the variables whose
 * names begin with prefix: the rest, in lower case, split at separator, is the path; values get
 * their type by the YAML core schema value  the document that the policy built
 */
#ifndef SEGUE_SOURCE_SOURCE_H
#define SEGUE_SOURCE_SOURCE_H

#include "../config/tree.h"
#include "../os/os.h"

typedef struct segue__source segue__source;
typedef struct segue__documents {
  segue__document **items; /* a reference on each */
  size_t count, capacity;
} segue__documents;
void segue__documents_deinit(segue__documents *docs);
int segue__documents_add(segue__documents *docs, segue__document *doc); /* takes the reference */

/* A kind of source. */
typedef struct segue__source_kind {
  const char *name;
  /* Worker thread: delivers documents, not parsed (or built). `previous` holds the documents of the
   * last fetch: a kind that finds the same bytes hands the old document on (with a new reference),
   * and it is not parsed again. next_id numbers new documents. */
  int (*fetch)(const segue__source *source, const segue__os *os, const segue__limits *limits,
               const segue__documents *previous, uint32_t *next_id, segue__documents *out,
               segue_error *err);
  /* Paths whose change means that the source may have changed; appended, copied. */
  int (*watch)(const segue__source *source, segue__names *paths);
} segue__source_kind;

struct segue__source {
  const segue__source_kind *kind;
  char *name;          /* how errors and metrics call it: the path, "env APP_", "value" */
  char *path;          /* file: the file; dir: folder/glob */
  char *prefix;        /* env: prefix of the variable names */
  char *separator;     /* env: what splits a name into a path, default "__" */
  int format;          /* segue__format or -1: by extension (.json; else YAML) */
  uint64_t cpu_ms;     /* for a kind that computes: CPU time for one fetch, and memory; 0 = the */
  size_t memory_bytes; /* kind's own limit */
  bool optional;       /* absence is an empty document instead of an error */
  bool expand;         /* ${NAME} in values */
  segue__document *value; /* value: built by the policy */
};

/* "file", "dir", "env", "value"; NULL if there is no such kind. */
const segue__source_kind *segue__source_kind_find(const char *name);
void segue__source_deinit(segue__source *source);

#endif
