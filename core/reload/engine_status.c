/* SPDX-License-Identifier: MIT
 *
 * The state of the engine for its readers: the live generation, the last results, the state of
 * modules. Nothing in this file starts or changes a run.
 */
#include <string.h>

#include "effects.h"

const segue_snapshot *segue__engine_live(const segue__engine *engine) {
  return engine->live;
}

const segue_snapshot *segue__engine_previous(const segue__engine *engine) {
  return engine->previous;
}

bool segue__engine_on_trial(const segue__engine *engine) {
  const segue__txn *txn = engine->txn;
  /* While an undo waits for the disk, the generation before is live again. */
  return txn && txn->state == SEGUE__TXN_LIVE && !txn->was_live && engine->live == txn->next;
}

const segue__policy *segue__engine_policy(const segue__engine *engine) {
  return engine->policy;
}

const segue__result *segue__engine_running(const segue__engine *engine) {
  return engine->txn && engine->txn->state > SEGUE__TXN_NEW ? engine->txn->result : NULL;
}

void segue__engine_set_stale(segue__engine *engine, int64_t since_wall_ms) {
  engine->stale_since_wall_ms = since_wall_ms;
}

int64_t segue__engine_stale_since(const segue__engine *engine) {
  return engine->stale_since_wall_ms;
}

int64_t segue__engine_wall_ms(const segue__engine *engine) {
  return segue__loop_wall_ms(engine->loop);
}

size_t segue__engine_reopen(segue__engine *engine) {
  size_t count = 0;
  for (size_t i = 0; i < segue__modules_count(engine->modules); i++)
    if (segue__modules_at(engine->modules, i)->live)
      count += segue__instance_reopen(segue__modules_at(engine->modules, i)->live);
  return count;
}

void segue__engine_module_metrics(const segue__engine *engine,
                                  void (*add)(void *sink, const char *text, size_t len),
                                  void *sink) {
  for (size_t i = 0; i < segue__modules_count(engine->modules); i++)
    if (segue__modules_at(engine->modules, i)->live)
      segue__instance_metrics(segue__modules_at(engine->modules, i)->live, add, sink);
}

size_t segue__engine_module_count(const segue__engine *engine) {
  return segue__modules_count(engine->modules);
}

void segue__engine_module_status(const segue__engine *engine, size_t index,
                                 segue__module_status *out) {
  const segue__module_record *module = segue__modules_at(engine->modules, index);
  memset(out, 0, sizeof *out);
  out->name = module->name;
  out->kind = module->kind;
  out->replace = segue__replace_name(module->replace);
  segue__gate_status_get(module->gate, &out->gate);
  out->draining = module->old_count;
  out->drains_cut = module->drains_cut;
  out->inside_cut = module->inside_cut;
  out->failures = module->failure.reports;
  out->drifted = module->drift.count;
  out->drifts = module->drift.reports;
  out->drift = module->drift.what;
  for (int s = 0; s < SEGUE__MODULE_STATE_COUNT; s++)
    out->instances[s] = segue__detached_states(segue__modules_detached(engine->modules),
                                               module->name, (segue__module_state)s);
  out->state = module->failure.failed ? SEGUE__MODULE_FAILED : SEGUE__MODULE_STOPPED;
  if (module->live) {
    out->state = segue__instance_state(module->live);
    out->generation = segue__instance_generation(module->live);
  }
  out->error = module->failure.failed ? &module->failure.error
               : module->live         ? segue__instance_failure(module->live)
                                      : NULL;
}

size_t segue__engine_open_change_count(const segue__engine *engine) {
  return engine->journal.count;
}

void segue__engine_open_change(const segue__engine *engine, size_t index, segue__open_change *out) {
  const segue__intent *intent = &engine->journal.items[index];
  const segue__txn *txn = engine->txn;
  *out = (segue__open_change){.module = segue__intent_get(intent, "module"),
                              .action = segue__intent_get(intent, "action"),
                              .does = segue__intent_get(intent, "does"),
                              .generation = segue__intent_get_number(intent, "generation"),
                              .reload = segue__intent_get_number(intent, "reload")};
  out->running = txn && segue__effects_running(txn, intent->id);
}

/* ---- Sources ---- */

size_t segue__engine_source_count(const segue__engine *engine) {
  return segue__sources_count(engine->sources);
}

void segue__engine_source_status(const segue__engine *engine, size_t index,
                                 segue__source_status *out) {
  segue__sources_status(engine->sources, index, out);
}
