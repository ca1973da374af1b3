/* SPDX-License-Identifier: MIT
 *
 * Effects outside memory: files that are moved into place, commands that are run. An undo in this
 * process reverses them; this file handles the case that the process is killed in between. It puts
 * the intents of a transaction into the journal before the transaction commits, removes them when
 * it has settled or was undone, and passes the intents that a start finds to the `recover` of their
 * action.
 *
 * The decision at a start: if the generation of the intent is the last good one on disk, its
 * effects are finished, else they are undone. The last good generation is written before the intent
 * is removed, so that at every instant one of the two is there to decide.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../os/fault.h"
#include "action.h"
#include "effects.h"

static const segue__action *effects_action(const segue__engine *engine, const char *name) {
  for (size_t i = 0; i < engine->options.action_count; i++)
    if (!strcmp(engine->options.actions[i]->name, name)) return engine->options.actions[i];
  return NULL;
}

static void effects_input_text(segue__hash input, char text[33]) {
  snprintf(text, 33, "%016" PRIx64 "%016" PRIx64, input.hi, input.lo);
}

/* ---- Intents of a transaction ---- */

static int effects_fill(const segue__step *step, segue__intent *intent) {
  const segue__txn *txn = step->txn;
  char input[33];
  effects_input_text(txn->content.input, input);
  int rc = segue__intent_set(intent, "action", step->action->name);
  if (!rc) rc = segue__intent_set(intent, "module", step->module->name);
  if (!rc) rc = segue__intent_set_number(intent, "generation", txn->next->generation);
  if (!rc) rc = segue__intent_set(intent, "input", input);
  if (!rc) rc = segue__intent_set_number(intent, "reload", txn->result->id);
  return rc;
}

int segue__effects_intend(segue__step *step, segue_error *error) {
  segue__engine *engine = step->txn->engine;
  if (!step->action->intend || !engine->record || step->intent) return 0;
  segue__intent intent;
  segue__intent_init(&intent);
  memset(error, 0, sizeof *error);
  int rc = effects_fill(step, &intent);
  if (!rc) rc = step->action->intend(step, &intent, error);
  bool none = rc == SEGUE__NO_EFFECTS;
  if (none) rc = 0;
  if (!rc && !none) rc = segue__journal_add(&engine->journal, &intent, &step->intent);
  segue__intent_deinit(&intent);
  if (rc && !error->code)
    segue__errorf(error, rc, "module '%s': its change cannot be put into the journal: %s",
                  step->module->name, segue_strerror(rc));
  return rc;
}

int segue__effects_intend_all(segue__txn *txn, bool *any, segue_error *error) {
  int rc = 0;
  *any = false;
  for (size_t i = 0; i < txn->set.count && !rc; i++) {
    segue__step *step = &txn->set.steps[i];
    if (!step->manual.acted) rc = segue__effects_intend(step, error);
    *any |= step->intent && !step->manual.acted;
  }
  return rc;
}

bool segue__effects_any(const segue__txn *txn) {
  for (size_t i = 0; i < txn->set.count; i++)
    if (txn->set.steps[i].intent) return true;
  return false;
}

bool segue__effects_running(const segue__txn *txn, uint64_t intent) {
  for (size_t i = 0; i < txn->set.count; i++)
    if (txn->set.steps[i].intent == intent) return true;
  return false;
}

void segue__effects_keep(segue__step *step) {
  step->intent_stays = true;
}

/* An intent whose undo failed stays: it is tried again, by this process or by the next. */
void segue__effects_close(segue__txn *txn) {
  for (size_t i = 0; i < txn->set.count; i++) {
    segue__step *step = &txn->set.steps[i];
    if (!step->intent_stays) segue__journal_remove(&txn->engine->journal, step->intent);
    step->intent = 0;
  }
}

int segue__effects_check(const segue__step *step, segue_error *error) {
  const segue__engine *engine = step->txn->engine;
  const segue__intent *open = segue__journal_of_module(&engine->journal, step->spec->name);
  if (!step->action->intend || !open) return 0;
  if (!effects_action(engine, segue__intent_get(open, "action"))) return 0;
  const char *does = segue__intent_get(open, "does");
  return segue__errorf(error, SEGUE_EMODULE,
                       "module '%s': an earlier change is neither finished nor undone: %s",
                       step->spec->name, does ? does : "see the log");
}

/* ---- Recovery ---- */

struct segue__effects_walk {
  segue__recovery recovery; /* first */
  segue__engine *engine;
  void (*then)(segue__engine *engine);
  size_t left; /* intents that were not looked at yet: those before this index */
  bool removed;
};

static void effects_walk(struct segue__effects_walk *walk);

/* In a process that has a live generation, an intent is open because its undo has failed. */
static bool effects_is_live(const segue__engine *engine, const segue__intent *intent) {
  uint64_t generation = segue__intent_get_number(intent, "generation");
  if (engine->live) return engine->live->generation == generation;
  const segue__last_good *good = &segue__record_found(engine->record)->last_good;
  const char *input = segue__intent_get(intent, "input");
  char text[33];
  effects_input_text(good->input, text);
  return good->generation && good->generation == generation && input && !strcmp(input, text);
}

static void effects_log(const segue__engine *engine, segue_level level, const char *what,
                        const segue__intent *intent, const segue_error *error) {
  SEGUE__LOG(engine->log, level, "record", what,
             SEGUE__FIELD("module", segue__intent_get(intent, "module")),
             SEGUE__FIELD("action", segue__intent_get(intent, "action")),
             SEGUE__FIELD("generation", segue__intent_get_number(intent, "generation")),
             SEGUE__FIELD("does", segue__intent_get(intent, "does")),
             SEGUE__FIELD("error", error ? error->message : NULL));
}

void segue__recovery_done(segue__recovery *recovery, int status, const segue_error *error) {
  struct segue__effects_walk *walk = (struct segue__effects_walk *)recovery;
  segue__engine *engine = walk->engine;
  const segue__intent *intent = recovery->intent;
  if (status < 0) {
    effects_log(engine, SEGUE_ERROR,
                recovery->finish ? "an interrupted change cannot be finished: it is tried again"
                                 : "an interrupted change cannot be undone: it is tried again",
                intent, error);
  } else {
    effects_log(engine, SEGUE_WARN,
                recovery->finish ? "an interrupted change is finished"
                                 : "an interrupted change is undone",
                intent, NULL);
    segue__journal_remove(&engine->journal, intent->id);
    walk->removed = true;
  }
  effects_walk(walk);
}

/* From the last intent to the first: of two intents of a module, the later one is undone first. */
static void effects_walk(struct segue__effects_walk *walk) {
  segue__engine *engine = walk->engine;
  while (walk->left > 0 && !engine->stopping) {
    const segue__intent *intent = &engine->journal.items[--walk->left];
    const segue__action *action = effects_action(engine, segue__intent_get(intent, "action"));
    if (!action || !action->recover) {
      effects_log(engine, SEGUE_ERROR,
                  "an interrupted change is of an action that this version does not have", intent,
                  NULL);
      continue;
    }
    walk->recovery = (segue__recovery){.loop = engine->loop,
                                       .os = engine->os,
                                       .log = engine->log,
                                       .intent = intent,
                                       .finish = effects_is_live(engine, intent)};
    action->recover(&walk->recovery);
    return;
  }
  void (*then)(segue__engine *) = walk->then;
  if (walk->removed) segue__operator_write_now(engine);
  segue__free(walk);
  then(engine);
}

bool segue__effects_open(const segue__engine *engine) {
  if (engine->txn) return false;
  for (size_t i = 0; i < engine->journal.count; i++)
    if (effects_action(engine, segue__intent_get(&engine->journal.items[i], "action"))) return true;
  return false;
}

int segue__effects_recover(segue__engine *engine, void (*then)(segue__engine *engine)) {
  struct segue__effects_walk *walk = segue__calloc(1, sizeof *walk);
  if (!walk) return UV_ENOMEM;
  walk->engine = engine;
  walk->then = then;
  walk->left = engine->journal.count;
  effects_walk(walk);
  return 0;
}
