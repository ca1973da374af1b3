/* SPDX-License-Identifier: MIT
 *
 * The life of asynchronous sources: fetches, watches, their clocks, and held deliveries. See
 * remote.h for the rules. Each call ends once, in `remote_pulled` or `watch_over`, also if the
 * source answers late, twice or never; each delivery goes through `remote_take`.
 */
#include "remote.h"

#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../os/fault.h"
#include "collect.h"

enum {
  FALLBACK_MS = 30000,
  PROVEN_MS = 5000,
  STUCK_MAX = 4 /* abandoned fetches that have not returned */
};

static void remote_pulled(segue_op *op, int status, const segue_error *error);
static void watch_over(segue_op *op, int status, const segue_error *error);
static void remote_through(segue_op *op);
static void remote_schedule(segue__engine *engine, segue__source_state *state);
static void pull_soon(segue__engine *engine, segue__source_state *state, uint64_t ms);
static void start_watch(segue__engine *engine, segue__source_state *state);
static void remote_emitted(void *data, segue__emission *delivery);

/* ---- Times ---- */

/* Doubling from the first pause to the longest, and of that any part: many daemons that failed
 * together do not come back together. */
static uint64_t remote_backoff(segue__engine *engine, const segue__source *source,
                               uint64_t attempt) {
  uint64_t most = source->retry_max_ms ? source->retry_max_ms : SEGUE__RETRY_MAX_MS;
  uint64_t cap = source->retry_min_ms ? source->retry_min_ms : SEGUE__RETRY_MIN_MS;
  while (attempt-- && cap < most)
    cap *= 2;
  if (cap > most) cap = most;
  return 1 + segue__engine_random(engine) % cap;
}

static uint64_t remote_jittered(segue__engine *engine, uint64_t ms) {
  return ms - ms / 10 + segue__engine_random(engine) % (ms / 5 + 1);
}

static bool is_watched(const segue__source_state *state) {
  const segue__remote_call *watch = state->remote.watch;
  return watch && !watch->answered && !watch->dropped;
}

/* Until the next pull; 0: not by the clock. */
static uint64_t pause_of(segue__engine *engine, const segue__source_state *state) {
  const segue__source *source = state->remote.source;
  /* A server that counts failed logins locks the account of a daemon that asks every second. */
  if (state->consecutive_failures && state->error.code == SEGUE_EDENIED)
    return remote_jittered(engine,
                           source->retry_max_ms ? source->retry_max_ms : SEGUE__RETRY_MAX_MS);
  if (state->consecutive_failures)
    return remote_backoff(engine, source, state->consecutive_failures - 1);
  if (is_watched(state) && state->remote.proven)
    return remote_jittered(engine, source->safety_ms ? source->safety_ms : SEGUE__SAFETY_MS);
  if (source->interval_ms) return remote_jittered(engine, source->interval_ms);
  return state->push && source->pushes ? remote_jittered(engine, FALLBACK_MS) : 0;
}

/* ---- Calls ---- */

static segue__remote_call *remote_call_new(segue__engine *engine, segue__policy *policy,
                                           const segue__source *source,
                                           segue__source_state *state) {
  segue__remote_call *call = segue__calloc(1, sizeof *call);
  if (!call) return NULL;
  call->engine = engine;
  call->policy = segue__policy_ref(policy);
  call->source = source;
  call->state = state;
  segue__emitter_init(&call->emitter, engine->loop, remote_emitted, call);
  call->next = engine->remote_calls;
  if (call->next) call->next->prev = call;
  engine->remote_calls = call;
  return call;
}

static void remote_call_free(segue__remote_call *call) {
  if (call->prev)
    call->prev->next = call->next;
  else
    call->engine->remote_calls = call->next;
  if (call->next) call->next->prev = call->prev;
  segue__delivery_deinit(&call->delivery);
  segue__emitter_deinit(&call->emitter);
  segue__policy_unref(call->policy);
  segue__free(call);
}

/* Detaches the call from its source: a later delivery is dropped. */
static void remote_drop(segue__remote_call *call) {
  if (!call || call->dropped) return;
  call->dropped = true;
  call->collect = NULL;
  segue__emitter_close(&call->emitter);
  if (call->state && call->state->remote.pull == call) call->state->remote.pull = NULL;
  segue__op_cancel(&call->op, SEGUE_ECANCELLED);
}

/* A watch keeps its place until it has returned, so that a source has one watch at most. */
static void end_call(segue__remote_call *call) {
  segue__engine *engine = call->engine;
  segue__source_state *state = call->state;
  bool watched = state && state->remote.watch == call;
  if (watched) state->remote.watch = NULL;
  bool dropped = call->dropped;
  remote_call_free(call);
  if (watched && dropped) start_watch(engine, state);
}

static void remote_through(segue_op *op) {
  segue__engine *engine = ((segue__remote_call *)op)->engine;
  end_call((segue__remote_call *)op);
  segue__engine_check_stopped(engine);
}

static size_t remote_stuck(const segue__engine *engine, const segue__source_state *state) {
  size_t n = 0;
  for (const segue__remote_call *call = engine->remote_calls; call; call = call->next)
    n += call->state == state && call->answered && call != state->remote.watch;
  return n;
}

/* ---- Deliveries ---- */

static bool same_bytes(const segue__document *a, const segue__document *b) {
  if (a->format != b->format || strcmp(a->name, b->name) != 0) return false;
  if (a->format == SEGUE__BUILT) return segue__hash_equal(a->hash, b->hash);
  return a->len == b->len && !memcmp(a->data, b->data, a->len);
}

static segue__document *remote_held(const segue__documents *documents,
                                    const segue__document *like) {
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

/* Adds a document in the place that its name has in the order of names, for that of an older one.
 * Takes the reference. */
static int delta_put(segue__documents *documents, segue__document *doc) {
  size_t i = 0;
  while (i < documents->count && strcmp(documents->items[i]->name, doc->name) < 0)
    i++;
  if (i < documents->count && !strcmp(documents->items[i]->name, doc->name)) {
    segue__document_unref(documents->items[i]);
    documents->items[i] = doc;
    return 0;
  }
  int rc = segue__documents_add(documents, doc);
  if (rc < 0) return rc;
  memmove(documents->items + i + 1, documents->items + i,
          (documents->count - 1 - i) * sizeof *documents->items);
  documents->items[i] = doc;
  return 0;
}

static void delta_remove(segue__documents *documents, const char *name) {
  for (size_t i = 0; i < documents->count; i++) {
    if (strcmp(documents->items[i]->name, name) != 0) continue;
    segue__document_unref(documents->items[i]);
    documents->count--;
    memmove(documents->items + i, documents->items + i + 1,
            (documents->count - i) * sizeof *documents->items);
    return;
  }
}

/* Makes of a delta a delivery of everything: the documents that are held, with the changes. */
static int delta_apply(const segue__source_state *state, segue__emission *delivery) {
  segue__documents all = {0};
  int rc = 0;
  for (size_t i = 0; i < state->documents.count && !rc; i++)
    rc = segue__documents_add(&all, segue__document_ref(state->documents.items[i]));
  for (size_t i = 0; i < delivery->removed.count && !rc; i++)
    delta_remove(&all, delivery->removed.items[i]);
  for (size_t i = 0; i < delivery->documents.count && !rc; i++)
    rc = delta_put(&all, segue__document_ref(delivery->documents.items[i]));
  segue__documents_deinit(rc ? &all : &delivery->documents);
  if (!rc) delivery->documents = all;
  return rc;
}

static bool is_in_order(const segue__documents *documents) {
  for (size_t i = 1; i < documents->count; i++)
    if (strcmp(documents->items[i - 1]->name, documents->items[i]->name) >= 0) return false;
  return true;
}

/* Returns whether a delta continues what is held. Documents that are held in another order than
 * that of their names would give another configuration than a fetch of the same revision. */
static bool delta_fits(const segue__source_state *state, const segue__emission *delivery) {
  const segue__remote *remote = &state->remote;
  const char *held = remote->has && !remote->forgotten ? remote->revision : NULL;
  return held && delivery->revision && !strcmp(held, delivery->base) &&
         is_in_order(&state->documents);
}

/* Returns whether changes are missing between what is held and a delivery: only a delivery of
 * everything helps. After a gap a report that nothing has changed belongs to a revision whose
 * documents are not held: if its revision was accepted, the next delta would fit, and the changes
 * of the gap would be missing until the next fetch of everything. */
static bool delivery_has_gap(const segue__source_state *state, const segue__emission *delivery) {
  if (delivery->ask) return false;
  if (delivery->unchanged) return state->remote.has && state->remote.forgotten;
  return delivery->base && !delta_fits(state, delivery);
}

/* A source in C does not know the name that messages use for it. */
static int name_source(const segue__source_state *state, segue__document *doc) {
  if (*doc->source) return 0;
  char *name = segue__strdup(state->name);
  if (!name) return UV_ENOMEM;
  segue__free(doc->source);
  doc->source = name;
  return 0;
}

static void take_revision(segue__source_state *state, segue__emission *delivery) {
  if (!delivery->revision && delivery->unchanged) return;
  segue__free(state->remote.revision);
  state->remote.revision = delivery->revision;
  delivery->revision = NULL;
}

/* 1: other documents than those that are held, 0: the same; negative: it cannot be taken. The same
 * bytes keep their document, which is parsed already. */
static int remote_take(segue__source_state *state, segue__emission *delivery, segue_error *err) {
  segue__documents next = {0};
  int fault = SEGUE_FAULT("remote.take");
  if (fault) return segue__errorf(err, fault, "%s", segue_strerror(fault));
  if (delivery->unchanged && !state->remote.has)
    return segue__errorf(err, SEGUE_ESOURCE,
                         "the source reported no change before its first delivery");
  if (delivery->base && delta_apply(state, delivery) < 0)
    return segue__errorf(err, UV_ENOMEM, "out of memory");
  for (size_t i = 0; !delivery->unchanged && i < delivery->documents.count; i++) {
    segue__document *came = delivery->documents.items[i];
    segue__document *old = remote_held(&state->documents, came);
    /* A new document gets its id when it is parsed. One that is held, which a delta names again,
     * must not be written: a run may read it on the worker at this moment. */
    if (!old && came->format != SEGUE__BUILT) came->id = 0;
    if ((!old && name_source(state, came) < 0) ||
        segue__documents_add(&next, segue__document_ref(old ? old : came)) < 0) {
      segue__documents_deinit(&next);
      return segue__errorf(err, UV_ENOMEM, "out of memory");
    }
  }
  take_revision(state, delivery);
  if (!delivery->unchanged) state->remote.forgotten = false;
  bool changed =
      !delivery->unchanged && (!state->remote.has || !same_list(&next, &state->documents));
  if (changed) {
    segue__documents_deinit(&state->documents);
    state->documents = next;
    state->remote.has = true;
    state->content.code = 0;
  } else {
    segue__documents_deinit(&next);
  }
  return changed;
}

/* If the reload cannot be requested now (out of memory), the next event of the source requests it.
 */
static void remote_fire(segue__engine *engine, segue__source_state *state, segue__trigger trigger,
                        const char *what) {
  char cause[300];
  snprintf(cause, sizeof cause, "%.200s %s", state->name, what);
  segue__reload_request request = {.trigger = trigger, .cause = cause, .as_held = true};
  int rc = segue__engine_request(engine, &request, NULL);
  state->remote.trigger_owed = rc < 0 && rc != SEGUE_ECLOSED;
  if (!state->remote.trigger_owed) return;
  SEGUE__LOG(engine->log, SEGUE_ERROR, "source", "what a source delivered cannot be taken up yet",
             SEGUE__FIELD("source", state->name), SEGUE__FIELD("error", segue_strerror(rc)));
  pull_soon(engine, state, SEGUE__RETRY_MIN_MS);
}

static void remote_succeeded(segue__engine *engine, segue__source_state *state) {
  if (state->consecutive_failures)
    SEGUE__LOG(engine->log, SEGUE_INFO, "source", "the source is back",
               SEGUE__FIELD("source", state->name));
  state->consecutive_failures = 0;
  state->error.code = 0;
  state->last_success_wall_ms = segue__loop_wall_ms(engine->loop);
}

static void remote_failed(segue__engine *engine, segue__source_state *state,
                          const segue_error *error) {
  char text[1024];
  int before = state->consecutive_failures ? state->error.code : 0;
  state->failures++;
  state->error = *error;
  segue__engine_scrub(engine, &state->error); /* a script's message may quote the configuration */
  segue__error_source(&state->error, state->name);
  bool denied = error->code == SEGUE_EDENIED, was_denied = before == SEGUE_EDENIED;
  /* Logged once for each kind of failure; it is also in the result of each run. */
  if (state->consecutive_failures++ && denied == was_denied) return;
  segue_error_format(&state->error, text, sizeof text);
  if (denied) {
    SEGUE__LOG(engine->log, SEGUE_ERROR, "source", "the source refuses the credentials",
               SEGUE__FIELD("source", state->name), SEGUE__FIELD("error", text));
    return;
  }
  SEGUE__LOG(engine->log, SEGUE_WARN, "source",
             state->remote.has ? "the source is away: what it delivered last is held"
                               : "the source is away, and nothing of it is held",
             SEGUE__FIELD("source", state->name), SEGUE__FIELD("error", text));
}

void segue__remote_adopt(segue__source_state *state, segue__documents *documents, char **revision,
                         int64_t wall_ms) {
  segue__documents_deinit(&state->documents);
  segue__free(state->remote.revision);
  state->documents = *documents;
  state->remote.revision = *revision;
  state->remote.has = true;
  state->last_success_wall_ms = wall_ms;
  memset(documents, 0, sizeof *documents);
  *revision = NULL;
}

/* ---- Pulling ---- */

int segue__remote_pull(segue__engine *engine, segue__policy *policy, const segue__source *source,
                       segue__collect *collect) {
  segue__source_state *state = segue__source_get(engine, policy, source);
  if (!state) return UV_ENOMEM;
  remote_drop(state->remote.pull);
  segue__timer_stop(engine->loop, &state->remote.pull_timer);
  if (remote_stuck(engine, state) >= STUCK_MAX) return UV_EAGAIN;
  segue__remote_call *call =
      SEGUE_FAULT("remote.fetch") ? NULL : remote_call_new(engine, policy, source, state);
  if (!call) return UV_ENOMEM;
  /* A run leaves time for what comes after: parsing and merging. */
  uint64_t ms = collect ? policy->collect_ms - policy->collect_ms / 4 : policy->collect_ms;
  if (source->kind->remote->timed && source->timeout_ms && source->timeout_ms < ms)
    ms = source->timeout_ms;
  state->remote.pull = call;
  state->remote.again = false;
  call->collect = collect;
  segue__op_begin(&call->op, engine->loop, ms, remote_pulled, remote_through, NULL);
  call->whole = !state->remote.has || state->remote.forgotten;
  source->kind->remote->fetch(source, call->whole ? NULL : state->remote.revision, &call->delivery,
                              &call->op);
  return 0;
}

void segue__remote_refused(segue__engine *engine, const segue__policy *policy,
                           const segue__source *source, int code) {
  segue__source_state *state = segue__source_find(engine, policy, source);
  segue_error error;
  if (!state) return;
  segue__errorf(&error, code, "%s is not fetched: %d earlier fetches have not come back",
                source->name, STUCK_MAX);
  state->fetches++;
  remote_failed(engine, state, &error);
}

void segue__remotes_release(segue__engine *engine, const segue__collect *collect) {
  for (segue__remote_call *call = engine->remote_calls; call; call = call->next)
    if (call->collect == collect) remote_drop(call);
}

/* An error of a script may quote a document that was not live yet, so that no mask knows its
 * secrets. */
static void remote_conceal(const segue__remote_call *call, segue_error *error) {
  const segue__remote_ops *ops = call->source->kind->remote;
  if (!call->op.scripted || !ops->conceal) return;
  if (segue__secrecy_is_none(call->engine, call->policy)) return;
  ops->conceal(call->source, error);
}

/* Sets the error message of a fetch that took too long: the op has only a code. */
static segue_error story_of(const segue__remote_call *call, int status, const segue_error *error) {
  segue_error reported = *error;
  if (status == SEGUE_ETIMEOUT && segue_op_cancelled(&call->op))
    segue__errorf(&reported, status, "%s was not fetched within %llu ms", call->state->name,
                  (unsigned long long)call->op.deadline_ms);
  else
    remote_conceal(call, &reported);
  return reported;
}

static void take_pull(segue__remote_call *call, int status, const segue_error *error) {
  segue__engine *engine = call->engine;
  segue__source_state *state = call->state;
  bool was_away = state->consecutive_failures > 0;
  segue_error err = {0};
  int rc = status;
  state->remote.pull = NULL;
  state->fetches++;
  if (rc < 0)
    err = story_of(call, status, error);
  else if (!call->overtaken && delivery_has_gap(state, &call->delivery))
    rc = segue__errorf(&err, SEGUE_ESOURCE,
                       "the source delivered changes only, although everything was requested");
  else if (!call->overtaken)
    rc = remote_take(state, &call->delivery, &err);
  if (rc < 0)
    remote_failed(engine, state, &err);
  else
    remote_succeeded(engine, state);
  if (rc < 0 || call->collect || !state->remote.source) return;
  if (rc > 0 || state->remote.trigger_owed)
    remote_fire(engine, state, SEGUE__BY_POLL, "changed");
  else if (was_away && state->remote.went_on_without)
    remote_fire(engine, state, SEGUE__BY_POLL, "is back");
}

/* The revision that was passed to the source does not exist any more (a compacted history), or the
 * source answered with changes against another revision than the held one: everything is fetched at
 * once, also for a run that waits. That is no failure, because it happens after every long absence
 * of the source. If the source does it again after a fetch without a revision, the fetch has
 * failed.
 */
static bool remote_pull_whole(segue__remote_call *call, int status) {
  segue__source_state *state = call->state;
  segue__engine *engine = call->engine;
  bool gap = status >= 0 && !call->overtaken && delivery_has_gap(state, &call->delivery);
  if (call->whole || (status != SEGUE_EGONE && !gap)) return false;
  state->remote.gaps += gap;
  state->remote.forgotten = true;
  state->remote.pull = NULL;
  return segue__remote_pull(engine, call->policy, call->source, call->collect) == 0;
}

static void remote_pulled(segue_op *op, int status, const segue_error *error) {
  segue__remote_call *call = (segue__remote_call *)op;
  segue__engine *engine = call->engine;
  segue__source_state *state = call->dropped ? NULL : call->state;
  segue__collect *collect = call->collect;
  call->answered = true;
  if (state && remote_pull_whole(call, status)) {
    call->collect = NULL;
    if (!segue__op_outstanding(op)) remote_call_free(call);
    return;
  }
  if (state) take_pull(call, status, error);
  if (!segue__op_outstanding(op)) remote_call_free(call);
  if (state && state->remote.again && state->remote.source)
    pull_soon(engine, state, 0);
  else if (state)
    remote_schedule(engine, state);
  if (collect) segue__collect_pulled(collect);
  segue__strategy_ask(engine);
  segue__engine_check_stopped(engine);
}

static void pull_due(segue__timer *timer) {
  segue__source_state *state = timer->data;
  segue__engine *engine = state->remote.engine;
  if (!state->remote.source || state->remote.pull || engine->stopping) return;
  if (segue__remote_pull(engine, engine->policy, state->remote.source, NULL) < 0)
    remote_schedule(engine, state);
}

static void remote_schedule(segue__engine *engine, segue__source_state *state) {
  segue__remote *remote = &state->remote;
  if (!remote->source || engine->stopping) {
    segue__timer_stop(engine->loop, &remote->pull_timer);
    return;
  }
  if (remote->pull) return;
  uint64_t ms = pause_of(engine, state);
  if (ms)
    (void)segue__timer_start(engine->loop, &remote->pull_timer, ms, pull_due);
  else
    segue__timer_stop(engine->loop, &remote->pull_timer);
}

static void pull_soon(segue__engine *engine, segue__source_state *state, uint64_t ms) {
  const segue__timer *timer = &state->remote.pull_timer;
  bool sooner =
      segue__timer_active(timer) && timer->due_ms <= segue__loop_now_ms(engine->loop) + ms;
  if (state->remote.pull && !ms)
    state->remote.again = true; /* a running fetch may have started before the change */
  else if (!sooner)
    (void)segue__timer_start(engine->loop, &state->remote.pull_timer, ms, pull_due);
}

/* ---- Watching ---- */

static void remote_proved(segue__engine *engine, segue__source_state *state) {
  bool before = state->remote.proven, failures = state->remote.watch_failures > 0;
  state->remote.proven = true;
  state->remote.watch_attempts = 0;
  state->remote.watch_failures = 0;
  if (before) return;
  segue__timer_stop(engine->loop, &state->remote.watch_timer);
  if (failures)
    SEGUE__LOG(engine->log, SEGUE_INFO, "source", "the source pushes again",
               SEGUE__FIELD("source", state->name));
  remote_schedule(engine, state);
  segue__strategy_ask(engine);
}

/* A watch that has run for a while has proved itself, also if nothing changes. Without one, it is
 * time to try: or, where the policy wants no push for all its failures, to forget these, so that
 * the policy may think again. */
static void watch_due(segue__timer *timer) {
  segue__source_state *state = timer->data;
  segue__engine *engine = state->remote.engine;
  if (engine->stopping || !state->remote.source) return;
  if (is_watched(state)) {
    remote_proved(engine, state);
  } else if (state->push) {
    start_watch(engine, state);
  } else {
    state->remote.watch_failures = 0;
    segue__strategy_ask(engine);
  }
}

/* A push that could not be taken is fetched. */
static void remote_lost(segue__engine *engine, segue__source_state *state, const segue_error *err) {
  remote_failed(engine, state, err);
  pull_soon(engine, state, remote_backoff(engine, state->remote.source, 0));
}

static void remote_emitted(void *data, segue__emission *delivery) {
  segue__remote_call *call = data;
  segue__engine *engine = call->engine;
  segue__source_state *state = call->state;
  segue_error err = {0};
  if (call->dropped || call->answered || !state || engine->stopping) {
    segue__delivery_deinit(delivery);
    return;
  }
  remote_proved(engine, state);
  int rc = 0;
  if (delivery->lost || delivery_has_gap(state, delivery)) {
    state->remote.gaps += !state->remote.forgotten;
    state->remote.forgotten = true;
    delivery->ask = true;
  }
  if (delivery->ask) {
    pull_soon(engine, state, 0);
  } else {
    /* A push that only reports that nothing has changed brings nothing that a fetch lacks. */
    if (state->remote.pull && !delivery->unchanged) state->remote.pull->overtaken = true;
    rc = remote_take(state, delivery, &err);
    if (rc < 0)
      remote_lost(engine, state, &err);
    else
      remote_succeeded(engine, state);
  }
  segue__delivery_deinit(delivery);
  if (rc > 0 || (!rc && state->remote.trigger_owed))
    remote_fire(engine, state, SEGUE__BY_PUSH, "pushed");
  segue__strategy_ask(engine);
}

static bool may_watch(const segue__engine *engine, const segue__source_state *state) {
  const segue__remote *remote = &state->remote;
  return !engine->stopping && remote->source && remote->source->pushes && state->push &&
         !remote->watch;
}

static void start_watch(segue__engine *engine, segue__source_state *state) {
  segue__remote *remote = &state->remote;
  if (!may_watch(engine, state)) return;
  segue__remote_call *call = SEGUE_FAULT("remote.watch")
                                 ? NULL
                                 : remote_call_new(engine, engine->policy, remote->source, state);
  remote->proven = false;
  (void)segue__timer_start(engine->loop, &remote->watch_timer, PROVEN_MS, watch_due);
  if (!call) return; /* the timer tries again */
  remote->watch = call;
  segue__op_begin(&call->op, engine->loop, 0, watch_over, remote_through, NULL);
  const char *revision = remote->has && !remote->forgotten ? remote->revision : NULL;
  remote->source->kind->remote->watch(remote->source, revision, &call->emitter, &call->op);
  pull_soon(engine, state, 0); /* changes from before it began to watch */
}

static void watch_failed(segue__engine *engine, segue__source_state *state, int status,
                         const segue_error *error) {
  segue__remote *remote = &state->remote;
  char text[1024];
  if (status < 0)
    remote->watch_error = *error;
  else
    segue__errorf(&remote->watch_error, SEGUE_ESOURCE, "the watch ended by itself");
  segue__engine_scrub(engine, &remote->watch_error);
  segue__error_source(&remote->watch_error, state->name);
  remote->proven = false;
  remote->watch_failures++;
  if (status == SEGUE_EGONE && !remote->watch_attempts++) {
    /* As for a fetch: start_watch passes no revision, and everything is fetched beside it. */
    remote->forgotten = true;
    remote->watch_failures = 0;
    (void)segue__timer_start(engine->loop, &remote->watch_timer, 1, watch_due);
    return;
  }
  if (status == SEGUE_EGONE) remote->watch_attempts--;
  uint64_t ms = remote_backoff(engine, remote->source, remote->watch_attempts++);
  segue_error_format(&remote->watch_error, text, sizeof text);
  SEGUE__LOG(engine->log, SEGUE_WARN, "source", "the source pushes no more: it is pulled meanwhile",
             SEGUE__FIELD("source", state->name), SEGUE__FIELD("error", text),
             SEGUE__FIELD("again_ms", ms));
  (void)segue__timer_start(engine->loop, &remote->watch_timer, ms, watch_due);
  if (!remote->pull) pull_soon(engine, state, remote_backoff(engine, remote->source, 0));
}

static void watch_over(segue_op *op, int status, const segue_error *error) {
  segue__remote_call *call = (segue__remote_call *)op;
  segue__engine *engine = call->engine;
  segue__source_state *state = call->dropped ? NULL : call->state;
  call->answered = true;
  if (state && state->remote.source && !engine->stopping) {
    segue_error shown = {0};
    if (error) shown = *error;
    remote_conceal(call, &shown);
    watch_failed(engine, state, status, &shown);
  }
  if (!segue__op_outstanding(op)) end_call(call);
  segue__strategy_ask(engine);
  segue__engine_check_stopped(engine);
}

void segue__remote_decided(segue__engine *engine, segue__source_state *state) {
  segue__remote *remote = &state->remote;
  if (!remote->source) return;
  if (!state->push) remote_drop(remote->watch);
  if (state->push && !segue__timer_active(&remote->watch_timer)) start_watch(engine, state);
  if (!segue__timer_active(&remote->pull_timer)) remote_schedule(engine, state);
}

/* ---- Policies come and go ---- */

static void remote_settle(segue__engine *engine, const segue__source *source) {
  segue__source_state *state = segue__source_get(engine, engine->policy, source);
  if (!state) return; /* the next run makes it */
  segue__remote *remote = &state->remote;
  if (remote->source == source) return;
  remote->source = source;
  remote_drop(remote->pull);
  remote_drop(remote->watch);
  if (!engine->policy->has_strategy) state->push = source->pushes;
  if (!segue__timer_active(&remote->watch_timer) || remote->proven) {
    segue__timer_stop(engine->loop, &remote->watch_timer);
    start_watch(engine, state);
  }
  if (!segue__timer_active(&remote->pull_timer)) remote_schedule(engine, state);
}

void segue__remotes_settle(segue__engine *engine) {
  for (size_t i = 0; i < engine->policy->source_count; i++)
    if (engine->policy->sources[i].kind->remote) remote_settle(engine, &engine->policy->sources[i]);
}

void segue__remote_halt(segue__engine *engine, segue__source_state *state) {
  segue__timer_stop(engine->loop, &state->remote.pull_timer);
  segue__timer_stop(engine->loop, &state->remote.watch_timer);
  state->remote.source = NULL;
  remote_drop(state->remote.pull);
  remote_drop(state->remote.watch);
}

void segue__remotes_stop(segue__engine *engine) {
  for (size_t i = 0; i < engine->source_count; i++)
    segue__remote_halt(engine, engine->sources[i]);
  for (segue__remote_call *call = engine->remote_calls; call; call = call->next)
    if (!call->collect) remote_drop(call);
}

bool segue__remotes_waiting(const segue__engine *engine) {
  for (const segue__remote_call *call = engine->remote_calls; call; call = call->next)
    if (!call->answered) return true;
  return false;
}

size_t segue__remotes_abandon(segue__engine *engine) {
  size_t coming = 0;
  for (segue__remote_call *call = engine->remote_calls; call; call = call->next)
    if (!segue__op_orphan(&call->op)) coming++;
  return coming;
}

bool segue__remote_want(segue__engine *engine, const char *name, const char *const *names,
                        size_t count) {
  for (size_t i = 0; i < engine->source_count; i++) {
    segue__source_state *state = engine->sources[i];
    const segue__source *source = state->trial ? NULL : state->remote.source;
    if (!source || strcmp(state->name, name) != 0 || !source->kind->remote->want) continue;
    if (!source->kind->remote->want(source, names, count)) return false;
    pull_soon(engine, state, 0); /* what is wanted from now on may never have been delivered */
    return true;
  }
  return false;
}

int segue__remote_note_used(segue__source_state *state) {
  segue__free(state->remote.used);
  state->remote.used = segue__strdup(state->remote.revision);
  state->remote.was_used = true;
  return state->remote.revision && !state->remote.used ? UV_ENOMEM : 0;
}

/* A policy that was rejected is freed soon: the source of the same name in the live policy gets the
 * outcome in its place. */
static const segue__source *reported_source(const segue__txn *txn, const segue__source *source) {
  const segue__policy *live = txn->engine->policy;
  for (size_t i = 0; live && live != txn->policy && i < live->source_count; i++) {
    const segue__source *other = &live->sources[i];
    if (other->kind == source->kind && !strcmp(other->name, source->name)) return other;
  }
  return source;
}

/* A plan is no outcome, and a run that restores an older generation uses no delivery: it must not
 * report the one that the plan looked at. */
void segue__remotes_report(segue__txn *txn) {
  const segue__result *result = txn->result;
  for (size_t i = 0; txn->policy && i < txn->policy->source_count; i++) {
    const segue__source *source = &txn->policy->sources[i];
    if (!source->kind->remote || !source->kind->remote->outcome) continue;
    segue__source_state *state = segue__source_find(txn->engine, txn->policy, source);
    if (!state || !state->remote.was_used) continue;
    state->remote.was_used = false;
    if (result->plan_only) continue;
    segue_source_outcome outcome = {.revision = state->remote.used,
                                    .outcome = segue__outcome_name(result->outcome),
                                    .generation = result->generation,
                                    .errors = result->errors.items,
                                    .error_count = result->errors.count};
    source->kind->remote->outcome(reported_source(txn, source), &outcome);
  }
}
