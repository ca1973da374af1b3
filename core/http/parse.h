/* SPDX-License-Identifier: MIT
 *
 * parse.h: the grammar of HTTP/1.1 requests (RFC 9112, 9110, 3986) as pure functions: no input or
 * output, no allocation, no state except the caller's. They are strict where a lenient reading
 * would let two programs disagree about the end of a request (request smuggling): a request that is
 * not exactly in the grammar is rejected, never repaired. [any thread]
 */
#ifndef SEGUE_HTTP_PARSE_H
#define SEGUE_HTTP_PARSE_H

#include "http.h"

typedef enum segue__http_parsed {
  SEGUE__HTTP_OK,   /* complete */
  SEGUE__HTTP_MORE, /* good so far; not complete */
  SEGUE__HTTP_DATA, /* (chunked only) a piece of the body; call again */
  SEGUE__HTTP_BAD   /* rejected: status and reason */
} segue__http_parsed;

/* A request's head. All texts borrow from the buffer that was parsed. */
typedef struct segue__http_head {
  segue__http_header *headers; /* in: the caller's array ... */
  size_t header_max;           /* in: ... and its size */
  size_t header_count;
  size_t length; /* bytes of the head, its final empty line included */
  segue__http_text method, target;
  segue__http_text path;  /* raw, starts with "/"; "*", or empty for "http://host" */
  segue__http_text query; /* raw, without "?" */
  segue__http_text host;  /* empty only for an HTTP/1.0 request without Host */
  uint64_t content_length;
  int status;         /* of the refusal */
  const char *reason; /* of the refusal: one clause, static */
  uint8_t minor;      /* HTTP/1.minor */
  bool has_length, chunked;
  bool keep_alive;
  bool expect_continue;
} segue__http_head;

/* Parses the head at the start of buf. Never SEGUE__HTTP_DATA. Reads each byte once. One empty line
 * before the request line is skipped (RFC 9112 2.2). */
segue__http_parsed segue__http_parse_head(const char *buf, size_t len, segue__http_head *head);

/* Returns whether the received bytes are worth parsing: the head is complete, or contains a byte
 * that cannot be valid. *scanned starts at 0 and is kept between calls, so that a head that arrives
 * byte by byte costs as much as one that arrives at once. */
bool segue__http_head_ready(const char *buf, size_t len, size_t *scanned);

/* Decodes a raw path that starts with "/" and removes its dot segments (RFC 3986 5.2.4). out has
 * room for len + 1 bytes and may be raw itself; it is terminated. "%2F" and "%25" stay escaped (in
 * upper case), so that a slash inside a segment is never taken for a separator and nothing is
 * decoded twice; empty segments stay. Returns the length, or SEGUE_ESYNTAX: an escape that is not
 * two hex digits, %00, or a path that leads above the root. */
int segue__http_path_decode(const char *raw, size_t len, char *out);

/* Takes the next name and value off a query, as they stand there; false: there is none. */
bool segue__http_query_next(segue__http_text *rest, segue__http_text *name,
                            segue__http_text *value);
/* One of them decoded, "+" read as a space, into size bytes (out NULL: only counted): its length,
 * or SEGUE_ESYNTAX: a zero byte, an escape that is none, too long. */
int segue__http_query_decode(segue__http_text text, char *out, size_t size);
/* The value of a query parameter, percent-decoded, "+" read as a space; false if absent, malformed
 * or longer than size - 1. */
bool segue__http_query_find(segue__http_text query, const char *name, char *buf, size_t size);

/* host[:port] as in Host (RFC 9110 7.2): a name, an IPv4 address or an IPv6 one in brackets. */
bool segue__http_host_valid(segue__http_text host);

/* Chunked bodies (RFC 9112 7.1), incrementally. Zero the struct to start. */
typedef struct segue__http_chunked {
  uint64_t left;     /* bytes of the current chunk still to come */
  uint64_t overhead; /* framing bytes in excess of a normal sender's */
  uint32_t line;     /* bytes of the current size line */
  uint32_t trailer;  /* bytes of trailers */
  uint8_t state;
  uint8_t digits;
} segue__http_chunked;

enum {
  SEGUE__HTTP_CHUNK_LINE_MAX = 256,   /* size and extensions of one chunk */
  SEGUE__HTTP_CHUNK_OVERHEAD = 16384, /* see overhead */
  SEGUE__HTTP_TRAILERS_MAX = 8192     /* all trailers together; they are checked and dropped */
};

/* Takes bytes from in; *consumed is their number (all of them after MORE). After DATA, *data and
 * *data_len are a part of the body inside in. After OK the body is complete; the bytes behind
 * *consumed are the next request. */
segue__http_parsed segue__http_chunked_next(segue__http_chunked *decoder, const char *in,
                                            size_t len, size_t *consumed, const char **data,
                                            size_t *data_len);

#endif
