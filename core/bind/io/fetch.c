/* SPDX-License-Identifier: MIT
 *
 * segue.fetch: HTTP requests. core/http/fetch.c transfers; this file has the arguments and the
 * events: the head and chunks of the body for streaming callers, and the answer.
 */
#include <ctype.h>
#include <string.h>

#include "async_io.h"

typedef struct request {
  segue__io io; /* first */
  char *url, *method, *body, *socket_path, *ca, *cert, *key, *server_name;
  char **headers;
  size_t body_len;
  uint64_t timeout_ms, connect_ms, idle_ms, max_bytes;
  unsigned redirects;
  bool insecure, streaming, with_head, connect_only;
  segue__fetch *fetch;
  char *head; /* lines of headers that no task has got yet */
  int head_status;
  segue__buf chunk;
  /* The answer. It is borrowed from the transfer while the task is resumed with it; copied
   * otherwise. */
  segue__fetch_answer answer;
  char *kept_headers, *kept_body;
} request;

static request *fetch_of(segue__io *io) {
  return (request *)io; /* its first member */
}

/* ---- Events ---------------------------------------------------------------------------------- */

static void fetch_push_lower(lua_State *co, const char *name, size_t len) {
  luaL_Buffer b;
  luaL_buffinit(co, &b);
  for (size_t i = 0; i < len; i++)
    luaL_addchar(&b, (char)tolower((unsigned char)name[i]));
  luaL_pushresult(&b);
}

/* Converts the name to lower case. Repeated headers become one text, joined as HTTP allows. */
static void push_header(lua_State *co, const char *line, size_t len) {
  const char *colon = memchr(line, ':', len);
  if (!colon) return;
  const char *value = colon + 1, *end = line + len;
  while (value < end && (*value == ' ' || *value == '\t'))
    value++;
  while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
    end--;
  fetch_push_lower(co, line, (size_t)(colon - line));
  lua_pushvalue(co, -1);
  lua_rawget(co, -3);
  bool again = !lua_isnil(co, -1);
  if (again) lua_pushliteral(co, ", ");
  lua_pushlstring(co, value, (size_t)(end - value));
  if (again)
    lua_concat(co, 3);
  else
    lua_remove(co, -2);
  lua_rawset(co, -3);
}

static void push_headers(lua_State *co, const char *lines) {
  lua_newtable(co);
  for (const char *line = lines; line && *line;) {
    size_t len = strcspn(line, "\r\n");
    if (strncmp(line, "HTTP/", 5) != 0) push_header(co, line, len);
    line += len;
    line += strspn(line, "\r\n");
  }
}

/* libcurl is paused until the task has the part: a slow reader slows the server down, and the
 * memory stays bounded. */
static void fetch_continue(request *r) {
  if (r->fetch)
    segue__fetch_resume(r->fetch);
  else
    r->io.ready = r->chunk.len || r->io.over; /* it has ended: the rest is there */
}

static int fetch_push_head(lua_State *co, request *r) {
  lua_pushboolean(co, 0);
  lua_pushnumber(co, r->head_status);
  push_headers(co, r->head);
  segue__free(r->head);
  r->head = NULL;
  fetch_continue(r);
  return 3;
}

static int fetch_push_chunk(lua_State *co, request *r) {
  lua_pushlstring(co, r->chunk.data, r->chunk.len);
  segue__buf_deinit(&r->chunk);
  fetch_continue(r);
  return 1;
}

static int fetch_push(lua_State *co, segue__io *io) {
  request *r = fetch_of(io);
  if (r->head) return fetch_push_head(co, r);
  if (r->chunk.len) return fetch_push_chunk(co, r);
  if (io->error.code) return segue__io_push_error(co, io);
  lua_pushboolean(co, 1);
  lua_pushnumber(co, r->answer.status);
  push_headers(co, r->answer.headers);
  lua_pushlstring(co, r->answer.body ? r->answer.body : "", r->answer.len);
  lua_pushnumber(co, (lua_Number)r->answer.duration_ms / 1000);
  return 5;
}

/* ---- The transfer ---------------------------------------------------------------------------- */

static void fetch_fail_memory(request *r) {
  if (r->fetch) segue__fetch_cancel(r->fetch);
  r->fetch = NULL;
  segue__errorf(&r->io.error, UV_ENOMEM, "segue.fetch: out of memory");
  segue__io_finish(&r->io);
}

static void on_head(void *data, int status, const char *headers) {
  request *r = data;
  r->head_status = status;
  r->head = segue__strdup(headers);
  if (r->head)
    segue__io_ready(&r->io);
  else
    fetch_fail_memory(r);
}

static void on_data(void *data, const char *bytes, size_t len) {
  request *r = data;
  segue__buf_add(&r->chunk, bytes, len);
  if (r->chunk.failed)
    fetch_fail_memory(r);
  else
    segue__io_ready(&r->io);
}

static bool fetch_reserve(void *data, size_t bytes) {
  request *r = data;
  return r->io.stopped || segue__io_charge(&r->io, bytes);
}

/* A task that waits gets the answer without a copy. If no task waits now, the answer is copied,
 * because it is borrowed from the transfer. */
static bool keep_answer(request *r) {
  if (r->io.wait.task || !r->io.box) return true;
  r->kept_headers = segue__strdup(r->answer.headers);
  r->kept_body = segue__strndup(r->answer.body ? r->answer.body : "", r->answer.len);
  r->answer.headers = r->kept_headers;
  r->answer.body = r->kept_body;
  return r->kept_headers && r->kept_body;
}

static void on_done(void *data, int status, const segue__fetch_answer *answer,
                    const segue_error *err) {
  request *r = data;
  r->fetch = NULL;
  if (status)
    r->io.error = *err;
  else
    r->answer = *answer;
  if (!status && !keep_answer(r))
    segue__errorf(&r->io.error, UV_ENOMEM, "segue.fetch: out of memory");
  segue__io_finish(&r->io);
}

static int open_fetcher(segue__async_io *async_io, segue_error *err) {
  if (async_io->fetcher) return 0;
  int rc = segue__fetcher_new(&async_io->fetcher, async_io->loop);
  return rc ? segue__errorf(err, rc, "segue.fetch: %s", segue_strerror(rc)) : 0;
}

static void fetch_start(segue__io *io) {
  request *r = fetch_of(io);
  segue__fetch_options options = {.size = sizeof options,
                                  .url = r->url,
                                  .method = r->method,
                                  .headers = (const char *const *)r->headers,
                                  .body = r->body,
                                  .body_len = r->body_len,
                                  .socket_path = r->socket_path,
                                  .timeout_ms = r->timeout_ms,
                                  .connect_ms = r->connect_ms,
                                  .idle_ms = r->idle_ms,
                                  .max_bytes = r->max_bytes,
                                  .redirects = r->redirects,
                                  .connect_only = r->connect_only,
                                  .insecure = r->insecure,
                                  .ca = r->ca,
                                  .cert = r->cert,
                                  .key = r->key,
                                  .server_name = r->server_name,
                                  .on_head = r->with_head ? on_head : NULL,
                                  .on_data = r->streaming ? on_data : NULL,
                                  .reserve = fetch_reserve,
                                  .on_done = on_done,
                                  .data = r};
  const segue__fake_io *fake_io = io->async_io->fake_io;
  int rc = fake_io ? fake_io->fetch(fake_io->data, &options, &io->error)
                   : open_fetcher(io->async_io, &io->error);
  if (!rc && !fake_io)
    rc = segue__fetch_start(io->async_io->fetcher, &options, &r->fetch, &io->error);
  if (rc) {
    segue__io_finish(io);
    return;
  }
  io->error.code = 0;
  segue__io_begin(io, false);
}

static void fetch_stop(segue__io *io) {
  request *r = fetch_of(io);
  const segue__fake_io *fake_io = io->async_io->fake_io;
  if (fake_io)
    fake_io->forget(fake_io->data, r);
  else
    segue__fetch_cancel(r->fetch);
  r->fetch = NULL;
  segue__io_end(io);
}

static void fetch_release(segue__io *io) {
  request *r = fetch_of(io);
  char *texts[] = {r->url, r->method,      r->body, r->socket_path,  r->ca,       r->cert,
                   r->key, r->server_name, r->head, r->kept_headers, r->kept_body};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    segue__free(texts[i]);
  segue__texts_free(r->headers);
  segue__buf_deinit(&r->chunk);
}

static bool fetch_key(const segue__io *io, segue__buf *out) {
  const request *r = (const request *)io;
  const char *method = r->method ? r->method : r->body ? "POST" : "GET";
  segue__buf_addf(out, "%s %s", r->connect_only ? "connect" : method, r->url);
  if (r->socket_path) segue__buf_addf(out, " %s", r->socket_path);
  return true;
}

static const segue__io_kind kind = {"segue.fetch", sizeof(request), fetch_start, fetch_push,
                                    fetch_stop,    fetch_release,   fetch_key};

/* fetch(url, method, headers, body, timeout ms, connect ms, most bytes, redirects, unix socket, ca,
 * cert, key, insecure, streaming, connect only, with head, idle ms, server name) -> io. Its events:
 * false, status, headers, if with head; chunk; then true, status, headers, body, seconds; or nil,
 * message, code. */
static int new_request(lua_State *L) {
  lua_settop(L, 18);
  luaL_checkstring(L, 1);
  request *r = segue__io_new(L, &kind); /* index 19; an error below frees it */
  r->url = segue__arg_text(&r->io, L, 1);
  r->method = segue__arg_text(&r->io, L, 2);
  r->headers = segue__arg_texts(&r->io, L, 3);
  r->body = segue__arg_bytes(&r->io, L, 4, &r->body_len);
  r->timeout_ms = segue__arg_number(L, 5);
  r->connect_ms = segue__arg_number(L, 6);
  r->max_bytes = segue__arg_number(L, 7);
  r->redirects = (unsigned)segue__arg_number(L, 8);
  r->socket_path = lua_isnil(L, 9) ? NULL : segue__arg_path(&r->io, L, 9);
  r->ca = lua_isnil(L, 10) ? NULL : segue__arg_path(&r->io, L, 10);
  r->cert = lua_isnil(L, 11) ? NULL : segue__arg_path(&r->io, L, 11);
  r->key = lua_isnil(L, 12) ? NULL : segue__arg_path(&r->io, L, 12);
  r->insecure = lua_toboolean(L, 13);
  r->streaming = lua_toboolean(L, 14);
  r->connect_only = lua_toboolean(L, 15);
  r->with_head = lua_toboolean(L, 16);
  r->idle_ms = lua_isnil(L, 17) ? 0 : segue__arg_number(L, 17);
  r->server_name = segue__arg_text(&r->io, L, 18);
  return 1;
}

void segue__fetch_open(lua_State *L) {
  lua_pushcfunction(L, new_request);
  lua_setfield(L, -2, "fetch");
}
