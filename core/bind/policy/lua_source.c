/* SPDX-License-Identifier: MIT
 *
 * Sources written in Lua: segue.source, and segue.url, which is written with it. fetch and watch
 * are tasks in the state of their policy, within its budgets. The Lua half (lua/segue/sources.lua)
 * has validated their deliveries, which become documents here. A delivery reaches the engine
 * through the loop, never from within Lua. source_call.c calls want and outcome.
 */
#include <string.h>

#include "../../config/builder.h"
#include "../../os/units.h"
#include "../io/keys.h"
#include "../runtime/convert.h"
#include "../runtime/lua_document.h"
#include "../runtime/task.h"
#include "own_words.h"
#include "policy.h"

/* One call of fetch or watch. */
typedef struct feeding {
  int refs;              /* the call's own, and of each emit function that is left */
  segue__loaded *loaded; /* NULL: it has ended */
  const segue__source *source;
  segue_op *op;
  char *revision;
  segue__emission *out;    /* fetch */
  segue__emitter *emitter; /* watch */
  segue__task *task;
  segue_delivery *draft; /* being made in emit: freed here if Lua raises an error */
} feeding;

static const char metatable[] = "segue.emit";

static void lua_source_unref(feeding *f) {
  if (--f->refs) return;
  segue_delivery_free(f->draft);
  segue__free(f->revision);
  segue__free(f);
}

/* ---- From Lua to documents ---- */

static const char *lua_source_field(lua_State *L, int index, const char *key, size_t *len) {
  lua_getfield(L, index, key);
  const char *text = lua_tolstring(L, -1, len);
  lua_pop(L, 1); /* the table still holds it */
  return text;
}

static int lua_source_add_text(lua_State *L, int index, const feeding *f, segue__documents *out,
                               segue_error *err) {
  size_t len = 0;
  segue__document *doc = NULL;
  const char *text = lua_source_field(L, index, "text", &len),
             *name = lua_source_field(L, index, "name", NULL);
  const char *format = lua_source_field(L, index, "format", NULL);
  segue__format as = !strcmp(format, "json")   ? SEGUE__JSON
                     : !strcmp(format, "text") ? SEGUE__TEXT
                                               : SEGUE__YAML;
  if (!segue__lua_copies(segue__lua_of(L), len))
    return segue__lua_refuse_copy(segue__lua_of(L), err);
  char *bytes = segue__strndup(text, len);
  int rc = bytes ? segue__document_new(&doc, 0, f->source->name, name, as, bytes, len) : UV_ENOMEM;
  return rc ? rc : segue__documents_add(out, doc);
}

/* The errors show no path, which may lead below a secret: the secrets are not known here. */
static int lua_source_convert(lua_State *L, int index, segue__builder *b, uint32_t line,
                              segue_error *err) {
  static const segue__conversion_errors errors = {
      .type = "a value in it is a %s: plain data only",
      .keys = "a value in it is neither a list (keys 1, 2, 3 ...) nor a map (keys that are texts)",
      .cycle = "a value in it contains itself",
      .depth = "a value in it is nested more than 200 deep"};
  const segue__conversion options = {
      .errors = &errors, .depth_max = SEGUE__LUA_DEPTH_MAX, .line = line};
  int rc = segue__lua_convert(L, index, b, &options, err);
  return rc ? rc : segue__builder_finish(b, err);
}

int segue__document_extract(lua_State *L, int index, segue__lua_loader *loader, const char *source,
                            const char *file, uint32_t line, segue__document **out,
                            segue_error *err) {
  segue__lua *lua = segue__lua_of(L);
  segue__limits limits = {.text = segue__lua_copies_left(lua)};
  int rc = segue__document_new(out, loader->next_document++, source, file, SEGUE__BUILT, NULL, 0);
  if (rc) return segue__errorf(err, rc, "%s: out of memory", source);
  if (!limits.text) {
    rc = segue__lua_refuse_copy(lua, err);
    segue__error_set_place(err, file, line, 0);
    return rc;
  }
  if (limits.text > SEGUE__TEXT_MAX) limits.text = SEGUE__TEXT_MAX;
  luaL_checkstack(L, 8, "segue.value");
  segue__lua_document *box = segue__lua_document_push(L); /* frees the builder if Lua raises */
  box->doc = segue__document_ref(*out);
  rc = segue__builder_new(&box->builder, *out, &limits);
  if (rc) return segue__errorf(err, rc, "%s: out of memory", source);
  lua_pushliteral(L, "value");
  lua_rawget(L, index);
  rc = lua_source_convert(L, -1, box->builder, line, err);
  segue__lua_document_clear(L, box);
  lua_pop(L, 2);
  if (!rc && !segue__lua_copies(lua, (*out)->arena.used)) rc = segue__lua_refuse_copy(lua, err);
  if (rc) segue__error_set_place(err, file, line, 0);
  return rc;
}

static int lua_source_add_value(lua_State *L, int index, const feeding *f, segue__documents *out,
                                segue_error *err) {
  /* The variable exists before the delivery is created, so that the delivery is freed also if an
   * error is raised. */
  if (out->count == out->capacity) {
    size_t capacity = out->capacity + 8;
    segue__document **items = segue__realloc(out->items, capacity * sizeof *items);
    if (!items) return UV_ENOMEM;
    out->items = items;
    out->capacity = capacity;
  }
  out->items[out->count++] = NULL;
  const char *name = lua_source_field(L, index, "name", NULL);
  return segue__document_extract(L, index, f->loaded->loader, f->source->name, name, 0,
                                 &out->items[out->count - 1], err);
}

static int lua_source_add(lua_State *L, int item, const feeding *f, segue__emission *out,
                          segue_error *err) {
  if (lua_source_field(L, item, "text", NULL))
    return lua_source_add_text(L, item, f, &out->documents, err);
  lua_getfield(L, item, "removed");
  bool removed = lua_toboolean(L, -1);
  lua_pop(L, 1);
  if (removed) return segue_delivery_remove(out, lua_source_field(L, item, "name", NULL));
  return lua_source_add_value(L, item, f, &out->documents, err);
}

/* A key space is one document, which shares with the one before what did not change. Keys that are
 * refused are the content of the source, and not a failure of it: the run that uses the document is
 * rejected, and names them. */
static int lua_source_take_space(segue__space *space, const feeding *f, segue__emission *out,
                                 segue_error *err) {
  segue__document *doc;
  int rc = segue__space_set_source(space, f->source->name);
  if (rc) return rc;
  if (!segue__space_is_ready(space) && !segue__space_is_busy(space))
    return segue__errorf(err, SEGUE_EUSAGE,
                         "%s delivers a key space of which nothing was read: fill it with "
                         "replace() and done() first",
                         f->source->name);
  rc = segue__space_take(space, &doc, err);
  if (rc && rc != UV_ENOMEM && rc != UV_EBUSY) rc = segue__space_refusal(space, err, &doc);
  return rc ? rc : segue__documents_add(&out->documents, doc);
}

/* list or key space at 1, or true; revision at 2; base at 3, if the list has changes only. */
static int lua_source_take(lua_State *L, const feeding *f, segue__emission *out, segue_error *err) {
  segue__space *space = segue__keys_test(L, 1);
  int rc = 0;
  segue__delivery_deinit(out);
  if (space) {
    lua_pushnil(L);
    lua_replace(L, 3); /* everything, never a delta */
    rc = lua_source_take_space(space, f, out, err);
  }
  out->unchanged = !space && !lua_istable(L, 1);
  size_t n = out->unchanged || space ? 0 : lua_objlen(L, 1);
  for (size_t i = 1; i <= n && !rc; i++) {
    lua_rawgeti(L, 1, (int)i);
    rc = lua_source_add(L, lua_gettop(L), f, out, err);
    lua_pop(L, 1);
  }
  if (!rc) rc = segue_delivery_revision(out, lua_tostring(L, 2));
  if (!rc) rc = segue_delivery_base(out, out->unchanged ? NULL : lua_tostring(L, 3));
  if (rc == UV_ENOMEM)
    segue__errorf(err, rc, "out of memory for what %s delivers", f->source->name);
  return rc;
}

/* ---- emit ---- */

/* emit(list, revision, base), emit(true, revision), emit(). If memory is too short for a push, the
 * source is fetched. */
static int lua_source_emit(lua_State *L) {
  feeding **box = lua_touserdata(L, lua_upvalueindex(1)), *f = *box;
  segue_error err;
  int rc = 0;
  if (!f || !f->loaded) return 0;
  lua_settop(L, 3);
  if (!lua_isnil(L, 1)) {
    if (!f->draft) f->draft = segue_delivery_new();
    rc = f->draft ? lua_source_take(L, f, f->draft, &err)
                  : segue__errorf(&err, UV_ENOMEM, "out of memory for what %s delivers",
                                  f->source->name);
  }
  segue_delivery *delivery = rc ? NULL : f->draft;
  if (!rc) f->draft = NULL;
  (void)segue_watch_emit(f->emitter, delivery);
  return rc ? luaL_error(L, "%s", err.message) : 0;
}

static int lua_source_collect(lua_State *L) {
  feeding **box = lua_touserdata(L, 1);
  if (*box) lua_source_unref(*box);
  *box = NULL;
  return 0;
}

static void push_emit(lua_State *L, feeding *f) {
  feeding **box = lua_newuserdata(L, sizeof(feeding *));
  *box = NULL;
  if (luaL_newmetatable(L, metatable)) {
    lua_pushcfunction(L, lua_source_collect);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  *box = f;
  f->refs++;
  lua_pushcclosure(L, lua_source_emit, 1);
}

/* ---- The tasks ---- */

static int lua_source_begin(lua_State *co, void *data, segue_error *err) {
  feeding *f = data;
  const segue__script *script = &f->loaded->scripts[f->source->index];
  (void)err;
  lua_rawgeti(co, LUA_REGISTRYINDEX, f->out ? script->fetch : script->watch);
  lua_pushstring(co, f->revision); /* NULL: nil */
  if (f->out) return 1;
  push_emit(co, f);
  return 2;
}

static int lua_source_code_of(const char *name) {
  int code = name ? segue__error_find(name) : 0;
  return code < 0 ? code : SEGUE_ESOURCE;
}

/* The pause that a failure requests: a number of seconds or a duration; 0: none. */
static uint64_t lua_source_pause(lua_State *L, int index) {
  uint64_t ms = 0;
  double seconds = lua_tonumber(L, index), most_s = 86400; /* the engine keeps less */
  if (lua_type(L, index) == LUA_TNUMBER)
    ms = (uint64_t)((seconds < most_s ? seconds : most_s) * 1000);
  else if (lua_type(L, index) == LUA_TSTRING && !segue__duration_of(lua_tostring(L, index), &ms))
    ms = 0;
  return ms;
}

static int lua_source_finish(lua_State *co, int n, void *data, segue_error *err) {
  feeding *f = data;
  lua_settop(co, 4);
  if (n && !lua_toboolean(co, 1) && lua_isstring(co, 2)) {
    const char *code = lua_type(co, 3) == LUA_TSTRING ? lua_tostring(co, 3) : NULL;
    f->op->scripted = true;
    segue_op_retry_after(f->op, lua_source_pause(co, 4));
    return segue__errorf(err, lua_source_code_of(code), "%s", lua_tostring(co, 2));
  }
  return f->out ? lua_source_take(co, f, f->out, err) : 0;
}

static void lua_source_threw(void *data) {
  ((feeding *)data)->op->scripted = true;
}

static void lua_source_conceal(const segue__source *source, segue_error *error) {
  const segue__loaded *loaded = source->impl;
  segue__own_words_keep(&loaded->program, loaded->loader->library, error);
}

static void lua_source_done(void *data, int status, const segue_error *err) {
  feeding *f = data;
  segue_op *op = f->op;
  if (status != SEGUE_ECANCELLED) f->loaded->last_used = ++f->loaded->loader->uses;
  f->loaded = NULL;
  segue__op_on_cancel(op, NULL, NULL);
  segue_op_done(op, status, err);
  lua_source_unref(f);
}

static void lua_source_cancelled(void *data) {
  segue__task_cancel(((feeding *)data)->task);
}

static void lua_source_start(feeding *f) {
  segue__loaded *loaded = f->loaded;
  segue_error err;
  int rc = segue__loaded_repair(loaded, &err);
  if (!rc && f->source->index >= loaded->script_count)
    rc = segue__errorf(&err, SEGUE_EPOLICY, "it did not exist when the policy was built again");
  if (rc) {
    lua_source_done(f, rc, &err);
    return;
  }
  segue__op_on_cancel(f->op, lua_source_cancelled, f);
  segue__task_options options = {
      .name = f->out ? "fetch" : "watch",
      .limit_ms = f->out ? loaded->scripts[f->source->index].timeout_ms : 0,
      .slice_cpu_ms = loaded->loader->options.slice_cpu_ms,
      .begin = lua_source_begin,
      .finish = lua_source_finish,
      .threw = lua_source_threw,
      .done = lua_source_done,
      .data = f,
      .slot = &f->task,
  };
  segue__task_start(loaded->lua, &options);
}

static feeding *feeding_new(const segue__source *source, const char *revision, segue_op *op) {
  feeding *f = segue__calloc(1, sizeof *f);
  char *copy = segue__strdup(revision);
  if (!f || (revision && !copy)) {
    segue_error err;
    segue__errorf(&err, UV_ENOMEM, "%s: out of memory", source->name);
    segue__free(copy);
    segue__free(f);
    segue_op_done(op, UV_ENOMEM, &err);
    return NULL;
  }
  f->refs = 1;
  f->loaded = source->impl;
  f->source = source;
  f->op = op;
  f->revision = copy;
  return f;
}

static void lua_source_fetch(const segue__source *source, const char *revision,
                             segue__emission *out, segue_op *op) {
  feeding *f = feeding_new(source, revision, op);
  if (!f) return;
  f->out = out;
  segue__source_call_first(source);
  lua_source_start(f);
}

static void lua_source_watch(const segue__source *source, const char *revision,
                             segue__emitter *emitter, segue_op *op) {
  feeding *f = feeding_new(source, revision, op);
  if (!f) return;
  f->emitter = emitter;
  lua_source_start(f);
}

static const segue__remote_ops script_ops = {.fetch = lua_source_fetch,
                                             .watch = lua_source_watch,
                                             .conceal = lua_source_conceal,
                                             .want = segue__lua_source_want,
                                             .outcome = segue__lua_source_outcome};
const segue__source_kind segue__source_script = {
    .name = "source", .options = &segue__source_script_options, .remote = &script_ops};
/* Its functions are those of lua/segue/url.lua, which quote no content. */
static const segue__remote_ops url_ops = {.fetch = lua_source_fetch, .watch = lua_source_watch};
const segue__source_kind segue__source_url = {
    .name = "url", .options = &segue__source_url_options, .remote = &url_ops};
