/* SPDX-License-Identifier: MIT
 *
 * history_internal.h: declarations that history.c, history_read.c and audit.c share.
 */
#ifndef SEGUE_RECORD_HISTORY_INTERNAL_H
#define SEGUE_RECORD_HISTORY_INTERNAL_H

#include <sqlite3.h>
#include <time.h>

#include "history.h"

typedef enum segue__history_statement {
  SEGUE__FIND_BLOB,
  SEGUE__ADD_BLOB,
  SEGUE__ADD_PART,
  SEGUE__ADD_FILE,
  SEGUE__ADD_DOCUMENT,
  SEGUE__ADD_CHANGE,
  SEGUE__ADD_GENERATION,
  SEGUE__ADD_RELOAD,
  SEGUE__HISTORY_STATEMENTS
} segue__history_statement;

struct segue__history {
  sqlite3 *db; /* NULL: the next use opens it */
  char *path;
  const segue__logger *log;
  segue__history_limits limits;
  sqlite3_stmt *statements[SEGUE__HISTORY_STATEMENTS];
  unsigned wait_ms;
  uint64_t added, audited;
  uint64_t checked_at_ns; /* time of the last check of all pages (uv_hrtime); 0: none */
  bool damaged;           /* a statement reported corruption */
  bool failed;            /* a statement failed for a reason that may be one of the connection */
};

/* Converts a result of SQLite to an error code, and stores damage. */
int segue__history_code(segue__history *h, int rc);
int segue__history_prepare(segue__history *h, sqlite3_stmt **out, const char *sql);
/* A prepared statement of the hot path. */
int segue__history_statement_get(segue__history *h, segue__history_statement which,
                                 sqlite3_stmt **out);
int segue__history_step(segue__history *h, sqlite3_stmt *stmt);

/* ---- history_blob.c: each content once, large ones as chunks that contents share ---- */
int segue__history_add_blob(segue__history *h, const void *data, size_t len, int64_t *id);
/* The bytes of a blob whose row has its data in a column and its id in another; *out is the
 * caller's, terminated past len. */
int segue__history_read_blob(segue__history *h, sqlite3_stmt *stmt, int data, int id, char **out,
                             size_t *len);
extern const char segue__history_parts[]; /* the schema */
/* Deletes the blobs that no generation has any more. */
extern const char segue__history_prune_blobs[];

bool segue__history_too_large(segue__history *h); /* than its limit allows */
/* Makes the connection usable, before each operation: opens the database again after an error and
 * where a transaction is still open, and starts a new one if it is damaged. No statement may be in
 * use. */
int segue__history_ready(segue__history *h);

#endif
