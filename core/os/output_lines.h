/* SPDX-License-Identifier: MIT
 *
 * output_lines.h: cuts the output of a child into lines.
 */
#ifndef SEGUE_OS_OUTPUT_LINES_H
#define SEGUE_OS_OUTPUT_LINES_H

#include <stdbool.h>

#include "mem.h"

typedef struct segue__output_lines segue__output_lines;
struct segue__output_lines {
  /* One line without its end ("\n" or "\r\n"), terminated past len; borrowed until it returns. cut:
   * the line was longer than max bytes, and this is its beginning. The rest of the line is
   * dropped. */
  void (*on_line)(void *data, const char *line, size_t len, bool cut);
  void *data;
  size_t max; /* 0: 4096 */
  segue__buf held;
  bool skipping; /* until the end of a line that was too long */
};

/* Calls on_line for each line that ends in these bytes and keeps the beginning of the last one. A
 * line for which memory is out is passed on as far as it was kept, as cut. */
void segue__output_lines_add(segue__output_lines *lines, const char *bytes, size_t len);
/* At the end of the output: passes on a last line that has no end, and frees what is held. The
 * struct can be used again. */
void segue__output_lines_end(segue__output_lines *lines);

#endif
