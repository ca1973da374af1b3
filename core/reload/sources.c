/* SPDX-License-Identifier: MIT
 *
 * The engine's list of sources and their state. A source is identified by name, kind and, for a
 * source on a network, its options, so that the delivery of one source is never used for another.
 */
#include <string.h>
#include <uv.h>

#include "remote.h"
#include "txn.h"

static void sources_free_state(segue__engine *engine, segue__source_state *state);

static bool sources_is_of(const segue__source_state *state, const segue__source *source) {
  return state->kind == source->kind && !strcmp(state->name, source->name) &&
         segue__hash_equal(state->spec, source->spec);
}

/* Returns the policy as the owner of a trial state, or NULL for the live policy. While no policy is
 * live, the policy that is tried counts as live. */
static const segue__policy *trial_of(const segue__engine *engine, const segue__policy *policy) {
  return engine->policy && policy != engine->policy ? policy : NULL;
}

static segue__source_state *sources_find(const segue__engine *engine, const segue__policy *trial,
                                         const segue__source *source) {
  for (size_t i = 0; i < engine->source_count; i++)
    if (engine->sources[i]->trial == trial && sources_is_of(engine->sources[i], source))
      return engine->sources[i];
  return NULL;
}

segue__source_state *segue__source_find(const segue__engine *engine, const segue__policy *policy,
                                        const segue__source *source) {
  return sources_find(engine, trial_of(engine, policy), source);
}

static bool sources_make_room(segue__engine *engine) {
  segue__source_state **more =
      segue__realloc(engine->sources, (engine->source_count + 1) * sizeof *more);
  if (more) engine->sources = more;
  return more != NULL;
}

static int copy_held(segue__source_state *to, const segue__source_state *from) {
  for (size_t i = 0; i < from->documents.count; i++) {
    segue__document *doc = segue__document_ref(from->documents.items[i]);
    if (segue__documents_add(&to->documents, doc) < 0) return UV_ENOMEM;
  }
  to->remote.revision = segue__strdup(from->remote.revision);
  to->remote.has = from->remote.has;
  to->fetches = from->fetches;
  to->last_success_wall_ms = from->last_success_wall_ms;
  to->consecutive_failures = from->consecutive_failures;
  to->error = from->error;
  return to->remote.revision || !from->remote.revision ? 0 : UV_ENOMEM;
}

segue__source_state *segue__source_get(segue__engine *engine, const segue__policy *policy,
                                       const segue__source *source) {
  const segue__policy *trial = trial_of(engine, policy);
  const segue__source_state *live = trial ? sources_find(engine, NULL, source) : NULL;
  segue__source_state *state = sources_find(engine, trial, source);
  if (state || !sources_make_room(engine)) return state;
  state = segue__calloc(1, sizeof *state);
  if (!state) return NULL;
  state->kind = source->kind;
  state->spec = source->spec;
  state->trial = trial;
  state->remote.engine = engine;
  state->remote.pull_timer.data = state->remote.watch_timer.data = state;
  state->name = segue__strdup(source->name);
  if (!state->name || (live && copy_held(state, live) < 0)) {
    sources_free_state(engine, state);
    return NULL;
  }
  engine->sources[engine->source_count++] = state;
  return state;
}

/* Moves the delivery of a trial to the state that owns the timer and the watch. */
static void sources_hand_over(segue__source_state *from, segue__source_state *to) {
  segue__documents documents = to->documents;
  char *revision = to->remote.revision;
  to->documents = from->documents;
  to->remote.revision = from->remote.revision;
  from->documents = documents;
  from->remote.revision = revision;
  char *used = to->remote.used;
  to->remote.used = from->remote.used;
  from->remote.used = used;
  to->remote.was_used = from->remote.was_used;
  to->remote.forgotten = from->remote.forgotten;
  to->remote.has = from->remote.has;
  to->remote.went_on_without = from->remote.went_on_without;
  to->failures += from->failures;
  to->fetches = from->fetches;
  to->consecutive_failures = from->consecutive_failures;
  to->last_success_wall_ms = from->last_success_wall_ms;
  to->error = from->error;
  to->content = from->content;
}

void segue__sources_settle(segue__engine *engine) {
  for (size_t i = 0; i < engine->policy->source_count; i++) {
    const segue__source *source = &engine->policy->sources[i];
    segue__source_state *tried = sources_find(engine, engine->policy, source);
    segue__source_state *live = sources_find(engine, NULL, source);
    if (tried && live)
      sources_hand_over(tried, live);
    else if (tried)
      tried->trial = NULL;
  }
  segue__sources_forget(engine);
}

static void sources_free_state(segue__engine *engine, segue__source_state *state) {
  segue__remote_halt(engine, state);
  for (segue__remote_call *call = engine->remote_calls; call; call = call->next)
    if (call->state == state) call->state = NULL;
  segue__documents_deinit(&state->documents);
  segue__free(state->remote.revision);
  segue__free(state->remote.used);
  segue__free(state->name);
  segue__free(state);
}

static bool sources_is_live(const segue__engine *engine, const segue__source_state *state) {
  for (size_t i = 0; !state->trial && i < engine->policy->source_count; i++)
    if (sources_is_of(state, &engine->policy->sources[i])) return true;
  return false;
}

void segue__sources_forget(segue__engine *engine) {
  for (size_t i = 0; engine->policy && i < engine->source_count;) {
    segue__source_state *state = engine->sources[i];
    if (sources_is_live(engine, state)) {
      i++;
    } else {
      sources_free_state(engine, state);
      engine->sources[i] = engine->sources[--engine->source_count];
    }
  }
}

void segue__sources_free(segue__engine *engine) {
  for (size_t i = 0; i < engine->source_count; i++)
    sources_free_state(engine, engine->sources[i]);
  segue__free(engine->sources);
  engine->sources = NULL;
  engine->source_count = 0;
}

uint64_t segue__source_failures(const segue__source_state *state) {
  return state->consecutive_failures + state->remote.watch_failures;
}

bool segue__source_up(const segue__source_state *state) {
  return state->fetches > 0 && !state->consecutive_failures && !state->content.code;
}

bool segue__source_is_held(const segue__engine *engine, const segue__policy *policy,
                           const segue__source *source, segue_error *why) {
  const segue__source_state *state =
      source->kind->remote ? segue__source_find(engine, policy, source) : NULL;
  if (!state || !state->consecutive_failures || (!state->remote.has && !source->optional))
    return false;
  int64_t wall = segue__loop_wall_ms(engine->loop), since = state->last_success_wall_ms;
  *why = state->error;
  if (state->remote.has)
    segue__errorf(why, state->error.code, "%.300s; what %.100s delivered %lld s ago is held",
                  state->error.message, state->name,
                  wall > since ? (long long)((wall - since) / 1000) : 0LL);
  else
    segue__errorf(why, state->error.code, "%.300s; %.100s is optional, and goes without",
                  state->error.message, state->name);
  segue__error_source(why, state->name);
  return true;
}

/* Adds to every outcome, after its reasons, which sources are away and use a cached delivery. */
void segue__sources_report(segue__txn *txn) {
  for (size_t i = 0; txn->policy && i < txn->policy->source_count; i++) {
    segue_error error;
    if (!segue__source_is_held(txn->engine, txn->policy, &txn->policy->sources[i], &error))
      continue;
    txn->result->away++;
    segue__txn_report(txn, &error);
  }
}

/* ---- Looking ---- */

size_t segue__engine_source_count(const segue__engine *engine) {
  size_t count = 0;
  for (size_t i = 0; i < engine->source_count; i++)
    count += !engine->sources[i]->trial;
  return count;
}

static const segue__source_state *sources_nth(const segue__engine *engine, size_t index) {
  size_t i = 0;
  while (engine->sources[i]->trial || index--)
    i++;
  return engine->sources[i];
}

static const char *sources_activity(const segue__source_state *state) {
  const segue__remote *remote = &state->remote;
  if (remote->pull) return "fetching";
  if (remote->watch && !remote->watch->answered && !remote->watch->dropped) return "watching";
  return segue__source_failures(state) && remote->source ? "backing off" : "idle";
}

static const segue_error *sources_trouble(const segue__source_state *state) {
  if (state->error.code) return &state->error;
  if (state->content.code) return &state->content;
  return state->remote.watch_failures ? &state->remote.watch_error : NULL;
}

void segue__engine_source_status(const segue__engine *engine, size_t index,
                                 segue__source_status *out) {
  const segue__source_state *state = sources_nth(engine, index);
  uint64_t now = segue__loop_now_ms(engine->loop);
  int64_t wall = segue__loop_wall_ms(engine->loop);
  bool pulls = segue__timer_active(&state->remote.pull_timer);
  *out = (segue__source_status){
      .name = state->name,
      .kind = state->kind->name,
      .documents = state->documents.count,
      .fetches = state->fetches,
      .failures = state->failures,
      .consecutive_failures = state->consecutive_failures,
      .watch_failures = state->remote.watch_failures,
      .last_success_wall_ms = state->last_success_wall_ms,
      .error = sources_trouble(state),
      .push = state->push,
      .up = segue__source_up(state),
      .held = state->remote.has && state->consecutive_failures > 0,
      .activity = sources_activity(state),
      .revision = state->remote.revision,
      .next_ms = pulls && state->remote.pull_timer.due_ms > now
                     ? state->remote.pull_timer.due_ms - now
                     : 0,
  };
  const segue__source *live = state->remote.source;
  out->too_old = live && segue__guard_too_old(engine, state, &live->guard);
  if (state->last_success_wall_ms && !out->up && wall > state->last_success_wall_ms)
    out->stale_ms = (uint64_t)(wall - state->last_success_wall_ms);
}
