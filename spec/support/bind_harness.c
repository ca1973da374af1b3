/* SPDX-License-Identifier: MIT
 *
 * The binding, called directly. The states it makes live beside the one that runs the specs.
 */
#include "bind_harness.h"

#include <signal.h>
#include <string.h>

#include "core/bind/runtime/budget.h"

enum { STEP_MS = 10 };

static segue__c_modules host;
static segue__module_kind kind_c;

static void keep(void *data, const segue_log_entry *entry) {
  bind_harness *bind = data;
  segue__buf_addf(&bind->logged, "%s %s: %s", segue__level_name(entry->level), entry->group,
                  entry->message);
  for (size_t i = 0; i < entry->field_count; i++) {
    const segue_log_field *field = &entry->fields[i];
    if (field->text)
      segue__buf_addf(&bind->logged, " %s=%s", field->key, field->text);
    else
      segue__buf_addf(&bind->logged, " %s=%lld", field->key, (long long)field->number);
  }
  segue__buf_addc(&bind->logged, '\n');
}

static void on_signal(int signum, siginfo_t *info, void *context) {
  (void)signum, (void)context;
  segue__budget_on_signal(info->si_value.sival_ptr);
}

/* ThreadSanitizer keeps a signal back until the thread calls the C library, which a loop in Lua
 * never does: under it, as where there is no signal, instructions are counted. */
static int take_signal(void) {
#ifdef __SANITIZE_THREAD__
  (void)on_signal;
  return 0;
#endif
  int signum = SIGRTMIN + 4;
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  sigaction(signum, &action, NULL);
  return signum;
}

extern int segue__lua_stress; /* core/bind/runtime/state.h, which includes lua.h */

int bind_open(bind_harness **out, const bind_options *options) {
  bind_harness *bind = segue__calloc(1, sizeof *bind);
  if (!bind) return -1;
  segue__lua_stress = options->stress;
  bind->log = (segue__logger){.level = SEGUE_DEBUG, .sink = keep, .data = bind};
  int rc = options->uv ? segue__loop_open_uv(&bind->loop, options->uv)
                       : segue__loop_open_manual(&bind->loop, 1000, 1700000000000);
  host = (segue__c_modules){.host = {options->modules, options->module_count}};
  kind_c = segue__module_kind_c(&host);
  segue__lua_options lua = {.size = sizeof lua,
                            .lua_dir = options->lua_dir,
                            .signal = options->use_signal ? take_signal() : 0,
                            .memory_bytes = options->memory_bytes,
                            .load_cpu_ms = options->load_cpu_ms,
                            .slice_cpu_ms = options->slice_cpu_ms,
                            .kinds = &kind_c,
                            .kind_count = 1};
  bind->os = options->os;
  if (!rc) rc = segue__lua_loader_new(&bind->loader, bind->loop, &bind->log, options->os, &lua);
  *out = bind;
  return rc;
}

static void closed(void *data) {
  (void)data;
}

void bind_close(bind_harness *bind) {
  segue__loop_step(bind->loop);
  segue__lua_loader_free(bind->loader);
  segue__loop_close(bind->loop, closed, NULL);
  segue__buf_deinit(&bind->logged);
  segue__free(bind);
}

static void loop_closed(void *data) {
  bind_harness *bind = data;
  bool *over = bind->over;
  segue__buf_deinit(&bind->logged);
  segue__free(bind);
  *over = true;
}

static void lua_closed(void *data) {
  bind_harness *bind = data;
  segue__loop_close(bind->loop, loop_closed, bind);
}

void bind_close_uv(bind_harness *bind, bool *over) {
  bind->over = over;
  segue__lua_loader_close(bind->loader, lua_closed, bind);
}

int bind_load(bind_harness *bind, const char *path, segue__policy **out, segue__errors *errors) {
  segue__policy_loader loader = segue__lua_loader_get(bind->loader);
  return loader.load(loader.data, path, out, errors);
}

int bind_snapshot(const char *name, const char *yaml, uint64_t generation, segue_snapshot **out,
                  segue_error *err) {
  static uint32_t id;
  segue__document *doc = NULL;
  segue__config *config = NULL;
  *out = NULL;
  int rc =
      segue__document_new(&doc, ++id, name, name, SEGUE__YAML, segue__strdup(yaml), strlen(yaml));
  if (!rc) rc = segue__document_parse(doc, NULL, NULL, NULL, err);
  if (!rc) rc = segue__config_merge(&config, &doc, 1, err);
  if (!rc) rc = segue__snapshot_new(out, generation, config);
  segue__config_unref(config);
  segue__document_unref(doc);
  return rc;
}

/* ---- Hooks ---- */

static void answered(segue_op *op, int status, const segue_error *error) {
  bind_call *call = (bind_call *)op;
  call->over = true;
  call->status = status;
  if (error) call->error = *error;
}

static void finished(segue_op *op) {
  ((bind_call *)op)->finished = true;
}

static bind_call *call_new(bind_harness *bind, uint64_t deadline_ms) {
  bind_call *call = segue__calloc(1, sizeof *call);
  if (call) segue__op_begin(&call->op, bind->loop, deadline_ms, answered, finished, NULL);
  return call;
}

bind_call *bind_check(bind_harness *bind, segue__policy *policy, const segue_snapshot *next,
                      const segue_snapshot *prev, uint64_t deadline_ms) {
  bind_call *call = call_new(bind, deadline_ms);
  if (!call) return NULL;
  policy->ops->check(policy->impl, &call->op, next, prev);
  return call;
}

bind_call *bind_probe(bind_harness *bind, segue__policy *policy, uint64_t deadline_ms) {
  bind_call *call = call_new(bind, deadline_ms);
  policy->ops->probe(policy->impl, &call->op);
  return call;
}

void bind_call_free(bind_call *call) {
  segue__free(call);
}

void bind_explain(segue__policy *policy, segue__errors *out) {
  policy->ops->explain(policy->impl, out);
}

/* ---- The engine ---- */

segue__engine *bind_engine(bind_harness *bind, const char *path, segue__publication *publication) {
  segue__engine *engine = NULL;
  segue__engine_options options = {.size = sizeof options,
                                   .loop = bind->loop,
                                   .os = bind->os,
                                   .log = &bind->log,
                                   .publication = publication,
                                   .loader = segue__lua_loader_get(bind->loader),
                                   .policy_path = path};
  return segue__engine_new(&engine, &options) ? NULL : engine;
}

static void waited(segue__waiter *waiter, int status, segue__result *result) {
  bind_waiter *bind = waiter->data;
  bind->over = true;
  bind->status = status;
  bind->result = result ? segue__result_ref(result) : NULL;
}

bind_waiter *bind_request(segue__engine *engine, bool force) {
  bind_waiter *waiter = segue__calloc(1, sizeof *waiter);
  segue__reload_request request = {.trigger = SEGUE__BY_HTTP, .cause = "a spec", .force = force};
  waiter->waiter.cb = waited;
  waiter->waiter.data = waiter;
  waiter->status = segue__engine_request(engine, &request, &waiter->waiter);
  if (waiter->status) waiter->over = true;
  return waiter;
}

void bind_waiter_free(bind_waiter *waiter) {
  segue__result_unref(waiter->result);
  segue__free(waiter);
}

bool bind_wait(bind_harness *bind, bind_waiter *waiter, uint64_t limit_ms) {
  segue__loop_step(bind->loop);
  for (uint64_t ms = 0; !waiter->over && ms < limit_ms; ms += STEP_MS)
    segue__loop_advance(bind->loop, STEP_MS);
  return waiter->over;
}

static void stopped(void *data) {
  *(bool *)data = true;
}

void bind_engine_close(bind_harness *bind, segue__engine *engine) {
  bool over = false;
  segue__engine_stop(engine, stopped, &over);
  for (int i = 0; !over && i < 10000; i++)
    segue__loop_advance(bind->loop, STEP_MS);
  segue__engine_free(engine);
}
