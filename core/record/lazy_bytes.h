/* SPDX-License-Identifier: MIT
 *
 * lazy_bytes.h: bytes that are made when something reads them first. The text of what a source
 * delivered costs milliseconds for 10,000 keys: it is made on the record thread after the
 * generation is live, and not before. Counted; [any thread].
 */
#ifndef SEGUE_RECORD_LAZY_BYTES_H
#define SEGUE_RECORD_LAZY_BYTES_H

#include <stddef.h>

#include "../os/mem.h"

typedef struct segue__lazy_bytes segue__lazy_bytes;
typedef struct segue__lazy_ops {
  int (*write)(const void *data, segue__buf *out); /* appends the bytes; 0 or a negative code */
  void (*free)(void *data);
} segue__lazy_ops;

/* Takes data, also if it fails. */
int segue__lazy_bytes_new(segue__lazy_bytes **out, const segue__lazy_ops *ops, void *data);
segue__lazy_bytes *segue__lazy_bytes_ref(segue__lazy_bytes *lazy); /* NULL allowed */
void segue__lazy_bytes_unref(segue__lazy_bytes *lazy);             /* NULL allowed */
/* The bytes, terminated past their length, until the last reference is released. A failure is not
 * kept: the next call tries again. */
int segue__lazy_bytes_get(segue__lazy_bytes *lazy, const char **data, size_t *len);

#endif
