/* SPDX-License-Identifier: MIT
 *
 * watch_internal.h: the inside of a watch, shared only by watch.c (the set, events),
 * watch_resolve.c (which folders and files a path depends on) and watch_scan.c (the slow scan).
 */
#ifndef SEGUE_TRIGGER_WATCH_INTERNAL_H
#define SEGUE_TRIGGER_WATCH_INTERNAL_H

#include <limits.h>
#include <sys/inotify.h>
#include <uv.h>

#include "watch.h"

/* One watched path. */
typedef struct watched_path {
  char *path;
  const char *glob; /* its last part, where that is a pattern; else NULL */
  bool flagged;     /* an event concerned it; the callback is due */
  bool moved;       /* and a folder or link of its path may have changed */
  bool leaves;      /* its interests are to be dropped */
  bool has_links; /* glob: some matches have an inode elsewhere: links, or files that are watched */
  bool unreadable; /* the file cannot be watched before its mode changes */
  uint64_t events; /* number of events; a scan compares it to detect that events came meanwhile */
  uint64_t print;  /* fingerprint at the last look */
  bool print_known;
  char changed[NAME_MAX + 1]; /* glob: the name that matched last */
} watched_path;

/* Why a folder matters to a path. */
typedef enum interest_kind {
  ANCESTOR, /* on the way: only its own moving or vanishing matters */
  STEP,     /* a name in it is a link on the way, or the first part that is missing */
  FINAL,    /* the name in it is the file */
  PATTERN,  /* names in it match the pattern */
  INODE     /* no folder: it is the file itself, which another name may change */
} interest_kind;

typedef struct interest {
  watched_path *owner;
  interest_kind kind;
  uint32_t name_hash;
  char *name;     /* owned; NULL for ANCESTOR; INODE: of the match, NULL without a pattern */
  uint64_t print; /* INODE: segue__watch_owned_print at the last look */
} interest;

/* One inotify watch: of a folder, or of a file with INODE interests only. */
typedef struct watched_dir {
  struct watched_dir *next; /* in its bucket */
  int wd;
  bool full;    /* the watch reports names in it, not only its own removal */
  bool is_file; /* its interests are INODE */
  char *path;
  interest *interests;
  size_t count, capacity;
  /* Of a folder with many interests: the indices of `named` interests, in the order of the hashes
   * of their names, and of the patterns behind them. The others concern no name. NULL: not known.
   */
  uint32_t *order;
  size_t named, listed;
} watched_dir;

enum { DIR_BUCKETS = 256 };

typedef struct watch_scan watch_scan;

struct segue__watcher {
  segue__loop *loop;
  const segue__logger *log;
  segue__watch_cb cb;
  void *data;
  int fd;      /* -1: no inotify */
  int last_fd; /* -1, or to be closed at the end */
  bool polling, closing;
  uv_poll_t poll;
  watched_path **paths;
  size_t count;
  uint64_t set_version; /* counts segue__watch_set, so that loops over paths notice */
  size_t flagged;
  size_t cursor;     /* where the search for a flagged path begins */
  segue__timer turn; /* the next part of the work of events */
  bool overflowed;   /* events were lost: the callback with NULL is due */
  watched_dir *dirs[DIR_BUCKETS];
  segue__timer rescan;
  uint64_t rescan_ms;
  watch_scan *scan; /* in flight */
  segue__timer scan_limit;
  bool scan_hangs;
  char problem[256], reported[256]; /* and the one that was logged last */
  int in_callback;
  void (*closed_cb)(void *data);
  void *closed_data;
};

/* watch_resolve.c */
watched_dir *segue__watch_dir_find(segue__watcher *watch, int wd);
void segue__watch_dir_forget(segue__watcher *watch,
                             watched_dir *dir); /* the kernel has dropped it */
int segue__watch_resolve(segue__watcher *watch, watched_path *path);
void segue__watch_unresolve(segue__watcher *watch); /* the paths that leave */
/* Calls match for each interest of a folder that may be concerned by an event of this name. */
void segue__watch_each(segue__watcher *watch, watched_dir *dir, const struct inotify_event *event,
                       void (*match)(segue__watcher *watch, watched_dir *dir, interest *in,
                                     const struct inotify_event *event));
void segue__watch_sweep(segue__watcher *watch); /* removes inotify watches that no path needs */
uint32_t segue__watch_name_hash(const char *name);
void segue__watch_set_problem(segue__watcher *watch, int code, const char *place);

/* watch_scan.c */
uint64_t segue__watch_print(const char *path, const char *glob);
/* Of size, mode, owner and mtime; not of ctime, which a new link to the file changes as well. */
uint64_t segue__watch_owned_print(const char *path);
void segue__watch_scan_start(segue__watcher *watch);
void segue__watch_scan_adopt(segue__watcher *watch); /* patterns that are flagged */
void segue__watch_scan_forget(segue__watcher *watch);

void segue__watch_renew(segue__watcher *watch); /* resolves again what has moved */
void segue__watch_report(segue__watcher *watch,
                         bool anything); /* runs callbacks; may free the watch */

#endif
