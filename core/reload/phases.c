/* SPDX-License-Identifier: MIT
 *
 * One run through its phases: collect, check, plan, then prepare, commit and confirm, by the
 * policy's reload hook or, where it has none, in just that order. txn_end.c has the end of a run.
 */
#include <string.h>
#include <uv.h>

#include "../os/fault.h"
#include "collect.h"
#include "confirm.h"
#include "drift.h"
#include "guard.h"
#include "operator.h"
#include "plan.h"
#include "policy_call.h"
#include "run.h"
#include "step.h"
#include "validate.h"
#include "wants.h"

/* ---- The phases ---- */

static void phase_collect(segue__txn *txn);
static void phase_check(segue__txn *txn);
static void phase_plan(segue__txn *txn);
static void cancel_collect(segue__txn *txn);
static void cancel_check(segue__txn *txn);
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
    [SEGUE__PHASE_COLLECT] = {phase_collect, cancel_collect, next_check, segue__txn_conclude},
    [SEGUE__PHASE_CHECK] = {phase_check, cancel_check, next_plan, segue__txn_conclude},
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
  (txn->failed ? phase->on_fail : phase->on_ok)(txn);
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
  if (!txn->failed) phases[txn->at].cancel(txn);
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
static void txn_restore(segue__txn *txn);
static void txn_read(segue__txn *txn);
static void txn_load_policy(segue__txn *txn);
static void collect_start(segue__txn *txn, bool look_at_inputs);
static void collect_timeout(segue__timer *timer);
static void txn_collected(segue__txn *txn, int code);
static void txn_validated(segue__txn *txn);
static void validate_timeout(segue__timer *timer);
static void check_by_policy(segue__txn *txn);
static void txn_checked(segue_op *op, int status, const segue_error *error);
static void txn_rehearsed(void *data, int status, const segue_error *error);

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
  txn->call = (segue__record_call){.cb = segue__txn_recorded, .data = txn};
  segue__txn_record(txn, segue__record_numbers(engine->record, &engine->reserving, &txn->call),
                    txn_reserved);
}

/* error: the disk refuses, which the record thread logs: reloads continue, and the next run tries
 * again. */
static void txn_reserved(segue__txn *txn, const segue_error *error) {
  if (!error) txn->engine->reserved = txn->engine->reserving;
  txn_begin(txn);
}

static void txn_begin(segue__txn *txn) {
  txn->begun = true;
  segue__txn_phase_start(txn, SEGUE__PHASE_COLLECT);
}

void segue__txn_enter(segue__txn *txn, segue__phase phase) {
  uint64_t now = segue__engine_now_us(txn->engine);
  txn->result->phase_us[txn->phase] += now - txn->phase_start_us;
  txn->phase = txn->result->phase = phase;
  txn->phase_start_us = now;
  if (phase != SEGUE__PHASE_SETTLED) segue__engine_notify(txn->engine, txn->result, phase);
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
  if (txn->failed) return;
  txn->failed = true;
  txn->failure = *error;
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
  if (lost && !txn->failed) {
    segue__txn_fail_code(txn, UV_ENOMEM, what);
    lost--;
  }
  txn->result->errors.total += lost;
}

/* ---- Collect ---- */

static void phase_collect(segue__txn *txn) {
  segue__engine *engine = txn->engine;
  const segue__queued_run *run = txn->run;
  bool looks = run->restores && !run->refreshes && engine->live && engine->record && txn->policy;
  if (engine->record)
    segue__inputs_begin(segue__record_inputs(engine->record), looks ? NULL : run->files);
  segue__txn_enter(txn, SEGUE__PHASE_COLLECT);
  if (looks && !txn->failed)
    segue__look(txn, txn_restore);
  else
    txn_read(txn);
}

/* A rollback has looked at the sources, and reads the files of its generation now. */
static void txn_restore(segue__txn *txn) {
  segue__inputs_begin(segue__record_inputs(txn->engine->record), txn->run->files);
  txn_read(txn);
}

static void txn_read(segue__txn *txn) {
  if (txn->failed) /* the daemon shuts down meanwhile */
    segue__txn_phase_end(txn);
  else if (txn->policy)
    collect_start(txn, txn->engine->options.loader.load != NULL);
  else
    txn_load_policy(txn);
}

static void cancel_collect(segue__txn *txn) {
  segue__txn_fail_closed(txn);
  if (txn->collect) segue__timer_start(txn->engine->loop, &txn->timer, 0, collect_timeout);
}

static void txn_load_policy(segue__txn *txn) {
  segue__engine *engine = txn->engine;
  const segue__policy_loader *loader = &engine->options.loader;
  segue__policy *policy = NULL;
  int rc = 0;
  if (!loader->load)
    policy = engine->options.policy ? segue__policy_ref(engine->options.policy) : NULL;
  else
    rc = loader->load(loader->data, engine->policy_path, &policy, &txn->result->errors);
  if (!rc && policy) rc = segue__policy_validate(policy, &txn->result->errors);
  for (size_t i = 0; i < txn->result->errors.count; i++) /* a policy may quote what it reads */
    segue__engine_scrub(engine, &txn->result->errors.items[i]);
  if (rc < 0 || !policy) {
    segue__policy_unref(policy);
    txn->failed = true;
    segue__errorf(&txn->failure, rc < 0 ? rc : SEGUE_EPOLICY, "the policy cannot be used");
    if (txn->result->errors.count)
      txn->failure = txn->result->errors.items[0];
    else
      segue__result_error(txn->result, &txn->failure);
    segue__txn_phase_end(txn);
    return;
  }
  segue__policy_unref(txn->policy);
  txn->policy = policy;
  collect_start(txn, false);
}

static void collect_failed(segue__txn *txn, int code) {
  if (code == UV_EAGAIN)
    segue__txn_fail_code(txn, SEGUE_ETIMEOUT, "earlier reads of the sources still hang");
  else
    segue__txn_fail_code(txn, code, "collect");
}

static void collect_start(segue__txn *txn, bool look_at_inputs) {
  if (!txn->run->plan_only) segue__wants_tell(txn->engine, txn->policy);
  int rc = segue__collect_start(txn, look_at_inputs, txn_collected);
  if (rc < 0) {
    collect_failed(txn, rc);
    segue__txn_phase_end(txn);
    return;
  }
  txn->timer.data = txn;
  segue__timer_start(txn->engine->loop, &txn->timer, txn->policy->collect_ms, collect_timeout);
}

static void collect_timeout(segue__timer *timer) {
  segue__txn *txn = timer->data;
  if (txn->looked) {
    segue__look_abandon(txn);
    return;
  }
  segue_error writer = txn->collect->waited_for;
  segue__collect_abandon(txn->collect);
  txn->collect = NULL;
  if (!txn->failed) {
    segue_error error;
    unsigned long long ms = txn->policy->collect_ms;
    segue__errorf(&error, SEGUE_ETIMEOUT, "the sources were not read after %llu ms", ms);
    if (writer.code)
      segue__errorf(&error, SEGUE_ETIMEOUT, "the sources were not read after %llu ms: %.400s", ms,
                    writer.message);
    segue__txn_fail(txn, &error);
  }
  segue__txn_phase_end(txn);
}

static bool settle_unchanged(const segue__txn *txn) {
  const segue__engine *engine = txn->engine;
  return engine->live && !txn->run->force && !segue__drift_replaces(engine) &&
         segue__hash_equal(txn->input, engine->live_input) && txn->policy == engine->policy;
}

/* A generation from before a restart that still equals the sources keeps its number, also if it
 * waited to be confirmed. */
static uint64_t next_generation(segue__txn *txn) {
  segue__engine *engine = txn->engine;
  const segue__decisions *d = segue__operator_decisions(engine);
  if (engine->resumes) {
    const segue__last_good *good = &segue__record_found(engine->record)->last_good;
    txn->resumed = good->generation && segue__hash_equal(good->input, txn->input);
    if (txn->resumed) return good->generation;
  }
  if (d->unconfirmed && segue__hash_equal(d->unconfirmed_raw, txn->raw))
    return d->unconfirmed_generation;
  return engine->last_generation + 1;
}

/* The content of the sources was undone before: an explicit request is answered so, an automatic
 * one is skipped. */
static void held_back(segue__txn *txn, const segue_error *why, segue__outcome outcome) {
  if (!txn->engine->live) {
    segue__txn_fail(txn, why);
    segue__txn_phase_end(txn);
    return;
  }
  txn->result->skipped = !txn->run->explicit_;
  segue__txn_report(txn, why);
  if (outcome == SEGUE__REVERTED) {
    segue_error before;
    segue__errorf(&before, SEGUE_EPROBE, "%s",
                  segue__operator_decisions(txn->engine)->reverted_why);
    segue__txn_report(txn, &before);
  }
  if (txn->new_credentials) segue__operator_refresh(txn->engine);
  segue__txn_end(txn, outcome);
}

/* Logged once: until the file is closed, each run that looks finds the same. */
static void note_postponed(const segue__txn *txn, const segue__collect *job) {
  segue__engine *engine = txn->engine;
  if (txn->run->plan_only || txn->run->files) return;
  if (segue__queue_postpone(engine, job->writing && job->postpones))
    SEGUE__LOG(engine->log, SEGUE_WARN, "source", job->writer.message);
}

static void txn_collected(segue__txn *txn, int code) {
  segue__engine *engine = txn->engine;
  segue__collect *job = txn->collect;
  segue__timer_stop(engine->loop, &txn->timer);
  txn->collect = NULL;
  if (code < 0) {
    collect_failed(txn, code);
    segue__txn_phase_end(txn);
    return;
  }
  if (job->inputs_changed && !txn->failed) {
    txn->new_credentials = job->credentials_changed;
    segue__collect_free(job);
    txn_load_policy(txn);
    return;
  }
  txn->schema_doc = job->schema_doc;
  job->schema_doc = NULL;
  txn->schema_with = job->schema_with;
  memset(&job->schema_with, 0, sizeof job->schema_with);
  txn->schema_hash = job->schema_hash;
  segue__errors_deinit(&txn->warnings);
  txn->warnings = job->warnings;
  segue__errors_init(&job->warnings);
  note_postponed(txn, job);
  txn->raw = job->raw;
  txn->input = job->input;
  segue__txn_fail_with(txn, &job->errors, "collect");
  /* Content that a source itself calls invalid is rejected: a retry would find the same. */
  bool invalid = txn->failure.code == SEGUE_ECONFIG;
  if (txn->failed && job->unreadable && !invalid) txn->failure.code = SEGUE_ESOURCE;
  if (!txn->run->files) engine->last_raw = txn->raw;
  int rc = txn->failed ? 0 : segue__guards_check(txn, job);
  if (rc < 0) segue__txn_fail_code(txn, rc, "guards");
  bool automatic = !txn->run->explicit_ && !txn->run->force;
  segue__outcome outcome, before;
  bool skip = segue__queue_refused(engine, txn->raw, &before) && automatic;
  segue_error why;
  if (segue__operator_postpone(txn, &why, &outcome)) {
    segue__collect_free(job);
    held_back(txn, &why, outcome);
    return;
  }
  if (!txn->failed && !skip)
    rc = segue__snapshot_new(&txn->next, next_generation(txn), job->config);
  if (rc < 0) segue__txn_fail_code(txn, rc, "snapshot");
  txn->changes = job->changes;
  memset(&job->changes, 0, sizeof job->changes);
  if (skip) {
    txn->result->skipped = true;
    segue__txn_end(txn, before);
  } else if (!txn->failed && settle_unchanged(txn)) {
    segue__txn_end(txn, SEGUE__UNCHANGED);
  } else if (!txn->failed && segue__operator_good_first(txn)) {
    txn->good_first = txn->run->put_off = true;
    segue__errorf(&why, SEGUE_EDEFERRED,
                  "the present generation has to be confirmed: the last good one serves first");
    segue__txn_report(txn, &why);
    segue__txn_end(txn, SEGUE__UNCHANGED);
  } else {
    segue__txn_phase_end(txn);
  }
  segue__collect_free(job); /* the snapshot has its own reference on the config */
}

/* ---- Check and plan ---- */

static void next_check(segue__txn *txn) {
  segue__txn_phase_start(txn, SEGUE__PHASE_CHECK);
}

static void next_plan(segue__txn *txn) {
  segue__txn_phase_start(txn, SEGUE__PHASE_PLAN);
}

static void cancel_check(segue__txn *txn) {
  segue__txn_fail_closed(txn);
  if (txn->validation)
    segue__timer_start(txn->engine->loop, &txn->timer, 0, validate_timeout);
  else if (txn->policy_call)
    segue__op_cancel(&txn->policy_call->op, SEGUE_ECLOSED);
}

/* Adds the changes to the result once the mask is known: a value that is secret on either side is
 * hidden. From here on no path into a secret is visible. */
void segue__txn_report_changes(segue__txn *txn) {
  const segue_snapshot *live = txn->engine->live;
  segue__mask *mask;
  int rc = segue__mask_join(&mask, txn->next->mask, live ? live->mask : NULL, NULL);
  if (!rc) rc = segue__mask_changes(mask, &txn->changes);
  if (!rc) rc = segue__result_take_changes(txn->result, &txn->changes, mask);
  segue__mask_unref(mask);
  if (rc == 0) return;
  segue__changes_deinit(&txn->changes); /* not masked, so not shown */
  segue__txn_fail_code(txn, rc, "changes");
}

/* The schema first, then the guards: the policy's check sees only what fits them. */
static void phase_check(segue__txn *txn) {
  segue__txn_enter(txn, SEGUE__PHASE_CHECK);
  if (!txn->schema_doc && !txn->policy->mask) {
    segue__txn_report_changes(txn);
    if (txn->failed)
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
  if (!txn->failed) {
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
  segue__changes changes = txn->changes;
  txn->changes = validation->changes;
  validation->changes = changes;
}

static void txn_validated(segue__txn *txn) {
  segue__validate_job *validation = txn->validation;
  segue__timer_stop(txn->engine->loop, &txn->timer);
  txn->validation = NULL;
  if (validation->filled) take_filled(txn, validation);
  txn->next->mask = validation->mask;
  validation->mask = NULL;
  for (segue__observer *o = txn->engine->observers; o && txn->next->mask; o = o->next)
    if (o->on_secrets) o->on_secrets(o, txn->next->mask);
  if (!validation->lost || txn->next->mask) segue__txn_report_changes(txn);
  segue__txn_fail_with(txn, &validation->errors, "check by schema");
  if (validation->lost) segue__txn_fail_code(txn, validation->lost, "check by schema");
  segue__validate_job_free(validation);
  if (txn->failed)
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
