/* SPDX-License-Identifier: MIT
 *
 * validate.h: the schema, and what is secret: one job off the loop.
 */
#ifndef SEGUE_RELOAD_VALIDATE_H
#define SEGUE_RELOAD_VALIDATE_H

#include "txn.h"

/* A schema as it was read. All borrowed. */
typedef struct segue__schema_text {
  segue__document *doc;
  segue__document *const *with;
  size_t with_count;
  const char *const *uris; /* of those; NULL: its name */
  bool formats;
  segue__limits limits;
} segue__schema_text;
/* Parses the documents that are not parsed yet, then compiles. On failure errors has the reason.
 * warnings: NULL allowed. */
int segue__schema_text_compile(const segue__schema_text *text, segue__schema **out,
                               segue__errors *errors, segue__errors *warnings);

/* Validates txn->next by txn->schema_doc, and finds out what of it is secret. */
typedef struct segue__validate_job {
  segue__job job;
  segue__txn *txn;
  void (*cb)(segue__txn *txn);
  segue__limits limits;
  bool formats, defaults;
  uint64_t time_ms;
  segue_snapshot *live; /* a reference, NULL: none */
  segue__document *doc; /* a reference each; NULL: the policy has no schema */
  segue__documents with;
  char **uris;             /* of those; NULL: its name */
  segue__hash schema_hash; /* of doc and with */
  segue__config *config;
  segue__mask *secrets;  /* the policy's */
  segue__schema *schema; /* NULL: to be compiled */
  /* out */
  bool filled;            /* config is another one now, with the defaults of the schema; */
  segue__changes changes; /* and this is what has changed */
  segue__mask *mask;      /* what of the config is secret; NULL: nothing */
  segue__errors errors, warnings;
  int lost; /* a failure without memory for its message */
} segue__validate_job;
int segue__validate_job_start(segue__txn *txn, void (*cb)(segue__txn *txn));
void segue__validate_job_free(segue__validate_job *validation);

#endif
