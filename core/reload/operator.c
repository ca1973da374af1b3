/* SPDX-License-Identifier: MIT
 *
 * Decisions of operators: freeze, confirm, rollback. They are stored in
 * engine->operators->decisions, and on disk before they are answered, so that a restart finds them.
 */
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "confirm.h"
#include "effects.h"
#include "guard.h"
#include "operator_internal.h"
#include "run.h"

int segue__operator_new(segue__operator **out, const segue__decisions *found) {
  *out = segue__calloc(1, sizeof **out);
  if (!*out) return UV_ENOMEM;
  if (found) (*out)->decisions = *found;
  return 0;
}

void segue__operator_free(segue__operator *operators) {
  if (!operators) return;
  segue__result_unref(operators->unkept);
  segue__files_unref(operators->unkept_files);
  segue__source_counts_deinit(&operators->unkept_items);
  segue__free(operators);
}

const segue__decisions *segue__operator_decisions(const segue__engine *engine) {
  return &engine->operators->decisions;
}

void segue__operator_write_failed(segue__engine *engine) {
  engine->operators->tick_failed = true;
}

bool segue__engine_starting(const segue__engine *engine) {
  return engine->operators->starting;
}

int segue__operator_write(segue__engine *engine, segue__record_call *call) {
  return segue__record_state(engine->record, &engine->operators->decisions, &engine->journal, call);
}

/* ---- Freeze ---------------------------------------------------------------------------------- */

struct segue__freeze {
  segue__record_call call;
  segue__engine *engine;
  segue__frozen_cb cb;
  void *data;
  segue__decisions before;
  struct segue__freeze *next;
};

static void log_freeze(const segue__engine *engine, int status, const segue_error *error) {
  const segue__decisions *d = &engine->operators->decisions;
  if (status < 0)
    SEGUE__LOG(engine->log, SEGUE_ERROR, "reload",
               "a freeze or its end cannot be recorded, so nothing was changed",
               SEGUE__FIELD("error", error->message));
  else if (d->frozen)
    SEGUE__LOG(engine->log, SEGUE_WARN, "reload", "reloads are frozen",
               SEGUE__FIELD("by", d->frozen_by), SEGUE__FIELD("why", d->frozen_why));
  else
    SEGUE__LOG(engine->log, SEGUE_INFO, "reload", "reloads are allowed again",
               SEGUE__FIELD("by", d->frozen_by));
}

/* Triggers from before a restart during the freeze are lost. */
static void operator_look_again(segue__engine *engine) {
  segue__reload_request request = {.trigger = SEGUE__BY_RETRY, .cause = "the end of a freeze"};
  (void)segue__engine_request(engine, &request, NULL);
}

static void freeze_end(struct segue__freeze *freeze, int status, const segue_error *error) {
  segue__engine *engine = freeze->engine;
  struct segue__freeze **link = &engine->operators->freezes;
  while (*link != freeze)
    link = &(*link)->next;
  *link = freeze->next;
  if (status < 0) {
    engine->operators->decisions.frozen = freeze->before.frozen;
    engine->operators->decisions.frozen_wall_ms = freeze->before.frozen_wall_ms;
    memcpy(engine->operators->decisions.frozen_by, freeze->before.frozen_by,
           sizeof freeze->before.frozen_by);
    memcpy(engine->operators->decisions.frozen_why, freeze->before.frozen_why,
           sizeof freeze->before.frozen_why);
  }
  log_freeze(engine, status, error);
  if (status == 0 && !engine->operators->decisions.frozen) operator_look_again(engine);
  if (freeze->cb) freeze->cb(freeze->data, status, error);
  segue__free(freeze);
  segue__engine_schedule(engine);
}

static void freeze_recorded(segue__record_call *call, segue__record_answer *answer) {
  freeze_end(call->data, answer->status, &answer->error);
}

static int set_frozen(segue__engine *engine, const segue__decisions *next, segue__frozen_cb cb,
                      void *data) {
  struct segue__freeze *freeze = segue__calloc(1, sizeof *freeze);
  if (!freeze) return UV_ENOMEM;
  *freeze = (struct segue__freeze){.engine = engine,
                                   .cb = cb,
                                   .data = data,
                                   .before = engine->operators->decisions,
                                   .next = engine->operators->freezes,
                                   .call = {.cb = freeze_recorded, .data = freeze}};
  engine->operators->decisions = *next;
  int rc = engine->record ? segue__operator_write(engine, &freeze->call) : 0;
  if (rc < 0) {
    engine->operators->decisions = freeze->before;
    segue__free(freeze);
    return rc;
  }
  engine->operators->freezes = freeze;
  if (!engine->record) freeze_end(freeze, 0, NULL);
  return 0;
}

int segue__engine_freeze(segue__engine *engine, const char *by, const char *why,
                         segue__frozen_cb cb, void *data) {
  segue__decisions next = engine->operators->decisions;
  if (engine->stopping) return SEGUE_ECLOSED;
  next.frozen = true;
  next.frozen_wall_ms = segue__loop_wall_ms(engine->loop);
  snprintf(next.frozen_by, sizeof next.frozen_by, "%s", by);
  snprintf(next.frozen_why, sizeof next.frozen_why, "%s", why);
  return set_frozen(engine, &next, cb, data);
}

int segue__engine_unfreeze(segue__engine *engine, const char *by, segue__frozen_cb cb, void *data) {
  segue__decisions next = engine->operators->decisions;
  if (engine->stopping) return SEGUE_ECLOSED;
  next.frozen = false;
  snprintf(next.frozen_by, sizeof next.frozen_by, "%s", by);
  next.frozen_why[0] = 0;
  return set_frozen(engine, &next, cb, data);
}

void segue__engine_freeze_forget(segue__engine *engine, void *data) {
  for (struct segue__freeze *freeze = engine->operators->freezes; freeze; freeze = freeze->next)
    if (freeze->data == data) freeze->cb = NULL;
}

/* While frozen, explicit requests are rejected and automatic triggers are postponed. */
int segue__operator_request(segue__engine *engine, const segue__reload_request *request) {
  bool asks = request->trigger == SEGUE__BY_HTTP || request->trigger == SEGUE__BY_CONTROL;
  return engine->operators->decisions.frozen && asks && !request->plan_only ? SEGUE_EFROZEN : 0;
}

/* ---- Confirm --------------------------------------------------------------------------------- */

bool segue__operator_waits(const segue__engine *engine) {
  const segue__txn *txn = engine->txn;
  return txn && txn->result->phase == SEGUE__PHASE_CONFIRM && txn->state < SEGUE__TXN_CONFIRMED &&
         !segue__txn_failed(txn) && segue__confirm_until_ms(txn);
}

int segue__engine_confirm(segue__engine *engine, const char *by, segue__waiter *waiter) {
  if (!segue__operator_waits(engine)) return SEGUE_ECONFLICT;
  if (waiter) segue__run_wait(engine->txn->run, waiter);
  segue__txn_decide(engine->txn, SEGUE__CONFIRM, by);
  return 0;
}

/* A generation from before a restart, its replay, and its refresh with new credentials were
 * confirmed before. They are not confirmed again: a probe that fails at this moment must not leave
 * a start without a generation to serve. */
static bool was_confirmed(const segue__txn *txn) {
  const segue__queued_run *run = txn->run;
  return txn->origin == SEGUE__RESUMED || run->refreshes || (run->files && !run->restores);
}

bool segue__operator_asks_operator(const segue__txn *txn) {
  const segue__policy *policy = txn->policy;
  return policy->confirm && policy->confirm_by_operator && !was_confirmed(txn);
}

bool segue__operator_asks_probe(const segue__txn *txn) {
  const segue__policy *policy = txn->policy;
  return policy->confirm && policy->has_probe && !policy->confirm_by_operator &&
         !was_confirmed(txn);
}

static bool same_raw(const segue__txn *txn) {
  const segue__decisions *d = &txn->engine->operators->decisions;
  return d->unconfirmed && segue__hash_equal(d->unconfirmed_raw, txn->content.raw);
}

/* From now on the history has the reload, as unconfirmed; its outcome replaces that entry. */
static void report_window(segue__txn *txn) {
  segue__result *result = txn->result;
  const segue__record_run window = {.result = result};
  segue__txn_report_files(txn); /* an operator who has to confirm them looks at them */
  result->unconfirmed = true;
  result->generation = txn->next->generation;
  memcpy(result->hash, txn->next->hash, sizeof result->hash);
  segue__record_settled(txn->engine->record, &window);
  result->unconfirmed = false;
  result->generation = 0; /* it is not live yet */
}

static void operator_opened(segue__txn *txn, const segue_error *error) {
  if (error) {
    segue__txn_step_end(txn, error);
    return;
  }
  if (txn->window) report_window(txn);
  if (txn->result->phase < SEGUE__PHASE_COMMIT) segue__txn_enter(txn, SEGUE__PHASE_COMMIT);
  segue__commit_run(txn);
}

/* A daemon that is restarted inside of the window continues with the rest of it. */
static void open_window(segue__txn *txn) {
  segue__engine *engine = txn->engine;
  segue__decisions *d = &engine->operators->decisions;
  txn->window = same_raw(txn) ? SEGUE__WINDOW_RESUMED : SEGUE__WINDOW_OPENED;
  if (txn->window == SEGUE__WINDOW_OPENED) {
    d->unconfirmed_raw = txn->content.raw;
    d->unconfirmed_until_wall_ms =
        segue__loop_wall_ms(engine->loop) + (int64_t)txn->policy->confirm_within_ms;
  }
  d->unconfirmed = true;
  d->unconfirmed_generation = txn->next->generation;
  d->unconfirmed_reload = txn->result->id;
  d->unconfirmed_trigger = txn->result->trigger;
  d->unconfirmed_wall_ms = txn->result->started_wall_ms;
  d->unconfirmed_restores = txn->run->restores;
  d->unconfirmed_sources = engine->last_raw;
  snprintf(d->unconfirmed_cause, sizeof d->unconfirmed_cause, "%s", txn->result->cause);
}

/* The intents of the commit, and that its generation waits to be confirmed, are one write. A commit
 * without effects outside memory that is not to be confirmed writes nothing here. */
void segue__operator_open(segue__txn *txn) {
  segue__engine *engine = txn->engine;
  segue_error error;
  bool effects, asks = segue__operator_asks_operator(txn) || segue__operator_asks_probe(txn);
  if (segue__effects_intend_all(txn, &effects, &error) < 0) {
    segue__txn_step_end(txn, &error);
    return;
  }
  if ((!asks && !effects) || !engine->record) {
    operator_opened(txn, NULL);
    return;
  }
  if (asks) open_window(txn);
  segue__record_call *call = segue__txn_call_new(txn, NULL);
  segue__txn_record(txn, segue__operator_write(engine, call), operator_opened);
}

/* The wall clock counts only for a window that another process has opened. */
uint64_t segue__operator_left_ms(const segue__txn *txn) {
  uint64_t within = txn->policy->confirm_within_ms;
  const segue__engine *engine = txn->engine;
  if (!engine->record || txn->window == SEGUE__WINDOW_OPENED || !same_raw(txn)) return within;
  int64_t left =
      engine->operators->decisions.unconfirmed_until_wall_ms - segue__loop_wall_ms(engine->loop);
  return left < 0 ? 0 : (uint64_t)left < within ? (uint64_t)left : within;
}

/* ---- Content that was undone
 * --------------------------------------------------------------------- */

bool segue__operator_has_kept(const segue__engine *engine) {
  return engine->record && segue__record_found(engine->record)->last_good.generation;
}

static bool has_last_good(const segue__engine *engine) {
  return engine->live || segue__operator_has_kept(engine);
}

/* A generation that was live and was reverted is not tried again by a request that arrived during
 * the trial, nor by the next request: each trial exposes the users to it. */
static bool was_reverted(const segue__txn *txn, segue_error *why) {
  const segue__decisions *d = &txn->engine->operators->decisions;
  if (!d->reverted || !segue__hash_equal(d->reverted_raw, txn->content.raw)) return false;
  segue__errorf(why, SEGUE_EHELD,
                "reload %llu made generation %llu of the present sources, and it was reverted: "
                "it goes live when they change, or by a reload with force",
                (unsigned long long)d->reverted_reload, (unsigned long long)d->reverted_generation);
  return true;
}

/* A start while reloads are frozen serves the generation from before it, and no other. */
static bool frozen_start(const segue__txn *txn, segue_error *why) {
  const segue__engine *engine = txn->engine;
  if (!engine->operators->decisions.frozen || engine->live || txn->run->plan_only || same_raw(txn))
    return false;
  segue__errorf(why, SEGUE_EHELD,
                "reloads are frozen, and the sources are not the same as before the start");
  return true;
}

/* Of a generation that waited to be confirmed when an earlier process ended. */
bool segue__operator_late(const segue__engine *engine) {
  const segue__decisions *d = &engine->operators->decisions;
  return d->unconfirmed && d->unconfirmed_until_wall_ms <= segue__loop_wall_ms(engine->loop);
}

bool segue__operator_postpone(const segue__txn *txn, segue_error *why, segue__outcome *outcome) {
  *outcome = SEGUE__UNCHANGED;
  const segue__engine *engine = txn->engine;
  const segue__decisions *d = &engine->operators->decisions;
  if (txn->run->files || txn->run->force || !has_last_good(engine)) return false;
  if (d->pinned && segue__hash_equal(d->pinned_raw, txn->content.raw)) {
    segue__errorf(
        why, SEGUE_EHELD,
        "the present content of the sources was rolled back: it goes live when they change, or "
        "by a reload with force");
    return true;
  }
  if (was_reverted(txn, why)) {
    *outcome = SEGUE__REVERTED;
    return true;
  }
  if (frozen_start(txn, why)) return true;
  if (!segue__operator_late(engine) || !same_raw(txn)) return false;
  segue__errorf(why, SEGUE_EHELD,
                "generation %llu was not confirmed in time and was undone: the content of the "
                "sources goes live when they change, or by a reload with force",
                (unsigned long long)d->unconfirmed_generation);
  return true;
}

bool segue__operator_settle(segue__txn *txn) {
  static const segue__hash unknown;
  segue__engine *engine = txn->engine;
  segue__decisions *d = &engine->operators->decisions;
  bool was_pinned = d->pinned, was_unconfirmed = d->unconfirmed, was_kept = d->reverted;
  const segue__queued_run *run = txn->run;
  bool replays_good = run->files && !run->restores, late = segue__operator_late(engine);
  /* After the replay of a start, what waits to be confirmed is tried again. */
  d->unconfirmed = was_unconfirmed && replays_good && !late;
  if (replays_good) {
    if (late) {
      d->pinned = true; /* the deadline passed while no daemon ran */
      d->pinned_generation = txn->next->generation;
      d->pinned_raw = d->unconfirmed_raw;
    }
  } else if (run->restores) {
    d->pinned = !segue__hash_equal(engine->last_raw, unknown) &&
                !segue__hash_equal(engine->last_raw, txn->content.raw);
    d->pinned_generation = run->restores;
    d->pinned_raw = engine->last_raw;
  } else {
    d->pinned = d->reverted = false;
  }
  return was_unconfirmed != d->unconfirmed || d->pinned || was_pinned || was_kept != d->reverted;
}

static void keep_reverted(segue__txn *txn) {
  segue__decisions *d = &txn->engine->operators->decisions;
  segue_error why = txn->failure;
  segue__engine_scrub(txn->engine, &why);
  d->reverted = true;
  d->reverted_raw = txn->content.raw;
  d->reverted_generation = txn->next->generation;
  d->reverted_reload = txn->result->id;
  snprintf(d->reverted_why, sizeof d->reverted_why, "%s", why.message);
}

bool segue__operator_pins(const segue__txn *txn) {
  const segue__engine *engine = txn->engine;
  return !engine->stopping && engine->record && txn->window && segue__confirm_by_operator(txn) &&
         txn->state >= SEGUE__TXN_LIVE && !txn->run->files && has_last_good(engine);
}

/* A generation that was live and was undone does not go live again by itself, nor by a restart: if
 * an operator undid it, its content is pinned; if a probe or the policy's reload refused it, it is
 * recorded as reverted. If the end of the daemon undid it, the next start resumes it. If there is
 * no other generation to serve, the next start has to try it again. */
bool segue__operator_undone(segue__txn *txn) {
  segue__engine *engine = txn->engine;
  segue__decisions *d = &engine->operators->decisions;
  if (engine->stopping) return false;
  bool window = engine->record && txn->window;
  bool other = !txn->run->files && has_last_good(engine);
  if (window) d->unconfirmed = false;
  if (!other || txn->state < SEGUE__TXN_LIVE) return window;
  if (!segue__operator_pins(txn)) {
    keep_reverted(txn);
    return engine->record;
  }
  d->pinned = true;
  d->pinned_raw = engine->last_raw;
  d->pinned_generation = engine->live ? engine->live->generation
                                      : segue__record_found(engine->record)->last_good.generation;
  return true;
}

/* ---- The clocks ------------------------------------------------------------------------------ */

enum { DRIFT_MS = 1000, AGE_PARTS = 8, AGE_MOST_MS = 600000, KEEP_AGAIN_MS = 5000 };

static void write_tick(segue__engine *engine);

/* A write that succeeds does not clear tick_failed: it may have been set while that write was under
 * way, for decisions that the write does not contain. write_tick clears it with each new write. */
static void operator_ticked(segue__record_call *call, segue__record_answer *answer) {
  segue__engine *engine = call->data;
  if (answer->status < 0) engine->operators->tick_failed = true;
  if (answer->status < 0)
    SEGUE__LOG(engine->log, SEGUE_WARN, "record",
               "the state on disk is not the present one: it will be written as soon as "
               "possible",
               SEGUE__FIELD("error", answer->error.message));
}

void segue__operator_write_now(segue__engine *engine) {
  if (engine->operators->tick.task)
    engine->operators->tick_failed = true; /* the tick writes it */
  else
    write_tick(engine);
}

static void write_tick(segue__engine *engine) {
  engine->operators->tick.cb = operator_ticked;
  engine->operators->tick.data = engine;
  engine->operators->tick_failed = segue__operator_write(engine, &engine->operators->tick) < 0;
}

/* The deadline that a restart will find is computed from the monotonic deadline of this process,
 * whatever happened to the wall clock. */
static void keep_deadline(segue__engine *engine) {
  segue__decisions *d = &engine->operators->decisions;
  uint64_t now = segue__loop_now_ms(engine->loop), until = segue__confirm_until_ms(engine->txn);
  int64_t wall = segue__loop_wall_ms(engine->loop) + (int64_t)(until > now ? until - now : 0);
  int64_t drift = wall - d->unconfirmed_until_wall_ms;
  if (drift <= DRIFT_MS && drift >= -DRIFT_MS && !engine->operators->tick_failed) return;
  d->unconfirmed_until_wall_ms = wall;
  write_tick(engine);
}

static void kept_late(segue__record_call *call, segue__record_answer *answer);

void segue__unkept_set(segue__engine *engine, segue__txn *txn) {
  segue__record_call *tick = &engine->operators->tick;
  /* A late write of an earlier generation must not report this one as written. */
  if (tick->cb == kept_late) segue__record_forget(tick);
  segue__result_unref(engine->operators->unkept);
  segue__files_unref(engine->operators->unkept_files);
  segue__source_counts_deinit(&engine->operators->unkept_items);
  engine->operators->unkept = txn ? segue__result_ref(txn->result) : NULL;
  engine->operators->unkept_files = txn ? segue__files_ref(txn->content.files) : NULL;
  engine->operators->unkept_ms = segue__loop_now_ms(engine->loop);
  if (!txn) return;
  segue__guards_take_counts(txn, &engine->operators->unkept_items);
}

static void kept_late(segue__record_call *call, segue__record_answer *answer) {
  segue__engine *engine = call->data;
  if (answer->status == 0) segue__unkept_set(engine, NULL);
}

static void keep_late(segue__engine *engine) {
  uint64_t now = segue__loop_now_ms(engine->loop);
  if (!engine->operators->unkept_files || now - engine->operators->unkept_ms < KEEP_AGAIN_MS)
    return;
  engine->operators->unkept_ms = now;
  const segue__record_run good = {.result = engine->operators->unkept,
                                  .snapshot = engine->live,
                                  .input = engine->live_input,
                                  .files = engine->operators->unkept_files,
                                  .items = &engine->operators->unkept_items};
  engine->operators->tick = (segue__record_call){.cb = kept_late, .data = engine};
  (void)segue__record_good(engine->record, &good, &engine->operators->tick);
}

static bool any_away(const segue__engine *engine) {
  for (size_t i = 0; i < segue__engine_source_count(engine); i++) {
    segue__source_status source;
    segue__engine_source_status(engine, i, &source);
    if (source.held || source.consecutive_failures) return true;
  }
  return false;
}

/* While the live generation equals the sources, its age does not grow. */
static void keep_age(segue__engine *engine) {
  uint64_t now = segue__loop_now_ms(engine->loop);
  uint64_t every = engine->policy ? engine->policy->last_good_age_ms / AGE_PARTS : 0;
  if (every > AGE_MOST_MS) every = AGE_MOST_MS;
  if (!every || !engine->live || engine->operators->unkept || engine->stale_since_wall_ms ||
      any_away(engine))
    return;
  if (engine->operators->good_ms && now - engine->operators->good_ms < every &&
      !engine->operators->tick_failed)
    return;
  engine->operators->good_ms = now;
  engine->operators->decisions.good_wall_ms = segue__loop_wall_ms(engine->loop);
  write_tick(engine);
}

void segue__engine_tick(segue__engine *engine) {
  if (!engine->record || engine->stopping || engine->operators->tick.task ||
      engine->operators->freezes)
    return;
  if (segue__operator_waits(engine) && engine->txn->window)
    keep_deadline(engine);
  else if (!engine->txn && engine->operators->tick_failed)
    write_tick(engine);
  else if (!engine->txn && engine->operators->unkept && engine->live)
    keep_late(engine);
  else if (!engine->txn)
    keep_age(engine);
}

int64_t segue__engine_good_wall_ms(const segue__engine *engine) {
  if (!engine->record) return 0;
  const segue__last_good *good = &segue__record_found(engine->record)->last_good;
  if (!good->generation) return 0;
  int64_t noted = engine->operators->decisions.good_wall_ms;
  return noted > good->wall_ms ? noted : good->wall_ms;
}

/* ---- The end, and looking -------------------------------------------------------------------- */

void segue__operator_close(segue__engine *engine) {
  segue__record_forget(&engine->operators->tick);
  segue__rollback_close(engine);
  while (engine->operators->freezes) {
    struct segue__freeze *freeze = engine->operators->freezes;
    engine->operators->freezes = freeze->next;
    segue__record_forget(&freeze->call);
    if (freeze->cb) freeze->cb(freeze->data, SEGUE_ECLOSED, NULL);
    segue__free(freeze);
  }
}

void segue__engine_record_anew(segue__engine *engine) {
  if (engine->record)
    segue__record_begin_anew(engine->record, &engine->operators->decisions, &engine->journal);
}

segue__record *segue__engine_record(const segue__engine *engine) {
  return engine->record;
}

void segue__engine_operator_status(const segue__engine *engine, segue__operator_status *out) {
  const segue__decisions *d = &engine->operators->decisions;
  const segue__txn *txn = engine->txn;
  *out = (segue__operator_status){.frozen = d->frozen,
                                  .frozen_wall_ms = d->frozen_wall_ms,
                                  .frozen_by = d->frozen_by,
                                  .frozen_why = d->frozen_why,
                                  .missed = d->frozen ? segue__queue_waiting(engine) : 0,
                                  .pinned = d->pinned && engine->live,
                                  .pinned_generation = d->pinned_generation};
  if (!segue__operator_waits(engine)) return;
  uint64_t now = segue__loop_now_ms(engine->loop);
  out->unconfirmed = true;
  out->by_operator = segue__confirm_by_operator(txn);
  out->unconfirmed_until_wall_ms =
      segue__loop_wall_ms(engine->loop) +
      (int64_t)(segue__confirm_until_ms(txn) > now ? segue__confirm_until_ms(txn) - now : 0);
}
