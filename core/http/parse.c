/* SPDX-License-Identifier: MIT
 *
 * The head of a request in one pass over contiguous bytes: request line, header fields, and the
 * rules that decide where the request ends (RFC 9112 3 to 6). Every deviation that has been used to
 * make two servers disagree (bare LF, folded lines, white space before the colon, two lengths, a
 * length beside a transfer coding) is an error here.
 */
#include "parse.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "../os/hex.h"

/* Character classes: TOKEN is tchar (RFC 9110 5.6.2); VALUE the characters of a field value:
 * visible characters, space, tab, obs-text (5.5); TARGET visible ASCII without "#", which would
 * start a fragment; NAME the characters of a reg-name (RFC 3986 3.2.2). */
enum { TOKEN = 1, VALUE = 2, TARGET = 4, NAME = 8 };
static const uint8_t classes[256] = {
    0,  0,  0,  0,  0,  0,  0,  0,  0,  2,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
    0,  0,  0,  0,  0,  0,  0,  0,  2,  15, 6,  3,  15, 15, 15, 15, 14, 14, 15, 15, 14, 15, 15, 6,
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 6,  14, 6,  14, 6,  6,  6,  15, 15, 15, 15, 15, 15, 15,
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 6,  6,  6,  7,  15,
    7,  15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,
    15, 15, 15, 6,  7,  6,  15, 0,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,
    2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,
    2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,
    2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,
    2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,
    2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,
};

enum { METHOD_MAX = 32 };

static inline bool parse_is(char c, int class) {
  return classes[(uint8_t)c] & class;
}

static segue__http_parsed parse_bad(segue__http_head *head, int status, const char *reason) {
  head->status = status;
  head->reason = reason;
  return SEGUE__HTTP_BAD;
}

bool segue__http_text_is(segue__http_text text, const char *word) {
  return strlen(word) == text.len && strncasecmp(text.s, word, text.len) == 0;
}

/* ---- Host ------------------------------------------------------------------------------------ */

static bool port_valid(const char *s, size_t len) {
  unsigned long port = 0;
  if (len > 5) return false;
  for (size_t i = 0; i < len; i++) {
    if (s[i] < '0' || s[i] > '9') return false;
    port = port * 10 + (unsigned long)(s[i] - '0');
  }
  return port <= 65535;
}

static bool ipv6_valid(const char *s, size_t len) {
  char text[INET6_ADDRSTRLEN];
  struct in6_addr address;
  if (len >= sizeof text) return false;
  memcpy(text, s, len);
  text[len] = 0;
  return strlen(text) == len && inet_pton(AF_INET6, text, &address) == 1;
}

static bool name_valid(const char *s, size_t len) {
  for (size_t i = 0; i < len; i++) {
    if (!parse_is(s[i], NAME)) return false;
    if (s[i] == '%' &&
        (len - i < 3 || segue__hex_value(s[i + 1]) < 0 || segue__hex_value(s[i + 2]) < 0))
      return false;
  }
  return len > 0;
}

bool segue__http_host_valid(segue__http_text host) {
  const char *s = host.s, *end = host.s + host.len;
  if (!host.len) return false;
  const char *after = s;
  if (*s == '[') {
    const char *close = memchr(s, ']', host.len);
    if (!close || !ipv6_valid(s + 1, (size_t)(close - s - 1))) return false;
    after = close + 1;
  } else {
    while (after < end && *after != ':')
      after++;
    if (!name_valid(s, (size_t)(after - s))) return false;
  }
  return after == end || (*after == ':' && port_valid(after + 1, (size_t)(end - after - 1)));
}

/* ---- Request line ---------------------------------------------------------------------------- */

static segue__http_text parse_text_of(const char *s, const char *end) {
  return (segue__http_text){s, (size_t)(end - s)};
}

static segue__http_parsed split_path(segue__http_head *head, const char *s, const char *end) {
  const char *mark = s == end ? NULL : memchr(s, '?', (size_t)(end - s));
  head->path = parse_text_of(s, mark ? mark : end);
  if (mark) head->query = parse_text_of(mark + 1, end);
  return SEGUE__HTTP_OK;
}

/* "http://authority[/path][?query]", the form that a client sends to a proxy. RFC 9112 3.2.2: the
 * authority replaces Host. User information in it is rejected (RFC 9110 4.2.4). */
static segue__http_parsed parse_absolute(segue__http_head *head) {
  const char *s = head->target.s, *end = s + head->target.len;
  size_t skip = 0;
  if (head->target.len > 7 && strncasecmp(s, "http://", 7) == 0)
    skip = 7;
  else if (head->target.len > 8 && strncasecmp(s, "https://", 8) == 0)
    skip = 8;
  if (!skip) return parse_bad(head, 400, "the target is neither a path nor an http URL");
  const char *authority = s + skip, *after = authority;
  while (after < end && *after != '/' && *after != '?')
    after++;
  head->host = parse_text_of(authority, after);
  if (!segue__http_host_valid(head->host))
    return parse_bad(head, 400, "the authority of the target is not a host");
  return split_path(head, after, end);
}

static segue__http_parsed read_target(segue__http_head *head) {
  const char *s = head->target.s, *end = s + head->target.len;
  if (head->method.len == 7 && memcmp(head->method.s, "CONNECT", 7) == 0)
    return parse_bad(head, 501, "CONNECT is not served here");
  if (*s == '/') return split_path(head, s, end);
  if (head->target.len == 1 && *s == '*') {
    if (head->method.len != 7 || memcmp(head->method.s, "OPTIONS", 7) != 0)
      return parse_bad(head, 400, "the target * is for OPTIONS only");
    head->path = head->target;
    return SEGUE__HTTP_OK;
  }
  return parse_absolute(head);
}

static bool parse_digit(char c) {
  return c >= '0' && c <= '9';
}

/* "HTTP/1.1" CRLF. Other versions that are well formed are 505 (RFC 9110 15.6.6). */
static segue__http_parsed read_version(segue__http_head *head, const char *p, const char *end) {
  static const char pattern[] = "HTTP/1.1\r\n";
  for (int i = 0; i < 10; i++) {
    if (p + i == end) return SEGUE__HTTP_MORE;
    bool free_digit = i == 5 || i == 7;
    if (free_digit ? !parse_digit(p[i]) : p[i] != pattern[i])
      return parse_bad(head, 400, "the request line does not end in HTTP/1.1 and CRLF");
  }
  if (p[5] != '1' || p[7] > '1')
    return parse_bad(head, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
  head->minor = (uint8_t)(p[7] - '0');
  return SEGUE__HTTP_OK;
}

static segue__http_parsed request_line(segue__http_head *head, const char **at, const char *end) {
  const char *p = *at, *start = p;
  while (p < end && parse_is(*p, TOKEN))
    p++;
  if (p - start > METHOD_MAX) return parse_bad(head, 501, "the method is too long");
  if (p == end) return SEGUE__HTTP_MORE;
  if (*p != ' ' || p == start)
    return parse_bad(head, 400, "the request does not start with a method and one space");
  head->method = parse_text_of(start, p);
  start = ++p;
  while (p < end && parse_is(*p, TARGET))
    p++;
  if (p == end) return SEGUE__HTTP_MORE;
  if (*p != ' ' || p == start)
    return parse_bad(head, 400, "the target of the request is malformed");
  head->target = parse_text_of(start, p);
  segue__http_parsed r = read_version(head, p + 1, end);
  *at = p + 11;
  return r == SEGUE__HTTP_OK ? read_target(head) : r;
}

/* ---- Fields with a meaning ------------------------------------------------------------------- */

/* Facts about the fields so far; combinations are checked when all fields are in. */
typedef struct facts {
  bool host, transfer, close, keep_alive;
} facts;

static segue__http_parsed field_host(segue__http_head *head, facts *seen, segue__http_text value) {
  if (seen->host) return parse_bad(head, 400, "there is more than one Host");
  /* An empty one is legal (RFC 9110 7.2): the client's URL has no authority. */
  if (value.len && !segue__http_host_valid(value))
    return parse_bad(head, 400, "Host is not a host with an optional port");
  seen->host = true;
  if (!head->host.len) head->host = value;
  return SEGUE__HTTP_OK;
}

/* RFC 9112 6.3 allows a server to accept a length that is repeated with the same value. No client
 * needs that, and two servers that choose different ones disagree about the end of the request, so
 * it is rejected. */
static segue__http_parsed field_length(segue__http_head *head, segue__http_text value) {
  uint64_t n = 0;
  if (head->has_length) return parse_bad(head, 400, "there is more than one Content-Length");
  if (!value.len) return parse_bad(head, 400, "Content-Length is empty");
  for (size_t i = 0; i < value.len; i++) {
    if (!parse_digit(value.s[i])) return parse_bad(head, 400, "Content-Length is not a number");
    if (__builtin_mul_overflow(n, 10, &n) ||
        __builtin_add_overflow(n, (uint64_t)(value.s[i] - '0'), &n))
      return parse_bad(head, 400, "Content-Length is too large for any body");
  }
  head->content_length = n;
  head->has_length = true;
  return SEGUE__HTTP_OK;
}

/* Cuts the next element off a list that is separated by commas. Returns false at its end. */
static bool parse_next_item(segue__http_text *list, segue__http_text *item) {
  const char *s = list->s, *end = list->s + list->len;
  while (s < end && (*s == ' ' || *s == '\t' || *s == ','))
    s++;
  if (s == end) return false;
  const char *stop = s;
  while (stop < end && *stop != ',')
    stop++;
  *list = parse_text_of(stop, end);
  while (stop > s && (stop[-1] == ' ' || stop[-1] == '\t'))
    stop--;
  *item = parse_text_of(s, stop);
  return true;
}

/* RFC 9112 6.1 and 6.3: a body whose last coding is not chunked has no known end (400); an unknown
 * coding before it is 501. */
static segue__http_parsed field_transfer(segue__http_head *head, facts *seen,
                                         segue__http_text value) {
  segue__http_text item = {0};
  size_t others = 0, chunked = 0;
  bool last = false;
  if (seen->transfer) return parse_bad(head, 400, "there is more than one Transfer-Encoding");
  seen->transfer = true;
  while (parse_next_item(&value, &item)) {
    last = segue__http_text_is(item, "chunked");
    last ? chunked++ : others++;
  }
  if (!last || chunked > 1)
    return parse_bad(head, 400, "Transfer-Encoding does not end in one chunked");
  if (others) return parse_bad(head, 501, "only the transfer coding chunked is understood here");
  head->chunked = true;
  return SEGUE__HTTP_OK;
}

static segue__http_parsed field_connection(facts *seen, segue__http_text value) {
  segue__http_text item;
  while (parse_next_item(&value, &item)) {
    seen->close |= segue__http_text_is(item, "close");
    seen->keep_alive |= segue__http_text_is(item, "keep-alive");
  }
  return SEGUE__HTTP_OK;
}

static segue__http_parsed field_expect(segue__http_head *head, segue__http_text value) {
  if (!segue__http_text_is(value, "100-continue"))
    return parse_bad(head, 417, "the only expectation that can be met is 100-continue");
  head->expect_continue = head->minor > 0;
  return SEGUE__HTTP_OK;
}

static segue__http_parsed parse_field(segue__http_head *head, facts *seen,
                                      const segue__http_header *header) {
  switch (header->name.len) {
  case 4:
    if (strncasecmp(header->name.s, "Host", 4) == 0) return field_host(head, seen, header->value);
    break;
  case 6:
    if (strncasecmp(header->name.s, "Expect", 6) == 0) return field_expect(head, header->value);
    break;
  case 10:
    if (strncasecmp(header->name.s, "Connection", 10) == 0)
      return field_connection(seen, header->value);
    break;
  case 14:
    if (strncasecmp(header->name.s, "Content-Length", 14) == 0)
      return field_length(head, header->value);
    break;
  case 17:
    if (strncasecmp(header->name.s, "Transfer-Encoding", 17) == 0)
      return field_transfer(head, seen, header->value);
    break;
  default:
    break;
  }
  return SEGUE__HTTP_OK;
}

/* ---- Fields ---------------------------------------------------------------------------------- */

static segue__http_parsed bad_name(segue__http_head *head, const char *p, const char *start) {
  if (p == start && (*p == ' ' || *p == '\t'))
    return parse_bad(head, 400, "a header line is folded");
  if (*p == ' ' || *p == '\t')
    return parse_bad(head, 400, "there is white space before the colon of a header");
  if (*p == '\n' || *p == '\r')
    return parse_bad(head, 400, "a header line has no colon, or does not end in CRLF");
  return parse_bad(head, 400, "a header name holds a character that is not allowed");
}

/* Parses one line "name: value" CRLF at *at. */
static segue__http_parsed field_line(segue__http_head *head, segue__http_header *out,
                                     const char **at, const char *end) {
  const char *start = *at, *p = start;
  while (p < end && parse_is(*p, TOKEN))
    p++;
  if (p == end) return SEGUE__HTTP_MORE;
  if (*p != ':' || p == start) return bad_name(head, p, start);
  out->name = parse_text_of(start, p++);
  while (p < end && (*p == ' ' || *p == '\t'))
    p++;
  start = p;
  while (p < end && parse_is(*p, VALUE))
    p++;
  if (p == end || (*p == '\r' && p + 1 == end)) return SEGUE__HTTP_MORE;
  if (*p != '\r' || p[1] != '\n')
    return parse_bad(head, 400,
                     "a header value holds a control character, or does not end in CRLF");
  *at = p + 2;
  while (p > start && (p[-1] == ' ' || p[-1] == '\t'))
    p--;
  out->value = parse_text_of(start, p);
  return SEGUE__HTTP_OK;
}

static segue__http_parsed parse_validate(segue__http_head *head, const facts *seen) {
  if (head->minor > 0 && !seen->host) return parse_bad(head, 400, "HTTP/1.1 needs a Host");
  if (head->chunked && head->has_length)
    return parse_bad(head, 400, "Content-Length and Transfer-Encoding exclude each other");
  if (head->chunked && head->minor == 0)
    return parse_bad(head, 400, "HTTP/1.0 has no Transfer-Encoding");
  head->keep_alive = !seen->close && (head->minor > 0 || seen->keep_alive);
  return SEGUE__HTTP_OK;
}

static segue__http_parsed parse_fields(segue__http_head *head, const char **at, const char *end) {
  facts seen = {0};
  for (;;) {
    const char *p = *at;
    if (p == end || (*p == '\r' && p + 1 == end)) return SEGUE__HTTP_MORE;
    if (p[0] == '\r' && p[1] == '\n') {
      *at = p + 2;
      return parse_validate(head, &seen);
    }
    segue__http_header header;
    segue__http_parsed r = field_line(head, &header, at, end);
    if (r == SEGUE__HTTP_OK && head->header_count == head->header_max)
      r = parse_bad(head, 431, "there are too many headers");
    if (r == SEGUE__HTTP_OK) r = parse_field(head, &seen, &header);
    if (r != SEGUE__HTTP_OK) return r;
    head->headers[head->header_count++] = header;
  }
}

/* One empty line before the request line is ignored (RFC 9112 2.2): old clients send one after the
 * body of a POST. */
segue__http_parsed segue__http_parse_head(const char *buf, size_t len, segue__http_head *head) {
  const char *p = buf, *end = buf + len;
  *head = (segue__http_head){.headers = head->headers, .header_max = head->header_max};
  if (len >= 2 && p[0] == '\r' && p[1] == '\n')
    p += 2;
  else if (len == 1 && p[0] == '\r')
    return SEGUE__HTTP_MORE;
  segue__http_parsed r = request_line(head, &p, end);
  if (r == SEGUE__HTTP_OK) r = parse_fields(head, &p, end);
  if (r == SEGUE__HTTP_OK) head->length = (size_t)(p - buf);
  return r;
}

/* Returns whether the buffer may contain a whole head, so that a head that arrives in many pieces
 * is not parsed from its start for each of them. True as soon as a line ends without CR, or the
 * first byte begins no request: the parser then rejects it without waiting for more. *scanned is
 * the part that was searched before. */
bool segue__http_head_ready(const char *buf, size_t len, size_t *scanned) {
  if (*scanned == 0 && len && !parse_is(buf[0], TOKEN) && buf[0] != '\r') return true;
  for (;;) {
    const char *lf = memchr(buf + *scanned, '\n', len - *scanned);
    if (!lf) {
      *scanned = len;
      return false;
    }
    size_t i = (size_t)(lf - buf);
    *scanned = i + 1;
    if (i == 0 || buf[i - 1] != '\r' || (i >= 3 && buf[i - 2] == '\n')) return true;
  }
}
