/* SPDX-License-Identifier: MIT
 *
 * An effect that sends a signal to the process of a pid file.
 */
#include <signal.h>
#include <string.h>
#include <uv.h>

#include "../os/error.h"
#include "../os/fault.h"
#include "../os/pid_file.h"
#include "../os/signal_names.h"
#include "effect_internal.h"

static int signal_send(segue__effect_work *work, segue_error *err) {
  const segue__effect *effect = &work->effect;
  const segue__pid_file_options options = {.size = sizeof options,
                                           .path = effect->pidfile,
                                           .name = effect->name,
                                           .signum = segue__signal_numbers[effect->signal],
                                           .claim = &work->claim};
  int pid;
  int rc = SEGUE_FAULT("files.signal");
  if (rc) return segue__errorf(err, rc, "%s", segue_strerror(rc));
  return segue__pid_file_signal(&options, &pid, err);
}

static void signal_end(segue__effect_run *run) {
  segue_error error;
  segue__buf text;
  int rc = run->status;
  if (rc)
    segue__effect_note_failure(run, &run->error);
  else
    segue__effect_note(run, 0, 0, false, NULL, 0);
  if (rc) {
    segue__effect_begin_message(run, "signal", &text);
    segue__buf_addf(&text, " was not sent: %s", run->error.message);
    (void)segue__effect_end_message(run, rc == SEGUE_EUSAGE ? SEGUE_EMODULE : rc, &text, &error);
    rc = error.code;
  }
  segue__effect_tried(run, rc, rc ? &error : NULL);
}

static void signal_sent(segue__effect_run *run, segue__effect_work *work) {
  run->status = work->status;
  run->error = work->error;
  signal_end(run);
}

/* A rehearsal. */
static void signal_answered(void *data, int status, const segue_error *error) {
  segue__effect_run *run = data;
  run->status = status;
  if (error) run->error = *error;
  signal_end(run);
}

static int signal_ask(segue__effect_run *run, segue_error *err) {
  const segue__effect_outside *outside = run->options.outside;
  segue__buf shown;
  const segue__effect_asked asked = segue__effect_asked_of(run, &shown);
  int rc = outside->signal(outside->data, &asked, signal_answered, run, err);
  segue__buf_deinit(&shown);
  return rc;
}

static int signal_start(segue__effect_run *run, segue_error *err) {
  static const segue__effect_work_options work = {"signal", signal_send, signal_sent};
  if (run->options.outside) return signal_ask(run, err);
  return segue__effect_work_start(run, &work, err);
}

const segue__effect_kind segue__effect_signal = {signal_start, segue__effect_work_stop};
