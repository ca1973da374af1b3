/* SPDX-License-Identifier: MIT
 *
 * segue.trigger: tasks that ask for reloads, alive from the moment their policy is live until
 * another one is. A task that ends with an error begins again, later each time; so does one whose
 * state had to be built again. The request for a reload reaches the engine through the loop, never
 * from within Lua.
 */
#include <stdio.h>
#include <string.h>

#include "../runtime/task.h"
#include "policy.h"

enum { AGAIN_MS = 1000, AGAIN_MAX_MS = 60000, CAUSE_BYTES = 256 };

typedef struct watcher {
  int refs; /* the set's, and of each fire function that is left */
  segue__loaded *loaded;
  size_t index;
  segue__task *task;
  segue__timer again;
  segue__message message;
  bool posted;
  bool on; /* false: the policy is not live any more */
  uint64_t delay_ms, started_ms;
  char cause[CAUSE_BYTES];
} watcher;

struct segue__watchers {
  void (*fire)(void *data, const char *cause);
  void *data;
  size_t count;
  watcher *items[];
};

static const char metatable[] = "segue.fire";

static void trigger_unref(watcher *w) {
  if (--w->refs == 0) segue__free(w);
}

/* ---- fire ------------------------------------------------------------------------------------ */

static void trigger_fired(segue__message *message) {
  watcher *w = (watcher *)((char *)message - offsetof(watcher, message));
  w->posted = false;
  if (w->on) {
    const segue__watchers *set = w->loaded->watchers;
    set->fire(set->data, w->cause);
  }
  trigger_unref(w);
}

/* fire(cause): several within one turn of the loop are one, the last. */
static int trigger_fire(lua_State *L) {
  watcher **box = lua_touserdata(L, lua_upvalueindex(1)), *w = *box;
  const char *cause = luaL_optstring(L, 1, "a trigger of the policy");
  if (!w || !w->on) return 0;
  snprintf(w->cause, sizeof w->cause, "%s", cause);
  if (w->posted) return 0;
  w->posted = true;
  w->refs++;
  w->message.fn = trigger_fired;
  segue__post(w->loaded->loader->loop, &w->message);
  return 0;
}

static int trigger_collect(lua_State *L) {
  watcher **box = lua_touserdata(L, 1);
  if (*box) trigger_unref(*box);
  *box = NULL;
  return 0;
}

static void push_fire(lua_State *L, watcher *w) {
  watcher **box = lua_newuserdata(L, sizeof(watcher *));
  *box = NULL;
  if (luaL_newmetatable(L, metatable)) {
    lua_pushcfunction(L, trigger_collect);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  *box = w;
  w->refs++;
  lua_pushcclosure(L, trigger_fire, 1);
}

/* ---- The tasks ------------------------------------------------------------------------------- */

static void trigger_start(watcher *w);

static void trigger_restart(segue__timer *timer) {
  trigger_start(timer->data);
}

static void start_again(watcher *w, const segue_error *err) {
  segue__lua_loader *loader = w->loaded->loader;
  char text[1024];
  if (segue__loop_now_ms(loader->loop) - w->started_ms > AGAIN_MAX_MS) w->delay_ms = 0;
  w->delay_ms = w->delay_ms ? w->delay_ms * 2 : AGAIN_MS;
  if (w->delay_ms > AGAIN_MAX_MS) w->delay_ms = AGAIN_MAX_MS;
  segue_error_format(err, text, sizeof text);
  SEGUE__LOG(loader->log, SEGUE_WARN, "trigger", "a trigger of the policy failed",
             SEGUE__FIELD("error", text), SEGUE__FIELD("again_ms", w->delay_ms));
  segue__timer_start(loader->loop, &w->again, w->delay_ms, trigger_restart);
}

static int trigger_begin(lua_State *co, void *data, segue_error *err) {
  watcher *w = data;
  (void)err;
  lua_rawgeti(co, LUA_REGISTRYINDEX, w->loaded->trigger_fns[w->index]);
  push_fire(co, w);
  return 1;
}

static void trigger_done(void *data, int status, const segue_error *err) {
  watcher *w = data;
  if (w->on && status) start_again(w, err);
  if (w->on && !status)
    SEGUE__LOG(w->loaded->loader->log, SEGUE_INFO, "trigger", "a trigger of the policy has ended");
}

static void trigger_start(watcher *w) {
  segue__loaded *loaded = w->loaded;
  segue_error err;
  w->started_ms = segue__loop_now_ms(loaded->loader->loop);
  int rc = segue__loaded_repair(loaded, &err);
  if (!rc && w->index >= loaded->trigger_count)
    rc = segue__errorf(&err, SEGUE_EPOLICY, "it did not exist when the policy was built again");
  if (rc) {
    start_again(w, &err);
    return;
  }
  segue__task_options options = {.name = "segue.trigger",
                                 .slice_cpu_ms = loaded->loader->options.slice_cpu_ms,
                                 .begin = trigger_begin,
                                 .done = trigger_done,
                                 .data = w,
                                 .slot = &w->task};
  segue__task_start(loaded->lua, &options);
}

static watcher *watcher_new(segue__loaded *loaded, size_t index) {
  watcher *w = segue__calloc(1, sizeof *w);
  if (!w) return NULL;
  w->refs = 1;
  w->loaded = loaded;
  w->index = index;
  w->on = true;
  w->again.data = w;
  return w;
}

void segue__watchers_start(void *impl, void (*fire_cb)(void *data, const char *cause), void *data) {
  segue__loaded *loaded = impl;
  size_t count = loaded->trigger_count;
  if (!count || loaded->watchers) return;
  segue__watchers *set = segue__calloc(1, sizeof *set + count * sizeof set->items[0]);
  if (!set) {
    SEGUE__LOG(loaded->loader->log, SEGUE_ERROR, "trigger", "no memory for the policy's triggers");
    return;
  }
  *set = (segue__watchers){fire_cb, data, 0};
  loaded->watchers = set;
  for (size_t i = 0; i < count; i++) {
    watcher *w = watcher_new(loaded, i);
    if (w) set->items[set->count++] = w;
  }
  for (size_t i = 0; i < set->count; i++)
    segue__timer_start(loaded->loader->loop, &set->items[i]->again, 0, trigger_restart);
}

void segue__watchers_stop(void *impl) {
  segue__loaded *loaded = impl;
  segue__watchers *set = loaded->watchers;
  if (!set) return;
  for (size_t i = 0; i < set->count; i++) {
    watcher *w = set->items[i];
    w->on = false;
    segue__timer_stop(loaded->loader->loop, &w->again);
    segue__task_cancel(w->task);
  }
  loaded->watchers = NULL;
  for (size_t i = 0; i < set->count; i++)
    trigger_unref(set->items[i]);
  segue__free(set);
}

/* ---- Loading --------------------------------------------------------------------------------- */

/* The functions of the table that the policy returned, at index, in their order. */
int segue__watchers_take(lua_State *L, int index, segue__loaded *loaded) {
  lua_pushliteral(L, "triggers");
  lua_rawget(L, index);
  size_t all = lua_istable(L, -1) ? lua_objlen(L, -1) : 0;
  segue__free(loaded->trigger_fns);
  loaded->trigger_count = 0;
  loaded->trigger_fns = all ? segue__calloc(all, sizeof *loaded->trigger_fns) : NULL;
  if (all && !loaded->trigger_fns) return UV_ENOMEM;
  for (size_t i = 1; i <= all; i++) {
    lua_rawgeti(L, -1, (int)i);
    lua_pushliteral(L, "call");
    lua_rawget(L, -2);
    if (lua_isfunction(L, -1))
      loaded->trigger_fns[loaded->trigger_count++] = segue__lua_ref(segue__lua_of(L), L);
    else
      lua_pop(L, 1);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return 0;
}
