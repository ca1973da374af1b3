/* SPDX-License-Identifier: MIT
 *
 * The life of asynchronous sources: calls, fetches and their timers; remote_watch.c has the
 * watches. See sources.h for the rules. Each call ends once, in `remote_pulled` or `watch_over`,
 * also if the source answers late, twice or never; each delivery goes to held.c.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../os/fault.h"
#include "sources_internal.h"

enum {
  FALLBACK_MS = 30000,
  BUSY_MOST_MS = 3600000,
  STUCK_MAX = 4 /* abandoned fetches that have not returned */
};

static void remote_pulled(segue_op *op, int status, const segue_error *error);

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
uint64_t segue__remote_backoff(segue__sources *sources, const segue__source *source,
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

uint64_t segue__remote_longest(segue__sources *sources, const segue__source *source) {
  return remote_jittered(sources,
                         source->retry_max_ms ? source->retry_max_ms : SEGUE__RETRY_MAX_MS);
}

uint64_t segue__remote_busy_ms(const segue__source_state *state) {
  uint64_t now = segue__loop_now_ms(state->sources->loop), until = state->remote.busy_until_ms;
  return until > now ? until - now : 0;
}

/* The thread of the source may write to an operation that was abandoned: its status is another one
 * then. */
void segue__remote_note_busy(segue__source_state *state, const segue_op *op, int status) {
  if (status >= 0) state->remote.busy_until_ms = 0;
  if (status != SEGUE_EBUSY) return;
  uint64_t ms = op->retry_ms < BUSY_MOST_MS ? op->retry_ms : (uint64_t)BUSY_MOST_MS;
  state->remote.busy_until_ms = segue__loop_now_ms(state->sources->loop) + ms;
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
    return segue__remote_longest(sources, source);
  if (state->consecutive_failures)
    return segue__remote_backoff(sources, source, state->consecutive_failures - 1);
  if (segue__remote_is_watched(state) && state->remote.proven)
    return remote_jittered(sources, source->safety_ms ? source->safety_ms : SEGUE__SAFETY_MS);
  if (source->interval_ms) return remote_jittered(sources, source->interval_ms);
  return state->push && source->pushes ? remote_jittered(sources, FALLBACK_MS) : 0;
}

/* ---- Calls ---- */

segue__remote_call *segue__remote_call_new(segue__source_state *state, const segue__source_set *set,
                                           const segue__source *source) {
  segue__sources *sources = state->sources;
  segue__remote_call *call = segue__calloc(1, sizeof *call);
  if (!call) return NULL;
  call->sources = sources;
  call->set = *set;
  sources->options.hold(set->owner);
  call->source = source;
  call->state = state;
  segue__emitter_init(&call->emitter, sources->loop, segue__watch_emitted, call);
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
void segue__remote_drop(segue__remote_call *call) {
  if (!call || call->dropped) return;
  call->dropped = true;
  call->waiter = NULL;
  segue__emitter_close(&call->emitter);
  if (call->state && call->state->remote.pull == call) call->state->remote.pull = NULL;
  segue__op_cancel(&call->op, SEGUE_ECANCELLED);
}

/* A watch keeps its place until it has returned, so that a source has one watch at most. */
void segue__remote_end_call(segue__remote_call *call) {
  segue__source_state *state = call->state;
  bool watched = state && state->remote.watch == call;
  if (watched) state->remote.watch = NULL;
  bool dropped = call->dropped;
  remote_call_free(call);
  if (watched && dropped) segue__watch_start(state);
}

void segue__remote_finished(segue_op *op) {
  segue__sources *sources = ((segue__remote_call *)op)->sources;
  segue__remote_end_call((segue__remote_call *)op);
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
void segue__remote_fire(segue__source_state *state, bool pushed, const char *what) {
  segue__sources *sources = state->sources;
  char cause[300];
  snprintf(cause, sizeof cause, "%.200s %s", state->name, what);
  int rc = sources->options.changed(sources->options.data, state->remote.source, pushed, cause);
  state->remote.trigger_owed = rc < 0 && rc != SEGUE_ECLOSED;
  if (!state->remote.trigger_owed) return;
  SEGUE__LOG(sources->log, SEGUE_ERROR, "source", "what a source delivered cannot be taken up yet",
             SEGUE__FIELD("source", state->name), SEGUE__FIELD("error", segue_strerror(rc)));
  segue__remote_pull_soon(state, SEGUE__RETRY_MIN_MS, false);
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
  segue__remote_drop(state->remote.pull);
  segue__timer_stop(sources->loop, &state->remote.pull_timer);
  if (remote_stuck(state) >= STUCK_MAX) return UV_EAGAIN;
  segue__remote_call *call =
      SEGUE_FAULT("remote.fetch") ? NULL : segue__remote_call_new(state, set, source);
  if (!call) return UV_ENOMEM;
  /* A run leaves time for what comes after: parsing and merging. */
  uint64_t ms = waiter ? set->fetch_ms - set->fetch_ms / 4 : set->fetch_ms;
  if (source->kind->remote->timed && source->timeout_ms && source->timeout_ms < ms)
    ms = source->timeout_ms;
  call->checks = segue__remote_is_watched(state) && state->remote.proven && !state->remote.asked;
  state->remote.pull = call;
  state->remote.again = state->remote.asked = false;
  call->waiter = waiter;
  segue__op_begin(&call->op, sources->loop, ms, remote_pulled, segue__remote_finished, NULL);
  call->whole = !state->held.has || state->held.forgotten;
  source->kind->remote->fetch(source, segue__held_revision(state), &call->delivery, &call->op);
  return 0;
}

bool segue__sources_is_busy(const segue__sources *sources, const segue__source_set *set,
                            const segue__source *source) {
  const segue__source_state *state = segue__source_find(sources, set, source);
  return state && segue__remote_busy_ms(state) > 0;
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
    if (call->waiter == waiter) segue__remote_drop(call);
}

/* An error of a script may quote a document that was not live yet, so that no mask knows its
 * secrets. */
void segue__remote_conceal(const segue__remote_call *call, segue_error *error) {
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
    segue__remote_conceal(call, &reported);
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
  segue__remote_note_busy(state, &call->op, status);
  if (rc > 0 && call->checks) segue__watch_missed(state);
  if (rc < 0 || call->waiter || !state->remote.source) return;
  if (rc > 0 || state->remote.trigger_owed)
    segue__remote_fire(state, false, "changed");
  else if (was_away && state->held.went_on_without)
    segue__remote_fire(state, false, "is back");
}

void segue__remote_forget(segue__source_state *state, segue__resync_reason reason) {
  state->held.forgotten = true;
  state->resyncs[reason]++;
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
  segue__remote_forget(state, gap ? SEGUE__RESYNC_GAP : SEGUE__RESYNC_GONE);
  state->remote.pull = NULL;
  return segue__sources_fetch(sources, &call->set, call->source, call->waiter) == 0;
}

/* The credentials may have been replaced between the moment when the source read them and that when
 * the server looked: the source is called again at once, also for a run that waits, and reads them
 * again. */
static bool remote_pull_denied(segue__remote_call *call, int status) {
  segue__source_state *state = call->state;
  bool known = state->consecutive_failures && state->error.code == SEGUE_EDENIED;
  if (status != SEGUE_EDENIED || call->second || known) return false;
  state->remote.pull = NULL;
  if (segue__sources_fetch(call->sources, &call->set, call->source, call->waiter) < 0) return false;
  assert(state->remote.pull); /* its answer is a message: it never comes inside the call above */
  state->remote.pull->second = true;
  return true;
}

static void remote_pulled(segue_op *op, int status, const segue_error *error) {
  segue__remote_call *call = (segue__remote_call *)op;
  segue__sources *sources = call->sources;
  segue__source_state *state = call->dropped ? NULL : call->state;
  const segue__fetch_waiter *waiter = call->waiter;
  call->answered = true;
  if (state && (remote_pull_whole(call, status) || remote_pull_denied(call, status))) {
    call->waiter = NULL;
    if (!segue__op_outstanding(op)) remote_call_free(call);
    return;
  }
  if (state) take_pull(call, status, error);
  if (!segue__op_outstanding(op)) remote_call_free(call);
  if (state && state->remote.again && state->remote.source)
    segue__remote_pull_soon(state, 0, false);
  else if (state)
    segue__remote_schedule(state);
  if (waiter) waiter->fetched(waiter->data);
  report_health(sources);
  report_ended(sources);
}

static void pull_due(segue__timer *timer) {
  segue__source_state *state = timer->data;
  segue__sources *sources = state->sources;
  if (!state->remote.source || state->remote.pull || sources->stopping) return;
  if (segue__sources_fetch(sources, &sources->live, state->remote.source, NULL) < 0)
    segue__remote_schedule(state);
}

void segue__remote_schedule(segue__source_state *state) {
  segue__sources *sources = state->sources;
  segue__remote *remote = &state->remote;
  if (!remote->source || sources->stopping) {
    segue__timer_stop(sources->loop, &remote->pull_timer);
    return;
  }
  if (remote->pull) return;
  uint64_t ms = pause_of(state), busy = segue__remote_busy_ms(state);
  if (ms && ms < busy) ms = busy;
  if (ms)
    (void)segue__timer_start(sources->loop, &remote->pull_timer, ms, pull_due);
  else
    segue__timer_stop(sources->loop, &remote->pull_timer);
}

void segue__remote_pull_soon(segue__source_state *state, uint64_t ms, bool asked) {
  segue__sources *sources = state->sources;
  const segue__timer *timer = &state->remote.pull_timer;
  uint64_t busy = segue__remote_busy_ms(state);
  if (ms < busy) ms = busy;
  state->remote.asked |= asked;
  bool sooner =
      segue__timer_active(timer) && timer->due_ms <= segue__loop_now_ms(sources->loop) + ms;
  if (state->remote.pull && !ms)
    state->remote.again = true; /* a running fetch may have started before the change */
  else if (!sooner)
    (void)segue__timer_start(sources->loop, &state->remote.pull_timer, ms, pull_due);
}

/* ---- Policies come and go ---- */

void segue__remote_init(segue__source_state *state) {
  state->remote.pull_timer.data = state->remote.watch_timer.data = state;
  state->remote.life_timer.data = state;
}

void segue__remote_settle(segue__source_state *state, const segue__source *source) {
  segue__remote *remote = &state->remote;
  if (remote->source == source) return;
  remote->source = source;
  segue__remote_drop(remote->pull);
  segue__remote_drop(remote->watch);
  if (!state->sources->live.strategy) state->push = source->pushes;
  if (!segue__timer_active(&remote->watch_timer) || remote->proven) {
    segue__timer_stop(state->sources->loop, &remote->watch_timer);
    segue__watch_start(state);
  }
  if (!segue__timer_active(&remote->pull_timer)) segue__remote_schedule(state);
}

void segue__remote_halt(segue__source_state *state) {
  segue__sources *sources = state->sources;
  segue__timer_stop(sources->loop, &state->remote.pull_timer);
  segue__timer_stop(sources->loop, &state->remote.watch_timer);
  segue__timer_stop(sources->loop, &state->remote.life_timer);
  state->remote.source = NULL;
  segue__remote_drop(state->remote.pull);
  segue__remote_drop(state->remote.watch);
}

void segue__sources_stop(segue__sources *sources) {
  sources->stopping = true;
  for (size_t i = 0; i < sources->count; i++)
    segue__remote_halt(sources->items[i]);
  for (segue__remote_call *call = sources->calls; call; call = call->next)
    if (!call->waiter) segue__remote_drop(call);
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
    /* The documents of new names may never have been delivered. */
    segue__remote_pull_soon(state, 0, true);
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
