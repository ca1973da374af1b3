/* SPDX-License-Identifier: MIT
 *
 * One instance: publication, loop, engine, Lua half, triggers and admin API, assembled in the order
 * of their dependencies and released in the reverse order. Releasing is a chain of callbacks,
 * because each part first completes its work; a start that fails runs the same chain from the part
 * that failed.
 */
#include "instance.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "../admin/metrics.h"
#include "../os/fault.h"
#include "lua_paths.h"

enum { GRACE_MS = 3000 };

static uint64_t grace_ms(void) {
  return SEGUE_TEST_MS("GRACE_MS", GRACE_MS);
}

static void on_first(segue__waiter *waiter, int status, segue__result *result);
static int options_copy(segue_options *to, const segue_options *from);

/* `size` is the caller's sizeof(segue_options). A host that was compiled with an older header has a
 * shorter struct, so bytes behind its end must not be written. */
void segue_options_init_size(segue_options *options, size_t size) {
  segue_options defaults = {.size = size, .log_level = SEGUE_INFO};
  memset(options, 0, size);
  memcpy(options, &defaults, size < sizeof defaults ? size : sizeof defaults);
}

/* The smallest possible struct of a host ends behind the first option. */
static bool has_known_size(const segue_options *options) {
  return options->size >= offsetof(segue_options, policy) && options->size <= SEGUE__STRUCT_MAX;
}

/* Copies the fields that both versions of the struct have; options that the host's header lacks are
 * zero. */
static segue_options common_part(const segue_options *options) {
  segue_options known = {0};
  memcpy(&known, options, options->size < sizeof known ? options->size : sizeof known);
  known.size = sizeof known;
  return known;
}

/* A host compiled with a newer header may set options that this version of the library lacks. They
 * have no effect, and the host may rely on them for a limit or for protection, so this logs a
 * warning. */
static void warn_of_unknown(segue *s, const segue_options *options) {
  const unsigned char *bytes = (const unsigned char *)options;
  for (size_t i = sizeof *options; i < options->size; i++) {
    if (!bytes[i]) continue;
    SEGUE__LOG(
        &s->log, SEGUE_WARN, "segue",
        "the host sets options that this version of libsegue does not have: they are ignored",
        SEGUE__FIELD("version", segue_version()));
    return;
  }
}

/* On the reclamation thread. */
static void on_slow_section(void *data) {
  segue *s = data;
  SEGUE__LOG(&s->log, SEGUE_WARN, "reload",
             "a read section has been open for more than 1 s: replaced generations stay in memory "
             "until it ends; take a reference (segue_snapshot_ref) to keep one for long",
             SEGUE__FIELD("snapshots", (int64_t)segue__publication_snapshots(s->publication)));
}

int segue__adopt_sockets(segue *s, segue__passed *passed, segue_error *error) {
  int rc = segue__sockets_adopt(s->sockets, passed);
  return rc < 0 ? segue__errorf(error, rc, "out of memory") : 0;
}

static int read_listen_fds(segue *s, segue_error *error) {
  segue__passed passed;
  int rc = segue__passed_read(&passed, error);
  return rc < 0 ? rc : segue__adopt_sockets(s, &passed, error);
}

int segue_new(segue **out, const segue_options *options, segue_error *error) {
  *out = NULL;
  if (!has_known_size(options))
    return segue__errorf(error, SEGUE_EUSAGE,
                         "segue_options has a size of %zu bytes: call segue_options_init first",
                         options->size);
  segue *s = segue__calloc(1, sizeof *s);
  if (!s) return segue__errorf(error, UV_ENOMEM, "out of memory");
  s->state.lock_fd = -1;
  segue__secrets_init(&s->secrets);
  pthread_mutex_init(&s->life, NULL);
  segue_options known = common_part(options);
  s->log = (segue__logger){.level = known.log_level,
                           .sink = known.on_log ? segue__host_log : NULL,
                           .data = s,
                           .fold = known.on_log ? segue__log_fold_new() : NULL};
  if (segue__fork_mark_new(&s->mark) < 0 || options_copy(&s->options, &known) < 0 ||
      segue__publication_new(&s->publication) < 0 || segue__gates_new(&s->gates) < 0 ||
      segue__plugins_new(&s->registered.plugins) < 0 ||
      segue__sockets_new(&s->sockets, &s->log) < 0) {
    segue__instance_free(s);
    return segue__errorf(error, UV_ENOMEM, "out of memory");
  }
  segue__publication_set_mark(s->publication, s->mark);
  segue__publication_on_slow(s->publication, on_slow_section, s);
  segue__gates_set_mark(s->gates, s->mark);
  warn_of_unknown(s, options);
  int rc = known.listen_fds ? read_listen_fds(s, error) : 0;
  if (rc < 0) {
    segue__instance_free(s);
    return rc;
  }
  *out = s;
  return 0;
}

/* ---- Reloads --------------------------------------------------------------------------------- */

typedef struct reload_call {
  segue__waiter waiter;
  segue__message message; /* from another thread */
  segue *s;
  bool force;
  segue_report_cb cb; /* NULL: no caller waits */
  void *data;
} reload_call;

static int instance_status_of(const segue__result *result) {
  if (result->outcome == SEGUE__APPLIED || result->outcome == SEGUE__UNCHANGED) return 0;
  if (result->errors.count && result->errors.items[0].code < 0) return result->errors.items[0].code;
  return result->outcome == SEGUE__REJECTED ? SEGUE_EVETO : SEGUE_EMODULE;
}

static void instance_report(segue_report_cb cb, void *data, int status,
                            const segue__result *result) {
  if (!result) {
    cb(data, status < 0 ? status : SEGUE_ECLOSED, NULL);
    return;
  }
  segue_report r = {
      .id = result->id,
      .outcome = segue__outcome_name(result->outcome),
      .generation = result->generation,
      .hash = result->hash,
      .errors = result->errors.items,
      .error_count = result->errors.count,
  };
  cb(data, status < 0 ? status : instance_status_of(result), &r);
}

static void on_reloaded(segue__waiter *waiter, int status, segue__result *result) {
  reload_call call = *(reload_call *)waiter->data;
  segue__free(waiter->data);
  instance_report(call.cb, call.data, status, result);
}

/* Called on the control thread. Returns 0 if the engine has the request; then the call belongs to
 * its callback, if it has one. */
static int reload_now(reload_call *call) {
  segue__reload_request request = {
      .trigger = SEGUE__BY_CONTROL, .cause = "segue_reload", .force = call->force};
  segue *s = call->s;
  if (s->stage != SEGUE__RUNNING) return SEGUE_ECLOSED;
  return segue__engine_request(s->engine, &request, call->cb ? &call->waiter : NULL);
}

static void on_reload_message(segue__message *message) {
  reload_call *call = (reload_call *)((char *)message - offsetof(reload_call, message));
  segue_report_cb cb = call->cb;
  void *data = call->data;
  int rc = reload_now(call);
  if (rc < 0 || !cb) segue__free(call);
  if (rc < 0 && cb) cb(data, rc, NULL);
}

/* Only the control thread may use the engine: a request of another thread is posted to it. */
int segue_reload(segue *s, bool force, segue_report_cb cb, void *data) {
  if (segue__in_child(s->mark)) return SEGUE_ECLOSED;
  reload_call *call = segue__calloc(1, sizeof *call);
  if (!call) return UV_ENOMEM;
  *call = (reload_call){.waiter = {.cb = on_reloaded, .data = call},
                        .message = {.fn = on_reload_message},
                        .s = s,
                        .force = force,
                        .cb = cb,
                        .data = data};
  pthread_mutex_lock(&s->life);
  int rc = s->inbox && s->stage == SEGUE__RUNNING ? 0 : SEGUE_ECLOSED;
  bool is_control = s->is_entered && segue__services_is_here(s);
  if (rc == 0 && !is_control) segue__post(s->inbox, &call->message);
  pthread_mutex_unlock(&s->life);
  if (rc == 0 && is_control) rc = reload_now(call);
  bool is_kept = rc == 0 && (cb || !is_control); /* until its callback or its message runs */
  if (!is_kept) segue__free(call);
  return rc;
}

/* Returns whether a decision of an operator holds this generation back. An error that names a
 * source comes from that source's guard instead. */
static bool instance_undone(const segue__result *result) {
  return result->errors.count && !result->errors.items[0].source[0];
}

/* Ends the start. If nothing went live, the last good generation on disk is tried, with this
 * function as its callback again: segue__start_from_last_good works only once, so the second call
 * reports. A generation that waits to be confirmed counts as started. */
static void on_first(segue__waiter *waiter, int status, segue__result *result) {
  segue *s = waiter->data;
  segue__services_here(s); /* a host may start it on one thread and run it on another */
  bool live = result && result->generation;
  bool held = result && result->outcome == SEGUE__HELD && instance_undone(result);
  if (!live && status == 0 && segue__start_from_last_good(s, held, on_first) == 0) return;
  const segue__result *first = result;
  if (live && status == 0 && !segue__start_good(result)) first = segue__started_stale(s, held);
  s->first_waits = status == SEGUE_EUNCONFIRMED;
  if (s->first_waits) status = 0;
  s->started = true;
  if (s->options.on_start) instance_report(s->options.on_start, s->options.data, status, first);
}

/* ---- Putting together ------------------------------------------------------------------------ */

/* Opens new listeners and triggers before anything is changed. If one of them fails, those that
 * were opened before it are closed. */
static int instance_stage(void *data, const segue__policy *next, segue__errors *errors) {
  segue *s = data;
  int rc = segue__admin_stage(s->admin, next, errors);
  if (rc < 0) return rc;
  rc = segue__triggers_stage(s->triggers, next, errors);
  if (rc == 0 && s->ingress) {
    rc = segue__ingress_stage(s->ingress, next, errors);
    if (rc < 0) segue__triggers_discard(s->triggers);
  }
  if (rc < 0) segue__admin_discard(s->admin);
  return rc;
}

static int instance_rehearse(void *data, const segue__policy *next, segue__errors *errors) {
  const segue *s = data;
  return s->ingress ? segue__ingress_rehearse(s->ingress, next, errors) : 0;
}

static void instance_flip(void *data, bool back) {
  const segue *s = data;
  if (s->ingress) segue__ingress_flip(s->ingress, back);
}

static void instance_settle(void *data) {
  segue *s = data;
  /* The ingress is first, because the admin API reports the certificates of its listeners too. */
  if (s->ingress) segue__ingress_settle(s->ingress);
  segue__admin_settle(s->admin);
  segue__triggers_settle(s->triggers);
  segue__sockets_report_unused(s->sockets);
}

static void instance_discard(void *data) {
  segue *s = data;
  if (s->ingress) segue__ingress_discard(s->ingress);
  segue__triggers_discard(s->triggers);
  segue__admin_discard(s->admin);
}

/* Loads a policy and rejects it if it would listen where it must not, or if it is a last good
 * generation that is too old. */
static int instance_load_policy(void *data, const char *path, segue__policy **out,
                                segue__errors *errors) {
  segue *s = data;
  segue__policy_loader lua = segue__lua_loader_get(s->lua);
  int rc = segue__policy_blame(lua.load(lua.data, path, out, errors), errors);
  if (rc < 0) return rc;
  rc = segue__last_good_validate(s, *out, errors);
  if (rc == 0) rc = segue__validate_policy(*out, segue__instance_os(s), errors);
  if (rc == 0 && s->exec) rc = segue__exec_join(s->exec, *out, errors);
  if (rc < 0) {
    segue__policy_unref(*out);
    *out = NULL;
  }
  return rc;
}

static int open_state(segue *s, segue_error *error) {
  char *folder;
  if (!s->options.policy && !s->options.state) return 0;
  int rc = segue__state_find(s->options.state, s->options.policy, &folder, error);
  if (rc == 0) {
    rc = segue__state_open(&s->state, folder, error);
    segue__free(folder);
  }
  return rc;
}

static int instance_write_log(void *data, const segue_log_entry *entry) {
  return segue__services_log(data, entry);
}

static size_t instance_worker_count(void *data) {
  const segue *s = data;
  segue__worker_threads worker_threads = segue__ingress_worker_threads(s->ingress);
  return worker_threads.count(worker_threads.data);
}

static segue__loop *instance_worker_loop(void *data, size_t index) {
  const segue *s = data;
  segue__worker_threads worker_threads = segue__ingress_worker_threads(s->ingress);
  return worker_threads.loop(worker_threads.data, index);
}

static int open_lua_modules(segue *s, const segue__lua_services *services) {
  segue__lua_modules_options options = {
      .size = sizeof options,
      .loop = s->loop,
      .log = &s->log,
      .lua_dir = s->lua_dir,
      .signal = s->options.budget_signal,
      .worker_threads = {instance_worker_count, instance_worker_loop, s},
      .services = *services};
  return segue__lua_modules_new(&s->lua_modules, &options);
}

static int instance_open_lua(segue *s, segue_error *error) {
  int rc = segue__lua_paths_find(s->options.lua_dir, &s->lua_dir, error);
  if (rc == 0) rc = segue__answers_new(&s->answers);
  if (rc == 0) rc = segue__open_record(s);
  if (rc == 0) rc = segue__plugin_dir_find(&s->plugin_dir, error);
  if (rc < 0) return rc;
  s->registered.folder = s->plugin_dir;
  const segue__lua_services services = {instance_write_log, segue__services_record, s};
  rc = open_lua_modules(s, &services);
  if (rc < 0) return segue__errorf(error, rc, "out of memory");
  rc = segue__open_worlds(s);
  if (rc == 0 && s->exec_setup)
    rc = segue__exec_new(&s->exec, s->loop, &s->log, segue__os_default(), s->exec_setup);
  if (rc < 0) return segue__errorf(error, rc, "out of memory");
  segue__module_kinds(s->kinds, &s->registered, s->lua_modules, s->files, s->processes);
  segue__lua_options options = {
      .size = sizeof options,
      .lua_dir = s->lua_dir,
      .signal = s->options.budget_signal,
      .load_cpu_ms = SEGUE__POLICY_LOAD_MS,
      .kinds = s->kinds,
      .kind_count = sizeof s->kinds / sizeof *s->kinds,
      .services = services,
      .answers = s->answers,
  };
  return segue__lua_loader_new(&s->lua, s->loop, &s->log, segue__instance_os(s), &options);
}

static void instance_on_secrets(segue__observer *observer, const segue__mask *mask) {
  segue *s = observer->data;
  segue__secrets_add(&s->secrets, s->publication, mask);
}

/* The engine itself refers to the live generation, the one before it, and those of modules that
 * still drain. More than that are kept by snapshots that the host or a module has not released:
 * each holds a whole configuration. Logged once, and again after the number has fallen. */
enum { SNAPSHOTS_MANY = 16 };

static void watch_snapshots(segue *s) {
  long count = segue__publication_snapshots(s->publication);
  if (count >= SNAPSHOTS_MANY && !s->many_snapshots)
    SEGUE__LOG(
        &s->log, SEGUE_WARN, "reload",
        "replaced generations stay in memory: some segue_snapshot_ref() or "
        "segue_snapshot_acquire() has no segue_snapshot_unref(), or a module drains for long",
        SEGUE__FIELD("snapshots", count));
  s->many_snapshots = count >= SNAPSHOTS_MANY;
}

/* Reopens access logs. HUP rotates logs, and a rotation changes no configuration: so every
 * explicitly requested reload reopens them, also one that is `unchanged` or rejected. */
static void instance_on_phase(segue__observer *observer, const segue__result *result,
                              segue__phase phase) {
  segue *s = observer->data;
  if (phase == SEGUE__PHASE_SETTLED) watch_snapshots(s);
  bool asked = result->trigger == SEGUE__BY_SIGNAL || result->trigger == SEGUE__BY_HTTP ||
               result->trigger == SEGUE__BY_CONTROL;
  if (phase == SEGUE__PHASE_SETTLED && asked) segue__ingress_reopen(s->ingress);
}

static void watch_reloads(segue *s) {
  s->secret_observer = (segue__observer){
      .on_secrets = instance_on_secrets, .on_phase = instance_on_phase, .data = s};
  segue__engine_observe(s->engine, &s->secret_observer);
}

static int instance_open_engine(segue *s, segue_error *error) {
  static const segue__action *const actions[] = {&segue__action_files, &segue__action_files_remove};
  segue__policy *policy = NULL;
  segue__engine_options options = {
      .size = sizeof options,
      .loop = s->loop,
      .log = &s->log,
      .publication = s->publication,
      .gates = s->gates,
      .services = &s->services,
      .triggers = {.stage = instance_stage,
                   .rehearse = instance_rehearse,
                   .flip = instance_flip,
                   .settle = instance_settle,
                   .discard = instance_discard,
                   .data = s},
  };
  int rc = 0;
  if (s->options.policy) {
    rc = instance_open_lua(s, error);
    options.loader = (segue__policy_loader){.load = instance_load_policy, .data = s};
    options.policy_path = s->options.policy;
  } else {
    rc = segue__host_policy(s, &policy);
    options.policy = policy;
  }
  options.os = segue__instance_os(s);
  options.record = s->record;
  if (s->files) options.wants = segue__file_world_wants(s->files);
  if (s->files) options.leftovers = segue__file_world_leftovers(s->files);
  options.actions = actions;
  options.action_count = sizeof actions / sizeof *actions;
  if (rc == 0) rc = segue__engine_new(&s->engine, &options);
  if (rc == 0) segue__watch_sources(s);
  if (rc == 0) watch_reloads(s);
  segue__policy_unref(policy);
  return rc;
}

static void more_metrics(void *data, segue__buf *out) {
  const segue *s = data;
  segue__metrics_head(out, "segue_snapshots", "gauge",
                      "Generations in memory: live, previous, and those that references keep.");
  segue__buf_addf(out, "segue_snapshots %ld\n", segue__publication_snapshots(s->publication));
  segue__metrics_head(out, "segue_read_section_wait_seconds", "gauge",
                      "How long a replaced generation has waited for read sections to end.");
  segue__buf_addf(out, "segue_read_section_wait_seconds %.3f\n",
                  (double)segue__publication_wait_ms(s->publication) / 1000);
  segue__ingress_metrics(s->ingress, out);
  segue__lua_modules_metrics(s->lua_modules, out);
}

static segue__tls_notice *more_certificates(void *data, size_t index) {
  const segue *s = data;
  return segue__ingress_certificate(s->ingress, index);
}

static void module_addresses(void *data, const char *module, segue__buf *out) {
  const segue *s = data;
  segue__ingress_addresses(s->ingress, module, out);
}

static int file_report(void *data, void (*done)(void *data, segue__file_report *report),
                       void *done_data) {
  const segue *s = data;
  return segue__file_world_report(s->files, done, done_data);
}

static void file_totals(void *data, size_t *modules, size_t *files) {
  const segue *s = data;
  segue__file_world_totals(s->files, modules, files);
}

static int open_admin(segue *s, segue_error *error) {
  char policy[PATH_MAX]; /* the full path, however it was written */
  segue__admin_options options = {
      .size = sizeof options,
      .loop = s->loop,
      .log = &s->log,
      .sockets = s->sockets,
      .policy_path =
          s->options.policy && realpath(s->options.policy, policy) ? policy : s->options.policy,
      .state = s->state.folder,
      .answers = s->answers,
      .parts = {.data = s,
                .more_metrics = more_metrics,
                .more_certificates = more_certificates,
                .module_addresses = module_addresses,
                .file_report =
                    s->files ? file_report : NULL, /* only policies in Lua render files */
                .file_totals = s->files ? file_totals : NULL},
  };
  int rc = segue__admin_new(&s->admin, &options);
  if (rc < 0) return segue__errorf(error, rc, "cannot open the admin API: %s", segue_strerror(rc));
  segue__admin_attach(s->admin, s->engine);
  const char *socket = s->options.socket ? s->options.socket : s->state.socket;
  return *socket ? segue__admin_listen_control(s->admin, socket, error) : 0;
}

static void on_trigger(void *data, segue__trigger trigger, const char *cause) {
  segue *s = data;
  segue__reload_request request = {.trigger = trigger, .cause = cause};
  int rc = segue__engine_request(s->engine, &request, NULL);
  if (rc < 0 && rc != SEGUE_ECLOSED)
    SEGUE__LOG(&s->log, SEGUE_ERROR, "reload",
               "a trigger cannot start a reload now: trying again in a second",
               SEGUE__FIELD("cause", cause), SEGUE__FIELD("error", segue_strerror(rc)));
}

static void on_reopen(void *data, const char *cause) {
  segue *s = data;
  size_t count = segue__engine_reopen(s->engine);
  segue__ingress_reopen(s->ingress);
  SEGUE__LOG(&s->log, SEGUE_INFO, "module", "files are opened again", SEGUE__FIELD("cause", cause),
             SEGUE__FIELD("modules", count));
}

static int64_t began_wall_ms(void *data) {
  const segue *s = data;
  const segue__result *running = segue__engine_running(s->engine);
  return running ? running->started_wall_ms : segue__loop_wall_ms(s->loop);
}

static int open_triggers(segue *s) {
  segue__triggers_options options = {
      .size = sizeof options,
      .loop = s->loop,
      .log = &s->log,
      .signals = s->options.signals,
      .on_trigger = on_trigger,
      .on_reopen = on_reopen,
      .since_wall_ms = began_wall_ms,
      .data = s,
  };
  return segue__triggers_new(&s->triggers, &options);
}

/* The first generation was live while it waited to be confirmed. It was not confirmed, and there is
 * no other generation. */
void segue__nothing_left(segue *s, const segue__result *result) {
  if (s->stage != SEGUE__RUNNING) return;
  SEGUE__LOG(&s->log, SEGUE_ERROR, "reload",
             "the first generation was not confirmed, and there is no other: nothing is live");
  if (s->options.on_start) instance_report(s->options.on_start, s->options.data, 0, result);
}

/* While reloads are frozen, nothing new goes live, not even at a start. A generation that was live
 * and waited to be confirmed when the previous process ended is not new: it gets the rest of its
 * time, if the sources still deliver it, or if it is a rollback. */
static int ask_for_first(segue *s) {
  segue__reload_request request = {.trigger = SEGUE__BY_START, .cause = "start"};
  s->first = (segue__waiter){.cb = on_first, .data = s};
  int rc = segue__engine_resume_rollback(s->engine, &s->first);
  if (rc) return rc < 0 ? rc : 0;
  bool frozen = s->record && segue__record_found(s->record)->state.frozen;
  if (frozen && !segue__engine_resumes(s->engine) &&
      segue__start_from_last_good(s, true, on_first) == 0)
    return 0;
  return segue__engine_request(s->engine, &request, &s->first);
}

/* A module in Lua is reported by segue__lua_modules, which counts the same time. */
static void on_busy(void *data, size_t worker_index, const char *module, uint64_t silent_ms) {
  segue *s = data;
  if (segue__lua_modules_busy(s->lua_modules, worker_index)) return;
  SEGUE__LOG(&s->log, SEGUE_ERROR, "module",
             "a module keeps its worker thread busy, and nothing else is served there: is there an "
             "endless loop, or a wait without a limit?",
             SEGUE__FIELD("module", module), SEGUE__FIELD("thread", worker_index),
             SEGUE__FIELD("seconds", silent_ms / 1000));
}

static void instance_on_lost(void *data, size_t worker_index, const char *module,
                             uint64_t silent_ms) {
  segue *s = data;
  const char *lua = segue__lua_modules_busy(s->lua_modules, worker_index);
  if (lua) module = lua;
  if (!s->workers_stuck++) segue__loop_keep(s->loop);
  SEGUE__LOG(&s->log, SEGUE_ERROR, "module",
             "a worker thread is abandoned, because the code of a module does not return: look "
             "there for an endless loop, or for a wait without a limit",
             SEGUE__FIELD("module", module ? module : "(unknown)"),
             SEGUE__FIELD("thread", worker_index), SEGUE__FIELD("seconds", silent_ms / 1000));
  segue__lua_modules_abandon_thread(s->lua_modules, worker_index);
}

size_t segue__stuck_threads(const segue *s) {
  return s->workers_stuck;
}

static int open_ingress(segue *s) {
  segue__ingress_options options = {
      .size = sizeof options,
      .loop = s->loop,
      .log = &s->log,
      .gates = s->gates,
      .sockets = s->sockets,
      .write_log = instance_write_log,
      .on_busy = on_busy,
      .on_lost = instance_on_lost,
      .data = s,
  };
  return segue__ingress_new(&s->ingress, &options);
}

int segue__instance_begin(segue *s, segue_error *error) {
  segue__errorf(error, 0, "%s", "");
  segue__services_here(s);
  int rc = open_state(s, error);
  if (rc == 0) rc = segue__loop_open_uv(&s->loop, s->uv);
  if (rc == 0) segue__loop_set_owner(s->loop, s);
  if (rc == 0) segue__loop_set_mark(s->loop, s->mark);
  if (rc == 0) segue__loop_set_child_files(s->loop, s->child_files);
  if (rc == 0) rc = instance_open_engine(s, error);
  if (rc == 0 && s->files) rc = segue__file_world_watch(s->files, s->engine);
  if (rc == 0) rc = open_triggers(s);
  if (rc == 0) rc = open_ingress(s);
  if (rc == 0) rc = open_admin(s, error);
  if (rc == 0) rc = segue__start_housekeeping(s);
  if (rc == 0) rc = ask_for_first(s);
  if (rc < 0 && error && !error->message[0])
    segue__errorf(error, rc, "cannot start: %s", segue_strerror(rc));
  return rc;
}

/* ---- Taking down ----------------------------------------------------------------------------- */

static void on_loop_closed(void *data) {
  segue *s = data;
  s->loop = NULL;
  segue__file_world_close(s->files);
  s->files = NULL;
  segue__state_close(&s->state);
  void (*cb)(void *data) = s->options.on_stopped;
  void *cb_data = s->options.data;
  bool is_own = s->own_uv != NULL;
  pthread_mutex_lock(&s->life);
  s->stage = SEGUE__STOPPED;
  bool free_it = s->close_when_stopped && !is_own;
  pthread_mutex_unlock(&s->life);
  /* If it is not freed here, another thread may free it from now on. */
  if (free_it) segue__instance_free(s);
  if (cb) cb(cb_data);
}

/* The worker threads have ended, so no lease of a socket is left but those of abandoned threads.
 * The inbox is closed under the lock: a segue_reload of another thread either posted its message
 * before, and gets SEGUE_ECLOSED from it, or sees no inbox. */
static void on_threads_ended(void *data) {
  segue *s = data;
  s->ingress = NULL;
  segue__sockets_free(s->sockets); /* passed sockets too: a stopped instance has no clients */
  s->sockets = NULL;
  segue__record_free(s->record);
  s->record = NULL;
  segue__exec_close(s->exec);
  s->exec = NULL;
  segue__process_world_close(s->processes);
  s->processes = NULL;
  pthread_mutex_lock(&s->life);
  s->inbox = NULL; /* messages that were posted are still delivered */
  pthread_mutex_unlock(&s->life);
  if (s->loop)
    segue__loop_close(s->loop, on_loop_closed, s);
  else
    on_loop_closed(s);
}

static void on_lua_closed(void *data) {
  segue *s = data;
  segue__ingress_free(s->ingress, on_threads_ended, s);
}

static void on_modules_closed(void *data) {
  segue *s = data;
  segue__lua_loader *lua = s->lua;
  s->lua_modules = NULL;
  s->lua = NULL;
  segue__lua_loader_close(lua, on_lua_closed, s);
}

/* The engine refers to policies and modules in Lua, so it is freed before them, and after the admin
 * API, which refers to the engine. */
static void on_admin_closed(void *data) {
  segue *s = data;
  s->admin = NULL;
  if (s->loop) {
    segue__timer_stop(s->loop, &s->try_again);
    segue__timer_stop(s->loop, &s->housekeeping);
  }
  segue__record_forget(&s->replay);
  segue__engine_free(s->engine);
  s->engine = NULL;
  segue__lua_modules_close(s->lua_modules, on_modules_closed, s);
}

static void on_triggers_closed(void *data) {
  segue *s = data;
  s->triggers = NULL;
  if (s->admin)
    segue__admin_close(s->admin, grace_ms(), on_admin_closed, s);
  else
    on_admin_closed(s);
}

static void on_files_unwatched(void *data) {
  segue *s = data;
  if (s->triggers)
    segue__triggers_close(s->triggers, on_triggers_closed, s);
  else
    on_triggers_closed(s);
}

static void on_engine_stopped(void *data) {
  segue *s = data;
  segue__file_world_unwatch(s->files, on_files_unwatched, s);
}

/* Runs when every request of the ingress is answered: until then the modules must run. */
static void on_ingress_closed(void *data) {
  segue *s = data;
  if (s->engine)
    segue__engine_stop(s->engine, on_engine_stopped, s);
  else
    on_engine_stopped(s);
}

/* The order is that of the dependencies, from the clients inwards: ingress, engine stop (modules),
 * triggers, admin API, engine, Lua, worker threads, record, loop. Each part completes its work
 * before its callback starts the next. */
void segue__instance_tear_down(segue *s) {
  segue__ingress_close(s->ingress, grace_ms(), on_ingress_closed, s);
}

/* If a worker thread was abandoned inside a module, most of the memory is kept: the thread may
 * return from the module at any time and use it. */
void segue__instance_free(segue *s) {
  if (s->own_uv) {
    uv_run(s->own_uv, UV_RUN_DEFAULT); /* what is still closing */
    uv_loop_close(s->own_uv);
    segue__free(s->own_uv);
  }
  segue__sockets_free(s->sockets);
  if (s->workers_stuck) {
    segue__log_flush(&s->log);
    return; /* an abandoned worker thread may still use any of it */
  }
  segue__gates_unref(s->gates);
  segue__publication_free(s->publication);
  segue__host_modules_free(s);
  segue__free(s->sources);
  segue__plugins_free(s->registered.plugins);
  segue__free(s->plugin_dir);
  segue__answers_free(s->answers);
  segue__free(s->lua_dir);
  segue__options_free(&s->options);
  segue__log_flush(&s->log);
  segue__log_fold_free(s->log.fold);
  segue__secrets_deinit(&s->secrets);
  pthread_mutex_destroy(&s->life);
  segue__fork_mark_free(s->mark);
  segue__free(s);
}

/* ---- Options --------------------------------------------------------------------------------- */

static const size_t string_options[] = {
    offsetof(segue_options, policy),  offsetof(segue_options, config),
    offsetof(segue_options, state),   offsetof(segue_options, socket),
    offsetof(segue_options, lua_dir),
};
enum { STRING_OPTIONS = sizeof string_options / sizeof *string_options };

static char **string_option(segue_options *options, size_t i) {
  return (char **)((char *)options + string_options[i]);
}

static int options_copy(segue_options *to, const segue_options *from) {
  int rc = 0;
  *to = *from;
  for (size_t i = 0; i < STRING_OPTIONS; i++) {
    char **text = string_option(to, i);
    const char *original = *text;
    *text = segue__strdup(original);
    if (original && !*text) rc = UV_ENOMEM;
  }
  return rc;
}

void segue__options_free(segue_options *options) {
  for (size_t i = 0; i < STRING_OPTIONS; i++)
    segue__free(*string_option(options, i));
}
