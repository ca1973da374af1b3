/* SPDX-License-Identifier: MIT
 *
 * utf8.h: checks and writes UTF-8, and cuts text for messages. [any thread]
 */
#ifndef SEGUE_CONFIG_UTF8_H
#define SEGUE_CONFIG_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Returns the length of the valid part at the start of s: len if all of it is UTF-8. Overlong
 * forms, surrogates and code points above U+10FFFF are not valid. */
size_t segue__utf8_check(const char *s, size_t len);
/* Returns the bytes of the character at the start of s, 0 if it is not valid. len > 0. */
size_t segue__utf8_next(const char *s, size_t len);
/* Writes one code point (not a surrogate); returns its length of 1 to 4. */
size_t segue__utf8_put(uint32_t code, char out[4]);
/* Returns how much of a text of len bytes a message shows ("%.*s"). */
static inline int segue__text_cut(size_t len) {
  return len > 80 ? 80 : (int)len;
}

#endif
