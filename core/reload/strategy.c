/* SPDX-License-Identifier: MIT
 *
 * Strategies: the policy decides whether a source is pulled or pushes, when the source is new and
 * again whenever its health changes. The hook is called for one source at a time. No run waits for
 * its result, and a hook that fails leaves the last decision in place.
 */
#include <string.h>
#include <uv.h>

#include "policy_call.h"

enum { STRATEGY_MS = 5000 };

/* A decision for a push that the source cannot do is logged and ignored. */
static void strategy_decide(segue__engine *engine, const segue__policy_call *policy_call) {
  bool push = policy_call->push && policy_call->health.can_push;
  if (policy_call->push && !push)
    SEGUE__LOG(engine->log, SEGUE_WARN, "source", "cannot push: it is pulled",
               SEGUE__FIELD("source", policy_call->source));
  segue__sources_decide(engine->sources, policy_call->source, push);
}

static void strategy_answered(segue_op *op, int status, const segue_error *error) {
  segue__policy_call *policy_call = (segue__policy_call *)op;
  segue__engine *engine = op->data;
  char text[1024];
  if (status < 0) {
    segue_error_format(error, text, sizeof text);
    SEGUE__LOG(engine->log, SEGUE_ERROR, "policy", "the strategy hook failed",
               SEGUE__FIELD("source", policy_call->source), SEGUE__FIELD("error", text));
  } else {
    strategy_decide(engine, policy_call);
  }
  engine->asking = false;
  segue__policy_call_answered(policy_call);
  segue__strategy_ask(engine);
  segue__engine_check_stopped(engine);
}

/* The call has copies of all texts: the source may be forgotten before the hook returns. */
static bool strategy_ask(segue__engine *engine, const segue__source_health *health, bool pushing) {
  segue__policy *policy = engine->policy;
  char *name = segue__strdup(health->name);
  segue__policy_call *policy_call =
      name ? segue__policy_call_new(engine, policy, STRATEGY_MS, strategy_answered) : NULL;
  if (!policy_call) {
    segue__free(name);
    return false;
  }
  engine->asking = true;
  policy_call->source = name;
  policy_call->push = pushing;
  policy_call->health = *health;
  policy_call->health.name = name;
  if (health->error) {
    segue__errorf(&policy_call->error, SEGUE_ESOURCE, "%s", health->error);
    policy_call->health.error = policy_call->error.message;
  }
  policy->ops->strategy(policy->impl, &policy_call->op, &policy_call->health, &policy_call->push);
  return true;
}

void segue__strategy_ask(segue__engine *engine) {
  segue__source_health health;
  bool pushing;
  if (engine->asking || engine->stopping || !engine->policy || !engine->policy->has_strategy)
    return;
  while (segue__sources_next_health(engine->sources, &health, &pushing))
    if (strategy_ask(engine, &health, pushing)) return;
}
