/* SPDX-License-Identifier: MIT
 *
 * Starting when the sources give nothing good: the files of the last good generation are replayed
 * through the very same run, policy and checks included. What is live then is stale, and says so;
 * the sources are tried again, by the clock and by every trigger.
 */
#include <uv.h>

#include "instance.h"

enum { TRY_AGAIN_MS = 1000 };

int segue__open_last_good(segue *s) {
  if (!s->state.folder || !s->options.policy) return 0;
  return segue__last_good_new(&s->last_good, segue__os_default(), &s->log, s->state.folder,
                              s->lua_dir);
}

const segue__os *segue__instance_os(const segue *s) {
  return s->last_good ? segue__last_good_os(s->last_good) : segue__os_default();
}

static bool good(const segue__result *result) {
  return (result->outcome == SEGUE__APPLIED || result->outcome == SEGUE__UNCHANGED) &&
         !result->plan_only && !result->skipped && !result->deferred;
}

static void on_phase(segue__observer *observer, const segue__result *result, segue__phase phase) {
  segue *s = observer->data;
  if (phase == SEGUE__PHASE_COLLECT) segue__last_good_forget(s->last_good);
  if (phase != SEGUE__PHASE_SETTLED) return;
  if (!s->replaying && good(result)) {
    if (segue__engine_stale_since(s->engine))
      segue__log(&s->log, SEGUE__INFO, "reload", "the sources are back: nothing is stale any more",
                 "generation", 'u', result->generation, NULL);
    segue__engine_set_stale(s->engine, 0);
    if (result->outcome == SEGUE__APPLIED && segue__keep_folder(s))
      segue__last_good_save(s->last_good, result->generation, result->hash, result->ended_wall_ms);
  }
  segue__last_good_forget(s->last_good);
}

void segue__watch_last_good(segue *s) {
  if (!s->last_good) return;
  s->observer = (segue__observer){.on_phase = on_phase, .data = s};
  segue__engine_observe(s->engine, &s->observer);
}

static void try_again(segue__timer *timer) {
  segue *s = timer->data;
  segue__request request = {.trigger = SEGUE__BY_RETRY, .cause = "sources after a stale start"};
  (void)segue__engine_request(s->engine, &request, NULL);
}

/* The replay is over: what comes now is read from the real files again. */
static void replayed(segue__waiter *waiter, int status, segue__result *result) {
  segue *s = waiter->data;
  segue__last_good_replay_stop(s->last_good);
  s->replaying = false;
  bool live = result && result->generation;
  if (live) {
    segue__engine_set_stale(s->engine, s->replayed.wall_ms);
    segue__log(
        &s->log, SEGUE__WARN, "reload",
        "started from the last good generation on disk: it is stale until the sources give a "
        "good one",
        "kept_as", 'u', s->replayed.generation, "hash", 's', s->replayed.hash, NULL);
    s->try_again.data = s;
    segue__timer_start(s->loop, &s->try_again, TRY_AGAIN_MS, try_again);
  } else {
    segue__log(&s->log, SEGUE__ERROR, "reload",
               "the last good generation on disk cannot be brought back either", NULL);
  }
  s->after_replay(waiter, live ? 0 : status, result);
}

int segue__start_from_last_good(segue *s, void (*cb)(segue__waiter *, int, segue__result *)) {
  if (!s->last_good || s->after_replay) return UV_ENOENT;
  int rc = segue__last_good_replay(s->last_good, &s->replayed);
  if (rc) return rc;
  s->after_replay = cb;
  s->replaying = true;
  s->first = (segue__waiter){.cb = replayed, .data = s};
  segue__request request = {.trigger = SEGUE__BY_START, .cause = "last good generation"};
  rc = segue__engine_request(s->engine, &request, &s->first);
  if (rc) {
    s->replaying = false;
    segue__last_good_replay_stop(s->last_good);
  }
  return rc;
}
