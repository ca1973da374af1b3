/* SPDX-License-Identifier: MIT
 *
 * The actions of the kind "process". Where the options that only a new child can take have changed,
 * the child is replaced, as instances of all kinds are. Where only its slice has changed it is
 * reloaded: the next instance gets the child of the live one, with the next slice; the undo moves
 * it back, with the slice of before. A child that runs is left alone where neither has changed.
 */
#include <signal.h>
#include <string.h>
#include <uv.h>

#include "../os/error.h"
#include "../os/mem.h"
#include "kind_internal.h"

/* A commit or an undo that waits for the child. */
typedef struct segue__child_change {
  segue__step *step;
  segue__process_instance *instance; /* which has the child now */
  const segue__child_reload_options *reload;
  bool undoes, starts, delivers, signalled, reloading;
  segue__slice_write *write;
  segue__effect_run *run;
  segue__effect request;
  segue__timer limit;
} segue__child_change;

static segue__process_instance *change_next(const segue__step *step) {
  return segue__instance_object(segue__step_next(step));
}

static segue__process_instance *change_old(const segue__step *step) {
  const segue__instance *old = segue__step_old(step);
  return old ? segue__instance_object(old) : NULL;
}

static segue__hash change_slice(const segue__process_module *module,
                                const segue_snapshot *snapshot) {
  const segue_node *node = segue_node_get(segue_snapshot_root(snapshot), module->config);
  return node ? segue__node_hash(node) : (segue__hash){0, 0};
}

/* ---- The end of a change ---- */

static void change_done(segue__child_change *change, int status, const segue_error *error) {
  segue__step *step = change->step;
  segue__process_instance *instance = change->instance;
  segue_error named;
  const bool undoes = change->undoes;
  segue__timer_stop(instance->module->world->loop, &change->limit);
  instance->change = NULL;
  segue__free(change);
  if (status)
    segue__errorf(&named, status, "module '%s': %s", segue__step_module_name(step), error->message);
  if (undoes && status)
    segue__step_undo_failed(step, &named);
  else if (undoes)
    segue__step_unstart(step);
  else if (status)
    segue__step_done(step, status, &named);
  else
    segue__step_start(step);
}

bool segue__process_changed(segue__process_instance *instance, int status,
                            const segue_error *error) {
  segue__child_change *change = instance->change;
  if (!change) return false;
  if (change->run || change->write) { /* these end first, and then find no child */
    segue__effect_stop(change->run);
    return true;
  }
  change_done(change, status, error);
  return true;
}

static void change_delivered(segue__child_change *change, const char *how) {
  segue__process_instance *instance = change->instance;
  instance->module->record->reloads++;
  SEGUE__LOG(instance->module->world->log, SEGUE_INFO, "process", "the child has got its slice",
             SEGUE__FIELD("module", instance->module->name),
             SEGUE__FIELD("pid", segue__managed_pid(instance->child.managed)),
             SEGUE__FIELD("reload", how));
  change_done(change, 0, NULL);
}

static void change_failed(segue__child_change *change, int status, const segue_error *error) {
  segue_error gone;
  if (!change->instance->child.managed)
    status = segue__errorf(&gone, SEGUE_EMODULE, "the child has ended while it was reloaded");
  change_done(change, status, change->instance->child.managed ? error : &gone);
}

/* ---- Delivery ---- */

static void change_on_limit(segue__timer *timer) {
  segue__child_change *change = timer->data;
  segue_error error;
  segue__errorf(&error, SEGUE_EMODULE,
                "the child did not confirm the reload after %g s: it sent no %s",
                (double)change->reload->within_ms / 1000,
                change->reloading ? "READY=1 after RELOADING=1" : "RELOADING=1");
  change_done(change, SEGUE_EMODULE, &error);
}

static void change_on_signalled(void *data, int status, const segue_error *error) {
  segue__child_change *change = data;
  if (status) {
    change_failed(change, status, error);
    return;
  }
  change->signalled = true;
  if (!change->reload->notify) change_delivered(change, "sent, unverified");
}

static int change_signal(segue__child_change *change, segue_error *err) {
  const segue__child_reload_options *reload = change->reload;
  segue__loop *loop = change->instance->module->world->loop;
  static const int signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH};
  const int signum = signals[reload->signal - SEGUE__RELOAD_SIGNALS];
  if (reload->notify) {
    int rc = segue__timer_start(loop, &change->limit, reload->within_ms, change_on_limit);
    if (rc) return segue__errorf(err, rc, "out of memory");
  }
  return segue__process_reload(segue__managed_process(change->instance->child.managed), signum,
                               change_on_signalled, change, err);
}

/* A child may send RELOADING=1 before the call that sent the signal has returned to this loop. */
void segue__process_on_notice(void *data, const segue__notice *notice) {
  segue__process_instance *instance = data;
  segue__child_change *change = instance->change;
  if (!change || !change->reload->notify || !change->delivers) return;
  if (notice->reloading) change->reloading = true;
  if (notice->ready && change->reloading && change->signalled)
    change_delivered(change, "confirmed");
}

static void change_on_effect(void *data, int status, const segue_error *error) {
  segue__child_change *change = data;
  change->run = NULL;
  if (status || !change->instance->child.managed)
    change_failed(change, status ? status : SEGUE_EMODULE, error);
  else
    change_delivered(change, "confirmed");
}

static int change_run(segue__child_change *change, const segue__effect *effect, segue_error *err) {
  const segue__process_module *module = change->instance->module;
  const segue__effect_options options = {.size = sizeof options,
                                         .loop = module->world->loop,
                                         .os = module->world->os,
                                         .module = module->name,
                                         .title = "reload",
                                         .effect = effect,
                                         .kill_rest = true,
                                         .cb = change_on_effect,
                                         .data = change};
  return segue__effect_start(&change->run, &options, err);
}

static void change_act(segue__child_change *change) {
  const segue__child_reload_options *reload = change->reload;
  segue_error error;
  int rc = 0;
  if (reload->http) {
    change->request = (segue__effect){.url = reload->http,
                                      .method = (char *)"POST",
                                      .verify = true,
                                      .timeout_ms = reload->within_ms};
    rc = change_run(change, &change->request, &error);
  } else if (reload->command.argv.count || reload->command.shell) {
    change->request = reload->command; /* borrowed: the run has a copy */
    if (!change->request.timeout_ms) change->request.timeout_ms = reload->within_ms;
    if (!change->request.folder) change->request.folder = change->instance->module->folder;
    rc = change_run(change, &change->request, &error);
  } else if (reload->signal >= SEGUE__RELOAD_SIGNALS) {
    rc = change_signal(change, &error);
  } else {
    change_delivered(change, "none");
  }
  if (rc) change_failed(change, rc, &error);
}

static void change_on_written(void *data, int status, const segue_error *error) {
  segue__child_change *change = data;
  change->write = NULL;
  if (status || !change->instance->child.managed)
    change_failed(change, status ? status : SEGUE_EMODULE, error);
  else
    change_act(change);
}

static void change_deliver(segue__child_change *change) {
  segue__process_instance *instance = change->instance;
  const segue__process_child *child = &instance->child;
  segue_error error;
  if (!change->delivers) {
    change_done(change, 0, NULL);
    return;
  }
  if (!child->slice_path) {
    change_act(change);
    return;
  }
  int rc = segue__slice_write_start(&change->write, instance->module->world, child->slice_path,
                                    instance->slice.data, instance->slice.len, NULL,
                                    change_on_written, change);
  if (!rc) return;
  segue__errorf(&error, rc, "the slice of the child cannot be written: %s", segue_strerror(rc));
  change_done(change, rc, &error);
}

/* ---- Commit and undo of a reload ---- */

/* The child moves from one instance to the other, unless it has ended: then a new one starts. */
static void change_begin(segue__step *step, segue__process_instance *from,
                         segue__process_instance *to, bool undoes) {
  segue__child_change *change = segue__calloc(1, sizeof *change);
  segue_error error;
  if (!change) {
    segue__errorf(&error, UV_ENOMEM, "out of memory");
    if (undoes)
      segue__step_undo_failed(step, &error);
    else
      segue__step_done(step, UV_ENOMEM, &error);
    return;
  }
  *change = (segue__child_change){.step = step,
                                  .instance = to,
                                  .reload = &change_next(step)->module->options.reload,
                                  .undoes = undoes,
                                  .delivers = !segue__hash_equal(from->slice_hash, to->slice_hash)};
  change->limit.data = change;
  to->change = change;
  segue__timer_stop(from->module->world->loop, &from->again);
  segue__timer_stop(to->module->world->loop, &to->again);
  to->stopping = false;
  int rc = segue__child_sockets_acquire(to, &error);
  if (rc) {
    change_done(change, rc, &error);
    return;
  }
  if (from->child.managed) {
    const segue__process_manner manner = segue__process_manner_of(&to->module->options);
    to->child = from->child;
    from->child = (segue__process_child){0};
    segue__managed_set_owner(to->child.managed, to);
    segue__managed_set_manner(to->child.managed, &manner);
    change_deliver(change);
  } else {
    segue__process_begin(to);
  }
}

static void reload_commit(segue__step *step) {
  segue__process_instance *next = change_next(step);
  next->on_trial = true;
  change_begin(step, change_old(step), next, false);
}

/* The commit may have failed before it moved anything. */
static void reload_undo(segue__step *step) {
  segue__process_instance *next = change_next(step), *old = change_old(step);
  next->on_trial = false;
  if (old->child.managed || old->finished)
    segue__step_unstart(step);
  else
    change_begin(step, next, old, true);
}

static void reload_hurry(segue__step *step) {
  segue__process_instance *const both[] = {change_next(step), change_old(step)};
  for (size_t i = 0; i < 2; i++) {
    const segue__child_change *change = both[i] ? both[i]->change : NULL;
    if (!change) continue;
    segue__effect_stop(change->run);
    if (both[i]->child.managed)
      segue__process_cancel(segue__managed_process(both[i]->child.managed));
    if (segue__timer_active(&change->limit))
      (void)segue__timer_start(both[i]->module->world->loop, (segue__timer *)&change->limit, 0,
                               change_on_limit);
  }
}

/* ---- A replaced child ---- */

static void process_settle(segue__step *step) {
  change_next(step)->on_trial = false;
  segue__step_retire(step);
}

static void process_start(segue__step *step) {
  change_next(step)->on_trial = true;
  segue__step_start(step);
}

static void restart_commit(segue__step *step) {
  change_next(step)->on_trial = true;
  segue__action_restart.commit(step);
}

static void restart_undo(segue__step *step) {
  segue__action_restart.undo(step);
}

static void restart_settle(segue__step *step) {
  change_next(step)->on_trial = false;
  segue__action_restart.settle(step);
}

/* Starts a child beside the one that runs, if there is one. */
#define STARTS_BESIDE                                                                              \
  .untried = "start", .builds = true, .prepare = segue__step_build, .commit = process_start,       \
  .undo = segue__step_unstart, .settle = process_settle

static const segue__action process_add = {.name = "add", STARTS_BESIDE};
static const segue__action process_handover = {.name = "handover", STARTS_BESIDE};
static const segue__action process_restart = {.name = "restart",
                                              .untried = "restart",
                                              .builds = true,
                                              .prepare = segue__step_build,
                                              .commit = restart_commit,
                                              .undo = restart_undo,
                                              .settle = restart_settle};
static const segue__action process_reload = {.name = "reload",
                                             .untried = "reload the child",
                                             .builds = true,
                                             .prepare = segue__step_build,
                                             .commit = reload_commit,
                                             .undo = reload_undo,
                                             .hurry = reload_hurry,
                                             .settle = process_settle};

const segue__action *segue__process_choose(const segue__module_spec *spec, const void *live,
                                           const segue_snapshot *next, bool forced) {
  const segue__process_instance *instance = live;
  const segue__process_module *module = spec->userdata;
  const segue__action *replace =
      spec->replace == SEGUE__HANDOVER ? &process_handover : &process_restart;
  if (!instance) return &process_add;
  if (forced || !instance->child.managed ||
      !segue__hash_equal(instance->module->launch, module->launch))
    return replace;
  const segue__child_reload_options *reload = &module->options.reload;
  const bool beside = reload->http || reload->command.argv.count || reload->command.shell ||
                      reload->signal != SEGUE__RELOAD_RESTART;
  const bool same = segue__hash_equal(instance->slice_hash, change_slice(module, next));
  return same || beside ? &process_reload : replace;
}
