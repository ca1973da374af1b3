/* SPDX-License-Identifier: MIT
 *
 * Finds the program of a child. execvpe(3) would search this process's PATH, relative to this
 * process's folder; the child has its own PATH and folder. And this search can name the missing
 * part in the error.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "child_exec.h"
#include "error.h"
#include "explain.h"

static const char *program_search_path(const segue__child_options *o) {
  const char *const *env = o->env ? o->env : (const char *const *)environ;
  for (; env && *env; env++)
    if (!strncmp(*env, "PATH=", 5)) return *env + 5;
  return "/usr/local/bin:/usr/bin:/bin";
}

static int program_join(segue__executable *out, const segue__child_options *o, const char *folder,
                        size_t len, const char *name) {
  bool inside = o->cwd && (len ? *folder : *name) != '/';
  int n = snprintf(out->path, PATH_MAX, "%s%s%.*s%s%s", inside ? o->cwd : "", inside ? "/" : "",
                   (int)len, folder, len ? "/" : "", name);
  out->skip = inside ? strlen(o->cwd) + 1 : 0;
  return n < PATH_MAX ? 0 : UV_ENAMETOOLONG;
}

static int program_usable(const char *path) {
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
  if (code == UV_EISDIR) return segue__errorf(err, code, "cannot run %s: it is a folder", name);
  if (code == UV_EACCES && !stat(path, &st) && S_ISREG(st.st_mode) && !(st.st_mode & 0111))
    return segue__errorf(err, code, "cannot run %s: it is not executable (mode %04o); chmod +x it",
                         name, (unsigned)st.st_mode & 07777);
  return segue__explain(err, code, "run", path);
}

/* Searches the folders of PATH. A program that exists but is not executable is reported only if no
 * other one is found. */
static int program_search(const segue__child_options *o, const char *name, const char *path,
                          segue__executable *out) {
  int worst = UV_ENOENT;
  segue__executable candidate;
  for (const char *part = path;; part++) {
    size_t len = strcspn(part, ":");
    int rc = program_join(&candidate, o, len ? part : ".", len ? len : 1,
                          name); /* empty: current folder */
    if (!rc) rc = program_usable(candidate.path);
    if (!rc || (rc == UV_EACCES && worst == UV_ENOENT)) *out = candidate;
    if (!rc) return 0;
    if (rc == UV_EACCES) worst = rc;
    part += len;
    if (!*part) return worst;
  }
}

static int program_find(const segue__child_options *o, segue__executable *out, segue_error *err) {
  const char *name = o->argv[0], *path = program_search_path(o);
  if (strchr(name, '/')) {
    int rc = program_join(out, o, "", 0, name);
    if (!rc) rc = program_usable(out->path);
    return rc ? program_error(err, rc, out->path) : 0;
  }
  int rc = program_search(o, name, path, out);
  if (!rc) return 0;
  if (rc != UV_ENOENT) return program_error(err, rc, out->path);
  return segue__errorf(err, rc,
                       "cannot run %.100s: there is no such program in PATH (%.250s); install "
                       "it or give its full path",
                       name, path);
}

int segue__child_folder_error(segue_error *err, int code, const segue__child_options *o) {
  char shown[SEGUE__SHOWN_MAX];
  const char *folder = segue__shown(o->cwd, shown);
  if (!o->user)
    return segue__errorf(err, code, "cannot run %.100s in folder %s: %s", o->argv[0], folder,
                         segue_strerror(code));
  return segue__errorf(err, code, "cannot run %.100s in folder %s as user %.60s: %s", o->argv[0],
                       folder, o->user->name ? o->user->name : "without a name",
                       segue_strerror(code));
}

static int program_check_folder(const segue__child_options *o, segue_error *err) {
  struct stat st;
  if (!o->cwd) return 0;
  int rc = stat(o->cwd, &st) ? -errno : S_ISDIR(st.st_mode) ? 0 : UV_ENOTDIR;
  if (!rc && faccessat(AT_FDCWD, o->cwd, X_OK, AT_EACCESS)) rc = -errno;
  return rc ? segue__child_folder_error(err, rc, o) : 0;
}

int segue__executable_error(segue_error *err, int code, const char *program) {
  char shown[SEGUE__SHOWN_MAX];
  const char *name = segue__shown(program, shown);
  if (code == UV_ENOENT)
    return segue__errorf(err, code,
                         "cannot run %s: the interpreter or loader that it names is missing; "
                         "look at its first line",
                         name);
  if (code == -ENOEXEC)
    return segue__errorf(
        err, code, "cannot run %s: it is neither a program nor a script with a #! line", name);
  if (code == UV_E2BIG)
    return segue__errorf(err, code,
                         "cannot run %s: its arguments and environment are too long; pass them "
                         "by its standard input",
                         name);
  return program_error(err, code, program);
}

int segue__executable_find(const segue__child_options *o, segue__executable *out,
                           segue_error *err) {
  *out = (segue__executable){.path = ""};
  if (!o->argv || !o->argv[0] || !*o->argv[0])
    return segue__errorf(err, UV_EINVAL, "cannot run a command without a name: name a program");
  int rc = program_check_folder(o, err);
  return rc ? rc : program_find(o, out, err);
}
