/* SPDX-License-Identifier: MIT
 *
 * Secrets in other writings. A template or a command writes a secret as base64, as hex digits, or
 * with escapes of URLs, JSON and HTML. To learn each secret in each writing would take many times
 * the memory of the secrets. The text is decoded instead: at each byte the few bytes that would
 * stand there are decoded, and only where a secret begins with them is more of it read. So the cost
 * depends on the text, and hardly on the number of secrets.
 *
 * In base64 a secret may begin behind any number of other bytes ("user:password" of basic
 * authentication), so its first byte begins at bit 0, 2 or 4 of a character. Characters that hold
 * bits of the secret and of its neighbours are hidden whole.
 */
#include <string.h>

#include "../os/hex.h"
#include "../os/text.h"
#include "mask_internal.h"

/* ENCODED_LEAST: shorter secrets are not searched, because they occur by chance. The first FIRST
 * bytes decide whether more is decoded. */
enum { ENCODED_LEAST = 6, FIRST = 8, PIECE = 256, UNIT = 4 };

typedef struct mask_decoder mask_decoder;
struct mask_decoder {
  /* Decodes the next 1 to 4 bytes. Returns 0 at the end of the encoded text. */
  size_t (*next)(mask_decoder *d, char out[UNIT]);
  const char *text;
  size_t left, at; /* characters: all, and those that were decoded */
  unsigned bits, bit_count;
  bool escaped; /* at least one character was encoded */
};

static bool decoder_ends(const mask_decoder *d) {
  return d->at >= d->left;
}

static int base64_digit(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' || c == '-' ? 62 : c == '/' || c == '_' ? 63 : -1;
}

/* Long base64 has line breaks, every 64 or 76 characters, and so have hex digits; the next line may
 * be indented. */
static void decoder_skip_break(mask_decoder *d) {
  if (!decoder_ends(d) && (d->text[d->at] == '\n' || d->text[d->at] == '\r'))
    while (!decoder_ends(d) && segue__is_one_of(d->text[d->at], "\r\n \t"))
      d->at++;
}

static int base64_next_digit(mask_decoder *d) {
  decoder_skip_break(d);
  return decoder_ends(d) ? -1 : base64_digit(d->text[d->at]);
}

static size_t base64_next(mask_decoder *d, char out[UNIT]) {
  while (d->bit_count < 8) {
    int digit = base64_next_digit(d);
    if (digit < 0) return 0;
    d->bits = d->bits << 6 | (unsigned)digit;
    d->bit_count += 6;
    d->at++;
  }
  d->bit_count -= 8;
  out[0] = (char)(d->bits >> d->bit_count);
  d->bits &= (1u << d->bit_count) - 1;
  return 1;
}

/* Returns the value of count hex digits at text + at, or -1. */
static int hex_value(const mask_decoder *d, size_t at, size_t count) {
  int value = 0;
  if (d->left < at + count) return -1;
  for (size_t i = 0; i < count; i++) {
    int digit = segue__hex_value(d->text[at + i]);
    if (digit < 0) return -1;
    value = value << 4 | digit;
  }
  return value;
}

static size_t hex_next(mask_decoder *d, char out[UNIT]) {
  decoder_skip_break(d);
  int value = hex_value(d, d->at, 2);
  if (value < 0) return 0;
  d->at += 2;
  out[0] = (char)value;
  return 1;
}

static size_t utf8_put(char out[UNIT], unsigned code) {
  if (code < 0x80) {
    out[0] = (char)code;
    return 1;
  }
  size_t len = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  for (size_t i = len - 1; i; i--, code >>= 6)
    out[i] = (char)(0x80 | (code & 0x3f));
  out[0] = (char)((0xf00 >> len) | code);
  return len;
}

/* Returns whether the text ends inside of an escape: fewer than count characters are left from at
 * on, and all of them are hex digits. */
static bool decoder_cuts(const mask_decoder *d, size_t at, size_t count) {
  while (at < d->left && count && segue__hex_value(d->text[at]) >= 0) {
    at++;
    count--;
  }
  return at == d->left && count;
}

/* \n \" \/ \xXX \uXXXX, with two \u for what is beyond 16 bits. */
static size_t backslash_next(mask_decoder *d, char out[UNIT]) {
  static const char names[] = "nrtbfav", values[] = "\n\r\t\b\f\a\v";
  if (d->left < d->at + 2) return 0;
  char name = d->text[d->at + 1];
  size_t digits = name == 'x' ? 2 : name == 'u' ? 4 : 0;
  if (decoder_cuts(d, d->at + 2, digits)) return 0;
  const char *known = name ? strchr(names, name) : NULL;
  int value = name == 'x' ? hex_value(d, d->at + 2, 2) : hex_value(d, d->at + 2, 4);
  d->escaped = true;
  if ((name != 'x' && name != 'u') || value < 0) {
    d->at += 2;
    out[0] = known ? values[known - names] : name;
    return 1;
  }
  d->at += name == 'x' ? 4 : 6;
  if (name == 'x') {
    out[0] = (char)value;
    return 1;
  }
  unsigned code = (unsigned)value;
  if (code >= 0xd800 && code < 0xdc00 && d->left >= d->at + 2 && d->text[d->at] == '\\' &&
      (value = hex_value(d, d->at + 2, 4)) >= 0xdc00 && value < 0xe000) {
    code = 0x10000 + ((code - 0xd800) << 10) + ((unsigned)value - 0xdc00);
    d->at += 6;
  }
  return utf8_put(out, code);
}

/* The entities that escaping functions write. */
static size_t html_next(mask_decoder *d, char out[UNIT]) {
  static const struct {
    const char *text;
    char c;
  } entities[] = {{"&lt;", '<'},   {"&gt;", '>'},   {"&amp;", '&'},  {"&#34;", '"'},
                  {"&#39;", '\''}, {"&quot;", '"'}, {"&#x27;", '\''}};
  if (decoder_ends(d)) return 0;
  for (size_t i = 0; i < sizeof entities / sizeof *entities; i++) {
    size_t len = strlen(entities[i].text), left = d->left - d->at;
    if (left < len && left > 1 && !memcmp(d->text + d->at, entities[i].text, left)) return 0;
    if (left < len || memcmp(d->text + d->at, entities[i].text, len) != 0) continue;
    d->at += len;
    d->escaped = true;
    out[0] = entities[i].c;
    return 1;
  }
  out[0] = d->text[d->at++];
  return 1;
}

static size_t json_next(mask_decoder *d, char out[UNIT]) {
  if (decoder_ends(d)) return 0;
  if (d->text[d->at] == '\\') return backslash_next(d, out);
  out[0] = d->text[d->at++];
  return 1;
}

/* In the query of a URL "+" encodes a space. */
static size_t url_next(mask_decoder *d, char out[UNIT]) {
  if (decoder_ends(d)) return 0;
  if (d->text[d->at] == '%' && decoder_cuts(d, d->at + 1, 2)) return 0;
  int value = d->text[d->at] == '%' ? hex_value(d, d->at + 1, 2) : -1;
  d->escaped |= value >= 0 || d->text[d->at] == '+';
  out[0] = value >= 0 ? (char)value : d->text[d->at] == '+' ? ' ' : d->text[d->at];
  d->at += value >= 0 ? 3 : 1;
  return 1;
}

/* ---- Matching ---- */

/* Bytes that were decoded, and the number of characters behind each. */
typedef struct mask_piece {
  char bytes[PIECE + UNIT];
  size_t ends[PIECE + UNIT];
  size_t len;
} mask_piece;

static void piece_fill(mask_piece *piece, mask_decoder *d, size_t most) {
  size_t n;
  while (piece->len < most && (n = d->next(d, piece->bytes + piece->len)) > 0)
    for (size_t i = 0; i < n; i++)
      piece->ends[piece->len++] = d->at;
}

/* Returns how many characters hold the rest of a secret that is longer than a piece. end: the
 * characters so far. */
static size_t match_rest(mask_decoder *d, const char *rest, size_t rest_len, size_t end) {
  mask_piece piece;
  while (rest_len) {
    piece.len = 0;
    piece_fill(&piece, d, PIECE);
    size_t n = 0;
    while (n < piece.len && n < rest_len && piece.bytes[n] == rest[n])
      n++;
    if (n) end = piece.ends[n - 1];
    if (n < piece.len || !n) break;
    rest += n;
    rest_len -= n;
  }
  return end;
}

/* Returns where the encoded text ends, behind a unit that is not complete. The decoder has returned
 * 0: one of escapes does so only where the text ends inside of an escape. */
static size_t decoder_stop(const mask_decoder *d) {
  if (d->next == base64_next) return d->at;
  if (d->next == hex_next)
    return d->at + (!decoder_ends(d) && segue__hex_value(d->text[d->at]) >= 0);
  return d->left;
}

/* Returns the number of characters that hold the first `common` bytes of a secret, if the text may
 * have been cut behind them; else 0. */
static size_t match_cut(const mask_decoder *d, const mask_piece *piece, size_t common) {
  size_t end = common == piece->len ? decoder_stop(d) : piece->ends[common - 1];
  return segue__mask_may_be_cut(d->text + end, d->left - end) ? end : 0;
}

/* Returns the number of characters that hold a secret, or a long enough beginning of one. */
static size_t match_decoded(const segue__mask_words *words, mask_decoder *d) {
  mask_piece piece;
  const char *word;
  size_t word_len;
  piece.len = 0;
  piece_fill(&piece, d, 1);
  if (!piece.len || !words->first[(unsigned char)piece.bytes[0]]) return 0;
  piece_fill(&piece, d, UNIT);
  if (piece.len < UNIT || !segue__mask_words_start(words, piece.bytes)) return 0;
  piece_fill(&piece, d, FIRST);
  size_t common = segue__mask_words_longest(words, piece.bytes, piece.len, &word, &word_len);
  if (common >= UNIT && common < FIRST && word_len >= ENCODED_LEAST) {
    size_t cut = match_cut(d, &piece, common);
    if (cut) return cut;
  }
  if (common < ENCODED_LEAST) return 0;
  if (common == piece.len) {
    piece_fill(&piece, d, PIECE);
    common = segue__mask_words_longest(words, piece.bytes, piece.len, &word, &word_len);
  }
  while (common >= ENCODED_LEAST && common < FIRST &&
         !segue__mask_words_has(words, piece.bytes, common))
    common--;
  if (common < ENCODED_LEAST) return 0;
  size_t end = piece.ends[common - 1];
  if (common < piece.len || word_len == common) return end;
  return match_rest(d, word + common, word_len - common, end);
}

/* Returns whether a secret may begin `skip` bits behind the beginning of the first character. This
 * is the common case, and the answer no. */
static bool base64_may_begin(const segue__mask_words *words, int digit, int next, unsigned skip) {
  if (next < 0) return true; /* a line break, perhaps */
  unsigned two = (unsigned)digit << 6 | (unsigned)next;
  return words->first[two >> (4 - skip) & 0xff];
}

/* A decoder of base64 whose first byte begins `skip` bits behind the beginning of a character. */
static mask_decoder base64_decoder(const char *text, size_t left, unsigned skip) {
  mask_decoder d = {.next = base64_next, .text = text, .left = left, .at = 1};
  d.bit_count = 6 - skip;
  d.bits = (unsigned)base64_digit(*text) & ((1u << d.bit_count) - 1);
  return d;
}

static size_t base64_at(const segue__mask_words *words, const char *text, size_t left) {
  int digit = base64_digit(*text), next = left > 1 ? base64_digit(text[1]) : -1;
  size_t longest = 0;
  if (digit < 0 || left < ENCODED_LEAST) return 0;
  for (unsigned skip = 0; skip < 6; skip += 2) {
    if (!base64_may_begin(words, digit, next, skip)) continue;
    mask_decoder d = base64_decoder(text, left, skip);
    size_t n = match_decoded(words, &d);
    if (n > longest) longest = n;
  }
  return longest;
}

static size_t (*const escapes[])(mask_decoder *, char *) = {json_next, url_next, html_next};
enum { ESCAPES = sizeof escapes / sizeof *escapes };

static size_t escapes_at(const segue__mask_words *words, const char *text, size_t left) {
  size_t longest = 0;
  if (!words->first[(unsigned char)*text] && !memchr("%+\\&", *text, 4)) return 0;
  for (size_t i = 0; i < ESCAPES; i++) {
    mask_decoder d = {.next = escapes[i], .text = text, .left = left};
    size_t n = match_decoded(words, &d);
    if (d.escaped && n > longest) longest = n;
  }
  return longest;
}

size_t segue__mask_encoded_at(const segue__mask_words *words, const char *text, size_t left) {
  mask_decoder hex = {.next = hex_next, .text = text, .left = left};
  size_t n = segue__hex_value(*text) >= 0 ? match_decoded(words, &hex) : 0;
  size_t base64 = base64_at(words, text, left), escaped = escapes_at(words, text, left);
  if (base64 > n) n = base64;
  return escaped > n ? escaped : n;
}

/* ---- Texts that were cut ---- */

/* TAIL_MOST: three bytes as \uXXXX, and a fourth that is not complete. */
enum { TAIL_MOST = 23, INSIDE = 12 };

/* Returns whether all that is left of the text is the first bytes of a secret. */
static bool tail_is_secret(const segue__mask_words *words, mask_decoder d, bool escapes_only) {
  mask_piece piece;
  const char *word;
  size_t word_len;
  piece.len = 0;
  piece_fill(&piece, &d, UNIT);
  if (!piece.len || piece.len >= UNIT || decoder_stop(&d) != d.left) return false;
  if (escapes_only && !d.escaped && decoder_ends(&d)) return false; /* plain: drop_tail */
  size_t common = segue__mask_words_longest(words, piece.bytes, piece.len, &word, &word_len);
  return common == piece.len && word_len >= ENCODED_LEAST;
}

size_t segue__mask_encoded_tail(const segue__mask_words *words, const char *text, size_t len) {
  for (size_t left = len < TAIL_MOST ? len : TAIL_MOST; left; left--) {
    const char *at = text + len - left;
    bool found =
        tail_is_secret(words, (mask_decoder){.next = hex_next, .text = at, .left = left}, false);
    for (unsigned skip = 0; skip < 6 && !found && base64_digit(*at) >= 0; skip += 2)
      found = tail_is_secret(words, base64_decoder(at, left, skip), false);
    for (size_t i = 0; i < ESCAPES && !found; i++)
      found =
          tail_is_secret(words, (mask_decoder){.next = escapes[i], .text = at, .left = left}, true);
    if (found) return left;
  }
  return 0;
}

/* Returns the number of characters that hold the middle of a secret. It is searched among all
 * words, because they are sorted by their beginnings. */
static size_t inside_match(const segue__mask_words *words, mask_decoder *d) {
  mask_piece piece;
  size_t longest = 0;
  piece.len = 0;
  piece_fill(&piece, d, INSIDE);
  if (piece.len < INSIDE) return 0;
  const char *at = words->text.data, *end = at + words->text.len;
  while ((at = memmem(at, (size_t)(end - at), piece.bytes, INSIDE)) != NULL) {
    mask_decoder rest = *d;
    size_t n = match_rest(&rest, at + INSIDE, strlen(at + INSIDE), piece.ends[INSIDE - 1]);
    if (n > longest) longest = n;
    at++;
  }
  return longest;
}

/* Lines of base64 have a length that is a multiple of 4 characters, so a line begins with a whole
 * byte. */
size_t segue__mask_encoded_inside(const segue__mask_words *words, const char *text, size_t len) {
  size_t indent = 0;
  while (indent < len && segue__is_one_of(text[indent], " \t"))
    indent++;
  mask_decoder base64 = {.next = base64_next, .text = text + indent, .left = len - indent};
  mask_decoder hex = {.next = hex_next, .text = text + indent, .left = len - indent};
  size_t n = inside_match(words, &base64), other = inside_match(words, &hex);
  if (other > n) n = other;
  return n ? indent + n : 0;
}
