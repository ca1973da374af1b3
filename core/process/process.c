/* SPDX-License-Identifier: MIT
 *
 * The life of a child that follows another. Its memory is counted, because the handles of a child
 * that has ended are closed by later turns of the loop.
 */
#include "process.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <uv.h>

#include "../os/error.h"
#include "../os/fault.h"
#include "../os/mem.h"
#include "../os/signal_names.h"
#include "../os/write.h"

enum { HANDLER_PAUSE_MS = 10, SHORT_LIFE_MS = 2000 };

struct segue__process {
  int refs; /* the owner, and each child that is not closed */
  segue__process_options options;
  segue__process_manner manner;
  segue__child *child; /* NULL: none runs */
  bool freed;
  /* segue__process_reload */
  segue__timer timer;
  int signum; /* 0: none waits */
  bool cancelled;
  uint64_t until_ms;
  void (*cb)(void *data, int status, const segue_error *error);
  void *cb_data;
};

static void process_unref(segue__process *process) {
  if (--process->refs == 0) segue__free(process);
}

int segue__process_new(segue__process **out, const segue__process_options *options) {
  segue__process *process = segue__calloc(1, sizeof *process);
  *out = process;
  if (!process) return UV_ENOMEM;
  process->refs = 1;
  process->options = *options;
  process->timer.data = process;
  return 0;
}

/* ---- The child ---- */

/* A pipe holds such a write whole. If the watcher is gone there is nothing to do about it. */
static void process_report(const segue__process *process, int group) {
  if (process->options.watcher)
    (void)segue__write_all(process->options.watcher, &group, sizeof group, NULL);
}

static void process_on_exit(void *data, const segue__child_exit *end) {
  segue__process *process = data;
  const segue__terminal *terminal = process->options.terminal;
  segue__terminal_take(terminal, process->child->pid);
  process->child = NULL;
  process_report(process, 0);
  /* The wait for its handler ends first, so that its caller does not begin another one. */
  if (process->signum && !process->freed)
    (void)segue__timer_start(process->options.loop, &process->timer, 0, process->timer.cb);
  if (!process->freed) process->options.on_end(process->options.data, end);
}

static void process_on_closed(void *data, bool output_cut) {
  segue__process *process = data;
  (void)output_cut;
  if (process->options.on_closed) process->options.on_closed(process->options.data);
  process_unref(process);
}

static void process_on_output(void *data, segue__stream stream, const char *bytes, size_t len) {
  const segue__process *process = data;
  const segue__child_options *child = process->options.child;
  if (!process->freed && child->on_output) child->on_output(child->data, stream, bytes, len);
}

static void process_on_notice(void *data, const segue__notice *notice) {
  const segue__process *process = data;
  const segue__child_options *child = process->options.child;
  if (!process->freed && child->on_notice) child->on_notice(child->data, notice);
}

static void process_on_refused(void *data, const char *why) {
  const segue__process *process = data;
  const segue__child_options *child = process->options.child;
  if (!process->freed && child->on_refused) child->on_refused(child->data, why);
}

/* A child that shares the descriptors of this process shares its session too, so that it has the
 * terminal: a new session has no controlling terminal. */
static segue__child_options process_child_options(const segue__process *process) {
  static const int own[3] = {0, 1, 2};
  if (!process->options.child)
    return (segue__child_options){
        .size = sizeof(segue__child_options), .stdio = own, .own_group = true};
  segue__child_options options = *process->options.child;
  options.on_output = process_on_output;
  options.on_notice = process_on_notice;
  options.on_refused = process_on_refused;
  return options;
}

/* The child does not outlive this process, however that ends: a server that nothing supervises any
 * more would keep its port, and the next start would fail. The kernel kills only the child then;
 * the watcher kills the rest of its group. Processes that a child leaves behind in its group are
 * killed for the same reason. */
int segue__process_start(segue__process *process, const char *const *env,
                         const segue__process_manner *manner, segue_error *err) {
  const segue__terminal *terminal = process->options.terminal;
  const int fd = segue__terminal_fd(terminal);
  const segue__os *os = process->options.os;
  int rc = SEGUE_FAULT("process.start");
  if (rc)
    return segue__errorf(err, rc, "cannot run %.200s: %s", process->options.argv[0],
                         segue_strerror(rc));
  segue__child_options options = process_child_options(process);
  options.argv = process->options.argv;
  options.env = env;
  options.terminal = segue__terminal_is_ours(terminal) ? &fd : NULL;
  options.dies_with_parent = true;
  options.stop_signal = manner->kill_signal;
  options.kill_ms = manner->kill_ms;
  options.stop_alone = !manner->group;
  options.kill_rest = true;
  options.on_exit = process_on_exit;
  options.on_closed = process_on_closed;
  options.data = process;
  process->manner = *manner;
  rc = os->start_child(os->data, process->options.loop, &options, &process->child, err);
  if (rc) segue__terminal_take(terminal, -1); /* the child may have had it */
  if (rc) return rc;
  process->refs++;
  process_report(process, process->child->pid);
  return 0;
}

void segue__process_set_manner(segue__process *process, const segue__process_manner *manner) {
  process->manner = *manner;
  if (process->child)
    segue__child_set_stop(process->child, manner->kill_signal, manner->kill_ms, !manner->group);
}

void segue__process_stop(segue__process *process) {
  segue__child_stop(process->child);
}

void segue__process_kill(segue__process *process) {
  if (process->child) (void)segue__child_signal(process->child, SIGKILL, true);
}

bool segue__process_runs(const segue__process *process) {
  return process->child != NULL;
}

int segue__process_pid(const segue__process *process) {
  return process->child ? process->child->pid : 0;
}

int segue__process_signal(segue__process *process, int signum) {
  if (!process->child) return UV_ESRCH;
  return segue__child_signal(process->child, signum, process->manner.group);
}

void segue__process_free(segue__process *process) {
  if (!process) return;
  process->freed = true;
  process->signum = 0;
  segue__timer_stop(process->options.loop, &process->timer);
  segue__process_kill(process);
  process_unref(process);
}

void segue__process_describe_end(const char *program, int pid, const segue__child_exit *end,
                                 segue_error *out) {
  double seconds = (double)end->duration_ms / 1000;
  if (end->status)
    segue__errorf(out, SEGUE_EMODULE, "the child %.200s (process %d) was lost: %s", program, pid,
                  segue_strerror(end->status));
  else if (end->term_signal)
    segue__errorf(out, SEGUE_EMODULE,
                  "the child %.200s (process %d) was ended by signal %d (%s) after %.1f s", program,
                  pid, end->term_signal, strsignal(end->term_signal), seconds);
  else
    segue__errorf(out, SEGUE_EMODULE,
                  "the child %.200s (process %d) exited with code %d after %.1f s%s", program, pid,
                  end->exit_code, seconds,
                  !end->exit_code && !end->stopped && end->duration_ms < SHORT_LIFE_MS
                      ? " (a program that puts itself into the background has to be started in "
                        "the foreground)"
                      : "");
}

/* ---- A signal that must not end it ---- */

/* Returns whether the process has a handler for the signal, ignores it, or blocks it to read it by
 * signalfd (it starts with no signal blocked): the bit of the signal in SigCgt, SigIgn or SigBlk of
 * /proc/PID/status. A status that cannot be read holds nothing back. The C library blocks all
 * signals for a moment while it starts a process, SIGSEGV too: that means nothing. A process that
 * waits in sigwait(3) cannot be seen: the kernel shows the signal as not blocked meanwhile. So
 * there is a manner for such a program. */
static bool process_handles(int pid, int signum) {
  char path[32], line[128];
  bool handles = false, found = false;
  const uint64_t bit = UINT64_C(1) << (signum - 1), fault = UINT64_C(1) << (SIGSEGV - 1);
  if (signum == SIGCONT || signum == SIGWINCH) return true; /* they end no process */
  snprintf(path, sizeof path, "/proc/%d/status", pid);
  FILE *file = fopen(path, "re");
  if (!file) return true;
  while (fgets(line, sizeof line, file)) {
    const bool blocked = strncmp(line, "SigBlk:", 7) == 0;
    if (!blocked && strncmp(line, "SigCgt:", 7) != 0 && strncmp(line, "SigIgn:", 7) != 0) continue;
    found = true;
    const uint64_t set = strtoull(line + 7, NULL, 16);
    if ((set & bit) && !(blocked && (set & fault))) handles = true;
  }
  fclose(file);
  return handles || !found;
}

static void reload_end(segue__process *process, int status, const segue_error *error) {
  process->signum = 0;
  process->cb(process->cb_data, status, error);
}

static int reload_late(const segue__process *process, segue_error *error) {
  const char *name = segue__signal_choice_name(process->signum);
  return segue__errorf(
      error, SEGUE_EMODULE,
      "%.200s (process %d) has no handler for %s after %d s, and would be ended by "
      "it: set reload_signal to a signal that it handles, or leave it out; a program that reads "
      "signals with sigwait(3) needs reload_at_once = true",
      process->options.argv[0], process->child->pid, name, SEGUE__PROCESS_HANDLER_MS / 1000);
}

static void reload_try(segue__timer *timer) {
  segue__process *process = timer->data;
  segue_error error;
  int rc = 0;
  if (!process->child) {
    rc = segue__errorf(&error, SEGUE_EMODULE, "%.200s has ended before it got its signal",
                       process->options.argv[0]);
  } else if (process->cancelled) {
    rc = segue__errorf(&error, SEGUE_ECANCELLED, "the signal to %.200s was cancelled",
                       process->options.argv[0]);
  } else if (process->manner.at_once || process_handles(process->child->pid, process->signum)) {
    rc = segue__process_signal(process, process->signum);
    if (rc)
      segue__errorf(&error, rc, "cannot send %s to %.200s (process %d): %s",
                    segue__signal_choice_name(process->signum), process->options.argv[0],
                    process->child->pid, segue_strerror(rc));
  } else if (segue__loop_now_ms(process->options.loop) < process->until_ms &&
             !segue__timer_start(process->options.loop, timer, HANDLER_PAUSE_MS, reload_try)) {
    return;
  } else {
    rc = reload_late(process, &error);
  }
  reload_end(process, rc, rc ? &error : NULL);
}

int segue__process_reload(segue__process *process, int signum,
                          void (*cb)(void *data, int status, const segue_error *error), void *data,
                          segue_error *err) {
  process->signum = signum;
  process->cancelled = false;
  process->cb = cb;
  process->cb_data = data;
  process->until_ms = segue__loop_now_ms(process->options.loop) +
                      SEGUE_TEST_MS("HANDLER_MS", SEGUE__PROCESS_HANDLER_MS);
  int rc = segue__timer_start(process->options.loop, &process->timer, 0, reload_try);
  if (rc) process->signum = 0;
  return rc ? segue__errorf(err, rc, "no timer for a signal: %s", segue_strerror(rc)) : 0;
}

void segue__process_cancel(segue__process *process) {
  if (!process->signum) return;
  process->cancelled = true;
  (void)segue__timer_start(process->options.loop, &process->timer, 0, reload_try);
}

/* ---- Job control ---- */

/* Waits for stops only: the exit of the child is left to its pidfd, and the children of other parts
 * of this process are not touched. */
bool segue__process_was_stopped(segue__process *process) {
  siginfo_t info = {0};
  if (!process->child) return false;
  int rc;
  do
    rc = waitid(P_PID, (id_t)process->child->pid, &info, WSTOPPED | WNOHANG);
  while (rc < 0 && errno == EINTR);
  return rc == 0 && info.si_pid == process->child->pid;
}

void segue__process_continue(segue__process *process) {
  if (!process->child) return;
  segue__terminal_give(process->options.terminal, process->child->pid);
  (void)segue__child_signal(process->child, SIGCONT, true);
}
