/* SPDX-License-Identifier: MIT
 *
 * The state folder. One process at a time holds its lock (by flock, which the kernel releases
 * however the holder ends); the lock file names the process. The control socket belongs into the
 * folder, but the kernel limits the path of a unix socket to 107 bytes: for a longer one the socket
 * is in the user's run-time folder, under a name made from the state folder's, and the command line
 * computes the same name.
 */
#include "state_folder.h"

#include "../config/tree.h"
#include "../os/fork_fds.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

/* "a/b/reload.lua" -> "a/b/.segue" */
static char *folder_beside(const char *policy_path) {
  const char *slash = policy_path ? strrchr(policy_path, '/') : NULL;
  segue__buf path;
  segue__buf_init(&path);
  if (slash) segue__buf_add(&path, policy_path, (size_t)(slash - policy_path) + 1);
  segue__buf_adds(&path, ".segue");
  if (!path.failed) return path.data;
  segue__buf_deinit(&path);
  return NULL;
}

static char *folder_named(const char *state, const char *policy_path) {
  const char *env = getenv("STATE_DIRECTORY");
  if (state && *state) return segue__strdup(state);
  if (env && *env) return segue__strndup(env, strcspn(env, ":"));
  return folder_beside(policy_path);
}

int segue__state_find(const char *state, const char *policy_path, char **out, segue_error *err) {
  char real[PATH_MAX];
  *out = folder_named(state, policy_path);
  if (!*out) return segue__errorf(err, UV_ENOMEM, "out of memory");
  if (!realpath(*out, real)) return 0;
  char *absolute = segue__strdup(real);
  if (absolute) {
    segue__free(*out);
    *out = absolute;
  }
  return 0;
}

/* Checks that no other user (except root) can write a file. Files in the state folder are trusted:
 * the last good generation contains a policy, which runs with the rights of this process. The mode
 * of a symbolic link has no meaning, so only its owner is checked. */
static int check_private(const char *path, const struct stat *st, const char *what,
                         segue_error *err) {
  bool link = S_ISLNK(st->st_mode);
  if (st->st_uid != geteuid() && st->st_uid != 0)
    return segue__errorf(err, UV_EPERM,
                         "%s %s belongs to another user (uid %ld), who could make this process "
                         "run a policy: remove it, or chown it to uid %ld if you know what is "
                         "in it",
                         what, path, (long)st->st_uid, (long)geteuid());
  if (!link && (st->st_mode & 022))
    return segue__errorf(err, UV_EPERM,
                         "%s %s can be written by other users (mode %04o), who could make this "
                         "process run a policy: chmod go-w, or choose a folder that is not "
                         "there yet",
                         what, path, (unsigned)st->st_mode & 07777);
  return 0;
}

static int make_folder(const char *folder, segue_error *err) {
  struct stat st;
  if (mkdir(folder, 0700) < 0 && errno != EEXIST)
    return segue__errorf(err, -errno,
                         "cannot make the state folder %s: %s; choose another (option state)",
                         folder, strerror(errno));
  if (stat(folder, &st) < 0)
    return segue__errorf(err, -errno, "cannot use the state folder %s: %s", folder,
                         strerror(errno));
  if (!S_ISDIR(st.st_mode))
    return segue__errorf(err, UV_ENOTDIR,
                         "the state folder %s is not a folder: choose another (option state)",
                         folder);
  return check_private(folder, &st, "the state folder", err);
}

static bool is_dot(const char *name) {
  return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

/* A file that was removed meanwhile is no danger; a file that cannot be checked may be one. */
static int check_entry(int dir, const char *folder, const char *name, segue_error *err) {
  char path[PATH_MAX + 256];
  struct stat st, target;
  snprintf(path, sizeof path, "%s/%s", folder, name);
  if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
    if (errno == ENOENT) return 0;
    return segue__errorf(err, -errno, "cannot check the state file %s: %s", path, strerror(errno));
  }
  int rc = S_ISSOCK(st.st_mode) ? 0 : check_private(path, &st, "the state file", err);
  if (rc == 0 && S_ISLNK(st.st_mode) && fstatat(dir, name, &target, 0) == 0)
    rc = check_private(path, &target, "the state file", err);
  return rc;
}

/* Checks files that were put here while other users could write to the folder: they are still
 * there, and the policy of a last good generation is run. From now on no other user can add one. */
static int check_files(const char *folder, segue_error *err) {
  DIR *dir = opendir(folder);
  int rc = 0;
  if (!dir)
    return segue__errorf(err, -errno, "cannot read the state folder %s: %s", folder,
                         strerror(errno));
  while (rc == 0) {
    errno = 0;
    const struct dirent *e = readdir(dir);
    if (!e && errno) /* the rest was not checked */
      rc = segue__errorf(err, -errno, "cannot read the state folder %s: %s", folder,
                         strerror(errno));
    if (!e) break;
    if (!is_dot(e->d_name)) rc = check_entry(dirfd(dir), folder, e->d_name, err);
  }
  closedir(dir);
  return rc;
}

static int folder_taken(int fd, const char *folder, segue_error *err) {
  char pid[32] = "";
  ssize_t n = pread(fd, pid, sizeof pid - 1, 0);
  pid[n > 0 ? strcspn(pid, "\n") : 0] = 0;
  return segue__errorf(err, UV_EBUSY,
                       "another segue (pid %s) uses the state folder %s: stop it or choose "
                       "another (option state)",
                       pid[0] ? pid : "unknown", folder);
}

/* The process id is written only after the lock is held, so the file never names a process that
 * failed to take it. */
static int take_lock(const char *folder, int *out, segue_error *err) {
  char path[PATH_MAX + 8], pid[32];
  snprintf(path, sizeof path, "%s/lock", folder);
  segue__fork_hold();
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  segue__fork_mark(fd);
  segue__fork_release();
  if (fd < 0)
    return segue__errorf(err, -errno, "cannot open %s: %s; choose another folder (option state)",
                         path, strerror(errno));
  if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
    int rc = errno == EWOULDBLOCK
                 ? folder_taken(fd, folder, err)
                 : segue__errorf(err, -errno, "cannot lock %s: %s", path, strerror(errno));
    segue__fork_close(fd);
    return rc;
  }
  int len = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
  if (ftruncate(fd, 0) < 0 || pwrite(fd, pid, (size_t)len, 0) != len) {
    int rc = segue__errorf(err, -errno, "cannot write %s: %s", path, strerror(errno));
    segue__fork_close(fd);
    return rc;
  }
  *out = fd;
  return 0;
}

int segue__state_open(segue__state *out, const char *folder, segue_error *err) {
  char real[PATH_MAX];
  memset(out, 0, sizeof *out);
  out->lock_fd = -1;
  int rc = make_folder(folder, err);
  if (rc < 0) return rc;
  if (!realpath(folder, real))
    return segue__errorf(err, -errno, "cannot use the state folder %s: %s", folder,
                         strerror(errno));
  out->folder = segue__strdup(real);
  if (!out->folder) return segue__errorf(err, UV_ENOMEM, "out of memory");
  rc = check_files(real, err);
  if (rc == 0) rc = take_lock(real, &out->lock_fd, err);
  if (rc == 0) rc = segue__state_socket(real, true, out->socket, err);
  if (rc < 0) segue__state_close(out);
  return rc;
}

bool segue__state_is_ours(const segue__state *state) {
  char path[PATH_MAX + 8];
  struct stat held, there;
  snprintf(path, sizeof path, "%s/lock", state->folder);
  return fstat(state->lock_fd, &held) == 0 && lstat(path, &there) == 0 &&
         held.st_dev == there.st_dev && held.st_ino == there.st_ino;
}

/* The new lock is taken before the old one is released: if that fails, the instance keeps the old
 * one, and tries again a second later. */
int segue__state_retake(segue__state *state, segue_error *err) {
  int fd = -1;
  int rc = make_folder(state->folder, err);
  if (rc == 0) rc = take_lock(state->folder, &fd, err);
  if (rc < 0) return rc;
  flock(state->lock_fd, LOCK_UN);
  segue__fork_close(state->lock_fd);
  state->lock_fd = fd;
  return 0;
}

void segue__state_close(segue__state *state) {
  if (!state->folder) return;
  /* A forked child shares the lock until its handler of fork has run, and a child of a raw clone(2)
   * as long as it lives. So closing our descriptor would not release the lock. The file stays:
   * removing it would race with the next holder. */
  if (state->lock_fd >= 0) {
    flock(state->lock_fd, LOCK_UN);
    segue__fork_close(state->lock_fd);
  }
  segue__free(state->folder);
  memset(state, 0, sizeof *state);
  state->lock_fd = -1;
}

/* Checks, or makes, a folder of this user that no other user can write to. */
static int private_folder(const char *path, bool make, segue_error *err) {
  struct stat st;
  if (make && mkdir(path, 0700) < 0 && errno != EEXIST)
    return segue__errorf(err, -errno, "cannot make the run-time folder %s: %s", path,
                         strerror(errno));
  if (lstat(path, &st) < 0)
    return segue__errorf(err, -errno, "cannot use the run-time folder %s: %s", path,
                         strerror(errno));
  if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022))
    return segue__errorf(
        err, UV_EPERM,
        "%s must be a folder that only this user can write: remove it, or choose a "
        "socket (option socket)",
        path);
  return 0;
}

/* The name is computed from the path of the state folder alone, so the command line finds the
 * socket without asking the daemon. In /tmp another user could have made the folder first:
 * private_folder rejects it then. */
int segue__state_socket(const char *folder, bool make, char out[SEGUE__SOCKET_MAX + 1],
                        segue_error *err) {
  size_t size = SEGUE__SOCKET_MAX + 1;
  if ((size_t)snprintf(out, size, "%s/control.sock", folder) < size) return 0;
  char base[64], hash[33];
  const char *runtime = getenv("XDG_RUNTIME_DIR");
  if (runtime && *runtime && strlen(runtime) < sizeof base - 8)
    snprintf(base, sizeof base, "%s/segue", runtime);
  else
    snprintf(base, sizeof base, "/tmp/segue-%ld", (long)geteuid());
  int rc = private_folder(base, make, err);
  if (rc < 0) return rc;
  segue__hash_hex(segue__hash_bytes(folder, strlen(folder), (segue__hash){0, 0}), hash);
  snprintf(out, size, "%s/%.16s.sock", base, hash);
  return 0;
}
