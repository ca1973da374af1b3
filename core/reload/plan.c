/* SPDX-License-Identifier: MIT
 *
 * The plan: the modules that a change affects, the action for each, their order, and the reasons. A
 * reload executes the same plan that `segue plan` prints.
 */
#include <string.h>
#include <uv.h>

#include "../config/path.h"
#include "action.h"
#include "plan.h"
#include "run.h"
#include "step.h"

static segue__hash slice_hash(const segue_snapshot *snapshot, const char *path) {
  const segue_node *node = segue_node_get(segue_snapshot_root(snapshot), path ? path : "");
  return node ? segue__node_hash(node) : (segue__hash){0, 0};
}

static bool same_text(const char *a, const char *b) {
  return !strcmp(a ? a : "", b ? b : "");
}

static bool plan_below(const char *path, const char *slice) {
  size_t len = slice ? strlen(slice) : 0;
  return !len ||
         (!strncmp(path, slice, len) && (path[len] == 0 || path[len] == '.' || path[len] == '['));
}

/* "bidder.timeout changed, +2 more" */
static char *why_slice(const segue__txn *txn, const char *slice) {
  static const char *const verbs[] = {"added", "removed", "changed"};
  const segue__change *first = NULL;
  size_t more = 0;
  for (size_t i = 0; i < txn->content.changes.count; i++) {
    const segue__change *change = &txn->content.changes.items[i];
    bool hit = plan_below(change->path, slice) || (slice && plan_below(slice, change->path));
    if (hit && first)
      more++;
    else if (hit)
      first = change;
  }
  segue__buf text;
  segue__buf_init(&text);
  if (first)
    segue__buf_addf(&text, "%s %s", first->path, verbs[first->op]);
  else
    segue__buf_addf(&text, "%s changed", slice && *slice ? slice : "the configuration");
  if (more) segue__buf_addf(&text, ", +%zu more", more);
  char *why = text.failed ? NULL : segue__strdup(text.data);
  segue__buf_deinit(&text);
  return why;
}

/* "services/api changed" */
static char *why_read(const char *name, const char *verb) {
  segue__buf text;
  segue__buf_init(&text);
  segue__buf_addf(&text, "%s %s", *name ? name : "the configuration", verb);
  if (!text.failed) return text.data;
  segue__buf_deinit(&text);
  return NULL;
}

const segue__action *segue__action_of(const segue__module_spec *spec) {
  static const segue__action *const actions[] = {[SEGUE__SWAP] = &segue__action_swap,
                                                 [SEGUE__HANDOVER] = &segue__action_handover,
                                                 [SEGUE__RESTART] = &segue__action_restart};
  return spec->action ? spec->action : actions[spec->replace];
}

/* A module that leaves it to others to apply its change, and whose step comes before this one;
 * NULL: there is none. */
static const segue__module_spec *plan_followed(const segue__txn *txn) {
  for (size_t i = 0; i < txn->set.count; i++) {
    const segue__step *step = &txn->set.steps[i];
    if (!step->action->keeps && step->spec && step->spec->unapplied) return step->spec;
  }
  return NULL;
}

/* Sets the action that the module has by its options, or `keep`; returns the reason (owned), or
 * NULL if memory runs out. */
static char *plan_reason(segue__txn *txn, const segue__module_spec *was,
                         const segue__module_spec *spec, segue__step *step) {
  segue__engine *engine = txn->engine;
  segue__module_record *module = segue__module_find(engine->modules, spec->name);
  step->txn = txn;
  step->spec = spec;
  step->module = module;
  step->old = module ? module->live : NULL;
  if (!step->old) {
    step->action = spec->action ? spec->action : &segue__action_add;
    return segue__strdup(module && module->failure.failed ? "it has failed" : "new");
  }
  step->action = segue__action_of(spec);
  /* The operations of a plugin have other addresses when its file is loaded again; the hash of its
   * bytes (`inputs`) shows whether its code changed. */
  bool plugins = was && was->plugin && spec->plugin;
  if (!was || !same_text(was->kind, spec->kind) || (was->ops != spec->ops && !plugins))
    return segue__strdup("its kind changed");
  if (!segue__hash_equal(was->inputs, spec->inputs)) return segue__strdup("its code changed");
  if (!segue__hash_equal(was->options, spec->options)) return segue__strdup("its options changed");
  if (!same_text(was->config, spec->config))
    return segue__strdup("its part of the configuration is another one");
  if (!spec->follows && !segue__hash_equal(slice_hash(engine->live, was->config),
                                           slice_hash(txn->next, spec->config)))
    return why_slice(txn, spec->config);
  const char *path =
      spec->differs ? spec->differs(segue__instance_object(step->old), txn->next) : NULL;
  if (path) return why_read(path, "changed");
  const segue__module_spec *followed = spec->follows ? plan_followed(txn) : NULL;
  if (followed) {
    const bool stays = segue__policy_module(txn->policy, followed->name) != NULL;
    return why_read(followed->name, stays ? "changed" : "is no longer declared");
  }
  if (txn->run->force) return segue__strdup("forced");
  if (module->drift.replaces) return segue__strdup("another program has changed its files");
  step->action = &segue__action_keep;
  return segue__strdup("unchanged");
}

/* Chooses the action for one module of the next policy; returns the reason, as plan_reason. */
static char *plan_validate(segue__txn *txn, const segue__module_spec *spec, segue__step *step) {
  const segue__module_spec *was = segue__policy_module(txn->engine->policy, spec->name);
  char *why = plan_reason(txn, was, spec, step);
  const bool same_kind = was && same_text(was->kind, spec->kind) && was->ops == spec->ops;
  if (spec->choose && !step->action->keeps && (!step->old || same_kind))
    step->action = spec->choose(spec, step->old ? segue__instance_object(step->old) : NULL,
                                txn->next, txn->run->force);
  return why;
}

static int plan_report(segue__txn *txn, size_t index, const char *name, char *why) {
  segue__plan_step *reported = &txn->result->steps[index];
  reported->action = txn->set.steps[index].action->name;
  reported->why = why;
  reported->module = segue__strdup(name);
  txn->result->step_count = index + 1;
  return reported->why && reported->module ? 0 : UV_ENOMEM;
}

static int plan_add(segue__txn *txn, const segue__module_spec *removal,
                    segue__module_record *module, const char *name) {
  segue__step *step = &txn->set.steps[txn->set.count];
  step->txn = txn;
  step->spec = removal;
  step->action = removal ? removal->action : &segue__action_remove;
  step->module = module;
  step->old = module ? module->live : NULL;
  return plan_report(txn, txn->set.count++, name, segue__strdup("no longer declared"));
}

/* A module that left something outside memory and is in no policy of this process: it was dropped
 * while the process did not run. */
static int plan_leftovers(segue__txn *txn, const segue__module_spec *const *specs, size_t count) {
  const segue__modules *modules = txn->engine->modules;
  int rc = 0;
  for (size_t i = 0; i < count && !rc; i++)
    if (!segue__module_find(modules, specs[i]->name))
      rc = plan_add(txn, specs[i], NULL, specs[i]->name);
  return rc;
}

/* The steps of the modules whose action comes last (`last`), or of the others. */
static int plan_modules(segue__txn *txn, const size_t *order, bool last) {
  const segue__policy *policy = txn->policy;
  int rc = 0;
  for (size_t i = 0; i < policy->module_count && !rc; i++) {
    const segue__module_spec *spec = &policy->modules[order[i]];
    if (segue__action_of(spec)->last != last) continue;
    segue__step *step = &txn->set.steps[txn->set.count];
    char *why = plan_validate(txn, spec, step);
    rc = plan_report(txn, txn->set.count++, spec->name, why);
  }
  return rc;
}

/* Steps in the order of commit: needs before those that need them; then removed modules, in the
 * reverse of the order in which they came; then the actions that read what all these change outside
 * memory. */
int segue__plan_make(segue__txn *txn) {
  segue__engine *engine = txn->engine;
  const segue__policy *policy = txn->policy;
  const segue__leftovers_ops *ops = &engine->options.leftovers;
  size_t leftovers = 0;
  const segue__module_spec *const *left =
      ops->list ? ops->list(ops->data, policy, &leftovers) : NULL;
  size_t max = policy->module_count + segue__modules_count(engine->modules) + leftovers;
  size_t *order = segue__calloc(policy->module_count, sizeof *order);
  size_t at = 0;
  txn->set.steps = segue__calloc(max, sizeof *txn->set.steps);
  txn->result->steps = segue__calloc(max, sizeof *txn->result->steps);
  int rc = UV_ENOMEM;
  if (!order || !txn->set.steps || !txn->result->steps) goto done;
  rc = segue__policy_order(policy->modules, policy->module_count, order, &at);
  if (!rc) rc = plan_modules(txn, order, false);
  for (size_t i = segue__modules_count(engine->modules); i-- > 0 && !rc;) {
    segue__module_record *module = segue__modules_at(engine->modules, i);
    if (segue__policy_module(policy, module->name) || (!module->live && !module->failure.failed))
      continue;
    const segue__module_spec *was = segue__policy_module(engine->policy, module->name);
    rc = plan_add(txn, was ? was->removal : NULL, module, module->name);
  }
  if (!rc) rc = plan_leftovers(txn, left, leftovers);
  if (!rc) rc = plan_modules(txn, order, true);
done:
  segue__free(order);
  return rc;
}
