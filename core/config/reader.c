/* SPDX-License-Identifier: MIT
 *
 * Slots of threads. A thread that was not registered gets a slot at its first section and keeps it
 * until it exits; its slot of the publication it used last is one thread-local load away. A slot
 * and its publication may be freed in either order. If there is no memory for a slot, the section
 * is counted in the publication instead: that is slower, but a section never fails.
 */

/* This file defines the ordinary functions for SEGUE_NO_INLINE, so the inline ones of the header
 * get other names here. */
#define segue_reader_begin inline_reader_begin
#define segue_reader_end inline_reader_end
#define segue_read_begin inline_read_begin
#define segue_read_end inline_read_end
#include "../segue.h"
#undef segue_reader_begin
#undef segue_reader_end
#undef segue_read_begin
#undef segue_read_end

#include <string.h>
#include <uv.h>

#include "../os/fork.h"
#include "publication.h"

#define INITIAL_EXEC __attribute__((tls_model("initial-exec")))

__thread segue_reader *segue__thread_reader INITIAL_EXEC;
static __thread segue__slot *thread_slots INITIAL_EXEC;
static __thread unsigned thread_unslotted INITIAL_EXEC;

/* The key exists for its destructor alone, which runs when a thread exits. */
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static int key_status;
/* Held while a thread exits and while a publication is freed: each of them detaches slots of the
 * other. */
static pthread_mutex_t slots_lock = PTHREAD_MUTEX_INITIALIZER;

void *segue__aligned_alloc(size_t size, void **memory) {
  *memory = segue__malloc(size + 128);
  return *memory ? (void *)(((uintptr_t)*memory + 127) & ~(uintptr_t)127) : NULL;
}

static void reader_attach(segue__slot *slot, segue__publication *p) {
  pthread_mutex_lock(&p->lock);
  slot->owner = p;
  slot->reader.fenced = p->fenced;
  __atomic_store_n(&slot->reader.live, &p->live, __ATOMIC_RELAXED);
  slot->prev = NULL;
  slot->next = p->slots;
  if (p->slots) p->slots->prev = slot;
  p->slots = slot;
  pthread_mutex_unlock(&p->lock);
}

/* Under the slots' lock. */
static void reader_detach(segue__slot *slot) {
  segue__publication *p = slot->owner;
  pthread_mutex_lock(&p->lock);
  if (slot->prev)
    slot->prev->next = slot->next;
  else
    p->slots = slot->next;
  if (slot->next) slot->next->prev = slot->prev;
  slot->owner = NULL;
  __atomic_store_n(&slot->reader.live, NULL, __ATOMIC_RELAXED);
  pthread_mutex_unlock(&p->lock);
}

void segue__reader_slots_detach(segue__publication *p) {
  pthread_mutex_lock(&slots_lock);
  while (p->slots)
    reader_detach(p->slots);
  pthread_mutex_unlock(&slots_lock);
}

static segue__slot *reader_slot_new(void) {
  void *memory;
  segue__slot *slot = segue__aligned_alloc(sizeof *slot, &memory);
  if (!slot) return NULL;
  memset(slot, 0, sizeof *slot);
  slot->memory = memory;
  return slot;
}

static void slot_free(segue__slot *slot) {
  pthread_mutex_lock(&slots_lock);
  if (slot->owner) reader_detach(slot);
  pthread_mutex_unlock(&slots_lock);
  segue__free(slot->memory);
}

/* ---- Slots that the caller makes ------------------------------------------------------------- */

int segue__publication_reader(segue__publication *p, segue_reader **out) {
  segue__slot *slot = reader_slot_new();
  *out = slot ? &slot->reader : NULL;
  if (!slot) return UV_ENOMEM;
  reader_attach(slot, p);
  return 0;
}

segue_reader *segue_reader_new(segue *s) {
  segue__publication *p = (segue__publication *)*(segue__live **)(void *)s;
  segue_reader *reader = NULL;
  if (!segue__in_child(p->mark)) segue__publication_reader(p, &reader);
  return reader;
}

void segue_reader_free(segue_reader *reader) {
  if (reader) slot_free((segue__slot *)reader);
}

/* ---- Slots of any thread --------------------------------------------------------------------- */

static void reader_thread_exit(void *first) {
  segue__thread_reader = NULL;
  thread_slots = NULL;
  for (segue__slot *slot = first; slot;) {
    segue__slot *next = slot->thread_next;
    slot_free(slot);
    slot = next;
  }
}

static void reader_make_key(void) {
  key_status = -pthread_key_create(&key, reader_thread_exit);
}

/* The library is unloaded: threads that exit later must not call into it. */
__attribute__((destructor)) static void reader_drop_key(void) {
  pthread_once(&key_once, reader_make_key);
  if (!key_status) pthread_key_delete(key);
}

static segue__slot *reader_find(const segue__publication *p) {
  segue__slot *slot = thread_slots;
  while (slot && __atomic_load_n(&slot->reader.live, __ATOMIC_RELAXED) != &p->live)
    slot = slot->thread_next;
  return slot;
}

static segue__slot *find_detached(void) {
  segue__slot *slot = thread_slots;
  while (slot && __atomic_load_n(&slot->reader.live, __ATOMIC_RELAXED))
    slot = slot->thread_next;
  return slot;
}

/* While a section of this thread is counted and not in a slot, no slot is made: that is how the end
 * of a section knows where it began. */
static segue__slot *reader_make(segue__publication *p) {
  if (thread_unslotted) return NULL;
  segue__slot *slot = find_detached();
  if (!slot) {
    pthread_once(&key_once, reader_make_key);
    slot = key_status ? NULL : reader_slot_new();
    if (!slot) return NULL;
    if (pthread_setspecific(key, slot)) {
      segue__free(slot->memory);
      return NULL;
    }
    slot->thread_next = thread_slots;
    thread_slots = slot;
  }
  pthread_mutex_lock(&slots_lock);
  reader_attach(slot, p);
  pthread_mutex_unlock(&slots_lock);
  return slot;
}

const segue_snapshot *segue__section_begin(segue__live *live) {
  segue__publication *p = (segue__publication *)live;
  segue__slot *slot = reader_find(p);
  if (!slot && segue__in_child(p->mark)) return NULL;
  if (!slot) slot = reader_make(p);
  if (slot) {
    segue__thread_reader = &slot->reader;
    return inline_reader_begin(&slot->reader);
  }
  thread_unslotted++;
  __atomic_add_fetch(&p->unslotted, 1, __ATOMIC_SEQ_CST);
  return __atomic_load_n(&live->snapshot, __ATOMIC_SEQ_CST);
}

void segue__section_end(segue__live *live) {
  segue__publication *p = (segue__publication *)live;
  segue__slot *slot = reader_find(p);
  if (slot) {
    segue__thread_reader = &slot->reader;
    inline_reader_end(&slot->reader);
    return;
  }
  if (segue__in_child(p->mark)) return;
  thread_unslotted--;
  __atomic_sub_fetch(&p->unslotted, 1, __ATOMIC_SEQ_CST);
}

/* ---- SEGUE_NO_INLINE ------------------------------------------------------------------------- */

SEGUE_API const segue_snapshot *segue_reader_begin(segue_reader *reader);
SEGUE_API void segue_reader_end(segue_reader *reader);
SEGUE_API const segue_snapshot *segue_read_begin(segue *s);
SEGUE_API void segue_read_end(segue *s);

const segue_snapshot *segue_reader_begin(segue_reader *reader) {
  return inline_reader_begin(reader);
}

void segue_reader_end(segue_reader *reader) {
  inline_reader_end(reader);
}

const segue_snapshot *segue_read_begin(segue *s) {
  return inline_read_begin(s);
}

void segue_read_end(segue *s) {
  inline_read_end(s);
}
