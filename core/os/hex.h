/* SPDX-License-Identifier: MIT
 *
 * hex.h: hexadecimal digits.
 */
#ifndef SEGUE_OS_HEX_H
#define SEGUE_OS_HEX_H

/* Returns the value of a digit in either case, or -1. */
static inline int segue__hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = (char)(c | 32);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* value: 0 to 15; in small letters. */
static inline char segue__hex_digit(unsigned value) {
  return "0123456789abcdef"[value & 15];
}

#endif
