/* SPDX-License-Identifier: MIT
 *
 * read: what it costs to look at the configuration on a hot path, on 1 and on 2 threads, while a
 * writer publishes a new snapshot every millisecond: a plain pointer (which could not be freed), a
 * read section of a thread with a slot of its own, one of any thread, a counted reference, and a
 * pthread rwlock. Each read uses what the one before it read, as a program does that looks at its
 * configuration because it needs the value: what shows is the time that a read adds, not how many
 * reads with no use a processor can overlap. Prints "name_threads nanoseconds" lines, the best of
 * several rounds.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "config/snapshot.h"
#include "rounds.h"

/* How an instance begins, see segue.h: this is all that readers look at. */
typedef struct host {
  segue__live *live;
  segue__publication *publication;
} host;

static host instance;
static const segue_snapshot *plain;
static volatile uint64_t zero; /* what the compiler cannot know */
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static int stop;

typedef enum way { PLAIN, REGISTERED, ANY_THREAD, COUNTED, RWLOCK, WAYS } way;
static const char *const names[WAYS] = {"plain", "registered", "any", "counted", "rwlock"};

/* last & zero is nothing, but only the last value proves it. */
#define BEHIND(p) ((__typeof__(p))((uintptr_t)(p) + (last & nothing)))

static uint64_t read_plain(uint64_t last, uint64_t nothing) {
  return BEHIND(__atomic_load_n(&plain, __ATOMIC_ACQUIRE))->generation;
}

static uint64_t read_registered(segue_reader *reader, uint64_t last, uint64_t nothing) {
  uint64_t value = BEHIND(segue_reader_begin(reader))->generation;
  segue_reader_end(reader);
  return value;
}

static uint64_t read_any(uint64_t last, uint64_t nothing) {
  uint64_t value = BEHIND(segue_read_begin((segue *)&instance))->generation;
  segue_read_end((segue *)&instance);
  return value;
}

static uint64_t read_counted(uint64_t last, uint64_t nothing) {
  const segue_snapshot *s = segue__publication_acquire(instance.publication);
  uint64_t value = BEHIND(s)->generation;
  segue_snapshot_unref(s);
  return value;
}

static uint64_t read_rwlock(uint64_t last, uint64_t nothing) {
  pthread_rwlock_rdlock(&lock);
  uint64_t value = BEHIND(plain)->generation;
  pthread_rwlock_unlock(&lock);
  return value;
}

typedef struct reading {
  way how;
  segue_reader *slot;
  uint64_t last, nothing;
} reading;

/* The loop is the same for all; `how` does not change, so the branch costs the same nothing. */
#define LOOP(read)                                                                                 \
  do {                                                                                             \
    for (int i = 0; i < ROUND_BATCH; i++) {                                                        \
      last = read;                                                                                 \
      __asm__ volatile("" : "+r"(last)::"memory");                                                 \
    }                                                                                              \
  } while (0)

static void read_batch(void *data) {
  reading *r = data;
  uint64_t last = r->last, nothing = r->nothing;
  if (r->how == PLAIN)
    LOOP(read_plain(last, nothing));
  else if (r->how == REGISTERED)
    LOOP(read_registered(r->slot, last, nothing));
  else if (r->how == ANY_THREAD)
    LOOP(read_any(last, nothing));
  else if (r->how == COUNTED)
    LOOP(read_counted(last, nothing));
  else
    LOOP(read_rwlock(last, nothing));
  r->last = last;
}

static double reader_main(void *data) {
  reading r = {.how = *(const way *)data, .nothing = zero};
  if (segue__publication_reader(instance.publication, &r.slot)) exit(1);
  double ns = rounds_batches(read_batch, &r);
  segue_reader_free(r.slot);
  return ns;
}

/* Publishes every millisecond. The old snapshots stay, because the plain pointer has no protection:
 * that is the difference that the other ways pay for. */
static void *writer_main(void *arg) {
  segue_snapshot **snapshots = arg;
  for (unsigned i = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
    const segue_snapshot *next = snapshots[i % 2];
    if (segue__publish(instance.publication, next)) exit(1);
    pthread_rwlock_wrlock(&lock);
    __atomic_store_n(&plain, next, __ATOMIC_RELEASE);
    pthread_rwlock_unlock(&lock);
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
  return NULL;
}

int main(void) {
  segue_snapshot *snapshots[2];
  segue__config *config;
  if (segue__config_merge(&config, NULL, 0, NULL)) return 1;
  if (segue__publication_new(&instance.publication)) return 1;
  instance.live = segue__publication_live(instance.publication);
  for (int i = 0; i < 2; i++)
    if (segue__snapshot_new(&snapshots[i], (uint64_t)i + 1, config)) return 1;
  plain = snapshots[0];
  if (segue__publish(instance.publication, plain)) return 1;
  pthread_t writer;
  if (pthread_create(&writer, NULL, writer_main, snapshots)) return 1;
  for (way how = 0; how < WAYS; how++)
    for (int threads = 1; threads <= ROUND_THREADS_MAX; threads++) {
      const rounds of = {.work = reader_main, .data = &how};
      printf("%s_%d %.3f\n", names[how], threads, rounds_best(&of, threads));
    }
  __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
  pthread_join(writer, NULL);
  segue__publication_free(instance.publication);
  for (int i = 0; i < 2; i++)
    segue_snapshot_unref(snapshots[i]);
  segue__config_unref(config);
  return 0;
}
