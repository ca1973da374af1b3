/* SPDX-License-Identifier: MIT
 *
 * Reading the history: reloads, the files of a generation, what reloads changed, and the last
 * change of a value.
 */
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "file_fold.h"
#include "history_internal.h"

static int history_read_begin(segue__history *h, sqlite3_stmt **out, const char *sql) {
  *out = NULL;
  int rc = segue__history_ready(h);
  return rc ? rc : segue__history_prepare(h, out, sql);
}

static int history_read_end(sqlite3_stmt *stmt, int rc) {
  sqlite3_finalize(stmt);
  return rc;
}

static void add_column(segue__buf *out, sqlite3_stmt *stmt, int column) {
  segue__buf_add(out, sqlite3_column_text(stmt, column),
                 (size_t)sqlite3_column_bytes(stmt, column));
}

/* ---- Reloads --------------------------------------------------------------------------------- */

int segue__history_reloads(segue__history *h, uint64_t limit, uint64_t before, segue__buf *out) {
  sqlite3_stmt *stmt;
  int step, rc = history_read_begin(
                h, &stmt, "SELECT summary FROM reload WHERE id < ? ORDER BY id DESC LIMIT ?");
  if (rc) return rc;
  sqlite3_bind_int64(stmt, 1, before && before < INT64_MAX ? (int64_t)before : INT64_MAX);
  sqlite3_bind_int64(stmt, 2, limit < INT64_MAX ? (int64_t)limit : INT64_MAX);
  segue__buf_addc(out, '[');
  for (bool first = true; (step = sqlite3_step(stmt)) == SQLITE_ROW; first = false) {
    if (!first) segue__buf_addc(out, ',');
    add_column(out, stmt, 0);
  }
  segue__buf_addc(out, ']');
  rc = segue__history_code(h, step);
  return history_read_end(stmt, rc ? rc : out->failed ? UV_ENOMEM : 0);
}

int segue__history_reload(segue__history *h, uint64_t id, segue__buf *out) {
  sqlite3_stmt *stmt;
  int rc = history_read_begin(h, &stmt, "SELECT detail FROM reload WHERE id=?");
  if (rc) return rc;
  sqlite3_bind_int64(stmt, 1, (int64_t)id);
  int step = sqlite3_step(stmt);
  if (step == SQLITE_ROW) add_column(out, stmt, 0);
  rc = step == SQLITE_DONE ? UV_ENOENT : segue__history_code(h, step);
  return history_read_end(stmt, rc ? rc : out->failed ? UV_ENOMEM : 0);
}

/* ---- Generations ----------------------------------------------------------------------------- */

typedef struct list {
  segue__file *items;
  size_t count, capacity;
} list;

static void list_free(list *l) {
  for (size_t i = 0; i < l->count; i++) {
    segue__free(l->items[i].path);
    segue__free(l->items[i].data);
  }
  segue__free(l->items);
}

static int list_add(segue__history *h, list *l, sqlite3_stmt *stmt) {
  if (l->count == l->capacity) {
    size_t capacity = l->capacity ? l->capacity * 2 : 16;
    segue__file *items = segue__realloc(l->items, capacity * sizeof *items);
    if (!items) return UV_ENOMEM;
    l->items = items;
    l->capacity = capacity;
  }
  const char *path = (const char *)sqlite3_column_text(stmt, 0);
  segue__file file = {.path = segue__strdup(path)};
  int rc = file.path ? segue__history_read_blob(h, stmt, 1, 2, &file.data, &file.len) : UV_ENOMEM;
  if (rc) {
    segue__free(file.path);
    return rc;
  }
  l->items[l->count++] = file;
  return 0;
}

int segue__history_before(segue__history *h, uint64_t number, uint64_t *out) {
  sqlite3_stmt *stmt;
  int rc = history_read_begin(
      h, &stmt,
      "SELECT number FROM generation WHERE number < ? AND files ORDER BY number DESC "
      "LIMIT 1");
  if (rc) return rc;
  sqlite3_bind_int64(stmt, 1, number < INT64_MAX ? (int64_t)number : INT64_MAX);
  int step = sqlite3_step(stmt);
  *out = step == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(stmt, 0) : 0;
  rc = segue__history_code(h, step);
  return history_read_end(stmt, rc ? rc : *out ? 0 : UV_ENOENT);
}

/* Returns UV_ENOENT if the generation does not exist, or with_files and its files are unknown. */
static int history_read_known(segue__history *h, uint64_t generation, bool with_files) {
  sqlite3_stmt *stmt;
  int rc = history_read_begin(h, &stmt, "SELECT files FROM generation WHERE number=?");
  if (rc) return rc;
  sqlite3_bind_int64(stmt, 1, (int64_t)generation);
  int step = sqlite3_step(stmt);
  rc = segue__history_code(h, step);
  if (!rc && (step == SQLITE_DONE || (with_files && !sqlite3_column_int(stmt, 0)))) rc = UV_ENOENT;
  return history_read_end(stmt, rc);
}

int segue__history_files(segue__history *h, uint64_t generation, segue__files **out) {
  sqlite3_stmt *stmt;
  list l = {0};
  int step = SQLITE_DONE, rc = history_read_known(h, generation, true);
  *out = NULL;
  if (!rc)
    rc = history_read_begin(
        h, &stmt,
        "SELECT path, data, blob.id FROM file JOIN blob ON blob.id=file.blob WHERE generation=? "
        "ORDER BY path");
  if (rc) return rc;
  sqlite3_bind_int64(stmt, 1, (int64_t)generation);
  while (!rc && (step = sqlite3_step(stmt)) == SQLITE_ROW)
    rc = list_add(h, &l, stmt);
  if (!rc) rc = segue__history_code(h, step);
  if (!rc) rc = segue__files_new(out, l.items, l.count);
  if (rc) list_free(&l);
  return history_read_end(stmt, rc);
}

static int parse_document(segue__history *h, sqlite3_stmt *stmt, uint32_t id, segue__document **out,
                          segue_error *error) {
  size_t len;
  char *data;
  segue__format format;
  /* Older versions wrote a number; SQLite returns it as a text of one digit. */
  const char *name = (const char *)sqlite3_column_text(stmt, 2);
  if (!name || !segue__document_format_find(name, &format)) return UV_EINVAL;
  int rc = segue__history_read_blob(h, stmt, 3, 4, &data, &len);
  if (rc) return rc;
  rc = segue__document_new(out, id, (const char *)sqlite3_column_text(stmt, 0),
                           (const char *)sqlite3_column_text(stmt, 1), format, data, len);
  const segue__limits limits = {0};
  if (!rc) rc = segue__document_parse(*out, &limits, NULL, NULL, error);
  return rc;
}

typedef struct documents {
  segue__document **items;
  size_t count;
} documents;

static int documents_add(segue__history *h, documents *docs, sqlite3_stmt *stmt,
                         segue_error *error) {
  segue__document **items = segue__realloc(docs->items, (docs->count + 1) * sizeof *items);
  if (!items) return UV_ENOMEM;
  docs->items = items;
  items[docs->count] = NULL;
  int rc = parse_document(h, stmt, (uint32_t)docs->count + 1, &items[docs->count], error);
  if (items[docs->count]) docs->count++;
  return rc;
}

int segue__history_snapshot(segue__history *h, uint64_t generation, segue_snapshot **out,
                            segue_error *error) {
  sqlite3_stmt *stmt;
  documents docs = {0};
  segue__config *config = NULL;
  int step = SQLITE_DONE, rc = history_read_known(h, generation, false);
  *out = NULL;
  segue__errorf(error, rc, "%s", rc ? segue_strerror(rc) : "");
  if (!rc)
    rc = history_read_begin(
        h, &stmt,
        "SELECT source, name, format, data, blob.id FROM document JOIN blob ON blob.id="
        "document.blob WHERE generation=? ORDER BY position");
  if (rc) return rc;
  sqlite3_bind_int64(stmt, 1, (int64_t)generation);
  while (!rc && (step = sqlite3_step(stmt)) == SQLITE_ROW)
    rc = documents_add(h, &docs, stmt, error);
  if (!rc) rc = segue__history_code(h, step);
  if (!rc) rc = segue__config_merge(&config, docs.items, docs.count, error);
  if (!rc) rc = segue__snapshot_new(out, generation, config);
  segue__config_unref(config);
  for (size_t i = 0; i < docs.count; i++)
    segue__document_unref(docs.items[i]);
  segue__free(docs.items);
  return history_read_end(stmt, rc);
}

/* ---- Changed files --------------------------------------------------------------------------- */

/* The record thread writes the generations too, so a reload may wait for a question. The most work
 * that one makes: 16 MiB of JSON take some 0.2 s. */
enum { FOLD_GENERATIONS = 1000, FOLD_DETAIL = 16 << 20 };

typedef struct fold_work {
  segue__file_fold *fold;
  uint64_t last;    /* the generation that was added last; first: that of the older side */
  uint64_t missing; /* a generation whose files are not known; 0: none */
  size_t count, bytes;
} fold_work;

/* Each reload has the number of the generation that was live before it. A number newer than that of
 * the last row belongs to a generation without a row: its reload was never recorded, because the
 * disk was full or the process was killed. A missing number alone is no proof, because a generation
 * that was undone has used one. */
static bool fold_has_gap(fold_work *work, const segue_node *reload) {
  int64_t previous;
  if (segue_node_int(segue_node_get(reload, "previous"), &previous)) return false;
  if (previous < 0 || (uint64_t)previous <= work->last) return false;
  work->missing = (uint64_t)previous;
  return true;
}

/* Adds the files of one reload. */
static int fold_detail(fold_work *work, const char *detail, size_t len) {
  segue__document *doc = NULL;
  segue__file_changes changes = {0};
  work->bytes += len;
  if (++work->count > FOLD_GENERATIONS || work->bytes > FOLD_DETAIL) return SEGUE_ELIMIT;
  char *text = detail ? segue__strndup(detail, len) : NULL; /* NULL: no memory */
  if (!text) return UV_ENOMEM;
  int rc = segue__document_new(&doc, 0, "", "history", SEGUE__JSON, text, len);
  if (!rc) rc = segue__document_parse(doc, NULL, NULL, NULL, NULL);
  if (!rc && !fold_has_gap(work, &doc->root)) {
    rc = segue__file_changes_read(&changes, &doc->root);
    if (!rc) rc = segue__file_fold_add(work->fold, &changes);
  }
  segue__file_changes_deinit(&changes);
  segue__document_unref(doc);
  return rc;
}

static int fold_generations(segue__history *h, fold_work *work, sqlite3_stmt *stmt, uint64_t to) {
  int step = SQLITE_DONE, rc = 0;
  while (!rc && !work->missing && (step = sqlite3_step(stmt)) == SQLITE_ROW) {
    uint64_t number = (uint64_t)sqlite3_column_int64(stmt, 0);
    if (sqlite3_column_type(stmt, 1) == SQLITE_NULL)
      work->missing = number;
    else
      rc = fold_detail(work, (const char *)sqlite3_column_text(stmt, 1),
                       (size_t)sqlite3_column_bytes(stmt, 1));
    work->last = number;
  }
  if (!rc) rc = segue__history_code(h, step);
  if (!rc && !work->missing && work->last != to) work->missing = to;
  return rc;
}

/* A reload may be gone although its generation is there: their numbers have limits of their own.
 * The newest generation is missing while it waits to be confirmed. */
int segue__history_file_changes(segue__history *h, uint64_t from, uint64_t to, bool backward,
                                segue__file_changes *out, uint64_t *missing) {
  fold_work work = {.last = from};
  sqlite3_stmt *stmt = NULL;
  *out = (segue__file_changes){0};
  *missing = 0;
  int rc = segue__file_fold_new(&work.fold);
  if (rc) return rc;
  rc = history_read_begin(h, &stmt,
                          "SELECT number, detail FROM generation LEFT JOIN reload ON reload.id="
                          "generation.reload WHERE number > ? AND number <= ? ORDER BY number");
  if (!rc) {
    sqlite3_bind_int64(stmt, 1, (int64_t)from);
    sqlite3_bind_int64(stmt, 2, (int64_t)to);
    rc = history_read_end(stmt, fold_generations(h, &work, stmt, to));
  }
  *missing = work.missing;
  if (!rc && !work.missing) rc = segue__file_fold_finish(work.fold, backward, out);
  segue__file_fold_free(work.fold);
  return rc;
}

/* ---- Why ------------------------------------------------------------------------------------- */

size_t segue__history_parent(const char *path, size_t len) {
  bool quoted = false;
  size_t cut = 0;
  for (size_t i = 0; i < len; i++) {
    if (path[i] == '\\' && quoted) {
      i++;
    } else if (path[i] == '"') {
      quoted = !quoted;
    } else if (!quoted && i && (path[i] == '.' || path[i] == '[')) {
      cut = i;
    }
  }
  return cut;
}

typedef struct touch {
  int64_t generation;
  char path[512];
} touch;

/* Finds the newest row of a path, and stores it in best if it is newer. */
static int history_read_newest(segue__history *h, const char *path, size_t len, bool below,
                               uint64_t until, touch *best) {
  sqlite3_stmt *stmt;
  int rc = history_read_begin(
      h, &stmt,
      "SELECT generation, coalesce(what, path) FROM change WHERE path=?1 AND below=?2 "
      "AND generation <= ?3 ORDER BY generation DESC LIMIT 1");
  if (rc) return rc;
  sqlite3_bind_text(stmt, 1, path, (int)len, SQLITE_STATIC);
  sqlite3_bind_int(stmt, 2, below);
  sqlite3_bind_int64(stmt, 3, (int64_t)until);
  int step = sqlite3_step(stmt);
  if (step == SQLITE_ROW && sqlite3_column_int64(stmt, 0) > best->generation) {
    best->generation = sqlite3_column_int64(stmt, 0);
    snprintf(best->path, sizeof best->path, "%s", (const char *)sqlite3_column_text(stmt, 1));
  }
  return history_read_end(stmt, segue__history_code(h, step));
}

static int is_exact(segue__history *h, const touch *best, uint64_t until, bool *out) {
  sqlite3_stmt *stmt;
  int rc = history_read_begin(
      h, &stmt, "SELECT count(*) FROM generation WHERE more AND number > ?1 AND number <= ?2");
  if (rc) return rc;
  sqlite3_bind_int64(stmt, 1, best->generation);
  sqlite3_bind_int64(stmt, 2, (int64_t)until);
  int step = sqlite3_step(stmt);
  *out = step == SQLITE_ROW && !sqlite3_column_int64(stmt, 0);
  return history_read_end(stmt, segue__history_code(h, step));
}

static int add_reload_of(segue__history *h, int64_t generation, segue__buf *out) {
  sqlite3_stmt *stmt;
  int rc = history_read_begin(
      h, &stmt,
      "SELECT summary FROM generation JOIN reload ON reload.id=generation.reload WHERE "
      "number=?");
  if (rc) return rc;
  sqlite3_bind_int64(stmt, 1, generation);
  int step = sqlite3_step(stmt);
  if (step == SQLITE_ROW)
    add_column(out, stmt, 0);
  else
    segue__buf_adds(out, "null");
  return history_read_end(stmt, segue__history_code(h, step));
}

/* A value changes by a change of something in it (`below`), of itself, or of a map or list around
 * it, which adds or removes the value with it. So the newest row of all these paths is the answer;
 * min_len limits how far up the search goes. */
int segue__history_why(segue__history *h, const char *path, size_t min_len, uint64_t until,
                       segue__buf *out) {
  touch best = {0};
  bool exact = false;
  size_t len = strlen(path);
  if (until > INT64_MAX) until = INT64_MAX;
  int rc = history_read_newest(h, path, len, true, until, &best);
  for (; len && len >= min_len && !rc; len = segue__history_parent(path, len))
    rc = history_read_newest(h, path, len, false, until, &best);
  if (!rc && !best.generation) rc = UV_ENOENT;
  if (!rc) rc = is_exact(h, &best, until, &exact);
  if (rc) return rc;
  segue__buf_addf(out, "{\"generation\":%lld,\"path\":", (long long)best.generation);
  segue__json_string(out, best.path, strlen(best.path));
  segue__buf_addf(out, ",\"exact\":%s,\"reload\":", exact ? "true" : "false");
  rc = add_reload_of(h, best.generation, out);
  segue__buf_addc(out, '}');
  return rc ? rc : out->failed ? UV_ENOMEM : 0;
}
