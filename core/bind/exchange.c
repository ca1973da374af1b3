/* SPDX-License-Identifier: MIT
 *
 * One request in a module's state: what handle is given, and what it returns as an answer. What Lua
 * holds of a request is a pointer and a number: memory that serves one request after the other, and
 * which of them is meant. So nothing has to be told when a request is over, and what is kept of it
 * is refused.
 */
#include "exchange.h"

#include <string.h>
#include <strings.h>

enum { SEGUE__FAILED = 500, SEGUE__AWAY = 503 };

/* ---- Memory ---- */

segue__exchange *segue__exchange_new(segue__cell *cell, segue_request *request) {
  segue__berth *berth = cell->berth;
  segue__exchange *exchange = berth->pool;
  if (exchange)
    berth->pool = exchange->next;
  else if (!(exchange = segue__calloc(1, sizeof *exchange)))
    return NULL;
  exchange->cell = cell;
  exchange->request = request;
  exchange->streaming = false;
  return exchange;
}

static void release(segue__exchange *exchange) {
  segue__berth *berth = exchange->cell->berth;
  exchange->request = NULL;
  exchange->serial++;
  exchange->next = berth->pool;
  berth->pool = exchange;
}

/* ---- Answers that are not the module's ---- */

void segue__exchange_refuse(segue__exchange *exchange, int status) {
  static const segue_header later = {{"Retry-After", 11}, {"1", 1}};
  const char *text = status == SEGUE__AWAY ? "the service cannot take this request now: try again\n"
                                           : "the service failed to answer this request\n";
  segue_answer answer = {.status = status,
                         .content_type = "text/plain; charset=utf-8",
                         .headers = &later,
                         .header_count = status == SEGUE__AWAY,
                         .body = text,
                         .len = strlen(text)};
  if (exchange->streaming || segue_request_answer(exchange->request, &answer) < 0)
    segue_request_end(exchange->request);
  release(exchange);
}

/* ---- What handle returns --------------------------------------------------------------------- */

static void add_header(lua_State *L, segue__exchange *x, segue_text name, int value) {
  segue_text text;
  text.s = lua_tolstring(L, value, &text.len);
  if (!text.s)
    luaL_error(L, "the header '%s' must be a text, not a %s", name.s, luaL_typename(L, value));
  if (name.len == 12 && !strncasecmp(name.s, "Content-Type", 12)) {
    x->answer.content_type = text.s;
    if (strlen(text.s) != text.len) luaL_error(L, "Content-Type has a zero byte in it");
    return;
  }
  if (x->answer.header_count == sizeof x->headers / sizeof *x->headers)
    luaL_error(L, "an answer has at most %d headers",
               (int)(sizeof x->headers / sizeof *x->headers));
  x->headers[x->answer.header_count++] = (segue_header){name, text};
}

/* Texts that are made of numbers live in the table at `kept`. */
static void keep_text(lua_State *L, int kept) {
  lua_pushvalue(L, -1);
  lua_tostring(L, -1);
  lua_replace(L, -2);
  lua_pushvalue(L, -1);
  lua_rawseti(L, kept, (int)lua_objlen(L, kept) + 1);
}

static int kept_table(lua_State *L, int kept) {
  if (kept) return kept;
  lua_newtable(L);
  lua_insert(L, -4); /* below name, value and copy of value */
  return lua_gettop(L) - 3;
}

static void take_values(lua_State *L, segue__exchange *x, segue_text name) {
  int list = lua_gettop(L), n = (int)lua_objlen(L, list);
  for (int i = 1; i <= n; i++) {
    lua_rawgeti(L, list, i);
    if (lua_type(L, -1) != LUA_TSTRING)
      luaL_error(L, "the header '%s' must be a text, or a list of texts", name.s);
    add_header(L, x, name, -1);
    lua_pop(L, 1); /* the list holds it */
  }
}

/* What is borrowed stays where it is: the table, and for numbers one that is left on the stack. */
static void take_headers(lua_State *L, segue__exchange *x, int index) {
  int kept = 0;
  luaL_checkstack(L, 8, "headers");
  for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
    segue_text name;
    if (lua_type(L, -2) != LUA_TSTRING)
      luaL_error(L, "headers are a table of names and values: { [\"X-Name\"] = \"value\" }");
    name.s = lua_tolstring(L, -2, &name.len);
    if (lua_type(L, -1) == LUA_TTABLE) {
      take_values(L, x, name);
    } else if (lua_type(L, -1) == LUA_TNUMBER) {
      lua_pushvalue(L, -1);
      kept = kept_table(L, kept);
      keep_text(L, kept);
      add_header(L, x, name, -1);
      lua_pop(L, 1);
    } else {
      add_header(L, x, name, lua_gettop(L));
    }
  }
}

static void take_pieces(lua_State *L, segue__exchange *x, int index) {
  segue__buf *body = &x->cell->berth->body;
  size_t n = lua_objlen(L, index);
  body->len = 0;
  body->failed = 0;
  for (size_t i = 1; i <= n; i++) {
    size_t len;
    lua_rawgeti(L, index, (int)i);
    const char *piece = lua_tolstring(L, -1, &len);
    if (!piece)
      luaL_error(L, "piece %d of the body is a %s: a body is a text, or a list of texts", (int)i,
                 luaL_typename(L, -1));
    segue__buf_add(body, piece, len);
    lua_pop(L, 1);
  }
  if (body->failed) luaL_error(L, "out of memory");
  x->answer.body = body->data;
  x->answer.len = body->len;
}

static void take_body(lua_State *L, segue__exchange *x, int index) {
  size_t len;
  int type = lua_type(L, index);
  if (type == LUA_TNIL || type == LUA_TNONE) return;
  if (type == LUA_TTABLE) {
    take_pieces(L, x, index);
  } else if (type == LUA_TSTRING || type == LUA_TNUMBER) {
    x->answer.body = lua_tolstring(L, index, &len);
    x->answer.len = len;
  } else {
    luaL_error(L, "a body is a text, or a list of texts, not a %s", luaL_typename(L, index));
  }
  if (x->answer.len && !x->answer.content_type)
    x->answer.content_type = "text/plain; charset=utf-8";
}

/* The status at `index`, headers behind it. */
static void take_head(lua_State *L, segue__exchange *x, int index, const char *who) {
  lua_Number status = lua_type(L, index) == LUA_TNUMBER ? lua_tonumber(L, index) : 0;
  x->answer = (segue_answer){.headers = x->headers};
  if (!(status >= 200 && status <= 599 && status == (int)status))
    luaL_error(L, "%s a status from 200 to 599, not %s", who,
               lua_type(L, index) == LUA_TNUMBER ? lua_tostring(L, index)
                                                 : luaL_typename(L, index));
  x->answer.status = (int)status;
  int type = lua_type(L, index + 1);
  if (type == LUA_TTABLE) take_headers(L, x, index + 1);
}

/* status, body; or status, headers, body */
static int finish(lua_State *co, int n, void *data, segue_error *err) {
  segue__exchange *x = data;
  (void)err;
  if (x->streaming) return 0;
  lua_settop(co, n < 3 ? 3 : n);
  bool short_form = lua_type(co, 2) == LUA_TSTRING || lua_type(co, 2) == LUA_TNUMBER;
  take_head(co, x, 1, "handle must return");
  if (!short_form && lua_type(co, 2) != LUA_TTABLE && lua_type(co, 2) != LUA_TNIL)
    return luaL_error(co, "handle must return a status, headers and a body: the headers are a %s",
                      luaL_typename(co, 2));
  take_body(co, x, short_form ? 2 : 3);
  return 0;
}

/* ---- Running --------------------------------------------------------------------------------- */

static int begin(lua_State *co, void *data, segue_error *err) {
  segue__exchange *x = data;
  (void)err;
  lua_rawgeti(co, LUA_REGISTRYINDEX, x->cell->on[SEGUE__ON_HANDLE]);
  segue__request_push(co, x);
  return 1;
}

static void count(const segue__cell *cell, int status) {
  segue__lua_fault fault = status == SEGUE_ETIMEOUT                        ? SEGUE__LUA_CPU
                           : status == SEGUE_ELIMIT || status == UV_ENOMEM ? SEGUE__LUA_MEMORY
                                                                           : SEGUE__LUA_ERROR;
  __atomic_add_fetch(&cell->code->tally->faults[fault], 1, __ATOMIC_RELAXED);
}

static void fail(segue__exchange *x, int status, const segue_error *err) {
  segue__cell *cell = x->cell;
  bool after = cell->lua && segue__lua_is_broken(cell->lua) && status == SEGUE_EPOLICY;
  if (status == SEGUE_ECANCELLED) {
    segue__exchange_refuse(x, cell->stopped ? SEGUE__AWAY : SEGUE__FAILED);
    return;
  }
  if (!after) {
    segue_error told = *err;
    const segue__place *place = &cell->places[SEGUE__ON_HANDLE];
    if (!told.file[0]) segue__error_at(&told, place->file, place->line, 0);
    count(cell, status);
    segue__cell_log(cell, "handle", &told);
  }
  segue__exchange_refuse(x, SEGUE__FAILED);
}

static void done(void *data, int status, const segue_error *err) {
  segue__exchange *x = data;
  x->cell->inside--;
  if (status) {
    fail(x, status, err);
    return;
  }
  if (x->streaming) {
    segue_request_end(x->request);
  } else if (segue_request_answer(x->request, &x->answer) < 0) {
    segue_error wrong;
    segue__error_set(&wrong, SEGUE_EUSAGE,
                     "handle returned a header that is not one, or is not the module's to set");
    fail(x, SEGUE_EUSAGE, &wrong);
    return;
  }
  release(x);
}

void segue__exchange_run(segue__exchange *x) {
  segue__cell *cell = x->cell;
  segue__task_options options = {.name = "handle",
                                 .slice_cpu_ms = cell->code->budget_ms,
                                 .begin = begin,
                                 .finish = finish,
                                 .done = done,
                                 .data = x,
                                 .keep_results = true};
  cell->inside++;
  segue__task_start(cell->lua, &options);
}

/* ---- Streams --------------------------------------------------------------------------------- */

/* request:stream(status, headers) */
int segue__request_stream(lua_State *L) {
  segue__exchange *x = segue__request_check(L);
  if (x->streaming) return luaL_error(L, "request:stream was called before");
  lua_settop(L, 3);
  take_head(L, x, 2, "request:stream wants");
  if (lua_type(L, 3) != LUA_TTABLE && lua_type(L, 3) != LUA_TNIL)
    return luaL_argerror(L, 2, "a table of headers expected");
  int rc = segue_request_stream(x->request, &x->answer);
  if (rc == SEGUE_EUSAGE)
    return luaL_error(L, "request:stream: a header is none, or is not the module's to set");
  if (rc < 0) return luaL_error(L, "request:stream: %s", segue_strerror(rc));
  x->streaming = true;
  return 0;
}

/* A piece that has to wait until the client has taken more. */
typedef struct piece {
  segue__wait wait; /* first */
  segue__timer timer;
  segue__loop *loop;
  segue__exchange *exchange;
  int status;
  size_t len;
  char data[];
} piece;

enum { AGAIN_MS = 3 };

static int push_outcome(lua_State *L, int rc) {
  if (rc == 0) {
    lua_pushboolean(L, 1);
    return 1;
  }
  lua_pushnil(L);
  lua_pushstring(L, rc == UV_ECONNRESET ? "the client left" : segue_strerror(rc));
  lua_pushstring(L, segue_error_name(rc));
  return 3;
}

static int push_piece(lua_State *co, void *data) {
  return push_outcome(co, ((const piece *)data)->status);
}

static void try_again(segue__timer *timer) {
  piece *p = timer->data;
  p->status = segue_request_write(p->exchange->request, p->data, p->len);
  if (p->status == UV_EAGAIN && segue__timer_start(p->loop, &p->timer, AGAIN_MS, try_again) == 0)
    return;
  segue__wait_end(&p->wait, push_piece, p);
  segue__free(p);
}

static void cancel_piece(segue__wait *wait) {
  piece *p = (piece *)wait; /* its first member */
  segue__timer_stop(p->loop, &p->timer);
  segue__free(p);
}

static int write_later(lua_State *L, segue__exchange *x, const char *data, size_t len) {
  segue__wait_check(L, "request:write");
  piece *p = segue__calloc(1, sizeof *p + len);
  if (!p) return push_outcome(L, UV_ENOMEM);
  p->loop = x->cell->berth->loop;
  p->exchange = x;
  p->timer.data = p;
  p->len = len;
  memcpy(p->data, data, len);
  if (segue__timer_start(p->loop, &p->timer, AGAIN_MS, try_again)) {
    segue__free(p);
    return push_outcome(L, UV_ENOMEM);
  }
  p->wait.cancel = cancel_piece;
  return segue__wait_begin(L, &p->wait, "request:write");
}

/* request:write(text) -> true; or nil, message, code */
int segue__request_write(lua_State *L) {
  segue__exchange *x = segue__request_check(L);
  size_t len;
  const char *data = luaL_checklstring(L, 2, &len);
  if (!x->streaming)
    return luaL_error(L, "request:write: begin with request:stream(status, headers)");
  int rc = segue_request_write(x->request, data, len);
  return rc == UV_EAGAIN ? write_later(L, x, data, len) : push_outcome(L, rc);
}
