/* SPDX-License-Identifier: MIT
 *
 * Lua values as trees. Tables are read without their metamethods. A table may contain itself or
 * name one text a thousand times: the check for cycles and the builder's limits of depth, values
 * and text end that.
 */
#include "convert.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../config/builder.h"
#include "../../options/options.h"
#include "lua_document.h"

enum { CHECK_BUDGET = 1024 };

/* The position of a value: its file and line, and the path that its keys are searched with. */
typedef struct place {
  uint32_t document, line;
  uint64_t path; /* 0: it has none */
  bool searched; /* keys are searched in the text */
} place;

/* A table that is open; one lies in each call of convert_table. */
typedef struct level {
  const struct level *above;
  const void *table;
} level;

typedef struct convert {
  lua_State *L;
  segue__builder *b;
  const segue__conversion *o;
  const level *level;
  unsigned depth;
  unsigned count;
  bool spent; /* the CPU time of the call is over */
} convert;

typedef struct table_key {
  const char *s; /* the table keeps the text */
  size_t len;
} table_key;

typedef struct table_shape {
  size_t items; /* keys 1 to items */
  size_t texts; /* keys that are texts */
  bool odd;     /* there are other keys, or a key of 1 to items is missing */
  bool tagged;  /* a constructor made it */
  bool values;  /* by segue.value: its values become a document */
} table_shape;

static int convert_value(convert *c, int index, const place *at);

static void convert_check_budget(convert *c) {
  if (++c->count & (CHECK_BUDGET - 1)) return;
  if (segue__budget_is_spent(segue__lua_of(c->L)->budget)) segue__budget_raise(c->L);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
static int convert_fail(convert *c, int code, const char *format, const char *word) {
  if (c->o->errors->code && format != c->o->errors->size) code = c->o->errors->code;
  return segue__builder_fail(c->b, code, format, word);
}
#pragma GCC diagnostic pop

static void convert_at(const convert *c, const place *at) {
  segue__builder_in(c->b, at->document);
  segue__builder_at(c->b, at->line, 0);
}

/* ---- Lists and maps -------------------------------------------------------------------------- */

/* A text field of the table at index; NULL: it has none. The table keeps the text. */
static const char *table_text(lua_State *L, int index, const char *key) {
  lua_pushstring(L, key);
  lua_rawget(L, index);
  const char *s = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
  lua_pop(L, 1);
  return s;
}

static table_shape table_shape_of(convert *c, int index) {
  lua_State *L = c->L;
  table_shape shape = {.items = lua_objlen(L, index)};
  size_t numbers = 0;
  for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
    convert_check_budget(c);
    int type = lua_type(L, -2);
    lua_Number n = type == LUA_TNUMBER ? lua_tonumber(L, -2) : 0;
    if (type == LUA_TSTRING)
      shape.texts++;
    else if (n >= 1 && n <= (lua_Number)shape.items && n == floor(n))
      numbers++;
    else
      shape.odd = true;
  }
  if (numbers != shape.items) shape.odd = true;
  if (!c->o->file || !shape.texts) return shape;
  shape.tagged = table_text(L, index, "tag") != NULL;
  const char *kind = shape.tagged ? table_text(L, index, "kind") : NULL;
  shape.values = kind && !strcmp(kind, "value");
  return shape;
}

static int convert_list(convert *c, int index, size_t count, const place *at) {
  place inside = {at->document, at->line, 0, at->searched};
  int rc = segue__builder_begin(c->b, SEGUE_LIST);
  for (size_t i = 1; i <= count && !rc; i++) {
    lua_rawgeti(c->L, index, (int)i);
    rc = convert_value(c, lua_gettop(c->L), &inside);
    lua_pop(c->L, 1);
  }
  return rc ? rc : segue__builder_end(c->b);
}

/* Compares two keys. Once the CPU time is over all keys are equal, so that sorting a million of
 * them ends soon. */
static int compare_keys(const void *left, const void *right, void *data) {
  const table_key *x = left, *y = right;
  convert *c = data;
  if (!(++c->count & (CHECK_BUDGET - 1)))
    c->spent = c->spent || segue__budget_is_spent(segue__lua_of(c->L)->budget);
  if (c->spent) return 0;
  size_t len = x->len < y->len ? x->len : y->len;
  int order = len ? memcmp(x->s, y->s, len) : 0;
  return order ? order : (x->len > y->len) - (x->len < y->len);
}

/* The keys of the table at index that are texts, sorted, in a userdata on top. Sorted keys give the
 * same tree for the same table, and of two mistakes always the same one is reported. */
static const table_key *sort_keys(convert *c, int index, size_t count) {
  table_key *keys = lua_newuserdata(c->L, count * sizeof *keys + 1);
  size_t n = 0;
  for (lua_pushnil(c->L); n < count && lua_next(c->L, index); lua_pop(c->L, 1)) {
    if (lua_type(c->L, -2) != LUA_TSTRING) continue;
    keys[n].s = lua_tolstring(c->L, -2, &keys[n].len);
    n++;
  }
  qsort_r(keys, n, sizeof *keys, compare_keys, c);
  if (c->spent) segue__budget_raise(c->L);
  return keys;
}

/* Left out: the place that a constructor stored, and the values of segue.value. */
static bool is_skipped(const table_key *key, const table_shape *shape) {
  bool value = shape->values && key->len == 5 && !memcmp(key->s, "value", 5);
  return value || (shape->tagged && key->len == 7 && !memcmp(key->s, "made_at", 7));
}

static int convert_key(convert *c, const table_key *key, const place *at) {
  convert_at(c, at);
  return c->o->file ? segue__builder_add_key(c->b, key->s, key->len)
                    : segue__builder_key(c->b, key->s, key->len);
}

static int convert_member(convert *c, int index, const table_key *key, const place *at) {
  place inside = *at;
  uint32_t line = 0;
  if (at->searched) line = segue__lua_lines_find(c->o->lines, at->path, key->s, key->len);
  if (line) inside.line = line;
  if (at->path) inside.path = segue__lua_lines_path(at->path, key->s, key->len);
  int rc = convert_key(c, key, &inside);
  if (rc) return rc;
  lua_pushlstring(c->L, key->s, key->len);
  lua_rawget(c->L, index);
  rc = convert_value(c, lua_gettop(c->L), &inside);
  lua_pop(c->L, 1);
  return rc;
}

static int convert_items(convert *c, int index, size_t count, const place *at) {
  const table_key key = {SEGUE__POSITIONAL, 0};
  int rc = convert_key(c, &key, at);
  return rc ? rc : convert_list(c, index, count, at);
}

static int convert_map(convert *c, int index, const table_shape *shape, const place *at) {
  int top = lua_gettop(c->L), rc = segue__builder_begin(c->b, SEGUE_MAP);
  if (!rc && shape->items) rc = convert_items(c, index, shape->items, at);
  if (rc) return rc;
  const table_key *keys = sort_keys(c, index, shape->texts);
  for (size_t i = 0; i < shape->texts && !rc; i++) {
    if (is_skipped(&keys[i], shape)) continue;
    if (shape->items && !keys[i].len) /* it would be the key of the items */
      return convert_fail(c, SEGUE_ETYPE, "a table has an empty text as a key%s", "");
    rc = convert_member(c, index, &keys[i], at);
  }
  lua_settop(c->L, top);
  if (rc) return rc;
  convert_at(c, at);
  return segue__builder_end(c->b);
}

/* Reads the place that a constructor stored, "file:line"; everything in its table is there. */
static int read_place(const convert *c, int index, place *at) {
  const char *stored = table_text(c->L, index, "made_at");
  const char *colon = stored ? strrchr(stored, ':') : NULL;
  char file[sizeof((segue__place *)0)->file];
  if (!colon || !c->o->file || (size_t)(colon - stored) >= sizeof file) return 0;
  memcpy(file, stored, (size_t)(colon - stored));
  file[colon - stored] = 0;
  *at = (place){.line = (uint32_t)strtoul(colon + 1, NULL, 10)};
  return c->o->file(c->o->data, file, &at->document);
}

static int check_nesting(convert *c, const void *table) {
  for (const level *l = c->level; l; l = l->above)
    if (l->table == table) return convert_fail(c, SEGUE_ETYPE, c->o->errors->cycle, "");
  if (c->depth == c->o->depth_max) return convert_fail(c, SEGUE_ELIMIT, c->o->errors->depth, "");
  luaL_checkstack(c->L, 8, "a value is nested too deeply");
  return 0;
}

static int convert_table(convert *c, int index, const place *where) {
  const level here = {c->level, lua_topointer(c->L, index)};
  place at = *where;
  int rc = check_nesting(c, here.table);
  if (rc) return rc;
  table_shape shape = table_shape_of(c, index);
  bool options = c->o->file != NULL, marked = !options && segue__list_test(c->L, index);
  if (shape.odd || (shape.texts && (marked || (shape.items && !options))))
    return convert_fail(c, SEGUE_ETYPE, c->o->errors->keys, "");
  if (shape.tagged && read_place(c, index, &at))
    return segue__builder_fail(c->b, UV_ENOMEM, "out of memory");
  convert_at(c, &at);
  c->level = &here;
  c->depth++;
  if (!shape.texts && (shape.items || marked))
    rc = convert_list(c, index, shape.items, &at);
  else
    rc = convert_map(c, index, &shape, &at);
  c->level = here.above;
  c->depth--;
  return rc;
}

/* ---- Other values ---------------------------------------------------------------------------- */

static int convert_number(convert *c, lua_Number n) {
  bool whole = n == floor(n) && fabs(n) <= 9007199254740992.0;
  if (c->o->finite && n - n != 0)
    return convert_fail(c, SEGUE_ERANGE, "is %s, which JSON cannot represent",
                        n != n ? "not a number" : "infinite");
  return whole ? segue__builder_int(c->b, (int64_t)n) : segue__builder_float(c->b, n);
}

/* Copies a value of the configuration, because the tree may outlive its snapshot. */
static int convert_node(convert *c, const segue_node *node) {
  if (node->type != SEGUE_LIST && node->type != SEGUE_MAP) {
    if (node->type == SEGUE_STRING) return segue__builder_string(c->b, node->v.s, node->count);
    return segue__builder_add_scalar(c->b, *node);
  }
  convert_check_budget(c);
  if (c->depth == c->o->depth_max) return convert_fail(c, SEGUE_ELIMIT, c->o->errors->depth, "");
  int rc = segue__builder_begin(c->b, (segue_type)node->type);
  c->depth++;
  for (uint32_t i = 0; i < node->count && !rc; i++) {
    const segue__member *m = node->type == SEGUE_MAP ? &node->v.members[i] : NULL;
    convert_check_budget(c);
    if (m) rc = segue__builder_key(c->b, m->key, m->key_len);
    if (!rc) rc = convert_node(c, m ? &m->value : &node->v.items[i]);
  }
  c->depth--;
  return rc ? rc : segue__builder_end(c->b);
}

static int convert_other(convert *c, int index) {
  segue__wide wide;
  int type = lua_type(c->L, index);
  const segue__value *value = type == LUA_TUSERDATA ? segue__value_test(c->L, index) : NULL;
  if (type == LUA_TUSERDATA && segue__value_is_null(c->L, index)) return segue__builder_null(c->b);
  if (type == LUA_TUSERDATA && segue__int_test(c->L, index, &wide))
    return wide > INT64_MAX ? segue__builder_uint(c->b, (uint64_t)wide)
                            : segue__builder_int(c->b, (int64_t)wide);
  if (c->o->file) {
    unsigned kind = type == LUA_TFUNCTION ? SEGUE__OPAQUE_FUNCTION : SEGUE__OPAQUE_OTHER;
    const segue_node node = {
        .type = SEGUE_NULL, .flags = SEGUE__NODE_OPAQUE, .reserved = kind & 3, .v.u = 1};
    return segue__builder_add_scalar(c->b, node);
  }
  if (value) return convert_node(c, value->node);
  return convert_fail(c, SEGUE_ETYPE, c->o->errors->type, luaL_typename(c->L, index));
}

static int convert_value(convert *c, int index, const place *at) {
  size_t len;
  const char *s;
  convert_check_budget(c);
  convert_at(c, at);
  if ((c->o->bytes_max && c->b->doc->arena.used > c->o->bytes_max) ||
      (c->o->values_max && c->b->nodes >= c->o->values_max))
    return convert_fail(c, SEGUE_ELIMIT, c->o->errors->size, "");
  switch (lua_type(c->L, index)) {
  case LUA_TBOOLEAN:
    return segue__builder_bool(c->b, lua_toboolean(c->L, index));
  case LUA_TNUMBER:
    return convert_number(c, lua_tonumber(c->L, index));
  case LUA_TSTRING:
    s = lua_tolstring(c->L, index, &len);
    return c->o->file ? segue__builder_add_string(c->b, s, len)
                      : segue__builder_string(c->b, s, len);
  case LUA_TTABLE:
    return convert_table(c, index, at);
  default:
    return convert_other(c, index);
  }
}

/* ---- All of it ------------------------------------------------------------------------------- */

int segue__lua_convert(lua_State *L, int index, segue__builder *b, const segue__conversion *options,
                       segue_error *err) {
  convert c = {.L = L, .b = b, .o = options};
  place at = {.document = b->document,
              .line = options->line,
              .path = options->lines ? SEGUE__LUA_LINES_ROOT : 0,
              .searched = options->lines != NULL};
  luaL_checkstack(L, 8, "a value is nested too deeply");
  if (index < 0) index = lua_gettop(L) + 1 + index;
  int rc = convert_value(&c, index, &at);
  if (!rc) return 0;
  *err = b->error;
  if (options->shows_path) segue__builder_path(b, err);
  return rc;
}
