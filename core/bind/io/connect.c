/* SPDX-License-Identifier: MIT
 *
 * segue.connect: a connection over TCP, TLS or a unix socket, as a userdata, and three operations
 * on it: open, read, write. Opening has up to three steps under one time limit: a thread looks the
 * host up, a worker thread reads the files of TLS and makes a context (so that certificates which
 * were replaced count for the next connection, and a file system that hangs delays nothing else),
 * and core/http/outbound.c connects.
 *
 * Four sides may use a connection: its userdata, each operation, its socket, and the stand-in of a
 * rehearsal. The bytes that have come wait in `in` until a task reads them; past `want` and
 * READ_AHEAD the socket is paused, so that a server which sends without a request waits.
 */
#include <assert.h>
#include <string.h>

#include "connect_internal.h"

enum { READ_AHEAD = 64 << 10 };

typedef segue__connection connection;
typedef segue__connect_io operation;

static const char metatable[] = "segue.connection";

static operation *connect_of(segue__io *io) {
  return (operation *)io; /* its first member */
}

/* ---- The connection -------------------------------------------------------------------------- */

static void connection_unref(connection *c) {
  if (--c->refs) return;
  char *texts[] = {c->address, c->ca, c->cert, c->key, c->server_name};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    segue__free(texts[i]);
  segue__buf_deinit(&c->in);
  segue__free(c);
}

void segue__connection_closed(void *data) {
  connection *c = data;
  segue__async_io *async_io = c->async_io;
  connection_unref(c);
  segue__async_io_release(async_io);
}

static void connection_discount(connection *c) {
  if (c->counted) c->async_io->connections--;
  c->counted = false;
}

void segue__connection_shut(connection *c) {
  const segue__fake_io *fake_io = c->async_io->fake_io;
  segue__outbound *out = c->out;
  c->usable = false;
  c->out = NULL;
  connection_discount(c);
  if (c->is_fake) fake_io->hang_up(fake_io->data, c);
  c->is_fake = false;
  if (out) segue__outbound_close(out, segue__connection_closed, c);
}

static size_t connection_there(const connection *c) {
  return c->in.len - c->in_at;
}

static void connection_consume(connection *c, size_t n) {
  c->in_at += n;
  if (c->in_at == c->in.len) {
    c->in_at = c->in.len = 0;
    if (c->in.cap > READ_AHEAD) segue__buf_deinit(&c->in);
  } else if (c->in_at >= READ_AHEAD && c->in_at > c->in.len / 2) {
    assert(c->in.data); /* bytes were read: in.len is more than in_at */
    memmove(c->in.data, c->in.data + c->in_at, c->in.len - c->in_at);
    c->in.len -= c->in_at;
    c->in_at = 0;
  }
}

/* A read of n bytes, or up to a delimiter that has not come, needs more than is read ahead. */
static void connection_update(connection *c) {
  const operation *o = c->reader;
  size_t most = READ_AHEAD;
  if (o && o->count > most) most = o->count;
  if (o && o->delimiter) most = (size_t)c->max_bytes + o->delimiter_len;
  if (c->out) segue__outbound_pause(c->out, connection_there(c) >= most);
}

/* ---- Reading --------------------------------------------------------------------------------- */

/* Finds the result of a read in the bytes that came. Each byte is looked at once: a delimiter that
 * comes late in small parts must not cost the square. */
static void read_look(operation *o) {
  connection *c = o->c;
  size_t there = connection_there(c);
  const char *data = c->in.data + c->in_at;
  if (o->complete) return;
  if (o->delimiter) {
    const char *at = there > o->scanned ? memmem(data + o->scanned, there - o->scanned,
                                                 o->delimiter, o->delimiter_len)
                                        : NULL;
    o->scanned = there < o->delimiter_len ? 0 : there - o->delimiter_len + 1;
    if (!at) return;
    o->found = (size_t)(at - data);
    o->skip = o->delimiter_len;
    o->complete = o->found <= c->max_bytes;
  } else if (o->count ? there >= o->count : there > 0) {
    o->found = o->count ? o->count : there < READ_AHEAD ? there : READ_AHEAD;
    o->complete = true;
  }
}

static void connection_fail(connection *c, const segue_error *err);

/* Returns whether the read has an event. */
static bool read_is_over(operation *o) {
  connection *c = o->c;
  read_look(o);
  if (o->complete) return true;
  if (o->delimiter && connection_there(c) > c->max_bytes) {
    segue__errorf(
        &o->io.error, SEGUE_ELIMIT,
        "%s sent more than %llu bytes without the end that is waited for: raise max_bytes",
        c->address, (unsigned long long)c->max_bytes);
    connection_fail(c, &o->io.error);
    return true;
  }
  if (!c->usable) o->io.error = c->end;
  return !c->usable;
}

static void read_detach(operation *o) {
  segue__timer_stop(o->io.async_io->loop, &o->limit);
  if (o->c->reader == o) o->c->reader = NULL;
}

static void read_finish(operation *o) {
  read_detach(o);
  connection_update(o->c);
  segue__io_finish(&o->io);
}

static void connection_wake_reader(connection *c) {
  operation *o = c->reader;
  if (o && (o->io.error.code || read_is_over(o))) read_finish(o);
}

/* The bytes stay: the next read has them. */
static void read_late(segue__timer *timer) {
  operation *o = timer->data;
  segue__errorf(&o->io.error, SEGUE_ETIMEOUT,
                "%s sent nothing that completes the read within %llu ms", o->c->address,
                (unsigned long long)o->limit_ms);
  read_finish(o);
}

static void read_start(operation *o) {
  connection *c = o->c;
  if (read_is_over(o)) {
    segue__io_finish(&o->io);
    return;
  }
  c->reader = o;
  segue__io_begin(&o->io, false);
  o->limit.data = o;
  if (o->limit_ms && segue__timer_start(o->io.async_io->loop, &o->limit, o->limit_ms, read_late))
    read_late(&o->limit);
  else
    connection_update(c);
}

/* ---- Writing --------------------------------------------------------------------------------- */

static void write_detach(operation *o) {
  operation **link = &o->c->writers;
  while (*link && *link != o)
    link = &(*link)->next;
  if (*link) *link = o->next;
  segue__timer_stop(o->io.async_io->loop, &o->limit);
}

static void write_finish(operation *o) {
  write_detach(o);
  segue__io_finish(&o->io);
}

/* Ends the writes of which the kernel has all bytes, or all of them if the connection has ended. A
 * task that is resumed here may close the connection: its reference is held meanwhile. */
static void connection_wake_writers(connection *c) {
  for (operation *o = c->writers; o; o = c->writers) {
    if (c->usable && segue__outbound_sent(c->out) < o->until) return;
    if (!c->usable) o->io.error = c->end;
    write_finish(o);
  }
}

/* The server may have got a part of it, so that nothing can follow. */
static void write_late(segue__timer *timer) {
  operation *o = timer->data;
  segue_error err;
  segue__errorf(&err, SEGUE_ETIMEOUT, "%s did not take %zu bytes within %llu ms", o->c->address,
                o->len, (unsigned long long)o->limit_ms);
  connection_fail(o->c, &err);
}

static int write_bytes(operation *o) {
  const segue__fake_io *fake_io = o->io.async_io->fake_io;
  connection *c = o->c;
  if (c->is_fake) return fake_io->send(fake_io->data, c, o->bytes, o->len, &o->io.error);
  int rc = segue__outbound_write(c->out, o->bytes, o->len);
  o->until = segue__outbound_added(c->out);
  return rc;
}

static void write_start(operation *o) {
  connection *c = o->c;
  segue_error err;
  if (!c->usable) {
    o->io.error = c->end;
    segue__io_finish(&o->io);
    return;
  }
  int rc = write_bytes(o);
  if (rc) {
    segue__errorf(&err, rc, "the connection to %s broke off: %s", c->address, segue_strerror(rc));
    if (!o->io.error.code) o->io.error = err;
    connection_fail(c, &o->io.error);
    segue__io_finish(&o->io);
    return;
  }
  segue__free(o->bytes);
  o->bytes = NULL;
  if (c->is_fake || segue__outbound_sent(c->out) >= o->until) {
    segue__io_finish(&o->io);
    return;
  }
  operation **link = &c->writers;
  while (*link)
    link = &(*link)->next;
  *link = o;
  segue__io_begin(&o->io, false);
  o->limit.data = o;
  if (o->limit_ms && segue__timer_start(o->io.async_io->loop, &o->limit, o->limit_ms, write_late))
    write_late(&o->limit);
}

/* ---- Events of the socket, or of the stand-in ------------------------------------------------ */

static void connection_wake(segue__message *message) {
  connection *c = (connection *)((char *)message - offsetof(connection, message));
  c->posted = false;
  connection_wake_writers(c);
  connection_wake_reader(c);
  connection_unref(c);
}

/* The connection cannot be used any more. Its tasks are resumed by a message, because Lua may run
 * now: a task closed it. */
static void connection_fail(connection *c, const segue_error *err) {
  if (!c->usable) return;
  c->end = *err;
  segue__connection_shut(c);
  if (c->posted || (!c->reader && !c->writers)) return;
  c->posted = true;
  c->refs++;
  c->message.fn = connection_wake;
  segue__post(c->async_io->loop, &c->message);
}

void segue__connection_on_data(void *data, const char *bytes, size_t len) {
  connection *c = data;
  operation *o = c->reader;
  c->refs++;
  segue__buf_add(&c->in, bytes, len);
  if (c->in.failed || (o && connection_there(c) > READ_AHEAD && !segue__io_charge(&o->io, len))) {
    segue_error err;
    segue__errorf(&err, c->in.failed ? UV_ENOMEM : SEGUE_ELIMIT, "%s: %s", c->address,
                  c->in.failed ? "out of memory for what it sends" : o->io.error.message);
    connection_fail(c, &err);
  } else {
    connection_wake_reader(c);
    connection_update(c);
  }
  connection_unref(c);
}

void segue__connection_on_sent(void *data) {
  connection *c = data;
  c->refs++;
  connection_wake_writers(c);
  connection_unref(c);
}

void segue__connection_on_end(void *data, int code, const segue_error *err) {
  (void)code;
  connection_fail(data, err);
}

/* ---- The operations as an io ----------------------------------------------------------------- */

static void connect_start(segue__io *io) {
  operation *o = connect_of(io);
  connection *c = o->c;
  c->refs++; /* a task that is resumed may drop the connection */
  if (o->purpose == SEGUE__CONNECT_OPEN)
    segue__connect_open_start(o);
  else if (o->purpose == SEGUE__CONNECT_READ)
    read_start(o);
  else
    write_start(o);
  connection_unref(c);
}

static void connect_stop(segue__io *io) {
  operation *o = connect_of(io);
  segue_error err;
  if (o->purpose == SEGUE__CONNECT_OPEN) {
    segue__connect_open_stop(o);
    return;
  }
  if (o->purpose == SEGUE__CONNECT_READ) {
    read_detach(o);
    segue__io_end(io);
    return;
  }
  /* Half of it may be sent, so that nothing can follow. */
  segue__errorf(&err, UV_ECANCELED, "a write to %s was cancelled", o->c->address);
  write_detach(o);
  connection_fail(o->c, &err);
  segue__io_end(io);
}

static int connect_push(lua_State *co, segue__io *io) {
  const operation *o = connect_of(io);
  connection *c = o->c;
  if (io->error.code) return segue__io_push_error(co, io);
  if (o->purpose != SEGUE__CONNECT_READ) {
    lua_pushboolean(co, 1);
    return 1;
  }
  lua_pushlstring(co, c->in.data ? c->in.data + c->in_at : "", o->found);
  connection_consume(c, o->found + o->skip);
  connection_update(c);
  return 1;
}

static void connect_release(segue__io *io) {
  operation *o = connect_of(io);
  segue__tls_context_unref(o->context);
  segue__free(o->delimiter);
  segue__free(o->bytes);
  if (o->c) connection_unref(o->c);
}

static bool connect_key(const segue__io *io, segue__buf *out) {
  static const char *const names[] = {"open", "read", "write"};
  const operation *o = (const operation *)io;
  segue__buf_addf(out, "%s %s", names[o->purpose], o->c->address);
  return true;
}

static const segue__io_kind kind = {"segue.connect", sizeof(operation), connect_start, connect_push,
                                    connect_stop,    connect_release,   connect_key};

/* ---- Lua ------------------------------------------------------------------------------------- */

static connection *connection_check(lua_State *L) {
  connection **box = luaL_checkudata(L, 1, metatable);
  if (!*box) luaL_error(L, "this connection is closed");
  return *box;
}

static operation *new_operation(lua_State *L, segue__connect_purpose purpose, int limit_at) {
  connection *c = connection_check(L);
  uint64_t limit_ms = limit_at ? segue__arg_number(L, limit_at) : 0;
  operation *o = segue__io_new(L, &kind);
  o->purpose = purpose;
  o->c = c;
  c->refs++;
  o->limit_ms = limit_ms;
  return o;
}

static int connection_collect(lua_State *L) {
  connection **box = luaL_checkudata(L, 1, metatable), *c = *box;
  if (!c) return 0;
  *box = NULL;
  if (c->lua) segue__lua_discharge(c->lua, c->charged);
  c->lua = NULL;
  segue_error err;
  segue__errorf(&err, UV_ECANCELED, "the connection to %s was closed here", c->address);
  if (c->usable)
    connection_fail(c, &err);
  else
    segue__connection_shut(c);
  connection_unref(c);
  return 0;
}

static int connection_to_string(lua_State *L) {
  connection **box = luaL_checkudata(L, 1, metatable);
  lua_pushfstring(L, "a connection to %s", *box ? (*box)->address : "nothing: it is closed");
  return 1;
}

static connection *connection_new(lua_State *L) {
  connection **box = lua_newuserdata(L, sizeof(connection *));
  *box = NULL;
  if (luaL_newmetatable(L, metatable)) {
    lua_pushcfunction(L, connection_collect);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, connection_to_string);
    lua_setfield(L, -2, "__tostring");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
  }
  lua_setmetatable(L, -2);
  connection *c = segue__calloc(1, sizeof *c);
  if (!c) {
    luaL_error(L, "segue.connect: out of memory");
    return NULL; /* not reached: the call above raised an error */
  }
  c->refs = 1;
  c->lua = segue__lua_of(L);
  c->async_io = c->lua->async_io;
  *box = c;
  return c;
}

static char *copy_text(lua_State *L, int index) {
  const char *text = lua_tostring(L, index);
  char *copy = segue__strdup(text);
  if (text && !copy) luaL_error(L, "segue.connect: out of memory");
  return copy;
}

static char *copy_path(lua_State *L, int index) {
  const char *path = lua_tostring(L, index);
  const segue__program *program = segue__lua_of(L)->program;
  char *whole = path ? segue__policy_path(program, path) : NULL;
  if (path && !whole) luaL_error(L, "segue.connect: out of memory");
  return whole;
}

/* connection(address, connect ms, most bytes, tls?, ca, cert, key, insecure, server name) */
static int new_connection(lua_State *L) {
  segue_error err;
  lua_settop(L, 9);
  connection *c = connection_new(L); /* index 10; an error below frees it */
  c->address = copy_text(L, 1);
  c->connect_ms = segue__arg_number(L, 2);
  c->max_bytes = segue__arg_number(L, 3);
  c->tls = lua_toboolean(L, 4);
  c->ca = copy_path(L, 5);
  c->cert = copy_path(L, 6);
  c->key = copy_path(L, 7);
  c->insecure = lua_toboolean(L, 8);
  c->server_name = copy_text(L, 9);
  if (segue__outbound_parse(c->address, &c->parsed, &err))
    return luaL_error(L, "segue.connect: %s", err.message);
  segue__errorf(&c->end, UV_ENOTCONN, "the connection to %s is not open", c->address);
  /* The bytes that are read ahead, and the buffers of OpenSSL. */
  size_t bytes = sizeof *c + READ_AHEAD + (c->tls ? READ_AHEAD : 0);
  if (!segue__lua_charge(c->lua, bytes))
    return luaL_error(L, "segue.connect: the connection does not fit into the memory that is left");
  c->charged = bytes;
  return 1;
}

/* open(connection) -> io. One event: true; or nil, message, code. */
static int new_open(lua_State *L) {
  connection *c = connection_check(L);
  if (c->opened) return luaL_error(L, "this connection was opened before");
  new_operation(L, SEGUE__CONNECT_OPEN, 0);
  c->opened = true;
  return 1;
}

static void read_arguments(lua_State *L, operation *o) {
  const char *delimiter = lua_tolstring(L, 3, &o->delimiter_len);
  o->count = (size_t)segue__arg_number(L, 2);
  if (!delimiter) return;
  if (!o->delimiter_len) luaL_error(L, "the end of a read must be a text that is not empty");
  o->delimiter = segue__strndup(delimiter, o->delimiter_len);
  if (!o->delimiter) luaL_error(L, "out of memory");
}

/* read(connection, count or nil, delimiter or nil, limit ms) -> io. One event: the bytes; or nil,
 * message, code. */
static int new_read(lua_State *L) {
  lua_settop(L, 4);
  operation *o = new_operation(L, SEGUE__CONNECT_READ, 4);
  if (o->c->reader) return luaL_error(L, "another task reads from this connection");
  read_arguments(L, o);
  if (o->count > o->c->max_bytes)
    return luaL_error(L, "a read of more bytes than max_bytes, which is %d", (int)o->c->max_bytes);
  return 1;
}

/* take(connection, count or nil, delimiter or nil) -> bytes, if they are there already. nil while
 * an incident is recorded or replayed: there each read is an operation. */
static int take(lua_State *L) {
  connection *c = connection_check(L);
  operation o = {.c = c};
  lua_settop(L, 3);
  if (c->reader || c->async_io->fake_io || segue__answers_kept(c->async_io->answers)) return 0;
  o.count = (size_t)segue__arg_number(L, 2);
  o.delimiter = (char *)lua_tolstring(L, 3, &o.delimiter_len);
  if (o.delimiter && !o.delimiter_len) return 0;
  read_look(&o);
  if (!o.complete) return 0;
  lua_pushlstring(L, c->in.data + c->in_at, o.found);
  connection_consume(c, o.found + o.skip);
  connection_update(c);
  return 1;
}

/* write(connection, bytes, limit ms) -> io. One event: true, when the kernel has all of them; or
 * nil, message, code. */
static int new_write(lua_State *L) {
  lua_settop(L, 3);
  luaL_checkstring(L, 2);
  operation *o = new_operation(L, SEGUE__CONNECT_WRITE, 3);
  o->bytes = segue__arg_bytes(&o->io, L, 2, &o->len);
  return 1;
}

void segue__connect_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"connection", new_connection},
                                       {"connection_open", new_open},
                                       {"connection_read", new_read},
                                       {"connection_take", take},
                                       {"connection_write", new_write},
                                       {"connection_close", connection_collect},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
