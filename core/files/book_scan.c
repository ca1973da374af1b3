/* SPDX-License-Identifier: MIT
 *
 * The scan of the book: which files are not as segue has written them last. The mutex is not held
 * while a file is read; entries are never removed, so an index stays the same entry.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <uv.h>

#include "book_internal.h"

enum { SURE_S = 2 };

void segue__file_book_guard(segue__file_book *book, const char *path, segue__drift_mode mode) {
  pthread_mutex_lock(&book->mutex);
  book_entry *entry = segue__book_find(book, path);
  if (entry) {
    entry->guarded = true;
    entry->mode = mode;
  }
  pthread_mutex_unlock(&book->mutex);
}

void segue__file_book_begin(segue__file_book *book, const char *path) {
  pthread_mutex_lock(&book->mutex);
  book_entry *entry = segue__book_find(book, path);
  if (entry) entry->busy++;
  pthread_mutex_unlock(&book->mutex);
}

void segue__file_book_end(segue__file_book *book, const char *path) {
  pthread_mutex_lock(&book->mutex);
  book_entry *entry = segue__book_find(book, path);
  if (entry && entry->busy) entry->busy--;
  pthread_mutex_unlock(&book->mutex);
}

static bool scan_wants(const book_entry *entry) {
  return entry->guarded && entry->known && entry->module;
}

/* Of a folder all names, because other programs may add files. */
static int scan_add_paths(segue__names *out, const book_entry *entry) {
  int rc = segue__names_add(out, "", 0, entry->path);
  if (rc || entry->part != SEGUE__PART_LINK) return rc;
  char *all = segue__folder_inside(entry->path, "{*,.*}");
  rc = all ? segue__names_add(out, "", 0, all) : UV_ENOMEM;
  segue__free(all);
  return rc;
}

int segue__file_book_paths(segue__file_book *book, segue__names *out) {
  int rc = 0;
  pthread_mutex_lock(&book->mutex);
  for (size_t i = 0; i < book->count && !rc; i++)
    if (scan_wants(&book->entries[i])) rc = scan_add_paths(out, &book->entries[i]);
  pthread_mutex_unlock(&book->mutex);
  return rc;
}

/* ---- One file ---- */

/* The kernel's clock for files has steps of some milliseconds: a second write within the step of
 * the first one leaves the same time. A time in the future is of a clock that was set back since,
 * and proves nothing either. */
bool segue__book_stamp_is_sure(const segue__file_stamp *stamp) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return stamp->changed.tv_sec + SURE_S < now.tv_sec;
}

/* Returns 0, or the reason why it cannot be read, which is a change too: a folder in its place. */
static int scan_read(const char *path, segue__file_version *found, segue__file_stamp *stamp,
                     bool *sure, segue_error *error) {
  segue__file_stamp after;
  int rc = segue__file_stamp_read(path, stamp);
  *sure = !rc && segue__book_stamp_is_sure(stamp);
  rc = segue__file_version_read(path, found, NULL, error);
  if (rc || segue__file_stamp_read(path, &after) || !segue__file_stamp_equal(stamp, &after))
    *sure = false;
  return rc;
}

static int scan_add(segue__drifts *out, const char *path, const book_entry *entry, bool fresh,
                    const char *how) {
  if (out->count == out->capacity) {
    size_t capacity = out->capacity ? out->capacity * 2 : 8;
    segue__drifted *items = segue__realloc(out->items, capacity * sizeof *items);
    if (!items) return UV_ENOMEM;
    out->items = items;
    out->capacity = capacity;
  }
  segue__drifted *item = &out->items[out->count];
  *item = (segue__drifted){.path = segue__strdup(path),
                           .module = segue__strdup(entry->module),
                           .mode = entry->mode,
                           .fresh = fresh};
  out->count++;
  if (!item->path || !item->module) return UV_ENOMEM;
  segue__buf text;
  segue__buf_init(&text);
  segue__buf_addf(&text, "%.*s", (int)sizeof item->how - 1, how);
  if (!text.failed) memcpy(item->how, text.data, text.len);
  segue__buf_deinit(&text);
  return 0;
}

typedef struct scan_look {
  char *path;
  segue__file_version found;
  segue__file_stamp stamp;
  bool sure, same; /* same: it was not read, because nothing has changed */
  int rc;
  segue_error error;
} scan_look;

/* The next scan finds the entry's version as a new one. */
static void scan_unfind(book_entry *entry) {
  entry->drifted = entry->sure = entry->accepts = false;
  segue__book_forget_folder(entry);
}

/* The mutex is held. An entry that a set writes now, or has written since the look began, is left
 * to the next scan. */
static int scan_decide(segue__file_book *book, book_entry *entry, scan_look *look,
                       segue__drifts *out) {
  char how[160];
  if (entry->busy || !scan_wants(entry)) return 0;
  if (segue__file_read_failed(look->rc)) return look->rc;
  if (!look->same) {
    bool fits = !look->rc &&
                (segue__file_version_equal(&look->found, &entry->version) ||
                 (entry->accepts && segue__file_version_equal(&look->found, &entry->accepted)));
    bool known = entry->drifted && segue__file_version_equal(&look->found, &entry->found);
    entry->stamp = look->stamp;
    entry->sure = look->sure;
    entry->found = look->found;
    entry->drifted = !fits;
    if (fits) return 0;
    if (look->rc == UV_EISDIR || look->rc == UV_EFTYPE)
      snprintf(how, sizeof how, "it was replaced by a %s",
               look->rc == UV_EISDIR ? "folder" : "device, pipe or socket");
    else if (look->rc)
      snprintf(how, sizeof how, "%.150s", look->error.message);
    else
      segue__file_version_explain(&entry->version, &look->found, how, sizeof how);
    if (entry->mode == SEGUE__DRIFT_ADOPT && !look->rc) {
      entry->accepts = book->changed = true;
      entry->accepted = look->found;
      entry->drifted = false;
    }
    int rc = scan_add(out, look->path, entry, !known, how);
    if (!rc) out->items[out->count - 1].no_file = look->rc == UV_EISDIR || look->rc == UV_EFTYPE;
    if (rc) scan_unfind(entry);
    return rc;
  }
  return entry->drifted ? scan_add(out, look->path, entry, false, "") : 0;
}

/* The mutex is held. A link that leads to another place has its own drift. */
static int scan_decide_folder(book_entry *entry, const char *path, const book_folder_look *look,
                              segue__drifts *out) {
  const segue__hash none = {0, 0};
  if (entry->busy || !scan_wants(entry) || entry->drifted) return 0;
  segue__hash state = look->same ? entry->folder_found : look->state;
  bool fresh = !segue__hash_equal(state, entry->folder_found);
  if (!look->same) entry->folder_stamp = look->stamp;
  if (!look->same) entry->folder_sure = look->sure;
  entry->folder_found = state;
  if (segue__hash_equal(state, none) || segue__hash_equal(state, entry->folder_adopted)) return 0;
  if (entry->mode == SEGUE__DRIFT_ADOPT) entry->folder_adopted = state;
  int rc = scan_add(out, path, entry, fresh, look->how);
  if (rc) scan_unfind(entry);
  return rc;
}

static int scan_folder(segue__file_book *book, size_t index, const char *path,
                       const segue__file_version *written, segue__drifts *out) {
  book_folder_look look;
  pthread_mutex_lock(&book->mutex);
  const book_entry *entry = &book->entries[index];
  bool wanted = entry->part == SEGUE__PART_LINK && scan_wants(entry), sure = entry->folder_sure;
  segue__file_stamp before = entry->folder_stamp;
  pthread_mutex_unlock(&book->mutex);
  if (!wanted) return 0;
  int rc = segue__book_folder_look(book, path, sure ? &before : NULL, &look);
  if (rc) return rc;
  pthread_mutex_lock(&book->mutex);
  if (segue__file_version_equal(written, &book->entries[index].version))
    rc = scan_decide_folder(&book->entries[index], path, &look, out);
  pthread_mutex_unlock(&book->mutex);
  return rc;
}

/* A scan that fails reports nothing: what it has found is found again by the next one. */
static void scan_forget(segue__file_book *book, const segue__drifts *found) {
  pthread_mutex_lock(&book->mutex);
  for (size_t i = 0; i < found->count; i++) {
    const char *path = found->items[i].path;
    book_entry *entry = path && found->items[i].fresh ? segue__book_find(book, path) : NULL;
    if (entry) scan_unfind(entry);
  }
  pthread_mutex_unlock(&book->mutex);
}

static int scan_all(segue__file_book *book, segue__drifts *out) {
  int rc = 0;
  size_t count = SIZE_MAX;
  for (size_t i = 0; i < count && !rc; i++) {
    scan_look look = {0};
    pthread_mutex_lock(&book->mutex);
    count = book->count;
    book_entry *entry = i < count ? &book->entries[i] : NULL;
    bool wanted = entry && scan_wants(entry);
    if (wanted) look.path = segue__strdup(entry->path);
    bool was_sure = wanted && entry->sure;
    segue__file_stamp before = wanted ? entry->stamp : look.stamp;
    segue__file_version written = wanted ? entry->version : look.found;
    pthread_mutex_unlock(&book->mutex);
    if (!wanted) continue;
    if (!look.path) return UV_ENOMEM;
    look.same = was_sure && !segue__file_stamp_read(look.path, &look.stamp) &&
                segue__file_stamp_equal(&look.stamp, &before);
    if (!look.same)
      look.rc = scan_read(look.path, &look.found, &look.stamp, &look.sure, &look.error);
    pthread_mutex_lock(&book->mutex);
    if (segue__file_version_equal(&written, &book->entries[i].version))
      rc = scan_decide(book, &book->entries[i], &look, out);
    pthread_mutex_unlock(&book->mutex);
    if (!rc) rc = scan_folder(book, i, look.path, &written, out);
    segue__free(look.path);
  }
  return rc;
}

int segue__file_book_scan(segue__file_book *book, segue__drifts *out) {
  int rc = scan_all(book, out);
  if (rc) scan_forget(book, out);
  return rc;
}

void segue__drifts_deinit(segue__drifts *drifts) {
  for (size_t i = 0; i < drifts->count; i++) {
    segue__free(drifts->items[i].path);
    segue__free(drifts->items[i].module);
  }
  segue__free(drifts->items);
  *drifts = (segue__drifts){0};
}
