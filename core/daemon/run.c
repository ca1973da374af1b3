/* SPDX-License-Identifier: MIT
 *
 * `segue run`: one instance of the library on a loop of the daemon's, and the process around it:
 * signals, log, exit code. TERM and INT stop in order; a second one ends the process at once. If
 * the code of a module does not return on its worker thread, everything else stops in order.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

#include "../instance/instance.h"
#include "../os/units.h"
#include "budget.h"
#include "cli.h"
#include "exec.h"
#include "keeper.h"
#include "signals.h"
#include "sink.h"
#include "systemd.h"

/* How long the end of the process waits for the reader of the log. */
enum { LAST_WORDS_MS = 1000, HASTY_WORDS_MS = 100 };
enum { OPEN_FILES = 65536 }; /* as many as are allowed, up to this */

typedef struct process {
  uv_loop_t loop;
  uv_signal_t term, interrupt;
  segue__signals signals;
  segue__sink sink;
  segue__systemd systemd;
  segue *instance;
  int exit_code;
  bool stopping;
  bool once; /* it ends with its first generation */
  segue__exec_mode exec;
  uv_timer_t again;  /* --wait: the next try of the first load */
  uint64_t until_ms; /* no further try after it */
  int stopped_by;    /* a signal; 0: none */
  bool stuck;        /* a worker thread still runs the code of a module */
} process;

static void log_line(process *d, segue_level level, const char *message) {
  segue_log_entry entry = {.level = level, .group = "segue", .message = message};
  if (level <= d->sink.level) segue__sink_write(&d->sink, &entry);
}

static void run_on_log(void *data, const segue_log_entry *entry) {
  segue__sink_write(&((process *)data)->sink, entry);
}

static void daemon_run_stop(process *d) {
  d->stopping = true;
  segue__signals_watch(&d->signals, NULL);
  segue__systemd_stopping(&d->systemd);
  segue_stop(d->instance);
}

/* The second signal ends the process at once: an operator who sends it does not want to wait for
 * drains. */
static void on_term(uv_signal_t *handle, int signum) {
  process *d = handle->data;
  if (d->stopping) {
    segue__exec_mode_kill(&d->exec);
    segue__sink_flush(&d->sink, HASTY_WORDS_MS);
    _exit(128 + signum);
  }
  d->stopped_by = signum;
  daemon_run_stop(d);
}

/* The child of `segue exec` has ended. */
static void on_child_end(void *data) {
  process *d = data;
  if (!d->stopping) daemon_run_stop(d);
}

static bool pass_signal(void *data, int signum) {
  process *d = data;
  return segue__exec_mode_pass(&d->exec, signum);
}

static void on_unwanted_signal(void *data, const char *message) {
  log_line(data, SEGUE_WARN, message);
}

static int exit_code_of(const segue_report *report) {
  if (report && strcmp(report->outcome, "rejected") == 0) return SEGUE__EXIT_REJECTED;
  return report && strcmp(report->outcome, "held") == 0 ? SEGUE__EXIT_REFUSED : SEGUE__EXIT_FAILED;
}

static void run_on_start(void *data, int status, const segue_report *report);

static void load_again(uv_timer_t *timer) {
  process *d = timer->data;
  if (!d->stopping && segue_reload(d->instance, false, run_on_start, d) < 0) daemon_run_stop(d);
}

/* --wait of `segue exec`: the data of the first generation may come later. A program that cannot be
 * run is a mistake that no wait corrects. */
static bool run_tries_again(process *d) {
  enum { AGAIN_MS = 500 };
  if (d->exec.code >= 0 || uv_now(&d->loop) >= d->until_ms) return false;
  return uv_timer_start(&d->again, load_again, AGAIN_MS, 0) == 0;
}

/* Without a generation there is nothing to serve: the first load decides whether the daemon runs.
 */
static void run_on_start(void *data, int status, const segue_report *report) {
  process *d = data;
  if (d->stopping) return;
  if (status == 0 && d->once) {
    daemon_run_stop(d);
    return;
  }
  if (status == 0 || status == SEGUE_EDEFERRED) {
    segue__systemd_started(&d->systemd, status);
    segue__signals_started(&d->signals);
    return;
  }
  if (run_tries_again(d)) return;
  d->exit_code = exit_code_of(report);
  log_line(d, SEGUE_ERROR,
           "the first load did not succeed, so there is nothing to run: correct the mistakes "
           "above and start again (segue check checks without running)");
  daemon_run_stop(d);
}

static void close_signals(process *d) {
  uv_close((uv_handle_t *)&d->term, NULL);
  uv_close((uv_handle_t *)&d->interrupt, NULL);
  uv_close((uv_handle_t *)&d->again, NULL);
  segue__exec_mode_close(&d->exec);
  segue__signals_close(&d->signals);
}

static void close_handles(process *d) {
  segue__systemd_close(&d->systemd);
  close_signals(d);
}

static void on_stopped(void *data) {
  process *d = data;
  d->stuck = segue__stuck_threads(d->instance) > 0;
  if (d->stuck)
    log_line(d, SEGUE_ERROR, "stopped, except for the abandoned worker threads");
  else
    log_line(d, SEGUE_INFO, "stopped");
  close_handles(d);
}

static int catch_one(process *d, uv_signal_t *handle, int signum, uv_signal_cb cb) {
  int rc = uv_signal_init(&d->loop, handle);
  handle->data = d;
  return rc < 0 ? rc : uv_signal_start(handle, cb, signum);
}

static int catch_signals(process *d) {
  int rc = uv_timer_init(&d->loop, &d->again);
  d->again.data = d;
  if (rc == 0) rc = catch_one(d, &d->term, SIGTERM, on_term);
  if (rc == 0) rc = catch_one(d, &d->interrupt, SIGINT, on_term);
  if (rc == 0) rc = segue__exec_mode_open(&d->exec, &d->loop);
  if (rc == 0) rc = segue__signals_open(&d->signals, &d->loop, on_unwanted_signal, d);
  if (d->exec.on) d->signals.pass = pass_signal;
  return rc;
}

/* The soft limit of open files is low (1,024 by default) because select() handles no more. The
 * daemon does not use select() and must answer a thousand clients at once. Commands may use
 * select(), so they get the old limit. Returns the old limit; 0: nothing was changed. */
static uint64_t raise_files(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  rlim_t before = limit.rlim_cur;
  rlim_t most = limit.rlim_max < OPEN_FILES ? limit.rlim_max : OPEN_FILES;
  if (before >= most) return 0;
  limit.rlim_cur = most;
  return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? before : 0;
}

/* raise_files comes before segue_new, which computes its limits of connections from the number of
 * open files. The signals are watched before segue_start, so that one that arrives during the first
 * load is stored. */
static int run_begin(process *d, const segue__cli *cli, segue__passed *passed) {
  segue_error error;
  segue_options options;
  segue_options_init(&options);
  options.uv_loop = &d->loop;
  options.policy = cli->policy;
  options.state = cli->state;
  options.socket = cli->socket;
  options.lua_dir = cli->lua_dir;
  options.signals = true;
  options.budget_signal = segue__budget_signal();
  options.log_level = d->sink.level;
  options.on_log = run_on_log;
  options.on_start = run_on_start;
  options.on_stopped = on_stopped;
  options.data = d;
  uint64_t files_before = raise_files();
  int rc = segue_new(&d->instance, &options, &error);
  if (rc == 0) segue__limit_children(d->instance, files_before);
  if (rc == 0) segue__exec_mode_attach(&d->exec, d->instance);
  if (rc == 0) rc = segue__adopt_sockets(d->instance, passed, &error);
  if (rc == 0) segue__signals_watch(&d->signals, d->instance);
  if (rc == 0) rc = segue_start(d->instance, &error);
  if (rc == 0) {
    segue__systemd_watch(&d->systemd, d->instance);
    return SEGUE__EXIT_OK;
  }
  segue__cli_words(error.message);
  log_line(d, SEGUE_ERROR, error.message);
  close_handles(d);
  return SEGUE__EXIT_FAILED;
}

/* A start that failed is closed before the loop runs: the loop then only finishes what was opened.
 * After a good start on_stopped ends the loop, and the instance is freed behind it. */
static void run_serve(process *d, const segue__cli *cli, segue__passed *passed) {
  uint64_t wait_ms = 0;
  if (d->exec.on && cli->wait && segue__duration_of(cli->wait, &wait_ms))
    d->until_ms = uv_now(&d->loop) + wait_ms;
  segue__systemd_open(&d->systemd, &d->loop, &d->sink);
  d->exit_code = run_begin(d, cli, passed);
  if (d->exit_code != SEGUE__EXIT_OK) segue_close(d->instance);
  uv_run(&d->loop, UV_RUN_DEFAULT);
  if (d->exit_code == SEGUE__EXIT_OK || d->stopping) segue_close(d->instance);
  uv_loop_close(&d->loop);
}

int segue__cli_run(const segue__cli *cli) {
  process d = {.exit_code = SEGUE__EXIT_OK, .once = cli->once};
  segue__passed passed;
  segue_error error;
  segue__signals_hold();
  /* The passed sockets are read before the keeper forks: LISTEN_PID is the id of this process, not
   * of its child. unsetenv needs a process without further threads. */
  if (segue__passed_read(&passed, &error) < 0)
    return segue__cli_fail(SEGUE__EXIT_USAGE, "%s", error.message);
  int kept = segue__keeper_start(&passed);
  if (kept < 0)
    return segue__cli_fail(SEGUE__EXIT_FAILED, "cannot start the daemon below process 1: %s",
                           segue_strerror(kept));
  int rc = segue__exec_mode_init(&d.exec, cli, on_child_end, &d);
  if (!rc) rc = segue__sink_init(&d.sink, cli);
  if (rc) return rc;
  if (uv_loop_init(&d.loop) < 0 || catch_signals(&d) < 0)
    return segue__cli_fail(SEGUE__EXIT_FAILED,
                           "cannot create an event loop: out of files or memory");
  segue__publication_prepare();
  rc = segue__sink_start(&d.sink);
  if (rc < 0) {
    close_signals(&d);
    uv_run(&d.loop, UV_RUN_DEFAULT);
    uv_loop_close(&d.loop);
    return segue__cli_fail(SEGUE__EXIT_FAILED, "cannot start the thread that writes the log: %s",
                           segue_strerror(rc));
  }
  run_serve(&d, cli, &passed);
  segue__passed_close(&passed);
  segue__sink_stop(&d.sink, LAST_WORDS_MS);
  segue__exec_mode_deinit(&d.exec);
  d.exit_code = segue__exec_mode_code(&d.exec, d.exit_code, d.stopped_by);
  /* exit() would run destructors, and unload code, below a thread that still runs in a module. */
  if (d.stuck) _exit(d.exit_code ? d.exit_code : SEGUE__EXIT_UNEXPECTED);
  return d.exit_code;
}
