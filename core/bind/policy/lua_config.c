/* SPDX-License-Identifier: MIT
 *
 * Configuration written in Lua: reading, evaluating in an empty environment, and the table as a
 * document. The worker's thread has no signal, so the time is kept by the count hook. A table does
 * not know where it was written: a key that the text assigns in one place has its line from there,
 * everything else that of what it is in.
 */
#include "lua_config.h"
#include "../../os/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../config/builder.h"
#include "../../source/source_options.h"
#include "../io/async_io.h"
#include "../runtime/convert.h"
#include "../runtime/state.h"
#include "lua_options.h"

enum { BYTES_MAX = 4 * 1024 * 1024, CPU_MS = 1000, MIB = 64 };

/* ---- Evaluating ------------------------------------------------------------------------------ */

typedef struct evaluation {
  segue__chunk chunk;
  segue__builder *builder;
  segue__lua_lines lines;
  char callers[96]; /* lines that led to the error, innermost first: "7, 12" */
  bool threw;       /* error or assert of the file has made the error message */
  char shown[400];  /* the part of that message that is a literal of the file */
  bool whole;       /* that is all of it */
  uint32_t line;    /* of the call */
} evaluation;

/* Copies the literal with which the call of `function` in this line begins. Returns the text behind
 * the literal, or NULL if there is none: then all of the message may be made of values. */
static const char *copy_literal(evaluation *e, const char *line, const char *end,
                                const char *function) {
  const char *at = memmem(line, (size_t)(end - line), function, strlen(function));
  if (!at || memmem(at + 1, (size_t)(end - at - 1), function, strlen(function))) return NULL;
  at += strlen(function);
  while (at < end && (*at == ' ' || *at == '('))
    at++;
  if (at == end || (*at != '"' && *at != '\'')) return NULL;
  const char *from = at + 1, *to = from;
  while (to < end && to - from < (int)sizeof e->shown - 1 && !segue__is_one_of(*to, "\\%") &&
         *to != *at)
    to++;
  while (to > from && to < end && ((unsigned char)*to & 0xc0) == 0x80)
    to--; /* not in the middle of a character */
  snprintf(e->shown, sizeof e->shown, "%.*s", (int)(to - from), from);
  return to < end && *to == *at ? to + 1 : NULL;
}

/* Notes what of a thrown message can be shown where values may be secrets. The message of assert is
 * not at the beginning of its call, so nothing of it is shown. */
static void note_thrown(lua_State *L, const char *function) {
  evaluation *e = lua_touserdata(L, lua_upvalueindex(1));
  lua_Debug ar;
  e->threw = true;
  if (!lua_getstack(L, 1, &ar) || !lua_getinfo(L, "l", &ar) || ar.currentline < 1) return;
  e->line = (uint32_t)ar.currentline;
  const char *line = e->chunk.text, *last = line + e->chunk.len;
  for (int n = 1; line && n < ar.currentline; n++) {
    line = memchr(line, '\n', (size_t)(last - line));
    if (line) line++;
  }
  if (!line) return;
  const char *end = memchr(line, '\n', (size_t)(last - line));
  const char *behind = copy_literal(e, line, end ? end : last, function);
  size_t len = 0;
  const char *message = lua_tolstring(L, 1, &len);
  e->whole = behind && message && len == strlen(e->shown) && !memcmp(message, e->shown, len);
}

/* As the functions of Lua, which stay the same where no value can be a secret. */
static int config_error(lua_State *L) {
  int level = luaL_optint(L, 2, 1);
  lua_settop(L, 1);
  note_thrown(L, "error");
  if (lua_type(L, 1) == LUA_TSTRING && level > 0) {
    luaL_where(L, level);
    lua_insert(L, 1);
    lua_concat(L, 2);
  }
  return lua_error(L);
}

static int config_assert(lua_State *L) {
  luaL_checkany(L, 1);
  if (lua_toboolean(L, 1)) return lua_gettop(L);
  if (lua_isnoneornil(L, 2)) return luaL_error(L, "assertion failed!");
  lua_settop(L, 2);
  lua_remove(L, 1);
  note_thrown(L, "assert");
  return lua_error(L);
}

/* The environment has only functions that calculate and whose results depend on their arguments
 * alone: none waits, reads, remembers or draws random numbers. It has no function that catches an
 * error either, so that the error of the file is the last one that was raised. */
static void push_environment(lua_State *L, evaluation *e) {
  static const char *const names[] = {"bit",    "ipairs",   "math",  "next", "pairs",
                                      "select", "string",   "table", "type", "tonumber",
                                      "unpack", "tostring", NULL};
  lua_createtable(L, 0, 16);
  lua_pushlightuserdata(L, e);
  lua_pushcclosure(L, config_error, 1);
  lua_setfield(L, -2, "error");
  lua_pushlightuserdata(L, e);
  lua_pushcclosure(L, config_assert, 1);
  lua_setfield(L, -2, "assert");
  for (const char *const *n = names; *n; n++) {
    lua_getglobal(L, *n);
    lua_setfield(L, -2, *n);
  }
  lua_getfield(L, -1, "math");
  lua_pushnil(L);
  lua_setfield(L, -2, "random");
  lua_pushnil(L);
  lua_setfield(L, -2, "randomseed");
  lua_pop(L, 1);
}

enum { CALLERS_MAX = 8 };

/* The traceback of other code goes to the log. Here it becomes a part of the error, because this
 * may run in a job that outlives the owner of the log. All frames are of the one file; the first
 * one is the place of the error. */
static void keep_callers(void *data, const segue_log_entry *entry) {
  evaluation *e = data;
  const char *at = NULL;
  size_t len = 0;
  for (size_t i = 0; i < entry->field_count; i++)
    if (!strcmp(entry->fields[i].key, "traceback")) at = entry->fields[i].text;
  for (int frame = 0; at && frame <= CALLERS_MAX; at = strchr(at + 1, '\n')) {
    const char *in = strstr(at, ": in "), *end = strchr(at + 1, '\n');
    if (!in || (end && in > end)) continue;
    const char *digits = in;
    while (digits > at && digits[-1] >= '0' && digits[-1] <= '9')
      digits--;
    if (digits == in || digits[-1] != ':' || !frame++) continue;
    int n = snprintf(e->callers + len, sizeof e->callers - len, "%s%.*s", len ? ", " : "",
                     (int)(in - digits), digits);
    if (n < 0 || (size_t)n >= sizeof e->callers - len) break;
    len += (size_t)n;
  }
}

static void add_callers(const evaluation *e, segue_error *err) {
  size_t len = err ? strlen(err->message) : 0;
  if (!len || !e->callers[0]) return;
  snprintf(err->message + len, sizeof err->message - len, " (called from line %s)", e->callers);
}

static int config_evaluate(lua_State *L, void *data, segue_error *err) {
  static const segue__conversion_errors errors = {
      .type = "a %s is no configuration: use texts, numbers, true, false and tables",
      .keys = "a table must be a list, with the keys 1, 2, 3 ..., or a map, with texts as keys",
      .cycle = "the table contains itself",
      .depth = "tables are nested too deeply: flatten them"};
  evaluation *e = data;
  segue__chunk_load(L, &e->chunk);
  push_environment(L, e);
  lua_setfenv(L, -2);
  lua_call(L, 0, 1);
  if (!lua_istable(L, -1)) {
    segue__errorf(err, SEGUE_ETYPE,
                  "the file returns %s instead of a table: end it with `return { ... }`",
                  lua_isnil(L, -1) ? "nothing" : luaL_typename(L, -1));
    segue__error_set_place(err, e->chunk.path, 0, 0);
    return SEGUE_ETYPE;
  }
  const segue__conversion options = {
      .errors = &errors, .depth_max = SEGUE__DEPTH_MAX, .line = 1, .lines = &e->lines};
  segue__lua_convert(L, -1, e->builder, &options, err);
  return 0; /* the builder keeps the error, which quotes no token of the file */
}

/* Each failure of the file is a fault of its content: the reload is not tried again before the
 * content changes. */
static int config_blame(int rc, segue_error *err) {
  if (rc == SEGUE_ETIMEOUT) rc = SEGUE_ELIMIT;
  if (rc == SEGUE_EPOLICY) rc = SEGUE_ESYNTAX;
  if (err && rc) err->code = rc;
  return rc;
}

/* Replaces the text between the quote after `before` and the next quote (to_last: the last quote)
 * by SEGUE__MASKED. */
static void hide_quoted(char *message, size_t size, const char *before, bool to_last) {
  char rest[sizeof((segue_error *)0)->message];
  for (char *at = message; (at = strstr(at, before));) {
    at += strlen(before);
    const char *end = to_last ? strrchr(at, '\'') : strchr(at, '\'');
    snprintf(rest, sizeof rest, "%s", end ? end : "'");
    int n = snprintf(at, size - (size_t)(at - message), "%s%s", SEGUE__MASKED, rest);
    if (n < 0 || (size_t)n >= size - (size_t)(at - message)) return;
    at += sizeof SEGUE__MASKED - 1;
  }
}

/* Lua's errors about a file that it cannot parse or run quote the token where it stopped, or the
 * name of a variable. A password without quotes is both. These errors carry no path, so all quoted
 * parts are hidden if the policy or the schema names a secret. */
static void hide_tokens(const segue__limits *limits, const evaluation *e, segue_error *err) {
  static const char *const names[] = {"global '", "local '", "field '", "upvalue '", "method '"};
  const segue__mask *mask = limits && limits->mask ? limits->mask(limits->mask_data) : NULL;
  segue__path root = {0};
  if (!err || segue__quote_allows(mask, &root, SEGUE__QUOTE_STRAY)) return;
  if (e->threw) { /* its message may quote any value of the file */
    if (!e->whole) snprintf(err->message, sizeof err->message, "%s%s", e->shown, SEGUE__MASKED);
    if (strcmp(err->file, e->chunk.path) != 0)
      segue__error_set_place(err, e->chunk.path, e->line, 0);
    err->path[0] = 0; /* of a table that the file has thrown, as the file above */
    return;
  }
  hide_quoted(err->message, sizeof err->message, "near '", true);
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    hide_quoted(err->message, sizeof err->message, names[i], false);
}

static int config_run(const segue__source *source, const segue__os *os, const segue__limits *limits,
                      evaluation *e, segue_error *err) {
  const segue__logger log = {.level = SEGUE_DEBUG, .sink = keep_callers, .data = e};
  segue__program program = {.chunks = &e->chunk, .count = 1, .sealed = true};
  segue__lua_setup setup = {.log = &log,
                            .os = os,
                            .program = &program,
                            .open = segue__lua_library_open,
                            .lua_dir = "\n", /* no file is of the Lua half */
                            .bytes_max =
                                source->memory_bytes ? source->memory_bytes : (size_t)MIB << 20};
  segue__lua *lua = NULL;
  uint64_t cpu_ms = source->cpu_ms ? source->cpu_ms : CPU_MS;
  if (segue__budget_new(&setup.budget, 0))
    return segue__errorf(err, UV_ENOMEM, "%s: out of memory", source->path);
  int rc = segue__lua_new(&lua, &setup, err);
  if (!rc) rc = segue__lua_call(lua, "the file", cpu_ms, config_evaluate, e, err);
  segue__lua_free(lua);
  segue__budget_free(setup.budget);
  if (rc) hide_tokens(limits, e, err);
  if (rc) add_callers(e, err);
  return config_blame(rc, err);
}

static int config_build(const segue__source *source, const segue__os *os,
                        const segue__limits *limits, segue__document *doc, segue_error *err) {
  evaluation *e = segue__calloc(1, sizeof *e);
  int rc = e ? segue__lua_lines_init(&e->lines, doc->data, doc->len) : UV_ENOMEM;
  if (!rc) rc = segue__builder_new(&e->builder, doc, limits);
  if (rc) {
    segue__errorf(err, rc, "out of memory while reading %s", source->name);
  } else {
    e->chunk = (segue__chunk){NULL, doc->name, doc->data, doc->len, {0, 0}};
    rc = config_run(source, os, limits, e, err);
    if (!rc) rc = segue__builder_finish(e->builder, err);
  }
  if (e) {
    segue__builder_free(e->builder);
    segue__lua_lines_deinit(&e->lines);
  }
  segue__free(e);
  return rc;
}

/* ---- The kind of source ---------------------------------------------------------------------- */

static segue__document *config_known(const segue__source *source, const segue__documents *previous,
                                     const segue__bytes *bytes) {
  for (size_t i = 0; previous && i < previous->count; i++) {
    segue__document *doc = previous->items[i];
    if (doc->format == SEGUE__BUILT && doc->parsed && doc->data && doc->len == bytes->len &&
        !strcmp(doc->name, source->path) && !strcmp(doc->source, source->name) &&
        !memcmp(doc->data, bytes->data, bytes->len))
      return doc;
  }
  return NULL;
}

static int config_deliver(const segue__source *source, const segue__os *os,
                          const segue__limits *limits, segue__bytes *bytes, uint32_t id,
                          segue__documents *out, segue_error *err) {
  segue__document *doc = NULL;
  int rc = segue__document_new(&doc, id, source->name, source->path, SEGUE__BUILT, bytes->data,
                               bytes->len);
  if (rc) return segue__errorf(err, rc, "out of memory while reading %s", source->name);
  rc = config_build(source, os, limits, doc, err);
  if (rc) {
    segue__document_unref(doc);
    return rc;
  }
  rc = segue__documents_add(out, doc);
  return rc ? segue__errorf(err, rc, "out of memory while reading %s", source->name) : 0;
}

static int config_fetch(const segue__source *source, const segue__os *os,
                        const segue__limits *limits, const segue__documents *previous,
                        uint32_t *next_id, segue__documents *out, segue_error *err) {
  segue__bytes bytes = {NULL, 0};
  int rc = source->allow_writing ? os->read_file(os->data, source->path, BYTES_MAX, &bytes, err)
                                 : segue__read_whole(os, source->path, BYTES_MAX, &bytes, err);
  if (rc == UV_ENOENT && source->optional) {
    if (err) memset(err, 0, sizeof *err);
    return 0;
  }
  if (!rc) {
    segue__document *old = config_known(source, previous, &bytes);
    if (!old) {
      rc = config_deliver(source, os, limits, &bytes, (*next_id)++, out, err);
    } else {
      segue__free(bytes.data);
      rc = segue__documents_add(out, segue__document_ref(old));
      if (rc) segue__errorf(err, rc, "out of memory while reading %s", source->name);
    }
  }
  if (rc && err && !err->file[0]) segue__error_set_place(err, source->path, 0, 0);
  if (rc) segue__error_source(err, source->name);
  return rc;
}

static int config_watch(const segue__source *source, segue__names *paths) {
  return segue__names_add(paths, "", 0, source->path);
}

const segue__source_kind segue__source_lua = {.name = "lua",
                                              .options = &segue__source_lua_options,
                                              .fetch = config_fetch,
                                              .watch = config_watch};
