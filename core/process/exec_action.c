/* SPDX-License-Identifier: MIT
 *
 * The action "exec": brings the child to the generation that goes live. It has no intent in the
 * journal: the child does not outlive segue, so a start after a crash begins with a new one, which
 * reads the files as the recovery has left them.
 *
 * A child that ends by itself ends segue. The exception is a child that ends while a change of it
 * can still be undone, which is until the generation is confirmed: that reload fails, and the child
 * runs again as it was before.
 */
#include <signal.h>
#include <string.h>
#include <sys/random.h>
#include <uv.h>

#include "../os/error.h"
#include "../os/mem.h"
#include "../os/signal_names.h"
#include "exec_internal.h"

enum { EXIT_SIGNAL = 128 };

static segue__exec_instance *exec_next(const segue__step *step) {
  return segue__instance_object(segue__step_next(step));
}

/* ---- The child ---- */

static int exec_start_child(segue__exec *exec, segue__exec_env *env, segue_error *err) {
  int rc = segue__process_start(exec->process, env->environment.entries, &exec->manner, err);
  if (rc) {
    segue__exec_not_run(exec, rc);
    return rc;
  }
  segue__exec_env_ref(env);
  segue__exec_env_unref(exec->env);
  exec->env = env;
  exec->pid = segue__process_pid(exec->process);
  SEGUE__LOG(exec->log, SEGUE_INFO, "exec", "the child runs",
             SEGUE__FIELD("program", exec->setup.argv[0]), SEGUE__FIELD("pid", exec->pid));
  return 0;
}

static void exec_replaced(segue__exec *exec) {
  segue__exec_env *env = exec->next_env;
  segue_error error;
  exec->next_env = NULL;
  int rc = env ? exec_start_child(exec, env, &error) : 0;
  segue__exec_env_unref(env);
  exec->then(exec, rc, rc ? &error : NULL);
}

void segue__exec_replace(segue__exec *exec, segue__exec_env *env,
                         void (*then)(segue__exec *exec, int status, const segue_error *error)) {
  segue__exec_env_unref(exec->next_env);
  exec->next_env = segue__exec_env_ref(env);
  exec->then = then;
  exec->awaited = segue__process_runs(exec->process);
  if (exec->awaited)
    segue__process_stop(exec->process);
  else
    exec_replaced(exec);
}

/* ---- Its end ---- */

static void exec_over(segue__exec *exec) {
  if (exec->over || exec->hurried) return;
  exec->over = true;
  exec->setup.on_end(exec->setup.data);
}

/* The exit code counts unless segue has stopped the child in order to start the next one. */
void segue__exec_on_end(void *data, const segue__child_exit *end) {
  segue__exec *exec = data;
  segue_error error;
  bool awaited = exec->awaited;
  exec->awaited = false;
  segue__process_describe_end(exec->setup.argv[0], exec->pid, end, &error);
  bool expected = awaited || (!end->status && !end->exit_code);
  SEGUE__LOG(exec->log, expected ? SEGUE_INFO : SEGUE_ERROR, "exec", error.message);
  if (!awaited || exec->stop_op)
    *exec->setup.code = end->status        ? 1
                        : end->term_signal ? EXIT_SIGNAL + end->term_signal
                                           : end->exit_code;
  if (awaited) {
    exec_replaced(exec);
  } else if (exec->changing) {
    exec->died = true;
    segue_module_failed(exec->changing->op, &error);
  } else {
    exec_over(exec);
  }
}

/* ---- Commit ---- */

static void exec_failed(segue__exec *exec, int status, const segue_error *error) {
  segue_error named;
  segue__errorf(&named, status, "module 'exec': %s", error->message);
  segue__step_done(exec->step, status, &named);
}

static void exec_committed(segue__exec *exec) {
  const segue__exec_instance *next = exec_next(exec->step);
  if (next->has_part) exec->part = next->hashes[next->count - 1];
  segue__step_start(exec->step);
}

static void exec_restarted(segue__exec *exec, int status, const segue_error *error) {
  if (status)
    exec_failed(exec, status, error);
  else
    exec_committed(exec);
}

static void exec_signalled(void *data, int status, const segue_error *error) {
  segue__exec *exec = data;
  if (status) {
    exec_failed(exec, status, error);
    return;
  }
  exec->deed = SEGUE__EXEC_SIGNALLED;
  SEGUE__LOG(exec->log, SEGUE_INFO, "exec", "the child has got its reload signal",
             SEGUE__FIELD("signal", segue__signal_choice_name(exec->changing->reload_signal)),
             SEGUE__FIELD("pid", exec->pid));
  exec_committed(exec);
}

static bool exec_has_new_env(const segue__exec *exec, const segue__exec_instance *next) {
  return !segue__exec_env_equal(exec->env, next->env);
}

/* No signal brings new variables into a process, so a change of one restarts the child. */
static void exec_act(segue__exec *exec) {
  segue__exec_instance *next = exec_next(exec->step);
  segue_error error;
  int rc = 0;
  if (exec->hurried) {
    segue__errorf(&error, SEGUE_ECANCELLED, "segue stops");
    exec_failed(exec, SEGUE_ECANCELLED, &error);
    return;
  }
  bool runs = segue__process_runs(exec->process);
  exec->changing = next;
  if (!runs || next->restarts || exec_has_new_env(exec, next)) {
    exec->deed = runs ? SEGUE__EXEC_RESTARTED : SEGUE__EXEC_STARTED;
    segue__exec_replace(exec, next->env, exec_restarted);
    return;
  }
  rc = segue__process_reload(exec->process, next->reload_signal, exec_signalled, exec, &error);
  if (rc) exec_failed(exec, rc, &error);
}

static void exec_splayed(segue__timer *timer) {
  exec_act(timer->data);
}

static bool exec_concerns(const segue__exec *exec, const segue__exec_instance *next) {
  if (exec_has_new_env(exec, next)) return true;
  if (!next->restarts && !next->reload_signal) return false;
  return segue__step_follows_change(exec->step) ||
         (next->has_part && !segue__hash_equal(exec->part, next->hashes[next->count - 1]));
}

/* A random part of the splay, so that hosts that got the same change at once do not all restart at
 * once. The files are in place meanwhile. */
static void exec_wait(segue__exec *exec, uint64_t splay_ms) {
  uint64_t random = 0;
  if (getrandom(&random, sizeof random, GRND_NONBLOCK) < 0) random = 0;
  uint64_t delay = exec->hurried ? 0 : random % (splay_ms + 1);
  if (!splay_ms || segue__timer_start(exec->loop, &exec->splay, delay, exec_splayed))
    exec_act(exec);
}

static void exec_commit(segue__step *step) {
  const segue__exec_instance *next = exec_next(step);
  segue__exec *exec = next->exec;
  exec->step = step;
  exec->changing = NULL;
  exec->deed = SEGUE__EXEC_NOTHING;
  exec->died = false;
  exec->was_env = segue__exec_env_ref(exec->env);
  exec->was_part = exec->part;
  exec->was_manner = exec->manner;
  exec->manner = next->manner;
  segue__process_set_manner(exec->process, &exec->manner);
  if (!segue__process_runs(exec->process))
    exec_act(exec);
  else if (exec_concerns(exec, next))
    exec_wait(exec, next->splay_ms);
  else
    exec_committed(exec);
}

/* ---- The end of the step ---- */

static void exec_end_step(segue__exec *exec) {
  bool gone = !segue__process_runs(exec->process) && exec->deed != SEGUE__EXEC_STARTED;
  exec->step = NULL;
  exec->changing = NULL;
  segue__exec_env_unref(exec->was_env);
  exec->was_env = NULL;
  if (gone || exec->died) exec_over(exec);
}

static void exec_undone(segue__exec *exec, int status, const segue_error *error) {
  segue__step *step = exec->step;
  segue_error named;
  exec->died = false; /* the child that died was of the generation that is undone */
  exec_end_step(exec);
  if (status) {
    segue__errorf(&named, status, "module 'exec': the child cannot be brought back: %s",
                  error->message);
    segue__step_undo_failed(step, &named);
  } else {
    segue__step_unstart(step);
  }
}

static void exec_signal_undone(void *data, int status, const segue_error *error) {
  segue__exec *exec = data;
  if (!status)
    SEGUE__LOG(exec->log, SEGUE_INFO, "exec",
               "the child has got its reload signal for the previous generation",
               SEGUE__FIELD("pid", exec->pid));
  exec_undone(exec, exec->hurried ? 0 : status, error);
}

/* The files of the previous generation are back. A child that could not live with the next ones is
 * started again. */
static void exec_undo(segue__step *step) {
  const segue__exec_instance *next = exec_next(step);
  segue__exec *exec = next->exec;
  segue_error error;
  int rc = 0;
  bool runs = segue__process_runs(exec->process);
  exec->part = exec->was_part;
  exec->manner = exec->was_manner;
  segue__process_set_manner(exec->process, &exec->manner);
  if (exec->deed == SEGUE__EXEC_STARTED)
    segue__exec_replace(exec, NULL, exec_undone);
  else if (exec->hurried || (exec->deed == SEGUE__EXEC_NOTHING && runs) || !exec->was_env)
    exec_undone(exec, 0, NULL);
  else if (exec->deed == SEGUE__EXEC_RESTARTED || !runs)
    segue__exec_replace(exec, exec->was_env, exec_undone);
  else
    rc =
        segue__process_reload(exec->process, next->reload_signal, exec_signal_undone, exec, &error);
  if (rc) exec_undone(exec, rc, &error);
}

static void exec_settle(segue__step *step) {
  segue__exec_instance *next = exec_next(step);
  next->exec->live = next;
  exec_end_step(next->exec);
  segue__step_retire(step);
}

/* A stop of segue waits neither for the splay nor for a handler of the child. */
static void exec_hurry(segue__step *step) {
  segue__exec *exec = exec_next(step)->exec;
  exec->hurried = true;
  segue__process_cancel(exec->process);
  if (segue__timer_active(&exec->splay))
    (void)segue__timer_start(exec->loop, &exec->splay, 0, exec_splayed);
}

const segue__action segue__action_exec = {.name = "exec",
                                          .untried = "start or reload the child",
                                          .builds = true,
                                          .last = true,
                                          .prepare = segue__step_build,
                                          .commit = exec_commit,
                                          .undo = exec_undo,
                                          .hurry = exec_hurry,
                                          .settle = exec_settle};
