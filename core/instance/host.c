/* SPDX-License-Identifier: MIT
 *
 * Objects that the host of an instance passed: modules under names, a log sink, and, if there is no
 * reload.lua, a configuration file, from which this file makes a policy.
 */
#include "instance.h"

#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../bind/runtime/budget.h"
#include "../module/plugin.h"
#include "../source/kinds.h"

static int log_clean(void *data, const segue_log_entry *entry) {
  const segue *s = data;
  s->options.on_log(s->options.data, entry);
  return 0;
}

void segue__host_log(void *data, const segue_log_entry *entry) {
  segue *s = data;
  if (segue__secrets_any(&s->secrets))
    segue__secrets_log(&s->secrets, entry, log_clean, s);
  else
    log_clean(s, entry);
}

void segue_on_budget_signal(void *value) {
  segue__budget_on_signal(value);
}

/* ---- Modules and sources of the host ---- */

/* The two functions return a code only: the log is the one place for the reason. */
static int host_refuse(const segue *s, const char *what, const char *name, const char *why) {
  SEGUE__LOG(&s->log, SEGUE_ERROR, what, "the host cannot register it",
             SEGUE__FIELD("name", name ? name : ""), SEGUE__FIELD("error", why));
  return SEGUE_EUSAGE;
}

static bool has_module(const segue *s, const char *name) {
  for (size_t i = 0; i < s->registered.host.count; i++)
    if (strcmp(s->modules[i].name, name) == 0) return true;
  return false;
}

/* Without a policy, no options are written: the defaults apply. Mistakes are added to errors. */
static int host_default_options(const segue *s, segue__host_module *module, segue__errors *errors) {
  static const segue_node empty = {.type = SEGUE_MAP};
  static const segue__options_env env;
  if (s->options.policy || !module->options) return 0;
  return segue__option_values_new(&module->values, module->options, &empty, &env, errors);
}

/* Modules and sources are registered before the start only: after it the engine and the loader read
 * these arrays without a lock. The array may move, so the pointer of the loader is set again each
 * time. Copies the name of module. */
static int host_add_module(segue *s, segue__host_module module) {
  const char *why = NULL;
  segue__errors errors;
  if (segue__in_child(s->mark)) return SEGUE_ECLOSED;
  if (s->stage != SEGUE__NEW)
    why = "segue_start was called before";
  else if (!module.name || !*module.name)
    why = "it has no name";
  else if (!module.ops || !segue__module_ops_fit(module.ops))
    why = "its ops cannot be used: set their size (and that of log and stats) to the sizeof of its "
          "struct, set enabled and write of log, record of stats";
  else if (has_module(s, module.name))
    why = "another module has this name";
  if (why) return host_refuse(s, "module", module.name, why);
  size_t count = s->registered.host.count;
  segue__host_module *grown = segue__realloc(s->modules, (count + 1) * sizeof *grown);
  if (!grown) return UV_ENOMEM;
  s->modules = grown;
  s->registered.host.items = grown;
  module.name = segue__strdup(module.name);
  segue__errors_init(&errors);
  int rc = module.name ? host_default_options(s, &module, &errors) : UV_ENOMEM;
  if (rc && rc != UV_ENOMEM)
    rc = host_refuse(s, "module", module.name,
                     errors.count ? errors.items[0].message : segue_strerror(rc));
  segue__errors_deinit(&errors);
  if (rc) {
    segue__free((char *)module.name);
    return rc;
  }
  grown[count] = module;
  s->registered.host.count++;
  return 0;
}

int segue_module_register(segue *s, const char *name, const segue_module_ops *ops, void *userdata) {
  return host_add_module(s, (segue__host_module){.name = name, .ops = ops, .userdata = userdata});
}

int segue_module_register_descriptor(segue *s, const segue_module_descriptor *d) {
  segue_module_descriptor known; /* the part that this version knows */
  segue_error err;
  if (segue__in_child(s->mark)) return SEGUE_ECLOSED;
  if (!d) return host_refuse(s, "module", "", "there is no descriptor");
  if (segue__module_descriptor_validate(d, &known, &err) < 0)
    return host_refuse(s, "module", "", err.message);
  return host_add_module(s, (segue__host_module){.name = known.name,
                                                 .ops = known.ops,
                                                 .userdata = known.userdata,
                                                 .options = known.options});
}

static bool has_source(const segue *s, const char *name) {
  for (size_t i = 0; i < s->registered.source_count; i++)
    if (!strcmp(s->sources[i]->name, name)) return true;
  return false;
}

/* Returns NULL if the source may be registered. */
static const char *source_fault(const segue *s, const segue_source_descriptor *d,
                                segue_error *err) {
  if (!d) return "there is no descriptor";
  if (segue__source_descriptor_validate(d, err) < 0) return err->message;
  if (s->stage != SEGUE__NEW) return "segue_start was called before";
  if (strchr(d->name, '/')) return "its name has a slash: that is the path of a plugin's file";
  return has_source(s, d->name) ? "another source has this name" : NULL;
}

int segue_source_register(segue *s, const segue_source_descriptor *descriptor) {
  segue_error err = {0};
  if (segue__in_child(s->mark)) return SEGUE_ECLOSED;
  const char *why = source_fault(s, descriptor, &err);
  bool named = descriptor && !err.message[0]; /* else the name may be no pointer at all */
  if (why) return host_refuse(s, "source", named ? descriptor->name : NULL, why);
  size_t count = s->registered.source_count;
  const segue_source_descriptor **grown = segue__realloc(s->sources, (count + 1) * sizeof *grown);
  if (!grown) return UV_ENOMEM;
  grown[count] = descriptor;
  s->sources = grown;
  s->registered.sources = grown;
  s->registered.source_count = count + 1;
  return 0;
}

segue_gate *segue_gate_get(segue *s, const char *module) {
  return segue__gates_get(s->gates, module);
}

int segue__validate_policy(segue__policy *policy, const segue__os *os, segue__errors *errors) {
  int rc = segue__admin_check(policy, os, errors);
  return rc < 0 ? rc : segue__ingress_check(policy, os, errors);
}

/* A policy that hangs while it is loaded is a fault of the policy (rejected), not a system error
 * (failed), so a time limit becomes SEGUE_EPOLICY. */
int segue__policy_blame(int status, segue__errors *errors) {
  for (size_t i = 0; i < errors->count; i++)
    if (errors->items[i].code == SEGUE_ETIMEOUT) errors->items[i].code = SEGUE_EPOLICY;
  return status == SEGUE_ETIMEOUT ? SEGUE_EPOLICY : status;
}

bool segue__handles_signal(const segue *s, int signum) {
  return s->triggers && segue__triggers_take(s->triggers, signum);
}

bool segue__deliver_signal(segue *s, int signum) {
  return s->triggers && segue__triggers_deliver(s->triggers, signum);
}

void segue__instance_exec(segue *s, const segue__exec_setup *setup) {
  s->exec_setup = setup;
}

segue__process *segue__instance_child(const segue *s) {
  return s->exec ? segue__exec_process(s->exec) : NULL;
}

void segue__limit_children(segue *s, uint64_t files) {
  s->child_files = files;
}

void segue__host_modules_free(segue *s) {
  for (size_t i = 0; i < s->registered.host.count; i++) {
    segue__free((char *)s->modules[i].name);
    segue__option_values_unref(s->modules[i].values);
  }
  segue__free(s->modules);
}

static int add_source(segue__policy *policy, const char *path) {
  policy->sources = segue__calloc(1, sizeof *policy->sources);
  policy->triggers = segue__calloc(1, sizeof *policy->triggers);
  if (!policy->sources || !policy->triggers) return UV_ENOMEM;
  segue__source *source = &policy->sources[0];
  source->kind = &segue__source_file;
  source->name = segue__strdup(path);
  source->path = segue__strdup(path);
  source->format = -1;
  policy->source_count = 1;
  policy->triggers[0].type = SEGUE__TRIGGER_WATCH;
  policy->trigger_count = 1;
  return source->name && source->path ? 0 : UV_ENOMEM;
}

static int host_add_modules(segue__policy *policy, const segue *s) {
  if (!s->registered.host.count) return 0;
  policy->modules = segue__calloc(s->registered.host.count, sizeof *policy->modules);
  if (!policy->modules) return UV_ENOMEM;
  for (size_t i = 0; i < s->registered.host.count; i++) {
    segue__module_spec *spec = &policy->modules[policy->module_count++];
    spec->name = segue__strdup(s->modules[i].name);
    spec->kind = segue__strdup("c");
    spec->ops = s->modules[i].ops;
    spec->replace = segue__module_ops_serve(spec->ops) ? SEGUE__SWAP : SEGUE__HANDOVER;
    spec->userdata = s->modules[i].userdata;
    spec->values = segue__option_values_ref(s->modules[i].values);
    if (!spec->name || !spec->kind) return UV_ENOMEM;
  }
  return 0;
}

int segue__host_policy(const segue *s, segue__policy **out) {
  int rc = segue__policy_new(out);
  if (rc < 0) return rc;
  if (s->options.config) rc = add_source(*out, s->options.config);
  if (rc == 0) rc = host_add_modules(*out, s);
  if (rc < 0) {
    segue__policy_unref(*out);
    *out = NULL;
  }
  return rc;
}
