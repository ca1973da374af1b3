/* SPDX-License-Identifier: MIT
 *
 * Deliveries as sources in C make them, and pushes from other threads to the control thread.
 */
#include <string.h>
#include <uv.h>

#include "source.h"

enum { QUEUED_MAX = 1000 }; /* pushes of one watch that wait for the control thread */

/* ---- Deliveries ------------------------------------------------------------------------------ */

segue_delivery *segue_delivery_new(void) {
  return segue__calloc(1, sizeof(segue_delivery));
}

void segue_delivery_free(segue_delivery *delivery) {
  if (!delivery) return;
  segue__delivery_deinit(delivery);
  segue__free(delivery);
}

int segue_delivery_add(segue_delivery *delivery, const char *name, const char *format,
                       const void *data, size_t len) {
  segue__format as;
  segue__document *doc = NULL;
  if (!name || !*name || !format || !format[1] || !segue__document_format_find(format, &as))
    return SEGUE_EUSAGE;
  char *copy = segue__strndup(data ? data : "", data ? len : 0);
  if (!copy) return UV_ENOMEM;
  /* The engine sets the source when it takes the delivery. */
  int rc = segue__document_new(&doc, 0, "", name, as, copy, data ? len : 0);
  return rc ? rc : segue__documents_add(&delivery->documents, doc);
}

static int delivery_set(char **field, const char *text) {
  char *copy = segue__strdup(text);
  if (text && !copy) return UV_ENOMEM;
  segue__free(*field);
  *field = copy;
  return 0;
}

int segue_delivery_base(segue_delivery *delivery, const char *base) {
  return delivery_set(&delivery->base, base);
}

int segue_delivery_remove(segue_delivery *delivery, const char *name) {
  if (!name || !*name) return SEGUE_EUSAGE;
  return segue__names_add(&delivery->removed, "", 0, name);
}

int segue_delivery_revision(segue_delivery *delivery, const char *revision) {
  return delivery_set(&delivery->revision, revision);
}

void segue_delivery_unchanged(segue_delivery *delivery) {
  delivery->unchanged = true;
}

/* ---- Pushes ---------------------------------------------------------------------------------- */

static segue__emission *emitter_take(segue__emitter *emitter) {
  pthread_mutex_lock(&emitter->mutex);
  segue__emission *first = emitter->first;
  emitter->first = emitter->last = NULL;
  emitter->count = 0;
  emitter->posted = false;
  pthread_mutex_unlock(&emitter->mutex);
  return first;
}

static void emitter_deliver(segue__message *message) {
  segue__emitter *emitter =
      (segue__emitter *)((char *)message - offsetof(struct segue_watch, message));
  segue__emission *next, *delivery = emitter_take(emitter);
  for (; delivery; delivery = next) {
    next = delivery->next;
    emitter->emit(emitter->data, delivery);
    segue_delivery_free(delivery);
  }
}

void segue__emitter_init(segue__emitter *emitter, segue__loop *loop,
                         void (*emit)(void *data, segue__emission *delivery), void *data) {
  *emitter = (segue__emitter){.emit = emit, .data = data, .loop = loop};
  emitter->message.fn = emitter_deliver;
  pthread_mutex_init(&emitter->mutex, NULL);
}

void segue__emitter_close(segue__emitter *emitter) {
  pthread_mutex_lock(&emitter->mutex);
  emitter->loop = NULL;
  pthread_mutex_unlock(&emitter->mutex);
}

void segue__emitter_deinit(segue__emitter *emitter) {
  segue__emission *next, *delivery = emitter_take(emitter);
  for (; delivery; delivery = next) {
    next = delivery->next;
    segue_delivery_free(delivery);
  }
  pthread_mutex_destroy(&emitter->mutex);
}

static void emitter_forget(segue__emitter *emitter) {
  segue__emission *next, *old = emitter->first;
  emitter->first = emitter->last = NULL;
  emitter->count = 0;
  for (; old; old = next) {
    next = old->next;
    segue_delivery_free(old);
  }
}

/* A delivery of everything replaces those before it, which no run has used: a source that pushes in
 * a loop holds one delivery in memory. A delta replaces nothing: a source that pushed deltas faster
 * than the control thread applies them would fill the memory, and keep that thread from all other
 * work. So a queue that is full becomes one request for a fetch. Later deltas do not continue what
 * is held, until that fetch has brought everything. */
static void emitter_add(segue__emitter *emitter, segue__emission *delivery) {
  if (!delivery->base && !delivery->unchanged && !delivery->ask) emitter_forget(emitter);
  if (emitter->count == QUEUED_MAX) {
    emitter_forget(emitter);
    segue__delivery_deinit(delivery);
    delivery->ask = delivery->lost = true;
  }
  if (emitter->last)
    emitter->last->next = delivery;
  else
    emitter->first = delivery;
  emitter->last = delivery;
  emitter->count++;
}

int segue_watch_emit(segue_watch *watch, segue_delivery *delivery) {
  if (!delivery) {
    delivery = segue_delivery_new();
    if (!delivery) return UV_ENOMEM;
    delivery->ask = true;
  }
  pthread_mutex_lock(&watch->mutex);
  bool open = watch->loop != NULL;
  if (open) emitter_add(watch, delivery);
  if (open && !watch->posted) segue__post(watch->loop, &watch->message);
  watch->posted = watch->posted || open;
  pthread_mutex_unlock(&watch->mutex);
  if (open) return 0;
  segue_delivery_free(delivery);
  return SEGUE_ECANCELLED;
}
