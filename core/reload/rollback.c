/* SPDX-License-Identifier: MIT
 *
 * Replays of earlier generations: rollbacks, and what a start brings back before a generation that
 * waits to be confirmed.
 */
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../os/fault.h"
#include "confirm.h"
#include "operator_internal.h"
#include "run.h"

typedef struct segue__rollback {
  segue__record_call call;
  segue__engine *engine;
  segue__trigger trigger;
  segue__waiter *waiter; /* NULL: none, or it was forgotten */
  uint64_t again;        /* a refresh of a rollback to this generation; 0: a new rollback */
  bool resumes;          /* a rollback that waited when the last process ended */
  bool at_start;         /* requests wait for it: see "What waits to be confirmed" */
  segue__waiter good;    /* at a start: for the replay of the last good generation */
  char by[128];
} segue__rollback;

static void looked_up(segue__record_call *call, segue__record_answer *answer) {
  segue__rollback *rollback = call->data;
  segue__engine *engine = rollback->engine;
  segue__waiter *waiter = rollback->waiter;
  char cause[224];
  engine->operators->rollback = NULL;
  int rc = answer->status;
  uint64_t number = rollback->again ? rollback->again : answer->number;
  snprintf(cause, sizeof cause, "rollback to generation %llu by %s", (unsigned long long)number,
           rollback->by);
  if (rc == 0)
    rc = rollback->again ? segue__queue_refresh(engine, answer->files, number, cause)
                         : segue__engine_replay(engine, answer->files, number, rollback->trigger,
                                                cause, waiter);
  if (rc < 0 && waiter) waiter->cb(waiter, rc, NULL);
  segue__free(rollback);
}

/* Returns whether this is a rollback from an unconfirmed generation to the one before it. */
static bool operator_undoes(const segue__engine *engine, uint64_t generation) {
  const segue__txn *txn = engine->txn;
  return segue__operator_waits(engine) &&
         (!generation || (txn->was_live && txn->was_live->generation == generation));
}

/* A rollback ends the wait for a confirmation. Returns true if undoing the run is all that the
 * rollback needs. */
static bool end_confirm(segue__engine *engine, uint64_t generation, const char *by,
                        segue__waiter *waiter) {
  segue__txn *txn = engine->txn;
  if (!segue__operator_waits(engine)) return false;
  bool before = operator_undoes(engine, generation);
  if (before && waiter) segue__run_wait(txn->run, waiter);
  segue__txn_decide(txn, SEGUE__TAKE_BACK, by);
  return before;
}

int segue__engine_rollback(segue__engine *engine, uint64_t generation, segue__trigger trigger,
                           const char *by, segue__waiter *waiter) {
  if (engine->stopping) return SEGUE_ECLOSED;
  if (engine->operators->decisions.frozen && !operator_undoes(engine, generation))
    return SEGUE_EFROZEN;
  if (operator_undoes(engine, generation) && !engine->txn->was_live)
    return UV_ENOENT; /* it is the first generation: without it nothing would be served */
  if (end_confirm(engine, generation, by, waiter)) return 1;
  if (!engine->record) return SEGUE_ERECORD;
  if (engine->operators->rollback || segue__queue_has_replay(engine)) return UV_EBUSY;
  segue__rollback *rollback = segue__calloc(1, sizeof *rollback);
  if (!rollback) return UV_ENOMEM;
  *rollback = (segue__rollback){.engine = engine,
                                .trigger = trigger,
                                .waiter = waiter,
                                .call = {.cb = looked_up, .data = rollback}};
  snprintf(rollback->by, sizeof rollback->by, "%s", by);
  int rc =
      segue__record_files(engine->record, generation,
                          engine->live ? engine->live->generation : UINT64_MAX, &rollback->call);
  if (rc < 0)
    segue__free(rollback);
  else
    engine->operators->rollback = rollback;
  return rc;
}

/* ---- A start with an unconfirmed generation -----------------------------------------------------
 *
 * A generation that waits to be confirmed is undone by going back to the generation that was live
 * before. A process that has just started has none: so it replays the last good generation first,
 * and then runs what waits: the sources, or a rollback that waited when the last process ended. An
 * undo is then the same as in any reload, and the server answers all the time. */

/* The files of a rollback that waited at the restart are not in the history any more. */
static void not_resumed(segue__engine *engine, int status, segue__waiter *waiter) {
  segue__reload_request request = {.trigger = SEGUE__BY_START, .cause = "start"};
  SEGUE__LOG(
      engine->log, SEGUE_ERROR, "reload",
      "a rollback that waited to be confirmed cannot be resumed: the sources are read instead",
      SEGUE__FIELD("generation", engine->operators->decisions.unconfirmed_restores),
      SEGUE__FIELD("error", segue_strerror(status)));
  int rc = segue__engine_request(engine, &request, waiter);
  if (rc == 0) return;
  engine->operators->starting = false;
  if (waiter) waiter->cb(waiter, rc, NULL);
}

static void resumed_found(segue__record_call *call, segue__record_answer *answer) {
  segue__rollback *rollback = call->data;
  segue__engine *engine = rollback->engine;
  segue__waiter *waiter = rollback->waiter;
  const segue__decisions *d = &engine->operators->decisions;
  char cause[128];
  engine->operators->rollback = NULL;
  segue__free(rollback);
  snprintf(cause, sizeof cause, "start: the rollback to generation %llu waits to be confirmed",
           (unsigned long long)d->unconfirmed_restores);
  int rc = answer->status;
  if (!rc)
    rc = segue__engine_replay(engine, answer->files, d->unconfirmed_restores, SEGUE__BY_START,
                              cause, waiter);
  if (!rc)
    engine->last_raw = d->unconfirmed_sources; /* the sources that the rollback left */
  else
    not_resumed(engine, rc, waiter);
  segue__engine_schedule(engine); /* for requests that waited */
}

/* Reads the files of the rollback that waits. */
static void find_resumed(segue__rollback *rollback) {
  segue__engine *engine = rollback->engine;
  segue__waiter *waiter = rollback->waiter;
  rollback->call = (segue__record_call){.cb = resumed_found, .data = rollback};
  int rc = segue__record_files(engine->record, engine->operators->decisions.unconfirmed_restores,
                               UINT64_MAX, &rollback->call);
  if (rc == 0) return;
  engine->operators->rollback = NULL;
  segue__free(rollback);
  not_resumed(engine, rc, waiter);
}

/* The last good generation is live, or cannot be brought back: the generation that waits to be
 * confirmed is next. */
static void good_ended(segue__rollback *rollback, int status) {
  segue__engine *engine = rollback->engine;
  if (!engine->live)
    SEGUE__LOG(engine->log, SEGUE_ERROR, "reload",
               "the last good generation cannot be brought back: there is no generation to return "
               "to if the present one is not confirmed",
               SEGUE__FIELD("error", status < 0 ? segue_strerror(status) : "its reload failed"));
  if (rollback->resumes) {
    find_resumed(rollback);
    return;
  }
  engine->operators->rollback = NULL;
  segue__free(rollback);
  segue__engine_schedule(engine);
}

static void good_replayed(segue__waiter *waiter, int status, segue__result *result) {
  (void)result; /* logged */
  good_ended(waiter->data, status);
}

static void good_found(segue__record_call *call, segue__record_answer *answer) {
  segue__rollback *rollback = call->data;
  int rc = answer->status;
  rollback->good = (segue__waiter){.cb = good_replayed, .data = rollback};
  if (!rc)
    rc = segue__engine_replay(rollback->engine, answer->files, 0, SEGUE__BY_START,
                              "the last good generation, before the one that waits to be confirmed",
                              &rollback->good);
  if (rc) good_ended(rollback, rc);
}

/* Requests wait from now on. Then the rollback follows that waited when the last process ended, or
 * the run that was put back. */
static int replay_good_first(segue__engine *engine, bool resumes, segue__waiter *waiter) {
  int rc = SEGUE_FAULT("start.replay");
  segue__rollback *rollback = rc < 0 ? NULL : segue__calloc(1, sizeof *rollback);
  if (!rollback) return UV_ENOMEM;
  engine->operators->good_tried = true;
  *rollback = (segue__rollback){.engine = engine,
                                .waiter = waiter,
                                .trigger = SEGUE__BY_START,
                                .resumes = resumes,
                                .at_start = true,
                                .call = {.cb = good_found, .data = rollback}};
  engine->operators->rollback = rollback;
  engine->operators->starting = true;
  rc = segue__operator_has_kept(engine) ? segue__record_last_good(engine->record, &rollback->call)
                                        : UV_ENOENT;
  if (rc < 0) good_ended(rollback, rc);
  return 0;
}

bool segue__operator_good_first(segue__txn *txn) {
  segue__engine *engine = txn->engine;
  const segue__queued_run *run = txn->run;
  if (engine->live || engine->operators->good_tried || engine->operators->rollback ||
      run->plan_only || run->files || !segue__operator_has_kept(engine))
    return false;
  if (!segue__operator_asks_operator(txn) && !segue__operator_asks_probe(txn)) return false;
  int rc = replay_good_first(engine, false, NULL);
  /* Without it an undo would have no generation to return to: the run fails, and is repeated. */
  if (rc < 0) segue__txn_fail_code(txn, rc, "the last good generation");
  return rc == 0;
}

void segue__operator_started(const segue__txn *txn) {
  const segue__queued_run *run = txn->run;
  bool replays_good = run->files && !run->restores;
  if (!replays_good && !run->plan_only) txn->engine->operators->starting = false;
}

bool segue__operator_resuming(const segue__engine *engine) {
  return engine->operators->rollback && engine->operators->rollback->at_start;
}

int segue__engine_resume_rollback(segue__engine *engine, segue__waiter *waiter) {
  const segue__decisions *d = &engine->operators->decisions;
  if (!engine->record || !d->unconfirmed || !d->unconfirmed_restores ||
      segue__operator_late(engine))
    return 0;
  int rc = replay_good_first(engine, true, waiter);
  return rc < 0 ? rc : 1;
}

bool segue__engine_resumes(const segue__engine *engine) {
  const segue__decisions *d = &engine->operators->decisions;
  return engine->record && d->unconfirmed && !d->unconfirmed_restores &&
         d->unconfirmed_until_wall_ms > segue__loop_wall_ms(engine->loop);
}

/* Without memory, or while another rollback is under way, nothing happens: the next look at the
 * sources calls this function again. */
void segue__operator_refresh(segue__engine *engine) {
  if (!engine->record || engine->operators->rollback || segue__queue_has_replay(engine) ||
      !engine->operators->decisions.pinned)
    return;
  segue__rollback *rollback = segue__calloc(1, sizeof *rollback);
  if (!rollback) return;
  *rollback = (segue__rollback){.engine = engine,
                                .trigger = SEGUE__BY_RETRY,
                                .again = engine->operators->decisions.pinned_generation,
                                .call = {.cb = looked_up, .data = rollback}};
  snprintf(rollback->by, sizeof rollback->by, "new credentials");
  engine->operators->rollback = rollback;
  if (segue__record_last_good(engine->record, &rollback->call) == 0) return;
  engine->operators->rollback = NULL;
  segue__free(rollback);
}

void segue__operator_remove(segue__engine *engine, const segue__waiter *waiter) {
  if (engine->operators->rollback && engine->operators->rollback->waiter == waiter)
    engine->operators->rollback->waiter = NULL;
}

void segue__rollback_close(segue__engine *engine) {
  segue__rollback *rollback = engine->operators->rollback;
  engine->operators->rollback = NULL;
  if (rollback) {
    segue__record_forget(&rollback->call);
    if (rollback->good.run) segue__engine_forget(engine, &rollback->good);
    if (rollback->waiter) rollback->waiter->cb(rollback->waiter, SEGUE_ECLOSED, NULL);
    segue__free(rollback);
  }
}
