/* SPDX-License-Identifier: MIT
 *
 * The table of phases. One run goes through collect, check and plan, then prepare, commit and
 * confirm, which the policy's reload hook calls or, where it has none, the default in just that
 * order; txn_end.c has the end of a run. Here is also how a run begins, fails and is freed.
 */
#include <uv.h>

#include "confirm.h"
#include "guard.h"
#include "operator.h"
#include "phases.h"
#include "plan.h"
#include "run.h"
#include "step.h"

/* ---- The phases ---- */

static void phase_plan(segue__txn *txn);
static void next_check(segue__txn *txn);
static void next_plan(segue__txn *txn);
static void next_steps(segue__txn *txn);
static void cancel_nothing(segue__txn *txn);

/* A run goes through these rows from top to bottom.
 *   start    begins the phase, which ends by one segue__txn_phase_end, now or later
 *   cancel   the daemon shuts down: makes it end soon
 *   on_ok    what follows the phase
 *   on_fail  what follows it where the transaction has failed
 * Collect, check and plan follow each other. The policy's reload hook, or where there is none the
 * default, starts prepare, commit and confirm, and is called back when each has ended
 * (segue__txn_next_call). The last phase settles the generation if it is live, and undoes
 * everything if it is not; then the engine frees the transaction. */
static const struct phase {
  void (*start)(segue__txn *txn);
  void (*cancel)(segue__txn *txn);
  void (*on_ok)(segue__txn *txn);
  void (*on_fail)(segue__txn *txn);
} phases[SEGUE__PHASE_COUNT] = {
    [SEGUE__PHASE_COLLECT] = {segue__phase_collect, segue__phase_collect_cancel, next_check,
                              segue__txn_conclude},
    [SEGUE__PHASE_CHECK] = {segue__phase_check, segue__phase_check_cancel, next_plan,
                            segue__txn_conclude},
    [SEGUE__PHASE_PLAN] = {phase_plan, segue__txn_cancel_steps, next_steps, segue__txn_conclude},
    [SEGUE__PHASE_PREPARING] = {segue__prepare_run, segue__txn_cancel_steps, segue__txn_next_call,
                                segue__txn_next_call},
    [SEGUE__PHASE_COMMIT] = {segue__operator_open, segue__txn_cancel_steps, segue__txn_next_call,
                             segue__txn_next_call},
    [SEGUE__PHASE_CONFIRM] = {segue__confirm_run, segue__confirm_cancel, segue__txn_next_call,
                              segue__txn_next_call},
    [SEGUE__PHASE_SETTLED] = {segue__txn_settle_or_undo, cancel_nothing, NULL, NULL},
};

void segue__txn_phase_start(segue__txn *txn, segue__phase at) {
  txn->at = at;
  phases[at].start(txn);
}

void segue__txn_phase_end(segue__txn *txn) {
  const struct phase *phase = &phases[txn->at];
  (segue__txn_failed(txn) ? phase->on_fail : phase->on_ok)(txn);
}

void segue__txn_conclude(segue__txn *txn) {
  segue__txn_phase_start(txn, SEGUE__PHASE_SETTLED);
}

/* The drains and the disk that it waits for have time limits of their own. */
static void cancel_nothing(segue__txn *txn) {
  (void)txn;
}

void segue__txn_abort(segue__txn *txn) {
  segue__commit_hurry(
      txn); /* first: a cancel may end the transaction; also for an undo that runs */
  if (!segue__txn_failed(txn)) phases[txn->at].cancel(txn);
}

void segue__txn_fail_closed(segue__txn *txn) {
  segue_error error;
  segue__errorf(&error, SEGUE_ECLOSED, "the daemon is shutting down");
  segue__txn_fail(txn, &error);
}

/* ---- Beginning ---- */

static void txn_reserve(segue__txn *txn);
static void txn_reserved(segue__txn *txn, const segue_error *error);
static void txn_begin(segue__txn *txn);
static void txn_rehearsed(void *data, int status, const segue_error *error);

/* Returns the number of the live generation; at a start that of the process before. */
static uint64_t live_before(const segue__engine *engine) {
  if (engine->live) return engine->live->generation;
  return engine->resumes ? segue__record_found(engine->record)->last_good.generation : 0;
}

int segue__txn_start(segue__engine *engine, segue__queued_run *run) {
  segue__txn *txn = segue__calloc(1, sizeof *txn);
  if (!txn || segue__result_new(&txn->result, run->id, &run->cause, run->joined) < 0) {
    segue__free(txn);
    return UV_ENOMEM;
  }
  txn->engine = engine;
  txn->run = run;
  txn->phase_start_us = segue__engine_now_us(engine);
  txn->result->started_wall_ms = segue__loop_wall_ms(engine->loop);
  txn->result->restores = run->restores;
  txn->result->previous = live_before(engine);
  txn->result->plan_only = run->plan_only;
  txn->result->forced = run->force;
  txn->result->trigger = run->trigger;
  engine->txn = txn;
  segue__confirm_reset(engine->confirm);
  segue__policy *policy = run->policy ? run->policy : engine->policy;
  if (policy) txn->policy = segue__policy_ref(policy);
  txn_reserve(txn);
  return 0;
}

/* From its first phase on, clients see the number of a run, and events of modules have that of its
 * generation. A process that is killed then must not give them again: so they are reserved on disk
 * before, a block at a time. */
static void txn_reserve(segue__txn *txn) {
  segue__engine *engine = txn->engine;
  const segue__numbers given = {txn->run->id, engine->last_generation + 1};
  if (!engine->record || (given.reload <= engine->reserved.reload &&
                          given.generation <= engine->reserved.generation)) {
    txn_begin(txn);
    return;
  }
  engine->reserving = segue__numbers_block(&given);
  segue__record_call *call = segue__txn_call_new(txn, NULL);
  segue__txn_record(txn, segue__record_numbers(engine->record, &engine->reserving, call),
                    txn_reserved);
}

/* error: the disk refuses, which the record thread logs: reloads continue, and the next run tries
 * again. */
static void txn_reserved(segue__txn *txn, const segue_error *error) {
  if (!error) txn->engine->reserved = txn->engine->reserving;
  txn_begin(txn);
}

static void txn_begin(segue__txn *txn) {
  txn->state = SEGUE__TXN_OPEN;
  segue__txn_phase_start(txn, SEGUE__PHASE_COLLECT);
}

void segue__txn_enter(segue__txn *txn, segue__phase phase) {
  uint64_t now = segue__engine_now_us(txn->engine);
  txn->result->phase_us[txn->result->phase] += now - txn->phase_start_us;
  txn->result->phase = phase;
  txn->phase_start_us = now;
  if (phase != SEGUE__PHASE_SETTLED) segue__engine_notify(txn->engine, txn->result, phase);
}

void segue__txn_free(segue__txn *txn) {
  segue__timer_stop(txn->engine->loop, &txn->timer);
  segue__change_set_free(txn);
  segue__content_deinit(txn);
  segue__guards_deinit(txn);
  segue__engine_drop(txn->engine, txn->next);
  segue__engine_drop(txn->engine, txn->was_live);
  segue__engine_drop(txn->engine, txn->offered);
  segue__policy_unref(txn->policy);
  segue__result_unref(txn->result);
  segue__free(txn);
}

/* Messages of hooks, modules and commands may quote the config. */
void segue__engine_scrub(const segue__engine *engine, segue_error *error) {
  const segue_snapshot *next = engine->txn ? engine->txn->next : NULL;
  if (next) segue__mask_error(next->mask, error);
  if (engine->live) segue__mask_error(engine->live->mask, error);
}

void segue__engine_scrub_text(const segue__engine *engine, char *text) {
  const segue_snapshot *next = engine->txn ? engine->txn->next : NULL;
  if (next) segue__mask_scrub(next->mask, text, false);
  if (engine->live) segue__mask_scrub(engine->live->mask, text, false);
}

void segue__txn_report(segue__txn *txn, const segue_error *error) {
  segue_error reported = *error;
  segue__engine_scrub(txn->engine, &reported);
  segue__result_error(txn->result, &reported);
}

void segue__txn_fail(segue__txn *txn, const segue_error *error) {
  segue__txn_report(txn, error);
  if (segue__txn_failed(txn)) return;
  txn->failure = *error;
  if (!error->code) txn->failure.code = UV_UNKNOWN; /* code 0 would be no failure */
}

void segue__txn_fail_code(segue__txn *txn, int code, const char *what) {
  segue_error error;
  segue__errorf(&error, code, "%s: %s", what, segue_strerror(code));
  segue__txn_fail(txn, &error);
}

/* An error that no memory was left to keep is counted in total only. It fails the transaction like
 * any other: to look at count alone would put live what could not be read or was not checked. */
void segue__txn_fail_with(segue__txn *txn, const segue__errors *errors, const char *what) {
  size_t lost = errors->total - errors->count;
  for (size_t i = 0; i < errors->count; i++)
    segue__txn_fail(txn, &errors->items[i]);
  if (lost && !segue__txn_failed(txn)) {
    segue__txn_fail_code(txn, UV_ENOMEM, what);
    lost--;
  }
  txn->result->errors.total += lost;
}

/* ---- Plan ---- */

static void next_check(segue__txn *txn) {
  segue__txn_phase_start(txn, SEGUE__PHASE_CHECK);
}

static void next_plan(segue__txn *txn) {
  segue__txn_phase_start(txn, SEGUE__PHASE_PLAN);
}

static void phase_plan(segue__txn *txn) {
  segue__txn_enter(txn, SEGUE__PHASE_PLAN);
  int rc = segue__plan_make(txn);
  if (rc < 0) segue__txn_fail_code(txn, rc, "plan");
  segue__txn_phase_end(txn);
}

static void next_steps(segue__txn *txn) {
  if (!txn->run->plan_only)
    segue__txn_act(txn);
  else if (txn->run->rehearse)
    segue__txn_prepare(txn, txn_rehearsed, txn);
  else
    segue__txn_end(txn, SEGUE__APPLIED);
}

/* A plan has built the instances of a reload, by the same code, and releases them: prepare takes no
 * resource that only one instance can have. The later steps of a reload cannot be tried beside the
 * live instances, so the plan lists them. */
static void txn_rehearsed(void *data, int status, const segue_error *error) {
  segue__txn *txn = data;
  (void)error; /* segue__txn_step_end has kept it */
  int rc = status < 0 ? 0 : segue__untried_list(txn);
  if (rc < 0) segue__txn_fail_code(txn, rc, "plan");
  segue__txn_conclude(txn);
}
