/* SPDX-License-Identifier: MIT
 *
 * policy_call.h: a hook of the policy while it runs.
 */
#ifndef SEGUE_RELOAD_POLICY_CALL_H
#define SEGUE_RELOAD_POLICY_CALL_H

#include "txn.h"

/* It may outlive the transaction. */
struct segue__policy_call {
  segue_op op; /* first: the op is the hook */
  segue__policy *policy;
  segue__txn *txn; /* NULL once it was answered, and for hooks outside of transactions */
  char *source;    /* strategy: name of the source that it was asked about */
  segue__source_health health;
  segue_error error;
  bool push;
  struct segue__policy_call *next;
};

segue__policy_call *segue__policy_call_new(segue__engine *engine, segue__policy *policy,
                                           uint64_t deadline_ms,
                                           void (*answered)(segue_op *, int, const segue_error *));
segue__policy_call *segue__txn_policy_call_new(segue__txn *txn, uint64_t deadline_ms,
                                               void (*answered)(segue_op *, int,
                                                                const segue_error *));
/* The hook has answered: detaches it from the transaction and frees it, now or when it has
 * returned. */
void segue__policy_call_answered(segue__policy_call *policy_call);

#endif
