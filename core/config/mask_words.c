/* SPDX-License-Identifier: MIT
 *
 * Secrets in sentences: hooks, modules and commands may quote a value in an error or a log line,
 * and there a secret can be found by its text only. The words are sorted, so that a text is
 * searched once for any number of secrets: at each byte a binary search finds the place of the rest
 * of the text among the words. The word that shares the longest beginning with the text is next to
 * that place, so the cost does not depend on how many words begin alike (keys of one service do).
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "mask_internal.h"

enum { WORD_LEAST = 4, WORD_HEAD = 8 };

typedef struct segue__mask_word word;

static const char *mask_words_text_of(const segue__mask_words *words, const word *w) {
  return words->text.data + w->at;
}

void segue__mask_words_deinit(segue__mask_words *words) {
  if (words->text.data) explicit_bzero(words->text.data, words->text.len);
  segue__buf_deinit(&words->text);
  segue__free(words->items);
}

static uint32_t mask_words_hash(const char *text) {
  uint32_t four;
  memcpy(&four, text, sizeof four);
  return four * 2654435761u >> 16;
}

bool segue__mask_words_start(const segue__mask_words *words, const char *text) {
  uint32_t hash = mask_words_hash(text);
  return words->starts[hash / 64] >> hash % 64 & 1;
}

/* ---- Learning -------------------------------------------------------------------------------- */

static int mask_words_add_word(segue__mask_words *words, const char *s, size_t len) {
  if (len < WORD_LEAST) return 0;
  if (words->count == words->capacity) {
    size_t capacity = words->capacity ? words->capacity * 2 : 16;
    word *items = segue__realloc(words->items, capacity * sizeof *items);
    if (!items) return UV_ENOMEM;
    words->items = items;
    words->capacity = capacity;
  }
  /* The word counts only once its text is stored: when memory runs out, the message that reports it
   * is still searched with this mask. */
  size_t at = words->text.len;
  segue__buf_add(&words->text, s, len);
  segue__buf_addc(&words->text, 0); /* found_tail finds the end of a word by it */
  if (words->text.failed) return UV_ENOMEM;
  uint32_t hash = mask_words_hash(s);
  words->first[(unsigned char)*s] = true;
  words->starts[hash / 64] |= (uint64_t)1 << hash % 64;
  words->items[words->count++] = (word){at, (uint32_t)len};
  return 0;
}

/* Adds a word as JSON writes it, and as Lua's %q does; they differ in line breaks. */
static int mask_words_add_escaped(segue__mask_words *words, const char *s, size_t len) {
  segue__buf json, quoted;
  segue__buf_init(&json);
  segue__buf_init(&quoted);
  segue__json_string(&json, s, len);
  for (size_t i = 0; i < len; i++) {
    if (memchr("\"\\\n", s[i], 3)) segue__buf_addc(&quoted, '\\');
    segue__buf_addc(&quoted, s[i]);
  }
  int rc = json.failed || quoted.failed ? UV_ENOMEM : 0;
  if (!rc && json.len - 2 != len) rc = mask_words_add_word(words, json.data + 1, json.len - 2);
  if (!rc && quoted.len != len) rc = mask_words_add_word(words, quoted.data, quoted.len);
  segue__buf_deinit(&json);
  segue__buf_deinit(&quoted);
  return rc;
}

/* A message may quote one line of a key or a certificate. */
static int mask_words_add_lines(segue__mask_words *words, const char *s, size_t len) {
  const char *end = s + len, *next = memchr(s, '\n', len);
  int rc = 0;
  if (!next) return 0;
  for (; !rc && s < end; s = next + 1, next = memchr(s, '\n', (size_t)(end - s))) {
    if (!next) next = end;
    if (next - s >= WORD_HEAD) rc = mask_words_add_word(words, s, (size_t)(next - s));
    if (next == end) break;
  }
  return rc;
}

static int add_node(segue__mask_words *words, const segue_node *node) {
  if (node->type == SEGUE_STRING) {
    int rc = mask_words_add_word(words, node->v.s, node->count);
    if (!rc) rc = mask_words_add_escaped(words, node->v.s, node->count);
    return rc ? rc : mask_words_add_lines(words, node->v.s, node->count);
  }
  if (node->type != SEGUE_INT && node->type != SEGUE_FLOAT) return 0;
  segue__buf text;
  segue__buf_init(&text);
  segue__json_write(&text, node, 0);
  int rc = text.failed ? UV_ENOMEM : mask_words_add_word(words, text.data, text.len);
  segue__buf_deinit(&text);
  return rc;
}

/* Below a secret (walk NULL) every value is a secret. */
static int mask_words_learn(segue__mask_words *words, segue__mask_walk *walk,
                            const segue_node *node) {
  segue__seen seen = walk ? segue__mask_walk_top(walk) : SEGUE__SEEN_SECRET;
  bool map = node->type == SEGUE_MAP, inner = map || node->type == SEGUE_LIST;
  if (seen == SEGUE__SEEN_CLEAR) return 0;
  if (!inner) return seen == SEGUE__SEEN_SECRET ? add_node(words, node) : 0;
  if (seen == SEGUE__SEEN_SECRET) walk = NULL;
  int rc = 0;
  for (uint32_t i = 0; i < node->count && !rc; i++) {
    const segue__member *m = map ? &node->v.members[i] : NULL;
    segue__path_step step = {
        .key = m ? m->key : NULL, .key_len = m ? m->key_len : 0, .index = m ? 0 : i};
    if (walk) segue__mask_walk_down(walk, &step);
    rc = mask_words_learn(words, walk, m ? &m->value : &node->v.items[i]);
    if (walk) segue__mask_walk_up(walk);
  }
  return rc;
}

static int mask_words_by_bytes(const void *a, const void *b, void *data) {
  const word *x = a, *y = b;
  const char *text = data;
  int order = memcmp(text + x->at, text + y->at, x->len < y->len ? x->len : y->len);
  return order ? order : (x->len > y->len) - (x->len < y->len);
}

/* Sorts the words and removes duplicates. */
static void sort_words(segue__mask_words *words) {
  size_t kept = 0;
  if (!words->count) return;
  qsort_r(words->items, words->count, sizeof(word), mask_words_by_bytes, words->text.data);
  for (size_t i = 1; i < words->count; i++)
    if (mask_words_by_bytes(&words->items[kept], &words->items[i], words->text.data) != 0)
      words->items[++kept] = words->items[i];
  words->count = kept + 1;
}

static int mask_learn_roots(segue__mask *mask, segue__document *const *docs, size_t count,
                            const segue_node *root) {
  segue__mask_walk *walk;
  int rc = segue__mask_walk_new(&walk, mask);
  if (rc) return rc;
  if (root) rc = mask_words_learn(&mask->words, walk, root);
  for (size_t i = 0; i < count && !rc; i++)
    rc = mask_words_learn(&mask->words, walk, &docs[i]->root);
  segue__mask_walk_free(walk);
  sort_words(&mask->words);
  return rc;
}

int segue__mask_learn(segue__mask *mask, const segue_node *root) {
  return mask_learn_roots(mask, NULL, 0, root);
}

/* Every value of the merged tree is one of a document. */
int segue__mask_learn_config(segue__mask *mask, const segue__config *config) {
  return mask_learn_roots(mask, config->documents, config->document_count, NULL);
}

bool segue__mask_knows(const segue__mask *mask) {
  return mask && mask->words.count;
}

bool segue__mask_knows_same(const segue__mask *a, const segue__mask *b) {
  if (!a || !b || a->words.count != b->words.count) return false;
  for (size_t i = 0; i < a->words.count; i++) {
    const word *x = &a->words.items[i], *y = &b->words.items[i];
    if (x->len != y->len ||
        memcmp(mask_words_text_of(&a->words, x), mask_words_text_of(&b->words, y), x->len) != 0)
      return false;
  }
  return true;
}

/* ---- Finding --------------------------------------------------------------------------------- */

/* Finds the first word that is not before the text, in the order of by_bytes. */
static size_t lower_bound(const segue__mask_words *words, const char *text, size_t len) {
  size_t low = 0, high = words->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    const word *w = &words->items[middle];
    int order = memcmp(mask_words_text_of(words, w), text, w->len < len ? w->len : len);
    if (order < 0 || (!order && w->len < len))
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

/* Returns how many bytes the word at an index and the text have in common at their beginning. */
static size_t mask_words_common(const segue__mask_words *words, size_t index, const char *text,
                                size_t left) {
  if (index >= words->count) return 0;
  const word *w = &words->items[index];
  const char *s = mask_words_text_of(words, w);
  size_t n = 0;
  while (n < w->len && n < left && s[n] == text[n])
    n++;
  return n;
}

size_t segue__mask_words_longest(const segue__mask_words *words, const char *text, size_t len,
                                 const char **word, size_t *word_len) {
  size_t at = lower_bound(words, text, len), longest = mask_words_common(words, at, text, len);
  size_t before = at ? mask_words_common(words, at - 1, text, len) : 0;
  size_t index = before > longest ? at - 1 : at;
  *word = NULL;
  *word_len = 0;
  if (before > longest) longest = before;
  if (!longest) return 0;
  *word = mask_words_text_of(words, &words->items[index]);
  *word_len = words->items[index].len;
  return longest;
}

bool segue__mask_words_has(const segue__mask_words *words, const char *text, size_t len) {
  size_t at = lower_bound(words, text, len);
  return at < words->count && words->items[at].len == len &&
         mask_words_common(words, at, text, len) == len;
}

/* Returns whether the text may have been cut here. A policy may quote the output of a command,
 * which ends at a limit that is not known here, and messages put "..." behind a text that they
 * shorten. */
bool segue__mask_may_be_cut(const char *text, size_t left) {
  return !left || (left >= 3 && !memcmp(text, "...", 3));
}

static bool is_letter(char c) {
  return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

/* Returns whether the n bytes at text are a word of the sentence. A policy may cut a value and
 * write its sentence around it: nothing marks the place of the cut. */
static bool stands_alone(const char *begin, const char *text, size_t n, size_t left) {
  return (text == begin || !is_letter(text[-1])) && (n == left || !is_letter(text[n]));
}

/* Returns the number of bytes at text that are a secret: a word, a long enough beginning of a long
 * word, or, where the text may have been cut, the beginning of a word. begin: of the whole text. */
static size_t found_at(const segue__mask_words *words, const char *begin, const char *text,
                       size_t left) {
  const char *word;
  size_t word_len;
  if (left < WORD_LEAST || !segue__mask_words_start(words, text)) return 0;
  size_t longest = segue__mask_words_longest(words, text, left, &word, &word_len);
  if (longest >= WORD_HEAD) return longest;
  if (longest >= WORD_LEAST && (segue__mask_may_be_cut(text + longest, left - longest) ||
                                stands_alone(begin, text, longest, left)))
    return longest;
  /* Only a short word can still be here, and its neighbours need not share more than it does. */
  while (longest >= WORD_LEAST && !segue__mask_words_has(words, text, longest))
    longest--;
  return longest >= WORD_LEAST ? longest : 0;
}

/* Returns the number of bytes at text, behind "...", that are the end of a word: a text that keeps
 * its end was cut there. The words are sorted by their beginnings, so this is a search through all
 * of them; texts have few such places. */
static size_t found_tail(const segue__mask_words *words, const char *text, size_t left) {
  const char *at = words->text.data, *end = at + words->text.len;
  size_t longest = 0;
  while (left >= WORD_LEAST && (at = memmem(at, (size_t)(end - at), text, WORD_LEAST)) != NULL) {
    size_t n = WORD_LEAST;
    while (n < left && at[n] && at[n] == text[n])
      n++;
    if (!at[n] && n > longest) longest = n;
    at++;
  }
  return longest;
}

enum { TAILS_MAX = 8 }; /* a text with more places of "..." shows no letter behind the others */

/* Returns the number of bytes at text + i that are a secret. */
static size_t found_in(const segue__mask_words *words, const char *text, size_t i, size_t len,
                       unsigned *tails) {
  size_t n = found_at(words, text, text + i, len - i), word = 0;
  /* A value with an escape in its middle is found by its beginning, but it is longer. */
  size_t encoded = segue__mask_encoded_at(words, text + i, len - i);
  if (encoded > n) n = encoded;
  if (n || i < 3 || memcmp(text + i - 3, "...", 3) != 0 || text[i] == '.') return n;
  if (++*tails <= TAILS_MAX) return found_tail(words, text + i, len - i);
  while (i + word < len && is_letter(text[i + word]))
    word++;
  return word >= WORD_LEAST ? word : 0;
}

static bool mask_words_scrub(const segue__mask_words *words, char *text, size_t len) {
  static const size_t mask_len = sizeof SEGUE__MASKED - 1;
  char *to = text;
  bool found = false;
  unsigned tails = 0;
  for (size_t i = 0; i < len;) {
    size_t n = found_in(words, text, i, len, &tails);
    if (n) {
      memcpy(to, SEGUE__MASKED, mask_len); /* shorter than any word */
      to += mask_len;
      found = true;
      i += n;
    } else {
      *to++ = text[i++];
    }
  }
  *to = 0;
  return found;
}

/* Cuts the first bytes of a word off the end of a text that was cut, plain or encoded. They are too
 * few for a search in other places. */
static void drop_tail(const segue__mask_words *words, char *text, size_t len) {
  size_t encoded = segue__mask_encoded_tail(words, text, len);
  if (encoded) {
    text[len - encoded] = 0;
    return;
  }
  for (size_t n = len < WORD_LEAST ? len : WORD_LEAST - 1; n; n--) {
    size_t at = lower_bound(words, text + len - n, n);
    if (mask_words_common(words, at, text + len - n, n) < n) continue;
    text[len - n] = 0;
    return;
  }
}

bool segue__mask_finds(const segue__mask *mask, const char *text) {
  if (!segue__mask_knows(mask)) return false;
  unsigned tails = 0;
  size_t len = strlen(text);
  for (size_t i = 0; i + WORD_LEAST <= len; i++)
    if (found_in(&mask->words, text, i, len, &tails)) return true;
  return false;
}

bool segue__mask_scrub(const segue__mask *mask, char *text, bool was_cut) {
  if (!segue__mask_knows(mask)) return false;
  bool found = mask_words_scrub(&mask->words, text, strlen(text));
  if (was_cut) drop_tail(&mask->words, text, strlen(text));
  return found;
}

/* inside: the number of bytes at the beginning that are the middle of an encoded secret. */
static bool mask_words_lines(const segue__mask *mask, const char *text, size_t len, size_t inside,
                             segue__buf *out) {
  unsigned tails = 0;
  bool found = false;
  if (!segue__mask_knows(mask)) {
    segue__buf_add(out, text, len);
    return false;
  }
  for (size_t i = 0; i < len;) {
    size_t n = found_in(&mask->words, text, i, len, &tails), begin = i;
    if (i == 0 && inside > n) n = inside;
    if (!n) {
      segue__buf_addc(out, text[i++]);
      continue;
    }
    found = true;
    segue__buf_adds(out, SEGUE__MASKED);
    for (; i < begin + n; i++) {
      if (text[i] != '\n') continue;
      segue__buf_addc(out, '\n');
      if (i + 1 < begin + n) segue__buf_adds(out, SEGUE__MASKED);
    }
  }
  return found;
}

bool segue__mask_lines(const segue__mask *mask, const char *text, size_t len, segue__buf *out) {
  return mask_words_lines(mask, text, len, 0, out);
}

bool segue__mask_part(const segue__mask *mask, const char *text, size_t len, segue__buf *out) {
  size_t inside = segue__mask_knows(mask) ? segue__mask_encoded_inside(&mask->words, text, len) : 0;
  return mask_words_lines(mask, text, len, inside, out);
}
