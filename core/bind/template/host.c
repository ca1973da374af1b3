/* SPDX-License-Identifier: MIT
 *
 * segue.template.host: what templates need from C. Documents as values of templates,
 * CPU time, regular expressions (regex.c).
 */
#include <lauxlib.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <uv.h>
#include <wctype.h>

#include "../../files/kind.h"
#include "../../os/fault.h"
#include "template_internal.h"

/* CPU time of one template. */
enum { RENDER_MS = 10000 };

/* Set by setup, kept in the registry by these keys. */
static const char setup_key[] = "segue.template.setup";
static const char parts_key[] = "segue.template.parts"; /* weak: hash -> table */

/* setup { null, map, list, float, big }: the types of lua/segue/template/value.lua. */
static int host_setup(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lua_setfield(L, LUA_REGISTRYINDEX, setup_key);
  return 0;
}

/* ---- Documents ------------------------------------------------------------------------------- */

enum { SETUP = 1 }; /* the stack of decode: the setup's table, then the values */

static void push_call(lua_State *L, const char *function, const char *text, double number) {
  lua_getfield(L, SETUP, function);
  if (text)
    lua_pushstring(L, text);
  else
    lua_pushnumber(L, number);
  lua_call(L, 1, 1);
}

/* Integers beyond 2^53 travel as text: a number of Lua would round them. */
static void host_push_integer(lua_State *L, const segue_node *node) {
  const int64_t exact = (int64_t)1 << 53;
  char text[24];
  if (node->flags & SEGUE__NODE_UNSIGNED) {
    snprintf(text, sizeof text, "%llu", (unsigned long long)node->v.u);
  } else if (node->v.i > -exact && node->v.i < exact) {
    lua_pushnumber(L, (lua_Number)node->v.i);
    return;
  } else {
    snprintf(text, sizeof text, "%lld", (long long)node->v.i);
  }
  push_call(L, "big", text, 0);
}

static void host_push_node(lua_State *L, const segue_node *node) {
  luaL_checkstack(L, 6, "the data is nested too deeply");
  switch (node->type) {
  case SEGUE_MAP:
    lua_createtable(L, 0, (int)node->count);
    for (uint32_t i = 0; i < node->count; i++) {
      const segue__member *m = &node->v.members[i];
      lua_pushlstring(L, m->key, m->key_len);
      host_push_node(L, &m->value);
      lua_rawset(L, -3);
    }
    lua_getfield(L, SETUP, "map");
    lua_setmetatable(L, -2);
    return;
  case SEGUE_LIST:
    lua_createtable(L, (int)node->count, 0);
    for (uint32_t i = 0; i < node->count; i++) {
      host_push_node(L, &node->v.items[i]);
      lua_rawseti(L, -2, (int)i + 1);
    }
    lua_getfield(L, SETUP, "list");
    lua_setmetatable(L, -2);
    return;
  case SEGUE_STRING:
    lua_pushlstring(L, node->v.s, node->count);
    return;
  case SEGUE_BOOL:
    lua_pushboolean(L, node->v.b);
    return;
  case SEGUE_INT:
    host_push_integer(L, node);
    return;
  case SEGUE_FLOAT:
    push_call(L, "float", NULL, node->v.f);
    return;
  default:
    lua_getfield(L, SETUP, "null");
  }
}

static int host_document(segue__document **doc, const char *text, size_t len, const char *name,
                         segue_error *err) {
  bool guessed;
  segue__format format = segue__format_of(name, &guessed);
  char *copy = segue__strndup(text, len);
  segue__document_unref(*doc);
  *doc = NULL;
  if (!copy) return segue__errorf(err, UV_ENOMEM, "%s", segue_strerror(UV_ENOMEM));
  int rc = segue__document_new(doc, 1, "", name, format, copy, len);
  if (rc < 0) return segue__errorf(err, rc, "%s", segue_strerror(rc));
  (*doc)->foreign = true;
  (*doc)->guessed = guessed;
  segue__limits limits = {0};
  return segue__document_parse(*doc, &limits, NULL, NULL, err);
}

/* Pushes a value, or nil and a message. The document stays in *doc until the next call. */
static int host_read(lua_State *L, segue__document **doc) {
  segue_error err = {0};
  size_t len;
  const char *text = luaL_checklstring(L, 1, &len), *name = luaL_checkstring(L, 2);
  int rc = host_document(doc, text, len, name, &err);
  if (rc == UV_ENOMEM) segue__template_of(L)->starved = true;
  if (rc < 0) {
    char message[2048];
    segue_error_format(&err, message, sizeof message);
    lua_pushnil(L);
    lua_pushstring(L, message);
    return 2;
  }
  lua_settop(L, 0);
  lua_getfield(L, LUA_REGISTRYINDEX, setup_key);
  host_push_node(L, &(*doc)->root);
  return 1;
}

/* decode(text, name): the data of a template, whose places where() knows. */
static int host_decode(lua_State *L) {
  return host_read(L, &segue__template_of(L)->doc);
}

/* parse(text, name): a text that a function of the template reads. */
static int host_parse(lua_State *L) {
  segue__template *t = segue__template_of(L);
  int count = host_read(L, &t->parsed);
  segue__document_unref(t->parsed);
  t->parsed = NULL;
  return count;
}

/* Pushes a part of the configuration. Equal parts are one table, as long as the collector leaves
 * it: hundreds of templates may read the same data in one reload, and no template changes them. */
static void host_push_part(lua_State *L, const segue_node *node) {
  lua_settop(L, 0);
  lua_getfield(L, LUA_REGISTRYINDEX, setup_key);
  if (node->type != SEGUE_MAP && node->type != SEGUE_LIST) {
    host_push_node(L, node);
    return;
  }
  segue__hash hash = segue__node_hash(node);
  lua_getfield(L, LUA_REGISTRYINDEX, parts_key);
  lua_pushlstring(L, (const char *)&hash, sizeof hash);
  lua_rawget(L, -2);
  if (!lua_isnil(L, -1)) return;
  lua_pop(L, 1);
  host_push_node(L, node);
  lua_pushlstring(L, (const char *)&hash, sizeof hash);
  lua_pushvalue(L, -2);
  lua_rawset(L, -4);
}

/* given(): the data of a job that has a part of the configuration; nil: there is no such part. */
static int host_given(lua_State *L) {
  const segue_node *node = segue__template_of(L)->node;
  if (!node) return 0;
  host_push_part(L, node);
  return 1;
}

/* Below the root that functions read, at a path: keys joined by "/". */
static const segue_node *host_at(lua_State *L) {
  size_t len;
  const char *path = luaL_checklstring(L, 1, &len);
  return segue__keys_find(segue__template_of(L)->keys, path, len);
}

/* find(path, leaves) -> the value, or nothing; leaves: nothing for a list or a map */
static int host_find(lua_State *L) {
  const segue_node *node = host_at(L);
  bool leaf = node && node->type != SEGUE_MAP && node->type != SEGUE_LIST;
  if (!node || (lua_toboolean(L, 2) && !leaf)) return 0;
  host_push_part(L, node);
  return 1;
}

/* kind(path) -> "map", "list", "leaf", or nothing */
static int host_kind(lua_State *L) {
  const segue_node *node = host_at(L);
  if (!node) return 0;
  lua_pushstring(L, node->type == SEGUE_MAP ? "map" : node->type == SEGUE_LIST ? "list" : "leaf");
  return 1;
}

/* where(key, ...) -> line, column of the value at these keys and indexes (from 1), and the file of
 * a value of a configuration; nil: unknown. */
static int host_where(lua_State *L) {
  segue__template *t = segue__template_of(L);
  const segue_node *node = t->given ? t->node : t->doc ? &t->doc->root : NULL;
  for (int i = 1; node && i <= lua_gettop(L); i++) {
    if (lua_type(L, i) == LUA_TNUMBER) {
      lua_Integer at = lua_tointeger(L, i);
      node =
          node->type == SEGUE_LIST && at >= 1 && at <= node->count ? &node->v.items[at - 1] : NULL;
    } else {
      size_t len;
      const char *key = luaL_checklstring(L, i, &len);
      const segue__member *m = segue__node_find(node, key, len);
      node = m ? &m->value : NULL;
    }
  }
  if (!node || !node->line) return 0;
  lua_pushnumber(L, node->line);
  lua_pushnumber(L, node->column);
  const segue__document *doc = t->given ? segue__config_document(t->config, node) : NULL;
  if (!doc) return 2;
  lua_pushstring(L, doc->name);
  return 3;
}

/* ---- Time ------------------------------------------------------------------------------------ */

/* cpu_seconds(): of this thread */
static int host_cpu_seconds(lua_State *L) {
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  lua_pushnumber(L, (lua_Number)now.tv_sec + (lua_Number)now.tv_nsec / 1e9);
  return 1;
}

/* to_upper(code), to_lower(code): one character to one, whatever the locale of the program is. */
static int map_case(lua_State *L, wint_t (*map)(wint_t, locale_t)) {
  static const char key[] = "segue.template.locale";
  lua_getfield(L, LUA_REGISTRYINDEX, key);
  locale_t *box = lua_touserdata(L, -1);
  wint_t code = (wint_t)luaL_checkinteger(L, 1);
  lua_pushnumber(L, box && *box ? map(code, *box) : code);
  return 1;
}

static int host_to_upper(lua_State *L) {
  return map_case(L, towupper_l);
}

static int host_to_lower(lua_State *L) {
  return map_case(L, towlower_l);
}

static int locale_free(lua_State *L) {
  locale_t *box = lua_touserdata(L, 1);
  if (*box) freelocale(*box);
  *box = 0;
  return 0;
}

static void locale_open(lua_State *L) {
  locale_t *box = lua_newuserdata(L, sizeof *box);
  *box = 0;
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, locale_free);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  *box = newlocale(LC_CTYPE_MASK, "C.UTF-8", 0);
  lua_setfield(L, LUA_REGISTRYINDEX, "segue.template.locale");
}

/* load(code, name) -> function, or nil and a message */
static int host_load(lua_State *L) {
  size_t len;
  segue__template *t = segue__template_of(L);
  const char *code = luaL_checklstring(L, 1, &len), *name = luaL_checkstring(L, 2);
  int status = segue__template_parse(t, L, code, len, name);
  if (status == LUA_ERRMEM) segue__template_escape(t);
  if (!status) return 1;
  lua_pushnil(L);
  lua_insert(L, -2);
  return 2;
}

/* site(): the address of an int32_t, for the number of the node that takes memory next. */
static int host_site(lua_State *L) {
  lua_pushlightuserdata(L, &segue__template_of(L)->site);
  return 1;
}

int segue__template_host_open(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"setup", host_setup}, {"decode", host_decode},     {"parse", host_parse},
      {"given", host_given}, {"where", host_where},       {"cpu_seconds", host_cpu_seconds},
      {"find", host_find},   {"kind", host_kind},         {"site", host_site},
      {"load", host_load},   {"to_upper", host_to_upper}, {"to_lower", host_to_lower},
      {NULL, NULL},
  };
  locale_open(L);
  lua_createtable(L, 0, 0);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "v");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_setfield(L, LUA_REGISTRYINDEX, parts_key);
  lua_createtable(L, 0, 16);
  for (const luaL_Reg *f = functions; f->name; f++) {
    lua_pushcfunction(L, f->func);
    lua_setfield(L, -2, f->name);
  }
  lua_pushnumber(L, (lua_Number)SEGUE_TEST_MS("RENDER_MS", RENDER_MS) / 1000);
  lua_setfield(L, -2, "seconds_max");
  lua_pushliteral(L, SEGUE__TEMPLATE_DIALECTS);
  lua_setfield(L, -2, "dialects");
  segue__template_regex_open(L);
  segue__script_open(L);
  return 1;
}
