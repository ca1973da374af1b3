/* SPDX-License-Identifier: MIT
 *
 * text_diff.h: the difference of two texts as a unified diff, which patch(1) applies. Blocks for a
 * bounded time, whatever the texts are. [any thread]
 */
#ifndef SEGUE_FILES_TEXT_DIFF_H
#define SEGUE_FILES_TEXT_DIFF_H

#include "../os/mem.h"

/* Longer texts, and texts of more lines, have no diff. */
#define SEGUE__DIFF_BYTES ((size_t)8 << 20)
#define SEGUE__DIFF_LINES ((size_t)400000)

typedef struct segue__diff_side {
  const char *data; /* compared */
  size_t len;
  const char *shown; /* printed in place of data, line by line; NULL: data. It has as many lines. */
  size_t shown_len;
} segue__diff_side;

typedef struct segue__diff_options {
  size_t size;
  segue__diff_side before, after;
  const char *before_name, *after_name; /* of the lines --- and +++ */
  size_t room;                          /* the most bytes that are appended; 0: no limit */
  /* Appends a removed line as it is printed, without its line break; NULL: the line of `before`. */
  void (*removed)(void *data, segue__buf *out, const char *line, size_t len);
  void *data;
} segue__diff_options;

typedef struct segue__diff_counts {
  size_t added, removed; /* lines */
  size_t left_out;       /* lines of the diff for which there was no room */
} segue__diff_counts;

/* Appends the diff, nothing if the texts are equal. SEGUE_ELIMIT: a text is too long. UV_ENOMEM:
 * nothing was appended that may be shown. */
int segue__text_diff(segue__buf *out, const segue__diff_options *options,
                     segue__diff_counts *counts);

#endif
