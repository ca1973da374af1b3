/* SPDX-License-Identifier: MIT
 *
 * A key space: its places, and the changes that a store reports. Nothing here makes a document: a
 * change notes its place in the folder above, and space_take.c looks at the noted places only.
 */
#include "space.h"

#include <string.h>
#include <uv.h>

#include "space_internal.h"

enum { BUCKETS_MIN = 64 };

/* ---- Places ---------------------------------------------------------------------------------- */

/* One table for all folders: the folder is a part of the key. */
static size_t place_bucket(const segue__space *space, const space_place *up, uint32_t hash) {
  uint64_t mixed = ((uint64_t)(uintptr_t)up >> 4) * UINT64_C(0x9E3779B97F4A7C15) + hash;
  return (size_t)((mixed ^ mixed >> 32) & (space->bucket_count - 1));
}

static int places_grow(segue__space *space) {
  size_t count = space->bucket_count ? space->bucket_count * 2 : BUCKETS_MIN;
  size_t before = space->bucket_count;
  space_place **buckets = segue__calloc(count, sizeof(space_place *)), **old = space->buckets;
  if (!buckets) return before ? 0 : UV_ENOMEM; /* a full table is slow, and works */
  space->buckets = buckets;
  space->bucket_count = count;
  for (size_t i = 0; i < before; i++)
    for (space_place *next, *p = old[i]; p; p = next) {
      next = p->chain;
      size_t at = place_bucket(space, p->up, p->hash);
      p->chain = buckets[at];
      buckets[at] = p;
    }
  segue__free(old);
  return 0;
}

static space_place *place_find(const segue__space *space, const space_place *up, const char *name,
                               size_t len, uint32_t hash) {
  space_place *p = space->buckets[place_bucket(space, up, hash)];
  while (p &&
         (p->up != up || p->hash != hash || p->name_len != len || memcmp(p->name, name, len) != 0))
    p = p->chain;
  return p;
}

static space_place *place_new(space_place *up, const char *name, size_t len, uint32_t hash) {
  space_place *p = segue__calloc(1, sizeof *p + len + 1);
  if (!p) return NULL;
  p->block.tag = SPACE_PLACE;
  p->up = up;
  p->hash = hash;
  p->name_len = (uint32_t)len;
  memcpy(p->name, name, len);
  return p;
}

static space_folder *folder_new(space_place *own, uint32_t depth) {
  space_folder *folder = segue__calloc(1, sizeof *folder);
  if (!folder) return NULL;
  folder->own = own;
  folder->depth = depth;
  folder->map.type = folder->shown.type = SEGUE_MAP;
  return folder;
}

void space_folder_free(space_folder *folder) {
  segue__free(folder);
}

/* Finds or adds the child of a place. */
static space_place *place_get(segue__space *space, space_place *up, const char *name, size_t len) {
  uint32_t hash = (uint32_t)segue__key_hash(name, len).lo;
  space_place *p = place_find(space, up, name, len, hash);
  if (p) return p;
  if (space->place_count >= space->bucket_count && places_grow(space)) return NULL;
  if (!up->folder) up->folder = folder_new(up, up->up ? up->up->folder->depth + 1 : 0);
  if (!up->folder) return NULL;
  p = place_new(up, name, len, hash);
  if (!p) return NULL;
  size_t at = place_bucket(space, up, hash);
  p->chain = space->buckets[at];
  space->buckets[at] = p;
  space->place_count++;
  up->folder->places++;
  return p;
}

/* Takes a place without items and children out of the table. Its memory belongs to the caller. */
static void place_unlink(segue__space *space, space_place *place) {
  space_place **link = &space->buckets[place_bucket(space, place->up, place->hash)];
  while (*link != place)
    link = &(*link)->chain;
  *link = place->chain;
  space->place_count--;
  place->up->folder->places--;
}

void space_place_free(segue__space *space, space_place *place) {
  place_unlink(space, place);
  space_folder_free(place->folder);
  place->folder = NULL;
}

space_place *space_find_child(const segue__space *space, const space_place *up, const char *name) {
  size_t len = strlen(name);
  return place_find(space, up, name, len, (uint32_t)segue__key_hash(name, len).lo);
}

void space_note_folder(segue__space *space, space_folder *folder) {
  if (folder->dirty || folder == space->bad->folder) return;
  folder->dirty = true;
  folder->next = space->dirty[folder->depth];
  space->dirty[folder->depth] = folder;
  if (folder->depth > space->deepest) space->deepest = folder->depth;
}

void space_note(segue__space *space, space_place *place) {
  if (place->pending) return;
  space_folder *folder = place->up->folder;
  place->pending = true;
  place->next_pending = folder->pending;
  folder->pending = place;
  folder->pending_count++;
  space_note_folder(space, folder);
}

/* Finds the place of a key, or adds the folders and the place. NULL: no memory, or (add false) the
 * space has no such place. */
static space_place *place_of_key(segue__space *space, const char *key, size_t len, bool add) {
  space_route route = space_find_route(&space->rules, key, len);
  space_place *p = space->root;
  const char *part = key;
  size_t part_len = len, fixed = 0;
  if (route.where == SPACE_IGNORED || route.where == SPACE_MARKER) return NULL;
  for (;;) {
    if (route.where == SPACE_BAD_KEY) {
      p = space->bad;
    } else if (fixed < route.mount->at_count) {
      part = route.mount->at[fixed++];
      part_len = strlen(part);
    } else if (route.mount->whole || !space_next_part(&space->rules, &route, &part, &part_len)) {
      return p;
    }
    uint32_t hash = (uint32_t)segue__key_hash(part, part_len).lo;
    p = add ? place_get(space, p, part, part_len) : place_find(space, p, part, part_len, hash);
    if (!p || route.where == SPACE_BAD_KEY) return p;
  }
}

/* ---- Items ----------------------------------------------------------------------------------- */

static bool is_same_key(const space_item *item, const char *key, size_t len) {
  return item->key_len == len && !memcmp(item->text, key, len);
}

/* Whether a new version of a key has the same value. Then the old one stays, and with it the
 * revision that gave the value. */
static bool is_same_value(const space_item *a, const space_item *b) {
  if (a->wrong || b->wrong) return false;
  return segue__node_equal(&a->node, &b->node);
}

static void space_count_item(segue__space *space, const space_item *item, int sign) {
  space->keys += (uint64_t)sign;
  space->bytes += (uint64_t)sign * item->size;
  space->nodes += (uint64_t)sign * item->nodes;
}

/* An item that no document has is freed at once. */
static void item_drop(const segue__space *space, const space_place *place, space_item *item) {
  if (item != place->live) space_block_free(space->store, &item->block);
}

/* Removes the item of this key from its place. */
static void place_remove(segue__space *space, space_place *place, const char *key, size_t len) {
  space_item **link = &place->now;
  while (*link && !is_same_key(*link, key, len))
    link = &(*link)->beside;
  space_item *item = *link;
  if (!item) return;
  *link = item->beside;
  item->beside = NULL;
  space_count_item(space, item, -1);
  item_drop(space, place, item);
}

/* The root is in no folder, and with a value_key the value of a folder is a member of it. */
static void space_note_value(segue__space *space, space_place *place) {
  if (place->up) space_note(space, place);
  if (!place->up || (place->folder && space->rules.value_key))
    space_note_folder(space, place->folder);
}

/* Returns the item that stays. */
static space_item *place_put(segue__space *space, space_place *place, space_item *item) {
  space_item **link = &place->now;
  while (*link && !is_same_key(*link, item->text, item->key_len))
    link = &(*link)->beside;
  space_item *old = *link;
  if (!old && place->live && !place->now && is_same_key(place->live, item->text, item->key_len) &&
      is_same_value(place->live, item)) { /* deleted and written again, with the same value */
    old = place->now = place->live;
    space_count_item(space, old, 1);
  }
  if (old && is_same_value(old, item)) {
    old->revision = item->revision > old->revision ? item->revision : old->revision;
    space_item_free(item);
    return old;
  }
  item->beside = old ? old->beside : NULL;
  *link = item;
  space_count_item(space, item, 1);
  if (old) {
    old->beside = NULL;
    space_count_item(space, old, -1);
    item_drop(space, place, old);
  }
  space_note_value(space, place);
  return item;
}

static void space_set_marker(segue__space *space, space_item *item) {
  const space_item *old = space->marker;
  bool same = old && item && segue__node_equal(&old->node, &item->node) &&
              !strcmp(space_item_label(old), space_item_label(item));
  if (item && !same) space->marker_due = true;
  space_item_free(space->marker);
  space->marker = item;
}

static void space_remove_key(segue__space *space, const char *key, size_t len) {
  space_place *place = place_of_key(space, key, len, false);
  if (!place || !place->now) return;
  place_remove(space, place, key, len);
  space_note_value(space, place);
}

static const space_item *space_find_item(const segue__space *space, const char *key, size_t len) {
  const space_place *place =
      place_of_key((segue__space *)space, key, len, false); /* nothing is added */
  const space_item *item = place ? place->now : NULL;
  while (item && !is_same_key(item, key, len))
    item = item->beside;
  return item;
}

static bool space_has_room(const segue__space *space, const space_item *item) {
  const space_rules *rules = &space->rules;
  if (space->unlimited) return true;
  if (space->keys < rules->max_keys && item->size <= rules->max_bytes &&
      space->bytes <= rules->max_bytes - item->size)
    return true;
  const space_item *old = space_find_item(space, item->text, item->key_len);
  return old && item->size <= old->size;
}

int space_set_item(segue__space *space, space_item *item) {
  if (item->marker) {
    bool gone = item->removed;
    if (gone) space_item_free(item);
    space_set_marker(space, gone ? NULL : item);
    return 0;
  }
  if (item->removed || item->mark) { /* a folder mark has no value, and may replace one */
    space_remove_key(space, item->text, item->key_len);
    space_item_free(item);
    return 0;
  }
  if (!space_has_room(space, item)) {
    space->over = true;
    space_item_free(item);
    return 0;
  }
  space_place *place = place_of_key(space, item->text, item->key_len, true);
  if (!place) {
    space_item_free(item);
    return UV_ENOMEM;
  }
  place_put(space, place, item)->seen = space->reads;
  return 0;
}

/* ---- Changes --------------------------------------------------------------------------------- */

static void *log_copy(char **at, const char *text, size_t len) {
  char *copy = *at;
  if (len) memcpy(copy, text, len);
  *at += len;
  return text ? copy : NULL;
}

/* While a full read is under way, what changes is also logged: the read may be older. */
static int space_log_write(segue__space *space, const segue__space_write *w, bool prefix) {
  if (!space->open_reads) return 0;
  space_logged *entry = segue__malloc(sizeof *entry + w->key_len + w->value_len + w->revision_len);
  if (!entry) return UV_ENOMEM;
  char *at = (char *)(entry + 1);
  *entry = (space_logged){.write = *w, .prefix = prefix};
  entry->write.key = log_copy(&at, w->key, w->key_len);
  entry->write.value = log_copy(&at, w->value, w->value_len);
  entry->write.revision = log_copy(&at, w->revision, w->revision_len);
  if (space->log_last)
    space->log_last->next = entry;
  else
    space->log = entry;
  space->log_last = entry;
  return 0;
}

static void log_clear(segue__space *space) {
  for (space_logged *next, *entry = space->log; entry; entry = next) {
    next = entry->next;
    segue__free(entry);
  }
  space->log = space->log_last = NULL;
}

static int space_write(segue__space *space, const segue__space_write *w) {
  space_item *item;
  int rc = space_item_new(&item, &space->rules, space->document, w);
  if (!rc) rc = space_set_item(space, item);
  if (rc < 0) space->lost = true;
  return rc < 0 ? rc : 0;
}

static void space_lose(segue__space *space) {
  if (space->busy)
    space->log_lost = true;
  else
    space->lost = true;
}

/* While a worker applies a read, the log has the change: it is applied after the read. */
int segue__space_put(segue__space *space, const segue__space_write *write) {
  int logged = space_log_write(space, write, false);
  int rc = space->busy ? 0 : space_write(space, write);
  if (logged) space_lose(space);
  return rc ? rc : logged;
}

static bool item_below(const space_item *item, const char *prefix, size_t len) {
  return item->key_len >= len && !memcmp(item->text, prefix, len);
}

/* Removes the items of which `gone` is true. */
static void space_sweep(segue__space *space, bool (*gone)(const space_item *item, const void *data),
                        const void *data) {
  for (size_t i = 0; i < space->bucket_count; i++)
    for (space_place *p = space->buckets[i]; p; p = p->chain) {
      bool changed = false;
      for (space_item **link = &p->now; *link;) {
        space_item *item = *link;
        if (!gone(item, data)) {
          link = &item->beside;
          continue;
        }
        *link = item->beside;
        item->beside = NULL;
        space_count_item(space, item, -1);
        item_drop(space, p, item);
        changed = true;
      }
      if (changed) space_note_value(space, p);
    }
}

typedef struct prefix_text {
  const char *text;
  size_t len;
} prefix_text;

static bool gone_below(const space_item *item, const void *data) {
  const prefix_text *prefix = data;
  return item_below(item, prefix->text, prefix->len);
}

static void space_remove_below(segue__space *space, const char *prefix, size_t len) {
  const prefix_text text = {prefix, len};
  space_sweep(space, gone_below, &text);
  space_item *root = space->root->now;
  if (root && item_below(root, prefix, len)) space_remove_key(space, root->text, root->key_len);
  if (space->marker && item_below(space->marker, prefix, len)) space_set_marker(space, NULL);
}

int segue__space_delete_prefix(segue__space *space, const char *prefix, size_t len) {
  const segue__space_write w = {.key = prefix, .key_len = len, .removed = true};
  int rc = space_log_write(space, &w, true);
  if (rc) space_lose(space);
  if (!space->busy) space_remove_below(space, prefix, len);
  return rc;
}

/* ---- Full reads ------------------------------------------------------------------------------ */

int segue__space_begin(segue__space *space, segue__space_read **out) {
  *out = segue__calloc(1, sizeof **out);
  if (!*out) return UV_ENOMEM;
  (*out)->space = space;
  space->refs++;
  (*out)->after = space->log_last;
  space->open_reads++;
  return 0;
}

static void read_end(segue__space_read *read) {
  if (read->ended) return;
  read->ended = true;
  if (!--read->space->open_reads) log_clear(read->space);
}

int segue__space_read_put(segue__space_read *read, const segue__space_write *write) {
  const space_rules *rules = &read->space->rules;
  space_item *item;
  int rc = space_item_new(&item, rules, read->space->document, write);
  if (rc < 0) read->lost = true;
  if (rc) return rc < 0 ? rc : 0;
  if (read->keys >= rules->max_keys || item->size > rules->max_bytes ||
      read->bytes > rules->max_bytes - item->size) {
    read->over = true;
    space_item_free(item);
    return 0;
  }
  read->keys++;
  read->bytes += item->size;
  read->count++;
  if (read->last)
    read->last->beside = item;
  else
    read->items = item;
  read->last = item;
  return 0;
}

size_t segue__space_read_count(const segue__space_read *read) {
  return read->count;
}

void segue__space_read_free(segue__space_read *read) {
  if (!read) return;
  read_end(read);
  for (space_item *next, *item = read->items; item; item = next) {
    next = item->beside;
    space_item_free(item);
  }
  segue__space_close(read->space);
  segue__free(read);
}

static bool gone_unseen(const space_item *item, const void *data) {
  return item->seen != *(const uint32_t *)data;
}

static uint64_t revision_of_key(const segue__space *space, const char *key, size_t len) {
  if (space->marker && is_same_key(space->marker, key, len)) return space->marker->revision;
  const space_item *item = space_find_item(space, key, len);
  return item ? item->revision : 0;
}

/* Applies what came during the read. A change without a number as its revision counts: it came
 * later than the read began, and most likely after the page that has its key. */
static int log_replay(segue__space *space, const space_logged *after, uint64_t read_revision) {
  int rc = 0;
  const space_logged *entry = after ? after->next : space->log;
  for (; entry && !rc; entry = entry->next) {
    const segue__space_write *w = &entry->write;
    uint64_t number = space_revision_number(w->revision, w->revision_len);
    if (entry->prefix)
      space_remove_below(space, w->key, w->key_len);
    else if (!number ||
             (number > read_revision && number > revision_of_key(space, w->key, w->key_len)))
      rc = space_write(space, w);
  }
  return rc;
}

/* The limits were checked when the items were read: the old keys are still there. */
static int read_apply_items(segue__space *space, segue__space_read *read, bool *marker) {
  int rc = 0;
  space->unlimited = true;
  while (read->items && !rc) {
    space_item *item = read->items;
    read->items = item->beside;
    item->beside = NULL;
    *marker = *marker || item->marker;
    rc = space_set_item(space, item);
  }
  space->unlimited = false;
  return rc;
}

void segue__space_apply_start(segue__space *space) {
  space->shown = space->last ? segue__document_ref(space->last) : NULL;
  space->shown_keys = space->keys;
  space->shown_bytes = space->bytes;
  space->busy = true;
}

int segue__space_apply_run(segue__space *space, segue__space_read *read) {
  bool marker = false;
  space->reads++;
  int rc = read_apply_items(space, read, &marker);
  read->last = NULL;
  if (rc) {
    space->lost = true;
    return rc;
  }
  space->ready = true;
  space->lost = read->lost;
  space->over = read->over;
  if (!marker) space_set_marker(space, NULL);
  space_sweep(space, gone_unseen, &space->reads);
  const space_item *root = space->root->now;
  if (root && root->seen != space->reads) space_remove_key(space, root->text, root->key_len);
  return 0;
}

int segue__space_apply_end(segue__space *space, segue__space_read *read, const char *revision,
                           bool ran) {
  uint64_t number = ran && revision ? space_revision_number(revision, strlen(revision)) : 0;
  space->busy = false;
  segue__document_unref(space->shown);
  space->shown = NULL;
  space->lost = space->lost || space->log_lost;
  space->log_lost = false;
  int rc = log_replay(space, read->after, number);
  if (rc) space->lost = true;
  read_end(read);
  return rc;
}

int segue__space_apply(segue__space *space, segue__space_read *read, const char *revision) {
  segue__space_apply_start(space);
  int rc = segue__space_apply_run(space, read);
  int end = segue__space_apply_end(space, read, revision, true);
  return rc ? rc : end;
}

bool segue__space_is_busy(const segue__space *space) {
  return space->busy;
}

/* ---- The space ------------------------------------------------------------------------------- */

static int space_fill(segue__space *space, const segue__space_options *options, segue_error *err) {
  int rc = space_rules_init(&space->rules, options, err);
  if (rc) return rc;
  space->document = options->document;
  space->source = segue__strdup(options->source ? options->source : "");
  space->name = segue__strdup(options->name ? options->name : space->source);
  space->root = place_new(NULL, "", 0, 0);
  space->bad = place_new(NULL, "", 0, 0);
  if (space->root) space->root->folder = folder_new(space->root, 0);
  if (space->bad) space->bad->folder = folder_new(space->bad, 0);
  rc = space->source && space->name && space->root && space->bad && space->root->folder &&
               space->bad->folder
           ? places_grow(space)
           : UV_ENOMEM;
  if (!rc) rc = space_store_new(&space->store, space->rules.value_key);
  return rc ? segue__errorf(err, rc, "out of memory for a key space") : 0;
}

int segue__space_open(segue__space **out, const segue__space_options *options, segue_error *err) {
  *out = NULL;
  segue__space *space = segue__calloc(1, sizeof *space);
  if (!space) return segue__errorf(err, UV_ENOMEM, "out of memory for a key space");
  space->refs = 1;
  int rc = space_fill(space, options, err);
  if (rc) {
    segue__space_close(space);
    return rc;
  }
  *out = space;
  return 0;
}

int segue__space_set_source(segue__space *space, const char *source) {
  if (*space->source || space->busy) return 0;
  char *name = segue__strdup(source), *doc = segue__strdup(*space->name ? space->name : source);
  if (!name || !doc) {
    segue__free(name);
    segue__free(doc);
    return UV_ENOMEM;
  }
  segue__free(space->source);
  segue__free(space->name);
  space->source = name;
  space->name = doc;
  return 0;
}

/* Items and places that no document has are freed; the others go to `alive`. */
static void close_block(segue__space *space, space_block *block, space_blocks *alive) {
  if (space_birth(block))
    space_blocks_add(alive, block);
  else
    space_block_free(space->store, block);
}

static void close_folder(space_folder *folder, space_blocks *alive) {
  if (!folder) return;
  if (folder->map_block) space_blocks_add(alive, folder->map_block);
  if (folder->list_block) space_blocks_add(alive, folder->list_block);
  space_folder_free(folder);
}

static void close_place(segue__space *space, space_place *place, space_blocks *alive) {
  if (place->live) space_blocks_add(alive, &place->live->block);
  for (space_item *next, *item = place->now; item; item = next) {
    next = item->beside;
    item_drop(space, place, item);
  }
  close_folder(place->folder, alive);
  close_block(space, &place->block, alive);
}

segue__space *segue__space_ref(segue__space *space) {
  space->refs++;
  return space;
}

bool segue__space_is_shared(const segue__space *space) {
  return space->refs > 1;
}

void segue__space_close(segue__space *space) {
  space_blocks alive = {0};
  if (!space || --space->refs) return;
  for (size_t i = 0; i < space->bucket_count; i++)
    for (space_place *next, *p = space->buckets[i]; p; p = next) {
      next = p->chain;
      close_place(space, p, &alive);
    }
  if (space->root) close_place(space, space->root, &alive);
  if (space->bad) close_place(space, space->bad, &alive);
  if (space->store) space_store_close(space->store, &alive);
  segue__document_unref(space->last);
  space_item_free(space->marker);
  log_clear(space);
  segue__free(space->buckets);
  segue__free(space->source);
  segue__free(space->name);
  space_rules_deinit(&space->rules);
  segue__free(space);
}

uint64_t segue__space_count(const segue__space *space) {
  return space->busy ? space->shown_keys : space->keys;
}

uint64_t segue__space_bytes(const segue__space *space) {
  return space->busy ? space->shown_bytes : space->bytes;
}

bool segue__space_is_ready(const segue__space *space) {
  return space->ready;
}
