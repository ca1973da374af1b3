/* SPDX-License-Identifier: MIT
 *
 * tokens.h: bearer tokens from files: one per line, so that an old and a new one are good at the
 * same time; blank lines and what follows "#" at a line's start are passed over.
 */
#ifndef SEGUE_ADMIN_TOKENS_H
#define SEGUE_ADMIN_TOKENS_H

#include "../reload/listener_options.h"

enum { SEGUE__TOKEN_MIN = 16, SEGUE__TOKEN_MAX = 256, SEGUE__TOKENS_MAX = 256 };

typedef struct segue__token {
  char bytes[SEGUE__TOKEN_MAX]; /* zeroes behind it */
  uint32_t len;
  segue__role role;
  char name[64]; /* "ops", or "ops:3" where its file has several: that of line 3 */
} segue__token;

/* Zeroed before the first use. */
typedef struct segue__tokens {
  segue__token *items;
  size_t count;
} segue__tokens;

/* Adds those of one file. SEGUE_EPOLICY: a token is too short, not printable or
 * a duplicate, or the file has none: err names the line; never the token itself. */
int segue__tokens_add(segue__tokens *tokens, const segue__token_spec *spec, const char *data,
                      size_t len, segue_error *err);
/* Forgets them: their memory is overwritten. */
void segue__tokens_deinit(segue__tokens *tokens);
/* The token with these bytes, or NULL. Takes the same time for all tokens, whether or not the bytes
 * match. */
const segue__token *segue__tokens_find(const segue__tokens *tokens, const char *bytes, size_t len);

#endif
