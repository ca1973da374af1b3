/* SPDX-License-Identifier: MIT
 *
 * source_cache.h: cached deliveries: what a source on a network delivered last, among the files of
 * a generation. The format is known to source_cache.c alone.
 */
#ifndef SEGUE_RELOAD_SOURCE_CACHE_H
#define SEGUE_RELOAD_SOURCE_CACHE_H

#include "../record/inputs.h"
#include "../source/source.h"

/* The parts of a delivery beside its documents. */
typedef struct segue__cached_delivery {
  char *revision; /* owned, or NULL */
  int64_t wall_ms;
} segue__cached_delivery;

/* Adds the delivery to the inputs of a generation. Worker thread. */
int segue__cached_delivery_write(segue__inputs *inputs, const segue__source *source,
                                 const segue__cached_delivery *head,
                                 const segue__documents *documents);
/* Reads the delivery of a source from the inputs of a generation. UV_ENOENT: there is none.
 * UV_EINVAL: it is damaged. Free *head with deinit. */
int segue__cached_delivery_read(segue__inputs *inputs, const segue__source *source,
                                segue__cached_delivery *head, segue__documents *out);
/* The same from the bytes of that file. source: the name for the documents. */
int segue__cached_delivery_parse(const char *data, size_t len, const char *source,
                                 segue__cached_delivery *head, segue__documents *out);
void segue__cached_delivery_deinit(segue__cached_delivery *head);

#endif
