/* SPDX-License-Identifier: MIT
 *
 * Lua code of a policy that templates use. Each file of functions has a state of the sandbox, which
 * is kept for the next rendering; each rendering evaluates the file again, so that nothing is kept
 * from one to the next: an output is used again as long as the data are equal, and must not depend
 * on how often a function ran before. For the same reason there is no os and no math.random.
 *
 * A call goes from the state of templates (T) into the sandbox (S), and may go back: the code of
 * the policy calls the functions of the dialect. Each crossing is a protected call of its own, and
 * values cross as bytes (transfer.h), so that an error in one state never unwinds the other.
 */
#include "script.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../runtime/value.h"
#include "ordered.h"
#include "template_internal.h"
#include "transfer.h"
#include "view.h"

enum { STATES_MAX = 4, NESTED_MAX = 20 };
#define SCRIPT_BYTES ((size_t)64 << 20)

typedef struct script_state {
  segue__lua *lua; /* NULL: the place is free */
  segue__chunk chunk;
  segue__program program;
  segue__hash hash; /* of the file's name and text */
  uint64_t used;    /* the oldest goes first */
} script_state;

struct segue__scripts {
  segue__template *template;
  segue__budget *budget;
  script_state states[STATES_MAX];
  uint64_t clock;
  /* Of the running rendering. */
  script_state *state;
  lua_State *caller; /* the thread of T that has called S */
  unsigned nested;
  segue__buf wire; /* what crosses; each crossing has read it before the next one begins */
  segue__buf output;
  bool too_large; /* the output lacks a part for that reason */
};

static const char scripts_key[] = "segue.template.scripts"; /* in S: light userdata */
static const char functions_key[] = "segue.template.functions";

static segue__scripts *scripts_of(lua_State *S) {
  lua_getfield(S, LUA_REGISTRYINDEX, scripts_key);
  segue__scripts *scripts = lua_touserdata(S, -1);
  lua_pop(S, 1);
  return scripts;
}

static void state_free(script_state *state) {
  segue__lua_free(state->lua);
  segue__free(state->chunk.path);
  segue__free(state->chunk.text);
  *state = (script_state){0};
}

/* ---- From the sandbox to templates ----------------------------------------------------------- */

typedef struct upward {
  segue__scripts *scripts;
  const char *name;
} upward;

/* In T: answer(name, arguments) of lua/segue/template/script.lua -> bytes, or nil and a message.
 * The first result is true for bytes. */
static int up_protected(lua_State *T) {
  upward *up = lua_touserdata(T, 1);
  segue__buf *wire = &up->scripts->wire;
  size_t len;
  lua_getfield(T, LUA_REGISTRYINDEX, "segue.template.answer");
  lua_pushstring(T, up->name);
  lua_pushlstring(T, wire->data, wire->len);
  lua_call(T, 2, 2);
  const char *text = lua_tolstring(T, lua_toboolean(T, -2) ? -2 : -1, &len);
  wire->len = 0;
  segue__buf_addc(wire, lua_toboolean(T, -2) ? '+' : '-');
  segue__buf_add(wire, text, text ? len : 0);
  segue__buf_addc(wire, 0);
  return 0;
}

/* Calls T with the values from index first on. Pushes the result; raises the error of T. */
static int script_ask(lua_State *S, const char *name, int first) {
  segue__scripts *scripts = scripts_of(S);
  segue__buf *wire = &scripts->wire;
  upward up = {scripts, name};
  int top = lua_gettop(S);
  segue__lua_guard(S);
  if (!scripts->caller) return luaL_error(S, "%s: no template is being rendered", name);
  if (scripts->nested >= NESTED_MAX) return luaL_error(S, "%s: calls nest too deeply", name);
  wire->len = 0;
  for (int i = first; i <= top; i++)
    segue__transfer_add(S, i, wire);
  scripts->nested++;
  lua_State *T = scripts->caller;
  int status = scripts->template->lost
                   ? LUA_ERRMEM
                   : segue__template_call(scripts->template, T, up_protected, &up);
  if (status && !scripts->template->lost) lua_pop(T, 1);
  scripts->caller = T;
  scripts->nested--;
  if (wire->failed) scripts->template->starved = true;
  if (status || wire->failed) return luaL_error(S, "%s: not enough memory", name);
  if (*wire->data != '+') {
    luaL_where(S, 1);
    lua_pushstring(S, wire->data + 1);
    lua_concat(S, 2);
    return lua_error(S);
  }
  segue__transfer_push(S, segue__transfer_begin(S, wire->data + 1));
  return 1;
}

/* upvalue: the name of a function of the dialect */
static int script_dialect_call(lua_State *S) {
  return script_ask(S, lua_tostring(S, lua_upvalueindex(1)), 1);
}

/* __index of the globals: Lua's own, then the functions of the dialect. */
static int script_global(lua_State *S) {
  lua_settop(S, 2);
  lua_pushvalue(S, 2);
  lua_rawget(S, LUA_GLOBALSINDEX);
  if (!lua_isnil(S, -1) || lua_type(S, 2) != LUA_TSTRING) return 1;
  lua_settop(S, 2);
  script_ask(S, "@has", 2);
  if (!lua_toboolean(S, -1)) return 0;
  lua_pushvalue(S, 2);
  lua_pushcclosure(S, script_dialect_call, 1);
  lua_pushvalue(S, 2);
  lua_pushvalue(S, -2);
  lua_rawset(S, 1);
  return 1;
}

/* ---- The data of a template in Lua ----------------------------------------------------------- */

/* fetch of the view config: a member, or all of them without a key. T records that the template has
 * read it. */
static int data_fetch(lua_State *S) {
  return script_ask(S, lua_gettop(S) > 1 ? "@member" : "@members", 2);
}

/* The code may catch the error of a write, so that run_body asks once more at the end: an output
 * that lacks a part is no output. */
static void script_check_output(lua_State *S) {
  segue__scripts *scripts = scripts_of(S);
  scripts->too_large = scripts->too_large || scripts->output.len > SEGUE__TRANSFER_MAX;
  if (scripts->output.failed) luaL_error(S, "not enough memory");
  if (scripts->too_large)
    luaL_error(S, "the output is larger than %d bytes", (int)SEGUE__TRANSFER_MAX);
}

/* Nil and a text are an error with this text, as everywhere in a policy: <%= f() %> writes all
 * results of f. */
static int write_refuse(lua_State *S, int i) {
  bool reason = i == 1 && lua_gettop(S) == 2 && lua_isnil(S, 1) && lua_isstring(S, 2);
  if (reason) return luaL_error(S, "a value that is written is nil: %s", lua_tostring(S, 2));
  return luaL_error(S, "a value that is written is %s: it must be a text, a number or a boolean%s",
                    lua_isnil(S, i)              ? "nil"
                    : segue__value_is_null(S, i) ? "null"
                    : segue__view_test(S, i)     ? "table"
                                                 : luaL_typename(S, i),
                    lua_isnil(S, i) ? "; the data are in config" : "");
}

static void write_text(segue__scripts *scripts, lua_State *S, int i) {
  size_t len;
  const char *text = lua_tolstring(S, i, &len);
  if (len <= SEGUE__TRANSFER_MAX - scripts->output.len)
    segue__buf_add(&scripts->output, text, len);
  else
    scripts->too_large = true;
}

/* write(value, ...): appends to the output of a template in Lua. */
static int script_write(lua_State *S) {
  segue__scripts *scripts = scripts_of(S);
  segue__buf *out = &scripts->output;
  for (int i = 1, n = lua_gettop(S); i <= n; i++) {
    script_check_output(S); /* after a caught error the output may already be past the limit */
    switch (lua_type(S, i)) {
    case LUA_TNUMBER:
      segue__transfer_number(out, lua_tonumber(S, i));
      break;
    case LUA_TSTRING:
      write_text(scripts, S, i);
      break;
    case LUA_TBOOLEAN:
      segue__buf_adds(out, lua_toboolean(S, i) ? "true" : "false");
      break;
    case LUA_TUSERDATA:
      if (!segue__value_is_null(S, i) && !segue__view_test(S, i) &&
          luaL_callmeta(S, i, "__tostring")) {
        segue__buf_adds(out, lua_tostring(S, -1));
        lua_pop(S, 1);
        break;
      } /* fall through */
    default:
      return write_refuse(S, i);
    }
    script_check_output(S);
  }
  return 0;
}

/* ---- States ---------------------------------------------------------------------------------- */

static int script_no_require(lua_State *S) {
  return luaL_error(S, "require is not there in Lua code of templates: put it into one file");
}

static int state_open_body(lua_State *S, void *data, segue_error *err) {
  static const char *const removed[] = {"os",   "coroutine",  "print", "_G",
                                        "load", "loadstring", NULL};
  (void)err;
  lua_pushlightuserdata(S, data);
  lua_setfield(S, LUA_REGISTRYINDEX, scripts_key);
  for (const char *const *name = removed; *name; name++) {
    lua_pushnil(S);
    lua_setglobal(S, *name);
  }
  lua_getglobal(S, "math");
  lua_pushnil(S);
  lua_setfield(S, -2, "random");
  lua_pushnil(S);
  lua_setfield(S, -2, "randomseed");
  lua_pop(S, 1);
  lua_pushcfunction(S, script_no_require);
  lua_setglobal(S, "require");
  segue__transfer_open(S);
  segue__view_open(S);
  segue__ordered_open(S);
  return 0;
}

static script_state *state_find(segue__scripts *scripts, segue__hash hash) {
  script_state *oldest = &scripts->states[0];
  for (size_t i = 0; i < STATES_MAX; i++) {
    script_state *state = &scripts->states[i];
    if (state->lua && !memcmp(&state->hash, &hash, sizeof hash)) return state;
    if (state->used < oldest->used) oldest = state;
  }
  state_free(oldest);
  return oldest;
}

static int state_new(segue__scripts *scripts, script_state *state, const char *path,
                     const char *text, size_t len, segue_error *err) {
  static const segue__logger silent = {0};
  state->chunk = (segue__chunk){NULL, segue__strdup(path), segue__strndup(text, len), len, {0, 0}};
  state->program = (segue__program){.chunks = &state->chunk, .count = 1, .sealed = true};
  segue__lua_setup setup = {.log = &silent,
                            .os = segue__os_default(),
                            .budget = scripts->budget,
                            .program = &state->program,
                            .lua_dir = "\n", /* no file is of the Lua half */
                            .bytes_max = SCRIPT_BYTES};
  if (!state->chunk.path || !state->chunk.text)
    return segue__errorf(err, UV_ENOMEM, "templates: %s", segue_strerror(UV_ENOMEM));
  int rc = segue__lua_new(&state->lua, &setup, err);
  if (!rc) rc = segue__lua_call(state->lua, "opening Lua", 1000, state_open_body, scripts, err);
  return rc;
}

static int scripts_new(segue__template *t) {
  segue__scripts *scripts = segue__calloc(1, sizeof *scripts);
  if (!scripts) return UV_ENOMEM;
  if (segue__budget_new(&scripts->budget, 0)) {
    segue__free(scripts);
    return UV_ENOMEM;
  }
  scripts->template = t;
  segue__buf_init(&scripts->wire);
  segue__buf_init(&scripts->output);
  t->scripts = scripts;
  return 0;
}

/* A state that hit a limit is of no use any more. */
void segue__scripts_end(segue__scripts *scripts) {
  if (!scripts) return;
  script_state *state = scripts->state;
  scripts->state = NULL;
  if (state && (!state->lua || segue__lua_is_broken(state->lua))) state_free(state);
  segue__buf_deinit(&scripts->output);
  segue__buf_deinit(&scripts->wire);
  segue__buf_init(&scripts->output);
  segue__buf_init(&scripts->wire);
  scripts->too_large = false;
}

void segue__scripts_free(segue__scripts *scripts) {
  if (!scripts) return;
  segue__scripts_end(scripts);
  for (size_t i = 0; i < STATES_MAX; i++)
    state_free(&scripts->states[i]);
  segue__budget_free(scripts->budget);
  segue__free(scripts);
}

/* ---- From templates to the sandbox ----------------------------------------------------------- */

typedef struct downward {
  segue__scripts *scripts;
  const char *name, *text;
  size_t len;
  bool is_map;        /* the data */
  segue__place place; /* of the function that is called */
} downward;

/* The globals of a rendering, with libraries of its own: a change of one ends with the rendering.
 */
static void push_environment(lua_State *S) {
  static const char *const libraries[] = {"string", "table", "math", "bit", "segue", NULL};
  lua_newtable(S);
  for (const char *const *name = libraries; *name; name++) {
    lua_newtable(S);
    lua_getglobal(S, *name);
    for (lua_pushnil(S); lua_next(S, -2);) {
      lua_pushvalue(S, -2);
      lua_insert(S, -2);
      lua_rawset(S, -5);
    }
    lua_pop(S, 1);
    lua_setfield(S, -2, *name);
  }
  lua_createtable(S, 0, 2);
  lua_pushcfunction(S, script_global);
  lua_setfield(S, -2, "__index");
  lua_pushboolean(S, 0);
  lua_setfield(S, -2, "__metatable");
  lua_setmetatable(S, -2);
}

/* Evaluates the file, and writes the names of its functions to the wire. */
static int begin_body(lua_State *S, void *data, segue_error *err) {
  downward *down = data;
  segue__scripts *scripts = down->scripts;
  (void)err;
  segue__transfer_forget(S);
  lua_newtable(S);
  lua_setfield(S, LUA_REGISTRYINDEX, functions_key);
  scripts->wire.len = 0;
  segue__buf_addc(&scripts->wire, 'l');
  segue__buf_add(&scripts->wire, "\0\0\0\0", 4);
  if (!down->name) return 0;
  segue__chunk_load(S, &scripts->state->chunk);
  push_environment(S);
  lua_setfenv(S, -2);
  lua_call(S, 0, 1);
  if (!lua_istable(S, -1))
    return luaL_error(S, "%s:1: the file must return a table of functions, not %s",
                      scripts->state->chunk.path,
                      lua_isnil(S, -1) ? "nothing" : luaL_typename(S, -1));
  lua_pushvalue(S, -1);
  lua_setfield(S, LUA_REGISTRYINDEX, functions_key);
  uint32_t count = 0;
  scripts->wire.len = 5; /* calls of the file have used it */
  for (lua_pushnil(S); lua_next(S, -2); lua_pop(S, 1), count++) {
    if (lua_type(S, -2) != LUA_TSTRING || !lua_isfunction(S, -1))
      return luaL_error(S, "%s:1: the file must return functions by their names, and %s is a %s",
                        scripts->state->chunk.path,
                        lua_type(S, -2) == LUA_TSTRING ? lua_tostring(S, -2) : "a member",
                        luaL_typename(S, -1));
    segue__transfer_add(S, lua_gettop(S) - 1, &scripts->wire);
  }
  *scripts->wire.data = 'l';
  memcpy(scripts->wire.data + 1, &count, sizeof count);
  return 0;
}

/* nil and a text are an error, as everywhere in a policy. */
static int call_body(lua_State *S, void *data, segue_error *err) {
  downward *down = data;
  const char *at = down->text, *end = at + down->len;
  lua_getfield(S, LUA_REGISTRYINDEX, functions_key);
  lua_getfield(S, -1, down->name);
  lua_replace(S, 1);
  lua_pushvalue(S, 1);
  segue__lua_place_of(segue__lua_of(S), S, &down->place);
  for (at = segue__transfer_begin(S, at); at < end;)
    at = segue__transfer_push(S, at);
  lua_call(S, lua_gettop(S) - 1, 2);
  if (lua_isnil(S, 1) && lua_type(S, 2) == LUA_TSTRING) {
    segue__errorf(err, SEGUE_ECONFIG, "%s", lua_tostring(S, 2));
    return SEGUE_ECONFIG;
  }
  down->scripts->wire.len = 0;
  segue__transfer_add(S, 1, &down->scripts->wire);
  return 0;
}

/* Runs the chunk of a template. Its globals have config, write, and the functions of the file. */
static int run_body(lua_State *S, void *data, segue_error *err) {
  downward *down = data;
  (void)err;
  lua_pushfstring(S, "@%s", down->name);
  if (luaL_loadbufferx(S, down->text, down->len, lua_tostring(S, -1), "t")) return lua_error(S);
  push_environment(S);
  lua_getfield(S, LUA_REGISTRYINDEX, functions_key);
  for (lua_pushnil(S); lua_next(S, -2);) {
    lua_pushvalue(S, -2);
    lua_insert(S, -2);
    lua_rawset(S, -5);
  }
  lua_pop(S, 1);
  if (down->is_map) {
    lua_newtable(S);
    segue__view_wrap(S)->fetch = data_fetch;
  } else {
    script_ask(S, "@members", lua_gettop(S) + 1);
  }
  lua_setfield(S, -2, "config");
  lua_pushcfunction(S, script_write);
  lua_setfield(S, -2, "write");
  lua_setfenv(S, -2);
  lua_call(S, 0, 0);
  script_check_output(S);
  return 0;
}

/* Calls S from T. The results for T: true; or false, message, file, line, and whether a limit was
 * hit. */
static int script_enter(lua_State *T, const char *what, segue__lua_body body, downward *down,
                        double total_ms, double left_ms) {
  segue__scripts *scripts = down->scripts;
  segue_error err = {0};
  lua_State *outer = scripts->caller;
  if (left_ms < 1) left_ms = 1;
  scripts->caller = T;
  int rc = segue__lua_call_on(scripts->state->lua, what, (uint64_t)total_ms,
                              (uint64_t)(left_ms * 1e6), body, down, &err);
  scripts->caller = outer;
  if (scripts->template->lost) segue__template_escape(scripts->template);
  if (!rc && scripts->wire.failed) rc = segue__errorf(&err, UV_ENOMEM, "not enough memory");
  if (rc == UV_ENOMEM) scripts->template->starved = true;
  lua_pushboolean(T, !rc);
  if (!rc) return 1;
  /* A tail call leaves no line behind: then the function's own has to do. */
  if (!err.file[0] && rc != SEGUE_ECONFIG)
    segue__error_set_place(&err, down->place.file, down->place.line, 0);
  lua_pushstring(T, err.message);
  lua_pushstring(T, err.file);
  lua_pushnumber(T, err.line);
  lua_pushboolean(T, rc == SEGUE_ETIMEOUT || rc == SEGUE_ELIMIT || rc == UV_ENOMEM);
  return 5;
}

static int script_starved(segue__template *t, lua_State *T) {
  t->starved = true;
  return luaL_error(T, "not enough memory");
}

/* script_begin(total_ms, left_ms, path, text) -> true, names; or as script_enter. path nil: there
 * is no file of functions. */
static int host_script_begin(lua_State *T) {
  segue__template *t = segue__template_of(T);
  size_t path_len, len;
  const char *path = luaL_optlstring(T, 3, "", &path_len), *text = luaL_optlstring(T, 4, "", &len);
  if (!t->scripts && scripts_new(t)) return script_starved(t, T);
  segue__scripts *scripts = t->scripts;
  segue__hash hash = segue__hash_bytes(path, path_len + 1, (segue__hash){0, 0});
  hash = segue__hash_bytes(text, len, hash);
  segue__scripts_end(scripts);
  script_state *state = state_find(scripts, hash);
  segue_error err = {0};
  if (!state->lua) {
    if (state_new(scripts, state, path, text, len, &err)) {
      state_free(state);
      return script_starved(t, T);
    }
    state->hash = hash;
  }
  state->used = ++scripts->clock;
  scripts->state = state;
  downward down = {.scripts = scripts, .name = *path ? path : NULL};
  int results = script_enter(T, "the file of functions", begin_body, &down, lua_tonumber(T, 1),
                             lua_tonumber(T, 2));
  if (results > 1) return results;
  lua_pushlstring(T, scripts->wire.data, scripts->wire.len);
  return 2;
}

/* script_call(total_ms, left_ms, name, arguments) -> true, result; or as script_enter */
static int host_script_call(lua_State *T) {
  segue__scripts *scripts = segue__template_of(T)->scripts;
  downward down = {.scripts = scripts, .name = luaL_checkstring(T, 3)};
  down.text = luaL_checklstring(T, 4, &down.len);
  char what[80];
  snprintf(what, sizeof what, "the function %.50s", down.name);
  int results = script_enter(T, what, call_body, &down, lua_tonumber(T, 1), lua_tonumber(T, 2));
  if (results > 1) return results;
  lua_pushlstring(T, scripts->wire.data, scripts->wire.len);
  return 2;
}

/* script_run(total_ms, left_ms, name, chunk, is_map) -> true, output; or as script_enter */
static int host_script_run(lua_State *T) {
  segue__scripts *scripts = segue__template_of(T)->scripts;
  downward down = {
      .scripts = scripts, .name = luaL_checkstring(T, 3), .is_map = lua_toboolean(T, 5)};
  down.text = luaL_checklstring(T, 4, &down.len);
  int results =
      script_enter(T, "the template", run_body, &down, lua_tonumber(T, 1), lua_tonumber(T, 2));
  if (results > 1) return results;
  lua_pushlstring(T, scripts->output.len ? scripts->output.data : "", scripts->output.len);
  return 2;
}

/* script_answer(f): f(name, arguments) answers the code of the policy: see up_protected. */
static int host_script_answer(lua_State *T) {
  luaL_checktype(T, 1, LUA_TFUNCTION);
  lua_settop(T, 1);
  lua_setfield(T, LUA_REGISTRYINDEX, "segue.template.answer");
  return 0;
}

void segue__script_open(lua_State *L) {
  lua_pushcfunction(L, host_script_begin);
  lua_setfield(L, -2, "script_begin");
  lua_pushcfunction(L, host_script_call);
  lua_setfield(L, -2, "script_call");
  lua_pushcfunction(L, host_script_run);
  lua_setfield(L, -2, "script_run");
  lua_pushcfunction(L, host_script_answer);
  lua_setfield(L, -2, "script_answer");
}
