/* SPDX-License-Identifier: MIT
 *
 * Policies as data: counts, checks and frees them.
 */
#include "policy.h"

#include <string.h>
#include <uv.h>

enum { CREDENTIAL_BYTES = 1 << 20 };

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

/* A file that other users may read is not secret. */
static int check_mode(const segue__os *os, const char *path, segue_error *err) {
  unsigned mode;
  if (!os->file_mode || os->file_mode(os->data, path, &mode) < 0 || !(mode & 07)) return 0;
  segue__errorf(err, SEGUE_EPOLICY,
                "every user of this machine can read %s (mode %04o), so it is not secret: chmod "
                "o= %s, and replace its content",
                path, mode, path);
  segue__error_set_place(err, path, 0, 0);
  return SEGUE_EPOLICY;
}

int segue__policy_read_credential(segue__policy *policy, const segue__os *os, const char *path,
                                  bool secret, segue__bytes *out, segue_error *err) {
  memset(out, 0, sizeof *out);
  int rc = segue__read_credential(os, path, CREDENTIAL_BYTES, out, err);
  segue__input input = {.path = (char *)path, .credential = true, .secret = secret};
  if (!rc) {
    input.hash = segue__hash_bytes(out->data, out->len, (segue__hash){0, 0});
    rc = segue__policy_add_input(policy, &input);
  }
  if (!rc && secret) rc = check_mode(os, path, err);
  if (rc == UV_ENOMEM) segue__errorf(err, rc, "%s: out of memory", path);
  return rc;
}

static void free_modules(segue__policy *policy) {
  for (size_t i = 0; i < policy->module_count; i++) {
    segue__module_spec *module = &policy->modules[i];
    segue__free(module->name);
    segue__free(module->kind);
    if (module->made.table && module->made.options)
      segue__options_clear(module->made.table, module->made.options);
    segue__free(module->made.options);
    segue__free(module->config);
    for (size_t j = 0; j < module->needs_count; j++)
      segue__free(module->needs[j]);
    segue__free(module->needs);
    segue__option_values_unref(module->values); /* reads the plugin's table */
    segue__plugin_unref(module->plugin);
    if (module->free) module->free(module->userdata);
    for (size_t j = 0; j < module->listen.url_count; j++)
      segue__free(module->listen.urls[j]);
    segue__free(module->listen.urls);
    segue__free(module->listen.file);
    segue__free(module->listen.cert);
    segue__free(module->listen.key);
    segue__free(module->listen.client_ca);
    segue__free(module->listen.access.path);
    if (module->listen.free_tls) module->listen.free_tls(module->listen.tls);
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
  for (size_t i = 0; i < policy->secret_count; i++)
    segue__free(policy->secrets[i]);
  segue__free(policy->secrets);
  segue__mask_unref(policy->mask);
  for (size_t i = 0; i < policy->source_count; i++) {
    segue__plugin *plugin = policy->sources[i].plugin;
    segue__source_deinit(&policy->sources[i]); /* runs code of the plugin */
    segue__plugin_unref(plugin);
  }
  for (size_t i = 0; i < policy->trigger_count; i++) {
    segue__free(policy->triggers[i].address);
    segue__http_spec_free(policy->triggers[i].http);
    if (policy->triggers[i].free_auth) policy->triggers[i].free_auth(policy->triggers[i].auth);
  }
  free_modules(policy);
  segue__options_clear(&segue__exec_table, &policy->exec);
  for (size_t i = 0; i < policy->plugin_count; i++)
    segue__free(policy->plugins[i]);
  segue__free(policy->plugins);
  segue__free(policy->inputs);
  segue__free(policy->sources);
  segue__free(policy->triggers);
  segue__free(policy->name);
  segue__free(policy);
}

static void policy_complain(segue__errors *errors, const char *module, const char *format,
                            const char *detail) {
  segue_error error;
  segue__errorf(&error, SEGUE_EPOLICY, format, module, detail);
  segue__errors_add(errors, &error);
}

static bool policy_is_log(const segue_module_ops *ops) {
  return ops && ops->size > offsetof(segue_module_ops, log) && ops->log;
}

static bool is_stats(const segue_module_ops *ops) {
  return ops && ops->size > offsetof(segue_module_ops, stats) && ops->stats;
}

/* A service is called by all threads, so it must exist without a pause, and only once. */
static void check_services(const segue__policy *policy, size_t index, segue__errors *errors) {
  const segue__module_spec *module = &policy->modules[index];
  if (segue__module_ops_serve(module->ops) && module->replace != SEGUE__SWAP)
    policy_complain(
        errors, module->name,
        "module '%s' is called by all threads at any time: it can only be replaced by \"swap\", "
        "not by \"%s\"",
        segue__replace_name(module->replace));
  for (size_t i = 0; i < index; i++) {
    const segue_module_ops *other = policy->modules[i].ops;
    if (policy_is_log(other) && policy_is_log(module->ops))
      policy_complain(errors, module->name,
                      "module '%s' is a log, and so is '%s': keep one of them",
                      policy->modules[i].name);
    if (is_stats(other) && is_stats(module->ops))
      policy_complain(errors, module->name,
                      "module '%s' keeps metrics, and so does '%s': keep one of them",
                      policy->modules[i].name);
  }
}

static void check_module(const segue__policy *policy, size_t index, segue__errors *errors) {
  const segue__module_spec *module = &policy->modules[index];
  for (size_t i = 0; i < index; i++)
    if (!strcmp(policy->modules[i].name, module->name))
      policy_complain(errors, module->name, "module '%s' is declared twice%s", "");
  for (size_t i = 0; i < module->needs_count; i++)
    if (!segue__policy_module(policy, module->needs[i]))
      policy_complain(errors, module->name, "module '%s' needs '%s', which is not declared",
                      module->needs[i]);
  if (!module->ops) {
    policy_complain(errors, module->name, "module '%s': nothing implements its kind '%s'",
                    module->kind);
    return;
  }
  check_services(policy, index, errors);
}

static size_t policy_index_of(const segue__policy *policy, const char *name) {
  size_t i = 0;
  while (i < policy->module_count && strcmp(policy->modules[i].name, name) != 0)
    i++;
  return i;
}

/* Follows needs from `at` back to it; path has what lies between. passed: modules that lead
 * nowhere. */
static bool walk_circle(const segue__policy *policy, size_t at, size_t end, bool *passed,
                        segue__buf *path) {
  const segue__module_spec *module = &policy->modules[at];
  size_t len = path->len;
  passed[at] = true;
  for (size_t i = 0; i < module->needs_count; i++) {
    size_t next = policy_index_of(policy, module->needs[i]);
    segue__buf_addf(path, " needs %s", module->needs[i]);
    if (next == end) return true;
    if (!passed[next] && walk_circle(policy, next, end, passed, path)) return true;
    if (path->failed) return false;
    path->len = len;
    path->data[len] = 0;
  }
  return false;
}

static int complain_of_circle(const segue__policy *policy, size_t at, segue__errors *errors) {
  bool *passed = segue__calloc(policy->module_count, sizeof *passed);
  segue__buf path;
  segue__buf_init(&path);
  segue__buf_adds(&path, policy->modules[at].name);
  if (passed && !path.failed) walk_circle(policy, at, at, passed, &path);
  bool failed = !passed || path.failed;
  if (!failed)
    policy_complain(errors, policy->modules[at].name,
                    "module '%s' needs itself: %s: break the circle", path.data);
  segue__buf_deinit(&path);
  segue__free(passed);
  return failed ? UV_ENOMEM : 0;
}

segue__source_set segue__policy_sources(const segue__policy *policy) {
  if (!policy) return (segue__source_set){0};
  return (segue__source_set){.owner = (void *)policy,
                             .items = policy->sources,
                             .count = policy->source_count,
                             .fetch_ms = policy->collect_ms,
                             .strategy = policy->has_strategy};
}

const segue__module_spec *segue__policy_module(const segue__policy *policy, const char *name) {
  for (size_t i = 0; policy && i < policy->module_count; i++)
    if (!strcmp(policy->modules[i].name, name)) return &policy->modules[i];
  return NULL;
}

/* Depth-first over needs: mark 1 = being visited, 2 = placed. */
static int policy_place(const segue__module_spec *modules, size_t count, size_t i,
                        unsigned char *mark, size_t *order, size_t *placed, size_t *at) {
  if (mark[i] == 2) return 0;
  if (mark[i] == 1) {
    *at = i;
    return -1;
  }
  mark[i] = 1;
  for (size_t n = 0; n < modules[i].needs_count; n++)
    for (size_t j = 0; j < count; j++)
      if (!strcmp(modules[j].name, modules[i].needs[n]) &&
          policy_place(modules, count, j, mark, order, placed, at) < 0)
        return -1;
  mark[i] = 2;
  order[(*placed)++] = i;
  return 0;
}

int segue__policy_order(const segue__module_spec *modules, size_t count, size_t *order,
                        size_t *at) {
  unsigned char *mark = segue__calloc(count, 1);
  if (!mark) return UV_ENOMEM;
  size_t placed = 0;
  int rc = 0;
  for (size_t i = 0; i < count && !rc; i++)
    rc = policy_place(modules, count, i, mark, order, &placed, at);
  segue__free(mark);
  return rc;
}

int segue__policy_validate(const segue__policy *policy, segue__errors *errors) {
  size_t before = errors->total;
  for (size_t i = 0; i < policy->module_count; i++)
    check_module(policy, i, errors);
  for (size_t i = 0; i < policy->source_count; i++)
    for (size_t j = 0; j < i; j++)
      if (!strcmp(policy->sources[i].name, policy->sources[j].name) &&
          policy->sources[i].kind == policy->sources[j].kind)
        policy_complain(errors, policy->sources[i].name, "source '%s' is declared twice%s", "");
  if (errors->total != before) return SEGUE_EPOLICY;
  if (!policy->module_count) return 0;
  size_t at = 0;
  size_t *order = segue__calloc(policy->module_count, sizeof *order);
  if (!order) return UV_ENOMEM;
  int rc = segue__policy_order(policy->modules, policy->module_count, order, &at);
  segue__free(order);
  if (rc == -1) rc = complain_of_circle(policy, at, errors);
  if (rc < 0) return rc;
  return errors->total == before ? 0 : SEGUE_EPOLICY;
}
