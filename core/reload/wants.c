/* SPDX-License-Identifier: MIT
 *
 * Names that templates request. A name is wanted from the first prepare that requests it, before
 * any generation uses it: else the first one could never be rendered. Sources get the whole list
 * each time that it changes, by `serial`; the sources of a new policy have no list yet.
 */
#include "wants.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "engine_state.h"
#include "run.h"

/* First and longest pause between two tries of a run that waits: the try itself fetches a source
 * that cannot push. */
enum { UNUSED_MAX = 3, PAUSE_FIRST_MS = 20, PAUSE_MAX_MS = 1000 };

typedef struct want_use {
  char *module;
  bool live; /* the live generation uses it */
  bool next; /* the one that is prepared does */
} want_use;

typedef struct want {
  char *name;
  want_use *uses;
  size_t count;
  unsigned unused; /* generations in a row */
  bool missing;
} want;

struct segue__wants {
  want **items; /* sorted by name */
  size_t count;
  uint64_t serial; /* of the list; 0: no source ever had one */
  /* Of the run. */
  const segue__policy *policy;
  segue__names prepared; /* modules that have reported */
  uint64_t wait_ms;
  bool plan, missing;
  bool passed; /* at least one source of the policy delivers on demand */
};

int segue__wants_new(segue__wants **out) {
  *out = segue__calloc(1, sizeof **out);
  return *out ? 0 : UV_ENOMEM;
}

static void want_free(want *w) {
  for (size_t i = 0; i < w->count; i++)
    segue__free(w->uses[i].module);
  segue__free(w->uses);
  segue__free(w->name);
  segue__free(w);
}

void segue__wants_free(segue__wants *wants) {
  if (!wants) return;
  for (size_t i = 0; i < wants->count; i++)
    want_free(wants->items[i]);
  segue__free(wants->items);
  segue__names_deinit(&wants->prepared);
  segue__free(wants);
}

/* ---- Reports of modules ---------------------------------------------------------------------- */

static want_use *use_find(const want *w, const char *module) {
  for (size_t i = 0; i < w->count; i++)
    if (!strcmp(w->uses[i].module, module)) return &w->uses[i];
  return NULL;
}

static want_use *use_get(want *w, const char *module) {
  want_use *use = use_find(w, module);
  if (use) return use;
  want_use *uses = segue__realloc(w->uses, (w->count + 1) * sizeof *uses);
  char *name = uses ? segue__strdup(module) : NULL;
  if (uses) w->uses = uses;
  if (!name) return NULL;
  use = &uses[w->count++];
  *use = (want_use){.module = name};
  return use;
}

/* The place of a name in the list, or where it would be. */
static size_t want_place(const segue__wants *wants, const char *name) {
  size_t low = 0, high = wants->count;
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (strcmp(wants->items[middle]->name, name) < 0)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

static want *want_get(segue__wants *wants, const char *name) {
  size_t at = want_place(wants, name);
  if (at < wants->count && !strcmp(wants->items[at]->name, name)) return wants->items[at];
  want **items = segue__realloc(wants->items, (wants->count + 1) * sizeof(want *));
  if (!items) return NULL;
  wants->items = items;
  want *added = segue__calloc(1, sizeof *added);
  if (added) added->name = segue__strdup(name);
  if (!added || !added->name) {
    segue__free(added);
    return NULL;
  }
  memmove(&items[at + 1], &items[at], (wants->count - at) * sizeof(want *));
  items[at] = added;
  wants->count++;
  wants->serial++;
  return added;
}

int segue__wants_begin(segue__wants *wants, const char *module, uint64_t wait_ms) {
  if (wants->plan) return 0;
  if (wait_ms > wants->wait_ms) wants->wait_ms = wait_ms;
  for (size_t i = 0; i < wants->count; i++) {
    want_use *use = use_find(wants->items[i], module);
    if (use) use->next = false;
  }
  return segue__names_add(&wants->prepared, "", 0, module);
}

int segue__wants_use(segue__wants *wants, const char *module, const char *name, bool missing) {
  if (wants->plan) return 0;
  want *w = want_get(wants, name);
  want_use *use = w ? use_get(w, module) : NULL;
  if (!use) return UV_ENOMEM;
  use->next = true;
  w->missing = missing;
  wants->missing |= missing;
  return 0;
}

void segue__wants_describe_sources(const segue__wants *wants, segue__buf *out) {
  size_t count = 0;
  for (size_t i = 0; wants->policy && i < wants->policy->source_count; i++) {
    const segue__source *source = &wants->policy->sources[i];
    if (!source->kind->remote || !source->kind->remote->want) continue;
    if (source->wants_passed)
      segue__buf_addf(out, "%ssource %s", count++ ? ", " : "", source->name);
  }
  if (!count) segue__buf_adds(out, "no source of the policy delivers on demand");
}

/* ---- The engine ------------------------------------------------------------------------------ */

void segue__wants_try(segue__engine *engine, const segue__policy *policy, bool plan) {
  segue__wants *wants = engine->options.wants;
  if (!wants) return;
  segue__names_deinit(&wants->prepared);
  wants->policy = policy;
  wants->plan = plan;
  wants->missing = false;
  wants->wait_ms = 0;
}

static const char **want_names(const segue__wants *wants) {
  const char **names = segue__calloc(wants->count + 1, sizeof *names);
  for (size_t i = 0; names && i < wants->count; i++)
    names[i] = wants->items[i]->name;
  return names;
}

/* A source of the live policy is fetched at once too. One of a policy that is tried is fetched by
 * the next try of its run. */
static bool tell_source(segue__engine *engine, const segue__policy *policy,
                        const segue__source *source, const char **names, size_t count) {
  if (policy == engine->policy)
    return segue__sources_want(engine->sources, source->name, names, count);
  return source->kind->remote->want(source, names, count);
}

void segue__wants_tell(segue__engine *engine, segue__policy *policy) {
  segue__wants *wants = engine->options.wants;
  const char **names = NULL;
  if (!wants || !policy) return;
  wants->passed = false;
  for (size_t i = 0; i < policy->source_count; i++) {
    segue__source *source = &policy->sources[i];
    bool old = source->wants_passed == wants->serial;
    if (!source->kind->remote || !source->kind->remote->want) continue;
    if (!old && !names) names = want_names(wants);
    if (!old && names && tell_source(engine, policy, source, names, wants->count))
      source->wants_passed = wants->serial;
    wants->passed |= wants->serial && source->wants_passed == wants->serial;
  }
  segue__free(names);
}

/* Of a module that was not prepared the uses stay; a module that is gone has none. */
static void use_settle(const segue__wants *wants, const segue__policy *policy, want_use *use) {
  if (!segue__policy_module(policy, use->module)) use->live = use->next = false;
  for (size_t i = 0; i < wants->prepared.count; i++)
    if (!strcmp(wants->prepared.items[i], use->module)) use->live = use->next;
}

static bool want_settle(const segue__wants *wants, const segue__policy *policy, want *w) {
  size_t kept = 0;
  for (size_t i = 0; i < w->count; i++) {
    use_settle(wants, policy, &w->uses[i]);
    if (w->uses[i].live)
      w->uses[kept++] = w->uses[i];
    else
      segue__free(w->uses[i].module);
  }
  w->count = kept;
  w->unused = kept ? 0 : w->unused + 1;
  return w->unused < UNUSED_MAX;
}

void segue__wants_settle(segue__engine *engine) {
  segue__wants *wants = engine->options.wants;
  size_t kept = 0;
  if (!wants) return;
  for (size_t i = 0; i < wants->count; i++) {
    if (want_settle(wants, engine->policy, wants->items[i]))
      wants->items[kept++] = wants->items[i];
    else
      want_free(wants->items[i]);
  }
  if (kept != wants->count) wants->serial++;
  wants->count = kept;
  segue__names_deinit(&wants->prepared);
  segue__wants_tell(engine, engine->policy);
}

bool segue__wants_wait(segue__engine *engine, segue__queued_run *run) {
  const segue__wants *wants = engine->options.wants;
  uint64_t now = segue__loop_now_ms(engine->loop);
  if (!wants || !wants->missing || wants->plan || !wants->passed || engine->stopping || run->files)
    return false;
  if (!run->wait_until_ms) run->wait_until_ms = now + wants->wait_ms;
  if (now >= run->wait_until_ms) return false;
  uint64_t pause = run->tries < 8 ? (uint64_t)PAUSE_FIRST_MS << run->tries : PAUSE_MAX_MS;
  if (pause > PAUSE_MAX_MS) pause = PAUSE_MAX_MS;
  run->tries++;
  run->next_try_ms = now + pause < run->wait_until_ms ? now + pause : run->wait_until_ms;
  return true;
}

/* ---- Status ---------------------------------------------------------------------------------- */

size_t segue__engine_want_count(const segue__engine *engine) {
  return engine->options.wants ? engine->options.wants->count : 0;
}

void segue__engine_want(const segue__engine *engine, size_t index, segue__buf *text,
                        segue__want_status *out) {
  const want *w = engine->options.wants->items[index];
  segue__buf_deinit(text);
  segue__buf_init(text);
  for (size_t i = 0; i < w->count; i++)
    segue__buf_addf(text, "%s%s", i ? ", " : "", w->uses[i].module);
  *out = (segue__want_status){.name = w->name,
                              .modules = text->len ? text->data : "",
                              .missing = w->missing,
                              .unused = w->unused};
}
