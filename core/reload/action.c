/* SPDX-License-Identifier: MIT
 *
 * The actions on modules that have instances: add, swap, handover and restart build the next
 * instance beside the live one; remove and keep build none.
 */
#include "action.h"

#include <string.h>
#include <uv.h>

#include "../os/fault.h"
#include "effects.h"
#include "recover.h"
#include "run.h"

static uint64_t action_deadline(uint64_t ms, uint64_t otherwise) {
  return ms ? ms : otherwise;
}

void segue__step_done(segue__step *step, int status, const segue_error *error) {
  step->done(step, status, error);
}

segue__instance *segue__step_next(const segue__step *step) {
  return step->next;
}

const segue__instance *segue__step_old(const segue__step *step) {
  return step->old;
}

const char *segue__step_module_name(const segue__step *step) {
  return step->module->name;
}

const segue__module_spec *segue__step_spec(const segue__step *step) {
  return step->spec;
}

const segue_snapshot *segue__step_next_snapshot(const segue__step *step) {
  return step->txn->next;
}

bool segue__step_plans(const segue__step *step) {
  return step->txn->run->plan_only;
}

bool segue__step_follows_change(const segue__step *step) {
  for (size_t i = 0; i < step->txn->set.count; i++) {
    const segue__step *other = &step->txn->set.steps[i];
    if (!other->spec || !other->spec->unapplied || !other->action->changes || !other->next)
      continue;
    if (other->action->changes(other)) return true;
  }
  return false;
}

void segue__step_set_data(segue__step *step, void *data) {
  step->data = data;
}

void *segue__step_data(const segue__step *step) {
  return step->data;
}

/* ---- The next instance ---- */

static void discard_next(segue__txn *txn, segue__step *step) {
  segue__module_record *module = step->module;
  segue__instance_release(step->next);
  step->next = NULL;
  if (!module->live && !module->failure.failed && !step->old)
    segue__module_remove(txn->engine->modules, module);
  segue__undo_done(txn);
}

static void step_built(segue__instance *instance, segue__verb verb, int status,
                       const segue_error *error, void *data) {
  segue__step *step = data;
  (void)verb;
  if (status >= 0) segue__instance_inherit(instance, step->old);
  segue__step_done(step, status, status < 0 ? error : NULL);
}

void segue__step_build(segue__step *step) {
  segue__txn *txn = step->txn;
  segue__engine *engine = txn->engine;
  const segue__module_spec *spec = step->spec;
  segue_error open;
  int rc = segue__effects_check(step, &open);
  if (rc) {
    segue__step_done(step, rc, &open);
    return;
  }
  step->module = segue__module_get(engine->modules, spec);
  rc = step->module ? segue__undo_push(txn, discard_next, step) : UV_ENOMEM;
  if (!rc)
    rc = segue__instance_new(&step->next, engine->loop, engine->log, spec, txn->next, engine->live,
                             segue__modules_detached(engine->modules));
  if (rc < 0) {
    segue_error error;
    segue__errorf(&error, rc, "%s: %s", spec->name, segue_strerror(rc));
    segue__step_done(step, rc, &error);
    return;
  }
  segue__instance_call(step->next, SEGUE__PREPARE,
                       action_deadline(spec->prepare_ms, SEGUE__PREPARE_MS), step_built, step);
}

static void step_started(segue__instance *instance, segue__verb verb, int status,
                         const segue_error *error, void *data) {
  segue__step *step = data;
  segue__txn *txn = step->txn;
  (void)verb;
  step->started = status >= 0;
  if (status >= 0 && !segue__txn_failed(txn))
    segue__services_provide(txn->engine->modules, instance);
  segue__step_done(step, status, status < 0 ? error : NULL);
}

void segue__step_start(segue__step *step) {
  segue__instance_call(step->next, SEGUE__START,
                       action_deadline(step->spec->start_ms, SEGUE__START_MS), step_started, step);
}

static void next_stopped(segue__instance *instance, segue__verb verb, int status,
                         const segue_error *error, void *data) {
  segue__step *step = data;
  segue__txn *txn = step->txn;
  if (verb == SEGUE__DRAIN) {
    if (status < 0) segue__drain_cut(txn->engine->modules, step->module, instance, error);
    segue__instance_call(instance, SEGUE__STOP,
                         action_deadline(step->spec->stop_ms, SEGUE__STOP_MS), next_stopped, step);
    return;
  }
  if (status < 0) segue__txn_report(txn, error);
  step->stopped_cb(step);
}

/* Stops the next instance, which has served if the transaction has flipped, then calls cb. Threads
 * may be inside a service until a grace period is over, so a service that was offered is retired.
 */
static void stop_next(segue__step *step, void (*cb)(segue__step *step)) {
  segue__txn *txn = step->txn;
  if (txn->state < SEGUE__TXN_LIVE && segue__services_take(txn->engine->modules, step->next)) {
    segue__drain_instance(txn->engine->modules, step->module, step->next, true);
    step->next = NULL;
    cb(step);
    return;
  }
  step->stopped_cb = cb;
  if (txn->state >= SEGUE__TXN_LIVE)
    segue__instance_drain(step->next, &step->spec->drain, next_stopped, step);
  else
    segue__instance_call(step->next, SEGUE__STOP,
                         action_deadline(step->spec->stop_ms, SEGUE__STOP_MS), next_stopped, step);
}

/* ---- Add, swap, handover: the next instance starts beside the old one ---- */

static void beside_undone(segue__step *step) {
  segue__undo_done(step->txn);
}

/* After the flip the next one has served: it drains in the background, as an old one does. */
static void undo_beside(segue__step *step, bool after_grace) {
  segue__txn *txn = step->txn;
  if (!step->started) {
    beside_undone(step);
  } else if (txn->state >= SEGUE__TXN_LIVE) {
    segue__drain_instance(txn->engine->modules, step->module, step->next, after_grace);
    step->next = NULL;
    beside_undone(step);
  } else {
    stop_next(step, beside_undone);
  }
}

void segue__step_unstart(segue__step *step) {
  undo_beside(step, false);
}

static void undo_swap(segue__step *step) {
  undo_beside(step, true);
}

static void settle_beside(segue__step *step, bool after_grace) {
  segue__recover_clear(step->module);
  if (step->old)
    segue__drain_instance(step->txn->engine->modules, step->module, step->old, after_grace);
}

void segue__step_retire(segue__step *step) {
  settle_beside(step, false);
}

/* Calls of a service are not counted: the old one drains after a grace period. */
static void settle_swap(segue__step *step) {
  settle_beside(step, true);
}

/* ---- Restart: for what cannot exist twice ---- */

void segue__still_inside(const segue__step *step, segue_error *error) {
  size_t inside = segue__instance_inside(step->old);
  segue__errorf(error, SEGUE_ETIMEOUT, "module '%s': %zu %s still inside", step->module->name,
                inside, inside == 1 ? "is" : "are");
}

/* After a drain that failed or exceeded its time limit the old instance stops all the same; if its
 * policy wants the undo, a fresh instance replaces it. */
static void old_stopped(segue__instance *instance, segue__verb verb, int status,
                        const segue_error *error, void *data) {
  segue__step *step = data;
  segue__txn *txn = step->txn;
  if (verb == SEGUE__DRAIN) {
    if (status < 0) segue__drain_cut(txn->engine->modules, step->module, instance, error);
    if (status < 0 && step->spec->drain.over == SEGUE__OVER_UNDO) segue__txn_fail(txn, error);
    segue__instance_call(instance, SEGUE__STOP,
                         action_deadline(step->spec->stop_ms, SEGUE__STOP_MS), old_stopped, step);
  } else if (status < 0 || segue__txn_failed(txn)) {
    segue__step_done(step, status < 0 ? status : SEGUE_ECANCELLED, status < 0 ? error : NULL);
  } else {
    segue__step_start(step);
  }
}

/* After this step only a fresh instance can undo it. */
static void stop_old(segue__step *step) {
  segue__gate_shut(step->module->gate);
  step->old_state = SEGUE__OLD_STOPPED;
  segue__instance_drain(step->old, &step->spec->drain, old_stopped, step);
}

static void old_emptied(void *data, bool all) {
  segue__step *step = data;
  segue__txn *txn = step->txn;
  segue_error error;
  bool cancelled = segue__txn_failed(txn) || txn->rejected || txn->run->put_off;
  step->old_state = SEGUE__OLD_SERVES;
  if (all && !cancelled) {
    stop_old(step);
    return;
  }
  if (!cancelled) segue__still_inside(step, &error);
  segue__step_done(step, cancelled ? SEGUE_ECANCELLED : error.code, cancelled ? NULL : &error);
}

/* A restart drains and stops the old instance first. With over = "undo" the old instance is not
 * drained before every call has left it, so that the undo has only to open its gate. */
static void commit_restart(segue__step *step) {
  if (step->spec->drain.over != SEGUE__OVER_UNDO) {
    stop_old(step);
    return;
  }
  segue__gate_shut(step->module->gate);
  step->old_state = SEGUE__OLD_EMPTIES;
  segue__instance_wait_left(step->old, &step->spec->drain, old_emptied, step);
}

void segue__step_undo_failed(segue__step *step, const segue_error *error) {
  segue__module_record *module = step->module;
  segue__txn *txn = step->txn;
  segue__instance *fresh = step->fresh; /* error may be in it: it is released last */
  step->fresh = NULL;
  segue__effects_keep(step);
  segue__recover_lost(txn->engine, module, error);
  txn->result->undo_failed = true;
  segue__txn_report(txn, error);
  segue__instance_release(fresh);
  segue__undo_done(txn);
}

static void fresh_serves(segue__step *step) {
  segue__txn *txn = step->txn;
  int rc = segue__gate_open(step->module->gate, step->fresh, txn->engine->live);
  if (rc < 0) {
    segue_error error;
    segue__errorf(&error, rc, "module '%s' is back, but its gate could not be opened: %s",
                  step->module->name, segue_strerror(rc));
    segue__step_undo_failed(step, &error);
    return;
  }
  segue__module_set_live(step->module, step->fresh);
  step->fresh = NULL;
  segue__undo_done(txn);
}

static void fresh_stepped(segue__instance *instance, segue__verb verb, int status,
                          const segue_error *error, void *data) {
  segue__step *step = data;
  const segue__module_spec *spec =
      segue__policy_module(step->txn->engine->policy, step->module->name);
  if (status < 0)
    segue__step_undo_failed(step, error);
  else if (verb == SEGUE__PREPARE)
    segue__instance_call(instance, SEGUE__START, action_deadline(spec->start_ms, SEGUE__START_MS),
                         fresh_stepped, step);
  else
    fresh_serves(step);
}

/* The old instance has stopped, and no instance starts twice: a fresh one is built from the
 * previous snapshot. */
static void bring_back(segue__step *step) {
  segue__engine *engine = step->txn->engine;
  const segue__module_spec *spec = segue__policy_module(engine->policy, step->module->name);
  segue__instance_release(step->old);
  step->old = NULL;
  segue__module_set_live(step->module, NULL);
  int rc = SEGUE_FAULT("undo.fresh");
  if (!rc)
    rc = segue__instance_new(&step->fresh, engine->loop, engine->log, spec, engine->live, NULL,
                             segue__modules_detached(engine->modules));
  if (rc < 0) {
    segue_error error;
    segue__errorf(&error, rc, "module '%s' could not be brought back: %s", step->module->name,
                  segue_strerror(rc));
    segue__step_undo_failed(step, &error);
    return;
  }
  segue__instance_call(step->fresh, SEGUE__PREPARE,
                       action_deadline(spec->prepare_ms, SEGUE__PREPARE_MS), fresh_stepped, step);
}

void segue__step_open_again(segue__step *step) {
  segue__module_record *module = step->module;
  if (SEGUE_FAULT("undo.open") < 0) return;
  if (module->live && segue__gate_state_get(module->gate) == SEGUE__GATE_SHUT)
    (void)segue__gate_open(module->gate, module->live, step->txn->engine->live);
}

static void undo_restart(segue__step *step) {
  if (step->old_state != SEGUE__OLD_STOPPED) {
    segue__step_open_again(step);
    segue__undo_done(step->txn);
  } else if (step->started) {
    stop_next(step, bring_back);
  } else {
    bring_back(step);
  }
}

static void settle_restart(segue__step *step) {
  segue__recover_clear(step->module);
  segue__instance_release(step->old);
}

/* ---- Remove ---- */

void segue__step_remove(segue__step *step) {
  segue__modules *modules = step->txn->engine->modules;
  if (step->old) segue__drain_instance(modules, step->module, step->old, false);
  segue__module_remove(modules, step->module);
}

/* ---- The tables ---- */

const segue__action segue__action_keep = {.name = "keep", .keeps = true};

#define STARTS_NEXT                                                                                \
  .untried = "start", .builds = true, .prepare = segue__step_build, .commit = segue__step_start
#define STARTS_BESIDE STARTS_NEXT, .undo = segue__step_unstart, .settle = segue__step_retire

const segue__action segue__action_add = {.name = "add", STARTS_BESIDE};

const segue__action segue__action_swap = {
    .name = "swap", STARTS_NEXT, .undo = undo_swap, .settle = settle_swap};

const segue__action segue__action_handover = {.name = "handover", STARTS_BESIDE};

const segue__action segue__action_restart = {.name = "restart",
                                             .untried = "restart",
                                             .builds = true,
                                             .prepare = segue__step_build,
                                             .commit = commit_restart,
                                             .undo = undo_restart,
                                             .settle = settle_restart};

const segue__action segue__action_remove = {
    .name = "remove", .untried = "stop", .settle = segue__step_remove};
