/* SPDX-License-Identifier: MIT
 *
 * Lines of a child's output. A line is held until its end comes, but never more than max bytes of
 * it: a child that writes without a line end would otherwise fill the memory.
 */
#include "output_lines.h"

#include <string.h>

enum { LINE_MAX_BYTES = 4096 };

static void output_lines_pass(segue__output_lines *lines, bool cut) {
  segue__buf *held = &lines->held;
  bool short_of_memory = held->failed;
  size_t len = held->len;
  if (!cut && len && held->data[len - 1] == '\r') held->data[--len] = 0;
  lines->on_line(lines->data, held->data ? held->data : "", len, cut || short_of_memory);
  held->len = 0;
  if (!short_of_memory) return;
  segue__buf_deinit(held);
  segue__buf_init(held);
}

/* Adds a part of a line that has no line end in it. */
static void output_lines_hold(segue__output_lines *lines, const char *bytes, size_t len) {
  size_t max = lines->max ? lines->max : LINE_MAX_BYTES;
  if (lines->skipping) return;
  size_t room = max - lines->held.len;
  segue__buf_add(&lines->held, bytes, len < room ? len : room);
  if (len <= room) return;
  output_lines_pass(lines, true);
  lines->skipping = true;
}

void segue__output_lines_add(segue__output_lines *lines, const char *bytes, size_t len) {
  const char *end = bytes + len, *newline;
  while ((newline = memchr(bytes, '\n', (size_t)(end - bytes)))) {
    output_lines_hold(lines, bytes, (size_t)(newline - bytes));
    if (!lines->skipping) output_lines_pass(lines, false);
    lines->skipping = false;
    bytes = newline + 1;
  }
  if (bytes < end) output_lines_hold(lines, bytes, (size_t)(end - bytes));
}

void segue__output_lines_end(segue__output_lines *lines) {
  if (lines->held.len && !lines->skipping) output_lines_pass(lines, false);
  lines->skipping = false;
  segue__buf_deinit(&lines->held);
  segue__buf_init(&lines->held);
}
