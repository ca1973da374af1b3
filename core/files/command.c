/* SPDX-License-Identifier: MIT
 *
 * Runs a command until it has succeeded, has failed too often, or is stopped.
 */
#include "command.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <uv.h>

#include "../os/error.h"

enum { COMMAND_LINES = 10, COMMAND_SHOWN = 400, COMMAND_LINE_SHOWN = 300, COMMAND_WORDS = 100 };
enum { COMMAND_OUTPUT = 16384 }; /* the end of the output that is looked at */

struct segue__file_command_run {
  segue__file_command_options options;
  segue__file_command command, shown;
  char *folder;
  segue__spawn *spawn;
  segue__timer timer;
  segue__buf output;
  uint64_t tried;
  bool stopped;
};

int segue__file_command_copy(segue__file_command *out, const segue__file_command *from) {
  *out = (segue__file_command){segue__calloc(from->count + 1, sizeof *out->words), 0};
  if (!out->words) return UV_ENOMEM;
  for (size_t i = 0; i < from->count; i++) {
    out->words[i] = segue__strdup(from->words[i]);
    if (!out->words[i]) {
      segue__file_command_clear(out);
      return UV_ENOMEM;
    }
    out->count++;
  }
  return 0;
}

void segue__file_command_clear(segue__file_command *command) {
  for (size_t i = 0; i < command->count; i++)
    segue__free(command->words[i]);
  segue__free(command->words);
  *command = (segue__file_command){0};
}

void segue__file_command_shown(const segue__file_command *command, segue__buf *out) {
  size_t before = out->len;
  for (size_t i = 0; i < command->count && out->len - before < COMMAND_WORDS; i++)
    segue__buf_addf(out, "%s%.*s", i ? " " : "", COMMAND_WORDS, command->words[i]);
}

/* ---- The lines of the output that a message shows ---- */

static bool command_names_error(const char *line, size_t len) {
  static const char *const words[] = {"error", "emerg", "fatal"};
  for (size_t at = 0; at < len; at++)
    for (size_t i = 0; i < 3; i++)
      if (len - at >= 5 && !strncasecmp(line + at, words[i], 5)) return true;
  return false;
}

typedef struct command_line {
  const char *text;
  size_t len;
} command_line;

/* The last lines that are not blank, in order. */
static size_t command_last_lines(const segue__buf *output, command_line lines[COMMAND_LINES]) {
  size_t end = output->len, count = 0;
  while (end && count < COMMAND_LINES) {
    size_t begin = end;
    while (begin && output->data[begin - 1] != '\n')
      begin--;
    size_t len = end - begin;
    while (len && isspace((unsigned char)output->data[begin + len - 1]))
      len--;
    if (len) lines[COMMAND_LINES - ++count] = (command_line){output->data + begin, len};
    end = begin ? begin - 1 : 0;
  }
  memmove(lines, lines + COMMAND_LINES - count, count * sizeof *lines);
  return count;
}

/* Lines that name an error first: the last line alone is often a summary ("test failed"), and the
 * cause stands above it. */
static void command_add_lines(const segue__buf *output, segue__buf *out) {
  command_line lines[COMMAND_LINES];
  size_t count = command_last_lines(output, lines), before = out->len;
  for (int errors = 1; errors >= 0; errors--)
    for (size_t i = 0; i < count; i++) {
      if (command_names_error(lines[i].text, lines[i].len) != (errors != 0)) continue;
      if (out->len - before >= COMMAND_SHOWN) return;
      size_t len = lines[i].len < COMMAND_LINE_SHOWN ? lines[i].len : COMMAND_LINE_SHOWN;
      segue__buf_adds(out, out->len > before ? "; " : ": ");
      segue__buf_add(out, lines[i].text, len);
    }
}

/* ---- A run ---- */

static void command_free(segue__file_command_run *run) {
  segue__file_command_clear(&run->command);
  segue__file_command_clear(&run->shown);
  segue__buf_deinit(&run->output);
  segue__free(run->folder);
  segue__free(run);
}

static void command_end(segue__file_command_run *run, int status, const segue_error *error) {
  void (*cb)(void *, int, const segue_error *) = run->options.cb;
  void *data = run->options.data;
  command_free(run);
  cb(data, status, error);
}

/* The end of the output is kept: the cause of a failure is there. */
static void command_on_output(void *data, segue__stream stream, const char *bytes, size_t len) {
  segue__file_command_run *run = data;
  (void)stream;
  segue__buf_add(&run->output, bytes, len);
  if (run->output.len <= 2 * COMMAND_OUTPUT) return;
  size_t drop = run->output.len - COMMAND_OUTPUT;
  memmove(run->output.data, run->output.data + drop, COMMAND_OUTPUT);
  run->output.len = COMMAND_OUTPUT;
}

static int command_judge(segue__file_command_run *run, const segue__spawn_result *result,
                         segue_error *err) {
  if (!result->status && !result->timed_out && !result->exit_code) return 0;
  segue__buf text;
  segue__buf_init(&text);
  segue__buf_addf(&text, "%s command ", run->options.title);
  segue__file_command_shown(&run->shown, &text);
  if (result->status)
    segue__buf_addf(&text, " was lost: %s", segue_strerror(result->status));
  else if (result->timed_out)
    segue__buf_addf(&text, " took longer than %g s and was stopped",
                    (double)run->options.timeout_ms / 1000);
  else if (result->term_signal)
    segue__buf_addf(&text, " was ended by signal %d (%s)", result->term_signal,
                    strsignal(result->term_signal));
  else
    segue__buf_addf(&text, " exited with code %d", result->exit_code);
  command_add_lines(&run->output, &text);
  /* SEGUE_ETIMEOUT is the engine's own deadline. */
  int code = result->timed_out ? UV_ETIMEDOUT : SEGUE_EMODULE;
  segue__errorf(err, code, "%s", text.failed ? "a command failed: out of memory" : text.data);
  segue__buf_deinit(&text);
  return code;
}

static void command_try(segue__file_command_run *run);

static void command_again(segue__timer *timer) {
  command_try(timer->data);
}

static bool command_retry(segue__file_command_run *run) {
  if (run->stopped || run->tried > run->options.times) return false;
  uint64_t doublings = run->tried - 1 < 16 ? run->tried - 1 : 16;
  run->timer.data = run;
  return !segue__timer_start(run->options.loop, &run->timer, run->options.pause_ms << doublings,
                             command_again);
}

static void command_on_exit(void *data, const segue__spawn_result *result) {
  segue__file_command_run *run = data;
  segue_error error;
  run->spawn = NULL;
  int rc = command_judge(run, result, &error);
  if (run->stopped) rc = segue__errorf(&error, SEGUE_ECANCELLED, "the command was stopped");
  if (rc && command_retry(run)) return;
  command_end(run, rc, rc ? &error : NULL);
}

static int command_spawn(segue__file_command_run *run, segue_error *err) {
  const char *const shell[] = {"/bin/sh", "-c", run->command.words[0], NULL};
  const char *const *argv =
      run->command.count == 1 ? shell : (const char *const *)run->command.words;
  segue__spawn_options options = {.size = sizeof options,
                                  .argv = argv,
                                  .cwd = run->folder,
                                  .timeout_ms = run->options.timeout_ms,
                                  .join_output = true,
                                  .capture = 1,
                                  .on_output = command_on_output,
                                  .on_exit = command_on_exit,
                                  .data = run};
  run->output.len = 0;
  run->tried++;
  const segue__os *os = run->options.os;
  return os->spawn(os->data, run->options.loop, &options, &run->spawn, err);
}

static void command_try(segue__file_command_run *run) {
  segue_error error;
  int rc = run->stopped ? segue__errorf(&error, SEGUE_ECANCELLED, "the command was stopped")
                        : command_spawn(run, &error);
  if (!rc || command_retry(run)) return;
  command_end(run, rc, &error);
}

int segue__file_command_start(segue__file_command_run **out,
                              const segue__file_command_options *options, segue_error *err) {
  segue__file_command_run *run = segue__calloc(1, sizeof *run);
  segue_error reason;
  *out = NULL;
  if (!run) return segue__errorf(err, UV_ENOMEM, "%s: out of memory", options->title);
  run->options = *options;
  segue__buf_init(&run->output);
  run->folder = segue__strdup(options->folder);
  int rc = options->folder && !run->folder ? UV_ENOMEM : 0;
  if (!rc) rc = segue__file_command_copy(&run->command, options->command);
  if (!rc)
    rc = segue__file_command_copy(&run->shown, options->shown ? options->shown : options->command);
  if (rc)
    segue__errorf(err, rc, "%s: out of memory", options->title);
  else if ((rc = command_spawn(run, &reason)) && command_retry(run))
    rc = 0;
  else if (rc)
    segue__errorf(err, rc, "%s command cannot be run: %s", options->title, reason.message);
  if (rc)
    command_free(run);
  else
    *out = run;
  return rc;
}

void segue__file_command_stop(segue__file_command_run *run) {
  if (!run) return;
  run->stopped = true;
  if (run->spawn) {
    segue__spawn_stop(run->spawn);
  } else {
    /* It waits for its next try: that ends at once, on the loop. */
    (void)segue__timer_start(run->options.loop, &run->timer, 0, command_again);
  }
}

void segue__file_command_hurry(segue__file_command_run *run) {
  if (!run) return;
  run->options.times = 0;
  if (!run->spawn) segue__file_command_stop(run);
}
