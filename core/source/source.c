/* SPDX-License-Identifier: MIT
 *
 * Code that all sources share: lists of documents, deliveries, and the kind `value`.
 */
#include "source.h"

#include <string.h>
#include <uv.h>

#include "kinds.h"
#include "source_options.h"

void segue__source_deinit(segue__source *source) {
  if (source->kind && source->kind->remote && source->kind->remote->close)
    source->kind->remote->close(source);
  segue__free(source->name);
  segue__free(source->path);
  segue__free(source->prefix);
  segue__free(source->separator);
  segue__document_unref(source->value);
  for (size_t i = 0; i < source->guard.required_count; i++)
    segue__free(source->guard.required[i]);
  segue__free(source->guard.required);
  if (source->made.table && source->made.options)
    segue__options_clear(source->made.table, source->made.options);
  segue__free(source->made.options);
  memset(source, 0, sizeof *source);
}

void segue__delivery_deinit(segue__emission *delivery) {
  segue__documents_deinit(&delivery->documents);
  segue__free(delivery->revision);
  segue__free(delivery->base);
  segue__names_deinit(&delivery->removed);
  memset(delivery, 0, sizeof *delivery);
}

void segue__documents_deinit(segue__documents *docs) {
  for (size_t i = 0; i < docs->count; i++)
    segue__document_unref(docs->items[i]);
  segue__free(docs->items);
  memset(docs, 0, sizeof *docs);
}

/* The reference moves in also where this fails: then it is given back. */
int segue__documents_add(segue__documents *docs, segue__document *doc) {
  if (docs->count == docs->capacity) {
    size_t capacity = docs->capacity ? docs->capacity * 2 : 4;
    segue__document **items = segue__realloc(docs->items, capacity * sizeof(*items));
    if (!items) {
      segue__document_unref(doc);
      return UV_ENOMEM;
    }
    docs->items = items;
    docs->capacity = capacity;
  }
  docs->items[docs->count++] = doc;
  return 0;
}

int segue__documents_copy(segue__documents *to, const segue__documents *from) {
  for (size_t i = 0; i < from->count; i++) {
    int rc = segue__documents_add(to, segue__document_ref(from->items[i]));
    if (rc < 0) return rc;
  }
  return 0;
}

static int fetch_value(const segue__source *source, const segue__os *os,
                       const segue__limits *limits, const segue__documents *previous,
                       uint32_t *next_id, segue__documents *out, segue_error *err) {
  (void)os, (void)limits, (void)previous, (void)next_id;
  if (!source->value) return 0;
  int rc = segue__documents_add(out, segue__document_ref(source->value));
  return rc ? segue__errorf(err, rc, "out of memory while reading %s", source->name) : 0;
}

static int source_watch_nothing(const segue__source *source, segue__names *paths) {
  (void)source, (void)paths;
  return 0;
}

const segue__source_kind segue__source_value = {.name = "value",
                                                .options = &segue__source_value_options,
                                                .fetch = fetch_value,
                                                .watch = source_watch_nothing};
