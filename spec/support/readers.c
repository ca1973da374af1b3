/* SPDX-License-Identifier: MIT
 *
 * Readers on threads of their own. A snapshot is validated by what must hold in it: the value of
 * "n" is its generation, everywhere, and generations only grow.
 */
#include "readers.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* The instance that the public functions want: it begins with what is live. */
struct segue {
  segue__live *live;
};

enum { REGISTERED, ANY, COUNTED, SHORT_LIVED, KINDS };

typedef struct readers {
  segue instance;
  unsigned publishes;
  int running;          /* atomic */
  uint64_t seen[KINDS]; /* atomic: switches of each reader, for the writer */
  segue__readers_result results[KINDS];
} readers;

typedef struct reader {
  readers *all;
  int kind;
  uint64_t newest;
} reader;

static void check(reader *r, const segue_snapshot *snapshot) {
  segue__readers_result *result = &r->all->results[r->kind];
  if (!snapshot) return;
  result->sections++;
  uint64_t generation = segue_snapshot_generation(snapshot), first = 0, last = 0;
  const segue_node *root = segue_snapshot_root(snapshot);
  if (segue_node_uint(segue_node_get(root, "list[0].n"), &first) ||
      segue_node_uint(segue_node_get(root, "list[9].n"), &last) || first != generation ||
      last != generation || generation < r->newest)
    result->wrong++;
  result->switches += generation != r->newest;
  __atomic_store_n(&r->all->seen[r->kind], result->switches, __ATOMIC_RELAXED);
  r->newest = generation;
}

static void read_once(reader *r, segue_reader *slot) {
  segue *s = &r->all->instance;
  if (slot) {
    check(r, segue_reader_begin(slot));
    check(r, segue_reader_begin(slot)); /* sections nest */
    segue_reader_end(slot);
    segue_reader_end(slot);
  } else if (r->kind == COUNTED) {
    const segue_snapshot *snapshot = segue_snapshot_acquire(s);
    check(r, snapshot);
    segue_snapshot_unref(snapshot);
  } else {
    check(r, segue_read_begin(s));
    segue_read_end(s);
  }
}

static void *read_some(void *data) {
  for (int i = 0; i < 20; i++)
    read_once(data, NULL);
  return NULL;
}

static void *read_all(void *data) {
  reader *r = data;
  segue_reader *slot = r->kind == REGISTERED ? segue_reader_new(&r->all->instance) : NULL;
  while (__atomic_load_n(&r->all->running, __ATOMIC_ACQUIRE)) {
    pthread_t thread;
    if (r->kind != SHORT_LIVED)
      read_once(r, slot);
    else if (!pthread_create(&thread, NULL, read_some, r))
      pthread_join(thread, NULL);
  }
  segue_reader_free(slot);
  return NULL;
}

static int publish_one(segue__publication *p, uint64_t generation) {
  char text[512];
  int len = snprintf(text, sizeof text, "{\"list\":[");
  for (int i = 0; i < 10; i++)
    len += snprintf(text + len, sizeof text - (size_t)len, "%s{\"n\":%u}", i ? "," : "",
                    (unsigned)generation);
  len += snprintf(text + len, sizeof text - (size_t)len, "]}");
  segue__document *doc = NULL;
  segue__config *config = NULL;
  segue_snapshot *snapshot = NULL;
  int rc = segue__document_new(&doc, (uint32_t)generation, "spec", "spec", SEGUE__JSON,
                               segue__strndup(text, (size_t)len), (size_t)len);
  if (!rc) rc = segue__document_parse(doc, NULL, NULL, NULL, NULL);
  if (!rc) rc = segue__config_merge(&config, &doc, 1, NULL);
  if (!rc) rc = segue__snapshot_new(&snapshot, generation, config);
  if (!rc) rc = segue__publish(p, snapshot);
  segue_snapshot_unref(snapshot);
  segue__config_unref(config);
  segue__document_unref(doc);
  return rc;
}

/* Every reader was at work while the snapshots changed. */
static bool all_have_seen(const readers *all, uint64_t switches) {
  for (int i = 0; i < KINDS; i++)
    if (__atomic_load_n(&all->seen[i], __ATOMIC_RELAXED) < switches) return false;
  return true;
}

int segue__readers_run(segue__publication *p, unsigned publishes, segue__readers_result *out) {
  readers all = {.instance = {segue__publication_live(p)}, .running = 1};
  reader each[KINDS];
  pthread_t threads[KINDS];
  int started = 0, rc = 0;
  for (; !rc && started < KINDS; started += !rc) {
    each[started] = (reader){.all = &all, .kind = started};
    rc = -pthread_create(&threads[started], NULL, read_all, &each[started]);
  }
  unsigned most = publishes * 200;
  for (unsigned i = 1; !rc && (i <= publishes || (i < most && !all_have_seen(&all, 10))); i++)
    rc = publish_one(p, i);
  __atomic_store_n(&all.running, 0, __ATOMIC_RELEASE);
  memset(out, 0, sizeof *out);
  for (int i = 0; i < started; i++) {
    pthread_join(threads[i], NULL);
    out->sections += all.results[i].sections;
    out->wrong += all.results[i].wrong;
    out->switches += all.results[i].switches;
  }
  return rc;
}

/* ---- One section ----------------------------------------------------------------------------- */

struct segue__section {
  segue instance;
  bool registered;
  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t wake;
  const segue_snapshot *snapshot;
  bool open, close;
};

static void *hold(void *data) {
  segue__section *section = data;
  segue_reader *slot = section->registered ? segue_reader_new(&section->instance) : NULL;
  pthread_mutex_lock(&section->lock);
  section->snapshot = slot ? segue_reader_begin(slot) : segue_read_begin(&section->instance);
  section->open = true;
  pthread_cond_broadcast(&section->wake);
  while (!section->close)
    pthread_cond_wait(&section->wake, &section->lock);
  if (slot)
    segue_reader_end(slot);
  else
    segue_read_end(&section->instance);
  pthread_mutex_unlock(&section->lock);
  segue_reader_free(slot);
  return NULL;
}

segue__section *segue__section_open(segue__publication *p, bool registered) {
  segue__section *section = segue__calloc(1, sizeof *section);
  section->instance.live = segue__publication_live(p);
  section->registered = registered;
  pthread_mutex_init(&section->lock, NULL);
  pthread_cond_init(&section->wake, NULL);
  pthread_create(&section->thread, NULL, hold, section);
  pthread_mutex_lock(&section->lock);
  while (!section->open)
    pthread_cond_wait(&section->wake, &section->lock);
  pthread_mutex_unlock(&section->lock);
  return section;
}

uint64_t segue__section_generation(const segue__section *section) {
  return section->snapshot ? segue_snapshot_generation(section->snapshot) : 0;
}

void segue__section_close(segue__section *section) {
  pthread_mutex_lock(&section->lock);
  section->close = true;
  pthread_cond_broadcast(&section->wake);
  pthread_mutex_unlock(&section->lock);
  pthread_join(section->thread, NULL);
  pthread_mutex_destroy(&section->lock);
  pthread_cond_destroy(&section->wake);
  segue__free(section);
}

void segue__count_call(void *data) {
  __atomic_add_fetch((int *)data, 1, __ATOMIC_RELEASE);
}

int segue__count_read(const int *count) {
  return __atomic_load_n(count, __ATOMIC_ACQUIRE);
}
