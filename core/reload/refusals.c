/* SPDX-License-Identifier: MIT
 *
 * The calls of a policy's reload hook that are refused, each with its condition and its sentence.
 * A transaction goes through its states in one direction (segue__txn_state); a call that would skip
 * a state, repeat one or go back is a mistake of the policy, and is reported at the line that made
 * it. The first row that applies counts.
 */
#include "refusals.h"
#include "action.h"
#include "manual.h"
#include "run.h"

enum {
  PREPARE = 1 << SEGUE__TXN_PREPARE,
  COMMIT = 1 << SEGUE__TXN_COMMIT,
  CONFIRM = 1 << SEGUE__TXN_CONFIRM,
  REJECT = 1 << SEGUE__TXN_REJECT,
  DEFER = 1 << SEGUE__TXN_DEFER,
  OLD = 1 << SEGUE__TXN_OLD,
  NEXT = 1 << SEGUE__TXN_NEXT,
  STEPS = PREPARE | COMMIT | CONFIRM, /* of the whole transaction */
  VERBS = OLD | NEXT                  /* of one module */
};

typedef struct refusal {
  unsigned calls;
  bool (*when)(const segue__txn *txn, const segue__step *step);
  const char *sentence; /* NULL: allowed; the call ends with the failure of the transaction */
  bool of_module;       /* the sentence continues "module 'NAME'" */
} refusal;

/* step is NULL for calls that are not about a module, and where there is no such module. */
#define WHEN(name, condition)                                                                      \
  static bool name(const segue__txn *txn, const segue__step *step) {                               \
    (void)txn, (void)step;                                                                         \
    return condition;                                                                              \
  }
WHEN(is_prepared, txn->state >= SEGUE__TXN_PREPARED)
WHEN(is_not_prepared, txn->state < SEGUE__TXN_PREPARED)
WHEN(is_live, txn->state >= SEGUE__TXN_LIVE)
WHEN(is_not_to_confirm, txn->state != SEGUE__TXN_LIVE)
WHEN(has_failed, segue__txn_failed(txn))
WHEN(is_put_off, txn->run->put_off)
WHEN(is_replay, txn->run->files != NULL)
WHEN(is_rejected_or_failed, txn->rejected || segue__txn_failed(txn))
WHEN(is_rejected_or_put_off, txn->rejected || txn->run->put_off)
WHEN(has_step, txn->driver.cb != NULL)
WHEN(has_manual_steps, txn->manual.running > 0)
WHEN(is_no_module, !step)
WHEN(is_busy, step->manual.busy)
WHEN(is_new, !step->old)
WHEN(was_acted_on, step->manual.acted)
WHEN(is_removed, !step->action->builds && !step->action->keeps)
#undef WHEN

/* Mistakes of the policy. */
static const refusal misuses[] = {
    /* After the flip only a failure undoes the reload: a reject without an effect would look like
     * one that worked. */
    {REJECT, is_live,
     "txn:reject() is for before txn:commit(): afterwards return nil and a reason, which undoes "
     "the "
     "reload",
     false},
    {DEFER, is_live,
     "txn:defer() is for before txn:commit(): afterwards return nil and a reason, which undoes the "
     "reload",
     false},
    {REJECT | DEFER, is_put_off, "the reload was already put off", false},
    /* Later triggers join the run that is put off. They would get the outcome of a run that does
     * not read the sources. */
    {DEFER, is_replay,
     "txn:defer(): a rollback, or the last good generation of a start, cannot be put off: let it "
     "run, or call txn:reject(why)",
     false},
    {DEFER, is_rejected_or_failed, "txn:defer(): the reload was already rejected, or has failed",
     false},
    {STEPS | VERBS, has_step, "a step of this transaction is still under way", false},
    {STEPS, has_manual_steps, "a step of this transaction is still under way", false},
    {STEPS | VERBS, is_rejected_or_put_off, "the reload was already rejected or put off", false},
    {STEPS | VERBS, has_failed, NULL, false},
    {PREPARE, is_prepared, "txn:prepare() was called twice", false},
    {COMMIT, is_not_prepared, "txn:commit() needs txn:prepare() before it", false},
    {COMMIT, is_live, "txn:commit() was called twice", false},
    {CONFIRM, is_not_to_confirm, "txn:confirm() needs txn:commit() before it, and is called once",
     false},
    {VERBS, is_no_module, "is not of this reload", true},
    {VERBS, is_live, "txn.module is for before txn:commit()", false},
    {VERBS, is_busy, "is still at another verb", true},
    {NEXT, is_not_prepared, "is not built yet: call txn:prepare() first", true}};

/* Verbs that are in order, but that this module cannot do. */
static const refusal impossible[] = {
    {OLD, is_new, "is new: there is nothing yet that serves", true},
    {OLD, was_acted_on, "was replaced: its gate opens with txn:commit()", true},
    {NEXT, is_removed, "is removed by this reload: nothing takes its place", true},
    {NEXT, was_acted_on, "was replaced already", true}};

static int refuse_by(const refusal *rows, size_t count, const segue__txn *txn, segue__txn_call call,
                     const char *module, segue_error *error) {
  const segue__step *step = module ? segue__txn_step(txn, module) : NULL;
  for (size_t i = 0; i < count; i++) {
    const refusal *row = &rows[i];
    if (!(row->calls & 1U << call) || !row->when(txn, step)) continue;
    if (!row->sentence) return 0;
    if (row->of_module)
      return segue__errorf(error, SEGUE_EPOLICY, "module '%s' %s", module, row->sentence);
    return segue__errorf(error, SEGUE_EPOLICY, "%s", row->sentence);
  }
  return 0;
}

int segue__txn_misuse(const segue__txn *txn, segue__txn_call call, const char *module,
                      segue_error *error) {
  return refuse_by(misuses, sizeof misuses / sizeof *misuses, txn, call, module, error);
}

int segue__txn_impossible(const segue__txn *txn, segue__txn_call call, const char *module,
                          segue_error *error) {
  return refuse_by(impossible, sizeof impossible / sizeof *impossible, txn, call, module, error);
}
