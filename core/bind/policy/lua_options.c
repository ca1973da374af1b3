/* SPDX-License-Identifier: MIT
 *
 * The functions of the tables of options for the Lua half: one validates the options of a
 * constructor and tags them, another validates the arguments of a function and returns them in
 * plain units. A mistake is raised at the caller's line in the policy.
 */
#include "lua_options.h"

#include <string.h>

#include "../../os/suggest.h"
#include "../../reload/policy_options.h"
#include "../../source/source_options.h"
#include "../io/async_io.h"
#include "lua_tree.h"
#include "plugin_options.h"
#include "policy.h"

/* ---- Throwing -------------------------------------------------------------------------------- */

/* Throws a sentence with the place of the innermost function that is not of the library. */
static int throw_text(lua_State *L, const char *text) {
  segue__place at;
  if (segue__lua_place(segue__lua_of(L), L, 1, &at))
    lua_pushfstring(L, "%s:%d: %s", at.file, (int)at.line, text);
  else
    lua_pushstring(L, text);
  return lua_error(L);
}

static int throw_first(lua_State *L, segue__errors *errors) {
  char text[sizeof((segue_error *)0)->message] = "out of memory";
  if (errors->count) memcpy(text, errors->items[0].message, sizeof text);
  segue__errors_deinit(errors);
  return throw_text(L, text);
}

/* ---- One validation ---------------------------------------------------------------------------
 */

/* All that a validation holds, freed by the collector if something is thrown in the middle. */
typedef struct validation {
  segue__lua_tree tree;
  segue__option_kind topics[SEGUE__LUA_TOPICS_MAX];
  segue__topics all;
  const segue_option_table *table;
  void *filled;
  segue_option_table made; /* from names of types in Lua, with its rows */
  segue_option *rows;
} validation;

static int validation_free(lua_State *L) {
  validation *j = lua_touserdata(L, 1);
  if (j->filled) segue__options_clear(j->table, j->filled);
  segue__free(j->filled);
  j->filled = NULL;
  segue__free(j->rows);
  j->rows = NULL;
  segue__lua_tree_deinit(&j->tree);
  return 0;
}

static validation *validation_push(lua_State *L) {
  validation *j = lua_newuserdata(L, sizeof *j);
  memset(j, 0, sizeof *j);
  if (luaL_newmetatable(L, "segue.validation")) {
    lua_pushcfunction(L, validation_free);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  j->all = segue__lua_topics(NULL, 0, j->topics);
  return j;
}

static const segue__option_kind *topic_of(lua_State *L, const validation *j, const char *family,
                                          const char *name) {
  for (size_t i = 0; i < j->all.count; i++) {
    const segue__option_kind *topic = &j->all.items[i];
    bool same = topic->name ? name && !strcmp(topic->name, name) : !name;
    if (same && !strcmp(topic->family, family)) return topic;
  }
  luaL_error(L, "there are no options of %s %s", family, name ? name : "");
  return NULL;
}

/* Validates the value at index by a table; throws its first mistake. subject begins the message. */
static void options_validate(lua_State *L, validation *j, int index,
                             const segue_option_table *table, const char *subject) {
  segue__place at = {.line = 0};
  segue_error err;
  segue__errors errors;
  segue__lua_place(segue__lua_of(L), L, 1, &at);
  if (segue__lua_tree_init(&j->tree, L, index, at.file, at.line, NULL, 0, &err)) {
    lua_pushfstring(L, "%s: %s", subject, err.message);
    throw_text(L, lua_tostring(L, -1));
  }
  j->table = table;
  j->filled = segue__calloc(1, table->struct_size + 1);
  if (!j->filled) throw_text(L, "out of memory");
  segue__options_env env = {.kinds = j->topics,
                            .kind_count = j->all.count,
                            .subject = subject,
                            .first = 1,
                            .file = segue__lua_tree_file,
                            .data = &j->tree};
  segue__errors_init(&errors);
  if (segue__options_fill(table, &j->tree.root, j->filled, &env, &errors)) throw_first(L, &errors);
  segue__errors_deinit(&errors);
}

/* ---- Arguments of functions ------------------------------------------------------------------ */

static void push_table(lua_State *L, const segue_option_table *table, const char *at, int given);

static void push_text(lua_State *L, const char *s) {
  if (s)
    lua_pushstring(L, s);
  else
    lua_pushnil(L);
}

/* The value of a type at `at`; given: the table in Lua, 0: there is none. */
static void push_scalar(lua_State *L, const segue_option *row, segue_option_type type,
                        const char *at) {
  size_t len;
  const char *choice;
  switch (type) {
  case SEGUE_OPTION_TEXT:
  case SEGUE_OPTION_PATH:
    push_text(L, *(char *const *)at);
    break;
  case SEGUE_OPTION_STRING: {
    const segue_option_string *s = (const segue_option_string *)at;
    if (s->data)
      lua_pushlstring(L, s->data, s->len);
    else
      lua_pushnil(L);
    break;
  }
  case SEGUE_OPTION_BOOLEAN:
  case SEGUE_OPTION_SWITCH:
    lua_pushboolean(L, *(const bool *)at);
    break;
  case SEGUE_OPTION_CHOICE:
    choice = segue__choices_at(row->choices, (size_t) * (const int *)at, &len);
    lua_pushlstring(L, choice ? choice : "", choice ? len : 0);
    break;
  case SEGUE_OPTION_FLAGS:
  case SEGUE_OPTION_MODE:
    lua_pushnumber(L, *(const unsigned *)at);
    break;
  case SEGUE_OPTION_NUMBER:
  case SEGUE_OPTION_RATE:
    lua_pushnumber(L, *(const double *)at);
    break;
  case SEGUE_OPTION_INTEGER:
    lua_pushnumber(L, (lua_Number) * (const int64_t *)at);
    break;
  default:
    lua_pushnumber(L, (lua_Number) * (const uint64_t *)at);
  }
}

/* A list of items; of a map of texts a list of { key, value }, value false where it is removed. */
static void push_items(lua_State *L, const segue_option *row, const char *at) {
  const struct {
    const char *data;
    size_t count;
  } *items = (const void *)at;
  bool pairs = row->type == SEGUE_OPTION_MAP;
  size_t size = pairs ? sizeof(segue_option_pair) : segue__option_scalar_size(row->of);
  lua_createtable(L, (int)items->count, 0);
  for (size_t i = 0; i < items->count; i++) {
    const char *item = items->data + i * size;
    if (pairs) {
      const segue_option_pair *pair = (const segue_option_pair *)item;
      lua_createtable(L, 2, 0);
      push_text(L, pair->key);
      lua_rawseti(L, -2, 1);
      if (pair->value)
        lua_pushstring(L, pair->value);
      else
        lua_pushboolean(L, false);
      lua_rawseti(L, -2, 2);
    } else {
      push_scalar(L, row, row->of, item);
    }
    lua_rawseti(L, -2, (int)i + 1);
  }
}

static void push_row(lua_State *L, const segue_option *row, const char *out, int given) {
  bool list = row->type == SEGUE_OPTION_LIST || row->type == SEGUE_OPTION_MAP;
  if (row->offset == SEGUE_OPTION_NOT_STORED || row->type == SEGUE_OPTION_ANY) {
    if (given)
      lua_getfield(L, given, row->name); /* as it is: a function */
    else
      lua_pushnil(L);
  } else if (row->type == SEGUE_OPTION_TABLE) {
    push_table(L, row->table, out + row->offset, 0);
  } else if (list) {
    push_items(L, row, out + row->offset);
  } else {
    push_scalar(L, row, row->type, out + row->offset);
  }
  lua_setfield(L, -2, row->name);
}

static void push_table(lua_State *L, const segue_option_table *table, const char *out, int given) {
  const segue_option *row;
  luaL_checkstack(L, 8, "options");
  lua_newtable(L);
  for (size_t i = 0; (row = segue__options_row(table, i)); i++)
    push_row(L, row, out, given);
}

/* Pushes a copy of the table at options (nil: an empty one) with the value at first as the
 * positional option, unless that is nil. */
static void push_given(lua_State *L, const segue_option_table *table, const char *subject,
                       int first, int options) {
  bool table_alone = lua_istable(L, first) && lua_isnil(L, options);
  const segue_option *row =
      table->positional ? segue__options_find(table, table->positional, strlen(table->positional))
                        : NULL;
  if (table_alone && row && row->type != SEGUE_OPTION_ANY) {
    lua_pushvalue(L, first);
    lua_replace(L, options);
    lua_pushnil(L);
    lua_replace(L, first);
  }
  if (!lua_isnil(L, options) && !lua_istable(L, options)) {
    lua_pushfstring(L, "%s: options must be a table, not a %s", subject, luaL_typename(L, options));
    throw_text(L, lua_tostring(L, -1));
  }
  lua_newtable(L);
  if (lua_istable(L, options))
    for (lua_pushnil(L); lua_next(L, options);) {
      lua_pushvalue(L, -2);
      lua_insert(L, -2);
      lua_rawset(L, -4);
    }
  if (lua_isnil(L, first) || !table->positional) return;
  lua_pushvalue(L, first);
  if (lua_isnil(L, options) || lua_objlen(L, -2) == 0)
    lua_setfield(L, -2, table->positional);
  else
    lua_rawseti(L, -2, 1);
}

/* options(subject, name, first, options) -> the arguments of a function, in plain units: durations
 * in milliseconds, sizes in bytes, defaults filled in. */
static int options(lua_State *L) {
  const char *subject = luaL_checkstring(L, 1), *name = luaL_checkstring(L, 2);
  lua_settop(L, 4);
  validation *j = validation_push(L); /* 5 */
  const segue__option_kind *topic = topic_of(L, j, "call", name);
  push_given(L, topic->table, subject, 3, 4); /* 6 */
  options_validate(L, j, 6, topic->table, subject);
  push_table(L, topic->table, j->filled, 6);
  return 1;
}

/* table(subject, title, value) -> the same for a table that is an argument as it is. */
static int table(lua_State *L) {
  const char *subject = luaL_checkstring(L, 1), *title = luaL_checkstring(L, 2);
  lua_settop(L, 3);
  validation *j = validation_push(L); /* 4 */
  const segue__option_kind *topic = topic_of(L, j, title, NULL);
  options_validate(L, j, 3, topic->table, subject);
  push_table(L, topic->table, j->filled, lua_istable(L, 3) ? 3 : 0);
  return 1;
}

/* ---- Options of plugins in Lua --------------------------------------------------------------- */

/* validate_options(subject, declared, value): throws the first mistake of a table by the options
 * that a plugin declares. */
static int validate_declared(lua_State *L) {
  const char *subject = luaL_checkstring(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 3);
  validation *j = validation_push(L); /* 4 */
  lua_newtable(L);                    /* 5 */
  segue__lua_rows(L, 2, 5, &j->rows, &j->made);
  options_validate(L, j, 3, &j->made, subject);
  return 0;
}

/* ---- Constructors ---------------------------------------------------------------------------- */

static const segue_option_table *family_of(lua_State *L, const char *family) {
  static const struct {
    const char *name;
    const segue_option_table *table;
  } families[] = {{"source", &segue__source_options},
                  {"trigger", &segue__trigger_options},
                  {"probe", &segue__probe_options}};
  for (size_t i = 0; i < sizeof families / sizeof *families; i++)
    if (!strcmp(families[i].name, family)) return families[i].table;
  luaL_error(L, "there is no family %s", family);
  return NULL;
}

/* made(subject, family, kind, first, options) -> a table with its tag, its kind, the place at which
 * it was created, and the options unchanged. */
static int made(lua_State *L) {
  const char *subject = luaL_checkstring(L, 1), *family = luaL_checkstring(L, 2);
  const char *kind = luaL_checkstring(L, 3);
  segue__place at;
  lua_settop(L, 5);
  validation *j = validation_push(L); /* 6 */
  const segue__option_kind *topic = topic_of(L, j, family, kind);
  push_given(L, topic->table, subject, 4, 5); /* 7 */
  lua_pushstring(L, family);
  lua_setfield(L, 7, "tag");
  lua_pushstring(L, kind);
  lua_setfield(L, 7, "kind");
  if (segue__lua_place(segue__lua_of(L), L, 1, &at)) {
    lua_pushfstring(L, "%s:%d", at.file, (int)at.line);
    lua_setfield(L, 7, "made_at");
  }
  options_validate(L, j, 7, family_of(L, family), subject);
  lua_settop(L, 7);
  return 1;
}

/* ---- Single values --------------------------------------------------------------------------- */

int segue__lua_duration(lua_State *L) {
  segue_option row = {.name = "", .type = SEGUE_OPTION_DURATION, .doc = ""};
  uint64_t ms = 0;
  segue__errors errors;
  segue_node node = {
      .type = SEGUE_NULL, .flags = SEGUE__NODE_OPAQUE, .reserved = SEGUE__OPAQUE_OTHER};
  size_t len;
  lua_settop(L, 1);
  if (lua_type(L, 1) == LUA_TNUMBER) {
    node = (segue_node){.type = SEGUE_FLOAT, .v.f = lua_tonumber(L, 1)};
  } else if (lua_type(L, 1) == LUA_TSTRING) {
    const char *s = lua_tolstring(L, 1, &len);
    node = (segue_node){.type = SEGUE_STRING, .count = (uint32_t)len, .v.s = s};
  } else if (lua_isboolean(L, 1)) {
    node = (segue_node){.type = SEGUE_BOOL, .v.b = lua_toboolean(L, 1)};
  }
  segue__errors_init(&errors);
  if (!segue__option_validate(&row, &node, &ms, NULL, &errors)) {
    lua_pushnumber(L, (lua_Number)ms);
    return 1;
  }
  lua_pushnil(L);
  lua_pushstring(L, errors.count ? errors.items[0].message : "out of memory");
  segue__errors_deinit(&errors);
  return 2;
}

/* argument(subject, value, "text" | "function" | "table"): throws unless the value has the type. */
static int argument(lua_State *L) {
  const char *subject = luaL_checkstring(L, 1), *wanted = luaL_checkstring(L, 3);
  bool text = !strcmp(wanted, "text");
  const char *type = text ? "string" : wanted;
  size_t len = 0;
  if (strcmp(luaL_typename(L, 2), type) != 0)
    lua_pushfstring(L, "%s must be a %s, not a %s", subject, wanted, luaL_typename(L, 2));
  else if (text && (!lua_tolstring(L, 2, &len) || !len))
    lua_pushfstring(L, "%s must not be empty", subject);
  else if (text && memchr(lua_tostring(L, 2), 0, len))
    lua_pushfstring(L, "%s must not contain a zero byte", subject);
  else
    return 0;
  return throw_text(L, lua_tostring(L, -1));
}

int segue__lua_hint(lua_State *L) {
  enum { WORDS_MAX = 128 };
  const char *word = luaL_checkstring(L, 1), *words[WORDS_MAX];
  luaL_checktype(L, 2, LUA_TTABLE);
  size_t n = lua_objlen(L, 2);
  luaL_checkstack(L, WORDS_MAX + 4, "words");
  if (n > WORDS_MAX) n = WORDS_MAX;
  for (size_t i = 0; i < n; i++) {
    lua_rawgeti(L, 2, (int)i + 1); /* stays on the stack while it is borrowed */
    words[i] = luaL_checkstring(L, -1);
  }
  const char *meant = segue__suggest(word, words, n);
  if (meant) {
    lua_pushfstring(L, "did you mean \"%s\"?", meant);
    return 1;
  }
  luaL_Buffer out;
  luaL_buffinit(L, &out);
  luaL_addstring(&out, "known are ");
  for (size_t i = 0; i < n; i++) {
    if (i) luaL_addstring(&out, ", ");
    luaL_addstring(&out, words[i]);
  }
  luaL_pushresult(&out);
  return 1;
}

void segue__lua_library_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"options", options},
                                       {"table", table},
                                       {"made", made},
                                       {"validate_options", validate_declared},
                                       {"duration", segue__lua_duration},
                                       {"argument", argument},
                                       {"hint", segue__lua_hint},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
  segue__io_open(L);
}

/* ---- Options of a plugin, without a policy --------------------------------------------------- */

enum { CPU_MS = 1000, MIB = 64 };

typedef struct declaration {
  const char *name;
  segue__lua_use_options use;
  void *data;
  segue_option *rows; /* stored here, so that they are freed also if an error is raised */
  bool missing;
} declaration;

static int declaration_read(lua_State *L, void *data, segue_error *err) {
  declaration *d = data;
  segue_option_table table;
  (void)err;
  luaL_checkstack(L, 12, "options");
  int base = lua_gettop(L);
  lua_pushfstring(L, "segue.plugin.%s", d->name); /* base + 1 */
  lua_getfield(L, LUA_REGISTRYINDEX, "segue.core");
  lua_getfield(L, -1, "has_library");
  lua_pushvalue(L, base + 1);
  lua_call(L, 1, 1);
  d->missing = !lua_toboolean(L, -1);
  if (d->missing) return 0;
  lua_getglobal(L, "require");
  lua_pushvalue(L, base + 1);
  lua_call(L, 1, 1);
  if (!lua_istable(L, -1)) return d->use(d->data, NULL);
  lua_getfield(L, -1, "options");
  if (!lua_istable(L, -1)) return d->use(d->data, NULL);
  lua_newtable(L);
  segue__lua_rows(L, lua_gettop(L) - 1, lua_gettop(L), &d->rows, &table);
  table.name = d->name;
  return d->use(d->data, &table);
}

int segue__lua_plugin_options(const char *lua_dir, const char *name, segue__lua_use_options use,
                              void *data, segue_error *err) {
  declaration d = {.name = name, .use = use, .data = data};
  segue__program program = {.sealed = true}; /* it requires no file of a policy */
  segue__lua_setup setup = {.os = segue__os_default(),
                            .program = &program,
                            .open = segue__lua_library_open,
                            .lua_dir = lua_dir,
                            .bytes_max = (size_t)MIB << 20};
  segue__lua *lua = NULL;
  if (segue__budget_new(&setup.budget, 0)) return segue__errorf(err, UV_ENOMEM, "out of memory");
  int rc = segue__lua_new(&lua, &setup, err);
  if (!rc) rc = segue__lua_call(lua, "the plugin", CPU_MS, declaration_read, &d, err);
  segue__lua_free(lua);
  segue__budget_free(setup.budget);
  segue__free(d.rows);
  return !rc && d.missing ? UV_ENOENT : rc;
}
