/* SPDX-License-Identifier: MIT
 *
 * The module segue.core, which the Lua half is built from. Policies can reach these functions, so
 * each checks its arguments like a public one.
 */
#include <math.h>
#include <string.h>
#include <strings.h>

#include "../../config/path.h"
#include "lua_document.h"
#include "lua_positions.h"
#include "task.h"
#include "value.h"

/* where(v [, key or path]) -> file, line, column; nothing if the key does not exist. */
static const segue_node *core_find(lua_State *L, const segue__value *value, int key) {
  if (lua_isnoneornil(L, key)) return value->node;
  const segue_node *node = segue__value_find(L, value, key);
  if (!node && lua_type(L, key) == LUA_TSTRING)
    node = segue_node_get(value->node, lua_tostring(L, key));
  return node;
}

static int core_where(lua_State *L) {
  segue__value *value = segue__value_test(L, 1);
  if (!value) return luaL_argerror(L, 1, "a config value expected");
  const segue_node *node = core_find(L, value, 2);
  const char *source, *file;
  uint32_t line, column;
  if (!node || segue_node_origin(value->snapshot, node, &source, &file, &line, &column)) return 0;
  lua_pushstring(L, file && *file ? file : source);
  lua_pushnumber(L, line);
  lua_pushnumber(L, column);
  return 3;
}

/* get(v, path) -> value, type name; nothing if there is no such path. */
static int core_get(lua_State *L) {
  segue__value *value = segue__value_test(L, 1);
  if (!value) return luaL_argerror(L, 1, "a config value expected");
  const segue_node *node = segue_node_get(value->node, luaL_checkstring(L, 2));
  if (!node) return 0;
  segue__value_push(L, value->snapshot, node);
  lua_pushstring(L, segue_type_name(segue_node_type(node)));
  return 2;
}

/* hidden(v, path) -> whether a message must hide the value at the path. The path of a subtree from
 * the root is not known, so every value of a subtree counts as hidden if there are secrets. */
static int core_hidden(lua_State *L) {
  segue__value *value = segue__value_test(L, 1);
  if (!value) return luaL_argerror(L, 1, "a config value expected");
  const char *path = luaL_checkstring(L, 2);
  const segue__mask *mask = value->snapshot->mask;
  bool part = value->node != segue_snapshot_root(value->snapshot);
  lua_pushboolean(L, mask && (part || segue__mask_hides(mask, path)));
  return 1;
}

static int core_kind(lua_State *L) {
  segue__value *value = segue__value_test(L, 1);
  segue__wide wide;
  if (value)
    lua_pushstring(L, segue_type_name(value->node->type));
  else if (segue__int_test(L, 1, &wide))
    lua_pushliteral(L, "integer");
  else if (segue__value_is_null(L, 1))
    lua_pushliteral(L, "null");
  else
    lua_pushnil(L);
  return 1;
}

/* A buffer that the collector frees if an error is raised before the buffer is released. */
static int free_buffer(lua_State *L) {
  segue__buf_deinit(lua_touserdata(L, 1));
  return 0;
}

static segue__buf *push_buffer(lua_State *L) {
  segue__buf *b = lua_newuserdata(L, sizeof *b);
  segue__buf_init(b);
  if (luaL_newmetatable(L, "segue.buffer")) {
    lua_pushcfunction(L, free_buffer);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return b;
}

/* path(parent, key) -> the parent's path and the key, quoted where it must be */
static int core_path(lua_State *L) {
  size_t len = 0;
  const char *parent = luaL_checkstring(L, 1);
  bool index = lua_type(L, 2) == LUA_TNUMBER;
  const char *key = index ? NULL : luaL_checklstring(L, 2, &len);
  segue__buf *b = push_buffer(L);
  segue__buf_adds(b, parent);
  if (index)
    segue__path_add_index(b, (size_t)lua_tonumber(L, 2));
  else
    segue__path_add_key(b, key, len);
  if (b->failed) return luaL_error(L, "out of memory");
  lua_pushlstring(L, b->len ? b->data : "", b->len);
  segue__buf_deinit(b);
  return 1;
}

enum { LOG_FIELDS = 8, KEY_MAX = 1024 };

typedef struct log_fields {
  int n;
  const char *key[LOG_FIELDS], *text[LOG_FIELDS]; /* in order of their keys */
} log_fields;

/* Makes room for key; returns -1 if eight keys sort before it. So the eight keys that are logged do
 * not depend on the order of the table. */
static int insert_key(log_fields *fields, const char *key) {
  int at = fields->n;
  while (at > 0 && strcmp(fields->key[at - 1], key) > 0)
    at--;
  if (at == LOG_FIELDS) return -1;
  if (fields->n < LOG_FIELDS) fields->n++;
  for (int i = fields->n - 1; i > at; i--)
    fields->key[i] = fields->key[i - 1];
  fields->key[at] = key;
  return at;
}

/* Stack: fields at 3; at 4 a table that keeps keys alive, because keys that are numbers become
 * texts. */
static void read_keys(lua_State *L, log_fields *fields) {
  for (lua_pushnil(L); lua_istable(L, 3) && lua_next(L, 3); lua_pop(L, 1)) {
    lua_pushvalue(L, -2);
    const char *key = lua_tostring(L, -1);
    if (key && lua_objlen(L, -1) <= KEY_MAX && insert_key(fields, key) >= 0) {
      lua_pushvalue(L, -3);
      lua_settable(L, 4); /* text of the key -> the key */
    } else {
      lua_pop(L, 1);
    }
  }
}

/* Stack: the table that keeps texts alive at 5. */
static void core_read_texts(lua_State *L, log_fields *fields) {
  for (int i = 0; i < fields->n; i++) {
    lua_getglobal(L, "tostring");
    lua_getfield(L, 4, fields->key[i]);
    lua_rawget(L, 3);
    lua_call(L, 1, 1);
    fields->text[i] = segue__lua_log_text(L, lua_gettop(L));
    lua_rawseti(L, 5, i + 1);
  }
}

static const char *group_of(lua_State *L) {
  const char *owner = segue__lua_of(L)->owner;
  return owner ? owner : "policy";
}

/* log(level, message, fields) */
static int core_write_log(lua_State *L) {
  const segue__logger *log = segue__lua_of(L)->log;
  int level = (int)luaL_checkinteger(L, 1);
  luaL_checkstring(L, 2);
  const char *message = segue__lua_log_text(L, 2);
  log_fields f = {0};
  segue__lua_guard(L);
  lua_settop(L, 3);
  if (!log || !log->sink || level > (int)log->level) return 0;
  lua_createtable(L, 0, LOG_FIELDS);
  lua_createtable(L, LOG_FIELDS, 0);
  read_keys(L, &f);
  core_read_texts(L, &f);
  segue_log_field fields[LOG_FIELDS];
  for (int i = 0; i < f.n; i++)
    fields[i] = segue__log_text(f.key[i], f.text[i]);
  segue__log_write(log, (segue_level)level, group_of(L), message, fields, (size_t)f.n);
  return 0;
}

/* write_line(level, message, fields) -> number of accepted lines, or a negative code and its name.
 * Writes to the log that modules of the program share. */
static int core_write_line(lua_State *L) {
  const segue__lua *lua = segue__lua_of(L);
  segue_log_entry entry = {.level = (segue_level)luaL_checkinteger(L, 1)};
  luaL_checkstring(L, 2);
  entry.message = segue__lua_log_text(L, 2);
  segue_log_field reported[LOG_FIELDS];
  log_fields f = {0};
  segue__lua_guard(L);
  lua_settop(L, 3);
  lua_createtable(L, 0, LOG_FIELDS);
  lua_createtable(L, LOG_FIELDS, 0);
  read_keys(L, &f);
  core_read_texts(L, &f);
  for (int i = 0; i < f.n; i++)
    reported[i] = (segue_log_field){f.key[i], f.text[i] ? f.text[i] : "", 0};
  entry.group = group_of(L);
  entry.fields = reported;
  entry.field_count = (size_t)f.n;
  const segue__lua_services *services = &lua->services;
  int rc = services->write_log ? services->write_log(services->data, &entry) : SEGUE_EMODULE;
  lua_pushnumber(L, rc);
  lua_pushstring(L, rc < 0 ? segue_error_name(rc) : "");
  return 2;
}

/* record(metric, series, value) -> code, its name. Updates the metrics that modules of the program
 * share. */
static int core_record(lua_State *L) {
  static const char *const names[] = {"counter", "gauge", "histogram", NULL};
  const segue__lua_services *services = &segue__lua_of(L)->services;
  segue_metric metric = (segue_metric)luaL_checkoption(L, 1, NULL, names);
  const char *series = luaL_checkstring(L, 2);
  lua_Number value = luaL_checknumber(L, 3);
  int rc =
      services->record ? services->record(services->data, metric, series, value) : SEGUE_EMODULE;
  lua_pushnumber(L, rc);
  lua_pushstring(L, rc < 0 ? segue_error_name(rc) : "");
  return 2;
}

/* line_of("timeouts.check") -> the line of the policy that assigns this option, if it is known */
static int line_of(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  const segue__program *program = segue__lua_of(L)->program;
  segue__lua_positions lines;
  if (!program || !program->count) return 0;
  const char *text = program->chunks[0].text;
  if (segue__lua_positions_init(&lines, text, strlen(text)) != 0) return 0;
  uint32_t line = segue__lua_positions_at(&lines, path);
  segue__lua_positions_deinit(&lines);
  if (!line) return 0;
  lua_pushnumber(L, line);
  return 1;
}

uint64_t segue__arg_number(lua_State *L, int index) {
  lua_Number n = luaL_optnumber(L, index, 0);
  if (!(n >= 0 && n <= 9007199254740992.0)) luaL_argerror(L, index, "a number is out of range");
  return (uint64_t)n;
}

void segue__core_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"where", core_where},
                                       {"get", core_get},
                                       {"hidden", core_hidden},
                                       {"kind", core_kind},
                                       {"path", core_path},
                                       {"log", core_write_log},
                                       {"write_line", core_write_line},
                                       {"record", core_record},
                                       {"line_of", line_of},
                                       {"sleep", segue__sleep},
                                       {"int", segue__int_new},
                                       {NULL, NULL}};
  segue__value_open(L);
  lua_createtable(L, 0, 64);
  luaL_setfuncs(L, functions, 0);
  segue__codec_open(L);
  segue__codec_bytes_open(L);
  segue__spawn_open(L);
  segue__value_push_null(L);
  lua_setfield(L, -2, "null");
  lua_newtable(L); /* values that survive a reload of the policy */
  lua_pushvalue(L, -1);
  lua_setfield(L, LUA_REGISTRYINDEX, "segue.state");
  lua_setfield(L, -2, "state");
  const segue__lua *lua = segue__lua_of(L);
  if (lua->open) lua->open(L);
  lua_setfield(L, LUA_REGISTRYINDEX, "segue.core");
}
