/* SPDX-License-Identifier: MIT
 *
 * The module "exec": its spec in a policy, and its instances. An instance holds what a generation
 * wants of the child: environment, signals, limits. The action (exec_action.c) brings the child
 * there.
 */
#include "exec.h"

#include <signal.h>
#include <string.h>
#include <uv.h>

#include "../os/child_exec.h"
#include "../os/error.h"
#include "../os/mem.h"
#include "../os/signal_names.h"
#include "exec_internal.h"

enum { EXEC_STOP_MORE_MS = 5000, EXIT_NOT_FOUND = 127, EXIT_NOT_EXECUTABLE = 126 };

void segue__exec_not_run(segue__exec *exec, int status) {
  *exec->setup.code = status == UV_ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
}

void segue__exec_unref(segue__exec *exec) {
  if (--exec->refs == 0) segue__free(exec);
}

int segue__exec_new(segue__exec **out, segue__loop *loop, const segue__logger *log,
                    const segue__os *os, const segue__exec_setup *setup) {
  segue__exec *exec = segue__calloc(1, sizeof *exec);
  *out = NULL;
  if (!exec) return UV_ENOMEM;
  *exec = (segue__exec){.refs = 1, .setup = *setup, .loop = loop, .log = log, .os = os};
  exec->splay.data = exec;
  const segue__process_options options = {.size = sizeof options,
                                          .loop = loop,
                                          .os = os,
                                          .argv = setup->argv,
                                          .terminal = setup->terminal,
                                          .watcher = setup->watcher,
                                          .on_end = segue__exec_on_end,
                                          .data = exec};
  int rc = segue__process_new(&exec->process, &options);
  if (rc)
    segue__exec_unref(exec);
  else
    *out = exec;
  return rc;
}

segue__process *segue__exec_process(const segue__exec *exec) {
  return exec->process;
}

void segue__exec_close(segue__exec *exec) {
  if (!exec) return;
  segue__timer_stop(exec->loop, &exec->splay);
  segue__process_free(exec->process);
  exec->process = NULL;
  segue__exec_env_unref(exec->env);
  segue__exec_env_unref(exec->was_env);
  segue__exec_env_unref(exec->next_env);
  exec->env = exec->was_env = exec->next_env = NULL;
  segue__exec_unref(exec);
}

/* ---- Instances ---- */

typedef struct exec_module {
  segue__exec *exec;
  const segue__exec_options *options; /* of the policy, which frees this with its modules */
  const char *part;                   /* path; NULL: none */
} exec_module;

static void exec_module_free(void *userdata) {
  exec_module *module = userdata;
  segue__exec_unref(module->exec);
  segue__free(module);
}

static void exec_destroy(void *object) {
  segue__exec_instance *instance = object;
  segue__exec *exec = instance->exec;
  if (exec->live == instance) exec->live = NULL;
  if (exec->changing == instance) exec->changing = NULL;
  segue__exec_env_unref(instance->env);
  for (size_t i = 0; i < instance->count; i++)
    segue__free(instance->paths[i]);
  segue__free(instance->paths);
  segue__free(instance->hashes);
  segue__free(instance);
  segue__exec_unref(exec);
}

static segue__hash exec_hash(const segue_snapshot *snapshot, const char *path) {
  const segue_node *node = segue_node_get(segue_snapshot_root(snapshot), path);
  return node ? segue__node_hash(node) : (segue__hash){0, 0};
}

static int exec_add_path(segue__exec_instance *instance, const segue_snapshot *snapshot,
                         const char *path) {
  instance->paths[instance->count] = segue__strdup(path);
  if (!instance->paths[instance->count]) return UV_ENOMEM;
  instance->hashes[instance->count++] = exec_hash(snapshot, path);
  return 0;
}

static int exec_add_paths(segue__exec_instance *instance, const exec_module *module,
                          const segue_snapshot *snapshot) {
  const segue__exec_pairs *from = &module->options->env_from;
  instance->paths = segue__calloc(from->count + 1, sizeof *instance->paths);
  instance->hashes = segue__calloc(from->count + 1, sizeof *instance->hashes);
  int rc = instance->paths && instance->hashes ? 0 : UV_ENOMEM;
  for (size_t i = 0; i < from->count && !rc; i++)
    rc = exec_add_path(instance, snapshot, from->items[i].value);
  instance->has_part = module->part != NULL;
  if (!rc && module->part) rc = exec_add_path(instance, snapshot, module->part);
  return rc;
}

/* The options of the command line replace those of the policy. */
static void exec_set(segue__exec_instance *instance, const segue__exec_options *options) {
  const segue__exec_flags *flags = &instance->exec->setup.flags;
  int choice = options->reload_given ? options->reload_signal : 0;
  instance->restarts = !options->reload_given && !flags->reload_given;
  instance->reload_signal = flags->reload_given ? flags->reload_signal
                            : choice            ? segue__signal_numbers[choice - 1]
                                                : 0;
  instance->splay_ms = flags->splay_given ? flags->splay_ms : options->splay_ms;
  instance->manner.group = options->group;
  instance->manner.at_once = options->at_once;
  instance->manner.kill_signal = flags->kill_signal    ? flags->kill_signal
                                 : options->kill_given ? segue__signal_numbers[options->kill_signal]
                                                       : SIGTERM;
  instance->manner.kill_ms = flags->kill_ms             ? flags->kill_ms
                             : options->kill_time_given ? options->kill_ms
                                                        : SEGUE__EXEC_KILL_MS;
}

/* A program that is missing is reported before any file is replaced for it. A child that runs and
 * gets a signal does not need its program any more; one whose environment changes is restarted. */
static int exec_find_program(const segue__exec_instance *instance, segue_error *err) {
  const segue__exec *exec = instance->exec;
  segue__executable found;
  if (segue__process_runs(exec->process) && !instance->restarts &&
      segue__exec_env_equal(exec->env, instance->env))
    return 0;
  const segue__child_options options = {
      .size = sizeof options, .argv = exec->setup.argv, .env = instance->env->environment.entries};
  int rc = segue__executable_find(&options, &found, err);
  if (rc && !segue__process_runs(exec->process)) segue__exec_not_run(instance->exec, rc);
  return rc;
}

static void exec_prepare(void *userdata, segue_op *op, const segue_slice *next,
                         const segue_slice *prev, void **out) {
  const exec_module *module = userdata;
  segue__exec_instance *instance = segue__calloc(1, sizeof *instance);
  segue_error error;
  (void)prev;
  *out = instance;
  if (!instance) {
    segue_op_done(op, UV_ENOMEM, NULL);
    return;
  }
  instance->exec = module->exec;
  module->exec->refs++;
  instance->op = op;
  exec_set(instance, module->options);
  int rc = exec_add_paths(instance, module, next->snapshot);
  if (rc) segue__errorf(&error, rc, "exec: out of memory");
  if (!rc)
    rc = segue__exec_env_new(&instance->env, module->options, next->snapshot, module->exec->os,
                             &error);
  if (!rc) rc = exec_find_program(instance, &error);
  segue_op_done(op, rc, rc ? &error : NULL);
}

static void exec_stopped(segue__exec *exec, int status, const segue_error *error) {
  segue_op *op = exec->stop_op;
  (void)status, (void)error;
  exec->stop_op = NULL;
  segue_op_done(op, 0, NULL);
}

/* Each replaced instance stops too; the child goes with the last one, at the end of segue. */
static void exec_stop(void *object, segue_op *op) {
  segue__exec_instance *instance = object;
  segue__exec *exec = instance->exec;
  if (exec->live != instance || !exec->process || !segue__process_runs(exec->process)) {
    segue_op_done(op, 0, NULL);
    return;
  }
  exec->stop_op = op;
  segue__exec_replace(exec, NULL, exec_stopped);
}

static const char *exec_differs(const void *object, const segue_snapshot *next) {
  const segue__exec_instance *instance = object;
  for (size_t i = 0; i < instance->count; i++)
    if (!segue__hash_equal(instance->hashes[i], exec_hash(next, instance->paths[i])))
      return instance->paths[i];
  return NULL;
}

static const segue_module_ops exec_ops = {
    .size = sizeof exec_ops, .prepare = exec_prepare, .stop = exec_stop, .destroy = exec_destroy};

/* ---- The module in a policy ---- */

static void exec_hash_pairs(const segue__exec_pairs *pairs, segue__hash *hash) {
  for (size_t i = 0; i < pairs->count; i++) {
    const segue_option_pair *pair = &pairs->items[i];
    *hash = segue__hash_bytes(pair->key, strlen(pair->key) + 1, *hash);
    const char *value = pair->value ? pair->value : "";
    *hash = segue__hash_bytes(value, strlen(value) + (pair->value != NULL), *hash);
  }
}

static segue__hash exec_hash_options(const segue__exec_options *o) {
  const uint64_t numbers[] = {o->reload_given, (uint64_t)o->reload_signal,
                              o->kill_given,   (uint64_t)o->kill_signal,
                              o->kill_ms,      o->splay_ms,
                              o->group,        o->at_once};
  segue__hash hash = segue__hash_bytes(numbers, sizeof numbers, (segue__hash){1, 1});
  const char *config = o->config ? o->config : "\n";
  hash = segue__hash_bytes(config, strlen(config) + 1, hash);
  exec_hash_pairs(&o->env, &hash);
  exec_hash_pairs(&o->env_from, &hash);
  return hash;
}

/* It needs the modules whose files have no effect of their own: their changes reload the child. */
static int exec_add_needs(const segue__policy *policy, segue__module_spec *spec) {
  spec->needs = segue__calloc(policy->module_count + 1, sizeof *spec->needs);
  if (!spec->needs) return UV_ENOMEM;
  for (size_t i = 0; i < policy->module_count; i++) {
    if (!policy->modules[i].unapplied) continue;
    spec->needs[spec->needs_count] = segue__strdup(policy->modules[i].name);
    if (!spec->needs[spec->needs_count]) return UV_ENOMEM;
    spec->needs_count++;
  }
  return 0;
}

static uint64_t exec_stop_ms(const segue__exec *exec, const segue__exec_options *options) {
  uint64_t kill_ms = exec->setup.flags.kill_ms  ? exec->setup.flags.kill_ms
                     : options->kill_time_given ? options->kill_ms
                                                : SEGUE__EXEC_KILL_MS;
  return kill_ms + EXEC_STOP_MORE_MS;
}

int segue__exec_join(segue__exec *exec, segue__policy *policy, segue__errors *errors) {
  const segue__exec_options *options = &policy->exec;
  segue_error error;
  if (segue__policy_module(policy, "exec")) {
    segue__errorf(&error, SEGUE_EPOLICY,
                  "modules.exec: the child of segue exec has this name: use another one");
    segue__errors_add(errors, &error);
    return error.code;
  }
  segue__module_spec *specs =
      segue__realloc(policy->modules, (policy->module_count + 1) * sizeof *specs);
  exec_module *module = specs ? segue__calloc(1, sizeof *module) : NULL;
  if (specs) policy->modules = specs;
  if (!module) return UV_ENOMEM;
  segue__module_spec *spec = &specs[policy->module_count];
  *spec = (segue__module_spec){.name = segue__strdup("exec"),
                               .kind = segue__strdup("exec"),
                               .replace = SEGUE__SWAP,
                               .stop_ms = exec_stop_ms(exec, options),
                               .ops = &exec_ops,
                               .userdata = module,
                               .action = &segue__action_exec,
                               .free = exec_module_free,
                               .differs = exec_differs,
                               .follows = true,
                               .options = exec_hash_options(options)};
  *module = (exec_module){.exec = exec, .options = options};
  exec->refs++;
  int rc = exec_add_needs(policy, spec);
  if (!rc && (!spec->name || !spec->kind)) rc = UV_ENOMEM;
  module->part = options->config ? options->config : spec->needs_count ? NULL : "";
  policy->module_count++; /* the policy frees it */
  return rc;
}
