/* SPDX-License-Identifier: MIT
 *
 * schema.h: JSON Schema, draft 2020-12. A schema is compiled once from a parsed document and then
 * only read, from any thread; validation works on trees, so that every finding has the position in
 * the user's file. Nothing is ever fetched: a reference reaches the schema's own document, the
 * documents given beside it, and the metaschemas of the draft, which are built in. README.md of
 * this folder lists the supported and the refused keywords.
 */
#ifndef SEGUE_SCHEMA_H
#define SEGUE_SCHEMA_H

#include "../config/config.h"
#include "../config/path.h"

typedef struct segue__schema segue__schema;

typedef struct segue__schema_options {
  size_t size;
  /* `format` asserts. Off: it is an annotation, as the draft has it by default; only the formats of
   * our own notation (segue-duration, segue-bytesize) assert in either case. */
  bool formats;
  /* More schemas that references may name by their $id, and by where they would be got: bundle_uris
   * has one for each, NULL (or a NULL in it): the document's name. Parsed documents, borrowed until
   * the call returns (references are taken). */
  segue__document *const *bundle;
  const char *const *bundle_uris;
  size_t bundle_count;
  segue__errors *warnings; /* things that are allowed but probably mistakes; NULL: not wanted */
} segue__schema_options;

/* Compiles a parsed document (a reference is taken); options may be NULL. On failure everything
 * found is added to errors, each with keyword, path and position in the schema; SEGUE_ESCHEMA,
 * SEGUE_ELIMIT or UV_ENOMEM. One reference is returned. */
int segue__schema_new(segue__schema **out, segue__document *doc,
                      const segue__schema_options *options, segue__errors *errors);
/* All that it consists of: the first is that document. Borrowed. */
segue__document *const *segue__schema_documents(const segue__schema *schema, size_t *count);
segue__schema *segue__schema_ref(segue__schema *schema); /* [any thread] */
void segue__schema_unref(segue__schema *schema);         /* [any thread]; NULL allowed */

/* One breach. error is complete: code, file, line, column, path and message. */
typedef struct segue__finding {
  segue_error error;
  const char *keyword;     /* "maximum"; "" where a schema is just false */
  char *pointer;           /* JSON pointer of the value: "/upstreams/0/weight" */
  char *schema_path;       /* of the rule: "#/$defs/upstream/properties/weight/maximum" */
  const char *schema_file; /* where the rule stands; borrowed from the schema */
  uint32_t schema_line, schema_column;
} segue__finding;

/* Up to SEGUE__ERRORS_MAX are kept, all are counted. */
typedef struct segue__findings {
  segue__finding *items;
  size_t count, capacity, total;
} segue__findings;
void segue__findings_deinit(segue__findings *findings);

typedef struct segue__validate_options {
  size_t size;
  /* Where nodes come from, for file names: a merged config, or one document, or neither. */
  const segue__config *config;
  const segue__document *document;
  const struct segue__mask *mask; /* secrets besides those that the schema marks; NULL allowed */
  uint64_t steps;   /* of work: subschemas applied, members looked at; 0: 100 million */
  uint64_t time_ms; /* 0: 10 s */
} segue__validate_options;

/* Returns 0: valid. SEGUE_ESCHEMA: not valid; findings has the reasons. SEGUE_ELIMIT: too much work
 * or too deep (one finding names the place); UV_ENOMEM: in both cases the validity is not known. If
 * findings is NULL, validation ends at the first breach; else it must be zeroed. options may be
 * NULL. */
int segue__schema_validate(const segue__schema *schema, const segue_node *root,
                           segue__findings *findings, const segue__validate_options *options);

/* Returns whether the value at this path (or a value that contains it) is marked writeOnly by any
 * subschema that can apply to it. Conditions are taken as met: a value that may be a secret is one.
 * Returns true if memory runs out. */
bool segue__schema_secret(const segue__schema *schema, const segue__path *path);
/* Returns how many steps of the path lead to the topmost secret; -1: no secret is on the path.
 * Returns 0 if memory runs out. */
int segue__schema_secret_depth(const segue__schema *schema, const segue__path *path);

/* Makes a document whose root is `root` plus the defaults of `properties` for members that are
 * missing: through references, allOf and items, not through conditions. If two subschemas have a
 * default for one member, the first counts. Nodes of root and of the schema are shared: both must
 * outlive the document. A default has its position in the schema. SEGUE_ELIMIT: defaults contain
 * defaults without end. */
int segue__schema_defaults(const segue__schema *schema, const segue_node *root,
                           segue__document **out, segue_error *err);

#endif
