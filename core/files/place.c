/* SPDX-License-Identifier: MIT
 *
 * Where a file goes: a relative destination made absolute, folders that are missing made, symbolic
 * links resolved, and the allowed root kept. The root is compared after links are resolved, because
 * a link inside of it may lead out.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "../config/printable.h"
#include "../os/explain.h"
#include "internal.h"

/* ---- The text of a destination ---- */

/* Control characters and bytes that are no UTF-8 are refused: the path goes into messages, JSON and
 * commands. */
static int place_check_text(const char *to, segue_error *err) {
  size_t len = strlen(to);
  uint32_t code;
  if (!len) return segue__errorf(err, SEGUE_EUSAGE, "a file has an empty destination: name one");
  for (size_t i = 0; i < len; i++) {
    if (!segue__printable_odd(to + i, len - i, &code)) continue;
    if ((unsigned char)to[i] >= 0x80 && (to[i] & 0xc0) == 0x80) continue; /* inside a character */
    return segue__errorf(err, SEGUE_EUSAGE,
                         "a destination has the character U+%04X at byte %zu: use names without "
                         "control characters",
                         (unsigned)code, i + 1);
  }
  if (to[len - 1] == '/')
    return segue__errorf(err, UV_EISDIR, "cannot write %s: it names a folder; name a file in it",
                         to);
  return 0;
}

static bool place_has_parent_step(const char *to) {
  for (const char *at = to; (at = strstr(at, "..")); at += 2)
    if ((at == to || at[-1] == '/') && (!at[2] || at[2] == '/')) return true;
  return false;
}

static int place_join(const char *folder, const char *to, char path[PATH_MAX], segue_error *err) {
  bool absolute = *to == '/';
  if ((absolute ? 0 : strlen(folder) + 1) + strlen(to) >= PATH_MAX)
    return segue__explain(err, UV_ENAMETOOLONG, "write", to);
  *path = 0;
  if (!absolute) strcat(strcpy(path, folder), "/");
  strcat(path, to);
  return 0;
}

/* ---- Folders ---- */

static int place_make(segue__file_set *set, const char *folder, const char *path,
                      segue_error *err) {
  char **made = segue__realloc(set->made, (set->made_count + 1) * sizeof *made);
  char *copy = segue__strdup(folder);
  if (made) set->made = made;
  if (!made || !copy) {
    segue__free(copy);
    return segue__errorf(err, UV_ENOMEM, "cannot write %s: out of memory", path);
  }
  if (!mkdir(folder, 0755)) {
    set->made[set->made_count++] = copy;
    return 0;
  }
  segue__free(copy);
  return errno == EEXIST ? 0 : segue__explain(err, -errno, "make folder", folder);
}

/* Makes the folders above path that are missing. path is not changed when it returns. */
static int place_make_parents(segue__file_set *set, char *path, segue_error *err) {
  struct stat st;
  for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
    *slash = 0;
    int rc = stat(path, &st) && errno == ENOENT ? place_make(set, path, path, err) : 0;
    *slash = '/';
    if (rc) return rc;
  }
  return 0;
}

/* The lock file goes only if nothing else is in the folder. */
static void place_unmake(const char *folder) {
  DIR *dir = opendir(folder);
  bool empty = dir != NULL, lock = false;
  for (const struct dirent *entry; dir && (entry = readdir(dir));) {
    if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
    bool is_lock = !strcmp(entry->d_name, SEGUE__FILE_LOCK);
    lock |= is_lock;
    empty &= is_lock;
  }
  if (empty && lock) (void)unlinkat(dirfd(dir), SEGUE__FILE_LOCK, 0);
  if (dir) closedir(dir);
  if (empty) (void)rmdir(folder);
}

void segue__file_unmake(segue__file_set *set) {
  while (set->made_count) {
    char *folder = set->made[--set->made_count];
    place_unmake(folder);
    segue__free(folder);
  }
  segue__free(set->made);
  set->made = NULL;
}

/* ---- The allowed root ---- */

static int place_check_below(const char *to, const char *path, const char *root, segue_error *err) {
  size_t len = strcmp(root, "/") ? strlen(root) : 0;
  if (!strncmp(path, root, len) && path[len] == '/') return 0;
  return segue__errorf(err, UV_EACCES,
                       "cannot write %.200s: it is outside of %.200s, the root of this module's "
                       "files; correct the path or the root",
                       to, root);
}

static int place_check_root(const segue__file_set *set, const char *to, const char *path,
                            segue_error *err) {
  char joined[PATH_MAX], root[PATH_MAX];
  if (!set->root) return 0;
  int rc = place_join(set->folder, set->root, joined, err);
  if (rc) return rc;
  if (!realpath(joined, root)) return segue__explain(err, -errno, "use", joined);
  return place_check_below(to, path, root, err);
}

/* Before a folder is made: the folders that exist must be inside of the root, and outside of the
 * folder of a generation. */
static int place_check_parents(const segue__file_set *set, const char *to, const char *path,
                               segue_error *err) {
  char above[PATH_MAX], real[PATH_MAX + 1];
  const char *found;
  int code;
  strcpy(above, path);
  do {
    char *slash = strrchr(above, '/');
    slash[slash == above] = 0;
    found = realpath(above, real);
    code = -errno;
  } while (!found && code == UV_ENOENT && above[1]);
  if (!found) return segue__explain(err, code, "write", to);
  strcat(real, "/"); /* the root itself is inside */
  int rc = segue__folder_check_path(to, real, err);
  return rc || !set->root ? rc : place_check_root(set, to, real, err);
}

/* ---- All of it ---- */

/* Resolves the folder of path, and path itself if it is a link that is to be followed. */
static int place_resolve(const segue__set_file *file, char path[PATH_MAX], segue_error *err) {
  char folder[PATH_MAX];
  struct stat st;
  if (!lstat(path, &st) && S_ISLNK(st.st_mode) && !file->replace_link) {
    char real[PATH_MAX];
    if (!realpath(path, real)) return segue__explain(err, -errno, "write", path);
    strcpy(path, real);
    return 0;
  }
  char *slash = strrchr(path, '/');
  const char *name = slash + 1;
  char first = slash[1];
  slash[1] = 0;
  const char *real = realpath(path, folder);
  int code = -errno;
  slash[1] = first;
  if (!real) return segue__explain(err, code, "write", path);
  if (strlen(folder) + 1 + strlen(name) >= PATH_MAX)
    return segue__explain(err, UV_ENAMETOOLONG, "write", path);
  if (strcmp(folder, "/") != 0) strcat(folder, "/");
  strcat(folder, name);
  strcpy(path, folder);
  return 0;
}

/* Removes "." and ".." and doubled slashes, as text: no link is known. */
static void place_normalize(char path[PATH_MAX]) {
  char *out = path;
  for (const char *at = path; *at;) {
    const char *end = strchrnul(at + 1, '/');
    size_t len = (size_t)(end - at);
    if (len == 3 && !strncmp(at, "/..", 3)) {
      while (out > path && *--out != '/') {
      }
    } else if (len > 1 && !(len == 2 && at[1] == '.')) {
      memmove(out, at, len);
      out += len;
    }
    at = end;
  }
  if (out == path) *out++ = '/';
  *out = 0;
}

/* In a rehearsal no folder needs to exist, and no link does. */
static int place_simulated(const segue__file_set *set, segue__set_file *file, segue_error *err) {
  char path[PATH_MAX] = "", root[PATH_MAX] = "";
  int rc = place_join(set->folder, file->to, path, err);
  if (!rc && set->root) rc = place_join(set->folder, set->root, root, err);
  if (rc) return rc;
  place_normalize(path);
  if (set->root) {
    place_normalize(root);
    rc = place_check_below(file->to, path, root, err);
  }
  if (rc) return rc;
  file->path = segue__strdup(path);
  return file->path ? 0 : segue__errorf(err, UV_ENOMEM, "cannot write %s: out of memory", path);
}

int segue__file_place(segue__file_set *set, segue__set_file *file, segue_error *err) {
  char path[PATH_MAX] = "";
  int rc = place_check_text(file->to, err);
  if (rc) return rc;
  if (set->root && place_has_parent_step(file->to))
    return segue__errorf(err, UV_EACCES,
                         "cannot write %.200s: '..' is not allowed where the module has a root",
                         file->to);
  if (set->simulation) return place_simulated(set, file, err);
  rc = place_join(set->folder, file->to, path, err);
  if (!rc) rc = place_check_parents(set, file->to, path, err);
  if (!rc) rc = place_make_parents(set, path, err);
  if (!rc) rc = place_resolve(file, path, err);
  if (!rc) rc = place_check_text(path, err); /* a link, or the policy's folder, may bring others */
  if (!rc) rc = segue__folder_check_path(file->to, path, err);
  if (!rc) rc = place_check_root(set, file->to, path, err);
  if (rc) return rc;
  file->path = segue__strdup(path);
  return file->path ? 0 : segue__errorf(err, UV_ENOMEM, "cannot write %s: out of memory", path);
}
