/* SPDX-License-Identifier: MIT
 *
 * Instances of a files module: an instance is one rendered and staged set. Its prepare renders,
 * stages on the worker, and runs the check command; the action moves the files (action.c).
 */
#include "module.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "../os/error.h"
#include "../os/op.h"
#include "check.h"
#include "inventory.h"
#include "preview.h"
#include "simulation.h"

/* ---- Work on a set, off the loop ---- */

static void work_run(segue__job *job) {
  segue__set_work *work = (segue__set_work *)job;
  work->status = work->run(work->shared->set, &work->error);
}

static void work_done(segue__job *job) {
  segue__set_work *work = (segue__set_work *)job;
  segue__shared_set *shared = work->shared;
  work->done(work->data, work->status, work->status ? &work->error : NULL);
  segue__free(work);
  segue__shared_set_unref(shared);
}

/* The loop closes, and no worker runs the job any more: only the end of a set is left to do then,
 * and it is done here. */
static void work_abandoned(segue__job *job) {
  segue__set_work *work = (segue__set_work *)job;
  if (work->status == SEGUE_ECANCELLED) work_run(job);
  work_done(job);
}

void segue__set_work_start(segue__shared_set *shared,
                           int (*run)(segue__file_set *set, segue_error *err),
                           void (*done)(void *data, int status, const segue_error *error),
                           void *data) {
  segue__set_work *work = segue__calloc(1, sizeof *work);
  segue_error error;
  if (!work) {
    segue__errorf(&error, UV_ENOMEM, "out of memory");
    done(data, UV_ENOMEM, &error);
    return;
  }
  *work =
      (segue__set_work){.job = {.run = work_run, .done = work_done, .abandoned = work_abandoned},
                        .shared = shared,
                        .run = run,
                        .done = done,
                        .data = data,
                        .status = SEGUE_ECANCELLED};
  shared->refs++;
  int rc = segue__job_submit(shared->world->loop, SEGUE__QUEUE_FILES, &work->job);
  if (rc == UV_ECANCELED) {
    work_abandoned(&work->job);
  } else if (rc) {
    work->status =
        segue__errorf(&work->error, rc, "the disk does not answer: %s", segue_strerror(rc));
    work_done(&work->job);
  }
}

/* ---- Prepare ---- */

static void instance_end(segue__file_instance *instance, int status, const segue_error *error) {
  segue_op *op = instance->op;
  segue_error named;
  instance->op = NULL;
  segue__op_on_cancel(op, NULL, NULL);
  if (status < 0) {
    /* A destination or a command that is written wrong is the policy's mistake: no retry helps. */
    int code = status == SEGUE_EUSAGE || status == SEGUE_EPOLICY ? SEGUE_ECONFIG : status;
    named = *error;
    named.code = code;
  }
  segue__inventory_prepared(instance, status < 0 ? error : NULL);
  segue_op_done(op, status < 0 ? named.code : 0, status < 0 ? &named : NULL);
}

static void instance_cancelled(segue__file_instance *instance) {
  segue_error error;
  segue__errorf(&error, SEGUE_ECANCELLED, "its preparation was cancelled");
  instance_end(instance, SEGUE_ECANCELLED, &error);
}

segue__effect_options segue__file_module_effect(const segue__file_module *module, const char *title,
                                                const segue__effect *effect) {
  const segue__file_world *world = module->world;
  return (segue__effect_options){.size = sizeof(segue__effect_options),
                                 .loop = world->loop,
                                 .os = world->os,
                                 .outside = world->outside,
                                 .answers = world->answers,
                                 .module = module->name,
                                 .title = title,
                                 .effect = effect};
}

static void check_done(void *data, int status, const segue_error *error) {
  segue__file_instance *instance = data;
  segue_error refused;
  instance->command = NULL;
  uint64_t ms = segue__loop_now_ms(instance->module->world->loop) - instance->check_since_ms;
  segue__inventory_ran(instance, SEGUE__FILE_CHECK, !status, ms);
  segue__inventory_notify_ran(instance, "check", &instance->module->check, ms,
                              status ? error : NULL);
  if (*instance->check_folder) (void)rmdir(instance->check_folder);
  if (!status && *instance->check_folder) instance->module->world->namespaces_work = true;
  if (status == SEGUE_EMODULE) {
    refused = *error;
    /* The check decides about the configuration: it is rejected, and not tried again. */
    refused.code = status = SEGUE_ECONFIG;
    if (*instance->check_folder &&
        (strstr(error->message, "unshare: ") || strstr(error->message, "mount: ")))
      segue__errorf(&refused, status = SEGUE_EMODULE,
                    "%s. Segue runs the check where the new files are in the place of the live "
                    "ones, and this system refuses that: name them as {staged:PATH} in check",
                    error->message);
    error = &refused;
  }
  instance_end(instance, status, error);
}

static int check_start(segue__file_instance *instance, segue_error *err) {
  segue__file_module *module = instance->module;
  segue__check_words words;
  int rc = segue__check_words_make(&words, instance->shared->set, &module->check, err);
  if (rc) return rc;
  memcpy(instance->check_folder, words.folder, sizeof words.folder);
  segue__effect_options options = segue__file_module_effect(module, "check", &words.effect);
  options.shown = &module->check;
  options.kill_rest = true;
  options.cb = check_done;
  options.data = instance;
  bool in_place = !words.names_staged;
  if (in_place) segue__simulation_show(instance->shared->set, true);
  instance->check_since_ms = segue__loop_now_ms(module->world->loop);
  rc = segue__effect_start(&instance->command, &options, err);
  if (in_place) segue__simulation_show(instance->shared->set, false);
  segue__effect_clear(&words.effect);
  if (rc && *instance->check_folder) (void)rmdir(instance->check_folder);
  return rc;
}

/* ---- A check that does not run ---- */

static void try_warn(const segue__file_module *module, const segue_error *error) {
  SEGUE__LOG(module->world->log, SEGUE_WARN, "files",
             "this system does not let a check see new files in the place of the live ones: the "
             "next change of them will fail: name the files as {staged:PATH} in check",
             SEGUE__FIELD("module", module->name), SEGUE__FIELD("error", error->message));
}

static void try_done(void *data, int status, const segue_error *error) {
  segue__file_instance *instance = data;
  instance->command = NULL;
  (void)rmdir(instance->check_folder);
  if (!status)
    instance->module->world->namespaces_work = true;
  else if (!instance->cancelled)
    try_warn(instance->module, error);
  if (instance->cancelled)
    instance_cancelled(instance);
  else
    instance_end(instance, 0, NULL);
}

/* Where no file differs, no check runs: a system that forbids private mount namespaces would refuse
 * the first change, perhaps at night, a long time after the policy was loaded. So the first load
 * tries it. Returns whether that has begun. */
static bool try_namespace(segue__file_instance *instance) {
  segue__file_module *module = instance->module;
  const segue__file_world *world = module->world;
  segue__check_words words;
  segue_error error;
  if (!segue__effect_any(&module->check) || segue__check_names_files(&module->check) ||
      world->namespaces_work || world->simulation || world->capture || !module->count)
    return false;
  int rc = segue__check_words_try(&words, instance->shared->set, &module->check, &error);
  if (!rc) {
    memcpy(instance->check_folder, words.folder, sizeof words.folder);
    segue__effect_options options = segue__file_module_effect(module, "check", &words.effect);
    options.answers = NULL; /* it is no part of an incident */
    options.shown = &module->check;
    options.kill_rest = true;
    options.cb = try_done;
    options.data = instance;
    rc = segue__effect_start(&instance->command, &options, &error);
    segue__effect_clear(&words.effect);
    if (rc) (void)rmdir(instance->check_folder);
  }
  if (rc) try_warn(module, &error);
  return !rc;
}

/* The preview is made before the check runs: if the check fails, the difference shows why. */
static void previewed(void *data, int status, segue__file_changes *changes) {
  segue__file_instance *instance = data;
  segue_error failure;
  (void)segue__file_changes_move(&instance->preview, changes);
  if (instance->cancelled || status) {
    instance_cancelled(instance);
    return;
  }
  bool checked = segue__effect_any(&instance->module->check);
  if (checked) status = check_start(instance, &failure);
  if (!checked || status) instance_end(instance, status, &failure);
}

static void staged(void *data, int status, const segue_error *error) {
  segue__file_instance *instance = data;
  if (instance->cancelled) {
    instance_cancelled(instance);
  } else if (status) {
    instance_end(instance, status, error);
  } else if (segue__file_set_changed(instance->shared->set)) {
    const segue__file_preview_options options = {.size = sizeof options,
                                                 .shared = instance->shared,
                                                 .module = instance->module->name,
                                                 .next = instance->next,
                                                 .prev = instance->prev,
                                                 .plan = instance->planned,
                                                 .done = previewed,
                                                 .data = instance};
    segue__file_preview_start(&options);
  } else if (!try_namespace(instance)) {
    instance_end(instance, 0, NULL);
  }
}

static int capture_set(segue__file_set *set, segue_error *err) {
  (void)set, (void)err;
  return 0;
}

/* A rehearsal captures the files and stages nothing: their destinations need not exist. */
static int (*stage_of(const segue__file_world *world))(segue__file_set *, segue_error *) {
  return world->capture ? capture_set : segue__file_set_stage;
}

/* Passes a file to the capture of a rehearsal. Destinations are relative to the folder of the
 * policy. */
static int capture(const segue__file_module *module, const segue__file_want *want,
                   segue_error *err) {
  const segue__file_world *world = module->world;
  segue__buf path;
  if (!world->capture) return 0;
  segue__buf_init(&path);
  if (*want->to != '/') segue__buf_addf(&path, "%s/", module->folder);
  segue__buf_adds(&path, want->to);
  int rc = path.failed ? segue__errorf(err, UV_ENOMEM, "%s: out of memory", want->to)
                       : world->capture(world->capture_data, path.data,
                                        want->mode ? want->mode : 0644, want->data, want->len, err);
  segue__buf_deinit(&path);
  return rc;
}

static void render_next(segue__file_instance *instance);

/* Returns whether the file cannot be rendered because a value is missing. From now on sources are
 * to deliver these names. */
static int note_touched(segue__file_instance *instance, bool *waits, segue_error *err) {
  segue__file_module *module = instance->module;
  const segue__file_template *template = &module->templates[instance->rendered];
  const segue__touched *touched = instance->rendering.touched;
  int rc = segue__touched_copy(&instance->touched[instance->rendered], touched);
  for (size_t i = 0; i < touched->count && !rc; i++) {
    const segue__touch *touch = &touched->items[i];
    segue__buf name;
    if (!touch->wanted) continue;
    segue__buf_init(&name);
    segue__file_template_name(template, touch->path, &name);
    rc = name.failed
             ? UV_ENOMEM
             : segue__wants_use(module->world->wants, module->name, name.data, touch->missing);
    segue__buf_deinit(&name);
    *waits |= touch->missing;
  }
  return rc ? segue__errorf(err, rc, "%s: out of memory", template->path) : 0;
}

/* "a.tmpl needs services/x, app/port, which are not there yet (source consul)" */
static int missing_error(const segue__file_instance *instance, segue_error *err) {
  const segue__file_module *module = instance->module;
  segue__buf text, sources;
  size_t count = 0;
  segue__buf_init(&text);
  segue__buf_init(&sources);
  for (size_t i = 0; i < module->count; i++) {
    const segue__touched *touched = &instance->touched[i];
    const char *path = module->templates[i].path, *slash = path ? strrchr(path, '/') : NULL;
    const char *name = slash ? slash + 1 : path;
    for (size_t k = 0, of_file = 0; k < touched->count; k++) {
      if (!touched->items[k].missing || !touched->items[k].wanted) continue;
      if (!of_file) segue__buf_addf(&text, "%s%s needs ", count ? "; " : "", name);
      segue__buf_adds(&text, of_file++ ? ", " : "");
      segue__file_template_name(&module->templates[i], touched->items[k].path, &text);
      count++;
    }
  }
  segue__wants_describe_sources(module->world->wants, &sources);
  int rc = segue__errorf(err, SEGUE_EHELD, "%s, %s not there yet: %s",
                         text.failed ? "a template" : text.data,
                         count == 1 ? "which is" : "which are", sources.failed ? "" : sources.data);
  segue__buf_deinit(&text);
  segue__buf_deinit(&sources);
  return rc;
}

static void rendered(segue__rendering *rendering, int status, const char *data, size_t len,
                     const segue_error *error) {
  segue__file_instance *instance =
      (segue__file_instance *)((char *)rendering - offsetof(segue__file_instance, rendering));
  segue_error failure;
  bool lacks = false;
  if (rendering->touched && (!status || status == SEGUE_ECONFIG)) {
    int rc = note_touched(instance, &lacks, &failure);
    /* Where data is missing, the error of the template may be a consequence of that: it counts only
     * if it is still there when the data has come. */
    if (lacks || rc) status = rc;
    if (rc) error = &failure;
  }
  instance->reuses += rendering->reused;
  instance->renders += rendering->touched && !rendering->reused;
  instance->waits |= lacks;
  if (!status && !lacks) {
    segue__file_want want = instance->module->files[instance->rendered];
    want.data = data;
    want.len = len;
    status = segue__file_set_add(instance->shared->set, &want, &failure);
    if (!status) status = capture(instance->module, &want, &failure);
    error = &failure;
  }
  if (!status && instance->cancelled) {
    status = segue__errorf(&failure, SEGUE_ECANCELLED, "its preparation was cancelled");
    error = &failure;
  }
  bool waits = instance->rendering_now;
  instance->rendered++;
  if (status) {
    instance->rendered = SIZE_MAX;
    instance_end(instance, status, error);
  } else if (!waits) {
    render_next(instance);
  }
}

/* A renderer may end before it returns: the loop here keeps many files from nesting calls. */
static void render_next(segue__file_instance *instance) {
  segue__file_module *module = instance->module;
  while (instance->rendered < module->count) {
    size_t index = instance->rendered;
    instance->rendering.done = rendered;
    instance->rendering.touched = NULL;
    instance->rendering.reused = false;
    instance->rendering_now = true;
    const segue__file_template *template = &module->templates[index];
    module->renderer.render(module->renderer.impl, module->name, index,
                            template->path ? template : NULL, instance->next, &instance->rendering);
    instance->rendering_now = false;
    if (instance->rendered == index || instance->rendered == SIZE_MAX) return;
  }
  if (!instance->waits) {
    segue__set_work_start(instance->shared, stage_of(module->world), staged, instance);
    return;
  }
  segue_error error;
  instance_end(instance, missing_error(instance, &error), &error);
}

static void on_cancel(void *data) {
  segue__file_instance *instance = data;
  instance->cancelled = true;
  if (instance->command)
    segue__effect_stop(instance->command);
  else if (instance->rendered < instance->module->count)
    instance->module->renderer.cancel(instance->module->renderer.impl, &instance->rendering);
}

static int instance_new(segue__file_instance **out, segue__file_module *module) {
  segue__file_world *world = module->world;
  const segue__file_set_options options = {.size = sizeof options,
                                           .book = world->book,
                                           .simulation = world->simulation,
                                           .module = module->name,
                                           .folder = module->folder,
                                           .root = module->root,
                                           .drift = module->drift,
                                           .removed = module->removed,
                                           .plan = module->planning,
                                           .members = module->members};
  segue__file_instance *instance = segue__calloc(1, sizeof *instance);
  segue__shared_set *shared = segue__calloc(1, sizeof *shared);
  segue__touched *touched = segue__calloc(module->count + 1, sizeof *touched);
  int rc = instance && shared && touched ? segue__file_set_new(&shared->set, &options) : UV_ENOMEM;
  if (rc) {
    segue__free(touched);
    segue__free(instance);
    segue__free(shared);
    return rc;
  }
  shared->refs = 1;
  shared->world = world;
  world->refs++;
  instance->touched = touched;
  instance->shared = shared;
  instance->module = module;
  module->refs++;
  *out = instance;
  return 0;
}

static void module_prepare(void *userdata, segue_op *op, const segue_slice *next,
                           const segue_slice *prev, void **out) {
  segue__file_instance *instance = NULL;
  const segue__file_module *module = userdata;
  int rc = segue__wants_begin(module->world->wants, module->name, module->wait_ms);
  if (!rc) rc = instance_new(&instance, userdata);
  *out = instance;
  if (rc) {
    segue_op_done(op, rc, NULL);
    return;
  }
  instance->op = op;
  instance->next = next;
  instance->prev = prev;
  instance->planned = instance->module->planning;
  segue__op_on_cancel(op, on_cancel, instance);
  render_next(instance);
}

/* ---- Destroy ---- */

static int destroy_set(segue__file_set *set, segue_error *err) {
  (void)err;
  segue__file_set_discard(set);
  return 0;
}

static void destroyed(void *data, int status, const segue_error *error) {
  (void)data, (void)status, (void)error;
}

/* Staged files are removed on the worker, behind what the set waits for there. */
static void module_destroy(void *object) {
  segue__file_instance *instance = object;
  segue__inventory_remove(instance);
  segue__set_work_start(instance->shared, destroy_set, destroyed, NULL);
  segue__shared_set_unref(instance->shared);
  for (size_t i = 0; i < instance->module->count; i++)
    segue__touched_deinit(&instance->touched[i]);
  segue__free(instance->touched);
  segue__file_module_unref(instance->module);
  segue__file_changes_deinit(&instance->preview);
  segue__free(instance);
}

/* ---- Reasons to replace it, and metrics ---- */

const char *segue__file_module_differs(const void *object, const segue_snapshot *next) {
  const segue__file_instance *instance = object;
  const segue__file_module *module = instance->module;
  for (size_t i = 0; i < module->count; i++) {
    const segue__file_template *template = &module->templates[i];
    if (!template->path) continue;
    const segue_node *keys;
    /* If memory is short, the values count as changed: the rendering then fails with the reason. */
    (void)segue__file_template_keys(template, next, &keys);
    const char *path = segue__touched_differs(&instance->touched[i],
                                              segue__file_template_part(template, next), keys);
    if (path) return path;
  }
  return NULL;
}

static void module_inherit(void *object, void *prev) {
  segue__file_instance *instance = object;
  const segue__file_instance *before = prev;
  instance->renders += before->renders;
  instance->reuses += before->reuses;
}

static void module_metrics(void *object, void (*add)(void *sink, const char *text, size_t len),
                           void *sink) {
  const segue__file_instance *instance = object;
  segue__buf out;
  segue__buf_init(&out);
  segue__inventory_metrics(instance, &out);
  if (!out.failed) add(sink, out.data, out.len);
  segue__buf_deinit(&out);
}

const segue_module_ops segue__file_module_ops = {.size = sizeof segue__file_module_ops,
                                                 .prepare = module_prepare,
                                                 .destroy = module_destroy,
                                                 .inherit = module_inherit,
                                                 .metrics = module_metrics};
