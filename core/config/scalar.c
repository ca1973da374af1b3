/* SPDX-License-Identifier: MIT
 *
 * Numbers. Short decimal numbers are converted exactly with one multiplication or division (both
 * operands are exact, so the result is rounded once); the rest goes to the C library's correctly
 * rounding strtod, in the "C" locale whatever the host has set.
 */
#include "scalar.h"

#include <assert.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "../os/hex.h"

static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static bool scalar_digit(char c) {
  return c >= '0' && c <= '9';
}

/* A decimal number in parts: sign, digits before and after the point, exponent. */
typedef struct decimal {
  const char *start, *whole, *fraction, *end; /* fraction: after the point, or NULL */
  size_t whole_len, fraction_len;
  bool negative, is_float;
  int exponent;
} decimal;

/* Scans [-+] digits [. digits] [e [-+] digits] and returns the end. The callers check the parts,
 * because their grammars differ in detail. */
static const char *scalar_scan(const char *s, const char *end, decimal *d) {
  memset(d, 0, sizeof *d);
  d->start = s;
  if (s < end && (*s == '-' || *s == '+')) d->negative = *s++ == '-';
  for (d->whole = s; s < end && scalar_digit(*s); s++) {
  }
  d->whole_len = (size_t)(s - d->whole);
  if (s < end && *s == '.') {
    d->is_float = true;
    for (d->fraction = ++s; s < end && scalar_digit(*s); s++) {
    }
    d->fraction_len = (size_t)(s - d->fraction);
  }
  if (s < end && (*s == 'e' || *s == 'E') && (d->whole_len || d->fraction_len)) {
    d->is_float = true;
    s++;
    bool minus = s < end && *s == '-';
    if (s < end && (*s == '-' || *s == '+')) s++;
    const char *digits = s;
    for (; s < end && scalar_digit(*s); s++)
      if (d->exponent < 100000) d->exponent = d->exponent * 10 + (*s - '0');
    if (s == digits) d->end = s; /* no digit: not a number, and this is where */
    if (minus) d->exponent = -d->exponent;
  }
  if (d->end) return NULL;
  d->end = s;
  return s;
}

static bool short_float(const decimal *d, double *out) {
  uint64_t digits = 0;
  if (d->whole_len + d->fraction_len > 18) return false;
  assert(d->fraction || !d->fraction_len);
  for (size_t i = 0; i < d->whole_len; i++)
    digits = digits * 10 + (uint64_t)(d->whole[i] - '0');
  for (size_t i = 0; i < d->fraction_len; i++)
    digits = digits * 10 + (uint64_t)(d->fraction[i] - '0');
  int exponent = d->exponent - (int)d->fraction_len;
  if (digits > UINT64_C(1) << 53 || exponent < -22 || exponent > 22) return false;
  double value = (double)digits;
  value = exponent < 0 ? value / powers[-exponent] : value * powers[exponent];
  *out = d->negative ? -value : value;
  return true;
}

/* The "C" locale object is static in the C library, so it is neither freed nor kept. */
static double long_float(const char *s) {
  return strtod_l(s, NULL, newlocale(LC_ALL_MASK, "C", (locale_t)0));
}

static int to_float(const decimal *d, segue_node *node) {
  double value;
  if (!short_float(d, &value)) {
    /* The text may continue with what strtod would take for more of it: a copy ends it. */
    size_t len = (size_t)(d->end - d->start);
    char small[64], *copy = len < sizeof small ? small : segue__malloc(len + 1);
    if (!copy) return UV_ENOMEM;
    memcpy(copy, d->start, len);
    copy[len] = 0;
    value = long_float(copy);
    if (copy != small) segue__free(copy);
  }
  if (value - value != 0) /* infinite */
    return SEGUE_ERANGE;
  *node = (segue_node){.type = SEGUE_FLOAT, .v.f = value};
  return 0;
}

static int to_int(const char *s, size_t len, unsigned base, bool negative, segue_node *node) {
  uint64_t value = 0;
  for (size_t i = 0; i < len; i++) {
    unsigned v = (unsigned)segue__hex_value(s[i]);
    if (__builtin_mul_overflow(value, base, &value) || __builtin_add_overflow(value, v, &value))
      return SEGUE_ERANGE;
  }
  *node = (segue_node){.type = SEGUE_INT, .v.u = value};
  if (negative) {
    if (value > (uint64_t)INT64_MAX + 1) return SEGUE_ERANGE;
    node->v.u = 0 - value;
  } else if (value > INT64_MAX) {
    node->flags = SEGUE__NODE_UNSIGNED;
  }
  return 0;
}

static int to_number(const decimal *d, segue_node *node) {
  return d->is_float ? to_float(d, node) : to_int(d->whole, d->whole_len, 10, d->negative, node);
}

static bool any_of(const char *s, size_t len, const char *const *words) {
  for (; *words; words++)
    if (strlen(*words) == len && !memcmp(s, *words, len)) return true;
  return false;
}

/* Reads 0o17 and 0x1F. Returns 1 if the text is neither. */
static int resolve_based(const char *s, size_t len, segue_node *node) {
  if (len < 3 || s[0] != '0' || (s[1] != 'o' && s[1] != 'x')) return 1;
  for (size_t i = 2; i < len; i++)
    if (s[1] == 'o' ? s[i] < '0' || s[i] > '7'
                    : !scalar_digit(s[i]) && !((s[i] | 32) >= 'a' && (s[i] | 32) <= 'f'))
      return 1;
  return to_int(s + 2, len - 2, s[1] == 'o' ? 8 : 16, false, node);
}

static int resolve_number(const char *s, size_t len, segue_node *node) {
  static const char *const infinite[] = {".inf", ".Inf", ".INF", NULL};
  static const char *const nan[] = {".nan", ".NaN", ".NAN", NULL};
  int rc = resolve_based(s, len, node);
  if (rc <= 0) return rc;
  size_t sign = s[0] == '-' || s[0] == '+';
  if (any_of(s + sign, len - sign, infinite)) {
    *node =
        (segue_node){.type = SEGUE_FLOAT, .v.f = s[0] == '-' ? -__builtin_inf() : __builtin_inf()};
    return 0;
  }
  if (any_of(s, len, nan)) {
    *node = (segue_node){.type = SEGUE_FLOAT, .v.f = __builtin_nan("")};
    return 0;
  }
  decimal d;
  if (scalar_scan(s, s + len, &d) != s + len || (!d.whole_len && !d.fraction_len)) return 1;
  return to_number(&d, node);
}

int segue__scalar_resolve(const char *s, size_t len, segue_node *node) {
  static const char *const null[] = {"~", "null", "Null", "NULL", NULL};
  static const char *const yes[] = {"true", "True", "TRUE", NULL};
  static const char *const no[] = {"false", "False", "FALSE", NULL};
  switch (len ? s[0] : '~') {
  case '~':
  case 'n':
  case 'N':
    if (len && !any_of(s, len, null)) return 1;
    *node = (segue_node){.type = SEGUE_NULL};
    return 0;
  case 't':
  case 'T':
  case 'f':
  case 'F': {
    bool value = any_of(s, len, yes);
    if (!value && !any_of(s, len, no)) return 1;
    *node = (segue_node){.type = SEGUE_BOOL, .v.b = value};
    return 0;
  }
  default:
    return s[0] == '-' || s[0] == '+' || s[0] == '.' || scalar_digit(s[0])
               ? resolve_number(s, len, node)
               : 1;
  }
}

int segue__scalar_json(const char *s, size_t len, size_t *used, segue_node *node) {
  decimal d;
  const char *end = scalar_scan(s, s + len, &d);
  *used = (size_t)(d.end - s);
  bool good = end && *s != '+' && d.whole_len && !(d.whole_len > 1 && d.whole[0] == '0') &&
              !(d.fraction && !d.fraction_len);
  return good ? to_number(&d, node) : SEGUE_ESYNTAX;
}

int segue__scalar_wide(const char *s, size_t len, segue_node *node) {
  decimal d;
  if (scalar_scan(s, s + len, &d) != s + len || d.is_float || !d.whole_len) return SEGUE_ERANGE;
  return to_float(&d, node);
}

/* Digits and exponent are laid out here and not by printf: its point depends on the locale. */
bool segue__scalar_is_text_of(const segue_node *node, const char *s, size_t len) {
  char text[SEGUE__FLOAT_SIZE] = "null";
  if (node->type == SEGUE_BOOL)
    strcpy(text, node->v.b ? "true" : "false");
  else if (node->type == SEGUE_INT && (node->flags & SEGUE__NODE_UNSIGNED))
    snprintf(text, sizeof text, "%" PRIu64, node->v.u);
  else if (node->type == SEGUE_INT)
    snprintf(text, sizeof text, "%" PRId64, node->v.i);
  else if (node->type == SEGUE_FLOAT && isfinite(node->v.f))
    segue__float_write(node->v.f, text);
  else if (node->type != SEGUE_NULL)
    return false;
  return strlen(text) == len && !memcmp(text, s, len);
}

static void lay_out(const char *digits, int count, int exponent, bool negative, char *out) {
  if (negative) *out++ = '-';
  if (exponent < -5 || exponent > 16) {
    *out++ = digits[0];
    *out++ = '.';
    if (count > 1)
      memcpy(out, digits + 1, (size_t)count - 1);
    else
      *out = '0';
    out += count > 1 ? count - 1 : 1;
    snprintf(out, 8, "e%d", exponent);
    return;
  }
  if (exponent < 0) {
    *out++ = '0';
    *out++ = '.';
    memset(out, '0', (size_t)(-exponent - 1));
    out += -exponent - 1;
    memcpy(out, digits, (size_t)count);
    out[count] = 0;
    return;
  }
  for (int i = 0; i < count || i <= exponent + 1; i++) {
    if (i == exponent + 1) *out++ = '.';
    *out++ = i < count ? digits[i] : '0';
  }
  *out = 0;
}

void segue__float_write(double value, char out[SEGUE__FLOAT_SIZE]) {
  char text[48], digits[24];
  int count = 0, exponent = 0;
  /* Fifteen digits say all that was written with up to as many; only subnormals have fewer. */
  int precision = value < 2.3e-308 && value > -2.3e-308 ? 0 : 14;
  for (; precision <= 16; precision++) {
    snprintf(text, sizeof text, "%.*e", precision, value);
    const char *e = strrchr(text, 'e');
    count = 0;
    for (const char *p = text; p < e; p++)
      if (scalar_digit(*p)) digits[count++] = *p;
    exponent = atoi(e + 1);
    while (count > 1 && digits[count - 1] == '0')
      count--;
    digits[count] = 0;
    char again[48];
    snprintf(again, sizeof again, "%s%se%d", value < 0 ? "-" : "", digits, exponent - count + 1);
    if (long_float(again) == value) break;
  }
  lay_out(digits, count, exponent, __builtin_signbit(value), out);
}
