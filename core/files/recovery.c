/* SPDX-License-Identifier: MIT
 *
 * Recovery: the files on the worker, then the command on the loop.
 */
#include "recovery.h"

#include <string.h>
#include <uv.h>

#include "../config/config.h"
#include "../os/error.h"
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

void segue__recovery_write_command(const segue__file_command *command, segue__buf *json) {
  segue__buf_adds(json, "[");
  for (size_t i = 0; i < command->count; i++) {
    if (i) segue__buf_adds(json, ",");
    segue__json_bytes(json, command->words[i], strlen(command->words[i]));
  }
  segue__buf_adds(json, "]");
}

/* *out: empty if there is no command. */
static int recovery_read_command(const char *json, segue__file_command *out) {
  segue__document *doc = NULL;
  *out = (segue__file_command){0};
  char *copy = segue__strdup(json ? json : "[]");
  int rc = copy ? segue__document_new(&doc, 1, "intent", "apply", SEGUE__JSON, copy, strlen(copy))
                : UV_ENOMEM;
  if (rc) return rc;
  doc->foreign = true; /* the top level is a list */
  rc = segue__document_parse(doc, NULL, NULL, NULL, NULL);
  size_t count = rc ? 0 : segue_node_count(&doc->root);
  const char **words = segue__calloc(count + 1, sizeof *words);
  if (!words) rc = UV_ENOMEM;
  for (size_t i = 0; i < count && !rc; i++)
    rc = segue_node_string(segue_node_at(&doc->root, i, NULL), &words[i], NULL);
  const segue__file_command borrowed = {(char **)words, count};
  if (!rc) rc = segue__file_command_copy(out, &borrowed);
  segue__free(words);
  segue__document_unref(doc);
  return rc;
}

static void recovery_free(recovery_run *run) {
  segue__buf_deinit(&run->report);
  segue__free(run->files);
  segue__free(run);
}

static void recovery_applied(void *data, int status, const segue_error *error) {
  segue__recovery_done(data, status, error);
}

/* The names of the fields that a recovery uses. An undo runs the command of the previous
 * generation; an intent of an older release has only one command. */
typedef struct recovery_names {
  const char *apply, *folder, *timeout;
} recovery_names;

static const recovery_names *recovery_fields(const segue__recovery *recovery) {
  static const recovery_names names[] = {{"apply", "folder", "timeout_ms"},
                                         {"unapply", "unapply_folder", "unapply_timeout_ms"}};
  bool undoes = !recovery->finish && segue__intent_get(recovery->intent, names[1].apply);
  return &names[undoes];
}

static int recovery_apply(segue__recovery *recovery, const segue__file_command *command,
                          segue_error *err) {
  segue__file_command_run *run;
  const recovery_names *fields = recovery_fields(recovery);
  const segue__file_command_options options = {
      .size = sizeof options,
      .loop = recovery->loop,
      .os = recovery->os,
      .title = "apply",
      .command = command,
      .folder = segue__intent_get(recovery->intent, fields->folder),
      .timeout_ms = segue__intent_get_number(recovery->intent, fields->timeout),
      .cb = recovery_applied,
      .data = recovery};
  return segue__file_command_start(&run, &options, err);
}

static void recovery_done(segue__job *job) {
  recovery_run *run = (recovery_run *)job;
  segue__recovery *recovery = run->recovery;
  segue_error error = run->error;
  segue__file_command command = {0};
  int rc = run->status;
  if (run->report.len && !run->report.failed)
    SEGUE__LOG(recovery->log, SEGUE_WARN, "files", "an interrupted change met other changes",
               SEGUE__FIELD("report", run->report.data));
  recovery_free(run);
  if (!rc) {
    rc = recovery_read_command(
        segue__intent_get(recovery->intent, recovery_fields(recovery)->apply), &command);
    if (rc) segue__errorf(&error, rc, "its command cannot be read: %s", segue_strerror(rc));
  }
  bool applies = !rc && command.count;
  if (applies) rc = recovery_apply(recovery, &command, &error);
  segue__file_command_clear(&command);
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
