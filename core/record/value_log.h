/* SPDX-License-Identifier: MIT
 *
 * value_log.h: the changes of a large value of a two-slot file, appended to NAME.log, so that one
 * changed key among 10,000 writes a few kilobytes and not the value. A slot is the base; each
 * record makes the next value from the one before: parts of it, and new bytes. A record is durable
 * before its write is answered. A log of another base, and a record that was cut short, count as
 * missing. The functions block: they are for the record thread. Format (little endian): 8 bytes of
 * magic, 16 bytes hash of the base; then for each record: u32 length, 16 bytes XXH3-128 of the rest
 * with the one before as its seed, u64 length and 16 bytes hash of the value, and steps: 'C' u64
 * offset u64 length copies, 'L' u64 length has the bytes.
 */
#ifndef SEGUE_RECORD_VALUE_LOG_H
#define SEGUE_RECORD_VALUE_LOG_H

#include "../os/mem.h"
#include "../os/os.h"

typedef struct segue__value_log segue__value_log;

/* Values of fewer bytes are written as a whole. */
#define SEGUE__VALUE_LOG_LEAST (64 << 10)

int segue__value_log_new(segue__value_log **out, const char *folder, const char *name);
void segue__value_log_free(segue__value_log *log); /* NULL allowed */

/* A slot has this value now, durably: begins a log on it. If that fails, the next value is written
 * as a whole. */
void segue__value_log_begin(segue__value_log *log, const char *value, size_t len);
/* Another value is written to a slot: this log does not continue it. */
void segue__value_log_end(segue__value_log *log);
/* Appends a value, durably. 1: it has to be written as a whole: nothing is there to continue, or
 * the log would be larger than its base. Negative: the disk refused; the value before stays. */
int segue__value_log_append(segue__value_log *log, const char *value, size_t len);
/* Continues a value that was read from a slot: *file, from malloc, is replaced by the last value of
 * the log, *value and *len are it. Unchanged if the log does not continue it. UV_ENOMEM. */
int segue__value_log_read(const segue__value_log *log, segue__bytes *file, const char **value,
                          size_t *len);

#endif
