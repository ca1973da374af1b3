/* SPDX-License-Identifier: MIT
 *
 * The watches of sources that push: how they begin, prove that they live, end and begin again. A
 * watch that is silent for longer than its idle limit, or that did not deliver what a fetch found,
 * is started again: a connection that died without a word looks like a store where nothing changes.
 */
#include <string.h>
#include <uv.h>

#include "../os/fault.h"
#include "sources_internal.h"

enum {
  PROVEN_MS = 5000,
  MISSED_MS = 5000 /* for a push that was on its way when a fetch found its change */
};

static void life_due(segue__timer *timer);
static void watch_over(segue_op *op, int status, const segue_error *error);

static void watch_report_health(const segue__sources *sources) {
  sources->options.on_health(sources->options.data);
}

static uint64_t watch_now(const segue__source_state *state) {
  return segue__loop_now_ms(state->sources->loop);
}

static uint64_t retry_min(const segue__source *source) {
  return source->retry_min_ms ? source->retry_min_ms : SEGUE__RETRY_MIN_MS;
}

/* ---- Proofs of life ---- */

static void watch_proved(segue__source_state *state) {
  segue__sources *sources = state->sources;
  segue__remote *remote = &state->remote;
  bool before = remote->proven, failures = remote->watch_failures > 0;
  remote->proven = true;
  remote->watch_attempts = remote->watch_denials = 0;
  remote->watch_failures = 0;
  if (before) return;
  segue__timer_stop(sources->loop, &remote->watch_timer);
  if (failures)
    SEGUE__LOG(sources->log, SEGUE_INFO, "source", "the source pushes again",
               SEGUE__FIELD("source", state->name));
  segue__remote_schedule(state);
  watch_report_health(sources);
}

/* A watch that has run for a while has proved itself, also if nothing changes. Without one, it is
 * time to try: or, where the policy wants no push for all its failures, to forget these, so that
 * the policy may think again. */
void segue__watch_due(segue__timer *timer) {
  segue__source_state *state = timer->data;
  segue__sources *sources = state->sources;
  if (sources->stopping || !state->remote.source) return;
  if (segue__remote_is_watched(state)) {
    watch_proved(state);
  } else if (state->push) {
    segue__watch_start(state);
  } else {
    state->remote.watch_failures = 0;
    watch_report_health(sources);
  }
}

/* Sets the timer to the first moment at which the silence of the watch may be too long. An emission
 * sets no timer: when this one is due, it is set again for the rest. */
static void life_arm(segue__source_state *state) {
  segue__remote *remote = &state->remote;
  uint64_t idle = remote->source->idle_ms, now = watch_now(state);
  uint64_t due = idle ? remote->alive_ms + idle : UINT64_MAX;
  if (remote->missed_ms && remote->missed_ms < due) due = remote->missed_ms;
  if (due == UINT64_MAX)
    segue__timer_stop(state->sources->loop, &remote->life_timer);
  else
    (void)segue__timer_start(state->sources->loop, &remote->life_timer, due > now ? due - now : 0,
                             life_due);
}

/* The end of the call starts the next watch (segue__remote_end_call). If the source does not end
 * it, it is polled like a source without a watch. */
static void watch_restart(segue__source_state *state, const char *why) {
  segue__sources *sources = state->sources;
  segue__remote *remote = &state->remote;
  remote->restarts++;
  remote->proven = remote->continues = false;
  remote->missed_ms = 0;
  SEGUE__LOG(sources->log, SEGUE_WARN, "source", why, SEGUE__FIELD("source", state->name),
             SEGUE__FIELD("silent_ms", watch_now(state) - remote->alive_ms));
  segue__remote_drop(remote->watch);
  segue__remote_schedule(state);
  watch_report_health(sources);
}

static void life_due(segue__timer *timer) {
  segue__source_state *state = timer->data;
  segue__remote *remote = &state->remote;
  uint64_t now = watch_now(state);
  if (state->sources->stopping || !remote->source || !segue__remote_is_watched(state)) return;
  if (remote->missed_ms && now >= remote->missed_ms)
    watch_restart(state, "a fetch has found a change that the watch did not push: the watch is "
                         "started again");
  else if (remote->source->idle_ms && now >= remote->alive_ms + remote->source->idle_ms)
    watch_restart(state, "the watch is silent for longer than its idle limit: it is started again");
  else
    life_arm(state);
}

/* A fetch may overtake the push of the same change, so the watch gets some time to emit it. */
void segue__watch_missed(segue__source_state *state) {
  if (!segue__remote_is_watched(state) || state->remote.missed_ms) return;
  state->remote.missed_ms = watch_now(state) + MISSED_MS;
  life_arm(state);
}

/* ---- Emissions ---- */

/* A push that could not be taken is fetched. */
static void watch_lost(segue__source_state *state, const segue_error *err) {
  segue__source_failed(state, err);
  segue__remote_pull_soon(state, segue__remote_backoff(state->sources, state->remote.source, 0),
                          true);
}

/* Returns whether only a fetch brings what is missing. */
static bool watch_asks(segue__source_state *state, const segue__emission *delivery) {
  bool gap = segue__held_has_gap(state, delivery);
  if (delivery->lost)
    segue__remote_forget(state, SEGUE__RESYNC_OVERFLOW);
  else if (gap)
    segue__remote_forget(state, SEGUE__RESYNC_GAP);
  return delivery->ask || gap;
}

/* Takes what a watch has emitted. Returns 1 if the content is another one, 0 or a negative code. */
static int watch_take(segue__source_state *state, segue__emission *delivery) {
  segue_error err = {0};
  /* A push that only reports that nothing has changed brings nothing that a fetch lacks. */
  if (state->remote.pull && !delivery->unchanged) state->remote.pull->overtaken = true;
  int rc = segue__held_take(state, delivery, &err);
  if (rc < 0)
    watch_lost(state, &err);
  else
    segue__source_succeeded(state);
  return rc;
}

void segue__watch_emitted(void *data, segue__emission *delivery) {
  segue__remote_call *call = data;
  segue__sources *sources = call->sources;
  segue__source_state *state = call->state;
  if (call->dropped || call->answered || !state || sources->stopping) {
    segue__delivery_deinit(delivery);
    return;
  }
  watch_proved(state);
  state->remote.alive_ms = watch_now(state);
  if (!delivery->unchanged) state->remote.missed_ms = 0;
  state->events += !delivery->unchanged;
  int rc = 0;
  if (watch_asks(state, delivery))
    segue__remote_pull_soon(state, 0, true);
  else if (!delivery->unchanged || state->held.has) /* else it only shows that it lives */
    rc = watch_take(state, delivery);
  segue__delivery_deinit(delivery);
  if (rc > 0 || (!rc && state->remote.trigger_owed)) segue__remote_fire(state, true, "pushed");
  watch_report_health(sources);
}

/* ---- Begin and end ---- */

static bool may_watch(const segue__source_state *state) {
  segue__sources *sources = state->sources;
  const segue__remote *remote = &state->remote;
  return !sources->stopping && remote->source && remote->source->pushes && state->push &&
         !remote->watch;
}

void segue__watch_start(segue__source_state *state) {
  segue__sources *sources = state->sources;
  segue__remote *remote = &state->remote;
  uint64_t busy = segue__remote_busy_ms(state);
  if (!may_watch(state)) return;
  if (!remote->continues) remote->proven = false;
  (void)segue__timer_start(sources->loop, &remote->watch_timer, busy ? busy : PROVEN_MS,
                           segue__watch_due);
  if (busy) return;
  segue__remote_call *call = SEGUE_FAULT("remote.watch")
                                 ? NULL
                                 : segue__remote_call_new(state, &sources->live, remote->source);
  if (!call) return; /* the timer tries again */
  remote->watch = call;
  remote->continues = false;
  remote->began_ms = remote->alive_ms = watch_now(state);
  remote->missed_ms = 0;
  life_arm(state);
  segue__op_begin(&call->op, sources->loop, 0, watch_over, segue__remote_finished, NULL);
  const char *revision = segue__held_revision(state);
  remote->source->kind->remote->watch(remote->source, revision, &call->emitter, &call->op);
  /* Changes from before it began to watch. A watch that resumes emits them. */
  if (!remote->source->resumes || !revision) segue__remote_pull_soon(state, 0, true);
}

/* The time limit of a server, or of a proxy, ends watches all the time. The next one begins at once
 * where this one has lasted; else a server that ends each watch at once would be asked in a loop.
 */
static void watch_ended(segue__source_state *state) {
  segue__remote *remote = &state->remote;
  uint64_t ran = watch_now(state) - remote->began_ms, least = retry_min(remote->source), ms = 1;
  remote->continues = remote->proven && ran >= least;
  if (ran >= least)
    remote->watch_attempts = 0;
  else
    ms = least - ran +
         segue__remote_backoff(state->sources, remote->source, remote->watch_attempts++);
  (void)segue__timer_start(state->sources->loop, &remote->watch_timer, ms, segue__watch_due);
}

static void note_failure(segue__source_state *state, int status, const segue_error *error) {
  const segue__sources *sources = state->sources;
  segue__remote *remote = &state->remote;
  if (status < 0)
    remote->watch_error = *error;
  else
    segue__errorf(&remote->watch_error, SEGUE_ESOURCE, "the watch ended by itself");
  sources->options.scrub(sources->options.data, &remote->watch_error);
  segue__error_source(&remote->watch_error, state->name);
  remote->proven = false;
  remote->watch_failures++;
}

/* Refused credentials are read again once, at once; then the watch is tried seldom, and one line of
 * the log reports it. Returns how long to wait. */
static uint64_t watch_denied(segue__source_state *state) {
  segue__remote *remote = &state->remote;
  char text[1024];
  if (++remote->watch_denials == 1) {
    remote->watch_failures--;
    return 1;
  }
  state->failed[SEGUE__FAILURE_DENIED]++;
  segue_error_format(&remote->watch_error, text, sizeof text);
  if (remote->watch_denials == 2)
    SEGUE__LOG(state->sources->log, SEGUE_ERROR, "source",
               "the source refuses the credentials of the watch: it is polled meanwhile",
               SEGUE__FIELD("source", state->name), SEGUE__FIELD("error", text));
  return segue__remote_longest(state->sources, remote->source);
}

static uint64_t watch_away(segue__source_state *state, int status) {
  segue__sources *sources = state->sources;
  segue__remote *remote = &state->remote;
  char text[1024];
  uint64_t ms = segue__remote_backoff(sources, remote->source, remote->watch_attempts++);
  uint64_t busy = segue__remote_busy_ms(state);
  if (ms < busy) ms = busy;
  state->failed[segue__failure_kind_of(status)]++;
  segue_error_format(&remote->watch_error, text, sizeof text);
  SEGUE__LOG(sources->log, SEGUE_WARN, "source",
             "the source has stopped pushing: it is polled meanwhile",
             SEGUE__FIELD("source", state->name), SEGUE__FIELD("error", text),
             SEGUE__FIELD("again_ms", ms));
  return ms;
}

static void watch_failed(segue__source_state *state, int status, const segue_error *error) {
  segue__sources *sources = state->sources;
  segue__remote *remote = &state->remote;
  note_failure(state, status, error);
  if (status == SEGUE_EGONE && !remote->watch_attempts++) {
    /* As for a fetch: the next watch gets no revision, and everything is fetched beside it. */
    segue__remote_forget(state, SEGUE__RESYNC_GONE);
    remote->watch_failures = 0;
    (void)segue__timer_start(sources->loop, &remote->watch_timer, 1, segue__watch_due);
    return;
  }
  if (status == SEGUE_EGONE) remote->watch_attempts--;
  uint64_t ms = status == SEGUE_EDENIED ? watch_denied(state) : watch_away(state, status);
  (void)segue__timer_start(sources->loop, &remote->watch_timer, ms, segue__watch_due);
  if (!remote->pull && ms > 1)
    segue__remote_pull_soon(state, segue__remote_backoff(sources, remote->source, 0), true);
}

static void watch_over(segue_op *op, int status, const segue_error *error) {
  segue__remote_call *call = (segue__remote_call *)op;
  segue__sources *sources = call->sources;
  segue__source_state *state = call->dropped ? NULL : call->state;
  call->answered = true;
  if (state && state->remote.source && !sources->stopping) {
    segue_error shown = {0};
    if (error) shown = *error;
    segue__remote_conceal(call, &shown);
    segue__remote_note_busy(state, op, status);
    if (status == SEGUE_EENDED)
      watch_ended(state);
    else
      watch_failed(state, status, &shown);
  }
  if (!segue__op_outstanding(op)) segue__remote_end_call(call);
  watch_report_health(sources);
  sources->options.on_ended(sources->options.data);
}

void segue__remote_decided(segue__source_state *state) {
  segue__remote *remote = &state->remote;
  if (!remote->source) return;
  if (!state->push) segue__remote_drop(remote->watch);
  if (state->push && !segue__timer_active(&remote->watch_timer)) segue__watch_start(state);
  if (!segue__timer_active(&remote->pull_timer)) segue__remote_schedule(state);
}
