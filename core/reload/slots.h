/* SPDX-License-Identifier: MIT
 *
 * slots.h: a small durable value: two files, NAME.a and NAME.b (mode 0600), written in turn, each
 * with a sequence number and a checksum. A write that is cut short, or a file that is damaged,
 * leaves the other one. Blocks: for the thread that records.
 * Format (little endian): 8 bytes of magic, u64 sequence, the value, 16 bytes XXH3-128 of all
 * before.
 */
#ifndef SEGUE_RELOAD_SLOTS_H
#define SEGUE_RELOAD_SLOTS_H

#include "../os/log.h"
#include "../os/mem.h"
#include "../os/os.h"

typedef struct segue__slots {
  char *paths[2];
  const char *name,
      *magic; /* static; magic has 8 bytes; fault points: NAME.open, with "_" for "-" */
  const segue__log *log;
  uint64_t sequence;
  int last;      /* the one written last */
  bool unsynced; /* a write survives the process, not a power failure */
} segue__slots;

enum { SEGUE__SLOT_HEADER = 16 };

int segue__slots_init(segue__slots *slots, const segue__log *log, const char *folder,
                      const char *name, const char *magic);
void segue__slots_deinit(segue__slots *slots); /* zeroed or init */

/* Reads the newest good value: `file` gets the bytes of the whole file, `value` and `len` the part
 * of it that is the value. A damaged file is logged and not used. UV_ENOENT: there is none. */
int segue__slots_read(segue__slots *slots, segue__bytes *file, const char **value, size_t *len);

/* begin, then append the value to b, then write it, durably. On failure the newest good value stays
 * what it was. b stays the caller's. */
void segue__slots_begin(const segue__slots *slots, segue__buf *b);
int segue__slots_write(segue__slots *slots, segue__buf *b);
/* Path of the file that a failed write was for. */
const char *segue__slots_next(const segue__slots *slots);

void segue__put_number(segue__buf *b, uint64_t n, int bytes); /* little endian */
uint64_t segue__get_number(const char *at, int bytes);

#endif
