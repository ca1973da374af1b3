/* SPDX-License-Identifier: MIT
 *
 * Starting a child by posix_spawn: it shares our memory until exec (no page tables are copied,
 * whatever our size) and the C library takes care of signal handlers and masks in between. The
 * program is looked up here rather than by posix_spawnp, because the child's PATH counts and not
 * ours, and because the error can then name what is missing. Standard input is an anonymous file
 * and not a pipe: nobody has to feed it, and a child that does not read it cannot raise SIGPIPE.
 */
#include "spawn_exec.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "error.h"
#include "explain.h"
#include "fault.h"

typedef struct child_files {
  int input;
  int write_end[2];
  int read_end[2];
} child_files;

static void close_fd(int *fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

/* Moves a descriptor out of the way of 0, 1 and 2, which a host may have closed: otherwise the
 * child's dup2 calls would run over each other. */
static int above_standard(int fd) {
  if (fd < 0) return -errno;
  if (fd > 2) return fd;
  int moved = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  int rc = moved < 0 ? -errno : moved;
  close(fd);
  return rc;
}

static int write_input(int fd, const char *data, size_t len) {
  while (len) {
    ssize_t n = write(fd, data, len);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -errno;
    data += n;
    len -= (size_t)n;
  }
  return lseek(fd, 0, SEEK_SET) < 0 ? -errno : 0;
}

static int open_input(const segue__spawn_options *o) {
  bool empty = !o->input || !o->input_len;
  int fd = above_standard(empty ? open("/dev/null", O_RDONLY | O_CLOEXEC)
                                : memfd_create("segue-input", MFD_CLOEXEC));
  if (fd < 0 || empty) return fd;
  int rc = write_input(fd, o->input, o->input_len);
  if (!rc) return fd;
  close(fd);
  return rc;
}

/* Only our end does not block; the child's must, or programs lose output. */
static int open_output(child_files *files, int stream) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC)) return -errno;
  ends[0] = above_standard(ends[0]);
  ends[1] = above_standard(ends[1]);
  files->read_end[stream] = ends[0];
  files->write_end[stream] = ends[1];
  if (ends[0] < 0) return ends[0];
  if (ends[1] < 0) return ends[1];
  return fcntl(ends[0], F_SETFL, O_NONBLOCK) ? -errno : 0;
}

static void files_close(child_files *files) {
  close_fd(&files->input);
  for (int i = 0; i < 2; i++) {
    close_fd(&files->write_end[i]);
    close_fd(&files->read_end[i]);
  }
}

static int files_open(child_files *files, const segue__spawn_options *o, segue_error *err) {
  *files = (child_files){-1, {-1, -1}, {-1, -1}};
  files->input = open_input(o);
  int rc = files->input < 0 ? files->input : open_output(files, SEGUE__STDOUT);
  if (!rc && !o->join_output) rc = open_output(files, SEGUE__STDERR);
  if (!rc) return 0;
  files_close(files);
  return segue__error_set(err, rc, "cannot run %.200s: no pipe for its input and output: %s",
                          o->argv[0], segue_strerror(rc));
}

/* ---- Finding the program ---- */

static const char *search_path(const segue__spawn_options *o) {
  const char *const *env = o->env ? o->env : (const char *const *)environ;
  for (; env && *env; env++)
    if (!strncmp(*env, "PATH=", 5)) return *env + 5;
  return "/usr/local/bin:/usr/bin:/bin";
}

typedef struct program {
  char path[PATH_MAX]; /* as we see it */
  size_t skip;         /* of path, for the child: it is in its folder already when it executes */
} program;

static int join(program *out, const segue__spawn_options *o, const char *folder, size_t len,
                const char *name) {
  bool inside = o->cwd && (len ? *folder : *name) != '/';
  int n = snprintf(out->path, PATH_MAX, "%s%s%.*s%s%s", inside ? o->cwd : "", inside ? "/" : "",
                   (int)len, folder, len ? "/" : "", name);
  out->skip = inside ? strlen(o->cwd) + 1 : 0;
  return n < PATH_MAX ? 0 : UV_ENAMETOOLONG;
}

static int usable(const char *path) {
  struct stat st;
  if (stat(path, &st)) return -errno;
  if (S_ISDIR(st.st_mode)) return UV_EISDIR;
  if (!S_ISREG(st.st_mode)) return UV_EACCES;
  return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) ? -errno : 0;
}

static int program_error(segue_error *err, int code, const char *path) {
  char shown[SEGUE__SHOWN_MAX];
  struct stat st;
  const char *name = segue__shown(path, shown);
  if (code == UV_EISDIR) return segue__error_set(err, code, "cannot run %s: it is a folder", name);
  if (code == UV_EACCES && !stat(path, &st) && S_ISREG(st.st_mode) && !(st.st_mode & 0111))
    return segue__error_set(err, code,
                            "cannot run %s: it is not executable (mode %04o); chmod +x it", name,
                            (unsigned)st.st_mode & 07777);
  return segue__explain(err, code, "run", path);
}

/* Goes through PATH; a program that is there but may not be run is told of if there is no other. */
static int search_program(const segue__spawn_options *o, const char *name, const char *path,
                          program *out) {
  int worst = UV_ENOENT;
  program candidate;
  for (const char *part = path;; part++) {
    size_t len = strcspn(part, ":");
    int rc = join(&candidate, o, len ? part : ".", len ? len : 1, name); /* empty: current folder */
    if (!rc) rc = usable(candidate.path);
    if (!rc || (rc == UV_EACCES && worst == UV_ENOENT)) *out = candidate;
    if (!rc) return 0;
    if (rc == UV_EACCES) worst = rc;
    part += len;
    if (!*part) return worst;
  }
}

static int find_program(const segue__spawn_options *o, program *out, segue_error *err) {
  const char *name = o->argv[0], *path = search_path(o);
  if (strchr(name, '/')) {
    int rc = join(out, o, "", 0, name);
    if (!rc) rc = usable(out->path);
    return rc ? program_error(err, rc, out->path) : 0;
  }
  int rc = search_program(o, name, path, out);
  if (!rc) return 0;
  if (rc != UV_ENOENT) return program_error(err, rc, out->path);
  return segue__error_set(err, rc,
                          "cannot run %.100s: there is no such program in PATH (%.250s); install "
                          "it or give its full path",
                          name, path);
}

static int folder_error(segue_error *err, int code, const segue__spawn_options *o) {
  char shown[SEGUE__SHOWN_MAX];
  return segue__error_set(err, code, "cannot run %.100s in folder %s%s: %s", o->argv[0],
                          segue__shown(o->cwd, shown), o->user ? " as that user" : "",
                          segue_strerror(code));
}

static int check_folder(const segue__spawn_options *o, segue_error *err) {
  struct stat st;
  if (!o->cwd) return 0;
  int rc = stat(o->cwd, &st) ? -errno : S_ISDIR(st.st_mode) ? 0 : UV_ENOTDIR;
  if (!rc && faccessat(AT_FDCWD, o->cwd, X_OK, AT_EACCESS)) rc = -errno;
  return rc ? folder_error(err, rc, o) : 0;
}

/* exec itself failed although the file is there. */
static int exec_error(segue_error *err, int code, const char *program) {
  char shown[SEGUE__SHOWN_MAX];
  const char *name = segue__shown(program, shown);
  if (code == UV_EPERM)
    return segue__error_set(err, code,
                            "cannot run %s as another user: only root may do that; run the daemon "
                            "as root, or leave the user out",
                            name);
  if (code == UV_ENOENT)
    return segue__error_set(err, code,
                            "cannot run %s: the interpreter or loader that it names is missing; "
                            "look at its first line",
                            name);
  if (code == -ENOEXEC)
    return segue__error_set(
        err, code, "cannot run %s: it is neither a program nor a script with a #! line", name);
  if (code == UV_E2BIG)
    return segue__error_set(err, code,
                            "cannot run %s: its arguments and environment are too long; pass them "
                            "by its standard input",
                            name);
  return program_error(err, code, program);
}

/* ---- posix_spawn ---- */

static int add_actions(posix_spawn_file_actions_t *actions, const child_files *files,
                       const segue__spawn_options *o) {
  int error_end = files->write_end[o->join_output ? SEGUE__STDOUT : SEGUE__STDERR];
  int rc = posix_spawn_file_actions_adddup2(actions, files->input, 0);
  if (!rc) rc = posix_spawn_file_actions_adddup2(actions, files->write_end[SEGUE__STDOUT], 1);
  if (!rc) rc = posix_spawn_file_actions_adddup2(actions, error_end, 2);
  /* Also what the host forgot to mark close-on-exec. */
  if (!rc) rc = posix_spawn_file_actions_addclosefrom_np(actions, 3);
  if (!rc && o->cwd) rc = posix_spawn_file_actions_addchdir_np(actions, o->cwd);
  return -rc;
}

static int set_signals(posix_spawnattr_t *attr) {
  sigset_t all, none;
  sigfillset(&all);
  sigemptyset(&none);
  posix_spawnattr_setsigdefault(attr, &all);
  posix_spawnattr_setsigmask(attr, &none);
  return -posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK |
                                             POSIX_SPAWN_SETSID);
}

static int spawn_with(const char *program, const child_files *files, const segue__spawn_options *o,
                      pid_t *pid) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attr;
  int rc = -posix_spawn_file_actions_init(&actions);
  if (rc) return rc;
  rc = -posix_spawnattr_init(&attr);
  if (!rc) {
    rc = add_actions(&actions, files, o);
    if (!rc) rc = set_signals(&attr);
    if (!rc)
      rc = -posix_spawn(pid, program, &actions, &attr, (char *const *)o->argv,
                        o->env ? (char *const *)o->env : environ);
    posix_spawnattr_destroy(&attr);
  }
  posix_spawn_file_actions_destroy(&actions);
  return rc;
}

/* The child cannot be watched: it must not run on unseen. */
static int give_up(pid_t pid, int code, const char *program, segue_error *err) {
  char shown[SEGUE__SHOWN_MAX];
  kill(-pid, SIGKILL);
  while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
    ;
  return segue__error_set(err, code, "cannot run %s: no pidfd to wait for it: %s",
                          segue__shown(program, shown), segue_strerror(code));
}

static int open_pidfd(pid_t pid) {
  int rc = SEGUE_FAULT("spawn.pidfd");
  if (rc) return rc;
  int fd = (int)syscall(SYS_pidfd_open, pid, 0);
  return fd < 0 ? -errno : fd;
}

static void hand_over(child_files *files, segue__child *out) {
  for (int i = 0; i < 2; i++) {
    out->output[i] = files->read_end[i];
    files->read_end[i] = -1;
  }
}

int segue__child_start(const segue__spawn_options *o, uint64_t limit, segue__child *out,
                       segue_error *err) {
  program found = {.path = ""};
  child_files files;
  if (!o->argv || !o->argv[0] || !*o->argv[0])
    return segue__error_set(err, UV_EINVAL, "cannot run a command without a name: name a program");
  int rc = check_folder(o, err);
  if (!rc) rc = find_program(o, &found, err);
  if (!rc) rc = files_open(&files, o, err);
  if (rc) return rc;
  const char *path = found.path + found.skip;
  segue__child_plan plan = {path,  o,    files.input, {files.write_end[0], files.write_end[1]},
                            limit, false};
  rc = o->user || limit ? segue__child_spawn_as(&plan, &out->pid)
                        : spawn_with(path, &files, o, &out->pid);
  if (rc && plan.in_folder) {
    folder_error(err, rc, o);
  } else if (rc) {
    exec_error(err, rc, found.path);
  } else {
    out->pidfd = open_pidfd(out->pid);
    if (out->pidfd < 0) rc = give_up(out->pid, out->pidfd, found.path, err);
  }
  if (!rc) hand_over(&files, out);
  files_close(&files);
  return rc;
}
