/* SPDX-License-Identifier: MIT
 *
 * The CPU budget: a POSIX timer per thread, a signal to that thread, and a debug hook. LuaJIT
 * allows lua_sethook from outside only in a signal handler of the thread that runs the state.
 *
 * Setting a timer and reading the CPU clock of the thread cost more than a short call does. So a
 * timer that was set for an earlier call stays set as long as it expires in time for this one: its
 * handler reads the clock and sets it again. And the CPU clock is read rarely; in between, the
 * monotonic clock, which costs no system call, gives an upper bound of it.
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

#include "state.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

/* COUNT: one instruction can take milliseconds (comparing, concatenating or parsing two texts of 16
 * MiB), so 10,000 instructions between two readings of the clock took ten seconds. */
enum { COUNT = 250, AGAIN_MS = 5, LOOK_NS = 1000000 };

struct segue__budget {
  int signum;
  bool has_timer;
  timer_t timer;
  pthread_t thread; /* that the timer and the reading below belong to */
  /* CPU time of the thread at the last reading, and the monotonic clock at that moment. */
  uint64_t read_cpu_ns, read_at_ns;
  /* Also used by the signal handler on the same thread. */
  segue__lua *volatile running;
  volatile uint64_t end_ns; /* CPU time of the thread */
  volatile bool armed;      /* the timer is set and expires at goes_off_ns */
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

/* Returns the CPU time of this thread, at most LOOK_NS too high: between two readings the elapsed
 * time counts as CPU time. So a call may run that much longer than its slice. */
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

/* The thread that is watched creates the timer, when it is first needed. */
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

/* Called from the signal handler too: timer_settime(2) is async-signal-safe. */
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

/* Makes sure that a timer or a hook checks the end of the running call. */
static void budget_watch(segue__budget *budget) {
  if (!budget->signum) return;
  if (budget->armed && budget->goes_off_ns <= budget->end_ns) return;
  if (!ensure_timer(budget) || !set_timer(budget, budget->end_ns))
    arm_count(budget->running->L); /* no timer is available: slower, equally safe */
}

/* The signal handler may run between any two of these statements. `running` is cleared first and
 * set last, so the handler sees either no call, or a call with its own end. */
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

/* Calls nest: a hook may call a function in C that calls Lua again. The outer call continues with
 * its own end, and if it is over its time the hook that the inner call removed is armed again. */
void segue__budget_leave(segue__budget *budget, const segue__cpu_slice *outer) {
  segue__lua *lua = budget->running;
  switch_to(budget, NULL, outer->end_ns);
  budget_disarm(budget, lua);
  if (!outer->lua) return;
  switch_to(budget, outer->lua, outer->end_ns);
  if (outer->lua->overran) arm_always(outer->lua->L);
}

/* Runs on the watched thread, in the signal handler. A call that is over its time gets another
 * signal after AGAIN_MS, because the hook may have been armed where it does not reach the loop. */
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

/* Raises the error. The first time the position is stored, and the hook is armed for every
 * instruction: code that catches the error gets it again at once. */
static void budget_overrun(lua_State *L, lua_Debug *ar) {
  segue__lua *lua = segue__lua_of(L);
  if (!lua->overran) {
    lua->overran = true;
    arm_always(L);
    segue__lua_note_place(lua, L, ar);
  }
  luaL_error(L, "out of CPU time");
}

/* Reads the CPU clock, a system call, only once the estimate, which is never behind that clock, has
 * passed the end. */
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
