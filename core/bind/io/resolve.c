/* SPDX-License-Identifier: MIT
 *
 * segue.resolve: addresses of a host, and records of a name. The threads are in look_up.c.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "look_up.h"

typedef struct resolve {
  segue__io io; /* first */
  char *name;
  segue__dns_type type;
  struct sockaddr_in server;
  uint64_t limit_ms;
  segue__timer limit;
  segue__look_up *look;
} resolve;

static const char *resolve_type(const resolve *r) {
  return r->type == SEGUE__DNS_SRV ? "SRV" : r->type == SEGUE__DNS_TXT ? "TXT" : NULL;
}

static resolve *resolve_of(segue__io *io) {
  return (resolve *)io; /* its first member */
}

static void resolve_looked(segue__look_up *look) {
  resolve *r = look->owner;
  segue__timer_stop(r->io.async_io->loop, &r->limit);
  if (look->error.code) r->io.error = look->error;
  segue__io_finish(&r->io);
}

static void resolve_abandon(resolve *r) {
  segue__look_up_abandon(r->look);
  r->look = NULL;
}

static void resolve_late(segue__timer *timer) {
  resolve *r = timer->data;
  resolve_abandon(r);
  segue__errorf(&r->io.error, SEGUE_ETIMEOUT, "the %s %.200s was not found within %llu ms",
                r->type ? "name" : "host", r->name, (unsigned long long)r->limit_ms);
  segue__io_finish(&r->io);
}

/* A rehearsal has the result at once, from a fake. */
static void ask_stand_in(resolve *r, const segue__fake_io *fake_io) {
  segue__look_up *look = segue__calloc(1, sizeof *look);
  r->look = look;
  if (!look) {
    segue__errorf(&r->io.error, UV_ENOMEM, "segue.resolve: out of memory");
  } else if (r->type) {
    fake_io->records(fake_io->data, r->name, resolve_type(r), &look->records, &r->io.error);
  } else {
    segue__names names = {0};
    fake_io->resolve(fake_io->data, r->name, &names, &r->io.error);
    for (size_t i = 0; i < names.count && i < SEGUE__ADDRESSES_MAX; i++)
      snprintf(look->addresses[look->count++], INET6_ADDRSTRLEN, "%s", names.items[i]);
    segue__names_deinit(&names);
  }
  segue__io_finish(&r->io);
}

static void resolve_start(segue__io *io) {
  resolve *r = resolve_of(io);
  if (io->async_io->fake_io) {
    ask_stand_in(r, io->async_io->fake_io);
    return;
  }
  int rc =
      segue__look_up_start(&r->look, io->async_io, r->name, r->type, &r->server, resolve_looked, r);
  r->limit.data = r;
  if (!rc) {
    segue__io_begin(io, false);
    if (r->limit_ms && segue__timer_start(io->async_io->loop, &r->limit, r->limit_ms, resolve_late))
      resolve_late(&r->limit);
    return;
  }
  if (rc == UV_EAGAIN)
    segue__errorf(&io->error, rc,
                  "the host %.200s is not looked up: %d earlier look-ups have not returned",
                  r->name, SEGUE__LOOK_UP_THREADS);
  else
    segue__errorf(&io->error, rc, "the host %.200s is not looked up: %s", r->name,
                  segue_strerror(rc));
  segue__io_finish(io);
}

static void resolve_stop(segue__io *io) {
  resolve *r = resolve_of(io);
  segue__timer_stop(io->async_io->loop, &r->limit);
  resolve_abandon(r);
  segue__io_end(io);
}

/* ---- Results --------------------------------------------------------------------------------- */

static void push_member(lua_State *co, const char *name, lua_Number value) {
  lua_pushnumber(co, value);
  lua_setfield(co, -2, name);
}

static void push_record(lua_State *co, const resolve *r, const segue__dns_record *record) {
  lua_createtable(co, 0, 5);
  lua_pushlstring(co, record->text, record->len);
  lua_setfield(co, -2, r->type == SEGUE__DNS_SRV ? "target" : "text");
  push_member(co, "ttl", record->ttl);
  if (r->type != SEGUE__DNS_SRV) return;
  push_member(co, "priority", record->priority);
  push_member(co, "weight", record->weight);
  push_member(co, "port", record->port);
}

static int resolve_push(lua_State *co, segue__io *io) {
  const resolve *r = resolve_of(io);
  if (io->error.code) return segue__io_push_error(co, io);
  const segue__look_up *look = r->look;
  lua_createtable(co, (int)(look->count + look->records.count), 0);
  for (size_t i = 0; i < look->count; i++) {
    lua_pushstring(co, look->addresses[i]);
    lua_rawseti(co, -2, (int)i + 1);
  }
  for (size_t i = 0; i < look->records.count; i++) {
    push_record(co, r, &look->records.items[i]);
    lua_rawseti(co, -2, (int)i + 1);
  }
  return 1;
}

/* The result is freed with its owner. */
static void resolve_release(segue__io *io) {
  resolve *r = resolve_of(io);
  segue__look_up_free(r->look);
  segue__free(r->name);
}

static bool resolve_key(const segue__io *io, segue__buf *out) {
  const resolve *r = (const resolve *)io;
  segue__buf_adds(out, r->name);
  if (r->type) segue__buf_addf(out, " %s", resolve_type(r));
  return true;
}

static const segue__io_kind kind = {"segue.resolve", sizeof(resolve), resolve_start, resolve_push,
                                    resolve_stop,    resolve_release, resolve_key};

/* resolve(name, limit ms, type or nil, server address, server port) -> io. One event: a list of
 * addresses, or of records; or nil, message, code. */
static int new_resolve(lua_State *L) {
  lua_settop(L, 5);
  luaL_checkstring(L, 1);
  resolve *r = segue__io_new(L, &kind);
  r->name = segue__arg_text(&r->io, L, 1);
  r->limit_ms = segue__arg_number(L, 2);
  const char *type = lua_tostring(L, 3), *server = lua_tostring(L, 4);
  if (type) r->type = strcmp(type, "SRV") ? SEGUE__DNS_TXT : SEGUE__DNS_SRV;
  if (server && inet_pton(AF_INET, server, &r->server.sin_addr) == 1) {
    r->server.sin_family = AF_INET;
    r->server.sin_port = htons((uint16_t)segue__arg_number(L, 5));
  }
  return 1;
}

void segue__resolve_open(lua_State *L) {
  lua_pushcfunction(L, new_resolve);
  lua_setfield(L, -2, "resolve");
}
