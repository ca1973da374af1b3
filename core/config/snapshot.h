/* SPDX-License-Identifier: MIT
 *
 * snapshot.h: publishes one immutable snapshot to readers on any thread. Readers are either in a
 * read section (per-thread slot, a plain store and a load; the writer pays with membarrier(2)) or
 * hold a counted reference. A replaced snapshot is freed after a grace period by a thread of its
 * own, so that a slow reader delays only the freeing.
 */
#ifndef SEGUE_CONFIG_SNAPSHOT_H
#define SEGUE_CONFIG_SNAPSHOT_H

#include "config.h"
#include "mask.h"

struct segue_snapshot {
  long refs; /* atomic */
  uint64_t generation;
  char hash[33];                /* of the merged config, hex */
  segue__config *config;        /* a reference */
  segue__mask *mask;            /* its secrets; a reference, set before the snapshot is shared */
  struct segue__census *census; /* a reference; NULL: never published */
};

/* config: the new snapshot takes its own reference. Returned with one reference. */
int segue__snapshot_new(segue_snapshot **out, uint64_t generation, segue__config *config);

/* The place that readers load the live snapshot from. One per instance. An instance begins with a
 * pointer to the struct that read sections load: struct segue { struct segue__live *live; ... },
 * live from _live below. */
typedef struct segue__publication segue__publication;
/* For a program that will start threads before its first publication. It registers the process for
 * membarrier(2) early: the kernel registers a process of one thread at once, but needs some 20 ms
 * for a process with more threads. */
void segue__publication_prepare(void);
int segue__publication_new(segue__publication **out);
struct segue__live *segue__publication_live(segue__publication *p);
/* In a child of the process that owns the mark (os/fork.h) no snapshot is live, except in read
 * sections of threads that have a slot: the child takes no lock and makes no reader, because
 * another thread of the parent may have held the lock at the fork. */
void segue__publication_set_mark(segue__publication *p, const uint32_t *mark);
/* In a child: releases the reference to the live snapshot. */
void segue__publication_abandon(segue__publication *p);
/* Frees the publication. All sections must have ended; slots may still exist. Runs the deferred
 * functions, releases the live snapshot, joins the reclamation thread. */
void segue__publication_free(segue__publication *p);
/* Reserves memory so that the next `count` publishes cannot fail. A transaction reserves two: after
 * it has made a snapshot live it must be able to undo that without memory. */
int segue__publication_reserve(segue__publication *p, unsigned count);
/* Makes `next` live (takes a reference; NULL allowed); releases the previous one after a grace
 * period. Never waits. The first call starts the reclamation thread. Fails only before anything is
 * changed. Control thread. */
int segue__publish(segue__publication *p, const segue_snapshot *next);
/* Returns the live snapshot without a reference: control thread only. */
const segue_snapshot *segue__publication_get(const segue__publication *p);
/* Returns a reference to the live snapshot. [any thread] */
const segue_snapshot *segue__publication_acquire(segue__publication *p);
/* Number of snapshots of this publication in memory: the live one, the ones that the engine keeps,
 * and the ones with other references or read sections. [any thread] */
long segue__publication_snapshots(const segue__publication *p);
/* Returns how long the freeing of a replaced snapshot has waited for read sections; 0: none waits.
 * [any thread] */
uint64_t segue__publication_wait_ms(const segue__publication *p);
/* on_slow is called on the reclamation thread, once for each wait, after one second. Set it before
 * the first publication. */
void segue__publication_on_slow(segue__publication *p, void (*on_slow)(void *data), void *data);
/* A slot for read sections, see segue_reader_new. [any thread] */
int segue__publication_reader(segue__publication *p, segue_reader **out);
/* Runs fn(data) on the reclamation thread after all sections that are open now have ended: for
 * other objects that readers may use (instances under `swap`). Never waits. [any thread] */
int segue__publication_defer(segue__publication *p, void (*fn)(void *data), void *data);

#ifdef SEGUE_TEST
/* Makes slots from now on work without membarrier(2), as on a system that lacks it. For specs. */
void segue__publication_use_fences(segue__publication *p);
#endif

#endif
