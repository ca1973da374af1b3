/* SPDX-License-Identifier: MIT
 *
 * The life of an instance as its host drives it: start, run, stop, close. Hosts call these from
 * callbacks, from several threads at once and in every order; each call either acts now, or is
 * deferred to the thread that is inside the loop, or returns SEGUE_EUSAGE. All decisions are taken
 * under one lock, because a stop or close of another thread may meet the end of the loop.
 */
#include <signal.h>
#include <time.h>
#include <uv.h>

#include "instance.h"

static int open_own_loop(segue *s, segue_error *error) {
  s->own_uv = segue__calloc(1, sizeof *s->own_uv);
  int rc = s->own_uv ? uv_loop_init(s->own_uv) : UV_ENOMEM;
  if (rc < 0) {
    segue__free(s->own_uv);
    s->own_uv = NULL;
    return segue__errorf(error, rc, "cannot make an event loop: %s", uv_strerror(rc));
  }
  s->uv = s->own_uv;
  return 0;
}

static void set_stage(segue *s, segue__stage stage) {
  pthread_mutex_lock(&s->life);
  s->stage = stage;
  pthread_mutex_unlock(&s->life);
}

/* Under the lock. Makes the calling thread the control thread. */
static void lifecycle_enter(segue *s) {
  s->is_entered = true;
  segue__services_here(s);
}

/* Moves the instance from SEGUE__NEW to the next stage, for exactly one caller. Of two threads that
 * start it at once, the second one gets SEGUE_EUSAGE. */
static bool claim_start(segue *s) {
  pthread_mutex_lock(&s->life);
  bool is_first = s->stage == SEGUE__NEW;
  if (is_first) {
    s->stage = SEGUE__RUNNING;
    lifecycle_enter(s); /* segue_close in a callback must not free it below this thread */
  }
  pthread_mutex_unlock(&s->life);
  return is_first;
}

static void on_stop_message(segue__message *message) {
  segue *s = (segue *)((char *)message - offsetof(segue, stop_message));
  if (s->stage != SEGUE__RUNNING) return;
  set_stage(s, SEGUE__STOPPING);
  SEGUE__LOG(&s->log, SEGUE_INFO, "segue", "stopping");
  segue__instance_tear_down(s);
}

static void on_entered(segue__message *message) {
  segue *s = (segue *)((char *)message - offsetof(segue, entered));
  pthread_mutex_lock(&s->life);
  lifecycle_enter(s);
  pthread_mutex_unlock(&s->life);
}

/* Called under the lock. Several threads may call this, also while the loop ends. It posts one
 * message, because the message is a member of the instance and cannot be queued twice, and only
 * while the loop takes messages. */
static void ask_to_stop(segue *s) {
  if (!s->inbox || s->stop_asked) return;
  s->stop_asked = true;
  s->stop_message.fn = on_stop_message;
  segue__post(s->inbox, &s->stop_message);
}

/* The thread leaves segue_start. From here on other threads can reach the instance. The first
 * message shows which thread runs a host's loop; until then every call counts as one from another
 * thread. */
static void end_start(segue *s, bool is_started) {
  pthread_mutex_lock(&s->life);
  s->is_entered = false;
  s->inbox = is_started ? s->loop : NULL;
  if (is_started && s->options.uv_loop) {
    s->entered.fn = on_entered;
    segue__post(s->inbox, &s->entered);
  }
  if (s->close_when_stopped) ask_to_stop(s);
  pthread_mutex_unlock(&s->life);
}

int segue_start(segue *s, segue_error *error) {
  if (segue__in_child(s->mark))
    return segue__errorf(error, SEGUE_ECLOSED, "this process is a child of the instance's host");
  if (!claim_start(s))
    return segue__errorf(error, SEGUE_EUSAGE, "this instance was started before");
  s->uv = s->options.uv_loop;
  int rc = s->uv ? 0 : open_own_loop(s, error);
  if (rc < 0) {
    set_stage(s, SEGUE__NEW);
  } else {
    rc = segue__instance_begin(s, error);
    if (rc < 0) {
      s->options.on_stopped = NULL;
      set_stage(s, SEGUE__STOPPING);
      segue__instance_tear_down(s);
    }
  }
  end_start(s, rc == 0);
  return rc;
}

/* A write to a client that left, or to a file at its size limit, must not kill the host. The
 * library may not change the host's signal handlers, so both signals are blocked while the loop
 * runs on this thread, and the ones that its writes raised are discarded. A signal that was pending
 * before belongs to the host and stays pending. */
static void run_own_loop(segue *s) {
  static const int raised[] = {SIGPIPE, SIGXFSZ};
  sigset_t writes, ours, before, pending;
  const struct timespec at_once = {0, 0};
  sigemptyset(&writes);
  sigemptyset(&ours);
  sigpending(&pending);
  for (size_t i = 0; i < sizeof raised / sizeof *raised; i++) {
    sigaddset(&writes, raised[i]);
    if (!sigismember(&pending, raised[i])) sigaddset(&ours, raised[i]);
  }
  pthread_sigmask(SIG_BLOCK, &writes, &before);
  while (s->stage == SEGUE__RUNNING || s->stage == SEGUE__STOPPING)
    uv_run(s->uv, UV_RUN_ONCE);
  while (sigtimedwait(&ours, NULL, &at_once) > 0)
    ;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Returns SEGUE_EUSAGE if a thread is inside already (perhaps this one, in a callback), if the host
 * owns the loop, or if the instance was not started. */
static int enter_own_loop(segue *s) {
  pthread_mutex_lock(&s->life);
  int rc = s->options.uv_loop || s->is_entered || s->stage == SEGUE__NEW ? SEGUE_EUSAGE : 0;
  if (rc == 0 && s->stage == SEGUE__STOPPED) rc = SEGUE_ECLOSED;
  if (rc == 0) lifecycle_enter(s);
  pthread_mutex_unlock(&s->life);
  return rc;
}

/* Returns whether segue_close was called meanwhile: then this thread must free the instance. */
static bool leave_own_loop(segue *s) {
  pthread_mutex_lock(&s->life);
  s->is_entered = false;
  bool is_closed = s->close_when_stopped;
  pthread_mutex_unlock(&s->life);
  return is_closed;
}

int segue_run(segue *s) {
  if (segue__in_child(s->mark)) return SEGUE_ECLOSED;
  int rc = enter_own_loop(s);
  if (rc < 0) return rc;
  run_own_loop(s);
  if (leave_own_loop(s)) segue__instance_free(s);
  return 0;
}

void segue_stop(segue *s) {
  if (segue__in_child(s->mark)) return;
  pthread_mutex_lock(&s->life);
  ask_to_stop(s);
  pthread_mutex_unlock(&s->life);
}

/* The thread that is inside the loop uses the instance until it leaves, so only that thread can
 * free it then: on its own loop segue_run does so before it returns, on a host's loop the last
 * callback of the loop. Everywhere else the caller frees it. An own loop that no thread runs is
 * entered under the same lock: a segue_run of another thread that came in between would free the
 * instance below this call. */
void segue_close(segue *s) {
  if (!s) return;
  if (segue__in_child(s->mark)) {
    segue__instance_abandon(s);
    return;
  }
  pthread_mutex_lock(&s->life);
  bool has_loop = s->stage == SEGUE__RUNNING || s->stage == SEGUE__STOPPING;
  bool is_deferred = s->options.uv_loop ? has_loop : s->is_entered;
  bool runs = has_loop && !is_deferred;
  s->close_when_stopped = true;
  if (runs) lifecycle_enter(s);
  ask_to_stop(s);
  pthread_mutex_unlock(&s->life);
  if (runs) run_own_loop(s);
  if (!is_deferred) segue__instance_free(s);
}
