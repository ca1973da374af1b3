/* SPDX-License-Identifier: MIT
 *
 * A quick look at the sources beside a run. A rollback holds against the sources as they are when
 * it is requested: a file that was saved since the last reload, which nothing has read yet, must
 * not go live at the next restart. So the raw hash of the sources is taken again before the
 * decision is written. Nothing is fetched over a network, no writer is waited for, and nothing is
 * applied. If the sources cannot be read in time, the hash of the last reload stays: a rollback
 * does not fail because of the files that it replaces.
 */
#include <uv.h>

#include "collect.h"

enum { LOOK_MS = 1000 };

static void look_timeout(segue__timer *timer);
static void look_done(segue__txn *txn, int code);

static void look_end(segue__txn *txn) {
  void (*looked)(segue__txn *) = txn->looked;
  txn->looked = NULL;
  looked(txn);
}

static int look_start(segue__txn *txn, bool look_at_inputs) {
  int rc = segue__collect_start(txn, look_at_inputs, look_done);
  if (rc < 0) return rc;
  txn->timer.data = txn;
  segue__timer_start(txn->engine->loop, &txn->timer, LOOK_MS, look_timeout);
  return 0;
}

/* A file of the policy has changed: the policy that a restart would load defines the sources. */
static int look_by_new_policy(segue__txn *txn) {
  const segue__policy_loader *loader = &txn->engine->options.loader;
  segue__policy *policy = NULL, *own = txn->policy;
  segue__errors errors;
  segue__errors_init(&errors);
  int rc = loader->load(loader->data, txn->engine->policy_path, &policy, &errors);
  if (!rc) rc = policy ? segue__policy_validate(policy, &errors) : UV_ENOENT;
  segue__errors_deinit(&errors);
  txn->policy = policy; /* collect takes a reference of its own */
  if (!rc) rc = look_start(txn, false);
  txn->policy = own;
  segue__policy_unref(policy);
  return rc;
}

static void look_done(segue__txn *txn, int code) {
  segue__engine *engine = txn->engine;
  if (code < 0) {
    txn->collect = NULL;
    segue__look_abandon(txn);
    return;
  }
  segue__collect *collect = txn->collect;
  segue__timer_stop(engine->loop, &txn->timer);
  txn->collect = NULL;
  bool changed = collect->inputs_changed;
  if (!changed && !collect->errors.total) engine->last_raw = collect->raw;
  segue__collect_free(collect);
  if (!changed || look_by_new_policy(txn) < 0) look_end(txn);
}

void segue__look_abandon(segue__txn *txn) {
  segue__timer_stop(txn->engine->loop, &txn->timer);
  if (txn->collect) segue__collect_abandon(txn->collect);
  txn->collect = NULL;
  look_end(txn);
}

static void look_timeout(segue__timer *timer) {
  segue__look_abandon(timer->data);
}

void segue__look(segue__txn *txn, void (*looked)(segue__txn *txn)) {
  txn->looked = looked;
  if (look_start(txn, txn->engine->options.loader.load != NULL) < 0) look_end(txn);
}
