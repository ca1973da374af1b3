/* SPDX-License-Identifier: MIT
 *
 * Tasks: starting, waiting, resuming and ending coroutines. A task ends in one place (end), and a
 * task whose coroutine is running is only marked, because its stack is in use.
 */
#include "task.h"

#include <string.h>

struct segue__task {
  segue__lua *lua;
  lua_State *co;
  int ref; /* of the coroutine */
  segue__task_options options;
  segue__timer limit;
  segue__wait *wait;
  bool running, over;
  bool returned;       /* without an error: its coroutine can serve another task */
  segue__task *parent; /* it ends with this one at the latest */
  size_t children;
  int status;
  segue__task *prev, *next;
  segue_error error; /* last: large, and not cleared */
};

static char owned_key; /* registry: weak set of all tasks' coroutines */

struct step {
  segue__task *task;
  segue__wait_push push;
  void *data;
  bool first, again; /* again: it waits for something new */
};

static void resume(segue__task *task, segue__wait_push push, void *data, bool first);

static void link_task(segue__task *task) {
  segue__lua *lua = task->lua;
  task->next = lua->tasks;
  if (lua->tasks) lua->tasks->prev = task;
  lua->tasks = task;
}

static void unlink_task(segue__task *task) {
  if (task->prev)
    task->prev->next = task->next;
  else
    task->lua->tasks = task->next;
  if (task->next) task->next->prev = task->prev;
}

static void fail_cancelled(segue__task *task);

enum { SPARES_MAX = 256 };

static segue__task *acquire(segue__lua *lua, const segue__task_options *options) {
  segue__task *task = options->recycles ? lua->spares : NULL;
  lua_State *co = NULL;
  int ref = LUA_NOREF;
  if (task) {
    lua->spares = task->next;
    lua->spare_count--;
    co = task->co;
    ref = task->ref;
    memset(task, 0, offsetof(segue__task, error));
    task->error.code = 0;
    lua->refs++;
  } else if (!(task = segue__calloc(1, sizeof *task))) {
    return NULL;
  }
  task->lua = lua;
  task->co = co;
  task->ref = ref;
  task->options = *options;
  task->limit.data = task;
  return task;
}

/* For the next one. Its state is in a call. */
static void spare(segue__task *task) {
  segue__lua *lua = task->lua;
  if (lua->spare_count >= SPARES_MAX || lua->closing || segue__lua_is_broken(lua)) {
    segue__lua_unref(lua, task->ref);
    segue__free(task);
    return;
  }
  lua_settop(task->co, 0);
  task->next = lua->spares;
  lua->spares = task;
  lua->spare_count++;
  lua->refs--; /* it is nobody's */
}

void segue__tasks_free_spares(segue__lua *lua) {
  while (lua->spares) {
    segue__task *next = lua->spares->next;
    segue__free(lua->spares);
    lua->spares = next;
  }
  lua->spare_count = 0;
}

static void let_go(segue__task *task) {
  for (segue__task *child = task->lua->tasks; child && task->children; child = child->next) {
    if (child->parent != task) continue;
    child->parent = NULL;
    task->children--;
  }
}

static void cancel_children(segue__task *task) {
  while (task->children) {
    segue__task *child = task->lua->tasks;
    while (child->parent != task)
      child = child->next;
    child->parent = NULL;
    task->children--;
    segue__task_cancel(child);
  }
}

/* The only end of a task. */
static void end(segue__task *task) {
  segue__lua *lua = task->lua;
  segue__wait *wait = task->wait;
  segue__timer_stop(lua->loop, &task->limit);
  task->wait = NULL;
  if (wait) {
    wait->task = NULL;
    wait->cancel(wait);
  }
  if (task->options.frees_children) let_go(task);
  cancel_children(task);
  if (task->parent) task->parent->children--;
  unlink_task(task);
  if (!task->returned) segue__lua_unref(lua, task->ref);
  if (task->options.slot) *task->options.slot = NULL;
  task->options.done(task->options.data, task->status, &task->error);
  if (task->returned)
    spare(task);
  else
    segue__free(task);
}

static void fail(segue__task *task, int status) {
  task->status = status;
  end(task);
}

/* Where another call spoiled the state for all, that one is told. */
static void fail_cancelled(segue__task *task) {
  const segue_error *fatal = &task->lua->fatal;
  segue__error_set(&task->error, SEGUE_ECANCELLED, "%s was cancelled%s%.400s", task->options.name,
                   fatal->code ? ": " : "", fatal->message);
  if (fatal->code) segue__error_at(&task->error, fatal->file, fatal->line, 0);
  fail(task, SEGUE_ECANCELLED);
}

static void limit_passed(segue__timer *timer) {
  segue__task *task = timer->data;
  segue__place place = {"", 0};
  segue__lua_place(task->lua, task->co, 0, &place);
  segue__error_set(&task->error, SEGUE_ETIMEOUT,
                   "%s took longer than %llu ms; it was waiting for %s", task->options.name,
                   (unsigned long long)task->options.limit_ms,
                   task->wait ? task->wait->what : "nothing");
  segue__error_at(&task->error, place.file, place.line, 0);
  fail(task, SEGUE_ETIMEOUT);
}

static void own(lua_State *L) { /* the coroutine on top of L is a task's */
  lua_pushlightuserdata(L, &owned_key);
  lua_rawget(L, LUA_REGISTRYINDEX);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "k");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_pushlightuserdata(L, &owned_key);
    lua_pushvalue(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX);
  }
  lua_pushvalue(L, -2);
  lua_pushboolean(L, 1);
  lua_rawset(L, -3);
  lua_pop(L, 1);
}

bool segue__task_owns(lua_State *L, lua_State *co) {
  lua_pushlightuserdata(L, &owned_key);
  lua_rawget(L, LUA_REGISTRYINDEX);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    return false;
  }
  lua_pushthread(co);
  if (co != L) lua_xmove(co, L, 1);
  lua_rawget(L, -2);
  bool owned = lua_toboolean(L, -1);
  lua_pop(L, 2);
  return owned;
}

void segue__task_start(segue__lua *lua, const segue__task_options *options) {
  segue__task *task = acquire(lua, options);
  if (!task) {
    segue_error err;
    segue__error_set(&err, UV_ENOMEM, "%s: out of memory", options->name);
    options->done(options->data, UV_ENOMEM, &err);
    return;
  }
  link_task(task);
  if (options->slot) *options->slot = task;
  if (options->limit_ms &&
      segue__timer_start(lua->loop, &task->limit, options->limit_ms, limit_passed)) {
    segue__error_set(&task->error, UV_ENOMEM, "%s: out of memory", options->name);
    fail(task, UV_ENOMEM);
    return;
  }
  resume(task, NULL, NULL, true);
}

static void start_now(segue__timer *timer) {
  segue__task *task = timer->data;
  uint64_t ms = task->options.limit_ms;
  if (ms && segue__timer_start(task->lua->loop, timer, ms, limit_passed))
    fail(task, segue__error_set(&task->error, UV_ENOMEM, "%s: out of memory", task->options.name));
  else
    resume(task, NULL, NULL, true);
}

int segue__task_start_child(segue__lua *lua, const segue__task_options *options) {
  segue__task *task = acquire(lua, options);
  if (!task) return UV_ENOMEM;
  if (segue__timer_start(lua->loop, &task->limit, 0, start_now)) {
    segue__lua_unref(lua, task->ref);
    segue__free(task);
    return UV_ENOMEM;
  }
  link_task(task);
  task->parent = lua->current;
  if (task->parent) task->parent->children++;
  if (options->slot) *options->slot = task;
  return 0;
}

/* ---- Running --------------------------------------------------------------------------------- */

static int create(lua_State *L, segue__task *task) {
  if (!task->co) {
    lua_State *co = lua_newthread(L);
    own(L);
    task->ref = segue__lua_ref(task->lua, L);
    task->co = co;
  }
  return task->options.begin(task->co, task->options.data, &task->error);
}

static void note_traceback(lua_State *L, segue__task *task) {
  luaL_traceback(L, task->co, NULL, 0);
  segue__lua_log_traceback(task->lua, task->options.name, lua_tostring(L, -1));
  lua_pop(L, 1);
}

/* Errors of a coroutine are described from its stack, which is still as it was. */
static int describe(lua_State *L, segue__task *task, segue_error *err) {
  if (segue__lua_is_broken(task->lua)) return SEGUE_EPOLICY;
  lua_xmove(task->co, L, 1);
  int status = segue__lua_describe(L, lua_gettop(L), task->co, err);
  note_traceback(L, task);
  return status;
}

static int step_body(lua_State *L, void *data, segue_error *err) {
  struct step *step = data;
  segue__task *task = step->task;
  int n = 0;
  if (step->first) n = create(L, task);
  if (n < 0) {
    *err = task->error;
    return n;
  }
  lua_State *co = task->co;
  luaL_checkstack(co, LUA_MINSTACK, "a task");
  if (step->push) n = step->push(co, step->data);
  int rc = lua_resume(co, n);
  if (rc == LUA_YIELD) {
    step->again = task->wait != NULL;
    if (step->again || task->over) return 0;
    return segue__error_set(err, SEGUE_EPOLICY, "%s yielded where nothing is waited for",
                            task->options.name);
  }
  if (rc) return describe(L, task, err);
  int status =
      task->options.finish ? task->options.finish(co, lua_gettop(co), task->options.data, err) : 0;
  task->returned = task->options.recycles;
  if (!task->options.recycles) lua_settop(co, 0); /* or it would seem to be suspended */
  return status;
}

static void resume(segue__task *task, segue__wait_push push, void *data, bool first) {
  segue__lua *lua = task->lua;
  segue__task *outer = lua->current;
  struct step step = {task, push, data, first, false};
  lua->current = task;
  task->running = true;
  lua->depth++; /* the state must outlive this function */
  int status = segue__lua_call(lua, task->options.name, task->options.slice_cpu_ms, step_body,
                               &step, &task->error);
  task->running = false;
  lua->current = outer;
  if (task->over)
    fail_cancelled(task);
  else if (status || !step.again)
    fail(task, status);
  else if (task->wait->start)
    task->wait->start(task->wait);
  if (!--lua->depth && lua->closing) segue__lua_free(lua);
}

void segue__task_cancel(segue__task *task) {
  if (!task) return;
  if (task->running)
    task->over = true;
  else
    fail_cancelled(task);
}

static void cancel_now(segue__timer *timer) {
  fail_cancelled(timer->data);
}

void segue__task_cancel_soon(segue__task *task) {
  if (!task || task->over) return;
  task->over = true; /* nothing resumes it any more */
  if (task->running) return;
  /* A timer that is running has its place; one that is not and gets none waits for its event. */
  segue__timer_start(task->lua->loop, &task->limit, 0, cancel_now);
}

void segue__task_cancel_all(segue__lua *lua) {
  for (segue__task *task = lua->tasks; task;) {
    bool running = task->running;
    segue__task *next = task->next;
    segue__task_cancel(task);
    task = running ? next : lua->tasks; /* a cancelled one may have cancelled others */
  }
}

size_t segue__task_count(const segue__lua *lua) {
  size_t n = 0;
  for (const segue__task *task = lua->tasks; task; task = task->next)
    n++;
  return n;
}

size_t segue__task_bytes(void) {
  return sizeof(segue__task);
}

lua_State *segue__task_thread(const segue__task *task) {
  return task->co;
}

uint64_t segue__task_slice_ms(const segue__task *task) {
  return task->options.slice_cpu_ms;
}

/* ---- Waiting --------------------------------------------------------------------------------- */

/* Why the caller cannot wait; NULL: it can. */
static const char *cannot_wait(lua_State *L) {
  const segue__task *task = segue__lua_of(L)->current;
  bool module = segue__lua_of(L)->owner != NULL;
  if (!task && module)
    return "waits, and a module cannot wait while it is being loaded: use it in start or handle";
  if (!task) return "waits, and a policy cannot wait while it is being loaded: use it in a hook";
  if (task->co != L)
    return module ? "cannot wait inside a coroutine of the module's own"
                  : "cannot wait inside a coroutine of the policy's own";
  if (!lua_isyieldable(L))
    return "cannot wait here: it was called through a function that cannot be left, such as "
           "table.sort or string.gsub";
  return NULL;
}

bool segue__can_wait(lua_State *L) {
  return !cannot_wait(L);
}

void segue__wait_check(lua_State *L, const char *what) {
  const char *why = cannot_wait(L);
  if (why) luaL_error(L, "%s %s", what, why);
}

int segue__wait_begin(lua_State *L, segue__wait *wait, const char *what) {
  segue__task *task = segue__lua_of(L)->current;
  wait->task = task;
  wait->what = what;
  task->wait = wait;
  return lua_yield(L, 0);
}

void segue__wait_end(segue__wait *wait, segue__wait_push push, void *data) {
  segue__task *task = wait->task;
  wait->task = NULL;
  task->wait = NULL;
  if (task->over)
    fail_cancelled(task);
  else
    resume(task, push, data, false);
}

struct sleep {
  segue__wait wait;
  segue__timer timer;
  segue__loop *loop;
};

static void sleep_over(segue__timer *timer) {
  struct sleep *sleep = timer->data;
  segue__wait_end(&sleep->wait, NULL, NULL);
  segue__free(sleep);
}

static void sleep_cancel(segue__wait *wait) {
  struct sleep *sleep = (struct sleep *)wait; /* its first member */
  segue__timer_stop(sleep->loop, &sleep->timer);
  segue__free(sleep);
}

int segue__sleep(lua_State *L) {
  lua_Number ms = luaL_checknumber(L, 1);
  if (!(ms >= 0 && ms <= 1e13)) return luaL_error(L, "segue.sleep: the time is out of range");
  segue__wait_check(L, "segue.sleep");
  struct sleep *sleep = segue__calloc(1, sizeof *sleep);
  if (!sleep) return luaL_error(L, "segue.sleep: out of memory");
  sleep->loop = segue__lua_of(L)->loop;
  sleep->timer.data = sleep;
  if (segue__timer_start(sleep->loop, &sleep->timer, (uint64_t)ms, sleep_over)) {
    segue__free(sleep);
    return luaL_error(L, "segue.sleep: out of memory");
  }
  sleep->wait.cancel = sleep_cancel;
  return segue__wait_begin(L, &sleep->wait, "segue.sleep");
}
