/* SPDX-License-Identifier: MIT
 *
 * Recovery: the files on the worker, then what applies them on the loop.
 */
#include "recovery.h"

#include <string.h>
#include <uv.h>

#include "../config/config.h"
#include "../os/error.h"
#include "effect.h"
#include "set.h"

typedef struct recovery_run {
  segue__job job;
  segue__recovery *recovery;
  bool finish;
  char *files; /* the intent of the set: a worker may hang with it after the engine is gone */
  segue__buf report;
  int status;
  segue_error error;
} recovery_run;

static void recovery_free(recovery_run *run) {
  segue__buf_deinit(&run->report);
  segue__free(run->files);
  segue__free(run);
}

static void recovery_applied(void *data, int status, const segue_error *error) {
  segue__recovery_done(data, status, error);
}

/* An undo runs what the module has for it, or what applied the previous generation. */
static const char *recovery_effect(const segue__recovery *recovery) {
  return segue__intent_get(recovery->intent, recovery->finish ? "apply" : "unapply");
}

static int recovery_apply(segue__recovery *recovery, const segue__effect *effect,
                          segue_error *err) {
  segue__effect_run *run;
  const segue__effect_options options = {.size = sizeof options,
                                         .loop = recovery->loop,
                                         .os = recovery->os,
                                         .title = recovery->finish ? "apply" : "undo",
                                         .effect = effect,
                                         .cb = recovery_applied,
                                         .data = recovery};
  return segue__effect_start(&run, &options, err);
}

static void recovery_done(segue__job *job) {
  recovery_run *run = (recovery_run *)job;
  segue__recovery *recovery = run->recovery;
  segue_error error = run->error;
  segue__effect effect = {0};
  int rc = run->status;
  if (run->report.len && !run->report.failed)
    SEGUE__LOG(recovery->log, SEGUE_WARN, "files", "an interrupted change met other changes",
               SEGUE__FIELD("report", run->report.data));
  recovery_free(run);
  if (!rc) rc = segue__effect_read(recovery_effect(recovery), &effect, &error);
  bool applies = !rc && segue__effect_any(&effect);
  if (applies) rc = recovery_apply(recovery, &effect, &error);
  segue__effect_clear(&effect);
  if (!applies || rc) segue__recovery_done(recovery, rc, rc ? &error : NULL);
}

static void recovery_files(segue__job *job) {
  recovery_run *run = (recovery_run *)job;
  run->status = segue__file_set_recover(run->files, strlen(run->files), run->finish, &run->report,
                                        &run->error);
}

static void recovery_abandoned(segue__job *job) {
  recovery_free((recovery_run *)job);
}

void segue__files_recover(segue__recovery *recovery) {
  const char *files = segue__intent_get(recovery->intent, "files");
  recovery_run *run = segue__calloc(1, sizeof *run);
  segue_error error;
  int rc = run && files ? 0 : files ? UV_ENOMEM : UV_EINVAL;
  if (!rc) {
    *run = (recovery_run){
        .job = {.run = recovery_files, .done = recovery_done, .abandoned = recovery_abandoned},
        .recovery = recovery,
        .finish = recovery->finish};
    segue__buf_init(&run->report);
    run->files = segue__strdup(files);
    rc = run->files ? segue__job_submit(recovery->loop, SEGUE__QUEUE_FILES, &run->job) : UV_ENOMEM;
  }
  if (!rc) return;
  if (run) recovery_free(run);
  segue__errorf(&error, rc, "%s", segue_strerror(rc));
  segue__recovery_done(recovery, rc, &error);
}
