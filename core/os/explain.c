/* SPDX-License-Identifier: MIT
 *
 * System errors about paths, explained. The error number alone ("no such file or directory") makes
 * an operator search; a second look at the file system right after the failure finds the cause and
 * the remedy. The state may have changed since the failure: then the plain sentence is used.
 */
#include "explain.h"

#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "error.h"

const char *segue__shown(const char *path, char buf[SEGUE__SHOWN_MAX]) {
  size_t len = strlen(path);
  if (len < SEGUE__SHOWN_MAX) return path;
  const char *end = path + len - (SEGUE__SHOWN_MAX - 4);
  while (((unsigned char)*end & 0xc0) == 0x80)
    end++; /* not in the middle of a character */
  snprintf(buf, SEGUE__SHOWN_MAX, "...%s", end);
  return buf;
}

/* Writes the parent of path into buf. Returns false at the top. */
static bool parent_of(const char *path, char buf[PATH_MAX]) {
  size_t len = strlen(path);
  while (len > 1 && path[len - 1] == '/')
    len--;
  while (len && path[len - 1] != '/')
    len--;
  while (len > 1 && path[len - 1] == '/')
    len--;
  if (len >= PATH_MAX || (len == 1 && path[1] == 0)) return false;
  if (!len) {
    if (!strcmp(path, ".")) return false;
    strcpy(buf, ".");
    return true;
  }
  memcpy(buf, path, len);
  buf[len] = 0;
  return true;
}

/* Reads only the local file: a look-up through a directory service on the network could hang. */
static void user_name(uid_t uid, char buf[64]) {
  snprintf(buf, 64, "uid %u", (unsigned)uid);
  FILE *file = fopen("/etc/passwd", "re");
  if (!file) return;
  struct passwd entry, *found;
  char text[1024];
  while (!fgetpwent_r(file, &entry, text, sizeof text, &found)) {
    if (entry.pw_uid != uid) continue;
    snprintf(buf, 64, "%.32s (uid %u)", entry.pw_name, (unsigned)uid);
    break;
  }
  fclose(file);
}

static int explain_missing(segue_error *err, const char *verb, const char *path) {
  char shown[SEGUE__SHOWN_MAX], folder[PATH_MAX], above[PATH_MAX], target[PATH_MAX];
  const char *name = segue__shown(path, shown);
  ssize_t len = readlink(path, target, sizeof target - 1);
  if (len > 0) {
    target[len] = 0;
    return segue__errorf(err, UV_ENOENT,
                         "cannot %s %s: it is a symbolic link to %.200s, which does not exist; "
                         "create that or correct the link",
                         verb, name, target);
  }
  struct stat st;
  if (!parent_of(path, folder) || !stat(folder, &st))
    return segue__errorf(err, UV_ENOENT,
                         "cannot %s %s: it does not exist; create it or correct the path", verb,
                         name);
  while (parent_of(folder, above) && stat(above, &st))
    strcpy(folder, above);
  char shown_folder[SEGUE__SHOWN_MAX];
  return segue__errorf(err, UV_ENOENT,
                       "cannot %s %s: folder %s is missing; create it or correct the path", verb,
                       name, segue__shown(folder, shown_folder));
}

/* Finds the file itself if it can be seen, else the first folder on the way without permission to
 * pass. */
static void find_barrier(const char *verb, const char *path, char barrier[PATH_MAX]) {
  char above[PATH_MAX];
  struct stat st;
  snprintf(barrier, PATH_MAX, "%s", path);
  while (stat(barrier, &st) && parent_of(barrier, above))
    strcpy(barrier, above);
  if (!strcmp(verb, "write") && !access(barrier, W_OK) && parent_of(path, above))
    strcpy(barrier, above);
}

static int explain_forbidden(segue_error *err, int code, const char *verb, const char *path) {
  char shown[SEGUE__SHOWN_MAX], barrier[PATH_MAX], user[64], owner[64];
  struct stat st;
  find_barrier(verb, path, barrier);
  user_name(geteuid(), user);
  const char *name = segue__shown(path, shown);
  if (stat(barrier, &st))
    return segue__errorf(err, code, "cannot %s %s: permission denied to user %s", verb, name, user);
  user_name(st.st_uid, owner);
  char shown_barrier[SEGUE__SHOWN_MAX];
  bool itself = !strcmp(barrier, path);
  return segue__errorf(err, code,
                       "cannot %s %s: permission denied to user %s; %s%s has mode %04o and "
                       "belongs to %s",
                       verb, name, user, itself ? "it" : "folder ",
                       itself ? "" : segue__shown(barrier, shown_barrier),
                       (unsigned)st.st_mode & 07777, owner);
}

static int not_folder(segue_error *err, const char *verb, const char *path) {
  char shown[SEGUE__SHOWN_MAX], shown_folder[SEGUE__SHOWN_MAX], folder[PATH_MAX], above[PATH_MAX];
  struct stat st;
  if (!parent_of(path, folder)) snprintf(folder, sizeof folder, "%s", path);
  while (stat(folder, &st) && parent_of(folder, above))
    strcpy(folder, above);
  return segue__errorf(err, UV_ENOTDIR,
                       "cannot %s %s: %s is a file, not a folder; correct the path", verb,
                       segue__shown(path, shown), segue__shown(folder, shown_folder));
}

static const char *explain_remedy(int code) {
  switch (code) {
  case UV_ELOOP:
    return "its symbolic links go in a circle, or there are more than 40 of them; "
           "lead them to a file";
  case UV_ENOSPC:
    return "the file system is full; make room";
  case UV_EFBIG:
    return "the file would become larger than this process may make one; raise its limit "
           "(LimitFSIZE=, ulimit -f)";
  case -EDQUOT:
    return "the disk quota is used up; make room or raise it";
  case UV_EROFS:
    return "the file system is mounted read-only; remount it or choose another place";
  case UV_EBUSY:
    return "it is a mount point and cannot be replaced; mount its folder instead of the file";
  case UV_EMFILE:
    return "this process has too many open files; raise its limit (LimitNOFILE=, ulimit -n)";
  case UV_ENFILE:
    return "the system has too many open files; raise fs.file-max";
  case UV_ENAMETOOLONG:
    return "the path or a name in it is too long; choose a shorter one";
  default:
    return segue_strerror(code);
  }
}

int segue__explain(segue_error *err, int code, const char *verb, const char *path) {
  char shown[SEGUE__SHOWN_MAX];
  if (!err) return code;
  if (!*path)
    return segue__errorf(err, code, "cannot %s a file whose name is empty: name one", verb);
  if (code == UV_ENOENT) return explain_missing(err, verb, path);
  if (code == UV_EACCES || code == UV_EPERM) return explain_forbidden(err, code, verb, path);
  if (code == UV_ENOTDIR) return not_folder(err, verb, path);
  return segue__errorf(err, code, "cannot %s %s: %s", verb, segue__shown(path, shown),
                       explain_remedy(code));
}
