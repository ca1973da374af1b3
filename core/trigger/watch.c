/* SPDX-License-Identifier: MIT
 *
 * Watching: the set of paths, the events, the callbacks. Events are read in batches: a batch marks
 * the paths that it concerns, then paths with a changed folder or link on the way are resolved
 * again, and only then are the callbacks called, once for each path. So a storm of events in a busy
 * folder costs one comparison each and no allocation; and the next change is already watched when a
 * callback reads the files.
 */
#include "watch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../os/error.h"
#include "../os/fault.h"
#include "../os/glob.h"
#include "../os/mem.h"
#include "watch_internal.h"

enum {
  BATCH_BYTES = 65536,
  BATCHES_MAX = 2,  /* in each turn of the loop, so that many events do not delay other handles */
  TURN_PATHS = 64,  /* that are resolved again in each turn, for the same reason */
  TURN_PAUSE_MS = 1 /* a timer of 0 ms that starts itself again runs before any other handle */
};

static void on_events(uv_poll_t *poll, int status, int events);
static void on_rescan(segue__timer *timer);
static void on_turn(segue__timer *timer);

/* ---- Life ---- */

static int open_inotify(segue__watcher *watch) {
  int code = SEGUE_FAULT("watch.open");
  watch->fd = code ? -1 : inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (watch->fd < 0) {
    segue__watch_set_problem(watch, code ? code : -errno, "files");
    return 0;
  }
  int rc = uv_poll_init(segue__loop_uv(watch->loop), &watch->poll, watch->fd);
  if (rc) return rc;
  watch->polling = true;
  watch->poll.data = watch;
  return uv_poll_start(&watch->poll, UV_READABLE, on_events);
}

int segue__watch_new(segue__watcher **out, segue__loop *loop, const segue__logger *log,
                     segue__watch_cb cb, void *data) {
  *out = NULL;
  if (!segue__loop_uv(loop)) return UV_ENOTSUP;
  segue__watcher *watch = segue__calloc(1, sizeof *watch);
  if (!watch) return UV_ENOMEM;
  watch->loop = loop;
  watch->log = log;
  watch->cb = cb;
  watch->data = data;
  watch->rescan.data = watch;
  watch->turn.data = watch;
  int rc = open_inotify(watch);
  if (rc) {
    segue__watch_close(watch, NULL, NULL);
    return rc;
  }
  *out = watch;
  return 0;
}

static void path_free(watched_path *path) {
  if (!path) return;
  segue__free(path->path);
  segue__free(path);
}

static void watch_release(segue__watcher *watch) {
  void (*cb)(void *) = watch->closed_cb;
  void *data = watch->closed_data;
  for (size_t i = 0; i < watch->count; i++)
    path_free(watch->paths[i]);
  segue__free(watch->paths);
  segue__free(watch);
  if (cb) cb(data);
}

static void watch_on_closed(uv_handle_t *handle) {
  watch_release(handle->data);
}

/* A watch that is closed in its own callback is freed when the callback has returned. uv_close
 * comes before close(): it removes the descriptor from the poll set of the loop, and after close()
 * the number may belong to another file. */
static void watch_finish_close(segue__watcher *watch) {
  bool polling = watch->polling;
  if (polling) uv_close((uv_handle_t *)&watch->poll, watch_on_closed);
  if (watch->last_fd >= 0) close(watch->last_fd);
  if (!polling) watch_release(watch);
}

void segue__watch_close(segue__watcher *watch, void (*cb)(void *data), void *data) {
  if (!watch) {
    if (cb) cb(data);
    return;
  }
  watch->closing = true;
  watch->closed_cb = cb;
  watch->closed_data = data;
  segue__timer_stop(watch->loop, &watch->rescan);
  segue__timer_stop(watch->loop, &watch->turn);
  segue__watch_scan_forget(watch);
  for (int i = 0; i < DIR_BUCKETS; i++)
    while (watch->dirs[i])
      segue__watch_dir_forget(watch, watch->dirs[i]);
  if (watch->polling) uv_poll_stop(&watch->poll);
  watch->last_fd = watch->fd;
  watch->fd = -1;
  if (!watch->in_callback) watch_finish_close(watch);
}

/* ---- The set ---- */

static watched_path *path_new(const char *text) {
  watched_path *path = segue__calloc(1, sizeof *path);
  if (!path) return NULL;
  path->path = segue__strdup(text);
  if (!path->path) {
    segue__free(path);
    return NULL;
  }
  const char *slash = strrchr(path->path, '/'), *last = slash ? slash + 1 : path->path;
  if (segue__glob_is_pattern(last)) path->glob = last;
  return path;
}

static int compare_paths(const void *a, const void *b) {
  return strcmp((*(watched_path *const *)a)->path, (*(watched_path *const *)b)->path);
}

static watched_path *find_path(const segue__watcher *watch, const char *text) {
  size_t low = 0, high = watch->count;
  while (low < high) {
    size_t middle = (low + high) / 2;
    int order = strcmp(watch->paths[middle]->path, text);
    if (!order) return watch->paths[middle];
    if (order < 0)
      low = middle + 1;
    else
      high = middle;
  }
  return NULL;
}

/* Makes a sorted list without duplicates; paths that are watched already are reused. */
static int watch_collect(const segue__watcher *watch, const segue__names *names,
                         watched_path **list, size_t *count) {
  *count = 0;
  for (size_t i = 0; i < names->count; i++) {
    watched_path *path = find_path(watch, names->items[i]);
    if (!path) path = path_new(names->items[i]);
    if (!path) return UV_ENOMEM;
    list[(*count)++] = path;
  }
  qsort(list, *count, sizeof *list, compare_paths);
  size_t kept = 0;
  for (size_t i = 0; i < *count; i++) {
    if (kept && !strcmp(list[kept - 1]->path, list[i]->path)) {
      if (list[i] != list[kept - 1]) path_free(list[i]);
    } else {
      list[kept++] = list[i];
    }
  }
  *count = kept;
  return 0;
}

static bool watch_contains(watched_path **list, size_t count, const watched_path *path) {
  return count && bsearch(&path, list, count, sizeof *list, compare_paths) != NULL;
}

/* Frees the members of list that are not in other. */
static void free_others(segue__watcher *watch, watched_path **list, size_t count,
                        watched_path **other, size_t other_count) {
  size_t leaving = 0;
  for (size_t i = 0; i < count; i++) {
    list[i]->leaves = !watch_contains(other, other_count, list[i]);
    leaving += list[i]->leaves;
  }
  if (leaving) segue__watch_unresolve(watch);
  for (size_t i = 0; i < count; i++)
    if (list[i]->leaves) path_free(list[i]);
}

/* The watch is set before the fingerprint is taken: a change between the two makes an event. In the
 * other order only the next rescan would report it. */
static int arm_new(segue__watcher *watch, watched_path **list, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (watch_contains(watch->paths, watch->count, list[i])) continue;
    int rc = segue__watch_resolve(watch, list[i]);
    if (rc) return rc;
    list[i]->print = segue__watch_print(list[i]->path, list[i]->glob);
    list[i]->print_known = true;
  }
  return 0;
}

static void arm_rescan(segue__watcher *watch) {
  uint64_t ms = watch->rescan_ms;
  if (watch->problem[0] && ms > SEGUE__RESCAN_LIMITED_MS) ms = SEGUE__RESCAN_LIMITED_MS;
  segue__timer_start(watch->loop, &watch->rescan, ms, on_rescan);
}

/* After a watch has failed, the next rescan must come within SEGUE__RESCAN_LIMITED_MS, because a
 * rescan of the usual interval may be many seconds away and no event reports the path. */
static void expedite_rescan(segue__watcher *watch) {
  uint64_t soon = segue__loop_now_ms(watch->loop) + SEGUE__RESCAN_LIMITED_MS;
  if (watch->problem[0] && watch->rescan.due_ms > soon) arm_rescan(watch);
}

static void recount_flagged(segue__watcher *watch) {
  watch->flagged = 0;
  for (size_t i = 0; i < watch->count; i++)
    watch->flagged += watch->paths[i]->flagged;
}

/* The new paths are armed before the old ones are removed: if memory runs out, the old set is
 * complete and continues; and the inotify watch of a folder that both sets need is never removed,
 * so no event of it is lost. */
int segue__watch_set(segue__watcher *watch, const segue__names *names, uint64_t rescan_ms,
                     segue_error *err) {
  size_t count = 0;
  watched_path **list = segue__calloc(names->count, sizeof *list);
  int rc = list ? watch_collect(watch, names, list, &count) : UV_ENOMEM;
  if (!rc) rc = arm_new(watch, list, count);
  if (rc) {
    if (list) free_others(watch, list, count, watch->paths, watch->count);
    segue__free(list);
    segue__watch_sweep(watch);
    return segue__errorf(err, rc, "cannot watch the files: out of memory");
  }
  free_others(watch, watch->paths, watch->count, list, count);
  segue__free(watch->paths);
  watch->paths = list;
  watch->count = count;
  watch->set_version++;
  watch->rescan_ms = rescan_ms ? rescan_ms : SEGUE__RESCAN_MS;
  segue__watch_sweep(watch);
  recount_flagged(watch);
  arm_rescan(watch);
  return 0;
}

const char *segue__watch_problem(const segue__watcher *watch) {
  return watch->problem[0] ? watch->problem : NULL;
}

/* ---- Events ---- */

static void watch_flag(segue__watcher *watch, watched_path *path, bool moved) {
  path->events++;
  path->moved |= moved;
  if (path->flagged) return;
  path->flagged = true;
  path->changed[0] = 0;
  watch->flagged++;
}

static void flag_dir(segue__watcher *watch, watched_dir *dir) {
  for (size_t i = 0; i < dir->count; i++)
    watch_flag(watch, dir->interests[i].owner, true);
}

/* Returns whether the event has to be reported now. A plain file that was just created is still
 * empty: its writer closes it next, and that event is the one to report. A new name of a file that
 * is not empty comes from link(), and no other event follows. *is_link is set if the content can
 * change under another name, so that the path must be resolved again. */
static bool has_content_now(const watched_dir *dir, const struct inotify_event *event,
                            bool *is_link) {
  char path[PATH_MAX + NAME_MAX + 2];
  struct stat st;
  *is_link = false;
  if (!(event->mask & (IN_CREATE | IN_MOVED_TO))) return true;
  size_t len = strlen(dir->path);
  memcpy(path, dir->path, len);
  path[len] = '/';
  strcpy(path + len + 1, event->name);
  if (lstat(path, &st)) return true;
  *is_link = S_ISLNK(st.st_mode);
  if (S_ISREG(st.st_mode) && st.st_nlink > 1) *is_link = true; /* a hard link */
  return !(event->mask & IN_CREATE) || !S_ISREG(st.st_mode) || st.st_size > 0;
}

static void match_name(segue__watcher *watch, watched_dir *dir, interest *in,
                       const struct inotify_event *event) {
  bool is_link;
  watched_path *path = in->owner;
  if (in->kind == STEP) {
    watch_flag(watch, path, true);
    return;
  }
  if (!has_content_now(dir, event, &is_link)) return;
  bool content_only = event->mask & (IN_CLOSE_WRITE | IN_ATTRIB);
  bool moved = !content_only && (in->kind == FINAL || is_link || path->has_links);
  if (path->unreadable && event->mask & IN_ATTRIB) moved = true; /* the mode may allow it now */
  watch_flag(watch, path, moved);
  if (path->glob) strcpy(path->changed, in->kind == PATTERN ? event->name : "");
}

/* An event of the file itself. A write by its watched name has made an event of the folder just
 * before, in the same batch: the path is flagged once. IN_ATTRIB comes also when a name of the file
 * is added or removed elsewhere (a backup that links files): that is no change. */
static void match_inode(segue__watcher *watch, watched_dir *dir, uint32_t mask) {
  for (size_t i = 0; i < dir->count; i++) {
    interest *in = &dir->interests[i];
    if (in->kind != INODE) continue;
    uint64_t print = segue__watch_owned_print(dir->path);
    if (print == in->print && !(mask & IN_CLOSE_WRITE)) continue;
    in->print = print;
    watch_flag(watch, in->owner, false);
    if (in->name) strcpy(in->owner->changed, in->name);
  }
}

static void take_event(segue__watcher *watch, const struct inotify_event *event, bool *overflow) {
  if (event->mask & IN_Q_OVERFLOW) {
    *overflow = true;
    return;
  }
  watched_dir *dir = segue__watch_dir_find(watch, event->wd);
  if (!dir) return; /* the watch was removed after the kernel had queued the event */
  bool gone = event->mask & (IN_IGNORED | IN_UNMOUNT | IN_DELETE_SELF | IN_MOVE_SELF);
  if (!gone && !event->len && dir->is_file)
    match_inode(watch, dir, event->mask);
  else if (gone || !event->len)
    flag_dir(watch, dir);
  else
    segue__watch_each(watch, dir, event, match_name);
  if (event->mask & IN_IGNORED) segue__watch_dir_forget(watch, dir);
}

/* Reads at most BATCHES_MAX batches. The rest stays in the kernel, which reports the descriptor as
 * readable again in the next turn of the loop. */
static void read_events(segue__watcher *watch, bool *overflow) {
  _Alignas(struct inotify_event) char batch[BATCH_BYTES];
  for (int i = 0; i < BATCHES_MAX; i++) {
    ssize_t len = read(watch->fd, batch, sizeof batch);
    if (len < 0 && errno == EINTR) continue;
    if (len <= 0) return;
    for (char *at = batch; at < batch + len;) {
      const struct inotify_event *event = (const struct inotify_event *)at;
      take_event(watch, event, overflow);
      at += sizeof *event + event->len;
    }
  }
}

/* Resolves at most `most` of the moved paths again. Returns how many are left. Their interests are
 * dropped together, because that looks at all interests. */
static size_t renew_some(segue__watcher *watch, size_t most) {
  size_t moved = 0;
  for (size_t i = 0; i < watch->count; i++) {
    watched_path *path = watch->paths[i];
    path->leaves = path->moved && moved < most;
    moved += path->moved;
  }
  if (!moved) return 0;
  segue__watch_unresolve(watch);
  for (size_t i = 0; i < watch->count; i++) {
    watched_path *path = watch->paths[i];
    if (!path->leaves) continue;
    path->leaves = path->moved = false;
    /* If memory ran out, the rescan sees changes of the paths without a watch. */
    int rc = segue__watch_resolve(watch, path);
    if (rc) segue__watch_set_problem(watch, rc, path->path);
  }
  segue__watch_sweep(watch);
  return moved > most ? moved - most : 0;
}

void segue__watch_renew(segue__watcher *watch) {
  (void)renew_some(watch, SIZE_MAX);
}

static void flag_all(segue__watcher *watch) {
  for (size_t i = 0; i < watch->count; i++)
    watch_flag(watch, watch->paths[i], true);
}

/* A path that is not resolved yet is not reported yet. */
static bool is_due(const watched_path *path) {
  return path->flagged && !path->moved;
}

/* Stores the fingerprint of the state that the events report; otherwise the next rescan would find
 * the same change and report it a second time. It is taken before the callbacks: a change after it
 * makes an event of its own. */
static void note_prints(segue__watcher *watch) {
  for (size_t i = 0; i < watch->count; i++) {
    watched_path *path = watch->paths[i];
    if (is_due(path) && !path->glob) path->print = segue__watch_print(path->path, NULL);
  }
  segue__watch_scan_adopt(watch);
}

/* The order matters for each path: first, if a folder or link on its way has changed, it is
 * resolved again, so that its new place is watched, and then the callback lets the file be read. A
 * change after the read is thus an event. To resolve 5,000 paths takes a second, which is too long
 * for the control thread: a part of them is resolved and reported in each turn of the loop. */
static void watch_turn(segue__watcher *watch) {
  if (!watch->flagged && !watch->overflowed) return;
  size_t left = renew_some(watch, TURN_PATHS);
  if (left) segue__timer_start(watch->loop, &watch->turn, TURN_PAUSE_MS, on_turn);
  if (left && watch->overflowed) return;
  note_prints(watch);
  expedite_rescan(watch);
  bool overflowed = watch->overflowed;
  watch->overflowed = false;
  segue__watch_report(watch, overflowed);
}

static void on_turn(segue__timer *timer) {
  watch_turn(timer->data);
}

static void on_events(uv_poll_t *poll, int status, int events) {
  (void)status, (void)events;
  segue__watcher *watch = poll->data;
  bool overflow = false;
  if (watch->closing) return;
  read_events(watch, &overflow);
  if (overflow) {
    SEGUE__LOG(watch->log, SEGUE_WARN, "watch",
               "the kernel has dropped file events; all watched files are read (raise "
               "fs.inotify.max_queued_events)");
    flag_all(watch);
    watch->overflowed = true;
  }
  watch_turn(watch);
}

/* ---- Callbacks ---- */

/* Returns the next path whose callback is due and clears its flag. The search continues behind the
 * last one, and once around: the callback may have replaced the set. */
static watched_path *next_flagged(segue__watcher *watch) {
  for (size_t i = 0; watch->flagged && i < watch->count; i++) {
    size_t at = (watch->cursor + i) % watch->count;
    watched_path *path = watch->paths[at];
    if (!is_due(path)) continue;
    watch->cursor = at + 1;
    path->flagged = false;
    watch->flagged--;
    return path;
  }
  return NULL;
}

/* The name is copied: the callback may replace the set. */
static void report_path(segue__watcher *watch, const watched_path *path) {
  char text[PATH_MAX + NAME_MAX + 1];
  size_t len = strnlen(path->path, PATH_MAX - 1);
  if (path->glob && path->changed[0]) len = (size_t)(path->glob - path->path);
  if (len > PATH_MAX - 1) len = PATH_MAX - 1;
  memcpy(text, path->path, len);
  strcpy(text + len, path->glob ? path->changed : "");
  watch->cb(watch->data, text);
}

static void forget_flags(segue__watcher *watch) {
  for (size_t i = 0; i < watch->count; i++)
    watch->paths[i]->flagged = false;
  watch->flagged = 0;
}

void segue__watch_report(segue__watcher *watch, bool anything) {
  watch->in_callback++;
  if (anything) {
    forget_flags(watch);
    watch->cb(watch->data, NULL);
  }
  while (!watch->closing) {
    const watched_path *path = next_flagged(watch);
    if (!path) break;
    report_path(watch, path);
  }
  watch->in_callback--;
  if (watch->closing && !watch->in_callback) watch_finish_close(watch);
}

static void on_rescan(segue__timer *timer) {
  segue__watcher *watch = timer->data;
  if (watch->problem[0] && watch->fd >= 0) { /* the limit may have been raised meanwhile */
    watch->problem[0] = 0;
    for (size_t i = 0; i < watch->count; i++)
      watch->paths[i]->moved = true;
    segue__watch_renew(watch);
  }
  if (!watch->scan_hangs) segue__watch_scan_start(watch);
  arm_rescan(watch);
}
