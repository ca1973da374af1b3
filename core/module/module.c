/* SPDX-License-Identifier: MIT
 *
 * Module instances. An instance is destroyed only when it was released, no lease pins it and none
 * of its operations is outstanding: a late segue_op_done writes to its memory.
 */
#include "module.h"

#include <string.h>
#include <uv.h>

struct segue__instance {
  segue__loop *loop;
  const segue__logger *log;
  char *name;
  segue_module_ops ops;
  void *userdata;
  segue__plugin *plugin; /* a reference: its code stays loaded as long as the instance exists */
  segue__option_values *values; /* a reference: next.options is its struct */
  segue__service service;
  segue_slice next, prev;
  void *object;
  segue_op op[4];
  segue__verb_cb cb[4];
  void *cb_data[4];
  segue__drain drain;
  uint64_t stop_ms;
  char **needs; /* names of modules that its code may call */
  size_t needs_count;
  bool is_swapped;
  segue_gate *gate; /* the gate that its callers entered; NULL: none ever did */
  size_t pins;
  bool cut;              /* its drain does not wait for callers */
  uint64_t lap_ms, laps; /* of a drain that waits longer: length of a lap, laps left */
  segue__timer lap;
  bool leaving;       /* the drain's operation is done, callers are still inside */
  uint64_t drain_due; /* end of the wait for them */
  segue__timer leave;
  segue__timer alone; /* timer of wait_left */
  void (*alone_cb)(void *data, bool all);
  void *alone_data;
  segue__module_state state;
  uint64_t serving_ms; /* since when it serves */
  bool released;
  /* Its own report of a failure. The message is posted once, by whichever thread comes first, and
   * the memory stays until it is delivered. */
  int failure_posted; /* atomic */
  bool failure_delivered, failed, is_gone;
  segue_error failure;
  segue__message failure_message;
  segue__detached *detached;
  segue__instance *detached_next, *all_prev, *all_next;
};

static void module_answered(segue_op *op, int status, const segue_error *error);
static void module_finished(segue_op *op);
static void destroy_if_done(segue__instance *instance);
static void module_conclude(segue__instance *instance, segue__verb verb, int status,
                            const segue_error *error);
static void wait_for_leaving(segue__instance *instance);
static void module_left(segue__timer *timer);
static void take_service(segue__instance *instance);
static segue_slice slice_of(const segue_snapshot *snapshot, const char *path);

static const char *const verb_names[] = {"prepare", "start", "drain", "stop"};

const char *segue__module_state_name(segue__module_state state) {
  static const char *const names[] = {
#define X(name, text) text,
      SEGUE__MODULE_STATES(X)
#undef X
  };
  return names[state];
}

const char *segue__replace_name(segue__replace replace) {
  static const char *const names[] = {
#define X(name, text) text,
      SEGUE__REPLACES(X)
#undef X
  };
  return names[replace];
}

bool segue__over_find(const char *text, segue__over *over) {
  static const char *const names[] = {
#define X(name, text) text,
      SEGUE__OVERS(X)
#undef X
  };
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    if (strcmp(names[i], text) != 0) continue;
    *over = (segue__over)i;
    return true;
  }
  return false;
}

static void free_memory(segue__instance *instance) {
  for (size_t i = 0; i < instance->needs_count; i++)
    segue__free(instance->needs[i]);
  segue__free(instance->needs);
  segue__free(instance->name);
  segue__free(instance);
}

static int module_copy_names(segue__instance *instance, const segue__module_spec *spec) {
  instance->name = segue__strdup(spec->name);
  if (!instance->name) return UV_ENOMEM;
  if (!spec->needs_count) return 0;
  instance->needs = segue__calloc(spec->needs_count, sizeof *instance->needs);
  if (!instance->needs) return UV_ENOMEM;
  for (; instance->needs_count < spec->needs_count; instance->needs_count++) {
    char *name = segue__strdup(spec->needs[instance->needs_count]);
    if (!name) return UV_ENOMEM;
    instance->needs[instance->needs_count] = name;
  }
  return 0;
}

int segue__instance_new(segue__instance **out, segue__loop *loop, const segue__logger *log,
                        const segue__module_spec *spec, const segue_snapshot *next,
                        const segue_snapshot *prev, segue__detached *detached) {
  *out = NULL;
  segue__instance *instance = segue__calloc(1, sizeof *instance);
  if (!instance) return UV_ENOMEM;
  if (module_copy_names(instance, spec)) {
    free_memory(instance);
    return UV_ENOMEM;
  }
  instance->is_swapped = spec->replace == SEGUE__SWAP;
  instance->next = slice_of(next, spec->config);
  instance->prev = slice_of(prev, spec->config);
  instance->loop = loop;
  instance->log = log;
  size_t size = spec->ops->size < sizeof instance->ops ? spec->ops->size : sizeof instance->ops;
  memcpy(&instance->ops, spec->ops, size);
  instance->userdata = spec->userdata;
  instance->plugin = segue__plugin_ref(spec->plugin);
  instance->values = segue__option_values_ref(spec->values);
  instance->next.options = segue__option_values_get(spec->values);
  instance->drain = spec->drain;
  instance->stop_ms = spec->stop_ms ? spec->stop_ms : SEGUE__STOP_MS;
  instance->detached = detached;
  instance->state = SEGUE__MODULE_BUILDING;
  instance->all_next = detached->all;
  if (detached->all) detached->all->all_prev = instance;
  detached->all = instance;
  segue_snapshot_ref(next);
  if (prev) segue_snapshot_ref(prev);
  *out = instance;
  if (detached->on_state)
    detached->on_state(detached->data, instance->name, segue__instance_generation(instance),
                       instance->state);
  return 0;
}

static void module_enter(segue__instance *instance, segue__module_state state) {
  const segue__detached *detached = instance->detached;
  if (instance->state == state) return;
  instance->state = state;
  if (state == SEGUE__MODULE_SERVING) instance->serving_ms = segue__loop_now_ms(instance->loop);
  if (detached->on_state)
    detached->on_state(detached->data, instance->name, segue__instance_generation(instance), state);
}

size_t segue__detached_states(const segue__detached *detached, const char *name,
                              segue__module_state state) {
  size_t n = 0;
  for (const segue__instance *i = detached->all; i; i = i->all_next)
    n += i->state == state && !strcmp(i->name, name);
  return n;
}

/* An operation that the module does not have succeeds at once. An instance that reported a failure
 * before its start is not started. */
static void call_out(segue__instance *instance, segue__verb verb, segue_op *op) {
  static const segue__module_state entering[] = {SEGUE__MODULE_BUILDING, SEGUE__MODULE_READY,
                                                 SEGUE__MODULE_DRAINING, SEGUE__MODULE_DRAINING};
  module_enter(instance, entering[verb]);
  segue_module_ops *ops = &instance->ops;
  if (verb == SEGUE__START && instance->failed)
    segue_op_done(op, instance->failure.code, &instance->failure);
  else if (verb == SEGUE__PREPARE && ops->prepare)
    ops->prepare(instance->userdata, op, &instance->next,
                 instance->prev.snapshot ? &instance->prev : NULL, &instance->object);
  else if (verb == SEGUE__START && ops->start)
    ops->start(instance->object, op);
  else if (verb == SEGUE__DRAIN && ops->drain)
    ops->drain(instance->object, op);
  else if (verb == SEGUE__STOP && ops->stop)
    ops->stop(instance->object, op);
  else
    segue_op_done(op, 0, NULL);
}

/* A stop comes after the drain, and the instance may be stopped although callers are still inside
 * (a drain that was cut): from then on no further caller may enter by its lease. */
void segue__instance_call(segue__instance *instance, segue__verb verb, uint64_t deadline_ms,
                          segue__verb_cb cb, void *data) {
  segue_op *op = &instance->op[verb];
  instance->cb[verb] = cb;
  instance->cb_data[verb] = data;
  if (verb == SEGUE__DRAIN && deadline_ms)
    instance->drain_due = segue__loop_now_ms(instance->loop) + deadline_ms;
  if (verb == SEGUE__STOP && instance->gate) segue__gate_abandon(instance->gate, instance);
  segue__op_begin(op, instance->loop, deadline_ms, module_answered, module_finished, instance);
  call_out(instance, verb, op);
}

/* ---- Waiting longer ---- */

static void lap_over(segue__timer *timer) {
  segue__instance *instance = (segue__instance *)((char *)timer - offsetof(segue__instance, lap));
  SEGUE__LOG(instance->log, SEGUE_WARN, "module",
             "the drain exceeded its time limit: waiting once more",
             SEGUE__FIELD("module", instance->name),
             SEGUE__FIELD("generation", (int64_t)segue__instance_generation(instance)),
             SEGUE__FIELD("inside", (int64_t)segue__instance_inside(instance)),
             SEGUE__FIELD("ms", instance->lap_ms), SEGUE__FIELD("times_left", instance->laps));
  if (--instance->laps) (void)segue__timer_start(instance->loop, timer, instance->lap_ms, lap_over);
}

/* Returns the longest time to wait. If the timer cannot be set, no warnings are logged. */
static uint64_t begin_laps(segue__instance *instance, const segue__drain *drain) {
  uint64_t within = drain->within_ms ? drain->within_ms : SEGUE__DRAIN_MS;
  if (drain->over != SEGUE__OVER_WAIT) return within;
  instance->lap_ms = within;
  instance->laps = drain->again ? drain->again : SEGUE__DRAIN_AGAIN;
  uint64_t all = within * (instance->laps + 1);
  (void)segue__timer_start(instance->loop, &instance->lap, within, lap_over);
  return all;
}

void segue__instance_drain(segue__instance *instance, const segue__drain *drain, segue__verb_cb cb,
                           void *data) {
  segue__instance_call(instance, SEGUE__DRAIN, begin_laps(instance, drain), cb, data);
}

void segue__instance_cancel(segue__instance *instance, segue__verb verb) {
  if (verb == SEGUE__DRAIN && instance->leaving) {
    instance->drain_due = 0;
    wait_for_leaving(instance);
  }
  if (segue__op_outstanding(&instance->op[verb]))
    segue__op_cancel(&instance->op[verb], SEGUE_ECANCELLED);
}

void segue__instance_expedite(segue__instance *instance, segue__verb verb) {
  if (segue__op_outstanding(&instance->op[verb])) segue__op_expedite(&instance->op[verb]);
}

void segue__instance_release(segue__instance *instance) {
  if (!instance || instance->released) return;
  instance->released = true;
  instance->detached_next = instance->detached->head;
  instance->detached->head = instance;
  instance->detached->count++;
  destroy_if_done(instance);
}

static void no_longer(segue__timer *timer) {
  segue__instance *instance = (segue__instance *)((char *)timer - offsetof(segue__instance, alone));
  void (*cb)(void *data, bool all) = instance->alone_cb;
  instance->alone_cb = NULL;
  segue__timer_stop(instance->loop, &instance->lap);
  cb(instance->alone_data, !instance->pins);
}

/* If the timer cannot be set the wait ends at once. The callback may run inside this call then,
 * because its caller posts the answer. */
static void wait_alone(segue__instance *instance, uint64_t ms) {
  if (segue__timer_start(instance->loop, &instance->alone, ms, no_longer) < 0)
    no_longer(&instance->alone);
}

void segue__instance_wait_left(segue__instance *instance, const segue__drain *drain,
                               void (*cb)(void *data, bool all), void *data) {
  instance->alone_cb = cb;
  instance->alone_data = data;
  wait_alone(instance, instance->pins ? begin_laps(instance, drain) : 0);
}

void segue__instance_stop_waiting(segue__instance *instance) {
  if (instance->alone_cb) wait_alone(instance, 0);
}

void segue__instance_pin(segue__instance *instance, segue_gate *gate) {
  instance->gate = gate;
  instance->pins++;
}

void segue__instance_cut(segue__instance *instance) {
  instance->cut = true;
}

bool segue__instance_needs(const segue__instance *instance, const char *name) {
  for (size_t i = 0; i < instance->needs_count; i++)
    if (!strcmp(instance->needs[i], name)) return true;
  return false;
}

bool segue__instance_is_swapped(const segue__instance *instance) {
  return instance->is_swapped;
}

size_t segue__instance_inside(const segue__instance *instance) {
  return instance->gate ? segue__gate_inside(instance->gate, instance) : 0;
}

void segue__instance_unpin(segue__instance *instance) {
  if (--instance->pins) return;
  segue__instance_stop_waiting(instance);
  if (instance->leaving)
    wait_for_leaving(instance);
  else
    destroy_if_done(instance);
}

/* At the end of the instance of segue. An operation that was never completed may still write to the
 * memory of its instance, so that is leaked, and reported. The return value counts completions that
 * are posted and not delivered: the loop has to deliver these first. */
size_t segue__detached_abandon(segue__detached *detached) {
  size_t coming = 0;
  for (segue__instance *i = detached->head; i; i = i->detached_next) {
    if (i->pins)
      SEGUE__LOG(i->log, SEGUE_ERROR, "module", "a caller never left: the instance is leaked",
                 SEGUE__FIELD("module", i->name));
    for (int verb = 0; verb < 4; verb++) {
      if (!segue__op_outstanding(&i->op[verb])) continue;
      if (!segue__op_orphan(&i->op[verb]))
        coming++;
      else
        SEGUE__LOG(i->log, SEGUE_ERROR, "module",
                   "an operation never finished: the instance is leaked",
                   SEGUE__FIELD("module", i->name), SEGUE__FIELD("operation", verb_names[verb]));
    }
  }
  return coming;
}

segue__module_state segue__instance_state(const segue__instance *instance) {
  return instance->state;
}

uint64_t segue__instance_generation(const segue__instance *instance) {
  return segue_snapshot_generation(instance->next.snapshot);
}

const segue__drain *segue__instance_limits(const segue__instance *instance, uint64_t *stop_ms) {
  *stop_ms = instance->stop_ms;
  return &instance->drain;
}

void *segue__instance_object(const segue__instance *instance) {
  return instance->object;
}

const segue_module_ops *segue__instance_ops(const segue__instance *instance) {
  return &instance->ops;
}

/* ---- Optional operations --------------------------------------------------------------------- */

static size_t at_most(size_t size, size_t max) {
  return size < max ? size : max;
}

const segue__service *segue__instance_service(const segue__instance *instance) {
  return segue__module_ops_serve(&instance->ops) ? &instance->service : NULL;
}

/* Called once, after prepare, before any other thread can have the instance. */
static void take_service(segue__instance *instance) {
  const segue_module_ops *ops = &instance->ops;
  segue__service *service = &instance->service;
  service->object = instance->object;
  if (ops->log) memcpy(&service->log, ops->log, at_most(ops->log->size, sizeof service->log));
  if (ops->stats)
    memcpy(&service->stats, ops->stats, at_most(ops->stats->size, sizeof service->stats));
}

/* State may be inherited only between instances of the same code: the object is passed as an
 * untyped pointer. Two versions of a plugin count as the same module if their names are equal. */
static bool same_making(const segue__instance *a, const segue__instance *b) {
  if (!a->plugin || !b->plugin)
    return a->plugin == b->plugin && a->ops.prepare == b->ops.prepare && a->userdata == b->userdata;
  return !strcmp(segue__plugin_descriptor(a->plugin)->name,
                 segue__plugin_descriptor(b->plugin)->name);
}

void segue__instance_inherit(segue__instance *instance, segue__instance *prev) {
  if (instance->ops.inherit && prev && same_making(instance, prev))
    instance->ops.inherit(instance->object, prev->object);
}

bool segue__instance_reopen(segue__instance *instance) {
  if (!instance->ops.reopen) return false;
  instance->ops.reopen(instance->object);
  return true;
}

void segue__instance_metrics(segue__instance *instance,
                             void (*add)(void *sink, const char *text, size_t len), void *sink) {
  if (instance->ops.metrics) instance->ops.metrics(instance->object, add, sink);
}

static bool size_fits(size_t size, size_t least) {
  return size >= least && size <= SEGUE__STRUCT_MAX;
}

bool segue__module_ops_fit(const segue_module_ops *ops) {
  if (!size_fits(ops->size, offsetof(segue_module_ops, inherit))) return false;
  const struct segue_log_ops *log = ops->size > offsetof(segue_module_ops, log) ? ops->log : NULL;
  const struct segue_stats_ops *stats =
      ops->size > offsetof(segue_module_ops, stats) ? ops->stats : NULL;
  /* segue_log and segue_count call these operations without a check: so ops without them are
   * rejected here. */
  if (log && !(size_fits(log->size, offsetof(segue_log_ops, write) + sizeof log->write) &&
               log->enabled && log->write))
    return false;
  return !stats ||
         (size_fits(stats->size, offsetof(segue_stats_ops, record) + sizeof stats->record) &&
          stats->record);
}

bool segue__module_ops_serve(const segue_module_ops *ops) {
  return (ops->size > offsetof(segue_module_ops, log) && ops->log) ||
         (ops->size > offsetof(segue_module_ops, stats) && ops->stats);
}

static segue_slice slice_of(const segue_snapshot *snapshot, const char *path) {
  segue_slice slice = {snapshot, NULL, NULL};
  if (snapshot) slice.config = segue_node_get(segue_snapshot_root(snapshot), path ? path : "");
  return slice;
}

/* Ends the wait at once if no caller is inside, or its time is over. */
static void wait_for_leaving(segue__instance *instance) {
  uint64_t now = segue__loop_now_ms(instance->loop);
  uint64_t ms = instance->drain_due > now ? instance->drain_due - now : 0;
  instance->leaving = true;
  if (segue__timer_start(instance->loop, &instance->leave, instance->pins ? ms : 0, module_left) <
      0)
    module_left(&instance->leave); /* no timer: callers inside keep the instance */
}

static void module_left(segue__timer *timer) {
  segue__instance *instance = (segue__instance *)((char *)timer - offsetof(segue__instance, leave));
  segue_error error;
  instance->leaving = false;
  if (instance->pins)
    segue__errorf(
        &error, SEGUE_ETIMEOUT,
        "module '%s': callers were still inside when the time limit of its drain was over",
        instance->name);
  module_conclude(instance, SEGUE__DRAIN, instance->pins ? SEGUE_ETIMEOUT : 0,
                  instance->pins ? &error : NULL);
}

static void module_answered(segue_op *op, int status, const segue_error *error) {
  segue__instance *instance = op->data;
  segue__verb verb = (segue__verb)(op - instance->op);
  segue_error named = {0};
  if (error) {
    named = *error;
    segue__error_source(&named, instance->name);
    if (status == SEGUE_ETIMEOUT)
      segue__errorf(&named, status, "module '%s': %s was not done after %llu ms", instance->name,
                    verb_names[verb], (unsigned long long)op->deadline_ms);
  }
  if (verb == SEGUE__DRAIN && status == 0 && instance->pins && !instance->cut)
    wait_for_leaving(instance);
  else
    module_conclude(instance, verb, status, error ? &named : NULL);
}

static void module_conclude(segue__instance *instance, segue__verb verb, int status,
                            const segue_error *error) {
  static const segue__module_state after[] = {SEGUE__MODULE_READY, SEGUE__MODULE_SERVING,
                                              SEGUE__MODULE_DRAINING, SEGUE__MODULE_STOPPED};
  if (instance->failed && (verb == SEGUE__PREPARE || verb == SEGUE__START)) {
    error = &instance->failure;
    status = error->code;
  }
  module_enter(instance, status < 0 ? SEGUE__MODULE_FAILED : after[verb]);
  if (verb == SEGUE__PREPARE && status == 0) take_service(instance);
  if (verb == SEGUE__DRAIN) segue__timer_stop(instance->loop, &instance->lap);
  instance->cb[verb](instance, verb, status, error, instance->cb_data[verb]);
}

/* The operation finished after its deadline. The reload continued without it; only the memory
 * waits. */
static void module_finished(segue_op *op) {
  segue__instance *instance = op->data;
  SEGUE__LOG(instance->log, SEGUE_WARN, "module", "an operation finished after its deadline",
             SEGUE__FIELD("module", instance->name),
             SEGUE__FIELD("operation", verb_names[op - instance->op]));
  destroy_if_done(instance);
}

static void report_doubles(const segue__instance *instance) {
  for (int verb = 0; verb < 4; verb++) {
    int extra = __atomic_load_n(&instance->op[verb].extra, __ATOMIC_RELAXED);
    if (extra)
      SEGUE__LOG(instance->log, SEGUE_WARN, "module",
                 "an operation was completed more than once: the first completion counts",
                 SEGUE__FIELD("module", instance->name),
                 SEGUE__FIELD("operation", verb_names[verb]),
                 SEGUE__FIELD("times", (int64_t)extra + 1));
  }
}

/* The plugin is released after destroy, whose code is in it. A report of a failure that was posted
 * and not delivered refers to this memory: the message frees it then. */
static void destroy_if_done(segue__instance *instance) {
  if (!instance->released || instance->pins) return;
  for (int verb = 0; verb < 4; verb++)
    if (segue__op_outstanding(&instance->op[verb])) return;
  segue__instance **link = &instance->detached->head;
  while (*link != instance)
    link = &(*link)->detached_next;
  *link = instance->detached_next;
  instance->detached->count--;
  if (instance->all_next) instance->all_next->all_prev = instance->all_prev;
  if (instance->all_prev)
    instance->all_prev->all_next = instance->all_next;
  else
    instance->detached->all = instance->all_next;
  report_doubles(instance);
  if (instance->object && instance->ops.destroy) instance->ops.destroy(instance->object);
  segue_snapshot_unref(instance->next.snapshot);
  segue_snapshot_unref(instance->prev.snapshot);
  segue__option_values_unref(instance->values); /* reads the plugin's table */
  segue__plugin_unref(instance->plugin);
  if (__atomic_load_n(&instance->failure_posted, __ATOMIC_ACQUIRE) && !instance->failure_delivered)
    instance->is_gone = true;
  else
    free_memory(instance);
}

/* ---- An instance that fails by itself ---- */

static void failure_deliver(segue__message *message) {
  segue__instance *instance =
      (segue__instance *)((char *)message - offsetof(segue__instance, failure_message));
  instance->failure_delivered = true;
  if (instance->is_gone) {
    free_memory(instance);
    return;
  }
  segue__module_state state = instance->state;
  if (instance->released || state > SEGUE__MODULE_SERVING) {
    SEGUE__LOG(instance->log, SEGUE_INFO, "module",
               "an instance failed while it was stopped: no recovery is needed",
               SEGUE__FIELD("module", instance->name),
               SEGUE__FIELD("error", instance->failure.message));
    return;
  }
  instance->failed = true;
  if (state != SEGUE__MODULE_SERVING) { /* its prepare or start fails: at once, if it runs */
    segue__instance_cancel(instance, SEGUE__START);
    return;
  }
  module_enter(instance, SEGUE__MODULE_FAILED);
  const segue__detached *detached = instance->detached;
  if (detached->on_failure) detached->on_failure(detached->data, instance);
}

void segue_module_failed(segue_op *op, const segue_error *error) {
  segue__instance *instance = op->data;
  int expected = 0;
  if (!__atomic_compare_exchange_n(&instance->failure_posted, &expected, 1, false, __ATOMIC_ACQ_REL,
                                   __ATOMIC_ACQUIRE))
    return;
  /* Past the exchange the fields are this thread's until the message is delivered. */
  if (error && error->message[0])
    instance->failure = *error;
  else
    segue__errorf(&instance->failure, SEGUE_EMODULE, "it reported a failure without a reason");
  if (instance->failure.code >= 0) instance->failure.code = SEGUE_EMODULE;
  segue__error_source(&instance->failure, instance->name);
  instance->failure_message.fn = failure_deliver;
  segue__post(instance->loop, &instance->failure_message);
}

const segue_error *segue__instance_failure(const segue__instance *instance) {
  return instance->failed ? &instance->failure : NULL;
}

uint64_t segue__instance_served_ms(const segue__instance *instance) {
  return instance->serving_ms ? segue__loop_now_ms(instance->loop) - instance->serving_ms : 0;
}
