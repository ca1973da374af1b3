/* SPDX-License-Identifier: MIT
 *
 * lines.h: where a Lua text assigns which name, as far as one can tell without parsing it.
 */
#ifndef SEGUE_BIND_LINES_H
#define SEGUE_BIND_LINES_H

#include <stddef.h>
#include <stdint.h>

typedef struct segue__line {
  const char *name; /* in the text */
  uint32_t len, line;
} segue__line;
typedef struct segue__lines {
  segue__line *items; /* sorted by name */
  size_t count, capacity;
} segue__lines;

/* Borrows the text. Returns 0 or UV_ENOMEM. */
int segue__lines_init(segue__lines *lines, const char *text, size_t len);
void segue__lines_deinit(segue__lines *lines);
/* The line of `name = ...`, if the text has that once; else `otherwise`. */
uint32_t segue__lines_find(const segue__lines *lines, const char *name, size_t len,
                           uint32_t otherwise);

#endif
