/* SPDX-License-Identifier: MIT
 *
 * An effect that runs a command. The user that it runs as is looked up on a worker, because the
 * name service of the system may ask the network.
 */
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "../os/error.h"
#include "../os/fault.h"
#include "effect_internal.h"

enum { COMMAND_OUTPUT = 16384 }; /* the end of the output that is looked at */

/* The spawn keeps the first bytes of the output; the last ones name the cause. */
static void command_on_output(void *data, segue__stream stream, const char *bytes, size_t len) {
  segue__effect_run *run = data;
  (void)stream;
  if (len > COMMAND_OUTPUT) {
    bytes += len - COMMAND_OUTPUT;
    len = COMMAND_OUTPUT;
  }
  if (run->output.len + len > 2 * (size_t)COMMAND_OUTPUT) {
    size_t drop = run->output.len - COMMAND_OUTPUT;
    memmove(run->output.data, run->output.data + drop, run->output.len - drop);
    run->output.len -= drop;
  }
  segue__buf_add(&run->output, bytes, len);
}

static int command_decide(const segue__effect_run *run, const segue__spawn_result *result,
                          segue_error *err) {
  segue__buf text;
  if (!result->status && !result->timed_out && !result->exit_code) return 0;
  segue__effect_begin_message(run, "command", &text);
  if (result->status)
    segue__buf_addf(&text, " was lost: %s", segue_strerror(result->status));
  else if (result->timed_out)
    segue__buf_addf(&text, " took longer than %g s and was stopped",
                    (double)run->effect.timeout_ms / 1000);
  else if (result->term_signal)
    segue__buf_addf(&text, " was ended by signal %d (%s)", result->term_signal,
                    strsignal(result->term_signal));
  else
    segue__buf_addf(&text, " exited with code %d", result->exit_code);
  segue__effect_add_lines(&run->output, &text);
  /* SEGUE_ETIMEOUT is the engine's own deadline. */
  return segue__effect_end_message(run, result->timed_out ? UV_ETIMEDOUT : SEGUE_EMODULE, &text,
                                   err);
}

static void command_on_exit(void *data, const segue__spawn_result *result) {
  segue__effect_run *run = data;
  segue_error error;
  run->spawn = NULL;
  segue__effect_note(run, result->exit_code, result->term_signal, result->timed_out,
                     run->output.data, run->output.len);
  int rc = command_decide(run, result, &error);
  segue__effect_tried(run, rc, rc ? &error : NULL);
}

/* "NAME=value", or "NAME" where a variable is removed. */
static int command_changes(segue__effect_run *run) {
  const segue__effect_pairs *env = &run->effect.env;
  segue__buf texts;
  if (run->changes || !env->count) return 0;
  segue__buf_init(&texts);
  for (size_t i = 0; i < env->count; i++) {
    segue__buf_adds(&texts, env->items[i].key);
    if (env->items[i].value) segue__buf_addf(&texts, "=%s", env->items[i].value);
    segue__buf_addc(&texts, 0);
  }
  /* One block: the list, then the texts. */
  size_t list = (env->count + 1) * sizeof *run->changes;
  char *block = texts.failed ? NULL : segue__calloc(1, list + texts.len);
  if (block) {
    run->changes = (char **)block;
    memcpy(block + list, texts.data, texts.len);
    char *at = block + list;
    for (size_t i = 0; i < env->count; i++, at += strlen(at) + 1)
      run->changes[i] = at;
  }
  segue__buf_deinit(&texts);
  return block ? 0 : UV_ENOMEM;
}

static int command_spawn(segue__effect_run *run, segue_error *err) {
  const segue__effect *effect = &run->effect;
  const char *const shell[] = {"/bin/sh", "-c", effect->shell, NULL};
  const segue__os *os = run->options.os;
  segue__environment_free(&run->environment);
  const char **argv = segue__calloc(effect->argv.count + 1, sizeof *argv);
  int rc = argv ? command_changes(run) : UV_ENOMEM;
  if (!rc)
    rc = segue__environment_make(&run->environment, os->environ(os->data), run->changes,
                                 effect->user && !run->options.outside ? &run->user : NULL);
  if (rc) {
    segue__free(argv);
    return segue__errorf(err, rc, "out of memory");
  }
  for (size_t i = 0; i < effect->argv.count; i++)
    argv[i] = effect->argv.items[i];
  const segue__effect_outside *outside = run->options.outside;
  bool as_user = effect->user && !outside;
  segue__spawn_options options = {.size = sizeof options,
                                  .argv = effect->shell ? shell : argv,
                                  .env = run->environment.entries,
                                  .cwd = effect->folder,
                                  .user = as_user ? &run->user.user : NULL,
                                  .timeout_ms = effect->timeout_ms,
                                  .kill_ms = effect->kill_ms,
                                  .join_output = true,
                                  .kill_rest = run->options.kill_rest,
                                  .capture = 1,
                                  .on_output = command_on_output,
                                  .on_exit = command_on_exit,
                                  .data = run};
  segue__buf shown;
  const segue__effect_asked asked = segue__effect_asked_of(run, &shown);
  rc = outside ? outside->spawn(outside->data, &asked, &options, &run->spawn, &run->error)
               : os->spawn(os->data, run->options.loop, &options, &run->spawn, &run->error);
  segue__buf_deinit(&shown);
  segue__free(argv);
  if (!rc) return 0;
  segue__effect_note_failure(run, &run->error);
  return segue__errorf(err, rc, "the command cannot be run: %s", run->error.message);
}

/* ---- The user ---- */

static int command_find_user(segue__effect_work *work, segue_error *err) {
  int rc = SEGUE_FAULT("files.user");
  if (rc) return segue__errorf(err, rc, "%s", segue_strerror(rc));
  return segue__user_find(work->effect.user, work->effect.group, &work->user, err);
}

static void command_user_found(segue__effect_run *run, segue__effect_work *work) {
  segue_error error = work->error, named;
  int rc = work->status;
  segue__user_entry_move(&run->user, &work->user);
  if (!rc && !run->stopped) rc = command_spawn(run, &error);
  if (rc) segue__effect_note_failure(run, &error); /* the user was not found */
  if (rc) segue__errorf(&named, rc, "%s: %s", run->options.title, error.message);
  if (rc || run->stopped) segue__effect_tried(run, rc, rc ? &named : NULL);
}

static int command_start(segue__effect_run *run, segue_error *err) {
  static const segue__effect_work_options work = {"look-up of the user of", command_find_user,
                                                  command_user_found};
  /* A rehearsal looks up no user: it has the same result on each machine. */
  if (!run->effect.user || run->options.outside) return command_spawn(run, err);
  segue__user_entry_deinit(&run->user);
  memset(&run->user, 0, sizeof run->user);
  return segue__effect_work_start(run, &work, err);
}

static void command_stop(segue__effect_run *run) {
  if (run->spawn) segue__spawn_stop(run->spawn);
  segue__effect_work_stop(run);
}

const segue__effect_kind segue__effect_command = {command_start, command_stop};
