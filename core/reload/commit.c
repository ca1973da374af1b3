/* SPDX-License-Identifier: MIT
 *
 * Prepare, commit and the undo log. Every step that could need undoing pushes its inverse first or
 * at once; undo runs the log backwards. Only flip changes what readers and callers see.
 */
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../os/fault.h"
#include "action.h"
#include "drift.h"
#include "guard.h"
#include "operator.h"
#include "run.h"
#include "step.h"
#include "wants.h"

static void prepare_walk(segue__txn *txn);
static void commit_walk(segue__txn *txn);
static void commit_flip(segue__txn *txn);
static void undo_walk(segue__txn *txn);

static void step_failed(segue__txn *txn, int code, const char *what) {
  segue_error error;
  segue__errorf(&error, code, "%s: %s", what, segue_strerror(code));
  segue__txn_step_end(txn, &error);
}

int segue__undo_push(segue__txn *txn, segue__undo_fn *fn, segue__step *step) {
  if (txn->set.undo_count == txn->set.undo_capacity) {
    size_t capacity = txn->set.undo_capacity ? txn->set.undo_capacity * 2 : 16;
    segue__undo *undo = segue__realloc(txn->set.undo, capacity * sizeof *undo);
    if (!undo) return UV_ENOMEM;
    txn->set.undo = undo;
    txn->set.undo_capacity = capacity;
  }
  txn->set.undo[txn->set.undo_count++] = (segue__undo){fn, step};
  return 0;
}

/* "commit.2": the point before the step with that number, counted from 1. */
static int fault_at(const char *phase, size_t number) {
  char point[32];
  snprintf(point, sizeof point, "%s.%zu", phase, number);
  return SEGUE_FAULT(point);
}

/* ---- Prepare ---- */

static void undo_stage(segue__txn *txn, segue__step *step) {
  const segue__triggers_ops *triggers = &txn->engine->options.triggers;
  (void)step;
  triggers->discard(triggers->data);
  segue__undo_done(txn);
}

static int commit_stage(segue__txn *txn) {
  const segue__triggers_ops *triggers = &txn->engine->options.triggers;
  bool plan = txn->run->plan_only;
  int (*open)(void *, const segue__policy *, segue__errors *) =
      plan ? triggers->rehearse : triggers->stage;
  if (!open || txn->policy == txn->engine->policy) return 0;
  size_t before = txn->result->errors.count;
  segue__errors errors;
  segue__errors_init(&errors);
  int rc = open(triggers->data, txn->policy, &errors);
  segue__txn_fail_with(txn, &errors, "triggers");
  segue__errors_deinit(&errors);
  if (rc < 0 && txn->result->errors.count == before)
    step_failed(txn, rc, "triggers");
  else if (rc < 0)
    segue__txn_step_end(txn, NULL);
  if (rc < 0 || plan) return rc;
  txn->set.staged = true;
  return segue__undo_push(txn, undo_stage, NULL);
}

/* Reserves room for every possible entry of the undo log, so that none fails after something was
 * done: each module may be shut, built and committed. */
static int reserve_undo(segue__txn *txn) {
  size_t capacity = txn->set.undo_count + 3 * txn->set.count + 2;
  segue__undo *undo = segue__realloc(txn->set.undo, capacity * sizeof *undo);
  if (!undo) return UV_ENOMEM;
  txn->set.undo = undo;
  txn->set.undo_capacity = capacity;
  return 0;
}

void segue__prepare_run(segue__txn *txn) {
  txn->set.cursor = 0;
  segue__wants_try(txn->engine, txn->policy, txn->run->plan_only);
  if (reserve_undo(txn)) {
    step_failed(txn, UV_ENOMEM, "prepare");
    return;
  }
  if (commit_stage(txn) == 0) prepare_walk(txn);
}

/* Runs the undo of an action with undo_last, after the undos of all commits. It is pushed before
 * them on the stack of undos. */
static void undo_committed(segue__txn *txn, segue__step *step) {
  if (step->committed)
    step->action->undo(step);
  else
    segue__undo_done(txn);
}

static void prepare_done(segue__step *step, int status, const segue_error *error) {
  segue__txn *txn = step->txn;
  if (status < 0) {
    segue__txn_step_end(txn, error);
    return;
  }
  if (step->action->last) segue__undo_push(txn, undo_committed, step);
  txn->set.cursor++;
  prepare_walk(txn);
}

static void prepare_walk(segue__txn *txn) {
  while (txn->set.cursor < txn->set.count && !txn->set.steps[txn->set.cursor].action->prepare)
    txn->set.cursor++;
  int rc = fault_at("prepare", txn->set.cursor + 1);
  if (segue__txn_failed(txn) || rc < 0 || txn->set.cursor == txn->set.count) {
    if (!segue__txn_failed(txn) && rc == 0) txn->state = SEGUE__TXN_PREPARED;
    if (rc < 0)
      step_failed(txn, rc, "prepare");
    else
      segue__txn_step_end(txn, NULL);
    return;
  }
  segue__step *step = &txn->set.steps[txn->set.cursor];
  step->done = prepare_done;
  step->action->prepare(step);
}

/* ---- Commit ---- */

void segue__commit_run(segue__txn *txn) {
  txn->set.cursor = 0;
  commit_walk(txn);
}

static void undo_shut(segue__txn *txn, segue__step *step) {
  segue__step_open_again(step); /* if it cannot, the end of the transaction tries again */
  segue__undo_done(txn);
}

int segue__step_shut(segue__txn *txn, segue__step *step) {
  if (step->gate == SEGUE__STEP_SHUT) return 0;
  if (step->gate == SEGUE__STEP_UNTOUCHED && segue__undo_push(txn, undo_shut, step))
    return UV_ENOMEM;
  step->gate = SEGUE__STEP_SHUT;
  segue__gate_shut(step->module->gate);
  return 0;
}

static void undo_commit(segue__txn *txn, segue__step *step) {
  (void)txn;
  step->action->undo(step);
}

/* The inverse is on the undo log before the first effect, and prepare has made room for it. */
void segue__step_commit(segue__step *step,
                        void (*done)(segue__step *step, int status, const segue_error *error)) {
  step->committed = true;
  if (!step->action->last) segue__undo_push(step->txn, undo_commit, step);
  step->done = done;
  step->action->commit(step);
}

/* Returns whether a module has as many old instances as it may have, and its policy wants to wait.
 */
static bool waits_for_old(const segue__txn *txn) {
  for (size_t i = 0; i < txn->set.count; i++) {
    const segue__step *step = &txn->set.steps[i];
    bool retires = step->old && !step->action->keeps && step->old_state != SEGUE__OLD_STOPPED;
    if (!retires || !segue__drain_instance_waits(step->module)) continue;
    SEGUE__LOG(txn->engine->log, SEGUE_INFO, "reload", "waits for an old instance to drain",
               SEGUE__FIELD("module", step->module->name));
    return true;
  }
  return false;
}

static void commit_drained(void *data) {
  segue__txn *txn = data;
  segue__drain_watch(txn->engine->modules, NULL, NULL);
  commit_walk(txn);
}

void segue__commit_expedite(segue__txn *txn) {
  for (size_t i = 0; i < txn->set.count; i++)
    if (txn->set.steps[i].old_state == SEGUE__OLD_EMPTIES)
      segue__instance_stop_waiting(txn->set.steps[i].old);
  if (segue__drain_watched(txn->engine->modules)) commit_drained(txn);
}

/* Cancels the builds that are running: each ends soon, or at its deadline. */
void segue__commit_abandon(segue__txn *txn) {
  for (size_t i = 0; i < txn->set.count; i++) {
    segue__instance *next = txn->set.steps[i].next;
    if (!next) continue;
    segue__instance_expedite(next, SEGUE__PREPARE);
    segue__instance_expedite(next, SEGUE__START);
  }
  segue__commit_expedite(txn);
}

void segue__commit_hurry(segue__txn *txn) {
  for (size_t i = 0; i < txn->set.count; i++) {
    segue__step *step = &txn->set.steps[i];
    if (step->next && step->action->hurry) step->action->hurry(step);
  }
}

static void commit_done(segue__step *step, int status, const segue_error *error) {
  segue__txn *txn = step->txn;
  if (status < 0 || segue__txn_failed(txn)) {
    segue__txn_step_end(txn, error);
    return;
  }
  txn->set.cursor++;
  commit_walk(txn);
}

static void commit_walk(segue__txn *txn) {
  while (txn->set.cursor < txn->set.count && (!txn->set.steps[txn->set.cursor].action->commit ||
                                              txn->set.steps[txn->set.cursor].manual.acted))
    txn->set.cursor++;
  int rc = fault_at("commit", txn->set.cursor + 1);
  if (rc < 0)
    step_failed(txn, rc, "commit");
  else if (segue__txn_failed(txn))
    segue__txn_step_end(txn, NULL);
  else if (txn->set.cursor == txn->set.count && waits_for_old(txn))
    segue__drain_watch(txn->engine->modules, commit_drained, txn);
  else if (txn->set.cursor == txn->set.count)
    commit_flip(txn);
  else
    segue__step_commit(&txn->set.steps[txn->set.cursor], commit_done);
}

/* ---- Flip ---- */

/* Returns the instance of the module after the flip, or NULL. */
static segue__instance *instance_after(const segue__step *step) {
  return step->action->builds ? step->next : step->action->keeps ? step->module->live : NULL;
}

/* Calls that enter after the flip get the next snapshot, also of a module whose instance stays. */
static int reserve_gates(segue__txn *txn) {
  int rc = 0;
  for (size_t i = 0; i < txn->set.count && !rc; i++) {
    segue__step *step = &txn->set.steps[i];
    segue__instance *instance = instance_after(step);
    if (instance) rc = segue__gate_reserve(step->module->gate, instance, txn->next);
  }
  return rc;
}

static void unreserve_gates(segue__txn *txn) {
  for (size_t i = 0; i < txn->set.count; i++)
    if (txn->set.steps[i].module) segue__gate_unreserve(txn->set.steps[i].module->gate);
}

static void flip_staged(const segue__txn *txn, bool back) {
  const segue__triggers_ops *triggers = &txn->engine->options.triggers;
  if (txn->set.staged && triggers->flip) triggers->flip(triggers->data, back);
}

static void commit_limit(const segue__step *step, const segue__module_spec *spec) {
  static const segue__gate_limits defaults;
  segue__gate_limit(step->module->gate, spec ? &spec->buffer : &defaults);
}

static void undo_flip(segue__txn *txn, segue__step *none) {
  segue__engine *engine = txn->engine;
  int rc = SEGUE_FAULT("undo.flip"); /* only to be killed here */
  (void)rc, (void)none;
  /* Cannot fail: flip reserved it. */
  if (engine->options.publication) segue__publish(engine->options.publication, txn->was_live);
  segue__engine_drop(engine, engine->live);
  engine->live = txn->was_live;
  txn->was_live = NULL;
  for (size_t i = 0; i < txn->set.count; i++) {
    segue__step *step = &txn->set.steps[i];
    segue__module_set_live(step->module, step->old);
    commit_limit(step, segue__policy_module(engine->policy, step->module->name));
    if (step->old_state == SEGUE__OLD_STOPPED)
      segue__gate_shut(step->module->gate);
    else
      segue__gate_unflip(step->module->gate);
  }
  segue__services_update(engine->modules);
  flip_staged(txn, true);
  segue__undo_done(txn);
}

/* Exchanges snapshot and gates in one step on the control thread: from here on new calls enter the
 * next generation, and calls that waited at a shut gate are admitted. No step in here can fail. */
static void commit_flip(segue__txn *txn) {
  segue__engine *engine = txn->engine;
  int rc = SEGUE_FAULT("commit.flip");
  if (!rc) rc = reserve_gates(txn);
  if (!rc && engine->options.publication)
    rc = segue__publication_reserve(engine->options.publication, 2); /* one for the way back */
  if (!rc && engine->options.publication)
    rc = segue__publish(engine->options.publication, txn->next);
  if (rc < 0) {
    unreserve_gates(txn);
    step_failed(txn, rc, "publish");
    return;
  }
  segue__undo_push(txn, undo_flip, NULL);
  txn->was_live = engine->live;
  engine->live = (segue_snapshot *)segue_snapshot_ref(txn->next);
  if (engine->last_generation < txn->next->generation)
    engine->last_generation = txn->next->generation;
  txn->state = SEGUE__TXN_LIVE;
  segue__operator_started(txn);
  for (size_t i = 0; i < txn->set.count; i++) {
    segue__step *step = &txn->set.steps[i];
    segue__module_set_live(step->module, instance_after(step));
    commit_limit(step, step->spec);
    segue__gate_flip(step->module->gate);
  }
  segue__services_update(engine->modules);
  flip_staged(txn, false);
  segue__txn_step_end(txn, NULL);
}

/* ---- Settled ---- */

/* The list of modules follows the order of starting, so that shutdown can go through it backwards.
 */
static void order_modules(segue__txn *txn) {
  size_t placed = 0;
  for (size_t i = 0; i < txn->set.count; i++)
    if (instance_after(&txn->set.steps[i]))
      segue__module_place(txn->engine->modules, txn->set.steps[i].module, placed++);
}

void segue__commit_settle(segue__txn *txn) {
  segue__engine *engine = txn->engine;
  if (txn->set.staged && engine->options.triggers.settle)
    engine->options.triggers.settle(engine->options.triggers.data);
  order_modules(txn);
  for (size_t i = 0; i < txn->set.count; i++) {
    segue__step *step = &txn->set.steps[i];
    segue__gate_settle(step->module->gate);
    if (!step->action->keeps) segue__drift_clear(step->module);
    if (step->spec) segue__module_settle(step->module, step->spec);
    if (step->action->settle) step->action->settle(step);
  }
  segue__engine_drop(engine, engine->previous);
  engine->previous = txn->was_live;
  txn->was_live = NULL;
  engine->live_input = txn->content.input;
  if (engine->resumes && txn->origin == SEGUE__LATER) txn->origin = SEGUE__FIRST;
  engine->resumes = false;
  if (engine->record)
    segue__record_limit(engine->record, &(segue__history_limits){txn->policy->history_reloads,
                                                                 txn->policy->history_generations,
                                                                 txn->policy->history_age_ms,
                                                                 txn->policy->history_bytes});
  if (engine->policy != txn->policy) {
    segue__policy_unref(engine->policy);
    engine->policy = segue__policy_ref(txn->policy);
    segue__source_set set = segue__policy_sources(engine->policy);
    segue__sources_settle(engine->sources, &set);
  }
  segue__wants_settle(engine);
  segue__guards_settle(txn);
}

void segue__change_set_report(segue__txn *txn, segue__file_changes *out) {
  for (size_t i = 0; i < txn->set.count; i++) {
    segue__step *step = &txn->set.steps[i];
    if (step->action->report) step->action->report(step, out);
  }
}

void segue__change_set_close(segue__txn *txn, bool recorded) {
  for (size_t i = 0; i < txn->set.count; i++) {
    segue__step *step = &txn->set.steps[i];
    if (step->action->close) step->action->close(step, recorded);
  }
}

segue__module_record *segue__change_set_builds(const segue__txn *txn,
                                               const segue__instance *instance) {
  for (size_t i = 0; i < txn->set.count; i++)
    if (txn->set.steps[i].next == instance) return txn->set.steps[i].module;
  return NULL;
}

void segue__change_set_free(segue__txn *txn) {
  segue__change_set *set = &txn->set;
  for (size_t i = 0; i < set->count; i++) {
    segue__step *step = &set->steps[i];
    if (!step->next || !step->module) continue;
    /* The record of a module that was removed may be free already. */
    const bool may_live = step->action->builds || step->action->keeps;
    if (!may_live || step->next != step->module->live) segue__instance_release(step->next);
  }
  segue__free(set->steps);
  segue__free(set->undo);
}

/* ---- Undo ---- */

void segue__undo_run(segue__txn *txn, void (*undone)(segue__txn *txn)) {
  txn->set.undone = undone;
  undo_walk(txn);
}

/* One entry at a time, the last one first. An entry that ends before its function returns does not
 * recurse. */
static void undo_walk(segue__txn *txn) {
  while (txn->set.undo_count) {
    segue__undo undo = txn->set.undo[--txn->set.undo_count];
    txn->set.undo_state = SEGUE__UNDO_CALLED;
    undo.fn(txn, undo.step);
    if (txn->set.undo_state != SEGUE__UNDO_CALLED) continue;
    txn->set.undo_state = SEGUE__UNDO_WAITS;
    return;
  }
  txn->set.undone(txn);
}

void segue__undo_done(segue__txn *txn) {
  bool waits = txn->set.undo_state == SEGUE__UNDO_WAITS;
  txn->set.undo_state = SEGUE__UNDO_DONE;
  if (waits) undo_walk(txn);
}
