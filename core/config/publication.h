/* SPDX-License-Identifier: MIT
 *
 * publication.h: a publication from the inside: snapshot.c publishes and reclaims, reader.c keeps
 * the slots of the threads.
 */
#ifndef SEGUE_CONFIG_PUBLICATION_H
#define SEGUE_CONFIG_PUBLICATION_H

#include <pthread.h>
#include <semaphore.h>

#include "snapshot.h"

typedef struct segue__retired segue__retired;

/* State shared by the published snapshots and their publication. Counted, because hosts may keep
 * snapshots for longer than the instance lives. */
typedef struct segue__census {
  long refs, snapshots; /* atomic; snapshots: published and in memory */
  sem_t work;           /* the reclamation thread waits for it */
} segue__census;

/* A slot. The fields that a section writes have a cache line of their own; no other slot lies on
 * the line behind it, because processors fetch lines in pairs. */
typedef struct segue__slot segue__slot;
struct segue__slot {
  segue_reader reader;
  segue__publication *owner; /* NULL: its publication is gone; under the slots' lock */
  segue__slot *prev, *next;  /* in the publication */
  segue__slot *thread_next;  /* in the thread that it was made for */
  void *memory;              /* the allocation: the slot is aligned inside it */
} __attribute__((aligned(128)));

struct segue__publication {
  segue__live live __attribute__((aligned(128)));
  pthread_mutex_t lock __attribute__((aligned(128)));
  segue__slot *slots;
  segue__retired *first, **last; /* what waits for a grace period, in order */
  segue__retired *spares;        /* for the next publishes, which then cannot fail */
  unsigned spare_count;
  pthread_t thread;
  bool started, stopping, fenced;
  const uint32_t *mark; /* os/fork.h */
  segue__census *census;
  uint64_t waits_since_ns; /* atomic; 0: the thread does not wait for sections */
  void (*on_slow)(void *data);
  void *slow_data;
  unsigned unslotted; /* sections of threads that could not get a slot */
  void *memory;
};

/* Memory of which the result is aligned to 128 bytes; *memory is what segue__free takes. */
void *segue__aligned_alloc(size_t size, void **memory);
/* Forgets the slots of a publication that goes. */
void segue__reader_slots_detach(segue__publication *p);

#endif
