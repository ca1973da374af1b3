/* SPDX-License-Identifier: MIT
 *
 * The owners in the book: which module has written each file, and what was there before. A module
 * that no longer declares a file, or is no longer declared itself, finds its files here, also in a
 * later process.
 */
#include <string.h>
#include <uv.h>

#include "../config/config.h"
#include "book_internal.h"

static const char *const owner_modes[] = {[SEGUE__REMOVED_KEEP] = "keep",
                                          [SEGUE__REMOVED_REMOVE] = "remove",
                                          [SEGUE__REMOVED_RESTORE] = "restore"};
static const char *const owner_parts[] = {
    [SEGUE__PART_FILE] = "file", [SEGUE__PART_LINK] = "link", [SEGUE__PART_MEMBER] = "member"};
enum {
  OWNER_MODES = sizeof owner_modes / sizeof *owner_modes,
  OWNER_PARTS = sizeof owner_parts / sizeof *owner_parts
};

static bool owner_same(const char *a, const char *b) {
  return a && b ? !strcmp(a, b) : a == b;
}

/* Without memory the older text stays. */
static bool owner_set(char **at, const char *text) {
  if (owner_same(*at, text)) return false;
  char *copy = segue__strdup(text);
  if (text && !copy) return false;
  segue__free(*at);
  *at = copy;
  return true;
}

void segue__file_book_own(segue__file_book *book, const char *path, const char *module,
                          segue__file_part part, segue__removed_mode removed, const char *before) {
  pthread_mutex_lock(&book->mutex);
  book_entry *entry = segue__book_find(book, path);
  if (entry) {
    bool first = !entry->known;
    if (first) book->changed |= owner_set(&entry->before, before);
    book->changed |= owner_set(&entry->owner, module) || entry->removed != removed;
    book->changed |= entry->part != part;
    entry->removed = removed;
    entry->part = part;
    /* The previous module may have settled later, and then it is entered as the owner again. */
    if (entry->module) (void)owner_set(&entry->module, module);
  }
  pthread_mutex_unlock(&book->mutex);
}

void segue__book_disown(book_entry *entry) {
  segue__free(entry->owner);
  segue__free(entry->before);
  entry->owner = entry->before = NULL;
  entry->removed = SEGUE__REMOVED_KEEP;
  entry->part = SEGUE__PART_FILE;
}

void segue__file_book_forget(segue__file_book *book, const char *path, const char *module) {
  pthread_mutex_lock(&book->mutex);
  book_entry *entry = segue__book_find(book, path);
  if (entry && owner_same(entry->owner, module)) {
    segue__book_disown(entry);
    entry->known = entry->accepts = entry->guarded = entry->drifted = entry->sure = false;
    book->changed = true;
  }
  pthread_mutex_unlock(&book->mutex);
}

/* ---- Lists ---- */

/* A file that another module has taken since is that module's. */
static bool owner_has(const book_entry *entry) {
  return entry->known && entry->owner && (!entry->module || !strcmp(entry->module, entry->owner));
}

static int owned_add(segue__owned_files *out, const book_entry *entry) {
  if (out->count == out->capacity) {
    size_t capacity = out->capacity ? out->capacity * 2 : 8;
    segue__owned_file *items = segue__realloc(out->items, capacity * sizeof *items);
    if (!items) return UV_ENOMEM;
    out->items = items;
    out->capacity = capacity;
  }
  segue__owned_file *item = &out->items[out->count++];
  *item = (segue__owned_file){.path = segue__strdup(entry->path),
                              .before = segue__strdup(entry->before),
                              .part = entry->part,
                              .removed = entry->removed};
  return item->path && (item->before || !entry->before) ? 0 : UV_ENOMEM;
}

int segue__file_book_owned(segue__file_book *book, const char *module, segue__owned_files *out) {
  int rc = 0;
  pthread_mutex_lock(&book->mutex);
  for (size_t i = 0; i < book->count && !rc; i++) {
    const book_entry *entry = &book->entries[i];
    if (owner_has(entry) && !strcmp(entry->owner, module)) rc = owned_add(out, entry);
  }
  pthread_mutex_unlock(&book->mutex);
  return rc;
}

void segue__owned_files_deinit(segue__owned_files *files) {
  for (size_t i = 0; i < files->count; i++) {
    segue__free(files->items[i].path);
    segue__free(files->items[i].before);
  }
  segue__free(files->items);
  *files = (segue__owned_files){0};
}

static bool owner_listed(const segue__names *names, const char *name) {
  for (size_t i = 0; i < names->count; i++)
    if (!strcmp(names->items[i], name)) return true;
  return false;
}

int segue__file_book_owners(segue__file_book *book, segue__names *out) {
  int rc = 0;
  pthread_mutex_lock(&book->mutex);
  for (size_t i = 0; i < book->count && !rc; i++) {
    const book_entry *entry = &book->entries[i];
    if (owner_has(entry) && !owner_listed(out, entry->owner))
      rc = segue__names_add(out, "", 0, entry->owner);
  }
  pthread_mutex_unlock(&book->mutex);
  return rc;
}

void segue__file_book_stay(segue__file_book *book, segue__names *modules) {
  pthread_mutex_lock(&book->mutex);
  segue__names_deinit(&book->staying);
  book->staying = *modules;
  book->passes = true;
  pthread_mutex_unlock(&book->mutex);
  *modules = (segue__names){0};
}

bool segue__book_leaves(const segue__file_book *book, const book_entry *entry) {
  return book->passes && !owner_listed(&book->staying, entry->module);
}

/* ---- In the record ---- */

static void owner_member(segue__buf *json, const char *name, const char *text) {
  segue__buf_addf(json, ",\"%s\":", name);
  segue__json_string(json, text, strlen(text));
}

void segue__book_write_owner(const book_entry *entry, segue__buf *json) {
  if (!entry->owner) return;
  owner_member(json, "module", entry->owner);
  owner_member(json, "removed", owner_modes[entry->removed]);
  if (entry->before) owner_member(json, "before", entry->before);
  if (entry->part) owner_member(json, "part", owner_parts[entry->part]);
}

static const char *owner_text(const segue_node *node, const char *name) {
  const char *text = NULL;
  return segue_node_string(segue_node_get(node, name), &text, NULL) ? NULL : text;
}

/* A record of an older version has no owners: nothing of it is ever dropped. */
int segue__book_read_owner(const segue_node *node, book_entry *entry) {
  const char *mode = owner_text(node, "removed"), *part = owner_text(node, "part");
  const char *owner = owner_text(node, "module"), *before = owner_text(node, "before");
  (void)owner_set(&entry->owner, owner);
  (void)owner_set(&entry->before, before);
  for (int i = 0; mode && i < OWNER_MODES; i++)
    if (!strcmp(mode, owner_modes[i])) entry->removed = (segue__removed_mode)i;
  for (int i = 0; part && i < OWNER_PARTS; i++)
    if (!strcmp(part, owner_parts[i])) entry->part = (segue__file_part)i;
  return owner_same(entry->owner, owner) && owner_same(entry->before, before) ? 0 : UV_ENOMEM;
}
