/* SPDX-License-Identifier: MIT
 *
 * Hooks of the policy while they run. If a hook does not end in time, its run continues without it,
 * and the call is freed when the hook ends: by then it has no pointer to the run any more.
 */
#include <uv.h>

#include "policy_call.h"

static void hook_through(segue_op *op);

segue__policy_call *segue__policy_call_new(segue__engine *engine, segue__policy *policy,
                                           uint64_t deadline_ms,
                                           void (*answered)(segue_op *, int, const segue_error *)) {
  segue__policy_call *policy_call = segue__calloc(1, sizeof *policy_call);
  if (!policy_call) return NULL;
  segue__op_begin(&policy_call->op, engine->loop, deadline_ms, answered, hook_through, engine);
  policy_call->policy = segue__policy_ref(policy);
  return policy_call;
}

segue__policy_call *segue__txn_policy_call_new(segue__txn *txn, uint64_t deadline_ms,
                                               void (*answered)(segue_op *, int,
                                                                const segue_error *)) {
  segue__policy_call *policy_call =
      segue__policy_call_new(txn->engine, txn->policy, deadline_ms, answered);
  if (!policy_call) return NULL;
  policy_call->txn = txn;
  txn->policy_call = policy_call;
  return policy_call;
}

static void free_hook(segue__policy_call *policy_call) {
  segue__policy_unref(policy_call->policy);
  segue__free(policy_call->source);
  segue__free(policy_call);
}

void segue__policy_call_answered(segue__policy_call *policy_call) {
  segue__engine *engine = policy_call->op.data;
  if (policy_call->txn && policy_call->txn->policy_call == policy_call)
    policy_call->txn->policy_call = NULL;
  policy_call->txn = NULL;
  if (!segue__op_outstanding(&policy_call->op)) {
    free_hook(policy_call);
    return;
  }
  policy_call->next = (segue__policy_call *)engine->hooks;
  engine->hooks = &policy_call->op;
}

static void hook_through(segue_op *op) {
  segue__engine *engine = op->data;
  segue__policy_call **link = (segue__policy_call **)&engine->hooks;
  while (*link != (segue__policy_call *)op)
    link = &(*link)->next;
  *link = (*link)->next;
  free_hook((segue__policy_call *)op);
  segue__engine_check_stopped(engine);
}
