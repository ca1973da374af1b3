/* SPDX-License-Identifier: MIT
 *
 * Strategies: whether a source is pulled or pushes is the policy's decision, made when the source
 * is new and made anew whenever its health changes. Asked one source at a
 * time; nobody waits for the answer, and a hook that fails leaves the last decision as it was.
 */
#include <string.h>
#include <uv.h>

#include "txn.h"

enum { STRATEGY_MS = 5000 };

static segue__source_state *state_named(segue__engine *engine, const char *name) {
  for (size_t i = 0; i < engine->source_count; i++)
    if (!engine->sources[i]->trial && !strcmp(engine->sources[i]->name, name))
      return engine->sources[i];
  return NULL;
}

/* A wish for a push that the source cannot do is told and not followed. */
static void decide(segue__engine *engine, segue__source_state *state, const segue__hook *hook) {
  bool push = hook->push && hook->health.can_push;
  if (hook->push && !push)
    segue__log(engine->log, SEGUE__WARN, "source", "cannot push: it is pulled", "source", 's',
               state->name, NULL);
  else if (push != state->push)
    segue__log(engine->log, SEGUE__INFO, "source", push ? "pushes now" : "is pulled now", "source",
               's', state->name, NULL);
  state->push = push;
  segue__feed_decided(engine, state);
}

static void answered(segue_op *op, int status, const segue_error *error) {
  segue__hook *hook = (segue__hook *)op;
  segue__engine *engine = op->data;
  segue__source_state *state = state_named(engine, hook->source);
  char text[1024];
  if (status < 0) {
    segue_error_format(error, text, sizeof text);
    segue__log(engine->log, SEGUE__ERROR, "policy", "the strategy hook failed", "source", 's',
               hook->source, "error", 's', text, NULL);
  } else if (state) {
    decide(engine, state, hook);
  }
  engine->asking = false;
  segue__hook_answered(hook);
  segue__strategy_ask(engine);
  segue__engine_check_stopped(engine);
}

static bool ask(segue__engine *engine, segue__source_state *state) {
  segue__policy *policy = engine->policy;
  char *name = segue__strdup(state->name);
  segue__hook *hook = name ? segue__hook_new(engine, policy, STRATEGY_MS, answered) : NULL;
  if (!hook) {
    segue__free(name);
    return false;
  }
  engine->asking = true;
  hook->source = name;
  hook->push = state->push;
  hook->error = state->error.code            ? state->error
                : state->feed.watch_failures ? state->feed.watch_error
                                             : (segue_error){0};
  hook->health = (segue__source_health){
      .name = name,
      .kind = state->kind->name,
      .failures = segue__source_failures(state),
      .error = hook->error.code ? hook->error.message : NULL,
      .can_push = state->feed.source && state->feed.source->pushes,
  };
  policy->ops->strategy(policy->impl, &hook->op, &hook->health, &hook->push);
  return true;
}

void segue__strategy_ask(segue__engine *engine) {
  if (engine->asking || engine->stopping || !engine->policy || !engine->policy->has_strategy)
    return;
  for (size_t i = 0; i < engine->source_count; i++) {
    segue__source_state *state = engine->sources[i];
    if (state->trial || (state->kind->feed && !state->feed.source))
      continue; /* of a policy that is being tried */
    uint64_t failures = segue__source_failures(state);
    if (state->asked && state->asked_failures == failures) continue;
    state->asked = true;
    state->asked_failures = failures;
    if (ask(engine, state)) return;
  }
}
