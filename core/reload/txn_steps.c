/* SPDX-License-Identifier: MIT
 *
 * The part of a transaction that changes something: prepare, commit and confirm, called by the
 * policy's reload hook or, where it has none, by default in just that order. The phases themselves
 * are in the table of phases.c.
 */
#include <string.h>
#include <uv.h>

#include "manual.h"
#include "policy_call.h"
#include "run.h"

static void call_reload(segue__txn *txn);
static void hook_returned(segue_op *op, int status, const segue_error *error);

/* ---- Prepare, commit, confirm: by default or by the policy's hook ---- */

static void default_next(void *data, int status, const segue_error *error) {
  static void (*const calls[])(segue__txn *, segue__txn_cb,
                               void *) = {[SEGUE__TXN_OPEN] = segue__txn_prepare,
                                          [SEGUE__TXN_PREPARED] = segue__txn_commit,
                                          [SEGUE__TXN_LIVE] = segue__txn_confirm};
  segue__txn *txn = data;
  (void)error; /* kept by segue__txn_step_end */
  if (status < 0 || segue__txn_failed(txn) || txn->state == SEGUE__TXN_CONFIRMED)
    segue__txn_conclude(txn);
  else
    calls[txn->state](txn, default_next, txn);
}

/* Before the flip: builds that are running are cancelled, and the hook has to end. After it,
 * the generation is live, and what the hook does next decides. */
void segue__txn_cancel_steps(segue__txn *txn) {
  if (txn->state >= SEGUE__TXN_LIVE) return;
  segue__txn_fail_closed(txn);
  if (txn->policy_call) segue__op_cancel(&txn->policy_call->op, SEGUE_ECLOSED);
  if (txn->driver.reload) segue__op_cancel(&txn->driver.reload->op, SEGUE_ECLOSED);
  segue__commit_abandon(txn);
}

static void txn_offered(segue__txn *txn, const segue_error *error) {
  (void)error; /* there is no history to ask: then there is no prev, as at a first start */
  if (txn->offered && !segue__txn_failed(txn)) segue__txn_compare_with_offered(txn);
  if (segue__txn_failed(txn))
    segue__txn_conclude(txn);
  else
    call_reload(txn);
}

static void on_offered(segue__record_call *call, segue__record_answer *answer) {
  segue__txn *txn = call->data;
  txn->offered = answer->snapshot;
  answer->snapshot = NULL;
  segue__txn_recorded(call, answer);
}

/* The policy's reload applies the configuration to something that outlives segue: a server that it
 * runs beside. After a restart of segue with nothing changed that server has it already, so the
 * hook is shown the last good generation as prev. Modules are not: theirs are gone. */
static void offer_last_good(segue__txn *txn) {
  segue__record *record = txn->engine->record;
  uint64_t generation = segue__record_found(record)->last_good.generation;
  if (txn->origin == SEGUE__RESUMED) {
    txn->offered = (segue_snapshot *)segue_snapshot_ref(txn->next);
    txn_offered(txn, NULL);
    return;
  }
  segue__record_call *call = segue__txn_call_new(txn, on_offered);
  segue__txn_record(txn, segue__record_snapshot(record, generation, call), txn_offered);
}

void segue__txn_act(segue__txn *txn) {
  const segue__engine *engine = txn->engine;
  if (!txn->policy->has_reload)
    default_next(txn, 0, NULL);
  else if (!engine->live && engine->record &&
           segue__record_found(engine->record)->last_good.generation)
    offer_last_good(txn);
  else
    call_reload(txn);
}

static void call_reload(segue__txn *txn) {
  const segue__policy *policy = txn->policy;
  txn->driver.reload = segue__txn_policy_call_new(txn, policy->reload_ms, hook_returned);
  if (!txn->driver.reload) {
    segue__txn_fail_code(txn, UV_ENOMEM, "reload");
    segue__txn_conclude(txn);
    return;
  }
  txn->policy_call = NULL; /* it continues to run beside the probes */
  policy->ops->reload(policy->impl, &txn->driver.reload->op, txn);
}

static void confirmed_after_hook(void *data, int status, const segue_error *error) {
  (void)status;
  (void)error;
  segue__txn_conclude(data);
}

/* The outcome is decided already; the hook may have returned the same error that its step has
 * reported. */
static void add_reason(segue__txn *txn, const segue_error *error) {
  const segue__errors *errors = &txn->result->errors;
  segue_error said = *error;
  segue__engine_scrub(txn->engine, &said);
  for (size_t i = 0; i < errors->count; i++)
    if (strcmp(errors->items[i].message, said.message) == 0) return;
  segue__txn_report(txn, error);
}

/* The hook may return, raise an error or exceed its time limit while one of its steps runs; then
 * that step is waited for first, because each step has a deadline of its own. */
static void hook_returned(segue_op *op, int status, const segue_error *error) {
  segue__policy_call *policy_call = (segue__policy_call *)op;
  segue__txn *txn = policy_call->txn;
  txn->driver.reload = NULL;
  if (status == SEGUE_ETIMEOUT && segue_op_cancelled(op)) {
    segue_error late;
    segue__errorf(&late, status, "the policy's reload was not done after %llu ms",
                  (unsigned long long)txn->policy->reload_ms);
    segue__txn_fail(txn, &late);
  } else if (status < 0 && !txn->rejected && !segue__txn_failed(txn)) {
    txn->driver.failed = true;
    segue__txn_fail(txn, error);
    segue__txn_add_findings(txn);
  } else if (status < 0) {
    add_reason(txn, error);
  } else if (txn->state < SEGUE__TXN_LIVE && !segue__txn_failed(txn) && !txn->rejected &&
             !txn->run->put_off) {
    segue_error lazy;
    segue__errorf(&lazy, SEGUE_EPOLICY,
                  "the policy's reload returned without txn:commit(), so nothing was changed");
    segue__txn_fail(txn, &lazy);
  }
  segue__policy_call_answered(policy_call);
  if (txn->manual.running) {
    segue__manual_steps_release(txn, segue__txn_conclude);
  } else if (txn->driver.cb) {
    segue__txn_cb cb = txn->driver.cb;
    void *data = txn->driver.data;
    txn->driver.cb = confirmed_after_hook;
    txn->driver.data = txn;
    cb(data, SEGUE_ECANCELLED, NULL); /* its caller is answered and forgotten */
    if (segue__txn_failed(txn)) segue__commit_expedite(txn);
  } else if (txn->state >= SEGUE__TXN_LIVE && !segue__txn_failed(txn) &&
             txn->state < SEGUE__TXN_CONFIRMED) {
    segue__txn_confirm(txn, confirmed_after_hook, txn);
  } else {
    segue__txn_conclude(txn);
  }
}

void segue__txn_next_call(segue__txn *txn) {
  segue__txn_cb cb = txn->driver.cb;
  txn->driver.cb = NULL;
  cb(txn->driver.data, segue__txn_failed(txn) ? txn->failure.code : 0,
     segue__txn_failed(txn) ? &txn->failure : NULL);
}

/* Each call is answered by a message of the loop, never before it has returned. */
static void step_message(segue__message *message) {
  segue__txn *txn = (segue__txn *)((char *)message - offsetof(segue__txn, driver.message));
  bool refused = txn->driver.state == SEGUE__CALL_REFUSED;
  txn->driver.state = SEGUE__CALL_OPEN;
  if (refused)
    segue__txn_next_call(txn);
  else
    segue__txn_phase_end(txn);
}

static void steps_post(segue__txn *txn, segue__call_state state) {
  txn->driver.state = state;
  txn->driver.message.fn = step_message;
  segue__post(txn->engine->loop, &txn->driver.message);
}

void segue__txn_step_end(segue__txn *txn, const segue_error *error) {
  if (error) segue__txn_fail(txn, error);
  if (txn->driver.state == SEGUE__CALL_OPEN) steps_post(txn, SEGUE__CALL_ENDED);
}

/* Returns false if the step cannot begin; then its callback is posted, or got the misuse. */
static bool txn_step_begin(segue__txn *txn, segue__txn_call call, segue__txn_cb cb, void *data) {
  segue_error error;
  int rc = segue__txn_misuse(txn, call, NULL, &error);
  if (rc && (txn->driver.cb || txn->manual.running)) {
    cb(data, rc, &error);
    return false;
  }
  txn->driver.cb = cb;
  txn->driver.data = data;
  if (!rc && !segue__txn_failed(txn)) return true;
  if (!segue__txn_failed(txn)) segue__txn_fail(txn, &error);
  steps_post(txn, SEGUE__CALL_REFUSED);
  return false;
}

void segue__txn_prepare(segue__txn *txn, segue__txn_cb cb, void *data) {
  if (!txn_step_begin(txn, SEGUE__TXN_PREPARE, cb, data)) return;
  segue__txn_enter(txn, SEGUE__PHASE_PREPARING);
  segue__txn_phase_start(txn, SEGUE__PHASE_PREPARING);
}

void segue__txn_commit(segue__txn *txn, segue__txn_cb cb, void *data) {
  if (txn_step_begin(txn, SEGUE__TXN_COMMIT, cb, data))
    segue__txn_phase_start(txn, SEGUE__PHASE_COMMIT);
}

void segue__txn_confirm(segue__txn *txn, segue__txn_cb cb, void *data) {
  if (txn_step_begin(txn, SEGUE__TXN_CONFIRM, cb, data))
    segue__txn_phase_start(txn, SEGUE__PHASE_CONFIRM);
}

/* ---- For the reload hook ---- */

void segue__txn_reject(segue__txn *txn, const char *why) {
  segue_error error;
  if (segue__txn_misuse(txn, SEGUE__TXN_REJECT, NULL, &error)) return;
  segue__errorf(&error, SEGUE_EVETO, "%s", why && *why ? why : "the policy refused the reload");
  add_reason(txn, &error);
  txn->rejected |= !segue__txn_failed(txn);
}

void segue__txn_defer(segue__txn *txn, uint64_t delay_ms, const char *why) {
  segue_error error;
  if (segue__txn_misuse(txn, SEGUE__TXN_DEFER, NULL, &error)) return;
  segue__errorf(&error, SEGUE_EDEFERRED, "%s", why && *why ? why : "the policy put it off");
  segue__txn_report(txn, &error);
  txn->run->put_off = SEGUE__PUT_OFF;
  txn->run->not_before_ms = segue__loop_now_ms(txn->engine->loop) + delay_ms;
}

const segue__result *segue__txn_result(const segue__txn *txn) {
  return txn->result;
}

const segue_snapshot *segue__txn_next(const segue__txn *txn) {
  return txn->next;
}

const segue_snapshot *segue__txn_prev(const segue__txn *txn) {
  return txn->offered ? txn->offered : txn->engine->live;
}
