/* SPDX-License-Identifier: MIT
 *
 * The CPU budget: a POSIX timer per thread, a signal to that thread, and a hook. LuaJIT allows
 * lua_sethook in a signal handler of the thread that runs the state, and nowhere else from outside.
 */
#include "budget.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "loader.h"
#include "state.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum { COUNT = 10000, AGAIN_MS = 5 };

struct segue__budget {
  int signum;
  bool has_timer;
  timer_t timer;
  pid_t tid; /* of the thread the timer belongs to */
  /* Read by the signal handler on the same thread. */
  segue__lua *volatile running;
  volatile uint64_t end_ns; /* CPU time of the thread */
};

static void hook(lua_State *L, lua_Debug *ar);

static uint64_t cpu_ns(void) {
  struct timespec ts;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
  return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int segue__budget_new(segue__budget **out, int signum) {
  *out = segue__calloc(1, sizeof **out);
  if (!*out) return UV_ENOMEM;
  (*out)->signum = signum;
  return 0;
}

static void drop_timer(segue__budget *budget) {
  if (budget->has_timer) timer_delete(budget->timer);
  budget->has_timer = false;
}

void segue__budget_free(segue__budget *budget) {
  if (!budget) return;
  drop_timer(budget);
  segue__free(budget);
}

/* The timer is made by the thread it watches, at its first call. */
static bool ensure_timer(segue__budget *budget) {
  pid_t tid = (pid_t)syscall(SYS_gettid);
  if (budget->has_timer && budget->tid == tid) return true;
  drop_timer(budget);
  struct sigevent event;
  memset(&event, 0, sizeof event);
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = budget->signum;
  event.sigev_value.sival_ptr = budget;
  event.sigev_notify_thread_id = tid;
  if (timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &budget->timer)) return false;
  budget->tid = tid;
  budget->has_timer = true;
  return true;
}

/* Fires again until the call is left: a signal may come just before the hook can be armed. */
static void set_timer(segue__budget *budget, uint64_t delay_ns) {
  struct itimerspec spec;
  memset(&spec, 0, sizeof spec);
  spec.it_value.tv_sec = (time_t)(delay_ns / 1000000000u);
  spec.it_value.tv_nsec = (long)(delay_ns % 1000000000u);
  if (delay_ns) spec.it_interval.tv_nsec = AGAIN_MS * 1000000;
  timer_settime(budget->timer, 0, &spec, NULL);
}

static void arm_count(lua_State *L) {
  lua_sethook(L, hook, LUA_MASKCOUNT, COUNT);
}

static void arm_always(lua_State *L) {
  lua_sethook(L, hook, LUA_MASKCOUNT | LUA_MASKCALL | LUA_MASKRET, 1);
}

static void disarm(segue__budget *budget, segue__lua *lua) {
  if (!budget->signum)
    arm_count(lua->L);
  else if (lua_gethookmask(lua->L))
    lua_sethook(lua->L, NULL, 0, 0);
}

void segue__budget_adopt(segue__budget *budget, segue__lua *lua) {
  if (!budget->signum) arm_count(lua->L);
}

static void start(segue__budget *budget) {
  segue__lua *lua = budget->running;
  uint64_t now = cpu_ns();
  uint64_t left = budget->end_ns > now ? budget->end_ns - now : 1;
  if (!budget->signum) return;
  if (ensure_timer(budget))
    set_timer(budget, left);
  else
    arm_count(lua->L); /* no timer to be had: slower, and as safe */
}

void segue__budget_enter(segue__budget *budget, segue__lua *lua, uint64_t cpu_ms,
                         segue__slice *outer) {
  outer->lua = budget->running;
  outer->end_ns = budget->end_ns;
  budget->end_ns = cpu_ns() + cpu_ms * 1000000u;
  budget->running = lua;
  start(budget);
}

void segue__budget_leave(segue__budget *budget, const segue__slice *outer) {
  segue__lua *lua = budget->running;
  budget->running = outer->lua;
  budget->end_ns = outer->end_ns;
  if (budget->signum && budget->has_timer) set_timer(budget, 0);
  disarm(budget, lua);
  if (!budget->running) return;
  start(budget);
  if (budget->running->overran) arm_always(budget->running->L);
}

void segue__budget_on_signal(void *data) {
  segue__budget *budget = data;
  int saved = errno;
  segue__lua *lua = budget->running;
  if (lua && cpu_ns() >= budget->end_ns) arm_always(lua->L);
  errno = saved;
}

bool segue__budget_is_spent(const segue__budget *budget) {
  return budget->running && cpu_ns() >= budget->end_ns;
}

/* The first time it notes where the call was; then it throws, again and again. */
static void overrun(lua_State *L, lua_Debug *ar) {
  segue__lua *lua = segue__lua_of(L);
  if (!lua->overran) {
    lua->overran = true;
    arm_always(L);
    segue__lua_note_place(lua, L, ar);
  }
  luaL_error(L, "out of CPU time");
}

static void hook(lua_State *L, lua_Debug *ar) {
  segue__lua *lua = segue__lua_of(L);
  segue__budget *budget = lua->budget;
  if (lua->overran || (budget->running == lua && cpu_ns() >= budget->end_ns)) overrun(L, ar);
}

void segue__budget_raise(lua_State *L) {
  overrun(L, NULL);
}
