/* SPDX-License-Identifier: MIT
 *
 * numbered.h: what the numbered client (numbered.c here) and the module that it asks
 * (spec/plugin/numbered.c) have agreed on: the body of each request, made of its slot and its
 * number, so that each side knows every byte of what the other one sent.
 */
#ifndef SEGUE_SPEC_NUMBERED_H
#define SEGUE_SPEC_NUMBERED_H

#include <stddef.h>
#include <stdint.h>

enum { NUMBERED_SLOTS = 256, NUMBERED_COPIES = 32, NUMBERED_BODY_MAX = 70000 };

static inline uint32_t numbered_mix(uint32_t slot, uint32_t number) {
  uint32_t x = slot * 0x9e3779b9u + number * 0x85ebca6bu + 1;
  x ^= x >> 15;
  x *= 0x2c1b3c6du;
  return x ^ x >> 12;
}

static inline size_t numbered_body_len(uint32_t slot, uint32_t number) {
  static const size_t lengths[] = {1, 17, 100, 400, 1000, 3000, 9000, NUMBERED_BODY_MAX};
  uint32_t mix = numbered_mix(slot, number);
  return mix % 64 == 0 ? NUMBERED_BODY_MAX : lengths[mix % 7];
}

static inline char numbered_byte(uint32_t mix, size_t at) {
  return (char)('0' + (mix + (uint32_t)at * 7u + (uint32_t)(at >> 8)) % 75);
}

#endif
