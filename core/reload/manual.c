/* SPDX-License-Identifier: MIT
 *
 * Manual steps: a policy's reload hook drives modules one by one before it commits. Each verb
 * pushes its inverse on the undo log, so that all of them are undone if the hook does not commit.
 * Verbs of several modules may run at the same time; one module runs one verb at a time.
 */
#include <string.h>
#include <uv.h>

#include "action.h"
#include "effects.h"
#include "manual.h"
#include "operator.h"
#include "plan.h"
#include "refusals.h"

segue__step *segue__txn_step(const segue__txn *txn, const char *name) {
  for (size_t i = 0; i < txn->set.count; i++)
    if (!strcmp(txn->result->steps[i].module, name)) return &txn->set.steps[i];
  return NULL;
}

bool segue__txn_module_at(const segue__txn *txn, size_t index, const char **name) {
  if (index >= txn->set.count) return false;
  *name = txn->result->steps[index].module;
  return true;
}

/* ---- Answers ---- */

static void manual_answer(segue__message *message) {
  segue__step *step = (segue__step *)((char *)message - offsetof(segue__step, manual.message));
  segue__txn *txn = step->txn;
  segue__txn_cb cb = step->manual.cb;
  segue_error error = step->manual.error;
  step->manual.busy = false;
  step->manual.cb = NULL;
  txn->manual.running--;
  if (cb) cb(step->manual.cb_data, error.code, error.code ? &error : NULL);
  if (!txn->manual.running && txn->manual.cb) txn->manual.cb(txn);
}

/* error NULL: it is done. */
static void manual_step_end(segue__step *step, const segue_error *error) {
  segue__loop *loop = step->txn->engine->loop;
  memset(&step->manual.error, 0, sizeof step->manual.error);
  if (error) step->manual.error = *error;
  step->manual.message.fn = manual_answer;
  segue__post(loop, &step->manual.message);
}

/* Detaches the callbacks of the running verbs. Each verb ends by its own deadline, or early
 * because its wait ends here. */
void segue__manual_steps_release(segue__txn *txn, void (*cb)(segue__txn *txn)) {
  txn->manual.cb = cb;
  for (size_t i = 0; i < txn->set.count; i++) {
    segue__step *step = &txn->set.steps[i];
    segue__txn_cb cb = step->manual.cb;
    step->manual.cb = NULL;
    if (cb) cb(step->manual.cb_data, SEGUE_ECANCELLED, NULL);
  }
  segue__commit_expedite(txn);
}

typedef struct refusal {
  segue__message message;
  segue__txn_cb cb;
  void *data;
  segue_error error;
} refusal;

static void refuse_now(segue__message *message) {
  refusal *r = (refusal *)((char *)message - offsetof(refusal, message));
  r->cb(r->data, r->error.code, &r->error);
  segue__free(r);
}

static void manual_refuse(segue__txn *txn, segue__txn_cb cb, void *data, const segue_error *error) {
  refusal *r = segue__calloc(1, sizeof *r);
  if (!r) {
    cb(data, error->code, error);
    return;
  }
  *r = (refusal){.message = {.fn = refuse_now}, .cb = cb, .data = data, .error = *error};
  segue__post(txn->engine->loop, &r->message);
}

/* ---- Which verb is allowed ---- */

static int manual_say(segue_error *error, const char *name, const char *what) {
  return segue__errorf(error, SEGUE_EPOLICY, "module '%s' %s", name, what);
}

/* Returns 0 if the module can run this verb now; else a code, with the reason in *error. */
static int manual_check(const segue__txn *txn, segue__txn_call call, const char *name,
                        segue_error *error) {
  int rc = segue__txn_misuse(txn, call, name, error);
  if (rc || !segue__txn_failed(txn)) return rc ? rc : segue__txn_impossible(txn, call, name, error);
  *error = txn->failure;
  return txn->failure.code;
}

/* ---- Gates ---- */

static int manual_shut(segue__txn *txn, segue__step *step, segue_error *error) {
  int rc = segue__step_shut(txn, step);
  return rc ? segue__errorf(error, rc, "out of memory") : 0;
}

int segue__txn_shut(segue__txn *txn, const char *name, segue_error *error) {
  int rc = manual_check(txn, SEGUE__TXN_OLD, name, error);
  return rc ? rc : manual_shut(txn, segue__txn_step(txn, name), error);
}

int segue__txn_open(segue__txn *txn, const char *name, segue_error *error) {
  segue__step *step = segue__txn_step(txn, name);
  int rc = manual_check(txn, SEGUE__TXN_OLD, name, error);
  if (rc || step->gate != SEGUE__STEP_SHUT) return rc;
  rc = segue__gate_open(step->module->gate, step->old, txn->engine->live);
  if (rc)
    return segue__errorf(error, rc, "module '%s': its gate cannot be opened: %s", name,
                         segue_strerror(rc));
  step->gate = SEGUE__STEP_REOPENED;
  return 0;
}

/* ---- Verbs that wait ---- */

static void manual_begin(segue__txn *txn, segue__step *step, segue__txn_cb cb, void *data) {
  step->manual.busy = true;
  step->manual.cb = cb;
  step->manual.cb_data = data;
  txn->manual.running++;
}

/* cb is NULL after the hook has ended. */
static void all_left(void *data, bool all) {
  segue__step *step = data;
  segue_error error;
  bool gone = all;
  step->old_state = SEGUE__OLD_SERVES;
  if (!all) segue__still_inside(step, &error);
  if (!all && step->manual.cb && step->manual.over == SEGUE__OVER_UNDO) {
    segue__txn_fail(step->txn, &error);
  } else if (!all && step->manual.cb && step->manual.over != SEGUE__OVER_ASK) {
    segue__drain_cut(step->txn->engine->modules, step->module, step->old, &error);
    segue__instance_cut(step->old);
    gone = true;
  }
  manual_step_end(step, gone ? NULL : &error);
}

void segue__txn_drain(segue__txn *txn, const char *name, const segue__drain *drain,
                      segue__txn_cb cb, void *data) {
  segue__step *step = segue__txn_step(txn, name);
  segue__drain how = *drain;
  segue_error error;
  uint64_t stop_ms;
  int rc = manual_check(txn, SEGUE__TXN_OLD, name, &error);
  if (!rc) rc = manual_shut(txn, step, &error);
  if (rc) {
    manual_refuse(txn, cb, data, &error);
    return;
  }
  manual_begin(txn, step, cb, data);
  if (!how.within_ms) how.within_ms = segue__instance_limits(step->old, &stop_ms)->within_ms;
  step->manual.over = how.over;
  step->old_state = SEGUE__OLD_EMPTIES;
  segue__instance_wait_left(step->old, &how, all_left, step);
}

static void hand_done(segue__step *step, int status, const segue_error *error) {
  segue__txn *txn = step->txn;
  if (error) segue__txn_fail(txn, error);
  manual_step_end(step, status < 0 || segue__txn_failed(txn) ? &txn->failure : NULL);
}

static void hand_recorded(segue__record_call *call, segue__record_answer *answer) {
  segue__step *step = call->data;
  segue__timer_stop(step->txn->engine->loop, &step->manual.timer);
  if (answer->status < 0)
    hand_done(step, answer->status, &answer->error);
  else
    segue__step_commit(step, hand_done);
}

static void hand_not_recorded(segue__timer *timer) {
  segue__step *step = timer->data;
  segue_error error;
  segue__record_forget(&step->manual.call);
  segue__errorf(&error, SEGUE_ERECORD,
                "module '%s': its change was not put into the journal after %d ms: look at the "
                "disk of the state folder",
                step->module->name, SEGUE__RECORD_MS);
  hand_done(step, error.code, &error);
}

/* The intent of a manual step is on disk before the step commits, as at txn:commit(). */
static void hand_commit(segue__step *step) {
  segue__txn *txn = step->txn;
  segue_error error;
  if (txn->result->phase < SEGUE__PHASE_COMMIT) segue__txn_enter(txn, SEGUE__PHASE_COMMIT);
  int rc = segue__effects_intend(step, &error);
  if (!rc && !step->intent) {
    segue__step_commit(step, hand_done);
    return;
  }
  step->manual.call = (segue__record_call){.cb = hand_recorded, .data = step};
  step->manual.timer.data = step;
  if (!rc && (rc = segue__operator_write(txn->engine, &step->manual.call)))
    segue__errorf(&error, rc, "module '%s': %s", step->module->name, segue_strerror(rc));
  if (rc)
    hand_done(step, rc, &error);
  else
    segue__timer_start(txn->engine->loop, &step->manual.timer, SEGUE__RECORD_MS, hand_not_recorded);
}

static void hand_prepared(segue__step *step, int status, const segue_error *error) {
  if (status < 0 || segue__txn_failed(step->txn))
    hand_done(step, status, error);
  else
    hand_commit(step);
}

static void change_action(segue__step *step, const segue__action *action) {
  segue__txn *txn = step->txn;
  step->action = action;
  txn->result->steps[step - txn->set.steps].action = action->name;
}

/* A module that the plan leaves as it is gets a next instance first. */
static void manual_replace(segue__txn *txn, const char *name, bool restart, segue__txn_cb cb,
                           void *data) {
  segue__step *step = segue__txn_step(txn, name);
  segue_error error;
  int rc = manual_check(txn, SEGUE__TXN_NEXT, name, &error);
  if (!rc && restart && step->spec->action)
    rc = manual_say(&error, name, "cannot be restarted: replace it");
  if (!rc && restart && segue__module_ops_serve(step->spec->ops))
    rc = manual_say(&error, name, "is called by all threads at any time: it can only be swapped");
  if (rc) {
    manual_refuse(txn, cb, data, &error);
    return;
  }
  bool kept = step->action->keeps;
  if (restart && step->old)
    change_action(step, &segue__action_restart);
  else if (kept)
    change_action(step, segue__action_of(step->spec));
  manual_begin(txn, step, cb, data);
  step->manual.acted = true;
  step->done = hand_prepared;
  if (kept)
    step->action->prepare(step);
  else
    hand_commit(step);
}

void segue__txn_restart(segue__txn *txn, const char *name, segue__txn_cb cb, void *data) {
  manual_replace(txn, name, true, cb, data);
}

void segue__txn_replace(segue__txn *txn, const char *name, segue__txn_cb cb, void *data) {
  manual_replace(txn, name, false, cb, data);
}
