/* SPDX-License-Identifier: MIT
 *
 * The life of asynchronous sources: fetches, watches and their timers. See sources.h for the rules.
 * Each call ends once, in `remote_pulled` or `watch_over`, also if the source answers late, twice
 * or never; each delivery goes to held.c.
 */
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../os/fault.h"
#include "sources_internal.h"

enum {
  FALLBACK_MS = 30000,
  PROVEN_MS = 5000,
  STUCK_MAX = 4 /* abandoned fetches that have not returned */
};

static void remote_pulled(segue_op *op, int status, const segue_error *error);
static void watch_over(segue_op *op, int status, const segue_error *error);
static void remote_through(segue_op *op);
static void remote_schedule(segue__source_state *state);
static void pull_soon(segue__source_state *state, uint64_t ms);
static void start_watch(segue__source_state *state);
static void remote_emitted(void *data, segue__emission *delivery);

/* ---- The owner of the sources ---- */

static uint64_t sources_random(const segue__sources *sources) {
  return sources->options.random(sources->options.data);
}

static void report_health(const segue__sources *sources) {
  sources->options.on_health(sources->options.data);
}

static void report_ended(const segue__sources *sources) {
  sources->options.on_ended(sources->options.data);
}

/* ---- Times ---- */

/* Doubling from the first pause to the longest, and of that any part: many daemons that failed
 * together do not come back together. */
static uint64_t remote_backoff(segue__sources *sources, const segue__source *source,
                               uint64_t attempt) {
  uint64_t most = source->retry_max_ms ? source->retry_max_ms : SEGUE__RETRY_MAX_MS;
  uint64_t cap = source->retry_min_ms ? source->retry_min_ms : SEGUE__RETRY_MIN_MS;
  while (attempt-- && cap < most)
    cap *= 2;
  if (cap > most) cap = most;
  return 1 + sources_random(sources) % cap;
}

static uint64_t remote_jittered(segue__sources *sources, uint64_t ms) {
  return ms - ms / 10 + sources_random(sources) % (ms / 5 + 1);
}

bool segue__remote_is_watched(const segue__source_state *state) {
  const segue__remote_call *watch = state->remote.watch;
  return watch && !watch->answered && !watch->dropped;
}

/* Until the next pull; 0: not by the clock. */
static uint64_t pause_of(const segue__source_state *state) {
  segue__sources *sources = state->sources;
  const segue__source *source = state->remote.source;
  /* A server that counts failed logins locks the account of a daemon that asks every second. */
  if (state->consecutive_failures && state->error.code == SEGUE_EDENIED)
    return remote_jittered(sources,
                           source->retry_max_ms ? source->retry_max_ms : SEGUE__RETRY_MAX_MS);
  if (state->consecutive_failures)
    return remote_backoff(sources, source, state->consecutive_failures - 1);
  if (segue__remote_is_watched(state) && state->remote.proven)
    return remote_jittered(sources, source->safety_ms ? source->safety_ms : SEGUE__SAFETY_MS);
  if (source->interval_ms) return remote_jittered(sources, source->interval_ms);
  return state->push && source->pushes ? remote_jittered(sources, FALLBACK_MS) : 0;
}

/* ---- Calls ---- */

static segue__remote_call *remote_call_new(segue__source_state *state, const segue__source_set *set,
                                           const segue__source *source) {
  segue__sources *sources = state->sources;
  segue__remote_call *call = segue__calloc(1, sizeof *call);
  if (!call) return NULL;
  call->sources = sources;
  call->set = *set;
  sources->options.hold(set->owner);
  call->source = source;
  call->state = state;
  segue__emitter_init(&call->emitter, sources->loop, remote_emitted, call);
  call->next = sources->calls;
  if (call->next) call->next->prev = call;
  sources->calls = call;
  return call;
}

static void remote_call_free(segue__remote_call *call) {
  if (call->prev)
    call->prev->next = call->next;
  else
    call->sources->calls = call->next;
  if (call->next) call->next->prev = call->prev;
  segue__delivery_deinit(&call->delivery);
  segue__emitter_deinit(&call->emitter);
  call->sources->options.release(call->set.owner);
  segue__free(call);
}

/* Detaches the call from its source: a later delivery is dropped. */
static void remote_drop(segue__remote_call *call) {
  if (!call || call->dropped) return;
  call->dropped = true;
  call->waiter = NULL;
  segue__emitter_close(&call->emitter);
  if (call->state && call->state->remote.pull == call) call->state->remote.pull = NULL;
  segue__op_cancel(&call->op, SEGUE_ECANCELLED);
}

/* A watch keeps its place until it has returned, so that a source has one watch at most. */
static void end_call(segue__remote_call *call) {
  segue__source_state *state = call->state;
  bool watched = state && state->remote.watch == call;
  if (watched) state->remote.watch = NULL;
  bool dropped = call->dropped;
  remote_call_free(call);
  if (watched && dropped) start_watch(state);
}

static void remote_through(segue_op *op) {
  segue__sources *sources = ((segue__remote_call *)op)->sources;
  end_call((segue__remote_call *)op);
  report_ended(sources);
}

static size_t remote_stuck(const segue__source_state *state) {
  segue__sources *sources = state->sources;
  size_t n = 0;
  for (const segue__remote_call *call = sources->calls; call; call = call->next)
    n += call->state == state && call->answered && call != state->remote.watch;
  return n;
}

/* If the reload cannot be requested now (out of memory), the next event of the source requests it.
 */
static void remote_fire(segue__source_state *state, bool pushed, const char *what) {
  segue__sources *sources = state->sources;
  char cause[300];
  snprintf(cause, sizeof cause, "%.200s %s", state->name, what);
  int rc = sources->options.changed(sources->options.data, pushed, cause);
  state->remote.trigger_owed = rc < 0 && rc != SEGUE_ECLOSED;
  if (!state->remote.trigger_owed) return;
  SEGUE__LOG(sources->log, SEGUE_ERROR, "source", "what a source delivered cannot be taken up yet",
             SEGUE__FIELD("source", state->name), SEGUE__FIELD("error", segue_strerror(rc)));
  pull_soon(state, SEGUE__RETRY_MIN_MS);
}

/* ---- Pulling ---- */

bool segue__sources_must_fetch(segue__sources *sources, const segue__source_set *set,
                               const segue__source *source) {
  const segue__source_state *state = segue__source_get(sources, set, source);
  if (!state || !state->fetches) return true;
  return !state->held.has && !source->optional;
}

int segue__sources_fetch(segue__sources *sources, const segue__source_set *set,
                         const segue__source *source, const segue__fetch_waiter *waiter) {
  segue__source_state *state = segue__source_get(sources, set, source);
  if (!state) return UV_ENOMEM;
  remote_drop(state->remote.pull);
  segue__timer_stop(sources->loop, &state->remote.pull_timer);
  if (remote_stuck(state) >= STUCK_MAX) return UV_EAGAIN;
  segue__remote_call *call =
      SEGUE_FAULT("remote.fetch") ? NULL : remote_call_new(state, set, source);
  if (!call) return UV_ENOMEM;
  /* A run leaves time for what comes after: parsing and merging. */
  uint64_t ms = waiter ? set->fetch_ms - set->fetch_ms / 4 : set->fetch_ms;
  if (source->kind->remote->timed && source->timeout_ms && source->timeout_ms < ms)
    ms = source->timeout_ms;
  state->remote.pull = call;
  state->remote.again = false;
  call->waiter = waiter;
  segue__op_begin(&call->op, sources->loop, ms, remote_pulled, remote_through, NULL);
  call->whole = !state->held.has || state->held.forgotten;
  source->kind->remote->fetch(source, segue__held_revision(state), &call->delivery, &call->op);
  return 0;
}

void segue__sources_refused(segue__sources *sources, const segue__source_set *set,
                            const segue__source *source, int code) {
  segue__source_state *state = segue__source_find(sources, set, source);
  segue_error error;
  if (!state) return;
  segue__errorf(&error, code, "%s is not fetched: %d earlier fetches have not come back",
                source->name, STUCK_MAX);
  state->fetches++;
  segue__source_failed(state, &error);
}

void segue__sources_release(segue__sources *sources, const segue__fetch_waiter *waiter) {
  for (segue__remote_call *call = sources->calls; call; call = call->next)
    if (call->waiter == waiter) remote_drop(call);
}

/* An error of a script may quote a document that was not live yet, so that no mask knows its
 * secrets. */
static void remote_conceal(const segue__remote_call *call, segue_error *error) {
  const segue__remote_ops *ops = call->source->kind->remote;
  if (!call->op.scripted || !ops->conceal) return;
  const segue__sources_options *options = &call->sources->options;
  if (options->nothing_secret(options->data, call->set.owner)) return;
  ops->conceal(call->source, error);
}

/* Sets the error message of a fetch that took too long: the op has only a code. */
static segue_error fetch_error(const segue__remote_call *call, int status,
                               const segue_error *error) {
  segue_error reported = *error;
  if (status == SEGUE_ETIMEOUT && segue_op_cancelled(&call->op))
    segue__errorf(&reported, status, "%s was not fetched within %llu ms", call->state->name,
                  (unsigned long long)call->op.deadline_ms);
  else
    remote_conceal(call, &reported);
  return reported;
}

static void take_pull(segue__remote_call *call, int status, const segue_error *error) {
  segue__source_state *state = call->state;
  bool was_away = state->consecutive_failures > 0;
  segue_error err = {0};
  int rc = status;
  state->remote.pull = NULL;
  state->fetches++;
  if (rc < 0)
    err = fetch_error(call, status, error);
  else if (!call->overtaken && segue__held_has_gap(state, &call->delivery))
    rc = segue__errorf(&err, SEGUE_ESOURCE,
                       "the source delivered changes only, although everything was requested");
  else if (!call->overtaken)
    rc = segue__held_take(state, &call->delivery, &err);
  if (rc < 0)
    segue__source_failed(state, &err);
  else
    segue__source_succeeded(state);
  if (rc < 0 || call->waiter || !state->remote.source) return;
  if (rc > 0 || state->remote.trigger_owed)
    remote_fire(state, false, "changed");
  else if (was_away && state->held.went_on_without)
    remote_fire(state, false, "is back");
}

/* The revision that was passed to the source does not exist any more (a compacted history), or the
 * source answered with changes against another revision than the held one: everything is fetched at
 * once, also for a run that waits. That is no failure, because it happens after every long absence
 * of the source. If the source does it again after a fetch without a revision, the fetch has
 * failed.
 */
static bool remote_pull_whole(segue__remote_call *call, int status) {
  segue__source_state *state = call->state;
  segue__sources *sources = call->sources;
  bool gap = status >= 0 && !call->overtaken && segue__held_has_gap(state, &call->delivery);
  if (call->whole || (status != SEGUE_EGONE && !gap)) return false;
  state->held.forgotten = true;
  state->remote.pull = NULL;
  return segue__sources_fetch(sources, &call->set, call->source, call->waiter) == 0;
}

static void remote_pulled(segue_op *op, int status, const segue_error *error) {
  segue__remote_call *call = (segue__remote_call *)op;
  segue__sources *sources = call->sources;
  segue__source_state *state = call->dropped ? NULL : call->state;
  const segue__fetch_waiter *waiter = call->waiter;
  call->answered = true;
  if (state && remote_pull_whole(call, status)) {
    call->waiter = NULL;
    if (!segue__op_outstanding(op)) remote_call_free(call);
    return;
  }
  if (state) take_pull(call, status, error);
  if (!segue__op_outstanding(op)) remote_call_free(call);
  if (state && state->remote.again && state->remote.source)
    pull_soon(state, 0);
  else if (state)
    remote_schedule(state);
  if (waiter) waiter->fetched(waiter->data);
  report_health(sources);
  report_ended(sources);
}

static void pull_due(segue__timer *timer) {
  segue__source_state *state = timer->data;
  segue__sources *sources = state->sources;
  if (!state->remote.source || state->remote.pull || sources->stopping) return;
  if (segue__sources_fetch(sources, &sources->live, state->remote.source, NULL) < 0)
    remote_schedule(state);
}

static void remote_schedule(segue__source_state *state) {
  segue__sources *sources = state->sources;
  segue__remote *remote = &state->remote;
  if (!remote->source || sources->stopping) {
    segue__timer_stop(sources->loop, &remote->pull_timer);
    return;
  }
  if (remote->pull) return;
  uint64_t ms = pause_of(state);
  if (ms)
    (void)segue__timer_start(sources->loop, &remote->pull_timer, ms, pull_due);
  else
    segue__timer_stop(sources->loop, &remote->pull_timer);
}

static void pull_soon(segue__source_state *state, uint64_t ms) {
  segue__sources *sources = state->sources;
  const segue__timer *timer = &state->remote.pull_timer;
  bool sooner =
      segue__timer_active(timer) && timer->due_ms <= segue__loop_now_ms(sources->loop) + ms;
  if (state->remote.pull && !ms)
    state->remote.again = true; /* a running fetch may have started before the change */
  else if (!sooner)
    (void)segue__timer_start(sources->loop, &state->remote.pull_timer, ms, pull_due);
}

/* ---- Watching ---- */

static void remote_proved(segue__source_state *state) {
  segue__sources *sources = state->sources;
  bool before = state->remote.proven, failures = state->remote.watch_failures > 0;
  state->remote.proven = true;
  state->remote.watch_attempts = 0;
  state->remote.watch_failures = 0;
  if (before) return;
  segue__timer_stop(sources->loop, &state->remote.watch_timer);
  if (failures)
    SEGUE__LOG(sources->log, SEGUE_INFO, "source", "the source pushes again",
               SEGUE__FIELD("source", state->name));
  remote_schedule(state);
  report_health(sources);
}

/* A watch that has run for a while has proved itself, also if nothing changes. Without one, it is
 * time to try: or, where the policy wants no push for all its failures, to forget these, so that
 * the policy may think again. */
static void watch_due(segue__timer *timer) {
  segue__source_state *state = timer->data;
  segue__sources *sources = state->sources;
  if (sources->stopping || !state->remote.source) return;
  if (segue__remote_is_watched(state)) {
    remote_proved(state);
  } else if (state->push) {
    start_watch(state);
  } else {
    state->remote.watch_failures = 0;
    report_health(sources);
  }
}

/* A push that could not be taken is fetched. */
static void remote_lost(segue__source_state *state, const segue_error *err) {
  segue__source_failed(state, err);
  pull_soon(state, remote_backoff(state->sources, state->remote.source, 0));
}

static void remote_emitted(void *data, segue__emission *delivery) {
  segue__remote_call *call = data;
  segue__sources *sources = call->sources;
  segue__source_state *state = call->state;
  segue_error err = {0};
  if (call->dropped || call->answered || !state || sources->stopping) {
    segue__delivery_deinit(delivery);
    return;
  }
  remote_proved(state);
  int rc = 0;
  if (delivery->lost || segue__held_has_gap(state, delivery)) {
    state->held.forgotten = true;
    delivery->ask = true;
  }
  if (delivery->ask) {
    pull_soon(state, 0);
  } else {
    /* A push that only reports that nothing has changed brings nothing that a fetch lacks. */
    if (state->remote.pull && !delivery->unchanged) state->remote.pull->overtaken = true;
    rc = segue__held_take(state, delivery, &err);
    if (rc < 0)
      remote_lost(state, &err);
    else
      segue__source_succeeded(state);
  }
  segue__delivery_deinit(delivery);
  if (rc > 0 || (!rc && state->remote.trigger_owed)) remote_fire(state, true, "pushed");
  report_health(sources);
}

static bool may_watch(const segue__source_state *state) {
  segue__sources *sources = state->sources;
  const segue__remote *remote = &state->remote;
  return !sources->stopping && remote->source && remote->source->pushes && state->push &&
         !remote->watch;
}

static void start_watch(segue__source_state *state) {
  segue__sources *sources = state->sources;
  segue__remote *remote = &state->remote;
  if (!may_watch(state)) return;
  segue__remote_call *call =
      SEGUE_FAULT("remote.watch") ? NULL : remote_call_new(state, &sources->live, remote->source);
  remote->proven = false;
  (void)segue__timer_start(sources->loop, &remote->watch_timer, PROVEN_MS, watch_due);
  if (!call) return; /* the timer tries again */
  remote->watch = call;
  segue__op_begin(&call->op, sources->loop, 0, watch_over, remote_through, NULL);
  remote->source->kind->remote->watch(remote->source, segue__held_revision(state), &call->emitter,
                                      &call->op);
  pull_soon(state, 0); /* changes from before it began to watch */
}

static void watch_failed(segue__source_state *state, int status, const segue_error *error) {
  segue__sources *sources = state->sources;
  segue__remote *remote = &state->remote;
  char text[1024];
  if (status < 0)
    remote->watch_error = *error;
  else
    segue__errorf(&remote->watch_error, SEGUE_ESOURCE, "the watch ended by itself");
  sources->options.scrub(sources->options.data, &remote->watch_error);
  segue__error_source(&remote->watch_error, state->name);
  remote->proven = false;
  remote->watch_failures++;
  if (status == SEGUE_EGONE && !remote->watch_attempts++) {
    /* As for a fetch: start_watch passes no revision, and everything is fetched beside it. */
    state->held.forgotten = true;
    remote->watch_failures = 0;
    (void)segue__timer_start(sources->loop, &remote->watch_timer, 1, watch_due);
    return;
  }
  if (status == SEGUE_EGONE) remote->watch_attempts--;
  uint64_t ms = remote_backoff(sources, remote->source, remote->watch_attempts++);
  segue_error_format(&remote->watch_error, text, sizeof text);
  SEGUE__LOG(sources->log, SEGUE_WARN, "source",
             "the source has stopped pushing: it is polled meanwhile",
             SEGUE__FIELD("source", state->name), SEGUE__FIELD("error", text),
             SEGUE__FIELD("again_ms", ms));
  (void)segue__timer_start(sources->loop, &remote->watch_timer, ms, watch_due);
  if (!remote->pull) pull_soon(state, remote_backoff(sources, remote->source, 0));
}

static void watch_over(segue_op *op, int status, const segue_error *error) {
  segue__remote_call *call = (segue__remote_call *)op;
  segue__sources *sources = call->sources;
  segue__source_state *state = call->dropped ? NULL : call->state;
  call->answered = true;
  if (state && state->remote.source && !sources->stopping) {
    segue_error shown = {0};
    if (error) shown = *error;
    remote_conceal(call, &shown);
    watch_failed(state, status, &shown);
  }
  if (!segue__op_outstanding(op)) end_call(call);
  report_health(sources);
  report_ended(sources);
}

void segue__remote_decided(segue__source_state *state) {
  segue__remote *remote = &state->remote;
  if (!remote->source) return;
  if (!state->push) remote_drop(remote->watch);
  if (state->push && !segue__timer_active(&remote->watch_timer)) start_watch(state);
  if (!segue__timer_active(&remote->pull_timer)) remote_schedule(state);
}

/* ---- Policies come and go ---- */

void segue__remote_init(segue__source_state *state) {
  state->remote.pull_timer.data = state->remote.watch_timer.data = state;
}

void segue__remote_settle(segue__source_state *state, const segue__source *source) {
  segue__remote *remote = &state->remote;
  if (remote->source == source) return;
  remote->source = source;
  remote_drop(remote->pull);
  remote_drop(remote->watch);
  if (!state->sources->live.strategy) state->push = source->pushes;
  if (!segue__timer_active(&remote->watch_timer) || remote->proven) {
    segue__timer_stop(state->sources->loop, &remote->watch_timer);
    start_watch(state);
  }
  if (!segue__timer_active(&remote->pull_timer)) remote_schedule(state);
}

void segue__remote_halt(segue__source_state *state) {
  segue__sources *sources = state->sources;
  segue__timer_stop(sources->loop, &state->remote.pull_timer);
  segue__timer_stop(sources->loop, &state->remote.watch_timer);
  state->remote.source = NULL;
  remote_drop(state->remote.pull);
  remote_drop(state->remote.watch);
}

void segue__sources_stop(segue__sources *sources) {
  sources->stopping = true;
  for (size_t i = 0; i < sources->count; i++)
    segue__remote_halt(sources->items[i]);
  for (segue__remote_call *call = sources->calls; call; call = call->next)
    if (!call->waiter) remote_drop(call);
}

bool segue__sources_waiting(const segue__sources *sources) {
  for (const segue__remote_call *call = sources->calls; call; call = call->next)
    if (!call->answered) return true;
  return false;
}

bool segue__sources_busy(const segue__sources *sources) {
  return sources->calls != NULL;
}

size_t segue__sources_abandon(segue__sources *sources) {
  size_t coming = 0;
  for (segue__remote_call *call = sources->calls; call; call = call->next)
    if (!segue__op_orphan(&call->op)) coming++;
  return coming;
}

bool segue__sources_want(segue__sources *sources, const char *name, const char *const *names,
                         size_t count) {
  for (size_t i = 0; i < sources->count; i++) {
    segue__source_state *state = sources->items[i];
    const segue__source *source = state->trial ? NULL : state->remote.source;
    if (!source || strcmp(state->name, name) != 0 || !source->kind->remote->want) continue;
    if (!source->kind->remote->want(source, names, count)) return false;
    pull_soon(state, 0); /* what is wanted from now on may never have been delivered */
    return true;
  }
  return false;
}

/* A set that was rejected is freed soon: the source of the same name in the live set gets the
 * outcome in its place. */
static const segue__source *reported_source(const segue__sources *sources,
                                            const segue__source_set *set,
                                            const segue__source *source) {
  const segue__source_set *live = &sources->live;
  for (size_t i = 0; live->owner != set->owner && i < live->count; i++) {
    const segue__source *other = &live->items[i];
    if (other->kind == source->kind && !strcmp(other->name, source->name)) return other;
  }
  return source;
}

/* A plan is no outcome, and a run that restores an older generation uses no delivery: it must not
 * report the one that the plan looked at. */
void segue__sources_report(segue__sources *sources, const segue__source_set *set,
                           const segue_source_outcome *outcome) {
  for (size_t i = 0; i < set->count; i++) {
    const segue__source *source = &set->items[i];
    if (!source->kind->remote || !source->kind->remote->outcome) continue;
    segue__source_state *state = segue__source_find(sources, set, source);
    if (!state || !segue__held_take_used(state)) continue;
    if (!outcome) continue;
    segue_source_outcome own = *outcome;
    own.revision = state->held.used;
    source->kind->remote->outcome(reported_source(sources, set, source), &own);
  }
}
