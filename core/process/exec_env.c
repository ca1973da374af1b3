/* SPDX-License-Identifier: MIT
 *
 * The environment of the child: this process's, with the variables of the policy, and with values
 * of the configuration. Values may be secrets, so no message shows them.
 */
#include <string.h>
#include <uv.h>

#include "../config/config.h"
#include "../os/error.h"
#include "../os/mem.h"
#include "exec_internal.h"

/* Appends the text of a value. Returns 1 if it is null: the variable is removed. */
static int env_value(const segue__exec_options *options, size_t index,
                     const segue_snapshot *snapshot, segue__buf *out, segue_error *err) {
  const segue_option_pair *pair = &options->env_from.items[index];
  const segue_node *node = segue_node_get(segue_snapshot_root(snapshot), pair->value);
  if (!node)
    return segue__errorf(err, SEGUE_ECONFIG,
                         "exec.env_from.%.100s: %.200s is not in the configuration", pair->key,
                         pair->value);
  switch (node->type) {
  case SEGUE_NULL:
    return 1;
  case SEGUE_STRING:
    if (memchr(node->v.s, 0, node->count)) break;
    segue__buf_add(out, node->v.s, node->count);
    return 0;
  case SEGUE_MAP:
  case SEGUE_LIST:
    break;
  default:
    segue__json_write(out, node, 0);
    return 0;
  }
  return segue_error_at(err, SEGUE_ECONFIG, snapshot, node,
                        "%.200s must be one value without NUL: it becomes the variable %.100s of "
                        "the child (exec.env_from)",
                        pair->value, pair->key);
}

static int env_texts(const segue__exec_options *options, const segue_snapshot *snapshot,
                     segue__buf *texts, segue_error *err) {
  for (size_t i = 0; i < options->env.count; i++) {
    segue__buf_adds(texts, options->env.items[i].key);
    if (options->env.items[i].value) segue__buf_addf(texts, "=%s", options->env.items[i].value);
    segue__buf_addc(texts, 0);
  }
  for (size_t i = 0; i < options->env_from.count; i++) {
    segue__buf_adds(texts, options->env_from.items[i].key);
    size_t end = texts->len;
    segue__buf_addc(texts, '=');
    int rc = env_value(options, i, snapshot, texts, err);
    if (rc < 0) return rc;
    if (rc) texts->len = end;
    segue__buf_addc(texts, 0);
  }
  return texts->failed ? segue__errorf(err, UV_ENOMEM, "exec: out of memory") : 0;
}

int segue__exec_env_new(segue__exec_env **out, const segue__exec_options *options,
                        const segue_snapshot *snapshot, const segue__os *os, segue_error *err) {
  segue__buf texts;
  size_t count = options->env.count + options->env_from.count;
  segue__exec_env *env = segue__calloc(1, sizeof *env);
  *out = NULL;
  if (!env) return segue__errorf(err, UV_ENOMEM, "exec: out of memory");
  env->refs = 1;
  segue__buf_init(&texts);
  segue__buf_addc(&texts, 0); /* so that it is not empty */
  int rc = env_texts(options, snapshot, &texts, err);
  env->texts = texts.data;
  if (!rc && !(env->changes = segue__calloc(count + 1, sizeof *env->changes))) rc = UV_ENOMEM;
  char *at = env->texts + 1;
  for (size_t i = 0; i < count && !rc; i++, at += strlen(at) + 1)
    env->changes[i] = at;
  if (!rc)
    rc = segue__environment_make(&env->environment, os->environ(os->data), env->changes, NULL);
  if (rc == UV_ENOMEM) segue__errorf(err, rc, "exec: out of memory");
  if (rc)
    segue__exec_env_unref(env);
  else
    *out = env;
  return rc;
}

segue__exec_env *segue__exec_env_ref(segue__exec_env *env) {
  if (env) env->refs++;
  return env;
}

void segue__exec_env_unref(segue__exec_env *env) {
  if (!env || --env->refs) return;
  segue__environment_free(&env->environment);
  segue__free(env->changes);
  segue__free(env->texts);
  segue__free(env);
}

bool segue__exec_env_equal(const segue__exec_env *a, const segue__exec_env *b) {
  size_t i = 0;
  for (; a->changes[i] && b->changes[i]; i++)
    if (strcmp(a->changes[i], b->changes[i]) != 0) return false;
  return !a->changes[i] && !b->changes[i];
}
