/* SPDX-License-Identifier: MIT
 *
 * base64.h: bytes as base64 (RFC 4648) and back. url: the letters of URLs, without padding. [any
 * thread]
 */
#ifndef SEGUE_OS_BASE64_H
#define SEGUE_OS_BASE64_H

#include <stdbool.h>
#include <stddef.h>

/* Room for n bytes as base64, without a terminator. */
#define SEGUE__BASE64_SIZE(n) (((n) + 2) / 3 * 4)

/* Returns the length. A text may be written in parts whose lengths are multiples of 3. */
size_t segue__base64_encode(char *out, const void *in, size_t len, bool url);

typedef enum segue__base64_result {
  SEGUE__BASE64_GOOD,
  SEGUE__BASE64_LETTER, /* no letter of base64 */
  SEGUE__BASE64_BITS    /* bits are left over at the end: two texts would be the same bytes */
} segue__base64_result;
/* Reads letters without padding. out has room for len bytes, and gets *used; *at is where the text
 * is wrong. A text may be read in parts whose lengths are multiples of 4. */
segue__base64_result segue__base64_decode(unsigned char *out, const char *in, size_t len, bool url,
                                          size_t *used, size_t *at);
/* Returns the length of a text without its padding; (size_t)-1: the text ends too early. */
size_t segue__base64_letters(const char *in, size_t len, bool url);

#endif
