/* SPDX-License-Identifier: MIT
 *
 * Scripted modules, hooks, files, policies and waiters. See scripted.h.
 */
#include "scripted.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

typedef struct instance {
  scripted_module *module;
  segue_op *self; /* of prepare */
  uint64_t generation;
  bool holds;
} instance;

scripted_world *scripted_world_new(void) {
  return segue__calloc(1, sizeof(scripted_world));
}

void scripted_world_free(scripted_world *world) {
  segue__buf_deinit(&world->journal);
  segue__free(world);
}

scripted_module *scripted_module_new(scripted_world *world, const char *name) {
  scripted_module *module = segue__calloc(1, sizeof *module);
  module->world = world;
  snprintf(module->name, sizeof module->name, "%s", name);
  return module;
}

void scripted_module_free(scripted_module *module) {
  segue__free(module);
}

static void *done_thread(void *op) {
  segue_op_done(op, 0, NULL);
  return NULL;
}

static void fail_with(segue_op *op, int code, const char *what, const char *verb) {
  segue_error error = {.code = code};
  snprintf(error.message, sizeof error.message, "%s: %s was told to fail", what, verb);
  segue_op_done(op, code, &error);
}

static void fail(segue_op *op, const char *what, const char *verb) {
  fail_with(op, SEGUE_EMODULE, what, verb);
}

static void report(segue_op *op, const char *why) {
  segue_error error = {.code = SEGUE_EMODULE};
  snprintf(error.message, sizeof error.message, "%s", why);
  segue_module_failed(op, *why ? &error : NULL);
}

static void perform(scripted_module *module, int verb, segue_op *op, const char *name) {
  pthread_t thread;
  switch (module->behaviour[verb]) {
  case SCRIPTED_OK:
    segue_op_done(op, 0, NULL);
    break;
  case SCRIPTED_FAIL_ONCE:
    module->behaviour[verb] = SCRIPTED_OK;
    fail(op, module->name, name);
    break;
  case SCRIPTED_FAIL:
    fail(op, module->name, name);
    break;
  case SCRIPTED_LATER:
    module->kept[verb][module->kept_count[verb]++] = op;
    break;
  case SCRIPTED_TWICE:
    segue_op_done(op, 0, NULL);
    fail(op, module->name, name);
    break;
  case SCRIPTED_FAIL_AND_OK:
    fail(op, module->name, name);
    segue_op_done(op, 0, NULL);
    break;
  case SCRIPTED_REFUSE:
    fail_with(op, SEGUE_ECONFIG, module->name, name);
    break;
  case SCRIPTED_DIE:
    report(op, "it died");
    segue_op_done(op, 0, NULL);
    break;
  case SCRIPTED_DIE_LATER:
    report(op, "it died");
    module->kept[verb][module->kept_count[verb]++] = op;
    break;
  case SCRIPTED_THREAD:
    pthread_create(&thread, NULL, done_thread, op);
    pthread_join(thread, NULL);
    break;
  }
}

static void note(const instance *i, const char *verb) {
  segue__buf_addf(&i->module->world->journal, "%s.%s %llu\n", i->module->name, verb,
                  (unsigned long long)i->generation);
}

static void module_prepare(void *userdata, segue_op *op, const segue_slice *next,
                           const segue_slice *prev, void **out) {
  (void)prev;
  scripted_module *module = userdata;
  instance *i = segue__calloc(1, sizeof *i);
  if (!i) {
    segue_op_done(op, UV_ENOMEM, NULL);
    return;
  }
  i->module = module;
  i->self = op;
  i->generation = segue_snapshot_generation(next->snapshot);
  module->world->instances++;
  *out = i;
  note(i, "prepare");
  perform(module, SEGUE__PREPARE, op, "prepare");
}

static void module_start(void *object, segue_op *op) {
  instance *i = object;
  note(i, "start");
  i->module->life = i->self;
  char *holder = i->module->world->holder;
  if (i->module->exclusive && *holder) {
    segue_error error = {.code = SEGUE_EMODULE};
    snprintf(error.message, sizeof error.message, "%s: the resource is taken", i->module->name);
    segue_op_done(op, SEGUE_EMODULE, &error);
    return;
  }
  if (i->module->exclusive && i->module->behaviour[SEGUE__START] != SCRIPTED_FAIL &&
      i->module->behaviour[SEGUE__START] != SCRIPTED_FAIL_ONCE) {
    strcpy(holder, i->module->name);
    i->holds = true;
  }
  perform(i->module, SEGUE__START, op, "start");
}

static void module_drain(void *object, segue_op *op) {
  note(object, "drain");
  perform(((instance *)object)->module, SEGUE__DRAIN, op, "drain");
}

static void give_back(instance *i) {
  if (i->holds) i->module->world->holder[0] = 0;
  i->holds = false;
}

static void module_stop(void *object, segue_op *op) {
  instance *i = object;
  note(i, "stop");
  int behaviour = i->module->behaviour[SEGUE__STOP];
  if (behaviour != SCRIPTED_FAIL && behaviour != SCRIPTED_LATER) give_back(i);
  perform(i->module, SEGUE__STOP, op, "stop");
}

static void module_destroy(void *object) {
  instance *i = object;
  note(i, "destroy");
  if (i->module->life == i->self) i->module->life = NULL;
  give_back(i);
  i->module->world->instances--;
  segue__free(i);
}

const segue_module_ops *scripted_module_ops(void) {
  static const segue_module_ops ops = {.size = sizeof ops,
                                       .prepare = module_prepare,
                                       .start = module_start,
                                       .drain = module_drain,
                                       .stop = module_stop,
                                       .destroy = module_destroy};
  return &ops;
}

bool scripted_finish(scripted_module *module, int verb, int status) {
  int count = module->kept_count[verb];
  module->kept_count[verb] = 0;
  for (int i = 0; i < count; i++)
    segue_op_done(module->kept[verb][i], status, NULL);
  return count > 0;
}

typedef struct death {
  segue_op *op;
  const char *why;
} death;

static void *die_on_thread(void *data) {
  const death *d = data;
  report(d->op, d->why);
  report(d->op, "a second time");
  return NULL;
}

bool scripted_die(scripted_module *module, const char *why, bool on_thread) {
  pthread_t thread;
  death d = {module->life, why};
  if (!d.op) return false;
  if (!on_thread) {
    report(d.op, why);
    return true;
  }
  pthread_create(&thread, NULL, die_on_thread, &d);
  pthread_join(thread, NULL);
  return true;
}

static void *ask_cancelled(void *op) {
  return segue_op_cancelled(op) ? op : NULL;
}

bool scripted_cancelled_on_thread(const segue_op *op) {
  pthread_t thread;
  void *answer = NULL;
  pthread_create(&thread, NULL, ask_cancelled, (void *)op);
  pthread_join(thread, &answer);
  return answer != NULL;
}

/* ---- Hooks ---- */

scripted_hooks *scripted_hooks_new(scripted_world *world) {
  scripted_hooks *hooks = segue__calloc(1, sizeof *hooks);
  hooks->world = world;
  hooks->check_code = SEGUE_EVETO;
  hooks->drain.over = SEGUE__OVER_ASK;
  return hooks;
}

void scripted_hooks_free(scripted_hooks *hooks) {
  segue__free(hooks);
}

static void keep(scripted_hooks *hooks, segue_op *op) {
  hooks->kept[hooks->kept_count++] = op;
}

void scripted_hooks_finish(scripted_hooks *hooks) {
  int count = hooks->kept_count;
  hooks->kept_count = 0;
  for (int i = 0; i < count; i++)
    segue_op_done(hooks->kept[i], 0, NULL);
}

static void hook_deed(scripted_hooks *hooks, int *behaviour, segue_op *op, int code,
                      const char *name) {
  segue_error error = {.code = code};
  snprintf(error.message, sizeof error.message, "%s says no", name);
  if (*behaviour == SCRIPTED_LATER) {
    keep(hooks, op);
  } else if (*behaviour == SCRIPTED_FAIL || *behaviour == SCRIPTED_FAIL_ONCE) {
    if (*behaviour == SCRIPTED_FAIL_ONCE) *behaviour = SCRIPTED_OK;
    segue_op_done(op, code, &error);
  } else {
    segue_op_done(op, 0, NULL);
  }
}

static void hook_check(void *impl, segue_op *op, const segue_snapshot *next,
                       const segue_snapshot *prev) {
  scripted_hooks *hooks = impl;
  segue__buf_addf(&hooks->world->journal, "check %llu %llu\n",
                  (unsigned long long)segue_snapshot_generation(next),
                  prev ? (unsigned long long)segue_snapshot_generation(prev) : 0ULL);
  hook_deed(hooks, &hooks->check, op, hooks->check_code, "check");
}

static void hook_probe(void *impl, segue_op *op) {
  scripted_hooks *hooks = impl;
  segue__buf_adds(&hooks->world->journal, "probe\n");
  hook_deed(hooks, &hooks->probe, op, SEGUE_EPROBE, "probe");
}

static void script_go(void *data, int status, const segue_error *error);

static bool word(scripted_hooks *hooks, const char *what) {
  size_t len = strlen(what);
  while (*hooks->at == ' ')
    hooks->at++;
  if (strncmp(hooks->at, what, len) || (hooks->at[len] && hooks->at[len] != ' ')) return false;
  hooks->at += len;
  return true;
}

/* "restart:a" -> "a" */
static const char *argument(scripted_hooks *hooks, const char *what) {
  size_t len = strlen(what);
  while (*hooks->at == ' ')
    hooks->at++;
  if (strncmp(hooks->at, what, len) || hooks->at[len] != ':') return NULL;
  const char *from = hooks->at + len + 1;
  len = strcspn(from, " +");
  snprintf(hooks->argument, sizeof hooks->argument, "%.*s", (int)len, from);
  hooks->at = from + len;
  return hooks->argument;
}

static void both_go(void *data, int status, const segue_error *error) {
  scripted_hooks *hooks = data;
  bool first = hooks->both;
  hooks->both = false;
  if (!first || status < 0) script_go(data, status, error);
}

/* Two modules at once: "a+b". */
static void restart(scripted_hooks *hooks, const char *name) {
  hooks->both = *hooks->at == '+';
  bool both = hooks->both;
  segue__txn_restart(hooks->txn, name, both_go, hooks);
  if (!both) return;
  const char *second = hooks->at + 1;
  size_t len = strcspn(second, " ");
  snprintf(hooks->argument, sizeof hooks->argument, "%.*s", (int)len, second);
  hooks->at = second + len;
  segue__txn_restart(hooks->txn, hooks->argument, both_go, hooks);
}

/* Continues whatever came of it. */
static void tried(void *data, int status, const segue_error *error) {
  (void)error;
  script_go(data, status == SEGUE_ECANCELLED ? status : 0, NULL);
}

/* True: it was a verb of a module. */
static bool by_hand(scripted_hooks *hooks) {
  segue_error error;
  const char *name;
  if ((name = argument(hooks, "drain")))
    segue__txn_drain(hooks->txn, name, &hooks->drain, script_go, hooks);
  else if ((name = argument(hooks, "try")))
    segue__txn_drain(hooks->txn, name, &hooks->drain, tried, hooks);
  else if ((name = argument(hooks, "restart")))
    restart(hooks, name);
  else if ((name = argument(hooks, "replace")))
    segue__txn_replace(hooks->txn, name, script_go, hooks);
  else if ((name = argument(hooks, "shut")))
    script_go(hooks, segue__txn_shut(hooks->txn, name, &error), &error);
  else if ((name = argument(hooks, "open")))
    script_go(hooks, segue__txn_open(hooks->txn, name, &error), &error);
  else
    return false;
  return true;
}

/* Cancelled just now as well: it is done only once. */
static void reload_done(scripted_hooks *hooks, int status, const segue_error *error) {
  segue_op *op = hooks->reload_op;
  hooks->reload_op = NULL;
  if (op) segue_op_done(op, status, error);
}

static void script_go(void *data, int status, const segue_error *error) {
  scripted_hooks *hooks = data;
  if (status == SEGUE_ECANCELLED) return; /* the hook has ended before its step */
  if (status < 0) {
    segue__buf_addf(&hooks->world->journal, "script %s\n", segue_error_name(status));
    reload_done(hooks, status, error);
  } else if (by_hand(hooks)) {
    return;
  } else if (word(hooks, "prepare")) {
    segue__txn_prepare(hooks->txn, script_go, hooks);
  } else if (word(hooks, "commit")) {
    segue__txn_commit(hooks->txn, script_go, hooks);
  } else if (word(hooks, "confirm")) {
    segue__txn_confirm(hooks->txn, script_go, hooks);
  } else if (word(hooks, "reject")) {
    segue__txn_reject(hooks->txn, "not today");
    script_go(hooks, 0, NULL);
  } else if (word(hooks, "defer")) {
    segue__txn_defer(hooks->txn, hooks->defer_ms, "maintenance");
    script_go(hooks, 0, NULL);
  } else if (word(hooks, "fail")) {
    segue_error bug = {.code = SEGUE_EPOLICY, .message = "reload.lua:7: boom"};
    reload_done(hooks, SEGUE_EPOLICY, &bug);
  } else if (!word(hooks, "hang")) {
    reload_done(hooks, 0, NULL);
  }
}

/* Cancelled in the middle of a step, or hanging: the spec decides when done comes. */
static void reload_cancelled(void *data) {
  scripted_hooks *hooks = data;
  if (hooks->reload_op) keep(hooks, hooks->reload_op);
}

static void hook_reload(void *impl, segue_op *op, segue__txn *txn) {
  scripted_hooks *hooks = impl;
  hooks->reload_op = op;
  hooks->txn = txn;
  hooks->at = hooks->script;
  segue__op_on_cancel(op, reload_cancelled, hooks);
  script_go(hooks, 0, NULL);
}

static void hook_strategy(void *impl, segue_op *op, const segue__source_health *source,
                          bool *push) {
  scripted_hooks *hooks = impl;
  segue__buf_addf(&hooks->world->journal, "strategy %s %llu\n", source->name,
                  (unsigned long long)source->failures);
  *push = true;
  hook_deed(hooks, &hooks->strategy, op, SEGUE_EPOLICY, "strategy");
}

static void hook_free(void *impl) {
  ((scripted_hooks *)impl)->freed++;
}

const segue__policy_ops *scripted_policy_ops(void) {
  static const segue__policy_ops ops = {.check = hook_check,
                                        .reload = hook_reload,
                                        .probe = hook_probe,
                                        .strategy = hook_strategy,
                                        .free = hook_free};
  return &ops;
}

/* ---- Files ---- */

typedef struct file {
  char *path, *data;
  size_t len;
  bool open; /* for writing */
  int code;  /* reading it fails with this */
} file;

struct scripted_files {
  segue__os os;
  file items[64];
};

static int files_read(void *data, const char *path, size_t max, segue__bytes *out,
                      segue_error *err) {
  scripted_files *files = data;
  for (size_t i = 0; i < 64; i++) {
    const file *f = &files->items[i];
    if (!f->path || strcmp(f->path, path)) continue;
    if (f->code) return segue__errorf(err, f->code, "%s: %s", path, segue_strerror(f->code));
    if (f->len > max) return segue__errorf(err, SEGUE_ELIMIT, "%s is too large", path);
    out->data = segue__strndup(f->data, f->len);
    out->len = f->len;
    return out->data ? 0 : segue__errorf(err, UV_ENOMEM, "out of memory");
  }
  return segue__errorf(err, UV_ENOENT, "%s does not exist", path);
}

static int files_read_whole(void *data, const char *path, size_t max, segue__bytes *out,
                            segue_error *err) {
  scripted_files *files = data;
  for (size_t i = 0; i < 64; i++)
    if (files->items[i].path && !strcmp(files->items[i].path, path) && files->items[i].open)
      return segue__errorf(err, UV_ETXTBSY, "%s is being written", path);
  return files_read(data, path, max, out, err);
}

void scripted_files_open(scripted_files *files, const char *path, bool open) {
  for (size_t i = 0; i < 64; i++)
    if (files->items[i].path && !strcmp(files->items[i].path, path)) files->items[i].open = open;
}

static const char *files_getenv(void *data, const char *name) {
  (void)data;
  (void)name;
  return NULL;
}

scripted_files *scripted_files_new(void) {
  scripted_files *files = segue__calloc(1, sizeof *files);
  files->os = *segue__os_default();
  files->os.data = files;
  files->os.read_file = files_read;
  files->os.read_whole = files_read_whole;
  files->os.getenv = files_getenv;
  return files;
}

void scripted_files_del(scripted_files *files, const char *path) {
  for (size_t i = 0; i < 64; i++) {
    file *f = &files->items[i];
    if (!f->path || strcmp(f->path, path)) continue;
    segue__free(f->path);
    segue__free(f->data);
    memset(f, 0, sizeof *f);
  }
}

void scripted_files_set(scripted_files *files, const char *path, const char *data, size_t len) {
  scripted_files_del(files, path);
  for (size_t i = 0; i < 64; i++) {
    file *f = &files->items[i];
    if (f->path) continue;
    *f = (file){segue__strdup(path), segue__strndup(data, len), len, false, 0};
    return;
  }
}

void scripted_files_fail(scripted_files *files, const char *path, int code) {
  scripted_files_set(files, path, "", 0);
  for (size_t i = 0; i < 64; i++)
    if (files->items[i].path && !strcmp(files->items[i].path, path)) files->items[i].code = code;
}

void scripted_files_free(scripted_files *files) {
  for (size_t i = 0; i < 64; i++) {
    segue__free(files->items[i].path);
    segue__free(files->items[i].data);
  }
  segue__free(files);
}

const segue__os *scripted_files_os(scripted_files *files) {
  return &files->os;
}

/* ---- Loader, triggers, waiters, observer ---- */

scripted_loader *scripted_loader_new(void) {
  return segue__calloc(1, sizeof(scripted_loader));
}

void scripted_loader_free(scripted_loader *loader) {
  segue__policy_unref(loader->next);
  segue__free(loader);
}

void scripted_loader_put(scripted_loader *loader, segue__policy *policy) {
  segue__policy_unref(loader->next);
  loader->next = policy;
}

static int loader_load(void *data, const char *path, segue__policy **out, segue__errors *errors) {
  scripted_loader *loader = data;
  loader->loads++;
  *out = NULL;
  if (loader->message[0]) {
    segue_error error;
    segue__errorf(&error, SEGUE_EPOLICY, "%s", loader->message);
    segue__error_set_place(&error, path, 1, 0);
    segue__errors_add(errors, &error);
    return SEGUE_EPOLICY;
  }
  *out = segue__policy_ref(loader->next);
  return 0;
}

segue__policy_loader scripted_loader_get(scripted_loader *loader) {
  return (segue__policy_loader){loader_load, loader};
}

static int triggers_stage(void *data, const segue__policy *next, segue__errors *errors) {
  (void)next;
  scripted_triggers *triggers = data;
  triggers->stages++;
  if (!triggers->fail) return 0;
  segue_error error;
  segue__errorf(&error, UV_EADDRINUSE, "127.0.0.1:1 is in use");
  segue__errors_add(errors, &error);
  return UV_EADDRINUSE;
}

static void triggers_settle(void *data) {
  ((scripted_triggers *)data)->settles++;
}

static void triggers_discard(void *data) {
  ((scripted_triggers *)data)->discards++;
}

segue__triggers_ops scripted_triggers_ops(scripted_triggers *triggers) {
  return (segue__triggers_ops){.stage = triggers_stage,
                               .settle = triggers_settle,
                               .discard = triggers_discard,
                               .data = triggers};
}

static void waiter_told(segue__waiter *waiter, int status, segue__result *result) {
  scripted_waiter *w = (scripted_waiter *)waiter;
  w->calls++;
  w->status = status;
  w->result = result ? segue__result_ref(result) : NULL;
}

scripted_waiter *scripted_waiter_new(void) {
  scripted_waiter *w = segue__calloc(1, sizeof *w);
  w->waiter.cb = waiter_told;
  return w;
}

void scripted_waiter_free(scripted_waiter *waiter) {
  segue__result_unref(waiter->result);
  segue__free(waiter);
}

static void observed(segue__observer *observer, const segue__result *result, segue__phase phase) {
  scripted_world *world = observer->data;
  segue__buf_addf(&world->journal, "#%llu %s", (unsigned long long)result->id,
                  segue__phase_name(phase));
  if (phase == SEGUE__PHASE_SETTLED)
    segue__buf_addf(&world->journal, " %s%s%s", segue__outcome_name(result->outcome),
                    result->skipped ? " skipped" : "", result->deferred ? " deferred" : "");
  segue__buf_addc(&world->journal, '\n');
}

segue__observer *scripted_observer_new(scripted_world *world) {
  segue__observer *observer = segue__calloc(1, sizeof *observer);
  observer->on_phase = observed;
  observer->data = world;
  return observer;
}

void scripted_observer_free(segue__observer *observer) {
  segue__free(observer);
}

static void log_line(void *data, const segue_log_entry *entry) {
  segue__buf_addf(&((scripted_world *)data)->journal, "! %s: %s\n", entry->group, entry->message);
}

static void render_nothing(segue__buf *out, const segue__result *result, bool detail) {
  (void)result, (void)detail;
  segue__buf_adds(out, "{}");
}

int scripted_record_new(segue__record **out, segue__loop *loop, const segue__os *os,
                        const segue__logger *log, const char *folder) {
  segue__record_options options = {.size = sizeof options,
                                   .loop = loop,
                                   .log = log,
                                   .folder = folder,
                                   .os = os,
                                   .render = render_nothing};
  return segue__record_new(out, &options);
}

int scripted_engine_new(segue__engine **out, segue__loop *loop, const segue__os *os,
                        segue__publication *publication, scripted_loader *loader,
                        scripted_triggers *triggers, scripted_world *log_to,
                        segue__record *record) {
  static segue__logger log; /* one engine at a time in specs */
  log = (segue__logger){.level = SEGUE_DEBUG, .sink = log_line, .data = log_to};
  segue__engine_options options = {.size = sizeof options,
                                   .loop = loop,
                                   .os =
                                       record ? segue__inputs_os(segue__record_inputs(record)) : os,
                                   .record = record,
                                   .log = &log,
                                   .publication = publication,
                                   .loader = scripted_loader_get(loader),
                                   .policy_path = "reload.lua",
                                   .triggers = scripted_triggers_ops(triggers)};
  return segue__engine_new(out, &options);
}

static void engine_stopped(void *data) {
  *(bool *)data = true;
}

void scripted_engine_stop(segue__engine *engine, bool *stopped) {
  *stopped = false;
  segue__engine_stop(engine, engine_stopped, stopped);
}

static void settled(void *data) {
  sem_post(data);
}

void scripted_settle(segue__publication *publication) {
  sem_t done;
  sem_init(&done, 0, 0);
  if (segue__publication_defer(publication, settled, &done) == 0)
    while (sem_wait(&done) != 0) {
    }
  sem_destroy(&done);
}
