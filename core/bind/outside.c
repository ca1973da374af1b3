/* SPDX-License-Identifier: MIT
 *
 * The life of a segue__io between Lua, its task and the outside, and what a loader has to wait for
 * at its end.
 */
#include "outside.h"

#include <string.h>

/* ---- What a loader has outside --------------------------------------------------------------- */

int segue__outside_new(segue__outside **out, segue__loop *loop, const segue__log *log) {
  *out = segue__calloc(1, sizeof **out);
  if (!*out) return UV_ENOMEM;
  (*out)->loop = loop;
  (*out)->log = log;
  return 0;
}

static void bridge_close(segue__bridge *bridge) {
  if (!bridge) return;
  pthread_mutex_lock(&bridge->mutex);
  bridge->loop = NULL;
  bool last = --bridge->refs == 0;
  pthread_mutex_unlock(&bridge->mutex);
  if (!last) return;
  pthread_mutex_destroy(&bridge->mutex);
  segue__free(bridge);
}

static void finish(segue__outside *outside) {
  void (*cb)(void *) = outside->closed_cb;
  void *data = outside->closed_data;
  bridge_close(outside->bridge);
  segue__free(outside);
  if (cb) cb(data);
}

static void fetcher_closed(void *data) {
  finish(data);
}

static void close_if_idle(segue__outside *outside) {
  if (!outside->closing || outside->open) return;
  segue__fetcher *fetcher = outside->fetcher;
  outside->fetcher = NULL;
  segue__fetcher_close(fetcher, fetcher_closed, outside);
}

void segue__outside_close(segue__outside *outside, void (*cb)(void *data), void *data) {
  if (!outside) {
    if (cb) cb(data);
    return;
  }
  outside->closing = true;
  outside->closed_cb = cb;
  outside->closed_data = data;
  close_if_idle(outside);
}

void segue__outside_hold(segue__outside *outside) {
  outside->open++;
}

void segue__outside_release(segue__outside *outside) {
  outside->open--;
  close_if_idle(outside);
}

/* ---- One operation --------------------------------------------------------------------------- */

static void discharge(segue__io *io) {
  if (io->lua) segue__lua_discharge(io->lua, io->charged);
  io->charged = 0;
}

static void free_if_over(segue__io *io) {
  if (io->box || io->alive || io->posted || io->wait.task) return;
  segue__free(io->recalled);
  io->kind->free(io);
  segue__free(io);
}

static void stop(segue__io *io) {
  if (!io->alive || io->stopped) return;
  bool posted = io->posted;
  io->stopped = true;
  io->posted = true; /* it may end at once, but the caller still holds it */
  if (io->recalled) {
    segue__timer_stop(io->outside->loop, &io->recalled->timer);
    segue__io_end(io);
  } else {
    io->kind->stop(io);
  }
  io->posted = posted;
}

/* Lua has no more to do with it. */
static void let_go(segue__io *io) {
  if (!io->box) return;
  segue__io_unanswered(io);
  discharge(io);
  *io->box = NULL;
  io->box = NULL;
  io->lua = NULL;
}

static int push_recalled(lua_State *co, segue__io *io) {
  const segue__stand_in *stand_in = io->outside->stand_in;
  segue__recalled *r = io->recalled;
  if (io->error.code) return segue__io_push_error(co, io);
  int n = stand_in->push_recalled(stand_in->recall_data, r, co);
  r->pushed++;
  io->ready = r->pushed < r->count;
  return n;
}

static int push_event(lua_State *co, void *data) {
  segue__io *io = data;
  io->ready = false;
  int n = io->recalled ? push_recalled(co, io) : io->kind->push(co, io);
  segue__io_note(io, co, n);
  if (io->over && !io->ready) {
    segue__io_answered(io);
    let_go(io); /* nothing of it waits for the collector */
  }
  return n;
}

/* Resumes the task; io is held meanwhile. */
static void hand_over(segue__io *io) {
  bool posted = io->posted;
  io->posted = true;
  segue__wait_end(&io->wait, push_event, io);
  io->posted = posted;
  free_if_over(io);
}

static void deliver(segue__message *message) {
  segue__io *io = (segue__io *)((char *)message - offsetof(segue__io, message));
  io->posted = false;
  if (io->ready && io->wait.task)
    hand_over(io);
  else
    free_if_over(io);
}

void segue__io_ready(segue__io *io) {
  io->ready = true;
  if (!io->wait.task) return;
  if (!io->starting) {
    hand_over(io);
  } else if (!io->posted) { /* the task has only just been left */
    io->posted = true;
    io->message.fn = deliver;
    segue__post(io->outside->loop, &io->message);
  }
}

void segue__io_begin(segue__io *io, bool counted) {
  io->alive = true;
  io->counted = counted;
  if (counted) segue__outside_hold(io->outside);
}

void segue__io_end(segue__io *io) {
  segue__outside *outside = io->outside;
  bool counted = io->counted;
  io->alive = io->counted = false;
  free_if_over(io);
  if (!counted) return;
  segue__outside_release(outside);
}

void segue__io_finish(segue__io *io) {
  bool alive = io->alive;
  io->stopped = io->over = true;
  segue__io_ready(io); /* an io that is alive is not freed by what Lua does now */
  if (alive) segue__io_end(io);
}

bool segue__io_charge(segue__io *io, size_t bytes) {
  segue__lua *lua = io->lua;
  if (!lua) return false;
  if (!segue__lua_charge(lua, bytes)) {
    segue__error_set(&io->error, SEGUE_ELIMIT,
                     "%s would need more than the %s's %zu MiB of memory: keep less at once",
                     io->kind->metatable, lua->owner ? "module" : "policy", lua->bytes_max >> 20);
    return false;
  }
  io->charged += bytes;
  return true;
}

static void start_io(segue__wait *wait) {
  segue__io *io = (segue__io *)wait; /* its first member */
  if (io->started) return;
  io->started = io->starting = true;
  segue__io_ask(io);
  if (!segue__io_recall(io)) io->kind->start(io);
  io->starting = false;
}

static void cancel_io(segue__wait *wait) {
  segue__io *io = (segue__io *)wait;
  segue__io_unanswered(io);
  stop(io);
  free_if_over(io);
}

int segue__io_next(lua_State *L) {
  segue__io **box = lua_touserdata(L, 1);
  segue__io *io = box ? *box : NULL;
  if (!io) return luaL_error(L, "this operation is over");
  if (io->ready) {
    int n = push_event(L, io);
    free_if_over(io);
    return n;
  }
  segue__wait_check(L, io->kind->metatable);
  if (io->wait.task) return luaL_error(L, "%s is waited for by another task", io->kind->metatable);
  if (io->over) return luaL_error(L, "%s: this operation is over", io->kind->metatable);
  io->wait.start = start_io;
  io->wait.cancel = cancel_io;
  return segue__wait_begin(L, &io->wait, io->kind->metatable);
}

/* ---- The userdata ---------------------------------------------------------------------------- */

static int collect(lua_State *L) {
  segue__io **box = lua_touserdata(L, 1), *io = *box;
  if (!io) return 0;
  let_go(io);
  stop(io);
  free_if_over(io);
  return 0;
}

static int to_string(lua_State *L) {
  segue__io **box = lua_touserdata(L, 1);
  lua_pushstring(L, *box ? (*box)->kind->metatable : "an operation that is over");
  return 1;
}

static void push_metatable(lua_State *L, const segue__io_kind *kind) {
  if (!luaL_newmetatable(L, kind->metatable)) return;
  lua_pushcfunction(L, collect);
  lua_setfield(L, -2, "__gc");
  lua_pushcfunction(L, to_string);
  lua_setfield(L, -2, "__tostring");
  lua_pushcfunction(L, segue__io_next);
  lua_setfield(L, -2, "__call");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
}

/* Charges the copied arguments of an operation too: a thousand tasks may each hold a copy of one
 * long text. */
static void charge_argument(segue__io *io, lua_State *L, size_t bytes) {
  if (!segue__io_charge(io, bytes)) luaL_error(L, "%s", io->error.message);
}

void *segue__io_new(lua_State *L, const segue__io_kind *kind) {
  segue__io **box = lua_newuserdata(L, sizeof(segue__io *));
  *box = NULL;
  push_metatable(L, kind);
  lua_setmetatable(L, -2);
  segue__io *io = segue__calloc(1, kind->size);
  if (!io) {
    luaL_error(L, "%s: out of memory", kind->metatable);
    return NULL; /* never: it has raised */
  }
  io->kind = kind;
  io->lua = segue__lua_of(L);
  io->outside = io->lua->outside;
  io->box = box;
  *box = io;
  charge_argument(io, L, kind->size);
  return io;
}

int segue__io_push_error(lua_State *co, const segue__io *io) {
  lua_pushnil(co);
  lua_pushstring(co, io->error.message);
  lua_pushstring(co, segue_error_name(io->error.code));
  return 3;
}

/* ---- Arguments ------------------------------------------------------------------------------- */

char *segue__arg_bytes(segue__io *io, lua_State *L, int index, size_t *len) {
  *len = 0;
  if (lua_isnoneornil(L, index)) return NULL;
  const char *text = luaL_checklstring(L, index, len);
  charge_argument(io, L, *len);
  char *copy = segue__strndup(text, *len);
  if (!copy) luaL_error(L, "out of memory");
  return copy;
}

char *segue__arg_text(segue__io *io, lua_State *L, int index) {
  size_t len;
  return segue__arg_bytes(io, L, index, &len);
}

uint64_t segue__arg_number(lua_State *L, int index) {
  lua_Number n = luaL_optnumber(L, index, 0);
  if (!(n >= 0 && n <= 9007199254740992.0)) luaL_argerror(L, index, "a number is out of range");
  return (uint64_t)n;
}

void segue__texts_free(char **texts) {
  for (char **text = texts; text && *text; text++)
    segue__free(*text);
  segue__free(texts);
}

/* The length operator may return 2^30 for a table with few items, so the items are counted. */
static size_t count_texts(segue__io *io, lua_State *L, int index) {
  size_t count = 0, bytes = sizeof(char *), len;
  for (;; count++) {
    lua_rawgeti(L, index, (int)count + 1);
    bool text = lua_type(L, -1) == LUA_TSTRING;
    len = text ? lua_objlen(L, -1) : 0;
    lua_pop(L, 1);
    if (!text) break;
    bytes += sizeof(char *) + len;
  }
  if (count != lua_objlen(L, index)) luaL_error(L, "a list of texts is expected");
  charge_argument(io, L, bytes);
  return count;
}

char **segue__arg_texts(segue__io *io, lua_State *L, int index) {
  if (lua_isnoneornil(L, index)) return NULL;
  luaL_checktype(L, index, LUA_TTABLE);
  size_t count = count_texts(io, L, index);
  char **texts = segue__calloc(count + 1, sizeof *texts);
  bool bad = !texts;
  for (size_t i = 0; i < count && !bad; i++) {
    lua_rawgeti(L, index, (int)i + 1);
    texts[i] = segue__strdup(lua_tostring(L, -1));
    bad = !texts[i];
    lua_pop(L, 1);
  }
  if (!bad) return texts;
  segue__texts_free(texts);
  luaL_error(L, "out of memory");
  return NULL;
}

char *segue__arg_path(segue__io *io, lua_State *L, int index) {
  size_t len;
  const char *path = luaL_checklstring(L, index, &len);
  charge_argument(io, L, len);
  const segue__program *program = segue__lua_of(L)->program;
  const char *folder = program && program->folder ? program->folder : "";
  segue__buf b;
  segue__buf_init(&b);
  if (*path != '/' && *folder) {
    segue__buf_adds(&b, folder);
    if (strcmp(folder, "/") != 0) segue__buf_addc(&b, '/');
  }
  segue__buf_adds(&b, path);
  if (!b.failed) return b.data;
  segue__buf_deinit(&b);
  luaL_error(L, "out of memory");
  return NULL;
}
