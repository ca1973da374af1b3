/* SPDX-License-Identifier: MIT
 *
 * The request object that `handle` gets: a userdata whose fields are made when they are read, so
 * that a handler pays only for the fields that it uses.
 */
#include <ctype.h>
#include <string.h>

#include "../runtime/value.h"
#include "lua_request.h"

/* The userdata of a request. A handler may keep it longer than the request lives, and the memory of
 * the request is used again for the next one: `serial` shows whether it is still the same request.
 */
typedef struct box {
  segue__lua_request *lua_request;
  uint64_t serial;
} box;

static const char request_meta[] = "segue.request", headers_meta[] = "segue.headers";
static char request_key, headers_key; /* registry: their metatables */

enum { METHOD = 1, PATH, QUERY, HEADERS, BODY, PEER, GENERATION, GONE };
enum { PARAMETER_MAX = 65536 };

static void push_box(lua_State *L, segue__lua_request *lua_request, void *key) {
  box *b = lua_newuserdata(L, sizeof *b);
  *b = (box){lua_request, lua_request->serial};
  lua_pushlightuserdata(L, key);
  lua_rawget(L, LUA_REGISTRYINDEX);
  lua_setmetatable(L, -2);
}

void segue__lua_request_push(lua_State *L, segue__lua_request *lua_request) {
  push_box(L, lua_request, &request_key);
}

static segue__lua_request *request_opened(lua_State *L, const box *b) {
  if (b->lua_request->serial != b->serial)
    luaL_error(L, "this request is answered: keep what you need of it, not the request");
  return b->lua_request;
}

segue__lua_request *segue__lua_request_check(lua_State *L) {
  return request_opened(L, luaL_checkudata(L, 1, request_meta));
}

static void push_text(lua_State *L, segue_text text) {
  lua_pushlstring(L, text.s ? text.s : "", text.len);
}

static int push_field(lua_State *L, segue__lua_request *lua_request, int field) {
  const segue_request *request = lua_request->request;
  switch (field) {
  case METHOD:
    push_text(L, segue_request_method(request));
    break;
  case PATH:
    lua_pushstring(L, segue_request_path(request));
    break;
  case QUERY:
    push_text(L, segue_request_query(request));
    break;
  case HEADERS:
    push_box(L, lua_request, &headers_key);
    break;
  case BODY:
    push_text(L, segue_request_body(request));
    break;
  case PEER:
    lua_pushstring(L, segue_request_peer(request));
    break;
  case GENERATION:
    segue__int_push(L, (segue__wide)segue_snapshot_generation(segue_request_snapshot(request)));
    break;
  default:
    lua_pushboolean(L, segue_request_gone(request));
  }
  return 1;
}

/* Upvalue: a table from names to field numbers or methods. Only the metatable has this function, so
 * argument 1 is a request. */
static int index_request(lua_State *L) {
  segue__lua_request *lua_request = request_opened(L, lua_touserdata(L, 1));
  lua_pushvalue(L, 2);
  lua_rawget(L, lua_upvalueindex(1));
  if (lua_type(L, -1) != LUA_TNUMBER) return 1;
  return push_field(L, lua_request, (int)lua_tointeger(L, -1));
}

static int request_refuse_write(lua_State *L) {
  return luaL_error(L, "a request cannot be changed");
}

static int request_to_string(lua_State *L) {
  const box *b = lua_touserdata(L, 1);
  if (b->lua_request->serial == b->serial)
    lua_pushfstring(L, "request (%s)", segue_request_path(b->lua_request->request));
  else
    lua_pushliteral(L, "request (answered)");
  return 1;
}

/* request:parameter(name) -> text or nil */
static int request_parameter(lua_State *L) {
  const segue__lua_request *lua_request = segue__lua_request_check(L);
  char small[1024];
  const char *name = luaL_checkstring(L, 2);
  if (segue_request_parameter(lua_request->request, name, small, sizeof small)) {
    lua_pushstring(L, small);
    return 1;
  }
  lua_pushnil(L);
  if (segue_request_query(lua_request->request).len < sizeof small) return 1;
  char *large = lua_newuserdata(L, PARAMETER_MAX);
  if (!segue_request_parameter(lua_request->request, name, large, PARAMETER_MAX))
    return lua_pushnil(L), 1;
  lua_pushstring(L, large);
  return 1;
}

/* ---- Headers ---- */

static int index_headers(lua_State *L) {
  const segue__lua_request *lua_request = request_opened(L, lua_touserdata(L, 1));
  if (lua_type(L, 2) != LUA_TSTRING) return 0;
  segue_text value = segue_request_header(lua_request->request, lua_tostring(L, 2));
  if (!value.s) return 0;
  push_text(L, value);
  return 1;
}

static void request_push_lower(lua_State *L, segue_text name) {
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (size_t i = 0; i < name.len; i++)
    luaL_addchar(&b, (char)tolower((unsigned char)name.s[i]));
  luaL_pushresult(&b);
}

/* Upvalues: the headers, and the number of headers returned so far. */
static int next_header(lua_State *L) {
  const segue__lua_request *lua_request = request_opened(L, lua_touserdata(L, lua_upvalueindex(1)));
  lua_Integer i = lua_tointeger(L, lua_upvalueindex(2));
  segue_header header;
  if (!segue_request_header_at(lua_request->request, (size_t)i, &header)) return 0;
  lua_pushinteger(L, i + 1);
  lua_replace(L, lua_upvalueindex(2));
  request_push_lower(L, header.name);
  push_text(L, header.value);
  return 2;
}

/* pairs(request.headers): all headers, in the order of arrival */
static int pairs_of_headers(lua_State *L) {
  luaL_checkudata(L, 1, headers_meta);
  lua_settop(L, 1);
  lua_pushinteger(L, 0);
  lua_pushcclosure(L, next_header, 2);
  return 1;
}

static int headers_to_string(lua_State *L) {
  lua_pushliteral(L, "headers of a request");
  return 1;
}

/* ---- Metatables ---- */

static void close_meta(lua_State *L, void *key) {
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_pushcfunction(L, request_refuse_write);
  lua_setfield(L, -2, "__newindex");
  lua_pushlightuserdata(L, key);
  lua_insert(L, -2);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

static void push_members(lua_State *L) {
  static const struct {
    const char *name;
    int field;
  } fields[] = {{"method", METHOD},         {"path", PATH}, {"query", QUERY},
                {"headers", HEADERS},       {"body", BODY}, {"peer", PEER},
                {"generation", GENERATION}, {"gone", GONE}};
  static const luaL_Reg methods[] = {{"parameter", request_parameter},
                                     {"stream", segue__lua_request_stream},
                                     {"write", segue__lua_request_write},
                                     {"wait_gone", segue__request_wait_gone},
                                     {NULL, NULL}};
  lua_createtable(L, 0, 16);
  luaL_setfuncs(L, methods, 0);
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
    lua_pushinteger(L, fields[i].field);
    lua_setfield(L, -2, fields[i].name);
  }
}

void segue__lua_request_open(lua_State *L) {
  luaL_newmetatable(L, request_meta);
  push_members(L);
  lua_pushcclosure(L, index_request, 1);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, request_to_string);
  lua_setfield(L, -2, "__tostring");
  close_meta(L, &request_key);
  luaL_newmetatable(L, headers_meta);
  lua_pushcfunction(L, index_headers);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, pairs_of_headers);
  lua_setfield(L, -2, "__pairs");
  lua_pushcfunction(L, headers_to_string);
  lua_setfield(L, -2, "__tostring");
  close_meta(L, &headers_key);
}
