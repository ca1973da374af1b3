/* SPDX-License-Identifier: MIT
 *
 * The history in SQLite: opening it, adding to it, and keeping it small. history_read.c reads it.
 * All of it runs on the record thread.
 */
#include "history.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "../os/fault.h"
#include "history_internal.h"

enum { VERSION = 3, APPLICATION = 0x53454755, PRUNE_EVERY = 64 };
#define CHECK_AGAIN_NS UINT64_C(60000000000)

static const char schema[] =
    "CREATE TABLE blob(id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, data BLOB NOT NULL);"
    "CREATE TABLE reload(id INTEGER PRIMARY KEY, wall_ms INTEGER NOT NULL, outcome TEXT NOT NULL,"
    " summary TEXT NOT NULL, detail TEXT NOT NULL);"
    "CREATE TABLE generation(number INTEGER PRIMARY KEY, reload INTEGER NOT NULL,"
    " hash TEXT NOT NULL, input BLOB NOT NULL, wall_ms INTEGER NOT NULL,"
    " files INTEGER NOT NULL, more INTEGER NOT NULL);"
    "CREATE TABLE file(generation INTEGER NOT NULL, path TEXT NOT NULL, blob INTEGER NOT NULL,"
    " PRIMARY KEY(generation, path)) WITHOUT ROWID;"
    "CREATE TABLE document(generation INTEGER NOT NULL, position INTEGER NOT NULL,"
    " source TEXT NOT NULL, name TEXT NOT NULL, format TEXT NOT NULL, blob INTEGER NOT NULL,"
    " PRIMARY KEY(generation, position)) WITHOUT ROWID;"
    "CREATE INDEX reload_time ON reload(wall_ms);"
    "CREATE INDEX generation_more ON generation(number) WHERE more;"
    "CREATE TABLE change(path TEXT NOT NULL, below INTEGER NOT NULL, generation INTEGER NOT NULL,"
    " what TEXT, PRIMARY KEY(path, below, generation)) WITHOUT ROWID;"
    "CREATE INDEX change_generation ON change(generation);";

/* Of version 2. */
static const char schema_audit[] =
    "CREATE TABLE audit(id INTEGER PRIMARY KEY, wall_ms INTEGER NOT NULL, who TEXT,"
    " peer TEXT NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL, status INTEGER NOT NULL,"
    " refused INTEGER NOT NULL, reload INTEGER, folded INTEGER NOT NULL);"
    "CREATE INDEX audit_refused ON audit(id) WHERE refused;";

/* In change stands each path that a generation touched (below 0), and each path above it (below 1,
 * `what` is one that was touched): so the last touch of a value, or of anything in it, is found by
 * a look into the index, however many there were. */

/* ---- One statement --------------------------------------------------------------------------- */

/* Converts a result of SQLite; the low byte of an extended code is the primary one. Damage and
 * unknown errors are stored, because segue__history_ready must close the connection only when no
 * statement of it is in use. */
int segue__history_code(segue__history *h, int rc) {
  switch (rc & 0xFF) {
  case SQLITE_OK:
  case SQLITE_ROW:
  case SQLITE_DONE:
    return 0;
  case SQLITE_BUSY:
  case SQLITE_LOCKED:
    return UV_EBUSY;
  case SQLITE_NOMEM:
    return UV_ENOMEM;
  case SQLITE_FULL:
    return UV_ENOSPC;
  case SQLITE_READONLY:
    h->failed = true;
    return UV_EROFS;
  case SQLITE_CORRUPT:
  case SQLITE_NOTADB:
    h->damaged = true;
    return UV_EINVAL;
  default:
    h->failed = true;
    return UV_EIO;
  }
}

int segue__history_prepare(segue__history *h, sqlite3_stmt **out, const char *sql) {
  return segue__history_code(h, sqlite3_prepare_v2(h->db, sql, -1, out, NULL));
}

static int history_run(segue__history *h, const char *sql) {
  return segue__history_code(h, sqlite3_exec(h->db, sql, NULL, NULL, NULL));
}

/* SQLite ends the transaction by itself after some errors. */
static void roll_back(segue__history *h) {
  if (!sqlite3_get_autocommit(h->db) && SEGUE_FAULT("history.rollback") == 0)
    (void)history_run(h, "ROLLBACK");
}

static int history_number(segue__history *h, const char *sql, int64_t *out) {
  sqlite3_stmt *stmt = NULL;
  int rc = segue__history_prepare(h, &stmt, sql);
  if (rc) return rc;
  int step = sqlite3_step(stmt);
  *out = step == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : 0;
  sqlite3_finalize(stmt);
  return segue__history_code(h, step);
}

/* ---- Opening --------------------------------------------------------------------------------- */

static int make_tables(segue__history *h) {
  int64_t version = 0;
  int rc = history_number(h, "PRAGMA user_version", &version);
  if (rc) return rc;
  if (version == VERSION) return 0;
  if (version > VERSION) return UV_ENOTSUP;
  char sql[128];
  snprintf(sql, sizeof sql, "PRAGMA application_id=%d; PRAGMA user_version=%d; COMMIT", APPLICATION,
           VERSION);
  rc = history_run(h, "BEGIN IMMEDIATE");
  if (!rc && version < 1) rc = history_run(h, schema);
  if (!rc && version < 2) rc = history_run(h, schema_audit);
  if (!rc && version < 3) rc = history_run(h, segue__history_parts);
  if (!rc) rc = history_run(h, sql);
  if (rc) roll_back(h);
  return rc;
}

/* Creates the file before SQLite does, which would follow a symbolic link and give it the mode 0644
 * less the umask. The other files of the database get the mode of this one. */
static int make_file(const char *path) {
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return -errno;
  close(fd);
  return 0;
}

/* The statements are finalized first: sqlite3_close_v2 keeps a database with open statements open.
 */
static void close_database(segue__history *h) {
  for (size_t i = 0; i < SEGUE__HISTORY_STATEMENTS; i++) {
    sqlite3_finalize(h->statements[i]);
    h->statements[i] = NULL;
  }
  sqlite3_close_v2(h->db);
  h->db = NULL;
  h->failed = false;
}

/* Leaves h->db NULL on failure, so that the next use opens it again. NOMUTEX, because only the
 * record thread uses the connection. With WAL and synchronous=NORMAL a transaction costs no sync: a
 * killed process loses nothing, and a power failure loses the last rows at most and damages
 * nothing. The generation that a start serves is in another file (last_good.c), which is synced. */
static int open_database(segue__history *h) {
  int rc = SEGUE_FAULT("history.open");
  if (!rc) rc = make_file(h->path);
  if (!rc)
    rc = segue__history_code(
        h, sqlite3_open_v2(h->path, &h->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL));
  if (!rc) {
    sqlite3_extended_result_codes(h->db, 1);
    sqlite3_busy_timeout(h->db, (int)h->wait_ms);
    rc = history_run(h,
                     "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-1024;"
                     "PRAGMA foreign_keys=OFF; PRAGMA temp_store=MEMORY");
  }
  if (!rc) rc = make_tables(h);
  if (rc)
    close_database(h);
  else
    sqlite3_busy_timeout(h->db, 0); /* later the task is tried again (writer.c) */
  return rc;
}

/* Renames path + ending. Nothing happens without memory, or if there is no such file (the logs of
 * the database). */
static void rename_with(const char *path, const char *ending, const char *to) {
  segue__buf from, target;
  segue__buf_init(&from);
  segue__buf_init(&target);
  segue__buf_addf(&from, "%s%s", path, ending);
  segue__buf_addf(&target, "%s%s", to, ending);
  if (!from.failed && !target.failed) (void)rename(from.data, target.data);
  segue__buf_deinit(&from);
  segue__buf_deinit(&target);
}

/* Opens the database and reads all of it. Returns an error where that could not be decided, for
 * example because no descriptor is free. */
static int check_all_pages(segue__history *h, bool *is_whole) {
  sqlite3_stmt *stmt = NULL;
  *is_whole = false;
  int rc = open_database(h);
  if (!rc) rc = segue__history_prepare(h, &stmt, "PRAGMA quick_check(1)");
  if (!rc) {
    int step = sqlite3_step(stmt);
    const char *text = step == SQLITE_ROW ? (const char *)sqlite3_column_text(stmt, 0) : NULL;
    *is_whole = text && strcmp(text, "ok") == 0;
    rc = segue__history_code(h, step);
  }
  sqlite3_finalize(stmt);
  return h->damaged ? 0 : rc;
}

/* A damaged history is renamed, not deleted, so that an operator can inspect it. Its logs (-wal,
 * -shm) are renamed with it, because SQLite would apply them to the new database. */
static int start_again(segue__history *h) {
  char to[1024];
  snprintf(to, sizeof to, "%s.damaged", h->path); /* one, or a bad disk would be filled up */
  rename_with(h->path, "-wal", to);
  rename_with(h->path, "-shm", to);
  rename_with(h->path, "", to);
  SEGUE__LOG(h->log, SEGUE_ERROR, "record",
             "the history is damaged: it is renamed and started again; the live generation is not "
             "affected",
             SEGUE__FIELD("file", to));
  return open_database(h);
}

/* SQLite reports damage also where the disk once failed to read a page of a file that is whole. So
 * the file is opened and read again before it is renamed. A check of a large file takes seconds in
 * which the record thread writes nothing else, so damage that shows again within a minute counts
 * without one; it may also be of a kind that the check does not find. */
static int repair(segue__history *h) {
  bool is_whole = false;
  int rc = 0;
  const uint64_t now_ns = uv_hrtime();
  const bool was_checked = h->checked_at_ns && now_ns - h->checked_at_ns < CHECK_AGAIN_NS;
  close_database(h);
  h->damaged = false;
  if (!was_checked) {
    rc = check_all_pages(h, &is_whole);
    if (!rc) h->checked_at_ns = now_ns;
  }
  if (!rc && is_whole) {
    SEGUE__LOG(h->log, SEGUE_WARN, "record",
               "the history could not be read for a moment: it was opened again and is whole",
               SEGUE__FIELD("file", h->path));
    return 0;
  }
  close_database(h);
  h->damaged = rc != 0;
  return rc ? rc : start_again(h);
}

/* A transaction stays open where no memory was left for its ROLLBACK: closing the connection ends
 * it. */
int segue__history_ready(segue__history *h) {
  if (h->damaged) return repair(h);
  if (h->db && !h->failed && sqlite3_get_autocommit(h->db)) return 0;
  close_database(h);
  int rc = open_database(h);
  return rc == UV_ENOENT ? UV_EIO : rc; /* for a reader ENOENT means that it has no such entry */
}

/* Damage may show only when the numbers are read; it is repaired twice at most: the first time the
 * file may be whole, the second time it is a new one. */
int segue__history_open(segue__history **out, const segue__logger *log, const char *path,
                        unsigned wait_ms, uint64_t *generation, uint64_t *reload) {
  *out = NULL;
  segue__history *h = segue__calloc(1, sizeof *h);
  if (!h) return UV_ENOMEM;
  h->log = log;
  h->wait_ms = wait_ms;
  h->path = segue__strdup(path);
  segue__history_limit(h, &(segue__history_limits){0});
  int64_t last_generation = 0, last_reload = 0;
  int rc = h->path ? open_database(h) : UV_ENOMEM;
  for (int tries = 0; tries < 3 && (!rc || h->damaged); tries++) {
    if (!rc) rc = history_number(h, "SELECT max(number) FROM generation", &last_generation);
    if (!rc) rc = history_number(h, "SELECT max(id) FROM reload", &last_reload);
    if (!h->damaged) break;
    rc = repair(h);
  }
  if (rc) {
    segue__history_close(h);
    return rc;
  }
  h->wait_ms = 0; /* for the later times that it is opened */
  *generation = (uint64_t)last_generation;
  *reload = (uint64_t)last_reload;
  *out = h;
  return 0;
}

void segue__history_close(segue__history *h) {
  if (!h) return;
  close_database(h);
  segue__free(h->path);
  segue__free(h);
}

void segue__history_limit(segue__history *h, const segue__history_limits *limits) {
  h->limits = *limits;
  if (!h->limits.reloads) h->limits.reloads = SEGUE__HISTORY_RELOADS;
  if (!h->limits.generations) h->limits.generations = SEGUE__HISTORY_GENERATIONS;
  if (!h->limits.age_ms) h->limits.age_ms = SEGUE__HISTORY_AGE_MS;
  if (!h->limits.bytes) h->limits.bytes = SEGUE__HISTORY_BYTES;
}

/* ---- Adding ---------------------------------------------------------------------------------- */

/* Statements of the hot path are prepared once. */
static const char *const sqls[SEGUE__HISTORY_STATEMENTS] = {
    [SEGUE__FIND_BLOB] = "SELECT id FROM blob WHERE hash=?",
    [SEGUE__ADD_BLOB] = "INSERT INTO blob(hash, data) VALUES(?, ?)",
    [SEGUE__ADD_PART] = "INSERT INTO part VALUES(?, ?, ?)",
    [SEGUE__ADD_FILE] = "INSERT OR REPLACE INTO file VALUES(?, ?, ?)",
    [SEGUE__ADD_DOCUMENT] = "INSERT OR REPLACE INTO document VALUES(?, ?, ?, ?, ?, ?)",
    [SEGUE__ADD_CHANGE] = "INSERT OR IGNORE INTO change VALUES(?, ?, ?, ?)",
    [SEGUE__ADD_GENERATION] = "INSERT OR REPLACE INTO generation VALUES(?, ?, ?, ?, ?, ?, ?)",
    [SEGUE__ADD_RELOAD] = "INSERT OR REPLACE INTO reload VALUES(?, ?, ?, ?, ?)",
};

int segue__history_statement_get(segue__history *h, segue__history_statement which,
                                 sqlite3_stmt **out) {
  int rc = 0;
  if (!h->statements[which]) rc = segue__history_prepare(h, &h->statements[which], sqls[which]);
  *out = h->statements[which];
  if (!rc) sqlite3_reset(*out);
  return rc;
}

int segue__history_step(segue__history *h, sqlite3_stmt *stmt) {
  int rc = segue__history_code(h, sqlite3_step(stmt));
  sqlite3_reset(stmt);
  return rc;
}

static int history_add_files(segue__history *h, uint64_t generation, const segue__files *files) {
  int rc = 0;
  for (size_t i = 0; files && i < files->count && !rc; i++) {
    sqlite3_stmt *stmt;
    const char *data;
    size_t len;
    int64_t blob;
    rc = segue__file_bytes(&files->items[i], &data, &len);
    if (!rc) rc = segue__history_add_blob(h, data, len, &blob);
    if (!rc) rc = segue__history_statement_get(h, SEGUE__ADD_FILE, &stmt);
    if (rc) break;
    sqlite3_bind_int64(stmt, 1, (int64_t)generation);
    sqlite3_bind_text(stmt, 2, files->items[i].path, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 3, blob);
    rc = segue__history_step(h, stmt);
  }
  return rc;
}

/* A document that depends on the environment, or was built, is stored with its final content. */
static int add_document_bytes(segue__history *h, const segue__document *doc, int64_t *blob,
                              segue__format *format) {
  *format = doc->format;
  if (doc->data && !doc->expand) return segue__history_add_blob(h, doc->data, doc->len, blob);
  segue__buf text;
  segue__buf_init(&text);
  segue__json_write(&text, &doc->root, 0);
  *format = SEGUE__JSON;
  int rc = text.failed ? UV_ENOMEM : segue__history_add_blob(h, text.data, text.len, blob);
  segue__buf_deinit(&text);
  return rc;
}

static int add_document(segue__history *h, uint64_t generation, size_t position,
                        const segue__document *doc) {
  sqlite3_stmt *stmt;
  segue__format format;
  int64_t blob;
  int rc = add_document_bytes(h, doc, &blob, &format);
  if (!rc) rc = segue__history_statement_get(h, SEGUE__ADD_DOCUMENT, &stmt);
  if (rc) return rc;
  sqlite3_bind_int64(stmt, 1, (int64_t)generation);
  sqlite3_bind_int64(stmt, 2, (int64_t)position);
  sqlite3_bind_text(stmt, 3, doc->source, -1, SQLITE_STATIC);
  sqlite3_bind_text(stmt, 4, doc->name, -1, SQLITE_STATIC);
  sqlite3_bind_text(stmt, 5, segue__document_format_name(format), -1, SQLITE_STATIC);
  sqlite3_bind_int64(stmt, 6, blob);
  return segue__history_step(h, stmt);
}

/* A configuration with defaults of a schema is stored as one document with its final values,
 * because the schema is not among its documents. */
static int add_documents(segue__history *h, uint64_t generation, const segue__config *config) {
  if (config->filled) return add_document(h, generation, 0, config->filled);
  int rc = 0;
  for (size_t i = 0; i < config->document_count && !rc; i++)
    rc = add_document(h, generation, i, config->documents[i]);
  return rc;
}

/* Adds a row for the path; `what` is the path that was changed below it, or NULL if the path itself
 * was changed. */
static int history_add_change(segue__history *h, const char *path, size_t len, uint64_t generation,
                              const char *what) {
  sqlite3_stmt *stmt;
  int rc = segue__history_statement_get(h, SEGUE__ADD_CHANGE, &stmt);
  if (rc) return rc;
  sqlite3_bind_text(stmt, 1, path, (int)len, SQLITE_STATIC);
  sqlite3_bind_int(stmt, 2, what != NULL);
  sqlite3_bind_int64(stmt, 3, (int64_t)generation);
  sqlite3_bind_text(stmt, 4, what, -1, SQLITE_STATIC);
  rc = segue__history_step(h, stmt);
  sqlite3_clear_bindings(stmt);
  return rc;
}

static int reload_history_add_changes(segue__history *h, const segue__history_entry *entry,
                                      uint64_t generation) {
  int rc = 0;
  for (size_t i = 0; i < entry->path_count && !rc; i++) {
    const char *path = entry->paths[i];
    size_t len = strlen(path);
    rc = history_add_change(h, path, len, generation, NULL);
    while (!rc && (len = segue__history_parent(path, len)))
      rc = history_add_change(h, path, len, generation, path);
  }
  return rc;
}

static int add_generation(segue__history *h, const segue__history_entry *entry) {
  uint64_t number = entry->snapshot->generation;
  sqlite3_stmt *stmt;
  int rc = history_add_files(h, number, entry->files);
  if (!rc) rc = add_documents(h, number, entry->snapshot->config);
  if (!rc) rc = reload_history_add_changes(h, entry, number);
  if (!rc) rc = segue__history_statement_get(h, SEGUE__ADD_GENERATION, &stmt);
  if (rc) return rc;
  sqlite3_bind_int64(stmt, 1, (int64_t)number);
  sqlite3_bind_int64(stmt, 2, (int64_t)entry->id);
  sqlite3_bind_text(stmt, 3, entry->snapshot->hash, -1, SQLITE_STATIC);
  sqlite3_bind_blob(stmt, 4, &entry->input, sizeof entry->input, SQLITE_STATIC);
  sqlite3_bind_int64(stmt, 5, entry->wall_ms);
  sqlite3_bind_int(stmt, 6, entry->files != NULL);
  sqlite3_bind_int(stmt, 7, entry->more_paths);
  return segue__history_step(h, stmt);
}

static int add_reload(segue__history *h, const segue__history_entry *entry) {
  sqlite3_stmt *stmt;
  int rc = segue__history_statement_get(h, SEGUE__ADD_RELOAD, &stmt);
  if (rc) return rc;
  sqlite3_bind_int64(stmt, 1, (int64_t)entry->id);
  sqlite3_bind_int64(stmt, 2, entry->wall_ms);
  sqlite3_bind_text(stmt, 3, entry->outcome, -1, SQLITE_STATIC);
  sqlite3_bind_text(stmt, 4, entry->summary, -1, SQLITE_STATIC);
  sqlite3_bind_text(stmt, 5, entry->detail, -1, SQLITE_STATIC);
  return segue__history_step(h, stmt);
}

/* ---- Keeping it small ------------------------------------------------------------------------ */

static int64_t cut_by_count(segue__history *h, const char *table, const char *key, uint64_t keep) {
  char sql[160];
  int64_t cut = 0;
  snprintf(sql, sizeof sql, "SELECT %s FROM %s ORDER BY %s DESC LIMIT 1 OFFSET %" PRIu64, key,
           table, key, keep);
  return history_number(h, sql, &cut) ? 0 : cut;
}

/* Returns the key of the oldest entry within the age limit: the entries before it are deleted. A
 * clock that was wrong for a while so deletes no entry with a right time. */
static int64_t cut_by_age(segue__history *h, const char *table, const char *key, int64_t oldest) {
  char sql[192];
  int64_t first = 0, last = 0;
  snprintf(sql, sizeof sql,
           "SELECT %s FROM %s NOT INDEXED WHERE wall_ms >= %" PRId64 " ORDER BY %s LIMIT 1", key,
           table, oldest, key);
  if (history_number(h, sql, &first)) return 0;
  if (first) return first - 1;
  snprintf(sql, sizeof sql, "SELECT max(%s) FROM %s", key, table);
  return history_number(h, sql, &last) ? 0 : last;
}

bool segue__history_too_large(segue__history *h) {
  int64_t pages = 0, unused = 0, page = 0;
  if (history_number(h, "PRAGMA page_count", &pages) ||
      history_number(h, "PRAGMA freelist_count", &unused) ||
      history_number(h, "PRAGMA page_size", &page))
    return false;
  return (uint64_t)((pages - unused) * page) > h->limits.bytes;
}

/* Above the limit of bytes, a tenth of the generations and reloads is removed. */
static int64_t cut_by_size(segue__history *h, const char *table, const char *key) {
  int64_t count = 0;
  char sql[64];
  if (!segue__history_too_large(h)) return 0;
  snprintf(sql, sizeof sql, "SELECT count(*) FROM %s", table);
  if (history_number(h, sql, &count) || count < 2) return 0;
  return cut_by_count(h, table, key, (uint64_t)(count - count / 10 - 1));
}

static int64_t history_most(int64_t a, int64_t b) {
  return a > b ? a : b;
}

/* The newest generation and the newest reload always stay: the next process reads the highest
 * numbers from them. */
static int remove_upto(segue__history *h, int64_t generation, int64_t reload) {
  char sql[640];
  int64_t newest = 0, last = 0;
  int rc = history_number(h, "SELECT max(number) FROM generation", &newest);
  if (!rc) rc = history_number(h, "SELECT max(id) FROM reload", &last);
  if (rc) return rc;
  if (generation >= newest) generation = newest - 1;
  if (reload >= last) reload = last - 1;
  snprintf(sql, sizeof sql,
           "DELETE FROM file WHERE generation <= %" PRId64 ";"
           "DELETE FROM document WHERE generation <= %" PRId64 ";"
           "DELETE FROM change WHERE generation <= %" PRId64 ";"
           "DELETE FROM generation WHERE number <= %" PRId64 ";"
           "DELETE FROM reload WHERE id <= %" PRId64 ";",
           generation, generation, generation, generation, reload);
  rc = history_run(h, sql);
  if (!rc && generation > 0) rc = history_run(h, segue__history_prune_blobs);
  return rc;
}

static int history_prune(segue__history *h, int64_t now_ms) {
  int64_t oldest = now_ms - (int64_t)h->limits.age_ms;
  int64_t generation = history_most(cut_by_count(h, "generation", "number", h->limits.generations),
                                    history_most(cut_by_age(h, "generation", "number", oldest),
                                                 cut_by_size(h, "generation", "number")));
  int64_t reload = history_most(
      cut_by_count(h, "reload", "id", h->limits.reloads),
      history_most(cut_by_age(h, "reload", "id", oldest), cut_by_size(h, "reload", "id")));
  return generation || reload ? remove_upto(h, generation, reload) : 0;
}

/* Pruning costs several queries, so it runs after every PRUNE_EVERY additions; more often for a
 * small history, which would exceed its limit by a multiple otherwise. */
static bool time_to_prune(segue__history *h) {
  uint64_t every = PRUNE_EVERY;
  if (h->limits.reloads / 16 < every) every = h->limits.reloads / 16;
  if (h->limits.generations / 16 < every) every = h->limits.generations / 16;
  return h->added++ % (every ? every : 1) == 0;
}

/* IMMEDIATE takes the lock of the writer at once: if another process has it, the call fails before
 * any work is done. Everything is one transaction, so a kill leaves all rows of an entry or none.
 */
int segue__history_add(segue__history *h, const segue__history_entry *entry) {
  int rc = segue__history_ready(h);
  if (!rc) rc = SEGUE_FAULT("history.add");
  if (!rc) rc = history_run(h, "BEGIN IMMEDIATE");
  if (rc) return rc;
  rc = add_reload(h, entry);
  if (!rc && entry->snapshot) rc = add_generation(h, entry);
  if (!rc && time_to_prune(h)) rc = history_prune(h, entry->wall_ms);
  if (!rc) rc = SEGUE_FAULT("history.commit");
  if (!rc) rc = history_run(h, "COMMIT");
  if (rc) roll_back(h);
  return rc;
}
