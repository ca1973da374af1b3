/* SPDX-License-Identifier: MIT
 *
 * The trigger set: one list of signals and polls, each marked as belonging to the live policy, the
 * next one, or both; and one watch, which follows the files of both while a transaction runs.
 */
#include "triggers.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <uv.h>

#include "../os/error.h"
#include "../os/mem.h"
#include "../os/units.h"
#include "poll.h"
#include "signal.h"
#include "watch.h"

enum { MINUTE_MS = 60000 };

typedef struct item {
  struct item *next;
  segue__triggers *owner;
  segue__signal *signal; /* NULL: a poll */
  int signum;
  unsigned live_actions, next_actions; /* the actions of a signal in either policy */
  segue__poll poll;
  uint64_t interval_ms;
  bool in_live, in_next;
} item;

/* The files that a policy watches. */
typedef struct files {
  segue__names names;
  uint64_t rescan_ms;
} files;

struct segue__triggers {
  segue__triggers_options options;
  item *items;
  segue__watcher *watch; /* from the first policy with a watch on */
  files live, next;
  /* References; NULL if the policy has no triggers that run as tasks. */
  segue__policy *live_tasks, *next_tasks;
  bool staged;
  bool missed; /* a file was touched after it was read and before its watch began */
  segue__timer late;
  size_t closing; /* handles that are not closed yet */
  bool closed;
  void (*closed_cb)(void *data);
  void *closed_data;
};

int segue__triggers_new(segue__triggers **out, const segue__triggers_options *options) {
  *out = NULL;
  segue__triggers *t = segue__calloc(1, sizeof *t);
  if (!t) return UV_ENOMEM;
  t->options = *options;
  *out = t;
  return 0;
}

static void triggers_report(segue__triggers *t, segue__trigger trigger, const char *cause) {
  if (!t->closed) t->options.on_trigger(t->options.data, trigger, cause);
}

static void files_deinit(files *f) {
  segue__names_deinit(&f->names);
  *f = (files){0};
}

/* ---- Signals and polls ---- */

enum { RELOADS = 1, REOPENS = 2 };

/* A signal that only the staged policy names is delivered as well, because its handler has already
 * replaced the default action. */
static void triggers_on_signal(void *data, int signum) {
  item *one = data;
  segue__triggers *t = one->owner;
  unsigned actions = one->in_live ? one->live_actions : one->next_actions;
  const char *name = segue__signal_name(signum);
  if ((actions & REOPENS) && !t->closed && t->options.on_reopen)
    t->options.on_reopen(t->options.data, name);
  if (actions & RELOADS) triggers_report(t, SEGUE__BY_SIGNAL, name);
}

static void triggers_on_poll(void *data) {
  item *one = data;
  char interval[SEGUE__UNITS_SIZE], cause[SEGUE__UNITS_SIZE + 16];
  snprintf(cause, sizeof cause, "poll every %s",
           segue__duration_text((double)one->interval_ms, interval));
  triggers_report(one->owner, SEGUE__BY_POLL, cause);
}

static item *find_item(const segue__triggers *t, const segue__trigger_spec *spec) {
  bool is_signal = spec->type == SEGUE__TRIGGER_SIGNAL;
  for (item *one = t->items; one; one = one->next) {
    if (!!one->signum != is_signal) continue;
    if (is_signal ? one->signum == spec->signum : one->interval_ms == spec->interval_ms) return one;
  }
  return NULL;
}

static item *signal_item(const segue__triggers *t, int signum) {
  const segue__trigger_spec spec = {.type = SEGUE__TRIGGER_SIGNAL, .signum = signum};
  return find_item(t, &spec);
}

bool segue__triggers_take(const segue__triggers *t, int signum) {
  return signal_item(t, signum) != NULL;
}

bool segue__triggers_deliver(segue__triggers *t, int signum) {
  item *one = signal_item(t, signum);
  if (one) triggers_on_signal(one, signum);
  return one != NULL;
}

static item *add_item(segue__triggers *t) {
  item *one = segue__calloc(1, sizeof *one);
  if (!one) return NULL;
  one->owner = t;
  one->next = t->items;
  t->items = one;
  return one;
}

static void triggers_release(segue__triggers *t) {
  void (*cb)(void *) = t->closed_cb;
  void *data = t->closed_data;
  files_deinit(&t->live);
  files_deinit(&t->next);
  segue__free(t);
  if (cb) cb(data);
}

static void triggers_on_closed(void *data) {
  segue__triggers *t = data;
  if (--t->closing == 0 && t->closed) triggers_release(t);
}

/* Removes the items that no policy has any more. The item is freed before libuv has closed its
 * signal: segue__signal_close calls back no item after this, only the set, which counts such
 * handles so that it is not freed before them. */
static void drop_unused(segue__triggers *t) {
  for (item **at = &t->items; *at;) {
    item *one = *at;
    if (one->in_live || one->in_next) {
      at = &one->next;
      continue;
    }
    *at = one->next;
    segue__poll_stop(&one->poll);
    if (one->signal) {
      t->closing++;
      segue__signal_close(one->signal, triggers_on_closed, t);
    }
    segue__free(one);
  }
}

static int stage_signal(segue__triggers *t, const segue__trigger_spec *spec, segue_error *err) {
  if (!t->options.signals) return 0;
  item *one = find_item(t, spec);
  if (!one) {
    one = add_item(t);
    if (!one) return segue__errorf(err, UV_ENOMEM, "out of memory");
    one->signum = spec->signum;
    int rc =
        segue__signal_new(&one->signal, t->options.loop, spec->signum, triggers_on_signal, one);
    if (rc)
      return segue__errorf(err, rc, "cannot listen for %s (signal %d): %s",
                           segue__signal_name(spec->signum), spec->signum, segue_strerror(rc));
  }
  if (!one->in_next) one->next_actions = 0;
  one->next_actions |= spec->reopen ? REOPENS : RELOADS;
  one->in_next = true;
  return 0;
}

/* Does not start the timer: segue__triggers_settle does, because a poll must not request reloads
 * for a policy that may still fail. A poll that the live policy has continues undisturbed. */
static int stage_poll(segue__triggers *t, const segue__trigger_spec *spec, segue_error *err) {
  item *one = find_item(t, spec);
  if (!one) one = add_item(t);
  if (!one) return segue__errorf(err, UV_ENOMEM, "out of memory");
  one->interval_ms = spec->interval_ms;
  one->in_next = true;
  return 0;
}

static void start_polls(segue__triggers *t) {
  for (item *one = t->items; one; one = one->next) {
    if (one->signum || segue__timer_active(&one->poll.timer)) continue;
    int rc = segue__poll_start(&one->poll, t->options.loop, one->interval_ms, t->options.seed,
                               triggers_on_poll, one);
    if (rc)
      SEGUE__LOG(t->options.log, SEGUE_ERROR, "trigger", "the poll timer cannot be started",
                 SEGUE__FIELD("reason", segue_strerror(rc)));
  }
}

/* ---- Files ---- */

static void on_watch(void *data, const char *path) {
  segue__triggers *t = data;
  char cause[512];
  if (path)
    snprintf(cause, sizeof cause, "%.480s changed", path);
  else
    snprintf(cause, sizeof cause, "watched files changed");
  triggers_report(t, SEGUE__BY_WATCH, cause);
}

static int triggers_add_sources(const segue__policy *policy, segue__names *names) {
  for (size_t i = 0; i < policy->source_count; i++) {
    const segue__source *source = &policy->sources[i];
    if (!source->kind || !source->kind->watch) continue;
    int rc = source->kind->watch(source, names);
    if (rc) return rc;
  }
  for (size_t i = 0; i < policy->input_count; i++) {
    int rc = segue__names_add(names, "", 0, policy->inputs[i].path);
    if (rc) return rc;
  }
  return policy->schema ? segue__names_add(names, "", 0, policy->schema) : 0;
}

static int add_names(segue__names *to, const segue__names *from) {
  int rc = 0;
  for (size_t i = 0; i < from->count && !rc; i++)
    rc = segue__names_add(to, "", 0, from->items[i]);
  return rc;
}

static uint64_t triggers_shorter(uint64_t a, uint64_t b) {
  return !a || (b && b < a) ? b : a;
}

/* Watches the files of both policies while a transaction runs. If the transaction fails, the live
 * policy must not have missed a change of its files; if it succeeds, the next policy must not have
 * missed a change since its files were read. */
static int watch_both(segue__triggers *t, segue_error *err) {
  segue__names both = {0};
  int rc = add_names(&both, &t->live.names);
  if (!rc) rc = add_names(&both, &t->next.names);
  if (!rc)
    rc = segue__watch_set(t->watch, &both, triggers_shorter(t->live.rescan_ms, t->next.rescan_ms),
                          err);
  else
    segue__errorf(err, rc, "cannot watch the files: out of memory");
  segue__names_deinit(&both);
  return rc;
}

static int open_watch(segue__triggers *t, segue_error *err) {
  if (t->watch) return 0;
  int rc = segue__watch_new(&t->watch, t->options.loop, t->options.log, on_watch, t);
  return rc ? segue__errorf(err, rc, "cannot watch the files: %s", segue_strerror(rc)) : 0;
}

static bool has_new_files(const segue__triggers *t) {
  for (size_t i = 0; i < t->next.names.count; i++) {
    bool known = false;
    for (size_t k = 0; k < t->live.names.count && !known; k++)
      known = !strcmp(t->next.names.items[i], t->live.names.items[k]);
    if (!known) return true;
  }
  return false;
}

static int64_t since_ms(const segue__triggers *t) {
  if (t->options.since_wall_ms) return t->options.since_wall_ms(t->options.data);
  return segue__loop_wall_ms(t->options.loop) - MINUTE_MS;
}

/* The files of the next policy have been read before their watch begins here, and a change between
 * the two made no event. So the times of files that are watched for the first time are compared
 * with the time at which the transaction began to read, and `missed` requests one more reload when
 * the policy is live. Without it the change would stay unnoticed, because the first fingerprint of
 * the rescan is already that of the changed file. */
static int stage_watch(segue__triggers *t, const segue__policy *next, segue_error *err) {
  bool on = false;
  for (size_t i = 0; i < next->trigger_count; i++) {
    if (next->triggers[i].type != SEGUE__TRIGGER_WATCH) continue;
    on = true;
    t->next.rescan_ms = triggers_shorter(t->next.rescan_ms, next->triggers[i].interval_ms);
  }
  if (!on) return 0;
  int rc = triggers_add_sources(next, &t->next.names);
  if (rc) return segue__errorf(err, rc, "cannot watch the files: %s", segue_strerror(rc));
  rc = open_watch(t, err);
  if (!rc) rc = watch_both(t, err);
  if (!rc && has_new_files(t)) t->missed = segue__watch_touched_since(t->watch, since_ms(t));
  return rc;
}

static void watch_only(segue__triggers *t, const files *f) {
  segue_error err;
  if (!t->watch || !segue__watch_set(t->watch, &f->names, f->rescan_ms, &err)) return;
  /* The old set stays: files are watched that no policy names any more. A change of one of them
   * requests a reload that finds nothing changed, until the next policy replaces the set. */
  SEGUE__LOG(t->options.log, SEGUE_WARN, "trigger", err.message);
}

/* Runs from a timer because the reload must not be requested inside segue__triggers_settle, which
 * is called in the middle of a commit. */
static void on_late(segue__timer *timer) {
  triggers_report(timer->data, SEGUE__BY_WATCH, "files changed while their watch began");
}

/* ---- Triggers that run as tasks of the policy ---- */

static void on_fire(void *data, const char *cause) {
  triggers_report(data, SEGUE__BY_PUSH, cause);
}

static segue__policy *stage_tasks(const segue__policy *next) {
  bool any = false;
  for (size_t i = 0; i < next->trigger_count; i++)
    any = any || next->triggers[i].type == SEGUE__TRIGGER_TASK;
  if (!any || !next->ops || !next->ops->triggers_start) return NULL;
  return segue__policy_ref((segue__policy *)next);
}

static void stop_tasks(segue__triggers *t) {
  segue__policy *policy = t->live_tasks;
  t->live_tasks = NULL;
  if (policy) policy->ops->triggers_stop(policy->impl);
  segue__policy_unref(policy);
}

/* The tasks of a policy that stays live continue undisturbed. Otherwise the tasks of the old policy
 * are stopped before those of the next one start. */
static void settle_tasks(segue__triggers *t) {
  segue__policy *next = t->next_tasks;
  t->next_tasks = NULL;
  if (next && next == t->live_tasks) {
    segue__policy_unref(next);
    return;
  }
  stop_tasks(t);
  t->live_tasks = next;
  if (next) next->ops->triggers_start(next->impl, on_fire, t);
}

/* ---- The transaction ---- */

static int stage_one(segue__triggers *t, const segue__trigger_spec *spec, segue_error *err) {
  if (spec->type == SEGUE__TRIGGER_SIGNAL) return stage_signal(t, spec, err);
  if (spec->type == SEGUE__TRIGGER_POLL) return stage_poll(t, spec, err);
  return 0;
}

int segue__triggers_stage(segue__triggers *t, const segue__policy *next, segue__errors *errors) {
  segue_error err;
  int rc = 0;
  segue__triggers_discard(t);
  t->staged = true;
  for (size_t i = 0; i < next->trigger_count && !rc; i++)
    rc = stage_one(t, &next->triggers[i], &err);
  if (!rc) rc = stage_watch(t, next, &err);
  if (!rc) t->next_tasks = stage_tasks(next);
  if (!rc) return 0;
  segue__errors_add(errors, &err);
  segue__triggers_discard(t);
  return rc;
}

void segue__triggers_settle(segue__triggers *t) {
  if (!t->staged) return;
  t->staged = false;
  for (item *one = t->items; one; one = one->next) {
    one->in_live = one->in_next;
    one->live_actions = one->next_actions;
    one->in_next = false;
  }
  drop_unused(t);
  start_polls(t);
  settle_tasks(t);
  files_deinit(&t->live);
  t->live = t->next;
  t->next = (files){0};
  watch_only(t, &t->live);
  if (!t->missed) return;
  t->missed = false;
  t->late.data = t;
  segue__timer_start(t->options.loop, &t->late, 0, on_late);
}

void segue__triggers_discard(segue__triggers *t) {
  if (!t->staged) return;
  t->staged = t->missed = false;
  for (item *one = t->items; one; one = one->next)
    one->in_next = false;
  drop_unused(t);
  segue__policy_unref(t->next_tasks);
  t->next_tasks = NULL;
  files_deinit(&t->next);
  watch_only(t, &t->live);
}

const char *segue__triggers_problem(const segue__triggers *t) {
  return t->watch ? segue__watch_problem(t->watch) : NULL;
}

void segue__triggers_close(segue__triggers *t, void (*cb)(void *data), void *data) {
  if (!t) {
    if (cb) cb(data);
    return;
  }
  t->closed = true;
  t->closed_cb = cb;
  t->closed_data = data;
  t->closing++; /* a handle that closes at once must not free the set inside this function */
  stop_tasks(t);
  segue__policy_unref(t->next_tasks);
  segue__timer_stop(t->options.loop, &t->late);
  for (item *one = t->items; one; one = one->next)
    one->in_live = one->in_next = false;
  drop_unused(t);
  if (t->watch) {
    t->closing++;
    segue__watch_close(t->watch, triggers_on_closed, t);
    t->watch = NULL;
  }
  triggers_on_closed(t);
}
