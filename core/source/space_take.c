/* SPDX-License-Identifier: MIT
 *
 * The next document of a key space: from the deepest folder with a change up to the root, each is
 * copied with its changes applied. Nothing of the space changes before all of it has succeeded, so
 * that a refused key or missing memory leaves the document before, and the changes wait.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "../config/builder.h"
#include "space_internal.h"

enum { NAMED = 4 }; /* keys that one message names */

typedef struct problem {
  const space_item *item;
  const char *why; /* NULL: item->wrong */
  const char *other;
} problem;

typedef struct taking {
  segue__space *space;
  problem problems[NAMED]; /* in the order of the keys */
  size_t problem_count;    /* all of them */
  segue__map_edit *edits;
  size_t edit_capacity;
} taking;

/* ---- Problems -------------------------------------------------------------------------------- */

static int problem_order(const problem *a, const problem *b) {
  return strcmp(a->item->text, b->item->text);
}

static void taking_refuse(taking *t, const space_item *item, const char *why, const char *other) {
  problem added = {item, why, other};
  size_t count = t->problem_count < NAMED ? t->problem_count : NAMED, i = count;
  t->problem_count++;
  while (i && problem_order(&added, &t->problems[i - 1]) < 0) {
    if (i < NAMED) t->problems[i] = t->problems[i - 1];
    i--;
  }
  if (i < NAMED) t->problems[i] = added;
}

static void problem_describe(const problem *p, segue_error *err) {
  if (!p->why) {
    *err = *p->item->wrong;
    return;
  }
  segue__errorf(err, SEGUE_ECONFIG, p->why, p->other ? p->other : "");
  segue__error_set_place(err, space_item_label(p->item), 0, 0);
}

static int taking_report(const taking *t, segue_error *err) {
  problem_describe(&t->problems[0], err);
  size_t named = t->problem_count < NAMED ? t->problem_count : NAMED, len = strlen(err->message);
  if (t->problem_count > 1)
    len += (size_t)snprintf(err->message + len, sizeof err->message - len, "; refused as well: ");
  for (size_t i = 1; i < named && len < sizeof err->message; i++)
    len += (size_t)snprintf(err->message + len, sizeof err->message - len, "%s%.80s",
                            i > 1 ? ", " : "", space_item_label(t->problems[i].item));
  if (t->problem_count > named && len < sizeof err->message)
    snprintf(err->message + len, sizeof err->message - len, " and %zu more",
             t->problem_count - named);
  segue__error_source(err, t->space->source);
  return err->code;
}

static const char both[] = "the key has a value, and %.100s is below it: name a value_key for the "
                           "value, or delete one of the two";
static const char twice[] = "%.100s is at the same place of the tree: delete one of the two keys";
static const char taken[] = "the value_key of the folder has the same name as the key: delete it, "
                            "or name another value_key%s";

/* Finds some item below a place, for a message. */
static const space_item *item_below_place(const segue__space *space, const space_place *place) {
  for (size_t i = 0; i < space->bucket_count; i++)
    for (const space_place *p = space->buckets[i]; p; p = p->chain) {
      const space_place *up = p->up;
      while (up && up != place)
        up = up->up;
      if (up && p->now) return p->now;
    }
  return NULL;
}

static bool folder_is_alive(const space_folder *folder) {
  return folder && (folder->staged ? folder->next_children : folder->children);
}

static void check_place(taking *t, const space_place *place) {
  const space_item *item = place->now;
  if (!item) return;
  for (const space_item *i = item; i; i = i->beside)
    if (i->wrong) taking_refuse(t, i, NULL, NULL);
  if (item->beside) taking_refuse(t, item, twice, space_item_label(item->beside));
  if (folder_is_alive(place->folder) && !t->space->rules.value_key) {
    const space_item *below = item_below_place(t->space, place);
    taking_refuse(t, item, both, below ? space_item_label(below) : "a key");
  }
}

/* ---- Edits of one folder --------------------------------------------------------------------- */

static int taking_reserve(taking *t, size_t count) {
  if (count <= t->edit_capacity) return 0;
  segue__map_edit *edits = segue__realloc(t->edits, count * sizeof *edits);
  if (!edits) return UV_ENOMEM;
  t->edits = edits;
  t->edit_capacity = count;
  return 0;
}

static bool is_same_node(const segue_node *a, const segue_node *b) {
  return a->type == b->type && a->flags == b->flags && a->count == b->count && a->v.u == b->v.u &&
         a->line == b->line && a->column == b->column;
}

static int node_of_item(taking *t, space_item *item, segue_node *out) {
  int rc = item->number ? 0 : space_store_number(t->space->store, item);
  *out = item->node;
  return rc;
}

/* Fills in the node of a place in the next document. 0: it is there, 1: it is not. */
static int node_of_place(taking *t, const space_place *place, segue_node *out) {
  if (folder_is_alive(place->folder)) {
    const space_folder *folder = place->folder;
    *out = folder->staged ? folder->next_shown : folder->shown;
    return 0;
  }
  if (!place->now || place->now->wrong) return 1;
  return node_of_item(t, place->now, out);
}

/* Adds the edit that makes this member of the map `wanted` (NULL: removes it). Returns 1 if there
 * is nothing to do. */
static int edit_make(segue__map_edit *edit, const segue_node *map, const char *name, size_t len,
                     const segue_node *wanted) {
  const segue__member *old = segue__node_find(map, name, len);
  if (!old && !wanted) return 1;
  if (old && wanted && is_same_node(&old->value, wanted)) return 1;
  memset(edit, 0, sizeof *edit);
  edit->op = !wanted ? SEGUE__MAP_REMOVE : old ? SEGUE__MAP_REPLACE : SEGUE__MAP_INSERT;
  edit->at = old ? (uint32_t)(old - map->v.members) : UINT32_MAX;
  edit->entry.member.key = name;
  edit->entry.member.key_len = (uint32_t)len;
  if (!wanted) return 0;
  edit->entry.key = segue__key_hash(name, len);
  edit->entry.member.value = *wanted;
  edit->entry.member.line = wanted->line;
  return 0;
}

static int name_order(const char *a, size_t a_len, const char *b, size_t b_len) {
  int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
  return order ? order : (a_len > b_len) - (a_len < b_len);
}

static int edit_order(const void *a, const void *b) {
  const segue__member *x = &((const segue__map_edit *)a)->entry.member,
                      *y = &((const segue__map_edit *)b)->entry.member;
  return name_order(x->key, x->key_len, y->key, y->key_len);
}

/* Members are in the order of their names, whatever order they came in: so a full read and the
 * changes that lead to the same keys give the same text. */
static void edits_locate(segue__map_edit *edits, size_t n, const segue_node *map) {
  qsort(edits, n, sizeof *edits, edit_order);
  for (size_t i = 0; i < n; i++) {
    if (edits[i].op != SEGUE__MAP_INSERT) continue;
    const segue__member *added = &edits[i].entry.member;
    size_t low = 0, high = map->count;
    while (low < high) {
      size_t middle = low + (high - low) / 2;
      const segue__member *m = &map->v.members[middle];
      if (name_order(m->key, m->key_len, added->key, added->key_len) < 0)
        low = middle + 1;
      else
        high = middle;
    }
    edits[i].at = (uint32_t)low;
  }
}

static bool place_is_there(const space_place *place) {
  return place && ((place->now && !place->now->wrong) || folder_is_alive(place->folder));
}

static bool place_was_there(const space_place *place) {
  return place->live || (place->folder && place->folder->children);
}

static segue__map_edit *edits_find(taking *t, size_t n, const char *name, size_t len) {
  for (size_t i = 0; i < n; i++) {
    const segue__member *m = &t->edits[i].entry.member;
    if (m->key_len == len && !memcmp(m->key, name, len)) return &t->edits[i];
  }
  return NULL;
}

/* The value of the folder's own key, under value_key. Only a folder with children has it. A child
 * may have had that name before, or may have it now. */
static int edit_own_value(taking *t, const space_folder *folder, size_t *n) {
  const char *name = t->space->store->value_key;
  const space_place *own = folder->own;
  segue_node node;
  bool wanted = name && own->now && folder->next_children && !own->now->wrong;
  if (!name) return 0;
  const space_place *child = space_find_child(t->space, own, name);
  if (place_is_there(child)) {
    const space_item *below = child->now ? child->now : item_below_place(t->space, child);
    if (wanted) taking_refuse(t, below ? below : own->now, taken, NULL);
    return 0;
  }
  int rc = wanted ? node_of_item(t, own->now, &node) : 0;
  if (rc) return rc;
  size_t len = strlen(name);
  segue__map_edit *gone = child && child->pending ? edits_find(t, *n, name, len) : NULL;
  int none = edit_make(gone ? gone : &t->edits[*n], &folder->map, name, len, wanted ? &node : NULL);
  if (!gone) *n += !none;
  return 0;
}

static int edits_collect(taking *t, space_folder *folder, size_t *n) {
  int rc = taking_reserve(t, folder->pending_count + 1);
  folder->next_children = folder->children;
  for (const space_place *p = folder->pending; p && !rc; p = p->next_pending) {
    segue_node node;
    check_place(t, p);
    int absent = node_of_place(t, p, &node);
    if (absent < 0) return absent;
    folder->next_children += (uint32_t)!absent - (uint32_t)place_was_there(p);
    *n += !edit_make(&t->edits[*n], &folder->map, p->name, p->name_len, absent ? NULL : &node);
  }
  return rc ? rc : edit_own_value(t, folder, n);
}

/* ---- Maps and lists -------------------------------------------------------------------------- */

/* The index that a name stands for, if it is one of 0 to n-1 as it is written; else n. */
static size_t index_of_name(const segue__member *m, size_t n) {
  size_t index = 0;
  if (!m->key_len || m->key_len > 9 || (m->key_len > 1 && *m->key == '0')) return n;
  for (uint32_t i = 0; i < m->key_len; i++) {
    if (m->key[i] < '0' || m->key[i] > '9') return n;
    index = index * 10 + (size_t)(m->key[i] - '0');
  }
  return index < n ? index : n;
}

/* A folder whose n keys are 0 to n-1. */
static bool is_list(const segue_node *map) {
  size_t i = 0;
  while (i < map->count && index_of_name(&map->v.members[i], map->count) < map->count)
    i++;
  return map->count && i == map->count;
}

static int folder_list(const taking *t, space_folder *folder) {
  const segue_node *map = &folder->next_map;
  segue__tree_entry *entries = segue__calloc(map->count, sizeof *entries);
  void *memory = entries ? space_map_new(t->space->store, segue__list_bytes(map->count),
                                         &folder->next_list_block)
                         : NULL;
  if (memory) {
    for (uint32_t i = 0; i < map->count; i++)
      entries[index_of_name(&map->v.members[i], map->count)].member = map->v.members[i];
    segue__list_write(memory, entries, map->count, &folder->next_shown);
  }
  segue__free(entries);
  return memory ? 0 : UV_ENOMEM;
}

static void folder_unstage(const segue__space *space, space_folder *folder) {
  if (!folder->staged) return;
  if (folder->next_map_block) space_block_free(space->store, folder->next_map_block);
  if (folder->next_list_block) space_block_free(space->store, folder->next_list_block);
  folder->staged = false;
  folder->next_map_block = folder->next_list_block = NULL;
}

/* Makes the next map of a folder from the edits; an empty folder is in no document. */
static int folder_write(taking *t, space_folder *folder, size_t n) {
  folder->staged = true;
  folder->next_map_block = folder->next_list_block = NULL;
  folder->next_map = (segue_node){.type = SEGUE_MAP, .document = t->space->document};
  folder->next_shown = folder->next_map;
  if (!folder->next_children) return 0;
  edits_locate(t->edits, n, &folder->map);
  void *memory = space_map_new(t->space->store, segue__map_edited_bytes(&folder->map, t->edits, n),
                               &folder->next_map_block);
  if (!memory) return UV_ENOMEM;
  segue__map_write_edited(memory, &folder->map, t->edits, n, &folder->next_map);
  folder->next_map.document = t->space->document;
  folder->next_shown = folder->next_map;
  return t->space->rules.lists && folder->own->up && is_list(&folder->next_map)
             ? folder_list(t, folder)
             : 0;
}

static int folder_stage(taking *t, space_folder *folder) {
  size_t n = 0;
  int rc = edits_collect(t, folder, &n);
  if (rc || t->problem_count) return rc;
  if (n) {
    rc = folder_write(t, folder, n);
    if (!rc && folder->own->up) space_note(t->space, folder->own);
  }
  return rc;
}

/* ---- Commit ---------------------------------------------------------------------------------- */

/* Frees a block that no document has, or puts it on the list of those that the version lacks. */
static void taking_retire(const segue__space *space, space_version *version, space_block *block) {
  if (!block) return;
  if (space_birth(block))
    space_blocks_add(&version->dead, block);
  else
    space_block_free(space->store, block);
}

static void commit_folder(const segue__space *space, space_version *version, space_folder *folder) {
  if (!folder->staged) return;
  taking_retire(space, version, folder->map_block);
  taking_retire(space, version, folder->list_block);
  folder->map_block = folder->next_map_block;
  folder->list_block = folder->next_list_block;
  if (folder->map_block) space_set_birth(folder->map_block, version->number);
  if (folder->list_block) space_set_birth(folder->list_block, version->number);
  folder->map = folder->next_map;
  folder->shown = folder->next_shown;
  folder->children = folder->next_children;
  folder->staged = false;
}

static void commit_item(const segue__space *space, space_version *version, space_place *place) {
  if (place->live == place->now) return;
  if (place->live) taking_retire(space, version, &place->live->block);
  place->live = place->now;
  if (place->live) space_set_birth(&place->live->block, version->number);
}

/* The folder below is committed already. */
static void commit_place(segue__space *space, space_version *version, space_place *place) {
  place->pending = false;
  commit_item(space, version, place);
  bool alive = folder_is_alive(place->folder), empty = place->folder && !place->folder->places;
  if ((alive || place->live) && !space_birth(&place->block))
    space_set_birth(&place->block, version->number);
  if (alive || (place->folder && !empty)) return;
  if (empty) {
    space_folder_free(place->folder);
    place->folder = NULL;
  }
  if (place->live) return;
  space_place_free(space, place);
  taking_retire(space, version, &place->block);
}

static void commit_pending(segue__space *space, space_version *version, space_folder *folder) {
  space_place *place = folder->pending;
  folder->pending = NULL;
  folder->pending_count = 0;
  for (space_place *next; place; place = next) {
    next = place->next_pending;
    commit_place(space, version, place);
  }
}

static void taking_commit(segue__space *space, space_version *version) {
  for (uint32_t depth = space->deepest + 1; depth-- > 0;) {
    space_folder *folder = space->dirty[depth];
    space->dirty[depth] = NULL;
    for (space_folder *next; folder; folder = next) {
      next = folder->next; /* the folder is freed with its place, in the folder above */
      folder->dirty = false;
      commit_folder(space, version, folder);
      commit_pending(space, version, folder);
    }
  }
  space->deepest = 0;
  commit_item(space, version, space->root);
  commit_pending(space, version, space->bad->folder);
}

static void taking_undo(const segue__space *space) {
  for (uint32_t depth = 0; depth <= space->deepest; depth++)
    for (space_folder *folder = space->dirty[depth]; folder; folder = folder->next)
      folder_unstage(space, folder);
}

/* ---- Take ------------------------------------------------------------------------------------ */

/* Each depth may note places in the one above, which comes next. */
static int taking_stage(taking *t) {
  segue__space *space = t->space;
  int rc = 0;
  for (uint32_t depth = space->deepest + 1; depth-- > 0 && !rc;)
    for (space_folder *folder = space->dirty[depth]; folder && !rc; folder = folder->next)
      rc = folder_stage(t, folder);
  for (const space_place *p = space->bad->folder->pending; p; p = p->next_pending)
    check_place(t, p);
  check_place(t, space->root);
  return rc;
}

/* The root of the document: the folder's map, or the value of a key that is the whole document. */
static int root_node(taking *t, segue_node *out) {
  static const char no_map[] = "the value of this key is the whole document: it must be a map%s";
  const space_place *root = t->space->root;
  int absent = node_of_place(t, root, out);
  if (absent < 0) return absent;
  if (!absent && out->type == SEGUE_MAP) return 0;
  if (!absent) {
    assert(root->now); /* the folder of the root is a map, never a list */
    taking_refuse(t, root->now, no_map, NULL);
  }
  *out = (segue_node){.type = SEGUE_MAP, .document = t->space->document};
  return 0;
}

static int refuse_space(const segue__space *space, segue_error *err) {
  const space_rules *rules = &space->rules;
  int rc = 0;
  if (space->lost)
    rc = segue__errorf(err, UV_ENOMEM,
                       "memory did not suffice for what came: everything must be read again");
  else if (space->over)
    rc = segue__errorf(err, SEGUE_ELIMIT,
                       "there are more than %llu keys or %llu bytes: raise max_keys or max_bytes, "
                       "or name a longer prefix",
                       (unsigned long long)rules->max_keys, (unsigned long long)rules->max_bytes);
  else if (space->nodes > SPACE_NODES)
    rc = segue__errorf(err, SEGUE_ELIMIT,
                       "the documents in the keys have more than %d values, aliases expanded: "
                       "split them",
                       SPACE_NODES);
  else if (rules->commit && !space->marker)
    rc = segue__errorf(err, SEGUE_ECONFIG,
                       "the key %.200s does not exist, and nothing is taken before it changes: "
                       "write it after the other keys",
                       rules->commit);
  if (rc) segue__error_source(err, space->source);
  return rc;
}

static int document_new(const segue__space *space, space_version *version, const segue_node *root,
                        segue__document **out) {
  int rc =
      segue__document_new(out, space->document, space->source, space->name, SEGUE__BUILT, NULL, 0);
  if (rc) return rc;
  size_t same[2];
  (*out)->root = *root;
  if (!root->count) rc = segue__map_seal(&(*out)->arena, &(*out)->root, NULL, 0, same);
  if (rc) {
    segue__document_unref(*out);
    *out = NULL;
    return rc;
  }
  (*out)->hash = segue__node_hash(&(*out)->root);
  (*out)->keys = &version->table;
  (*out)->parsed = true;
  return 0;
}

/* The changes have undone one another: no folder is different. */
static bool taking_is_same(const segue__space *space) {
  return space->last && !space->root->folder->staged && space->root->live == space->root->now;
}

static int take_new(segue__space *space, segue__document **out, segue_error *err) {
  taking t = {.space = space};
  space_version *version = NULL;
  segue_node root;
  int rc = taking_stage(&t);
  if (!rc && !t.problem_count) rc = root_node(&t, &root);
  bool refused = !rc && t.problem_count;
  if (refused) rc = taking_report(&t, err);
  if (!rc && taking_is_same(space)) {
    segue__free(t.edits);
    taking_commit(space, (space_version *)space->last->keys); /* its first member */
    *out = segue__document_ref(space->last);
    return 0;
  }
  if (!rc) rc = space_version_new(space->store, space->keys, &version);
  if (!rc) rc = document_new(space, version, &root, out);
  segue__free(t.edits);
  if (rc) {
    taking_undo(space);
    segue__free(version);
    return refused ? rc : segue__errorf(err, rc, "out of memory for the keys of %s", space->source);
  }
  version->number = ++space->versions;
  taking_commit(space, version);
  space_version_publish(version);
  return 0;
}

bool segue__space_dirty(const segue__space *space) {
  return space->dirty[0] || space->deepest || space->bad->folder->pending;
}

static int space_take(segue__space *space, segue__document **out, segue_error *err) {
  bool waits = space->rules.commit && !space->marker_due;
  bool same = space->last && (waits || !segue__space_dirty(space)) && !space->lost && !space->over;
  int rc = same ? 0 : refuse_space(space, err);
  if (!rc && !same) {
    segue__document *next = NULL;
    rc = take_new(space, &next, err);
    if (!rc) {
      segue__document_unref(space->last);
      space->last = next;
    }
  }
  if (rc) return rc;
  space->marker_due = false;
  *out = segue__document_ref(space->last);
  return 0;
}

/* A document that a worker has prepared before the space had a name; nothing else has it yet. */
static int name_document(const segue__space *space, segue__document *doc) {
  if (*doc->source || !*space->source) return 0;
  char *source = segue__strdup(space->source), *name = segue__strdup(space->name);
  if (!source || !name) {
    segue__free(source);
    segue__free(name);
    return UV_ENOMEM;
  }
  segue__free(doc->source);
  segue__free(doc->name);
  doc->source = source;
  doc->name = name;
  return 0;
}

int segue__space_take(segue__space *space, segue__document **out, segue_error *err) {
  *out = NULL;
  if (!space->busy) {
    int rc = space_take(space, out, err);
    if (!rc && (rc = name_document(space, *out))) {
      segue__document_unref(*out);
      *out = NULL;
      segue__errorf(err, rc, "out of memory for the keys of %s", space->source);
    }
    return rc;
  }
  if (!space->shown)
    return segue__errorf(err, UV_EBUSY, "the keys of %s are being read: wait for done()",
                         space->source);
  *out = segue__document_ref(space->shown);
  return 0;
}

void segue__space_prepare(segue__space *space) {
  segue_error ignored; /* the next take fails in the same way */
  segue__document *doc;
  if (!space_take(space, &doc, &ignored)) segue__document_unref(doc);
}

int segue__space_refusal(const segue__space *space, const segue_error *error,
                         segue__document **out) {
  segue__builder *b = NULL;
  int rc =
      segue__document_new(out, space->document, space->source, space->name, SEGUE__BUILT, NULL, 0);
  if (rc) return rc;
  /* The content is for the hash only: another refusal is another input. */
  rc = segue__builder_new(&b, *out, NULL);
  if (!rc) {
    segue__builder_begin(b, SEGUE_MAP);
    segue__builder_add_key(b, "refused", 7);
    segue__builder_add_string(b, error->file, strlen(error->file));
    segue__builder_add_key(b, "why", 3);
    segue__builder_add_string(b, error->message, strlen(error->message));
    segue__builder_end(b);
    rc = segue__builder_finish(b, NULL);
  }
  segue__builder_free(b);
  if (!rc && !((*out)->refusal = segue__calloc(1, sizeof(segue_error)))) rc = UV_ENOMEM;
  if (rc) {
    segue__document_unref(*out);
    *out = NULL;
    return rc;
  }
  *(*out)->refusal = *error;
  (*out)->parsed = false;
  return 0;
}
