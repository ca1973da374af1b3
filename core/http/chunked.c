/* SPDX-License-Identifier: MIT
 *
 * The chunked transfer coding (RFC 9112 7.1), byte by byte over the framing and in one step over
 * the data. Sizes, extensions and trailers are bounded. So is the sum of all framing in excess of
 * the data: one-byte chunks with long extensions cost a server a hundred times what they cost the
 * sender.
 */
#include "../os/hex.h"
#include "parse.h"

enum {
  SIZE,         /* hex digits */
  EXTENSION,    /* after ";" */
  SIZE_LF,      /* the CR of the size line is in */
  DATA,         /* inside the chunk */
  DATA_CR,      /* the chunk is in; its CR ... */
  DATA_LF,      /* ... and LF are due */
  TRAILER,      /* at the start of a trailer line */
  TRAILER_NAME, /* inside the name */
  TRAILER_TEXT, /* after the colon */
  TRAILER_LF,   /* the CR of a trailer line is in */
  LAST_LF,      /* the CR of the empty line is in */
  DONE
};

/* tchar and the characters of a value, as in parse.c but without its table: trailers are rare. */
static bool chunked_name_char(char c) {
  return c > ' ' && c < 127 && c != ':' && c != '"' && c != '(' && c != ')' && c != ',' &&
         c != '/' && !(c >= ';' && c <= '@') && !(c >= '[' && c <= ']') && c != '{' && c != '}';
}

static bool text_char(char c) {
  return c == '\t' || ((unsigned char)c >= ' ' && c != 127);
}

/* Sixteen digits cannot overflow 64 bits, and no chunk needs more. */
static int size_char(segue__http_chunked *d, char c) {
  int value = segue__hex_value(c);
  if (value >= 0) {
    d->left = d->left << 4 | (uint64_t)value;
    return ++d->digits <= 16 ? SIZE : -1;
  }
  if (!d->digits) return -1;
  return c == ';' ? EXTENSION : c == '\r' ? SIZE_LF : -1;
}

/* The size line is complete: adds its length to the overhead, subtracts a credit for the chunk's
 * data. */
static int size_done(segue__http_chunked *d) {
  uint64_t credit =
      16 + (d->left > SEGUE__HTTP_CHUNK_OVERHEAD ? SEGUE__HTTP_CHUNK_OVERHEAD : d->left * 2);
  d->overhead += d->line;
  d->overhead = d->overhead > credit ? d->overhead - credit : 0;
  if (d->overhead > SEGUE__HTTP_CHUNK_OVERHEAD) return -1;
  d->line = 0;
  d->digits = 0;
  return d->left ? DATA : TRAILER;
}

static int trailer_char(segue__http_chunked *d, char c) {
  if (++d->trailer > SEGUE__HTTP_TRAILERS_MAX) return -1;
  switch (d->state) {
  case TRAILER:
    return c == '\r' ? LAST_LF : chunked_name_char(c) ? TRAILER_NAME : -1;
  case TRAILER_NAME:
    return c == ':' ? TRAILER_TEXT : chunked_name_char(c) ? TRAILER_NAME : -1;
  case TRAILER_TEXT:
    return c == '\r' ? TRAILER_LF : text_char(c) ? TRAILER_TEXT : -1;
  case TRAILER_LF:
    return c == '\n' ? TRAILER : -1;
  default:
    return c == '\n' ? DONE : -1;
  }
}

/* Returns the state after one byte of framing, or -1 if the byte is wrong. */
static int http_chunked_step(segue__http_chunked *d, char c) {
  if (d->state <= SIZE_LF && ++d->line > SEGUE__HTTP_CHUNK_LINE_MAX) return -1;
  switch (d->state) {
  case SIZE:
    return size_char(d, c);
  case EXTENSION:
    return c == '\r' ? SIZE_LF : text_char(c) ? EXTENSION : -1;
  case SIZE_LF:
    return c == '\n' ? size_done(d) : -1;
  case DATA_CR:
    return c == '\r' ? DATA_LF : -1;
  case DATA_LF:
    return c == '\n' ? SIZE : -1;
  default:
    return trailer_char(d, c);
  }
}

segue__http_parsed segue__http_chunked_next(segue__http_chunked *d, const char *in, size_t len,
                                            size_t *consumed, const char **data, size_t *data_len) {
  size_t i = 0;
  *data = NULL;
  *data_len = 0;
  while (i < len && d->state != DONE && d->state != DATA) {
    int next = http_chunked_step(d, in[i++]);
    if (next < 0) {
      *consumed = i;
      return SEGUE__HTTP_BAD;
    }
    d->state = (uint8_t)next;
  }
  *consumed = i;
  if (d->state == DONE) return SEGUE__HTTP_OK;
  if (i == len) return SEGUE__HTTP_MORE;
  *data = in + i;
  *data_len = len - i < d->left ? len - i : (size_t)d->left;
  *consumed = i + *data_len;
  d->left -= *data_len;
  if (!d->left) d->state = DATA_CR;
  return SEGUE__HTTP_DATA;
}
