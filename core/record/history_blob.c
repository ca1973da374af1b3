/* SPDX-License-Identifier: MIT
 *
 * Contents of the history: files and documents, each stored once. A large content is stored as
 * chunks (chunks.h), which other contents share: 10,000 keys of which one has changed add one or
 * two chunks, and the list of all.
 */
#include <string.h>
#include <uv.h>

#include "chunks.h"
#include "history_internal.h"

/* More than the longest chunk, so that no chunk is a content with parts itself. */
enum { CHUNKED_LEAST = (32 << 10) + 1 };

/* Of version 3. The row of a content with parts has no data. */
const char segue__history_parts[] = "CREATE TABLE IF NOT EXISTS part(blob INTEGER NOT NULL, "
                                    "position INTEGER NOT NULL, chunk INTEGER NOT NULL,"
                                    " PRIMARY KEY(blob, position)) WITHOUT ROWID;";

const char segue__history_prune_blobs[] =
    "DELETE FROM part WHERE blob NOT IN (SELECT blob FROM file UNION SELECT blob FROM document);"
    "DELETE FROM blob WHERE id NOT IN (SELECT blob FROM file UNION SELECT blob FROM document"
    " UNION SELECT chunk FROM part)";

/* ---- Adding ---- */

/* Returns 1 with the id of the content if it is stored; otherwise the id is 0. */
static int find_blob(segue__history *h, const segue__hash *hash, int64_t *id) {
  sqlite3_stmt *stmt;
  *id = 0;
  int rc = segue__history_statement_get(h, SEGUE__FIND_BLOB, &stmt);
  if (rc) return rc;
  sqlite3_bind_blob(stmt, 1, hash, sizeof *hash, SQLITE_TRANSIENT);
  int found = sqlite3_step(stmt);
  if (found == SQLITE_ROW) *id = sqlite3_column_int64(stmt, 0);
  sqlite3_reset(stmt);
  rc = segue__history_code(h, found);
  return rc ? rc : found == SQLITE_ROW;
}

static int insert_blob(segue__history *h, const segue__hash *hash, const void *data, size_t len,
                       int64_t *id) {
  sqlite3_stmt *stmt;
  int rc = segue__history_statement_get(h, SEGUE__ADD_BLOB, &stmt);
  if (rc) return rc;
  sqlite3_bind_blob(stmt, 1, hash, sizeof *hash, SQLITE_TRANSIENT);
  sqlite3_bind_blob64(stmt, 2, len ? data : "", len, SQLITE_STATIC);
  rc = segue__history_step(h, stmt);
  sqlite3_clear_bindings(stmt);
  *id = sqlite3_last_insert_rowid(h->db);
  return rc;
}

static int add_part(segue__history *h, int64_t blob, int64_t position, const char *data,
                    size_t len) {
  sqlite3_stmt *stmt;
  int64_t chunk;
  segue__hash hash = segue__hash_bytes(data, len, (segue__hash){0, 0});
  int rc = find_blob(h, &hash, &chunk);
  if (!rc) rc = insert_blob(h, &hash, data, len, &chunk);
  if (rc < 0) return rc;
  rc = segue__history_statement_get(h, SEGUE__ADD_PART, &stmt);
  if (rc) return rc;
  sqlite3_bind_int64(stmt, 1, blob);
  sqlite3_bind_int64(stmt, 2, position);
  sqlite3_bind_int64(stmt, 3, chunk);
  return segue__history_step(h, stmt);
}

/* All of it is one transaction with the generation (segue__history_add): a content without some of
 * its parts is never stored. */
int segue__history_add_blob(segue__history *h, const void *data, size_t len, int64_t *id) {
  segue__chunker chunker;
  segue__hash hash = segue__hash_bytes(data, len, (segue__hash){0, 0});
  bool whole = len < CHUNKED_LEAST;
  int rc = find_blob(h, &hash, id);
  if (rc) return rc < 0 ? rc : 0;
  rc = insert_blob(h, &hash, data, whole ? len : 0, id);
  if (rc || whole) return rc;
  segue__chunker_init(&chunker, len, 0);
  const char *at = data, *end = at + len;
  for (int64_t position = 0; at < end && !rc; position++) {
    size_t n = segue__chunker_next(&chunker, at, (size_t)(end - at));
    rc = add_part(h, *id, position, at, n);
    at += n;
  }
  return rc;
}

/* ---- Reading ---- */

static int read_parts(segue__history *h, int64_t id, segue__buf *out) {
  sqlite3_stmt *stmt = NULL;
  int step = SQLITE_DONE;
  int rc = segue__history_prepare(h, &stmt,
                                  "SELECT data FROM part JOIN blob ON blob.id=part.chunk "
                                  "WHERE part.blob=? ORDER BY position");
  if (rc) return rc;
  sqlite3_bind_int64(stmt, 1, id);
  while ((step = sqlite3_step(stmt)) == SQLITE_ROW)
    segue__buf_add(out, sqlite3_column_blob(stmt, 0), (size_t)sqlite3_column_bytes(stmt, 0));
  rc = segue__history_code(h, step);
  sqlite3_finalize(stmt);
  return rc ? rc : out->failed ? UV_ENOMEM : 0;
}

int segue__history_read_blob(segue__history *h, sqlite3_stmt *stmt, int data, int id, char **out,
                             size_t *len) {
  const void *bytes = sqlite3_column_blob(stmt, data);
  segue__buf parts;
  *len = (size_t)sqlite3_column_bytes(stmt, data);
  *out = NULL;
  if (*len) {
    *out = segue__strndup(bytes ? bytes : "", *len);
    return *out ? 0 : UV_ENOMEM;
  }
  segue__buf_init(&parts);
  int rc = read_parts(h, sqlite3_column_int64(stmt, id), &parts);
  if (!rc) {
    *len = parts.len;
    *out = parts.data ? parts.data : segue__strndup("", 0);
    return *out ? 0 : UV_ENOMEM;
  }
  segue__buf_deinit(&parts);
  return rc;
}
