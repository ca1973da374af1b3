/* SPDX-License-Identifier: MIT
 *
 * units.h: durations and sizes as text. Policies, configuration, HTTP parameters and the command
 * line share this grammar. [any thread]
 *
 *   duration:  one or more of NUMBER UNIT without gaps; ms, s, m, h, d: "50ms", "1.5s", "1h30m"
 *   size:      NUMBER [UNIT]; B, kB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (of 1024)
 *
 * A number is digits with an optional fraction: no sign, no exponent.
 */
#ifndef SEGUE_OS_UNITS_H
#define SEGUE_OS_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Return false, and leave *out as it is, if the text does not follow the grammar. The result may
 * be too large for the use: the caller checks the range. */
bool segue__duration_read(const char *s, size_t len, double *ms);
bool segue__size_read(const char *s, size_t len, double *bytes);

/* For texts that stand for a typed value (a parameter of a URL, an argument of a command): there a
 * number without a unit is a number of seconds, as a number is in a policy. Rejects more than
 * SEGUE__DURATION_MAX_MS. */
bool segue__duration_of(const char *text, uint64_t *ms);

/* Longest duration that an option takes: 366 days. */
#define SEGUE__DURATION_MAX_MS (366 * 86400000.0)

/* Write the shortest text that reads back as the same value: "1h30m", "50ms", "0s"; "64MiB",
 * "1000B" as "1kB". Return buf. */
enum { SEGUE__UNITS_SIZE = 48 };
const char *segue__duration_text(double ms, char buf[SEGUE__UNITS_SIZE]);
const char *segue__size_text(double bytes, char buf[SEGUE__UNITS_SIZE]);

#endif
