/* SPDX-License-Identifier: MIT
 *
 * From a path to the folders and files that it depends on. The path is walked part by part as the
 * kernel would, through symbolic links, and every folder on the way gets an inotify watch: a full
 * one where a name decides (a link, the first part that is missing, the file itself), and on the
 * other folders one for only their own move or removal, so that a busy /tmp on the way costs
 * nothing.
 *
 * A folder makes an event only for a write through a name in it. A file with a second name (a hard
 * link, a single file that is bind-mounted) can be written through the other one, so the file
 * itself is watched too: each file that is named, and of the matches of a pattern the ones with a
 * second name.
 *
 * A watch is always set before the walk looks at the thing that it guards, and from the root down.
 * So a change after the look has made an event, and the walk is repeated. In the other order a
 * change between the look and the watch would be lost.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../os/fault.h"
#include "../os/glob.h"
#include "../os/mem.h"
#include "watch_internal.h"

enum {
  OWN_EVENTS = IN_MOVE_SELF | IN_DELETE_SELF,
  NAME_EVENTS = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE | IN_ATTRIB,
  HOW = IN_ONLYDIR | IN_DONT_FOLLOW,
  /* Without IN_MODIFY: a file counts when its writer closes it. Without IN_MOVE_SELF: the folder
   * reports the watched name, and another name of the file may go where it will. The walk has
   * followed the links, so a link here has replaced the file since then. */
  FILE_EVENTS = IN_CLOSE_WRITE | IN_ATTRIB | IN_DONT_FOLLOW,
  SEARCHED = 16,  /* more interests of a folder are put in order */
  LINKS_MAX = 40, /* the kernel's own limit */
  RACES_MAX = 8,
  PATTERN_LINKS_MAX = 4096 /* links and watched files among the matches of a pattern */
};

static watched_dir **watch_resolve_bucket(segue__watcher *watch, int wd) {
  return &watch->dirs[(unsigned)wd % DIR_BUCKETS];
}

watched_dir *segue__watch_dir_find(segue__watcher *watch, int wd) {
  for (watched_dir *dir = *watch_resolve_bucket(watch, wd); dir; dir = dir->next)
    if (dir->wd == wd) return dir;
  return NULL;
}

static void dir_free(watched_dir *dir) {
  for (size_t i = 0; i < dir->count; i++)
    segue__free(dir->interests[i].name);
  segue__free(dir->interests);
  segue__free(dir->order);
  segue__free(dir->path);
  segue__free(dir);
}

void segue__watch_dir_forget(segue__watcher *watch, watched_dir *dir) {
  watched_dir **at = watch_resolve_bucket(watch, dir->wd);
  while (*at != dir)
    at = &(*at)->next;
  *at = dir->next;
  dir_free(dir);
}

/* FNV-1a. The hash of an event's name is computed once and compared with each interest, so that
 * names in a busy folder seldom need a string comparison. */
uint32_t segue__watch_name_hash(const char *name) {
  uint32_t hash = 2166136261u;
  for (; *name; name++)
    hash = (hash ^ (unsigned char)*name) * 16777619u;
  return hash;
}

void segue__watch_set_problem(segue__watcher *watch, int code, const char *place) {
  if (watch->problem[0]) return;
  const char *what = code == UV_ENOSPC   ? "the limit of watches is reached: raise "
                                           "fs.inotify.max_user_watches"
                     : code == UV_EMFILE ? "the limit of inotify instances or open files is "
                                           "reached: raise fs.inotify.max_user_instances"
                                         : segue_strerror(code);
  snprintf(watch->problem, sizeof watch->problem,
           "cannot watch %.100s (%s); files are compared every %d s instead", place, what,
           SEGUE__RESCAN_LIMITED_MS / 1000);
  if (!strcmp(watch->problem, watch->reported)) return;
  strcpy(watch->reported, watch->problem);
  SEGUE__LOG(watch->log, SEGUE_WARN, "watch", watch->problem);
}

/* ---- Arming ---- */

static watched_dir *dir_new(segue__watcher *watch, int wd, const char *path) {
  watched_dir *dir = segue__calloc(1, sizeof *dir);
  char *copy = segue__strdup(path);
  if (!dir || !copy) {
    segue__free(dir);
    segue__free(copy);
    inotify_rm_watch(watch->fd, wd);
    return NULL;
  }
  dir->wd = wd;
  dir->path = copy;
  dir->next = *watch_resolve_bucket(watch, wd);
  *watch_resolve_bucket(watch, wd) = dir;
  return dir;
}

static void order_forget(watched_dir *dir) {
  segue__free(dir->order);
  dir->order = NULL;
}

/* All interests of one path in a folder stand together at the end of the list. */
static bool has_interest(const watched_dir *dir, const watched_path *owner, interest_kind kind,
                         const char *name) {
  for (size_t i = dir->count; i-- && dir->interests[i].owner == owner;)
    if (dir->interests[i].kind == kind && (!name || !strcmp(dir->interests[i].name, name)))
      return true;
  return false;
}

static int add_interest(watched_dir *dir, watched_path *owner, interest_kind kind,
                        const char *name) {
  if (kind != FINAL && has_interest(dir, owner, kind, name)) return 0;
  if (dir->count == dir->capacity) {
    size_t capacity = dir->capacity ? dir->capacity * 2 : 4;
    interest *grown = segue__realloc(dir->interests, capacity * sizeof *grown);
    if (!grown) return UV_ENOMEM;
    dir->interests = grown;
    dir->capacity = capacity;
  }
  interest one = {.owner = owner, .kind = kind};
  if (name) {
    one.name = segue__strdup(name);
    if (!one.name) return UV_ENOMEM;
    one.name_hash = segue__watch_name_hash(name);
  }
  dir->interests[dir->count++] = one;
  order_forget(dir);
  return 0;
}

/* Sets the inotify watch of a folder and notes that the path depends on it. Returns 0, UV_ENOMEM,
 * or the errno of a folder that is missing (ENOENT, ENOTDIR, ELOOP). A reached limit or a missing
 * permission is stored as the problem and is no failure, because the rescan still sees changes.
 * IN_MASK_ADD, because the same folder may be on the way of another path already: without it the
 * call would replace the events that the other path needs. */
static int watch_resolve_arm(segue__watcher *watch, const char *path, watched_path *owner,
                             interest_kind kind, const char *name) {
  if (watch->fd < 0) return 0;
  uint32_t mask = OWN_EVENTS | HOW | IN_MASK_ADD | (kind == ANCESTOR ? 0 : NAME_EVENTS);
  int code = SEGUE_FAULT("watch.add");
  int wd = code ? -1 : inotify_add_watch(watch->fd, path, mask);
  if (wd < 0) {
    if (!code) code = -errno;
    if (code == UV_ENOENT || code == UV_ENOTDIR || code == UV_ELOOP) return code;
    /* A user who may enter a folder but not list it cannot watch it; a watch is not needed
     * there. */
    if (code != UV_EACCES || kind != ANCESTOR) segue__watch_set_problem(watch, code, path);
    return 0;
  }
  watched_dir *dir = segue__watch_dir_find(watch, wd);
  if (!dir) dir = dir_new(watch, wd, path);
  if (!dir) return UV_ENOMEM;
  if (kind != ANCESTOR) dir->full = true;
  return add_interest(dir, owner, kind, name);
}

/* Sets the inode watch of the file at path. match: its name, if a pattern matched it. The kernel
 * requires the right to read the file: without that right the file cannot be loaded either, and a
 * change of its mode is an event of the folder. Returns 0 or UV_ENOMEM. */
static int arm_file(segue__watcher *watch, const char *path, watched_path *owner,
                    const char *match) {
  int code = SEGUE_FAULT("watch.add");
  if (!code) code = SEGUE_FAULT("watch.file");
  int wd = code ? -1 : inotify_add_watch(watch->fd, path, FILE_EVENTS | IN_MASK_ADD);
  if (wd < 0) {
    if (!code) code = -errno;
    if (code == UV_EACCES)
      owner->unreadable = true;
    else if (code != UV_ENOENT && code != UV_ENOTDIR && code != UV_ELOOP) /* those make events */
      segue__watch_set_problem(watch, code, path);
    return 0;
  }
  watched_dir *file = segue__watch_dir_find(watch, wd);
  if (!file) {
    file = dir_new(watch, wd, path);
    if (!file) return UV_ENOMEM;
    file->is_file = true;
  }
  size_t before = file->count;
  int rc = add_interest(file, owner, INODE, match);
  if (!rc && file->count > before) file->interests[before].print = segue__watch_owned_print(path);
  return rc;
}

/* Returns whether the file has another hard link, or is the root of a mount (a file that was
 * bind-mounted alone). */
static bool has_second_name(int folder, const char *name) {
  struct statx st;
  return !statx(folder, name, AT_SYMLINK_NOFOLLOW, STATX_TYPE | STATX_NLINK, &st) &&
         S_ISREG(st.stx_mode) && (st.stx_nlink > 1 || (st.stx_attributes & STATX_ATTR_MOUNT_ROOT));
}

/* ---- Walking ---- */

typedef struct walk {
  segue__watcher *watch;
  watched_path *owner;
  char here[PATH_MAX]; /* an existing folder, without links in it */
  char next[PATH_MAX]; /* here/part */
  char part[NAME_MAX + 1];
  char rest[PATH_MAX]; /* the parts after it */
  bool last;           /* part is the last one */
  bool has_pattern;    /* the last part is a pattern */
  bool at_pattern;     /* part is the last one and a pattern */
  const char *match;   /* the name of the match, where a pattern led here */
  int links;
} walk;

enum { ON = 0, STOP = 1 };

/* Moves the next part of the path from rest to part. False at the end, and for a path that is
 * longer than the kernel allows. */
static bool take_part(walk *w) {
  size_t skip = strspn(w->rest, "/"), len = strcspn(w->rest + skip, "/");
  if (!len || len > NAME_MAX) return false;
  memcpy(w->part, w->rest + skip, len);
  w->part[len] = 0;
  size_t end = skip + len;
  end += strspn(w->rest + end, "/");
  w->last = !w->rest[end];
  memmove(w->rest, w->rest + end, strlen(w->rest + end) + 1);
  int n = snprintf(w->next, sizeof w->next, "%s%s%s", w->here, !strcmp(w->here, "/") ? "" : "/",
                   w->part);
  return n < PATH_MAX;
}

static int watch_resolve_enter(walk *w) {
  int rc = watch_resolve_arm(w->watch, w->next, w->owner, ANCESTOR, NULL);
  if (!rc) strcpy(w->here, w->next);
  return rc;
}

/* Puts the target of the link in front of the remaining parts. More than LINKS_MAX links end the
 * walk, because the links may form a circle; the kernel refuses to open such a path as well. */
static int watch_resolve_follow(walk *w) {
  char target[PATH_MAX], joined[PATH_MAX];
  ssize_t len = readlink(w->next, target, sizeof target - 1);
  if (len <= 0 || ++w->links > LINKS_MAX) return STOP;
  target[len] = 0;
  int n = snprintf(joined, sizeof joined, "%s/%s", target, w->rest);
  if (n >= PATH_MAX) return STOP;
  strcpy(w->rest, joined);
  if (target[0] != '/') return ON;
  strcpy(w->here, "/");
  return watch_resolve_arm(w->watch, "/", w->owner, ANCESTOR, NULL);
}

/* Walks over one part; returns ON, STOP or UV_ENOMEM. Another process may replace the folder
 * between lstat and the watch; then the part is read again, at most RACES_MAX times, so that a
 * program that exchanges it in a loop cannot hold the control thread. */
static int watch_resolve_step(walk *w) {
  bool armed = false;
  for (int race = 0; race < RACES_MAX; race++) {
    struct stat st;
    bool there = !lstat(w->next, &st);
    if (there && S_ISDIR(st.st_mode) && !w->last) {
      int rc = watch_resolve_enter(w);
      if (!rc || rc == UV_ENOMEM) return rc;
      continue;
    }
    if (!armed) {
      int rc = watch_resolve_arm(w->watch, w->here, w->owner, w->last ? FINAL : STEP, w->part);
      if (rc) return rc == UV_ENOMEM ? rc : STOP; /* gone: the folder above reports it */
      armed = true;
      continue;
    }
    if (there && S_ISLNK(st.st_mode)) return watch_resolve_follow(w);
    bool file = there && w->last && S_ISREG(st.st_mode) &&
                (!w->match || has_second_name(AT_FDCWD, w->next));
    return file && arm_file(w->watch, w->next, w->owner, w->match) ? UV_ENOMEM : STOP;
  }
  return STOP;
}

/* ".." is entered like any folder: `here` has no links in it, so the kernel's ".." of it is the
 * parent that the path means. */
static int walk_on(walk *w) {
  if (!strcmp(w->part, ".")) return ON;
  if (!strcmp(w->part, "..")) return watch_resolve_enter(w) == UV_ENOMEM ? UV_ENOMEM : ON;
  return watch_resolve_step(w);
}

static int walk_all(walk *w) {
  int rc = watch_resolve_arm(w->watch, w->here, w->owner, ANCESTOR, NULL);
  while (!rc && take_part(w)) {
    w->at_pattern = w->last && w->has_pattern;
    if (w->at_pattern) return watch_resolve_arm(w->watch, w->here, w->owner, PATTERN, w->part);
    rc = walk_on(w);
  }
  return rc == UV_ENOMEM ? rc : 0;
}

static bool is_link(int folder, const struct dirent *entry) {
  struct stat st;
  if (entry->d_type != DT_UNKNOWN) return entry->d_type == DT_LNK;
  return !fstatat(folder, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) && S_ISLNK(st.st_mode);
}

/* A file that matches a pattern may be a symbolic link (in a mounted ConfigMap all are) or have a
 * second name; the place where its content is written is watched too. PATTERN_LINKS_MAX bounds the
 * inotify watches of one pattern; for the files after it the rescan finds changes. */
static int walk_links(const walk *folder, const char *glob) {
  DIR *dir = opendir(folder->here);
  int rc = 0, links = 0;
  for (const struct dirent *entry; dir && !rc && (entry = readdir(dir));) {
    if (!segue__glob_match(glob, entry->d_name)) continue;
    if (!is_link(dirfd(dir), entry) && !has_second_name(dirfd(dir), entry->d_name)) continue;
    if (++links > PATTERN_LINKS_MAX) break;
    walk w = {.watch = folder->watch, .owner = folder->owner, .match = entry->d_name};
    strcpy(w.here, folder->here);
    strcpy(w.rest, entry->d_name);
    rc = walk_all(&w);
  }
  folder->owner->has_links = links > 0;
  if (dir) closedir(dir);
  return rc;
}

int segue__watch_resolve(segue__watcher *watch, watched_path *path) {
  walk w = {.watch = watch, .owner = path, .has_pattern = path->glob != NULL};
  path->has_links = path->unreadable = false;
  if (watch->fd < 0 || strlen(path->path) >= sizeof w.rest) return 0;
  strcpy(w.here, path->path[0] == '/' ? "/" : ".");
  strcpy(w.rest, path->path);
  int rc = walk_all(&w);
  return !rc && w.at_pattern ? walk_links(&w, path->glob) : rc;
}

/* ---- Finding interests by name ---- */

static bool is_named(const interest *in) {
  return in->kind == STEP || in->kind == FINAL;
}

/* By the hash, then by the index: as a search of the list finds them. */
static int order_compare(const void *a, const void *b, void *data) {
  const interest *list = ((const watched_dir *)data)->interests;
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  if (list[x].name_hash != list[y].name_hash) return list[x].name_hash < list[y].name_hash ? -1 : 1;
  return (x > y) - (x < y);
}

static void order_make(watched_dir *dir) {
  dir->order = segue__calloc(dir->count, sizeof *dir->order);
  if (!dir->order) return;
  dir->listed = 0;
  for (size_t i = 0; i < dir->count; i++)
    if (is_named(&dir->interests[i])) dir->order[dir->listed++] = (uint32_t)i;
  dir->named = dir->listed;
  qsort_r(dir->order, dir->named, sizeof *dir->order, order_compare, dir);
  for (size_t i = 0; i < dir->count; i++)
    if (dir->interests[i].kind == PATTERN) dir->order[dir->listed++] = (uint32_t)i;
}

/* The first one in the order whose hash is not less. */
static size_t order_first(const watched_dir *dir, uint32_t hash) {
  size_t low = 0, high = dir->named;
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (dir->interests[dir->order[middle]].name_hash < hash)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

static bool interest_fits(const interest *in, uint32_t hash, const char *name) {
  if (in->kind == PATTERN) return segue__glob_match(in->name, name);
  return is_named(in) && in->name_hash == hash && !strcmp(in->name, name);
}

/* A set that writes 5,000 files into one folder makes 20,000 events, and the folder has an interest
 * for each file: a search of the whole list for each event took half a second of the control
 * thread. */
void segue__watch_each(segue__watcher *watch, watched_dir *dir, const struct inotify_event *event,
                       void (*match)(segue__watcher *watch, watched_dir *dir, interest *in,
                                     const struct inotify_event *event)) {
  uint32_t hash = segue__watch_name_hash(event->name);
  if (!dir->order && dir->count > SEARCHED) order_make(dir);
  size_t i = dir->order ? order_first(dir, hash) : 0;
  while (dir->order && i < dir->named && dir->interests[dir->order[i]].name_hash == hash) {
    interest *in = &dir->interests[dir->order[i++]];
    if (interest_fits(in, hash, event->name)) match(watch, dir, in, event);
  }
  if (dir->order) i = dir->named;
  for (; i < (dir->order ? dir->listed : dir->count); i++) {
    interest *in = &dir->interests[dir->order ? dir->order[i] : i];
    if (interest_fits(in, hash, event->name)) match(watch, dir, in, event);
  }
}

/* ---- Removing watches ------------------------------------------------------------------------ */

static void drop_interests(watched_dir *dir) {
  size_t kept = 0;
  for (size_t i = 0; i < dir->count; i++) {
    if (!dir->interests[i].owner->leaves)
      dir->interests[kept++] = dir->interests[i];
    else
      segue__free(dir->interests[i].name);
  }
  if (kept < dir->count) order_forget(dir);
  dir->count = kept;
}

void segue__watch_unresolve(segue__watcher *watch) {
  for (int i = 0; i < DIR_BUCKETS; i++)
    for (watched_dir *dir = watch->dirs[i]; dir; dir = dir->next)
      drop_interests(dir);
}

static bool needs_names(const watched_dir *dir) {
  for (size_t i = 0; i < dir->count; i++)
    if (dir->interests[i].kind != ANCESTOR) return true;
  return false;
}

/* Reduces the watch of a folder to its own move or removal, because no path needs the names in it
 * any more. Another folder may be at dir->path by now, and inotify_add_watch, which takes a path,
 * has then reduced the watch of that other folder: its events are added again. The event that
 * reports the exchange is already in the queue. */
static void make_quiet(segue__watcher *watch, watched_dir *dir) {
  int wd = inotify_add_watch(watch->fd, dir->path, OWN_EVENTS | HOW);
  dir->full = false;
  if (wd < 0 || wd == dir->wd) return;
  const watched_dir *other = segue__watch_dir_find(watch, wd);
  if (!other)
    inotify_rm_watch(watch->fd, wd);
  else if (other->full)
    inotify_add_watch(watch->fd, dir->path, OWN_EVENTS | NAME_EVENTS | HOW | IN_MASK_ADD);
}

/* Removes inotify watches only after all paths have been resolved again: a folder that a path still
 * needs keeps its watch, and with it the events that are queued for it. */
void segue__watch_sweep(segue__watcher *watch) {
  for (int i = 0; i < DIR_BUCKETS; i++) {
    for (watched_dir *dir = watch->dirs[i], *next; dir; dir = next) {
      next = dir->next;
      if (!dir->count) {
        inotify_rm_watch(watch->fd, dir->wd);
        segue__watch_dir_forget(watch, dir);
      } else if (dir->full && !needs_names(dir)) {
        make_quiet(watch, dir);
      }
    }
  }
}
