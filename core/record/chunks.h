/* SPDX-License-Identifier: MIT
 *
 * chunks.h: cuts bytes into chunks at places that their content determines. A change of a few bytes
 * changes the chunks that contain them, and no other one, also if it moves all bytes after it. So
 * what is written of a large value that changes a little is the changed chunks.
 */
#ifndef SEGUE_RECORD_CHUNKS_H
#define SEGUE_RECORD_CHUNKS_H

#include <stddef.h>
#include <stdint.h>

typedef struct segue__chunker {
  uint64_t gear[256];
  size_t least, most;
  unsigned bits; /* a chunk is about 2^bits bytes longer than the least */
} segue__chunker;

/* Values of several MiB get larger chunks, so that their lists stay small. fine: small ones. */
void segue__chunker_init(segue__chunker *chunker, size_t value_len, int fine);
/* The length of the first chunk of these bytes; 0 only if len is 0. */
size_t segue__chunker_next(const segue__chunker *chunker, const char *data, size_t len);

#endif
