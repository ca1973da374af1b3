/* SPDX-License-Identifier: MIT
 *
 * segue.json and segue.yaml: text to plain Lua values and back, by the parsers and writers of the
 * configuration. Text of a server is not trusted: memory for its tree and for the Lua
 * values is limited by what the state has left, so that a document that is too large is an error
 * of the document, and not the end of the state; the parsers look at the CPU budget as they go.
 */
#include <string.h>

#include "../../config/config.h"
#include "convert.h"
#include "lua_document.h"

/* Bytes that one value takes at most, in the tree and as a Lua value together, without its text. */
enum { NODE_BYTES = 256, NODES_MAX = 4000000, TEXT_BYTES = 64 << 20 };

static bool codec_may_go_on(void *data) {
  return !segue__budget_is_spent(((segue__lua *)data)->budget);
}

static size_t codec_room(const segue__lua *lua) {
  size_t used = lua->bytes + lua->async_io_bytes;
  return used < lua->bytes_max ? lua->bytes_max - used : 0;
}

/* A text is in memory up to three times: in the tree, in the Lua value, and in the input or output.
 * So the limits are a part of the memory that is left. */
static segue__limits codec_limits(segue__lua *lua) {
  size_t room = codec_room(lua), nodes = room / NODE_BYTES + 1;
  return (segue__limits){.bytes = TEXT_BYTES,
                         .nodes = nodes < NODES_MAX ? (uint32_t)nodes : NODES_MAX,
                         .text = room / 4 + 1,
                         .may_go_on = codec_may_go_on,
                         .may_go_on_data = lua};
}

static segue__format codec_format(lua_State *L) {
  static const char *const names[] = {"json", "yaml", NULL};
  return luaL_checkoption(L, 1, NULL, names) ? SEGUE__YAML : SEGUE__JSON;
}

/* ---- decode ---------------------------------------------------------------------------------- */

/* where(path) -> line, column */
static int codec_where(lua_State *L) {
  const segue__lua_document *box = lua_touserdata(L, lua_upvalueindex(1));
  const segue_node *node = segue_node_get(&box->doc->root, luaL_optstring(L, 1, ""));
  if (!node) return 0;
  lua_pushnumber(L, node->line);
  lua_pushnumber(L, node->column);
  return 2;
}

static int codec_parse(lua_State *L, segue__lua_document *box, segue__format format,
                       segue_error *err) {
  segue__lua *lua = segue__lua_of(L);
  size_t len;
  const char *text = luaL_checklstring(L, 2, &len), *name = luaL_checkstring(L, 3);
  segue__limits limits = codec_limits(lua);
  if (len > limits.text)
    return segue__errorf(err, SEGUE_ELIMIT,
                         "%s has %zu bytes, which do not fit into the %zu MiB "
                         "that the %s may use",
                         name, len, lua->bytes_max >> 20, lua->owner ? "module" : "policy");
  char *copy = segue__strndup(text, len);
  int rc = copy ? segue__document_new(&box->doc, 0, name, name, format, copy, len) : UV_ENOMEM;
  if (rc) return segue__errorf(err, rc, "%s: out of memory", name);
  box->doc->foreign = true;
  rc = segue__document_parse(box->doc, &limits, NULL, NULL, err);
  if (rc == SEGUE_ETIMEOUT) segue__budget_raise(L);
  if (rc == SEGUE_EEMPTY) segue__errorf(err, rc, "the text is empty");
  size_t bytes = box->doc->arena.used + len;
  if (!rc && !segue__lua_charge(lua, bytes))
    rc = segue__errorf(err, SEGUE_ELIMIT, "%s needs more memory than the %s has left", name,
                       lua->owner ? "module" : "policy");
  else if (!rc)
    box->charged = bytes;
  return rc;
}

/* decode(format, text, name, positions) -> value, where; or nil, message, code, line, column */
static int codec_decode(lua_State *L) {
  segue__format format = codec_format(L);
  bool positions = lua_toboolean(L, 4);
  segue_error err = {0};
  char text[1024];
  segue__lua_guard(L);
  segue__lua_document *box = segue__lua_document_push(L);
  int at = lua_gettop(L);
  if (codec_parse(L, box, format, &err)) {
    segue__lua_document_clear(L, box);
    segue_error_format(&err, text, sizeof text);
    lua_pushnil(L);
    lua_pushstring(L, text);
    lua_pushstring(L, segue_error_name(err.code));
    if (!err.line) return 3;
    lua_pushnumber(L, err.line);
    lua_pushnumber(L, err.column);
    return 5;
  }
  segue__lua_document_value(L, &box->doc->root);
  if (!positions) {
    segue__lua_document_clear(L, box);
    return 1;
  }
  lua_pushvalue(L, at);
  lua_pushcclosure(L, codec_where, 1);
  return 2;
}

/* ---- encode ---------------------------------------------------------------------------------- */

static int codec_build(lua_State *L, segue__lua_document *box, bool finite, segue_error *err) {
  static const segue__conversion_errors errors = {
      .type = "is a %s: plain data only",
      .keys = "is neither a list (keys 1, 2, 3 ...) nor a map (keys that are texts)",
      .cycle = "contains itself",
      .depth = "is nested more than 200 deep"};
  const segue__conversion options = {
      .errors = &errors, .depth_max = SEGUE__LUA_DEPTH_MAX, .finite = finite, .shows_path = true};
  segue__limits limits = codec_limits(segue__lua_of(L));
  limits.depth = SEGUE__LUA_DEPTH_MAX;
  limits.may_go_on = NULL; /* the walk checks the budget itself, and raises the error */
  int rc = segue__document_new(&box->doc, 0, "", "", SEGUE__BUILT, NULL, 0);
  if (!rc) {
    box->doc->foreign = true;
    rc = segue__builder_new(&box->builder, box->doc, &limits);
  }
  if (rc) return segue__errorf(err, rc, "out of memory");
  rc = segue__lua_convert(L, 2, box->builder, &options, err);
  return rc ? rc : segue__builder_finish(box->builder, err);
}

/* The text counts before it is copied into the state, which must have room for it. */
static int codec_write(segue__lua *lua, segue__lua_document *box, segue__format format,
                       unsigned indent, segue_error *err) {
  size_t room = codec_room(lua), limit = room < TEXT_BYTES ? room : TEXT_BYTES;
  if (format == SEGUE__JSON)
    segue__json_write_within(&box->text, &box->doc->root, indent, limit + 1);
  else
    segue__yaml_write(&box->text, &box->doc->root, limit + 1);
  if (box->text.failed) return segue__errorf(err, UV_ENOMEM, "out of memory");
  if (box->text.len <= limit) return 0;
  return segue__errorf(err, SEGUE_ELIMIT, "is longer than %zu bytes as %s", limit,
                       format == SEGUE__JSON ? "JSON" : "YAML");
}

/* encode(format, value, indent) -> text; or nil, path, message */
static int codec_encode(lua_State *L) {
  segue__format format = codec_format(L);
  segue_error err = {0};
  luaL_checkany(L, 2);
  unsigned indent = (unsigned)luaL_optinteger(L, 3, 0);
  segue__lua_guard(L);
  segue__lua_document *box = segue__lua_document_push(L);
  int rc = codec_build(L, box, format == SEGUE__JSON, &err);
  if (!rc) rc = codec_write(segue__lua_of(L), box, format, indent <= 16 ? indent : 16, &err);
  if (rc) {
    segue__lua_document_clear(L, box);
    lua_pushnil(L);
    lua_pushstring(L, err.path);
    lua_pushstring(L, err.message);
    return 3;
  }
  lua_pushlstring(L, box->text.len ? box->text.data : "", box->text.len);
  segue__lua_document_clear(L, box);
  return 1;
}

/* ---- Lists ----------------------------------------------------------------------------------- */

static int codec_list(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  segue__list_mark(L, 1);
  lua_settop(L, 1);
  return 1;
}

static int codec_is_list(lua_State *L) {
  const segue__value *value = segue__value_test(L, 1);
  lua_pushboolean(L, value ? value->node->type == SEGUE_LIST : segue__list_test(L, 1));
  return 1;
}

void segue__codec_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"decode", codec_decode},
                                       {"encode", codec_encode},
                                       {"mark_list", codec_list},
                                       {"is_list", codec_is_list},
                                       {NULL, NULL}};
  segue__list_open(L);
  luaL_setfuncs(L, functions, 0);
}
