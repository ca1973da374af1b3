/* SPDX-License-Identifier: MIT
 *
 * Answers: status line and headers are formatted in the server's one head buffer; a small body is
 * appended, so that both leave in a single write. A large body is a second buffer of the same
 * write, and is copied only if the socket is full.
 */
#include "conn.h"

#include <stdio.h>
#include <string.h>

enum { INLINE_BODY = 4096 };

/* RFC 9110 15, the ones a server of ours or its handlers may send. */
static const char *const phrases[] = {
    [200] = "OK",
    [201] = "Created",
    [202] = "Accepted",
    [204] = "No Content",
    [205] = "Reset Content",
    [206] = "Partial Content",
    [301] = "Moved Permanently",
    [302] = "Found",
    [303] = "See Other",
    [304] = "Not Modified",
    [307] = "Temporary Redirect",
    [308] = "Permanent Redirect",
    [400] = "Bad Request",
    [401] = "Unauthorized",
    [403] = "Forbidden",
    [404] = "Not Found",
    [405] = "Method Not Allowed",
    [406] = "Not Acceptable",
    [408] = "Request Timeout",
    [409] = "Conflict",
    [410] = "Gone",
    [412] = "Precondition Failed",
    [413] = "Content Too Large",
    [415] = "Unsupported Media Type",
    [417] = "Expectation Failed",
    [421] = "Misdirected Request",
    [422] = "Unprocessable Content",
    [423] = "Locked",
    [428] = "Precondition Required",
    [429] = "Too Many Requests",
    [431] = "Request Header Fields Too Large",
    [500] = "Internal Server Error",
    [501] = "Not Implemented",
    [502] = "Bad Gateway",
    [503] = "Service Unavailable",
    [504] = "Gateway Timeout",
    [505] = "HTTP Version Not Supported",
};

static const char *respond_phrase(int status) {
  bool known = status >= 0 && (size_t)status < sizeof phrases / sizeof *phrases;
  return known && phrases[status] ? phrases[status] : "Unknown";
}

/* Formats the Date header once a second. Names of days and months are our own, because those of
 * strftime follow the locale, and HTTP requires English (RFC 9110 5.6.7). */
static const char *date_line(segue__http_server *server) {
  static const char days[] = "SunMonTueWedThuFriSat";
  static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
  time_t now = time(NULL);
  if (now != server->date_at) {
    struct tm tm;
    gmtime_r(&now, &tm);
    snprintf(server->date, sizeof server->date, "Date: %.3s, %02d %.3s %04d %02d:%02d:%02d GMT\r\n",
             days + tm.tm_wday * 3, tm.tm_mday % 100, months + tm.tm_mon * 3,
             (tm.tm_year + 1900) % 10000, tm.tm_hour % 100, tm.tm_min % 100, tm.tm_sec % 100);
    server->date_at = now;
  }
  return server->date;
}

/* 1xx, 204 and 304 have no Content-Length either (RFC 9110 8.6); a 205 has 0 (15.3.6). */
static bool lengthless(int status) {
  return status < 200 || status == 204 || status == 304;
}

bool segue__http_has_body(int status) {
  return !lengthless(status) && status != 205;
}

typedef struct answer {
  int status;
  const char *content_type, *headers;
  uint64_t length; /* UINT64_MAX: not known */
} answer;

static void build_head(segue__http_conn *conn, const answer *a, bool http10, bool chunked) {
  segue__buf *out = &conn->server->out;
  out->len = 0;
  out->failed = 0;
  segue__buf_add(out, "HTTP/1.1 ", 9);
  segue__buf_addu(out, (uint64_t)a->status);
  segue__buf_addc(out, ' ');
  segue__buf_adds(out, respond_phrase(a->status));
  segue__buf_add(out, "\r\n", 2);
  segue__buf_adds(out, date_line(conn->server));
  if (a->content_type) {
    segue__buf_add(out, "Content-Type: ", 14);
    segue__buf_adds(out, a->content_type);
    segue__buf_add(out, "\r\n", 2);
  }
  if (!lengthless(a->status) && a->length != UINT64_MAX) {
    segue__buf_add(out, "Content-Length: ", 16);
    segue__buf_addu(out, a->length);
    segue__buf_add(out, "\r\n", 2);
  }
  if (chunked) segue__buf_adds(out, "Transfer-Encoding: chunked\r\n");
  if (conn->close_after)
    segue__buf_adds(out, "Connection: close\r\n");
  else if (http10)
    segue__buf_adds(out, "Connection: keep-alive\r\n");
  if (a->headers) segue__buf_adds(out, a->headers);
  segue__buf_add(out, "\r\n", 2);
}

/* Sends the head in out and a body. */
static int respond_send_all(segue__http_conn *conn, const void *body, size_t len) {
  segue__buf *out = &conn->server->out;
  if (len && len <= INLINE_BODY) segue__buf_add(out, body, len);
  if (out->failed) return UV_ENOMEM;
  uv_buf_t bufs[2] = {{.base = out->data, .len = out->len}, {.base = (char *)body, .len = len}};
  return segue__http_write(conn, bufs, len > INLINE_BODY ? 2 : 1);
}

/* While the server closes: returns whether requests that the client sent behind this one are
 * answered too. */
static bool asks_more(segue__http_conn *conn) {
  const segue__http_exchange *exchange = conn->exchange;
  return uv_now(conn->server->loop) < conn->server->last_call_ms &&
         (exchange->in_len > exchange->used || segue__http_conn_pending(conn));
}

/* Decides whether the coming answer is the last one on its connection, and whether the client may
 * still be sending then (linger). */
static void decide_close(segue__http_conn *conn, segue__http_exchange *exchange) {
  segue__http_server *server = conn->server;
  uint32_t most = server->limits.requests_per_connection;
  conn->requests++;
  if (!exchange->head.keep_alive) {
    conn->close_after = conn->said_close = true;
  } else if ((server->closing && !asks_more(conn)) || (most && conn->requests >= most)) {
    conn->close_after = conn->linger = true;
  } else if (conn->eof && exchange->in_len == exchange->used) {
    conn->close_after = true;
  }
}

void segue__http_last(segue__http_request *request) {
  const segue__http_exchange *exchange = (segue__http_exchange *)request;
  segue__http_conn *conn = exchange->conn;
  if (!conn || (exchange->in_len > exchange->used && conn->behind_last++ < SEGUE__HTTP_BEHIND_MAX))
    return;
  conn->close_after = conn->linger = true;
}

/* A server that closed before its handler answered has no events any more. */
static void respond_report(const segue__http_exchange *exchange, int status) {
  const segue__http_server *server = exchange->server;
  if (server && server->events.on_answer)
    server->events.on_answer(server->data, &exchange->request, status);
}

void segue__http_respond(segue__http_request *request, int status, const char *content_type,
                         const char *headers, const void *body, size_t len) {
  segue__http_exchange *exchange = (segue__http_exchange *)request;
  segue__http_conn *conn = exchange->conn;
  exchange->answered = true;
  respond_report(exchange, status);
  if (!conn) { /* the client left: released from the list of such requests, or here */
    if (!exchange->server) segue__http_exchange_release(exchange);
    return;
  }
  decide_close(conn, exchange);
  if (!segue__http_has_body(status)) len = 0;
  answer a = {status, content_type, headers, len};
  build_head(conn, &a, exchange->head.minor == 0, false);
  if (respond_send_all(conn, body, exchange->silent ? 0 : len) < 0)
    segue__http_conn_lost(conn);
  else
    segue__http_conn_answered(conn);
}

/* Sends an answer of the server itself, before a handler has seen the request. The connection ends
 * after it, because the rest of the request is not read. */
void segue__http_refuse(segue__http_conn *conn, int status, const char *reason) {
  segue__http_exchange *exchange = conn->exchange;
  if (conn->tls && !segue__tls_established(conn->tls)) { /* no answer before the handshake */
    segue__http_conn_hang_up(conn);
    return;
  }
  bool head =
      exchange && exchange->head.method.len == 4 && memcmp(exchange->head.method.s, "HEAD", 4) == 0;
  const segue__http_events *events = &conn->server->events;
  if (events->on_refusal) events->on_refusal(conn->server->data, conn->peer, status);
  char text[128];
  int len = snprintf(text, sizeof text, "%s\n", reason);
  conn->close_after = conn->linger = true;
  answer a = {status, "text/plain; charset=utf-8", status == 503 ? "Retry-After: 1\r\n" : NULL,
              (uint64_t)len};
  build_head(conn, &a, false, false);
  if (respond_send_all(conn, text, head ? 0 : (size_t)len) < 0)
    segue__http_conn_lost(conn);
  else
    segue__http_conn_answered(conn);
}

/* Answers for a handler that did not answer in time. The request stays with the handler: it is
 * detached from the connection after the answer was sent, and the handler is notified from the
 * loop. `cut` and `cut_bytes` are set before, so that the handler can log the answer that the
 * client got. */
static void cut_handled(segue__http_conn *conn) {
  static const char text[] = "the service did not answer before its end: try again\n";
  answer a = {503, "text/plain; charset=utf-8", "Retry-After: 1\r\n", sizeof text - 1};
  conn->close_after = conn->linger = true;
  build_head(conn, &a, false, false);
  if (respond_send_all(conn, text, conn->exchange->silent ? 0 : sizeof text - 1) < 0) {
    segue__http_conn_lost(conn);
    return;
  }
  conn->exchange->request.cut = a.status;
  conn->exchange->request.cut_bytes = conn->exchange->silent ? 0 : sizeof text - 1;
  segue__http_conn_part(conn);
  segue__http_conn_answered(conn);
}

void segue__http_cut(segue__http_conn *conn) {
  const segue__http_exchange *exchange = conn->exchange;
  bool begun = exchange && (conn->state == SEGUE__HTTP_IN_BODY ||
                            (conn->state == SEGUE__HTTP_IN_HEAD && exchange->in_len));
  bool waits =
      exchange && conn->state == SEGUE__HTTP_HANDLED && !exchange->answered && !exchange->streaming;
  if (begun)
    segue__http_refuse(conn, 503, "the service ends before it could take this request: try again");
  else if (waits)
    cut_handled(conn);
  else if (conn->tls && !segue__tls_established(conn->tls))
    segue__http_conn_hang_up(conn);
  else if (conn->state < SEGUE__HTTP_FLUSHING)
    segue__http_conn_lost(conn);
}

/* ---- Streams --------------------------------------------------------------------------------- */

void segue__http_stream_begin(segue__http_request *request, int status, const char *content_type,
                              const char *headers) {
  segue__http_exchange *exchange = (segue__http_exchange *)request;
  segue__http_conn *conn = exchange->conn;
  exchange->streaming = true;
  respond_report(exchange, status);
  if (!conn) return;
  decide_close(conn, exchange);
  bool body = !exchange->silent && segue__http_has_body(status);
  exchange->chunked_out = body && exchange->head.minor > 0;
  if (body && exchange->head.minor == 0)
    conn->close_after = conn->unframed = true; /* HTTP/1.0: both end together */
  exchange->silent = !body;
  answer a = {status, content_type, headers, status == 205 ? 0 : UINT64_MAX};
  bool says_chunked = exchange->head.minor > 0 && segue__http_has_body(status);
  build_head(conn, &a, exchange->head.minor == 0, says_chunked);
  if (respond_send_all(conn, NULL, 0) < 0)
    segue__http_conn_lost(conn);
  else if (!conn->in_handler)
    segue__http_conn_wait(conn);
}

/* The limit is checked before a write that would exceed it, but not for the first one: a single
 * piece may be longer than the limit. */
static int write_piece(segue__http_exchange *exchange, const void *data, size_t len) {
  segue__http_conn *conn = exchange->conn;
  char size[24];
  uv_buf_t bufs[3];
  unsigned count = 0;
  if (exchange->chunked_out)
    bufs[count++] = uv_buf_init(size, (unsigned)snprintf(size, sizeof size, "%zx\r\n", len));
  bufs[count].base = (char *)data;
  bufs[count++].len = len;
  if (exchange->chunked_out) bufs[count++] = uv_buf_init("\r\n", 2);
  size_t before = segue__http_unwritten(conn);
  if (before && before + len > conn->server->limits.write_bytes) return UV_ENOBUFS;
  int r = segue__http_write(conn, bufs, count);
  if (r == 0 && segue__http_unwritten(conn) > conn->server->limits.write_bytes) r = UV_ENOBUFS;
  return r;
}

int segue__http_stream_write(segue__http_request *request, const void *data, size_t len) {
  segue__http_exchange *exchange = (segue__http_exchange *)request;
  segue__http_conn *conn = exchange->conn;
  if (!conn) return UV_ECONNRESET;
  if (exchange->silent || !len) return 0;
  int r = write_piece(exchange, data, len);
  if (r < 0)
    segue__http_conn_lost(conn);
  else if (!conn->in_handler)
    segue__http_conn_wait(conn);
  return r;
}

size_t segue__http_stream_behind(const segue__http_request *request) {
  const segue__http_conn *conn = ((const segue__http_exchange *)request)->conn;
  return conn ? segue__http_unwritten(conn) : 0;
}

bool segue__http_is_lost(const segue__http_request *request) {
  return !((const segue__http_exchange *)request)->conn;
}

/* Marks a stream as answered. Returns its connection, or NULL if the client left before. */
static segue__http_conn *stream_over(segue__http_exchange *exchange) {
  segue__http_conn *conn = exchange->conn;
  exchange->answered = true;
  if (!conn && !exchange->server) segue__http_exchange_release(exchange);
  return conn;
}

void segue__http_stream_abort(segue__http_request *request) {
  segue__http_conn *conn = stream_over((segue__http_exchange *)request);
  if (conn) segue__http_conn_lost(conn);
}

void segue__http_stream_end(segue__http_request *request) {
  segue__http_exchange *exchange = (segue__http_exchange *)request;
  segue__http_conn *conn = stream_over(exchange);
  if (!conn) return;
  uv_buf_t end = uv_buf_init("0\r\n\r\n", 5);
  if (exchange->chunked_out && segue__http_write(conn, &end, 1) < 0)
    segue__http_conn_lost(conn);
  else
    segue__http_conn_answered(conn);
}

void segue__http_respond_buf(segue__http_request *request, int status, const char *content_type,
                             const char *headers, segue__buf *body) {
  static const char oom[] = "out of memory while answering\n";
  if (body->failed)
    segue__http_respond(request, 500, "text/plain; charset=utf-8", NULL, oom, sizeof oom - 1);
  else
    segue__http_respond(request, status, content_type, headers, body->data, body->len);
  segue__buf_deinit(body);
}
