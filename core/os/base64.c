/* SPDX-License-Identifier: MIT
 *
 * base64 of RFC 4648, with both alphabets.
 */
#include "base64.h"

#include <stdint.h>
#include <string.h>

static const char plain_letters[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url_letters[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

size_t segue__base64_encode(char *out, const void *in, size_t len, bool url) {
  const char *letters = url ? url_letters : plain_letters;
  const unsigned char *bytes = in;
  size_t used = 0;
  for (size_t i = 0; i < len; i += 3) {
    size_t n = len - i < 3 ? len - i : 3;
    uint32_t bits = (uint32_t)bytes[i] << 16 | (n > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                    (n > 2 ? bytes[i + 2] : 0);
    for (size_t k = 0; k <= n; k++)
      out[used++] = letters[bits >> (18 - 6 * k) & 63];
    for (size_t k = n; k < 3 && !url; k++)
      out[used++] = '=';
  }
  return used;
}

static void fill_table(bool url, unsigned char table[256]) {
  const char *letters = url ? url_letters : plain_letters;
  memset(table, 255, 256);
  for (int i = 0; i < 64; i++)
    table[(unsigned char)letters[i]] = (unsigned char)i;
}

segue__base64_result segue__base64_decode(unsigned char *out, const char *in, size_t len, bool url,
                                          size_t *used, size_t *at) {
  unsigned char table[256];
  uint32_t bits = 0;
  size_t made = 0;
  fill_table(url, table);
  for (size_t i = 0; i < len; i++) {
    unsigned char six = table[(unsigned char)in[i]];
    *at = i;
    if (six == 255) return SEGUE__BASE64_LETTER;
    bits = bits << 6 | six;
    if (i % 4) out[made++] = (unsigned char)(bits >> (6 - 2 * (i % 4)));
  }
  *used = made;
  return len % 4 && (bits & (len % 4 == 2 ? 15 : 3)) ? SEGUE__BASE64_BITS : SEGUE__BASE64_GOOD;
}

size_t segue__base64_letters(const char *in, size_t len, bool url) {
  size_t whole = len, pad = 0;
  while (whole && pad < 2 && in[whole - 1] == '=') {
    whole--;
    pad++;
  }
  return whole % 4 == 1 || ((pad || !url) && len % 4) ? (size_t)-1 : whole;
}
