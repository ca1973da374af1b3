/* SPDX-License-Identifier: MIT
 *
 * Hooks of the policy while they run. One that does not end in time is answered for, and goes when
 * it is through: nothing that waited for it is touched by then.
 */
#include <uv.h>

#include "txn.h"

static void hook_through(segue_op *op);

segue__hook *segue__hook_new(segue__engine *engine, segue__policy *policy, uint64_t deadline_ms,
                             void (*answered)(segue_op *, int, const segue_error *)) {
  segue__hook *hook = segue__calloc(1, sizeof *hook);
  if (!hook) return NULL;
  segue__op_begin(&hook->op, engine->loop, deadline_ms, answered, hook_through, engine);
  hook->policy = segue__policy_ref(policy);
  return hook;
}

segue__hook *segue__txn_hook_new(segue__txn *txn, uint64_t deadline_ms,
                                 void (*answered)(segue_op *, int, const segue_error *)) {
  segue__hook *hook = segue__hook_new(txn->engine, txn->policy, deadline_ms, answered);
  if (!hook) return NULL;
  hook->txn = txn;
  txn->hook = hook;
  return hook;
}

static void free_hook(segue__hook *hook) {
  segue__policy_unref(hook->policy);
  segue__free(hook->source);
  segue__free(hook);
}

void segue__hook_answered(segue__hook *hook) {
  segue__engine *engine = hook->op.data;
  if (hook->txn && hook->txn->hook == hook) hook->txn->hook = NULL;
  hook->txn = NULL;
  if (!segue__op_outstanding(&hook->op)) {
    free_hook(hook);
    return;
  }
  hook->next = (segue__hook *)engine->hooks;
  engine->hooks = &hook->op;
}

static void hook_through(segue_op *op) {
  segue__engine *engine = op->data;
  segue__hook **link = (segue__hook **)&engine->hooks;
  while (*link != (segue__hook *)op)
    link = &(*link)->next;
  *link = (*link)->next;
  free_hook((segue__hook *)op);
  segue__engine_check_stopped(engine);
}
