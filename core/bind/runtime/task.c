/* SPDX-License-Identifier: MIT
 *
 * Tasks: starting, waiting, resuming and ending coroutines. A task ends in one place (end). A task
 * whose coroutine is running is only marked, because its stack is in use.
 *
 * CPU time. A hook shares one slice with all tasks that it starts and with the tasks that these
 * start: the family of the root task. Otherwise 200 tasks of 100 ms each would be 20 s in which the
 * thread does nothing else. The family gets a new slice when one of its tasks has waited for an
 * outside event and no task of the family waits for its first turn; waiting for tasks of the same
 * family does not count. Independent of families: once tasks have used FAIR_NS, the remaining ones
 * wait for the next turn of the loop, so that other ready work runs in between.
 */
#include "task.h"

#include <string.h>

enum { FAIR_NS = 10000000 };

struct segue__task {
  segue__lua *lua;
  segue__task
      *root; /* root of the family: this task, or the task that ends after all of its family */
  uint64_t used_ns;   /* valid in the root: CPU time of the family */
  size_t unstarted;   /* valid in the root: tasks of the family that wait for their first turn */
  bool started;       /* false: counted in the root's unstarted */
  bool queued;        /* waits for a turn of the loop */
  bool inside;        /* its wait was for tasks of its family */
  int pushed;         /* number of values that push left on its stack */
  segue__task *later; /* next task in the queue */
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
  segue_error error; /* last: it is large, and task_acquire does not clear it */
};

static char owned_key; /* registry: weak set of all tasks' coroutines */

struct step {
  segue__task *task;
  segue__wait_push push;
  void *data;
  int pushed;
  bool first, spent, again; /* again: it waits for another operation */
};

static void task_resume(segue__task *task, segue__wait_push push, void *data, int pushed,
                        bool inside);
static void leave_queue(segue__task *task);

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

static segue__task *task_acquire(segue__lua *lua, const segue__task_options *options) {
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
  task->root = task;
  return task;
}

/* Keeps the task and its coroutine for reuse (`recycles`), unless enough are kept already. */
static void task_spare(segue__task *task) {
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
  lua->refs--; /* it has no owner */
}

void segue__tasks_free_spares(segue__lua *lua) {
  while (lua->spares) {
    segue__task *next = lua->spares->next;
    segue__free(lua->spares);
    lua->spares = next;
  }
  lua->spare_count = 0;
}

/* Makes its child tasks independent: each continues with a slice of its own. */
static void release_children(segue__task *task) {
  for (segue__task *child = task->lua->tasks; child; child = child->next) {
    if (child->root == task && child != task) {
      child->root = child;
      child->unstarted = 0;
    }
    if (child->parent != task) continue;
    child->parent = NULL;
    task->children--;
  }
}

/* Cancelling a child runs code that may end other children, so the list is searched from its start
 * again each time. */
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

/* Ends a task; the only function that does. */
static void task_end(segue__task *task) {
  segue__lua *lua = task->lua;
  segue__wait *wait = task->wait;
  segue__timer_stop(lua->loop, &task->limit);
  task->wait = NULL;
  if (wait) {
    wait->task = NULL;
    wait->cancel(wait);
  }
  if (task->queued) leave_queue(task);
  if (task->options.frees_children) release_children(task);
  cancel_children(task);
  if (!task->started && task->root != task) task->root->unstarted--;
  if (task->parent) task->parent->children--;
  unlink_task(task);
  if (!task->returned) segue__lua_unref(lua, task->ref);
  if (task->options.slot) *task->options.slot = NULL;
  task->options.done(task->options.data, task->status, &task->error);
  if (task->returned)
    task_spare(task);
  else
    segue__free(task);
}

static void task_fail(segue__task *task, int status) {
  task->status = status;
  task_end(task);
}

/* If another call broke the state, its error is reported. */
static void fail_cancelled(segue__task *task) {
  const segue_error *fatal = &task->lua->fatal;
  segue__errorf(&task->error, SEGUE_ECANCELLED, "%s was cancelled%s%.400s", task->options.name,
                fatal->code ? ": " : "", fatal->message);
  if (fatal->code) segue__error_set_place(&task->error, fatal->file, fatal->line, 0);
  task_fail(task, SEGUE_ECANCELLED);
}

static void limit_passed(segue__timer *timer) {
  segue__task *task = timer->data;
  segue__place place = {"", 0};
  if (task->co) segue__lua_place(task->lua, task->co, 0, &place);
  segue__errorf(&task->error, SEGUE_ETIMEOUT, "%s took longer than %llu ms; it was waiting for %s",
                task->options.name, (unsigned long long)task->options.limit_ms,
                task->wait     ? task->wait->what
                : task->queued ? "its turn"
                               : "nothing");
  segue__error_set_place(&task->error, place.file, place.line, 0);
  task_fail(task, SEGUE_ETIMEOUT);
}

/* coroutine.resume and its relatives must not touch the coroutine of a task: they look it up in
 * this set. The set is weak, so a coroutine that is collected leaves it. */
static void task_own(lua_State *L) { /* marks the coroutine on top of L as that of a task */
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
  segue__task *task = task_acquire(lua, options);
  if (!task) {
    segue_error err;
    segue__errorf(&err, UV_ENOMEM, "%s: out of memory", options->name);
    options->done(options->data, UV_ENOMEM, &err);
    return;
  }
  link_task(task);
  if (options->slot) *options->slot = task;
  task_resume(task, NULL, NULL, 0, false);
}

static void go_on_in_turn(segue__task *task, segue__wait_push push, void *data, bool inside);

static void start_now(segue__timer *timer) {
  segue__task *task = timer->data;
  uint64_t ms = task->options.limit_ms;
  if (ms && segue__timer_start(task->lua->loop, timer, ms, limit_passed))
    task_fail(task,
              segue__errorf(&task->error, UV_ENOMEM, "%s: out of memory", task->options.name));
  else
    go_on_in_turn(task, NULL, NULL, true);
}

/* The child starts from the loop and not here: it would otherwise run on top of its parent's call,
 * and share its C stack and its Lua error handling. A timer of 0 ms does that. */
int segue__task_start_child(segue__lua *lua, const segue__task_options *options) {
  segue__task *task = task_acquire(lua, options);
  if (!task) return UV_ENOMEM;
  if (segue__timer_start(lua->loop, &task->limit, 0, start_now)) {
    segue__lua_unref(lua, task->ref);
    segue__free(task);
    return UV_ENOMEM;
  }
  link_task(task);
  task->parent = lua->current;
  if (task->parent) {
    task->parent->children++;
    task->root = task->parent->root;
    task->root->unstarted++;
  }
  if (options->slot) *options->slot = task;
  return 0;
}

/* ---- Running --------------------------------------------------------------------------------- */

static int task_create(lua_State *L, segue__task *task) {
  if (!task->co) {
    lua_State *co = lua_newthread(L);
    task_own(L);
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

/* Converts the error of a coroutine while its stack still exists. A state that hit a limit gets its
 * error from that limit instead (state_broken). */
static int task_describe(lua_State *L, segue__task *task, segue_error *err) {
  if (segue__lua_is_broken(task->lua)) return SEGUE_EPOLICY;
  lua_xmove(task->co, L, 1);
  if (task->options.threw) task->options.threw(task->options.data);
  int status = segue__lua_describe(L, lua_gettop(L), task->co, err);
  note_traceback(L, task);
  return status;
}

/* Raises "out of CPU time" for the family, at the line where the task would continue. */
static void raise_spent(lua_State *L, const struct step *step) {
  segue__task *task = step->task;
  if (step->first) {
    lua_pushvalue(task->co, 1);
    segue__lua_place_of(task->lua, task->co, &task->lua->place);
  } else {
    segue__lua_place(task->lua, task->co, 0, &task->lua->place);
  }
  segue__budget_raise(L);
}

static int step_body(lua_State *L, void *data, segue_error *err) {
  struct step *step = data;
  segue__task *task = step->task;
  int n = 0;
  if (step->first) n = task_create(L, task);
  if (n < 0) {
    *err = task->error;
    return n;
  }
  lua_State *co = task->co;
  luaL_checkstack(co, LUA_MINSTACK, "a task");
  if (step->push) n = step->push(co, step->data);
  if (step->pushed) n = step->pushed;
  if (step->spent) raise_spent(L, step);
  int rc = lua_resume(co, n);
  if (rc == LUA_YIELD) {
    step->again = task->wait != NULL;
    if (step->again || task->over) return 0;
    return segue__errorf(err, SEGUE_EPOLICY, "%s yielded where nothing is waited for",
                         task->options.name);
  }
  if (rc) return task_describe(L, task, err);
  int status =
      task->options.finish ? task->options.finish(co, lua_gettop(co), task->options.data, err) : 0;
  task->returned = task->options.recycles;
  if (!task->options.recycles) lua_settop(co, 0); /* otherwise it would seem to be suspended */
  return status;
}

/* Returns the CPU time that the family of a task has left. */
static uint64_t time_left(segue__task *task, bool inside) {
  segue__task *root = task->root;
  if (!task->started && task != root) root->unstarted--;
  task->started = true;
  if (!inside && !root->unstarted) root->used_ns = 0;
  uint64_t slice_ns = root->options.slice_cpu_ms * 1000000;
  return root->used_ns < slice_ns ? slice_ns - root->used_ns : 0;
}

/* Starts the time limit of a root task at its first wait: most requests are answered without
 * waiting, and a timer costs as much as answering them. */
static int arm_limit(segue__task *task, bool first) {
  uint64_t ms = first ? task->options.limit_ms : 0, due = task->options.due_ms;
  if (!ms || segue__timer_active(&task->limit)) return 0;
  if (due) {
    uint64_t now = segue__loop_now_ms(task->lua->loop);
    ms = due > now ? due - now : 0;
  }
  if (!segue__timer_start(task->lua->loop, &task->limit, ms, limit_passed)) return 0;
  return segue__errorf(&task->error, UV_ENOMEM, "%s: out of memory", task->options.name);
}

/* The task survives the call into Lua, because a running task is only marked (over). Its root may
 * not: a root that ends in the meantime marks the running tasks of its family, or makes them roots
 * themselves (release_children). So the root is read again after the call, and only if the task is
 * not marked. */
static void task_resume(segue__task *task, segue__wait_push push, void *data, int pushed,
                        bool inside) {
  segue__lua *lua = task->lua;
  segue__task *outer = lua->current;
  struct step step = {.task = task, .push = push, .data = data, .pushed = pushed};
  step.first = !task->started;
  uint64_t left_ns = time_left(task, inside), began_ns = segue__budget_cpu_ns(lua->budget);
  step.spent = !left_ns;
  lua->current = task;
  task->running = true;
  lua->depth++; /* the state must outlive this function */
  const segue__task_options *slice = &task->root->options;
  int status = segue__lua_call_on(lua, slice->name, slice->slice_cpu_ms, left_ns, step_body, &step,
                                  &task->error);
  task->running = false;
  lua->current = outer;
  uint64_t now_ns = segue__budget_cpu_ns(lua->budget);
  uint64_t used_ns = now_ns > began_ns ? now_ns - began_ns : 0;
  lua->turns->used_ns += used_ns;
  segue__task *root = task->over ? NULL : task->root;
  if (root) root->used_ns += used_ns;
  if (!root) {
    fail_cancelled(task);
  } else if (status && task != root && segue__lua_is_broken(lua)) {
    root->error = task->error; /* no event wakes the root any more; this task ends with it */
    task_fail(root, status);
  } else if (status || !step.again)
    task_fail(task, status);
  else if (arm_limit(task, step.first))
    task_fail(task, UV_ENOMEM);
  else if (task->wait->start)
    task->wait->start(task->wait);
  if (!--lua->depth && lua->closing) segue__lua_free(lua);
}

/* ---- Turns of the loop ----------------------------------------------------------------------- */

static void leave_queue(segue__task *task) {
  segue__turns *turns = task->lua->turns;
  segue__task **link = &turns->first;
  while (*link != task)
    link = &(*link)->later;
  *link = task->later;
  if (turns->last == &task->later) turns->last = link;
  task->queued = false;
}

static void post_turn(segue__turns *turns);

static void next_turn(segue__message *message) {
  segue__turns *turns = (segue__turns *)((char *)message - offsetof(segue__turns, message));
  turns->posted = false;
  turns->used_ns = 0; /* the loop ran other work since the last turn */
  while (turns->first && turns->used_ns < FAIR_NS) {
    segue__task *task = turns->first;
    int pushed = task->pushed;
    leave_queue(task);
    task->pushed = 0;
    task_resume(task, NULL, NULL, pushed, task->inside);
  }
  if (turns->first) post_turn(turns);
  turns->end(turns);
}

static void post_turn(segue__turns *turns) {
  if (turns->posted) return;
  turns->posted = true;
  turns->message.fn = next_turn;
  turns->begin(turns);
  segue__post(turns->loop, &turns->message);
}

static int push_body(lua_State *L, void *data, segue_error *err) {
  struct step *step = data;
  (void)L, (void)err;
  luaL_checkstack(step->task->co, LUA_MINSTACK, "a task");
  step->task->pushed = step->push(step->task->co, step->data);
  return 0;
}

/* Calls push at once, because the caller frees the data of push after this call. */
static void wait_for_turn(segue__task *task, segue__wait_push push, void *data, bool inside) {
  segue__lua *lua = task->lua;
  segue__turns *turns = lua->turns;
  struct step step = {.task = task, .push = push, .data = data};
  int status = push ? segue__lua_call(lua, task->options.name, task->options.slice_cpu_ms,
                                      push_body, &step, &task->error)
                    : 0;
  if (status) {
    task_fail(task, status);
    return;
  }
  if (!turns->first) turns->last = &turns->first;
  task->queued = true;
  task->inside = inside;
  task->later = NULL;
  *turns->last = task;
  turns->last = &task->later;
  post_turn(turns);
}

static void go_on_in_turn(segue__task *task, segue__wait_push push, void *data, bool inside) {
  const segue__turns *turns = task->lua->turns;
  if (turns->first || turns->used_ns >= FAIR_NS)
    wait_for_turn(task, push, data, inside);
  else
    task_resume(task, push, data, 0, inside);
}

void segue__task_cancel(segue__task *task) {
  if (!task) return;
  if (task->running)
    task->over = true;
  else
    fail_cancelled(task);
}

void segue__task_end_limit(segue__task *task) {
  if (!task || task->over) return; /* over: its timer cancels it */
  task->options.limit_ms = 0;
  segue__timer_stop(task->lua->loop, &task->limit);
}

static void task_cancel_now(segue__timer *timer) {
  fail_cancelled(timer->data);
}

void segue__task_cancel_soon(segue__task *task) {
  if (!task || task->over) return;
  task->over = true; /* nothing resumes it any more */
  if (task->running) return;
  /* A task whose timer cannot be started waits for its event without a time limit. */
  segue__timer_start(task->lua->loop, &task->limit, 0, task_cancel_now);
}

void segue__task_cancel_all(segue__lua *lua) {
  for (segue__task *task = lua->tasks; task;) {
    bool running = task->running;
    segue__task *next = task->next;
    segue__task_cancel(task);
    task = running ? next : lua->tasks; /* a cancelled task may have cancelled others */
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

/* Returns the reason why the caller cannot wait, or NULL if it can. */
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

/* The task may have been marked as over while it waited (cancel_soon): then it ends here and does
 * not see the event. */
void segue__wait_end(segue__wait *wait, segue__wait_push push, void *data) {
  segue__task *task = wait->task;
  wait->task = NULL;
  task->wait = NULL;
  if (task->over)
    fail_cancelled(task);
  else
    go_on_in_turn(task, push, data, wait->inside);
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
