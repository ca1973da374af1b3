/* SPDX-License-Identifier: MIT
 *
 * require and load. `require "segue.x"` finds the Lua half; any other name is a file beside the
 * policy. The bytes of such a file become part of the policy: the state can be built again from the
 * same text, and their hash makes a change of the file a reason to reload. Only text is loaded,
 * because Lua does not verify bytecode.
 */
#include <ctype.h>
#include <string.h>

#include "../../os/text.h"
#include "state.h"

enum { FILE_MAX = 4 * 1024 * 1024 };
static char loaded_key, loading_key; /* addresses are keys in the registry */

void segue__program_deinit(segue__program *program) {
  for (size_t i = 0; i < program->count; i++) {
    segue__free(program->chunks[i].module);
    segue__free(program->chunks[i].path);
    segue__free(program->chunks[i].text);
  }
  segue__free(program->chunks);
  segue__free(program->folder);
  memset(program, 0, sizeof *program);
}

static bool require_same_name(const char *a, const char *b) {
  return a == b || (a && b && !strcmp(a, b));
}

static int reserve_chunk(segue__program *program) {
  if (program->count < program->capacity) return 0;
  size_t capacity = program->capacity ? program->capacity * 2 : 4;
  segue__chunk *chunks = segue__realloc(program->chunks, capacity * sizeof *chunks);
  if (!chunks) return UV_ENOMEM;
  program->chunks = chunks;
  program->capacity = capacity;
  return 0;
}

int segue__program_add(segue__program *program, const segue__os *os, const char *module,
                       const char *path, const segue__chunk **out, segue_error *err) {
  *out = NULL;
  for (size_t i = 0; i < program->count; i++) {
    if (require_same_name(program->chunks[i].module, module)) {
      *out = &program->chunks[i];
      return 0;
    }
  }
  if (program->sealed)
    return segue__errorf(err, SEGUE_EUSAGE, "modules can only be required while the policy loads");
  segue__bytes bytes;
  int rc = segue__read_whole(os, path, FILE_MAX, &bytes, err);
  if (rc) return rc;
  segue__chunk chunk = {module ? segue__strdup(module) : NULL, segue__strdup(path), bytes.data,
                        bytes.len, segue__hash_bytes(bytes.data, bytes.len, (segue__hash){0, 0})};
  if (reserve_chunk(program) || !chunk.path || (module && !chunk.module)) {
    segue__free(chunk.module);
    segue__free(chunk.path);
    segue__free(chunk.text);
    return segue__errorf(err, UV_ENOMEM, "%s: out of memory", path);
  }
  program->chunks[program->count] = chunk;
  *out = &program->chunks[program->count++];
  return 0;
}

const char *segue__program_path(const segue__program *program, const char *name) {
  size_t len = strlen(name);
  if (!program || len < 3 || strncmp(name, "...", 3)) return name;
  for (size_t i = 0; i < program->count; i++) {
    const char *path = program->chunks[i].path;
    size_t have = strlen(path);
    if (have >= len - 3 && !strcmp(path + have - (len - 3), name + 3)) return path;
  }
  return name;
}

int segue__chunk_load(lua_State *L, const segue__chunk *chunk) {
  if (chunk->len && *chunk->text == LUA_SIGNATURE[0])
    return luaL_error(L, "%s:1: this is Lua bytecode, which nothing verifies: give the source text",
                      chunk->path);
  lua_pushfstring(L, "@%s", chunk->path);
  if (luaL_loadbufferx(L, chunk->text, chunk->len, lua_tostring(L, -1), "t")) return lua_error(L);
  lua_remove(L, -2);
  return 1;
}

/* ---- load ------------------------------------------------------------------------------------ */

/* Calls the reader function of load until it returns nil, and joins the results into one string at
 * index 1. Returns false, with the error on top, if the reader raised an error.
 *
 * LuaJIT's own load calls the reader from inside the parser, where no hook runs: a C function as
 * reader may return text forever (load(math.random)). A hook that raises an error from there leaves
 * hooks disabled in LuaJIT, so nothing limits the code that runs next. */
static bool read_pieces(lua_State *L) {
  const segue__budget *budget = segue__lua_of(L)->budget;
  luaL_Buffer b;
  size_t len = 0, total = 0;
  luaL_buffinit(L, &b);
  for (int piece = 0;; piece++) {
    lua_pushvalue(L, 1);
    if (lua_pcall(L, 0, 1, 0)) {
      if (segue__lua_is_broken(segue__lua_of(L))) lua_error(L);
      return false;
    }
    const char *text = lua_isnil(L, -1) ? "" : lua_tolstring(L, -1, &len);
    if (!text) luaL_error(L, "load: its function must return texts, and nil at the end");
    if (!*text && (lua_isnil(L, -1) || !len)) break;
    total += len;
    if (total > FILE_MAX) luaL_error(L, "load: the text is longer than 4 MiB");
    if (!(piece & 1023) && segue__budget_is_spent(budget)) segue__budget_raise(L);
    luaL_addvalue(&b);
  }
  lua_pop(L, 1);
  luaL_pushresult(&b);
  lua_replace(L, 1);
  return true;
}

/* load(text or function, name): like Lua's own, text only. upvalue: Lua's own load. */
static int load_text(lua_State *L) {
  segue__lua_guard(L);
  if (lua_type(L, 1) != LUA_TSTRING && lua_type(L, 1) != LUA_TFUNCTION)
    return luaL_argerror(L, 1, "a text or a function expected");
  if (lua_type(L, 1) == LUA_TSTRING && lua_objlen(L, 1) > FILE_MAX)
    return luaL_argerror(L, 1, "the text is longer than 4 MiB");
  bool has_env = lua_gettop(L) >= 4;
  lua_settop(L, has_env ? 4 : 2);
  if (lua_type(L, 1) == LUA_TFUNCTION && !read_pieces(L)) {
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
  }
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushvalue(L, 1);
  if (lua_isnil(L, 2))
    lua_pushliteral(L, "=(load)");
  else
    lua_pushvalue(L, 2);
  lua_pushliteral(L, "t");
  if (has_env) lua_pushvalue(L, 4);
  lua_call(L, has_env ? 4 : 3, 2);
  return 2;
}

/* ---- require --------------------------------------------------------------------------------- */

static bool valid_name(const char *name) {
  if (!*name || *name == '.' || strstr(name, "..") || name[strlen(name) - 1] == '.') return false;
  for (; *name; name++) {
    if (!isalnum((unsigned char)*name) && !segue__is_one_of(*name, "_-.")) return false;
  }
  return true;
}

/* Pushes base .. "/" .. name with its dots as slashes .. ".lua". */
static const char *push_path(lua_State *L, const char *base, const char *name) {
  lua_pushstring(L, *base ? base : "");
  lua_pushstring(L, *base && strcmp(base, "/") ? "/" : "");
  luaL_gsub(L, name, ".", "/");
  lua_pushliteral(L, ".lua");
  lua_concat(L, 4);
  return lua_tostring(L, -1);
}

/* A missing file is an error of the code. A file that cannot be read (no descriptor, no memory, a
 * broken disk) is a failure of the system, and the reload is tried again. */
static int raise_error(lua_State *L, const segue_error *err) {
  if (err->code != SEGUE_ELIMIT && err->code != SEGUE_EUSAGE) segue__lua_of(L)->world = err->code;
  luaL_where(L, 1);
  lua_pushstring(L, err->message);
  lua_concat(L, 2);
  return lua_error(L);
}

/* segue.plugin.NAME is plugins/NAME/init.lua, and segue.plugin.NAME.x is plugins/NAME/x.lua, beside
 * the folder of the Lua half. */
static const char *push_library_path(lua_State *L, const char *name) {
  static const char plugin[] = "segue.plugin.";
  const char *dir = segue__lua_of(L)->lua_dir;
  if (!strcmp(name, "segue")) return push_path(L, dir, "segue.init");
  if (strncmp(name, plugin, sizeof plugin - 1) != 0) return push_path(L, dir, name);
  const char *own = name + sizeof plugin - 1, *dot = strchr(own, '.');
  lua_pushfstring(L, "%s/../plugins/", dir);
  lua_pushlstring(L, own, dot ? (size_t)(dot - own) : strlen(own));
  lua_concat(L, 2);
  return push_path(L, lua_tostring(L, -1), dot ? dot + 1 : "init");
}

/* has_library(name) -> whether require finds a file of the Lua half or of a plugin. */
static int has_library(lua_State *L) {
  const segue__lua *lua = segue__lua_of(L);
  const char *path = push_library_path(L, luaL_checkstring(L, 1));
  size_t len;
  segue__bytes bytes = {0};
  segue_error ignored;
  bool found = segue__library_find(lua->library, path, &len) != NULL;
  if (!found && !lua->os->read_file(lua->os->data, path, FILE_MAX, &bytes, &ignored)) {
    segue__free(bytes.data);
    found = true;
  }
  lua_pushboolean(L, found);
  return 1;
}

/* Leaves the compiled chunk on the stack. */
static void load_library(lua_State *L, const char *name) {
  segue__lua *lua = segue__lua_of(L);
  const char *path = push_library_path(L, name);
  const char *chunk_name = lua_pushfstring(L, "@%s", path);
  segue__bytes bytes;
  segue_error err;
  size_t len;
  const char *text = segue__library_find(lua->library, path, &len);
  if (text) {
    if (luaL_loadbufferx(L, text, len, chunk_name, "t")) lua_error(L);
    return;
  }
  if (lua->os->read_file(lua->os->data, path, FILE_MAX, &bytes, &err)) {
    if (err.code == UV_ENOENT)
      luaL_error(L, "there is no module '%s' in this version (looked for %s)", name, path);
    raise_error(L, &err);
  }
  /* No error may be raised while this function owns the bytes. */
  int rc = luaL_loadbufferx(L, bytes.data, bytes.len, chunk_name, "t");
  segue__free(bytes.data);
  if (rc) lua_error(L);
}

static int raise_missing(lua_State *L, const char *name, const char *path, const segue_error *err) {
  if (err->code == UV_ENOENT)
    return luaL_error(L, "module '%s' not found: there is no %s beside the policy", name, path);
  if (err->code == SEGUE_EUSAGE && segue__lua_of(L)->owner)
    return luaL_error(L, "require '%s': its name must be written out: require \"%s\"", name, name);
  if (err->code == SEGUE_EUSAGE)
    return luaL_error(L, "require '%s' comes too late: require it at the top of the policy", name);
  return raise_error(L, err);
}

static int load_module(lua_State *L, const char *name) {
  segue__lua *lua = segue__lua_of(L);
  const char *path = push_path(L, lua->program->folder ? lua->program->folder : "", name);
  const segue__chunk *chunk = NULL;
  segue_error err;
  if (segue__program_add(lua->program, lua->os, name, path, &chunk, &err) || !chunk)
    return raise_missing(L, name, path, &err);
  return segue__chunk_load(L, chunk);
}

static void registry_table(lua_State *L, void *key) {
  lua_pushlightuserdata(L, key);
  lua_rawget(L, LUA_REGISTRYINDEX);
}

static int require(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  lua_settop(L, 1);
  registry_table(L, &loaded_key); /* 2 */
  lua_getfield(L, 2, name);
  if (!lua_isnil(L, -1)) return 1;
  if (!valid_name(name))
    return luaL_error(L, "require '%s': a module's name is made of letters, digits, _, - and dots",
                      name);
  segue__lua_guard(L);
  registry_table(L, &loading_key); /* 4 */
  lua_getfield(L, 4, name);
  if (!lua_isnil(L, -1))
    return luaL_error(L, "require '%s': the module requires itself, or it ended in an error before",
                      name);
  if (!strcmp(name, "segue") || !strncmp(name, "segue.", 6))
    load_library(L, name);
  else
    load_module(L, name);
  lua_pushboolean(L, 1);
  lua_setfield(L, 4, name);
  lua_pushvalue(L, 1);
  lua_call(L, 1, 1);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_pushboolean(L, 1);
  }
  lua_pushvalue(L, -1);
  lua_setfield(L, 2, name);
  lua_pushnil(L);
  lua_setfield(L, 4, name);
  return 1;
}

void segue__require_open(lua_State *L) {
  lua_getglobal(L, "load");
  lua_pushvalue(L, -1);
  lua_pushcclosure(L, load_text, 1);
  lua_setglobal(L, "load");
  lua_pushcclosure(L, load_text, 1);
  lua_setglobal(L, "loadstring");
  lua_pushlightuserdata(L, &loaded_key);
  lua_newtable(L);
  lua_getfield(L, LUA_REGISTRYINDEX, "segue.core");
  lua_pushcfunction(L, has_library);
  lua_setfield(L, -2, "has_library");
  lua_setfield(L, -2, "segue.core");
  lua_rawset(L, LUA_REGISTRYINDEX);
  lua_pushlightuserdata(L, &loading_key);
  lua_newtable(L);
  lua_rawset(L, LUA_REGISTRYINDEX);
  lua_pushcfunction(L, require);
  lua_setglobal(L, "require");
}
