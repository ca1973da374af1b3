/* SPDX-License-Identifier: MIT
 *
 * Prepare, commit and the undo log. Every step that could need undoing pushes its inverse first or
 * at once; undo runs the log backwards. Only flip changes what readers and callers see.
 */
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../os/fault.h"
#include "txn.h"

static void prepare_next(segue__txn *txn);
static void prepared(segue__instance *instance, segue__verb verb, int status,
                     const segue_error *error, void *data);
static void commit_next(segue__txn *txn);
static void stepped(segue__instance *instance, segue__verb verb, int status,
                    const segue_error *error, void *data);
static void flip(segue__txn *txn);
static void step_over(segue__step *step, bool good, const segue_error *error);
static void undo_next(segue__txn *txn);
static void undo_stepped(segue__instance *instance, segue__verb verb, int status,
                         const segue_error *error, void *data);

static uint64_t deadline(uint64_t ms, uint64_t otherwise) {
  return ms ? ms : otherwise;
}

static bool builds(const segue__step *step) {
  return step->action != SEGUE__ACTION_KEEP && step->action != SEGUE__ACTION_REMOVE;
}

static void step_failed(segue__txn *txn, int code, const char *what) {
  segue_error error;
  segue__error_set(&error, code, "%s: %s", what, segue_strerror(code));
  segue__txn_step_end(txn, &error);
}

int segue__undo_push(segue__txn *txn, segue__undo_kind kind, segue__step *step) {
  if (txn->undo_count == txn->undo_capacity) {
    size_t capacity = txn->undo_capacity ? txn->undo_capacity * 2 : 16;
    segue__undo *undo = segue__realloc(txn->undo, capacity * sizeof *undo);
    if (!undo) return UV_ENOMEM;
    txn->undo = undo;
    txn->undo_capacity = capacity;
  }
  txn->undo[txn->undo_count++] = (segue__undo){kind, step};
  return 0;
}

/* "commit.2": the point before the step with that number, counted from 1. */
static int fault_at(const char *phase, size_t number) {
  char point[32];
  snprintf(point, sizeof point, "%s.%zu", phase, number);
  return SEGUE_FAULT(point);
}

/* ---- Prepare ---- */

static int stage(segue__txn *txn) {
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
  txn->staged = true;
  return segue__undo_push(txn, SEGUE__UNDO_STAGE, NULL);
}

/* Room for every undo entry there can be, so that none fails once something was done: each module
 * may be shut, built, stopped and started. */
static int reserve_undo(segue__txn *txn) {
  size_t capacity = txn->undo_count + 4 * txn->step_count + 2;
  segue__undo *undo = segue__realloc(txn->undo, capacity * sizeof *undo);
  if (!undo) return UV_ENOMEM;
  txn->undo = undo;
  txn->undo_capacity = capacity;
  return 0;
}

void segue__prepare_run(segue__txn *txn) {
  txn->cursor = 0;
  if (reserve_undo(txn)) {
    step_failed(txn, UV_ENOMEM, "prepare");
    return;
  }
  if (stage(txn) == 0) prepare_next(txn);
}

static void prepare_next(segue__txn *txn) {
  segue__engine *engine = txn->engine;
  while (txn->cursor < txn->step_count && !builds(&txn->steps[txn->cursor]))
    txn->cursor++;
  int rc = fault_at("prepare", txn->cursor + 1);
  if (txn->failed || rc < 0 || txn->cursor == txn->step_count) {
    txn->prepared = !txn->failed && rc == 0;
    if (rc < 0)
      step_failed(txn, rc, "prepare");
    else
      segue__txn_step_end(txn, NULL);
    return;
  }
  segue__step *step = &txn->steps[txn->cursor];
  step->module = segue__module_get(engine, step->spec);
  rc = step->module ? segue__instance_new(&step->next, engine->loop, engine->log, step->spec,
                                          txn->next, engine->live, &engine->limbo)
                    : UV_ENOMEM;
  if (rc < 0) {
    step_failed(txn, rc, step->spec->name);
    return;
  }
  segue__undo_push(txn, SEGUE__UNDO_BUILT, step);
  segue__instance_call(step->next, SEGUE__PREPARE,
                       deadline(step->spec->prepare_ms, SEGUE__PREPARE_MS), prepared, txn);
}

static void prepared(segue__instance *instance, segue__verb verb, int status,
                     const segue_error *error, void *data) {
  (void)verb;
  segue__txn *txn = data;
  if (status < 0) {
    segue__txn_step_end(txn, error);
    return;
  }
  segue__instance_inherit(instance, txn->steps[txn->cursor].old);
  txn->cursor++;
  prepare_next(txn);
}

/* ---- Commit ---- */

void segue__commit_run(segue__txn *txn) {
  txn->cursor = 0;
  commit_next(txn);
}

static void start(segue__step *step) {
  segue__instance_call(step->next, SEGUE__START, deadline(step->spec->start_ms, SEGUE__START_MS),
                       stepped, step);
}

int segue__step_shut(segue__txn *txn, segue__step *step) {
  if (step->shut) return 0;
  if (!step->was_shut && segue__undo_push(txn, SEGUE__UNDO_SHUT, step)) return UV_ENOMEM;
  step->shut = step->was_shut = true;
  segue__gate_shut(step->module->gate);
  return 0;
}

void segue__still_inside(const segue__step *step, segue_error *error) {
  size_t inside = segue__instance_inside(step->old);
  segue__error_set(error, SEGUE_ETIMEOUT, "module '%s': %zu %s still inside", step->module->name,
                   inside, inside == 1 ? "is" : "are");
}

/* From here on only a fresh instance can undo it. */
static void drain_old(segue__txn *txn, segue__step *step) {
  segue__gate_shut(step->module->gate);
  segue__undo_push(txn, SEGUE__UNDO_STOPPED, step);
  segue__instance_drain(step->old, &step->spec->drain, stepped, step);
}

static void emptied(void *data, bool all) {
  segue__step *step = data;
  segue__txn *txn = step->txn;
  segue_error error;
  bool given_up = txn->failed || txn->rejected || txn->run->put_off;
  step->waits_for_leaving = false;
  if (all && !given_up) {
    drain_old(txn, step);
    return;
  }
  if (!given_up) segue__still_inside(step, &error);
  step_over(step, false, given_up ? NULL : &error);
}

/* A restart drains and stops the old instance first. With over = "undo" the old instance is not
 * drained before every call has left it, so that the undo has only to open its gate. */
static void restart(segue__txn *txn, segue__step *step) {
  if (step->spec->drain.over != SEGUE__OVER_UNDO) {
    drain_old(txn, step);
    return;
  }
  (void)segue__step_shut(txn, step); /* prepare has made room */
  step->waits_for_leaving = true;
  segue__instance_wait_left(step->old, &step->spec->drain, emptied, step);
}

void segue__commit_step(segue__txn *txn, segue__step *step) {
  if (step->action == SEGUE__ACTION_RESTART)
    restart(txn, step);
  else
    start(step);
}

/* One more old instance would be one too many for this module. */
static bool waits_for_old(const segue__txn *txn) {
  for (size_t i = 0; i < txn->step_count; i++) {
    const segue__step *step = &txn->steps[i];
    bool retires =
        step->old && step->action != SEGUE__ACTION_KEEP && step->action != SEGUE__ACTION_RESTART;
    if (!retires || !segue__retire_waits(step->module)) continue;
    segue__log(txn->engine->log, SEGUE__INFO, "reload", "waits for an old instance to drain",
               "module", 's', step->module->name, NULL);
    return true;
  }
  return false;
}

void segue__commit_goes_on(segue__txn *txn) {
  txn->waits_for_old = false;
  commit_next(txn);
}

void segue__commit_hurry(segue__txn *txn) {
  for (size_t i = 0; i < txn->step_count; i++)
    if (txn->steps[i].waits_for_leaving) segue__instance_stop_waiting(txn->steps[i].old);
  if (txn->waits_for_old) segue__commit_goes_on(txn);
}

/* Cancels the builds that are running: each ends soon, or at its deadline. */
void segue__commit_give_up(segue__txn *txn) {
  for (size_t i = 0; i < txn->step_count; i++) {
    segue__instance *next = txn->steps[i].next;
    if (!next) continue;
    segue__instance_hurry(next, SEGUE__PREPARE);
    segue__instance_hurry(next, SEGUE__START);
  }
  segue__commit_hurry(txn);
}

static void commit_next(segue__txn *txn) {
  while (txn->cursor < txn->step_count &&
         (!builds(&txn->steps[txn->cursor]) || txn->steps[txn->cursor].acted))
    txn->cursor++;
  int rc = fault_at("commit", txn->cursor + 1);
  if (rc < 0)
    step_failed(txn, rc, "commit");
  else if (txn->failed)
    segue__txn_step_end(txn, NULL);
  else if (txn->cursor == txn->step_count && waits_for_old(txn))
    txn->waits_for_old = true;
  else if (txn->cursor == txn->step_count)
    flip(txn);
  else
    segue__commit_step(txn, &txn->steps[txn->cursor]);
}

/* error: why not; NULL: it is done, or the transaction has failed meanwhile. */
static void step_over(segue__step *step, bool good, const segue_error *error) {
  segue__txn *txn = step->txn;
  if (step->busy) {
    if (error) segue__txn_fail(txn, error);
    segue__hand_end(step, good ? NULL : &txn->failure);
  } else if (good) {
    txn->cursor++;
    commit_next(txn);
  } else {
    segue__txn_step_end(txn, error);
  }
}

/* A drain that fails or runs over: the old instance stops all the same, and if its policy would
 * rather undo, a fresh one takes its place. */
static void stepped(segue__instance *instance, segue__verb verb, int status,
                    const segue_error *error, void *data) {
  segue__step *step = data;
  segue__txn *txn = step->txn;
  if (verb == SEGUE__DRAIN) {
    if (status < 0) segue__drain_cut(txn->engine, step->module, instance, error);
    if (status < 0 && step->spec->drain.over == SEGUE__OVER_UNDO) segue__txn_fail(txn, error);
    segue__instance_call(instance, SEGUE__STOP, deadline(step->spec->stop_ms, SEGUE__STOP_MS),
                         stepped, step);
    return;
  }
  bool good = status >= 0 && !txn->failed;
  if (verb == SEGUE__STOP && good) {
    start(step);
    return;
  }
  if (verb == SEGUE__START && status >= 0) segue__undo_push(txn, SEGUE__UNDO_STARTED, step);
  if (verb == SEGUE__START && good) segue__services_lend(txn->engine, instance);
  step_over(step, good, status < 0 ? error : NULL);
}

/* Calls that enter after the flip get the next snapshot, also of a module whose instance stays. */
static int reserve_gates(segue__txn *txn) {
  int rc = 0;
  for (size_t i = 0; i < txn->step_count && !rc; i++) {
    segue__step *step = &txn->steps[i];
    segue__instance *instance = builds(step)                         ? step->next
                                : step->action == SEGUE__ACTION_KEEP ? step->module->live
                                                                     : NULL;
    if (instance) rc = segue__gate_reserve(step->module->gate, instance, txn->next);
  }
  return rc;
}

static void unreserve_gates(segue__txn *txn) {
  for (size_t i = 0; i < txn->step_count; i++)
    if (txn->steps[i].module) segue__gate_unreserve(txn->steps[i].module->gate);
}

static void flip_staged(const segue__txn *txn, bool back) {
  const segue__triggers_ops *triggers = &txn->engine->options.triggers;
  if (txn->staged && triggers->flip) triggers->flip(triggers->data, back);
}

static void limit(const segue__step *step, const segue__module_spec *spec) {
  static const segue__gate_limits defaults;
  segue__gate_limit(step->module->gate, spec ? &spec->buffer : &defaults);
}

/* Snapshot and gates, in one step on the control thread: from here on arrivals meet the new
 * generation, and those that waited at a shut gate go in. Nothing in here can fail half-way. */
static void flip(segue__txn *txn) {
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
  segue__undo_push(txn, SEGUE__UNDO_FLIP, NULL);
  txn->was_live = engine->live;
  engine->live = (segue_snapshot *)segue_snapshot_ref(txn->next);
  if (engine->last_generation < txn->next->generation)
    engine->last_generation = txn->next->generation;
  txn->flipped = true;
  for (size_t i = 0; i < txn->step_count; i++) {
    segue__step *step = &txn->steps[i];
    if (builds(step))
      step->module->live = step->next;
    else if (step->action == SEGUE__ACTION_REMOVE)
      step->module->live = NULL;
    limit(step, step->spec);
    segue__gate_flip(step->module->gate);
  }
  segue__services_update(engine);
  flip_staged(txn, false);
  segue__txn_step_end(txn, NULL);
}

/* ---- Settled ---- */

/* The engine's list follows the order of starting, so that shutdown can go through it backwards. */
static void order_modules(segue__txn *txn) {
  segue__engine *engine = txn->engine;
  size_t placed = 0;
  for (size_t i = 0; i < txn->step_count; i++) {
    if (txn->steps[i].action == SEGUE__ACTION_REMOVE) continue;
    size_t at = placed;
    while (at < engine->module_count && engine->modules[at] != txn->steps[i].module)
      at++;
    if (at == engine->module_count) continue;
    memmove(&engine->modules[placed + 1], &engine->modules[placed],
            (at - placed) * sizeof(segue__module *));
    engine->modules[placed++] = txn->steps[i].module;
  }
}

void segue__commit_settle(segue__txn *txn) {
  segue__engine *engine = txn->engine;
  if (txn->staged && engine->options.triggers.settle)
    engine->options.triggers.settle(engine->options.triggers.data);
  order_modules(txn);
  for (size_t i = 0; i < txn->step_count; i++) {
    segue__step *step = &txn->steps[i];
    segue__gate_settle(step->module->gate);
    if (builds(step)) step->module->failed = false;
    if (step->action == SEGUE__ACTION_REMOVE) step->module->removed = true;
    if (step->action == SEGUE__ACTION_RESTART)
      segue__instance_release(step->old);
    else if (step->old && step->action != SEGUE__ACTION_KEEP)
      segue__retire(engine, step->module, step->old, step->action == SEGUE__ACTION_SWAP);
    else if (step->action == SEGUE__ACTION_REMOVE)
      segue__module_remove(engine, step->module);
  }
  segue__engine_drop(engine, engine->previous);
  engine->previous = txn->was_live;
  txn->was_live = NULL;
  engine->live_input = txn->input;
  txn->first_here = engine->resumes;
  engine->resumes = false;
  if (engine->record)
    segue__record_limit(engine->record, &(segue__history_limits){txn->policy->history_reloads,
                                                                 txn->policy->history_generations,
                                                                 txn->policy->history_age_ms,
                                                                 txn->policy->history_bytes});
  if (engine->policy != txn->policy) {
    segue__policy_unref(engine->policy);
    engine->policy = segue__policy_ref(txn->policy);
    segue__sources_settle(engine);
    for (size_t i = 0; i < engine->source_count; i++)
      engine->sources[i]->asked = false;
    segue__feeds_settle(engine);
  }
  segue__guards_settle(txn);
}

/* ---- Undo ---- */

void segue__undo_run(segue__txn *txn, void (*undone)(segue__txn *txn)) {
  txn->undone = undone;
  undo_next(txn);
}

static void undo_flip(segue__txn *txn) {
  segue__engine *engine = txn->engine;
  int rc = SEGUE_FAULT("undo.flip"); /* only to be killed here */
  (void)rc;
  /* Cannot fail: flip reserved it. */
  if (engine->options.publication) segue__publish(engine->options.publication, txn->was_live);
  segue__engine_drop(engine, engine->live);
  engine->live = txn->was_live;
  txn->was_live = NULL;
  for (size_t i = 0; i < txn->step_count; i++) {
    segue__step *step = &txn->steps[i];
    if (step->action != SEGUE__ACTION_KEEP) step->module->live = step->old;
    limit(step, segue__policy_module(engine->policy, step->module->name));
    if (step->action == SEGUE__ACTION_RESTART)
      segue__gate_shut(step->module->gate);
    else
      segue__gate_unflip(step->module->gate);
  }
  segue__services_update(engine);
  flip_staged(txn, true);
}

/* True: it is under way, undo_stepped goes on. */
static bool undo_started(segue__txn *txn, segue__step *step) {
  if (txn->flipped && step->action != SEGUE__ACTION_RESTART) {
    segue__retire(txn->engine, step->module, step->next, step->action == SEGUE__ACTION_SWAP);
    step->next = NULL;
    return false;
  }
  if (!txn->flipped && segue__services_take(txn->engine, step->next)) {
    segue__retire(txn->engine, step->module, step->next, true);
    step->next = NULL;
    return false;
  }
  if (txn->flipped)
    segue__instance_drain(step->next, &step->spec->drain, undo_stepped, txn);
  else
    segue__instance_call(step->next, SEGUE__STOP, deadline(step->spec->stop_ms, SEGUE__STOP_MS),
                         undo_stepped, txn);
  return true;
}

static void undo_failed(segue__txn *txn, segue__step *step, const segue_error *error) {
  segue__module *module = step->module;
  segue__instance_release(txn->fresh);
  txn->fresh = NULL;
  module->live = NULL;
  module->failed = true;
  module->error = *error;
  segue__engine_scrub(txn->engine, &module->error);
  segue__gate_refuse(module->gate, SEGUE_EMODULE);
  txn->result->undo_failed = true;
  segue__txn_tell(txn, error);
}

static bool undo_stopped(segue__txn *txn, segue__step *step) {
  segue__engine *engine = txn->engine;
  const segue__module_spec *spec = segue__policy_module(engine->policy, step->module->name);
  segue__instance_release(step->old);
  step->old = NULL;
  step->module->live = NULL;
  int rc = SEGUE_FAULT("undo.fresh");
  if (!rc)
    rc = segue__instance_new(&txn->fresh, engine->loop, engine->log, spec, engine->live, NULL,
                             &engine->limbo);
  if (rc < 0) {
    segue_error error;
    segue__error_set(&error, rc, "module '%s' could not be brought back: %s", step->module->name,
                     segue_strerror(rc));
    undo_failed(txn, step, &error);
    return false;
  }
  segue__instance_call(txn->fresh, SEGUE__PREPARE, deadline(spec->prepare_ms, SEGUE__PREPARE_MS),
                       undo_stepped, txn);
  return true;
}

/* Where it cannot be opened, the end of the transaction tries again, and refuses then. */
static void undo_shut(segue__txn *txn, segue__step *step) {
  segue__module *module = step->module;
  if (module->live && segue__gate_state_get(module->gate) == SEGUE__GATE_SHUT)
    (void)segue__gate_open(module->gate, module->live, txn->engine->live);
}

/* The entry at the end of the log is the one under way. */
static void undo_next(segue__txn *txn) {
  while (txn->undo_count) {
    segue__undo *undo = &txn->undo[txn->undo_count - 1];
    bool waits = false;
    if (undo->kind == SEGUE__UNDO_FLIP) {
      undo_flip(txn);
    } else if (undo->kind == SEGUE__UNDO_STARTED) {
      waits = undo_started(txn, undo->step);
    } else if (undo->kind == SEGUE__UNDO_SHUT) {
      undo_shut(txn, undo->step);
    } else if (undo->kind == SEGUE__UNDO_STOPPED) {
      waits = undo_stopped(txn, undo->step);
    } else if (undo->kind == SEGUE__UNDO_BUILT) {
      segue__instance_release(undo->step->next);
      undo->step->next = NULL;
      if (!undo->step->module->live && !undo->step->module->failed &&
          undo->step->action == SEGUE__ACTION_ADD)
        segue__module_remove(txn->engine, undo->step->module);
    } else {
      txn->engine->options.triggers.discard(txn->engine->options.triggers.data);
    }
    if (waits) return;
    txn->undo_count--;
  }
  txn->undone(txn);
}

static void came_back(segue__txn *txn, segue__step *step, segue__instance *instance) {
  int rc = segue__gate_open(step->module->gate, instance, txn->engine->live);
  if (rc < 0) {
    segue_error error;
    segue__error_set(&error, rc, "module '%s' is back, but its gate could not be opened: %s",
                     step->module->name, segue_strerror(rc));
    undo_failed(txn, step, &error);
    return;
  }
  step->module->live = instance;
  txn->fresh = NULL;
}

static void undo_stepped(segue__instance *instance, segue__verb verb, int status,
                         const segue_error *error, void *data) {
  segue__txn *txn = data;
  segue__step *step = txn->undo[txn->undo_count - 1].step;
  if (verb == SEGUE__DRAIN) {
    if (status < 0) segue__drain_cut(txn->engine, step->module, instance, error);
    segue__instance_call(instance, SEGUE__STOP, deadline(step->spec->stop_ms, SEGUE__STOP_MS),
                         undo_stepped, txn);
    return;
  }
  if (verb == SEGUE__STOP) {
    if (status < 0) segue__txn_tell(txn, error);
  } else if (status < 0) {
    undo_failed(txn, step, error);
  } else if (verb == SEGUE__PREPARE) {
    const segue__module_spec *spec = segue__policy_module(txn->engine->policy, step->module->name);
    segue__instance_call(instance, SEGUE__START, deadline(spec->start_ms, SEGUE__START_MS),
                         undo_stepped, txn);
    return;
  } else {
    came_back(txn, step, instance);
  }
  txn->undo_count--;
  undo_next(txn);
}
