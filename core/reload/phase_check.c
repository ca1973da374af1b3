/* SPDX-License-Identifier: MIT
 *
 * The phase check: the schema first, then the guards, then the check of the policy, which thus sees
 * only a configuration that fits both.
 */
#include <string.h>
#include <uv.h>

#include "../os/fault.h"
#include "guard.h"
#include "phases.h"
#include "policy_call.h"
#include "run.h"
#include "validate.h"

static void txn_validated(segue__txn *txn);
static void validate_timeout(segue__timer *timer);
static void check_by_policy(segue__txn *txn);
static void txn_checked(segue_op *op, int status, const segue_error *error);

void segue__phase_check_cancel(segue__txn *txn) {
  segue__txn_fail_closed(txn);
  if (txn->validation)
    segue__timer_start(txn->engine->loop, &txn->timer, 0, validate_timeout);
  else if (txn->policy_call)
    segue__op_cancel(&txn->policy_call->op, SEGUE_ECLOSED);
}

/* Adds the changes to the result once the mask is known: a value that is secret on either side is
 * hidden. From here on no path into a secret is visible. */
static void txn_report_changes(segue__txn *txn) {
  const segue_snapshot *live = txn->engine->live;
  segue__mask *mask;
  int rc = segue__mask_join(&mask, txn->next->mask, live ? live->mask : NULL, NULL);
  if (!rc) rc = segue__mask_changes(mask, &txn->content.changes);
  if (!rc) rc = segue__result_take_changes(txn->result, &txn->content.changes, mask);
  segue__mask_unref(mask);
  if (rc == 0) return;
  segue__changes_deinit(&txn->content.changes); /* not masked, so not shown */
  segue__txn_fail_code(txn, rc, "changes");
}

/* Replaces the changes of a start by those against the last good generation: an unchanged value
 * that was only read again is no change. */
void segue__txn_compare_with_offered(segue__txn *txn) {
  segue__changes changes = {0};
  int rc = segue__diff(segue_snapshot_root(txn->offered), segue_snapshot_root(txn->next), &changes);
  if (!rc) {
    segue__result_drop_changes(txn->result);
    segue__changes_deinit(&txn->content.changes);
    txn->content.changes = changes;
    txn_report_changes(txn);
    return;
  }
  segue__changes_deinit(&changes);
  segue__txn_fail_code(txn, rc, "changes");
}

/* The schema first, then the guards: the policy's check sees only what fits them. */
void segue__phase_check(segue__txn *txn) {
  segue__txn_enter(txn, SEGUE__PHASE_CHECK);
  if (!txn->content.schema_doc && !txn->policy->mask) {
    txn_report_changes(txn);
    if (segue__txn_failed(txn))
      segue__txn_phase_end(txn);
    else
      check_by_policy(txn);
    return;
  }
  int rc = segue__validate_job_start(txn, txn_validated);
  if (rc < 0) {
    segue__txn_fail_code(txn, rc == UV_EAGAIN ? SEGUE_ETIMEOUT : rc, "check by schema");
    segue__txn_phase_end(txn);
    return;
  }
  txn->timer.data = txn;
  segue__timer_start(txn->engine->loop, &txn->timer, txn->policy->check_ms, validate_timeout);
}

static void validate_timeout(segue__timer *timer) {
  segue__txn *txn = timer->data;
  txn->validation->txn = NULL;
  segue__job_abandon(txn->engine->loop, &txn->validation->job);
  txn->validation = NULL;
  if (!segue__txn_failed(txn)) {
    segue_error error;
    segue__errorf(&error, SEGUE_ETIMEOUT, "the check by %s was not done after %llu ms",
                  txn->policy->schema ? txn->policy->schema : "the list of secrets",
                  (unsigned long long)txn->policy->check_ms);
    segue__txn_fail(txn, &error);
  }
  segue__txn_phase_end(txn);
}

/* The generation is that with the defaults. */
static void take_filled(segue__txn *txn, segue__validate_job *validation) {
  segue_snapshot *filled;
  if (segue__snapshot_new(&filled, txn->next->generation, validation->config) < 0) {
    validation->lost = UV_ENOMEM;
    return;
  }
  segue__engine_drop(txn->engine, txn->next);
  txn->next = filled;
  segue__changes changes = txn->content.changes;
  txn->content.changes = validation->changes;
  validation->changes = changes;
}

static void txn_validated(segue__txn *txn) {
  segue__validate_job *validation = txn->validation;
  segue__timer_stop(txn->engine->loop, &txn->timer);
  txn->validation = NULL;
  if (validation->filled) take_filled(txn, validation);
  txn->next->mask = validation->mask;
  validation->mask = NULL;
  if (txn->next->mask) segue__engine_notify_secrets(txn->engine, txn->next->mask);
  if (!validation->lost || txn->next->mask) txn_report_changes(txn);
  segue__txn_fail_with(txn, &validation->errors, "check by schema");
  if (validation->lost) segue__txn_fail_code(txn, validation->lost, "check by schema");
  segue__validate_job_free(validation);
  if (segue__txn_failed(txn))
    segue__txn_phase_end(txn);
  else
    check_by_policy(txn);
}

static void check_by_policy(segue__txn *txn) {
  const segue__policy *policy = txn->policy;
  if (segue__guards_hold(txn)) {
    segue__txn_phase_end(txn);
    return;
  }
  if (!policy->has_check) {
    segue__txn_phase_end(txn);
    return;
  }
  segue__policy_call *policy_call =
      SEGUE_FAULT("check.policy") ? NULL
                                  : segue__txn_policy_call_new(txn, policy->check_ms, txn_checked);
  if (!policy_call) {
    segue__txn_fail_code(txn, UV_ENOMEM, "check");
    segue__txn_phase_end(txn);
    return;
  }
  /* The check of a start has no prev, also if the last good generation serves already: a start may
   * change what a reload may not. */
  bool starts = txn->run->trigger == SEGUE__BY_START && !txn->run->files;
  policy->ops->check(policy->impl, &policy_call->op, txn->next, starts ? NULL : txn->engine->live);
}

/* The policy's first finding is the error that its hook ended with; this adds the others. */
void segue__txn_add_findings(segue__txn *txn) {
  const segue__policy_ops *ops = txn->policy->ops;
  segue__errors found;
  segue__errors_init(&found);
  if (ops->explain) ops->explain(txn->policy->impl, &found);
  for (size_t i = 1; i < found.count; i++)
    segue__txn_report(txn, &found.items[i]);
  segue__errors_deinit(&found);
}

static void txn_checked(segue_op *op, int status, const segue_error *error) {
  segue__policy_call *policy_call = (segue__policy_call *)op;
  segue__txn *txn = policy_call->txn;
  if (status == SEGUE_ETIMEOUT && segue_op_cancelled(op)) {
    segue_error late;
    segue__errorf(&late, status, "the policy's check was not done after %llu ms",
                  (unsigned long long)txn->policy->check_ms);
    segue__txn_fail(txn, &late);
  } else if (status < 0) {
    segue__txn_fail(txn, error);
    segue__txn_add_findings(txn);
  }
  segue__policy_call_answered(policy_call);
  segue__txn_phase_end(txn);
}
