/* SPDX-License-Identifier: MIT
 *
 * The list of sources and their state. A source is identified by name, kind and, for a source on a
 * network, its options, so that the delivery of one source is never used for another.
 */
#include <string.h>
#include <uv.h>

#include "sources_internal.h"

static void source_free(segue__source_state *state);

int segue__sources_new(segue__sources **out, const segue__sources_options *options) {
  *out = segue__calloc(1, sizeof **out);
  if (!*out) return UV_ENOMEM;
  (*out)->options = *options;
  (*out)->loop = options->loop;
  (*out)->log = options->log;
  return 0;
}

void segue__sources_free(segue__sources *sources) {
  if (!sources) return;
  for (size_t i = 0; i < sources->count; i++)
    source_free(sources->items[i]);
  segue__free(sources->items);
  segue__free(sources);
}

/* ---- The list ---- */

static bool source_is_same(const segue__source_state *state, const segue__source *source) {
  return state->kind == source->kind && !strcmp(state->name, source->name) &&
         segue__hash_equal(state->spec, source->spec);
}

/* Returns the owner of a trial state, or NULL for the live set. */
static const void *trial_of(const segue__sources *sources, const segue__source_set *set) {
  return sources->live.owner && set->owner != sources->live.owner ? set->owner : NULL;
}

static segue__source_state *source_find(const segue__sources *sources, const void *trial,
                                        const segue__source *source) {
  for (size_t i = 0; i < sources->count; i++)
    if (sources->items[i]->trial == trial && source_is_same(sources->items[i], source))
      return sources->items[i];
  return NULL;
}

segue__source_state *segue__source_find(const segue__sources *sources, const segue__source_set *set,
                                        const segue__source *source) {
  return source_find(sources, trial_of(sources, set), source);
}

static bool sources_make_room(segue__sources *sources) {
  segue__source_state **more = segue__realloc(sources->items, (sources->count + 1) * sizeof *more);
  if (more) sources->items = more;
  return more != NULL;
}

static int source_copy(segue__source_state *to, const segue__source_state *from) {
  to->fetches = from->fetches;
  to->last_success_wall_ms = from->last_success_wall_ms;
  to->consecutive_failures = from->consecutive_failures;
  to->error = from->error;
  return segue__held_copy(&to->held, &from->held);
}

segue__source_state *segue__source_get(segue__sources *sources, const segue__source_set *set,
                                       const segue__source *source) {
  const void *trial = trial_of(sources, set);
  const segue__source_state *live = trial ? source_find(sources, NULL, source) : NULL;
  segue__source_state *state = source_find(sources, trial, source);
  if (state || !sources_make_room(sources)) return state;
  state = segue__calloc(1, sizeof *state);
  if (!state) return NULL;
  state->sources = sources;
  state->kind = source->kind;
  state->spec = source->spec;
  state->trial = trial;
  segue__remote_init(state);
  state->name = segue__strdup(source->name);
  if (!state->name || (live && source_copy(state, live) < 0)) {
    source_free(state);
    return NULL;
  }
  sources->items[sources->count++] = state;
  return state;
}

/* Moves the delivery of a trial to the state that owns the timer and the watch. */
static void source_hand_over(segue__source_state *from, segue__source_state *to) {
  segue__held_hand_over(&from->held, &to->held);
  to->failures += from->failures;
  to->events += from->events;
  for (int i = 0; i < SEGUE__FAILURE_COUNT; i++)
    to->failed[i] += from->failed[i];
  for (int i = 0; i < SEGUE__RESYNC_COUNT; i++)
    to->resyncs[i] += from->resyncs[i];
  to->fetches = from->fetches;
  to->consecutive_failures = from->consecutive_failures;
  to->last_success_wall_ms = from->last_success_wall_ms;
  to->error = from->error;
}

static void sources_end_trial(segue__sources *sources) {
  const segue__source_set *live = &sources->live;
  for (size_t i = 0; i < live->count; i++) {
    segue__source_state *tried = source_find(sources, live->owner, &live->items[i]);
    segue__source_state *held = source_find(sources, NULL, &live->items[i]);
    if (tried && held)
      source_hand_over(tried, held);
    else if (tried)
      tried->trial = NULL;
  }
  segue__sources_forget(sources);
}

void segue__sources_settle(segue__sources *sources, const segue__source_set *set) {
  sources->live = *set;
  sources_end_trial(sources);
  for (size_t i = 0; i < sources->count; i++)
    sources->items[i]->seen = false;
  for (size_t i = 0; i < set->count; i++) {
    segue__source_state *state =
        set->items[i].kind->remote ? segue__source_get(sources, set, &set->items[i]) : NULL;
    if (state) segue__remote_settle(state, &set->items[i]); /* else the next run makes it */
  }
}

static void source_free(segue__source_state *state) {
  segue__remote_halt(state);
  for (segue__remote_call *call = state->sources->calls; call; call = call->next)
    if (call->state == state) call->state = NULL;
  segue__held_deinit(&state->held);
  segue__free(state->name);
  segue__free(state);
}

static bool source_is_live(const segue__source_state *state) {
  const segue__source_set *live = &state->sources->live;
  for (size_t i = 0; !state->trial && i < live->count; i++)
    if (source_is_same(state, &live->items[i])) return true;
  return false;
}

void segue__sources_forget(segue__sources *sources) {
  for (size_t i = 0; sources->live.owner && i < sources->count;) {
    segue__source_state *state = sources->items[i];
    if (source_is_live(state)) {
      i++;
    } else {
      source_free(state);
      sources->items[i] = sources->items[--sources->count];
    }
  }
}

/* ---- Health ---- */

uint64_t segue__sources_now_us(const segue__sources *sources) {
  return segue__loop_uv(sources->loop) ? uv_hrtime() / 1000
                                       : segue__loop_now_ms(sources->loop) * 1000;
}

segue__failure_kind segue__failure_kind_of(int code) {
  return code == SEGUE_EDENIED   ? SEGUE__FAILURE_DENIED
         : code == SEGUE_EBUSY   ? SEGUE__FAILURE_BUSY
         : code == SEGUE_ECONFIG ? SEGUE__FAILURE_INVALID
                                 : SEGUE__FAILURE_AWAY;
}

const char *segue__failure_kind_name(segue__failure_kind kind) {
#define X(name, text) text,
  static const char *const names[] = {SEGUE__FAILURE_KINDS(X)};
#undef X
  return names[kind];
}

const char *segue__resync_reason_name(segue__resync_reason reason) {
#define X(name, text) text,
  static const char *const names[] = {SEGUE__RESYNC_REASONS(X)};
#undef X
  return names[reason];
}

void segue__source_succeeded(segue__source_state *state) {
  if (state->kind->remote && state->consecutive_failures)
    SEGUE__LOG(state->sources->log, SEGUE_INFO, "source", "the source is back",
               SEGUE__FIELD("source", state->name));
  state->consecutive_failures = 0;
  state->error.code = 0;
  state->last_success_wall_ms = segue__loop_wall_ms(state->sources->loop);
}

void segue__source_failed(segue__source_state *state, const segue_error *error) {
  const segue__sources *sources = state->sources;
  char text[1024];
  int before = state->consecutive_failures ? state->error.code : 0;
  state->failures++;
  state->error = *error;
  sources->options.scrub(sources->options.data, &state->error);
  segue__error_source(&state->error, state->name);
  segue__failure_kind kind = segue__failure_kind_of(error->code);
  state->failed[kind]++;
  /* Logged once for each kind of failure; it is also in the result of each run. */
  if (state->consecutive_failures++ && kind == segue__failure_kind_of(before)) return;
  segue_error_format(&state->error, text, sizeof text);
  if (kind == SEGUE__FAILURE_DENIED) {
    SEGUE__LOG(sources->log, SEGUE_ERROR, "source", "the source refuses the credentials",
               SEGUE__FIELD("source", state->name), SEGUE__FIELD("error", text));
    return;
  }
  SEGUE__LOG(sources->log, SEGUE_WARN, "source",
             kind == SEGUE__FAILURE_BUSY ? "the source requests a pause"
             : state->held.has           ? "the source is away: what it delivered last is held"
                                         : "the source is away, and nothing of it is held",
             SEGUE__FIELD("source", state->name), SEGUE__FIELD("error", text));
}

/* A failed read of a local source fails its run, whose outcome is logged: no line here. */
void segue__sources_note_read(segue__sources *sources, const segue__source_set *set,
                              const segue__source *source, const segue__documents *documents,
                              const segue_error *error) {
  segue__source_state *state = segue__source_get(sources, set, source);
  if (!state) return; /* only a cache: the next fetch parses again */
  state->fetches++;
  if (!documents) {
    state->failures++;
    state->consecutive_failures++;
    if (error) state->error = *error;
    return;
  }
  segue__documents_deinit(&state->held.documents);
  if (segue__documents_copy(&state->held.documents, documents) < 0)
    segue__documents_deinit(&state->held.documents);
  segue__source_succeeded(state);
}

void segue__sources_set_applied(segue__sources *sources, const segue__source_set *set,
                                const segue__source *source, uint64_t items) {
  segue__source_state *state = segue__source_get(sources, set, source);
  if (!state) return; /* nothing to compare with the next time */
  state->applied = true;
  state->applied_items = items;
  if (!state->held.used_came_us) return;
  state->lag_us = segue__sources_now_us(sources) - state->held.used_came_us;
  if (state->held.came_us == state->held.used_came_us) state->held.came_us = 0;
  state->held.used_came_us = 0;
}

bool segue__sources_applied(const segue__sources *sources, const segue__source *source,
                            uint64_t *items) {
  for (size_t i = 0; i < sources->count; i++) {
    const segue__source_state *state = sources->items[i];
    if (!state->applied || state->kind != source->kind || strcmp(state->name, source->name) != 0)
      continue;
    *items = state->applied_items;
    return true;
  }
  return false;
}

/* Returns the consecutive failures of the current way of fetching, for the strategy. */
static uint64_t source_failures(const segue__source_state *state) {
  return state->consecutive_failures + state->remote.watch_failures;
}

bool segue__sources_is_held(const segue__sources *sources, const segue__source_set *set,
                            const segue__source *source, segue_error *why) {
  const segue__source_state *state =
      source->kind->remote ? segue__source_find(sources, set, source) : NULL;
  if (!state || !state->consecutive_failures || (!state->held.has && !source->optional))
    return false;
  int64_t wall = segue__loop_wall_ms(sources->loop), since = state->last_success_wall_ms;
  *why = state->error;
  if (state->held.has)
    segue__errorf(why, state->error.code, "%.300s; what %.100s delivered %lld s ago is held",
                  state->error.message, state->name,
                  wall > since ? (long long)((wall - since) / 1000) : 0LL);
  else
    segue__errorf(why, state->error.code, "%.300s; %.100s is optional, and goes without",
                  state->error.message, state->name);
  segue__error_source(why, state->name);
  return true;
}

/* Returns how old a delivery is that the guard does not allow any more; 0: it allows what there is.
 */
static uint64_t age_beyond(const segue__source_state *state, const segue__guard *guard) {
  if (!guard->max_age_ms || !state->held.has || !state->consecutive_failures) return 0;
  int64_t age = segue__loop_wall_ms(state->sources->loop) - state->last_success_wall_ms;
  return age > 0 && (uint64_t)age > guard->max_age_ms ? (uint64_t)age : 0;
}

bool segue__sources_is_too_old(const segue__sources *sources, const segue__source_set *set,
                               const segue__source *source, uint64_t *age_ms,
                               const segue_error **why) {
  const segue__source_state *state =
      source->kind->remote ? segue__source_find(sources, set, source) : NULL;
  *age_ms = state ? age_beyond(state, &source->guard) : 0;
  *why = state ? &state->error : NULL;
  return *age_ms > 0;
}

/* ---- Strategy ---- */

static const segue_error *source_trouble(const segue__source_state *state) {
  if (state->error.code) return &state->error;
  return state->remote.watch_failures ? &state->remote.watch_error : NULL;
}

bool segue__sources_next_health(segue__sources *sources, segue__source_health *out,
                                bool *is_pushing) {
  for (size_t i = 0; i < sources->count; i++) {
    segue__source_state *state = sources->items[i];
    uint64_t failures = source_failures(state);
    if (state->trial || (state->kind->remote && !state->remote.source)) continue; /* not live */
    if (state->seen && state->seen_failures == failures) continue;
    state->seen = true;
    state->seen_failures = failures;
    const segue_error *error = source_trouble(state);
    *out = (segue__source_health){.name = state->name,
                                  .kind = state->kind->name,
                                  .failures = failures,
                                  .error = error ? error->message : NULL,
                                  .can_push = state->remote.source && state->remote.source->pushes};
    *is_pushing = state->push;
    return true;
  }
  return false;
}

void segue__sources_decide(segue__sources *sources, const char *name, bool push) {
  for (size_t i = 0; i < sources->count; i++) {
    segue__source_state *state = sources->items[i];
    if (state->trial || strcmp(state->name, name) != 0) continue;
    if (push != state->push)
      SEGUE__LOG(sources->log, SEGUE_INFO, "source", push ? "pushes now" : "is pulled now",
                 SEGUE__FIELD("source", name));
    state->push = push;
    segue__remote_decided(state);
    return;
  }
}

/* ---- Status ---- */

size_t segue__sources_count(const segue__sources *sources) {
  size_t count = 0;
  for (size_t i = 0; i < sources->count; i++)
    count += !sources->items[i]->trial;
  return count;
}

static const segue__source_state *sources_nth(const segue__sources *sources, size_t index) {
  size_t i = 0;
  while (sources->items[i]->trial || index--)
    i++;
  return sources->items[i];
}

static uint64_t source_keys(const segue__source_state *state) {
  uint64_t keys = 0;
  for (size_t i = 0; i < state->held.documents.count; i++) {
    const segue__document *doc = state->held.documents.items[i];
    keys += doc->keys ? doc->keys->count : doc->parsed ? segue_node_count(&doc->root) : 0;
  }
  return keys;
}

static const char *source_activity(const segue__source_state *state) {
  if (state->remote.pull) return "fetching";
  if (segue__remote_is_watched(state)) return "watching";
  return source_failures(state) && state->remote.source ? "backing off" : "idle";
}

static bool source_is_up(const segue__source_state *state) {
  return state->fetches > 0 && !state->consecutive_failures && !state->held.unreadable.code;
}

void segue__sources_status(const segue__sources *sources, size_t index, segue__source_status *out) {
  const segue__source_state *state = sources_nth(sources, index);
  uint64_t now = segue__loop_now_ms(sources->loop);
  int64_t wall = segue__loop_wall_ms(sources->loop);
  bool pulls = segue__timer_active(&state->remote.pull_timer);
  bool unreadable = !state->error.code && state->held.unreadable.code;
  *out = (segue__source_status){
      .name = state->name,
      .kind = state->kind->name,
      .documents = state->held.documents.count,
      .fetches = state->fetches,
      .failures = state->failures,
      .consecutive_failures = state->consecutive_failures,
      .watch_failures = state->remote.watch_failures,
      .failed = state->failed,
      .resyncs = state->resyncs,
      .watch_restarts = state->remote.restarts,
      .keys = source_keys(state),
      .events = state->events,
      .lag_us = state->lag_us,
      .last_success_wall_ms = state->last_success_wall_ms,
      .error = unreadable ? &state->held.unreadable : source_trouble(state),
      .push = state->push,
      .up = source_is_up(state),
      .held = state->held.has && state->consecutive_failures > 0,
      .activity = source_activity(state),
      .revision = state->held.revision,
      .next_ms = pulls && state->remote.pull_timer.due_ms > now
                     ? state->remote.pull_timer.due_ms - now
                     : 0,
  };
  const segue_error *trouble = source_trouble(state);
  if (trouble) out->failure = segue__failure_kind_name(segue__failure_kind_of(trouble->code));
  const segue__source *live = state->remote.source;
  out->too_old = live && age_beyond(state, &live->guard) > 0;
  if (state->last_success_wall_ms && !out->up && wall > state->last_success_wall_ms)
    out->stale_ms = (uint64_t)(wall - state->last_success_wall_ms);
}
