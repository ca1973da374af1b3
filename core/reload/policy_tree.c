/* SPDX-License-Identifier: MIT
 *
 * A policy from the defaults, and from a tree: the tables validate it and fill the struct. The code
 * here validates options that depend on one another, or on how something was written.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "policy_options.h"

typedef struct making {
  segue__policy *policy;
  const segue__options_env *env;
  segue__errors *errors;
  int rc;
} making;

static void making_fail(making *m, const segue_node *at, segue_error *err) {
  const segue__options_env *env = m->env;
  if (at && env && env->file && !err->file[0])
    segue__error_set_place(err, env->file(env->data, at->document), at->line, at->column);
  if (m->errors) segue__errors_add(m->errors, err);
  if (!m->rc) m->rc = err->code;
}

static void making_no_memory(making *m) {
  segue_error err;
  segue__errorf(&err, UV_ENOMEM, "out of memory");
  making_fail(m, NULL, &err);
}

/* The value of an option as it was written; NULL: it was not. */
static const segue_node *written_member(const segue_node *table, const char *name) {
  const segue__member *m = table ? segue__node_find(table, name, strlen(name)) : NULL;
  return m ? &m->value : NULL;
}

/* ---- Triggers -------------------------------------------------------------------------------- */

/* A listener keeps the place where it is written: it is opened much later. */
static void finish_http(making *m, segue__trigger_spec *trigger, const segue_node *node) {
  segue__http_spec *spec = trigger->made.options;
  const char *file = m->env->file ? m->env->file(m->env->data, node->document) : NULL;
  trigger->made.options = NULL; /* it belongs to the trigger, as in a policy that a host makes */
  trigger->http = spec;
  trigger->address = spec->address;
  spec->address = NULL;
  spec->file = segue__strdup(file);
  spec->line = node->line;
  if (file && !spec->file) making_no_memory(m);
}

static void add_default_triggers(making *m) {
  segue__policy *policy = m->policy;
  policy->triggers = segue__calloc(2, sizeof *policy->triggers);
  if (!policy->triggers) {
    making_no_memory(m);
    return;
  }
  policy->trigger_count = 2;
  policy->triggers[0] = (segue__trigger_spec){.type = SEGUE__TRIGGER_SIGNAL, .signum = SIGHUP};
  policy->triggers[1] = (segue__trigger_spec){.type = SEGUE__TRIGGER_WATCH};
}

static void finish_triggers(making *m, const segue_node *list) {
  segue__policy *policy = m->policy;
  if (!policy->triggers_given) {
    add_default_triggers(m);
    return;
  }
  for (size_t i = 0; i < policy->trigger_count; i++) {
    segue__trigger_spec *trigger = &policy->triggers[i];
    trigger->type = *(const segue__trigger_type *)trigger->made.data;
    if (trigger->type == SEGUE__TRIGGER_HTTP) finish_http(m, trigger, &list->v.items[i]);
  }
}

/* ---- Sources --------------------------------------------------------------------------------- */

/* A source is called as it is written: by its name, else its path; values of the policy are
 * numbered. */
static char *source_name(const segue__policy *policy, size_t index, const segue_node *node) {
  const segue__source *source = &policy->sources[index];
  const segue_node *path = written_member(node, "path");
  size_t number = 1;
  char text[32];
  if (path && path->type == SEGUE_STRING) return segue__strndup(path->v.s, path->count);
  if (source->prefix) {
    segue__buf name;
    segue__buf_init(&name);
    segue__buf_addf(&name, "env %s", source->prefix);
    if (!name.failed) return name.data;
    segue__buf_deinit(&name);
    return NULL;
  }
  for (size_t i = 0; i < index; i++)
    number += policy->sources[i].kind == source->kind;
  snprintf(text, sizeof text, number > 1 ? "%.20s %zu" : "%.20s", source->kind->name, number);
  return segue__strdup(text);
}

static void check_twice(making *m, size_t index, const segue_node *node) {
  const segue__source *sources = m->policy->sources;
  segue_error err;
  for (size_t i = 0; i < index; i++) {
    if (strcmp(sources[i].name, sources[index].name) != 0) continue;
    segue__errorf(&err, SEGUE_EPOLICY, "source '%s' is declared twice: remove one",
                  sources[index].name);
    making_fail(m, node, &err);
    return;
  }
}

static void finish_sources(making *m, const segue_node *list) {
  segue__policy *policy = m->policy;
  for (size_t i = 0; i < policy->source_count; i++) {
    segue__source *source = &policy->sources[i];
    source->kind = source->made.data;
    if (!source->name) source->name = source_name(policy, i, &list->v.items[i]);
    if (!source->name) {
      making_no_memory(m);
      return;
    }
    check_twice(m, i, &list->v.items[i]);
  }
}

/* ---- Modules, secrets ------------------------------------------------------------------------ */

static void finish_modules(making *m, const segue_node *map) {
  segue__policy *policy = m->policy;
  for (size_t i = 0; i < policy->module_count; i++) {
    segue__module_spec *module = &policy->modules[i];
    const segue_node *node = &map->v.members[i].value;
    const char *file = m->env->file ? m->env->file(m->env->data, node->document) : NULL;
    module->kind = segue__strdup(module->made.name);
    module->listen.file = module->listen.url_count ? segue__strdup(file) : NULL;
    module->listen.line = map->v.members[i].line;
    if (!module->kind || (module->listen.url_count && file && !module->listen.file))
      making_no_memory(m);
  }
}

static void make_mask(making *m, const segue_node *at) {
  segue__policy *policy = m->policy;
  segue_error err;
  if (!policy->secret_count) return;
  if (segue__mask_new(&policy->mask, (const char *const *)policy->secrets, policy->secret_count,
                      &err))
    making_fail(m, at, &err);
}

/* ---- The policy ------------------------------------------------------------------------------ */

int segue__policy_new(segue__policy **out) {
  segue__policy *policy = segue__calloc(1, sizeof *policy);
  *out = policy;
  if (!policy) return UV_ENOMEM;
  int rc = segue__options_fill(&segue__policy_options, NULL, policy, NULL, NULL);
  policy->refs = 1;
  if (!rc) return 0;
  segue__policy_unref(policy);
  *out = NULL;
  return rc;
}

int segue__policy_from_tree(segue__policy *policy, const segue_node *tree,
                            const segue__options_env *env, segue__errors *errors) {
  segue__policy filled;
  making m = {.policy = policy, .env = env, .errors = errors};
  int rc = segue__options_fill(&segue__policy_options, tree, &filled, env, errors);
  if (rc) return rc;
  filled.refs = policy->refs;
  filled.ops = policy->ops;
  filled.impl = policy->impl;
  segue__free(policy->name);
  *policy = filled;
  finish_sources(&m, written_member(tree, "sources"));
  finish_triggers(&m, written_member(tree, "triggers"));
  finish_modules(&m, written_member(tree, "modules"));
  make_mask(&m, written_member(tree, "secrets"));
  return m.rc;
}
