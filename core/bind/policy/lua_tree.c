/* SPDX-License-Identifier: MIT
 *
 * Lua values as trees. Nothing here allocates in the Lua state, so no collection runs and no
 * finalizer of the policy's is called in the middle; keys are read by lua_next alone and sorted in
 * C.
 */
#include "lua_tree.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../config/node.h"
#include "../runtime/lua_positions.h"
#include "../runtime/value.h"

enum { DEPTH_MAX = 100, NODES_MAX = 1000000 };

/* ---- Positions ------------------------------------------------------------------------------- */

/* Lines of keys by a hash of their path from what the text returns ("modules", "web", "kind"), and
 * of names outside of that. One look-up for each key: a policy of 200 modules has 200 keys `kind`,
 * and comparing each with each is slower than everything else together. */
typedef struct position {
  uint64_t hash; /* 0: free */
  uint32_t line; /* 0: it is assigned more than once */
} position;

typedef struct positions {
  position *slots;
  size_t mask;
} positions;

enum { HASH_ROOT = 1, HASH_ELSEWHERE = 2 };

static uint64_t position_hash(uint64_t parent, const char *name, size_t len) {
  uint64_t hash = segue__hash_bytes(name, len, (segue__hash){parent, 0}).lo;
  return hash > HASH_ELSEWHERE ? hash : hash + 3;
}

static position *positions_slot(const positions *p, uint64_t hash) {
  size_t i = (size_t)hash & p->mask;
  while (p->slots[i].hash && p->slots[i].hash != hash)
    i = (i + 1) & p->mask;
  return &p->slots[i];
}

static void positions_add(const positions *p, uint64_t hash, uint32_t line) {
  position *slot = positions_slot(p, hash);
  slot->line = slot->hash ? 0 : line;
  slot->hash = hash;
}

/* 0: not known. */
static uint32_t positions_find(const positions *p, uint64_t parent, const char *name, size_t len) {
  if (!p->slots) return 0;
  uint32_t line = parent ? positions_slot(p, position_hash(parent, name, len))->line : 0;
  return line ? line : positions_slot(p, position_hash(HASH_ELSEWHERE, name, len))->line;
}

static bool is_root(const segue__lua_positions *lines, size_t table) {
  const segue__lua_positions_table *t = &lines->tables[table];
  if (!table) return false;
  if (!lines->variable) return (int32_t)table == lines->root;
  return !t->parent && t->name && t->len == lines->variable_len &&
         !memcmp(t->name, lines->variable, t->len);
}

/* The hash of each table's path; 0: it has none. below: it is in what the text returns. */
static void hash_tables(const segue__lua_positions *lines, uint64_t *hashes, bool *below) {
  for (size_t i = 0; i < lines->table_count; i++) {
    const segue__lua_positions_table *t = &lines->tables[i];
    bool has_parent = t->parent >= 0 && (size_t)t->parent < i;
    below[i] = is_root(lines, i) || (has_parent && below[t->parent]);
    hashes[i] = is_root(lines, i) ? HASH_ROOT : 0;
    if (!hashes[i] && has_parent && hashes[t->parent] && t->name)
      hashes[i] = position_hash(hashes[t->parent], t->name, t->len);
  }
}

static void positions_fill(const positions *p, const segue__lua_positions *lines, uint64_t *hashes,
                           bool *below) {
  hash_tables(lines, hashes, below);
  for (size_t i = 0; i < lines->count; i++) {
    const segue__line *l = &lines->items[i];
    if (l->table >= 0 && hashes[l->table])
      positions_add(p, position_hash(hashes[l->table], l->name, l->len), l->line);
    else if (l->table < 0 || !below[l->table])
      positions_add(p, position_hash(HASH_ELSEWHERE, l->name, l->len), l->line);
  }
}

static int positions_init(positions *p, const char *text, size_t len) {
  segue__lua_positions lines;
  size_t size = 64;
  int rc = segue__lua_positions_init(&lines, text, len);
  if (rc) return rc;
  while (size < lines.count * 2 + 2)
    size *= 2;
  p->slots = segue__calloc(size, sizeof *p->slots);
  p->mask = size - 1;
  uint64_t *hashes = segue__calloc(lines.table_count, sizeof *hashes);
  bool *below = segue__calloc(lines.table_count, sizeof *below);
  if (p->slots && hashes && below)
    positions_fill(p, &lines, hashes, below);
  else
    rc = UV_ENOMEM;
  segue__free(below);
  segue__free(hashes);
  segue__lua_positions_deinit(&lines);
  return rc;
}

/* ---- Building -------------------------------------------------------------------------------- */

/* Children of all tables that are open. It hangs on the tree, so that it is freed when the budget
 * raises. */
struct tree_entries {
  segue__tree_entry *items;
  size_t count, capacity;
  positions positions;
};

typedef struct build {
  lua_State *L;
  segue__lua_tree *tree;
  struct tree_entries *entries;
  size_t nodes, bytes_max;
  const void *above[DEPTH_MAX]; /* tables that the value is in */
  unsigned depth;
  int rc;
  segue_error *err;
} build;

/* Where the value stands: its file and line, and the hash of its path; 0: it has none. */
typedef struct spot {
  uint32_t document, line;
  uint64_t path;
  bool searched; /* keys are looked for in the text */
} spot;

static void build_fail(build *b, int rc, const spot *at, const char *sentence) {
  if (b->rc) return;
  b->rc = segue__errorf(b->err, rc, "%s", sentence);
  segue__error_set_place(b->err, segue__lua_tree_file(b->tree, at->document), at->line, 0);
}

static segue__tree_entry *entry_add(build *b) {
  struct tree_entries *e = b->entries;
  if (e->count == e->capacity) {
    size_t capacity = e->capacity ? e->capacity * 2 : 256;
    segue__tree_entry *items = segue__realloc(e->items, capacity * sizeof *items);
    if (!items) return NULL;
    e->items = items;
    e->capacity = capacity;
  }
  segue__tree_entry *entry = &e->items[e->count++];
  memset(entry, 0, sizeof *entry);
  return entry;
}

static uint32_t file_no_memory(build *b) {
  if (!b->rc) b->rc = segue__errorf(b->err, UV_ENOMEM, "out of memory");
  return 0;
}

/* Returns the number of a file. Out of memory ends the build: with another number, errors would
 * name a wrong file. */
static uint32_t file_add(build *b, const char *name) {
  segue__lua_tree *tree = b->tree;
  for (size_t i = 0; i < tree->file_count; i++)
    if (!strcmp(tree->files[i], name)) return (uint32_t)i;
  if (tree->file_count == tree->file_capacity) {
    size_t capacity = tree->file_capacity + 8;
    const char **files = segue__realloc(tree->files, capacity * sizeof *files);
    if (!files) return file_no_memory(b);
    tree->files = files;
    tree->file_capacity = capacity;
  }
  const char *copy = segue__arena_strndup(&tree->arena, name, strlen(name));
  if (!copy) return file_no_memory(b);
  tree->files[tree->file_count] = copy;
  return (uint32_t)tree->file_count++;
}

static void build_value(build *b, segue_node *node, const spot *at);

static void build_string(build *b, segue_node *node, const spot *at) {
  size_t len;
  const char *s = lua_tolstring(b->L, -1, &len);
  char *copy = segue__arena_strndup(&b->tree->arena, s, len);
  node->type = SEGUE_STRING;
  node->v.s = copy;
  node->count = (uint32_t)len;
  if (!copy) build_fail(b, UV_ENOMEM, at, "out of memory");
}

static void build_number(segue_node *node, lua_Number n) {
  bool whole = n == floor(n) && fabs(n) <= 9007199254740992.0;
  node->type = whole ? SEGUE_INT : SEGUE_FLOAT;
  if (whole)
    node->v.i = (int64_t)n;
  else
    node->v.f = n;
}

static void build_other(build *b, segue_node *node) {
  segue__wide wide;
  node->type = SEGUE_NULL;
  if (segue__int_test(b->L, -1, &wide)) {
    node->type = SEGUE_INT;
    node->flags = wide > INT64_MAX ? SEGUE__NODE_UNSIGNED : 0;
    node->v.u = (uint64_t)wide;
  } else if (!segue__value_is_null(b->L, -1)) {
    node->flags = SEGUE__NODE_OPAQUE;
    node->reserved = lua_isfunction(b->L, -1) ? SEGUE__OPAQUE_FUNCTION : SEGUE__OPAQUE_OTHER;
    node->v.u = 1;
  }
}

/* ---- Tables ---------------------------------------------------------------------------------- */

typedef struct table_shape {
  size_t items; /* keys 1 to items */
  size_t texts; /* other keys */
  bool tagged;  /* made by a constructor */
  bool values;  /* by segue.value */
  bool odd;     /* a key is neither a text nor one of 1 to items */
} table_shape;

/* A text field of the table on top, without metamethods; NULL: it has none. */
static const char *raw_text(lua_State *L, const char *key, size_t len) {
  const char *found = NULL;
  for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
    size_t n;
    if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING) continue;
    const char *name = lua_tolstring(L, -2, &n);
    if (n == len && !memcmp(name, key, n)) found = lua_tostring(L, -1);
  }
  return found;
}

static table_shape shape_of(lua_State *L) {
  table_shape shape = {.items = lua_objlen(L, -1)};
  size_t numbers = 0;
  for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
    int type = lua_type(L, -2);
    lua_Number n = type == LUA_TNUMBER ? lua_tonumber(L, -2) : 0;
    if (type == LUA_TNUMBER && n >= 1 && n <= (lua_Number)shape.items && n == floor(n))
      numbers++;
    else if (type != LUA_TSTRING)
      shape.odd = true;
    else if (++shape.texts && !strcmp(lua_tostring(L, -2), "tag"))
      shape.tagged = true;
  }
  if (numbers != shape.items) shape.odd = true; /* a hole */
  return shape;
}

/* The place that a constructor noted, "file:line"; it stands for everything in its table. */
static void take_place(build *b, spot *at) {
  const char *place = raw_text(b->L, "made_at", 7), *colon = place ? strrchr(place, ':') : NULL;
  char file[sizeof((segue__place *)0)->file];
  if (!colon || (size_t)(colon - place) >= sizeof file) return;
  memcpy(file, place, (size_t)(colon - place));
  file[colon - place] = 0;
  *at = (spot){.document = file_add(b, file), .line = (uint32_t)strtoul(colon + 1, NULL, 10)};
}

static void build_items(build *b, segue_node *node, const table_shape *shape, const spot *at) {
  size_t first = b->entries->count;
  spot inside = {at->document, at->line, 0, at->searched};
  node->type = SEGUE_LIST;
  for (size_t i = 1; i <= shape->items && !b->rc; i++) {
    segue_node item;
    lua_rawgeti(b->L, -1, (int)i);
    build_value(b, &item, &inside);
    lua_pop(b->L, 1);
    segue__tree_entry *entry = b->rc ? NULL : entry_add(b);
    if (entry)
      entry->member.value = item;
    else
      build_fail(b, UV_ENOMEM, at, "out of memory");
  }
  if (!b->rc &&
      segue__list_seal(&b->tree->arena, node, b->entries->items + first, b->entries->count - first))
    build_fail(b, UV_ENOMEM, at, "out of memory");
  b->entries->count = first;
}

static int by_key(const void *a, const void *b) {
  const segue__member *x = &((const segue__tree_entry *)a)->member;
  const segue__member *y = &((const segue__tree_entry *)b)->member;
  size_t len = x->key_len < y->key_len ? x->key_len : y->key_len;
  int order = memcmp(x->key, y->key, len);
  return order ? order : (x->key_len > y->key_len) - (x->key_len < y->key_len);
}

static void add_member(build *b, const char *key, size_t len, const segue_node *value,
                       const spot *at) {
  segue__tree_entry *entry = entry_add(b);
  char *copy = segue__arena_strndup(&b->tree->arena, key, len);
  if (!entry || !copy) {
    build_fail(b, UV_ENOMEM, at, "out of memory");
    return;
  }
  entry->member =
      (segue__member){.key = copy, .key_len = (uint32_t)len, .line = at->line, .value = *value};
  entry->key = segue__key_hash(copy, len);
  entry->member.key_hash = (uint32_t)entry->key.lo;
}

/* Left out: the place that a constructor noted, and the values of segue.value, which become a
 * document. */
static bool is_skipped(const char *key, size_t len, const table_shape *shape) {
  bool value = shape->values && len == 5 && !memcmp(key, "value", 5);
  return value || (shape->tagged && len == 7 && !memcmp(key, "made_at", 7));
}

static void build_members(build *b, const table_shape *shape, const spot *at) {
  lua_State *L = b->L;
  for (lua_pushnil(L); !b->rc && lua_next(L, -2); lua_pop(L, 1)) {
    size_t len;
    if (lua_type(L, -2) != LUA_TSTRING) continue;
    const char *key = lua_tolstring(L, -2, &len);
    if (is_skipped(key, len, shape)) continue;
    spot inside = *at;
    uint32_t line = at->searched ? positions_find(&b->entries->positions, at->path, key, len) : 0;
    if (line) inside.line = line;
    inside.path = at->path ? position_hash(at->path, key, len) : 0;
    segue_node value;
    build_value(b, &value, &inside);
    if (!b->rc) add_member(b, key, len, &value, &inside);
  }
}

static void build_map(build *b, segue_node *node, const table_shape *shape, const spot *at) {
  size_t first = b->entries->count, same[2];
  segue_node items = *node;
  if (shape->items) {
    build_items(b, &items, shape, at);
    if (!b->rc) add_member(b, SEGUE__POSITIONAL, 0, &items, at);
  }
  build_members(b, shape, at);
  node->type = SEGUE_MAP;
  if (!b->rc) {
    size_t n = b->entries->count - first;
    /* Before the first member there is no array, and C has no offset of NULL, not even 0. */
    segue__tree_entry *members = n ? b->entries->items + first : NULL;
    if (n) qsort(members, n, sizeof *members, by_key);
    int rc = segue__map_seal(&b->tree->arena, node, members, n, same);
    if (rc == SEGUE_ESYNTAX)
      build_fail(b, SEGUE_EPOLICY, at, "a table has an empty text as a key");
    else if (rc)
      build_fail(b, UV_ENOMEM, at, "out of memory");
  }
  b->entries->count = first;
}

static void build_table(build *b, segue_node *node, const spot *where) {
  const void *table = lua_topointer(b->L, -1);
  spot at = *where;
  for (unsigned i = 0; i < b->depth; i++)
    if (b->above[i] == table) {
      build_fail(b, SEGUE_EPOLICY, &at, "a table contains itself");
      return;
    }
  if (b->depth == DEPTH_MAX || !lua_checkstack(b->L, 8)) {
    build_fail(b, SEGUE_EPOLICY, &at, "tables are nested too deeply: flatten them");
    return;
  }
  table_shape shape = shape_of(b->L);
  if (shape.odd) {
    build_fail(b, SEGUE_EPOLICY, &at,
               "the keys of a table must be texts, or 1, 2, 3 ... without a gap");
    return;
  }
  b->above[b->depth++] = table;
  if (shape.tagged) {
    const char *kind = raw_text(b->L, "kind", 4);
    shape.values = kind && !strcmp(kind, "value");
    take_place(b, &at);
  }
  node->document = at.document;
  node->line = at.line;
  bool list = shape.items && !shape.texts;
  if (list)
    build_items(b, node, &shape, &at);
  else
    build_map(b, node, &shape, &at);
  b->depth--;
}

/* The value on top. */
static void build_value(build *b, segue_node *node, const spot *at) {
  *node = (segue_node){.document = at->document, .line = at->line};
  if (!(++b->nodes & 1023) && segue__budget_is_spent(segue__lua_of(b->L)->budget))
    segue__budget_raise(b->L);
  if (b->nodes > NODES_MAX || b->tree->arena.used > b->bytes_max) {
    build_fail(b, SEGUE_ELIMIT, at, "the tables of the policy are too large");
    return;
  }
  switch (lua_type(b->L, -1)) {
  case LUA_TBOOLEAN:
    node->type = SEGUE_BOOL;
    node->v.b = lua_toboolean(b->L, -1);
    break;
  case LUA_TNUMBER:
    build_number(node, lua_tonumber(b->L, -1));
    break;
  case LUA_TSTRING:
    build_string(b, node, at);
    break;
  case LUA_TTABLE:
    build_table(b, node, at);
    break;
  default:
    build_other(b, node);
  }
}

int segue__lua_tree_init(segue__lua_tree *tree, lua_State *L, int index, const char *file,
                         uint32_t line, const char *text, size_t len, segue_error *err) {
  memset(tree, 0, sizeof *tree);
  segue__arena_init(&tree->arena);
  tree->entries = segue__calloc(1, sizeof *tree->entries);
  build b = {.L = L,
             .tree = tree,
             .entries = tree->entries,
             .err = err,
             .bytes_max = segue__lua_copies_left(segue__lua_of(L))};
  spot at = {.line = line, .path = text ? HASH_ROOT : 0, .searched = text != NULL};
  int rc = b.entries ? 0 : UV_ENOMEM;
  if (!rc && text) rc = positions_init(&b.entries->positions, text, len);
  if (!rc) file_add(&b, file);
  if (rc || b.rc) return segue__errorf(err, UV_ENOMEM, "out of memory");
  lua_pushvalue(L, index);
  build_value(&b, &tree->root, &at);
  lua_pop(L, 1);
  if (!b.rc && !segue__lua_copies(segue__lua_of(L), tree->arena.used))
    b.rc = segue__lua_refuse_copy(segue__lua_of(L), err);
  return b.rc;
}

void segue__lua_tree_deinit(segue__lua_tree *tree) {
  if (tree->entries) {
    segue__free(tree->entries->items);
    segue__free(tree->entries->positions.slots);
    segue__free(tree->entries);
  }
  segue__arena_deinit(&tree->arena);
  segue__free(tree->files);
  memset(tree, 0, sizeof *tree);
}

const char *segue__lua_tree_file(void *data, uint32_t document) {
  const segue__lua_tree *tree = data;
  return document < tree->file_count ? tree->files[document] : NULL;
}
