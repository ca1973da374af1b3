/* SPDX-License-Identifier: MIT
 *
 * The life of a segue__io between Lua, its task and the operation itself, and the close of a
 * segue__async_io, which waits for commands.
 *
 * Four sides may use an io: the userdata in Lua (box), the operation (alive), a message to the loop
 * (posted), and a task that waits for an event (wait.task). Each may end first. free_if_over is
 * called when any of them ends, and the last one frees it.
 */
#include "async_io.h"

#include <string.h>

#include "keys.h"

/* ---- The operations of one loader ------------------------------------------------------------ */

static segue__async_io *owner_of(segue__turns *turns) {
  return (segue__async_io *)((char *)turns - offsetof(segue__async_io, turns));
}

static void turn_begins(segue__turns *turns) {
  segue__async_io_hold(owner_of(turns));
}

static void turn_ends(segue__turns *turns) {
  segue__async_io_release(owner_of(turns));
}

int segue__async_io_new(segue__async_io **out, segue__loop *loop, const segue__logger *log) {
  *out = segue__calloc(1, sizeof **out);
  if (!*out) return UV_ENOMEM;
  (*out)->loop = loop;
  (*out)->log = log;
  (*out)->turns = (segue__turns){.loop = loop, .begin = turn_begins, .end = turn_ends};
  return 0;
}

/* Threads of name look-ups may outlive the loop. They post their results only while `loop` is set,
 * and read it under this lock. */
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

static void io_finish(segue__async_io *async_io) {
  void (*cb)(void *) = async_io->closed_cb;
  void *data = async_io->closed_data;
  bridge_close(async_io->bridge);
  segue__free(async_io);
  if (cb) cb(data);
}

static void fetcher_closed(void *data) {
  io_finish(data);
}

static void close_if_idle(segue__async_io *async_io) {
  if (!async_io->closing || async_io->open) return;
  segue__fetcher *fetcher = async_io->fetcher;
  async_io->fetcher = NULL;
  segue__fetcher_close(fetcher, fetcher_closed, async_io);
}

void segue__async_io_close(segue__async_io *async_io, void (*cb)(void *data), void *data) {
  if (!async_io) {
    if (cb) cb(data);
    return;
  }
  async_io->closing = true;
  async_io->closed_cb = cb;
  async_io->closed_data = data;
  close_if_idle(async_io);
}

void segue__async_io_hold(segue__async_io *async_io) {
  async_io->open++;
}

void segue__async_io_release(segue__async_io *async_io) {
  async_io->open--;
  close_if_idle(async_io);
}

static int io_collect(lua_State *L);

/* Lua: stop(io): ends it, as the collector would later. */
static int io_stop_now(lua_State *L) {
  luaL_checktype(L, 1, LUA_TUSERDATA);
  return io_collect(L);
}

void segue__io_open(lua_State *L) {
  lua_pushcfunction(L, io_stop_now);
  lua_setfield(L, -2, "stop");
  segue__run_open(L);
  segue__fetch_open(L);
  segue__files_open(L);
  segue__resolve_open(L);
  segue__connect_open(L);
  segue__keys_open(L);
}

/* ---- One operation --------------------------------------------------------------------------- */

static void io_discharge(segue__io *io) {
  if (io->lua) segue__lua_discharge(io->lua, io->charged);
  io->charged = 0;
}

static void free_if_over(segue__io *io) {
  if (io->box || io->alive || io->posted || io->wait.task) return;
  segue__free(io->recalled);
  io->kind->free(io);
  segue__free(io);
}

static void io_stop(segue__io *io) {
  if (!io->alive || io->stopped) return;
  bool posted = io->posted;
  io->stopped = true;
  io->posted = true; /* it may end inside `start`; the caller still uses it */
  if (io->recalled) {
    segue__timer_stop(io->async_io->loop, &io->recalled->timer);
    segue__io_end(io);
  } else {
    io->kind->stop(io);
  }
  io->posted = posted;
}

/* Releases the side of Lua. */
static void io_release(segue__io *io) {
  if (!io->box) return;
  segue__io_unanswered(io);
  io_discharge(io);
  *io->box = NULL;
  io->box = NULL;
  io->lua = NULL;
}

static int io_push_recalled(lua_State *co, segue__io *io) {
  const segue__fake_io *fake_io = io->async_io->fake_io;
  segue__recalled *r = io->recalled;
  if (io->error.code) return segue__io_push_error(co, io);
  int n = fake_io->push_recalled(fake_io->recall_data, r, co);
  r->pushed++;
  io->ready = r->pushed < r->count;
  return n;
}

static int push_event(lua_State *co, void *data) {
  segue__io *io = data;
  io->ready = false;
  int n = io->recalled ? io_push_recalled(co, io) : io->kind->push(co, io);
  segue__io_note(io, co, n);
  if (io->over && !io->ready) {
    segue__io_answered(io);
    io_release(io); /* the collector has nothing to do */
  }
  return n;
}

/* Resumes the task; io stays alive meanwhile. */
static void io_hand_over(segue__io *io) {
  bool posted = io->posted;
  io->posted = true;
  segue__wait_end(&io->wait, push_event, io);
  io->posted = posted;
  free_if_over(io);
}

static void io_deliver(segue__message *message) {
  segue__io *io = (segue__io *)((char *)message - offsetof(segue__io, message));
  io->posted = false;
  if (io->ready && io->wait.task)
    io_hand_over(io);
  else
    free_if_over(io);
}

/* While `start` runs the task has not yielded yet, so it cannot be resumed: an event that comes
 * inside `start` is delivered by a message. */
void segue__io_ready(segue__io *io) {
  io->ready = true;
  if (!io->wait.task) return;
  if (!io->starting) {
    io_hand_over(io);
  } else if (!io->posted) { /* the task has just yielded */
    io->posted = true;
    io->message.fn = io_deliver;
    segue__post(io->async_io->loop, &io->message);
  }
}

void segue__io_begin(segue__io *io, bool counted) {
  io->alive = true;
  io->counted = counted;
  if (counted) segue__async_io_hold(io->async_io);
}

void segue__io_end(segue__io *io) {
  segue__async_io *async_io = io->async_io;
  bool counted = io->counted;
  io->alive = io->counted = false;
  free_if_over(io);
  if (!counted) return;
  segue__async_io_release(async_io);
}

void segue__io_finish(segue__io *io) {
  bool alive = io->alive;
  io->stopped = io->over = true;
  segue__io_ready(io); /* the task may release io, but an io that is alive is not freed */
  if (alive) segue__io_end(io);
}

bool segue__io_charge(segue__io *io, size_t bytes) {
  segue__lua *lua = io->lua;
  if (!lua) return false;
  if (!segue__lua_charge(lua, bytes)) {
    segue__errorf(&io->error, SEGUE_ELIMIT,
                  "%s would need more than the %s's %zu MiB of memory: keep less at once",
                  io->kind->metatable, lua->owner ? "module" : "policy", lua->bytes_max >> 20);
    return false;
  }
  io->charged += bytes;
  return true;
}

/* Called by the task after it has yielded, and only the first time: a streaming operation is waited
 * for again for each event. */
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
  io_stop(io);
  free_if_over(io);
}

/* Lua: next(io) -> event. The first call starts the operation. */
static int io_next(lua_State *L) {
  segue__io **box = lua_touserdata(L, 1);
  segue__io *io = box ? *box : NULL;
  if (!io) return luaL_error(L, "this operation has ended");
  if (io->ready) {
    int n = push_event(L, io);
    free_if_over(io);
    return n;
  }
  segue__wait_check(L, io->kind->metatable);
  if (io->wait.task) return luaL_error(L, "%s is waited for by another task", io->kind->metatable);
  if (io->over) return luaL_error(L, "%s: this operation has ended", io->kind->metatable);
  io->wait.start = start_io;
  io->wait.cancel = cancel_io;
  return segue__wait_begin(L, &io->wait, io->kind->metatable);
}

/* ---- The userdata ---------------------------------------------------------------------------- */

/* Lua does not use the operation any more, so it is stopped: a command that no task waits for must
 * not run on. */
static int io_collect(lua_State *L) {
  segue__io **box = lua_touserdata(L, 1), *io = *box;
  if (!io) return 0;
  io_release(io);
  io_stop(io);
  free_if_over(io);
  return 0;
}

static int io_to_string(lua_State *L) {
  segue__io **box = lua_touserdata(L, 1);
  lua_pushstring(L, *box ? (*box)->kind->metatable : "an operation that has ended");
  return 1;
}

static void push_metatable(lua_State *L, const segue__io_kind *kind) {
  if (!luaL_newmetatable(L, kind->metatable)) return;
  lua_pushcfunction(L, io_collect);
  lua_setfield(L, -2, "__gc");
  lua_pushcfunction(L, io_to_string);
  lua_setfield(L, -2, "__tostring");
  lua_pushcfunction(L, io_next);
  lua_setfield(L, -2, "__call");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
}

/* Charges the copied arguments too: a thousand tasks may each hold a copy of one long text. */
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
    return NULL; /* not reached: the call above raised an error */
  }
  io->kind = kind;
  io->lua = segue__lua_of(L);
  io->async_io = io->lua->async_io;
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

void segue__texts_free(char **texts) {
  for (char **text = texts; text && *text; text++)
    segue__free(*text);
  segue__free(texts);
}

/* The length operator may return 2^30 for a table with few items, so the items are counted. */
static size_t io_count_texts(segue__io *io, lua_State *L, int index) {
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
  size_t count = io_count_texts(io, L, index);
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

char *segue__policy_path(const segue__program *program, const char *path) {
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
  return NULL;
}

char *segue__arg_path(segue__io *io, lua_State *L, int index) {
  size_t len;
  const char *path = luaL_checklstring(L, index, &len);
  charge_argument(io, L, len);
  char *whole = segue__policy_path(segue__lua_of(L)->program, path);
  if (!whole) luaL_error(L, "out of memory");
  return whole;
}
