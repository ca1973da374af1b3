/* SPDX-License-Identifier: MIT
 *
 * The action "files": commit moves the staged files into place and applies them, undo brings
 * the previous ones back and applies these. Applying them is due from the moment on at which the
 * intent is in the journal: recovery.c does it in the process after a crash.
 */
#include <string.h>
#include <uv.h>

#include "../config/config.h"
#include "../os/error.h"
#include "../os/fault.h"
#include "../reload/action.h"
#include "ask.h"
#include "inventory.h"
#include "module.h"
#include "recovery.h"

static segue__file_instance *action_instance(const segue__step *step) {
  return segue__instance_object(segue__step_next(step));
}

/* Ends a step with an error that names the module. The file and line of a function of the policy
 * remain in the error. */
static void action_failed(segue__step *step, int status, const segue_error *error) {
  segue_error named;
  segue__errorf(&named, status, "module '%s': %s", segue__step_module_name(step), error->message);
  if (error->file[0]) segue__error_set_place(&named, error->file, error->line, error->column);
  segue__step_done(step, status, &named);
}

/* what: the part of the undo that has failed. An operator must read whether the previous files are
 * there: where only their command has failed, the server may use them after a restart. */
static void action_undo_failed(segue__step *step, int status, const char *what,
                               const segue_error *error) {
  segue_error named;
  segue__errorf(&named, status, "module '%s': %s: %s", segue__step_module_name(step), what,
                error->message);
  segue__step_undo_failed(step, &named);
}

static const char action_unmoved[] = "its files cannot be brought back",
                  action_not_unapplied[] =
                      "its previous files are back, but they could not be applied";

static int action_start_effect(segue__step *step, const char *title, const segue__effect *effect,
                               void (*cb)(void *data, int status, const segue_error *error),
                               segue_error *err) {
  segue__file_instance *instance = action_instance(step);
  const segue__file_module *module = instance->module;
  segue__effect_options options = segue__file_module_effect(module, title, effect);
  options.times = instance->hurried ? 0 : module->retry_times;
  options.pause_ms = module->retry_pause_ms;
  options.cb = cb;
  options.data = step;
  int rc = SEGUE_FAULT("files.apply");
  if (rc) return segue__errorf(err, rc, "apply: %s", segue_strerror(rc));
  return segue__effect_start(&instance->apply, &options, err);
}

static int action_ask(segue__step *step, const char *function, uint64_t within_ms,
                      void (*cb)(void *data, int status, const segue_error *error),
                      segue_error *err) {
  segue__file_instance *instance = action_instance(step);
  const segue__ask_options options = {.size = sizeof options,
                                      .module = instance->module,
                                      .function = function,
                                      .within_ms = within_ms,
                                      .again = !strcmp(function, "verify"),
                                      .cb = cb,
                                      .data = step};
  if (instance->hurried)
    return segue__errorf(err, SEGUE_ECANCELLED, "%s: the process stops", function);
  return segue__ask_start(&instance->ask, &options, err);
}

/* ---- Commit ---- */

static void action_verified(void *data, int status, const segue_error *error) {
  segue__step *step = data;
  segue_error failure;
  action_instance(step)->ask = NULL;
  if (!status && (status = SEGUE_FAULT("files.verified"))) {
    segue__errorf(&failure, status, "verify: %s", segue_strerror(status));
    error = &failure;
  }
  if (status)
    action_failed(step, status, error);
  else
    segue__step_start(step);
}

/* Called after apply: verify decides whether the server uses the new files. */
static void action_verify(segue__step *step) {
  const segue__file_module *module = action_instance(step)->module;
  segue_error failure;
  if (!module->verify_ms) {
    segue__step_start(step);
    return;
  }
  int rc = action_ask(step, "verify", module->verify_ms, action_verified, &failure);
  if (rc) action_failed(step, rc, &failure);
}

static void action_log_applied(const segue__step *step) {
  const segue__file_instance *instance = action_instance(step);
  const segue__file_world *world = instance->module->world;
  segue__buf by;
  segue__buf_init(&by);
  segue__effect_shown(&instance->module->apply, &by);
  if (!by.failed)
    SEGUE__LOG(world->log, SEGUE_INFO, "files", "applied",
               SEGUE__FIELD("module", instance->module->name), SEGUE__FIELD("by", by.data),
               SEGUE__FIELD("ms", segue__loop_now_ms(world->loop) - instance->apply_since_ms));
  segue__buf_deinit(&by);
}

static void action_applied(void *data, int status, const segue_error *error) {
  segue__step *step = data;
  segue_error failure;
  action_instance(step)->apply = NULL;
  segue__inventory_apply_end(action_instance(step), &action_instance(step)->module->apply, false,
                             status ? error : NULL);
  if (!status) action_log_applied(step);
  if (!status && (status = SEGUE_FAULT("files.applied"))) {
    segue__errorf(&failure, status, "apply: %s", segue_strerror(status));
    error = &failure;
  }
  if (status)
    action_failed(step, status, error);
  else
    action_verify(step);
}

static void action_committed(void *data, int status, const segue_error *error) {
  segue__step *step = data;
  segue__file_instance *instance = action_instance(step);
  segue_error failure;
  if (status) {
    action_failed(step, status, error);
    return;
  }
  if (!segue__effect_any(&instance->module->apply)) {
    action_verify(step);
    return;
  }
  instance->applied = true;
  segue__inventory_apply_begin(instance);
  instance->apply_since_ms = segue__loop_now_ms(instance->module->world->loop);
  status = action_start_effect(step, "apply", &instance->module->apply, action_applied, &failure);
  if (status) action_failed(step, status, &failure);
}

static void action_move(segue__step *step) {
  segue__file_instance *instance = action_instance(step);
  instance->committed = true;
  segue__inventory_changing(instance, true);
  segue__set_work_start(instance->shared, segue__file_set_commit, action_committed, step);
}

static void action_looked(void *data, int status, const segue_error *error) {
  segue__step *step = data;
  action_instance(step)->ask = NULL;
  if (status)
    action_failed(step, status, error);
  else
    action_move(step);
}

/* A check of verify may need the state of the server before it was asked to change: its worker
 * processes, the time of its last reload. */
static void action_commit(segue__step *step) {
  segue__file_instance *instance = action_instance(step);
  const segue__file_module *module = instance->module;
  segue_error failure;
  if (!segue__file_set_changed(instance->shared->set)) {
    segue__step_start(step);
    return;
  }
  if (!module->verify_ms) {
    action_move(step);
    return;
  }
  int rc = action_ask(step, "before", module->verify_ms, action_looked, &failure);
  if (rc) action_failed(step, rc, &failure);
}

/* ---- Undo ---- */

static const segue__effect *action_unapply(const segue__step *step);

static void action_unapplied(void *data, int status, const segue_error *error) {
  segue__step *step = data;
  action_instance(step)->apply = NULL;
  action_instance(step)->ask = NULL;
  segue__inventory_apply_end(action_instance(step), action_unapply(step), true,
                             status ? error : NULL);
  if (status)
    action_undo_failed(step, status, action_not_unapplied, error);
  else
    segue__step_unstart(step);
}

/* The previous generation's own command applies its files. An instance has a copy of the operations
 * of its kind, so not their address but one of them shows whether it is of this kind. */
static const segue__file_module *action_previous(const segue__step *step) {
  const segue__instance *was = segue__step_old(step);
  bool same = was && segue__instance_ops(was)->prepare == segue__file_module_ops.prepare;
  const segue__file_instance *old = same ? segue__instance_object(was) : NULL;
  bool applies = old && segue__effect_any(&old->module->apply);
  return applies ? old->module : action_instance(step)->module;
}

/* The effect of an undo: what the module has for it, else apply again. */
static const segue__effect *action_unapply(const segue__step *step) {
  const segue__file_module *module = action_instance(step)->module;
  return segue__effect_any(&module->undo) ? &module->undo : &action_previous(step)->apply;
}

static void action_undone(void *data, int status, const segue_error *error) {
  segue__step *step = data;
  segue__file_instance *instance = action_instance(step);
  const segue__effect *undo = &instance->module->undo;
  segue_error failure;
  segue__inventory_changing(action_instance(step), false);
  if (status) {
    action_undo_failed(step, status, action_unmoved, error);
    return;
  }
  if (!instance->applied) {
    segue__step_unstart(step);
    return;
  }
  segue__inventory_apply_begin(instance);
  if (undo->has_call && !instance->hurried)
    status = action_ask(step, "undo", undo->timeout_ms, action_unapplied, &failure);
  else
    status = action_start_effect(step, undo == action_unapply(step) ? "undo" : "apply",
                                 action_unapply(step), action_unapplied, &failure);
  if (status) action_undo_failed(step, status, action_not_unapplied, &failure);
}

static void action_undo(segue__step *step) {
  segue__file_instance *instance = action_instance(step);
  if (instance->committed)
    segue__set_work_start(instance->shared, segue__file_set_undo, action_undone, step);
  else
    segue__step_unstart(step);
}

/* A stop does not wait for a command that may be tried again for hours. */
static void action_hurry(segue__step *step) {
  segue__file_instance *instance = action_instance(step);
  instance->hurried = true;
  segue__effect_hurry(instance->apply);
  segue__ask_stop(instance->ask);
}

/* ---- Settle ---- */

static void action_log_dropped(const segue__file_world *world, const segue__file_status *file) {
  const char *then = "it stays as it is";
  if (file->next.kind == SEGUE__FILE_NONE)
    then = "it is removed";
  else if (!segue__file_version_equal(&file->previous, &file->next))
    then = "the version from before the first write of segue is back";
  SEGUE__LOG(world->log, file->why ? SEGUE_WARN : SEGUE_INFO, "files",
             "a file is no longer of a module", SEGUE__FIELD("file", file->path),
             SEGUE__FIELD("then", then),
             SEGUE__FIELD("because", file->why ? file->why : "removed"));
}

static void action_log_kept(const segue__file_world *world, const segue__file_set *set) {
  segue__file_status file;
  for (size_t i = 0; i < segue__file_set_count(set); i++) {
    segue__file_set_get(set, i, &file);
    if (file.dropped && !file.added) action_log_dropped(world, &file);
    if (file.kept && file.part == SEGUE__PART_LINK)
      SEGUE__LOG(world->log, SEGUE_WARN, "files",
                 "a folder was not as segue has written it last: that version is kept",
                 SEGUE__FIELD("file", file.path), SEGUE__FIELD("kept", file.kept),
                 SEGUE__FIELD("remedy", "the last 10 are kept: a program that writes into the "
                                        "folder needs another place for its files"));
    else if (file.kept)
      SEGUE__LOG(world->log, SEGUE_WARN, "files",
                 "a file was not as segue has written it last: that version is kept",
                 SEGUE__FIELD("file", file.path), SEGUE__FIELD("kept", file.kept));
  }
}

static void action_settled(void *data, int status, const segue_error *error) {
  segue__shared_set *shared = data;
  if (shared->world->log) action_log_kept(shared->world, shared->set);
  if (status && shared->world->log)
    SEGUE__LOG(shared->world->log, SEGUE_ERROR, "files",
               "the files are in place, but something of the change could not be put in order",
               SEGUE__FIELD("error", error->message));
  segue__file_drift_settled(shared->world);
  segue__shared_set_unref(shared);
}

/* For close. */
static void action_hold_set(segue__step *step) {
  segue__shared_set *shared = action_instance(step)->shared;
  shared->refs++;
  segue__step_set_data(step, shared);
}

static void action_observe(const segue__step *step) {
  segue__inventory_notify_written(action_instance(step),
                                  segue_snapshot_generation(segue__step_next_snapshot(step)));
}

static void action_settle(segue__step *step) {
  action_observe(step);
  segue__inventory_settled(action_instance(step),
                           segue_snapshot_generation(segue__step_next_snapshot(step)));
  action_hold_set(step);
  segue__step_retire(step);
}

static void action_settle_remove(segue__step *step) {
  action_observe(step);
  action_hold_set(step);
  segue__step_remove(step);
}

/* The replaced files are what an undo after a crash needs, so they stay until the generation is on
 * disk. If it cannot be written they stay until the next change of the module. */
static void action_close(segue__step *step, bool recorded) {
  segue__shared_set *shared = segue__step_data(step);
  segue__step_set_data(step, NULL);
  if (recorded)
    segue__set_work_start(shared, segue__file_set_settle, action_settled, shared);
  else
    segue__shared_set_unref(shared);
}

/* ---- The intent ---- */

/* "writes /etc/a, /etc/b and 5 more" */
static size_t action_add_names(const segue__file_set *set, const char *verb, bool removed,
                               segue__buf *out) {
  enum { NAMED = 3 };
  segue__file_status file;
  size_t count = 0;
  for (size_t i = 0; i < segue__file_set_count(set); i++) {
    segue__file_set_get(set, i, &file);
    if (!file.changed || !file.shown || (file.next.kind == SEGUE__FILE_NONE) != removed) continue;
    if (count < NAMED) segue__buf_addf(out, "%s%.200s", count ? ", " : verb, file.path);
    count++;
  }
  if (count > NAMED) segue__buf_addf(out, " and %zu more", count - NAMED);
  return count;
}

static void action_add_does(const segue__file_instance *instance, segue__buf *out) {
  const segue__file_set *set = instance->shared->set;
  size_t written = action_add_names(set, "writes ", false, out);
  action_add_names(set, written ? ", removes " : "removes ", true, out);
  const segue__effect *apply = &instance->module->apply;
  if (!segue__effect_any(apply)) return;
  segue__buf_adds(out, apply->pidfile || apply->url ? ", then sends " : ", then runs ");
  segue__effect_shown(apply, out);
}

static int action_set(segue__intent *intent, const char *name, segue__buf *text) {
  int rc = text->failed ? UV_ENOMEM : segue__intent_set_bytes(intent, name, text->data, text->len);
  segue__buf_deinit(text);
  segue__buf_init(text);
  return rc;
}

static int action_intend(segue__step *step, segue__intent *intent, segue_error *error) {
  const segue__file_instance *instance = action_instance(step);
  const segue__file_module *module = instance->module;
  if (!segue__file_set_changed(instance->shared->set)) return SEGUE__NO_EFFECTS;
  segue__buf text;
  segue__buf_init(&text);
  action_add_does(instance, &text);
  int rc = action_set(intent, "does", &text);
  segue__file_set_intent(instance->shared->set, &text);
  if (!rc) rc = action_set(intent, "files", &text);
  segue__effect_write(&module->apply, &text);
  if (!rc) rc = action_set(intent, "apply", &text);
  segue__effect_write(action_unapply(step), &text);
  if (!rc) rc = action_set(intent, "unapply", &text);
  segue__buf_deinit(&text);
  if (rc == UV_E2BIG)
    segue__errorf(error, rc, "module '%s': its commands are longer than its intent has room for",
                  module->name);
  return rc;
}

/* ---- For results ---- */

/* A longer file has a diff only in a plan, where an operator waits for it. */
static void action_prepare(segue__step *step) {
  segue__file_module *module = segue__step_spec(step)->userdata;
  module->planning = segue__step_plans(step);
  segue__step_build(step);
}

static bool action_changes(const segue__step *step) {
  return segue__file_set_changed(action_instance(step)->shared->set) > 0;
}

static void action_report(segue__step *step, segue__file_changes *out) {
  segue__file_instance *instance = segue__step_next(step) ? action_instance(step) : NULL;
  if (instance) (void)segue__file_changes_move(out, &instance->preview);
}

#define FILES_STEP                                                                                 \
  .prepare = action_prepare, .report = action_report, .changes = action_changes,                   \
  .commit = action_commit, .undo = action_undo, .hurry = action_hurry, .close = action_close,      \
  .intend = action_intend, .recover = segue__files_recover

const segue__action segue__action_files = {
    .name = "files", .untried = "apply", .builds = true, .settle = action_settle, FILES_STEP};

/* The step that drops a module: its set has the files of the book, and no others. The instance of
 * the step is never live. */
const segue__action segue__action_files_remove = {.name = "files remove",
                                                  .untried = "remove the files of",
                                                  .settle = action_settle_remove,
                                                  FILES_STEP};
