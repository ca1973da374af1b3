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

/* In small letters; for strspn(3) too. */
#define SEGUE__HEX_DIGITS "0123456789abcdef"

/* Returns the digit of the low four bits of value. */
static inline char segue__hex_digit(unsigned value) {
  return SEGUE__HEX_DIGITS[value & 15];
}

/* The same in capital letters, as in percent-encoding. */
static inline char segue__hex_capital(unsigned value) {
  return "0123456789ABCDEF"[value & 15];
}

#endif
