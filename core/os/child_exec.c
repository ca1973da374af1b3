/* SPDX-License-Identifier: MIT
 *
 * Starting a child by clone(2) and execve(2). posix_spawn cannot set a user, a limit or a file mode
 * mask, and cannot write the process id of the child into its environment, which LISTEN_PID needs.
 *
 * For this process's own user the child shares the memory until it executes (CLONE_VM): no page
 * table is copied, however large the process is. A child of another user gets a copy instead: in
 * shared memory a process of that user could change this one between setresuid(2) and execve(2). In
 * both cases CLONE_VFORK suspends the calling thread until the program is executed, and the stack
 * of the child is a shared mapping: what failed is written there, and no pipe is needed to bring it
 * back. CLONE_PIDFD returns a pidfd that cannot be another process's, also if the host waits for
 * any child and reaps this one at once.
 *
 * The functions marked CHILD_SIDE run in the child. The other threads of this process run on in the
 * same memory, so those functions call no library function: a lock could be held, and the C library
 * and the sanitizers would note the child's signal handlers, closed descriptors and user ids as
 * this process's. They make system calls, and write nothing but their stack, the report and the
 * digits of the process id.
 */
#include "child_exec.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "error.h"
#include "fault.h"
#include "mem.h"
#include "write.h"

#define CHILD_SIDE __attribute__((no_sanitize("address", "thread", "undefined")))

enum { STACK_BYTES = 65536, FIRST_FILE = 3, SIGNALS = 64, SIGSET_BYTES = 8 };

/* The steps of the child that can fail, for the error message. */
typedef enum step {
  STEP_NONE,
  STEP_SESSION,
  STEP_TERMINAL,
  STEP_NICE,
  STEP_OOM,
  STEP_FILES,
  STEP_LIMIT,
  STEP_GROUPS,
  STEP_USER,
  STEP_FOLDER,
  STEP_EXEC
} step;

typedef struct report {
  step step;
  int code;     /* negative */
  size_t index; /* of the limit */
} report;

typedef struct plan {
  const segue__child_options *options;
  const char *program;
  segue__child_env env;
  uint64_t open_files;
  int *sources; /* by number in the child; each is above all of those numbers */
  int source_count;
  pid_t parent;
  report *report; /* in memory that the child shares */
} plan;

/* ---- In the child ------------------------------------------------------------------------------
 */

CHILD_SIDE static void child_check(const plan *p, step step, size_t index, long rc) {
  if (rc >= 0) return;
  *p->report = (report){step, -errno, index};
  for (;;)
    syscall(SYS_exit_group, 127);
}

/* The kernel's own structure, in which zero is the default: the C library's sigaction() would note
 * the change in memory that is this process's, and refuses the two signals that it uses itself. */
CHILD_SIDE static void child_reset_signals(void) {
  const unsigned long zero[8] = {0};
  for (int signum = 1; signum <= SIGNALS; signum++)
    syscall(SYS_rt_sigaction, signum, zero, NULL, SIGSET_BYTES); /* KILL and STOP: EINVAL */
}

CHILD_SIDE static void child_unblock_signals(void) {
  const unsigned long none = 0;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, SIGSET_BYTES);
}

/* Writes a number into text, terminated; returns its length. */
CHILD_SIDE static size_t child_write_number(char *text, long number) {
  char digits[20];
  size_t n = 0, len = 0;
  if (number < 0) text[len++] = '-';
  unsigned long rest = number < 0 ? 0ul - (unsigned long)number : (unsigned long)number;
  do
    digits[n++] = (char)('0' + rest % 10);
  while (rest /= 10);
  while (n)
    text[len++] = digits[--n];
  text[len] = 0;
  return len;
}

CHILD_SIDE static void child_set_oom(const plan *p) {
  char text[24];
  size_t len = child_write_number(text, *p->options->oom_score_adj);
  long fd = syscall(SYS_openat, AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC, 0);
  child_check(p, STEP_OOM, 0, fd);
  child_check(p, STEP_OOM, 0, syscall(SYS_write, fd, text, len));
}

/* Every source is above every target, so no dup3 closes a source that is still needed. close_range
 * closes all other descriptors, also the ones that a host forgot to mark close-on-exec. */
CHILD_SIDE static void child_arrange_files(const plan *p) {
  for (int i = 0; i < p->source_count; i++)
    child_check(p, STEP_FILES, 0, syscall(SYS_dup3, p->sources[i], i, 0));
  child_check(p, STEP_FILES, 0, syscall(SYS_close_range, p->source_count, ~0u, 0));
}

CHILD_SIDE static void child_limit(const plan *p) {
  const segue__child_options *o = p->options;
  struct rlimit64 limit;
  if (p->open_files) {
    child_check(p, STEP_LIMIT, o->limit_count,
                syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit));
    limit.rlim_cur = p->open_files < limit.rlim_max ? p->open_files : limit.rlim_max;
    child_check(p, STEP_LIMIT, o->limit_count,
                syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &limit, NULL));
  }
  for (size_t i = 0; i < o->limit_count; i++) {
    limit = (struct rlimit64){o->limits[i].soft, o->limits[i].hard};
    child_check(p, STEP_LIMIT, i, syscall(SYS_prlimit64, 0, o->limits[i].resource, &limit, NULL));
  }
}

CHILD_SIDE static void child_change_user(const plan *p) {
  const segue__user *user = p->options->user;
  child_check(p, STEP_GROUPS, 0, syscall(SYS_setgroups, user->group_count, user->groups));
  child_check(p, STEP_GROUPS, 0, syscall(SYS_setresgid, user->gid, user->gid, user->gid));
  child_check(p, STEP_USER, 0, syscall(SYS_setresuid, user->uid, user->uid, user->uid));
}

/* A job of an interactive session: its own process group, in the foreground of the terminal before
 * the program can read from it. A process outside of the foreground group that calls TIOCSPGRP gets
 * SIGTTOU; all signals are still blocked here, and the kernel lets the call through then. */
CHILD_SIDE static void child_enter_group(const plan *p) {
  const segue__child_options *o = p->options;
  if (!o->own_group) {
    child_check(p, STEP_SESSION, 0, syscall(SYS_setsid));
    return;
  }
  child_check(p, STEP_SESSION, 0, syscall(SYS_setpgid, 0, 0));
  if (!o->terminal) return;
  pid_t group = (pid_t)syscall(SYS_getpid);
  child_check(p, STEP_TERMINAL, 0, syscall(SYS_ioctl, *o->terminal, TIOCSPGRP, &group));
}

/* After the change of the user, which clears the request. A parent that ended before the request
 * was made would never be noticed, so the child looks for it afterwards. */
CHILD_SIDE static void child_tie_to_parent(const plan *p) {
  child_check(p, STEP_SESSION, 0, syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0));
  if (syscall(SYS_getppid) == p->parent) return;
  for (;;)
    syscall(SYS_exit_group, 127);
}

/* Steps that need privilege come before the change of the user. The folder is entered after it: the
 * child's user must have the right to enter it. */
CHILD_SIDE static int child_main(void *arg) {
  const plan *p = arg;
  const segue__child_options *o = p->options;
  child_reset_signals();
  child_enter_group(p);
  if (o->nice) child_check(p, STEP_NICE, 0, syscall(SYS_setpriority, PRIO_PROCESS, 0, *o->nice));
  if (o->oom_score_adj) child_set_oom(p);
  child_arrange_files(p);
  child_limit(p);
  if (o->umask) syscall(SYS_umask, *o->umask);
  if (o->user) child_change_user(p);
  if (o->dies_with_parent) child_tie_to_parent(p);
  if (o->cwd) child_check(p, STEP_FOLDER, 0, syscall(SYS_chdir, o->cwd));
  for (int i = 0; i < 2; i++)
    if (p->env.pid_digits[i]) child_write_number(p->env.pid_digits[i], syscall(SYS_getpid));
  child_unblock_signals();
  child_check(p, STEP_EXEC, 0, syscall(SYS_execve, p->program, o->argv, p->env.entries));
  return 127;
}

/* ---- Its descriptors ---------------------------------------------------------------------------
 */

/* The descriptors that the child gets, and the other ends of its output pipes. */
typedef struct child_files {
  int sources[FIRST_FILE + SEGUE__CHILD_FILES_MAX];
  int count, lowest;
  int read_end[2];
} child_files;

/* Sets the number to -1, so that no number is closed twice. */
static void files_close_fd(int *fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

static void files_close(child_files *files) {
  for (int i = 0; i < files->count; i++)
    files_close_fd(&files->sources[i]);
  for (int i = 0; i < 2; i++)
    files_close_fd(&files->read_end[i]);
}

/* Adds a duplicate above every number that the child uses. */
static int files_add_copy(child_files *files, int fd) {
  int copy = fcntl(fd, F_DUPFD_CLOEXEC, files->lowest);
  if (copy < 0) return -errno;
  files->sources[files->count++] = copy;
  return 0;
}

static int files_add_own(child_files *files, int fd) {
  if (fd < 0) return fd;
  int rc = files_add_copy(files, fd);
  close(fd);
  return rc;
}

/* The input is an anonymous file and not a pipe: nothing has to feed it, and a child that does not
 * read it causes no SIGPIPE. */
static int files_open_input(const segue__child_options *o) {
  if (!o->input || !o->input_len) {
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
  }
  int fd = memfd_create("segue-input", MFD_CLOEXEC);
  if (fd < 0) return -errno;
  int rc = segue__write_all(fd, o->input, o->input_len, NULL);
  if (!rc && lseek(fd, 0, SEEK_SET) < 0) rc = -errno;
  if (!rc) return fd;
  close(fd);
  return rc;
}

/* The read end is moved above 0, 1 and 2, which a host may have closed: a later printf() of the
 * host must not meet it. */
static int files_open_output(child_files *files, segue__stream stream) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC)) return -errno;
  int rc = files_add_own(files, ends[1]);
  int fd = fcntl(ends[0], F_DUPFD_CLOEXEC, FIRST_FILE);
  if (!rc && fd < 0) rc = -errno;
  close(ends[0]);
  files->read_end[stream] = fd;
  if (!rc && fcntl(fd, F_SETFL, O_NONBLOCK)) rc = -errno;
  return rc;
}

static int files_add_standard(child_files *files, const segue__child_options *o, int number) {
  if (o->stdio && o->stdio[number] >= 0) return files_add_copy(files, o->stdio[number]);
  if (number == 0) return files_add_own(files, files_open_input(o));
  if (number == 2 && o->join_output) return files_add_copy(files, files->sources[1]);
  return files_open_output(files, number == 1 ? SEGUE__STDOUT : SEGUE__STDERR);
}

static int files_error(segue_error *err, int code, const segue__child_options *o, size_t index) {
  const char *name = o->files[index].name;
  return segue__errorf(err, code, "cannot run %.100s: descriptor %d (%.100s): %s", o->argv[0],
                       o->files[index].fd, name ? name : "without a name", segue_strerror(code));
}

static int files_open(child_files *files, const segue__child_options *o, segue_error *err) {
  if (o->file_count > SEGUE__CHILD_FILES_MAX)
    return segue__errorf(err, UV_EINVAL, "cannot run %.100s: more than %d descriptors", o->argv[0],
                         SEGUE__CHILD_FILES_MAX);
  files->lowest = FIRST_FILE + (int)o->file_count;
  files->read_end[0] = files->read_end[1] = -1;
  int rc = 0;
  for (int i = 0; i < FIRST_FILE && !rc; i++)
    rc = files_add_standard(files, o, i);
  if (rc)
    segue__errorf(err, rc, "cannot run %.200s: no pipe for its input and output: %s", o->argv[0],
                  segue_strerror(rc));
  for (size_t i = 0; i < o->file_count && !rc; i++) {
    rc = files_add_copy(files, o->files[i].fd);
    if (rc) files_error(err, rc, o, i);
  }
  if (rc) files_close(files);
  return rc;
}

/* ---- Errors ------------------------------------------------------------------------------------
 */

static const struct {
  const char *name;
  int resource;
} limit_names[] = {
    {"as", RLIMIT_AS},           {"core", RLIMIT_CORE},
    {"cpu", RLIMIT_CPU},         {"data", RLIMIT_DATA},
    {"fsize", RLIMIT_FSIZE},     {"locks", RLIMIT_LOCKS},
    {"memlock", RLIMIT_MEMLOCK}, {"msgqueue", RLIMIT_MSGQUEUE},
    {"nice", RLIMIT_NICE},       {"nofile", RLIMIT_NOFILE},
    {"nproc", RLIMIT_NPROC},     {"rss", RLIMIT_RSS},
    {"rtprio", RLIMIT_RTPRIO},   {"rttime", RLIMIT_RTTIME},
    {"stack", RLIMIT_STACK},     {"sigpending", RLIMIT_SIGPENDING},
};

int segue__child_limit_find(const char *name) {
  for (size_t i = 0; i < sizeof limit_names / sizeof *limit_names; i++)
    if (!strcmp(name, limit_names[i].name)) return limit_names[i].resource;
  return -1;
}

const char *segue__child_limit_name(int resource) {
  for (size_t i = 0; i < sizeof limit_names / sizeof *limit_names; i++)
    if (resource == limit_names[i].resource) return limit_names[i].name;
  return "without a name";
}

static int limit_error(segue_error *err, const plan *p) {
  const segue__child_options *o = p->options;
  const report *r = p->report;
  const char *program = o->argv[0];
  if (r->index == o->limit_count)
    return segue__errorf(err, r->code, "cannot run %.100s with %llu open files: %s", program,
                         (unsigned long long)p->open_files, segue_strerror(r->code));
  const segue__child_limit *limit = &o->limits[r->index];
  return segue__errorf(err, r->code, "cannot run %.100s with limit %s = %lld:%lld: %s%s", program,
                       segue__child_limit_name(limit->resource), (long long)limit->soft,
                       (long long)limit->hard, segue_strerror(r->code),
                       r->code == UV_EPERM ? " (a hard limit can only be raised as root)" : "");
}

static int child_exec_user_error(segue_error *err, const plan *p) {
  const segue__child_options *o = p->options;
  const segue__user *user = o->user;
  char name[64];
  if (user->name)
    snprintf(name, sizeof name, "%.60s", user->name);
  else
    snprintf(name, sizeof name, "%u", user->uid);
  const char *what = p->report->step == STEP_GROUPS ? "its groups" : "its user id";
  int code = p->report->code;
  if (code == UV_EPERM)
    return segue__errorf(err, code,
                         "cannot run %.100s as user %s: only root may do that; run the daemon as "
                         "root, or leave the user out",
                         o->argv[0], name);
  return segue__errorf(err, code, "cannot run %.100s as user %s: %s cannot be set: %s", o->argv[0],
                       name, what, segue_strerror(code));
}

static int report_error(segue_error *err, const plan *p, const char *path) {
  const segue__child_options *o = p->options;
  int code = p->report->code;
  switch (p->report->step) {
  case STEP_EXEC:
    return segue__executable_error(err, code, path);
  case STEP_FOLDER:
    return segue__child_folder_error(err, code, o);
  case STEP_LIMIT:
    return limit_error(err, p);
  case STEP_GROUPS:
  case STEP_USER:
    return child_exec_user_error(err, p);
  case STEP_NICE:
    return segue__errorf(err, code, "cannot run %.100s with nice = %d: %s%s", o->argv[0], *o->nice,
                         segue_strerror(code),
                         code == UV_EACCES ? " (only root may lower it)" : "");
  case STEP_OOM:
    return segue__errorf(err, code, "cannot run %.100s with oom_score_adj = %d: %s%s", o->argv[0],
                         *o->oom_score_adj, segue_strerror(code),
                         code == UV_EACCES ? " (only root may lower it)" : "");
  default:
    return segue__errorf(err, code, "cannot run %.100s: its %s cannot be set up: %s", o->argv[0],
                         p->report->step == STEP_FILES      ? "descriptors"
                         : p->report->step == STEP_TERMINAL ? "terminal"
                                                            : "session",
                         segue_strerror(code));
  }
}

/* ---- Start -------------------------------------------------------------------------------------
 */

/* The stack grows down to a page without access; the report lies above it. */
static char *map_stack(size_t *size) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  *size = STACK_BYTES + page;
  char *stack = mmap(NULL, *size, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
  if (stack == MAP_FAILED) return NULL;
  if (!mprotect(stack, page, PROT_NONE)) return stack;
  munmap(stack, *size);
  return NULL;
}

/* All signals are blocked around the call: a handler of this process must not run in the child
 * while the child shares the memory. */
static int clone_child(plan *p, char *stack, size_t size, segue__executed *out) {
  sigset_t all, old;
  size_t top = (size - sizeof *p->report) & ~(size_t)63;
  p->report = (report *)(void *)(stack + top);
  int rc = SEGUE_FAULT("child.clone");
  if (rc) return rc;
  int flags = CLONE_VFORK | CLONE_PIDFD | SIGCHLD | (p->options->user ? 0 : CLONE_VM);
#ifdef __SANITIZE_THREAD__
  /* ThreadSanitizer takes clone(2) for fork(2). In shared memory it would take this process for the
   * child: it forbids new threads, and reports races that do not exist. */
  flags &= ~CLONE_VM;
#endif
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  out->pid = clone(child_main, stack + top, flags, p, &out->pidfd);
  rc = out->pid < 0 ? -errno : 0;
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  return rc;
}

/* The child ended before it executed the program: only its exit status is left to reap. */
static void reap_failed(segue__executed *out) {
  while (waitpid(out->pid, NULL, __WALL) < 0 && errno == EINTR)
    ;
  close(out->pidfd);
}

static int run_plan(plan *p, const char *path, segue__executed *out, segue_error *err) {
  size_t size;
  char *stack = map_stack(&size);
  int rc = stack ? clone_child(p, stack, size, out) : UV_ENOMEM;
  if (rc) {
    segue__errorf(err, rc, "cannot run %.200s: no process for it: %s%s", path, segue_strerror(rc),
                  rc == UV_EAGAIN ? " (the limit of processes is reached)" : "");
  } else if (p->report->step != STEP_NONE) {
    rc = report_error(err, p, path);
    reap_failed(out);
  }
  if (stack) munmap(stack, size);
  return rc;
}

int segue__child_execute(const segue__child_options *o, uint64_t open_files, const char *notify,
                         segue__executed *out, segue_error *err) {
  segue__executable found;
  child_files files = {0};
  plan p = {.options = o, .open_files = open_files, .parent = getpid()};
  int rc = segue__executable_find(o, &found, err);
  if (!rc) rc = segue__child_env_make(o, notify, &p.env, err);
  if (rc) return rc;
  rc = files_open(&files, o, err);
  if (!rc) {
    p.program = found.path + found.skip;
    p.sources = files.sources;
    p.source_count = files.count;
    rc = run_plan(&p, found.path, out, err);
    for (int i = 0; i < 2 && !rc; i++) {
      out->output[i] = files.read_end[i];
      files.read_end[i] = -1;
    }
    files_close(&files);
  }
  segue__child_env_free(&p.env);
  return rc;
}
