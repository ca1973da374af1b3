/* SPDX-License-Identifier: MIT
 *
 * Failed modules: an instance that reported its own failure (segue_module_failed), or a module that
 * an undo could not start again. The gate of such a module refuses calls, or lets them wait if the
 * policy wants that, and a fresh instance is built from the live generation.
 *
 * The first attempt follows at once: a module that served for long and failed once should not be
 * away for a second. The further ones have a back-off, which a module loses only by serving for
 * STABLE_MS: otherwise one that starts well and fails a moment later would be restarted in a loop.
 * While a transaction runs no module is touched here, because the transaction holds its instances
 * and moves its gate: a failure is noted in the instance then, and handled when the transaction
 * ends.
 *
 * The intents of actions that a failed undo left open are given to their actions first, by the same
 * timer: a module is not started on files that are half changed.
 */
#include "recover.h"
#include "effects.h"
#include "step.h"

enum { STABLE_MS = 60000 };

typedef struct recovery {
  segue__engine *engine;
  segue__module_record *module;
  const segue__module_spec *spec; /* of the live policy, which stays while this runs */
  size_t index;
} recovery;

static void recover_next(recovery *r);

/* ---- Failing ---- */

static void recover_close_gate(segue__engine *engine, segue__module_record *module) {
  const segue__module_spec *spec = segue__policy_module(engine->policy, module->name);
  if (spec && spec->failed_waits && !engine->stopping)
    segue__gate_shut(module->gate);
  else
    segue__gate_refuse(module->gate, SEGUE_EMODULE);
}

static void recover_later(segue__engine *engine, segue__module_record *module) {
  uint64_t pause =
      module->failure.attempts ? segue__engine_backoff_ms(engine, module->failure.attempts - 1) : 0;
  module->failure.recover_at_ms = segue__loop_now_ms(engine->loop) + pause;
  module->failure.attempts++;
}

void segue__recover_lost(segue__engine *engine, segue__module_record *module,
                         const segue_error *error) {
  segue__module_failure *failure = &module->failure;
  if (module->live) segue__drain_instance(engine->modules, module, module->live, false);
  segue__module_set_live(module, NULL);
  failure->failed = true;
  failure->error = *error;
  segue__engine_scrub(engine, &failure->error);
  failure->attempts = 1; /* it has just failed: the next attempt comes with a pause */
  recover_later(engine, module);
  recover_close_gate(engine, module);
}

void segue__recover_clear(segue__module_record *module) {
  module->failure.failed = false;
  module->failure.attempts = 0;
}

/* The live instance has failed. Nothing waits for the calls inside it: it cannot serve them. */
static void recover_take_down(segue__engine *engine, segue__module_record *module) {
  segue__instance *instance = module->live;
  if (segue__instance_served_ms(instance) >= STABLE_MS) module->failure.attempts = 0;
  module->failure.error = *segue__instance_failure(instance);
  segue__engine_scrub(engine, &module->failure.error);
  segue__module_set_live(module, NULL);
  module->failure.failed = true;
  recover_close_gate(engine, module);
  segue__services_update(engine->modules);
  segue__instance_cut(instance);
  segue__drain_instance(engine->modules, module, instance, true);
  /* A module that is replaced by restart has resources that two instances cannot share. */
  bool exclusive = module->replace == SEGUE__RESTART && segue__drain_has(module, instance);
  module->failure.leaving = exclusive ? instance : NULL;
  recover_later(engine, module);
}

static segue__module_record *recover_find(const segue__engine *engine,
                                          const segue__instance *instance) {
  for (size_t i = 0; i < segue__modules_count(engine->modules); i++)
    if (segue__modules_at(engine->modules, i)->live == instance)
      return segue__modules_at(engine->modules, i);
  return engine->txn ? segue__change_set_builds(engine->txn, instance) : NULL;
}

void segue__recover_failed(void *data, segue__instance *instance) {
  segue__engine *engine = data;
  segue__module_record *module = recover_find(engine, instance);
  if (!module) return;
  segue_error error = *segue__instance_failure(instance);
  segue__engine_scrub(engine, &error);
  module->failure.reports++;
  SEGUE__LOG(engine->log, SEGUE_ERROR, "module", "an instance reported that it failed",
             SEGUE__FIELD("module", module->name), SEGUE__FIELD("error", error.message));
  if (engine->txn) segue__txn_instance_failed(engine->txn, module, instance);
  segue__recover_schedule(engine);
}

/* Commit and undo open all gates. A gate that is still shut is an error of theirs, or memory has
 * run out while it was opened: without this safeguard its callers would wait until their limits. */
void segue__gates_settle(segue__engine *engine) {
  for (size_t i = 0; i < segue__modules_count(engine->modules); i++) {
    segue__module_record *module = segue__modules_at(engine->modules, i);
    segue__gate_unreserve(module->gate);
    segue__gate_settle(module->gate);
    if (segue__gate_state_get(module->gate) != SEGUE__GATE_SHUT) continue;
    if (module->live)
      SEGUE__LOG(engine->log, SEGUE_ERROR, "module", "the end of a reload found a gate shut",
                 SEGUE__FIELD("module", module->name));
    if (!module->live)
      recover_close_gate(engine, module);
    else if (segue__gate_open(module->gate, module->live, engine->live) < 0)
      segue__gate_refuse(module->gate, SEGUE_EMODULE);
  }
}

/* ---- Recovering ---- */

/* Returns whether the old instance has stopped, and everything that the module changed outside is
 * finished or undone. */
static bool recover_can(const segue__engine *engine, const segue__module_record *module) {
  return module->failure.failed && !module->live && !module->removed && !module->failure.leaving &&
         !segue__journal_of_module(&engine->journal, module->name);
}

/* Returns the time at which the open intents of actions are due, or UINT64_MAX if there are none.
 */
static uint64_t recover_effects_at(segue__engine *engine, uint64_t now) {
  if (!segue__effects_open(engine)) {
    engine->effects_attempts = 0;
    engine->effects_at_ms = 0;
    return UINT64_MAX;
  }
  if (!engine->effects_at_ms)
    engine->effects_at_ms = now + segue__engine_backoff_ms(engine, engine->effects_attempts++);
  return engine->effects_at_ms;
}

static void recover_modules(segue__engine *engine) {
  recovery *r = segue__calloc(1, sizeof *r);
  if (r) {
    r->engine = engine;
    recover_next(r);
    return;
  }
  for (size_t i = 0; i < segue__modules_count(engine->modules); i++)
    if (recover_can(engine, segue__modules_at(engine->modules, i)))
      recover_later(engine, segue__modules_at(engine->modules, i));
  engine->recovering = false;
  segue__recover_schedule(engine);
  segue__engine_schedule(engine);
}

static void recover_due(segue__timer *timer) {
  segue__engine *engine = timer->data;
  if (engine->stopping || engine->txn || engine->recovering) return; /* it is scheduled again */
  bool effects = engine->effects_at_ms && engine->effects_at_ms <= segue__loop_now_ms(engine->loop);
  engine->recovering = true;
  if (effects) engine->effects_at_ms = 0;
  if (!effects || segue__effects_recover(engine, recover_modules) < 0) recover_modules(engine);
}

void segue__recover_schedule(segue__engine *engine) {
  if (engine->stopping || engine->txn) return;
  uint64_t now = segue__loop_now_ms(engine->loop), at = recover_effects_at(engine, now);
  for (size_t i = 0; i < segue__modules_count(engine->modules); i++) {
    segue__module_record *module = segue__modules_at(engine->modules, i);
    if (module->live && segue__instance_failure(module->live)) recover_take_down(engine, module);
    /* The undo of a transaction refuses where there was no instance before. */
    if (module->failure.failed && !module->live && !module->removed &&
        segue__gate_state_get(module->gate) == SEGUE__GATE_REFUSING)
      recover_close_gate(engine, module);
    if (recover_can(engine, module) && module->failure.recover_at_ms < at)
      at = module->failure.recover_at_ms;
  }
  if (engine->recovering || at == UINT64_MAX) return;
  engine->recover_timer.data = engine;
  (void)segue__timer_start(engine->loop, &engine->recover_timer, at > now ? at - now : 0,
                           recover_due);
}

static const segue_error *recover_gate_error(segue_error *error, const segue__module_record *module,
                                             int code) {
  segue__errorf(error, code, "the gate of module '%s' could not be opened: %s", module->name,
                segue_strerror(code));
  return error;
}

static void recover_not(recovery *r, segue__instance *instance, const segue_error *error) {
  r->module->failure.error = *error;
  segue__engine_scrub(r->engine, &r->module->failure.error);
  recover_later(r->engine, r->module);
  SEGUE__LOG(r->engine->log, SEGUE_ERROR, "module", "still failed, will be tried again",
             SEGUE__FIELD("module", r->module->name),
             SEGUE__FIELD("error", r->module->failure.error.message));
  segue__instance_release(instance);
}

static void recover_stepped(segue__instance *instance, segue__verb verb, int status,
                            const segue_error *error, void *data) {
  segue_error unopened;
  recovery *r = data;
  if (verb == SEGUE__START && status == 0) {
    status = segue__gate_open(r->module->gate, instance, r->engine->live);
    if (status < 0) error = recover_gate_error(&unopened, r->module, status);
  }
  if (status < 0) {
    recover_not(r, instance, error);
  } else if (verb == SEGUE__PREPARE) {
    segue__instance_call(instance, SEGUE__START,
                         r->spec->start_ms ? r->spec->start_ms : SEGUE__START_MS, recover_stepped,
                         r);
    return;
  } else {
    segue__module_set_live(r->module, instance);
    r->module->failure.failed = false;
    segue__services_update(r->engine->modules);
    SEGUE__LOG(r->engine->log, SEGUE_INFO, "module", "recovered",
               SEGUE__FIELD("module", r->module->name));
  }
  r->index++;
  recover_next(r);
}

/* Recovers one module at a time, in the order in which the modules were started, so that a module
 * comes after those that it needs. The transactions wait meanwhile (`recovering`), because they
 * would replace the same instances. */
static void recover_next(recovery *r) {
  segue__engine *engine = r->engine;
  uint64_t now = segue__loop_now_ms(engine->loop);
  for (; r->index < segue__modules_count(engine->modules) && !engine->stopping; r->index++) {
    segue__instance *instance;
    r->module = segue__modules_at(engine->modules, r->index);
    r->spec = segue__policy_module(engine->policy, r->module->name);
    if (!recover_can(engine, r->module) || r->module->failure.recover_at_ms > now || !r->spec)
      continue;
    if (segue__instance_new(&instance, engine->loop, engine->log, r->spec, engine->live, NULL,
                            segue__modules_detached(engine->modules)) < 0) {
      recover_later(engine, r->module);
      continue;
    }
    segue__instance_call(instance, SEGUE__PREPARE,
                         r->spec->prepare_ms ? r->spec->prepare_ms : SEGUE__PREPARE_MS,
                         recover_stepped, r);
    return;
  }
  engine->recovering = false;
  segue__free(r);
  segue__recover_schedule(engine);
  segue__engine_schedule(engine);
}
