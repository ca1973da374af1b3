/* SPDX-License-Identifier: MIT
 *
 * Instances of a module of the kind "process": one generation of it. Its start starts the child and
 * waits until that is ready; its stop stops the child. A child that ends by itself is started
 * again, within a budget; past that the module has failed, and the engine builds another instance
 * with pauses of its own. While its generation can still be undone no child is started again: its
 * end fails the reload.
 */
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include <uv.h>

#include "../config/config.h"
#include "../os/child_exec.h"
#include "../os/error.h"
#include "../os/fault.h"
#include "../os/mem.h"
#include "../os/op.h"
#include "kind_internal.h"

void segue__process_child_drop(segue__process_child *child) {
  segue__managed_free(child->managed);
  if (child->slice_path) (void)unlink(child->slice_path);
  segue__free(child->slice_path);
  for (size_t i = 0; child->argv && child->argv[i]; i++)
    segue__free(child->argv[i]);
  segue__free(child->argv);
  *child = (segue__process_child){0};
}

/* ---- Prepare ---- */

/* The look-up of the user, in memory of its own: the name service may hang. */
typedef struct process_lookup {
  segue__job job;
  segue__process_instance *instance; /* NULL: it does not wait any more */
  char *user, *group;
  segue__user_entry entry;
  int status;
  segue_error error;
} process_lookup;

static void lookup_free(process_lookup *lookup) {
  segue__user_entry_deinit(&lookup->entry);
  segue__free(lookup->user);
  segue__free(lookup->group);
  segue__free(lookup);
}

static void lookup_run(segue__job *job) {
  process_lookup *lookup = (process_lookup *)job;
  lookup->status = segue__user_find(lookup->user, lookup->group, &lookup->entry, &lookup->error);
}

/* A missing program is reported before the running child is stopped for it. */
static int instance_find_program(const segue__process_instance *instance, segue_error *err) {
  const segue__process_module *module = instance->module;
  const segue__process_kind_options *o = &module->options;
  const char *const argv[] = {o->argv.items[0], NULL};
  segue__executable found;
  segue__environment environment = {0};
  char **changes = NULL;
  int rc = segue__process_environment(instance, NULL, &environment, &changes);
  if (rc) {
    segue__errorf(err, rc, "out of memory");
  } else {
    const segue__child_options options = {.size = sizeof options,
                                          .argv = argv,
                                          .env = environment.entries,
                                          .cwd = o->cwd ? o->cwd : module->folder};
    rc = strchr(argv[0], '{') ? 0 : segue__executable_find(&options, &found, err);
  }
  segue__environment_free(&environment);
  for (size_t i = 0; changes && changes[i]; i++)
    segue__free(changes[i]);
  segue__free(changes);
  return rc;
}

static void instance_prepared(segue__process_instance *instance, int status,
                              const segue_error *error) {
  segue_error found;
  segue__op_on_cancel(instance->op, NULL, NULL);
  if (!status) {
    status = instance_find_program(instance, &found);
    error = &found;
  }
  /* The policy names a program or a user that is not there: no retry helps. */
  if (status == UV_ENOENT || status == UV_EACCES) {
    found = *error;
    found.code = status = SEGUE_ECONFIG;
    error = &found;
  }
  segue_op_done(instance->op, status, status ? error : NULL);
}

static void lookup_done(segue__job *job) {
  process_lookup *lookup = (process_lookup *)job;
  segue__process_instance *instance = lookup->instance;
  int status = lookup->status;
  segue_error error = lookup->error;
  if (instance) {
    instance->lookup = NULL;
    if (!status) segue__user_entry_move(&instance->user, &lookup->entry);
  }
  lookup_free(lookup);
  if (instance) instance_prepared(instance, status, &error);
}

static void lookup_abandoned(segue__job *job) {
  process_lookup *lookup = (process_lookup *)job;
  if (lookup->instance) {
    lookup->status = segue__errorf(&lookup->error, SEGUE_ECANCELLED, "segue stops");
    lookup_done(job);
  } else {
    lookup_free(lookup);
  }
}

static void instance_prepare_cancelled(void *data) {
  segue__process_instance *instance = data;
  process_lookup *lookup = instance->lookup;
  segue_error error;
  if (!lookup) return;
  instance->lookup = NULL;
  lookup->instance = NULL;
  segue__job_abandon(instance->module->world->loop, &lookup->job);
  segue__errorf(&error, SEGUE_ECANCELLED, "the look-up of user %.100s was cancelled",
                instance->module->options.user);
  segue_op_done(instance->op, SEGUE_ECANCELLED, &error);
}

static int instance_look_up(segue__process_instance *instance, segue_error *err) {
  const segue__process_kind_options *o = &instance->module->options;
  process_lookup *lookup = segue__calloc(1, sizeof *lookup);
  if (!lookup) return segue__errorf(err, UV_ENOMEM, "out of memory");
  lookup->job = (segue__job){.run = lookup_run, .done = lookup_done, .abandoned = lookup_abandoned};
  lookup->instance = instance;
  lookup->user = segue__strdup(o->user);
  lookup->group = segue__strdup(o->group_name);
  int rc = lookup->user && (lookup->group || !o->group_name) ? 0 : UV_ENOMEM;
  if (!rc) rc = segue__job_submit(instance->module->world->loop, SEGUE__QUEUE_FILES, &lookup->job);
  if (rc) {
    lookup_free(lookup);
    return segue__errorf(err, rc, "the user of the child cannot be looked up: %s",
                         segue_strerror(rc));
  }
  instance->lookup = lookup;
  segue__op_on_cancel(instance->op, instance_prepare_cancelled, instance);
  return 0;
}

static void instance_prepare(void *userdata, segue_op *op, const segue_slice *next,
                             const segue_slice *prev, void **out) {
  segue__process_module *module = userdata;
  segue__process_instance *instance = segue__calloc(1, sizeof *instance);
  segue_error error;
  (void)prev;
  *out = instance;
  if (!instance) {
    segue_op_done(op, UV_ENOMEM, NULL);
    return;
  }
  instance->module = module;
  module->refs++;
  instance->op = op;
  instance->again.data = instance;
  instance->generation = segue_snapshot_generation(next->snapshot);
  instance->slice_hash = next->config ? segue__node_hash(next->config) : (segue__hash){0, 0};
  segue__buf_init(&instance->slice);
  if (next->config)
    segue__json_write(&instance->slice, next->config, 0);
  else
    segue__buf_adds(&instance->slice, "null");
  segue__buf_addc(&instance->slice, '\n');
  int rc = instance->slice.failed ? segue__errorf(&error, UV_ENOMEM, "out of memory") : 0;
  if (!rc && module->options.user)
    rc = instance_look_up(instance, &error);
  else if (!rc) {
    instance_prepared(instance, 0, NULL);
    return;
  }
  if (rc) segue_op_done(op, rc, &error);
}

static void instance_destroy(void *object) {
  segue__process_instance *instance = object;
  segue__timer_stop(instance->module->world->loop, &instance->again);
  segue__slice_write_forget(instance->write);
  segue__process_child_drop(&instance->child);
  segue__user_entry_deinit(&instance->user);
  segue__child_sockets_release(instance);
  segue__restart_budget_deinit(&instance->budget);
  segue__buf_deinit(&instance->slice);
  segue__process_module_unref(instance->module);
  segue__free(instance);
}

/* ---- Supervision ---- */

static void instance_fail(segue__process_instance *instance, const segue_error *why) {
  segue_module_failed(instance->op, why);
}

static void instance_again(segue__timer *timer) {
  segue__process_begin(timer->data);
}

static bool instance_end_is_good(const segue__process_kind_options *o,
                                 const segue__child_exit *end) {
  if (end->status || end->term_signal) return false;
  for (size_t i = 0; i < o->success.count; i++)
    if (o->success.items[i] == end->exit_code) return true;
  return !o->success.count && !end->exit_code;
}

/* Its child has ended by itself after ran_ms, or could not be started again. */
static void instance_supervise(segue__process_instance *instance, bool good, uint64_t ran_ms,
                               const segue_error *why) {
  const segue__process_kind_options *o = &instance->module->options;
  const segue__restart_limits limits = {o->budget_count, o->budget_ms, o->backoff_min_ms,
                                        o->backoff_max_ms, o->stable_ms};
  segue__loop *loop = instance->module->world->loop;
  uint64_t random = 0;
  segue_error spent;
  if (instance->on_trial) {
    instance_fail(instance, why);
    return;
  }
  if (o->restart == SEGUE__RESTART_NEVER || (o->restart == SEGUE__RESTART_ON_FAILURE && good)) {
    instance->finished = true;
    if (!good) instance_fail(instance, why);
    return;
  }
  if (getrandom(&random, sizeof random, GRND_NONBLOCK) < 0) random = 0;
  int64_t pause = segue__restart_budget_take(&instance->budget, &limits, segue__loop_now_ms(loop),
                                             ran_ms, random);
  if (pause < 0) {
    segue__errorf(&spent, SEGUE_EMODULE, "%s; it was restarted %llu times in %g s, no more",
                  why->message, (unsigned long long)o->budget_count, (double)o->budget_ms / 1000);
    instance_fail(instance, &spent);
    return;
  }
  instance->module->record->restarts++;
  if (segue__timer_start(loop, &instance->again, (uint64_t)pause, instance_again))
    instance_fail(instance, why);
}

/* ---- The child ---- */

static void instance_start_done(segue__process_instance *instance, int status,
                                const segue_error *error) {
  segue_op *op = instance->start_op;
  instance->start_op = NULL;
  segue__op_on_cancel(op, NULL, NULL);
  segue_op_done(op, status, status ? error : NULL);
}

static void instance_stop_done(segue__process_instance *instance) {
  segue_op *op = instance->stop_op;
  instance->stop_op = NULL;
  if (op) segue_op_done(op, 0, NULL);
}

/* A start has failed before there was a child. */
static void instance_not_started(segue__process_instance *instance, int status,
                                 const segue_error *error) {
  segue__process_child_drop(&instance->child);
  if (instance->start_op)
    instance_start_done(instance, status, error);
  else if (!segue__process_changed(instance, status, error) && !instance->stopping)
    instance_supervise(instance, false, 0, error);
  instance_stop_done(instance);
}

static void instance_launch(segue__process_instance *instance) {
  segue_error error;
  int rc = segue__process_launch(instance, &error);
  if (rc) instance_not_started(instance, rc, &error);
}

static void instance_written(void *data, int status, const segue_error *error) {
  segue__process_instance *instance = data;
  segue_error stopped;
  instance->write = NULL;
  if (!status && instance->stopping)
    status = segue__errorf(&stopped, SEGUE_ECANCELLED, "the start was cancelled");
  if (status)
    instance_not_started(instance, status, error ? error : &stopped);
  else
    instance_launch(instance);
}

void segue__process_begin(segue__process_instance *instance) {
  const segue__process_module *module = instance->module;
  segue_error error;
  int rc = segue__child_sockets_acquire(instance, &error);
  if (rc) {
    instance_not_started(instance, rc, &error);
    return;
  }
  if (module->options.slice != SEGUE__SLICE_FILE) {
    instance_launch(instance);
    return;
  }
  instance->child.slice_path = segue__slice_new_path(module->world, module->name);
  rc = instance->child.slice_path ? 0 : UV_ENOMEM;
  if (!rc)
    rc = segue__slice_write_start(&instance->write, module->world, instance->child.slice_path,
                                  instance->slice.data, instance->slice.len,
                                  module->options.user ? &instance->user.user : NULL,
                                  instance_written, instance);
  if (!rc) return;
  segue__errorf(&error, rc, "the slice of the child cannot be written: %s", segue_strerror(rc));
  instance_not_started(instance, rc, &error);
}

void segue__process_on_ready(void *data) {
  segue__process_instance *instance = data;
  segue__process_record *record = instance->module->record;
  record->ready_ms = segue__managed_ready_ms(instance->child.managed);
  SEGUE__LOG(instance->module->world->log, SEGUE_INFO, "process", "the child is ready",
             SEGUE__FIELD("module", instance->module->name),
             SEGUE__FIELD("pid", segue__managed_pid(instance->child.managed)),
             SEGUE__FIELD("ms", record->ready_ms));
  if (instance->start_op)
    instance_start_done(instance, 0, NULL);
  else
    (void)segue__process_changed(instance, 0, NULL);
}

void segue__process_on_end(void *data, const segue__child_exit *end, const segue_error *why) {
  segue__process_instance *instance = data;
  const segue__process_kind_options *o = &instance->module->options;
  const bool good = instance_end_is_good(o, end);
  instance->module->record->lost_lines += segue__managed_lost(instance->child.managed);
  segue__process_child_drop(&instance->child);
  SEGUE__LOG(instance->module->world->log, instance->stopping || good ? SEGUE_INFO : SEGUE_ERROR,
             "process", why->message, SEGUE__FIELD("module", instance->module->name));
  if (instance->start_op)
    instance_start_done(instance, SEGUE_EMODULE, why);
  else if (!instance->stopping && !segue__process_changed(instance, SEGUE_EMODULE, why))
    instance_supervise(instance, good, end->duration_ms, why);
  instance_stop_done(instance);
}

/* ---- Start and stop ---- */

/* The time limit of the engine, which is longer than that of the readiness, or the end of segue. */
static void instance_start_cancelled(void *data) {
  segue__process_instance *instance = data;
  instance->stopping = true;
  if (instance->child.managed) segue__managed_stop(instance->child.managed);
}

/* An instance that a change gave the child of the one before it has started already. */
static void instance_start(void *object, segue_op *op) {
  segue__process_instance *instance = object;
  if (instance->child.managed) {
    segue_op_done(op, 0, NULL);
    return;
  }
  instance->start_op = op;
  segue__op_on_cancel(op, instance_start_cancelled, instance);
  segue__process_begin(instance);
}

static void instance_stop(void *object, segue_op *op) {
  segue__process_instance *instance = object;
  instance->stopping = true;
  segue__timer_stop(instance->module->world->loop, &instance->again);
  if (!instance->child.managed && !instance->write) {
    segue_op_done(op, 0, NULL);
    return;
  }
  instance->stop_op = op;
  if (instance->child.managed) segue__managed_stop(instance->child.managed);
}

/* ---- Metrics ---- */

typedef struct metric_sink {
  void (*add)(void *sink, const char *text, size_t len);
  void *sink;
  const char *module;
} metric_sink;

static void metric_add(const metric_sink *m, const char *name, const char *type, const char *help,
                       double value) {
  segue__buf text;
  segue__buf_init(&text);
  segue__buf_addf(&text, "# HELP segue_process_%s %s\n# TYPE segue_process_%s %s\n", name, help,
                  name, type);
  segue__buf_addf(&text, "segue_process_%s{module=\"%s\"} %.15g\n", name, m->module, value);
  if (!text.failed) m->add(m->sink, text.data, text.len);
  segue__buf_deinit(&text);
}

static void instance_metrics(void *object, void (*add)(void *sink, const char *text, size_t len),
                             void *sink) {
  const segue__process_instance *instance = object;
  const segue__process_record *record = instance->module->record;
  const segue__managed *managed = instance->child.managed;
  const metric_sink m = {add, sink, instance->module->name};
  const uint64_t lost = record->lost_lines + (managed ? segue__managed_lost(managed) : 0);
  metric_add(&m, "up", "gauge", "Whether the child of a module runs and is ready.",
             managed && segue__managed_is_ready(managed));
  metric_add(&m, "starts_total", "counter", "Children that were started.", (double)record->starts);
  metric_add(&m, "restarts_total", "counter", "Children that ended and were started again.",
             (double)record->restarts);
  metric_add(&m, "reloads_total", "counter", "Reloads of a running child.",
             (double)record->reloads);
  metric_add(&m, "ready_seconds", "gauge", "Time from the start of the child until it was ready.",
             (double)record->ready_ms / 1000);
  metric_add(&m, "output_lost_total", "counter", "Lines of output that were not logged.",
             (double)lost);
}

const segue_module_ops segue__process_module_ops = {.size = sizeof segue__process_module_ops,
                                                    .prepare = instance_prepare,
                                                    .start = instance_start,
                                                    .stop = instance_stop,
                                                    .destroy = instance_destroy,
                                                    .metrics = instance_metrics};
