/* SPDX-License-Identifier: MIT
 *
 * segue.resolve: host names. Each call has a thread of its own, because getaddrinfo(3) cannot be
 * interrupted and has no time limit. An abandoned thread runs on; it returns its result through the
 * bridge, or finds it closed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

#include "../../os/thread.h"
#include "async_io.h"

enum { THREADS_MAX = 32, ADDRESSES_MAX = 64, STACK_BYTES = 256 << 10 };

typedef struct look_up {
  segue__message message;
  segue__bridge *bridge;
  struct resolve *owner; /* NULL: no task waits */
  char *name;
  int status;   /* of getaddrinfo */
  int sys_code; /* errno for EAI_SYSTEM */
  size_t count;
  char addresses[ADDRESSES_MAX][INET6_ADDRSTRLEN];
} look_up;

typedef struct resolve {
  segue__io io; /* first */
  char *name;
  uint64_t limit_ms;
  segue__timer limit;
  look_up *look;
} resolve;

static resolve *resolve_of(segue__io *io) {
  return (resolve *)io; /* its first member */
}

/* ---- The thread ------------------------------------------------------------------------------ */

static void bridge_leave_locked(segue__bridge *bridge) {
  bool last = --bridge->refs == 0;
  pthread_mutex_unlock(&bridge->mutex);
  if (!last) return;
  pthread_mutex_destroy(&bridge->mutex);
  segue__free(bridge);
}

static void look_free(look_up *look) {
  segue__free(look->name);
  segue__free(look);
}

static bool resolve_has(const look_up *look, const char *address) {
  for (size_t i = 0; i < look->count; i++) {
    if (!strcmp(look->addresses[i], address)) return true;
  }
  return false;
}

static void resolve_note(look_up *look, const struct addrinfo *entry) {
  char address[INET6_ADDRSTRLEN];
  if (look->count == ADDRESSES_MAX) return;
  if (getnameinfo(entry->ai_addr, entry->ai_addrlen, address, sizeof address, NULL, 0,
                  NI_NUMERICHOST))
    return;
  if (!resolve_has(look, address)) strcpy(look->addresses[look->count++], address);
}

/* Runs without any lock on the loop: the loop may close while getaddrinfo hangs. Then the bridge
 * has no loop any more, and the result is freed here. */
static void *look_main(void *arg) {
  look_up *look = arg;
  segue__bridge *bridge = look->bridge;
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG}, *list = NULL;
  look->status = getaddrinfo(look->name, NULL, &hints, &list);
  look->sys_code = errno;
  for (const struct addrinfo *entry = look->status ? NULL : list; entry; entry = entry->ai_next)
    resolve_note(look, entry);
  if (list) freeaddrinfo(list);
  pthread_mutex_lock(&bridge->mutex);
  bridge->threads--;
  if (bridge->loop)
    segue__post(bridge->loop, &look->message);
  else
    look_free(look);
  bridge_leave_locked(bridge);
  return NULL;
}

static int resolve_start_thread(look_up *look) {
  pthread_t thread;
  int rc = segue__thread_start(&thread, "segue-resolve", STACK_BYTES, look_main, look);
  if (!rc) pthread_detach(thread);
  return rc;
}

/* ---- The control thread ---------------------------------------------------------------------- */

static void resolve_report(resolve *r, const look_up *look) {
  const char *why =
      look->status == EAI_SYSTEM ? segue_strerror(-look->sys_code) : gai_strerror(look->status);
  int code = look->status == EAI_AGAIN ? UV_EAI_AGAIN : UV_EAI_NONAME;
  segue__errorf(&r->io.error, code, "the host %.200s is not known: %s", r->name, why);
}

static void resolve_looked(segue__message *message) {
  look_up *look = (look_up *)message; /* its first member */
  resolve *r = look->owner;
  if (!r) {
    look_free(look);
    return;
  }
  segue__timer_stop(r->io.async_io->loop, &r->limit);
  if (look->status) resolve_report(r, look);
  segue__io_finish(&r->io);
}

static void resolve_abandon(resolve *r) {
  look_up *look = r->look;
  r->look = NULL;
  if (look) look->owner = NULL;
}

static void resolve_late(segue__timer *timer) {
  resolve *r = timer->data;
  resolve_abandon(r);
  segue__errorf(&r->io.error, SEGUE_ETIMEOUT, "the host %.200s was not found within %llu ms",
                r->name, (unsigned long long)r->limit_ms);
  segue__io_finish(&r->io);
}

static segue__bridge *open_bridge(segue__async_io *async_io) {
  if (async_io->bridge) return async_io->bridge;
  segue__bridge *bridge = segue__calloc(1, sizeof *bridge);
  if (bridge && pthread_mutex_init(&bridge->mutex, NULL)) {
    segue__free(bridge);
    return NULL;
  }
  if (!bridge) return NULL;
  bridge->loop = async_io->loop;
  bridge->refs = 1;
  async_io->bridge = bridge;
  return bridge;
}

static bool resolve_enter(segue__bridge *bridge) {
  pthread_mutex_lock(&bridge->mutex);
  bool room = bridge->threads < THREADS_MAX;
  if (room) bridge->threads++, bridge->refs++;
  pthread_mutex_unlock(&bridge->mutex);
  return room;
}

static void resolve_leave(segue__bridge *bridge) {
  pthread_mutex_lock(&bridge->mutex);
  bridge->threads--;
  bridge_leave_locked(bridge);
}

static int resolve_launch(resolve *r) {
  segue__bridge *bridge = open_bridge(r->io.async_io);
  look_up *look = bridge ? segue__calloc(1, sizeof *look) : NULL;
  if (!look) return UV_ENOMEM;
  look->message.fn = resolve_looked;
  look->bridge = bridge;
  look->owner = r;
  look->name = segue__strdup(r->name);
  int rc = !look->name ? UV_ENOMEM : resolve_enter(bridge) ? 0 : UV_EAGAIN;
  if (!rc) {
    rc = resolve_start_thread(look);
    if (rc) resolve_leave(bridge);
  }
  if (rc)
    look_free(look);
  else
    r->look = look;
  return rc;
}

/* A rehearsal has the result at once, from a fake. */
static void ask_stand_in(resolve *r, const segue__fake_io *fake_io) {
  segue__names names = {0};
  int rc = fake_io->resolve(fake_io->data, r->name, &names, &r->io.error);
  look_up *look = rc ? NULL : segue__calloc(1, sizeof *look);
  if (!rc && !look) segue__errorf(&r->io.error, UV_ENOMEM, "segue.resolve: out of memory");
  for (size_t i = 0; look && i < names.count && i < ADDRESSES_MAX; i++)
    snprintf(look->addresses[look->count++], INET6_ADDRSTRLEN, "%s", names.items[i]);
  r->look = look;
  segue__names_deinit(&names);
  segue__io_finish(&r->io);
}

static void resolve_start(segue__io *io) {
  resolve *r = resolve_of(io);
  if (io->async_io->fake_io) {
    ask_stand_in(r, io->async_io->fake_io);
    return;
  }
  int rc = resolve_launch(r);
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
                  r->name, THREADS_MAX);
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

static int resolve_push(lua_State *co, segue__io *io) {
  resolve *r = resolve_of(io);
  if (io->error.code) return segue__io_push_error(co, io);
  lua_createtable(co, (int)r->look->count, 0);
  for (size_t i = 0; i < r->look->count; i++) {
    lua_pushstring(co, r->look->addresses[i]);
    lua_rawseti(co, -2, (int)i + 1);
  }
  return 1;
}

/* The result is freed with its owner. */
static void resolve_release(segue__io *io) {
  resolve *r = resolve_of(io);
  if (r->look) look_free(r->look);
  segue__free(r->name);
}

static bool resolve_key(const segue__io *io, segue__buf *out) {
  segue__buf_adds(out, ((const resolve *)io)->name);
  return true;
}

static const segue__io_kind kind = {"segue.resolve", sizeof(resolve), resolve_start, resolve_push,
                                    resolve_stop,    resolve_release, resolve_key};

/* resolve(name, limit ms) -> io. One event: a list of addresses; or nil, message, code. */
static int new_resolve(lua_State *L) {
  lua_settop(L, 2);
  luaL_checkstring(L, 1);
  resolve *r = segue__io_new(L, &kind);
  r->name = segue__arg_text(&r->io, L, 1);
  r->limit_ms = segue__arg_number(L, 2);
  return 1;
}

void segue__resolve_open(lua_State *L) {
  lua_pushcfunction(L, new_resolve);
  lua_setfield(L, -2, "resolve");
}
