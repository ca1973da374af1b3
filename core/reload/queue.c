/* SPDX-License-Identifier: MIT
 *
 * The queue: triggers join the one pending run, which starts when its debounce, its rate limit and
 * the running transaction allow it. A waiter is answered by a run that began after its request. The
 * results of the last runs are kept here too.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "../os/fault.h"
#include "drain.h"
#include "effects.h"
#include "operator.h"
#include "policy_call.h"
#include "recover.h"
#include "remote.h"
#include "run.h"
#include "step.h"

enum {
  RETRY_FIRST_MS = 1000,
  RETRY_MOST_MS = 60000,
  CAUSE_MOST = 400,
  SOURCES_MS = 2000 /* at the end, for operations of sources that were cancelled */
};

static void engine_kicked(segue__message *message);
static void module_entered(void *data, const char *name, uint64_t generation,
                           segue__module_state state);
static void start_due(segue__timer *timer);
static void retry_due(segue__timer *timer);

static const bool automatic[] = {
#define X(name, text, is_automatic) is_automatic,
    SEGUE__TRIGGERS(X)
#undef X
};

int segue__engine_new(segue__engine **out, const segue__engine_options *options) {
  *out = NULL;
  segue__engine *engine = segue__calloc(1, sizeof *engine);
  if (!engine) return UV_ENOMEM;
  engine->options = *options;
  engine->loop = options->loop;
  engine->log = options->log;
  engine->os = options->os ? options->os : segue__os_default();
  engine->policy_path = segue__strdup(options->policy_path);
  if (options->policy_path && !engine->policy_path) {
    segue__free(engine);
    return UV_ENOMEM;
  }
  engine->gates = options->gates ? segue__gates_ref(options->gates) : NULL;
  if (!engine->gates && segue__gates_new(&engine->gates) < 0) {
    segue__free(engine->policy_path);
    segue__free(engine);
    return UV_ENOMEM;
  }
  segue__gates_begin(engine->gates, engine->loop);
  if (engine->options.policy) segue__policy_ref(engine->options.policy);
  engine->record = options->record;
  if (engine->record) {
    const segue__record_contents *found = segue__record_found(engine->record);
    engine->decisions = found->state;
    segue__record_take_journal(engine->record, &engine->journal);
    engine->last_generation = found->generation;
    engine->next_id = found->reload;
    engine->reserved = found->reserved;
    engine->resumes = true;
  }
  engine->detached.on_state = module_entered;
  engine->detached.on_failure = segue__recover_failed;
  engine->detached.data = engine;
  engine->kick.fn = engine_kicked;
  engine->start_timer.data = engine;
  engine->retry_timer.data = engine;
  engine->random = (uint64_t)segue__loop_wall_ms(engine->loop) * 2654435761U + 88172645463325252ULL;
  engine->next_document = 1;
  *out = engine;
  return 0;
}

void segue__engine_free(segue__engine *engine) {
  if (!engine) return;
  segue__timer_stop(engine->loop, &engine->start_timer);
  segue__timer_stop(engine->loop, &engine->retry_timer);
  segue__timer_stop(engine->loop, &engine->recover_timer);
  segue__unkept_set(engine, NULL);
  segue__journal_deinit(&engine->journal);
  segue__gates_end(engine->gates);
  segue__gates_unref(engine->gates);
  for (size_t i = 0; i < SEGUE__RESULTS_MAX; i++)
    segue__result_unref(engine->results[i]);
  for (size_t i = 0; i < engine->module_count; i++) {
    segue__free(engine->modules[i]->name);
    segue__free(engine->modules[i]->kind);
    segue__free(engine->modules[i]->old);
    segue__free(engine->modules[i]);
  }
  segue__free(engine->modules);
  segue__sources_free(engine);
  segue_snapshot_unref(engine->live);
  segue_snapshot_unref(engine->previous);
  segue__schema_unref(engine->schema);
  segue__policy_unref(engine->policy);
  segue__policy_unref(engine->options.policy);
  segue__free(engine->policy_path);
  segue__free(engine);
}

uint64_t segue__engine_now_us(const segue__engine *engine) {
  return segue__loop_uv(engine->loop) ? uv_hrtime() / 1000
                                      : segue__loop_now_ms(engine->loop) * 1000;
}

/* ---- Asking ---- */

static segue__queued_run *engine_run_new(segue__engine *engine,
                                         const segue__reload_request *request) {
  segue__queued_run *run = segue__calloc(1, sizeof *run);
  if (!run) return NULL;
  run->id = ++engine->next_id;
  run->trigger = request->trigger;
  run->plan_only = request->plan_only;
  run->first_ms = segue__loop_now_ms(engine->loop);
  run->due_ms = UINT64_MAX;
  segue__buf_init(&run->cause);
  return run;
}

void segue__run_free(segue__queued_run *run) {
  if (!run) return;
  segue__buf_deinit(&run->cause);
  segue__files_unref(run->files);
  segue__free(run);
}

static void merge_request(segue__engine *engine, segue__queued_run *run,
                          const segue__reload_request *request) {
  uint64_t now = segue__loop_now_ms(engine->loop);
  const char *cause = request->cause ? request->cause : segue__trigger_name(request->trigger);
  if (!run->cause.len)
    segue__buf_adds(&run->cause, cause);
  else if (run->cause.len + strlen(cause) < CAUSE_MOST && !strstr(run->cause.data, cause))
    segue__buf_addf(&run->cause, ", %s", cause);
  else
    run->joined++;
  if (run->cause.len) { /* a trigger written in Lua chooses its text */
    segue__engine_scrub_text(engine, run->cause.data);
    run->cause.len = strlen(run->cause.data);
  }
  run->force |= request->force;
  run->rehearse |= request->rehearse;
  run->pull |= !request->as_held && request->trigger != SEGUE__BY_WATCH;
  run->unconditional |= !request->if_match;
  if (!automatic[request->trigger] && !run->explicit_) {
    /* An explicit request names the run, also where an automatic trigger came first. */
    run->explicit_ = true;
    run->trigger = request->trigger;
  }
  const segue__policy *policy = engine->policy;
  uint64_t quiet = policy ? policy->debounce_min_ms : 50;
  uint64_t most = policy ? policy->debounce_max_ms : 1000;
  if (run->explicit_ || request->trigger == SEGUE__BY_RETRY) {
    run->due_ms = now;
    if (run->explicit_) run->not_before_ms = 0;
  } else {
    run->due_ms = now + quiet < run->first_ms + most ? now + quiet : run->first_ms + most;
  }
}

static void add_waiter(segue__queued_run *run, segue__waiter *waiter) {
  waiter->prev = run->last_waiter;
  waiter->next = NULL;
  waiter->run = run;
  if (run->last_waiter)
    run->last_waiter->next = waiter;
  else
    run->waiters = waiter;
  run->last_waiter = waiter;
}

static void unlink_waiter(segue__waiter *waiter) {
  segue__queued_run *run = waiter->run;
  if (waiter->prev)
    waiter->prev->next = waiter->next;
  else
    run->waiters = waiter->next;
  if (waiter->next)
    waiter->next->prev = waiter->prev;
  else
    run->last_waiter = waiter->prev;
}

static void remove_waiter(segue__waiter *waiter) {
  unlink_waiter(waiter);
  segue__free(waiter->if_match);
  waiter->if_match = NULL;
  waiter->run = NULL;
}

static void arm_owed(segue__engine *engine) {
  if (engine->trigger_owed && !segue__timer_active(&engine->retry_timer))
    segue__timer_start(engine->loop, &engine->retry_timer, RETRY_FIRST_MS, retry_due);
}

/* There was no memory for a run. A client or a host gets the error and can repeat its request; a
 * signal or a saved file would be lost, so the run is owed. */
static void engine_owe(segue__engine *engine, const segue__reload_request *request) {
  if (request->trigger == SEGUE__BY_HTTP || request->trigger == SEGUE__BY_CONTROL) return;
  if (!engine->trigger_owed || automatic[engine->owed_trigger])
    engine->owed_trigger = request->trigger;
  engine->trigger_owed = true;
  arm_owed(engine);
}

static void engine_pay(segue__engine *engine, segue__queued_run *run) {
  segue__reload_request owed = {.trigger = engine->owed_trigger};
  engine->trigger_owed = false;
  merge_request(engine, run, &owed);
}

int segue__engine_request(segue__engine *engine, const segue__reload_request *request,
                          segue__waiter *waiter) {
  if (engine->stopping) return SEGUE_ECLOSED;
  int held = segue__operator_request(engine, request);
  if (held < 0) return held;
  char *if_match = segue__strdup(request->if_match);
  if (waiter && request->if_match && !if_match) return UV_ENOMEM;
  segue__queued_run **slot = request->plan_only ? &engine->pending_plan : &engine->pending;
  if (!*slot) {
    *slot = engine_run_new(engine, request);
    if (!*slot) {
      segue__free(if_match);
      if (!waiter && !request->plan_only) engine_owe(engine, request);
      return UV_ENOMEM;
    }
  } else {
    engine->stats.coalesced++;
  }
  engine->stats.triggers[request->trigger]++;
  merge_request(engine, *slot, request);
  if (engine->trigger_owed && !request->plan_only) engine_pay(engine, *slot);
  if (!waiter) (*slot)->accept_shrink |= request->accept_shrink;
  if (waiter) {
    waiter->accept_shrink = request->accept_shrink;
    waiter->if_match = if_match;
    add_waiter(*slot, waiter);
  } else {
    segue__free(if_match);
  }
  segue__engine_schedule(engine);
  return 0;
}

/* A replay runs before the pending run, which reads the sources afterwards. */
int segue__engine_replay(segue__engine *engine, segue__files *files, uint64_t restores,
                         segue__trigger trigger, const char *cause, segue__waiter *waiter) {
  if (engine->stopping) return SEGUE_ECLOSED;
  if (engine->pending_replay) return UV_EBUSY;
  segue__reload_request request = {.trigger = trigger, .cause = cause};
  segue__queued_run *run = engine_run_new(engine, &request);
  if (!run) return UV_ENOMEM;
  merge_request(engine, run, &request);
  run->files = segue__files_ref(files);
  run->restores = restores;
  run->explicit_ = true;
  engine->stats.triggers[trigger]++;
  if (waiter) segue__run_wait(run, waiter);
  engine->pending_replay = run;
  segue__engine_schedule(engine);
  return 0;
}

void segue__run_wait(segue__queued_run *run, segue__waiter *waiter) {
  waiter->if_match = NULL;
  add_waiter(run, waiter);
}

void segue__engine_forget(segue__engine *engine, segue__waiter *waiter) {
  if (waiter->run)
    remove_waiter(waiter);
  else
    segue__operator_remove(engine, waiter);
}

static void engine_answer(segue__waiter *waiter, int status, segue__result *result) {
  remove_waiter(waiter);
  waiter->cb(waiter, status, result);
}

void segue__run_answer(segue__queued_run *run, int status, segue__result *result) {
  while (run->waiters)
    engine_answer(run->waiters, status, result);
}

/* ---- Starting ---- */

/* The queue is worked off in a message of the loop, never inside a caller's call. */
void segue__engine_schedule(segue__engine *engine) {
  if (engine->kicked) return;
  engine->kicked = true;
  segue__post(engine->loop, &engine->kick);
}

bool segue__engine_matches(const segue__engine *engine, const char *if_match) {
  const segue_snapshot *live = engine->live;
  size_t len = strlen(if_match);
  char number[24];
  if (len > 1 && if_match[0] == 'W' && if_match[1] == '/') if_match += 2, len -= 2;
  if (len > 1 && if_match[0] == '"' && if_match[len - 1] == '"') if_match++, len -= 2;
  if (len == 1 && *if_match == '*') return live != NULL;
  snprintf(number, sizeof number, "%" PRIu64, live ? live->generation : 0);
  return (len == strlen(number) && !memcmp(if_match, number, len)) ||
         (live && len == 32 && !memcmp(if_match, live->hash, 32));
}

/* Answers SEGUE_ECONFLICT to waiters whose If-Match fails. Returns false if no waiter and no
 * unconditional trigger remains. */
static bool conditions_hold(segue__engine *engine, segue__queued_run *run) {
  bool any = run->unconditional;
  for (segue__waiter *waiter = run->waiters, *next; waiter; waiter = next) {
    next = waiter->next;
    if (waiter->if_match && !segue__engine_matches(engine, waiter->if_match))
      engine_answer(waiter, SEGUE_ECONFLICT, NULL);
    else if (waiter->if_match)
      any = true;
  }
  return any;
}

static uint64_t start_at(const segue__engine *engine, const segue__queued_run *run) {
  uint64_t at = run->due_ms > run->not_before_ms ? run->due_ms : run->not_before_ms;
  uint64_t interval = engine->policy ? engine->policy->min_interval_ms : 0;
  if (interval && engine->started_once && engine->last_start_ms + interval > at)
    at = engine->last_start_ms + interval;
  return at;
}

/* Memory has run out at the start of a run: its waiters have the error. Triggers without a waiter
 * must not be lost, so the run is tried again. */
static void try_later(segue__engine *engine, segue__queued_run *run) {
  if (run->plan_only || run->files || !run->unconditional || engine->pending) {
    segue__run_free(run);
  } else {
    run->explicit_ = false;
    run->due_ms = segue__loop_now_ms(engine->loop) + RETRY_FIRST_MS;
    engine->pending = run;
  }
  segue__engine_schedule(engine);
}

static void engine_start(segue__engine *engine, segue__queued_run **slot) {
  segue__queued_run *run = *slot;
  *slot = NULL;
  if (!conditions_hold(engine, run)) {
    segue__run_free(run);
    segue__engine_schedule(engine);
    return;
  }
  for (const segue__waiter *waiter = run->waiters; waiter; waiter = waiter->next)
    run->accept_shrink |= waiter->accept_shrink;
  if (!run->plan_only) {
    engine->last_start_ms = segue__loop_now_ms(engine->loop);
    engine->started_once = true;
    segue__timer_stop(engine->loop, &engine->retry_timer);
  }
  if (!run->id) run->id = ++engine->next_id; /* it runs again */
  if (segue__txn_start(engine, run) == 0) return;
  segue__run_answer(run, UV_ENOMEM, NULL);
  try_later(engine, run);
}

/* Also a daemon that is started while reloads are frozen needs a generation to serve. */
static bool start_of_daemon(const segue__engine *engine) {
  const segue__queued_run *run = engine->pending_replay ? engine->pending_replay : engine->pending;
  return run && run->trigger == SEGUE__BY_START;
}

/* While frozen: plans run, as they change nothing; explicit requests are rejected, automatic
 * triggers stay pending. */
static void wait_frozen(segue__engine *engine) {
  segue__queued_run *replay = engine->pending_replay;
  engine->pending_replay = NULL;
  if (replay) segue__run_answer(replay, SEGUE_EFROZEN, NULL);
  segue__run_free(replay);
  if (engine->pending) segue__run_answer(engine->pending, SEGUE_EFROZEN, NULL);
  if (engine->pending_plan) engine_start(engine, &engine->pending_plan);
}

static void effects_recovered(segue__engine *engine) {
  engine->recovering = false;
  segue__engine_schedule(engine);
}

/* Changes that the last process left unfinished are finished or undone before anything is served.
 */
static void recover_effects(segue__engine *engine) {
  engine->effects_tried = engine->recovering = true;
  if (segue__effects_recover(engine, effects_recovered) < 0) {
    engine->effects_tried = engine->recovering = false;
    segue__timer_start(engine->loop, &engine->start_timer, RETRY_FIRST_MS, start_due);
  }
}

static void engine_kicked(segue__message *message) {
  segue__engine *engine = (segue__engine *)((char *)message - offsetof(segue__engine, kick));
  engine->kicked = false;
  if (engine->txn || engine->recovering || engine->stopping) {
    segue__engine_check_stopped(engine);
    return;
  }
  if (!engine->effects_tried) {
    recover_effects(engine);
    return;
  }
  /* A request that overtakes it would make the generation live that the operator has left. */
  if (segue__operator_resuming(engine) && !engine->pending_replay) return;
  if (engine->decisions.frozen && !start_of_daemon(engine)) {
    wait_frozen(engine);
    return;
  }
  segue__queued_run *run = engine->pending;
  uint64_t now = segue__loop_now_ms(engine->loop);
  uint64_t at = run ? start_at(engine, run) : UINT64_MAX;
  if (engine->pending_replay) {
    engine_start(engine, &engine->pending_replay);
  } else if (run && at <= now) {
    engine_start(engine, &engine->pending);
  } else if (engine->pending_plan) {
    engine_start(engine, &engine->pending_plan);
  } else if (run) {
    if (run->explicit_ && at > run->due_ms) segue__run_answer(run, SEGUE_EDEFERRED, NULL);
    /* No memory for a timer: rather too early than never. */
    if (segue__timer_start(engine->loop, &engine->start_timer, at - now, start_due) < 0)
      engine_start(engine, &engine->pending);
  }
}

static void start_due(segue__timer *timer) {
  segue__engine *engine = timer->data;
  segue__engine_schedule(engine);
}

/* ---- Ending ---- */

void segue__engine_notify(segue__engine *engine, const segue__result *result, segue__phase phase) {
  for (segue__observer *o = engine->observers, *next; o; o = next) {
    next = o->next;
    if (o->on_phase) o->on_phase(o, result, phase);
  }
}

static void module_entered(void *data, const char *name, uint64_t generation,
                           segue__module_state state) {
  const segue__engine *engine = data;
  const segue__txn *txn = engine->txn;
  /* A plan builds instances of a generation that does not go live: observers do not see them. */
  if (txn && txn->run->plan_only && txn->next && txn->next->generation == generation) return;
  for (segue__observer *o = engine->observers, *next; o; o = next) {
    next = o->next;
    if (o->on_module) o->on_module(o, name, generation, state);
  }
}

uint64_t segue__engine_random(segue__engine *engine) {
  engine->random ^= engine->random << 13;
  engine->random ^= engine->random >> 7;
  engine->random ^= engine->random << 17;
  return engine->random;
}

/* Doubling from a second to a minute, with up to a fifth taken off, so that many daemons that
 * failed together do not come back together. */
uint64_t segue__engine_backoff_ms(segue__engine *engine, unsigned attempt) {
  uint64_t ms = RETRY_FIRST_MS;
  while (attempt-- && ms < RETRY_MOST_MS)
    ms *= 2;
  if (ms > RETRY_MOST_MS) ms = RETRY_MOST_MS;
  return ms - segue__engine_random(engine) % (ms / 5 + 1);
}

/* While a plan runs the retry waits: the end of a plan starts no timer. (A reload that runs has
 * stopped this timer, and its outcome decides whether there is another retry.) */
static void retry_due(segue__timer *timer) {
  segue__engine *engine = timer->data;
  if (engine->stopping) return;
  if (engine->txn) {
    segue__timer_start(engine->loop, &engine->retry_timer, RETRY_FIRST_MS, retry_due);
    return;
  }
  segue__result *last =
      engine->result_count
          ? engine->results[(engine->result_next + SEGUE__RESULTS_MAX - 1) % SEGUE__RESULTS_MAX]
          : NULL;
  segue__reload_request request = {.trigger = SEGUE__BY_RETRY, .cause = "retry"};
  if ((last && last->outcome == SEGUE__FAILED) || engine->postponed || engine->trigger_owed)
    (void)segue__engine_request(engine, &request, NULL); /* without memory it is owed */
}

static void remember_outcome(segue__engine *engine, const segue__txn *txn) {
  const segue__result *result = txn->result;
  static const segue__hash unknown;
  engine->stats.runs++;
  engine->stats.outcomes[result->outcome]++;
  bool good = result->outcome == SEGUE__APPLIED || result->outcome == SEGUE__UNCHANGED;
  engine->stats.last_successful = good;
  if (good) engine->stats.last_success_wall_ms = result->ended_wall_ms;
  bool refused = !good && result->outcome != SEGUE__FAILED;
  /* A replay does not read the sources: whether their content was refused stays as it is. */
  if (refused && !txn->run->files && !segue__hash_equal(txn->raw, unknown)) {
    engine->refused = true;
    engine->refused_input = txn->raw;
    engine->refused_outcome = result->outcome;
  } else if (result->outcome == SEGUE__APPLIED && !txn->run->files) {
    engine->refused = false;
  }
  if (good) engine->retries = 0;
  if (result->outcome == SEGUE__FAILED)
    segue__timer_start(engine->loop, &engine->retry_timer,
                       segue__engine_backoff_ms(engine, engine->retries++), retry_due);
}

/* The close of a file that was being written is an event only where the policy watches, and where
 * the kernel reports it. */
static void retry_postponed(segue__engine *engine) {
  if (!engine->postponed)
    engine->postponements = 0;
  else if (!segue__timer_active(&engine->retry_timer))
    segue__timer_start(engine->loop, &engine->retry_timer,
                       segue__engine_backoff_ms(engine, engine->postponements++), retry_due);
}

static void keep_result(segue__engine *engine, segue__result *result) {
  segue__result_unref(engine->results[engine->result_next]);
  engine->results[engine->result_next] = segue__result_ref(result);
  engine->result_next = (engine->result_next + 1) % SEGUE__RESULTS_MAX;
  if (engine->result_count < SEGUE__RESULTS_MAX) engine->result_count++;
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

static void free_txn(segue__txn *txn) {
  for (size_t i = 0; i < txn->step_count; i++)
    if (txn->steps[i].next && txn->steps[i].module &&
        txn->steps[i].next != txn->steps[i].module->live)
      segue__instance_release(txn->steps[i].next);
  segue__timer_stop(txn->engine->loop, &txn->timer);
  segue__free(txn->steps);
  segue__free(txn->undo);
  segue__changes_deinit(&txn->changes);
  segue__errors_deinit(&txn->held);
  segue__errors_deinit(&txn->warnings);
  segue__free(txn->items);
  segue__document_unref(txn->schema_doc);
  segue__documents_deinit(&txn->schema_with);
  segue__engine_drop(txn->engine, txn->next);
  segue__engine_drop(txn->engine, txn->was_live);
  segue__engine_drop(txn->engine, txn->offered);
  segue__policy_unref(txn->policy);
  segue__result_unref(txn->result);
  segue__files_unref(txn->files);
  segue__free(txn);
}

/* A run that the policy postponed returns to the queue, before triggers that arrived meanwhile. */
static void put_back(segue__engine *engine, segue__queued_run *run) {
  segue__queued_run *later = engine->pending;
  run->put_off = run->accept_shrink = false;
  run->explicit_ = false;
  run->due_ms = 0;
  run->first_ms = segue__loop_now_ms(engine->loop);
  if (later) {
    run->joined += 1 + later->joined;
    run->force |= later->force;
    run->pull |= later->pull;
    run->accept_shrink |= later->accept_shrink;
    run->unconditional = true;
    if (later->explicit_) {
      run->explicit_ = true;
      run->not_before_ms = 0;
      run->trigger = later->trigger;
    }
    while (later->waiters) {
      segue__waiter *waiter = later->waiters;
      unlink_waiter(waiter);
      add_waiter(run, waiter);
    }
    segue__run_free(later);
  }
  engine->pending = run;
}

/* The waiters stay with the run: its next try answers them. That try gets a number of its own,
 * after that of the replay before it. */
static void run_again(segue__engine *engine, segue__queued_run *run) {
  bool explicit_ = run->explicit_, accepts = run->accept_shrink;
  put_back(engine, run);
  run->explicit_ |= explicit_;
  run->accept_shrink |= accepts;
  run->trigger = SEGUE__BY_START;
  run->id = 0;
}

static void report_files(segue__engine *engine, segue__txn *txn) {
  if (!txn->files) (void)segue__inputs_take(segue__record_inputs(engine->record), &txn->files);
  txn->result->files = segue__files_ref(txn->files);
}

void segue__engine_keep_files(segue__engine *engine, bool keep) {
  engine->keep_files = keep;
}

static void record_settled(segue__engine *engine, const segue__txn *txn, bool kept) {
  const segue__result *result = txn->result;
  segue__record_run settled = {.result = result,
                               .input = txn->input,
                               .files = txn->files,
                               .changes = &txn->changes,
                               .fresh = txn->first_here,
                               .resumed = txn->resumed};
  if (result->outcome == SEGUE__APPLIED) settled.snapshot = engine->live;
  if (kept) segue__record_settled(engine->record, &settled);
  segue__inputs_end(segue__record_inputs(engine->record));
}

void segue__engine_finished(segue__engine *engine, segue__txn *txn) {
  segue__result *result = segue__result_ref(txn->result);
  segue__queued_run *run = txn->run;
  segue__gates_settle(engine);
  bool put_off = run->put_off && !txn->failed && result->outcome == SEGUE__UNCHANGED;
  bool good_first = txn->good_first;
  if (!good_first) segue__operator_started(txn);
  result->deferred = put_off;
  if (result->skipped)
    engine->stats.skipped++;
  else if (!result->plan_only && !put_off)
    remember_outcome(engine, txn);
  /* A look that found nothing is not worth a place among the last results. */
  bool idle = result->outcome == SEGUE__UNCHANGED && !run->explicit_;
  bool kept = !result->skipped && !result->plan_only && !put_off && !idle;
  if (kept) keep_result(engine, result);
  retry_postponed(engine);
  arm_owed(engine);
  engine->txn = NULL;
  if (engine->keep_files && engine->record) report_files(engine, txn);
  if (engine->record) record_settled(engine, txn, kept);
  free_txn(txn);
  segue__recover_schedule(engine);
  segue__engine_notify(engine, result, SEGUE__PHASE_SETTLED);
  segue__files_unref(result->files);
  result->files = NULL;
  int status = !put_off ? 0 : good_first ? SEGUE_ECLOSED : SEGUE_EDEFERRED;
  bool again = good_first && !engine->stopping;
  if (!again) segue__run_answer(run, status, put_off ? NULL : result);
  if (again)
    run_again(engine, run);
  else if (put_off && !engine->stopping)
    put_back(engine, run);
  else
    segue__run_free(run);
  segue__result_unref(result);
  segue__sources_forget(engine);
  segue__strategy_ask(engine);
  segue__engine_schedule(engine);
}

/* ---- Stopping ---- */

void segue__engine_stop(segue__engine *engine, void (*cb)(void *data), void *data) {
  engine->stopping = true;
  engine->stopped_cb = cb;
  engine->stopped_data = data;
  segue__timer_stop(engine->loop, &engine->start_timer);
  segue__timer_stop(engine->loop, &engine->retry_timer);
  segue__timer_stop(engine->loop, &engine->recover_timer);
  segue__operator_close(engine);
  segue__queued_run **slots[] = {&engine->pending, &engine->pending_plan, &engine->pending_replay};
  for (size_t i = 0; i < sizeof slots / sizeof *slots; i++) {
    segue__queued_run *run = *slots[i];
    *slots[i] = NULL;
    if (run) segue__run_answer(run, SEGUE_ECLOSED, NULL);
    segue__run_free(run);
  }
  segue__remotes_stop(engine);
  if (engine->txn) segue__txn_abort(engine->txn);
  segue__engine_schedule(engine);
}

static bool modules_live(const segue__engine *engine) {
  for (size_t i = 0; i < engine->module_count; i++)
    if (engine->modules[i]->live) return true;
  return false;
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
  if (!engine->remote_calls) return true;
  if (engine->sources_end_ms) return now >= engine->sources_end_ms;
  uint64_t wait_ms = SEGUE_TEST_MS("SOURCES_MS", SOURCES_MS);
  engine->sources_end_ms = now + wait_ms;
  return segue__timer_start(engine->loop, &engine->start_timer, wait_ms, engine_look_again) < 0;
}

void segue__engine_check_stopped(segue__engine *engine) {
  if (!engine->stopping || engine->txn || engine->recovering || engine->draining ||
      !engine->stopped_cb)
    return;
  if (modules_live(engine)) {
    segue__drain_instance_all(engine);
    return;
  }
  if (segue__remotes_waiting(engine) || !sources_ended(engine)) return;
  if (segue__detached_abandon(&engine->detached) + abandon_hooks(engine) +
          segue__remotes_abandon(engine) >
      0) {
    segue__timer_start(engine->loop, &engine->start_timer, 1, engine_look_again);
    return;
  }
  void (*cb)(void *) = engine->stopped_cb;
  const segue__numbers given = {engine->next_id, engine->last_generation};
  if (engine->record) (void)segue__record_numbers(engine->record, &given, NULL); /* so no gap */
  engine->stopped_cb = NULL;
  cb(engine->stopped_data);
}

/* ---- Looking ---- */

void segue__engine_observe(segue__engine *engine, segue__observer *observer) {
  observer->next = engine->observers;
  engine->observers = observer;
}

void segue__engine_unobserve(segue__engine *engine, segue__observer *observer) {
  segue__observer **link = &engine->observers;
  while (*link && *link != observer)
    link = &(*link)->next;
  if (*link) *link = observer->next;
}

uint64_t segue__engine_deferred_until_ms(const segue__engine *engine) {
  const segue__queued_run *run = engine->pending;
  if (!run || engine->txn) return 0;
  uint64_t at = start_at(engine, run);
  return at > run->due_ms ? at : 0;
}
