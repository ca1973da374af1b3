/* SPDX-License-Identifier: MIT
 *
 * An effect that sends a signal to the process of a pid file.
 */
#include <signal.h>
#include <string.h>
#include <uv.h>

#include "../os/error.h"
#include "../os/pid_file.h"
#include "../os/signal_names.h"
#include "effect_internal.h"

static segue__effect_run *signal_run(segue__job *job) {
  return (segue__effect_run *)((char *)job - offsetof(segue__effect_run, job));
}

static void signal_send(segue__job *job) {
  segue__effect_run *run = signal_run(job);
  const segue__effect *effect = &run->effect;
  int pid;
  run->status = segue__pid_file_signal(effect->pidfile, effect->name,
                                       segue__signal_numbers[effect->signal], &pid, &run->error);
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

static void signal_sent(segue__job *job) {
  signal_end(signal_run(job));
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

static void signal_abandoned(segue__job *job) {
  segue__effect_run *run = signal_run(job);
  run->stopped = true;
  segue__effect_tried(run, 0, NULL);
}

static int signal_start(segue__effect_run *run, segue_error *err) {
  if (run->options.outside) return signal_ask(run, err);
  run->job = (segue__job){.run = signal_send, .done = signal_sent, .abandoned = signal_abandoned};
  int rc = segue__job_submit(run->options.loop, SEGUE__QUEUE_FILES, &run->job);
  if (rc) segue__errorf(err, rc, "no signal can be sent: %s", segue_strerror(rc));
  return rc;
}

static void signal_stop(segue__effect_run *run) {
  (void)run; /* the job ends soon */
}

const segue__effect_kind segue__effect_signal = {signal_start, signal_stop};
