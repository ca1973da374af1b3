/* SPDX-License-Identifier: MIT
 *
 * readers.h: threads that read snapshots while others are published, for specs.
 */
#ifndef SEGUE_SPEC_READERS_H
#define SEGUE_SPEC_READERS_H

#include "core/config/snapshot.h"

typedef struct segue__readers_result {
  uint64_t sections; /* that saw a snapshot, over all threads */
  uint64_t wrong;    /* snapshots that were torn, freed, or older than one seen before */
  uint64_t switches; /* how often a reader saw a newer generation than before */
} segue__readers_result;

/* Runs four reader threads (registered, any thread, counted references, and short-lived threads)
 * while the caller's thread publishes `publishes` snapshots, and more until each reader has seen
 * ten of them come. */
int segue__readers_run(segue__publication *p, unsigned publishes, segue__readers_result *out);

/* A section of a thread of its own: open it, look at it, end it. */
typedef struct segue__section segue__section;
segue__section *segue__section_open(segue__publication *p, bool registered);
uint64_t segue__section_generation(const segue__section *section);
void segue__section_close(segue__section *section);

/* Counts calls, for segue__publication_defer: data is an int that is increased atomically. */
void segue__count_call(void *data);
int segue__count_read(const int *count);

#endif
