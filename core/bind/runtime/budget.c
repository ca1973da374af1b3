/* SPDX-License-Identifier: MIT
 *
 * The CPU budget: a POSIX timer per thread, a signal to that thread, and a hook. LuaJIT allows
 * lua_sethook in a signal handler of the thread that runs the state, and nowhere else from outside.
 *
 * Setting a timer and reading the thread's clock cost more than a short call does. So a timer that
 * was set for an earlier call stays set as long as it goes off in time for this one: its handler
 * looks at the clock and sets it anew. And the clock is read once in a while; from there the
 * monotonic clock, which costs no system call, says how far it can have gone at most.
 */
#include "budget.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../policy/loader.h"
#include "state.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

/* COUNT: one instruction can take milliseconds (comparing, concatenating or parsing two texts of 16
 * MiB), so 10,000 instructions between two looks at the clock took ten seconds. */
enum { COUNT = 250, AGAIN_MS = 5, LOOK_NS = 1000000 };

struct segue__budget {
  int signum;
  bool has_timer;
  timer_t timer;
  pthread_t thread; /* that the timer and the reading below belong to */
  /* CPU time of the thread when it was last read, and what the monotonic clock said. */
  uint64_t read_cpu_ns, read_at_ns;
  /* Also used by the signal handler on the same thread. */
  segue__lua *volatile running;
  volatile uint64_t end_ns; /* CPU time of the thread */
  volatile bool armed;      /* the timer will go off, at goes_off_ns */
  volatile uint64_t goes_off_ns;
};

static void budget_hook(lua_State *L, lua_Debug *ar);

static uint64_t clock_ns(clockid_t clock) {
  struct timespec ts;
  clock_gettime(clock, &ts);
  return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t cpu_ns(void) {
  return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

int segue__budget_new(segue__budget **out, int signum) {
  *out = segue__calloc(1, sizeof **out);
  if (!*out) return UV_ENOMEM;
  (*out)->signum = signum;
  return 0;
}

static void drop_timer(segue__budget *budget) {
  if (budget->has_timer) timer_delete(budget->timer);
  budget->has_timer = budget->armed = false;
}

void segue__budget_free(segue__budget *budget) {
  if (!budget) return;
  drop_timer(budget);
  segue__free(budget);
}

/* CPU time of this thread, by less than LOOK_NS too much: a call gets that as a present. */
static uint64_t about_cpu_ns(segue__budget *budget) {
  uint64_t now = clock_ns(CLOCK_MONOTONIC);
  if (!pthread_equal(budget->thread, pthread_self())) {
    drop_timer(budget);
    budget->thread = pthread_self();
    budget->read_at_ns = 0;
  }
  if (now - budget->read_at_ns >= LOOK_NS) {
    budget->read_at_ns = now;
    budget->read_cpu_ns = cpu_ns();
  }
  return budget->read_cpu_ns + (now - budget->read_at_ns);
}

/* The timer is made by the thread it watches, when it is first needed. */
static bool ensure_timer(segue__budget *budget) {
  if (budget->has_timer) return true;
  struct sigevent event;
  memset(&event, 0, sizeof event);
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = budget->signum;
  event.sigev_value.sival_ptr = budget;
  event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
  budget->has_timer = timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &budget->timer) == 0;
  return budget->has_timer;
}

/* Safe in a signal handler. */
static bool set_timer(segue__budget *budget, uint64_t at_ns) {
  struct itimerspec spec;
  memset(&spec, 0, sizeof spec);
  spec.it_value.tv_sec = (time_t)(at_ns / 1000000000u);
  spec.it_value.tv_nsec = (long)(at_ns % 1000000000u);
  budget->goes_off_ns = at_ns;
  budget->armed = timer_settime(budget->timer, TIMER_ABSTIME, &spec, NULL) == 0;
  return budget->armed;
}

static void arm_count(lua_State *L) {
  lua_sethook(L, budget_hook, LUA_MASKCOUNT, COUNT);
}

static void arm_always(lua_State *L) {
  lua_sethook(L, budget_hook, LUA_MASKCOUNT | LUA_MASKCALL | LUA_MASKRET, 1);
}

static void budget_disarm(segue__budget *budget, segue__lua *lua) {
  if (!budget->signum)
    arm_count(lua->L);
  else if (lua_gethookmask(lua->L))
    lua_sethook(lua->L, NULL, 0, 0);
}

void segue__budget_adopt(segue__budget *budget, segue__lua *lua) {
  if (!budget->signum) arm_count(lua->L);
}

/* Makes sure that somebody looks when the time of the running call is over. */
static void budget_watch(segue__budget *budget) {
  if (!budget->signum) return;
  if (budget->armed && budget->goes_off_ns <= budget->end_ns) return;
  if (!ensure_timer(budget) || !set_timer(budget, budget->end_ns))
    arm_count(budget->running->L); /* no timer to be had: slower, and as safe */
}

/* The handler may come in between: it sees no call, or one with its own end. */
static void switch_to(segue__budget *budget, segue__lua *lua, uint64_t end_ns) {
  budget->running = NULL;
  budget->end_ns = end_ns;
  budget->running = lua;
  if (lua) budget_watch(budget);
}

uint64_t segue__budget_cpu_ns(segue__budget *budget) {
  return about_cpu_ns(budget);
}

void segue__budget_enter(segue__budget *budget, segue__lua *lua, uint64_t cpu_ns,
                         segue__cpu_slice *outer) {
  outer->lua = budget->running;
  outer->end_ns = budget->end_ns;
  switch_to(budget, lua, about_cpu_ns(budget) + cpu_ns);
}

void segue__budget_leave(segue__budget *budget, const segue__cpu_slice *outer) {
  segue__lua *lua = budget->running;
  switch_to(budget, NULL, outer->end_ns);
  budget_disarm(budget, lua);
  if (!outer->lua) return;
  switch_to(budget, outer->lua, outer->end_ns);
  if (outer->lua->overran) arm_always(outer->lua->L);
}

/* A call that is over its time is looked at again: the hook may not have been where the loop is. */
void segue__budget_on_signal(void *data) {
  segue__budget *budget = data;
  int saved = errno;
  segue__lua *lua = budget->running;
  budget->armed = false;
  if (lua) {
    uint64_t now = cpu_ns(), end = budget->end_ns;
    if (now >= end) arm_always(lua->L);
    set_timer(budget, now >= end ? now + AGAIN_MS * 1000000u : end);
  }
  errno = saved;
}

bool segue__budget_is_spent(const segue__budget *budget) {
  return budget->running && cpu_ns() >= budget->end_ns;
}

/* The first time it notes where the call was; then it throws, again and again. */
static void budget_overrun(lua_State *L, lua_Debug *ar) {
  segue__lua *lua = segue__lua_of(L);
  if (!lua->overran) {
    lua->overran = true;
    arm_always(L);
    segue__lua_note_place(lua, L, ar);
  }
  luaL_error(L, "out of CPU time");
}

/* Reading the clock of the thread costs a system call. So it is read only once the estimate, which
 * is never behind that clock, has passed the end. */
static void budget_hook(lua_State *L, lua_Debug *ar) {
  segue__lua *lua = segue__lua_of(L);
  segue__budget *budget = lua->budget;
  bool is_spent = budget->running == lua && about_cpu_ns(budget) >= budget->end_ns &&
                  cpu_ns() >= budget->end_ns;
  if (lua->overran || is_spent) budget_overrun(L, ar);
}

void segue__budget_raise(lua_State *L) {
  budget_overrun(L, NULL);
}
