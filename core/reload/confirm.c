/* SPDX-License-Identifier: MIT
 *
 * Confirm: a live generation must be confirmed within a time limit, by the policy's probe or by an
 * operator. Otherwise everything is undone.
 */
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../os/fault.h"
#include "confirm.h"
#include "operator.h"
#include "policy_call.h"
#include "run.h"
#include "step.h"

struct segue__confirm {
  bool by_operator;         /* an operator is waited for, and no probe */
  segue__decision decision; /* of an operator */
  char decided_by[128];
  uint64_t until_ms; /* 0: no window is open, or the daemon shuts down */
  uint64_t healthy_since_ms;
  uint64_t probe_failures; /* in a row */
  bool healthy;
  segue_error unhealthy; /* the probe's error to report; code 0: none yet */
  segue_error died;      /* of an instance that failed meanwhile; code 0: none */
};

static void confirm_probe(segue__txn *txn);
static void not_confirmed(segue__txn *txn, const segue_error *why);
static void wait_for_operator(segue__txn *txn);
static void pass_by(const char *point);

enum {
  PROBE_PAUSE_MS = 200,
  PROBE_LAST_MS = 20 /* before the end: the last probe has this long to answer */
};

int segue__confirm_new(segue__confirm **out) {
  *out = segue__calloc(1, sizeof **out);
  return *out ? 0 : UV_ENOMEM;
}

void segue__confirm_free(segue__confirm *confirm) {
  segue__free(confirm);
}

void segue__confirm_reset(segue__confirm *confirm) {
  memset(confirm, 0, sizeof *confirm);
}

bool segue__confirm_by_operator(const segue__txn *txn) {
  return txn->engine->confirm->by_operator;
}

uint64_t segue__confirm_until_ms(const segue__txn *txn) {
  return txn->engine->confirm->until_ms;
}

/* The daemon shuts down: the generation is not confirmed in time, so it is undone. */
void segue__confirm_cancel(segue__txn *txn) {
  if (segue__timer_active(&txn->timer)) {
    txn->engine->confirm->until_ms = 0;
    segue__timer_start(txn->engine->loop, &txn->timer, 0, txn->timer.cb);
  } else if (txn->policy_call) {
    txn->engine->confirm->until_ms = 0;
    segue__op_cancel(&txn->policy_call->op, SEGUE_ECLOSED);
  }
}

void segue__confirm_run(segue__txn *txn) {
  segue__txn_enter(txn, SEGUE__PHASE_CONFIRM);
  txn->engine->confirm->by_operator = segue__operator_asks_operator(txn);
  if (txn->engine->confirm->died.code) {
    not_confirmed(txn, NULL);
    return;
  }
  if (!txn->engine->confirm->by_operator && !segue__operator_asks_probe(txn)) {
    txn->state = SEGUE__TXN_CONFIRMED;
    segue__txn_step_end(txn, NULL);
    return;
  }
  if (txn->engine->stopping) {
    not_confirmed(txn, NULL);
    return;
  }
  pass_by("confirm.open");
  txn->engine->confirm->until_ms =
      segue__loop_now_ms(txn->engine->loop) + segue__operator_left_ms(txn);
  if (txn->engine->confirm->by_operator)
    wait_for_operator(txn);
  else
    confirm_probe(txn);
}

/* The policy sets how many failed probes in a row undo the generation. */
static bool confirm_abandons(const segue__txn *txn) {
  return txn->policy->confirm_failures &&
         txn->engine->confirm->probe_failures >= txn->policy->confirm_failures;
}

static void not_confirmed(segue__txn *txn, const segue_error *why) {
  segue_error error;
  if (txn->engine->confirm->died.code)
    error = txn->engine->confirm->died;
  else if (txn->engine->stopping)
    segue__errorf(&error, SEGUE_EPROBE,
                  "the daemon is shutting down before the new generation "
                  "was confirmed");
  else if (txn->engine->confirm->decision == SEGUE__TAKE_BACK)
    segue__errorf(&error, SEGUE_EPROBE, "the new generation was undone by %s",
                  txn->engine->confirm->decided_by);
  else if (txn->engine->confirm->by_operator)
    segue__errorf(&error, SEGUE_EPROBE,
                  "the new generation was not confirmed within %llu ms (segue confirm)",
                  (unsigned long long)txn->policy->confirm_within_ms);
  else if (confirm_abandons(txn))
    segue__errorf(&error, SEGUE_EPROBE,
                  "the new generation was not healthy: its probe failed %llu times in a "
                  "row%s%.400s",
                  (unsigned long long)txn->engine->confirm->probe_failures, why ? ": " : "",
                  why ? why->message : "");
  else
    segue__errorf(&error, SEGUE_EPROBE, "the new generation was not healthy within %llu ms%s%.400s",
                  (unsigned long long)txn->policy->confirm_within_ms, why ? ": " : "",
                  why ? why->message : "");
  if (why) segue__error_set_place(&error, why->file, why->line, why->column);
  segue__txn_step_end(txn, &error);
}

/* A fault point without an error: specs kill the process here. */
static void pass_by(const char *point) {
  int rc = SEGUE_FAULT(point);
  (void)rc, (void)point;
}

static void confirm_confirmed(segue__txn *txn) {
  pass_by("confirm.done");
  txn->state = SEGUE__TXN_CONFIRMED;
  snprintf(txn->result->confirmed_by, sizeof txn->result->confirmed_by, "%s",
           txn->engine->confirm->decision == SEGUE__CONFIRM ? txn->engine->confirm->decided_by
                                                            : "probe");
  segue__txn_step_end(txn, NULL);
}

/* Returns true if an operator has decided or an instance has failed, after it has ended the step.
 */
static bool confirm_decided(segue__txn *txn) {
  if (txn->engine->confirm->decision == SEGUE__CONFIRM)
    confirm_confirmed(txn);
  else if (txn->engine->confirm->decision == SEGUE__TAKE_BACK || txn->engine->confirm->died.code)
    not_confirmed(txn, NULL);
  return txn->engine->confirm->decision != 0 || txn->engine->confirm->died.code;
}

/* Ends the wait for the operator or the probe; the callback of the wait finds the decision. */
static void confirm_wake(segue__txn *txn) {
  if (segue__timer_active(&txn->timer))
    segue__timer_start(txn->engine->loop, &txn->timer, 0, txn->timer.cb);
  else if (txn->policy_call)
    segue__op_cancel(&txn->policy_call->op, SEGUE_ECANCELLED);
}

/* Before the flip, a failed instance fails the transaction. While the generation waits for its
 * confirmation, the failure of any live instance undoes it, also of a module that the reload did
 * not change. All other failures are left to recover.c. */
void segue__txn_instance_failed(segue__txn *txn, const segue__module_record *module,
                                const segue__instance *instance) {
  bool window = txn->result->phase == SEGUE__PHASE_CONFIRM && txn->state < SEGUE__TXN_CONFIRMED;
  bool is_new = segue__change_set_builds(txn, instance) != NULL;
  if (segue__txn_failed(txn) || txn->state == SEGUE__TXN_CONFIRMED ||
      txn->engine->confirm->died.code || !(is_new || window))
    return;
  const segue_error *why = segue__instance_failure(instance);
  segue__errorf(&txn->engine->confirm->died, SEGUE_EMODULE,
                "module '%s' failed after its start: %.400s", module->name, why->message);
  if (window) {
    confirm_wake(txn);
  } else if (txn->state < SEGUE__TXN_LIVE) {
    segue__txn_fail(txn, &txn->engine->confirm->died);
    segue__commit_expedite(txn);
  }
}

static void operator_waited_for(segue__timer *timer) {
  segue__txn *txn = timer->data;
  if (!confirm_decided(txn)) not_confirmed(txn, NULL);
}

/* Answers the waiters already now, with the outcome "unconfirmed": the client that requested the
 * reload may be the one that confirms it. */
static void wait_for_operator(segue__txn *txn) {
  segue__loop *loop = txn->engine->loop;
  uint64_t now = segue__loop_now_ms(loop);
  txn->timer.data = txn;
  segue__timer_start(loop, &txn->timer,
                     txn->engine->confirm->until_ms > now ? txn->engine->confirm->until_ms - now
                                                          : 0,
                     operator_waited_for);
  txn->result->generation = txn->engine->live->generation;
  memcpy(txn->result->hash, txn->engine->live->hash, sizeof txn->result->hash);
  segue__run_answer(txn->run, SEGUE_EUNCONFIRMED, txn->result);
}

static void probe_again(segue__timer *timer) {
  segue__txn *txn = timer->data;
  if (confirm_decided(txn)) return;
  if (txn->engine->confirm->until_ms < segue__loop_now_ms(txn->engine->loop))
    not_confirmed(txn,
                  txn->engine->confirm->unhealthy.code ? &txn->engine->confirm->unhealthy : NULL);
  else
    confirm_probe(txn);
}

/* The pause until the next probe. The time limit is used up to its end: the last probes run
 * PROBE_LAST_MS before the end, and at the end. A module that becomes healthy late is thus not
 * undone because of a pause. */
static uint64_t pause_ms(const segue__txn *txn, uint64_t now) {
  uint64_t pause = PROBE_PAUSE_MS, left = txn->engine->confirm->until_ms - now;
  uint64_t held = txn->engine->confirm->healthy_since_ms + txn->policy->confirm_hold_ms;
  if (txn->engine->confirm->healthy && held - now < pause) pause = held - now;
  if (pause < left) return pause;
  return left > PROBE_LAST_MS ? left - PROBE_LAST_MS : left;
}

static void confirm_probed(segue_op *op, int status, const segue_error *error) {
  segue__policy_call *policy_call = (segue__policy_call *)op;
  segue__txn *txn = policy_call->txn;
  segue__loop *loop = txn->engine->loop;
  uint64_t now = segue__loop_now_ms(loop), hold = txn->policy->confirm_hold_ms;
  segue_error why = {0};
  if (error) why = *error;
  segue__policy_call_answered(policy_call);
  /* The deadline may have cut off the last probe: then the error of an earlier probe is reported.
   */
  bool cut_off = status == SEGUE_ETIMEOUT && now >= txn->engine->confirm->until_ms;
  if (cut_off && txn->engine->confirm->unhealthy.code) why = txn->engine->confirm->unhealthy;
  if (status < 0) txn->engine->confirm->unhealthy = why;
  if (status == 0 && !txn->engine->confirm->healthy) txn->engine->confirm->healthy_since_ms = now;
  txn->engine->confirm->healthy = status == 0;
  txn->engine->confirm->probe_failures = status < 0 ? txn->engine->confirm->probe_failures + 1 : 0;
  if (confirm_decided(txn)) return;
  if (txn->engine->confirm->healthy && now - txn->engine->confirm->healthy_since_ms >= hold) {
    confirm_confirmed(txn);
    return;
  }
  if (now >= txn->engine->confirm->until_ms || confirm_abandons(txn)) {
    not_confirmed(txn, status < 0 ? &why : NULL);
    return;
  }
  txn->timer.data = txn;
  segue__timer_start(loop, &txn->timer, pause_ms(txn, now), probe_again);
}

static void confirm_probe(segue__txn *txn) {
  uint64_t left = txn->engine->confirm->until_ms - segue__loop_now_ms(txn->engine->loop);
  segue__policy_call *policy_call =
      segue__txn_policy_call_new(txn, left ? left : 1, confirm_probed);
  if (!policy_call) {
    segue_error error;
    segue__errorf(&error, UV_ENOMEM, "confirm: out of memory");
    segue__txn_step_end(txn, &error);
    return;
  }
  txn->policy->ops->probe(txn->policy->impl, &policy_call->op);
}

void segue__txn_decide(segue__txn *txn, segue__decision decision, const char *by) {
  if (txn->engine->confirm->decision) return; /* the first one counts */
  txn->engine->confirm->decision = decision;
  snprintf(txn->engine->confirm->decided_by, sizeof txn->engine->confirm->decided_by, "%s", by);
  SEGUE__LOG(txn->engine->log, SEGUE_INFO, "reload",
             decision == SEGUE__CONFIRM ? "the new generation is confirmed"
                                        : "the new generation is undone",
             SEGUE__FIELD("by", by), SEGUE__FIELD("generation", txn->engine->live->generation));
  confirm_wake(txn);
}
