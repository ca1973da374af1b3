/* SPDX-License-Identifier: MIT
 *
 * space.h: a key space: the keys of a store (etcd, Consul, Redis, ...) as one document that is
 * patched and never built again. A change costs its path in the tree and one copy of each folder on
 * it; all other subtrees are shared with the documents before. Documents are immutable and may be
 * freed on any thread; a space itself is used by one thread at a time.
 */
#ifndef SEGUE_SOURCE_SPACE_H
#define SEGUE_SOURCE_SPACE_H

#include "../config/tree.h"

typedef struct segue__space segue__space;

/* The type of a value. SCALAR: the type whose text is the same (42, true, 1.5), else a string. YAML
 * and JSON: the value is a document of any type. */
typedef enum segue__space_values {
  SEGUE__SPACE_SCALAR,
  SEGUE__SPACE_TEXT,
  SEGUE__SPACE_YAML,
  SEGUE__SPACE_JSON
} segue__space_values;

/* The keys below a prefix, and where they are in the tree: "" (the root) or "db.main". whole: this
 * one key, whose value is a document. Keys below no prefix do not count. The longest prefix
 * applies. */
typedef struct segue__space_mount {
  const char *prefix, *at;
  bool whole;
} segue__space_mount;

/* All texts are copied. Zero fields mean the default. */
typedef struct segue__space_options {
  size_t size;
  uint32_t document;                /* id of the documents: all of a space have one id */
  const char *source;               /* name of the source */
  const char *name;                 /* of the documents, for messages; default: source */
  const segue__space_mount *mounts; /* at least one */
  size_t mount_count;
  const char *at;        /* where all of it is in the tree */
  const char *separator; /* of the parts of a key; default "/" */
  segue__space_values values;
  bool by_suffix;        /* keys that end in .yaml, .yml or .json hold documents */
  const char *value_key; /* where the value of a key is that is a folder, too; NULL: refused */
  bool lists;            /* a folder of the keys 0 to n-1 is a list */
  bool base64;           /* a value that is not text is kept as base64; false: refused */
  const char *const *include, *const *exclude; /* patterns of the key behind its prefix */
  size_t include_count, exclude_count;
  const char *commit; /* this key, when it changes, takes up what came; it is not in the tree */
  uint64_t max_keys;  /* 1,000,000 */
  uint64_t max_bytes; /* of keys and values; 128 MiB */
} segue__space_options;

/* SEGUE_EUSAGE: an option is wrong. */
int segue__space_open(segue__space **out, const segue__space_options *options, segue_error *err);
/* The name of the source, for a space that was opened without one. */
int segue__space_set_source(segue__space *space, const char *source);
segue__space *segue__space_ref(segue__space *space);
/* Drops a reference; the last one frees the space. Its documents stay valid. NULL allowed. O(keys).
 */
void segue__space_close(segue__space *space);
/* Whether there is another reference. If not, any thread may drop the last one. */
bool segue__space_is_shared(const segue__space *space);

/* A report of a store about one key. Texts need not be terminated. */
typedef struct segue__space_write {
  const char *key, *value, *revision; /* value NULL: a folder mark; revision may be NULL */
  size_t key_len, value_len, revision_len;
  bool removed; /* the key is gone; it has no value */
} segue__space_write;

/* Changes. They are in the next document. A key that cannot become a part of the tree is no
 * failure here: segue__space_take refuses. UV_ENOMEM: the space lacks the change, and it refuses
 * until everything was read again. */
int segue__space_put(segue__space *space, const segue__space_write *write);
/* O(keys). */
int segue__space_delete_prefix(segue__space *space, const char *prefix, size_t len);

/* A full read. Its keys are collected without touching the space, on any thread; `apply` makes them
 * everything that the space has, in one step. Changes that came since `begin` are newer than the
 * read, and are applied once more on top of it: those whose revision is a number that is not above
 * `revision`, or not above that of the key, are part of the read and do not count. */
typedef struct segue__space_read segue__space_read;
int segue__space_begin(segue__space *space, segue__space_read **out);
int segue__space_read_put(segue__space_read *read, const segue__space_write *write);
int segue__space_apply(segue__space *space, segue__space_read *read, const char *revision);
void segue__space_read_free(segue__space_read *read); /* applied or not; NULL allowed */
size_t segue__space_read_count(const segue__space_read *read);
/* The same in three steps: `run` may be on a worker. Between
 * `start` and `end` the space may only get changes, which wait, and be taken: that gives the
 * document before. end: ran is whether `run` was called. */
void segue__space_apply_start(segue__space *space);
int segue__space_apply_run(segue__space *space, segue__space_read *read);
int segue__space_apply_end(segue__space *space, segue__space_read *read, const char *revision,
                           bool ran);
/* Makes the next document ahead, for `run`: what the next segue__space_take then returns. */
void segue__space_prepare(segue__space *space);
bool segue__space_is_busy(const segue__space *space);

/* A bulk answer of a server: a list of records, each with the key, the value and so on at these
 * paths ("kv.mod_revision"). A field that is NULL is in no record. A value that is missing is
 * empty; one that is no string is its JSON text. */
typedef struct segue__space_format {
  size_t size;
  const char *list; /* path of the list; "": the answer. A map there is the only record */
  const char *key, *value, *revision;
  const char *all_revision; /* path of one revision for all records, from the top */
  bool key_base64, value_base64;
  const char *prefix; /* goes before each key */
  /* Instead of key and value: the record has a map of keys to values at this path, and the name of
   * the record, with a separator, goes before each key. */
  const char *map, *within;
  /* A record is a removal if it has this text at that path. */
  const char *removed, *removed_is;
} segue__space_format;
/* Into a full read, or (read NULL) as changes of the space. *count: how many records; last_key, if
 * not NULL, gets the last one's key, owned by the caller. */
int segue__space_parse(segue__space *space, segue__space_read *read,
                       const segue__space_format *format, const segue_node *answer, size_t *count,
                       segue__buf *last_key, segue_error *err);

/* The document of everything that the space has; the same one as the last time if nothing has
 * changed, or if the key of options.commit has not. The caller gets a reference. On failure nothing
 * is taken, *out is NULL, and err names the first keys that are refused. */
int segue__space_take(segue__space *space, segue__document **out, segue_error *err);
/* A document in the place of one that segue__space_take refused: a run that uses it is rejected
 * with this error. */
int segue__space_refusal(const segue__space *space, const segue_error *error,
                         segue__document **out);

uint64_t segue__space_count(const segue__space *space); /* keys */
uint64_t segue__space_bytes(const segue__space *space); /* of keys and values */
/* Whether everything was read once: before, what the space lacks is not known to be gone. */
bool segue__space_is_ready(const segue__space *space);
/* Whether a change waits for the next document. */
bool segue__space_dirty(const segue__space *space);

#endif
