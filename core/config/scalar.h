/* SPDX-License-Identifier: MIT
 *
 * scalar.h: text to number and back, without regard to the locale of the host. [any thread]
 */
#ifndef SEGUE_CONFIG_SCALAR_H
#define SEGUE_CONFIG_SCALAR_H

#include "tree.h"

/* Resolves a plain scalar by the YAML 1.2 core schema into type, flags and v of node. 1: it is a
 * string (node is not filled). SEGUE_ERANGE: a number beyond 64 bits. UV_ENOMEM. */
int segue__scalar_resolve(const char *s, size_t len, segue_node *node);

/* Returns whether writing this null, boolean or number (of segue__scalar_resolve) gives exactly
 * this text. */
bool segue__scalar_is_text_of(const segue_node *node, const char *s, size_t len);

/* A number by JSON's grammar, at the start of s; its length goes to *used. SEGUE_ESYNTAX: there is
 * none (*used is where it goes wrong). SEGUE_ERANGE as above. */
int segue__scalar_json(const char *s, size_t len, size_t *used, segue_node *node);

/* For SEGUE_ERANGE from the above: a decimal integer as a float, as near as that comes.
 * SEGUE_ERANGE: it is too large for that too. */
int segue__scalar_wide(const char *s, size_t len, segue_node *node);

/* The fewest digits that read back as the same number; finite numbers only. Always has a "." or
 * an "e", so that it reads back as a float. */
enum { SEGUE__FLOAT_SIZE = 40 };
void segue__float_write(double value, char out[SEGUE__FLOAT_SIZE]);

#endif
