/* SPDX-License-Identifier: MIT
 *
 * suggest.h: "did you mean": the nearest of a few known words. [any thread]
 */
#ifndef SEGUE_OS_SUGGEST_H
#define SEGUE_OS_SUGGEST_H

#include <stddef.h>

/* Letters to change, add, drop or swap with their neighbour, without regard to case; larger than
 * any real distance if a word is longer than 63 bytes. */
size_t segue__suggest_distance(const char *a, size_t a_len, const char *b, size_t b_len);
/* The candidate nearest to word, or NULL if none is near enough to be meant. */
const char *segue__suggest(const char *word, const char *const *candidates, size_t count);

#endif
