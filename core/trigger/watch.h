/* SPDX-License-Identifier: MIT
 *
 * watch.h: watching files through inotify on their directories. Sees saves by rename, ConfigMap
 * "..data" swaps, files and folders that are not there yet, moved folders and queue overflow; a
 * slow rescan sees what inotify cannot (NFS, bind mounts). It says only that something may have
 * changed: the content's hash decides, elsewhere.
 */
#ifndef SEGUE_TRIGGER_WATCH_H
#define SEGUE_TRIGGER_WATCH_H

#include "../os/log.h"
#include "../os/loop.h"
#include "../os/os.h"

typedef struct segue__watch segue__watch;
/* path: one that changed, or NULL after an overflow or rescan. */
typedef void (*segue__watch_cb)(void *data, const char *path);

#define SEGUE__RESCAN_MS 30000

int segue__watch_new(segue__watch **out, segue__loop *loop, const segue__log *log,
                     segue__watch_cb cb, void *data);
/* Replaces the set of watched paths (files, or "dir/glob" patterns); unchanged ones are not
 * touched. Paths need not exist. rescan_ms 0 = SEGUE__RESCAN_MS. */
int segue__watch_set(segue__watch *watch, const segue__names *paths, uint64_t rescan_ms,
                     segue_error *err);
void segue__watch_close(segue__watch *watch, void (*cb)(void *data), void *data);

#endif
