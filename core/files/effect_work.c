/* SPDX-License-Identifier: MIT
 *
 * Blocking work of an effect: reading a pid file, looking up a user. Both may hang for ever, in a
 * file system whose server does not answer or in a name service. So the work has the time limit of
 * the effect, and memory of its own, which outlives the run where it hangs; later jobs of the queue
 * go to another worker then.
 *
 * A work that changes something has a claim (core/os/claim.h): either the work acts, and its run
 * waits for the result, or the run has ended, and the work never acts.
 */
#include <uv.h>

#include "../os/error.h"
#include "effect_internal.h"

enum { WORK_LIMIT_MS = 10000 }; /* of an effect without a limit */

static void work_free(segue__effect_work *work) {
  segue__effect_clear(&work->effect);
  segue__user_entry_deinit(&work->user);
  segue__free(work);
}

/* The run no longer waits for the work. */
static void work_leave(segue__effect_work *work) {
  segue__effect_run *run = work->run;
  segue__timer_stop(run->options.loop, &run->limit);
  run->work = NULL;
  work->run = NULL;
}

static void work_run(segue__job *job) {
  segue__effect_work *work = (segue__effect_work *)job;
  work->status = work->options.run(work, &work->error);
}

static void work_done(segue__job *job) {
  segue__effect_work *work = (segue__effect_work *)job;
  segue__effect_run *run = work->run;
  work_leave(work);
  work->options.done(run, work);
  work_free(work);
}

/* The loop closes, or the work has hung and has ended now. */
static void work_abandoned(segue__job *job) {
  segue__effect_work *work = (segue__effect_work *)job;
  segue__effect_run *run = work->run;
  if (run) work_leave(work);
  work_free(work);
  if (!run) return;
  run->stopped = true;
  segue__effect_tried(run, 0, NULL);
}

/* The time limit, or a stop. */
static void work_late(segue__timer *timer) {
  segue__effect_run *run = timer->data;
  segue__effect_work *work = run->work;
  segue_error error;
  segue__buf text;
  const char *what = work->options.what;
  segue__loop *loop = run->options.loop;
  if (!segue__claim_cancel(&work->claim))
    return; /* it has acted already, and its result comes at once */
  work_leave(work);
  segue__job_abandon(loop, &work->job); /* frees it, perhaps later */
  if (run->stopped) {
    segue__effect_tried(run, 0, NULL);
    return;
  }
  segue__effect_begin_message(run, what, &text);
  segue__buf_addf(&text, " took longer than %g s", (double)run->effect.timeout_ms / 1000);
  (void)segue__effect_end_message(run, SEGUE_EMODULE, &text, &error);
  segue__effect_note_failure(run, &error);
  segue__effect_tried(run, SEGUE_EMODULE, &error);
}

int segue__effect_work_start(segue__effect_run *run, const segue__effect_work_options *options,
                             segue_error *err) {
  segue__effect_work *work = segue__calloc(1, sizeof *work);
  if (!work) return segue__errorf(err, UV_ENOMEM, "out of memory");
  work->job = (segue__job){.run = work_run, .done = work_done, .abandoned = work_abandoned};
  work->options = *options;
  work->run = run;
  run->work = work;
  run->limit.data = run;
  if (!run->effect.timeout_ms) run->effect.timeout_ms = WORK_LIMIT_MS;
  int rc = segue__effect_copy(&run->effect, NULL, 0, &work->effect, err);
  if (!rc) {
    rc = segue__timer_start(run->options.loop, &run->limit, run->effect.timeout_ms, work_late);
    if (!rc) rc = segue__job_submit(run->options.loop, SEGUE__QUEUE_FILES, &work->job);
    if (rc) segue__errorf(err, rc, "%s", segue_strerror(rc));
  }
  if (!rc) return 0;
  work_leave(work);
  work_free(work);
  return rc;
}

void segue__effect_work_stop(segue__effect_run *run) {
  if (run->work) (void)segue__timer_start(run->options.loop, &run->limit, 0, work_late);
}
