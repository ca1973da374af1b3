/* SPDX-License-Identifier: MIT
 *
 * The phase collect: loads the policy where its files have changed, collects the sources, and
 * decides whether the run continues: the content may be unchanged, refused before, or held.
 */
#include <string.h>
#include <uv.h>

#include "collect.h"
#include "drift.h"
#include "guard.h"
#include "operator.h"
#include "phases.h"
#include "run.h"
#include "wants.h"

static void txn_restore(segue__txn *txn);
static void txn_read(segue__txn *txn);
static void txn_load_policy(segue__txn *txn);
static void collect_start(segue__txn *txn, bool look_at_inputs);
static void collect_timeout(segue__timer *timer);
static void txn_collected(segue__txn *txn, int code);

/* Where memory has run out during the run, no files are known: then the generation is not written
 * as the last good one. */
void segue__txn_take_files(segue__txn *txn) {
  segue__record *record = txn->engine->record;
  if (record && !txn->content.files)
    (void)segue__inputs_take(segue__record_inputs(record), &txn->content.files);
}

void segue__content_deinit(segue__txn *txn) {
  segue__content *content = &txn->content;
  segue__document_unref(content->schema_doc);
  segue__documents_deinit(&content->schema_with);
  segue__changes_deinit(&content->changes);
  segue__errors_deinit(&content->warnings);
  segue__files_unref(content->files);
}

void segue__phase_collect(segue__txn *txn) {
  segue__engine *engine = txn->engine;
  const segue__queued_run *run = txn->run;
  bool looks = run->restores && !run->refreshes && engine->live && engine->record && txn->policy;
  if (engine->record)
    segue__inputs_begin(segue__record_inputs(engine->record), looks ? NULL : run->files);
  segue__txn_enter(txn, SEGUE__PHASE_COLLECT);
  if (looks && !segue__txn_failed(txn))
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
  if (segue__txn_failed(txn)) /* the daemon shuts down meanwhile */
    segue__txn_phase_end(txn);
  else if (txn->policy)
    collect_start(txn, txn->engine->options.loader.load != NULL);
  else
    txn_load_policy(txn);
}

void segue__phase_collect_cancel(segue__txn *txn) {
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
  if (!segue__txn_failed(txn)) {
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
         segue__hash_equal(txn->content.input, engine->live_input) && txn->policy == engine->policy;
}

/* A generation from before a restart that still equals the sources keeps its number, also if it
 * waited to be confirmed. */
static uint64_t next_generation(segue__txn *txn) {
  segue__engine *engine = txn->engine;
  const segue__decisions *d = segue__operator_decisions(engine);
  if (engine->resumes) {
    const segue__last_good *good = &segue__record_found(engine->record)->last_good;
    bool same = good->generation && segue__hash_equal(good->input, txn->content.input);
    txn->origin = same ? SEGUE__RESUMED : SEGUE__LATER;
    if (same) return good->generation;
  }
  if (d->unconfirmed && segue__hash_equal(d->unconfirmed_raw, txn->content.raw))
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
  if (txn->content.new_credentials) segue__operator_refresh(txn->engine);
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
  if (job->inputs_changed && !segue__txn_failed(txn)) {
    txn->content.new_credentials = job->credentials_changed;
    segue__collect_free(job);
    txn_load_policy(txn);
    return;
  }
  note_postponed(txn, job);
  segue__collect_take(job, &txn->content);
  segue__txn_fail_with(txn, &job->errors, "collect");
  /* Content that a source itself calls invalid is rejected: a retry would find the same. */
  bool invalid = txn->failure.code == SEGUE_ECONFIG;
  if (segue__txn_failed(txn) && job->unreadable && !invalid) txn->failure.code = SEGUE_ESOURCE;
  if (!txn->run->files) engine->last_raw = txn->content.raw;
  int rc = segue__txn_failed(txn) ? 0 : segue__guards_check(txn, job);
  if (rc < 0) segue__txn_fail_code(txn, rc, "guards");
  bool automatic = !txn->run->explicit_ && !txn->run->force;
  segue__outcome outcome, before;
  bool skip = segue__queue_refused(engine, txn->content.raw, &before) && automatic;
  segue_error why;
  if (segue__operator_postpone(txn, &why, &outcome)) {
    segue__collect_free(job);
    held_back(txn, &why, outcome);
    return;
  }
  if (!segue__txn_failed(txn) && !skip)
    rc = segue__snapshot_new(&txn->next, next_generation(txn), job->config);
  if (rc < 0) segue__txn_fail_code(txn, rc, "snapshot");
  segue__collect_take_changes(job, &txn->content);
  if (skip) {
    txn->result->skipped = true;
    segue__txn_end(txn, before);
  } else if (!segue__txn_failed(txn) && settle_unchanged(txn)) {
    segue__txn_end(txn, SEGUE__UNCHANGED);
  } else if (!segue__txn_failed(txn) && segue__operator_good_first(txn)) {
    txn->run->put_off = SEGUE__GOOD_FIRST;
    segue__errorf(&why, SEGUE_EDEFERRED,
                  "the present generation has to be confirmed: the last good one serves first");
    segue__txn_report(txn, &why);
    segue__txn_end(txn, SEGUE__UNCHANGED);
  } else {
    segue__txn_phase_end(txn);
  }
  segue__collect_free(job); /* the snapshot has its own reference on the config */
}
