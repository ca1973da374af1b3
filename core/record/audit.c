/* SPDX-License-Identifier: MIT
 *
 * The audit rows of the history: the client and the request, for requests that change something and
 * for refused ones. A client that is refused can cause any number of rows: they have a bound of
 * their own, so that they cannot displace the others.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../os/fault.h"
#include "history_internal.h"

/* A tenth of the rows may be refusals, at least a hundred. Rows are removed with every 64th new
 * one.
 */
enum { REFUSED_PART = 10, REFUSED_LEAST = 100, AUDIT_PRUNE_EVERY = 64 };

static int audit_execute(segue__history *h, const char *sql) {
  return segue__history_code(h, sqlite3_exec(h->db, sql, NULL, NULL, NULL));
}

static int audit_insert(segue__history *h, const segue__audit *audit) {
  sqlite3_stmt *stmt = NULL;
  int rc = segue__history_prepare(h, &stmt,
                                  "INSERT INTO audit(wall_ms, who, peer, method, path, status, "
                                  "refused, reload, folded) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)");
  if (rc) return rc;
  sqlite3_bind_int64(stmt, 1, audit->wall_ms);
  if (audit->who[0]) sqlite3_bind_text(stmt, 2, audit->who, -1, SQLITE_STATIC);
  sqlite3_bind_text(stmt, 3, audit->peer, -1, SQLITE_STATIC);
  sqlite3_bind_text(stmt, 4, audit->method, -1, SQLITE_STATIC);
  sqlite3_bind_text(stmt, 5, audit->path, -1, SQLITE_STATIC);
  sqlite3_bind_int(stmt, 6, audit->status);
  sqlite3_bind_int(stmt, 7, audit->refused);
  if (audit->reload) sqlite3_bind_int64(stmt, 8, (int64_t)audit->reload);
  sqlite3_bind_int64(stmt, 9, (int64_t)audit->folded);
  int step = sqlite3_step(stmt);
  sqlite3_finalize(stmt);
  return segue__history_code(h, step);
}

/* The newest row always stays. */
static int audit_prune(segue__history *h, int64_t now_ms) {
  char sql[640];
  uint64_t most = h->limits.reloads, refused = most / REFUSED_PART;
  if (refused < REFUSED_LEAST) refused = REFUSED_LEAST;
  snprintf(sql, sizeof sql,
           "DELETE FROM audit WHERE NOT refused AND id <= (SELECT id FROM audit WHERE NOT refused "
           "ORDER BY id DESC LIMIT 1 OFFSET %" PRIu64 ");"
           "DELETE FROM audit WHERE refused AND id <= (SELECT id FROM audit WHERE refused ORDER BY "
           "id DESC LIMIT 1 OFFSET %" PRIu64 ");"
           "DELETE FROM audit WHERE wall_ms < %" PRId64 " AND id < (SELECT max(id) FROM audit)",
           most ? most : 1, refused, now_ms - (int64_t)h->limits.age_ms);
  int rc = audit_execute(h, sql);
  if (!rc && segue__history_too_large(h))
    rc = audit_execute(h,
                       "DELETE FROM audit WHERE id < (SELECT max(id) FROM audit) AND id <= (SELECT "
                       "min(id) + (max(id) - min(id)) / 10 FROM audit)");
  return rc;
}

int segue__history_add_audit(segue__history *h, const segue__audit *audit) {
  int rc = segue__history_ready(h);
  if (!rc) rc = SEGUE_FAULT("history.audit");
  if (!rc) rc = audit_insert(h, audit);
  if (!rc && h->audited++ % AUDIT_PRUNE_EVERY == 0) rc = audit_prune(h, audit->wall_ms);
  return rc;
}

/* ---- Reading --------------------------------------------------------------------------------- */

static void audit_add_text(segue__buf *out, const char *name, sqlite3_stmt *stmt, int column) {
  const char *text = (const char *)sqlite3_column_text(stmt, column);
  segue__buf_addf(out, ",\"%s\":", name);
  if (text)
    segue__json_string(out, text, (size_t)sqlite3_column_bytes(stmt, column));
  else
    segue__buf_adds(out, "null");
}

static void add_row(segue__buf *out, sqlite3_stmt *stmt) {
  segue__buf_addf(out, "{\"id\":%lld", (long long)sqlite3_column_int64(stmt, 0));
  audit_add_text(out, "at", stmt, 1);
  audit_add_text(out, "who", stmt, 2);
  audit_add_text(out, "peer", stmt, 3);
  audit_add_text(out, "method", stmt, 4);
  audit_add_text(out, "path", stmt, 5);
  segue__buf_addf(out, ",\"status\":%d,\"refused\":%s,\"reload\":", sqlite3_column_int(stmt, 6),
                  sqlite3_column_int(stmt, 7) ? "true" : "false");
  if (sqlite3_column_type(stmt, 8) == SQLITE_NULL)
    segue__buf_adds(out, "null");
  else
    segue__buf_addf(out, "%lld", (long long)sqlite3_column_int64(stmt, 8));
  segue__buf_addf(out, ",\"folded\":%lld}", (long long)sqlite3_column_int64(stmt, 9));
}

int segue__history_audits(segue__history *h, uint64_t limit, segue__buf *out) {
  sqlite3_stmt *stmt = NULL;
  int step, rc = segue__history_ready(h);
  if (!rc)
    rc = segue__history_prepare(
        h, &stmt,
        "SELECT id, strftime('%Y-%m-%dT%H:%M:%fZ', wall_ms / 1000.0, 'unixepoch'), who, peer, "
        "method, path, status, refused, reload, folded FROM audit ORDER BY id DESC LIMIT ?");
  if (rc) return rc;
  sqlite3_bind_int64(stmt, 1, limit < INT64_MAX ? (int64_t)limit : INT64_MAX);
  segue__buf_addc(out, '[');
  for (bool first = true; (step = sqlite3_step(stmt)) == SQLITE_ROW; first = false) {
    if (!first) segue__buf_addc(out, ',');
    add_row(out, stmt);
  }
  segue__buf_addc(out, ']');
  sqlite3_finalize(stmt);
  rc = segue__history_code(h, step);
  return rc ? rc : out->failed ? UV_ENOMEM : 0;
}
