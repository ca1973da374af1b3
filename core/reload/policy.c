/* SPDX-License-Identifier: MIT
 *
 * Policies as data: making, counting, freeing and judging them.
 */
#include "policy.h"

#include <string.h>
#include <uv.h>

#include "txn.h"

int segue__policy_new(segue__policy **out) {
  segue__policy *policy = segue__calloc(1, sizeof *policy);
  *out = policy;
  if (!policy) return UV_ENOMEM;
  policy->refs = 1;
  policy->debounce_min_ms = 50;
  policy->debounce_max_ms = 1000;
  policy->collect_ms = 30000;
  policy->check_ms = 5000;
  policy->reload_ms = 600000;
  return 0;
}

segue__policy *segue__policy_ref(segue__policy *policy) {
  policy->refs++;
  return policy;
}

int segue__policy_add_input(segue__policy *policy, const segue__input *input) {
  for (size_t i = 0; i < policy->input_count; i++)
    if (!strcmp(policy->inputs[i].path, input->path)) {
      policy->inputs[i].secret |= input->secret;
      return 0;
    }
  segue__input *more =
      segue__realloc(policy->inputs, (policy->input_count + 1) * sizeof *policy->inputs);
  if (!more) return UV_ENOMEM;
  policy->inputs = more;
  char *copy = segue__strdup(input->path);
  if (!copy) return UV_ENOMEM;
  more[policy->input_count++] = (segue__input){copy, input->hash, input->credential, input->secret};
  return 0;
}

static void free_modules(segue__policy *policy) {
  for (size_t i = 0; i < policy->module_count; i++) {
    segue__module_spec *module = &policy->modules[i];
    segue__free(module->name);
    segue__free(module->kind);
    segue__free(module->config);
    for (size_t j = 0; j < module->needs_count; j++)
      segue__free(module->needs[j]);
    segue__free(module->needs);
  }
  segue__free(policy->modules);
}

void segue__policy_unref(segue__policy *policy) {
  if (!policy || --policy->refs > 0) return;
  if (policy->ops && policy->ops->free) policy->ops->free(policy->impl);
  for (size_t i = 0; i < policy->input_count; i++)
    segue__free(policy->inputs[i].path);
  segue__free(policy->schema);
  for (size_t i = 0; i < policy->schema_with_count; i++) {
    segue__free(policy->schema_with[i].path);
    segue__free(policy->schema_with[i].uri);
  }
  segue__free(policy->schema_with);
  segue__mask_unref(policy->mask);
  for (size_t i = 0; i < policy->source_count; i++)
    segue__source_deinit(&policy->sources[i]);
  for (size_t i = 0; i < policy->trigger_count; i++) {
    segue__free(policy->triggers[i].action);
    segue__free(policy->triggers[i].address);
    segue__http_spec_free(policy->triggers[i].http);
    if (policy->triggers[i].free_door) policy->triggers[i].free_door(policy->triggers[i].door);
  }
  free_modules(policy);
  segue__free(policy->inputs);
  segue__free(policy->sources);
  segue__free(policy->triggers);
  segue__free(policy->name);
  segue__free(policy);
}

static void complain(segue__errors *errors, const char *module, const char *format,
                     const char *detail) {
  segue_error error;
  segue__error_set(&error, SEGUE_EPOLICY, format, module, detail);
  segue__errors_add(errors, &error);
}

static bool known(const segue__policy *policy, const char *name) {
  for (size_t i = 0; i < policy->module_count; i++)
    if (!strcmp(policy->modules[i].name, name)) return true;
  return false;
}

static void check_module(const segue__policy *policy, size_t index, segue__errors *errors) {
  const segue__module_spec *module = &policy->modules[index];
  for (size_t i = 0; i < index; i++)
    if (!strcmp(policy->modules[i].name, module->name))
      complain(errors, module->name, "module '%s' is declared twice%s", "");
  for (size_t i = 0; i < module->needs_count; i++)
    if (!known(policy, module->needs[i]))
      complain(errors, module->name, "module '%s' needs '%s', which is not declared",
               module->needs[i]);
  if (!module->ops)
    complain(errors, module->name, "module '%s': nothing implements its kind '%s'", module->kind);
}

int segue__policy_validate(const segue__policy *policy, segue__errors *errors) {
  size_t before = errors->total;
  for (size_t i = 0; i < policy->module_count; i++)
    check_module(policy, i, errors);
  for (size_t i = 0; i < policy->source_count; i++)
    for (size_t j = 0; j < i; j++)
      if (!strcmp(policy->sources[i].name, policy->sources[j].name) &&
          policy->sources[i].kind == policy->sources[j].kind)
        complain(errors, policy->sources[i].name, "source '%s' is declared twice%s", "");
  if (errors->total != before) return SEGUE_EPOLICY;
  if (!policy->module_count) return 0;
  size_t at = 0;
  size_t *order = segue__calloc(policy->module_count, sizeof *order);
  if (!order) return UV_ENOMEM;
  if (segue__plan_order(policy->modules, policy->module_count, order, &at) < 0)
    complain(errors, policy->modules[at].name,
             "module '%s' needs itself, directly or through others: break the circle%s", "");
  segue__free(order);
  return errors->total == before ? 0 : SEGUE_EPOLICY;
}
