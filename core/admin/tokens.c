/* SPDX-License-Identifier: MIT
 *
 * Bearer tokens. A token is compared with every known one, over the whole buffer and without an
 * early return, so that the time reveals nothing about them.
 */
#include "tokens.h"

#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../os/mem.h"

/* The message names the file and the line, never the token: it appears in the log and in the answer
 * of the reload. */
static int tokens_fail(const segue__token_spec *spec, uint32_t line, segue_error *err,
                       const char *why) {
  segue__errorf(err, SEGUE_EPOLICY, "the token file %s cannot be used: %s", spec->file, why);
  segue__error_set_place(err, spec->file, line, 0);
  return SEGUE_EPOLICY;
}

static bool tokens_printable(const char *s, size_t len) {
  for (size_t i = 0; i < len; i++)
    if (s[i] <= ' ' || s[i] > '~') return false;
  return true;
}

/* The items are allocated once for SEGUE__TOKENS_MAX and never moved: realloc would leave a copy of
 * the tokens in freed memory that nothing overwrites. */
static int tokens_add(segue__tokens *tokens, const segue__token_spec *spec, const char *s,
                      size_t len, uint32_t line, segue_error *err) {
  char why[128];
  if (len < SEGUE__TOKEN_MIN || len > SEGUE__TOKEN_MAX) {
    snprintf(why, sizeof why,
             "a token must have %d to %d characters, not %zu: create one with openssl rand -hex 24",
             SEGUE__TOKEN_MIN, SEGUE__TOKEN_MAX, len);
    return tokens_fail(spec, line, err, why);
  }
  if (!tokens_printable(s, len))
    return tokens_fail(spec, line, err, "a token must be printable ASCII without spaces");
  if (segue__tokens_find(tokens, s, len))
    return tokens_fail(spec, line, err, "this token occurs twice");
  if (tokens->count == SEGUE__TOKENS_MAX)
    return tokens_fail(spec, line, err, "there are too many tokens");
  segue__token *token = &tokens->items[tokens->count++];
  memcpy(token->bytes, s, len);
  token->len = (uint32_t)len;
  token->role = spec->role;
  snprintf(token->name, sizeof token->name, "%s:%u", spec->name, line);
  return 0;
}

static const char *tokens_skip_space(const char *s, const char *end) {
  while (s < end && (*s == ' ' || *s == '\t'))
    s++;
  return s;
}

static int tokens_add_lines(segue__tokens *tokens, const segue__token_spec *spec, const char *data,
                            size_t len, segue_error *err) {
  const char *end = data + len;
  int rc = 0;
  for (uint32_t line = 1; data < end && !rc; line++) {
    const char *stop = memchr(data, '\n', (size_t)(end - data));
    if (!stop) stop = end;
    const char *s = tokens_skip_space(data, stop), *last = stop;
    while (last > s && (last[-1] == ' ' || last[-1] == '\t' || last[-1] == '\r'))
      last--;
    if (s < last && *s != '#') rc = tokens_add(tokens, spec, s, (size_t)(last - s), line, err);
    data = stop + 1;
  }
  return rc;
}

int segue__tokens_add(segue__tokens *tokens, const segue__token_spec *spec, const char *data,
                      size_t len, segue_error *err) {
  if (!tokens->items) tokens->items = segue__calloc(SEGUE__TOKENS_MAX, sizeof *tokens->items);
  if (!tokens->items) return segue__errorf(err, UV_ENOMEM, "%s: out of memory", spec->file);
  size_t before = tokens->count;
  int rc = tokens_add_lines(tokens, spec, data, len, err);
  if (rc) return rc;
  if (tokens->count == before) return tokens_fail(spec, 0, err, "the file must contain a token");
  if (tokens->count == before + 1)
    snprintf(tokens->items[before].name, sizeof tokens->items[before].name, "%s", spec->name);
  return 0;
}

void segue__tokens_deinit(segue__tokens *tokens) {
  if (tokens->items) explicit_bzero(tokens->items, SEGUE__TOKENS_MAX * sizeof *tokens->items);
  segue__free(tokens->items);
  memset(tokens, 0, sizeof *tokens);
}

/* Every byte of the buffer is compared and the results are collected by OR: a comparison that stops
 * at the first difference would show by its time how many bytes of a guess are right. */
static unsigned tokens_differs(const segue__token *token, const unsigned char *bytes, size_t len) {
  unsigned different = token->len ^ (unsigned)len;
  for (size_t i = 0; i < SEGUE__TOKEN_MAX; i++)
    different |= (unsigned char)token->bytes[i] ^ bytes[i];
  return different;
}

/* A token that is longer than the buffer is cut here, and its length then equals that of no known
 * one. The found index is selected by masks in place of a branch, so that the branch predictor and
 * the time do not depend on which token fits. */
const segue__token *segue__tokens_find(const segue__tokens *tokens, const char *bytes, size_t len) {
  unsigned char asked[SEGUE__TOKEN_MAX] = {0};
  size_t found = SIZE_MAX;
  memcpy(asked, bytes, len < sizeof asked ? len : sizeof asked);
  for (size_t i = 0; i < tokens->count; i++) {
    size_t same = tokens_differs(&tokens->items[i], asked, len) == 0;
    found = (found & (same - 1)) | (i & (0 - same));
  }
  explicit_bzero(asked, sizeof asked);
  return found == SIZE_MAX ? NULL : &tokens->items[found];
}
