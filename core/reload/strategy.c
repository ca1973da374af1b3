/* SPDX-License-Identifier: MIT
 *
 * Strategies: the policy decides whether a source is pulled or pushes, when the source is new and
 * again whenever its health changes. The hook is called for one source at a time. No run waits for
 * its result, and a hook that fails leaves the last decision in place.
 */
#include <string.h>
#include <uv.h>

#include "policy_call.h"
#include "remote.h"

enum { STRATEGY_MS = 5000 };

static segue__source_state *state_named(segue__engine *engine, const char *name) {
  for (size_t i = 0; i < engine->source_count; i++)
    if (!engine->sources[i]->trial && !strcmp(engine->sources[i]->name, name))
      return engine->sources[i];
  return NULL;
}

/* A decision for a push that the source cannot do is logged and ignored. */
static void strategy_decide(segue__engine *engine, segue__source_state *state,
                            const segue__policy_call *policy_call) {
  bool push = policy_call->push && policy_call->health.can_push;
  if (policy_call->push && !push)
    SEGUE__LOG(engine->log, SEGUE_WARN, "source", "cannot push: it is pulled",
               SEGUE__FIELD("source", state->name));
  else if (push != state->push)
    SEGUE__LOG(engine->log, SEGUE_INFO, "source", push ? "pushes now" : "is pulled now",
               SEGUE__FIELD("source", state->name));
  state->push = push;
  segue__remote_decided(engine, state);
}

static void strategy_answered(segue_op *op, int status, const segue_error *error) {
  segue__policy_call *policy_call = (segue__policy_call *)op;
  segue__engine *engine = op->data;
  segue__source_state *state = state_named(engine, policy_call->source);
  char text[1024];
  if (status < 0) {
    segue_error_format(error, text, sizeof text);
    SEGUE__LOG(engine->log, SEGUE_ERROR, "policy", "the strategy hook failed",
               SEGUE__FIELD("source", policy_call->source), SEGUE__FIELD("error", text));
  } else if (state) {
    strategy_decide(engine, state, policy_call);
  }
  engine->asking = false;
  segue__policy_call_answered(policy_call);
  segue__strategy_ask(engine);
  segue__engine_check_stopped(engine);
}

static bool strategy_ask(segue__engine *engine, segue__source_state *state) {
  segue__policy *policy = engine->policy;
  char *name = segue__strdup(state->name);
  segue__policy_call *policy_call =
      name ? segue__policy_call_new(engine, policy, STRATEGY_MS, strategy_answered) : NULL;
  if (!policy_call) {
    segue__free(name);
    return false;
  }
  engine->asking = true;
  policy_call->source = name;
  policy_call->push = state->push;
  policy_call->error = state->error.code              ? state->error
                       : state->remote.watch_failures ? state->remote.watch_error
                                                      : (segue_error){0};
  policy_call->health = (segue__source_health){
      .name = name,
      .kind = state->kind->name,
      .failures = segue__source_failures(state),
      .error = policy_call->error.code ? policy_call->error.message : NULL,
      .can_push = state->remote.source && state->remote.source->pushes,
  };
  policy->ops->strategy(policy->impl, &policy_call->op, &policy_call->health, &policy_call->push);
  return true;
}

void segue__strategy_ask(segue__engine *engine) {
  if (engine->asking || engine->stopping || !engine->policy || !engine->policy->has_strategy)
    return;
  for (size_t i = 0; i < engine->source_count; i++) {
    segue__source_state *state = engine->sources[i];
    if (state->trial || (state->kind->remote && !state->remote.source))
      continue; /* of a policy that is being tried */
    uint64_t failures = segue__source_failures(state);
    if (state->asked && state->asked_failures == failures) continue;
    state->asked = true;
    state->asked_failures = failures;
    if (strategy_ask(engine, state)) return;
  }
}
