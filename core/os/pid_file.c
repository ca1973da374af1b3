/* SPDX-License-Identifier: MIT
 *
 * Pid files and /proc. The order in which a process is looked at closes the race with its end: the
 * pidfd is opened first, and then the pid file and /proc are read. A pidfd stays with its process.
 * So if the signal reaches the pidfd, the process was alive during all of that, its number was not
 * given to another one, and what /proc showed was about it.
 */
#include "pid_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "error.h"
#include "fault.h"
#include "text.h"

enum { PID_TRIES = 5, PID_FILE_BYTES = 4096, NAME_BYTES = 15, LATE_S = 10 };

/* ---- /proc ---- */

/* A process by its number. */
typedef struct process_info {
  char state; /* as in /proc/PID/stat: 'Z' has exited */
  int pid;
  uint64_t started;  /* clock ticks after the boot of the system */
  char name[64];     /* of the process: the first 15 bytes of its program, or its own choice */
  char program[256]; /* the last part of the path of its executable; "": not readable */
} process_info;

/* Reads the beginning of a file. A FIFO in the place of a pid file must not block. */
static int pid_read_text(const char *path, char *out, size_t size) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return -errno;
  ssize_t n;
  do {
    n = read(fd, out, size - 1);
  } while (n < 0 && errno == EINTR);
  int rc = n < 0 ? -errno : 0;
  close(fd);
  out[n > 0 ? n : 0] = 0;
  return rc;
}

/* "1234 (name) S 1 ...": the name may contain spaces and parentheses, so its end is the last ")".
 */
static int pid_parse_stat(char *text, process_info *out) {
  char *open = strchr(text, '('), *close = strrchr(text, ')');
  unsigned long long started = 0;
  if (!open || !close || close < open) return UV_EINVAL;
  *close = 0;
  snprintf(out->name, sizeof out->name, "%s", open + 1);
  int found = sscanf(close + 2,
                     "%c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
                     "%llu",
                     &out->state, &started);
  out->started = started;
  return found == 2 ? 0 : UV_EINVAL;
}

/* The path of a program that was replaced by a newer one ends in " (deleted)". */
static void pid_read_program(int pid, process_info *out) {
  static const char deleted[] = " (deleted)";
  char path[32], target[4096];
  snprintf(path, sizeof path, "/proc/%d/exe", pid);
  ssize_t n = readlink(path, target, sizeof target - 1);
  if (n <= 0) return;
  target[n] = 0;
  size_t len = (size_t)n, tail = sizeof deleted - 1;
  if (len > tail && !strcmp(target + len - tail, deleted)) target[len - tail] = 0;
  const char *slash = strrchr(target, '/');
  snprintf(out->program, sizeof out->program, "%.*s", (int)sizeof out->program - 1,
           slash ? slash + 1 : target);
}

/* Returns 0, UV_ESRCH if there is no such process, or the code of /proc. */
static int pid_read_process(int pid, process_info *out) {
  char path[32], text[2048];
  memset(out, 0, sizeof *out);
  out->pid = pid;
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  int rc = pid_read_text(path, text, sizeof text);
  if (rc == UV_ENOENT) rc = UV_ESRCH;
  if (!rc) rc = pid_parse_stat(text, out);
  if (!rc) pid_read_program(pid, out);
  return rc;
}

/* ---- The file ---- */

/* Reads the number of a process from the beginning of a file. err names the file and the remedy. */
static int pid_read_file(const char *path, int *pid, segue_error *err) {
  char text[PID_FILE_BYTES], *end;
  struct stat file;
  if (!stat(path, &file) && !S_ISREG(file.st_mode))
    return segue__errorf(err, UV_EINVAL,
                         "%.200s is no regular file: name the pid file of the server", path);
  int rc = pid_read_text(path, text, sizeof text);
  if (rc == UV_ENOENT)
    return segue__errorf(err, rc, "there is no pid file %.200s: is the server running?", path);
  if (rc)
    return segue__errorf(err, rc, "the pid file %.200s cannot be read: %s", path,
                         segue_strerror(rc));
  errno = 0;
  long number = strtol(text, &end, 10);
  if (errno || end == text || number < 1 || number > 4194304 ||
      (*end && !segue__is_one_of(*end, " \t\r\n")))
    return segue__errorf(err, UV_EINVAL,
                         "the pid file %.200s does not begin with the number of a process", path);
  *pid = (int)number;
  return 0;
}

/* ---- The process that is meant ---- */

static bool pid_is_named(const process_info *process, const char *name) {
  if (!strcmp(process->program, name)) return true;
  return !strncmp(process->name, name, NAME_BYTES) &&
         (strlen(name) >= NAME_BYTES || !process->name[strlen(name)]);
}

/* Without a name: "/run/nginx.pid" is of a process that is named nginx. */
static bool pid_fits_file(const process_info *process, const char *path) {
  const char *slash = strrchr(path, '/'), *file = slash ? slash + 1 : path;
  char stem[64];
  snprintf(stem, sizeof stem, "%.*s", (int)strcspn(file, "."), file);
  return *stem && pid_is_named(process, stem);
}

/* Seconds from the last change of the file to the start of the process; negative: it was there
 * before. */
static double pid_late_s(const char *path, const process_info *process) {
  struct stat file;
  struct timespec boot, now;
  long ticks = sysconf(_SC_CLK_TCK);
  if (stat(path, &file) || ticks < 1) return -1;
  if (clock_gettime(CLOCK_BOOTTIME, &boot) || clock_gettime(CLOCK_REALTIME, &now)) return -1;
  double booted = (double)(now.tv_sec - boot.tv_sec) + (double)(now.tv_nsec - boot.tv_nsec) / 1e9;
  return booted + (double)process->started / (double)ticks - (double)file.st_mtim.tv_sec;
}

static int pid_check(const char *path, const char *name, const process_info *process,
                     segue_error *err) {
  if (process->state == 'Z' || process->state == 'X')
    return segue__errorf(err, UV_ESRCH,
                         "%.200s names process %d (%s), which has exited: is the server running?",
                         path, process->pid, process->name);
  if (process->pid == getpid())
    return segue__errorf(err, SEGUE_EUSAGE,
                         "%.200s names segue itself (process %d), not the server", path,
                         process->pid);
  if (name && !pid_is_named(process, name))
    return segue__errorf(
        err, SEGUE_EUSAGE,
        "%.200s names process %d, which is %s and not %.60s: the pid file is stale", path,
        process->pid, process->name, name);
  /* A clock that was set makes a process look younger than it is, so the times count only where
   * the name of the file does not fit either. */
  double late = name ? 0 : pid_late_s(path, process);
  if (late > LATE_S && !pid_fits_file(process, path))
    return segue__errorf(
        err, SEGUE_EUSAGE,
        "%.200s names process %d (%s), which started %.0f s after the pid file was "
        "written: the pid file is stale, or else write name = \"%s\"",
        path, process->pid, process->name, late, process->name);
  return 0;
}

static int pid_gone(const char *path, int pid, segue_error *err) {
  return segue__errorf(err, UV_ESRCH,
                       "%.200s names process %d, which does not run: the pid file is stale", path,
                       pid);
}

/* Returns UV_EAGAIN if the file names another process by now. */
static int pid_signal_open(int fd, const segue__pid_file_options *options, int pid,
                           segue_error *err) {
  const char *path = options->path;
  process_info process;
  int again = 0, rc = pid_read_file(path, &again, err);
  if (rc) return rc;
  if (again != pid) return UV_EAGAIN;
  rc = pid_read_process(pid, &process);
  if (rc == UV_ESRCH) return pid_gone(path, pid, err);
  if (rc)
    return segue__errorf(err, rc, "process %d of %.200s cannot be looked at in /proc: %s", pid,
                         path, segue_strerror(rc));
  rc = pid_check(path, options->name, &process, err);
  if (!rc && options->claim && !segue__claim_act(options->claim))
    rc = segue__errorf(err, SEGUE_ECANCELLED, "the signal of %.200s is not wanted any more", path);
  if (rc || !syscall(SYS_pidfd_send_signal, fd, options->signum, NULL, 0)) return rc;
  rc = -errno;
  if (rc == UV_ESRCH) return pid_gone(path, pid, err);
  return segue__errorf(err, rc, "no signal can be sent to process %d (%s) of %.200s: %s", pid,
                       process.name, path, segue_strerror(rc));
}

int segue__pid_file_signal(const segue__pid_file_options *options, int *pid, segue_error *err) {
  const char *path = options->path;
  int rc = UV_EAGAIN;
  for (int tries = 0; rc == UV_EAGAIN && tries < PID_TRIES; tries++) {
    rc = pid_read_file(path, pid, err);
    if (rc) return rc;
    int fd = (int)syscall(SYS_pidfd_open, *pid, 0);
    /* EINVAL: the number is of a thread that is no process. */
    if (fd < 0 && (errno == ESRCH || errno == EINVAL)) return pid_gone(path, *pid, err);
    if (fd < 0) {
      rc = -errno;
      return segue__errorf(err, rc, "process %d of %.200s cannot be opened: %s", *pid, path,
                           segue_strerror(rc));
    }
    rc = SEGUE_FAULT("pid_file.opened");
    if (rc)
      segue__errorf(err, rc, "%.200s: %s", path, segue_strerror(rc));
    else
      rc = pid_signal_open(fd, options, *pid, err);
    close(fd);
  }
  if (rc == UV_EAGAIN)
    return segue__errorf(err, rc, "the pid file %.200s names another process each time", path);
  return rc;
}
