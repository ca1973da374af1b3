/* SPDX-License-Identifier: MIT
 *
 * Two files and a command as one action.
 */
#include "effects.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "../../core/os/fault.h"
#include "../../core/reload/run.h"
#include "../../core/reload/step.h"

static const char *const names[] = {"a", "b"};

/* Applies what is there: both files, or none. */
static const char command[] =
    "if [ -e a ] && [ -e b ]; then cat a b > applied.new && mv applied.new applied; "
    "else rm -f applied; fi";

static int effects_fault(const char *phase, const char *what) {
  char point[64];
  snprintf(point, sizeof point, "effects.%s.%s", phase, what);
  (void)point; /* in builds without fault points */
  return SEGUE_FAULT(point);
}

/* ---- Files ---- */

static void effects_path(char path[640], const char *folder, const char *name, const char *end) {
  snprintf(path, 640, "%s/%s%s", folder, name, end);
}

static int effects_write(const char *path, const char *text) {
  FILE *file = fopen(path, "w");
  if (!file) return -errno;
  int rc = fputs(text, file) < 0 ? -EIO : 0;
  return fclose(file) ? -EIO : rc;
}

/* Returns false if there is no such file. */
static bool effects_read(const char *folder, const char *name, char text[32]) {
  char path[640];
  effects_path(path, folder, name, "");
  FILE *file = fopen(path, "r");
  if (!file) return false;
  text[fread(text, 1, 31, file)] = 0;
  (void)fclose(file);
  return true;
}

/* Writes a file as a whole; text NULL: removes it. */
static int effects_put(const char *folder, const char *name, const char *text) {
  char path[640], temp[640];
  effects_path(path, folder, name, "");
  effects_path(temp, folder, name, ".temp");
  if (!text) return unlink(path) && errno != ENOENT ? -errno : 0;
  int rc = effects_write(temp, text);
  return rc ? rc : rename(temp, path) ? -errno : 0;
}

/* ---- The command ---- */

typedef struct effects_run {
  void (*cb)(void *data, int status);
  void *data;
  const char *phase, *ran; /* of the fault point after it */
} effects_run;

static void effects_exited(void *data, const segue__spawn_result *result) {
  effects_run *run = data;
  int rc = result->status || result->exit_code ? UV_EIO : 0;
  if (!rc) rc = effects_fault(run->phase, run->ran);
  run->cb(run->data, rc);
  free(run);
}

static void effects_command(segue__loop *loop, const segue__os *os, const char *folder,
                            const effects_run *how) {
  const char *const argv[] = {"sh", "-c", command, NULL};
  effects_run *run = calloc(1, sizeof *run);
  segue__spawn *child;
  segue_error error;
  if (!run) abort();
  *run = *how;
  segue__spawn_options options = {.size = sizeof options,
                                  .argv = argv,
                                  .cwd = folder,
                                  .timeout_ms = 60000,
                                  .on_exit = effects_exited,
                                  .data = run};
  int rc = effects_fault(run->phase, strcmp(run->phase, "commit") ? "run" : "command");
  if (!rc) rc = os->spawn(os->data, loop, &options, &child, &error);
  if (!rc) return;
  run->cb(run->data, rc);
  free(run);
}

/* ---- The action ---- */

typedef struct effects_state {
  const effects_module *module;
  char next[32], previous[2][32];
  bool had[2], written, ran;
} effects_state;

static void effects_failed(segue__step *step, int code, const char *what) {
  segue_error error;
  segue__errorf(&error, code, "module '%s': %s: %s", step->spec->name, what, segue_strerror(code));
  segue__step_done(step, code, &error);
}

static void effects_free(segue__step *step) {
  effects_state *state = step->data;
  char path[640];
  for (int i = 0; i < 2; i++) {
    effects_path(path, state->module->folder, names[i], ".next");
    (void)unlink(path);
  }
  free(state);
  step->data = NULL;
}

static void effects_discard(segue__txn *txn, segue__step *step) {
  effects_free(step);
  segue__undo_done(txn);
}

static void effects_prepare(segue__step *step) {
  effects_state *state = calloc(1, sizeof *state);
  const segue_node *n = segue_node_get(segue_snapshot_root(step->txn->next), "n");
  int64_t number = 0;
  if (!state) abort();
  step->data = state;
  state->module = step->spec->userdata;
  int rc = segue__undo_push(step->txn, effects_discard, step);
  if (!rc) rc = segue_node_int(n, &number);
  snprintf(state->next, sizeof state->next, "%lld\n", (long long)number);
  for (int i = 0; i < 2 && !rc; i++) {
    char path[640];
    effects_path(path, state->module->folder, names[i], ".next");
    rc = effects_fault("stage", names[i]);
    if (!rc) rc = effects_write(path, state->next);
  }
  if (rc)
    effects_failed(step, rc, "its files cannot be staged");
  else
    segue__step_build(step);
}

static int effects_intend(segue__step *step, segue__intent *intent, segue_error *error) {
  effects_state *state = step->data;
  const char *folder = state->module->folder;
  (void)error; /* the engine names the module */
  int rc = segue__intent_set(intent, "does", "writes a and b, and applies them");
  if (!rc) rc = segue__intent_set(intent, "folder", folder);
  if (!rc) rc = segue__intent_set(intent, "next", state->next);
  for (int i = 0; i < 2 && !rc; i++) {
    state->had[i] = effects_read(folder, names[i], state->previous[i]);
    char name[] = "previous_a";
    name[sizeof name - 2] = names[i][0];
    if (state->had[i]) rc = segue__intent_set(intent, name, state->previous[i]);
  }
  return rc;
}

static void effects_applied(void *data, int status) {
  segue__step *step = data;
  if (status)
    effects_failed(step, status, "its command failed");
  else
    segue__step_start(step);
}

static void effects_commit(segue__step *step) {
  effects_state *state = step->data;
  const char *folder = state->module->folder;
  state->written = true;
  int rc = 0;
  for (int i = 0; i < 2 && !rc; i++) {
    char from[640], to[640];
    effects_path(from, folder, names[i], ".next");
    effects_path(to, folder, names[i], "");
    rc = effects_fault("write", names[i]);
    if (!rc && rename(from, to)) rc = -errno;
  }
  if (rc) {
    effects_failed(step, rc, "its files cannot be written");
    return;
  }
  state->ran = true;
  const effects_run run = {effects_applied, step, "commit", "ran"};
  effects_command(step->txn->engine->loop, step->txn->engine->os, folder, &run);
}

static void effects_not_undone(segue__step *step, int code) {
  segue_error error;
  segue__errorf(&error, code, "module '%s': its files cannot be put back: %s", step->spec->name,
                segue_strerror(code));
  segue__step_undo_failed(step, &error);
}

static void effects_unapplied(void *data, int status) {
  segue__step *step = data;
  if (status)
    effects_not_undone(step, status);
  else
    segue__step_unstart(step);
}

static void effects_undo(segue__step *step) {
  effects_state *state = step->data;
  const char *folder = state->module->folder;
  int rc = 0;
  if (!state->written) {
    segue__step_unstart(step);
    return;
  }
  for (int i = 0; i < 2 && !rc; i++) {
    rc = effects_fault("back", names[i]);
    if (!rc) rc = effects_put(folder, names[i], state->had[i] ? state->previous[i] : NULL);
  }
  if (rc) {
    effects_not_undone(step, rc);
  } else if (state->ran) {
    const effects_run run = {effects_unapplied, step, "back", "ran"};
    effects_command(step->txn->engine->loop, step->txn->engine->os, folder, &run);
  } else {
    segue__step_unstart(step);
  }
}

static void effects_settle(segue__step *step) {
  int rc = effects_fault("settle", "now"); /* specs kill the process here */
  (void)rc;
  effects_free(step);
  segue__step_retire(step);
}

/* ---- Recovery ---- */

static void effects_recovery_ends(segue__recovery *recovery, int code) {
  segue_error error = {0};
  if (code) segue__errorf(&error, code, "%s", segue_strerror(code));
  segue__recovery_done(recovery, code, code ? &error : NULL);
}

static void effects_recovered(void *data, int status) {
  effects_recovery_ends(data, status);
}

static void effects_recover(segue__recovery *recovery) {
  const segue__intent *intent = recovery->intent;
  const char *folder = segue__intent_get(intent, "folder");
  const char *next = segue__intent_get(intent, "next");
  int rc = folder && next ? 0 : UV_EINVAL;
  for (int i = 0; i < 2 && !rc; i++) {
    char name[] = "previous_a";
    name[sizeof name - 2] = names[i][0];
    rc = effects_fault("recover", names[i]);
    if (!rc)
      rc = effects_put(folder, names[i], recovery->finish ? next : segue__intent_get(intent, name));
  }
  if (rc) {
    effects_recovery_ends(recovery, rc);
    return;
  }
  const effects_run run = {effects_recovered, recovery, "recover", "ran"};
  effects_command(recovery->loop, recovery->os, folder, &run);
}

const segue__action *effects_action(void) {
  static const segue__action action = {.name = "pair",
                                       .untried = "apply",
                                       .builds = true,
                                       .prepare = effects_prepare,
                                       .commit = effects_commit,
                                       .undo = effects_undo,
                                       .settle = effects_settle,
                                       .intend = effects_intend,
                                       .recover = effects_recover};
  return &action;
}

/* ---- An instance that does nothing ---- */

static void nothing_prepare(void *userdata, segue_op *op, const segue_slice *next,
                            const segue_slice *prev, void **instance) {
  (void)next, (void)prev;
  *instance = userdata;
  segue_op_done(op, 0, NULL);
}

static void nothing(void *instance, segue_op *op) {
  (void)instance;
  segue_op_done(op, 0, NULL);
}

static void nothing_destroy(void *instance) {
  (void)instance;
}

const segue_module_ops *effects_ops(void) {
  static const segue_module_ops ops = {.size = sizeof ops,
                                       .prepare = nothing_prepare,
                                       .start = nothing,
                                       .drain = nothing,
                                       .stop = nothing,
                                       .destroy = nothing_destroy};
  return &ops;
}
