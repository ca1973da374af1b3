/* SPDX-License-Identifier: MIT
 *
 * Templates of rendered files, on a worker: a template may take seconds, and the control thread
 * answers clients meanwhile. All templates of a loader share one Lua state (bind/template), so that
 * a compiled template is found again by the next reload. The queue runs one job at a time, and that
 * is the lock of the state.
 */
#include <string.h>
#include <uv.h>

#include "../template/template.h"
#include "outputs.h"
#include "policy.h"

struct segue__templates {
  int refs; /* control thread */
  segue__loop *loop;
  segue__template *engine;
  segue__outputs outputs;
};

int segue__templates_new(segue__templates **out, segue__loop *loop, const char *lua_dir) {
  segue_error error;
  segue__templates *templates = segue__calloc(1, sizeof *templates);
  *out = NULL;
  if (!templates) return UV_ENOMEM;
  int rc = segue__template_new(&templates->engine, lua_dir ? lua_dir : "", &error);
  if (rc) {
    segue__free(templates);
    return rc;
  }
  templates->refs = 1;
  templates->loop = loop;
  *out = templates;
  return 0;
}

void segue__templates_unref(segue__templates *templates) {
  if (!templates || --templates->refs) return;
  segue__template_free(templates->engine);
  segue__outputs_deinit(&templates->outputs);
  segue__free(templates);
}

/* ---- A rendering ----------------------------------------------------------------------------- */

typedef struct template_run {
  segue__job job;
  segue__templates *templates; /* a reference */
  const segue__file_template *template;
  const segue_slice *next;
  segue__rendering *rendering;
  const segue_node *part, *keys;
  segue__hash key; /* of its output */
  segue__template_read read;
  segue__buf text;
  int status;
  segue_error error;
} template_run;

/* The path of a value in the whole configuration; the template knows the module's part of it. */
static void run_set_path(segue_error *error, const char *part, const char *path) {
  segue__buf whole;
  segue__buf_init(&whole);
  segue__buf_addf(&whole, "%s%s%s", part, *part && *path && *path != '[' ? "." : "", path);
  if (!whole.failed) segue__error_path(error, whole.data);
  segue__buf_deinit(&whole);
}

/* The message is Go's; the place of the value that did not fit follows it. */
static void run_failed(template_run *run, const segue__template_failure *failure) {
  const segue__file_template *template = run->template;
  if (failure->message && run->status == SEGUE_ECONFIG)
    segue__errorf(&run->error, run->status, "%s%s%s%s", failure->message,
                  failure->origin ? " (the value is from " : "",
                  failure->origin ? failure->origin : "", failure->origin ? ")" : "");
  segue__error_set_place(&run->error, template->path, failure->line, failure->column);
  if (failure->path) run_set_path(&run->error, template->config, failure->path);
}

static void run_on_worker(segue__job *job) {
  template_run *run = (template_run *)job;
  const segue__file_template *template = run->template;
  const char *slash = strrchr(template->path, '/');
  segue__template_failure failure = {0};
  const segue__template_job work = {.name = slash ? slash + 1 : template->path,
                                    .text = template->text,
                                    .len = template->len,
                                    .given = true,
                                    .node = run->part,
                                    .keys = run->keys,
                                    .config = run->next->snapshot->config,
                                    .dialect = template->functions,
                                    .missingkey = template->missingkey,
                                    .language = template->language,
                                    .helpers_name = template->helpers_path,
                                    .helpers = template->helpers,
                                    .helpers_len = template->helpers_len,
                                    .left = template->left,
                                    .right = template->right};
  run->status = segue__template_render(run->templates->engine, &work, &run->text, &failure,
                                       &run->read, &run->error);
  if (run->status) run_failed(run, &failure);
  segue__template_failure_clear(&failure);
}

/* Whether anything is missing that it requested. Then the output makes no sense. */
static bool run_lacks(const template_run *run) {
  for (size_t i = 0; i < run->read.touched.count; i++)
    if (run->read.touched.items[i].missing) return true;
  return false;
}

static void run_done(segue__job *job) {
  template_run *run = (template_run *)job;
  if (!run->status && !run->read.changing && !run_lacks(run))
    segue__outputs_put(&run->templates->outputs, run->key, &run->read.touched, run->text.data,
                       run->text.len);
  run->rendering->touched = &run->read.touched;
  run->rendering->done(run->rendering, run->status, run->text.data, run->text.len,
                       run->status ? &run->error : NULL);
  segue__templates_unref(run->templates);
  segue__template_read_clear(&run->read);
  segue__buf_deinit(&run->text);
  segue__free(run);
}

/* The loop closes before a worker has begun the job. */
static void run_abandoned(segue__job *job) {
  template_run *run = (template_run *)job;
  run->status = segue__errorf(&run->error, SEGUE_ECANCELLED, "template: cancelled");
  run_done(job);
}

/* Two files of a policy may have one template: they share its output. */
static bool templates_reuse(segue__templates *templates, const template_run *run) {
  const segue__output *output =
      segue__outputs_find(&templates->outputs, run->key, run->part, run->keys);
  if (!output) return false;
  segue__rendering *rendering = run->rendering;
  rendering->touched = &output->touched;
  rendering->reused = true;
  rendering->done(rendering, 0, output->text, output->len, NULL);
  return true;
}

void segue__templates_render(segue__templates *templates, const segue__file_template *template,
                             const segue_slice *next, segue__rendering *rendering) {
  template_run asked = {.rendering = rendering, .part = next->config, .key = template->hash};
  bool full = segue__file_template_keys(template, next->snapshot, &asked.keys) != 0;
  if (!full && templates_reuse(templates, &asked)) return;
  template_run *run = full ? NULL : segue__calloc(1, sizeof *run);
  segue_error error;
  if (!run) {
    segue__errorf(&error, UV_ENOMEM, "%s: out of memory", template->path);
    rendering->done(rendering, UV_ENOMEM, NULL, 0, &error);
    return;
  }
  *run = (template_run){.job = {.run = run_on_worker, .done = run_done, .abandoned = run_abandoned},
                        .templates = templates,
                        .template = template,
                        .next = next,
                        .rendering = rendering,
                        .part = asked.part,
                        .keys = asked.keys,
                        .key = asked.key};
  segue__buf_init(&run->text);
  templates->refs++;
  int rc = segue__job_submit(templates->loop, SEGUE__QUEUE_FILES, &run->job);
  if (!rc) return;
  run->status = segue__errorf(&run->error, rc, "%s: %s", template->path, segue_strerror(rc));
  run_done(&run->job);
}
