/* SPDX-License-Identifier: MIT
 *
 * Runs an effect until it has succeeded, has failed too often, or is stopped.
 */
#include "effect.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <uv.h>

#include "../os/error.h"
#include "effect_internal.h"

enum { EFFECT_LINES = 10, EFFECT_SHOWN = 400, EFFECT_LINE_SHOWN = 300 };

/* ---- The lines of an output that a message shows ---- */

static bool effect_names_error(const char *line, size_t len) {
  static const char *const words[] = {"error", "emerg", "fatal"};
  for (size_t at = 0; at < len; at++)
    for (size_t i = 0; i < 3; i++)
      if (len - at >= 5 && !strncasecmp(line + at, words[i], 5)) return true;
  return false;
}

typedef struct effect_line {
  const char *text;
  size_t len;
} effect_line;

/* The last lines that are not blank, in order. */
static size_t effect_last_lines(const segue__buf *output, effect_line lines[EFFECT_LINES]) {
  size_t end = output->len, count = 0;
  while (end && count < EFFECT_LINES) {
    size_t begin = end;
    while (begin && output->data[begin - 1] != '\n')
      begin--;
    size_t len = end - begin;
    while (len && isspace((unsigned char)output->data[begin + len - 1]))
      len--;
    if (len) lines[EFFECT_LINES - ++count] = (effect_line){output->data + begin, len};
    end = begin ? begin - 1 : 0;
  }
  memmove(lines, lines + EFFECT_LINES - count, count * sizeof *lines);
  return count;
}

/* Lines that name an error first: the last line alone is often a summary ("test failed"), and the
 * cause is above it. */
void segue__effect_add_lines(const segue__buf *output, segue__buf *out) {
  effect_line lines[EFFECT_LINES];
  size_t count = effect_last_lines(output, lines), before = out->len;
  for (int errors = 1; errors >= 0; errors--)
    for (size_t i = 0; i < count; i++) {
      if (effect_names_error(lines[i].text, lines[i].len) != (errors != 0)) continue;
      if (out->len - before >= EFFECT_SHOWN) return;
      size_t len = lines[i].len < EFFECT_LINE_SHOWN ? lines[i].len : EFFECT_LINE_SHOWN;
      segue__buf_adds(out, out->len > before ? "; " : ": ");
      segue__buf_add(out, lines[i].text, len);
    }
}

void segue__effect_begin_message(const segue__effect_run *run, const char *what, segue__buf *out) {
  segue__buf_init(out);
  segue__buf_addf(out, "%s %s ", run->options.title, what);
  segue__effect_shown(&run->shown, out);
}

int segue__effect_end_message(const segue__effect_run *run, int code, segue__buf *text,
                              segue_error *err) {
  uint64_t ms = segue__loop_now_ms(run->options.loop) - run->since_ms;
  segue__buf_addf(text, " (after %.1f s", (double)ms / 1000);
  if (run->tried > 1) segue__buf_addf(text, " and %d tries", (int)run->tried);
  segue__buf_adds(text, ")");
  segue__errorf(err, code, "%s", text->failed ? "an effect failed: out of memory" : text->data);
  segue__buf_deinit(text);
  return code;
}

/* ---- A run ---- */

static void effect_free(segue__effect_run *run) {
  segue__effect_clear(&run->effect);
  segue__effect_clear(&run->shown);
  segue__environment_free(&run->environment);
  segue__user_entry_deinit(&run->user);
  segue__free(run->changes);
  segue__buf_deinit(&run->output);
  segue__free(run);
}

static void effect_end(segue__effect_run *run, int status, const segue_error *error) {
  void (*cb)(void *data, int status, const segue_error *error) = run->options.cb;
  void *data = run->options.data;
  effect_free(run);
  cb(data, status, error);
}

static void effect_try(segue__effect_run *run);

static void effect_again(segue__timer *timer) {
  effect_try(timer->data);
}

static bool effect_retry(segue__effect_run *run) {
  if (run->stopped || run->tried > run->options.times) return false;
  uint64_t doublings = run->tried - 1 < 16 ? run->tried - 1 : 16;
  run->timer.data = run;
  return !segue__timer_start(run->options.loop, &run->timer, run->options.pause_ms << doublings,
                             effect_again);
}

static int effect_cancelled(const segue__effect_run *run, segue_error *err) {
  return segue__errorf(err, SEGUE_ECANCELLED, "%s was stopped", run->options.title);
}

void segue__effect_tried(segue__effect_run *run, int status, const segue_error *error) {
  segue_error reason;
  if (error) reason = *error;
  segue__effect_answered(run);
  if (run->stopped) status = effect_cancelled(run, &reason);
  if (status && effect_retry(run)) return;
  effect_end(run, status, status ? &reason : NULL);
}

static int effect_begin(segue__effect_run *run, segue_error *err) {
  run->tried++;
  run->output.len = 0;
  segue__effect_ask(run);
  int rc = run->kind->start(run, err);
  if (!rc) return 0;
  segue__effect_note_failure(run, err);
  segue__effect_answered(run);
  return rc;
}

static void effect_try(segue__effect_run *run) {
  segue_error error, named;
  int rc = run->stopped ? effect_cancelled(run, &error) : effect_begin(run, &error);
  if (!rc || effect_retry(run)) return;
  if (!run->stopped) segue__errorf(&named, rc, "%s: %s", run->options.title, error.message);
  effect_end(run, rc, run->stopped ? &error : &named);
}

int segue__effect_start(segue__effect_run **out, const segue__effect_options *options,
                        segue_error *err) {
  segue__effect_run *run = segue__calloc(1, sizeof *run);
  segue_error reason;
  *out = NULL;
  if (!run) return segue__errorf(err, UV_ENOMEM, "%s: out of memory", options->title);
  run->options = *options;
  run->since_ms = segue__loop_now_ms(options->loop);
  segue__buf_init(&run->output);
  int rc = segue__effect_copy(options->effect, NULL, 0, &run->effect, &reason);
  if (!rc)
    rc = segue__effect_copy(options->shown ? options->shown : options->effect, NULL, 0, &run->shown,
                            &reason);
  run->kind = run->effect.pidfile ? &segue__effect_signal
              : run->effect.url   ? &segue__effect_request
                                  : &segue__effect_command;
  if (!rc && (rc = effect_begin(run, &reason)) && effect_retry(run)) rc = 0;
  if (rc) {
    segue__errorf(err, rc, "%s: %s", options->title, reason.message);
    effect_free(run);
  } else {
    *out = run;
  }
  return rc;
}

void segue__effect_stop(segue__effect_run *run) {
  if (!run || run->stopped) return;
  run->stopped = true;
  if (segue__timer_active(&run->timer))
    /* It waits for its next try: that ends at once, on the loop. */
    (void)segue__timer_start(run->options.loop, &run->timer, 0, effect_again);
  else
    run->kind->stop(run);
}

void segue__effect_hurry(segue__effect_run *run) {
  if (!run) return;
  run->options.times = 0;
  if (segue__timer_active(&run->timer)) segue__effect_stop(run);
}
