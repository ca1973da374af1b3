/* SPDX-License-Identifier: MIT
 *
 * Instances of modules in Lua, between the control thread, which calls their operations, and the
 * worker threads, which run their states. An operation is posted to each worker thread; the last
 * thread that completes it ends the operation. The control thread never waits.
 */
#include "module.h"

#include "../../os/fault.h"

#include <inttypes.h>
#include <signal.h>
#include <string.h>

enum { VERBS = 4, LOOK_MS = 1000, STALL_MS = 2000, HOPE_MS = 10000 };
enum { PREPARE, START, DRAIN, STOP };

static __thread segue__thread_context *here; /* context of this thread */

typedef struct instance instance;

typedef struct call {
  instance *instance;
  segue_op *op;
  size_t pending; /* atomic */
  pthread_mutex_t lock;
  int status;
  segue_error error;
} call;

/* A state and the messages to it. */
typedef struct post {
  segue__message message;
  segue__lua_state *state;
  int answered; /* atomic: 1 once the worker thread, or the control thread in its place, has
                   answered */
} post;

typedef struct place {
  segue__lua_state state; /* first */
  instance *instance;
  post call[VERBS], cancel[VERBS], close;
} place;

struct instance {
  segue__module_code *code; /* a reference */
  const segue_snapshot *snapshot;
  size_t left; /* atomic: states that are not closed */
  call calls[VERBS];
  instance *next, **link; /* list of instances that are not destroyed; control thread */
  size_t count;
  place places[];
};

/* ---- Thread contexts ------------------------------------------------------------------------- */

/* Runs on the worker thread before the first instance does. The library's threads are started with
 * all signals blocked, so the timer signal that cuts endless loops must be unblocked here. */
static void on_open(segue__message *message) {
  segue__thread_context *context =
      (segue__thread_context *)((char *)message - offsetof(segue__thread_context, open_message));
  sigset_t budget;
  here = context;
  if (!context->all->options.signal) return;
  sigemptyset(&budget);
  sigaddset(&budget, context->all->options.signal);
  pthread_sigmask(SIG_UNBLOCK, &budget, NULL);
}

static int open_context(segue__lua_modules *all, size_t index) {
  segue__thread_context *context = &all->contexts[index];
  const segue__lua_modules_options *options = &all->options;
  context->all = all;
  context->index = index;
  context->loop = options->worker_threads.loop(options->worker_threads.data, index);
  int rc = segue__budget_new(&context->budget, options->signal);
  if (!rc) rc = segue__async_io_new(&context->async_io, context->loop, options->log);
  if (rc) {
    segue__budget_free(context->budget);
    return rc;
  }
  segue__buf_init(&context->body);
  context->open_message.fn = on_open;
  segue__post(context->loop, &context->open_message);
  return 0;
}

/* The contexts are made with the first instance and stay: the worker threads do not change any
 * more. If memory runs out, the instance runs on the threads that have a context. */
static int open_contexts(segue__lua_modules *all) {
  size_t count =
      all->contexts ? 0 : all->options.worker_threads.count(all->options.worker_threads.data);
  int rc = 0;
  if (count && !(all->contexts = segue__calloc(count, sizeof *all->contexts))) return UV_ENOMEM;
  while (!rc && all->context_count < count) {
    rc = open_context(all, all->context_count);
    all->context_count += !rc;
  }
  return all->context_count ? 0 : rc ? rc : UV_ENOMEM;
}

/* ---- The watchdog ---------------------------------------------------------------------------- */

static void module_watch(segue__timer *timer);
static void answer_for(instance *in, size_t index, int verb, const segue_error *err);

/* Fails prepare and start of instances on a worker thread that does not return from a module: they
 * would wait forever. Only compiled code (jit = true) can block a thread like this; interpreted
 * code is cut by its CPU budget. Drains and stops end by their own time limits. */
static void fail_builds(segue__lua_modules *all, const segue__thread_context *context,
                        uint64_t stalled_ms) {
  segue_error err;
  segue__errorf(&err, SEGUE_EMODULE,
                "worker thread %zu has not returned from module '%s' for %llu s, so nothing can "
                "be built there: is there an endless loop? Only a restart ends it",
                context->index, __atomic_load_n(&context->pulse.who, __ATOMIC_RELAXED),
                (unsigned long long)stalled_ms / 1000);
  for (instance *in = all->first; in; in = in->next) {
    answer_for(in, context->index, PREPARE, &err);
    answer_for(in, context->index, START, &err);
  }
}

/* pulse.turns grows by one when the thread enters Lua and by one when it leaves: an odd number that
 * did not change between two looks means that it is still inside the same call. */
static void module_look_at(segue__lua_modules *all, segue__thread_context *context) {
  uint64_t turns = __atomic_load_n(&context->pulse.turns, __ATOMIC_ACQUIRE);
  uint64_t now = segue__loop_now_ms(all->options.loop);
  if (!(turns & 1) || turns != context->seen) {
    context->seen = turns;
    context->since_ms = now;
    context->reported = false;
    return;
  }
  uint64_t stalled_ms = now - context->since_ms;
  if (stalled_ms >= SEGUE_TEST_MS("HOPE_MS", HOPE_MS) &&
      __atomic_load_n(&context->pulse.endless, __ATOMIC_RELAXED))
    fail_builds(all, context, stalled_ms);
  if (context->reported || now - context->since_ms < SEGUE_TEST_MS("STALL_MS", STALL_MS)) return;
  context->reported = true;
  SEGUE__LOG(all->options.log, SEGUE_ERROR, "module",
             "a module keeps its worker thread busy, and nothing else is served there: is there an "
             "endless loop?",
             SEGUE__FIELD("module", __atomic_load_n(&context->pulse.who, __ATOMIC_RELAXED)),
             SEGUE__FIELD("thread", context->index),
             SEGUE__FIELD("seconds", (now - context->since_ms) / 1000));
}

static void arm_watchdog(segue__lua_modules *all) {
  if (!segue__timer_active(&all->watchdog) && !all->closing)
    (void)segue__timer_start(all->options.loop, &all->watchdog, SEGUE_TEST_MS("LOOK_MS", LOOK_MS),
                             module_watch);
}

static void module_watch(segue__timer *timer) {
  segue__lua_modules *all = timer->data;
  for (size_t i = 0; i < all->context_count; i++)
    module_look_at(all, &all->contexts[i]);
  if (__atomic_load_n(&all->instances, __ATOMIC_ACQUIRE)) arm_watchdog(all);
}

/* ---- On worker threads ----------------------------------------------------------------------- */

/* Returns false if the control thread has answered in place of this worker thread, which did not
 * return in time. Both may try: exactly one answer counts. */
static bool is_first(post *post) {
  return !__atomic_exchange_n(&post->answered, 1, __ATOMIC_ACQ_REL);
}

/* Converts the status of a task to that of a module operation. Code that cannot be loaded is an
 * error of the module. SEGUE_ETIMEOUT is reserved for the engine's own deadline, and SEGUE_EPOLICY
 * for the hooks of the policy. */
static int of_module(int verb, int status) {
  if (status == SEGUE_EPOLICY) return verb == PREPARE ? SEGUE_ECONFIG : SEGUE_EMODULE;
  return status == SEGUE_ETIMEOUT ? SEGUE_EMODULE : status;
}

/* The first error is the one that is reported. The thread that counts down to 0 is the last one,
 * and ends the operation. */
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

static void module_through(place *at, int verb, int status, const segue_error *err) {
  if (is_first(&at->call[verb])) count_one(at->instance, verb, status, err);
}

/* Control thread: completes an operation in place of a worker thread that does not return. err
 * NULL: the operation counts as done. */
static void answer_for(instance *in, size_t index, int verb, const segue_error *err) {
  if (index >= in->count || !in->calls[verb].op) return;
  module_through(&in->places[index], verb, err ? err->code : 0, err);
}

static void module_reported(segue__lua_state *state, int verb, int status, const segue_error *err) {
  static const int verbs[] = {
      [SEGUE__ON_START] = START, [SEGUE__ON_DRAIN] = DRAIN, [SEGUE__ON_STOP] = STOP};
  module_through((place *)state, verbs[verb], status, err);
}

/* The code may call this until its state is closed, which is later than the end of the instance on
 * the control thread. Since bind_module_destroy the op is not valid any more: the lock decides. */
static void module_failed(segue__lua_state *state, const segue_error *err) {
  call *call = &((place *)state)->instance->calls[PREPARE];
  pthread_mutex_lock(&call->lock);
  if (call->op) segue_module_failed(call->op, err);
  pthread_mutex_unlock(&call->lock);
}

static const int functions[] = {
    [START] = SEGUE__ON_START, [DRAIN] = SEGUE__ON_DRAIN, [STOP] = SEGUE__ON_STOP};

/* If the control thread has answered in place of this thread meanwhile, the instance may be stopped
 * already: the message then does nothing. */
static void on_call(segue__message *message) {
  post *p = (post *)message; /* its first member */
  place *at = (place *)p->state;
  int verb = (int)(p - at->call);
  segue_error err = {0};
  if (__atomic_load_n(&p->answered, __ATOMIC_ACQUIRE)) return;
  if (verb == PREPARE)
    module_through(at, verb, segue__lua_state_build(p->state, &err), &err);
  else
    segue__lua_state_run(p->state, functions[verb]);
}

static void on_cancel(segue__message *message) {
  post *p = (post *)message;
  segue__lua_state_cancel(p->state, functions[p - ((place *)p->state)->cancel]);
}

static void on_close(segue__message *message) {
  segue__lua_state_close(((post *)message)->state);
}

static void free_instance(instance *in) {
  segue__lua_modules *all = in->code->all;
  for (int i = 0; i < VERBS; i++)
    pthread_mutex_destroy(&in->calls[i].lock);
  segue_snapshot_unref(in->snapshot);
  segue__module_code_unref(in->code);
  segue__free(in);
  __atomic_sub_fetch(&all->instances, 1, __ATOMIC_ACQ_REL);
}

static void module_free_state(segue__lua_state *state) {
  instance *in = ((place *)state)->instance;
  if (!__atomic_sub_fetch(&in->left, 1, __ATOMIC_ACQ_REL)) free_instance(in);
}

/* ---- Operations, on the control thread ------------------------------------------------------- */

static void module_note(post *p, segue__lua_state *state, void (*fn)(segue__message *message)) {
  p->state = state;
  p->message.fn = fn;
  segue__post(state->context->loop, &p->message);
}

/* The deadline of the operation passed: ends its task on each worker thread. */
static void module_cancelled(void *data) {
  call *call = data;
  instance *in = call->instance;
  int verb = (int)(call - in->calls);
  for (size_t i = 0; i < in->count; i++)
    module_note(&in->places[i].cancel[verb], &in->places[i].state, on_cancel);
}

static void abandon_lost(instance *in, int verb) {
  for (size_t i = 0; i < in->count; i++)
    if (in->code->all->contexts[i].stuck) answer_for(in, i, verb, NULL);
}

/* `pending` is complete before the first message is posted: a fast thread could end the operation
 * otherwise while others are not counted yet. A prepare has no task to cancel. */
static void ask_all(instance *in, int verb, segue_op *op) {
  call *call = &in->calls[verb];
  call->op = op;
  call->pending = in->count;
  if (verb != PREPARE) segue__op_on_cancel(op, module_cancelled, call);
  for (size_t i = 0; i < in->count; i++)
    module_note(&in->places[i].call[verb], &in->places[i].state, on_call);
  abandon_lost(in, verb);
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

static instance *bind_module_instance_new(segue__module_code *code, const segue_slice *slice,
                                          size_t count) {
  instance *in = segue__calloc(1, sizeof *in + count * sizeof in->places[0]);
  if (!in) return NULL;
  in->code = segue__module_code_ref(code);
  in->snapshot = segue_snapshot_ref(slice->snapshot);
  in->count = in->left = count;
  for (int i = 0; i < VERBS; i++) {
    in->calls[i].instance = in;
    pthread_mutex_init(&in->calls[i].lock, NULL);
  }
  for (size_t i = 0; i < count; i++) {
    place *at = &in->places[i];
    at->instance = in;
    at->state = (segue__lua_state){.context = &code->all->contexts[i],
                                   .code = code,
                                   .snapshot = slice->snapshot,
                                   .config = slice->config,
                                   .reported = module_reported,
                                   .failed = module_failed,
                                   .free = module_free_state};
    at->state.last = &at->state.first;
  }
  __atomic_add_fetch(&code->all->instances, 1, __ATOMIC_ACQ_REL);
  link_instance(code->all, in);
  return in;
}

static void module_refuse(segue_op *op, int code, const char *why) {
  segue_error err;
  segue__errorf(&err, code, "%s", why);
  segue_op_done(op, code, &err);
}

static void bind_module_prepare(void *userdata, segue_op *op, const segue_slice *next,
                                const segue_slice *prev, void **out) {
  segue__module_code *code = userdata;
  segue_error err;
  (void)prev;
  if (*code->slice && !next->config) {
    int rc = segue__errorf(&err, SEGUE_ECONFIG,
                           "the configuration has no '%s', which is this module's part of it: "
                           "add it, or change config of the module in the policy",
                           code->slice);
    segue_op_done(op, rc, &err);
    return;
  }
  if (!code->all || open_contexts(code->all)) {
    module_refuse(op, UV_ENOMEM, "there is no worker thread for it");
    return;
  }
  instance *in = bind_module_instance_new(code, next, code->listens ? code->all->context_count : 1);
  if (!in) {
    module_refuse(op, UV_ENOMEM, "out of memory");
    return;
  }
  *out = in;
  arm_watchdog(code->all);
  ask_all(in, PREPARE, op);
}

static void bind_module_start(void *object, segue_op *op) {
  ask_all(object, START, op);
}

static void bind_module_drain(void *object, segue_op *op) {
  ask_all(object, DRAIN, op);
}

static void module_stop(void *object, segue_op *op) {
  ask_all(object, STOP, op);
}

/* Each state is closed on its own thread, after the messages that were posted to it before. The
 * last one frees the instance. */
static void bind_module_destroy(void *object) {
  instance *in = object;
  size_t count = in->count; /* the last state frees the instance */
  unlink_instance(in);
  pthread_mutex_lock(&in->calls[PREPARE].lock);
  in->calls[PREPARE].op = NULL;
  pthread_mutex_unlock(&in->calls[PREPARE].lock);
  for (size_t i = 0; i < count; i++)
    module_note(&in->places[i].close, &in->places[i].state, on_close);
}

/* `here` is the context of this worker thread. It is NULL on a thread that has closed its context,
 * or never had one. */
static void module_handle(void *object, segue_request *request) {
  instance *in = object;
  if (here && here->index < in->count)
    segue__lua_state_handle(&in->places[here->index].state, request);
  else
    segue_request_end(request);
}

const segue_module_ops segue__lua_module_ops = {.size = sizeof segue__lua_module_ops,
                                                .prepare = bind_module_prepare,
                                                .start = bind_module_start,
                                                .drain = bind_module_drain,
                                                .stop = module_stop,
                                                .destroy = bind_module_destroy,
                                                .handle = module_handle};

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

static void module_finish(segue__lua_modules *all) {
  void (*cb)(void *data) = all->cb;
  void *data = all->data;
  while (all->tallies) {
    segue__tally *next = all->tallies->next;
    segue__free(all->tallies);
    all->tallies = next;
  }
  segue__free(all->contexts);
  segue__library_free(all->library);
  segue__free(all);
  cb(data);
}

/* Frees everything, unless a worker thread is stuck in a module: its code may still use the memory.
 */
static void finish_if_closed(segue__lua_modules *all) {
  if (!all->closing || all->contexts_closed + all->contexts_abandoned < all->context_count) return;
  void (*cb)(void *data) = all->cb;
  if (!all->contexts_abandoned)
    module_finish(all);
  else if (cb)
    all->cb = NULL, cb(all->data);
}

static void on_context_closed(segue__message *message) {
  segue__thread_context *context =
      (segue__thread_context *)((char *)message - offsetof(segue__thread_context, closed_message));
  if (context->stuck) return; /* it returned after it was abandoned */
  context->all->contexts_closed++;
  finish_if_closed(context->all);
}

/* Worker thread: runs after everything that instances have posted to this thread. */
static void on_outside_closed(void *data) {
  segue__thread_context *context = data;
  segue__budget_free(context->budget);
  segue__buf_deinit(&context->body);
  while (context->pool) {
    segue__lua_request *next = context->pool->next;
    segue__free(context->pool);
    context->pool = next;
  }
  here = NULL;
  context->closed_message.fn = on_context_closed;
  segue__post(context->all->options.loop, &context->closed_message);
}

static void on_context_close(segue__message *message) {
  segue__thread_context *context =
      (segue__thread_context *)((char *)message - offsetof(segue__thread_context, close_message));
  segue__async_io_close(context->async_io, on_outside_closed, context);
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
  for (size_t i = 0; i < all->context_count; i++) {
    all->contexts[i].close_message.fn = on_context_close;
    if (!all->contexts[i].stuck)
      segue__post(all->contexts[i].loop, &all->contexts[i].close_message);
  }
  finish_if_closed(all);
}

const char *segue__lua_modules_busy(const segue__lua_modules *all, size_t worker_index) {
  if (!all || worker_index >= all->context_count) return NULL;
  const segue__pulse *pulse = &all->contexts[worker_index].pulse;
  bool runs = __atomic_load_n(&pulse->turns, __ATOMIC_ACQUIRE) & 1;
  return runs ? __atomic_load_n(&pulse->who, __ATOMIC_RELAXED) : NULL;
}

/* The operations that still wait for this thread count as done there, so that the end does not wait
 * for it. The thread may answer later: is_first makes sure that only one of the two counts. */
void segue__lua_modules_abandon_thread(segue__lua_modules *all, size_t worker_index) {
  if (!all || worker_index >= all->context_count || all->contexts[worker_index].stuck) return;
  all->contexts[worker_index].stuck = true;
  all->contexts_abandoned++;
  for (instance *in = all->first; in; in = in->next)
    for (int verb = PREPARE; verb < VERBS; verb++)
      answer_for(in, worker_index, verb, NULL);
  finish_if_closed(all);
}

/* ---- Metrics --------------------------------------------------------------------------------- */

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
                  "and were built again.\n# TYPE segue_module_rebuilds_total counter\n");
  for (segue__tally *tally = all->tallies; tally; tally = tally->next)
    segue__buf_addf(out, "segue_module_rebuilds_total{module=\"%s\"} %" PRIu64 "\n", tally->name,
                    __atomic_load_n(&tally->rebuilds, __ATOMIC_RELAXED));
}
