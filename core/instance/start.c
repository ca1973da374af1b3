/* SPDX-License-Identifier: MIT
 *
 * Opens the record of an instance, and starts it when the sources deliver no good configuration, or
 * none that may go live: the files of the last good generation are replayed through the same run,
 * policy and checks included. If the sources caused that, the live generation is marked as stale,
 * and the sources are retried, by a timer and by every trigger.
 */
#include <uv.h>

#include "../admin/render.h"
#include "instance.h"

enum { TRY_AGAIN_MS = 1000 };

/* The versions of rendered files are kept in the state folder, beside the generation that has made
 * them. */
static int start_files(segue *s) {
  segue__buf record;
  segue__buf_init(&record);
  if (s->state.folder) segue__buf_addf(&record, "%s/" SEGUE__FILES_RECORD, s->state.folder);
  int rc = record.failed ? UV_ENOMEM
                         : segue__file_world_new(&s->files, s->loop, &s->log, segue__os_default(),
                                                 record.data);
  segue__buf_deinit(&record);
  if (!rc) segue__file_world_record(s->files, s->answers);
  return rc;
}

/* The children of an earlier process have ended with it; their files may still be there. */
static int start_processes(segue *s) {
  segue__buf folder;
  segue__buf_init(&folder);
  if (s->state.folder) segue__buf_addf(&folder, "%s/process", s->state.folder);
  int rc = folder.failed ? UV_ENOMEM
                         : segue__process_world_new(&s->processes, s->loop, &s->log,
                                                    segue__os_default(), folder.data);
  segue__buf_deinit(&folder);
  if (!rc) segue__process_world_set_sockets(s->processes, s->sockets);
  if (!rc) segue__process_world_clean(s->processes);
  return rc;
}

int segue__open_worlds(segue *s) {
  int rc = start_files(s);
  return rc ? rc : start_processes(s);
}

int segue__open_record(segue *s) {
  if (!s->state.folder || !s->options.policy) return 0;
  segue__record_options options = {.size = sizeof options,
                                   .loop = s->loop,
                                   .log = &s->log,
                                   .folder = s->state.folder,
                                   .pass = s->lua_dir,
                                   .render = segue__render_result_json};
  return segue__record_new(&s->record, &options);
}

const segue__os *segue__instance_os(const segue *s) {
  return s->record ? segue__inputs_os(segue__record_inputs(s->record)) : segue__os_default();
}

bool segue__start_good(const segue__result *result) {
  return (result->outcome == SEGUE__APPLIED || result->outcome == SEGUE__UNCHANGED) &&
         !result->plan_only && !result->skipped && !result->deferred;
}

static void start_ignore(segue__waiter *waiter, int status, segue__result *result) {
  (void)waiter, (void)status, (void)result;
}

/* Looks at each settled run for two things. If nothing is live any more, because the first
 * generation was not confirmed, the one before it is started from the disk. If the live generation
 * was stale and this run was good, the sources are back. A run that used the cached delivery of a
 * source that is away (result->away) does not count as good. */
static void start_on_phase(segue__observer *observer, const segue__result *result,
                           segue__phase phase) {
  segue *s = observer->data;
  if (phase == SEGUE__PHASE_COMMIT) (void)segue__keep_folder(s); /* before it is written to */
  if (phase != SEGUE__PHASE_SETTLED || s->replaying) return;
  bool nothing = s->started && !result->generation && !result->plan_only;
  bool first_waits = s->first_waits && !result->plan_only;
  if (first_waits) s->first_waits = false;
  if (nothing && segue__start_from_last_good(s, true, start_ignore) < 0 && first_waits)
    segue__nothing_left(s, result);
  if (!segue__start_good(result) || result->away) return;
  if (!segue__engine_stale_since(s->engine)) return;
  SEGUE__LOG(&s->log, SEGUE_INFO, "reload",
             "the sources are back: the live generation is not stale",
             SEGUE__FIELD("generation", result->generation));
  segue__engine_set_stale(s->engine, 0);
}

void segue__watch_sources(segue *s) {
  if (!s->record) return;
  s->observer = (segue__observer){.on_phase = start_on_phase, .data = s};
  segue__engine_observe(s->engine, &s->observer);
}

static void try_again(segue__timer *timer) {
  segue *s = timer->data;
  segue__reload_request request = {.trigger = SEGUE__BY_RETRY,
                                   .cause = "sources after a stale start"};
  (void)segue__engine_request(s->engine, &request, NULL);
}

static void say_what_is_live(segue *s) {
  const segue__last_good *good = &segue__record_found(s->record)->last_good;
  if (s->held) {
    SEGUE__LOG(&s->log, SEGUE_WARN, "reload",
               "started from the last good generation on disk: an operator keeps the "
               "sources back",
               SEGUE__FIELD("kept_as", good->generation), SEGUE__FIELD("hash", good->hash));
    return;
  }
  segue__engine_set_stale(s->engine, segue__engine_good_wall_ms(s->engine));
  SEGUE__LOG(&s->log, SEGUE_WARN, "reload",
             "started from the last good generation on disk: it is stale until the sources "
             "deliver a good one",
             SEGUE__FIELD("kept_as", good->generation), SEGUE__FIELD("hash", good->hash));
  s->try_again.data = s;
  segue__timer_start(s->loop, &s->try_again, TRY_AGAIN_MS, try_again);
}

const segue__result *segue__started_stale(segue *s, bool held) {
  const segue__result *result = NULL;
  s->held = held;
  say_what_is_live(s);
  for (size_t i = 0; i < segue__engine_result_count(s->engine); i++) {
    result = segue__engine_result(s->engine, i);
    if (segue__start_good(result)) break;
  }
  return result;
}

/* Rejects a last good generation that is too old. The limit is that of the policy on disk, which is
 * loaded first and may have failed later. If that policy cannot be read, it is the limit of the
 * generation's own policy. A generation that an operator holds is served at any age. */
int segue__last_good_validate(segue *s, const segue__policy *policy, segue__errors *errors) {
  if (!s->record || s->started) return 0;
  if (!segue__inputs_replaying(segue__record_inputs(s->record))) {
    s->age_known = true;
    s->age_ms = policy->last_good_age_ms;
    return 0;
  }
  uint64_t most = s->age_known ? s->age_ms : policy->last_good_age_ms;
  int64_t since = segue__engine_good_wall_ms(s->engine);
  int64_t age = segue__engine_wall_ms(s->engine) - since;
  if (s->held || !most || age <= 0 || (uint64_t)age <= most) return 0;
  segue_error error;
  segue__errorf(&error, SEGUE_ESOURCE,
                "the last good generation is %lld s old, and last_good.max_age allows %llu s, so "
                "it is not served: correct the sources, or allow more",
                (long long)(age / 1000), (unsigned long long)(most / 1000));
  segue__errors_add(errors, &error);
  return error.code;
}

static void start_replayed(segue__waiter *waiter, int status, segue__result *result) {
  segue *s = waiter->data;
  s->replaying = false;
  bool live = result && result->generation;
  if (live)
    say_what_is_live(s);
  else
    SEGUE__LOG(&s->log, SEGUE_ERROR, "reload",
               "the last good generation on disk cannot be restored either");
  s->after_replay(waiter, live ? 0 : status, result);
}

static void files_read(segue__record_call *call, segue__record_answer *answer) {
  segue *s = call->data;
  s->first = (segue__waiter){.cb = start_replayed, .data = s};
  int rc = answer->status;
  if (!rc)
    rc = segue__engine_replay(s->engine, answer->files, 0, SEGUE__BY_START, "last good generation",
                              &s->first);
  if (rc) start_replayed(&s->first, rc, NULL);
}

int segue__start_from_last_good(segue *s, bool held,
                                void (*cb)(segue__waiter *, int, segue__result *)) {
  if (!s->record || s->after_replay || !segue__record_found(s->record)->last_good.generation)
    return UV_ENOENT;
  s->replay = (segue__record_call){.cb = files_read, .data = s};
  int rc = segue__record_last_good(s->record, &s->replay);
  if (rc) return rc;
  s->after_replay = cb;
  s->replaying = true;
  s->held = held;
  return 0;
}
