/* SPDX-License-Identifier: MIT
 *
 * The slow scan: a fingerprint of each watched path, taken on the worker (a network file system may
 * hang), compared with the last one. It replaces events that inotify cannot deliver. A fingerprint
 * consists of inode, size and times; still this is not change detection by mtime: the fingerprint
 * only decides whether to read, so that an idle daemon does not read and hash all files twice a
 * minute. The hash of the content decides whether something changed.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../os/fault.h"
#include "../os/glob.h"
#include "../os/mem.h"
#include "watch_internal.h"

#define SCAN_LIMIT_MS SEGUE_TEST_MS("SCAN_LIMIT_MS", 2000)

typedef struct scanned {
  char *path;
  const char *glob;
  size_t index; /* in the list of the watch */
  uint64_t events, print;
} scanned;

struct watch_scan {
  segue__job job;        /* first */
  segue__watcher *watch; /* NULL after the watch was closed */
  uint64_t set_version;
  bool adopt; /* events have reported these changes already: only store the fingerprint */
  size_t count;
  scanned items[];
};

static uint64_t watch_scan_mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
  return hash ^ (hash >> 29);
}

static int64_t nanoseconds(struct timespec ts) {
  return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* rc is what stat returned. A folder counts only by its identity: other files come and go in it. */
static uint64_t print_stat(int rc, const struct stat *st) {
  uint64_t hash = 7;
  if (rc) return watch_scan_mix(hash, (uint64_t)errno);
  hash = watch_scan_mix(watch_scan_mix(hash, st->st_dev), st->st_ino);
  if (S_ISDIR(st->st_mode)) return hash;
  hash = watch_scan_mix(watch_scan_mix(hash, (uint64_t)st->st_size), st->st_mode);
  hash = watch_scan_mix(hash, (uint64_t)nanoseconds(st->st_mtim));
  return watch_scan_mix(hash, (uint64_t)nanoseconds(st->st_ctim));
}

static uint64_t hash_name(const char *name) {
  uint64_t hash = 11;
  for (; *name; name++)
    hash = (hash ^ (unsigned char)*name) * 1099511628211u;
  return hash;
}

/* The sum does not depend on the order in which the folder lists its files. */
static uint64_t print_matches(const char *folder, const char *glob) {
  uint64_t sum = 0;
  DIR *dir = opendir(folder);
  if (!dir) return watch_scan_mix(5, (uint64_t)errno);
  for (const struct dirent *entry; (entry = readdir(dir));) {
    struct stat st;
    if (!segue__glob_match(glob, entry->d_name)) continue;
    int rc = fstatat(dirfd(dir), entry->d_name, &st, 0);
    sum += watch_scan_mix(hash_name(entry->d_name), print_stat(rc, &st));
  }
  closedir(dir);
  return sum;
}

/* Writes the folder of path: "." or "/" for a path without one. */
static void watch_scan_folder_of(const char *path, char folder[PATH_MAX]) {
  const char *slash = strrchr(path, '/');
  size_t len = slash ? (size_t)(slash - path) : 0;
  if (!slash || len >= PATH_MAX) {
    strcpy(folder, ".");
    return;
  }
  if (!len) len = 1;
  memcpy(folder, path, len);
  folder[len] = 0;
}

uint64_t segue__watch_print(const char *path, const char *glob) {
  char folder[PATH_MAX];
  struct stat st;
  watch_scan_folder_of(path, folder);
  uint64_t hash = print_stat(stat(folder, &st), &st);
  if (glob) return watch_scan_mix(hash, print_matches(folder, glob));
  int rc = stat(path, &st);
  return watch_scan_mix(hash, print_stat(rc, &st));
}

uint64_t segue__watch_owned_print(const char *path) {
  struct stat st;
  if (stat(path, &st)) return watch_scan_mix(3, (uint64_t)errno);
  uint64_t hash =
      watch_scan_mix(watch_scan_mix(watch_scan_mix(3, st.st_dev), st.st_ino), (uint64_t)st.st_size);
  hash = watch_scan_mix(watch_scan_mix(watch_scan_mix(hash, st.st_mode), st.st_uid), st.st_gid);
  return watch_scan_mix(hash, (uint64_t)nanoseconds(st.st_mtim));
}

/* ---- Touched ---- */

static bool is_since(const struct stat *st, int64_t since_ns) {
  return nanoseconds(st->st_ctim) >= since_ns;
}

/* Returns whether the folder itself was moved. A move changes ctime and leaves mtime alone; a new
 * name in the folder changes both. */
static bool folder_moved(const char *path, int64_t since_ns) {
  struct stat st;
  return stat(path, &st) ||
         (is_since(&st, since_ns) && nanoseconds(st.st_ctim) > nanoseconds(st.st_mtim));
}

/* Returns whether the name was touched. A missing name may have been removed recently; then the
 * times of its folder decide. */
static bool name_touched(const watched_dir *dir, const char *name, int64_t since_ns) {
  char path[PATH_MAX + NAME_MAX + 2];
  struct stat st;
  snprintf(path, sizeof path, "%s/%s", dir->path, name);
  return (lstat(path, &st) && stat(dir->path, &st)) || is_since(&st, since_ns);
}

static bool matches_touched(const watched_dir *dir, const char *glob, int64_t since_ns) {
  struct stat st;
  bool touched = stat(dir->path, &st) || is_since(&st, since_ns);
  DIR *open_dir = touched ? NULL : opendir(dir->path);
  for (const struct dirent *entry; open_dir && !touched && (entry = readdir(open_dir));)
    if (segue__glob_match(glob, entry->d_name))
      touched = name_touched(dir, entry->d_name, since_ns);
  if (open_dir) closedir(open_dir);
  return touched;
}

static bool interest_touched(const watched_dir *dir, const interest *in, int64_t since_ns) {
  if (in->kind == ANCESTOR) return folder_moved(dir->path, since_ns);
  if (in->kind == INODE) return false; /* its name in the folder has the same times */
  if (in->kind == PATTERN) return matches_touched(dir, in->name, since_ns);
  return name_touched(dir, in->name, since_ns);
}

bool segue__watch_touched_since(segue__watcher *watch, int64_t wall_ms) {
  /* The kernel stamps files by a clock that is up to a tick behind. */
  int64_t since_ns = (wall_ms - 10) * 1000000;
  if (watch->problem[0]) return watch->count > 0;
  for (int i = 0; i < DIR_BUCKETS; i++)
    for (const watched_dir *dir = watch->dirs[i]; dir; dir = dir->next)
      for (size_t k = 0; k < dir->count; k++)
        if (interest_touched(dir, &dir->interests[k], since_ns)) return true;
  return false;
}

/* ---- On the worker ---- */

static void scan_free(watch_scan *scan) {
  for (size_t i = 0; i < scan->count; i++)
    segue__free(scan->items[i].path);
  segue__free(scan);
}

static void watch_scan_run(segue__job *job) {
  watch_scan *scan = (watch_scan *)job;
  (void)SEGUE_FAULT("watch.scan");
  for (size_t i = 0; i < scan->count; i++)
    scan->items[i].print = segue__watch_print(scan->items[i].path, scan->items[i].glob);
}

/* Returns whether a fingerprint differs from the last one. A path that has had events since the
 * scan began is left out: the fingerprint may be older than the one that the event has stored. */
static bool watch_scan_compare(segue__watcher *watch, const watch_scan *scan) {
  bool differs = false;
  for (size_t i = 0; i < scan->count; i++) {
    const scanned *item = &scan->items[i];
    watched_path *path = watch->paths[item->index];
    if (path->events != item->events) continue;
    bool changed = path->print_known && path->print != item->print;
    path->print = item->print;
    path->print_known = true;
    if (!changed || scan->adopt) continue;
    differs = true;
    path->moved = true; /* after a mount the inotify watch may be on the folder below it */
  }
  return differs;
}

static void watch_scan_done(segue__job *job) {
  watch_scan *scan = (watch_scan *)job;
  segue__watcher *watch = scan->watch;
  bool differs = false;
  if (watch) {
    watch->scan = NULL;
    segue__timer_stop(watch->loop, &watch->scan_limit);
    if (scan->set_version == watch->set_version) differs = watch_scan_compare(watch, scan);
  }
  scan_free(scan);
  if (!watch || !differs) return;
  segue__watch_renew(watch);
  segue__watch_report(watch, true);
}

/* The abandoned scan has ended after all, so the next rescan may start one again. */
static void watch_scan_abandoned(segue__job *job) {
  watch_scan *scan = (watch_scan *)job;
  if (scan->watch) {
    scan->watch->scan = NULL;
    scan->watch->scan_hangs = false;
  }
  scan_free(scan);
}

/* stat() on a network file system whose server is gone cannot be interrupted. The job is abandoned:
 * its thread stays in the kernel and no other job waits for it. No further scan starts until this
 * one returns, so that not more than one thread hangs. */
static void on_limit(segue__timer *timer) {
  segue__watcher *watch = timer->data;
  if (!watch->scan) return;
  watch->scan_hangs = true;
  SEGUE__LOG(watch->log, SEGUE_WARN, "watch",
             "comparing the watched files exceeds its time limit; a network file system may not "
             "answer",
             SEGUE__FIELD("limit_ms", SCAN_LIMIT_MS));
  segue__job_abandon(watch->loop, &watch->scan->job);
}

/* ---- Starting ---- */

static bool watch_scan_wanted(const watched_path *path, bool adopt) {
  return !adopt || (path->glob && path->flagged);
}

static int take_paths(watch_scan *scan, const segue__watcher *watch) {
  for (size_t i = 0; i < watch->count; i++) {
    const watched_path *path = watch->paths[i];
    if (!watch_scan_wanted(path, scan->adopt)) continue;
    char *copy = segue__strdup(path->path);
    if (!copy) return UV_ENOMEM;
    scan->items[scan->count++] =
        (scanned){copy, path->glob ? copy + (path->glob - path->path) : NULL, i, path->events, 0};
  }
  return 0;
}

static void watch_scan_start(segue__watcher *watch, bool adopt) {
  if (watch->scan || watch->closing || !watch->count) return;
  watch_scan *scan = segue__calloc(1, sizeof *scan + watch->count * sizeof scan->items[0]);
  if (!scan) return; /* the next rescan tries again */
  scan->adopt = adopt;
  scan->set_version = watch->set_version;
  scan->watch = watch;
  scan->job = (segue__job){
      .run = watch_scan_run, .done = watch_scan_done, .abandoned = watch_scan_abandoned};
  /* The fingerprints of an adopting scan must not be newer than the files that the following reload
   * reads: so it runs before that reload, in the same queue. Any other scan must not delay a
   * reload. */
  segue__queue queue = adopt ? SEGUE__QUEUE_COLLECT : SEGUE__QUEUE_WATCH;
  if (take_paths(scan, watch) || segue__job_submit(watch->loop, queue, &scan->job)) {
    scan_free(scan);
    return;
  }
  watch->scan = scan;
  watch->scan_limit.data = watch;
  segue__timer_start(watch->loop, &watch->scan_limit, SCAN_LIMIT_MS, on_limit);
}

void segue__watch_scan_start(segue__watcher *watch) {
  watch_scan_start(watch, false);
}

/* Stores the fingerprints of the patterns that are flagged, before the callbacks run. Jobs of one
 * queue run in order, so the files that the reload reads are at least as new as the fingerprints,
 * and a change after them is found by the next rescan. While another scan runs nothing is stored,
 * and the next rescan reports one change too many. */
void segue__watch_scan_adopt(segue__watcher *watch) {
  for (size_t i = 0; i < watch->count; i++) {
    if (!watch_scan_wanted(watch->paths[i], true)) continue;
    watch_scan_start(watch, true);
    return;
  }
}

void segue__watch_scan_forget(segue__watcher *watch) {
  segue__timer_stop(watch->loop, &watch->scan_limit);
  if (watch->scan) watch->scan->watch = NULL;
  watch->scan = NULL;
}
