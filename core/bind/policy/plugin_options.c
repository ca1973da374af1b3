/* SPDX-License-Identifier: MIT
 *
 * Rows of options from a table in Lua.
 */
#include "plugin_options.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

/* Fills in the type of a row by its name; raises for a name that is unknown. */
static void row_set_type(lua_State *L, const char *name, segue_option *row) {
  static const struct {
    const char *name;
    segue_option_type type, of;
    unsigned flags;
  } types[] = {
      {"text", SEGUE_OPTION_TEXT, 0, 0},
      {"string", SEGUE_OPTION_STRING, 0, 0},
      {"duration", SEGUE_OPTION_DURATION, 0, 0},
      {"size", SEGUE_OPTION_SIZE, 0, 0},
      {"count", SEGUE_OPTION_COUNT, 0, 0},
      {"integer", SEGUE_OPTION_INTEGER, 0, 0},
      {"number", SEGUE_OPTION_NUMBER, 0, 0},
      {"boolean", SEGUE_OPTION_BOOLEAN, 0, 0},
      {"function", SEGUE_OPTION_FUNCTION, 0, 0},
      {"texts", SEGUE_OPTION_LIST, SEGUE_OPTION_TEXT, SEGUE_OPTION_ONE},
      {"table", SEGUE_OPTION_MAP, SEGUE_OPTION_ANY, SEGUE_OPTION_KEYLESS},
      {"any", SEGUE_OPTION_ANY, 0, 0},
  };
  for (size_t i = 0; i < sizeof types / sizeof *types; i++)
    if (!strcmp(types[i].name, name)) {
      row->type = types[i].type;
      row->of = types[i].of;
      row->flags |= types[i].flags;
      return;
    }
  luaL_error(L, "the option %s has the unknown type '%s'", row->name, name);
}

/* Appends the value on top to the table at texts, which keeps it while it is borrowed. */
static void rows_keep(lua_State *L, int texts) {
  lua_rawseti(L, texts, (int)lua_objlen(L, texts) + 1);
}

/* The list of texts on top as the choices of a row. */
static void row_set_choices(lua_State *L, int texts, segue_option *row) {
  int list = lua_gettop(L);
  luaL_Buffer b;
  row->type = SEGUE_OPTION_CHOICE;
  luaL_buffinit(L, &b);
  for (int i = 1; i <= (int)lua_objlen(L, list); i++) {
    if (i > 1) luaL_addchar(&b, '|');
    lua_rawgeti(L, list, i);
    if (lua_type(L, -1) != LUA_TSTRING)
      luaL_error(L, "the choices of the option %s must be texts", row->name);
    luaL_addvalue(&b);
  }
  luaL_pushresult(&b);
  row->choices = lua_tostring(L, -1);
  rows_keep(L, texts);
}

static void row_make_type(lua_State *L, int texts, segue_option *row) {
  if (lua_type(L, -1) == LUA_TSTRING)
    row_set_type(L, lua_tostring(L, -1), row);
  else if (lua_istable(L, -1) && lua_objlen(L, -1))
    row_set_choices(L, texts, row);
  else
    luaL_error(L, "the type of the option %s must be a name, or a list of texts", row->name);
}

/* A default is written as in a policy; rows store it as a text. */
static void row_set_default(lua_State *L, int texts, segue_option *row) {
  if (lua_isboolean(L, -1)) {
    row->fallback = lua_toboolean(L, -1) ? "true" : "false";
    return;
  }
  if (!lua_isstring(L, -1))
    luaL_error(L, "the default of the option %s must be a text, a number or a boolean", row->name);
  lua_pushvalue(L, -1);
  row->fallback = lua_tostring(L, -1);
  rows_keep(L, texts);
}

/* One field of a row that is written as a table; the value is on top. */
static void row_set_field(lua_State *L, int texts, const char *name, segue_option *row) {
  if (!strcmp(name, "type")) {
    row_make_type(L, texts, row);
  } else if (!strcmp(name, "default")) {
    row_set_default(L, texts, row);
  } else if (!strcmp(name, "doc") && lua_type(L, -1) == LUA_TSTRING) {
    row->doc = lua_tostring(L, -1);
  } else if (!strcmp(name, "required") && lua_isboolean(L, -1)) {
    if (lua_toboolean(L, -1)) row->flags |= SEGUE_OPTION_REQUIRED;
  } else if (!strcmp(name, "min") && lua_type(L, -1) == LUA_TNUMBER) {
    row->min = lua_tonumber(L, -1);
  } else if (!strcmp(name, "max") && lua_type(L, -1) == LUA_TNUMBER) {
    row->max = lua_tonumber(L, -1);
  } else {
    luaL_error(L,
               "the option %s must not have the field '%s' of type %s: known are type, default, "
               "doc, required, min and max",
               row->name, name, luaL_typename(L, -1));
  }
}

/* Fills a row from the value on top. */
static void row_make(lua_State *L, int texts, segue_option *row) {
  int declared = lua_gettop(L);
  row->offset = SEGUE_OPTION_NOT_STORED;
  row->doc = "";
  lua_pushnil(L);
  if (!lua_istable(L, declared) || lua_objlen(L, declared) || !lua_next(L, declared)) {
    lua_settop(L, declared);
    row_make_type(L, texts, row);
    return;
  }
  lua_getfield(L, declared, "type");
  if (lua_isnil(L, -1)) luaL_error(L, "the option %s has no type", row->name);
  lua_settop(L, declared);
  for (lua_pushnil(L); lua_next(L, declared); lua_pop(L, 1)) {
    if (lua_type(L, -2) != LUA_TSTRING)
      luaL_error(L, "the fields of the option %s must have names", row->name);
    row_set_field(L, texts, lua_tostring(L, -2), row);
  }
}

static int compare_rows(const void *a, const void *b) {
  return strcmp(((const segue_option *)a)->name, ((const segue_option *)b)->name);
}

void segue__lua_rows(lua_State *L, int declared, int texts, segue_option **rows,
                     segue_option_table *out) {
  size_t count = 0, n = 0;
  for (lua_pushnil(L); lua_next(L, declared); lua_pop(L, 1))
    count++;
  *rows = segue__calloc(count + 1, sizeof **rows);
  if (!*rows) {
    luaL_error(L, "out of memory"); /* does not return */
    return;
  }
  for (lua_pushnil(L); lua_next(L, declared); lua_pop(L, 1)) {
    if (lua_type(L, -2) != LUA_TSTRING) luaL_error(L, "the name of an option must be a text");
    segue_option *row = &(*rows)[n++];
    row->name = lua_tostring(L, -2);
    row_make(L, texts, row);
  }
  qsort(*rows, count, sizeof **rows, compare_rows); /* a table in Lua has no order */
  *out = (segue_option_table){.size = sizeof *out,
                              .row_size = sizeof **rows,
                              .rows = *rows,
                              .count = count,
                              .key_offset = SEGUE_OPTION_NOT_STORED,
                              .kind_offset = SEGUE_OPTION_NOT_STORED,
                              .name = "options",
                              .doc = "The options of a plugin in Lua."};
}
