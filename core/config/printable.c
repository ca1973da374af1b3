/* SPDX-License-Identifier: MIT
 *
 * Escapes for text that goes to a terminal.
 */
#include "printable.h"

#include <string.h>

#include "utf8.h"

static uint32_t printable_decode(const unsigned char *s, size_t n) {
  uint32_t code = n == 1 ? s[0] : n == 2 ? s[0] & 31 : n == 3 ? s[0] & 15 : s[0] & 7;
  for (size_t i = 1; i < n; i++)
    code = code << 6 | (s[i] & 63);
  return code;
}

static bool is_odd(uint32_t code) {
  return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x61c || code == 0x200e ||
         code == 0x200f || (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

size_t segue__printable_odd(const char *s, size_t len, uint32_t *code) {
  size_t n = segue__utf8_next(s, len);
  *code = n ? printable_decode((const unsigned char *)s, n) : (unsigned char)*s;
  return !n ? 1 : is_odd(*code) ? n : 0;
}

/* Code points above U+007F have four digits: inside of a JSON string the escape means the same
 * character. A byte that is not UTF-8 means no character. */
static void add_escape(segue__buf *out, uint32_t code, size_t len) {
  if (code == '\n' || code == '\r' || code == '\t')
    segue__buf_adds(out, code == '\n' ? "\\n" : code == '\r' ? "\\r" : "\\t");
  else if (code < 0x80 || len == 1)
    segue__buf_addf(out, "\\x%02x", (unsigned)code);
  else
    segue__buf_addf(out, "\\u%04x", (unsigned)code);
}

/* Returns the number of bytes at s that are unusual but may stay. nl replaces a line break; NULL
 * means that line breaks are escaped. */
static size_t printable_exempt(segue__buf *out, const char *s, size_t len, const char *nl,
                               bool colour) {
  if (nl && (*s == '\n' || *s == '\t')) {
    segue__buf_adds(out, *s == '\n' ? nl : "\t");
    return 1;
  }
  if (!colour || len < 3 || s[0] != '\033' || s[1] != '[') return 0;
  size_t n = 2;
  while (n < len && n < 12 && ((s[n] >= '0' && s[n] <= '9') || s[n] == ';'))
    n++;
  if (n == len || s[n] != 'm') return 0;
  segue__buf_add(out, s, n + 1);
  return n + 1;
}

static void printable_add(segue__buf *out, const char *s, size_t len, const char *nl, bool colour) {
  size_t start = 0, i = 0;
  uint32_t code;
  while (i < len) {
    unsigned char c = (unsigned char)s[i];
    if (c >= 0x20 && c < 0x7f) {
      i++;
      continue;
    }
    size_t odd = segue__printable_odd(s + i, len - i, &code);
    if (!odd) {
      i += segue__utf8_next(s + i, len - i);
      continue;
    }
    segue__buf_add(out, s + start, i - start);
    size_t kept = printable_exempt(out, s + i, len - i, nl, colour);
    if (!kept) add_escape(out, code, odd);
    i += kept ? kept : odd;
    start = i;
  }
  segue__buf_add(out, s + start, len - start);
}

void segue__printable_add(segue__buf *out, const char *s, size_t len) {
  printable_add(out, s, len, NULL, false);
}

void segue__printable_lines(segue__buf *out, const char *s, size_t len) {
  while (len && s[len - 1] == '\n')
    len--; /* no empty line behind it */
  printable_add(out, s, len, "\n    ", false);
}

void segue__printable_page(segue__buf *out, const char *s, size_t len, bool colour) {
  printable_add(out, s, len, "\n", colour);
}
