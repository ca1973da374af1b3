/* SPDX-License-Identifier: MIT
 *
 * An engine on a manual loop, with a policy loaded as the daemon loads it. Only the triggers that
 * depend on time alone run by themselves (polls, tasks); the spec fires the others. The results of
 * all runs are kept, so that a spec can assert each of them.
 */
#include "rehearsal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../../os/units.h"

enum { LOAD_MS = 1000, LOG_MOST = 1 << 20 };

struct segue__fake_poll {
  segue__timer timer;
  segue__rehearsal *r;
  uint64_t interval_ms;
  segue__fake_poll *next;
};

/* ---- Results --------------------------------------------------------------------------------- */

static void rehearsal_on_log(void *data, const segue_log_entry *entry) {
  segue__rehearsal *r = data;
  pthread_mutex_lock(&r->log_mutex);
  if (r->log_text.len < LOG_MOST) {
    segue__buf_addf(&r->log_text, "%s %s: %s", segue__level_name(entry->level), entry->group,
                    entry->message);
    for (size_t i = 0; i < entry->field_count; i++) {
      const segue_log_field *field = &entry->fields[i];
      if (field->text)
        segue__buf_addf(&r->log_text, " %s=%s", field->key, field->text);
      else
        segue__buf_addf(&r->log_text, " %s=%" PRId64, field->key, field->number);
    }
    segue__buf_addc(&r->log_text, '\n');
  }
  pthread_mutex_unlock(&r->log_mutex);
}

static void rehearsal_on_phase(segue__observer *observer, const segue__result *result,
                               segue__phase phase) {
  segue__rehearsal *r = observer->data;
  if (phase != SEGUE__PHASE_SETTLED) return;
  segue__result **grown =
      segue__realloc(r->results, (r->result_count + 1) * sizeof(segue__result *));
  if (!grown) {
    r->failed = true;
    return;
  }
  r->results = grown;
  r->results[r->result_count++] = segue__result_ref((segue__result *)result);
}

static void rehearsal_on_answer(segue__waiter *waiter, int status, segue__result *result) {
  segue__fired *fired = (segue__fired *)waiter; /* its first member */
  fired->answered = true;
  fired->status = status;
  fired->result = result ? segue__result_ref(result) : NULL;
}

int segue__rehearsal_fire(segue__rehearsal *r, const segue__reload_request *request,
                          size_t *index) {
  segue__fired **grown = segue__realloc(r->fired, (r->fired_count + 1) * sizeof(segue__fired *));
  if (!grown) return UV_ENOMEM;
  r->fired = grown;
  segue__fired *fired = segue__calloc(1, sizeof *fired);
  if (!fired) return UV_ENOMEM;
  fired->waiter.cb = rehearsal_on_answer;
  int rc = segue__engine_request(r->engine, request, &fired->waiter);
  if (rc < 0) {
    segue__free(fired);
    return rc;
  }
  *index = r->fired_count;
  r->fired[r->fired_count++] = fired;
  return 0;
}

/* Advances by 1 ms at a time, so that the clock shows the millisecond in which the answer came: a
 * spec can assert how long a reload took. */
bool segue__rehearsal_await(segue__rehearsal *r, size_t index, uint64_t most_ms) {
  segue__loop_step(r->loop);
  for (uint64_t ms = 0; ms < most_ms && !r->fired[index]->answered; ms++)
    segue__loop_advance(r->loop, 1);
  return r->fired[index]->answered;
}

/* ---- Triggers of the policy that time fires -------------------------------------------------- */

static void rehearsal_fire(segue__rehearsal *r, segue__trigger trigger, const char *cause) {
  segue__reload_request request = {.trigger = trigger, .cause = cause};
  (void)segue__engine_request(r->engine, &request, NULL);
}

/* A rehearsed poll has no jitter, so that a spec can rely on its times. */
static void rehearsal_on_poll(segue__timer *timer) {
  segue__fake_poll *poll = timer->data;
  char interval[SEGUE__UNITS_SIZE], cause[SEGUE__UNITS_SIZE + 16];
  snprintf(cause, sizeof cause, "poll every %s",
           segue__duration_text((double)poll->interval_ms, interval));
  segue__timer_start(poll->r->loop, timer, poll->interval_ms, rehearsal_on_poll);
  rehearsal_fire(poll->r, SEGUE__BY_POLL, cause);
}

static void on_task(void *data, const char *cause) {
  rehearsal_fire(data, SEGUE__BY_PUSH, cause);
}

static void stop_triggers(segue__rehearsal *r) {
  while (r->polls) {
    segue__fake_poll *poll = r->polls;
    r->polls = poll->next;
    segue__timer_stop(r->loop, &poll->timer);
    segue__free(poll);
  }
  if (r->live && r->live->ops && r->live->ops->triggers_stop)
    r->live->ops->triggers_stop(r->live->impl);
  segue__policy_unref(r->live);
  r->live = NULL;
}

static void add_poll(segue__rehearsal *r, uint64_t interval_ms) {
  segue__fake_poll *poll = segue__calloc(1, sizeof *poll);
  if (!poll) {
    r->failed = true;
    return;
  }
  *poll = (segue__fake_poll){.r = r, .interval_ms = interval_ms, .next = r->polls};
  poll->timer.data = poll;
  r->polls = poll;
  segue__timer_start(r->loop, &poll->timer, interval_ms, rehearsal_on_poll);
}

static int rehearsal_stage(void *data, const segue__policy *next, segue__errors *errors) {
  segue__rehearsal *r = data;
  (void)errors;
  segue__policy_unref(r->staged);
  r->staged = segue__policy_ref((segue__policy *)next);
  return 0;
}

/* As in core/trigger: triggers start when their policy is live, and those of a policy that stays
 * live continue. */
static void rehearsal_settle(void *data) {
  segue__rehearsal *r = data;
  segue__policy *next = r->staged;
  r->staged = NULL;
  if (!next || next == r->live) {
    segue__policy_unref(next);
    return;
  }
  stop_triggers(r);
  r->live = next;
  for (size_t i = 0; i < next->trigger_count; i++)
    if (next->triggers[i].type == SEGUE__TRIGGER_POLL) add_poll(r, next->triggers[i].interval_ms);
  if (next->ops && next->ops->triggers_start) next->ops->triggers_start(next->impl, on_task, r);
}

static void rehearsal_discard(void *data) {
  segue__rehearsal *r = data;
  segue__policy_unref(r->staged);
  r->staged = NULL;
}

/* ---- Life ------------------------------------------------------------------------------------ */

/* A policy that exceeds its CPU budget while it is loaded is an error of its author, not of the
 * system, and has the code of such errors. */
static int rehearsal_blame(int rc, segue__errors *errors) {
  for (size_t i = 0; i < errors->count; i++)
    if (errors->items[i].code == SEGUE_ETIMEOUT) errors->items[i].code = SEGUE_EPOLICY;
  return rc == SEGUE_ETIMEOUT ? SEGUE_EPOLICY : rc;
}

static int rehearsal_load_policy(void *data, const char *path, segue__policy **out,
                                 segue__errors *errors) {
  segue__rehearsal *r = data;
  segue__policy_loader lua = segue__lua_loader_get(r->lua);
  int rc = rehearsal_blame(lua.load(lua.data, path, out, errors), errors);
  if (rc < 0 || !r->options.validate || (rc = r->options.validate(*out, &r->os, errors)) == 0)
    return rc;
  segue__policy_unref(*out);
  *out = NULL;
  return rc;
}

static int rehearsal_open_lua(segue__rehearsal *r) {
  segue__lua_options options = {
      .size = sizeof options,
      .lua_dir = r->options.lua_dir,
      .signal = r->options.signal,
      .load_cpu_ms = LOAD_MS,
      .kinds = r->kinds,
      .kind_count = sizeof r->kinds / sizeof *r->kinds,
      .fake_io = &r->fake_io,
  };
  return segue__lua_loader_new(&r->lua, r->loop, &r->log, &r->os, &options);
}

static int rehearsal_open_engine(segue__rehearsal *r) {
  segue__engine_options options = {
      .size = sizeof options,
      .loop = r->loop,
      .os = &r->os,
      .log = &r->log,
      .publication = r->publication,
      .loader = {.load = rehearsal_load_policy, .data = r},
      .policy_path = r->options.policy_path,
      .triggers = {.stage = rehearsal_stage,
                   .settle = rehearsal_settle,
                   .discard = rehearsal_discard,
                   .data = r},
      .wants = segue__file_world_wants(r->file_world),
  };
  int rc = segue__engine_new(&r->engine, &options);
  if (rc) return rc;
  r->observer = (segue__observer){.on_phase = rehearsal_on_phase, .data = r};
  segue__engine_observe(r->engine, &r->observer);
  return 0;
}

int segue__rehearsal_new(segue__rehearsal **out, const segue__rehearsal_options *options,
                         segue_error *err) {
  *out = NULL;
  segue__rehearsal *r = segue__calloc(1, sizeof *r);
  if (!r) return segue__errorf(err, UV_ENOMEM, "out of memory");
  pthread_mutex_init(&r->log_mutex, NULL);
  r->options = *options;
  r->options.policy_path = segue__strdup(options->policy_path);
  r->options.lua_dir = segue__strdup(options->lua_dir);
  r->log = (segue__logger){.level = SEGUE_DEBUG, .sink = rehearsal_on_log, .data = r};
  segue__fakes_init(r);
  int rc = r->options.policy_path && r->options.lua_dir ? 0 : UV_ENOMEM;
  if (!rc) rc = segue__loop_open_manual(&r->loop, 0, options->wall_ms);
  if (!rc) rc = segue__publication_new(&r->publication);
  if (!rc) rc = segue__fakes_open_modules(r);
  if (!rc) rc = rehearsal_open_lua(r);
  if (!rc) rc = rehearsal_open_engine(r);
  if (rc) {
    segue__rehearsal_free(r);
    return segue__errorf(err, rc, "cannot rehearse: %s", segue_strerror(rc));
  }
  *out = r;
  return 0;
}

static void set_true(void *data) {
  *(bool *)data = true;
}

/* Advances the simulated clock until everything has ended. The manual loop has no other source of
 * events, so the end comes by its timers and jobs. */
static void wind_down(segue__rehearsal *r, const bool *over) {
  segue__loop_step(r->loop);
  while (!*over)
    segue__loop_advance(r->loop, 1);
}

static void free_records(segue__rehearsal *r) {
  for (size_t i = 0; i < r->fired_count; i++) {
    segue__result_unref(r->fired[i]->result);
    segue__free(r->fired[i]);
  }
  for (size_t i = 0; i < r->result_count; i++)
    segue__result_unref(r->results[i]);
  segue__free(r->fired);
  segue__free(r->results);
}

/* The order is that of the dependencies: the engine calls the policy and the Lua states until it
 * has stopped, and both use the loop until it is closed. The records are freed last, because the
 * engine answers the waiters in `fired` while it stops. */
void segue__rehearsal_free(segue__rehearsal *r) {
  if (!r) return;
  if (r->engine) {
    segue__fakes_expedite(r);
    segue__engine_stop(r->engine, set_true, &r->engine_stopped);
    wind_down(r, &r->engine_stopped);
    stop_triggers(r);
    segue__engine_free(r->engine);
  }
  segue__policy_unref(r->staged);
  if (r->loop) {
    segue__lua_loader_close(r->lua, set_true, &r->lua_closed);
    wind_down(r, &r->lua_closed);
    segue__loop_close(r->loop, NULL, NULL);
    segue__file_world_close(r->file_world); /* the loop may still have run jobs of it */
  }
  segue__publication_free(r->publication);
  free_records(r);
  segue__fakes_deinit(r);
  segue__buf_deinit(&r->log_text);
  pthread_mutex_destroy(&r->log_mutex);
  segue__free((char *)r->options.policy_path);
  segue__free((char *)r->options.lua_dir);
  segue__free(r);
}
