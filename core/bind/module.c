/* SPDX-License-Identifier: MIT
 *
 * Instances of modules in Lua, between the control thread, which calls their operations, and the
 * lanes, on which their states are. An operation is a note to each lane; the last one that is
 * through ends it. The control thread never waits.
 */
#include "module.h"

#include "../os/fault.h"

#include <inttypes.h>
#include <signal.h>
#include <string.h>

enum { VERBS = 4, LOOK_MS = 1000, STALL_MS = 2000, HOPE_MS = 10000 };
enum { PREPARE, START, DRAIN, STOP };

static __thread segue__berth *here; /* of this thread */

typedef struct instance instance;

typedef struct call {
  instance *instance;
  segue_op *op;
  size_t pending; /* atomic */
  pthread_mutex_t lock;
  int status;
  segue_error error;
} call;

/* A cell and the notes to it. */
typedef struct post {
  segue__message message;
  segue__cell *cell;
  int answered; /* atomic: by the lane, or in its place */
} post;

typedef struct place {
  segue__cell cell; /* first */
  instance *instance;
  post call[VERBS], cancel[VERBS], close;
} place;

struct instance {
  segue__code *code; /* a reference */
  const segue_snapshot *snapshot;
  size_t left; /* atomic: cells that are not closed */
  call calls[VERBS];
  instance *next, **link; /* of those that are not destroyed; the control thread's */
  size_t count;
  place places[];
};

/* ---- Berths ---------------------------------------------------------------------------------- */

static void on_open(segue__message *message) {
  segue__berth *berth = (segue__berth *)((char *)message - offsetof(segue__berth, open_message));
  sigset_t budget;
  here = berth;
  if (!berth->all->options.signal) return;
  sigemptyset(&budget);
  sigaddset(&budget, berth->all->options.signal);
  pthread_sigmask(SIG_UNBLOCK, &budget, NULL);
}

static int open_berth(segue__lua_modules *all, size_t index) {
  segue__berth *berth = &all->berths[index];
  const segue__lua_modules_options *options = &all->options;
  berth->all = all;
  berth->index = index;
  berth->loop = options->lanes.loop(options->lanes.data, index);
  int rc = segue__budget_new(&berth->budget, options->signal);
  if (!rc) rc = segue__outside_new(&berth->outside, berth->loop, options->log);
  if (rc) {
    segue__budget_free(berth->budget);
    return rc;
  }
  segue__buf_init(&berth->body);
  berth->open_message.fn = on_open;
  segue__post(berth->loop, &berth->open_message);
  return 0;
}

static int open_berths(segue__lua_modules *all) {
  size_t count = all->berths ? 0 : all->options.lanes.count(all->options.lanes.data);
  int rc = 0;
  if (count && !(all->berths = segue__calloc(count, sizeof *all->berths))) return UV_ENOMEM;
  while (!rc && all->berth_count < count) {
    rc = open_berth(all, all->berth_count);
    all->berth_count += !rc;
  }
  return all->berth_count ? 0 : rc ? rc : UV_ENOMEM;
}

/* ---- The watchdog ---------------------------------------------------------------------------- */

static void watch(segue__timer *timer);
static void answer_for(instance *in, size_t index, int verb, const segue_error *err);

/* What is being built there would wait for ever: code that is not compiled is cut sooner or later.
 * Drains and stops have their time. */
static void fail_builds(segue__lua_modules *all, const segue__berth *berth, uint64_t stalled_ms) {
  segue_error err;
  segue__error_set(&err, SEGUE_EMODULE,
                   "data thread %zu has not come back from module '%s' for %llu s, so nothing can "
                   "be built there: is there an endless loop? Only a restart ends it",
                   berth->index, __atomic_load_n(&berth->pulse.who, __ATOMIC_RELAXED),
                   (unsigned long long)stalled_ms / 1000);
  for (instance *in = all->first; in; in = in->next) {
    answer_for(in, berth->index, PREPARE, &err);
    answer_for(in, berth->index, START, &err);
  }
}

static void look_at(segue__lua_modules *all, segue__berth *berth) {
  uint64_t turns = __atomic_load_n(&berth->pulse.turns, __ATOMIC_ACQUIRE);
  uint64_t now = segue__loop_now_ms(all->options.loop);
  if (!(turns & 1) || turns != berth->seen) {
    berth->seen = turns;
    berth->since_ms = now;
    berth->told = false;
    return;
  }
  uint64_t stalled_ms = now - berth->since_ms;
  if (stalled_ms >= SEGUE_TEST_MS("HOPE_MS", HOPE_MS) &&
      __atomic_load_n(&berth->pulse.endless, __ATOMIC_RELAXED))
    fail_builds(all, berth, stalled_ms);
  if (berth->told || now - berth->since_ms < SEGUE_TEST_MS("STALL_MS", STALL_MS)) return;
  berth->told = true;
  segue__log(all->options.log, SEGUE__ERROR, "module",
             "a module keeps its data thread busy, and nothing else is served there: is there an "
             "endless loop?",
             "module", 's', __atomic_load_n(&berth->pulse.who, __ATOMIC_RELAXED), "lane", 'u',
             (uint64_t)berth->index, "seconds", 'u', (now - berth->since_ms) / 1000, NULL);
}

static void arm_watchdog(segue__lua_modules *all) {
  if (!segue__timer_active(&all->watchdog) && !all->closing)
    (void)segue__timer_start(all->options.loop, &all->watchdog, SEGUE_TEST_MS("LOOK_MS", LOOK_MS),
                             watch);
}

static void watch(segue__timer *timer) {
  segue__lua_modules *all = timer->data;
  for (size_t i = 0; i < all->berth_count; i++)
    look_at(all, &all->berths[i]);
  if (__atomic_load_n(&all->instances, __ATOMIC_ACQUIRE)) arm_watchdog(all);
}

/* ---- On the lanes ---------------------------------------------------------------------------- */

/* False: it was answered in the place of the lane, which did not come back in time. */
static bool is_first(post *post) {
  return !__atomic_exchange_n(&post->answered, 1, __ATOMIC_ACQ_REL);
}

/* Its code is to blame if it cannot be loaded. A time-out is what the engine calls its own
 * deadline, and a bug in the policy's hook is none of a module's. */
static int of_module(int verb, int status) {
  if (status == SEGUE_EPOLICY) return verb == PREPARE ? SEGUE_ECONFIG : SEGUE_EMODULE;
  return status == SEGUE_ETIMEOUT ? SEGUE_EMODULE : status;
}

static void count_one(instance *in, int verb, int status, const segue_error *err) {
  call *call = &in->calls[verb];
  pthread_mutex_lock(&call->lock);
  if (status < 0 && !call->status) {
    call->status = of_module(verb, status);
    call->error = *err;
    call->error.code = call->status;
  }
  pthread_mutex_unlock(&call->lock);
  if (__atomic_sub_fetch(&call->pending, 1, __ATOMIC_ACQ_REL)) return;
  segue_op_done(call->op, call->status, call->status ? &call->error : NULL);
}

static void through(place *at, int verb, int status, const segue_error *err) {
  if (is_first(&at->call[verb])) count_one(at->instance, verb, status, err);
}

/* On the control thread, for a lane that does not come back; err NULL: as if it had done it. */
static void answer_for(instance *in, size_t index, int verb, const segue_error *err) {
  if (index >= in->count || !in->calls[verb].op) return;
  through(&in->places[index], verb, err ? err->code : 0, err);
}

static void told(segue__cell *cell, int verb, int status, const segue_error *err) {
  static const int verbs[] = {
      [SEGUE__ON_START] = START, [SEGUE__ON_DRAIN] = DRAIN, [SEGUE__ON_STOP] = STOP};
  through((place *)cell, verbs[verb], status, err);
}

static const int functions[] = {
    [START] = SEGUE__ON_START, [DRAIN] = SEGUE__ON_DRAIN, [STOP] = SEGUE__ON_STOP};

static void on_call(segue__message *message) {
  post *p = (post *)message; /* its first member */
  place *at = (place *)p->cell;
  int verb = (int)(p - at->call);
  segue_error err = {0};
  if (__atomic_load_n(&p->answered, __ATOMIC_ACQUIRE)) return;
  if (verb == PREPARE)
    through(at, verb, segue__cell_build(p->cell, &err), &err);
  else
    segue__cell_run(p->cell, functions[verb]);
}

static void on_cancel(segue__message *message) {
  post *p = (post *)message;
  segue__cell_cancel(p->cell, functions[p - ((place *)p->cell)->cancel]);
}

static void on_close(segue__message *message) {
  segue__cell_close(((post *)message)->cell);
}

static void free_instance(instance *in) {
  segue__lua_modules *all = in->code->all;
  for (int i = 0; i < VERBS; i++)
    pthread_mutex_destroy(&in->calls[i].lock);
  segue_snapshot_unref(in->snapshot);
  segue__code_unref(in->code);
  segue__free(in);
  __atomic_sub_fetch(&all->instances, 1, __ATOMIC_ACQ_REL);
}

static void free_cell(segue__cell *cell) {
  instance *in = ((place *)cell)->instance;
  if (!__atomic_sub_fetch(&in->left, 1, __ATOMIC_ACQ_REL)) free_instance(in);
}

/* ---- Operations, on the control thread ------------------------------------------------------- */

static void note(post *p, segue__cell *cell, void (*fn)(segue__message *message)) {
  p->cell = cell;
  p->message.fn = fn;
  segue__post(cell->berth->loop, &p->message);
}

/* Its time is over: what still runs of it is ended, and says so. */
static void cancelled(void *data) {
  call *call = data;
  instance *in = call->instance;
  int verb = (int)(call - in->calls);
  for (size_t i = 0; i < in->count; i++)
    note(&in->places[i].cancel[verb], &in->places[i].cell, on_cancel);
}

static void forsake_lost(instance *in, int verb) {
  for (size_t i = 0; i < in->count; i++)
    if (in->code->all->berths[i].lost) answer_for(in, i, verb, NULL);
}

static void ask_all(instance *in, int verb, segue_op *op) {
  call *call = &in->calls[verb];
  call->op = op;
  call->pending = in->count;
  if (verb != PREPARE) segue__op_on_cancel(op, cancelled, call);
  for (size_t i = 0; i < in->count; i++)
    note(&in->places[i].call[verb], &in->places[i].cell, on_call);
  forsake_lost(in, verb);
}

static void link_instance(segue__lua_modules *all, instance *in) {
  in->link = &all->first;
  in->next = all->first;
  if (in->next) in->next->link = &in->next;
  all->first = in;
}

static void unlink_instance(const instance *in) {
  *in->link = in->next;
  if (in->next) in->next->link = in->link;
}

static instance *instance_new(segue__code *code, const segue_slice *slice, size_t count) {
  instance *in = segue__calloc(1, sizeof *in + count * sizeof in->places[0]);
  if (!in) return NULL;
  in->code = segue__code_ref(code);
  in->snapshot = segue_snapshot_ref(slice->snapshot);
  in->count = in->left = count;
  for (int i = 0; i < VERBS; i++) {
    in->calls[i].instance = in;
    pthread_mutex_init(&in->calls[i].lock, NULL);
  }
  for (size_t i = 0; i < count; i++) {
    place *at = &in->places[i];
    at->instance = in;
    at->cell = (segue__cell){.berth = &code->all->berths[i],
                             .code = code,
                             .snapshot = slice->snapshot,
                             .config = slice->config,
                             .told = told,
                             .free = free_cell};
    at->cell.last = &at->cell.first;
  }
  __atomic_add_fetch(&code->all->instances, 1, __ATOMIC_ACQ_REL);
  link_instance(code->all, in);
  return in;
}

static void refuse(segue_op *op, int code, const char *why) {
  segue_error err;
  segue__error_set(&err, code, "%s", why);
  segue_op_done(op, code, &err);
}

static void prepare(void *userdata, segue_op *op, const segue_slice *next, const segue_slice *prev,
                    void **out) {
  segue__code *code = userdata;
  segue_error err;
  (void)prev;
  if (*code->slice && !next->config) {
    int rc = segue__error_set(&err, SEGUE_ECONFIG,
                              "the configuration has no '%s', which is this module's part of it: "
                              "add it, or change config of the module in the policy",
                              code->slice);
    segue_op_done(op, rc, &err);
    return;
  }
  if (!code->all || open_berths(code->all)) {
    refuse(op, UV_ENOMEM, "there is no data thread for it");
    return;
  }
  instance *in = instance_new(code, next, code->listens ? code->all->berth_count : 1);
  if (!in) {
    refuse(op, UV_ENOMEM, "out of memory");
    return;
  }
  *out = in;
  arm_watchdog(code->all);
  ask_all(in, PREPARE, op);
}

static void start(void *object, segue_op *op) {
  ask_all(object, START, op);
}

static void drain(void *object, segue_op *op) {
  ask_all(object, DRAIN, op);
}

static void stop(void *object, segue_op *op) {
  ask_all(object, STOP, op);
}

static void destroy(void *object) {
  instance *in = object;
  size_t count = in->count; /* the last one frees it */
  unlink_instance(in);
  for (size_t i = 0; i < count; i++)
    note(&in->places[i].close, &in->places[i].cell, on_close);
}

static void handle(void *object, segue_request *request) {
  instance *in = object;
  if (here && here->index < in->count)
    segue__cell_handle(&in->places[here->index].cell, request);
  else
    segue_request_end(request);
}

const segue_module_ops segue__lua_module_ops = {.size = sizeof segue__lua_module_ops,
                                                .prepare = prepare,
                                                .start = start,
                                                .drain = drain,
                                                .stop = stop,
                                                .destroy = destroy,
                                                .handle = handle};

/* ---- Beginning and end ----------------------------------------------------------------------- */

int segue__lua_modules_new(segue__lua_modules **out, const segue__lua_modules_options *options) {
  *out = segue__calloc(1, sizeof **out);
  if (!*out) return UV_ENOMEM;
  (*out)->options = *options;
  (*out)->watchdog.data = *out;
  int rc = segue__library_new(&(*out)->library, segue__os_default(), options->lua_dir);
  if (!rc) return 0;
  segue__free(*out);
  *out = NULL;
  return rc;
}

static void finish(segue__lua_modules *all) {
  void (*cb)(void *data) = all->cb;
  void *data = all->data;
  while (all->tallies) {
    segue__tally *next = all->tallies->next;
    segue__free(all->tallies);
    all->tallies = next;
  }
  segue__free(all->berths);
  segue__library_free(all->library);
  segue__free(all);
  cb(data);
}

/* Where a lane is lost everything stays, for its code may still use it. */
static void finish_if_closed(segue__lua_modules *all) {
  if (!all->closing || all->berths_closed + all->berths_lost < all->berth_count) return;
  void (*cb)(void *data) = all->cb;
  if (!all->berths_lost)
    finish(all);
  else if (cb)
    all->cb = NULL, cb(all->data);
}

static void on_berth_closed(segue__message *message) {
  segue__berth *berth = (segue__berth *)((char *)message - offsetof(segue__berth, closed_message));
  if (berth->lost) return; /* it came back after it was given up */
  berth->all->berths_closed++;
  finish_if_closed(berth->all);
}

/* On its lane, behind everything that instances have left there. */
static void on_outside_closed(void *data) {
  segue__berth *berth = data;
  segue__budget_free(berth->budget);
  segue__buf_deinit(&berth->body);
  while (berth->pool) {
    segue__exchange *next = berth->pool->next;
    segue__free(berth->pool);
    berth->pool = next;
  }
  here = NULL;
  berth->closed_message.fn = on_berth_closed;
  segue__post(berth->all->options.loop, &berth->closed_message);
}

static void on_berth_close(segue__message *message) {
  segue__berth *berth = (segue__berth *)((char *)message - offsetof(segue__berth, close_message));
  segue__outside_close(berth->outside, on_outside_closed, berth);
}

void segue__lua_modules_close(segue__lua_modules *all, void (*cb)(void *data), void *data) {
  if (!all) {
    cb(data);
    return;
  }
  all->cb = cb;
  all->data = data;
  all->closing = true;
  segue__timer_stop(all->options.loop, &all->watchdog);
  for (size_t i = 0; i < all->berth_count; i++) {
    all->berths[i].close_message.fn = on_berth_close;
    if (!all->berths[i].lost) segue__post(all->berths[i].loop, &all->berths[i].close_message);
  }
  finish_if_closed(all);
}

const char *segue__lua_modules_busy(const segue__lua_modules *all, size_t lane) {
  if (!all || lane >= all->berth_count) return NULL;
  const segue__pulse *pulse = &all->berths[lane].pulse;
  bool runs = __atomic_load_n(&pulse->turns, __ATOMIC_ACQUIRE) & 1;
  return runs ? __atomic_load_n(&pulse->who, __ATOMIC_RELAXED) : NULL;
}

void segue__lua_modules_forsake(segue__lua_modules *all, size_t lane) {
  if (!all || lane >= all->berth_count || all->berths[lane].lost) return;
  all->berths[lane].lost = true;
  all->berths_lost++;
  for (instance *in = all->first; in; in = in->next)
    for (int verb = PREPARE; verb < VERBS; verb++)
      answer_for(in, lane, verb, NULL);
  finish_if_closed(all);
}

/* ---- Figures --------------------------------------------------------------------------------- */

void segue__lua_modules_metrics(segue__lua_modules *all, segue__buf *out) {
  static const char *const names[] = {
#define X(name, text) text,
      SEGUE__LUA_FAULTS(X)
#undef X
  };
  if (!all || !all->tallies) return;
  segue__buf_adds(out, "# HELP segue_module_errors_total Requests that a module in Lua failed to "
                       "answer, by what went wrong.\n# TYPE segue_module_errors_total counter\n");
  for (segue__tally *tally = all->tallies; tally; tally = tally->next)
    for (int i = 0; i < SEGUE__LUA_FAULT_COUNT; i++)
      segue__buf_addf(out, "segue_module_errors_total{module=\"%s\",kind=\"%s\"} %" PRIu64 "\n",
                      tally->name, names[i], __atomic_load_n(&tally->faults[i], __ATOMIC_RELAXED));
  segue__buf_adds(out,
                  "# HELP segue_module_rebuilds_total States of modules in Lua that hit a limit "
                  "and were made anew.\n# TYPE segue_module_rebuilds_total counter\n");
  for (segue__tally *tally = all->tallies; tally; tally = tally->next)
    segue__buf_addf(out, "segue_module_rebuilds_total{module=\"%s\"} %" PRIu64 "\n", tally->name,
                    __atomic_load_n(&tally->rebuilds, __ATOMIC_RELAXED));
}
