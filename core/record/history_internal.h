/* SPDX-License-Identifier: MIT
 *
 * history_internal.h: what history.c and history_read.c share.
 */
#ifndef SEGUE_RECORD_HISTORY_INTERNAL_H
#define SEGUE_RECORD_HISTORY_INTERNAL_H

#include <sqlite3.h>

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
  sqlite3 *db;
  char *path;
  const segue__logger *log;
  segue__history_limits limits;
  sqlite3_stmt *statements[SEGUE__HISTORY_STATEMENTS];
  unsigned wait_ms;
  uint64_t added, audited;
  bool damaged; /* a statement reported corruption: the file is set aside before the next use */
};

/* SQLite's code as ours; notes damage. */
int segue__history_code(segue__history *h, int rc);
int segue__history_prepare(segue__history *h, sqlite3_stmt **out, const char *sql);
bool segue__history_too_large(segue__history *h); /* than its limit allows */
/* Begins a new history beside the damaged one. */
int segue__history_set_aside(segue__history *h);

#endif
