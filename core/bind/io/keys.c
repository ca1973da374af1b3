/* SPDX-License-Identifier: MIT
 *
 * segue.keys: a key space of core/source/space.h as a userdata, and full reads of one. The bytes of
 * a server's answer become keys here, without a table of Lua for each of them. A large answer is
 * parsed, and a large read applied, on a worker, while the task waits; a small one at once.
 */
#include "keys.h"

#include <string.h>

#include "../../config/config.h"
#include "../runtime/lua_document.h"
#include "async_io.h"

/* A worker takes some 0.05 ms to begin and to return. */
enum { LARGE_COUNT = 2000 }; /* a space with so many keys is freed on a worker */
enum { SMALL_BYTES = 16 * 1024, SMALL_COUNT = 500, TEXTS_MAX = 16, ANSWER_BYTES = 256 << 20 };
enum { FIRST_DOCUMENT = 3 }; /* << 30: the ids of key spaces are above all others */

static const char space_type[] = "segue.key_space", read_type[] = "segue.key_read";

struct keys_job;
typedef struct keys_box {
  segue__loop *loop;
  segue__space *space;     /* a reference */
  segue__space_read *read; /* of a box of a read; NULL: it has ended, or a job has it */
  struct keys_job *job;
} keys_box;

/* ---- Freeing --------------------------------------------------------------------------------- */

typedef struct keys_closing {
  segue__job job; /* first */
  segue__space *space;
} keys_closing;

/* Worker thread, or the control thread if the job did not run: it has the only reference. */
static void closing_run(segue__job *job) {
  keys_closing *closing = (keys_closing *)job; /* its first member */
  segue__space_close(closing->space);
  closing->space = NULL;
}

static void closing_done(segue__job *job) {
  closing_run(job);
  segue__free(job);
}

/* Freeing 100,000 keys takes some 20 ms, which the loop must not wait for. */
static void keys_close(segue__loop *loop, segue__space *space) {
  keys_closing *closing = NULL;
  if (space && !segue__space_is_shared(space) && segue__space_count(space) >= LARGE_COUNT)
    closing = segue__calloc(1, sizeof *closing);
  if (closing) {
    closing->space = space;
    closing->job =
        (segue__job){.run = closing_run, .done = closing_done, .abandoned = closing_done};
    if (!segue__job_submit(loop, SEGUE__QUEUE_POLICY, &closing->job)) return;
    segue__free(closing);
  }
  segue__space_close(space);
}

/* ---- Boxes ----------------------------------------------------------------------------------- */

static void job_lose_box(struct keys_job *job);

static int keys_collect(lua_State *L) {
  keys_box *box = lua_touserdata(L, 1);
  if (box->job) job_lose_box(box->job);
  segue__space_read_free(box->read);
  keys_close(box->loop, box->space);
  *box = (keys_box){0};
  return 0;
}

static keys_box *keys_push(lua_State *L, const char *type) {
  keys_box *box = lua_newuserdata(L, sizeof *box);
  *box = (keys_box){.loop = segue__lua_of(L)->async_io->loop};
  if (luaL_newmetatable(L, type)) {
    lua_pushcfunction(L, keys_collect);
    lua_setfield(L, -2, "__gc");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
  }
  lua_setmetatable(L, -2);
  return box;
}

static keys_box *keys_test(lua_State *L, int index, const char *type) {
  if (lua_type(L, index) != LUA_TUSERDATA || !lua_getmetatable(L, index)) return NULL;
  lua_getfield(L, LUA_REGISTRYINDEX, type);
  bool same = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return same ? lua_touserdata(L, index) : NULL;
}

static keys_box *keys_check(lua_State *L, int index, const char *type) {
  keys_box *box = keys_test(L, index, type);
  if (box && box->space) return box;
  luaL_error(L, "segue.keys: this is no key space");
  return NULL; /* not reached: the call above raised an error */
}

segue__space *segue__keys_test(lua_State *L, int index) {
  const keys_box *box = keys_test(L, index, space_type);
  return box ? box->space : NULL;
}

static int keys_failed(lua_State *L, int rc) {
  return rc ? luaL_error(L, "segue.keys: out of memory") : 0;
}

/* ---- Options --------------------------------------------------------------------------------- */

static const char *option_text(lua_State *L, int index, const char *name) {
  lua_getfield(L, index, name);
  const char *text = lua_tostring(L, -1);
  lua_pop(L, 1); /* the table holds it */
  return text;
}

static bool option_is(lua_State *L, int index, const char *name, const char *text) {
  const char *given = option_text(L, index, name);
  return given && !strcmp(given, text);
}

static bool option_flag(lua_State *L, int index, const char *name) {
  lua_getfield(L, index, name);
  bool flag = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return flag;
}

static uint64_t option_count(lua_State *L, int index, const char *name) {
  lua_getfield(L, index, name);
  uint64_t n = segue__arg_number(L, -1);
  lua_pop(L, 1);
  return n;
}

/* A list of texts as an array that the collector frees. The texts stay in the table. */
static const char **option_list(lua_State *L, int index, const char *name, size_t *count) {
  lua_getfield(L, index, name);
  size_t n = lua_istable(L, -1) ? lua_objlen(L, -1) : 0;
  const char **texts = lua_newuserdata(L, (n + 1) * sizeof *texts);
  for (size_t i = 0; i < n; i++) {
    lua_rawgeti(L, -2, (int)i + 1);
    texts[i] = lua_tostring(L, -1);
    lua_pop(L, 1);
    if (!texts[i]) luaL_error(L, "segue.keys: %s must be texts", name);
  }
  lua_remove(L, -2);
  *count = n;
  return texts;
}

static segue__space_values option_values(const char *text) {
  static const char *const names[] = {"scalar", "text", "yaml", "json"};
  int i = 0;
  while (i < 3 && (!text || strcmp(text, names[i]) != 0))
    i++;
  return (segue__space_values)(text ? i : 0);
}

/* mounts: a list of { prefix, at, whole }. */
static segue__space_mount *option_mounts(lua_State *L, int index, size_t *count) {
  lua_getfield(L, index, "mounts");
  luaL_checktype(L, -1, LUA_TTABLE);
  int list = lua_gettop(L);
  size_t n = lua_objlen(L, list);
  segue__space_mount *mounts = lua_newuserdata(L, (n + 1) * sizeof *mounts);
  for (size_t i = 0; i < n; i++) {
    lua_rawgeti(L, list, (int)i + 1);
    luaL_checktype(L, -1, LUA_TTABLE);
    mounts[i] = (segue__space_mount){option_text(L, lua_gettop(L), "prefix"),
                                     option_text(L, lua_gettop(L), "at"),
                                     option_flag(L, lua_gettop(L), "whole")};
    lua_pop(L, 1);
  }
  *count = n;
  return mounts;
}

/* keys_open(options) -> key space; raises an error for a wrong option */
static int keys_open(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  segue__async_io *async_io = segue__lua_of(L)->async_io;
  segue__space_options options = {.size = sizeof options,
                                  .document = ((uint32_t)FIRST_DOCUMENT << 30) + async_io->spaces++,
                                  .at = option_text(L, 1, "at"),
                                  .separator = option_text(L, 1, "separator"),
                                  .values = option_values(option_text(L, 1, "values")),
                                  .by_suffix = option_flag(L, 1, "suffix"),
                                  .value_key = option_text(L, 1, "value_key"),
                                  .lists = option_flag(L, 1, "lists"),
                                  .base64 = option_is(L, 1, "binary", "base64"),
                                  .commit = option_text(L, 1, "commit"),
                                  .max_keys = option_count(L, 1, "max_keys"),
                                  .max_bytes = option_count(L, 1, "max_bytes")};
  options.mounts = option_mounts(L, 1, &options.mount_count);
  options.include = option_list(L, 1, "include", &options.include_count);
  options.exclude = option_list(L, 1, "exclude", &options.exclude_count);
  segue_error err;
  keys_box *box = keys_push(L, space_type);
  if (segue__space_open(&box->space, &options, &err))
    return luaL_error(L, "segue.keys: %s", err.message);
  return 1;
}

/* ---- Single keys ----------------------------------------------------------------------------- */

static segue__space_write keys_write_at(lua_State *L, int index) {
  segue__space_write w = {0};
  w.key = luaL_checklstring(L, index, &w.key_len);
  w.value = luaL_optlstring(L, index + 1, NULL, &w.value_len);
  w.revision = luaL_optlstring(L, index + 2, NULL, &w.revision_len);
  if (!w.value) w.value_len = 0;
  if (!w.revision) w.revision_len = 0;
  return w;
}

/* keys_put(space, key, value, revision): value nil is a folder mark */
static int keys_put(lua_State *L) {
  segue__space *space = keys_check(L, 1, space_type)->space;
  segue__space_write w = keys_write_at(L, 2);
  return keys_failed(L, segue__space_put(space, &w));
}

/* keys_delete(space, key, revision) */
static int keys_delete(lua_State *L) {
  segue__space *space = keys_check(L, 1, space_type)->space;
  segue__space_write w = {.removed = true};
  w.key = luaL_checklstring(L, 2, &w.key_len);
  w.revision = luaL_optlstring(L, 3, NULL, &w.revision_len);
  if (!w.revision) w.revision_len = 0;
  return keys_failed(L, segue__space_put(space, &w));
}

/* keys_delete_prefix(space, prefix) */
static int keys_delete_prefix(lua_State *L) {
  size_t len;
  segue__space *space = keys_check(L, 1, space_type)->space;
  const char *prefix = luaL_checklstring(L, 2, &len);
  return keys_failed(L, segue__space_delete_prefix(space, prefix, len));
}

/* keys_counts(space) -> keys, bytes, whether everything was read once */
static int keys_counts(lua_State *L) {
  const segue__space *space = keys_check(L, 1, space_type)->space;
  lua_pushnumber(L, (lua_Number)segue__space_count(space));
  lua_pushnumber(L, (lua_Number)segue__space_bytes(space));
  lua_pushboolean(L, segue__space_is_ready(space));
  return 3;
}

/* keys_begin(space) -> read */
static int keys_begin(lua_State *L) {
  segue__space *space = keys_check(L, 1, space_type)->space;
  keys_box *box = keys_push(L, read_type);
  box->space = segue__space_ref(space);
  keys_failed(L, segue__space_begin(space, &box->read));
  return 1;
}

static keys_box *read_check(lua_State *L) {
  keys_box *box = keys_check(L, 1, read_type);
  if (box->job) luaL_error(L, "segue.keys: another call of this read has not returned");
  if (!box->read) luaL_error(L, "segue.keys: this read has ended");
  return box;
}

/* keys_read_put(read, key, value, revision) */
static int keys_read_put(lua_State *L) {
  segue__space_write w = keys_write_at(L, 2);
  return keys_failed(L, segue__space_read_put(read_check(L)->read, &w));
}

/* ---- Answers and full reads ------------------------------------------------------------------ */

/* A value of the answer that the caller named. */
typedef struct wanted {
  char *name, *path;
} wanted;

/* Parses an answer into a read or into changes, or (applies) applies a read. */
typedef struct keys_job {
  segue__io io;        /* first */
  segue__space *space; /* a reference */
  segue__space_read *read;
  keys_box *box; /* gets the read back; NULL: the collector has freed it */
  bool applies, ran;
  char *bytes, *revision;
  size_t len;
  segue__space_format format;
  char *texts[TEXTS_MAX]; /* of the format */
  size_t text_count;
  wanted *wanted;
  size_t wanted_count;
  segue__document *answer;
  size_t count;
  segue__buf last_key;
  segue__job job;
  int status;
  segue_error failure; /* written by the worker */
} keys_job;

static keys_job *job_of_io(segue__io *io) {
  return (keys_job *)io; /* its first member */
}

static keys_job *job_of(segue__job *job) {
  return (keys_job *)((char *)job - offsetof(keys_job, job));
}

static void job_lose_box(struct keys_job *job) {
  job->box = NULL;
}

/* The read is in the job until job_return_read, so that nothing else uses it meanwhile. */
static void job_take_read(keys_job *j, keys_box *box) {
  j->read = box->read;
  j->box = box;
  box->read = NULL;
  box->job = j;
}

static void job_return_read(keys_job *j, bool ended) {
  if (j->box) {
    j->box->job = NULL;
    if (!ended) {
      j->box->read = j->read;
      j->read = NULL;
    }
    j->box = NULL;
  }
  segue__space_read_free(j->read);
  j->read = NULL;
}

static int job_parse_keys(keys_job *j) {
  return segue__space_parse(j->space, j->read, &j->format, &j->answer->root, &j->count,
                            &j->last_key, &j->failure);
}

/* Worker thread: a read belongs to the job, and so does the space while a read is applied. */
static void job_work(segue__job *job) {
  keys_job *j = job_of(job);
  segue__limits limits = {.bytes = ANSWER_BYTES, .text = ANSWER_BYTES};
  if (j->applies) {
    j->ran = true;
    j->status = segue__space_apply_run(j->space, j->read);
    if (!j->status) segue__space_prepare(j->space);
    return;
  }
  char *bytes = j->bytes;
  j->bytes = NULL;
  j->status = segue__document_new(&j->answer, 1, "", "answer", SEGUE__JSON, bytes, j->len);
  if (j->status) return;
  j->answer->foreign = true;
  j->status = segue__document_parse(j->answer, &limits, NULL, NULL, &j->failure);
  if (!j->status && j->read) j->status = job_parse_keys(j);
}

/* Control thread: changes are applied here. */
static void job_finish(keys_job *j) {
  int rc = 0;
  if (j->applies)
    rc = segue__space_apply_end(j->space, j->read, j->revision, j->ran);
  else if (!j->status && !j->read)
    j->status = job_parse_keys(j);
  if (!j->status) j->status = rc;
  if (j->status && !j->failure.code) segue__errorf(&j->failure, j->status, "out of memory");
  if (j->status) j->io.error = j->failure;
  job_return_read(j, j->applies);
}

static void job_worked(segue__job *job) {
  keys_job *j = job_of(job);
  job_finish(j);
  segue__io_finish(&j->io);
}

/* The read is not complete, or no caller waits for it: it is freed with the job. */
static void job_abandoned(segue__job *job) {
  keys_job *j = job_of(job);
  if (j->applies) (void)segue__space_apply_end(j->space, j->read, j->revision, j->ran);
  job_return_read(j, true);
  segue__io_end(&j->io);
}

static void job_start(segue__io *io) {
  keys_job *j = job_of_io(io);
  j->job = (segue__job){.run = job_work, .done = job_worked, .abandoned = job_abandoned};
  if (j->applies) segue__space_apply_start(j->space);
  int rc = segue__job_submit(io->async_io->loop, SEGUE__QUEUE_POLICY, &j->job);
  if (!rc) {
    segue__io_begin(io, false);
    return;
  }
  segue__errorf(&j->failure, rc, "the keys cannot be read: %s",
                rc == UV_EAGAIN ? "earlier jobs of policies hang" : segue_strerror(rc));
  j->status = rc;
  job_finish(j);
  segue__io_finish(io);
}

static void job_stop(segue__io *io) {
  segue__job_abandon(io->async_io->loop, &job_of_io(io)->job);
}

static void job_push_wanted(lua_State *co, const keys_job *j) {
  for (size_t i = 0; i < j->wanted_count; i++) {
    const segue_node *node = segue_node_get(&j->answer->root, j->wanted[i].path);
    if (!node) continue;
    segue__lua_document_value(co, node);
    lua_setfield(co, -2, j->wanted[i].name);
  }
}

/* The result: true; or { count, last_key, ... }; or nil, message, code. */
static int job_push(lua_State *co, segue__io *io) {
  const keys_job *j = job_of_io(io);
  if (io->error.code) {
    char text[1024];
    segue_error_format(&io->error, text, sizeof text);
    lua_pushnil(co);
    lua_pushstring(co, text);
    lua_pushstring(co, segue_error_name(io->error.code));
    return 3;
  }
  if (j->applies) {
    lua_pushboolean(co, 1);
    return 1;
  }
  lua_newtable(co);
  lua_pushnumber(co, (lua_Number)j->count);
  lua_setfield(co, -2, "count");
  if (j->last_key.len) {
    lua_pushlstring(co, j->last_key.data, j->last_key.len);
    lua_setfield(co, -2, "last_key");
  }
  job_push_wanted(co, j);
  return 1;
}

static void job_release(segue__io *io) {
  keys_job *j = job_of_io(io);
  job_return_read(j, false); /* it was never started */
  keys_close(io->async_io->loop, j->space);
  segue__document_unref(j->answer);
  segue__free(j->bytes);
  segue__free(j->revision);
  segue__buf_deinit(&j->last_key);
  for (size_t i = 0; i < j->text_count; i++)
    segue__free(j->texts[i]);
  for (size_t i = 0; i < j->wanted_count; i++) {
    segue__free(j->wanted[i].name);
    segue__free(j->wanted[i].path);
  }
  segue__free(j->wanted);
}

/* Answers of stores are not recorded here: the delivery that they become is. */
static bool job_key(const segue__io *io, segue__buf *out) {
  (void)io, (void)out;
  return false;
}

static const segue__io_kind job_kind = {"segue.keys", sizeof(keys_job), job_start, job_push,
                                        job_stop,     job_release,      job_key};

/* ---- Arguments ------------------------------------------------------------------------------- */

static const char *format_text(lua_State *L, keys_job *j, int index, const char *name) {
  const char *text = option_text(L, index, name);
  if (!text) return NULL;
  char *copy = segue__strdup(text);
  if (!copy) luaL_error(L, "segue.keys: out of memory");
  return j->texts[j->text_count++] = copy;
}

static void format_fill(lua_State *L, keys_job *j, int index) {
  segue__space_format *f = &j->format;
  f->size = sizeof *f;
  f->list = format_text(L, j, index, "list");
  f->key = format_text(L, j, index, "key");
  f->value = format_text(L, j, index, "value");
  f->revision = format_text(L, j, index, "revision");
  f->all_revision = format_text(L, j, index, "all_revision");
  f->prefix = format_text(L, j, index, "prefix");
  f->map = format_text(L, j, index, "map");
  f->within = format_text(L, j, index, "within");
  f->removed = format_text(L, j, index, "removed");
  f->removed_is = format_text(L, j, index, "removed_is");
  f->key_base64 = option_flag(L, index, "key_base64");
  f->value_base64 = option_flag(L, index, "value_base64");
}

/* A list of { name, path }. */
static void wanted_fill(lua_State *L, keys_job *j, int index) {
  lua_getfield(L, index, "wanted");
  size_t n = lua_istable(L, -1) ? lua_objlen(L, -1) : 0;
  j->wanted = n ? segue__calloc(n, sizeof *j->wanted) : NULL;
  if (n && !j->wanted) {
    luaL_error(L, "segue.keys: out of memory");
    return; /* not reached: the call above raised an error */
  }
  for (size_t i = 0; i < n; i++) {
    lua_rawgeti(L, -1, (int)i + 1);
    luaL_checktype(L, -1, LUA_TTABLE);
    const char *name = option_text(L, lua_gettop(L), "name"),
               *path = option_text(L, lua_gettop(L), "path");
    j->wanted[i] = (wanted){segue__strdup(name), segue__strdup(path)};
    j->wanted_count = i + 1;
    if (!j->wanted[i].name || !j->wanted[i].path) luaL_error(L, "segue.keys: out of memory");
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

/* A small piece of work is done at once; else the io is on top, for the caller to wait. */
static int job_begin(lua_State *L, keys_job *j, bool small) {
  if (!small) return 1;
  if (j->applies) segue__space_apply_start(j->space);
  job_work(&j->job);
  job_finish(j);
  return job_push(L, &j->io);
}

/* keys_parse(space or read, bytes, format) -> result, or io */
static int keys_parse(lua_State *L) {
  lua_settop(L, 3);
  keys_box *read = keys_test(L, 1, read_type) ? read_check(L) : NULL;
  keys_box *box = read ? read : keys_check(L, 1, space_type);
  luaL_checktype(L, 3, LUA_TTABLE);
  keys_job *j = segue__io_new(L, &job_kind);
  j->space = segue__space_ref(box->space);
  j->bytes = segue__arg_bytes(&j->io, L, 2, &j->len);
  format_fill(L, j, 3);
  wanted_fill(L, j, 3);
  if (!j->bytes) return luaL_error(L, "segue.keys: an answer must be a text");
  if (read) job_take_read(j, read);
  return job_begin(L, j, j->len <= SMALL_BYTES);
}

/* keys_done(read, revision) -> result, or io */
static int keys_done(lua_State *L) {
  lua_settop(L, 2);
  keys_box *read = read_check(L);
  if (segue__space_is_busy(read->space))
    return luaL_error(L, "segue.keys: another read is being applied");
  keys_job *j = segue__io_new(L, &job_kind);
  j->space = segue__space_ref(read->space);
  j->applies = true;
  j->revision = segue__arg_text(&j->io, L, 2);
  job_take_read(j, read);
  return job_begin(L, j,
                   segue__space_read_count(j->read) + segue__space_count(j->space) <= SMALL_COUNT);
}

void segue__keys_open(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"keys_open", keys_open},         {"keys_put", keys_put},
      {"keys_delete", keys_delete},     {"keys_delete_prefix", keys_delete_prefix},
      {"keys_counts", keys_counts},     {"keys_begin", keys_begin},
      {"keys_read_put", keys_read_put}, {"keys_parse", keys_parse},
      {"keys_done", keys_done},         {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
