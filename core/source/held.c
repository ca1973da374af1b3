/* SPDX-License-Identifier: MIT
 *
 * The delivery that is held of each source: where it comes from (a fetch, a push, a delta, the
 * cache of a generation), and what a run takes of it. Each delivery goes through segue__held_take.
 */
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "../os/fault.h"
#include "sources_internal.h"

static bool same_bytes(const segue__document *a, const segue__document *b) {
  if (a->format != b->format || strcmp(a->name, b->name) != 0) return false;
  if (a->format == SEGUE__BUILT) return segue__hash_equal(a->hash, b->hash);
  return a->len == b->len && !memcmp(a->data, b->data, a->len);
}

static bool same_list(const segue__documents *a, const segue__documents *b) {
  if (a->count != b->count) return false;
  for (size_t i = 0; i < a->count; i++)
    if (a->items[i] != b->items[i]) return false;
  return true;
}

/* ---- Documents by name ---- */

static int name_order(const void *a, const void *b) {
  const segue__document *const *x = a, *const *y = b;
  return strcmp((*x)->name, (*y)->name);
}

static bool is_in_order(const segue__documents *documents) {
  for (size_t i = 1; i < documents->count; i++)
    if (strcmp(documents->items[i - 1]->name, documents->items[i]->name) >= 0) return false;
  return true;
}

/* Returns the first place in a list in the order of names where `name` may stand. */
static size_t name_place(const segue__documents *documents, const char *name) {
  size_t from = 0, to = documents->count;
  while (from < to) {
    size_t middle = from + (to - from) / 2;
    if (strcmp(documents->items[middle]->name, name) < 0)
      from = middle + 1;
    else
      to = middle;
  }
  return from;
}

static bool is_at(const segue__documents *documents, size_t i, const char *name) {
  return i < documents->count && !strcmp(documents->items[i]->name, name);
}

/* An index of the held documents by name: a source with 10,000 documents would cost 50 million
 * comparisons a delivery if each name was searched from the start of the list. The references
 * belong to the held list, which is the index itself if its names are in order. */
static int index_init(segue__documents *index, const segue__held *held) {
  *index = held->documents;
  index->capacity = 0;
  if (held->in_order || !held->documents.count) return 0;
  size_t bytes = held->documents.count * sizeof *index->items;
  index->items = segue__malloc(bytes);
  if (!index->items) return UV_ENOMEM;
  memcpy(index->items, held->documents.items, bytes);
  qsort(index->items, index->count, sizeof *index->items, name_order);
  index->capacity = index->count;
  return 0;
}

static void index_deinit(segue__documents *index) {
  if (index->capacity) segue__free(index->items);
}

static segue__document *index_find(const segue__documents *index, const segue__document *like) {
  for (size_t i = name_place(index, like->name); is_at(index, i, like->name); i++)
    if (same_bytes(index->items[i], like)) return index->items[i];
  return NULL;
}

/* ---- Deltas ---- */

/* A new document gets its id when it is parsed. A source in C does not know the name that messages
 * use for it. */
static int held_prepare(const segue__source_state *state, segue__document *doc) {
  if (doc->format != SEGUE__BUILT) doc->id = 0;
  if (*doc->source) return 0;
  char *name = segue__strdup(state->name);
  if (!name) return UV_ENOMEM;
  segue__free(doc->source);
  doc->source = name;
  return 0;
}

/* Puts a document in the place that its name has in the order of names, for that of an older one.
 * A document with the same bytes stays: a run may read it on the worker at this moment. */
static int delta_put(const segue__source_state *state, segue__documents *documents,
                     segue__document *doc) {
  size_t i = name_place(documents, doc->name);
  bool replaces = is_at(documents, i, doc->name);
  if (replaces && same_bytes(documents->items[i], doc)) return 0;
  int rc = held_prepare(state, doc);
  if (rc) return rc;
  if (replaces) {
    segue__document_unref(documents->items[i]);
    documents->items[i] = segue__document_ref(doc);
    return 0;
  }
  rc = segue__documents_add(documents, segue__document_ref(doc));
  if (rc) return rc;
  memmove(documents->items + i + 1, documents->items + i,
          (documents->count - 1 - i) * sizeof *documents->items);
  documents->items[i] = doc;
  return 0;
}

static void delta_remove(segue__documents *documents, const char *name) {
  size_t i = name_place(documents, name);
  if (!is_at(documents, i, name)) return;
  segue__document_unref(documents->items[i]);
  documents->count--;
  memmove(documents->items + i, documents->items + i + 1,
          (documents->count - i) * sizeof *documents->items);
}

/* The documents that are held, with the changes of a delta. */
static int delta_apply(const segue__source_state *state, const segue__emission *delivery,
                       segue__documents *out) {
  int rc = segue__documents_copy(out, &state->held.documents);
  for (size_t i = 0; i < delivery->removed.count && !rc; i++)
    delta_remove(out, delivery->removed.items[i]);
  for (size_t i = 0; i < delivery->documents.count && !rc; i++)
    rc = delta_put(state, out, delivery->documents.items[i]);
  return rc;
}

/* The documents of a delivery of everything. The same bytes keep their document, which is parsed
 * already. */
static int whole_apply(const segue__source_state *state, const segue__emission *delivery,
                       segue__documents *out) {
  segue__documents index;
  int rc = index_init(&index, &state->held);
  if (rc) return rc;
  for (size_t i = 0; i < delivery->documents.count && !rc; i++) {
    segue__document *came = delivery->documents.items[i], *old = index_find(&index, came);
    if (!old) rc = held_prepare(state, came);
    if (!rc) rc = segue__documents_add(out, segue__document_ref(old ? old : came));
  }
  index_deinit(&index);
  return rc;
}

/* Returns whether a delta continues what is held. Documents that are held in another order than
 * that of their names would give another configuration than a fetch of the same revision. */
static bool delta_fits(const segue__source_state *state, const segue__emission *delivery) {
  const char *held = segue__held_revision(state);
  return held && delivery->revision && !strcmp(held, delivery->base) && state->held.in_order;
}

/* After a gap a report that nothing has changed belongs to a revision whose
 * documents are not held: if its revision was accepted, the next delta would fit, and the changes
 * of the gap would be missing until the next fetch of everything. */
bool segue__held_has_gap(const segue__source_state *state, const segue__emission *delivery) {
  if (delivery->ask) return false;
  if (delivery->unchanged) return state->held.has && state->held.forgotten;
  return delivery->base && !delta_fits(state, delivery);
}

static void take_revision(segue__source_state *state, segue__emission *delivery) {
  if (!delivery->revision && delivery->unchanged) return;
  segue__free(state->held.revision);
  state->held.revision = delivery->revision;
  delivery->revision = NULL;
}

static void held_set(segue__held *held, const segue__documents *documents) {
  segue__documents_deinit(&held->documents);
  held->documents = *documents;
  held->in_order = is_in_order(documents);
  held->has = true;
}

int segue__held_take(segue__source_state *state, segue__emission *delivery, segue_error *err) {
  segue__documents next = {0};
  int rc = SEGUE_FAULT("remote.take");
  if (rc) return segue__errorf(err, rc, "%s", segue_strerror(rc));
  if (delivery->unchanged && !state->held.has)
    return segue__errorf(err, SEGUE_ESOURCE,
                         "the source reported no change before its first delivery");
  if (!delivery->unchanged)
    rc = delivery->base ? delta_apply(state, delivery, &next) : whole_apply(state, delivery, &next);
  if (rc < 0) {
    segue__documents_deinit(&next);
    return segue__errorf(err, UV_ENOMEM, "out of memory");
  }
  take_revision(state, delivery);
  if (delivery->unchanged) return 0;
  state->held.forgotten = false;
  if (state->held.has && same_list(&next, &state->held.documents)) {
    segue__documents_deinit(&next);
    return 0;
  }
  held_set(&state->held, &next);
  state->held.came_us = segue__sources_now_us(state->sources);
  state->held.unreadable.code = 0;
  return 1;
}

const char *segue__held_revision(const segue__source_state *state) {
  return state->held.has && !state->held.forgotten ? state->held.revision : NULL;
}

/* ---- States that begin or end ---- */

int segue__held_copy(segue__held *to, const segue__held *from) {
  int rc = segue__documents_copy(&to->documents, &from->documents);
  to->revision = segue__strdup(from->revision);
  to->has = from->has;
  to->in_order = from->in_order;
  return rc || to->revision || !from->revision ? rc : UV_ENOMEM;
}

void segue__held_hand_over(segue__held *from, segue__held *to) {
  segue__held before = *to;
  *to = *from;
  *from = before;
}

void segue__held_deinit(segue__held *held) {
  segue__documents_deinit(&held->documents);
  segue__free(held->revision);
  segue__free(held->used);
}

/* ---- Runs ---- */

int segue__sources_copy_last(segue__sources *sources, const segue__source_set *set,
                             const segue__source *source, segue__documents *out, bool *had) {
  const segue__source_state *state = segue__source_get(sources, set, source);
  *had = state && state->last_success_wall_ms;
  return state ? segue__documents_copy(out, &state->held.documents) : 0;
}

static int held_note_used(segue__held *held) {
  segue__free(held->used);
  held->used = segue__strdup(held->revision);
  held->was_used = true;
  held->used_came_us = held->came_us;
  return held->revision && !held->used ? UV_ENOMEM : 0;
}

bool segue__held_take_used(segue__source_state *state) {
  bool used = state->held.was_used;
  state->held.was_used = false;
  return used;
}

int segue__sources_use(segue__sources *sources, const segue__source_set *set,
                       const segue__source *source, bool strict, segue__documents *out,
                       segue__cached_delivery *head, segue_error *away) {
  segue__source_state *state = segue__source_get(sources, set, source);
  if (!state) return UV_ENOMEM;
  segue__held *held = &state->held;
  held->went_on_without = state->consecutive_failures > 0;
  bool invalid = strict && state->consecutive_failures && state->error.code == SEGUE_ECONFIG;
  if (held->has && !invalid) {
    head->wall_ms = state->last_success_wall_ms;
    head->revision = segue__strdup(held->revision);
    if (held->revision && !head->revision) return UV_ENOMEM;
    int rc = held_note_used(held);
    return rc ? rc : segue__documents_copy(out, &held->documents);
  }
  if (source->optional && !invalid) return 0;
  *away = state->error;
  if (!state->error.code)
    segue__errorf(away, SEGUE_ESOURCE, "%s has delivered nothing yet", source->name);
  return 0;
}

void segue__sources_adopt(segue__sources *sources, const segue__source_set *set,
                          const segue__source *source, segue__documents *documents,
                          segue__cached_delivery *head) {
  segue__source_state *state = segue__source_get(sources, set, source);
  if (!state || state->held.has) return;
  held_set(&state->held, documents);
  segue__free(state->held.revision);
  state->held.revision = head->revision;
  state->last_success_wall_ms = head->wall_ms;
  *documents = (segue__documents){0};
  head->revision = NULL;
}

void segue__sources_note_parsed(segue__sources *sources, const segue__source_set *set,
                                const segue__source *source, const segue__documents *used,
                                const segue__documents *parsed, const segue_error *error) {
  segue__source_state *state = segue__source_find(sources, set, source);
  if (!state || !same_list(&state->held.documents, used) || used->count != parsed->count) return;
  segue__document **items = state->held.documents.items;
  for (size_t i = 0; i < used->count; i++) {
    if (!parsed->items[i]->parsed || parsed->items[i] == items[i]) continue;
    segue__document_unref(items[i]);
    items[i] = segue__document_ref(parsed->items[i]);
  }
  state->held.unreadable.code = 0;
  if (error) state->held.unreadable = *error;
}
