/* SPDX-License-Identifier: MIT
 *
 * text.h: bytes of a text that may contain zero bytes. [any thread]
 */
#ifndef SEGUE_OS_TEXT_H
#define SEGUE_OS_TEXT_H

#include <stdbool.h>
#include <string.h>

/* Whether c is one of the characters of set. strchr(3) finds a zero byte in each set, because it
 * compares the terminator, too; this function does not. */
static inline bool segue__is_one_of(char c, const char *set) {
  return c && strchr(set, c);
}

#endif
