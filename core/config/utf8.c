/* SPDX-License-Identifier: MIT
 *
 * UTF-8. Configuration is nearly all ASCII, so the check passes over eight such bytes at a time.
 */
#include "utf8.h"

#include <string.h>

size_t segue__utf8_next(const char *text, size_t len) {
  const unsigned char *s = (const unsigned char *)text;
  unsigned char c = s[0];
  if (c < 0x80) return 1;
  size_t need = c >= 0xc2 && c < 0xe0   ? 2
                : c >= 0xe0 && c < 0xf0 ? 3
                : c >= 0xf0 && c < 0xf5 ? 4
                                        : 0;
  if (!need || need > len) return 0;
  for (size_t i = 1; i < need; i++)
    if ((s[i] & 0xc0) != 0x80) return 0;
  /* Overlong forms, surrogates, above U+10FFFF: the second byte decides. */
  if ((c == 0xe0 && s[1] < 0xa0) || (c == 0xed && s[1] > 0x9f) || (c == 0xf0 && s[1] < 0x90) ||
      (c == 0xf4 && s[1] > 0x8f))
    return 0;
  return need;
}

size_t segue__utf8_check(const char *s, size_t len) {
  size_t i = 0;
  while (i < len) {
    uint64_t word;
    while (len - i >= 8 && (memcpy(&word, s + i, 8), !(word & UINT64_C(0x8080808080808080))))
      i += 8;
    if (i == len) break;
    size_t n = segue__utf8_next(s + i, len - i);
    if (!n) return i;
    i += n;
  }
  return i;
}

size_t segue__utf8_put(uint32_t code, char out[4]) {
  if (code < 0x80) {
    out[0] = (char)code;
    return 1;
  }
  if (code < 0x800) {
    out[0] = (char)(0xc0 | code >> 6);
    out[1] = (char)(0x80 | (code & 63));
    return 2;
  }
  if (code < 0x10000) {
    out[0] = (char)(0xe0 | code >> 12);
    out[1] = (char)(0x80 | (code >> 6 & 63));
    out[2] = (char)(0x80 | (code & 63));
    return 3;
  }
  out[0] = (char)(0xf0 | code >> 18);
  out[1] = (char)(0x80 | (code >> 12 & 63));
  out[2] = (char)(0x80 | (code >> 6 & 63));
  out[3] = (char)(0x80 | (code & 63));
  return 4;
}
