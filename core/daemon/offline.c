/* SPDX-License-Identifier: MIT
 *
 * `segue check`, and `segue plan` if no daemon runs: a separate engine makes the plan of its first
 * load, up to and including prepare. That engine opens no listener and no state folder, so it is
 * safe beside a daemon that serves the same policy.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "../admin/admin.h"
#include "../admin/render.h"
#include "../bind/module/modules.h"
#include "../bind/policy/loader.h"
#include "../ingress/ingress.h"
#include "../instance/instance.h"
#include "../instance/lua_paths.h"
#include "budget.h"
#include "cli.h"
#include "connect.h"
#include "sink.h"
#include "table.h"

enum { GRACE_MS = 3000 };

typedef struct trial {
  const segue__cli *cli;
  segue__sink sink;
  segue__logger log;
  uv_loop_t uv;
  segue__loop *loop;
  segue *owner; /* for operations of modules: never started, has the publication and the gates */
  segue__lua_loader *lua;
  char *lua_dir, *plugin_dir;
  segue__c_modules modules;
  segue__module_kind kinds[SEGUE__MODULE_KINDS];
  segue__file_world *files;
  segue__process_world *processes;
  segue__ingress *ingress; /* only for its worker threads: modules in Lua are built on them */
  segue__lua_modules *lua_modules;
  segue__engine *engine;
  segue__observer secret_observer;
  segue__waiter waiter;
  segue__result *result;
  int status;
  bool closed; /* the part that is closing has closed */
  bool stuck;  /* a worker thread runs code of a module that does not return */
} trial;

static int write_clean(void *data, const segue_log_entry *entry) {
  segue__sink_write(data, entry);
  return 0;
}

/* A check logs the lines of hooks as the daemon does, without secrets. */
static void offline_on_log(void *data, const segue_log_entry *entry) {
  trial *t = data;
  if (t->owner && segue__secrets_any(&t->owner->secrets))
    segue__secrets_log(&t->owner->secrets, entry, write_clean, &t->sink);
  else
    segue__sink_write(&t->sink, entry);
}

static void offline_on_secrets(segue__observer *observer, const segue__mask *mask) {
  trial *t = observer->data;
  segue__secrets_add(&t->owner->secrets, t->owner->publication, mask);
}

static int offline_load_policy(void *data, const char *path, segue__policy **out,
                               segue__errors *errors) {
  trial *t = data;
  segue__policy_loader lua = segue__lua_loader_get(t->lua);
  int rc = segue__policy_blame(lua.load(lua.data, path, out, errors), errors);
  if (rc < 0 || (rc = segue__validate_policy(*out, segue__os_default(), errors)) == 0) return rc;
  segue__policy_unref(*out);
  *out = NULL;
  return rc;
}

static void offline_on_outcome(segue__waiter *waiter, int status, segue__result *result) {
  trial *t = waiter->data;
  t->status = status;
  t->result = result ? segue__result_ref(result) : NULL;
}

static size_t offline_worker_count(void *data) {
  segue__worker_threads worker_threads = segue__ingress_worker_threads(((trial *)data)->ingress);
  return worker_threads.count(worker_threads.data);
}

static segue__loop *offline_worker_loop(void *data, size_t index) {
  segue__worker_threads worker_threads = segue__ingress_worker_threads(((trial *)data)->ingress);
  return worker_threads.loop(worker_threads.data, index);
}

/* No generation is live, so what a module writes or counts is dropped. */
static int offline_write_log(void *data, const segue_log_entry *entry) {
  (void)data, (void)entry;
  return 0;
}

static int record_metric(void *data, segue_metric metric, const char *series, double value) {
  (void)data, (void)metric, (void)series, (void)value;
  return 0;
}

static void offline_on_lost(void *data, size_t worker_index, const char *module,
                            uint64_t silent_ms) {
  trial *t = data;
  (void)module, (void)silent_ms; /* the error of the plan names the module */
  if (!t->stuck) segue__loop_keep(t->loop);
  t->stuck = true;
  segue__lua_modules_abandon_thread(t->lua_modules, worker_index);
}

static int open_modules(trial *t, const segue__lua_services *services) {
  segue__ingress_options ingress = {
      .size = sizeof ingress,
      .loop = t->loop,
      .log = &t->log,
      .gates = t->owner->gates,
      .write_log = offline_write_log,
      .on_lost = offline_on_lost,
      .data = t,
  };
  segue__lua_modules_options options = {
      .size = sizeof options,
      .loop = t->loop,
      .log = &t->log,
      .lua_dir = t->lua_dir,
      .signal = segue__budget_signal(),
      .worker_threads = {offline_worker_count, offline_worker_loop, t},
      .services = *services};
  int rc = segue__ingress_new(&t->ingress, &ingress);
  return rc ? rc : segue__lua_modules_new(&t->lua_modules, &options);
}

/* The plan reads what the daemon has written, so that it decides as the daemon would: whether a
 * live file is another program's, and which files the policy no longer has. A folder that the files
 * are written to instead (render --out) has none of that. */
static int offline_open_files(trial *t, segue_error *err) {
  segue__buf record;
  char *folder = NULL;
  segue__buf_init(&record);
  int rc = t->cli->out ? 0 : segue__cli_state_folder(t->cli, &folder, err);
  if (folder) segue__buf_addf(&record, "%s/" SEGUE__FILES_RECORD, folder);
  if (!rc && record.failed) rc = UV_ENOMEM;
  if (!rc && record.data && access(record.data, R_OK) && errno == EACCES)
    SEGUE__LOG(&t->log, SEGUE_WARN, "files",
               "cannot read which files segue has written: files that go are not listed; run the "
               "command as the user of the daemon",
               SEGUE__FIELD("record", record.data));
  if (!rc)
    rc = segue__file_world_new(&t->files, t->loop, &t->log, segue__os_default(), record.data);
  segue__buf_deinit(&record);
  segue__free(folder);
  if (rc) return rc;
  segue__file_world_rehearse(t->files);
  if (t->cli->out) segue__file_world_capture(t->files, segue__cli_write_below, (void *)t->cli);
  return 0;
}

static int offline_open_lua(trial *t, segue_error *err) {
  const segue__lua_services services = {offline_write_log, record_metric, t};
  int rc = segue__lua_paths_find(t->cli->lua_dir, &t->lua_dir, err);
  if (rc == 0) rc = segue__plugin_dir_find(&t->plugin_dir, err);
  if (rc == 0) rc = segue__plugins_new(&t->modules.plugins);
  if (rc == 0) rc = open_modules(t, &services);
  if (rc < 0) return rc;
  t->modules.folder = t->plugin_dir;
  rc = offline_open_files(t, err);
  if (rc < 0) return rc;
  rc = segue__process_world_new(&t->processes, t->loop, &t->log, segue__os_default(), "");
  if (rc < 0) return rc;
  segue__module_kinds(t->kinds, &t->modules, t->lua_modules, t->files, t->processes);
  segue__lua_options options = {
      .size = sizeof options,
      .lua_dir = t->lua_dir,
      .signal = segue__budget_signal(),
      .load_cpu_ms = SEGUE__POLICY_LOAD_MS,
      .kinds = t->kinds,
      .kind_count = sizeof t->kinds / sizeof *t->kinds,
      .services = services,
  };
  return segue__lua_loader_new(&t->lua, t->loop, &t->log, segue__os_default(), &options);
}

static int offline_rehearse(void *data, const segue__policy *next, segue__errors *errors) {
  return segue__ingress_rehearse(((trial *)data)->ingress, next, errors);
}

static void discard_line(void *data, const segue_log_entry *entry) {
  (void)data, (void)entry;
}

/* Operations of modules call segue_op_owner(), and its gates, log and metrics. They get an instance
 * that is as it would be before its first generation is live. */
static int open_owner(trial *t, segue_error *err) {
  segue_options options;
  segue_options_init(&options);
  options.on_log = discard_line;
  int rc = segue_new(&t->owner, &options, err);
  if (rc == 0) segue__loop_set_owner(t->loop, t->owner);
  return rc;
}

static int offline_open_all(trial *t, segue_error *err) {
  segue__engine_options options = {
      .size = sizeof options,
      .loader = {.load = offline_load_policy, .data = t},
      .policy_path = t->cli->policy,
      .log = &t->log,
      .triggers = {.rehearse = offline_rehearse, .data = t},
  };
  int rc = segue__loop_open_uv(&t->loop, &t->uv);
  if (rc == 0) rc = open_owner(t, err);
  if (rc == 0) rc = offline_open_lua(t, err);
  if (rc < 0) return rc;
  options.loop = t->loop;
  options.publication = t->owner->publication;
  options.gates = t->owner->gates;
  options.wants = segue__file_world_wants(t->files);
  options.leftovers = segue__file_world_leftovers(t->files);
  rc = segue__engine_new(&t->engine, &options);
  if (rc < 0) return rc;
  t->secret_observer = (segue__observer){.on_secrets = offline_on_secrets, .data = t};
  segue__engine_observe(t->engine, &t->secret_observer);
  return 0;
}

static void offline_on_closed(void *data) {
  ((trial *)data)->closed = true;
}

static void wait_closed(trial *t) {
  while (!t->closed)
    uv_run(&t->uv, UV_RUN_ONCE);
  t->closed = false;
}

/* Closes in the order of an instance. Keeps objects that an abandoned worker thread may still
 * use. */
static void offline_close_all(trial *t) {
  segue__ingress_close(t->ingress, GRACE_MS, offline_on_closed, t);
  wait_closed(t);
  if (t->engine) {
    segue__engine_stop(t->engine, offline_on_closed, t);
    wait_closed(t);
    segue__engine_free(t->engine);
  }
  segue__lua_modules_close(t->lua_modules, offline_on_closed, t);
  wait_closed(t);
  t->lua_modules = NULL; /* it is freed, and on_lost may still come */
  segue__lua_loader_close(t->lua, offline_on_closed, t);
  wait_closed(t);
  segue__ingress_free(t->ingress, offline_on_closed, t);
  wait_closed(t);
  if (t->stuck) return;
  segue__plugins_free(t->modules.plugins);
  segue__free(t->plugin_dir);
  segue__free(t->lua_dir);
  if (t->loop) segue__loop_close(t->loop, NULL, NULL);
  uv_run(&t->uv, UV_RUN_DEFAULT);
  segue__file_world_close(t->files);
  segue__process_world_close(t->processes);
  segue_close(t->owner);
  t->owner = NULL;
  uv_loop_close(&t->uv);
}

/* Runs the plan. Returns 0 with t->result, or a negative code with err. */
static int offline_validate(trial *t, segue_error *err) {
  segue__reload_request request = {
      .trigger = SEGUE__BY_START, .cause = "check", .plan_only = true, .rehearse = true};
  t->waiter = (segue__waiter){.cb = offline_on_outcome, .data = t};
  t->status = 1;
  segue__errorf(err, 0, "%s", "");
  int rc = offline_open_all(t, err);
  if (rc == 0) rc = segue__engine_request(t->engine, &request, &t->waiter);
  while (rc == 0 && t->status == 1)
    uv_run(&t->uv, UV_RUN_ONCE);
  if (rc == 0) rc = t->status;
  if (rc < 0 && !err->message[0])
    segue__errorf(err, rc, "cannot check %s: %s", t->cli->policy, segue_strerror(rc));
  return rc;
}

static int plan_code(const segue__result *result) {
  switch (result->outcome) {
  case SEGUE__APPLIED:
  case SEGUE__UNCHANGED:
    return SEGUE__EXIT_OK;
  case SEGUE__HELD:
    return SEGUE__EXIT_REFUSED;
  case SEGUE__REJECTED:
    return SEGUE__EXIT_REJECTED;
  default:
    return SEGUE__EXIT_FAILED;
  }
}

static void offline_check_text(segue__buf *out, const trial *t) {
  const segue__result *result = t->result;
  int code = plan_code(result);
  if (code == SEGUE__EXIT_OK)
    segue__buf_addf(out, "good: %s and its configuration\n", t->cli->policy);
  else
    segue__buf_addf(out, "%s: %s and its configuration %s\n", segue__outcome_name(result->outcome),
                    t->cli->policy,
                    code == SEGUE__EXIT_FAILED ? "could not be tried" : "must not go live");
  for (size_t i = 0; i < result->errors.count; i++) {
    segue__render_error_text(out, &result->errors.items[i]);
    segue__buf_addc(out, '\n');
  }
  segue__render_untried_text(out, result);
  segue__render_files_text(out, &result->outputs);
}

static int try_it(const segue__cli *cli, void (*text)(segue__buf *out, const trial *t)) {
  trial t = {.cli = cli};
  segue_error err;
  segue__buf out, painted;
  int rc = segue__sink_init(&t.sink, cli);
  if (rc) return rc;
  t.log = (segue__logger){
      .level = cli->log_level ? t.sink.level : SEGUE_WARN, .sink = offline_on_log, .data = &t};
  if (uv_loop_init(&t.uv) < 0)
    return segue__cli_fail(SEGUE__EXIT_UNEXPECTED, "cannot create an event loop");
  rc = offline_validate(&t, &err);
  segue__buf_init(&out);
  segue__buf_init(&painted);
  if (rc < 0) {
    rc = segue__cli_fail(SEGUE__EXIT_UNEXPECTED, "%s", err.message);
  } else {
    if (cli->json) {
      segue__render_result_json(&out, t.result, true);
      segue__buf_addc(&out, '\n');
    } else {
      text(&out, &t);
    }
    rc = plan_code(t.result);
  }
  segue__result_unref(t.result);
  offline_close_all(&t);
  if (out.len)
    segue__table_paint_diffs(&painted, out.data, out.len, !cli->json && segue__cli_colour(1));
  painted.failed |= out.failed;
  segue__buf_deinit(&out);
  rc = segue__cli_print(rc, &painted);
  if (t.stuck) _exit(rc);
  return rc;
}

/* Only the policy is evaluated: no source is read and no module is prepared. */
int segue__cli_plugin_folders(const segue__cli *cli, segue__names *out, segue_error *err) {
  trial t = {.cli = cli};
  segue__policy *policy = NULL;
  segue__errors errors;
  if (segue__sink_init(&t.sink, cli)) return UV_EINVAL;
  t.log = (segue__logger){.level = SEGUE_ERROR, .sink = offline_on_log, .data = &t};
  if (uv_loop_init(&t.uv) < 0) return segue__errorf(err, UV_ENOMEM, "cannot create an event loop");
  segue__errors_init(&errors);
  int rc = offline_open_all(&t, err);
  if (!rc) {
    segue__policy_loader lua = segue__lua_loader_get(t.lua);
    rc = lua.load(lua.data, cli->policy, &policy, &errors);
    if (rc && errors.count) *err = errors.items[0];
  }
  for (size_t i = 0; policy && i < policy->plugin_count && !rc; i++)
    rc = segue__names_add(out, "", 0, policy->plugins[i]);
  segue__policy_unref(policy);
  segue__errors_deinit(&errors);
  offline_close_all(&t);
  return rc;
}

int segue__cli_check(const segue__cli *cli) {
  if (cli->with_count && !cli->schema)
    return segue__cli_fail(SEGUE__EXIT_USAGE,
                           "--with needs --schema SCHEMA, the schema that refers to the file");
  if (cli->schema && !cli->arg_count)
    return segue__cli_fail(SEGUE__EXIT_USAGE,
                           "segue check --schema needs FILE, the file to validate");
  if (cli->schema) return segue__cli_check_file(cli);
  if (cli->arg_count || cli->formats)
    return segue__cli_fail(SEGUE__EXIT_USAGE, "segue check needs --schema SCHEMA to validate %s",
                           cli->arg_count ? cli->args[0] : "a file");
  return try_it(cli, offline_check_text);
}

static void plan_text(segue__buf *out, const trial *t) {
  segue__buf_adds(out, "no daemon runs with this policy: everything is new\n");
  segue__render_plan_text(out, t->result);
}

int segue__cli_plan_offline(const segue__cli *cli) {
  return try_it(cli, plan_text);
}

/* Only the files are printed, or the reason why there are none. */
static void render_text(segue__buf *out, const trial *t) {
  const segue__result *result = t->result;
  for (size_t i = 0; i < result->errors.count; i++) {
    segue__render_error_text(out, &result->errors.items[i]);
    segue__buf_addc(out, '\n');
  }
  segue__render_files_text(out, &result->outputs);
  if (t->cli->dry_run && !result->errors.count && !result->outputs.count)
    segue__buf_adds(out, "no file would change\n");
}

int segue__cli_render_offline(const segue__cli *cli) {
  return try_it(cli, render_text);
}
