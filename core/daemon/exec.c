/* SPDX-License-Identifier: MIT
 *
 * `segue exec -- COMMAND`: what `segue run` does, and a child that starts with the first good
 * generation. A signal that is a trigger of the policy belongs to the policy; TERM and INT stop the
 * child and segue; every other one is passed to the child.
 *
 * Job control. The child has the terminal, so ^Z stops the child, and the shell that waits for
 * segue does not notice. So segue stops its own process group as soon as the child is stopped, and
 * continues the child when the shell continues segue.
 */
#include "exec.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../instance/instance.h"
#include "../os/signal_names.h"
#include "../os/units.h"

enum { EXIT_BY_SIGNAL = 128 };
static const int exec_signals[SEGUE__EXEC_SIGNALS] = {SIGQUIT, SIGWINCH, SIGTSTP, SIGCONT, SIGCHLD};

int segue__cli_exec(const segue__cli *cli) {
  if (!cli->command || !cli->command[0])
    return segue__cli_fail(SEGUE__EXIT_USAGE,
                           "segue exec needs a command: segue exec -c reload.lua -- COMMAND");
  return segue__cli_run(cli);
}

/* ---- The watcher ---- */

/* Waits until segue has ended, however it did, and then kills the process group of the child. The
 * kernel kills only the child itself then (PR_SET_PDEATHSIG), and not what it has started: workers
 * would keep the port of the server. It is in a session of its own with all signals blocked, so
 * that ^C and a hang-up of the terminal do not end it before segue. */
static void watch_segue(int from) {
  sigset_t all;
  int group = 0, last = 0;
  ssize_t n;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, NULL);
  setsid();
  prctl(PR_SET_NAME, "segue-watcher");
  dup2(from, 0);
  syscall(SYS_close_range, 1, ~0u, 0);
  while ((n = read(0, &group, sizeof group)) != 0)
    if (n == sizeof group)
      last = group;
    else if (n > 0 || errno != EINTR)
      break;
  if (last > 0) kill(-last, SIGKILL);
  _exit(0);
}

static int start_watcher(segue__exec_mode *mode) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC)) return -errno;
  pid_t watcher = fork();
  if (watcher == 0) {
    close(ends[1]);
    watch_segue(ends[0]);
  }
  int rc = watcher < 0 ? -errno : 0;
  close(ends[0]);
  if (rc)
    close(ends[1]);
  else
    mode->setup.watcher = ends[1];
  return rc;
}

/* ---- Options ---- */

static int exec_bad(const char *option, const char *expected, const char *text) {
  return segue__cli_fail(SEGUE__EXIT_USAGE, "--%s must be %s, not \"%.60s\"", option, expected,
                         text);
}

static int exec_signal_option(const char *option, const char *text, bool none, int *out) {
  int choice = segue__signal_choice(text);
  *out = choice >= 0 ? segue__signal_numbers[choice] : 0;
  if (choice >= 0 || (none && !strcmp(text, "none"))) return 0;
  return exec_bad(option,
                  none ? "none, HUP, INT, QUIT, ALRM, TERM, USR1, USR2, WINCH or CONT"
                       : "HUP, INT, QUIT, ALRM, TERM, USR1, USR2, WINCH or CONT",
                  text);
}

static int exec_options(segue__exec_flags *flags, const segue__cli *cli) {
  int rc = 0;
  flags->reload_given = cli->reload_signal != NULL;
  flags->splay_given = cli->splay != NULL;
  if (cli->reload_signal)
    rc = exec_signal_option("reload-signal", cli->reload_signal, true, &flags->reload_signal);
  if (!rc && cli->kill_signal)
    rc = exec_signal_option("kill-signal", cli->kill_signal, false, &flags->kill_signal);
  if (!rc && cli->kill_timeout &&
      (!segue__duration_of(cli->kill_timeout, &flags->kill_ms) || !flags->kill_ms))
    rc = exec_bad("kill-timeout", "a duration such as 10s, longer than 0s", cli->kill_timeout);
  if (!rc && cli->splay && !segue__duration_of(cli->splay, &flags->splay_ms))
    rc = exec_bad("splay", "a duration such as 5s", cli->splay);
  return rc;
}

int segue__exec_mode_init(segue__exec_mode *mode, const segue__cli *cli, void (*on_end)(void *data),
                          void *data) {
  mode->code = -1;
  if (!cli->command) return 0;
  mode->setup = (segue__exec_setup){.size = sizeof mode->setup,
                                    .argv = cli->command,
                                    .code = &mode->code,
                                    .on_end = on_end,
                                    .data = data};
  int rc = exec_options(&mode->setup.flags, cli);
  if (rc) return rc;
  mode->on = true;
  rc = segue__terminal_open(&mode->terminal);
  mode->setup.terminal = mode->terminal;
  if (!rc) rc = start_watcher(mode);
  if (!rc) return 0;
  return segue__cli_fail(SEGUE__EXIT_FAILED, "cannot start the watcher of the child: %s",
                         segue_strerror(rc));
}

/* ---- Signals ---- */

static segue__process *exec_child(const segue__exec_mode *mode) {
  return mode->instance ? segue__instance_child(mode->instance) : NULL;
}

bool segue__exec_mode_pass(segue__exec_mode *mode, int signum) {
  segue__process *child = exec_child(mode);
  return child && segue__process_signal(child, signum) == 0;
}

void segue__exec_mode_kill(segue__exec_mode *mode) {
  segue__process *child = exec_child(mode);
  if (child) segue__process_kill(child);
}

/* Where no shell can continue segue, a stopped child would stay so for ever: it is continued. */
static void exec_suspend(segue__exec_mode *mode, segue__process *child) {
  if (!segue__terminal_can_suspend(mode->terminal)) {
    if (mode->terminal) segue__process_continue(child);
    return;
  }
  segue__terminal_take(mode->terminal, segue__process_pid(child));
  kill(0, SIGSTOP);
}

static void exec_on_signal(uv_signal_t *handle, int signum) {
  segue__exec_mode *mode = handle->data;
  segue__process *child = exec_child(mode);
  if (!child) return;
  if (signum == SIGCHLD) {
    if (segue__process_was_stopped(child)) exec_suspend(mode, child);
  } else if (signum == SIGCONT) {
    segue__process_continue(child);
  } else if (!segue__handles_signal(mode->instance, signum)) {
    (void)segue__process_signal(child, signum);
  }
}

int segue__exec_mode_open(segue__exec_mode *mode, uv_loop_t *loop) {
  int rc = 0;
  if (!mode->on) return 0;
  for (int i = 0; i < SEGUE__EXEC_SIGNALS && rc == 0; i++) {
    rc = uv_signal_init(loop, &mode->handles[i]);
    mode->handles[i].data = mode;
    if (rc == 0) rc = uv_signal_start(&mode->handles[i], exec_on_signal, exec_signals[i]);
  }
  mode->open = true;
  return rc;
}

void segue__exec_mode_attach(segue__exec_mode *mode, segue *instance) {
  mode->instance = instance;
  if (mode->on) segue__instance_exec(instance, &mode->setup);
}

void segue__exec_mode_close(segue__exec_mode *mode) {
  mode->instance = NULL;
  for (int i = 0; i < SEGUE__EXEC_SIGNALS && mode->open; i++)
    uv_close((uv_handle_t *)&mode->handles[i], NULL);
  mode->open = false;
}

void segue__exec_mode_deinit(segue__exec_mode *mode) {
  if (!mode->on) return;
  segue__terminal_close(mode->terminal);
  if (mode->setup.watcher) close(mode->setup.watcher);
}

int segue__exec_mode_code(const segue__exec_mode *mode, int exit_code, int signum) {
  if (!mode->on) return exit_code;
  if (mode->code >= 0) return mode->code;
  return exit_code ? exit_code : signum ? EXIT_BY_SIGNAL + signum : 0;
}
