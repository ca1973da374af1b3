/* SPDX-License-Identifier: MIT
 *
 * One request in a state of a module: the argument of `handle`, and the conversion of its results
 * to an answer. The Lua object holds a pointer to a pooled struct and the serial number of the
 * request. The struct serves one request after another; the serial number detects objects of
 * earlier requests, whose use is an error. So Lua objects need no notice when a request ends.
 */
#include "lua_request.h"

#include <string.h>
#include <strings.h>

enum { SEGUE__FAILED = 500, SEGUE__AWAY = 503, SEGUE__LATE = 504 };
enum {
  AT_A_TIME = 256 << 10
}; /* bytes that a stream writes before other tasks of the thread run */
/* Memory of a request outside of Lua, without its body: an estimate of the size of its head, as the
 * gate counts it. */
enum { HEAD_GUESS = 4096 };
enum { HEADERS_BYTES = 64 << 10, BODY_KEPT = 1 << 20 };

static void end_waiting(segue__lua_request *x);

/* ---- Memory ---- */

segue__lua_request *segue__lua_request_new(segue__lua_state *state, segue_request *request) {
  segue__thread_context *context = state->context;
  segue__lua_request *lua_request = context->pool;
  if (lua_request)
    context->pool = lua_request->next;
  else if (!(lua_request = segue__calloc(1, sizeof *lua_request)))
    return NULL;
  lua_request->state = state;
  lua_request->request = request;
  lua_request->streaming = false;
  lua_request->at_a_time = 0;
  return lua_request;
}

static void bind_request_release(segue__lua_request *lua_request) {
  segue__thread_context *context = lua_request->state->context;
  end_waiting(lua_request);
  segue__gone_end(lua_request);
  lua_request->request = NULL;
  lua_request->serial++;
  lua_request->next = context->pool;
  context->pool = lua_request;
}

/* ---- Answers in place of the module ---------------------------------------------------------- */

/* A started stream cannot get another status, so it is cut: the client then sees that it is not
 * complete. */
void segue__lua_request_refuse(segue__lua_request *lua_request, int status) {
  static const segue_header later = {{"Retry-After", 11}, {"1", 1}};
  const char *text = status == SEGUE__AWAY ? "the service cannot take this request now: try again\n"
                     : status == SEGUE__LATE ? "the service did not answer in time\n"
                                             : "the service failed to answer this request\n";
  segue_answer answer = {.status = status,
                         .content_type = "text/plain; charset=utf-8",
                         .headers = &later,
                         .header_count = status == SEGUE__AWAY,
                         .body = text,
                         .len = strlen(text)};
  if (lua_request->streaming)
    segue_request_abort(lua_request->request);
  else if (segue_request_answer(lua_request->request, &answer) < 0)
    segue_request_end(lua_request->request);
  bind_request_release(lua_request);
}

/* ---- Results of handle ----------------------------------------------------------------------- */

/* This code runs on the coroutine after it has returned, outside of a protected call: it must not
 * raise an error. It returns a code and fills err. */
static int request_wrong(segue_error *err, const char *what, lua_State *L, int index) {
  return segue__errorf(err, SEGUE_EPOLICY, "%s, not a %s", what, luaL_typename(L, index));
}

static int count_headers(segue__lua_request *x, size_t bytes, segue_error *err) {
  if (bytes <= HEADERS_BYTES - x->headers_bytes) {
    x->headers_bytes += bytes;
    return 0;
  }
  return segue__errorf(err, SEGUE_EPOLICY, "the headers are longer than %d KiB",
                       HEADERS_BYTES >> 10);
}

static int add_header(lua_State *L, segue__lua_request *x, segue_text name, int value,
                      segue_error *err) {
  segue_text text;
  if (lua_type(L, value) != LUA_TSTRING)
    return segue__errorf(err, SEGUE_EPOLICY,
                         "the header '%s' must be a text, or a list of texts, not a %s", name.s,
                         luaL_typename(L, value));
  text.s = lua_tolstring(L, value, &text.len);
  if (name.len == 12 && !strncasecmp(name.s, "Content-Type", 12)) {
    x->answer.content_type = text.s;
    return count_headers(x, text.len, err);
  }
  int rc = count_headers(x, name.len + text.len, err);
  if (rc) return rc;
  if (x->answer.header_count == SEGUE__HEADERS)
    return segue__errorf(err, SEGUE_EPOLICY, "an answer has at most %d headers", SEGUE__HEADERS);
  x->headers[x->answer.header_count++] = (segue_header){name, text};
  return 0;
}

static int request_add_values(lua_State *L, segue__lua_request *x, segue_text name,
                              segue_error *err) {
  int list = lua_gettop(L), n = (int)lua_objlen(L, list), rc = 0;
  for (int i = 1; i <= n && !rc; i++) {
    lua_rawgeti(L, list, i);
    rc = add_header(L, x, name, list + 1, err);
    lua_pop(L, 1); /* the list holds it */
  }
  return rc;
}

/* Leaves the text of the number on the stack, below the key, so that it is not collected. */
static int request_add_number(lua_State *L, segue__lua_request *x, segue_text name,
                              segue_error *err) {
  lua_pushvalue(L, -1);
  (void)lua_tostring(L, -1);
  lua_insert(L, -3);
  luaL_checkstack(L, 8, "headers");
  return add_header(L, x, name, lua_gettop(L) - 2, err);
}

/* Borrows the texts of headers: they stay in the table or on the stack until the answer is sent. */
static int take_headers(lua_State *L, segue__lua_request *x, int index, segue_error *err) {
  int rc = 0;
  luaL_checkstack(L, 8, "headers");
  for (lua_pushnil(L); !rc && lua_next(L, index); lua_pop(L, 1)) {
    segue_text name;
    if (lua_type(L, -2) != LUA_TSTRING)
      return segue__errorf(err, SEGUE_EPOLICY,
                           "headers are a table of names and values: { [\"X-Name\"] = \"value\" }");
    name.s = lua_tolstring(L, -2, &name.len);
    if (lua_type(L, -1) == LUA_TTABLE)
      rc = request_add_values(L, x, name, err);
    else if (lua_type(L, -1) == LUA_TNUMBER)
      rc = request_add_number(L, x, name, err);
    else
      rc = add_header(L, x, name, lua_gettop(L), err);
  }
  return rc;
}

/* A table with keys that are not a list is rejected: it would be sent as an empty body, and usually
 * the author forgot to encode it. */
static int check_list(lua_State *L, int index, size_t n, segue_error *err) {
  for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
    lua_Number at = lua_type(L, -2) == LUA_TNUMBER ? lua_tonumber(L, -2) : 0;
    if (at >= 1 && at <= (lua_Number)n) continue;
    bool named = lua_type(L, -2) == LUA_TSTRING;
    return segue__errorf(err, SEGUE_EPOLICY,
                         "the body must be a text or a list of texts; this table has a key that "
                         "is %s%.60s: make a text of it",
                         named ? "'" : "a ",
                         named ? lua_pushfstring(L, "%s'", lua_tostring(L, -2))
                               : luaL_typename(L, -2));
  }
  return 0;
}

static int take_pieces(lua_State *L, segue__lua_request *x, int index, segue_error *err) {
  segue__buf *body = &x->state->context->body;
  size_t n = lua_objlen(L, index), max = x->state->code->memory_bytes;
  if (body->cap > BODY_KEPT) segue__buf_deinit(body);
  body->len = 0;
  body->failed = 0;
  luaL_checkstack(L, 4, "a body");
  int rc = check_list(L, index, n, err);
  if (rc) return rc;
  for (size_t i = 1; i <= n; i++) {
    size_t len;
    lua_rawgeti(L, index, (int)i);
    const char *piece = lua_tolstring(L, -1, &len);
    if (!piece)
      return segue__errorf(err, SEGUE_EPOLICY,
                           "piece %zu of the body must be a text or a number, not a %s", i,
                           luaL_typename(L, -1));
    if (len > max - body->len)
      return segue__errorf(err, SEGUE_EPOLICY,
                           "the body is longer than the %zu MiB of memory that the module has: "
                           "write it piece by piece, with request:stream and request:write",
                           max >> 20);
    segue__buf_add(body, piece, len);
    lua_pop(L, 1);
  }
  if (body->failed) return segue__errorf(err, UV_ENOMEM, "out of memory");
  x->answer.body = body->data;
  x->answer.len = body->len;
  return 0;
}

static int take_body(lua_State *L, segue__lua_request *x, int index, segue_error *err) {
  size_t len;
  int type = lua_type(L, index), rc = 0;
  if (type == LUA_TNIL) return 0;
  if (type == LUA_TTABLE) {
    rc = take_pieces(L, x, index, err);
  } else if (type == LUA_TSTRING || type == LUA_TNUMBER) {
    x->answer.body = lua_tolstring(L, index, &len);
    x->answer.len = len;
  } else {
    return request_wrong(err, "a body must be a text, or a list of texts", L, index);
  }
  if (x->answer.len && !x->answer.content_type)
    x->answer.content_type = "text/plain; charset=utf-8";
  return rc;
}

/* Reads the status at `index`, and the table of headers or nil behind it. */
static int take_head(lua_State *L, segue__lua_request *x, int index, segue_error *err) {
  lua_Number status = lua_type(L, index) == LUA_TNUMBER ? lua_tonumber(L, index) : 0;
  x->answer = (segue_answer){.headers = x->headers};
  x->headers_bytes = 0;
  if (lua_type(L, index) != LUA_TNUMBER)
    return request_wrong(err, "the status must be a number from 200 to 599", L, index);
  if (!(status >= 200 && status <= 599 && status == (int)status))
    return segue__errorf(err, SEGUE_EPOLICY, "the status must be from 200 to 599, not %.14g",
                         status);
  x->answer.status = (int)status;
  if (lua_type(L, index + 1) == LUA_TNIL) return 0;
  if (lua_type(L, index + 1) != LUA_TTABLE)
    return request_wrong(err, "the headers must be a table", L, index + 1);
  return take_headers(L, x, index + 1, err);
}

/* Reads the results of handle: status, body; or status, headers, body. */
static int bind_request_finish(lua_State *co, int n, void *data, segue_error *err) {
  segue__lua_request *x = data;
  (void)n;
  if (x->streaming) return 0;
  lua_settop(co, 3);
  if (lua_type(co, 2) == LUA_TSTRING || lua_type(co, 2) == LUA_TNUMBER) {
    lua_pushvalue(co, 2);
    lua_replace(co, 3);
    lua_pushnil(co);
    lua_replace(co, 2);
  }
  int rc = take_head(co, x, 1, err);
  return rc ? rc : take_body(co, x, 3, err);
}

/* ---- Running --------------------------------------------------------------------------------- */

static int bind_request_begin(lua_State *co, void *data, segue_error *err) {
  segue__lua_request *x = data;
  (void)err;
  lua_rawgeti(co, LUA_REGISTRYINDEX, x->state->on[SEGUE__ON_HANDLE]);
  segue__lua_request_push(co, x);
  return 1;
}

/* Returns whether the status means that the time limit of handle passed. (A passed CPU limit breaks
 * the state.) */
static bool is_late(const segue__lua_state *state, int status) {
  return status == SEGUE_ETIMEOUT && state->lua && !segue__lua_is_broken(state->lua);
}

static void bind_request_count(const segue__lua_state *state, int status) {
  segue__lua_fault fault = is_late(state, status)                          ? SEGUE__LUA_TIMEOUT
                           : status == SEGUE_ETIMEOUT                      ? SEGUE__LUA_CPU
                           : status == SEGUE_ELIMIT || status == UV_ENOMEM ? SEGUE__LUA_MEMORY
                                                                           : SEGUE__LUA_ERROR;
  __atomic_add_fetch(&state->code->tally->faults[fault], 1, __ATOMIC_RELAXED);
}

static void request_fail(segue__lua_request *x, int status, const segue_error *err) {
  segue__lua_state *state = x->state;
  bool after = state->lua && segue__lua_is_broken(state->lua) && status == SEGUE_EPOLICY;
  if (status == SEGUE_ECANCELLED) {
    segue__lua_request_refuse(x, state->stopped ? SEGUE__AWAY : SEGUE__FAILED);
    return;
  }
  if (!after) {
    segue_error reported = *err;
    const segue__place *place = &state->places[SEGUE__ON_HANDLE];
    if (!reported.file[0]) segue__error_set_place(&reported, place->file, place->line, 0);
    bind_request_count(state, status);
    segue__lua_state_log(state, "handle", &reported);
  }
  segue__lua_request_refuse(x, is_late(state, status) ? SEGUE__LATE : SEGUE__FAILED);
}

/* A request that waits inside the module holds its body. These bodies count against the memory of
 * the module, as Lua memory does, because many requests may wait at once. */
static bool charge_request(segue__lua_request *x) {
  x->charged = HEAD_GUESS + segue_request_body(x->request).len;
  if (segue__lua_charge(x->state->lua, x->charged)) return true;
  x->charged = 0;
  return false;
}

/* Must run before the state can close: a state that closes cancels its tasks first. */
static void discharge_request(segue__lua_request *x) {
  if (x->charged) segue__lua_discharge(x->lua, x->charged);
  x->charged = 0;
}

static void request_done(void *data, int status, const segue_error *err) {
  segue__lua_request *x = data;
  discharge_request(x);
  x->state->inside--;
  if (status) {
    request_fail(x, status, err);
    return;
  }
  if (x->streaming) {
    segue_request_end(x->request);
  } else if (segue_request_answer(x->request, &x->answer) < 0) {
    segue_error reported;
    segue__errorf(&reported, SEGUE_EUSAGE,
                  "handle returned a header that is malformed, or that a module must not set");
    request_fail(x, SEGUE_EUSAGE, &reported);
    return;
  }
  bind_request_release(x);
}

void segue__lua_request_run(segue__lua_request *x) {
  segue__lua_state *state = x->state;
  segue__task_options options = {.name = "handle",
                                 .limit_ms = state->code->timeout_ms,
                                 .slice_cpu_ms = state->code->budget_ms,
                                 .begin = bind_request_begin,
                                 .finish = bind_request_finish,
                                 .done = request_done,
                                 .data = x,
                                 .slot = &x->task,
                                 .recycles = true};
  x->lua = state->lua;
  if (!charge_request(x)) {
    segue__lua_request_refuse(x, SEGUE__AWAY);
    return;
  }
  state->inside++;
  segue__task_start(state->lua, &options);
}

/* ---- Streams --------------------------------------------------------------------------------- */

/* request:stream(status, headers) */
int segue__lua_request_stream(lua_State *L) {
  segue__lua_request *x = segue__lua_request_check(L);
  if (x->streaming) return luaL_error(L, "request:stream was called before");
  segue_error err;
  lua_settop(L, 3);
  if (take_head(L, x, 2, &err)) return luaL_error(L, "request:stream: %s", err.message);
  int rc = segue_request_stream(x->request, &x->answer);
  if (rc == SEGUE_EUSAGE)
    return luaL_error(L, "request:stream: a header is malformed, or a module must not set it");
  if (rc < 0) return luaL_error(L, "request:stream: %s", segue_strerror(rc));
  x->streaming = true;
  /* From here on there is no time limit: the client receives data, and can close the connection. */
  segue__task_end_limit(x->task);
  return 0;
}

/* A chunk that waits until the client has read the chunks before it. Chunks wait in a queue,
 * because several tasks may write to one answer. */
struct segue__stream_wait {
  segue__wait wait; /* first */
  segue__message message;
  segue__lua_request *lua_request; /* NULL: it left the queue, and its message is posted */
  segue__lua *lua;                 /* the state that is charged for it; NULL: discharged */
  bool given_up;                   /* no task waits any more: the message frees it */
  segue__stream_wait *next;
  int status;
  size_t len;
  char data[];
};

static int request_push_outcome(lua_State *L, int rc) {
  if (rc == 0) {
    lua_pushboolean(L, 1);
    return 1;
  }
  lua_pushnil(L);
  lua_pushstring(L, rc == UV_ECONNRESET   ? "the client left"
                    : rc == SEGUE_ECLOSED ? "the answer has ended"
                                          : segue_strerror(rc));
  lua_pushstring(L, segue_error_name(rc));
  return 3;
}

static int push_piece(lua_State *co, void *data) {
  return request_push_outcome(co, ((const segue__stream_wait *)data)->status);
}

/* The state may be closed as soon as no task waits for it. */
static void request_discharge(segue__stream_wait *p) {
  if (p->lua) segue__lua_discharge(p->lua, sizeof *p + p->len);
  p->lua = NULL;
}

static void end_piece(segue__stream_wait *p) {
  request_discharge(p);
  segue__wait_end(&p->wait, push_piece, p);
  segue__free(p);
}

/* Writes waiting chunks as far as the client reads. Each chunk leaves the queue before its task
 * continues: the task may end the answer, and must not find waiting chunks then. */
static void go_on(void *data, int status) {
  segue__lua_request *x = data;
  (void)status; /* the write returns it too */
  for (uint64_t serial = x->serial; x->serial == serial && x->waiting;) {
    segue__stream_wait *p = x->waiting;
    p->status = segue_request_write(x->request, p->data, p->len);
    if (p->status == UV_EAGAIN) {
      segue__ingress_request_await(x->request, go_on, x);
      return;
    }
    x->waiting = p->next;
    end_piece(p);
  }
}

static void after_end(segue__message *message) {
  segue__stream_wait *p =
      (segue__stream_wait *)((char *)message - offsetof(segue__stream_wait, message));
  if (p->given_up)
    segue__free(p);
  else
    end_piece(p);
}

/* Ends the waits of tasks other than `handle`. They continue by a message, after Lua has returned.
 */
static void end_waiting(segue__lua_request *x) {
  while (x->waiting) {
    segue__stream_wait *p = x->waiting;
    x->waiting = p->next;
    p->lua_request = NULL;
    p->status = SEGUE_ECLOSED;
    p->message.fn = after_end;
    segue__post(x->state->context->loop, &p->message);
  }
}

static void cancel_piece(segue__wait *wait) {
  segue__stream_wait *p = (segue__stream_wait *)wait; /* its first member */
  request_discharge(p);
  if (!p->lua_request) {
    p->given_up = true;
    return;
  }
  segue__stream_wait **link = &p->lua_request->waiting;
  while (*link != p)
    link = &(*link)->next;
  *link = p->next;
  if (!p->lua_request->waiting) segue__ingress_request_await(p->lua_request->request, NULL, NULL);
  segue__free(p);
}

static int write_later(lua_State *L, segue__lua_request *x, const char *data, size_t len) {
  segue__lua *lua = segue__lua_of(L);
  segue__wait_check(L, "request:write");
  /* Charges the copy: many tasks may wait at once, each with a copy of the same text. */
  if (!segue__lua_charge(lua, sizeof(segue__stream_wait) + len)) {
    lua_pushnil(L);
    lua_pushliteral(L, "what waits for slow clients would need more memory than the module has");
    lua_pushstring(L, segue_error_name(SEGUE_ELIMIT));
    return 3;
  }
  segue__stream_wait *p = segue__calloc(1, sizeof *p + len), **last = &x->waiting;
  if (!p) {
    segue__lua_discharge(lua, sizeof *p + len);
    return request_push_outcome(L, UV_ENOMEM);
  }
  p->lua = lua;
  while (*last)
    last = &(*last)->next;
  *last = p;
  p->lua_request = x;
  p->len = len;
  memcpy(p->data, data, len);
  p->wait.cancel = cancel_piece;
  segue__ingress_request_await(x->request, go_on, x);
  return segue__wait_begin(L, &p->wait, "request:write");
}

/* The chunk was accepted, but the stream has written AT_A_TIME bytes: lets other tasks of this
 * thread run first. */
static int write_next_turn(lua_State *L, segue__lua_request *x) {
  segue__stream_wait *p = segue__calloc(1, sizeof *p);
  if (!p) return request_push_outcome(L, 0);
  p->wait.cancel = cancel_piece;
  p->message.fn = after_end;
  segue__post(x->state->context->loop, &p->message);
  return segue__wait_begin(L, &p->wait, "request:write");
}

/* request:write(text) -> true; or nil, message, code */
int segue__lua_request_write(lua_State *L) {
  segue__lua_request *x = segue__lua_request_check(L);
  size_t len;
  const char *data = luaL_checklstring(L, 2, &len);
  if (!x->streaming)
    return luaL_error(L, "request:write: begin with request:stream(status, headers)");
  int rc = x->waiting ? UV_EAGAIN : segue_request_write(x->request, data, len);
  x->at_a_time += len;
  if (rc != UV_EAGAIN && (rc || x->at_a_time < AT_A_TIME || !segue__can_wait(L)))
    return request_push_outcome(L, rc);
  x->at_a_time = 0;
  return rc ? write_later(L, x, data, len) : write_next_turn(L, x);
}
