/* SPDX-License-Identifier: MIT
 *
 * watch.h: watching files through inotify on their directories, and on the files themselves, which
 * may be written by another name (a hard link, a bind mount of one file). Sees saves by rename,
 * ConfigMap "..data" swaps, files and folders that do not exist yet, moved folders and queue
 * overflow; a slow rescan sees the rest (NFS, new mounts). A callback means only that something may
 * have changed: the content's hash decides, elsewhere. Control thread.
 */
#ifndef SEGUE_TRIGGER_WATCH_H
#define SEGUE_TRIGGER_WATCH_H

#include "../os/log.h"
#include "../os/loop.h"
#include "../os/os.h"

typedef struct segue__watcher segue__watcher;
/* path: one that changed (of a pattern: the file that matched), or NULL after an overflow or
 * rescan. Borrowed. May call segue__watch_set and segue__watch_close. */
typedef void (*segue__watch_cb)(void *data, const char *path);

#define SEGUE__RESCAN_MS 30000

/* Needs a real loop (UV_ENOTSUP). Where the system has no inotify instance left it works by rescan
 * alone; see segue__watch_problem. */
int segue__watch_new(segue__watcher **out, segue__loop *loop, const segue__logger *log,
                     segue__watch_cb cb, void *data);
/* Replaces the set of watched paths (files, or "dir/glob" patterns); unchanged ones are not
 * touched. Paths need not exist. rescan_ms 0 = SEGUE__RESCAN_MS. On failure (out of memory) the old
 * set stays. */
int segue__watch_set(segue__watcher *watch, const segue__names *paths, uint64_t rescan_ms,
                     segue_error *err);
/* Returns whether any watched path, or a link or folder on the way to it, was touched since that
 * time. For callers that read the files before the watch began: a change between the two made no
 * event. May return true too often. */
bool segue__watch_touched_since(segue__watcher *watch, int64_t wall_ms);
/* Returns one sentence if the kernel's limits force a rescan every SEGUE__RESCAN_LIMITED_MS in
 * place of events, else NULL. Also logged once. Borrowed until the next change. */
#define SEGUE__RESCAN_LIMITED_MS 2000
const char *segue__watch_problem(const segue__watcher *watch);
/* Closes the watch; cb runs when the handle is closed and the memory freed. NULL is allowed; then
 * cb runs at once. */
void segue__watch_close(segue__watcher *watch, void (*cb)(void *data), void *data);

#endif
