/* SPDX-License-Identifier: MIT
 *
 * two_slot_file.h: a small durable value in two files, NAME.a and NAME.b (mode 0600), which are
 * written in turn, each with a sequence number and a checksum. If a write is cut short or a file is
 * damaged, the other file has the value before it. The functions block: they are for the record
 * thread. Format (little endian): 8 bytes of magic, u64 sequence, the value, 16 bytes XXH3-128 of
 * all bytes before.
 */
#ifndef SEGUE_RECORD_TWO_SLOT_FILE_H
#define SEGUE_RECORD_TWO_SLOT_FILE_H

#include "../os/log.h"
#include "../os/mem.h"
#include "../os/os.h"

typedef struct segue__two_slot_file {
  char *paths[2];
  const char *name,
      *magic; /* static; magic has 8 bytes; fault points: NAME.open, with "_" for "-" */
  const segue__logger *log;
  uint64_t sequence;
  int last;                         /* the one written last */
  struct segue__value_log *changes; /* of large values, see value_log.h; NULL: they are whole */
} segue__two_slot_file;

enum { SEGUE__SLOT_HEADER = 16 };

int segue__two_slot_file_init(segue__two_slot_file *state_file, const segue__logger *log,
                              const char *folder, const char *name, const char *magic);
/* From now on a large value that changes little is written as its changes, to NAME.log. */
int segue__two_slot_file_log(segue__two_slot_file *state_file, const char *folder,
                             const char *name);
/* The files may be other ones now: the next value is written as a whole. */
void segue__two_slot_file_anew(segue__two_slot_file *state_file);
void segue__two_slot_file_deinit(segue__two_slot_file *state_file); /* zeroed or init */

/* Reads the newest good value: `file` gets the bytes of the whole file, `value` and `len` the part
 * of it that is the value. A damaged file is logged and not used. UV_ENOENT: there is none. */
int segue__two_slot_file_read(segue__two_slot_file *state_file, segue__bytes *file,
                              const char **value, size_t *len);

/* Call begin, append the value to b, then call write, which is durable. On failure the newest good
 * value stays what it was. b stays the caller's. */
void segue__two_slot_file_begin(const segue__two_slot_file *state_file, segue__buf *b);
int segue__two_slot_file_write(segue__two_slot_file *state_file, segue__buf *b);
/* Path of the file that a failed write was for. */
const char *segue__two_slot_file_next(const segue__two_slot_file *state_file);

void segue__put_number(segue__buf *b, uint64_t n, int bytes); /* little endian */
uint64_t segue__get_number(const char *at, int bytes);

#endif
