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
#include "effects.h"
#include "operator.h"
#include "policy_call.h"
#include "recover.h"
#include "run.h"
#include "step.h"
#include "wants.h"

enum { RETRY_FIRST_MS = SEGUE__RETRY_FIRST_MS, CAUSE_MOST = 400 };

struct segue__run_queue {
  segue__engine *engine;
  segue__queued_run *pending, *pending_plan, *pending_replay;
  uint64_t last_start_ms;
  bool started_once;
  segue__message kick;
  bool kicked;
  segue__timer start_timer, retry_timer;
  unsigned retries;
  /* The sources that were refused last. */
  bool refused;
  segue__outcome refused_outcome;
  segue__hash refused_input;
  bool postponed;         /* a file was being written in the last run: it is read again later */
  unsigned postponements; /* in a row */
  /* Signals, saved files and the like for which no run could be allocated: the retry timer requests
   * one run for all of them. */
  bool trigger_owed;
  segue__trigger owed_trigger;
  /* The last results, a ring. */
  segue__result *results[SEGUE__RESULTS_MAX];
  size_t result_count, result_next;
  segue__engine_stats stats;
};

static void engine_kicked(segue__message *message);
static void start_due(segue__timer *timer);
static void retry_due(segue__timer *timer);

static const bool automatic[] = {
#define X(name, text, is_automatic) is_automatic,
    SEGUE__TRIGGERS(X)
#undef X
};

int segue__queue_new(segue__run_queue **out, segue__engine *engine) {
  segue__run_queue *queue = *out = segue__calloc(1, sizeof *queue);
  if (!queue) return UV_ENOMEM;
  queue->engine = engine;
  queue->kick.fn = engine_kicked;
  queue->start_timer.data = queue->retry_timer.data = engine;
  return 0;
}

static void stop_timers(segue__run_queue *queue) {
  segue__timer_stop(queue->engine->loop, &queue->start_timer);
  segue__timer_stop(queue->engine->loop, &queue->retry_timer);
}

void segue__queue_free(segue__run_queue *queue) {
  if (!queue) return;
  stop_timers(queue);
  for (size_t i = 0; i < SEGUE__RESULTS_MAX; i++)
    segue__result_unref(queue->results[i]);
  segue__free(queue);
}

static void queue_run_free(segue__queued_run *run) {
  if (!run) return;
  segue__buf_deinit(&run->cause);
  segue__files_unref(run->files);
  segue__policy_unref(run->policy);
  segue__free(run);
}

void segue__queue_close(segue__run_queue *queue) {
  stop_timers(queue);
  segue__queued_run **slots[] = {&queue->pending, &queue->pending_plan, &queue->pending_replay};
  for (size_t i = 0; i < sizeof slots / sizeof *slots; i++) {
    segue__queued_run *run = *slots[i];
    *slots[i] = NULL;
    if (run) segue__run_answer(run, SEGUE_ECLOSED, NULL);
    queue_run_free(run);
  }
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

/* An automatic trigger waits until its origin is quiet. Origins have pauses of their own: a store
 * whose changes are atomic needs none, but it must not cut short the pause of a file that is being
 * written together with others. */
static void merge_quiet(segue__queued_run *run, const segue__reload_request *request,
                        const segue__policy *policy, uint64_t now) {
  uint64_t quiet = policy ? policy->debounce_min_ms : 50;
  uint64_t most = policy ? policy->debounce_max_ms : 1000;
  if (request->has_quiet) quiet = request->quiet_ms;
  uint64_t until = now + quiet < run->first_ms + most ? now + quiet : run->first_ms + most;
  if (until > run->quiet_until_ms) run->quiet_until_ms = until;
  run->due_ms = run->quiet_until_ms;
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
  if (run->explicit_ || request->trigger == SEGUE__BY_RETRY) {
    run->due_ms = now;
    if (run->explicit_) run->not_before_ms = 0;
  } else {
    merge_quiet(run, request, engine->policy, now);
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
  if (engine->queue->trigger_owed && !segue__timer_active(&engine->queue->retry_timer))
    segue__timer_start(engine->loop, &engine->queue->retry_timer, RETRY_FIRST_MS, retry_due);
}

/* There was no memory for a run. A client or a host gets the error and can repeat its request; a
 * signal or a saved file would be lost, so the run is owed. */
static void engine_owe(segue__engine *engine, const segue__reload_request *request) {
  if (request->trigger == SEGUE__BY_HTTP || request->trigger == SEGUE__BY_CONTROL) return;
  if (!engine->queue->trigger_owed || automatic[engine->queue->owed_trigger])
    engine->queue->owed_trigger = request->trigger;
  engine->queue->trigger_owed = true;
  arm_owed(engine);
}

static void engine_pay(segue__engine *engine, segue__queued_run *run) {
  segue__reload_request owed = {.trigger = engine->queue->owed_trigger};
  engine->queue->trigger_owed = false;
  merge_request(engine, run, &owed);
}

int segue__engine_request(segue__engine *engine, const segue__reload_request *request,
                          segue__waiter *waiter) {
  if (engine->stopping) return SEGUE_ECLOSED;
  int held = segue__operator_request(engine, request);
  if (held < 0) return held;
  char *if_match = segue__strdup(request->if_match);
  if (waiter && request->if_match && !if_match) return UV_ENOMEM;
  segue__queued_run **slot =
      request->plan_only ? &engine->queue->pending_plan : &engine->queue->pending;
  if (!*slot) {
    *slot = engine_run_new(engine, request);
    if (!*slot) {
      segue__free(if_match);
      if (!waiter && !request->plan_only) engine_owe(engine, request);
      return UV_ENOMEM;
    }
  } else {
    engine->queue->stats.coalesced++;
  }
  engine->queue->stats.triggers[request->trigger]++;
  merge_request(engine, *slot, request);
  if (engine->queue->trigger_owed && !request->plan_only) engine_pay(engine, *slot);
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
static int engine_replay(segue__engine *engine, const segue__queued_run *like,
                         segue__trigger trigger, const char *cause, segue__waiter *waiter) {
  if (engine->stopping) return SEGUE_ECLOSED;
  if (engine->queue->pending_replay) return UV_EBUSY;
  segue__reload_request request = {.trigger = trigger, .cause = cause};
  segue__queued_run *run = engine_run_new(engine, &request);
  if (!run) return UV_ENOMEM;
  merge_request(engine, run, &request);
  run->files = segue__files_ref(like->files);
  run->restores = like->restores;
  run->refreshes = like->refreshes;
  run->explicit_ = true;
  engine->queue->stats.triggers[trigger]++;
  if (waiter) segue__run_wait(run, waiter);
  engine->queue->pending_replay = run;
  segue__engine_schedule(engine);
  return 0;
}

int segue__engine_replay(segue__engine *engine, segue__files *files, uint64_t restores,
                         segue__trigger trigger, const char *cause, segue__waiter *waiter) {
  const segue__queued_run like = {.files = files, .restores = restores};
  return engine_replay(engine, &like, trigger, cause, waiter);
}

int segue__queue_refresh(segue__engine *engine, segue__files *files, uint64_t restores,
                         const char *cause) {
  const segue__queued_run like = {.files = files, .restores = restores, .refreshes = true};
  return engine_replay(engine, &like, SEGUE__BY_RETRY, cause, NULL);
}

bool segue__queue_has_replay(const segue__engine *engine) {
  return engine->queue->pending_replay != NULL;
}

size_t segue__queue_waiting(const segue__engine *engine) {
  const segue__queued_run *run = engine->queue->pending;
  return run ? 1 + run->joined : 0;
}

bool segue__engine_pending(const segue__engine *engine) {
  return engine->queue->pending != NULL;
}

bool segue__queue_refused(const segue__engine *engine, segue__hash raw, segue__outcome *outcome) {
  *outcome = engine->queue->refused_outcome;
  return engine->queue->refused && segue__hash_equal(raw, engine->queue->refused_input);
}

bool segue__queue_postpone(segue__engine *engine, bool postponed) {
  bool first = postponed && !engine->queue->postponed;
  engine->queue->postponed = postponed;
  return first;
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

/* The queue is processed in a message of the loop, never inside a caller's call. */
void segue__engine_schedule(segue__engine *engine) {
  if (engine->queue->kicked) return;
  engine->queue->kicked = true;
  segue__post(engine->loop, &engine->queue->kick);
}

bool segue__queue_kicked(const segue__engine *engine) {
  return engine->queue->kicked;
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
  if (interval && engine->queue->started_once && engine->queue->last_start_ms + interval > at)
    at = engine->queue->last_start_ms + interval;
  return at;
}

/* Memory has run out at the start of a run: its waiters have the error. Triggers without a waiter
 * must not be lost, so the run is tried again. */
static void try_later(segue__engine *engine, segue__queued_run *run) {
  if (run->plan_only || run->files || !run->unconditional || engine->queue->pending) {
    queue_run_free(run);
  } else {
    run->explicit_ = false;
    run->due_ms = segue__loop_now_ms(engine->loop) + RETRY_FIRST_MS;
    engine->queue->pending = run;
  }
  segue__engine_schedule(engine);
}

static void engine_start(segue__engine *engine, segue__queued_run **slot) {
  segue__queued_run *run = *slot;
  *slot = NULL;
  if (!conditions_hold(engine, run)) {
    queue_run_free(run);
    segue__engine_schedule(engine);
    return;
  }
  for (const segue__waiter *waiter = run->waiters; waiter; waiter = waiter->next)
    run->accept_shrink |= waiter->accept_shrink;
  if (!run->plan_only) {
    engine->queue->last_start_ms = segue__loop_now_ms(engine->loop);
    engine->queue->started_once = true;
    segue__timer_stop(engine->loop, &engine->queue->retry_timer);
  }
  if (!run->id) run->id = ++engine->next_id; /* it runs again */
  if (segue__txn_start(engine, run) == 0) return;
  segue__run_answer(run, UV_ENOMEM, NULL);
  try_later(engine, run);
}

/* Also a daemon that is started while reloads are frozen needs a generation to serve. */
static bool start_of_daemon(const segue__engine *engine) {
  const segue__queued_run *run =
      engine->queue->pending_replay ? engine->queue->pending_replay : engine->queue->pending;
  return run && run->trigger == SEGUE__BY_START;
}

/* While frozen: plans run, as they change nothing; explicit requests are rejected, automatic
 * triggers stay pending. */
static void wait_frozen(segue__engine *engine) {
  segue__queued_run *replay = engine->queue->pending_replay;
  engine->queue->pending_replay = NULL;
  if (replay) segue__run_answer(replay, SEGUE_EFROZEN, NULL);
  queue_run_free(replay);
  if (engine->queue->pending) segue__run_answer(engine->queue->pending, SEGUE_EFROZEN, NULL);
  if (engine->queue->pending_plan) engine_start(engine, &engine->queue->pending_plan);
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
    segue__timer_start(engine->loop, &engine->queue->start_timer, RETRY_FIRST_MS, start_due);
  }
}

static void engine_kicked(segue__message *message) {
  const segue__run_queue *queue =
      (segue__run_queue *)((char *)message - offsetof(segue__run_queue, kick));
  segue__engine *engine = queue->engine;
  engine->queue->kicked = false;
  if (engine->txn || engine->recovering || engine->stopping) {
    segue__engine_check_stopped(engine);
    return;
  }
  if (!engine->effects_tried) {
    recover_effects(engine);
    return;
  }
  /* A request that overtakes it would make the generation live that the operator has left. */
  if (segue__operator_resuming(engine) && !engine->queue->pending_replay) return;
  if (segue__operator_decisions(engine)->frozen && !start_of_daemon(engine)) {
    wait_frozen(engine);
    return;
  }
  segue__queued_run *run = engine->queue->pending;
  uint64_t now = segue__loop_now_ms(engine->loop);
  uint64_t at = run ? start_at(engine, run) : UINT64_MAX;
  if (engine->queue->pending_replay) {
    engine_start(engine, &engine->queue->pending_replay);
  } else if (run && at <= now) {
    engine_start(engine, &engine->queue->pending);
  } else if (engine->queue->pending_plan) {
    engine_start(engine, &engine->queue->pending_plan);
  } else if (run) {
    if (run->explicit_ && at > run->due_ms) segue__run_answer(run, SEGUE_EDEFERRED, NULL);
    /* No memory for a timer: the run begins too early, because it would never begin otherwise. */
    if (segue__timer_start(engine->loop, &engine->queue->start_timer, at - now, start_due) < 0)
      engine_start(engine, &engine->queue->pending);
  }
}

static void start_due(segue__timer *timer) {
  segue__engine *engine = timer->data;
  segue__engine_schedule(engine);
}

/* ---- Ending ---- */

/* While a plan runs the retry waits: the end of a plan starts no timer. (A reload that runs has
 * stopped this timer, and its outcome decides whether there is another retry.) */
static void retry_due(segue__timer *timer) {
  segue__engine *engine = timer->data;
  if (engine->stopping) return;
  if (engine->txn) {
    segue__timer_start(engine->loop, &engine->queue->retry_timer, RETRY_FIRST_MS, retry_due);
    return;
  }
  const segue__result *last = segue__engine_result(engine, 0);
  segue__reload_request request = {.trigger = SEGUE__BY_RETRY, .cause = "retry"};
  if ((last && last->outcome == SEGUE__FAILED) || engine->queue->postponed ||
      engine->queue->trigger_owed)
    (void)segue__engine_request(engine, &request, NULL); /* without memory it is owed */
}

static void remember_outcome(segue__engine *engine, const segue__txn *txn) {
  const segue__result *result = txn->result;
  static const segue__hash unknown;
  engine->queue->stats.runs++;
  engine->queue->stats.outcomes[result->outcome]++;
  bool good = result->outcome == SEGUE__APPLIED || result->outcome == SEGUE__UNCHANGED;
  engine->queue->stats.last_successful = good;
  if (good) engine->queue->stats.last_success_wall_ms = result->ended_wall_ms;
  bool refused = !good && result->outcome != SEGUE__FAILED;
  /* A replay does not read the sources: whether their content was refused stays as it is. */
  if (refused && !txn->run->files && !segue__hash_equal(txn->content.raw, unknown)) {
    engine->queue->refused = true;
    engine->queue->refused_input = txn->content.raw;
    engine->queue->refused_outcome = result->outcome;
  } else if (result->outcome == SEGUE__APPLIED && !txn->run->files) {
    engine->queue->refused = false;
  }
  if (good) engine->queue->retries = 0;
  if (result->outcome == SEGUE__FAILED)
    segue__timer_start(engine->loop, &engine->queue->retry_timer,
                       segue__engine_backoff_ms(engine, engine->queue->retries++), retry_due);
}

/* The close of a file that was being written is an event only where the policy watches, and where
 * the kernel reports it. */
static void retry_postponed(segue__engine *engine) {
  if (!engine->queue->postponed)
    engine->queue->postponements = 0;
  else if (!segue__timer_active(&engine->queue->retry_timer))
    segue__timer_start(engine->loop, &engine->queue->retry_timer,
                       segue__engine_backoff_ms(engine, engine->queue->postponements++), retry_due);
}

static void keep_result(segue__engine *engine, segue__result *result) {
  segue__run_queue *queue = engine->queue;
  segue__result_unref(queue->results[queue->result_next]);
  queue->results[queue->result_next] = segue__result_ref(result);
  queue->result_next = (queue->result_next + 1) % SEGUE__RESULTS_MAX;
  if (queue->result_count < SEGUE__RESULTS_MAX) queue->result_count++;
}

/* A run that the policy postponed returns to the queue, before triggers that arrived meanwhile. */
static void put_back(segue__engine *engine, segue__queued_run *run) {
  segue__queued_run *later = engine->queue->pending;
  run->put_off = SEGUE__RUNS_NOW;
  run->accept_shrink = false;
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
    queue_run_free(later);
  }
  engine->queue->pending = run;
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

/* The waiters stay with the run. Its number stays too: it is one reload with one outcome. */
static void wait_again(segue__engine *engine, segue__queued_run *run) {
  bool explicit_ = run->explicit_, accepts = run->accept_shrink;
  put_back(engine, run);
  run->due_ms = run->explicit_ ? run->due_ms : run->next_try_ms; /* explicit: one that joined */
  run->pull = true;
  run->explicit_ |= explicit_;
  run->accept_shrink |= accepts;
}

static void report_files(segue__txn *txn) {
  segue__txn_take_files(txn);
  txn->result->files = segue__files_ref(txn->content.files);
}

static void record_settled(segue__engine *engine, const segue__txn *txn, bool kept) {
  const segue__result *result = txn->result;
  segue__record_run settled = {.result = result,
                               .input = txn->content.input,
                               .files = txn->content.files,
                               .changes = &txn->content.changes,
                               .fresh = txn->origin != SEGUE__LATER,
                               .resumed = txn->origin == SEGUE__RESUMED};
  if (result->outcome == SEGUE__APPLIED) settled.snapshot = engine->live;
  if (kept) segue__record_settled(engine->record, &settled);
  segue__inputs_end(segue__record_inputs(engine->record));
}

/* Returns whether the run tries again: the sources get the names that its templates lack, and time.
 */
static bool run_waits(segue__engine *engine, segue__txn *txn) {
  segue__wants_tell(engine, txn->policy);
  if (!segue__wants_wait(engine, txn->run)) return false;
  segue__policy_ref(txn->policy);
  segue__policy_unref(txn->run->policy);
  txn->run->policy = txn->policy;
  return true;
}

void segue__engine_finished(segue__engine *engine, segue__txn *txn) {
  segue__result *result = segue__result_ref(txn->result);
  segue__queued_run *run = txn->run;
  segue__gates_settle(engine);
  bool put_off = run->put_off && !segue__txn_failed(txn) && result->outcome == SEGUE__UNCHANGED;
  bool good_first = run->put_off == SEGUE__GOOD_FIRST;
  bool waits = result->outcome == SEGUE__HELD && run_waits(engine, txn);
  put_off |= waits;
  if (!good_first && !waits) segue__operator_started(txn);
  result->deferred = put_off;
  if (result->skipped)
    engine->queue->stats.skipped++;
  else if (!result->plan_only && !put_off)
    remember_outcome(engine, txn);
  /* A look that found nothing is not stored among the last results. */
  bool idle = result->outcome == SEGUE__UNCHANGED && !run->explicit_;
  bool kept = !result->skipped && !result->plan_only && !put_off && !idle;
  if (kept) keep_result(engine, result);
  retry_postponed(engine);
  arm_owed(engine);
  engine->txn = NULL;
  if (engine->keep_files && engine->record) report_files(txn);
  if (engine->record) record_settled(engine, txn, kept);
  segue__txn_free(txn);
  segue__recover_schedule(engine);
  segue__engine_notify(engine, result, SEGUE__PHASE_SETTLED);
  segue__files_unref(result->files);
  result->files = NULL;
  int status = !put_off ? 0 : good_first ? SEGUE_ECLOSED : SEGUE_EDEFERRED;
  bool again = (good_first || waits) && !engine->stopping;
  if (!again) segue__run_answer(run, status, put_off ? NULL : result);
  if (again && waits)
    wait_again(engine, run);
  else if (again)
    run_again(engine, run);
  else if (put_off && !engine->stopping)
    put_back(engine, run);
  else
    queue_run_free(run);
  segue__result_unref(result);
  segue__sources_forget(engine->sources);
  segue__strategy_ask(engine);
  segue__engine_schedule(engine);
}

uint64_t segue__engine_deferred_until_ms(const segue__engine *engine) {
  const segue__queued_run *run = engine->queue->pending;
  if (!run || engine->txn) return 0;
  uint64_t at = start_at(engine, run);
  return at > run->due_ms ? at : 0;
}

size_t segue__engine_result_count(const segue__engine *engine) {
  return engine->queue->result_count;
}

const segue__result *segue__engine_result(const segue__engine *engine, size_t index) {
  const segue__run_queue *queue = engine->queue;
  if (index >= queue->result_count) return NULL;
  return queue->results[(queue->result_next + SEGUE__RESULTS_MAX - 1 - index) % SEGUE__RESULTS_MAX];
}

const segue__engine_stats *segue__engine_stats_get(const segue__engine *engine) {
  return &engine->queue->stats;
}
