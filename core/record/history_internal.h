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
bool segue__history_too_large(segue__history *h); /* than its limit allows */
/* Makes the connection usable, before each operation: opens the database again after an error and
 * where a transaction is still open, and starts a new one if it is damaged. No statement may be in
 * use. */
int segue__history_ready(segue__history *h);

#endif
