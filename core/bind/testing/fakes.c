/* SPDX-License-Identifier: MIT
 *
 * The outside world of a rehearsal: an os struct whose files lie in memory over those of the disk,
 * which runs no command and never writes; results of requests and name resolutions; and modules
 * that complete each operation as the author decides.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../../os/glob.h"
#include "../module/modules.h"
#include "rehearsal.h"

static void fakes_ask(segue__rehearsal *r, segue__question *q) {
  r->options.ask(r->options.data, q);
}

void segue__question_deinit(segue__question *q) {
  segue__free(q->message);
  segue__free(q->text[0]);
  segue__free(q->text[1]);
  segue__names_deinit(&q->addresses);
}

/* ---- Files ----------------------------------------------------------------------------------- */

static segue__fake_file *find_file(const segue__rehearsal *r, const char *path) {
  for (size_t i = 0; i < r->file_count; i++)
    if (strcmp(r->files[i].path, path) == 0) return &r->files[i];
  return NULL;
}

const segue__fake_file *segue__fakes_find(const segue__rehearsal *r, const char *path) {
  return find_file(r, path);
}

static void file_deinit(segue__fake_file *file) {
  segue__free(file->path);
  segue__free(file->data);
  segue__free(file->message);
  segue__free(file->owner);
}

/* The last file takes the place of the removed one; the order does not matter, because listings are
 * sorted. */
void segue__fakes_remove(segue__rehearsal *r, const char *path) {
  segue__fake_file *file = find_file(r, path);
  if (!file) return;
  file_deinit(file);
  *file = r->files[--r->file_count];
}

static char *fakes_copy(const char *data, size_t len) {
  char *out = segue__malloc(len + 1);
  if (!out) return NULL;
  memcpy(out, data, len);
  out[len] = 0;
  return out;
}

int segue__fakes_put(segue__rehearsal *r, const char *path, const char *data, size_t len, int code,
                     unsigned mode, const char *message) {
  const segue__fake_file *old = find_file(r, path);
  const char *owner = old && old->data ? old->owner : NULL;
  segue__fake_file file = {.path = segue__strdup(path),
                           .data = data ? fakes_copy(data, len) : NULL,
                           .len = len,
                           .mode = old && old->data ? old->mode
                                   : mode           ? mode
                                                    : 0644,
                           .owner = segue__strdup(owner),
                           .code = data ? 0 : code,
                           .message = segue__strdup(message)};
  bool whole =
      file.path && (!data || file.data) && (!message || file.message) && (!owner || file.owner);
  segue__fakes_remove(r, path);
  segue__fake_file *grown = segue__realloc(r->files, (r->file_count + 1) * sizeof *grown);
  if (grown) r->files = grown;
  if (!grown || !whole) {
    file_deinit(&file);
    return UV_ENOMEM;
  }
  r->files[r->file_count++] = file;
  return 0;
}

static int file_failure(const segue__fake_file *file, segue_error *err) {
  return segue__errorf(err, file->code, "cannot read %s: %s", file->path,
                       file->message ? file->message : segue_strerror(file->code));
}

/* Returns whether the file of the disk is visible at this path. A replay is sealed: it sees only
 * the recorded files, so that its result does not depend on the machine it runs on. The Lua half of
 * segue is needed to run any policy and is visible all the same. */
static bool is_of_the_disk(const segue__rehearsal *r, const char *path) {
  size_t len = strlen(r->options.lua_dir);
  return !r->sealed || (strncmp(path, r->options.lua_dir, len) == 0 && path[len] == '/');
}

static int fakes_read_file(void *data, const char *path, size_t max, segue__bytes *out,
                           segue_error *err) {
  const segue__fake_file *file = find_file(data, path);
  const segue__os *real = segue__os_default();
  if (!file && is_of_the_disk(data, path)) return real->read_file(real->data, path, max, out, err);
  if (!file) return segue__errorf(err, UV_ENOENT, "cannot read %s: it is not recorded", path);
  if (file->code) return file_failure(file, err);
  if (file->len > max)
    return segue__errorf(err, SEGUE_ELIMIT, "%s is larger than %zu bytes", path, max);
  out->data = segue__malloc(file->len + 1);
  if (!out->data) return segue__errorf(err, UV_ENOMEM, "%s: out of memory", path);
  memcpy(out->data, file->data, file->len + 1);
  out->len = file->len;
  return 0;
}

static int fakes_by_name(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

static void drop_name(segue__names *names, const char *path) {
  size_t kept = 0;
  for (size_t i = 0; i < names->count; i++) {
    if (strcmp(names->items[i], path) == 0)
      segue__free(names->items[i]);
    else
      names->items[kept++] = names->items[i];
  }
  names->count = kept;
}

/* A file in memory replaces the one of the disk with the same path, and one with the error ENOENT
 * hides it. A pattern whose folder does not exist on the disk is an error only if no file in memory
 * matches it. */
static int fakes_list_files(void *data, const char *pattern, segue__names *out, segue_error *err) {
  const segue__rehearsal *r = data;
  const segue__os *real = segue__os_default();
  bool any = false;
  for (size_t i = 0; i < r->file_count; i++)
    any = any || segue__glob_match_path(pattern, r->files[i].path);
  int rc = r->sealed ? 0 : real->list_files(real->data, pattern, out, err);
  if (rc && (!any || rc != UV_ENOENT)) return rc;
  for (size_t i = 0; i < r->file_count; i++) {
    const segue__fake_file *file = &r->files[i];
    if (!segue__glob_match_path(pattern, file->path)) continue;
    drop_name(out, file->path);
    if (file->code == UV_ENOENT) continue;
    if (segue__names_add(out, "", 0, file->path)) {
      segue__names_deinit(out);
      return segue__errorf(err, UV_ENOMEM, "%s: out of memory", pattern);
    }
  }
  if (out->count) qsort(out->items, out->count, sizeof *out->items, fakes_by_name);
  return 0;
}

static int fakes_write_file(void *data, const segue__write *w, segue_error *err) {
  int rc = segue__fakes_put(data, w->path, w->data ? w->data : "", w->len, 0,
                            w->mode ? w->mode : 0600, NULL);
  return rc ? segue__errorf(err, rc, "%s: out of memory", w->path) : 0;
}

static int stat_file(void *data, const char *path, struct stat *out) {
  const segue__fake_file *file = find_file(data, path);
  if (!file && !is_of_the_disk(data, path)) return UV_ENOENT;
  if (!file) return stat(path, out) ? -errno : 0;
  if (file->code) return file->code;
  *out = (struct stat){.st_mode = S_IFREG | file->mode, .st_size = (off_t)file->len};
  return 0;
}

/* ---- Environment ----------------------------------------------------------------------------- */

static size_t variable_count(const segue__rehearsal *r) {
  size_t n = 0;
  while (r->environment && r->environment[n])
    n++;
  return n;
}

static char **find_variable(const segue__rehearsal *r, const char *name) {
  size_t len = strlen(name);
  for (char **at = r->environment; at && *at; at++)
    if (strncmp(*at, name, len) == 0 && (*at)[len] == '=') return at;
  return NULL;
}

static const char *fakes_get_variable(void *data, const char *name) {
  char **at = find_variable(data, name);
  return at ? *at + strlen(name) + 1 : NULL;
}

static char **fakes_get_environment(void *data) {
  static char *none[] = {NULL};
  const segue__rehearsal *r = data;
  return r->environment ? r->environment : none;
}

int segue__fakes_setenv(segue__rehearsal *r, const char *name, const char *value) {
  char **at = find_variable(r, name);
  size_t n = variable_count(r);
  if (at) {
    segue__free(*at);
    *at = r->environment[n - 1];
    r->environment[--n] = NULL;
  }
  if (!value) return 0;
  segue__buf text;
  segue__buf_init(&text);
  segue__buf_addf(&text, "%s=%s", name, value);
  char **grown = segue__realloc(r->environment, (n + 2) * sizeof *grown);
  if (grown) r->environment = grown;
  if (text.failed || !grown) {
    segue__buf_deinit(&text);
    return UV_ENOMEM;
  }
  r->environment[n] = text.data;
  r->environment[n + 1] = NULL;
  return 0;
}

/* ---- Commands and requests ------------------------------------------------------------------- */

/* A running command or request. The author's function has returned its result at the start, because
 * the result includes the time that the operation takes; the result is delivered when that time has
 * passed on the simulated clock. */
struct segue__fake_call {
  segue__spawn child; /* first */
  segue__rehearsal *r;
  segue__timer timer;
  segue__spawn_options run;
  segue__fetch_options fetch;
  void (*signalled)(void *data, int status, const segue_error *error); /* of a signal */
  void *signal_data;
  segue__question answer;
  bool timed_out, stopped;
  bool head_given, body_given; /* of a request: which parts of the answer */
  segue__fake_call *prev, *next;
};

static void fakes_call_free(segue__fake_call *call) {
  segue__timer_stop(call->r->loop, &call->timer);
  if (call->prev)
    call->prev->next = call->next;
  else
    call->r->calls = call->next;
  if (call->next) call->next->prev = call->prev;
  segue__question_deinit(&call->answer);
  segue__free(call);
}

static segue__fake_call *fakes_call_new(segue__rehearsal *r, const segue__question *answer) {
  segue__fake_call *call = segue__calloc(1, sizeof *call);
  if (!call) return NULL;
  call->r = r;
  call->timer.data = call;
  call->answer = *answer;
  call->next = r->calls;
  if (r->calls) r->calls->prev = call;
  r->calls = call;
  return call;
}

/* The output of a command that was cut off is left out: the author's result describes a command
 * that ends by itself. */
static void command_ends(segue__timer *timer) {
  segue__fake_call *call = timer->data;
  const segue__question *answer = &call->answer;
  bool cut = call->timed_out || call->stopped;
  int stop_signal = call->run.stop_signal ? call->run.stop_signal : SIGTERM;
  segue__spawn_result result = {.term_signal = cut ? stop_signal : answer->signal,
                                .timed_out = call->timed_out,
                                .stopped = call->stopped,
                                .duration_ms = cut ? call->run.timeout_ms : answer->delay_ms};
  result.exit_code = result.term_signal ? -1 : answer->number;
  for (int i = 0; i < 2 && !cut; i++) {
    if (call->run.on_output && answer->len[i])
      call->run.on_output(call->run.data, (segue__stream)i, answer->text[i], answer->len[i]);
    size_t len = answer->len[i] < call->run.capture ? answer->len[i] : call->run.capture;
    if (answer->text[i] && len) answer->text[i][len] = 0;
    result.output[i] = (segue__spawn_output){answer->text[i], len, answer->len[i]};
  }
  for (int i = 0; i < 2; i++)
    if (!result.output[i].data) result.output[i].data = "";
  call->run.on_exit(call->run.data, &result);
  fakes_call_free(call);
}

/* The end is reported by a timer: the real segue__spawn_stop only sends a signal and returns before
 * on_exit runs. */
static void stop_command(segue__spawn *spawn) {
  segue__fake_call *call = (segue__fake_call *)spawn; /* its first member */
  if (call->stopped) return;
  call->stopped = true;
  segue__timer_start(call->r->loop, &call->timer, 0, command_ends);
}

int segue__fakes_spawn(segue__rehearsal *r, const segue__effect_asked *effect,
                       const segue__spawn_options *options, segue__spawn **out, segue_error *err) {
  segue__question q = {.what = SEGUE__ASKED_RUN, .run = options, .effect = effect};
  *out = NULL;
  fakes_ask(r, &q);
  segue__fake_call *call = q.message ? NULL : fakes_call_new(r, &q);
  if (!call) {
    int rc = q.message ? segue__errorf(err, q.code, "%s", q.message)
                       : segue__errorf(err, UV_ENOMEM, "out of memory");
    segue__question_deinit(&q);
    return rc;
  }
  call->child = (segue__spawn){.pid = 1, .stop = stop_command};
  call->run = *options;
  if (!call->run.capture) call->run.capture = SEGUE__SPAWN_CAPTURE;
  call->timed_out = options->timeout_ms && q.delay_ms > options->timeout_ms;
  *out = &call->child;
  return segue__timer_start(r->loop, &call->timer,
                            call->timed_out ? options->timeout_ms : q.delay_ms, command_ends);
}

static int fakes_spawn(void *data, segue__loop *loop, const segue__spawn_options *options,
                       segue__spawn **out, segue_error *err) {
  (void)loop; /* that of the rehearsal */
  return segue__fakes_spawn(data, NULL, options, out, err);
}

/* ---- Signals --------------------------------------------------------------------------------- */

static void signal_ends(segue__timer *timer) {
  segue__fake_call *call = timer->data;
  segue__question answer = call->answer;
  void (*done)(void *data, int status, const segue_error *error) = call->signalled;
  void *data = call->signal_data;
  segue_error err;
  call->answer = (segue__question){0};
  fakes_call_free(call);
  int rc = answer.message ? segue__errorf(&err, answer.code, "%s", answer.message) : 0;
  segue__question_deinit(&answer);
  done(data, rc, rc ? &err : NULL);
}

int segue__fakes_signal(segue__rehearsal *r, const segue__effect_asked *effect,
                        void (*done)(void *data, int status, const segue_error *error), void *data,
                        segue_error *err) {
  segue__question q = {.what = SEGUE__ASKED_SIGNAL, .effect = effect};
  fakes_ask(r, &q);
  segue__fake_call *call = fakes_call_new(r, &q);
  if (!call) {
    segue__question_deinit(&q);
    return segue__errorf(err, UV_ENOMEM, "out of memory");
  }
  call->signalled = done;
  call->signal_data = data;
  return segue__timer_start(r->loop, &call->timer, q.delay_ms, signal_ends);
}

static void request_ends(segue__timer *timer);

/* Gives the next part of a good answer to a caller that wants parts. The caller may forget the
 * request in the callback, which frees the call: so the next part is planned before. Returns false
 * if no part is left. */
static bool request_gives_part(segue__fake_call *call) {
  const segue__question *answer = &call->answer;
  bool head = call->fetch.on_head && !call->head_given;
  bool body = !head && call->fetch.on_data && answer->len[1] && !call->body_given;
  if (call->timed_out || answer->message || (!head && !body)) return false;
  if (segue__timer_start(call->r->loop, &call->timer, 0, request_ends)) return false;
  call->head_given = true;
  call->body_given = body;
  if (head)
    call->fetch.on_head(call->fetch.data, answer->number, answer->text[0] ? answer->text[0] : "");
  else
    call->fetch.on_data(call->fetch.data, answer->text[1], answer->len[1]);
  return true;
}

static void request_ends(segue__timer *timer) {
  segue__fake_call *call = timer->data;
  if (request_gives_part(call)) return;
  segue__fetch_options fetch = call->fetch;
  segue__question answer = call->answer;
  bool timed_out = call->timed_out;
  call->answer = (segue__question){0};
  fakes_call_free(call); /* before the callback, which may call fakes_forget for the same data */
  segue_error err;
  segue__fetch_answer good = {.status = answer.number,
                              .headers = answer.text[0] ? answer.text[0] : "",
                              .body = fetch.on_data || !answer.text[1] ? "" : answer.text[1],
                              .len = fetch.on_data ? 0 : answer.len[1],
                              .total_bytes = answer.len[1],
                              .duration_ms = answer.delay_ms};
  if (timed_out) {
    segue__errorf(&err, SEGUE_ETIMEOUT, "no complete answer came within %llu ms",
                  (unsigned long long)fetch.timeout_ms);
    fetch.on_done(fetch.data, SEGUE_ETIMEOUT, NULL, &err);
  } else if (answer.message) {
    segue__errorf(&err, answer.code, "%s", answer.message);
    fetch.on_done(fetch.data, answer.code, NULL, &err);
  } else {
    fetch.on_done(fetch.data, 0, &good, NULL);
  }
  segue__question_deinit(&answer);
}

int segue__fakes_fetch(segue__rehearsal *r, const segue__effect_asked *effect,
                       const segue__fetch_options *options, segue_error *err) {
  segue__question q = {.what = SEGUE__ASKED_FETCH, .fetch = options, .effect = effect};
  fakes_ask(r, &q);
  segue__fake_call *call = fakes_call_new(r, &q);
  if (!call) {
    segue__question_deinit(&q);
    return segue__errorf(err, UV_ENOMEM, "out of memory");
  }
  call->fetch = *options;
  call->timed_out = options->timeout_ms && q.delay_ms > options->timeout_ms;
  return segue__timer_start(r->loop, &call->timer,
                            call->timed_out ? options->timeout_ms : q.delay_ms, request_ends);
}

static int fakes_fetch(void *data, const segue__fetch_options *options, segue_error *err) {
  return segue__fakes_fetch(data, NULL, options, err);
}

static void fakes_forget(void *data, const void *whose) {
  segue__fakes_forget(data, whose);
}

void segue__fakes_forget(segue__rehearsal *r, const void *whose) {
  for (segue__fake_call *call = r->calls, *next; call; call = next) {
    next = call->next;
    if (call->fetch.on_done && call->fetch.data == whose) fakes_call_free(call);
  }
}

static int fakes_resolve(void *data, const char *name, segue__names *out, segue_error *err) {
  segue__question q = {.what = SEGUE__ASKED_RESOLVE, .name = name};
  fakes_ask(data, &q);
  int rc = q.message ? segue__errorf(err, q.code, "%s", q.message) : 0;
  if (!rc) {
    *out = q.addresses;
    q.addresses = (segue__names){0};
  }
  segue__question_deinit(&q);
  return rc;
}

/* ---- Modules --------------------------------------------------------------------------------- */

struct segue__fake_module {
  segue__rehearsal *r;
  char *name;
  segue__fake_module *next;
};

/* An operation that takes simulated time. */
struct segue__fake_delay {
  segue__timer timer;
  segue__rehearsal *r;
  segue_op *op;
  segue_error error;
  segue__fake_delay *next;
};

static void delay_over(segue__timer *timer) {
  segue__fake_delay *delay = timer->data;
  segue__fake_delay **link = &delay->r->delays;
  while (*link != delay)
    link = &(*link)->next;
  *link = delay->next;
  segue__timer_stop(delay->r->loop, timer);
  segue_op_done(delay->op, delay->error.code, delay->error.code ? &delay->error : NULL);
  segue__free(delay);
}

/* Completes the operations of modules that still take simulated time, so that the engine can stop.
 */
void segue__fakes_expedite(segue__rehearsal *r) {
  while (r->delays)
    delay_over(&r->delays->timer);
}

/* Returns false if the operation completes at once. */
static bool take_time(segue__rehearsal *r, segue_op *op, uint64_t ms, const segue_error *error) {
  segue__fake_delay *delay = ms ? segue__calloc(1, sizeof *delay) : NULL;
  if (!delay) return false;
  *delay = (segue__fake_delay){.r = r, .op = op, .error = *error, .next = r->delays};
  delay->timer.data = delay;
  r->delays = delay;
  if (segue__timer_start(r->loop, &delay->timer, ms, delay_over) < 0) delay_over(&delay->timer);
  return true;
}

/* Asks the author how the operation ends. The instance of a fake module is the module itself,
 * because it has no state of its own. */
static void fakes_act(segue__fake_module *module, const char *verb, segue_op *op,
                      const segue_slice *config) {
  segue__question q = {
      .what = SEGUE__ASKED_MODULE, .name = module->name, .verb = verb, .config = config};
  segue_error err = {0};
  fakes_ask(module->r, &q);
  int rc = q.message ? segue__errorf(&err, q.code, "%s", q.message) : 0;
  uint64_t ms = q.delay_ms;
  segue__question_deinit(&q);
  if (!take_time(module->r, op, ms, &err)) segue_op_done(op, rc, rc ? &err : NULL);
}

static void fakes_prepare(void *userdata, segue_op *op, const segue_slice *next,
                          const segue_slice *prev, void **instance) {
  (void)prev;
  *instance = userdata;
  fakes_act(userdata, "prepare", op, next);
}

static void fakes_start(void *instance, segue_op *op) {
  fakes_act(instance, "start", op, NULL);
}

static void fakes_drain(void *instance, segue_op *op) {
  fakes_act(instance, "drain", op, NULL);
}

static void fakes_stop(void *instance, segue_op *op) {
  fakes_act(instance, "stop", op, NULL);
}

/* An empty handler, because a module with `listen` must have this operation. A rehearsal opens no
 * listener, so no request comes. */
static void fakes_handle(void *instance, segue_request *request) {
  (void)instance;
  segue_request_end(request);
}

static int resolve_module(const segue__module_kind *kind, const segue__kind_place *place,
                          const segue_node *node, void *options, segue__module_spec *spec,
                          segue_error *err) {
  static const segue_module_ops ops = {.size = sizeof ops,
                                       .prepare = fakes_prepare,
                                       .start = fakes_start,
                                       .drain = fakes_drain,
                                       .stop = fakes_stop,
                                       .handle = fakes_handle};
  segue__rehearsal *r = kind->data;
  (void)place, (void)node, (void)options;
  segue__fake_module *module = r->modules;
  while (module && strcmp(module->name, spec->name) != 0)
    module = module->next;
  if (!module) {
    module = segue__calloc(1, sizeof *module);
    char *name = segue__strdup(spec->name);
    if (!module || !name) {
      segue__free(module);
      segue__free(name);
      return segue__errorf(err, UV_ENOMEM, "out of memory");
    }
    *module = (segue__fake_module){r, name, r->modules};
    r->modules = module;
  }
  spec->ops = &ops;
  spec->userdata = module;
  return 0;
}

/* ---- Life ------------------------------------------------------------------------------------ */

void segue__fakes_init(segue__rehearsal *r) {
  r->os = (segue__os){.data = r,
                      .read_file = fakes_read_file,
                      .list_files = fakes_list_files,
                      .write_file = fakes_write_file,
                      .getenv = fakes_get_variable,
                      .environ = fakes_get_environment,
                      .spawn = fakes_spawn};
  r->fake_io = (segue__fake_io){.fetch = fakes_fetch,
                                .forget = fakes_forget,
                                .resolve = fakes_resolve,
                                .stat = stat_file,
                                .data = r};
  segue__fakes_open_connections(r);
  r->fake_io.recall = r->options.recall;
  r->fake_io.push_recalled = r->options.push_recalled;
  r->fake_io.recall_data = r->options.data;
}

/* Modules of the kind files are the real ones: only their files and effects are simulated. */
int segue__fakes_open_modules(segue__rehearsal *r) {
  int rc = segue__fake_files_open(r);
  if (rc) return rc;
  segue__module_kinds(r->kinds, NULL, NULL, r->file_world, NULL);
  for (size_t i = 0; i < SEGUE__MODULE_KINDS; i++) {
    if (!strcmp(r->kinds[i].name, "files")) continue;
    r->kinds[i].resolve = resolve_module;
    r->kinds[i].data = r;
  }
  return 0;
}

void segue__fakes_deinit(segue__rehearsal *r) {
  for (size_t i = 0; i < r->file_count; i++)
    file_deinit(&r->files[i]);
  segue__free(r->files);
  for (char **at = r->environment; at && *at; at++)
    segue__free(*at);
  segue__free(r->environment);
  while (r->modules) {
    segue__fake_module *module = r->modules;
    r->modules = module->next;
    segue__free(module->name);
    segue__free(module);
  }
}
