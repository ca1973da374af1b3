/* SPDX-License-Identifier: MIT
 *
 * One run through its phases: collect, check, plan, then prepare, commit and confirm, by the
 * policy's reload hook or, where it has none, in just that order. txn_end.c has the end of a run.
 */
#include <string.h>
#include <uv.h>

#include "../os/fault.h"
#include "txn.h"

static void txn_reserve(segue__txn *txn);
static void txn_reserved(segue__txn *txn, const segue_error *error);
static void txn_begin(segue__txn *txn);
static void txn_restore(segue__txn *txn);
static void txn_read(segue__txn *txn);
static void txn_load_policy(segue__txn *txn);
static void reload_txn_collect(segue__txn *txn, bool look_at_inputs);
static void collect_timeout(segue__timer *timer);
static void reload_txn_check(segue__txn *txn);
static void validate_timeout(segue__timer *timer);
static void check_by_policy(segue__txn *txn);
static void txn_checked(segue_op *op, int status, const segue_error *error);
static void txn_plan(segue__txn *txn);
static void txn_rehearsed(void *data, int status, const segue_error *error);
static void txn_act(segue__txn *txn);
static void call_reload(segue__txn *txn);
static void hook_returned(segue_op *op, int status, const segue_error *error);

int segue__txn_start(segue__engine *engine, segue__queued_run *run) {
  segue__txn *txn = segue__calloc(1, sizeof *txn);
  if (!txn || segue__result_new(&txn->result, run) < 0) {
    segue__free(txn);
    return UV_ENOMEM;
  }
  txn->engine = engine;
  txn->run = run;
  txn->phase_start_us = segue__engine_now_us(engine);
  txn->result->started_wall_ms = segue__loop_wall_ms(engine->loop);
  txn->result->restores = run->restores;
  engine->txn = txn;
  if (engine->policy) txn->policy = segue__policy_ref(engine->policy);
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

/* error: the disk refuses, which the record thread logs: reloads go on, and the next run tries
 * again. */
static void txn_reserved(segue__txn *txn, const segue_error *error) {
  if (!error) txn->engine->reserved = txn->engine->reserving;
  txn_begin(txn);
}

static void txn_begin(segue__txn *txn) {
  segue__engine *engine = txn->engine;
  const segue__queued_run *run = txn->run;
  bool looks = run->restores && !run->refreshes && engine->live && engine->record && txn->policy;
  if (engine->record)
    segue__inputs_begin(segue__record_inputs(engine->record), looks ? NULL : run->files);
  txn->begun = true;
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
  segue__engine *engine = txn->engine;
  if (txn->failed) /* the daemon shuts down meanwhile */
    segue__txn_conclude(txn);
  else if (txn->policy)
    reload_txn_collect(txn, engine->options.loader.load != NULL);
  else
    txn_load_policy(txn);
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

static void txn_fail(segue__txn *txn, int code, const char *what) {
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
    txn_fail(txn, UV_ENOMEM, what);
    lost--;
  }
  txn->result->errors.total += lost;
}

void segue__txn_abort(segue__txn *txn) {
  if (txn->failed) return;
  segue_error error;
  segue__errorf(&error, SEGUE_ECLOSED, "the daemon is shutting down");
  if (txn->phase == SEGUE__PHASE_COLLECT && txn->collect) {
    segue__txn_fail(txn, &error);
    segue__timer_start(txn->engine->loop, &txn->timer, 0, collect_timeout);
  } else if (txn->validation) {
    segue__txn_fail(txn, &error);
    segue__timer_start(txn->engine->loop, &txn->timer, 0, validate_timeout);
  } else if (txn->phase == SEGUE__PHASE_CONFIRM && segue__timer_active(&txn->timer)) {
    txn->confirm_until_ms = 0; /* not confirmed, so undone */
    segue__timer_start(txn->engine->loop, &txn->timer, 0, txn->timer.cb);
  } else if (txn->phase == SEGUE__PHASE_CONFIRM && txn->policy_call) {
    txn->confirm_until_ms = 0;
    segue__op_cancel(&txn->policy_call->op, SEGUE_ECLOSED);
  } else if (!txn->flipped) {
    segue__txn_fail(txn, &error);
    if (txn->policy_call) segue__op_cancel(&txn->policy_call->op, SEGUE_ECLOSED);
    if (txn->reload_call) segue__op_cancel(&txn->reload_call->op, SEGUE_ECLOSED);
    segue__commit_abandon(txn);
  }
}

/* ---- Collect ---- */

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
    segue__txn_conclude(txn);
    return;
  }
  segue__policy_unref(txn->policy);
  txn->policy = policy;
  reload_txn_collect(txn, false);
}

static void collect_failed(segue__txn *txn, int code) {
  if (code == UV_EAGAIN)
    txn_fail(txn, SEGUE_ETIMEOUT, "earlier reads of the sources still hang");
  else
    txn_fail(txn, code, "collect");
}

static void reload_txn_collect(segue__txn *txn, bool look_at_inputs) {
  int rc = segue__collect_start(txn, look_at_inputs);
  if (rc < 0) {
    collect_failed(txn, rc);
    segue__txn_conclude(txn);
    return;
  }
  txn->timer.data = txn;
  segue__timer_start(txn->engine->loop, &txn->timer, txn->policy->collect_ms, collect_timeout);
}

void segue__txn_collect_failed(segue__txn *txn, int code) {
  segue__timer_stop(txn->engine->loop, &txn->timer);
  txn->collect = NULL;
  if (txn->looked) {
    segue__look_abandon(txn);
    return;
  }
  collect_failed(txn, code);
  segue__txn_conclude(txn);
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
  segue__txn_conclude(txn);
}

static bool settle_unchanged(const segue__txn *txn) {
  const segue__engine *engine = txn->engine;
  return engine->live && !txn->run->force && segue__hash_equal(txn->input, engine->live_input) &&
         txn->policy == engine->policy;
}

/* A generation from before a restart that still equals the sources keeps its number. */
static uint64_t next_generation(segue__txn *txn) {
  segue__engine *engine = txn->engine;
  if (engine->resumes) {
    const segue__last_good *good = &segue__record_found(engine->record)->last_good;
    const segue__decisions *d = &engine->decisions;
    txn->resumed = good->generation && segue__hash_equal(good->input, txn->input);
    if (txn->resumed) return good->generation;
    if (d->unconfirmed && segue__hash_equal(d->unconfirmed_raw, txn->raw))
      return d->unconfirmed_generation;
  }
  return engine->last_generation + 1;
}

/* The content of the sources was undone before: an explicit request is answered so, an automatic
 * one is skipped. */
static void held_back(segue__txn *txn, const segue_error *why, segue__outcome outcome) {
  if (!txn->engine->live) {
    segue__txn_fail(txn, why);
    segue__txn_conclude(txn);
    return;
  }
  txn->result->skipped = !txn->run->explicit_;
  segue__txn_report(txn, why);
  if (outcome == SEGUE__REVERTED) {
    segue_error before;
    segue__errorf(&before, SEGUE_EPROBE, "%s", txn->engine->decisions.reverted_why);
    segue__txn_report(txn, &before);
  }
  if (txn->engine->reverted_live)
    segue__operator_restore(txn->engine, NULL);
  else if (txn->new_credentials)
    segue__operator_refresh(txn->engine);
  segue__txn_end(txn, outcome);
}

/* Logged once: until the file is closed, each run that looks finds the same. */
static void note_postponed(const segue__txn *txn, const segue__collect *job) {
  segue__engine *engine = txn->engine;
  if (txn->run->plan_only || txn->run->files) return;
  bool postponed = job->writing && job->postpones;
  if (postponed && !engine->postponed)
    SEGUE__LOG(engine->log, SEGUE_WARN, "source", job->writer.message);
  engine->postponed = postponed;
}

void segue__txn_collected(segue__txn *txn) {
  segue__engine *engine = txn->engine;
  segue__collect *job = txn->collect;
  segue__timer_stop(engine->loop, &txn->timer);
  txn->collect = NULL;
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
  if (txn->failed && job->unreadable) txn->failure.code = SEGUE_ESOURCE;
  if (!txn->run->files) engine->last_raw = txn->raw;
  int rc = txn->failed ? 0 : segue__guards_check(txn, job);
  if (rc < 0) txn_fail(txn, rc, "guards");
  bool automatic = !txn->run->explicit_ && !txn->run->force;
  bool skip = automatic && engine->refused && segue__hash_equal(txn->raw, engine->refused_input);
  segue_error why;
  segue__outcome outcome;
  if (segue__operator_postpone(txn, &why, &outcome)) {
    segue__collect_free(job);
    held_back(txn, &why, outcome);
    return;
  }
  if (!txn->failed && !skip)
    rc = segue__snapshot_new(&txn->next, next_generation(txn), job->config);
  if (rc < 0) txn_fail(txn, rc, "snapshot");
  txn->changes = job->changes;
  memset(&job->changes, 0, sizeof job->changes);
  if (skip) {
    txn->result->skipped = true;
    segue__txn_end(txn, engine->refused_outcome);
  } else if (txn->failed) {
    segue__txn_conclude(txn);
  } else if (settle_unchanged(txn)) {
    segue__txn_end(txn, SEGUE__UNCHANGED);
  } else {
    reload_txn_check(txn);
  }
  segue__collect_free(job); /* the snapshot has its own reference on the config */
}

/* ---- Check and plan ---- */

/* Adds the changes to the result once the mask is known: a value that is secret on either side is
 * hidden. From here on no path into a secret is visible. */
static void report_changes(segue__txn *txn) {
  const segue_snapshot *live = txn->engine->live;
  segue__mask *mask;
  int rc = segue__mask_join(&mask, txn->next->mask, live ? live->mask : NULL, NULL);
  if (!rc) rc = segue__mask_changes(mask, &txn->changes);
  if (!rc) rc = segue__result_take_changes(txn->result, &txn->changes, mask);
  segue__mask_unref(mask);
  if (rc == 0) return;
  segue__changes_deinit(&txn->changes); /* not masked, so not shown */
  txn_fail(txn, rc, "changes");
}

/* The schema first, then the guards: the policy's check sees only what fits them. */
static void reload_txn_check(segue__txn *txn) {
  segue__txn_enter(txn, SEGUE__PHASE_CHECK);
  if (!txn->schema_doc && !txn->policy->mask) {
    report_changes(txn);
    if (txn->failed)
      segue__txn_conclude(txn);
    else
      check_by_policy(txn);
    return;
  }
  int rc = segue__validate_job_start(txn);
  if (rc < 0) {
    txn_fail(txn, rc == UV_EAGAIN ? SEGUE_ETIMEOUT : rc, "check by schema");
    segue__txn_conclude(txn);
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
  segue__txn_conclude(txn);
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

void segue__txn_validated(segue__txn *txn) {
  segue__validate_job *validation = txn->validation;
  segue__timer_stop(txn->engine->loop, &txn->timer);
  txn->validation = NULL;
  if (validation->filled) take_filled(txn, validation);
  txn->next->mask = validation->mask;
  validation->mask = NULL;
  for (segue__observer *o = txn->engine->observers; o && txn->next->mask; o = o->next)
    if (o->on_secrets) o->on_secrets(o, txn->next->mask);
  if (!validation->lost || txn->next->mask) report_changes(txn);
  segue__txn_fail_with(txn, &validation->errors, "check by schema");
  if (validation->lost) txn_fail(txn, validation->lost, "check by schema");
  segue__validate_job_free(validation);
  if (txn->failed)
    segue__txn_conclude(txn);
  else
    check_by_policy(txn);
}

static void check_by_policy(segue__txn *txn) {
  const segue__policy *policy = txn->policy;
  if (segue__guards_hold(txn)) {
    segue__txn_conclude(txn);
    return;
  }
  if (!policy->has_check) {
    txn_plan(txn);
    return;
  }
  segue__policy_call *policy_call =
      SEGUE_FAULT("check.policy") ? NULL
                                  : segue__txn_policy_call_new(txn, policy->check_ms, txn_checked);
  if (!policy_call) {
    txn_fail(txn, UV_ENOMEM, "check");
    segue__txn_conclude(txn);
    return;
  }
  policy->ops->check(policy->impl, &policy_call->op, txn->next, txn->engine->live);
}

/* The policy's first finding is the error that its hook ended with; this adds the others. */
static void add_findings(segue__txn *txn) {
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
    add_findings(txn);
  }
  segue__policy_call_answered(policy_call);
  if (txn->failed)
    segue__txn_conclude(txn);
  else
    txn_plan(txn);
}

static void txn_plan(segue__txn *txn) {
  segue__txn_enter(txn, SEGUE__PHASE_PLAN);
  int rc = segue__plan_make(txn);
  if (rc < 0) {
    txn_fail(txn, rc, "plan");
    segue__txn_conclude(txn);
  } else if (!txn->run->plan_only) {
    txn_act(txn);
  } else if (txn->run->rehearse) {
    segue__txn_prepare(txn, txn_rehearsed, txn);
  } else {
    segue__txn_end(txn, SEGUE__APPLIED);
  }
}

/* A plan has built the instances of a reload, by the same code, and releases them: prepare takes no
 * resource that only one instance can have. The later steps of a reload cannot be tried beside the
 * live instances, so the plan lists them. */
static void txn_rehearsed(void *data, int status, const segue_error *error) {
  segue__txn *txn = data;
  (void)error; /* segue__txn_step_end has kept it */
  int rc = status < 0 ? 0 : segue__untried_list(txn);
  if (rc < 0) txn_fail(txn, rc, "plan");
  segue__txn_conclude(txn);
}

/* ---- Prepare, commit, confirm: by default or by the policy's hook ---- */

static void default_next(void *data, int status, const segue_error *error) {
  segue__txn *txn = data;
  (void)error; /* kept by segue__txn_step_end */
  if (status < 0 || txn->failed || txn->confirmed)
    segue__txn_conclude(txn);
  else if (txn->flipped)
    segue__txn_confirm(txn, default_next, txn);
  else if (txn->prepared)
    segue__txn_commit(txn, default_next, txn);
  else
    segue__txn_prepare(txn, default_next, txn);
}

/* Replaces the changes of a start by those against the last good generation: a value that is only
 * read again is no change. */
static void compare_with_offered(segue__txn *txn) {
  segue__changes changes = {0};
  int rc = segue__diff(segue_snapshot_root(txn->offered), segue_snapshot_root(txn->next), &changes);
  if (!rc) {
    segue__result_drop_changes(txn->result);
    segue__changes_deinit(&txn->changes);
    txn->changes = changes;
    report_changes(txn);
    return;
  }
  segue__changes_deinit(&changes);
  txn_fail(txn, rc, "changes");
}

static void txn_offered(segue__txn *txn, const segue_error *error) {
  (void)error; /* there is no history to ask: then there is no prev, as at a first start */
  if (txn->offered && !txn->failed) compare_with_offered(txn);
  if (txn->failed)
    segue__txn_conclude(txn);
  else
    call_reload(txn);
}

static void on_offered(segue__record_call *call, segue__record_answer *answer) {
  segue__txn *txn = call->data;
  txn->offered = answer->snapshot;
  answer->snapshot = NULL;
  segue__txn_recorded(call, answer);
}

/* The policy's reload applies the configuration to something that outlives segue: a server that it
 * runs beside. After a restart of segue with nothing changed that server has it already, so the
 * hook is shown the last good generation as prev. Modules are not: theirs are gone. */
static void offer_last_good(segue__txn *txn) {
  segue__record *record = txn->engine->record;
  uint64_t generation = segue__record_found(record)->last_good.generation;
  if (txn->resumed) {
    txn->offered = (segue_snapshot *)segue_snapshot_ref(txn->next);
    txn_offered(txn, NULL);
    return;
  }
  txn->call = (segue__record_call){.cb = on_offered, .data = txn};
  segue__txn_record(txn, segue__record_snapshot(record, generation, &txn->call), txn_offered);
}

static void txn_act(segue__txn *txn) {
  const segue__engine *engine = txn->engine;
  if (!txn->policy->has_reload)
    default_next(txn, 0, NULL);
  else if (!engine->live && engine->record &&
           segue__record_found(engine->record)->last_good.generation)
    offer_last_good(txn);
  else
    call_reload(txn);
}

static void call_reload(segue__txn *txn) {
  const segue__policy *policy = txn->policy;
  txn->reload_call = segue__txn_policy_call_new(txn, policy->reload_ms, hook_returned);
  if (!txn->reload_call) {
    txn_fail(txn, UV_ENOMEM, "reload");
    segue__txn_conclude(txn);
    return;
  }
  txn->policy_call = NULL; /* it lives on beside the probes */
  policy->ops->reload(policy->impl, &txn->reload_call->op, txn);
}

static void confirmed_after_hook(void *data, int status, const segue_error *error) {
  (void)status;
  (void)error;
  segue__txn_conclude(data);
}

/* The outcome is decided already; the hook may have passed on the very error of its step. */
static void add_reason(segue__txn *txn, const segue_error *error) {
  const segue__errors *errors = &txn->result->errors;
  segue_error said = *error;
  segue__engine_scrub(txn->engine, &said);
  for (size_t i = 0; i < errors->count; i++)
    if (strcmp(errors->items[i].message, said.message) == 0) return;
  segue__txn_report(txn, error);
}

/* The hook may return, throw or run out of time while one of its steps is under way; then that step
 * is waited for first: steps have deadlines of their own. */
static void hook_returned(segue_op *op, int status, const segue_error *error) {
  segue__policy_call *policy_call = (segue__policy_call *)op;
  segue__txn *txn = policy_call->txn;
  txn->reload_call = NULL;
  if (status == SEGUE_ETIMEOUT && segue_op_cancelled(op)) {
    segue_error late;
    segue__errorf(&late, status, "the policy's reload was not done after %llu ms",
                  (unsigned long long)txn->policy->reload_ms);
    segue__txn_fail(txn, &late);
  } else if (status < 0 && !txn->rejected && !txn->failed) {
    txn->hook_failed = true;
    segue__txn_fail(txn, error);
    add_findings(txn);
  } else if (status < 0) {
    add_reason(txn, error);
  } else if (!txn->flipped && !txn->failed && !txn->rejected && !txn->run->put_off) {
    segue_error lazy;
    segue__errorf(&lazy, SEGUE_EPOLICY,
                  "the policy's reload returned without txn:commit(), so nothing was changed");
    segue__txn_fail(txn, &lazy);
  }
  segue__policy_call_answered(policy_call);
  if (txn->manual_steps) {
    txn->hook_returned = true;
    segue__manual_steps_release(txn);
  } else if (txn->step_cb) {
    segue__txn_cb cb = txn->step_cb;
    void *data = txn->step_data;
    txn->step_cb = confirmed_after_hook;
    txn->step_data = txn;
    cb(data, SEGUE_ECANCELLED, NULL); /* its caller is answered and forgotten */
    if (txn->failed) segue__commit_expedite(txn);
  } else if (txn->flipped && !txn->failed && !txn->confirmed) {
    segue__txn_confirm(txn, confirmed_after_hook, txn);
  } else {
    segue__txn_conclude(txn);
  }
}

void segue__txn_manual_steps_done(segue__txn *txn) {
  txn->hook_returned = false;
  segue__txn_conclude(txn);
}

static void step_message(segue__message *message) {
  segue__txn *txn = (segue__txn *)((char *)message - offsetof(segue__txn, step_message));
  segue__txn_cb cb = txn->step_cb;
  txn->step_posted = false;
  txn->step_cb = NULL;
  cb(txn->step_data, txn->failed ? txn->failure.code : 0, txn->failed ? &txn->failure : NULL);
}

void segue__txn_step_end(segue__txn *txn, const segue_error *error) {
  if (error) segue__txn_fail(txn, error);
  if (txn->step_posted) return;
  txn->step_posted = true;
  txn->step_message.fn = step_message;
  segue__post(txn->engine->loop, &txn->step_message);
}

static int txn_misuse(segue_error *error, const char *sentence) {
  return segue__errorf(error, SEGUE_EPOLICY, "%s", sentence);
}

/* Returns 0 if a step that is not about one module may begin. */
static int misused_step(const segue__txn *txn, segue__txn_call call, segue_error *error) {
  if (call == SEGUE__TXN_PREPARE && txn->prepared)
    return txn_misuse(error, "txn:prepare() was called twice");
  if (call == SEGUE__TXN_COMMIT && !txn->prepared)
    return txn_misuse(error, "txn:commit() needs txn:prepare() before it");
  if (call == SEGUE__TXN_COMMIT && txn->flipped)
    return txn_misuse(error, "txn:commit() was called twice");
  if (call == SEGUE__TXN_CONFIRM && (!txn->flipped || txn->confirmed))
    return txn_misuse(error, "txn:confirm() needs txn:commit() before it, and is called once");
  return 0;
}

/* Returns 0 if txn:reject or txn:defer may end the run. After the flip the generation is live, and
 * only a failure undoes it: a reject without an effect would look like one that worked. */
static int misused_end(const segue__txn *txn, segue__txn_call call, segue_error *error) {
  bool defer = call == SEGUE__TXN_DEFER;
  if (txn->flipped)
    return segue__errorf(error, SEGUE_EPOLICY,
                         "txn:%s() is for before txn:commit(): afterwards return nil and a "
                         "reason, which undoes the reload",
                         defer ? "defer" : "reject");
  if (txn->run->put_off) return txn_misuse(error, "the reload was already put off");
  if (defer && (txn->rejected || txn->failed))
    return txn_misuse(error, "txn:defer(): the reload was already rejected, or has failed");
  return 0;
}

int segue__txn_misuse(const segue__txn *txn, segue__txn_call call, const char *module,
                      segue_error *error) {
  if (call == SEGUE__TXN_REJECT || call == SEGUE__TXN_DEFER) return misused_end(txn, call, error);
  if (txn->step_cb || (!module && txn->manual_steps))
    return txn_misuse(error, "a step of this transaction is still under way");
  if (txn->rejected || txn->run->put_off)
    return txn_misuse(error, "the reload was already rejected or put off");
  if (txn->failed) return 0;
  return module ? segue__manual_step_misuse(txn, call, module, error)
                : misused_step(txn, call, error);
}

/* False: the step cannot begin, and its cb is on the way, or a misuse was reported to it. */
bool segue__txn_step_begin(segue__txn *txn, segue__txn_call call, segue__txn_cb cb, void *data) {
  segue_error error;
  int rc = segue__txn_misuse(txn, call, NULL, &error);
  if (rc && (txn->step_cb || txn->manual_steps)) {
    cb(data, rc, &error);
    return false;
  }
  txn->step_cb = cb;
  txn->step_data = data;
  if (!rc && !txn->failed) return true;
  segue__txn_step_end(txn, txn->failed ? NULL : &error);
  return false;
}

void segue__txn_prepare(segue__txn *txn, segue__txn_cb cb, void *data) {
  if (!segue__txn_step_begin(txn, SEGUE__TXN_PREPARE, cb, data)) return;
  segue__txn_enter(txn, SEGUE__PHASE_PREPARING);
  segue__prepare_run(txn);
}

void segue__txn_commit(segue__txn *txn, segue__txn_cb cb, void *data) {
  if (!segue__txn_step_begin(txn, SEGUE__TXN_COMMIT, cb, data)) return;
  segue__operator_open(txn);
}

/* ---- For the reload hook ---- */

void segue__txn_reject(segue__txn *txn, const char *why) {
  segue_error error;
  if (segue__txn_misuse(txn, SEGUE__TXN_REJECT, NULL, &error)) return;
  segue__errorf(&error, SEGUE_EVETO, "%s", why && *why ? why : "the policy refused the reload");
  add_reason(txn, &error);
  txn->rejected |= !txn->failed;
}

void segue__txn_defer(segue__txn *txn, uint64_t delay_ms, const char *why) {
  segue_error error;
  if (segue__txn_misuse(txn, SEGUE__TXN_DEFER, NULL, &error)) return;
  segue__errorf(&error, SEGUE_EDEFERRED, "%s", why && *why ? why : "the policy put it off");
  segue__txn_report(txn, &error);
  txn->run->put_off = true;
  txn->run->not_before_ms = segue__loop_now_ms(txn->engine->loop) + delay_ms;
}

const segue__result *segue__txn_result(const segue__txn *txn) {
  return txn->result;
}

const segue_snapshot *segue__txn_next(const segue__txn *txn) {
  return txn->next;
}

const segue_snapshot *segue__txn_prev(const segue__txn *txn) {
  return txn->offered ? txn->offered : txn->engine->live;
}
