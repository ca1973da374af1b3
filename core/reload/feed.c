/* SPDX-License-Identifier: MIT
 *
 * The life of asynchronous sources: fetches, watches, their clocks, and held deliveries. See feed.h
 * for the rules. Each call ends once, in `pulled` or `watch_over`, also if the source answers late,
 * twice or never; each delivery goes through `take`.
 */
#include "feed.h"

#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../os/fault.h"
#include "txn.h"

enum {
  FALLBACK_MS = 30000,
  SAFETY_MS = 300000,
  RETRY_MIN_MS = 1000,
  RETRY_MAX_MS = 60000,
  PROVEN_MS = 5000,
  STUCK_MAX = 4 /* abandoned fetches that have not returned */
};

static void pulled(segue_op *op, int status, const segue_error *error);
static void watch_over(segue_op *op, int status, const segue_error *error);
static void through(segue_op *op);
static void schedule(segue__engine *engine, segue__source_state *state);
static void pull_soon(segue__engine *engine, segue__source_state *state, uint64_t ms);
static void start_watch(segue__engine *engine, segue__source_state *state);

/* ---- Times ---- */

/* Doubling from the first pause to the longest, and of that any part: many daemons that failed
 * together do not come back together. */
static uint64_t backoff(segue__engine *engine, const segue__source *source, uint64_t attempt) {
  uint64_t most = source->retry_max_ms ? source->retry_max_ms : RETRY_MAX_MS;
  uint64_t cap = source->retry_min_ms ? source->retry_min_ms : RETRY_MIN_MS;
  while (attempt-- && cap < most)
    cap *= 2;
  if (cap > most) cap = most;
  return 1 + segue__engine_random(engine) % cap;
}

static uint64_t jittered(segue__engine *engine, uint64_t ms) {
  return ms - ms / 10 + segue__engine_random(engine) % (ms / 5 + 1);
}

static bool is_watched(const segue__source_state *state) {
  const segue__feed_call *watch = state->feed.watch;
  return watch && !watch->answered && !watch->dropped;
}

/* Until the next pull; 0: not by the clock. */
static uint64_t pause_of(segue__engine *engine, const segue__source_state *state) {
  const segue__source *source = state->feed.source;
  if (state->consecutive_failures) return backoff(engine, source, state->consecutive_failures - 1);
  if (is_watched(state) && state->feed.proven)
    return jittered(engine, source->safety_ms ? source->safety_ms : SAFETY_MS);
  if (source->interval_ms) return jittered(engine, source->interval_ms);
  return state->push && source->pushes ? jittered(engine, FALLBACK_MS) : 0;
}

/* ---- Calls ---- */

static segue__feed_call *call_new(segue__engine *engine, segue__policy *policy,
                                  segue__source_state *state) {
  segue__feed_call *call = segue__calloc(1, sizeof *call);
  if (!call) return NULL;
  call->engine = engine;
  call->policy = segue__policy_ref(policy);
  call->state = state;
  call->next = engine->feed_calls;
  if (call->next) call->next->prev = call;
  engine->feed_calls = call;
  return call;
}

static void call_free(segue__feed_call *call) {
  if (call->prev)
    call->prev->next = call->next;
  else
    call->engine->feed_calls = call->next;
  if (call->next) call->next->prev = call->prev;
  segue__delivery_deinit(&call->delivery);
  segue__policy_unref(call->policy);
  segue__free(call);
}

/* Detaches the call from its source: a later delivery is dropped. */
static void drop(segue__feed_call *call) {
  if (!call || call->dropped) return;
  call->dropped = true;
  call->collect = NULL;
  if (call->state && call->state->feed.pull == call) call->state->feed.pull = NULL;
  segue__op_cancel(&call->op, SEGUE_ECANCELLED);
}

/* A watch keeps its place until it has returned, so that a source has one watch at most. */
static void end_call(segue__feed_call *call) {
  segue__engine *engine = call->engine;
  segue__source_state *state = call->state;
  bool watched = state && state->feed.watch == call;
  if (watched) state->feed.watch = NULL;
  bool dropped = call->dropped;
  call_free(call);
  if (watched && dropped) start_watch(engine, state);
}

static void through(segue_op *op) {
  segue__engine *engine = ((segue__feed_call *)op)->engine;
  end_call((segue__feed_call *)op);
  segue__engine_check_stopped(engine);
}

static size_t stuck(const segue__engine *engine, const segue__source_state *state) {
  size_t n = 0;
  for (const segue__feed_call *call = engine->feed_calls; call; call = call->next)
    n += call->state == state && call->answered && call != state->feed.watch;
  return n;
}

/* ---- Deliveries ---- */

static bool same_bytes(const segue__document *a, const segue__document *b) {
  if (a->format != b->format || strcmp(a->name, b->name) != 0) return false;
  if (a->format == SEGUE__BUILT) return segue__hash_equal(a->hash, b->hash);
  return a->len == b->len && !memcmp(a->data, b->data, a->len);
}

static segue__document *held(const segue__documents *documents, const segue__document *like) {
  for (size_t i = 0; i < documents->count; i++)
    if (same_bytes(documents->items[i], like)) return documents->items[i];
  return NULL;
}

static bool same_list(const segue__documents *a, const segue__documents *b) {
  if (a->count != b->count) return false;
  for (size_t i = 0; i < a->count; i++)
    if (a->items[i] != b->items[i]) return false;
  return true;
}

static void take_revision(segue__source_state *state, segue__delivery *delivery) {
  if (!delivery->revision && delivery->unchanged) return;
  segue__free(state->feed.revision);
  state->feed.revision = delivery->revision;
  delivery->revision = NULL;
}

/* 1: other documents than those that are held, 0: the same; negative: it cannot be taken. The same
 * bytes keep their document, which is parsed already. */
static int take(segue__source_state *state, segue__delivery *delivery, segue_error *err) {
  segue__documents next = {0};
  int fault = SEGUE_FAULT("feed.take");
  if (fault) return segue__error_set(err, fault, "%s", segue_strerror(fault));
  if (delivery->unchanged && !state->feed.has)
    return segue__error_set(err, SEGUE_ESOURCE,
                            "the source reported no change before its first delivery");
  for (size_t i = 0; !delivery->unchanged && i < delivery->documents.count; i++) {
    segue__document *came = delivery->documents.items[i];
    segue__document *old = held(&state->documents, came);
    if (came->format != SEGUE__BUILT) came->id = 0; /* it gets one when it is parsed */
    if (segue__documents_add(&next, segue__document_ref(old ? old : came)) < 0) {
      segue__documents_deinit(&next);
      return segue__error_set(err, UV_ENOMEM, "out of memory");
    }
  }
  take_revision(state, delivery);
  bool changed = !delivery->unchanged && (!state->feed.has || !same_list(&next, &state->documents));
  if (changed) {
    segue__documents_deinit(&state->documents);
    state->documents = next;
    state->feed.has = true;
    state->content.code = 0;
  } else {
    segue__documents_deinit(&next);
  }
  return changed;
}

/* If the reload cannot be requested now (out of memory), the next event of the source requests it.
 */
static void fire(segue__engine *engine, segue__source_state *state, segue__trigger trigger,
                 const char *what) {
  char cause[300];
  snprintf(cause, sizeof cause, "%.200s %s", state->name, what);
  segue__request request = {.trigger = trigger, .cause = cause, .as_held = true};
  int rc = segue__engine_request(engine, &request, NULL);
  state->feed.owes = rc < 0 && rc != SEGUE_ECLOSED;
  if (!state->feed.owes) return;
  segue__log(engine->log, SEGUE__ERROR, "source", "what a source delivered cannot be taken up yet",
             "source", 's', state->name, "error", 's', segue_strerror(rc), NULL);
  pull_soon(engine, state, RETRY_MIN_MS);
}

static void succeeded(segue__engine *engine, segue__source_state *state) {
  if (state->consecutive_failures)
    segue__log(engine->log, SEGUE__INFO, "source", "the source is back", "source", 's', state->name,
               NULL);
  state->consecutive_failures = 0;
  state->error.code = 0;
  state->last_success_wall_ms = segue__loop_wall_ms(engine->loop);
}

static void failed(segue__engine *engine, segue__source_state *state, const segue_error *error) {
  char text[1024];
  state->failures++;
  state->error = *error;
  segue__engine_scrub(engine, &state->error); /* a script's message may quote the configuration */
  segue__error_source(&state->error, state->name);
  if (state->consecutive_failures++) return; /* logged once; it is also in the result of each run */
  segue_error_format(&state->error, text, sizeof text);
  segue__log(engine->log, SEGUE__WARN, "source",
             state->feed.has ? "the source is away: what it delivered last is held"
                             : "the source is away, and nothing of it is held",
             "source", 's', state->name, "error", 's', text, NULL);
}

void segue__feed_adopt(segue__source_state *state, segue__documents *documents, char **revision,
                       int64_t wall_ms) {
  segue__documents_deinit(&state->documents);
  segue__free(state->feed.revision);
  state->documents = *documents;
  state->feed.revision = *revision;
  state->feed.has = true;
  state->last_success_wall_ms = wall_ms;
  memset(documents, 0, sizeof *documents);
  *revision = NULL;
}

/* ---- Pulling ---- */

int segue__feed_pull(segue__engine *engine, segue__policy *policy, const segue__source *source,
                     segue__collect *collect) {
  segue__source_state *state = segue__source_get(engine, policy, source);
  if (!state) return UV_ENOMEM;
  drop(state->feed.pull);
  segue__timer_stop(engine->loop, &state->feed.pull_timer);
  if (stuck(engine, state) >= STUCK_MAX) return UV_EAGAIN;
  segue__feed_call *call = SEGUE_FAULT("feed.fetch") ? NULL : call_new(engine, policy, state);
  if (!call) return UV_ENOMEM;
  /* A run leaves time for what comes after: parsing and merging. */
  uint64_t ms = collect ? policy->collect_ms - policy->collect_ms / 4 : policy->collect_ms;
  state->feed.pull = call;
  state->feed.again = false;
  call->collect = collect;
  segue__op_begin(&call->op, engine->loop, ms, pulled, through, NULL);
  source->kind->feed->fetch(source, state->feed.has ? state->feed.revision : NULL, &call->delivery,
                            &call->op);
  return 0;
}

void segue__feed_refused(segue__engine *engine, const segue__policy *policy,
                         const segue__source *source, int code) {
  segue__source_state *state = segue__source_find(engine, policy, source);
  segue_error error;
  if (!state) return;
  segue__error_set(&error, code, "%s is not fetched: %d earlier fetches have not come back",
                   source->name, STUCK_MAX);
  state->fetches++;
  failed(engine, state, &error);
}

void segue__feeds_let_go(segue__engine *engine, const segue__collect *collect) {
  for (segue__feed_call *call = engine->feed_calls; call; call = call->next)
    if (call->collect == collect) drop(call);
}

/* Sets the error message of a fetch that took too long: the op has only a code. */
static segue_error story_of(const segue__feed_call *call, int status, const segue_error *error) {
  segue_error told = *error;
  if (status == SEGUE_ETIMEOUT && segue_op_cancelled(&call->op))
    segue__error_set(&told, status, "%s was not fetched within %llu ms", call->state->name,
                     (unsigned long long)call->op.deadline_ms);
  return told;
}

static void take_pull(segue__feed_call *call, int status, const segue_error *error) {
  segue__engine *engine = call->engine;
  segue__source_state *state = call->state;
  bool was_away = state->consecutive_failures > 0;
  segue_error err = {0};
  int rc = status;
  state->feed.pull = NULL;
  state->fetches++;
  if (rc < 0)
    err = story_of(call, status, error);
  else if (!call->overtaken)
    rc = take(state, &call->delivery, &err);
  if (rc < 0)
    failed(engine, state, &err);
  else
    succeeded(engine, state);
  if (rc < 0 || call->collect || !state->feed.source) return;
  if (rc > 0 || state->feed.owes)
    fire(engine, state, SEGUE__BY_POLL, "changed");
  else if (was_away && state->feed.went_on_without)
    fire(engine, state, SEGUE__BY_POLL, "is back");
}

static void pulled(segue_op *op, int status, const segue_error *error) {
  segue__feed_call *call = (segue__feed_call *)op;
  segue__engine *engine = call->engine;
  segue__source_state *state = call->dropped ? NULL : call->state;
  segue__collect *collect = call->collect;
  call->answered = true;
  if (state) take_pull(call, status, error);
  if (!segue__op_outstanding(op)) call_free(call);
  if (state && state->feed.again && state->feed.source)
    pull_soon(engine, state, 0);
  else if (state)
    schedule(engine, state);
  if (collect) segue__collect_pulled(collect);
  segue__strategy_ask(engine);
  segue__engine_check_stopped(engine);
}

static void pull_due(segue__timer *timer) {
  segue__source_state *state = timer->data;
  segue__engine *engine = state->feed.engine;
  if (!state->feed.source || state->feed.pull || engine->stopping) return;
  if (segue__feed_pull(engine, engine->policy, state->feed.source, NULL) < 0)
    schedule(engine, state);
}

static void schedule(segue__engine *engine, segue__source_state *state) {
  segue__feed *feed = &state->feed;
  if (!feed->source || engine->stopping) {
    segue__timer_stop(engine->loop, &feed->pull_timer);
    return;
  }
  if (feed->pull) return;
  uint64_t ms = pause_of(engine, state);
  if (ms)
    (void)segue__timer_start(engine->loop, &feed->pull_timer, ms, pull_due);
  else
    segue__timer_stop(engine->loop, &feed->pull_timer);
}

static void pull_soon(segue__engine *engine, segue__source_state *state, uint64_t ms) {
  const segue__timer *timer = &state->feed.pull_timer;
  bool sooner =
      segue__timer_active(timer) && timer->due_ms <= segue__loop_now_ms(engine->loop) + ms;
  if (state->feed.pull && !ms)
    state->feed.again = true; /* a running fetch may have started before the change */
  else if (!sooner)
    (void)segue__timer_start(engine->loop, &state->feed.pull_timer, ms, pull_due);
}

/* ---- Watching ---- */

static void proved(segue__engine *engine, segue__source_state *state) {
  bool before = state->feed.proven, failures = state->feed.watch_failures > 0;
  state->feed.proven = true;
  state->feed.watch_attempts = 0;
  state->feed.watch_failures = 0;
  if (before) return;
  segue__timer_stop(engine->loop, &state->feed.watch_timer);
  if (failures)
    segue__log(engine->log, SEGUE__INFO, "source", "the source pushes again", "source", 's',
               state->name, NULL);
  schedule(engine, state);
  segue__strategy_ask(engine);
}

/* A watch that has run for a while has proved itself, also if nothing changes. Without one, it is
 * time to try: or, where the policy wants no push for all its failures, to forget these, so that
 * the policy may think again. */
static void watch_due(segue__timer *timer) {
  segue__source_state *state = timer->data;
  segue__engine *engine = state->feed.engine;
  if (engine->stopping || !state->feed.source) return;
  if (is_watched(state)) {
    proved(engine, state);
  } else if (state->push) {
    start_watch(engine, state);
  } else {
    state->feed.watch_failures = 0;
    segue__strategy_ask(engine);
  }
}

/* A push that could not be taken is fetched. */
static void lost(segue__engine *engine, segue__source_state *state, const segue_error *err) {
  failed(engine, state, err);
  pull_soon(engine, state, backoff(engine, state->feed.source, 0));
}

static void emitted(void *data, segue__delivery *delivery) {
  segue__feed_call *call = data;
  segue__engine *engine = call->engine;
  segue__source_state *state = call->state;
  segue_error err = {0};
  if (call->dropped || call->answered || !state || engine->stopping) {
    segue__delivery_deinit(delivery);
    return;
  }
  proved(engine, state);
  int rc = 0;
  if (delivery->ask) {
    pull_soon(engine, state, 0);
  } else {
    if (state->feed.pull) state->feed.pull->overtaken = true;
    rc = take(state, delivery, &err);
    if (rc < 0)
      lost(engine, state, &err);
    else
      succeeded(engine, state);
  }
  segue__delivery_deinit(delivery);
  if (rc > 0 || (!rc && state->feed.owes)) fire(engine, state, SEGUE__BY_PUSH, "pushed");
  segue__strategy_ask(engine);
}

static bool may_watch(const segue__engine *engine, const segue__source_state *state) {
  const segue__feed *feed = &state->feed;
  return !engine->stopping && feed->source && feed->source->pushes && state->push && !feed->watch;
}

static void start_watch(segue__engine *engine, segue__source_state *state) {
  segue__feed *feed = &state->feed;
  if (!may_watch(engine, state)) return;
  segue__feed_call *call =
      SEGUE_FAULT("feed.watch") ? NULL : call_new(engine, engine->policy, state);
  feed->proven = false;
  (void)segue__timer_start(engine->loop, &feed->watch_timer, PROVEN_MS, watch_due);
  if (!call) return; /* the timer tries again */
  feed->watch = call;
  call->emitter = (segue__emitter){emitted, call};
  segue__op_begin(&call->op, engine->loop, 0, watch_over, through, NULL);
  feed->source->kind->feed->watch(feed->source, feed->has ? feed->revision : NULL, &call->emitter,
                                  &call->op);
  pull_soon(engine, state, 0); /* changes from before it began to watch */
}

static void watch_failed(segue__engine *engine, segue__source_state *state, int status,
                         const segue_error *error) {
  segue__feed *feed = &state->feed;
  char text[1024];
  if (status < 0)
    feed->watch_error = *error;
  else
    segue__error_set(&feed->watch_error, SEGUE_ESOURCE, "the watch ended by itself");
  segue__engine_scrub(engine, &feed->watch_error);
  segue__error_source(&feed->watch_error, state->name);
  feed->proven = false;
  feed->watch_failures++;
  uint64_t ms = backoff(engine, feed->source, feed->watch_attempts++);
  segue_error_format(&feed->watch_error, text, sizeof text);
  segue__log(engine->log, SEGUE__WARN, "source",
             "the source pushes no more: it is pulled meanwhile", "source", 's', state->name,
             "error", 's', text, "again_ms", 'u', ms, NULL);
  (void)segue__timer_start(engine->loop, &feed->watch_timer, ms, watch_due);
  if (!feed->pull) pull_soon(engine, state, backoff(engine, feed->source, 0));
}

static void watch_over(segue_op *op, int status, const segue_error *error) {
  segue__feed_call *call = (segue__feed_call *)op;
  segue__engine *engine = call->engine;
  segue__source_state *state = call->dropped ? NULL : call->state;
  call->answered = true;
  if (state && state->feed.source && !engine->stopping) watch_failed(engine, state, status, error);
  if (!segue__op_outstanding(op)) end_call(call);
  segue__strategy_ask(engine);
  segue__engine_check_stopped(engine);
}

void segue__feed_decided(segue__engine *engine, segue__source_state *state) {
  segue__feed *feed = &state->feed;
  if (!feed->source) return;
  if (!state->push) drop(feed->watch);
  if (state->push && !segue__timer_active(&feed->watch_timer)) start_watch(engine, state);
  if (!segue__timer_active(&feed->pull_timer)) schedule(engine, state);
}

/* ---- Policies come and go ---- */

static void settle(segue__engine *engine, const segue__source *source) {
  segue__source_state *state = segue__source_get(engine, engine->policy, source);
  if (!state) return; /* the next run makes it */
  segue__feed *feed = &state->feed;
  if (feed->source == source) return;
  feed->source = source;
  drop(feed->pull);
  drop(feed->watch);
  if (!engine->policy->has_strategy) state->push = source->pushes;
  if (!segue__timer_active(&feed->watch_timer) || feed->proven) {
    segue__timer_stop(engine->loop, &feed->watch_timer);
    start_watch(engine, state);
  }
  if (!segue__timer_active(&feed->pull_timer)) schedule(engine, state);
}

void segue__feeds_settle(segue__engine *engine) {
  for (size_t i = 0; i < engine->policy->source_count; i++)
    if (engine->policy->sources[i].kind->feed) settle(engine, &engine->policy->sources[i]);
}

void segue__feed_halt(segue__engine *engine, segue__source_state *state) {
  segue__timer_stop(engine->loop, &state->feed.pull_timer);
  segue__timer_stop(engine->loop, &state->feed.watch_timer);
  state->feed.source = NULL;
  drop(state->feed.pull);
  drop(state->feed.watch);
}

void segue__feeds_stop(segue__engine *engine) {
  for (size_t i = 0; i < engine->source_count; i++)
    segue__feed_halt(engine, engine->sources[i]);
  for (segue__feed_call *call = engine->feed_calls; call; call = call->next)
    if (!call->collect) drop(call);
}

bool segue__feeds_waiting(const segue__engine *engine) {
  for (const segue__feed_call *call = engine->feed_calls; call; call = call->next)
    if (!call->answered) return true;
  return false;
}

size_t segue__feeds_abandon(segue__engine *engine) {
  size_t coming = 0;
  for (segue__feed_call *call = engine->feed_calls; call; call = call->next)
    if (!segue__op_orphan(&call->op)) coming++;
  return coming;
}
