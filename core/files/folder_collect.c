/* SPDX-License-Identifier: MIT
 *
 * Folders of generations that no link leads to any more: they are removed when a set has settled,
 * or when it was not committed. One that another program has changed stays.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "../os/fault.h"
#include "folder_internal.h"

enum { FOLDER_KEPT_MAX = 10 };

/* The folder contains no other folder, because segue has written it and its hash was compared. */
static void folder_remove(int parent, const char *name) {
  int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  /* The owner, if it is not root, cannot remove files from a folder of mode 0555. */
  if (fd >= 0) (void)fchmod(fd, 0700);
  DIR *dir = fd < 0 ? NULL : fdopendir(fd);
  if (fd >= 0 && !dir) (void)close(fd);
  for (const struct dirent *entry; dir && (entry = readdir(dir));)
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
        !SEGUE_FAULT("files.folder.unlink"))
      (void)unlinkat(dirfd(dir), entry->d_name, 0);
  if (dir) closedir(dir);
  (void)unlinkat(parent, name, AT_REMOVEDIR);
}

static bool folder_ends(const char *name, const char *end) {
  size_t len = strlen(name);
  return len > strlen(end) && !strcmp(name + len - strlen(end), end);
}

/* Returns whether a plan, of this process or another one, is using the folder. */
static bool folder_is_held(int parent, const char *name) {
  int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  bool held = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK;
  if (fd >= 0) (void)close(fd);
  return held;
}

bool segue__folder_remove_left(int parent, const char *name) {
  struct stat st;
  if (!folder_ends(name, ".part") && !folder_ends(name, ".gone")) return false;
  if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISDIR(st.st_mode)) return false;
  if (!folder_is_held(parent, name)) folder_remove(parent, name);
  return true;
}

/* Renames it first: a folder of which a part was removed does not have its hash any more, and would
 * be kept as one that was changed. */
static void collect_remove(const segue__file_set *set, const segue__set_file *link, DIR *dir,
                           const char *name) {
  char *staged = segue__file_staged_name(link->path, set->id, set->numbers);
  char *gone = staged ? segue__file_beside(staged, "gone") : NULL;
  const char *to = gone ? gone + segue__file_folder_len(gone) : NULL;
  if (to && !SEGUE_FAULT("files.folder.remove") && !renameat(dirfd(dir), name, dirfd(dir), to) &&
      !SEGUE_FAULT("files.folder.removed"))
    folder_remove(dirfd(dir), to);
  segue__free(gone);
  segue__free(staged);
}

static void collect_one(const segue__file_set *set, const segue__set_file *link, DIR *dir,
                        const char *name, char **kept) {
  segue__folder_content content;
  char *path = segue__folder_beside(link->path, name);
  if (path && !segue__folder_content_read(&content, path)) {
    bool intact;
    char *changed = NULL;
    int rc = segue__folder_content_is_intact(&content, name, &intact);
    segue__folder_content_deinit(&content);
    if (!rc && intact)
      collect_remove(set, link, dir, name);
    else if (!rc && !segue__file_kept_name(link->path, &changed) && !symlink(name, changed)) {
      segue__free(*kept);
      *kept = changed;
      changed = NULL;
    }
    segue__free(changed);
  }
  segue__free(path);
}

/* The names of generations of the link, and the targets of all symbolic links, in its folder. */
static int collect_names(const segue__set_file *link, DIR *dir, segue__folder_content *folders,
                         segue__folder_content *needed) {
  char target[PATH_MAX];
  int rc = 0;
  for (const struct dirent *entry; !rc && (entry = readdir(dir));) {
    bool link_ = entry->d_type == DT_LNK || entry->d_type == DT_UNKNOWN;
    ssize_t len = link_ ? readlinkat(dirfd(dir), entry->d_name, target, sizeof target - 1) : -1;
    if (len >= 0) {
      target[len] = 0;
      const char *slash = strrchr(target, '/'); /* another program may write the whole path */
      if (!segue__folder_content_add(needed, slash ? slash + 1 : target)) rc = UV_ENOMEM;
    } else if (segue__folder_is_of(link->path, entry->d_name) &&
               !segue__folder_content_add(folders, entry->d_name)) {
      rc = UV_ENOMEM;
    }
  }
  segue__folder_content_sort(needed);
  return rc;
}

/* The folder that was live last is needed too: another program may have put a link of its own
 * there for a moment. */
static bool collect_is_last(const segue__file_set *set, const segue__set_file *link,
                            const char *name) {
  segue__file_version known;
  return !link->dropped && segue__file_set_known(set, link->path, &known) &&
         known.kind == SEGUE__FILE_LINK && known.size == strlen(name) &&
         segue__hash_equal(known.hash, segue__hash_bytes(name, strlen(name), (segue__hash){0, 0}));
}

/* ---- Folders that another program has changed ---- */

static int kept_order(const void *a, const void *b) {
  const segue__folder_entry *x = a, *y = b;
  uint64_t first = x->version.size, second = y->version.size;
  return first < second ? -1 : first > second;
}

/* The links ".NAME.changed-TIME" to folders of generations, the oldest first. Their names have
 * seconds, and a number that is used again, so the order is that of their inodes' times, which
 * version.size has. */
static int kept_names(const segue__set_file *link, DIR *dir, segue__folder_content *out) {
  char target[PATH_MAX];
  struct stat st;
  int rc = 0;
  rewinddir(dir);
  for (const struct dirent *entry; !rc && (entry = readdir(dir));) {
    if (!segue__file_hidden_prefix(link->path, "changed", entry->d_name)) continue;
    ssize_t len = readlinkat(dirfd(dir), entry->d_name, target, sizeof target - 1);
    if (len < 0) continue;
    target[len] = 0;
    if (!segue__folder_is_of(link->path, target)) continue;
    if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW)) continue;
    segue__folder_entry *kept = segue__folder_content_add(out, entry->d_name);
    if (!kept)
      rc = UV_ENOMEM;
    else
      kept->version.size = (uint64_t)st.st_ctim.tv_sec * 1000000000u + (uint64_t)st.st_ctim.tv_nsec;
  }
  if (out->count) qsort(out->entries, out->count, sizeof *out->entries, kept_order);
  return rc;
}

static bool kept_has_others(const segue__folder_content *needed, const char *target) {
  size_t links = 0;
  for (size_t i = 0; i < needed->count; i++)
    links += !strcmp(needed->entries[i].name, target);
  return links > 1;
}

/* A folder with anything but files in it stays. The link goes first: a process that is killed
 * between the two leaves a folder that the next collection gives a link again. */
static void kept_remove(const segue__file_set *set, const segue__set_file *link, DIR *dir,
                        const char *name, const segue__folder_content *needed) {
  segue__folder_content content;
  char target[PATH_MAX];
  ssize_t len = readlinkat(dirfd(dir), name, target, sizeof target - 1);
  if (len < 0) return;
  target[len] = 0;
  char *path = segue__folder_beside(link->path, target);
  if (!path || segue__folder_content_read(&content, path)) {
    segue__free(path);
    return;
  }
  bool removable = !content.odd;
  segue__folder_content_deinit(&content);
  segue__free(path);
  if (!removable || unlinkat(dirfd(dir), name, 0)) return;
  if (!kept_has_others(needed, target)) collect_remove(set, link, dir, target);
}

/* A server that writes into its folder would leave one more with each change. */
static void kept_limit(const segue__file_set *set, const segue__set_file *link, DIR *dir,
                       const segue__folder_content *needed) {
  segue__folder_content names = {0};
  if (!kept_names(link, dir, &names))
    for (size_t i = 0; i + FOLDER_KEPT_MAX < names.count; i++)
      kept_remove(set, link, dir, names.entries[i].name, needed);
  segue__folder_content_deinit(&names);
}

char *segue__folder_collect(const segue__file_set *set, const segue__set_file *link) {
  segue__folder_content folders = {0}, needed = {0};
  char *kept = NULL, *parent = segue__strndup(link->path, segue__file_folder_len(link->path));
  DIR *dir = parent ? opendir(parent) : NULL;
  /* Without memory nothing is removed. */
  if (dir && !collect_names(link, dir, &folders, &needed)) {
    for (size_t i = 0; i < folders.count; i++)
      if (!segue__folder_content_find(&needed, folders.entries[i].name) &&
          !collect_is_last(set, link, folders.entries[i].name))
        collect_one(set, link, dir, folders.entries[i].name, &kept);
    kept_limit(set, link, dir, &needed);
  }
  if (dir) closedir(dir);
  segue__folder_content_deinit(&folders);
  segue__folder_content_deinit(&needed);
  segue__free(parent);
  return kept;
}

void segue__folder_discard(const segue__file_set *set, segue__set_file *link) {
  if (link->hold) (void)close(link->hold - 1);
  link->hold = 0;
  char *part = segue__file_beside(link->staged, "part");
  if (part) (void)segue__folder_remove_left(AT_FDCWD, part);
  segue__free(part);
  if (set->book && link->taken && !set->plan) segue__free(segue__folder_collect(set, link));
}
