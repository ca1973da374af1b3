/* SPDX-License-Identifier: MIT
 *
 * cache.h: cached deliveries: what a source on a network delivered last, as bytes for the files of
 * a generation. The format is known to cache.c alone.
 */
#ifndef SEGUE_SOURCE_CACHE_H
#define SEGUE_SOURCE_CACHE_H

#include "source.h"

/* The parts of a delivery beside its documents. */
typedef struct segue__cached_delivery {
  char *revision; /* owned, or NULL */
  int64_t wall_ms;
} segue__cached_delivery;

/* Appends a delivery. Worker thread. */
int segue__cached_delivery_write(segue__buf *out, const segue__cached_delivery *head,
                                 const segue__documents *documents);
/* Reads a delivery, and gives its documents the name of the source. UV_EINVAL: it is damaged. Free
 * *head with deinit. */
int segue__cached_delivery_parse(const char *data, size_t len, const char *source,
                                 segue__cached_delivery *head, segue__documents *out);
void segue__cached_delivery_deinit(segue__cached_delivery *head);

#endif
