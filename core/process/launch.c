/* SPDX-License-Identifier: MIT
 *
 * The start of a child: its arguments and environment from the options of its module, its slice,
 * and the pipe of its readiness.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include <uv.h>

#include "../os/error.h"
#include "../os/fault.h"
#include "../os/mem.h"
#include "../os/signal_names.h"
#include "kind_internal.h"
#include "limits.h"

enum { FIRST_FD = 3, EXTENSIONS = 10, LIMITS_MAX = 16, VARIABLE_BYTES = 128 << 10 };

/* All that a start needs, until it has returned. */
typedef struct launch {
  segue__process_instance *instance;
  char **changes;
  segue__buf slice_variable, file_variable;
  segue__environment environment;
  segue__child_limit limits[LIMITS_MAX];
  segue__child_file files[SEGUE__CHILD_SOCKETS + 1];
  size_t file_count, socket_count;
  int ready_ends[2]; /* read, write; -1: none */
  int empty;         /* /dev/null; -1 */
  int stdio[3];
} launch;

/* ---- Arguments ---- */

/* Returns the length of the word in braces that is at text, and appends its value; 0: it is none.
 */
static size_t launch_word(const launch *l, const char *text, segue__buf *out) {
  const segue__process_child *child = &l->instance->child;
  if (!strncmp(text, "{slice}", 7)) {
    segue__buf_adds(out, child->slice_path ? child->slice_path : "");
    return 7;
  }
  if (!strncmp(text, "{generation}", 12)) {
    segue__buf_addu(out, l->instance->generation);
    return 12;
  }
  const segue__effect_pairs *sockets = &l->instance->module->options.sockets;
  for (size_t i = 0; i < sockets->count && !strncmp(text, "{fd:", 4); i++) {
    const size_t len = strlen(sockets->items[i].key);
    if (strncmp(text + 4, sockets->items[i].key, len) != 0 || text[4 + len] != '}') continue;
    segue__buf_addu(out, FIRST_FD + i);
    return len + 5;
  }
  if (!strncmp(text, "{fd:ready}", 10)) {
    segue__buf_addu(out, FIRST_FD + l->file_count - 1);
    return 10;
  }
  return 0;
}

static char *launch_argument(const launch *l, const char *text) {
  segue__buf out;
  segue__buf_init(&out);
  segue__buf_addc(&out, 0); /* an empty argument is one too */
  out.len = 0;
  while (*text) {
    size_t len = *text == '{' ? launch_word(l, text, &out) : 0;
    if (!len) segue__buf_addc(&out, *text);
    text += len ? len : 1;
  }
  if (!out.failed) return out.data;
  segue__buf_deinit(&out);
  return NULL;
}

static int launch_arguments(const launch *l) {
  const segue__effect_texts *argv = &l->instance->module->options.argv;
  char **list = segue__calloc(argv->count + 1, sizeof *list);
  l->instance->child.argv = list;
  if (!list) return UV_ENOMEM;
  for (size_t i = 0; i < argv->count; i++)
    if (!(list[i] = launch_argument(l, argv->items[i]))) return UV_ENOMEM;
  return 0;
}

/* ---- Environment ---- */

int segue__process_environment(const segue__process_instance *instance, const char *const *more,
                               segue__environment *out, char ***changes) {
  const segue__effect_pairs *env = &instance->module->options.env;
  const segue__os *os = instance->module->world->os;
  size_t count = 0, n = 0;
  while (more && more[count])
    count++;
  char **list = *changes = segue__calloc(env->count + count + 1, sizeof *list);
  if (!list) return UV_ENOMEM;
  for (size_t i = 0; i < env->count; i++) {
    segue__buf text;
    segue__buf_init(&text);
    segue__buf_adds(&text, env->items[i].key);
    if (env->items[i].value) segue__buf_addf(&text, "=%s", env->items[i].value);
    if (text.failed) return UV_ENOMEM;
    list[n++] = text.data;
  }
  for (size_t i = 0; i < count; i++)
    if (!(list[n++] = segue__strdup(more[i]))) return UV_ENOMEM;
  return segue__environment_make(out, os->environ(os->data), list,
                                 instance->module->options.user ? &instance->user : NULL);
}

static int launch_environment(launch *l, segue_error *err) {
  const segue__process_instance *instance = l->instance;
  const segue__process_kind_options *o = &instance->module->options;
  const char *more[3] = {NULL};
  size_t n = 0;
  if (o->slice == SEGUE__SLICE_ENV) {
    segue__buf_adds(&l->slice_variable, "SEGUE_SLICE=");
    segue__buf_add(&l->slice_variable, instance->slice.data, instance->slice.len);
    if (l->slice_variable.len >= VARIABLE_BYTES)
      return segue__errorf(err, SEGUE_ELIMIT,
                           "the slice has %zu bytes, and a variable of the environment holds "
                           "131071: use slice = \"file\"",
                           instance->slice.len);
    more[n++] = l->slice_variable.data;
  }
  if (instance->child.slice_path) {
    segue__buf_addf(&l->file_variable, "SEGUE_SLICE_FILE=%s", instance->child.slice_path);
    more[n++] = l->file_variable.data;
  }
  if (l->slice_variable.failed || l->file_variable.failed) return UV_ENOMEM;
  return segue__process_environment(instance, more, &l->environment, &l->changes);
}

/* ---- Sockets, readiness, standard output ---- */

/* They come first: only the first descriptors are announced by LISTEN_FDS. */
static int launch_sockets(launch *l, segue_error *err) {
  const segue__process_instance *instance = l->instance;
  const segue__effect_pairs *sockets = &instance->module->options.sockets;
  for (size_t i = 0; i < sockets->count; i++) {
    int fd = segue__child_socket_fd(instance->sockets[i], err);
    if (fd < 0) return fd;
    l->files[l->file_count++] = (segue__child_file){.fd = fd, .name = sockets->items[i].key};
    l->socket_count = i + 1;
  }
  return 0;
}

static int launch_ready_pipe(launch *l, segue_error *err) {
  if (pipe2(l->ready_ends, O_CLOEXEC)) {
    l->ready_ends[0] = l->ready_ends[1] = -1;
    return segue__errorf(err, -errno, "no pipe for the readiness of the child: %s",
                         segue_strerror(-errno));
  }
  (void)fcntl(l->ready_ends[0], F_SETFL, O_NONBLOCK);
  l->files[l->file_count++] = (segue__child_file){.fd = l->ready_ends[1]};
  return 0;
}

static int launch_stdio(launch *l, segue_error *err) {
  const segue__process_kind_options *o = &l->instance->module->options;
  l->stdio[0] = l->stdio[1] = l->stdio[2] = -1;
  if (!o->out_dropped && !o->err_dropped) return 0;
  l->empty = open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (l->empty < 0)
    return segue__errorf(err, -errno, "cannot open /dev/null: %s", segue_strerror(-errno));
  if (o->out_dropped) l->stdio[1] = l->empty;
  if (o->err_dropped) l->stdio[2] = l->empty;
  return 0;
}

static void launch_ready(launch *l, segue__managed_options *out) {
  const segue__ready_options *ready = &l->instance->module->options.ready;
  segue_error ignored;
  out->ready = (segue__ready_way)ready->by;
  out->ready_ms = ready->within_ms;
  out->ready_most_ms = ready->within_ms * EXTENSIONS;
  out->ready_line = ready->line;
  out->watchdog_ms = l->instance->module->options.watchdog_ms;
  if (ready->line) out->ready = SEGUE__READY_LINE;
  if (ready->command.argv.count || ready->command.shell) out->probe.effect = &ready->command;
  if (ready->http) {
    l->instance->module->probe = (segue__effect){.url = ready->http,
                                                 .method = (char *)"GET",
                                                 .verify = true,
                                                 .timeout_ms = ready->within_ms};
    out->probe.effect = &l->instance->module->probe;
  }
  if (ready->port && !segue__address_parse(ready->port, &l->instance->module->port, &ignored))
    out->probe.address = &l->instance->module->port;
  if (out->probe.effect || out->probe.address) out->ready = SEGUE__READY_PROBE;
}

static void launch_child_options(launch *l, segue__child_options *out) {
  segue__process_instance *instance = l->instance;
  const segue__process_kind_options *o = &instance->module->options;
  segue_error ignored;
  size_t limits = 0;
  for (size_t i = 0; i < o->limits.count && limits < LIMITS_MAX; i++)
    if (!segue__limit_parse(o->limits.items[i].key, o->limits.items[i].value, &l->limits[limits],
                            &ignored))
      limits++;
  *out = (segue__child_options){.size = sizeof *out,
                                .cwd = o->cwd ? o->cwd : instance->module->folder,
                                .user = o->user ? &instance->user.user : NULL,
                                .stdio = l->stdio,
                                .files = l->files,
                                .file_count = l->file_count,
                                .limits = l->limits,
                                .limit_count = limits,
                                .umask = o->has_umask ? &o->umask : NULL,
                                .notify = true,
                                .notify_main_only = !o->ready.from_all,
                                .watchdog_ms = o->watchdog_ms};
  if (o->slice == SEGUE__SLICE_STDIN) {
    out->input = instance->slice.data;
    out->input_len = instance->slice.len;
  }
}

/* ---- The start ---- */

segue__process_manner segue__process_manner_of(const segue__process_kind_options *options) {
  return (segue__process_manner){.kill_signal = segue__signal_numbers[options->kill_signal],
                                 .kill_ms = options->kill_ms,
                                 .group = options->group};
}

static int launch_start(launch *l, segue_error *err) {
  segue__process_instance *instance = l->instance;
  const segue__process_module *module = instance->module;
  const segue__process_kind_options *o = &module->options;
  const int nice = (int)o->nice, oom = (int)o->oom;
  segue__managed_options options = {.size = sizeof options,
                                    .loop = module->world->loop,
                                    .os = module->world->os,
                                    .log = module->world->log,
                                    .module = module->name,
                                    .argv = (const char *const *)instance->child.argv,
                                    .env = l->environment.entries,
                                    .manner = segue__process_manner_of(o),
                                    .logs = {!o->out_dropped, !o->err_dropped},
                                    .line_bytes = o->line_bytes,
                                    .lines_per_s = o->lines_per_s,
                                    .ready_fd = l->ready_ends[0],
                                    .on_ready = segue__process_on_ready,
                                    .on_notice = segue__process_on_notice,
                                    .on_end = segue__process_on_end,
                                    .data = instance};
  l->ready_ends[0] = -1; /* the managed child closes it */
  launch_ready(l, &options);
  launch_child_options(l, &options.child);
  if (o->has_nice) options.child.nice = &nice;
  if (o->has_oom) options.child.oom_score_adj = &oom;
  return segue__managed_start(&instance->child.managed, &options, err);
}

static void launch_deinit(launch *l) {
  for (size_t i = 0; l->changes && l->changes[i]; i++)
    segue__free(l->changes[i]);
  segue__free(l->changes);
  segue__environment_free(&l->environment);
  segue__buf_deinit(&l->slice_variable);
  segue__buf_deinit(&l->file_variable);
  for (size_t i = 0; i < l->socket_count; i++)
    close(l->files[i].fd);
  const int fds[] = {l->ready_ends[0], l->ready_ends[1], l->empty};
  for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
    if (fds[i] >= 0) close(fds[i]);
}

int segue__process_launch(segue__process_instance *instance, segue_error *err) {
  launch l = {.instance = instance, .ready_ends = {-1, -1}, .empty = -1};
  const bool piped = instance->module->options.ready.by == SEGUE__READY_FD;
  segue__process_record *record = instance->module->record;
  segue_error inner = {0};
  segue__buf_init(&l.slice_variable);
  segue__buf_init(&l.file_variable);
  int rc = launch_sockets(&l, &inner);
  if (!rc && piped) rc = launch_ready_pipe(&l, &inner);
  if (!rc) rc = launch_stdio(&l, &inner);
  if (!rc) rc = launch_arguments(&l);
  if (!rc) rc = launch_environment(&l, &inner);
  if (!rc) rc = launch_start(&l, &inner);
  launch_deinit(&l);
  if (rc) return segue__errorf(err, rc, "%s", *inner.message ? inner.message : segue_strerror(rc));
  instance->child.generation = instance->generation;
  record->starts++;
  record->ready_ms = 0;
  SEGUE__LOG(instance->module->world->log, SEGUE_INFO, "process", "the child runs",
             SEGUE__FIELD("module", instance->module->name),
             SEGUE__FIELD("program", instance->module->options.argv.items[0]),
             SEGUE__FIELD("pid", segue__managed_pid(instance->child.managed)));
  return 0;
}
