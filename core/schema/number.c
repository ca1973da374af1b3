/* SPDX-License-Identifier: MIT
 *
 * Numbers as a schema sees them: one kind, whether they were written 1 or 1.0. Integers are
 * compared exactly over all 64 bits; multiples are computed on the decimal digits that a person
 * wrote, not on the nearest binary fraction.
 */
#include <math.h>
#include <string.h>

#include "../config/node.h"
#include "../config/scalar.h"
#include "schema_internal.h"

static bool is_unsigned(const segue_node *node) {
  return node->flags & SEGUE__NODE_UNSIGNED;
}

static int number_order(bool less, bool greater) {
  return less ? -1 : greater;
}

static int compare_ints(const segue_node *a, const segue_node *b) {
  if (is_unsigned(a) != is_unsigned(b)) return is_unsigned(a) ? 1 : -1;
  if (is_unsigned(a)) return number_order(a->v.u<b->v.u, a->v.u> b->v.u);
  return number_order(a->v.i<b->v.i, a->v.i> b->v.i);
}

/* Compares without converting either number to the other's type, because that would round. */
static int compare_int_float(const segue_node *a, double f) {
  if (f != f) return SEGUE__UNORDERED;
  if (f >= 18446744073709551616.0) return -1;
  if (f < -9223372036854775808.0) return 1;
  double whole = floor(f);
  segue_node other = {.type = SEGUE_INT};
  if (whole >= 9223372036854775808.0) {
    other.v.u = (uint64_t)whole;
    other.flags = SEGUE__NODE_UNSIGNED;
  } else {
    other.v.i = (int64_t)whole;
  }
  int c = compare_ints(a, &other);
  return c == 0 && f > whole ? -1 : c;
}

int segue__number_compare(const segue_node *a, const segue_node *b) {
  if (a->type == SEGUE_INT && b->type == SEGUE_INT) return compare_ints(a, b);
  if (a->type == SEGUE_INT) return compare_int_float(a, b->v.f);
  if (b->type == SEGUE_INT) {
    int c = compare_int_float(b, a->v.f);
    return c == SEGUE__UNORDERED ? c : -c;
  }
  if (a->v.f != a->v.f || b->v.f != b->v.f) return SEGUE__UNORDERED;
  return number_order(a->v.f<b->v.f, a->v.f> b->v.f);
}

bool segue__number_integral(const segue_node *node) {
  if (node->type == SEGUE_INT) return true;
  return node->type == SEGUE_FLOAT && node->v.f - node->v.f == 0 && floor(node->v.f) == node->v.f;
}

/* ---- Multiples ------------------------------------------------------------------------------- */

/* The absolute value as digits * 10^exponent, without zeros at the end. */
typedef struct decimal {
  uint64_t digits;
  int exponent;
} decimal;

static void read_float(double f, decimal *d) {
  char text[SEGUE__FLOAT_SIZE];
  segue__float_write(f, text);
  bool fraction = false;
  const char *p = text;
  for (; *p && *p != 'e'; p++) {
    if (*p == '.') fraction = true;
    if (*p < '0' || *p > '9') continue;
    d->digits = d->digits * 10 + (uint64_t)(*p - '0');
    d->exponent -= fraction;
  }
  int exponent = 0;
  bool minus = *p && p[1] == '-';
  for (p += *p != 0; *p; p++)
    if (*p >= '0' && *p <= '9') exponent = exponent * 10 + (*p - '0');
  d->exponent += minus ? -exponent : exponent;
}

/* Returns false for a number that is not finite. */
static bool to_decimal(const segue_node *node, decimal *d) {
  *d = (decimal){0, 0};
  if (node->type == SEGUE_INT) {
    d->digits = !is_unsigned(node) && node->v.i < 0 ? 0 - node->v.u : node->v.u;
  } else if (node->v.f - node->v.f != 0) {
    return false;
  } else if (segue__number_integral(node) && fabs(node->v.f) < 9007199254740992.0) {
    d->digits = (uint64_t)fabs(node->v.f);
  } else {
    read_float(node->v.f, d);
  }
  for (; d->digits && d->digits % 10 == 0; d->exponent++)
    d->digits /= 10;
  return true;
}

static uint64_t mul_mod(uint64_t a, uint64_t b, uint64_t m) {
  return (uint64_t)((unsigned __int128)a * b % m);
}

bool segue__number_multiple(const segue_node *value, const segue_node *divisor) {
  decimal a, b;
  if (!to_decimal(value, &a) || !to_decimal(divisor, &b) || !b.digits) return false;
  if (!a.digits) return true;
  /* Without zeros at its end `a` cannot take the tens that the divisor would have more. */
  if (a.exponent < b.exponent) return false;
  uint64_t left = a.digits % b.digits, ten = 10 % b.digits;
  for (unsigned n = (unsigned)(a.exponent - b.exponent); n; n >>= 1) {
    if (n & 1) left = mul_mod(left, ten, b.digits);
    ten = mul_mod(ten, ten, b.digits);
  }
  return left == 0;
}

/* ---- Equality -------------------------------------------------------------------------------- */

static bool is_number(const segue_node *node) {
  return node->type == SEGUE_INT || node->type == SEGUE_FLOAT;
}

static bool equal_maps(const segue_node *a, const segue_node *b) {
  for (uint32_t i = 0; i < a->count; i++) {
    const segue__member *m = &a->v.members[i];
    const segue__member *other = segue__node_find(b, m->key, m->key_len);
    if (!other || !segue__value_equal(&m->value, &other->value)) return false;
  }
  return true;
}

bool segue__value_equal(const segue_node *a, const segue_node *b) {
  if (segue__node_equal(a, b)) return true;
  if (is_number(a) && is_number(b)) return segue__number_compare(a, b) == 0;
  if (a->type != b->type || a->type < SEGUE_LIST || a->count != b->count) return false;
  if (a->type == SEGUE_MAP) return equal_maps(a, b);
  for (uint32_t i = 0; i < a->count; i++)
    if (!segue__value_equal(&a->v.items[i], &b->v.items[i])) return false;
  return true;
}

static segue__hash hash_float(const segue_node *node) {
  double f = node->v.f;
  if (!segue__number_integral(node) || f >= 18446744073709551616.0 || f < -9223372036854775808.0)
    return segue__node_hash(node);
  segue_node whole = {.type = SEGUE_INT};
  if (f >= 9223372036854775808.0) {
    whole.v.u = (uint64_t)f;
    whole.flags = SEGUE__NODE_UNSIGNED;
  } else {
    whole.v.i = (int64_t)f;
  }
  return segue__node_hash(&whole);
}

segue__hash segue__value_hash(const segue_node *node, uint64_t *work) {
  if (work) ++*work;
  if (node->type == SEGUE_FLOAT) return hash_float(node);
  if (node->type < SEGUE_LIST) return segue__node_hash(node);
  segue__hash all = {node->type, node->count};
  for (uint32_t i = 0; i < node->count; i++) {
    if (node->type == SEGUE_LIST) {
      segue__hash item = segue__value_hash(&node->v.items[i], work);
      all = segue__hash_bytes(&item, sizeof item, all);
    } else { /* the order does not count */
      const segue__member *m = &node->v.members[i];
      segue__hash h = segue__hash_bytes(m->key, m->key_len, segue__value_hash(&m->value, work));
      all.lo += h.lo;
      all.hi += h.hi;
    }
  }
  return all;
}
