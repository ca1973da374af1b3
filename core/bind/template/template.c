/* SPDX-License-Identifier: MIT
 *
 * The Lua state that renders templates: its allocator, its calls, and its end once memory ran out.
 */
#include "template.h"

#include <lauxlib.h>
#include <luajit.h>
#include <lualib.h>
#include <string.h>
#include <uv.h>

#include "../../os/file.h"
#include "template_internal.h"

#define BYTES_MAX ((size_t)256 << 20)
#define MODULE_MAX ((size_t)16 << 20)

/* LuaJIT must not learn that an allocation failed: in compiled code it raises that error with the
 * stack of another moment (lj_err_mem reads L->base, which compiled code does not keep), and the
 * process dies of it. So the state is left by longjmp, as an error of Lua would leave it, and then
 * closed, which needs nothing of what it was doing. Nothing that C code owns is lost by that, for
 * the same reason as with errors of Lua: the struct owns it. */
static void *template_allocate(void *data, void *p, size_t old_size, size_t new_size) {
  segue__template *t = data;
  if (!p) old_size = 0;
  if (!new_size) {
    if (!segue__reserve_has(&t->reserve, p)) segue__free(p);
    t->bytes -= old_size;
    return NULL;
  }
  bool over = new_size > old_size && t->bytes - old_size + new_size > BYTES_MAX;
  bool reserve_only = t->reserve.memory && t->spoiled;
  void *q = over || reserve_only ? NULL : segue__realloc(p, new_size);
  if (!q) {
    t->spoiled = true;
    t->starved |= !over;
    q = segue__reserve_use(&t->reserve, p, old_size, new_size);
    if (!q) segue__template_escape(t);
  }
  if (q) t->bytes += new_size - old_size;
  return q;
}

void segue__template_escape(segue__template *t) {
  if (!t->escape) return; /* the state is being created or closed: no compiled code runs */
  t->lost = true;
  longjmp(*t->escape, 1);
}

int segue__template_call(segue__template *t, lua_State *L, lua_CFunction f, void *data) {
  jmp_buf escape, *volatile outer = t->escape;
  t->escape = &escape;
  volatile int status = LUA_ERRMEM;
  if (!setjmp(escape)) status = lua_cpcall(L, f, data);
  t->escape = outer;
  return status;
}

int segue__template_parse(segue__template *t, lua_State *L, const char *code, size_t len,
                          const char *name) {
  jmp_buf *escape = t->escape;
  t->escape = NULL;
  int status = luaL_loadbufferx(L, code, len, name, "t");
  t->escape = escape;
  return status;
}

segue__template *segue__template_of(lua_State *L) {
  void *data;
  lua_getallocf(L, &data);
  return data;
}

static void template_close(segue__template *t) {
  if (t->L) lua_close(t->L);
  t->L = NULL;
  segue__document_unref(t->doc);
  segue__document_unref(t->parsed);
  t->doc = t->parsed = NULL;
  t->spoiled = t->starved = t->lost = false;
}

/* ---- Opening --------------------------------------------------------------------------------- */

/* With the reserve: closing a state whose ffi library is half open crashes in LuaJIT. */
static int template_open_libraries(lua_State *L) {
  luaL_openlibs(L);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "ffi");
  lua_call(L, 1, 0);
  return 0;
}

/* A loader for require. LuaJIT's own keeps a file open if its memory ends between fopen(3) and the
 * parser; here no error can be raised while the bytes are owned. */
static int template_load_module(lua_State *L) {
  static const char *const patterns[] = {"@%s/%s.lua", "@%s/%s/init.lua"};
  segue__template *t = segue__template_of(L);
  const char *name = luaL_gsub(L, luaL_checkstring(L, 1), ".", "/"), *chunk = NULL;
  segue__bytes bytes;
  int rc = UV_ENOENT;
  for (size_t i = 0; rc == UV_ENOENT && i < sizeof patterns / sizeof *patterns; i++) {
    chunk = lua_pushfstring(L, patterns[i], t->lua_dir, name);
    rc = segue__file_read(NULL, chunk + 1, MODULE_MAX, &bytes, NULL);
  }
  if (rc == UV_ENOMEM) t->spoiled = true;
  if (rc) return luaL_error(L, "%s: %s", chunk + 1, segue_strerror(rc));
  int status = segue__template_parse(t, L, bytes.data, bytes.len, chunk);
  segue__free(bytes.data);
  if (status == LUA_ERRMEM) segue__template_escape(t);
  return status ? lua_error(L) : 1;
}

static int template_open_protected(lua_State *L) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "loaders");
  lua_pushcfunction(L, template_load_module);
  lua_rawseti(L, -2, 2); /* behind the one for package.preload */
  for (int i = 3; i <= 4; i++) {
    lua_pushnil(L);
    lua_rawseti(L, -2, i);
  }
  lua_pop(L, 1);
  lua_getfield(L, -1, "preload");
  lua_pushcfunction(L, segue__template_host_open);
  lua_setfield(L, -2, "segue.template.host");
  lua_settop(L, 0);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "segue.template.command");
  lua_call(L, 1, 1);
  lua_setfield(L, LUA_REGISTRYINDEX, "segue.template.command");
  return 0;
}

/* The error message on top of the stack. Reading it never allocates: it is a text or nothing. */
static int template_fail(segue__template *t, int status, segue_error *err) {
  const char *text = !t->lost && lua_type(t->L, -1) == LUA_TSTRING ? lua_tostring(t->L, -1) : NULL;
  int rc = status == LUA_ERRMEM || t->spoiled ? UV_ENOMEM : SEGUE_EUSAGE;
  return segue__errorf(err, rc, "templates: %s", text ? text : segue_strerror(rc));
}

static int template_open(segue__template *t, segue_error *err) {
  if (t->spoiled) template_close(t);
  if (t->L) return 0;
  if (!segue__reserve_new(&t->reserve)) t->L = lua_newstate(template_allocate, t);
  int status = t->L ? lua_cpcall(t->L, template_open_libraries, NULL) : LUA_ERRMEM;
  bool complete = !status && !t->spoiled;
  if (!complete) template_close(t); /* while the reserve is there: parts of the state are in it */
  segue__reserve_free(&t->reserve);
  if (!complete) return segue__errorf(err, UV_ENOMEM, "templates: %s", segue_strerror(UV_ENOMEM));
  /* Without compiled code, so that errors of memory are those of Lua: only then the bytes of a
   * module that is loaded are freed. */
  luaJIT_setmode(t->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
  status = lua_cpcall(t->L, template_open_protected, t);
  luaJIT_setmode(t->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_ON);
  if (!status) return 0;
  int rc = template_fail(t, status, err);
  template_close(t);
  return rc;
}

int segue__template_new(segue__template **out, const char *lua_dir, segue_error *err) {
  *out = NULL;
  segue__template *t = segue__calloc(1, sizeof *t);
  if (t) t->lua_dir = segue__strdup(lua_dir);
  if (!t || !t->lua_dir) {
    segue__free(t);
    return segue__errorf(err, UV_ENOMEM, "templates: %s", segue_strerror(UV_ENOMEM));
  }
  *out = t;
  return 0;
}

void segue__template_free(segue__template *t) {
  if (!t) return;
  template_close(t);
  segue__scripts_free(t->scripts);
  segue__free(t->lua_dir);
  segue__free(t);
}

/* ---- Calls ----------------------------------------------------------------------------------- */

typedef struct template_call {
  const segue__template_job *job; /* NULL: a case */
  const char *line;
  size_t len;
  segue__buf *out;
  segue__template_failure *failure;
  segue__template_read *read;
  /* The template needs too much memory, and was at this site: only the message is wanted. */
  bool over_limit;
  int32_t site;
  int rc;
} template_call;

static void template_set_text(lua_State *L, const char *key, const char *text, size_t len) {
  if (!text) return;
  lua_pushlstring(L, text, len);
  lua_setfield(L, -2, key);
}

static void push_job(lua_State *L, const segue__template_job *job) {
  const char *names[] = {"name",         "data_name", "dialect",  "missingkey",
                         "helpers_name", "left",      "language", "right"};
  const char *values[] = {job->name,         job->data_name, job->dialect,  job->missingkey,
                          job->helpers_name, job->left,      job->language, job->right};
  lua_createtable(L, 0, 12);
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    template_set_text(L, names[i], values[i], values[i] ? strlen(values[i]) : 0);
  template_set_text(L, "template", job->text, job->len);
  template_set_text(L, "data", job->data, job->data_len);
  template_set_text(L, "helpers", job->helpers, job->helpers_len);
  lua_pushboolean(L, job->given);
  lua_setfield(L, -2, "given");
}

static char *template_text(lua_State *L, int index) {
  size_t len;
  const char *text = lua_tolstring(L, index, &len);
  return text ? segue__strndup(text, len) : NULL;
}

static bool read_flag(lua_State *L, const char *key) {
  lua_getfield(L, -1, key);
  bool flag = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return flag;
}

/* The table of what was read is on top: { paths, asked, changing } (command.lua). */
static void template_take_read(lua_State *L, template_call *call) {
  const segue__template_job *job = call->job;
  segue__touched *touched = &call->read->touched;
  int rc = 0;
  call->read->changing = read_flag(L, "changing");
  lua_getfield(L, -1, "paths");
  for (int i = 1, n = (int)lua_objlen(L, -1); i <= n && !rc; i++) {
    lua_rawgeti(L, -1, i);
    const segue__touch touch = {.path = (char *)lua_tostring(L, -1)};
    rc = segue__touched_add(touched, &touch, job->node);
    lua_pop(L, 1);
  }
  lua_getfield(L, -2, "asked");
  for (int i = 1, n = (int)lua_objlen(L, -1); i <= n && !rc; i++) {
    lua_rawgeti(L, -1, i);
    segue__touch touch = {
        .whole = true, .wanted = read_flag(L, "wanted"), .missing = read_flag(L, "missing")};
    lua_getfield(L, -1, "path");
    touch.path = (char *)lua_tostring(L, -1);
    rc = segue__touched_add(touched, &touch, job->keys);
    lua_pop(L, 2);
  }
  if (rc) call->out->failed = true;
}

static void push_site(lua_State *L, const template_call *call) {
  if (call->over_limit)
    lua_pushinteger(L, call->site);
  else
    lua_pushnil(L);
}

/* render(job, site) -> output, or nil and the failure: { message, usage, path, origin, line, column
 * }; and what it has read, where its data are given. */
static int template_render_protected(lua_State *L) {
  template_call *call = lua_touserdata(L, 1);
  size_t len;
  lua_getfield(L, LUA_REGISTRYINDEX, "segue.template.command");
  lua_getfield(L, -1, "render");
  push_job(L, call->job);
  push_site(L, call);
  lua_call(L, 2, 3);
  if (lua_istable(L, -1) && call->read) template_take_read(L, call);
  const int output = 3, failure = 4;
  lua_settop(L, failure);
  const char *text = lua_tolstring(L, output, &len);
  if (text) {
    segue__buf_add(call->out, text, len);
    return 0;
  }
  static const char *const keys[] = {"usage", "message", "path", "origin", "line", "column"};
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
    lua_getfield(L, failure, keys[i]);
  call->rc = lua_toboolean(L, failure + 1) ? SEGUE_EUSAGE : SEGUE_ECONFIG;
  *call->failure = (segue__template_failure){.message = template_text(L, failure + 2),
                                             .path = template_text(L, failure + 3),
                                             .origin = template_text(L, failure + 4),
                                             .line = (uint32_t)lua_tointeger(L, failure + 5),
                                             .column = (uint32_t)lua_tointeger(L, failure + 6)};
  return 0;
}

/* case(line, site) -> answer */
static int template_case_protected(lua_State *L) {
  template_call *call = lua_touserdata(L, 1);
  size_t len;
  lua_getfield(L, LUA_REGISTRYINDEX, "segue.template.command");
  lua_getfield(L, -1, "case");
  lua_pushlstring(L, call->line, call->len);
  push_site(L, call);
  lua_call(L, 2, 1);
  const char *text = luaL_checklstring(L, -1, &len);
  segue__buf_add(call->out, text, len);
  return 0;
}

/* A lost state has no message. Where the limit of the state has ended it, a new one finds out what
 * stands at the site. */
static int template_run(segue__template *t, lua_CFunction f, template_call *call,
                        segue_error *err) {
  int rc = template_open(t, err);
  if (rc) return rc;
  t->site = 0;
  t->starved = false;
  int status = segue__template_call(t, t->L, f, call);
  bool starved = t->starved, over_limit = t->lost && !starved && !call->over_limit;
  rc = status ? template_fail(t, status, err) : call->rc;
  if (t->lost)
    template_close(t);
  else
    lua_settop(t->L, 0);
  segue__scripts_end(t->scripts);
  if (over_limit) {
    call->over_limit = true;
    call->site = t->site;
    return template_run(t, f, call, err);
  }
  /* The next try may find memory. A lost state has set rc; this is memory of C code. */
  if (rc && starved) rc = call->rc = UV_ENOMEM;
  if (!rc && call->out->failed)
    rc = segue__errorf(err, UV_ENOMEM, "templates: %s", segue_strerror(UV_ENOMEM));
  return rc;
}

void segue__template_failure_clear(segue__template_failure *failure) {
  segue__free(failure->message);
  segue__free(failure->path);
  segue__free(failure->origin);
  *failure = (segue__template_failure){0};
}

void segue__template_read_clear(segue__template_read *read) {
  segue__touched_deinit(&read->touched);
  *read = (segue__template_read){0};
}

int segue__template_render(segue__template *t, const segue__template_job *job, segue__buf *out,
                           segue__template_failure *failure, segue__template_read *read,
                           segue_error *err) {
  template_call call = {.job = job, .out = out, .failure = failure, .read = read};
  t->given = job->given;
  t->node = job->node;
  t->keys = job->keys;
  t->config = job->config;
  int rc = template_run(t, template_render_protected, &call, err);
  t->given = false;
  t->node = t->keys = NULL;
  t->config = NULL;
  if (rc == UV_ENOMEM)
    segue__errorf(err, rc, "templates: %s", segue_strerror(rc));
  else if (call.rc)
    segue__errorf(err, rc, "%s", failure->message ? failure->message : segue_strerror(rc));
  return rc;
}

int segue__template_case(segue__template *t, const char *line, size_t len, segue__buf *answer,
                         segue_error *err) {
  template_call call = {.line = line, .len = len, .out = answer};
  return template_run(t, template_case_protected, &call, err);
}
