/* SPDX-License-Identifier: MIT
 *
 * The end of a run. Every way out of phases.c leads through segue__txn_conclude or, where nothing
 * was built, through segue__txn_end: the generation is live and is written to the state folder, or
 * all of it is undone. Then the outcome is decided and the engine frees the transaction.
 */
#include <string.h>
#include <uv.h>

#include "../os/fault.h"
#include "action.h"
#include "collect.h"
#include "effects.h"
#include "operator.h"
#include "run.h"

static void txn_end_undone(segue__txn *txn);
static void decide_undone(segue__txn *txn);
static void txn_end_settle(segue__txn *txn);

enum { SWAP_MS = 30000 };

/* Bytes that the history keeps of the differences of one reload. */
enum { DIFF_KEPT = 8 << 10, DIFFS_KEPT = 64 << 10 };

void segue__txn_report_files(segue__txn *txn) {
  segue__file_changes *outputs = &txn->result->outputs;
  segue__change_set_report(txn, outputs);
  if (!txn->run->plan_only) segue__file_changes_cut(outputs, DIFF_KEPT, DIFFS_KEPT);
}

void segue__txn_settle_or_undo(segue__txn *txn) {
  segue__txn_report_files(txn);
  if (txn->state >= SEGUE__TXN_LIVE && !segue__txn_failed(txn)) {
    segue__commit_settle(txn);
    txn_end_settle(txn);
  } else {
    segue__undo_run(txn, txn_end_undone);
  }
}

/* Adds to every outcome, after its reasons, which sources are away and use a cached delivery. */
static void report_away(segue__txn *txn) {
  segue__source_set set = segue__policy_sources(txn->policy);
  for (size_t i = 0; i < set.count; i++) {
    segue_error error;
    if (!segue__sources_is_held(txn->engine->sources, &set, &set.items[i], &error)) continue;
    txn->result->away++;
    segue__txn_report(txn, &error);
  }
}

static void report_to_sources(const segue__txn *txn) {
  const segue__result *result = txn->result;
  segue__source_set set = segue__policy_sources(txn->policy);
  segue_source_outcome outcome = {.outcome = segue__outcome_name(result->outcome),
                                  .generation = result->generation,
                                  .errors = result->errors.items,
                                  .error_count = result->errors.count};
  segue__sources_report(txn->engine->sources, &set, result->plan_only ? NULL : &outcome);
}

void segue__txn_end(segue__txn *txn, segue__outcome outcome) {
  segue__engine *engine = txn->engine;
  segue__result *result = txn->result;
  report_away(txn);
  for (size_t i = 0; i < txn->content.warnings.count; i++)
    segue__txn_report(txn, &txn->content.warnings.items[i]);
  segue__phase reached = txn->result->phase;
  segue__txn_enter(txn, SEGUE__PHASE_SETTLED);
  result->phase = reached;
  result->outcome = outcome;
  result->generation = engine->live ? engine->live->generation : 0;
  if (engine->live) memcpy(result->hash, engine->live->hash, sizeof result->hash);
  result->taken_at_start = outcome == SEGUE__UNCHANGED && txn->run->explicit_ && engine->live &&
                           engine->live->generation == engine->taken_at_start;
  result->ended_wall_ms = segue__loop_wall_ms(engine->loop);
  if (outcome == SEGUE__APPLIED && !result->plan_only) result->phase = SEGUE__PHASE_SETTLED;
  report_to_sources(txn);
  segue__engine_finished(engine, txn);
}

/* ---- Writing to the state folder ---- */

static void record_end(segue__txn *txn, const segue_error *error) {
  segue__timer_stop(txn->engine->loop, &txn->timer);
  txn->writes.then(txn, error);
}

segue__record_call *segue__txn_call_new(segue__txn *txn, void (*cb)(segue__record_call *call,
                                                                    segue__record_answer *answer)) {
  txn->writes.call = (segue__record_call){.cb = cb ? cb : segue__txn_recorded, .data = txn};
  return &txn->writes.call;
}

void segue__txn_recorded(segue__record_call *call, segue__record_answer *answer) {
  record_end(call->data, answer->status < 0 ? &answer->error : NULL);
}

static void record_timeout(segue__timer *timer) {
  segue__txn *txn = timer->data;
  segue_error error;
  segue__record_forget(&txn->writes.call);
  segue__errorf(&error, SEGUE_ERECORD,
                "the state folder was not written to after %d ms: look at its disk",
                SEGUE__RECORD_MS);
  record_end(txn, &error);
}

void segue__txn_record(segue__txn *txn, int status,
                       void (*then)(segue__txn *txn, const segue_error *error)) {
  txn->writes.then = then;
  if (status < 0) {
    segue_error error;
    segue__errorf(&error, SEGUE_ERECORD, "the state cannot be recorded: %s",
                  segue_strerror(status));
    then(txn, &error);
    return;
  }
  txn->timer.data = txn;
  segue__timer_start(txn->engine->loop, &txn->timer, SEGUE__RECORD_MS, record_timeout);
}

/* ---- Undone ---- */

/* Returns whether the cause is outside of the content, so that the engine retries. A time limit
 * counts as such a cause if the sources or the policy's reload exceeded it; a check or a schema
 * that was too slow will be too slow again. */
static bool blames_world(const segue__txn *txn) {
  int code = txn->failure.code;
  if (code > -5000 || code == SEGUE_ESOURCE || code == SEGUE_EMODULE || code == SEGUE_ERECORD ||
      code == SEGUE_ECLOSED || code == SEGUE_ECANCELLED)
    return true;
  return code == SEGUE_ETIMEOUT && txn->result->phase != SEGUE__PHASE_CHECK;
}

/* Before commit nothing was visible. The cause is the content (rejected), which includes a veto of
 * the policy and its bugs, or something outside (failed). From commit on, the run was undone
 * (reverted). */
static segue__outcome outcome_of(const segue__txn *txn) {
  int code = txn->failure.code;
  if (txn->rejected) return SEGUE__REJECTED;
  if (txn->result->phase >= SEGUE__PHASE_COMMIT) return SEGUE__REVERTED;
  if (code == SEGUE_EHELD) return SEGUE__HELD;
  if (code == SEGUE_ECONFIG || code == SEGUE_EPOLICY || code == SEGUE_EVETO) return SEGUE__REJECTED;
  bool of_module = txn->result->phase >= SEGUE__PHASE_PREPARING && !txn->driver.failed;
  return of_module || blames_world(txn) ? SEGUE__FAILED : SEGUE__REJECTED;
}

static void end_undone(segue__txn *txn, const segue_error *error) {
  if (error) segue__operator_write_failed(txn->engine); /* the tick writes it again */
  if (error && txn->failure.code != SEGUE_ERECORD) segue__txn_report(txn, error);
  segue__outcome good = txn->run->plan_only ? SEGUE__APPLIED : SEGUE__UNCHANGED;
  bool planned = txn->run->plan_only || txn->run->put_off;
  segue__txn_end(txn, planned && !segue__txn_failed(txn) ? good : outcome_of(txn));
}

static void txn_end_undone(segue__txn *txn) {
  if (segue__operator_pins(txn))
    segue__look(txn, decide_undone);
  else
    decide_undone(txn);
}

static void decide_undone(segue__txn *txn) {
  segue__engine *engine = txn->engine;
  bool effects = engine->record && segue__effects_any(txn);
  segue__effects_close(txn);
  if (!segue__operator_undone(txn) && !effects) {
    end_undone(txn, NULL);
    return;
  }
  segue__txn_record(txn, segue__operator_write(engine, segue__txn_call_new(txn, NULL)), end_undone);
}

/* ---- Live ---- */

static void swapped_end(segue__txn *txn) {
  segue__drain_watch(txn->engine->modules, NULL, NULL);
  segue__timer_stop(txn->engine->loop, &txn->timer);
  segue__txn_end(txn, SEGUE__APPLIED);
}

static void swapped_drained(void *data) {
  segue__txn *txn = data;
  if (!segue__drains_swapping(txn->engine->modules)) swapped_end(txn);
}

static void swapped_late(segue__timer *timer) {
  segue__txn *txn = timer->data;
  segue_error error;
  segue__errorf(&error, SEGUE_ETIMEOUT,
                "replaced instances have not stopped after %d ms: they stop in the background",
                SWAP_MS);
  segue__txn_report(txn, &error);
  swapped_end(txn);
}

/* The answer to a run that swapped modules comes when the old instances have stopped. Of a log,
 * each line for the old file is in it by then, and the file may be rotated. */
static void wait_for_swapped(segue__txn *txn) {
  segue__drain_watch(txn->engine->modules, swapped_drained, txn);
  txn->timer.data = txn;
  segue__timer_start(txn->engine->loop, &txn->timer, SWAP_MS, swapped_late);
}

static int write_good(segue__txn *txn) {
  const segue__engine *engine = txn->engine;
  segue__record_run good = {.result = txn->result,
                            .snapshot = engine->live,
                            .input = txn->content.input,
                            .files = txn->content.files,
                            .items = &txn->guarded.counts};
  return segue__record_good(engine->record, &good, &txn->writes.call);
}

static int write_closed(segue__txn *txn) {
  segue__effects_close(txn);
  return segue__operator_write(txn->engine, &txn->writes.call);
}

/* Executes the list of writes (plan_writes) and ends the run after the last one. A generation is
 * live even if it cannot be written: the error is added to its result, and the tick tries again.
 * But the answer waits: an operator who reads "applied" may switch the machine off. */
static void persist_then_end(segue__txn *txn, const segue_error *error) {
  segue__engine *engine = txn->engine;
  txn->writes.failed |= error != NULL;
  if (error) segue__txn_report(txn, error);
  if (error && txn->writes.list[txn->writes.next - 1] == SEGUE__WRITE_GOOD)
    segue__unkept_set(engine, txn);
  else if (error)
    segue__operator_write_failed(engine); /* the tick writes it again */
  int rc = SEGUE_FAULT("settle.record");  /* specs kill the process here */
  (void)rc;
  if (txn->writes.next < txn->writes.count) {
    segue__write_kind write = txn->writes.list[txn->writes.next++];
    rc = write == SEGUE__WRITE_GOOD     ? write_good(txn)
         : write == SEGUE__WRITE_CLOSED ? write_closed(txn)
                                        : segue__operator_write(engine, &txn->writes.call);
    segue__txn_record(txn, rc, persist_then_end);
    return;
  }
  segue__change_set_close(txn, !txn->writes.failed);
  if (segue__drains_swapping(engine->modules))
    wait_for_swapped(txn);
  else
    segue__txn_end(txn, SEGUE__APPLIED);
}

static void add_write(segue__txn *txn, bool wanted, segue__write_kind write) {
  if (wanted) txn->writes.list[txn->writes.count++] = write;
}

/* The order matters where the process is killed in between: the next start must find the state
 * before or the state after, and never a decision about a generation that is not on disk.
 *   A rollback writes its generation first, then the decision that it stays.
 *   Every other run writes first the decision that its generation is confirmed, then the
 *   generation.
 *   The intents of effects outside memory are removed after the generation is on disk: until then
 *   they are undone by a start, from then on they are finished. */
static void plan_writes(segue__txn *txn, bool state, bool good) {
  const segue__engine *engine = txn->engine;
  bool effects = engine->record && segue__effects_any(txn);
  bool good_first = segue__operator_decisions(engine)->pinned;
  add_write(txn, state && good && !good_first, SEGUE__WRITE_STATE);
  add_write(txn, good, SEGUE__WRITE_GOOD);
  add_write(txn, effects || (state && (!good || good_first)), SEGUE__WRITE_CLOSED);
}

static void txn_end_settle(segue__txn *txn) {
  segue__engine *engine = txn->engine;
  segue__record *record = engine->record;
  bool first = txn->origin != SEGUE__LATER || txn->run->trigger == SEGUE__BY_START;
  bool at_start = first && txn->origin != SEGUE__RESUMED && !txn->run->files && record;
  if (at_start && segue__record_found(record)->last_good.generation)
    engine->taken_at_start = engine->live->generation;
  bool state = segue__operator_settle(txn) && record;
  plan_writes(txn, state, record && txn->origin != SEGUE__RESUMED);
  segue__unkept_set(engine, NULL);
  segue__txn_enter(txn, SEGUE__PHASE_SETTLED);
  segue__txn_take_files(txn);
  (void)segue__txn_call_new(txn, NULL);
  txn->result->ended_wall_ms = segue__loop_wall_ms(engine->loop);
  persist_then_end(txn, NULL);
}
