/* SPDX-License-Identifier: MIT
 *
 * The steps of a reload that come after prepare, each as a few words. A plan does not try them, so
 * its result lists them.
 */
#include <uv.h>

#include "action.h"
#include "operator.h"
#include "plan.h"
#include "step.h"

/* The list has room for all that segue__untried_list adds. */
static void untried_add(segue__txn *txn, int *rc, const char *what, const char *module) {
  segue__result *result = txn->result;
  segue__buf text;
  segue__buf_init(&text);
  segue__buf_addf(&text, "%s%s%s", what, *module ? " " : "", module);
  char *copy = text.failed ? NULL : segue__strdup(text.data);
  segue__buf_deinit(&text);
  if (copy)
    result->untried[result->untried_count++] = copy;
  else
    *rc = UV_ENOMEM;
}

static bool has_listeners(const segue__policy *policy) {
  for (size_t i = 0; i < policy->trigger_count; i++)
    if (policy->triggers[i].type == SEGUE__TRIGGER_HTTP) return true;
  for (size_t i = 0; i < policy->module_count; i++)
    if (policy->modules[i].listen.url_count) return true;
  return false;
}

int segue__untried_list(segue__txn *txn) {
  const segue__policy *policy = txn->policy;
  segue__result *result = txn->result;
  int rc = 0;
  result->untried = segue__calloc(txn->set.count + 3, sizeof *result->untried);
  if (!result->untried) return UV_ENOMEM;
  if (policy != txn->engine->policy && has_listeners(policy))
    untried_add(txn, &rc, "open the listeners", "");
  if (policy->has_reload) untried_add(txn, &rc, "run the policy's reload", "");
  for (size_t i = 0; i < txn->set.count; i++)
    if (txn->set.steps[i].action->untried)
      untried_add(txn, &rc, txn->set.steps[i].action->untried, result->steps[i].module);
  if (segue__operator_asks_operator(txn)) untried_add(txn, &rc, "confirm by an operator", "");
  if (segue__operator_asks_probe(txn)) untried_add(txn, &rc, "confirm by the probe", "");
  return rc;
}
