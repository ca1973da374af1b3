/* SPDX-License-Identifier: MIT
 *
 * The action "files": commit moves the staged files into place and runs the command, undo brings
 * the previous ones back and runs it again. The command is due from the moment on at which the
 * intent is in the journal: recovery.c runs it in the process after a crash.
 */
#include <string.h>
#include <uv.h>

#include "../config/config.h"
#include "../os/error.h"
#include "../os/fault.h"
#include "../reload/step.h"
#include "module.h"
#include "recovery.h"

static segue__file_instance *action_instance(const segue__step *step) {
  return segue__instance_object(step->next);
}

static void action_failed(segue__step *step, int status, const segue_error *error) {
  segue_error named;
  segue__errorf(&named, status, "module '%s': %s", step->spec->name, error->message);
  segue__step_done(step, status, &named);
}

static void action_undo_failed(segue__step *step, int status, const segue_error *error) {
  segue_error named;
  segue__errorf(&named, status, "module '%s': its files cannot be brought back: %s",
                step->spec->name, error->message);
  segue__step_undo_failed(step, &named);
}

static int action_apply(segue__step *step, const segue__file_module *module,
                        void (*cb)(void *data, int status, const segue_error *error),
                        segue_error *err) {
  segue__file_instance *instance = action_instance(step);
  const segue__file_command_options options = {.size = sizeof options,
                                               .loop = module->world->loop,
                                               .os = module->world->os,
                                               .title = "apply",
                                               .command = &module->apply,
                                               .folder = module->folder,
                                               .timeout_ms = module->timeout_ms,
                                               .times = instance->hurried ? 0 : module->retry_times,
                                               .pause_ms = module->retry_pause_ms,
                                               .cb = cb,
                                               .data = step};
  int rc = SEGUE_FAULT("files.apply");
  if (rc) return segue__errorf(err, rc, "apply command: %s", segue_strerror(rc));
  return segue__file_command_start(&instance->apply, &options, err);
}

/* ---- Commit ---- */

static void action_applied(void *data, int status, const segue_error *error) {
  segue__step *step = data;
  segue_error failure;
  action_instance(step)->apply = NULL;
  if (!status && (status = SEGUE_FAULT("files.applied"))) {
    segue__errorf(&failure, status, "apply command: %s", segue_strerror(status));
    error = &failure;
  }
  if (status)
    action_failed(step, status, error);
  else
    segue__step_start(step);
}

static void action_committed(void *data, int status, const segue_error *error) {
  segue__step *step = data;
  segue__file_instance *instance = action_instance(step);
  segue_error failure;
  if (status) {
    action_failed(step, status, error);
    return;
  }
  if (!instance->module->apply.count) {
    segue__step_start(step);
    return;
  }
  instance->applied = true;
  status = action_apply(step, instance->module, action_applied, &failure);
  if (status) action_failed(step, status, &failure);
}

static void action_commit(segue__step *step) {
  segue__file_instance *instance = action_instance(step);
  if (!segue__file_set_changed(instance->shared->set)) {
    segue__step_start(step);
    return;
  }
  instance->committed = true;
  segue__set_work_start(instance->shared, segue__file_set_commit, action_committed, step);
}

/* ---- Undo ---- */

static void action_unapplied(void *data, int status, const segue_error *error) {
  segue__step *step = data;
  action_instance(step)->apply = NULL;
  if (status)
    action_undo_failed(step, status, error);
  else
    segue__step_unstart(step);
}

/* The previous generation's own command applies its files. An instance has a copy of the operations
 * of its kind, so not their address but one of them shows whether it is of this kind. */
static const segue__file_module *action_previous(const segue__step *step) {
  bool same =
      step->old && segue__instance_ops(step->old)->prepare == segue__file_module_ops.prepare;
  const segue__file_instance *old = same ? segue__instance_object(step->old) : NULL;
  return old && old->module->apply.count ? old->module : action_instance(step)->module;
}

static void action_undone(void *data, int status, const segue_error *error) {
  segue__step *step = data;
  segue_error failure;
  if (status) {
    action_undo_failed(step, status, error);
  } else if (!action_instance(step)->applied) {
    segue__step_unstart(step);
  } else {
    status = action_apply(step, action_previous(step), action_unapplied, &failure);
    if (status) action_undo_failed(step, status, &failure);
  }
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
  segue__file_command_hurry(instance->apply);
}

/* ---- Settle ---- */

static void action_log_kept(const segue__file_world *world, const segue__file_set *set) {
  segue__file_status file;
  for (size_t i = 0; i < segue__file_set_count(set); i++) {
    segue__file_set_get(set, i, &file);
    if (file.kept)
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
  segue__shared_set_unref(shared);
}

static void action_settle(segue__step *step) {
  segue__shared_set *shared = action_instance(step)->shared;
  shared->refs++;
  step->data = shared;
  segue__step_retire(step);
}

/* The replaced files are what an undo after a crash needs, so they stay until the generation is on
 * disk. If it cannot be written they stay until the next change of the module. */
static void action_close(segue__step *step, bool recorded) {
  segue__shared_set *shared = step->data;
  step->data = NULL;
  if (recorded)
    segue__set_work_start(shared, segue__file_set_settle, action_settled, shared);
  else
    segue__shared_set_unref(shared);
}

/* ---- The intent ---- */

static void action_add_does(const segue__file_instance *instance, segue__buf *out) {
  enum { NAMED = 3 };
  const segue__file_set *set = instance->shared->set;
  segue__file_status file;
  size_t named = 0;
  segue__buf_adds(out, "writes ");
  for (size_t i = 0; i < segue__file_set_count(set) && named < NAMED; i++) {
    segue__file_set_get(set, i, &file);
    if (file.changed) segue__buf_addf(out, "%s%.200s", named++ ? ", " : "", file.path);
  }
  if (segue__file_set_changed(set) > named)
    segue__buf_addf(out, " and %zu more", segue__file_set_changed(set) - named);
  if (!instance->module->apply.count) return;
  segue__buf_adds(out, ", then runs ");
  segue__file_command_shown(&instance->module->apply, out);
}

static int action_set(segue__intent *intent, const char *name, segue__buf *text) {
  int rc = text->failed ? UV_ENOMEM : segue__intent_set_bytes(intent, name, text->data, text->len);
  segue__buf_deinit(text);
  segue__buf_init(text);
  return rc;
}

/* The command with which a recovery that undoes applies the previous files. */
static int action_intend_undo(const segue__file_module *previous, segue__intent *intent,
                              segue__buf *text) {
  segue__recovery_write_command(&previous->apply, text);
  int rc = action_set(intent, "unapply", text);
  if (!rc) rc = segue__intent_set(intent, "unapply_folder", previous->folder);
  return rc ? rc : segue__intent_set_number(intent, "unapply_timeout_ms", previous->timeout_ms);
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
  segue__recovery_write_command(&module->apply, &text);
  if (!rc) rc = action_set(intent, "apply", &text);
  if (!rc) rc = segue__intent_set(intent, "folder", module->folder);
  if (!rc) rc = segue__intent_set_number(intent, "timeout_ms", module->timeout_ms);
  if (!rc) rc = action_intend_undo(action_previous(step), intent, &text);
  segue__buf_deinit(&text);
  if (rc == UV_E2BIG)
    segue__errorf(error, rc,
                  "module '%s': %zu files change at once, which is more than its intent has room "
                  "for: divide them among several modules",
                  module->name, segue__file_set_changed(instance->shared->set));
  return rc;
}

/* ---- For results ---- */

/* A longer file has a diff only in a plan, where an operator waits for it. */
static void action_prepare(segue__step *step) {
  segue__file_module *module = step->spec->userdata;
  module->planning = segue__txn_result(step->txn)->plan_only;
  segue__step_build(step);
}

static void action_report(segue__step *step, segue__file_changes *out) {
  segue__file_instance *instance = step->next ? action_instance(step) : NULL;
  if (instance) (void)segue__file_changes_move(out, &instance->preview);
}

const segue__action segue__action_files = {.name = "files",
                                           .untried = "apply",
                                           .builds = true,
                                           .prepare = action_prepare,
                                           .report = action_report,
                                           .commit = action_commit,
                                           .undo = action_undo,
                                           .hurry = action_hurry,
                                           .settle = action_settle,
                                           .close = action_close,
                                           .intend = action_intend,
                                           .recover = segue__files_recover};
