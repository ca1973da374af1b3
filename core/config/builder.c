/* SPDX-License-Identifier: MIT
 *
 * The builder: the children of all open containers lie on one stack; when a container ends, they
 * are copied into the arena as one block. Limits are checked here, so that they hold for every
 * format and for values that a policy returns.
 */
#include "builder.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "mask_internal.h"
#include "scalar.h"
#include "utf8.h"

enum { DEPTH_DEFAULT = 128, NODES_DEFAULT = 4000000 };
enum { CHECK_TIME = 2048 }; /* values between two looks at the clock; a power of two */

int segue__builder_new(segue__builder **out, segue__document *doc, const segue__limits *limits) {
  *out = NULL;
  segue__builder *b = segue__calloc(1, sizeof *b);
  if (!b) return UV_ENOMEM;
  b->doc = doc;
  b->document = doc->id;
  b->depth_max = limits && limits->depth ? limits->depth : DEPTH_DEFAULT;
  if (b->depth_max > SEGUE__DEPTH_MAX) b->depth_max = SEGUE__DEPTH_MAX;
  b->nodes_max = limits && limits->nodes ? limits->nodes : NODES_DEFAULT;
  b->mask = limits ? limits->mask : NULL;
  b->mask_data = limits ? limits->mask_data : NULL;
  b->may_go_on = limits ? limits->may_go_on : NULL;
  b->may_go_on_data = limits ? limits->may_go_on_data : NULL;
  b->text_max = limits && limits->text ? limits->text : SEGUE__TEXT_MAX;
  *out = b;
  return 0;
}

void segue__builder_free(segue__builder *b) {
  if (!b) return;
  segue__free(b->entries);
  segue__free(b->frames);
  segue__free(b);
}

void segue__builder_at(segue__builder *b, uint32_t line, uint32_t column) {
  b->line = line;
  b->column = column < SEGUE__COLUMN_MAX ? column : SEGUE__COLUMN_MAX; /* what a node can hold */
}

void segue__builder_in(segue__builder *b, uint32_t document) {
  b->document = document;
}

/* Returns the path to the value that is being added, or to the open map if a key is expected. steps
 * has room for b->depth steps. */
static segue__path builder_path_of(const segue__builder *b, segue__path_step *steps) {
  segue__path path = {.steps = steps};
  for (size_t i = 0; i < b->depth; i++) {
    const segue__frame *f = &b->frames[i];
    /* The child that is open: the one below the next frame, or the last. */
    size_t end = i + 1 < b->depth ? b->frames[i + 1].start : b->count + (f->type == SEGUE_LIST);
    const segue__member *m = f->type == SEGUE_LIST ? NULL : &b->entries[end - 1].member;
    if (!m)
      steps[path.count++] = (segue__path_step){.index = end - f->start - 1};
    else if (f->keyed)
      steps[path.count++] = (segue__path_step){.key = m->key, .key_len = m->key_len};
  }
  return path;
}

static segue__path_step *new_steps(const segue__builder *b) {
  return segue__calloc(b->depth + 1, sizeof(segue__path_step));
}

static const segue__mask *builder_mask_of(const segue__builder *b) {
  return b->mask ? b->mask(b->mask_data) : NULL;
}

static void write_path(const segue__path_step *steps, size_t count, segue_error *err) {
  segue__buf text;
  segue__buf_init(&text);
  for (size_t i = 0; i < count; i++)
    if (steps[i].key)
      segue__path_add_key(&text, steps[i].key, steps[i].key_len);
    else
      segue__path_add_index(&text, steps[i].index);
  if (!text.failed && text.data) segue__error_path(err, text.data);
  segue__buf_deinit(&text);
}

void segue__builder_path(const segue__builder *b, segue_error *err) {
  segue__path_step *steps = new_steps(b);
  if (steps) write_path(steps, builder_path_of(b, steps).count, err);
  segue__free(steps);
}

/* The path of the error ends at the topmost secret on the way, because the keys below a secret are
 * a part of it. If memory runs out the path is empty. */
static void builder_set_path(segue__builder *b) {
  const segue__mask *mask = builder_mask_of(b);
  segue__path_step *steps = mask ? new_steps(b) : NULL;
  if (!steps) return;
  segue__path path = builder_path_of(b, steps);
  size_t depth;
  int rc = segue__mask_depth(mask, &path, &depth);
  if (rc >= 0) write_path(steps, rc ? depth : path.count, &b->error);
  segue__free(steps);
}

int segue__builder_fail(segue__builder *b, int code, const char *format, ...) {
  if (b->status) return b->status;
  char text[sizeof b->error.message];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  b->status = segue__errorf(&b->error, code, "%s", text);
  segue__error_set_place(&b->error, b->doc->name, b->line, b->column);
  segue__error_source(&b->error, b->doc->source);
  builder_set_path(b);
  return b->status;
}

static const char *builder_quote(segue__builder *b, segue__quoted *out, segue__quote_place place,
                                 const char *s, size_t len) {
  const segue__mask *mask = builder_mask_of(b);
  segue__path_step *steps = mask ? new_steps(b) : NULL;
  segue__path path = {0};
  if (steps) path = builder_path_of(b, steps);
  bool allowed = steps && segue__quote_allows(mask, &path, place);
  segue__free(steps);
  return segue__quote_text(out, allowed, s, len);
}

const char *segue__builder_quote(segue__builder *b, segue__quoted *out, const char *s, size_t len) {
  bool value = !segue__builder_wants_key(b);
  return builder_quote(b, out, value ? SEGUE__QUOTE_VALUE : SEGUE__QUOTE_STRAY, s, len);
}

const char *segue__builder_quote_stray(segue__builder *b, segue__quoted *out, const char *s,
                                       size_t len) {
  return builder_quote(b, out, SEGUE__QUOTE_STRAY, s, len);
}

const char *segue__builder_quote_key(segue__builder *b, segue__quoted *out, const char *s,
                                     size_t len) {
  return builder_quote(b, out, SEGUE__QUOTE_KEY, s, len);
}

int segue__builder_fail_range(segue__builder *b, const char *s, size_t len) {
  segue__quoted shown;
  bool integer = true;
  for (size_t i = 0; i < len; i++)
    integer = integer && s[i] != '.' && ((s[i] | 32) != 'e' || (len > 1 && s[1] == 'x'));
  return segue__builder_fail(b, SEGUE_ERANGE,
                             integer ? "integer %s does not fit into 64 bits: quote it to keep it "
                                       "as text, or write it as a float"
                                     : "%s is too large for a float: quote it to keep it as text",
                             segue__builder_quote(b, &shown, s, len));
}

static int builder_fail_memory(segue__builder *b) {
  return segue__builder_fail(b, UV_ENOMEM, "out of memory while building the tree");
}

/* Adds an entry for a child. builder_path_of counts the open child of a list even before it has an
 * entry. */
static segue__tree_entry *builder_add_entry(segue__builder *b) {
  if (b->count == b->capacity) {
    size_t capacity = b->capacity ? b->capacity * 2 : 64;
    segue__tree_entry *entries = segue__realloc(b->entries, capacity * sizeof *entries);
    if (!entries) {
      builder_fail_memory(b);
      return NULL;
    }
    b->entries = entries;
    b->capacity = capacity;
  }
  segue__tree_entry *entry = &b->entries[b->count++];
  memset(entry, 0, sizeof *entry);
  return entry;
}

int segue__builder_check_time(segue__builder *b) {
  if (!b->may_go_on || b->may_go_on(b->may_go_on_data)) return b->status;
  return segue__builder_fail(b, SEGUE_ETIMEOUT, "reading the document takes too long");
}

static inline int count_nodes(segue__builder *b, uint32_t n) {
  if (!(b->nodes & (CHECK_TIME - 1)) && segue__builder_check_time(b)) return b->status;
  if (n > b->nodes_max || b->nodes > b->nodes_max - n)
    return segue__builder_fail(b, SEGUE_ELIMIT,
                               "the document has more than %u values, aliases expanded: split it",
                               b->nodes_max);
  b->nodes += n;
  return 0;
}

static int count_text(segue__builder *b, size_t len) {
  if (len > b->text_max || b->text > b->text_max - len)
    return segue__builder_fail(b, SEGUE_ELIMIT,
                               "the document has more than %zu MiB of text, counted again for each "
                               "alias and each use of a value: split it",
                               b->text_max >> 20);
  b->text += len;
  return 0;
}

/* Returns the entry that the next value goes into. */
static segue__tree_entry *value_entry(segue__builder *b) {
  if (b->status) return NULL;
  if (b->depth && b->frames[b->depth - 1].type == SEGUE_MAP) {
    if (b->frames[b->depth - 1].keyed) return &b->entries[b->count - 1];
    segue__builder_fail(b, SEGUE_EUSAGE, "a value in a map needs a key");
    return NULL;
  }
  if (!b->depth && b->count) {
    segue__builder_fail(b, SEGUE_EUSAGE, "there is one value at the top level");
    return NULL;
  }
  return builder_add_entry(b);
}

/* Completes a value: the map around it expects a key again. */
static void builder_done(segue__builder *b, const segue__tree_entry *entry, uint32_t nodes,
                         size_t text, uint32_t height) {
  b->last = entry;
  b->last_nodes = nodes;
  b->last_text = text;
  b->last_height = height;
  if (!b->depth) return;
  segue__frame *f = &b->frames[b->depth - 1];
  f->keyed = false;
  if (f->height < height) f->height = height;
}

int segue__builder_add_scalar(segue__builder *b, segue_node node) {
  if (b->status || count_nodes(b, 1)) return b->status;
  segue__tree_entry *entry = value_entry(b);
  if (!entry) return b->status;
  node.document = b->document;
  node.line = b->line;
  node.column = b->column;
  entry->member.value = node;
  builder_done(b, entry, 1, node.type == SEGUE_STRING ? node.count : 0, 0);
  return 0;
}

int segue__builder_null(segue__builder *b) {
  return segue__builder_add_scalar(b, (segue_node){.type = SEGUE_NULL});
}

int segue__builder_bool(segue__builder *b, bool value) {
  return segue__builder_add_scalar(b, (segue_node){.type = SEGUE_BOOL, .v.b = value});
}

int segue__builder_int(segue__builder *b, int64_t value) {
  return segue__builder_add_scalar(b, (segue_node){.type = SEGUE_INT, .v.i = value});
}

int segue__builder_uint(segue__builder *b, uint64_t value) {
  uint8_t flags = value > INT64_MAX ? SEGUE__NODE_UNSIGNED : 0;
  return segue__builder_add_scalar(b,
                                   (segue_node){.type = SEGUE_INT, .flags = flags, .v.u = value});
}

int segue__builder_float(segue__builder *b, double value) {
  return segue__builder_add_scalar(b, (segue_node){.type = SEGUE_FLOAT, .v.f = value});
}

int segue__builder_add_string(segue__builder *b, const char *s, size_t len) {
  if (b->status) return b->status;
  if (len > UINT32_MAX)
    return segue__builder_fail(b, SEGUE_ELIMIT, "a string is longer than 4 GiB");
  if (count_text(b, len)) return b->status; /* before it is copied */
  char *copy = segue__arena_strndup(&b->doc->arena, s, len);
  if (!copy) return builder_fail_memory(b);
  return segue__builder_add_scalar(
      b, (segue_node){.type = SEGUE_STRING, .count = (uint32_t)len, .v.s = copy});
}

static int builder_check_text(segue__builder *b, const char *s, size_t len, const char *what) {
  if (b->status) return b->status;
  if (len && !b->doc->foreign && memchr(s, 0, len))
    return segue__builder_fail(b, SEGUE_EENCODING, "%s contains a NUL byte", what);
  if (segue__utf8_check(s, len) != len)
    return segue__builder_fail(b, SEGUE_EENCODING, "%s is not valid UTF-8", what);
  return 0;
}

int segue__builder_string(segue__builder *b, const char *s, size_t len) {
  int rc = builder_check_text(b, s, len, "the string");
  return rc ? rc : segue__builder_add_string(b, s, len);
}

int segue__builder_untyped(segue__builder *b, const char *s, size_t len) {
  int rc = builder_check_text(b, s, len, "the value");
  if (rc) return rc;
  segue_node node;
  rc = segue__scalar_resolve(s, len, &node);
  if (rc == UV_ENOMEM) return builder_fail_memory(b);
  return !rc && segue__scalar_is_text_of(&node, s, len) ? segue__builder_add_scalar(b, node)
                                                        : segue__builder_add_string(b, s, len);
}

/* ---- Keys ------------------------------------------------------------------------------------ */

/* Members of a list usually have the same keys, so the last keys are remembered by hash and stored
 * once. A collision only costs a second copy. */
static const char *builder_intern(segue__builder *b, uint64_t hash, const char *key, size_t len) {
  size_t at = hash >> 56;
  if (b->keys[at].key && b->keys[at].hash == hash && b->keys[at].len == len &&
      !memcmp(b->keys[at].key, key, len))
    return b->keys[at].key;
  const char *copy = segue__arena_strndup(&b->doc->arena, key, len);
  if (copy) {
    b->keys[at].hash = hash;
    b->keys[at].key = copy;
    b->keys[at].len = (uint32_t)len;
  }
  return copy;
}

int segue__builder_add_key(segue__builder *b, const char *key, size_t len) {
  if (b->status) return b->status;
  if (!segue__builder_wants_key(b))
    return segue__builder_fail(b, SEGUE_EUSAGE, "a key belongs into a map, before its value");
  if (len > UINT32_MAX) return segue__builder_fail(b, SEGUE_ELIMIT, "a key is longer than 4 GiB");
  if (count_text(b, len)) return b->status;
  segue__hash hash = segue__key_hash(key, len);
  const char *copy = builder_intern(b, hash.lo, key, len);
  if (!copy) return builder_fail_memory(b);
  segue__tree_entry *entry = builder_add_entry(b);
  if (!entry) return b->status;
  entry->key = hash;
  entry->member.key = copy;
  entry->member.key_len = (uint32_t)len;
  entry->member.key_hash = (uint32_t)hash.lo;
  entry->member.line = b->line;
  entry->member.column = b->column;
  b->frames[b->depth - 1].keyed = true;
  return 0;
}

int segue__builder_key(segue__builder *b, const char *key, size_t len) {
  int rc = builder_check_text(b, key, len, "the key");
  return rc ? rc : segue__builder_add_key(b, key, len);
}

int segue__builder_merge_key(segue__builder *b) {
  if (segue__builder_add_key(b, "<<", 2)) return b->status;
  segue__frame *f = &b->frames[b->depth - 1];
  if (f->merge)
    return segue__builder_fail(b, SEGUE_ESYNTAX,
                               "'<<' is here twice, first in line %u: give it a list of maps",
                               b->entries[f->merge].member.line);
  f->merge = b->count - 1;
  return 0;
}

/* The set of keys of a map while other maps are merged into it. */
typedef struct key_set {
  uint32_t *slots;
  size_t mask;
} key_set;

/* Returns true if the key was not in the set. */
static bool set_add(key_set *set, const segue__tree_entry *entries, size_t i) {
  size_t at = entries[i].key.lo & set->mask;
  for (; set->slots[at]; at = (at + 1) & set->mask)
    if (segue__key_equal(&entries[set->slots[at] - 1].member, &entries[i].member)) return false;
  set->slots[at] = (uint32_t)i + 1;
  return true;
}

static int merge_map(segue__builder *b, key_set *set, const segue_node *map) {
  for (uint32_t i = 0; i < map->count; i++) {
    segue__tree_entry *entry = builder_add_entry(b);
    if (!entry) return b->status;
    entry->member = map->v.members[i];
    entry->key = segue__key_hash(entry->member.key, entry->member.key_len);
    if (!set_add(set, b->entries, b->count - 1)) b->count--;
  }
  return 0;
}

static int check_merge(segue__builder *b, const segue_node *value, size_t *members) {
  bool good = value->type == SEGUE_MAP || value->type == SEGUE_LIST;
  *members = value->type == SEGUE_MAP ? value->count : 0;
  for (uint32_t i = 0; good && value->type == SEGUE_LIST && i < value->count; i++) {
    good = value->v.items[i].type == SEGUE_MAP;
    *members += value->v.items[i].count;
  }
  if (good) return 0;
  segue__builder_at(b, value->line, value->column);
  return segue__builder_fail(b, SEGUE_ETYPE, "'<<' takes a map or a list of maps: give it those");
}

/* Removes the merge key and adds the members of its maps: explicit keys win over merged ones,
 * earlier maps of a list over later ones. */
static int apply_merge(segue__builder *b, segue__frame *f) {
  segue_node value = b->entries[f->merge].member.value;
  size_t members;
  int rc = check_merge(b, &value, &members);
  if (rc) return rc;
  memmove(b->entries + f->merge, b->entries + f->merge + 1,
          (b->count - f->merge - 1) * sizeof *b->entries);
  b->count--;
  size_t size = 16;
  while (size < 2 * (b->count - f->start + members))
    size *= 2;
  key_set set = {segue__calloc(size, sizeof *set.slots), size - 1};
  if (!set.slots) return builder_fail_memory(b);
  for (size_t i = f->start; i < b->count; i++)
    set_add(&set, b->entries, i);
  if (value.type == SEGUE_MAP) rc = merge_map(b, &set, &value);
  for (uint32_t i = 0; !rc && value.type == SEGUE_LIST && i < value.count; i++)
    rc = merge_map(b, &set, &value.v.items[i]);
  segue__free(set.slots);
  return rc;
}

/* ---- Containers ------------------------------------------------------------------------------ */

int segue__builder_begin(segue__builder *b, segue_type type) {
  if (b->status) return b->status;
  if (type != SEGUE_LIST && type != SEGUE_MAP)
    return segue__builder_fail(b, SEGUE_EUSAGE, "only lists and maps begin");
  if (b->depth >= b->depth_max)
    return segue__builder_fail(
        b, SEGUE_ELIMIT, "lists and maps are nested more than %u deep: flatten them", b->depth_max);
  uint32_t nodes = b->nodes;
  size_t text = b->text;
  segue__tree_entry *entry = count_nodes(b, 1) ? NULL : value_entry(b);
  if (!entry) return b->status;
  entry->member.value =
      (segue_node){.type = type, .document = b->document, .line = b->line, .column = b->column};
  if (b->depth == b->frame_capacity) {
    size_t capacity = b->frame_capacity ? b->frame_capacity * 2 : 16;
    segue__frame *frames = segue__realloc(b->frames, capacity * sizeof *frames);
    if (!frames) return builder_fail_memory(b);
    b->frames = frames;
    b->frame_capacity = capacity;
  }
  b->frames[b->depth++] =
      (segue__frame){.start = b->count, .nodes = nodes, .text = text, .type = type};
  return 0;
}

static int fail_duplicate(segue__builder *b, const size_t same[2]) {
  const segue__frame *f = &b->frames[b->depth - 1];
  const segue__member *first = &b->entries[f->start + same[0]].member;
  const segue__member *second = &b->entries[f->start + same[1]].member;
  segue__builder_at(b, second->line, second->column);
  segue__quoted key;
  segue__builder_quote_key(b, &key, first->key, first->key_len);
  if (!first->line)
    return segue__builder_fail(b, SEGUE_ESYNTAX, "key '%s' is here twice: remove one", key.text);
  return segue__builder_fail(b, SEGUE_ESYNTAX,
                             "key '%s' is here twice, in line %u and in line %u: remove one",
                             key.text, first->line, second->line);
}

int segue__builder_end(segue__builder *b) {
  if (b->status) return b->status;
  if (!b->depth || b->frames[b->depth - 1].keyed)
    return segue__builder_fail(b, SEGUE_EUSAGE,
                               b->depth ? "a key has no value" : "nothing is open that could end");
  segue__frame *f = &b->frames[b->depth - 1];
  if (f->merge && apply_merge(b, f)) return b->status;
  segue__tree_entry *own = &b->entries[f->start - 1];
  segue__tree_entry *children = b->entries + f->start;
  size_t n = b->count - f->start, same[2] = {0, 0};
  int rc = f->type == SEGUE_LIST
               ? segue__list_seal(&b->doc->arena, &own->member.value, children, n)
               : segue__map_seal(&b->doc->arena, &own->member.value, children, n, same);
  if (rc) return rc == UV_ENOMEM ? builder_fail_memory(b) : fail_duplicate(b, same);
  b->count = f->start;
  b->depth--;
  builder_done(b, own, b->nodes - f->nodes, b->text - f->text, f->height + 1);
  return 0;
}

int segue__builder_share(segue__builder *b, const segue_node *node, uint32_t nodes, size_t text,
                         uint32_t height) {
  if (b->status || count_nodes(b, nodes) || count_text(b, text)) return b->status;
  if (b->depth + height > b->depth_max)
    return segue__builder_fail(
        b, SEGUE_ELIMIT,
        "lists and maps are nested more than %u deep, aliases expanded: flatten them",
        b->depth_max);
  segue__tree_entry *entry = value_entry(b);
  if (!entry) return b->status;
  entry->member.value = *node;
  builder_done(b, entry, nodes, text, height);
  return 0;
}

void segue__builder_wide(segue__builder *b) {
  if (b->doc->wide++) return;
  b->doc->wide_line = b->line;
  b->doc->wide_column = b->column;
}

int segue__builder_finish(segue__builder *b, segue_error *err) {
  if (!b->status && (b->depth || !b->count))
    segue__builder_fail(b, SEGUE_EUSAGE,
                        b->depth ? "a list or map is still open" : "there is no value");
  if (!b->status && !b->doc->foreign && b->entries[0].member.value.type != SEGUE_MAP) {
    const segue_node *root = &b->entries[0].member.value;
    segue__builder_at(b, root->line, root->column);
    segue__builder_fail(b, SEGUE_ETYPE,
                        "the top level is a %s: it must be a map of keys and values",
                        segue_type_name(root->type));
  }
  if (b->status) {
    if (err) *err = b->error;
    return b->status;
  }
  b->doc->root = b->entries[0].member.value;
  b->doc->parsed = true;
  if (!b->doc->data) b->doc->hash = segue__node_hash(&b->doc->root);
  return 0;
}
