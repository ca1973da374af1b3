/* SPDX-License-Identifier: MIT
 *
 * Snapshots and their publication. Epochs with asymmetric barriers: a reader stores the epoch into
 * its slot and loads the pointer, with no barrier between; after an exchange the reclamation thread
 * advances the epoch and lets membarrier(2) put the barrier into every running thread, so that each
 * slot now shows its section or the section sees the new pointer. Then it waits for the slots that
 * show an older epoch. All waiting is done by that thread, because a job in libuv's pool must not
 * hang.
 */
#include "snapshot.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "../os/fork.h"
#include "../os/thread.h"
#include "publication.h"

/* ---- Snapshots ------------------------------------------------------------------------------- */

int segue__snapshot_new(segue_snapshot **out, uint64_t generation, segue__config *config) {
  *out = segue__calloc(1, sizeof **out);
  if (!*out) return UV_ENOMEM;
  (*out)->refs = 1;
  (*out)->generation = generation;
  (*out)->config = segue__config_ref(config);
  segue__hash_hex(segue__node_hash(&config->root), (*out)->hash);
  return 0;
}

const segue_snapshot *segue_snapshot_ref(const segue_snapshot *snapshot) {
  if (snapshot) __atomic_add_fetch(&((segue_snapshot *)snapshot)->refs, 1, __ATOMIC_RELAXED);
  return snapshot;
}

static segue__census *census_new(void) {
  segue__census *census = segue__calloc(1, sizeof *census);
  if (!census) return NULL;
  census->refs = 1;
  sem_init(&census->work, 0, 0); /* fails only for a value that is too large */
  return census;
}

static void census_unref(segue__census *census) {
  if (!census || __atomic_sub_fetch(&census->refs, 1, __ATOMIC_ACQ_REL)) return;
  sem_destroy(&census->work);
  segue__free(census);
}

/* Counts a snapshot at its first publication, under the publication's lock. */
static void count_in(segue__census *census, segue_snapshot *snapshot) {
  if (!snapshot || snapshot->census) return;
  snapshot->census = census;
  __atomic_add_fetch(&census->refs, 1, __ATOMIC_RELAXED);
  __atomic_add_fetch(&census->snapshots, 1, __ATOMIC_RELAXED);
}

void segue_snapshot_unref(const segue_snapshot *snapshot) {
  segue_snapshot *own = (segue_snapshot *)snapshot;
  if (!own || __atomic_sub_fetch(&own->refs, 1, __ATOMIC_ACQ_REL)) return;
  segue__config_unref(own->config);
  segue__mask_unref(own->mask);
  if (own->census) {
    __atomic_sub_fetch(&own->census->snapshots, 1, __ATOMIC_RELAXED);
    sem_post(&own->census->work); /* the reclamation thread trims: this may be the loop's */
  }
  census_unref(own->census);
  segue__free(own);
}

const segue_node *segue_snapshot_root(const segue_snapshot *snapshot) {
  return snapshot ? &snapshot->config->root : NULL;
}

uint64_t segue_snapshot_generation(const segue_snapshot *snapshot) {
  return snapshot ? snapshot->generation : 0;
}

const char *segue_snapshot_hash(const segue_snapshot *snapshot) {
  return snapshot ? snapshot->hash : "";
}

/* ---- Reclamation ----------------------------------------------------------------------------- */

struct segue__retired {
  segue__retired *next;
  void (*fn)(void *data);
  void *data;
};

static void drop_snapshot(void *data) {
  segue_snapshot_unref(data);
}

static int membarrier(int command) {
  return (int)syscall(__NR_membarrier, command, 0, 0);
}

static void pause_ns(long ns) {
  nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

/* Returns whether no section is open that began before `epoch`. */
static bool snapshot_quiet(segue__publication *p, uint64_t epoch) {
  bool is_quiet = !__atomic_load_n(&p->unslotted, __ATOMIC_SEQ_CST);
  pthread_mutex_lock(&p->lock);
  for (segue__slot *slot = p->slots; is_quiet && slot; slot = slot->next) {
    uint64_t began = __atomic_load_n(&slot->reader.epoch, __ATOMIC_SEQ_CST);
    is_quiet = !began || began >= epoch;
  }
  pthread_mutex_unlock(&p->lock);
  return is_quiet;
}

static bool is_stopping(segue__publication *p) {
  pthread_mutex_lock(&p->lock);
  bool stopping = p->stopping;
  pthread_mutex_unlock(&p->lock);
  return stopping;
}

enum { SLOW_MS = 1000 };

uint64_t segue__publication_wait_ms(const segue__publication *p) {
  uint64_t since = __atomic_load_n(&p->waits_since_ns, __ATOMIC_RELAXED);
  return since ? (uv_hrtime() - since) / 1000000 : 0;
}

long segue__publication_snapshots(const segue__publication *p) {
  return __atomic_load_n(&p->census->snapshots, __ATOMIC_RELAXED);
}

void segue__publication_on_slow(segue__publication *p, void (*on_slow)(void *data), void *data) {
  p->on_slow = on_slow;
  p->slow_data = data;
}

static void wait_for_readers(segue__publication *p) {
  uint64_t epoch = __atomic_add_fetch(&p->live.epoch, 1, __ATOMIC_SEQ_CST);
  /* The barrier was registered and cannot fail, unless a sandbox that was installed later forbids
   * it. Then nothing is freed before the publication itself, when no section is open any more. */
  while (membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) && !p->fenced && !is_stopping(p))
    pause_ns(10000000);
  int tries = 0;
  bool is_reported = false;
  __atomic_store_n(&p->waits_since_ns, uv_hrtime(), __ATOMIC_RELAXED);
  for (long ns = 20000; !snapshot_quiet(p, epoch);) {
    if (tries++ < 8) {
      sched_yield();
      continue;
    }
    pause_ns(ns);
    ns = ns < 5000000 ? ns * 2 : ns;
    if (is_reported || segue__publication_wait_ms(p) < SLOW_MS) continue;
    is_reported = true;
    if (p->on_slow) p->on_slow(p->slow_data);
  }
  __atomic_store_n(&p->waits_since_ns, (uint64_t)0, __ATOMIC_RELAXED);
}

static void run_all(segue__retired *item) {
  while (item) {
    segue__retired *next = item->next;
    item->fn(item->data);
    segue__free(item);
    item = next;
  }
}

static segue__retired *snapshot_take_retired(segue__publication *p) {
  pthread_mutex_lock(&p->lock);
  segue__retired *items = p->first;
  p->first = NULL;
  p->last = &p->first;
  pthread_mutex_unlock(&p->lock);
  return items;
}

/* The semaphore is posted for each item and for each snapshot that any thread freed, because the
 * memory of both is trimmed here and on no other thread. One turn may do the work of several posts;
 * the turns of the others then find nothing. */
static void *snapshot_reclaim(void *data) {
  segue__publication *p = data;
  bool stopping = false;
  while (!stopping) {
    while (sem_wait(&p->census->work) && errno == EINTR)
      ;
    stopping = is_stopping(p); /* read before the items: none is retired after it is set */
    for (segue__retired *items; (items = snapshot_take_retired(p));) {
      wait_for_readers(p);
      run_all(items);
    }
    segue__mem_trim();
  }
  return NULL;
}

static int snapshot_start_thread(segue__publication *p) {
  if (p->started) return 0;
  int rc = segue__thread_start(&p->thread, "segue-reclaim", 0, snapshot_reclaim, p);
  p->started = !rc;
  return rc;
}

static int reserve_spares(segue__publication *p, unsigned count) {
  while (p->spare_count < count) {
    segue__retired *spare = segue__malloc(sizeof *spare);
    if (!spare) return UV_ENOMEM;
    spare->next = p->spares;
    p->spares = spare;
    p->spare_count++;
  }
  return 0;
}

static segue__retired *take_spare(segue__publication *p) {
  segue__retired *item = p->spares;
  p->spares = item->next;
  p->spare_count--;
  return item;
}

/* Called under the lock, with the thread running. */
static void snapshot_retire(segue__publication *p, segue__retired *item, void (*fn)(void *data),
                            void *data) {
  *item = (segue__retired){.fn = fn, .data = data};
  *p->last = item;
  p->last = &item->next;
  sem_post(&p->census->work);
}

/* ---- Publication ----------------------------------------------------------------------------- */

void segue__publication_prepare(void) {
  (void)membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED); /* _new checks the result */
}

int segue__publication_new(segue__publication **out) {
  *out = NULL;
  void *memory;
  segue__publication *p = segue__aligned_alloc(sizeof *p, &memory);
  if (!p) return UV_ENOMEM;
  memset(p, 0, sizeof *p);
  p->memory = memory;
  p->live.epoch = 1;
  p->last = &p->first;
  p->fenced = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) != 0;
  p->census = census_new();
  int rc = p->census ? -pthread_mutex_init(&p->lock, NULL) : UV_ENOMEM;
  if (rc) {
    census_unref(p->census);
    segue__free(memory);
    return rc;
  }
  *out = p;
  return 0;
}

void segue__publication_free(segue__publication *p) {
  if (!p) return;
  if (p->started) {
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_mutex_unlock(&p->lock);
    sem_post(&p->census->work);
    pthread_join(p->thread, NULL);
  }
  segue__reader_slots_detach(p);
  segue_snapshot_unref(p->live.snapshot);
  while (p->spares) {
    segue__retired *next = p->spares->next;
    segue__free(p->spares);
    p->spares = next;
  }
  pthread_mutex_destroy(&p->lock);
  census_unref(p->census);
  segue__free(p->memory);
}

/* A transaction reserves what publishing needs while it prepares: after that segue__publish cannot
 * fail for lack of memory, which would be after the point where the transaction can still be
 * undone. */
int segue__publication_reserve(segue__publication *p, unsigned count) {
  pthread_mutex_lock(&p->lock);
  int rc = snapshot_start_thread(p);
  if (!rc) rc = reserve_spares(p, count);
  pthread_mutex_unlock(&p->lock);
  return rc;
}

/* The exchange is the moment at which readers on all threads see the new generation. The old one is
 * retired under the same lock, so that two calls retire in the order of their exchanges. */
int segue__publish(segue__publication *p, const segue_snapshot *next) {
  pthread_mutex_lock(&p->lock);
  int rc = snapshot_start_thread(p);
  if (!rc) rc = reserve_spares(p, 1);
  if (!rc) {
    count_in(p->census, (segue_snapshot *)next);
    segue_snapshot_ref(next);
    const segue_snapshot *old = __atomic_exchange_n(&p->live.snapshot, next, __ATOMIC_SEQ_CST);
    if (old) snapshot_retire(p, take_spare(p), drop_snapshot, (void *)old);
  }
  pthread_mutex_unlock(&p->lock);
  return rc;
}

/* Allocates an item of its own: the reserved spares are for publishing alone. */
int segue__publication_defer(segue__publication *p, void (*fn)(void *data), void *data) {
  segue__retired *item = segue__malloc(sizeof *item);
  if (!item) return UV_ENOMEM;
  pthread_mutex_lock(&p->lock);
  int rc = snapshot_start_thread(p);
  if (!rc) snapshot_retire(p, item, fn, data);
  pthread_mutex_unlock(&p->lock);
  if (rc) segue__free(item);
  return rc;
}

void segue__publication_set_mark(segue__publication *p, const uint32_t *mark) {
  p->mark = mark;
}

void segue__publication_abandon(segue__publication *p) {
  segue_snapshot_unref(__atomic_exchange_n(&p->live.snapshot, NULL, __ATOMIC_SEQ_CST));
}

struct segue__live *segue__publication_live(segue__publication *p) {
  return &p->live;
}

const segue_snapshot *segue__publication_get(const segue__publication *p) {
  return __atomic_load_n(&p->live.snapshot, __ATOMIC_ACQUIRE);
}

const segue_snapshot *segue__publication_acquire(segue__publication *p) {
  if (segue__in_child(p->mark)) return NULL;
  const segue_snapshot *snapshot = segue__section_begin(&p->live);
  if (snapshot) segue_snapshot_ref(snapshot);
  segue__section_end(&p->live);
  return snapshot;
}

const segue_snapshot *segue_snapshot_acquire(segue *s) {
  return segue__publication_acquire((segue__publication *)*(segue__live **)(void *)s);
}

#ifdef SEGUE_TEST
void segue__publication_use_fences(segue__publication *p) {
  p->fenced = true;
}
#endif
