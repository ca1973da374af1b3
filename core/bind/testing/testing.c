/* SPDX-License-Identifier: MIT
 *
 * segue.testing.core: a rehearsal as a userdata, and the Lua state of specs. The engine calls the
 * author's functions in the middle of its work, where a Lua error (a longjmp) would skip its
 * cleanup. So each of these calls is protected: an error fails the command or request in question,
 * and is raised again when the engine has returned.
 */
#include "testing.h"

#include <limits.h>
#include <lualib.h>
#include <stdlib.h>
#include <string.h>

#include "../../os/hex.h"
#include "../io/dns_records.h"
#include "../policy/lua_options.h"
#include "../runtime/state.h"
#include "rehearsal.h"
#include "testing_internal.h"

static const char metatable[] = "segue.rehearsal";
static char options_key; /* its address is the key of the options in the registry */

typedef struct testing {
  segue__rehearsal *r; /* NULL: closed */
  lua_State *L;        /* the state whose call is running */
  int answer;          /* reference to the author's answer function */
  char *raised;        /* error of the author's function, to be raised again; owned */
} testing;

/* Converts "ECONNREFUSED", "SEGUE_ETIMEOUT" to the error number; UV_EIO for an unknown name. */
static int testing_code_of(const char *name) {
  for (int code = -1; name && code > -5100; code--)
    if (strcmp(segue_error_name(code), name) == 0) return code;
  return UV_EIO;
}

/* ---- Questions to the author ----------------------------------------------------------------- */

static void push_texts(lua_State *L, const char *const *texts) {
  lua_newtable(L);
  for (int i = 0; texts && texts[i]; i++) {
    lua_pushstring(L, texts[i]);
    lua_rawseti(L, -2, i + 1);
  }
}

static void push_bytes(lua_State *L, const char *key, const void *data, size_t len) {
  if (!data) return;
  lua_pushlstring(L, data, len);
  lua_setfield(L, -2, key);
}

/* The effect of a module of the kind files that asks. */
static void push_effect(lua_State *L, const segue__effect_asked *asked) {
  const segue__effect *effect = asked->effect;
  segue__testing_set_text(L, "module", asked->module);
  segue__testing_set_text(L, "step", asked->title);
  segue__testing_set_text(L, "shown", asked->shown);
  segue__testing_set_text(L, "user", effect->user);
  if (!effect->pidfile) return;
  segue__testing_set_text(L, "pidfile", effect->pidfile);
  segue__testing_set_text(L, "process", effect->name);
  lua_pushlstring(L, asked->shown, strcspn(asked->shown, " "));
  lua_setfield(L, -2, "signal");
}

static void push_question(lua_State *L, const segue__question *q) {
  lua_newtable(L);
  segue__testing_set_text(L, "name", q->name);
  segue__testing_set_text(L, "verb", q->verb);
  if (q->id) segue__testing_set_number(L, "id", q->id);
  if (q->what == SEGUE__ASKED_CONNECT) segue__testing_set_flag(L, "tls", q->tls);
  push_bytes(L, "bytes", q->bytes, q->bytes_len);
  if (q->run) {
    push_texts(L, q->run->argv);
    lua_setfield(L, -2, "argv");
    push_texts(L, q->run->env);
    lua_setfield(L, -2, "env");
    segue__testing_set_text(L, "cwd", q->run->cwd);
    push_bytes(L, "stdin", q->run->input, q->run->input_len);
  }
  if (q->fetch) {
    segue__testing_set_text(L, "url", q->fetch->url);
    segue__testing_set_text(L, "method", q->fetch->method);
    segue__testing_set_text(L, "unix_socket", q->fetch->socket_path);
    push_texts(L, q->fetch->headers);
    lua_setfield(L, -2, "headers");
    push_bytes(L, "body", q->fetch->body, q->fetch->body_len);
    segue__testing_set_flag(L, "connect_only", q->fetch->connect_only);
  }
  if (q->effect) push_effect(L, q->effect);
  if (q->config && q->config->config) {
    segue__testing_push_node(L, q->config->config);
    lua_setfield(L, -2, "config");
  }
}

/* Returns a copy of this field of the table on top, or NULL. */
static char *testing_take_text(lua_State *L, const char *key, size_t *len) {
  size_t n = 0;
  lua_getfield(L, -1, key);
  const char *text = lua_tolstring(L, -1, &n);
  char *copy = text ? segue__malloc(n + 1) : NULL;
  if (copy) memcpy(copy, text, n + 1);
  if (len) *len = copy ? n : 0;
  lua_pop(L, 1);
  return copy;
}

static lua_Number testing_take_number(lua_State *L, const char *key) {
  lua_getfield(L, -1, key);
  lua_Number number = lua_tonumber(L, -1);
  lua_pop(L, 1);
  return number;
}

/* Takes the list of records on top. */
static void take_records(lua_State *L, segue__dns_records *out) {
  size_t count = lua_istable(L, -1) ? lua_objlen(L, -1) : 0;
  out->items = segue__calloc(count ? count : 1, sizeof *out->items);
  for (size_t i = 0; out->items && i < count; i++) {
    segue__dns_record *record = &out->items[out->count++];
    lua_rawgeti(L, -1, (int)i + 1);
    record->text = testing_take_text(L, "text", &record->len);
    record->ttl = (uint32_t)testing_take_number(L, "ttl");
    record->priority = (uint16_t)testing_take_number(L, "priority");
    record->weight = (uint16_t)testing_take_number(L, "weight");
    record->port = (uint16_t)testing_take_number(L, "port");
    lua_pop(L, 1);
  }
}

static void take_answer(lua_State *L, segue__question *q) {
  char *code = testing_take_text(L, "code", NULL);
  q->message = testing_take_text(L, "message", NULL);
  q->code = testing_code_of(code);
  segue__free(code);
  q->text[0] = testing_take_text(L, "first", &q->len[0]);
  q->text[1] = testing_take_text(L, "second", &q->len[1]);
  q->number = (int)testing_take_number(L, "number");
  q->signal = (int)testing_take_number(L, "signal");
  q->delay_ms = (uint64_t)testing_take_number(L, "delay_ms");
  lua_getfield(L, -1, "addresses");
  if (q->records) take_records(L, q->records);
  for (int i = 1; !q->records && lua_istable(L, -1); i++) {
    lua_rawgeti(L, -1, i);
    const char *address = lua_tostring(L, -1);
    if (!address || segue__names_add(&q->addresses, "", 0, address)) {
      lua_pop(L, 1);
      break;
    }
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

static int ask_protected(lua_State *L) {
  static const char *const names[] = {"run",    "fetch",   "resolve", "module",
                                      "signal", "connect", "receive", "hang_up"};
  testing *t = lua_touserdata(L, 1);
  segue__question *q = lua_touserdata(L, 2);
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->answer);
  lua_pushstring(L, names[q->what]);
  push_question(L, q);
  lua_call(L, 2, 1);
  luaL_checktype(L, -1, LUA_TTABLE);
  take_answer(L, q);
  return 0;
}

static void testing_ask(void *data, segue__question *q) {
  testing *t = data;
  lua_State *L = t->L;
  if (!L || !lua_checkstack(L, 20))
    return; /* while the rehearsal is closed, modules stop at once */
  lua_pushcfunction(L, ask_protected);
  lua_pushlightuserdata(L, t);
  lua_pushlightuserdata(L, q);
  if (lua_pcall(L, 2, 0, 0) == 0) return;
  const char *text = lua_tostring(L, -1);
  segue__free(q->message);
  q->message = segue__strdup(text ? text : "the answer is an error without a text");
  q->code = SEGUE_EUSAGE;
  if (!t->raised) t->raised = segue__strdup(q->message);
  lua_pop(L, 1);
}

/* ---- Recorded results ------------------------------------------------------------------------ */

typedef struct recall_call {
  testing *t;
  const char *kind, *key;
  segue__recalled *out;
  bool found;
} recall_call;

/* answer("recall", { kind, key }) -> nil, or { id, count, ms } */
static int recall_protected(lua_State *L) {
  recall_call *call = lua_touserdata(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, call->t->answer);
  lua_pushliteral(L, "recall");
  lua_createtable(L, 0, 2);
  segue__testing_set_text(L, "kind", call->kind);
  segue__testing_set_text(L, "key", call->key);
  lua_call(L, 2, 1);
  if (lua_isnil(L, -1)) return 0;
  luaL_checktype(L, -1, LUA_TTABLE);
  call->out->id = (int)testing_take_number(L, "id");
  call->out->count = (size_t)testing_take_number(L, "count");
  call->out->ms = call->out->count ? (uint64_t)testing_take_number(L, "ms") : UINT64_MAX;
  call->found = true;
  return 0;
}

static void keep_raised(testing *t, lua_State *L) {
  const char *text = lua_tostring(L, -1);
  if (!t->raised) t->raised = segue__strdup(text ? text : "an error without a text");
  lua_pop(L, 1);
}

static bool testing_recall(void *data, const char *kind, const char *key, segue__recalled *out) {
  testing *t = data;
  lua_State *L = t->L;
  recall_call call = {t, kind, key, out, false};
  if (!L || !lua_checkstack(L, 20)) return false;
  lua_pushcfunction(L, recall_protected);
  lua_pushlightuserdata(L, &call);
  if (lua_pcall(L, 1, 0, 0)) keep_raised(t, L);
  return call.found;
}

/* Decodes the field "hex" of the table on top of `from`, and pushes the bytes to `to`. */
static void copy_hex(lua_State *from, lua_State *to) {
  size_t len;
  lua_getfield(from, -1, "hex");
  const char *hex = lua_tolstring(from, -1, &len);
  luaL_Buffer b;
  luaL_buffinit(to, &b);
  for (size_t i = 0; hex && i + 1 < len; i += 2)
    luaL_addchar(&b, (char)((unsigned)segue__hex_value(hex[i]) << 4 |
                            (unsigned)segue__hex_value(hex[i + 1])));
  luaL_pushresult(&b);
  lua_pop(from, 1);
}

/* Copies the value on top of `from`, the state of the spec, to `to`, the state of the policy: Lua
 * states share no values. Errors are raised in `to`, whose call is protected here; no protected
 * call of `from` is running. */
static void copy_value(lua_State *from, lua_State *to) {
  size_t len;
  const char *text;
  luaL_checkstack(to, 5, "a recorded answer is nested too deeply");
  if (!lua_checkstack(from, 5)) luaL_error(to, "a recorded answer is nested too deeply");
  switch (lua_type(from, -1)) {
  case LUA_TSTRING:
    text = lua_tolstring(from, -1, &len);
    lua_pushlstring(to, text, len);
    return;
  case LUA_TNUMBER:
    lua_pushnumber(to, lua_tonumber(from, -1));
    return;
  case LUA_TBOOLEAN:
    lua_pushboolean(to, lua_toboolean(from, -1));
    return;
  case LUA_TTABLE:
    break;
  default: /* null */
    lua_pushnil(to);
    return;
  }
  lua_getfield(from, -1, "hex");
  bool is_hex = lua_isstring(from, -1);
  lua_pop(from, 1);
  if (is_hex) {
    copy_hex(from, to);
    return;
  }
  lua_getfield(from, -1, "table");
  bool is_map = lua_istable(from, -1);
  if (!is_map) lua_pop(from, 1);
  lua_newtable(to);
  lua_pushnil(from);
  while (lua_next(from, -2)) {
    lua_pushvalue(from, -2);
    copy_value(from, to); /* the key */
    lua_pop(from, 1);
    copy_value(from, to);
    lua_settable(to, -3);
    lua_pop(from, 1);
  }
  if (is_map) lua_pop(from, 1);
}

/* answer("recalled", { id, event }) -> { count, values } */
static int find_recalled(lua_State *L) {
  testing *t = lua_touserdata(L, 1);
  const segue__recalled *recalled = lua_touserdata(L, 2);
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->answer);
  lua_pushliteral(L, "recalled");
  lua_createtable(L, 0, 2);
  segue__testing_set_number(L, "id", recalled->id);
  segue__testing_set_number(L, "event", (lua_Number)recalled->pushed);
  lua_call(L, 2, 1);
  luaL_checktype(L, -1, LUA_TTABLE);
  return 1;
}

/* The author's function runs protected in its own state, and its error is raised in the policy's
 * state only after that call has returned: an error must not leave one Lua state through the C
 * frames of another. */
static int testing_push_recalled(void *data, const segue__recalled *recalled, lua_State *co) {
  testing *t = data;
  lua_State *L = t->L;
  if (!L || !lua_checkstack(L, 20)) return luaL_error(co, "the rehearsal is closed");
  lua_pushcfunction(L, find_recalled);
  lua_pushlightuserdata(L, t);
  lua_pushlightuserdata(L, (void *)recalled);
  if (lua_pcall(L, 2, 1, 0)) {
    keep_raised(t, L);
    return luaL_error(co, "the recorded answer cannot be given");
  }
  int top = lua_gettop(L), n = (int)testing_take_number(L, "count");
  lua_getfield(L, -1, "values");
  for (int i = 1; i <= n; i++) {
    lua_rawgeti(L, top + 1, i);
    copy_value(L, co);
    lua_settop(L, top + 1);
  }
  lua_settop(L, top - 1);
  return n;
}

/* ---- The userdata ---------------------------------------------------------------------------- */

static testing *testing_check(lua_State *L) {
  testing *t = luaL_checkudata(L, 1, metatable);
  if (!t->r) luaL_error(L, "this rehearsal is closed");
  t->L = L;
  return t;
}

/* Called when the engine has returned. Raises the error that the author's function raised
 * meanwhile. */
static void testing_left(lua_State *L, testing *t) {
  t->L = NULL;
  if (t->r && t->r->failed) luaL_error(L, "out of memory");
  if (!t->raised) return;
  lua_pushstring(L, t->raised);
  segue__free(t->raised);
  t->raised = NULL;
  lua_error(L);
}

static const segue__testing_options *options_of(lua_State *L) {
  lua_pushlightuserdata(L, &options_key);
  lua_rawget(L, LUA_REGISTRYINDEX);
  const segue__testing_options *options = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return options;
}

/* new(policy path, wall clock in ms, answer function) */
static int new_rehearsal(lua_State *L) {
  const segue__testing_options *given = options_of(L);
  segue_error err;
  const char *path = luaL_checkstring(L, 1);
  int64_t wall_ms = (int64_t)luaL_checknumber(L, 2);
  luaL_checktype(L, 3, LUA_TFUNCTION);
  testing *t = lua_newuserdata(L, sizeof *t);
  *t = (testing){.answer = LUA_NOREF};
  luaL_getmetatable(L, metatable);
  lua_setmetatable(L, -2);
  lua_pushvalue(L, 3);
  t->answer = luaL_ref(L, LUA_REGISTRYINDEX);
  segue__rehearsal_options options = {.size = sizeof options,
                                      .policy_path = path,
                                      .lua_dir = given->lua_dir,
                                      .wall_ms = wall_ms,
                                      .signal = given->signal,
                                      .validate = given->validate,
                                      .ask = testing_ask,
                                      .recall = testing_recall,
                                      .push_recalled = testing_push_recalled,
                                      .data = t};
  if (segue__rehearsal_new(&t->r, &options, &err)) return luaL_error(L, "%s", err.message);
  return 1;
}

/* Also the __gc function, where no spec is running. So `L` is NULL, and the author's function is
 * not called for the operations that end now. */
static int close_rehearsal(lua_State *L) {
  testing *t = luaL_checkudata(L, 1, metatable);
  t->L = NULL;
  segue__rehearsal_free(t->r);
  t->r = NULL;
  segue__free(t->raised);
  t->raised = NULL;
  luaL_unref(L, LUA_REGISTRYINDEX, t->answer);
  t->answer = LUA_NOREF;
  return 0;
}

/* file(path, text) or file(path, nil, code name, message) */
static int put_file(lua_State *L) {
  testing *t = testing_check(L);
  size_t len = 0;
  const char *path = luaL_checkstring(L, 2), *text = luaL_optlstring(L, 3, NULL, &len);
  int code = text ? 0 : testing_code_of(luaL_checkstring(L, 4));
  if (segue__fakes_put(t->r, path, text, len, code, 0, luaL_optstring(L, 5, NULL)))
    return luaL_error(L, "out of memory");
  return 0;
}

static int testing_remove_file(lua_State *L) {
  testing *t = testing_check(L);
  segue__fakes_remove(t->r, luaL_checkstring(L, 2));
  return 0;
}

/* read(path) -> text, nil if it is not in memory */
static int testing_read_file(lua_State *L) {
  const segue__fake_file *file = segue__fakes_find(testing_check(L)->r, luaL_checkstring(L, 2));
  if (!file || file->code) return 0;
  lua_pushlstring(L, file->data, file->len);
  return 1;
}

/* look(path) -> text, mode, owner of the file that is live; nothing if it is not in memory */
static int testing_look(lua_State *L) {
  segue__simulated_file file;
  char mode[8];
  if (!segue__fake_files_look(testing_check(L)->r, luaL_checkstring(L, 2), &file)) return 0;
  snprintf(mode, sizeof mode, "%04o", file.mode & 07777);
  lua_pushlstring(L, file.data, file.len);
  lua_pushstring(L, mode);
  lua_pushstring(L, file.owner);
  return 3;
}

/* send(id, bytes) -> whether the connection takes them */
static int testing_send(lua_State *L) {
  testing *t = luaL_checkudata(L, 1, metatable);
  size_t len;
  const char *bytes = luaL_checklstring(L, 3, &len);
  lua_pushboolean(L, t->r && segue__fakes_send(t->r, (int)luaL_checknumber(L, 2), bytes, len));
  return 1;
}

/* end_connection(id, code name or nil, message or nil) -> whether it was open */
static int testing_end_connection(lua_State *L) {
  testing *t = luaL_checkudata(L, 1, metatable);
  const char *message = luaL_optstring(L, 4, NULL);
  int code = testing_code_of(luaL_optstring(L, 3, "ECONNRESET"));
  lua_pushboolean(
      L, t->r && segue__fakes_end_connection(t->r, (int)luaL_checknumber(L, 2), code, message));
  return 1;
}

static int set_env(lua_State *L) {
  testing *t = testing_check(L);
  if (segue__fakes_setenv(t->r, luaL_checkstring(L, 2), luaL_optstring(L, 3, NULL)))
    return luaL_error(L, "out of memory");
  return 0;
}

static int trigger_of(lua_State *L, int index) {
  static const char *const names[] = {
#define X(name, text, automatic) text,
      SEGUE__TRIGGERS(X)
#undef X
          NULL};
  return luaL_checkoption(L, index, NULL, names);
}

/* fire(trigger, cause, force, plan only, if match, accept shrink) -> number of it */
static int testing_fire(lua_State *L) {
  testing *t = testing_check(L);
  segue__reload_request request = {.trigger = (segue__trigger)trigger_of(L, 2),
                                   .cause = luaL_checkstring(L, 3),
                                   .force = lua_toboolean(L, 4),
                                   .plan_only = lua_toboolean(L, 5),
                                   .rehearse = lua_toboolean(L, 5),
                                   .if_match = luaL_optstring(L, 6, NULL),
                                   .accept_shrink = lua_toboolean(L, 7)};
  size_t index;
  int rc = segue__rehearsal_fire(t->r, &request, &index);
  if (rc) return luaL_error(L, "the trigger was not taken up: %s", segue_strerror(rc));
  lua_pushnumber(L, (lua_Number)index);
  return 1;
}

/* await(number, most ms) -> whether it was answered, code name or nil, result or nil */
static int testing_await(lua_State *L) {
  testing *t = testing_check(L);
  size_t index = (size_t)luaL_checknumber(L, 2);
  luaL_argcheck(L, index < t->r->fired_count, 2, "there is no such trigger");
  bool answered = segue__rehearsal_await(t->r, index, (uint64_t)luaL_checknumber(L, 3));
  testing_left(L, t);
  const segue__fired *fired = t->r->fired[index];
  lua_pushboolean(L, answered);
  if (fired->status)
    lua_pushstring(L, segue_error_name(fired->status));
  else
    lua_pushnil(L);
  if (fired->result)
    segue__testing_push_result(L, fired->result);
  else
    lua_pushnil(L);
  return 3;
}

static int testing_advance(lua_State *L) {
  testing *t = testing_check(L);
  segue__loop_advance(t->r->loop, (uint64_t)luaL_checknumber(L, 2));
  testing_left(L, t);
  return 0;
}

/* results(from) -> list of results from that number (1 = the first) on */
static int testing_results(lua_State *L) {
  testing *t = testing_check(L);
  size_t from = (size_t)luaL_optnumber(L, 2, 1);
  lua_newtable(L);
  for (size_t i = from ? from - 1 : 0, n = 1; i < t->r->result_count; i++, n++) {
    segue__testing_push_result(L, t->r->results[i]);
    lua_rawseti(L, -2, (int)n);
  }
  return 1;
}

/* config(path) -> the value that is live there; nothing if there is none */
static int testing_config(lua_State *L) {
  const segue_snapshot *live = segue__engine_live(testing_check(L)->r->engine);
  const segue_node *node =
      live ? segue_node_get(segue_snapshot_root(live), luaL_optstring(L, 2, "")) : NULL;
  if (!node) return 0;
  segue__testing_push_node(L, node);
  return 1;
}

static int testing_sources(lua_State *L) {
  segue__engine *engine = testing_check(L)->r->engine;
  lua_newtable(L);
  for (size_t i = 0; i < segue__engine_source_count(engine); i++) {
    segue__source_status status = {0};
    segue__engine_source_status(engine, i, &status);
    lua_createtable(L, 0, 6);
    segue__testing_set_text(L, "name", status.name);
    segue__testing_set_text(L, "kind", status.kind);
    segue__testing_set_text(L, "strategy", status.push ? "push" : "pull");
    segue__testing_set_number(L, "documents", (lua_Number)status.documents);
    segue__testing_set_number(L, "failures", (lua_Number)status.consecutive_failures);
    segue__testing_set_flag(L, "up", status.up);
    segue__testing_set_flag(L, "held", status.held);
    segue__testing_set_text(L, "activity", status.activity);
    segue__testing_set_text(L, "error", status.error ? status.error->message : NULL);
    lua_rawseti(L, -2, (int)i + 1);
  }
  return 1;
}

/* Pushes the triggers of the live policy; nil before there is one. */
static int testing_triggers(lua_State *L) {
  static const char *const types[] = {"signal", "watch", "http", "poll", "task"};
  const segue__policy *policy = segue__engine_policy(testing_check(L)->r->engine);
  if (!policy) return 0;
  lua_newtable(L);
  for (size_t i = 0; i < policy->trigger_count; i++) {
    const segue__trigger_spec *spec = &policy->triggers[i];
    lua_createtable(L, 0, 3);
    segue__testing_set_text(L, "type", types[spec->type]);
    if (spec->signum) segue__testing_set_number(L, "signum", spec->signum);
    segue__testing_set_text(L, "address", spec->address);
    lua_rawseti(L, -2, (int)i + 1);
  }
  return 1;
}

static int testing_state(lua_State *L) {
  segue__rehearsal *r = testing_check(L)->r;
  const segue__result *running = segue__engine_running(r->engine);
  const segue_snapshot *live = segue__engine_live(r->engine);
  lua_createtable(L, 0, 6);
  segue__testing_set_text(L, "phase", running ? segue__phase_name(running->phase) : NULL);
  segue__testing_set_flag(L, "pending", segue__engine_pending(r->engine));
  segue__testing_set_number(L, "generation",
                            live ? (lua_Number)segue_snapshot_generation(live) : 0);
  segue__testing_set_number(L, "elapsed_ms", (lua_Number)segue__loop_now_ms(r->loop));
  segue__testing_set_number(L, "wall_ms", (lua_Number)segue__loop_wall_ms(r->loop));
  segue__testing_set_number(L, "results", (lua_Number)r->result_count);
  return 1;
}

static int log_text(lua_State *L) {
  segue__rehearsal *r = testing_check(L)->r;
  segue__log_flush(&r->log);
  pthread_mutex_lock(&r->log_mutex);
  char *copy = segue__strndup(r->log_text.data ? r->log_text.data : "", r->log_text.len);
  pthread_mutex_unlock(&r->log_mutex);
  if (!copy) return luaL_error(L, "out of memory");
  lua_pushstring(L, copy);
  segue__free(copy);
  return 1;
}

/* Hides all files of the disk from now on. */
static int testing_seal(lua_State *L) {
  testing_check(L)->r->sealed = true;
  return 0;
}

/* folder(path) -> its real path; nothing if it does not exist */
static int real_folder(lua_State *L) {
  char path[PATH_MAX];
  if (!realpath(luaL_checkstring(L, 1), path)) return 0;
  lua_pushstring(L, path);
  return 1;
}

/* json(text) -> value; or nil, message */
static int parse_json(lua_State *L) {
  segue_error err = {0};
  segue__document *doc = NULL;
  size_t len = 0;
  const char *text = luaL_checklstring(L, 1, &len);
  char *copy = segue__malloc(len + 1);
  if (!copy) return luaL_error(L, "out of memory");
  memcpy(copy, text, len + 1);
  int rc = segue__document_new(&doc, 1, "", "JSON", SEGUE__JSON, copy, len);
  if (rc) return luaL_error(L, "out of memory");
  doc->foreign = true;
  rc = segue__document_parse(doc, NULL, NULL, NULL, &err);
  if (rc == 0)
    segue__testing_push_node(L, &doc->root);
  else
    lua_pushnil(L);
  segue__document_unref(doc);
  if (rc == 0) return 1;
  lua_pushstring(L, err.message);
  return 2;
}

static const luaL_Reg methods[] = {{"file", put_file},
                                   {"unfile", testing_remove_file},
                                   {"read", testing_read_file},
                                   {"look", testing_look},
                                   {"env", set_env},
                                   {"send", testing_send},
                                   {"end_connection", testing_end_connection},
                                   {"fire", testing_fire},
                                   {"await", testing_await},
                                   {"advance", testing_advance},
                                   {"results", testing_results},
                                   {"config", testing_config},
                                   {"sources", testing_sources},
                                   {"triggers", testing_triggers},
                                   {"state", testing_state},
                                   {"log", log_text},
                                   {"seal", testing_seal},
                                   {"close", close_rehearsal},
                                   {NULL, NULL}};

static const luaL_Reg functions[] = {{"new", new_rehearsal},
                                     {"folder", real_folder},
                                     {"json", parse_json},
                                     {"delivery", segue__testing_delivery},
                                     {"duration", segue__lua_duration},
                                     {"hint", segue__lua_hint},
                                     {NULL, NULL}};

static int open_core(lua_State *L) {
  const segue__testing_options *options = options_of(L);
  char here[PATH_MAX];
  luaL_newmetatable(L, metatable);
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, close_rehearsal);
  lua_setfield(L, -2, "__gc");
  lua_newtable(L);
  luaL_setfuncs(L, functions, 0);
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "null");
  /* A relative path of the command line is relative to the current folder, not to the spec. */
  if (*options->policy == '/' || !realpath(".", here))
    lua_pushstring(L, options->policy);
  else
    lua_pushfstring(L, "%s/%s", here, options->policy);
  lua_setfield(L, -2, "policy");
  return 1;
}

/* ---- The state that specs run in ------------------------------------------------------------- */

/* The folders of /usr/share/lua/5.1 hold busted where a distribution packages it; not every build
 * of LuaJIT searches them. */
static void testing_set_path(lua_State *L, const char *lua_dir) {
  lua_getglobal(L, "package");
  lua_pushfstring(L, "%s/?.lua;%s/?/init.lua;", lua_dir, lua_dir);
  lua_getfield(L, -2, "path");
  lua_pushliteral(L, ";/usr/share/lua/5.1/?.lua;/usr/share/lua/5.1/?/init.lua");
  lua_concat(L, 3);
  lua_setfield(L, -2, "path");
  lua_getfield(L, -1, "preload");
  lua_pushcfunction(L, open_core);
  lua_setfield(L, -2, "segue.testing.core");
  lua_pop(L, 2);
}

/* main(files, replay, json) of lua/segue/testing/main.lua -> verdict; or nil, message */
static int run_protected(lua_State *L) {
  const segue__testing_options *options = lua_touserdata(L, 1);
  int *verdict = lua_touserdata(L, 2);
  luaL_openlibs(L);
  lua_pushlightuserdata(L, &options_key);
  lua_pushvalue(L, 1);
  lua_rawset(L, LUA_REGISTRYINDEX);
  testing_set_path(L, options->lua_dir);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "segue.testing.main");
  lua_call(L, 1, 1);
  push_texts(L, options->args);
  lua_pushstring(L, options->replay);
  lua_pushboolean(L, options->json);
  lua_call(L, 3, 2);
  if (lua_isnil(L, -2)) return lua_error(L);
  *verdict = (int)lua_tonumber(L, -2);
  return 0;
}

int segue__testing_run(const segue__testing_options *options, int *verdict, segue_error *err) {
  lua_State *L = luaL_newstate();
  if (!L) return segue__errorf(err, UV_ENOMEM, "out of memory");
  lua_pushcfunction(L, run_protected);
  lua_pushlightuserdata(L, (void *)options);
  lua_pushlightuserdata(L, verdict);
  int rc = lua_pcall(L, 2, 0, 0);
  if (rc)
    rc = segue__errorf(err, SEGUE_EUSAGE, "%s",
                       lua_tostring(L, -1) ? lua_tostring(L, -1) : "the specs cannot be run");
  lua_close(L);
  return rc;
}
