/* SPDX-License-Identifier: MIT
 *
 * Starting a child as another user, or with another limit of open files. posix_spawn can do
 * neither. Between fork and exec only what is safe in a signal handler may be called; what fails
 * there comes back through a pipe that exec closes. For our own user it is vfork, which copies no
 * page tables, whatever our size. Another user must never be let into our memory: there it is fork.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "spawn_exec.h"

enum { SIGNALS = 65 };

/* The report of a child that fails before exec. */
typedef struct failure {
  int code;
  bool in_folder;
} failure;

_Static_assert(sizeof(uid_t) == sizeof(unsigned) && sizeof(gid_t) == sizeof(unsigned),
               "ids are told as unsigned");

/* The C library's functions would change all threads of the process that this no longer is. */
static int change_user(const segue__spawn_user *user) {
  if (syscall(SYS_setgroups, user->group_count, user->groups)) return -errno;
  if (syscall(SYS_setresgid, user->gid, user->gid, user->gid)) return -errno;
  if (syscall(SYS_setresuid, user->uid, user->uid, user->uid)) return -errno;
  return 0;
}

static int arrange_files(const segue__child_plan *p, int report) {
  bool join = p->options->join_output;
  if (dup2(p->input, 0) < 0 || dup2(p->ends[0], 1) < 0 || dup2(join ? 1 : p->ends[1], 2) < 0)
    return -errno;
  /* All but the report, which exec closes. */
  if (dup2(report, 3) < 0 || fcntl(3, F_SETFD, FD_CLOEXEC)) return -errno;
  return syscall(SYS_close_range, 4, ~0u, 0) ? -errno : 0;
}

static int limit_files(uint64_t files) {
  struct rlimit limit;
  if (!files) return 0;
  if (getrlimit(RLIMIT_NOFILE, &limit)) return -errno;
  limit.rlim_cur = files < limit.rlim_max ? files : limit.rlim_max;
  return setrlimit(RLIMIT_NOFILE, &limit) ? -errno : 0;
}

static void reset_signals(void) {
  struct sigaction action = {.sa_handler = SIG_DFL};
  sigset_t none;
  for (int signum = 1; signum < SIGNALS; signum++)
    (void)sigaction(signum, &action, NULL); /* not all can be set */
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
}

/* After vfork in memory that is the parent's: it writes nothing but its own variables. */
static _Noreturn __attribute__((noinline)) void become(const segue__child_plan *p, int report) {
  const segue__spawn_options *o = p->options;
  setsid();
  reset_signals();
  int rc = arrange_files(p, report);
  if (rc == 0) report = 3;
  if (rc == 0) rc = limit_files(p->files);
  if (rc == 0 && o->user) rc = change_user(o->user);
  failure what = {rc, false};
  if (rc == 0 && o->cwd && chdir(o->cwd)) what = (failure){-errno, true};
  if (what.code == 0) {
    execve(p->program, (char *const *)o->argv, o->env ? (char *const *)o->env : environ);
    what.code = -errno;
  }
  while (write(report, &what, sizeof what) < 0 && errno == EINTR)
    ;
  _exit(127);
}

/* 0 when the pipe ends without a word: exec has closed it. */
static int await_exec(int fd, bool *in_folder) {
  failure what = {0, false};
  ssize_t n;
  do
    n = read(fd, &what, sizeof what);
  while (n < 0 && errno == EINTR);
  if (n != (ssize_t)sizeof what) return 0;
  *in_folder = what.in_folder;
  return what.code;
}

int segue__child_spawn_as(segue__child_plan *plan, pid_t *pid) {
  int report[2];
  sigset_t all, old;
  if (pipe2(report, O_CLOEXEC)) return -errno;
  /* Above what the child arranges, and no handler of ours may run in it. */
  int high = fcntl(report[1], F_DUPFD_CLOEXEC, 4);
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  /* posix_spawn, which clang-tidy would rather see, cannot limit the child. become writes nothing
   * that is ours, calls nothing that does, and never returns. NOLINTNEXTLINE */
  *pid = high < 0 ? -1 : plan->options->user ? fork() : vfork();
  if (*pid == 0) become(plan, high);
  int rc = *pid < 0 ? -errno : 0;
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  if (high >= 0) close(high);
  close(report[1]);
  if (rc == 0) rc = await_exec(report[0], &plan->in_folder);
  close(report[0]);
  if (rc && *pid > 0) {
    while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
      ;
  }
  return rc;
}
