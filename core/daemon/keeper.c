/* SPDX-License-Identifier: MIT
 *
 * Process 1 reaps every orphan of its container: background processes that commands leave behind,
 * and daemons that fork twice (nginx, HAProxy). The daemon itself must not do that: waitpid(-1)
 * would take the exit status of a command that a hook waits for, or of a child that a plugin
 * started, and such a child looks like an orphan. So the daemon runs as a child of the keeper,
 * which has no other children of its own: the keeper reaps, passes signals on, and ends with the
 * exit status of the daemon. When process 1 ends, the kernel kills all other processes of the
 * container.
 */
#include "keeper.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* Reaps all ended children. Returns true if the daemon was one of them, with its wait status in
 * *status. */
static bool keeper_reap(pid_t daemon, int *status) {
  bool over = false;
  int one;
  for (pid_t pid; (pid = waitpid(-1, &one, WNOHANG)) > 0;)
    if (pid == daemon) {
      over = true;
      *status = one;
    }
  return over;
}

/* A terminal sends ^C to the whole process group, so the daemon has that signal already; a second
 * one would end it at once. */
static bool passes_on(const siginfo_t *info) {
  return info->si_code != SI_KERNEL && info->si_signo != SIGCHLD;
}

static void keeper_keep(pid_t daemon, const sigset_t *all) {
  int status = 0;
  siginfo_t info;
  while (!keeper_reap(daemon, &status)) {
    if (sigwaitinfo(all, &info) < 0) continue;
    if (passes_on(&info)) kill(daemon, info.si_signo);
  }
  _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

int segue__keeper_start(segue__passed *passed) {
  sigset_t all, before;
  if (getpid() != 1) return 0;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &before);
  pid_t daemon = fork();
  if (daemon > 0) {
    segue__passed_close(passed); /* or a listener would stay open after the daemon has closed it */
    keeper_keep(daemon, &all);
  }
  int rc = daemon < 0 ? -errno : 0;
  sigprocmask(SIG_SETMASK, &before, NULL);
  return rc;
}
