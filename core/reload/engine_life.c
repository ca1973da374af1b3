/* SPDX-License-Identifier: MIT
 *
 * The life of an engine: makes it, stops it in order, frees it; and the services that its parts
 * share: observers, random pauses, snapshots that are dropped.
 */
#include <string.h>
#include <uv.h>

#include "../os/fault.h"
#include "collect.h"
#include "confirm.h"
#include "operator.h"
#include "policy_call.h"
#include "recover.h"
#include "run.h"
#include "step.h"

enum {
  RETRY_MOST_MS = 60000,
  SOURCES_MS = 2000 /* at the end, for operations of sources that were cancelled */
};

static uint64_t engine_random(segue__engine *engine);
static void module_entered(void *data, const char *name, uint64_t generation,
                           segue__module_state state);
static void instance_gone(void *data);

/* ---- The owner of the sources ---- */

static void sources_hold(void *owner) {
  segue__policy_ref(owner);
}

static void sources_release(void *owner) {
  segue__policy_unref(owner);
}

static int sources_changed(void *data, const segue__source *source, bool pushed,
                           const char *cause) {
  segue__reload_request request = {.trigger = pushed ? SEGUE__BY_PUSH : SEGUE__BY_POLL,
                                   .cause = cause,
                                   .as_held = true,
                                   .has_quiet = source && source->debounce_given,
                                   .quiet_ms = source ? source->debounce_ms : 0};
  return segue__engine_request(data, &request, NULL);
}

static void sources_on_health(void *data) {
  segue__strategy_ask(data);
}

static void sources_on_ended(void *data) {
  segue__engine_check_stopped(data);
}

static void sources_scrub(void *data, segue_error *error) {
  segue__engine_scrub(data, error);
}

static bool sources_nothing_secret(void *data, void *owner) {
  return segue__secrecy_is_none(data, owner);
}

static uint64_t sources_random(void *data) {
  return engine_random(data);
}

static int engine_new_sources(segue__engine *engine) {
  const segue__sources_options options = {.size = sizeof options,
                                          .loop = engine->loop,
                                          .log = engine->log,
                                          .hold = sources_hold,
                                          .release = sources_release,
                                          .changed = sources_changed,
                                          .on_health = sources_on_health,
                                          .on_ended = sources_on_ended,
                                          .scrub = sources_scrub,
                                          .nothing_secret = sources_nothing_secret,
                                          .random = sources_random,
                                          .data = engine};
  return segue__sources_new(&engine->sources, &options);
}

int segue__engine_new(segue__engine **out, const segue__engine_options *options) {
  *out = NULL;
  segue__engine *engine = segue__calloc(1, sizeof *engine);
  if (!engine) return UV_ENOMEM;
  engine->options = *options;
  engine->loop = options->loop;
  engine->log = options->log;
  engine->os = options->os ? options->os : segue__os_default();
  engine->policy_path = segue__strdup(options->policy_path);
  if (options->policy_path && !engine->policy_path) goto fail;
  if (segue__queue_new(&engine->queue, engine) < 0) goto fail;
  if (segue__confirm_new(&engine->confirm) < 0) goto fail;
  const segue__record_contents *found =
      options->record ? segue__record_found(options->record) : NULL;
  if (segue__operator_new(&engine->operators, found ? &found->state : NULL) < 0) goto fail;
  const segue__modules_options modules = {.size = sizeof modules,
                                          .loop = engine->loop,
                                          .log = engine->log,
                                          .publication = options->publication,
                                          .gates = options->gates,
                                          .services = options->services,
                                          .on_state = module_entered,
                                          .on_failure = segue__recover_failed,
                                          .on_gone = instance_gone,
                                          .data = engine};
  if (segue__modules_new(&engine->modules, &modules) < 0) goto fail;
  if (engine_new_sources(engine) < 0) goto fail;
  if (engine->options.policy) segue__policy_ref(engine->options.policy);
  engine->record = options->record;
  if (found) {
    segue__record_take_journal(engine->record, &engine->journal);
    engine->last_generation = found->generation;
    engine->next_id = found->reload;
    engine->reserved = found->reserved;
    engine->resumes = true;
  }
  engine->recover_timer.data = engine;
  engine->random = (uint64_t)segue__loop_wall_ms(engine->loop) * 2654435761U + 88172645463325252ULL;
  engine->next_document = 1;
  *out = engine;
  return 0;
fail:
  segue__modules_free(engine->modules);
  segue__operator_free(engine->operators);
  segue__confirm_free(engine->confirm);
  segue__queue_free(engine->queue);
  segue__free(engine->policy_path);
  segue__free(engine);
  return UV_ENOMEM;
}

void segue__engine_free(segue__engine *engine) {
  if (!engine) return;
  segue__timer_stop(engine->loop, &engine->recover_timer);
  segue__operator_free(engine->operators);
  segue__journal_deinit(&engine->journal);
  segue__modules_free(engine->modules);
  segue__sources_free(engine->sources);
  segue_snapshot_unref(engine->live);
  segue_snapshot_unref(engine->previous);
  segue__schema_unref(engine->schema);
  segue__policy_unref(engine->policy);
  segue__policy_unref(engine->options.policy);
  segue__free(engine->policy_path);
  segue__confirm_free(engine->confirm);
  segue__queue_free(engine->queue);
  segue__free(engine);
}

/* ---- Services ---- */

uint64_t segue__engine_now_us(const segue__engine *engine) {
  return segue__loop_uv(engine->loop) ? uv_hrtime() / 1000
                                      : segue__loop_now_ms(engine->loop) * 1000;
}

static void module_entered(void *data, const char *name, uint64_t generation,
                           segue__module_state state) {
  const segue__engine *engine = data;
  const segue__txn *txn = engine->txn;
  /* A plan builds instances of a generation that does not go live: observers do not see them. */
  if (txn && txn->run->plan_only && txn->next && txn->next->generation == generation) return;
  segue__engine_notify_module(data, name, generation, state);
}

static uint64_t engine_random(segue__engine *engine) {
  engine->random ^= engine->random << 13;
  engine->random ^= engine->random >> 7;
  engine->random ^= engine->random << 17;
  return engine->random;
}

/* Doubling from a second to a minute, with up to a fifth taken off, so that many daemons that
 * failed together do not come back together. */
uint64_t segue__engine_backoff_ms(segue__engine *engine, unsigned attempt) {
  uint64_t ms = SEGUE_TEST_MS("RETRY_FIRST_MS", SEGUE__RETRY_FIRST_MS);
  while (attempt-- && ms < RETRY_MOST_MS)
    ms *= 2;
  if (ms > RETRY_MOST_MS) ms = RETRY_MOST_MS;
  return ms - engine_random(engine) % (ms / 5 + 1);
}

static void engine_drop(void *data) {
  segue_snapshot_unref(data);
}

void segue__engine_drop(segue__engine *engine, const segue_snapshot *snapshot) {
  segue__publication *publication = engine->options.publication;
  if (snapshot &&
      (!publication || segue__publication_defer(publication, engine_drop, (void *)snapshot) < 0))
    segue_snapshot_unref(snapshot);
}

void segue__engine_keep_files(segue__engine *engine, bool keep) {
  engine->keep_files = keep;
}

/* ---- Stopping ---- */

void segue__engine_stop(segue__engine *engine, void (*cb)(void *data), void *data) {
  engine->stopping = true;
  engine->stopped_cb = cb;
  engine->stopped_data = data;
  segue__timer_stop(engine->loop, &engine->recover_timer);
  segue__operator_close(engine); /* first: it waits for runs of the queue */
  segue__queue_close(engine->queue);
  segue__sources_stop(engine->sources);
  if (engine->txn) segue__txn_abort(engine->txn);
  segue__engine_schedule(engine);
}

/* An old instance was released. While a transaction runs no module is stopped: the transaction has
 * pointers to its instances, and its end calls check_stopped again. */
static void instance_gone(void *data) {
  segue__engine *engine = data;
  segue__recover_schedule(engine);
  segue__engine_check_stopped(engine);
}

/* Hooks that never returned are orphaned: each keeps its own references. */
static size_t abandon_hooks(segue__engine *engine) {
  size_t coming = 0;
  for (segue__policy_call *policy_call = (segue__policy_call *)engine->hooks; policy_call;
       policy_call = policy_call->next)
    if (!segue__op_orphan(&policy_call->op)) coming++;
  return coming;
}

static void engine_look_again(segue__timer *timer) {
  segue__engine_check_stopped(timer->data);
}

/* A source in C ends its operations on a thread of its own, a moment after the cancel. Its instance
 * and its policy may be freed only after that: if they were abandoned, they would stay in memory,
 * and the host's thread would end an operation of a closed instance of Segue. */
static bool sources_ended(segue__engine *engine) {
  uint64_t now = segue__loop_now_ms(engine->loop);
  if (!segue__sources_busy(engine->sources)) return true;
  if (engine->sources_end_ms) return now >= engine->sources_end_ms;
  uint64_t wait_ms = SEGUE_TEST_MS("SOURCES_MS", SOURCES_MS);
  engine->sources_end_ms = now + wait_ms;
  return segue__timer_start(engine->loop, &engine->recover_timer, wait_ms, engine_look_again) < 0;
}

void segue__engine_check_stopped(segue__engine *engine) {
  if (!engine->stopping || engine->txn || engine->recovering || !engine->stopped_cb) return;
  /* Its owner may free the engine in the callback: no message of the engine may be queued. The kick
   * calls this function again. */
  if (segue__queue_kicked(engine)) return;
  if (segue__drain_next(engine->modules)) return;
  if (segue__sources_waiting(engine->sources) || !sources_ended(engine)) return;
  if (segue__detached_abandon(segue__modules_detached(engine->modules)) + abandon_hooks(engine) +
          segue__sources_abandon(engine->sources) >
      0) {
    segue__timer_start(engine->loop, &engine->recover_timer, 1, engine_look_again);
    return;
  }
  void (*cb)(void *) = engine->stopped_cb;
  const segue__numbers given = {engine->next_id, engine->last_generation};
  if (engine->record) (void)segue__record_numbers(engine->record, &given, NULL); /* so no gap */
  engine->stopped_cb = NULL;
  cb(engine->stopped_data);
}
