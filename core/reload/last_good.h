/* SPDX-License-Identifier: MIT
 *
 * last_good.h: the last good generation on disk: every file that went into it, policy included, so
 * that a daemon can start when a file is gone or broken. It stands between the instance and the
 * file system: while it watches, it remembers what a run reads; when a run was good, a thread of
 * its own writes those files down; when it replays, reads are answered from what was written.
 *
 * On disk: two slots, last-good.a and last-good.b (mode 0600), written in turn and checksummed; a
 * write that is cut short leaves the other one. Format (little endian):
 *   8 bytes "SEGUELG1", u64 sequence, u64 generation, i64 wall ms, 32 bytes hash, u32 files, then
 *   for each: u32 length of path, u64 length of data, path, data; at the end 16 bytes XXH3-128 of
 *   all before.
 * Environment variables are not kept: they are there at every start.
 */
#ifndef SEGUE_RELOAD_LAST_GOOD_H
#define SEGUE_RELOAD_LAST_GOOD_H

#include "../os/log.h"
#include "../os/os.h"

typedef struct segue__last_good segue__last_good;

/* folder: the state folder, which exists. pass: paths that begin with it are never replayed (the
 * Lua half, which comes with the program); NULL: none. log is borrowed. */
int segue__last_good_new(segue__last_good **out, const segue__os *os, const segue__log *log,
                         const char *folder, const char *pass);
/* Waits for a write that is under way. NULL allowed. */
void segue__last_good_free(segue__last_good *last_good);

/* What the loader and the engine read through. Its functions: [any thread]. */
const segue__os *segue__last_good_os(const segue__last_good *last_good);

/* Control thread. A run begins, or ended without being good: what was remembered is forgotten. */
void segue__last_good_forget(segue__last_good *last_good);
/* The run was good: what it read becomes the last good generation, in the background. A newer one
 * replaces one that still waits. */
void segue__last_good_save(segue__last_good *last_good, uint64_t generation, const char hash[33],
                           int64_t wall_ms);
/* Waits until nothing is left to write; for specs and shutdown. 0, or why the last write failed. */
int segue__last_good_flush(segue__last_good *last_good);

typedef struct segue__last_good_info {
  uint64_t generation;
  int64_t wall_ms;
  char hash[33];
} segue__last_good_info;

/* Reads are answered from the newest good slot from now on, until stop. UV_ENOENT: there is none.
 * A damaged slot is told in the log and passed over. */
int segue__last_good_replay(segue__last_good *last_good, segue__last_good_info *info);
void segue__last_good_replay_stop(segue__last_good *last_good);

#endif
