/* SPDX-License-Identifier: MIT
 *
 * Plain Lua values as trees, and trees as plain Lua values. Tables are read without their
 * metamethods, so no code of the policy runs in the middle. A table may contain itself or name one
 * text a thousand times: the builder's limits of depth, values and text end that.
 */
#include "lua_document.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../config/builder.h"
#include "../../config/path.h"

enum { DEPTH_MAX = SEGUE__LUA_DEPTH_MAX, CHECK_BUDGET = 1024 };

static char list_key; /* its address is a key in the registry */

/* ---- Marked lists ---------------------------------------------------------------------------- */

static void list_metatable(lua_State *L) {
  lua_pushlightuserdata(L, &list_key);
  lua_rawget(L, LUA_REGISTRYINDEX);
}

void segue__list_open(lua_State *L) {
  lua_pushlightuserdata(L, &list_key);
  lua_newtable(L);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

void segue__list_mark(lua_State *L, int index) {
  lua_pushvalue(L, index);
  list_metatable(L);
  lua_setmetatable(L, -2);
  lua_pop(L, 1);
}

bool segue__list_test(lua_State *L, int index) {
  if (lua_type(L, index) != LUA_TTABLE || !lua_getmetatable(L, index)) return false;
  list_metatable(L);
  bool same = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return same;
}

/* ---- The box --------------------------------------------------------------------------------- */

void segue__lua_document_clear(lua_State *L, segue__lua_document *box) {
  segue__builder_free(box->builder);
  segue__document_unref(box->doc);
  segue__buf_deinit(&box->text);
  if (box->charged) segue__lua_discharge(segue__lua_of(L), box->charged);
  memset(box, 0, sizeof *box);
}

static int document_collect(lua_State *L) {
  segue__lua_document_clear(L, lua_touserdata(L, 1));
  return 0;
}

segue__lua_document *segue__lua_document_push(lua_State *L) {
  segue__lua_document *box = lua_newuserdata(L, sizeof *box);
  memset(box, 0, sizeof *box);
  if (luaL_newmetatable(L, "segue.document")) {
    lua_pushcfunction(L, document_collect);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return box;
}

/* ---- Lua to tree ----------------------------------------------------------------------------- */

typedef struct add {
  lua_State *L;
  segue__builder *b;
  segue_error *err;
  segue__path_step steps[DEPTH_MAX]; /* to the value that is added; keys are Lua's */
  size_t depth;
  unsigned count;
  bool finite;
  bool spent; /* the CPU time of the call is over */
} add;

typedef struct add_key {
  const char *s;
  size_t len;
} add_key;

static int add_value(add *a, int index);

static int add_fail(const add *a, int code, const char *format, const char *word) {
  segue__buf path;
  segue__buf_init(&path);
  for (size_t i = 0; i < a->depth; i++)
    if (a->steps[i].key)
      segue__path_add_key(&path, a->steps[i].key, a->steps[i].key_len);
    else
      segue__path_add_index(&path, a->steps[i].index);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  segue__errorf(a->err, code, format, word);
#pragma GCC diagnostic pop
  if (!path.failed && path.len) segue__error_path(a->err, path.data);
  segue__buf_deinit(&path);
  return code;
}

/* Reports the first failure of the builder with the path of the value: the builder itself does not
 * show paths. */
static int add_result(const add *a, int rc) {
  return rc ? add_fail(a, rc, "%s", a->b->error.message) : 0;
}

static void add_check_budget(add *a) {
  if (++a->count & (CHECK_BUDGET - 1)) return;
  if (segue__budget_is_spent(segue__lua_of(a->L)->budget)) segue__budget_raise(a->L);
}

static int add_number(const add *a, lua_Number n) {
  bool whole = n == floor(n) && fabs(n) <= 9007199254740992.0;
  if (a->finite && n - n != 0)
    return add_fail(a, SEGUE_ERANGE, "is %s, which JSON cannot represent",
                    n != n ? "not a number" : "infinite");
  return add_result(a,
                    whole ? segue__builder_int(a->b, (int64_t)n) : segue__builder_float(a->b, n));
}

static int add_list(add *a, int index, size_t count) {
  int rc = segue__builder_begin(a->b, SEGUE_LIST);
  if (rc) return add_result(a, rc);
  segue__path_step *step = &a->steps[a->depth++];
  for (size_t i = 1; i <= count && !rc; i++) {
    *step = (segue__path_step){.index = i - 1};
    lua_rawgeti(a->L, index, (int)i);
    rc = add_value(a, lua_gettop(a->L));
    lua_pop(a->L, 1);
  }
  a->depth--;
  return rc ? rc : add_result(a, segue__builder_end(a->b));
}

/* Compares two keys. Once the CPU time is over all keys are equal, so that sorting a million of
 * them ends soon. */
static int add_compare(const void *left, const void *right, void *data) {
  const add_key *x = left, *y = right;
  add *a = data;
  if (!(++a->count & (CHECK_BUDGET - 1)))
    a->spent = a->spent || segue__budget_is_spent(segue__lua_of(a->L)->budget);
  if (a->spent) return 0;
  size_t len = x->len < y->len ? x->len : y->len;
  int order = len ? memcmp(x->s, y->s, len) : 0;
  return order ? order : (x->len > y->len) - (x->len < y->len);
}

/* The keys of the table at index, sorted, in a userdata on top; the table keeps the texts. */
static const add_key *add_keys(add *a, int index, size_t count) {
  add_key *keys = lua_newuserdata(a->L, count * sizeof *keys + 1);
  size_t n = 0;
  for (lua_pushnil(a->L); n < count && lua_next(a->L, index); lua_pop(a->L, 1), n++)
    keys[n].s = lua_tolstring(a->L, -2, &keys[n].len);
  qsort_r(keys, count, sizeof *keys, add_compare, a);
  if (a->spent) segue__budget_raise(a->L);
  return keys;
}

static int add_map(add *a, int index, size_t count) {
  int rc = segue__builder_begin(a->b, SEGUE_MAP), top = lua_gettop(a->L);
  if (rc) return add_result(a, rc);
  const add_key *keys = add_keys(a, index, count);
  segue__path_step *step = &a->steps[a->depth++];
  for (size_t i = 0; i < count && !rc; i++) {
    *step = (segue__path_step){.key = keys[i].s, .key_len = keys[i].len};
    rc = add_result(a, segue__builder_key(a->b, keys[i].s, keys[i].len));
    if (rc) break;
    lua_pushlstring(a->L, keys[i].s, keys[i].len);
    lua_rawget(a->L, index);
    rc = add_value(a, lua_gettop(a->L));
    lua_pop(a->L, 1);
  }
  a->depth--;
  lua_settop(a->L, top);
  return rc ? rc : add_result(a, segue__builder_end(a->b));
}

static int add_table(add *a, int index) {
  size_t texts = 0, others = 0, length = lua_objlen(a->L, index);
  if (a->depth == DEPTH_MAX)
    return add_fail(a, SEGUE_ELIMIT, "is nested more than %s deep, or contains itself", "200");
  luaL_checkstack(a->L, 8, "a value is nested too deeply");
  for (lua_pushnil(a->L); lua_next(a->L, index); lua_pop(a->L, 1)) {
    add_check_budget(a);
    if (lua_type(a->L, -2) == LUA_TSTRING)
      texts++;
    else
      others++;
  }
  if (others == length && !texts && (length || segue__list_test(a->L, index)))
    return add_list(a, index, length);
  if (others || (texts && segue__list_test(a->L, index)))
    return add_fail(a, SEGUE_ETYPE,
                    "is neither a list (keys 1, 2, 3 ...) nor a map (keys that are texts)%s", "");
  return add_map(a, index, texts);
}

/* Copies a value of the configuration, because the document may outlive its snapshot. */
static int add_node(add *a, const segue_node *node) {
  int rc = 0;
  add_check_budget(a);
  switch (node->type) {
  case SEGUE_NULL:
    return add_result(a, segue__builder_null(a->b));
  case SEGUE_LIST:
  case SEGUE_MAP:
    if (a->depth == DEPTH_MAX)
      return add_fail(a, SEGUE_ELIMIT, "is nested more than %s deep", "200");
    rc = add_result(a, segue__builder_begin(a->b, (segue_type)node->type));
    a->depth++;
    for (uint32_t i = 0; i < node->count && !rc; i++) {
      const segue__member *m = node->type == SEGUE_MAP ? &node->v.members[i] : NULL;
      a->steps[a->depth - 1] = (segue__path_step){.index = i};
      if (m) a->steps[a->depth - 1] = (segue__path_step){.key = m->key, .key_len = m->key_len};
      if (m) rc = add_result(a, segue__builder_key(a->b, m->key, m->key_len));
      if (!rc) rc = add_node(a, m ? &m->value : &node->v.items[i]);
    }
    a->depth--;
    return rc ? rc : add_result(a, segue__builder_end(a->b));
  case SEGUE_STRING:
    return add_result(a, segue__builder_string(a->b, node->v.s, node->count));
  case SEGUE_BOOL:
    return add_result(a, segue__builder_bool(a->b, node->v.b));
  case SEGUE_FLOAT:
    return add_result(a, segue__builder_float(a->b, node->v.f));
  default:
    return add_result(a, node->flags & SEGUE__NODE_UNSIGNED ? segue__builder_uint(a->b, node->v.u)
                                                            : segue__builder_int(a->b, node->v.i));
  }
}

static int add_userdata(add *a, int index) {
  segue__wide wide;
  const segue__value *value = segue__value_test(a->L, index);
  if (value) return add_node(a, value->node);
  if (segue__value_is_null(a->L, index)) return add_result(a, segue__builder_null(a->b));
  if (!segue__int_test(a->L, index, &wide))
    return add_fail(a, SEGUE_ETYPE, "is a %s: plain data only", "userdata");
  return add_result(a, wide > INT64_MAX ? segue__builder_uint(a->b, (uint64_t)wide)
                                        : segue__builder_int(a->b, (int64_t)wide));
}

static int add_value(add *a, int index) {
  size_t len;
  const char *s;
  add_check_budget(a);
  switch (lua_type(a->L, index)) {
  case LUA_TBOOLEAN:
    return add_result(a, segue__builder_bool(a->b, lua_toboolean(a->L, index)));
  case LUA_TNUMBER:
    return add_number(a, lua_tonumber(a->L, index));
  case LUA_TSTRING:
    s = lua_tolstring(a->L, index, &len);
    return add_result(a, segue__builder_string(a->b, s, len));
  case LUA_TTABLE:
    return add_table(a, index);
  case LUA_TUSERDATA:
    return add_userdata(a, index);
  default:
    return add_fail(a, SEGUE_ETYPE, "is a %s: plain data only", luaL_typename(a->L, index));
  }
}

int segue__lua_document_add(lua_State *L, int index, segue__builder *b, bool finite,
                            segue_error *err) {
  add a = {.L = L, .b = b, .err = err, .finite = finite};
  return add_value(&a, index);
}

/* ---- Tree to Lua ----------------------------------------------------------------------------- */

static void push_node(lua_State *L, const segue_node *node, unsigned *count) {
  if (!(++*count & (CHECK_BUDGET - 1)) && segue__budget_is_spent(segue__lua_of(L)->budget))
    segue__budget_raise(L);
  switch (node->type) {
  case SEGUE_NULL:
    segue__value_push_null(L);
    break;
  case SEGUE_LIST:
    luaL_checkstack(L, 8, "the document is nested too deeply");
    lua_createtable(L, (int)node->count, 0);
    segue__list_mark(L, lua_gettop(L));
    for (uint32_t i = 0; i < node->count; i++) {
      push_node(L, &node->v.items[i], count);
      lua_rawseti(L, -2, (int)i + 1);
    }
    break;
  case SEGUE_MAP:
    luaL_checkstack(L, 8, "the document is nested too deeply");
    lua_createtable(L, 0, (int)node->count);
    for (uint32_t i = 0; i < node->count; i++) {
      lua_pushlstring(L, node->v.members[i].key, node->v.members[i].key_len);
      push_node(L, &node->v.members[i].value, count);
      lua_rawset(L, -3);
    }
    break;
  default:
    segue__value_push(L, NULL, node);
  }
}

void segue__lua_document_value(lua_State *L, const segue_node *node) {
  unsigned count = 0;
  push_node(L, node, &count);
}
