/* SPDX-License-Identifier: MIT
 *
 * One connection: bytes in, requests out, one at a time and in order. Reading continues while the
 * buffer has room, also while a handler works, because only reading reveals that a client has left.
 *
 * A client that shuts its writing side (FIN) after a request is still answered; on TCP such a
 * client cannot be distinguished from one that closed. A reset (or, on a unix socket, a close) is
 * noticed and reported.
 */
#include "conn.h"

#include "../os/fork_fds.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static const char TOO_MANY[] = "there are too many connections";

bool segue__http_conn_pending(segue__http_conn *conn) {
  int bytes = 0;
  return ioctl(conn->fd, FIONREAD, &bytes) == 0 && bytes > 0;
}

/* ---- The end --------------------------------------------------------------------------------- */

void segue__http_conn_free(segue__http_conn *conn) {
  segue__http_server *server = conn->server;
  server->connections--;
  server->local -= conn->is_unix && !conn->refused;
  if (conn->refused) server->refused--;
  if (server->crowded) { /* the next waiting connection can be accepted */
    server->accept_due = uv_now(server->loop);
    segue__http_timer_arm(server, server->accept_due);
  }
  if (!conn->is_unix && !conn->refused) __atomic_sub_fetch(server->total, 1, __ATOMIC_RELAXED);
  segue__http_listener_left(conn->http_listener);
  segue__tls_free(conn->tls);
  segue__free(conn);
  segue__http_server_check(server);
}

static void conn_on_closed(uv_handle_t *handle) {
  segue__http_conn_free(handle->data);
}

/* The handler of an unanswered request is notified from the loop, never inside a call that the
 * handler made. */
void segue__http_conn_part(segue__http_conn *conn) {
  segue__http_exchange *exchange = conn->exchange;
  if (exchange && conn->state == SEGUE__HTTP_HANDLED && !exchange->answered) {
    exchange->conn = NULL;
    exchange->next = conn->server->left;
    conn->server->left = exchange;
    segue__http_wake(conn->server);
  } else {
    segue__http_exchange_release(exchange);
  }
  conn->exchange = NULL;
}

/* Returns whether the connection ends in the middle of a body whose end is the end of the
 * connection: an orderly close would make that body look complete. (TLS ends with close_notify
 * instead.) */
static bool is_cut(const segue__http_conn *conn) {
  return conn->unframed && !conn->tls && !conn->is_unix &&
         (conn->state == SEGUE__HTTP_HANDLED ||
          (conn->state == SEGUE__HTTP_FLUSHING && segue__http_unwritten(conn)));
}

/* Closes at once. */
void segue__http_conn_lost(segue__http_conn *conn) {
  static const struct linger reset = {.l_onoff = 1};
  if (conn->state == SEGUE__HTTP_CLOSED) return;
  if (is_cut(conn)) (void)setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  segue__http_conn_part(conn);
  conn->state = SEGUE__HTTP_CLOSED;
  segue__http_queue_leave(conn);
  segue__fork_hold();
  segue__fork_unmark(conn->fd);
  if (conn->watched)
    uv_close(&conn->uv.handle, conn_on_closed); /* closes the descriptor at once */
  else
    close(conn->fd); /* freed by segue__http_conn_open, from which this is called */
  segue__fork_release();
  if (conn->polled) segue__poller_drop(conn->server->poller, &conn->uv.polled);
}

/* The last answer is out. Closing a socket with unread bytes in the kernel would reset the
 * connection, and the client could lose the answer. So shut our side down and wait for the end of
 * the client (RFC 9112 9.6). A client that requested the end sends nothing more, so the look for
 * unread bytes is left out: one system call of eight if each request has its own connection. */
static void conn_finish(segue__http_conn *conn, segue__http_queue queue) {
  if (conn->tls) {
    segue__tls_end(conn->tls);
    if (segue__http_flush_tls(conn) < 0 || segue__http_unwritten(conn)) conn->linger = false;
  }
  bool looks = conn->tls || !conn->said_close; /* a TLS client still sends its close_notify */
  bool linger = conn->linger || (looks && segue__http_conn_pending(conn));
  if (conn->eof || !linger || shutdown(conn->fd, SHUT_WR) != 0) {
    segue__http_conn_lost(conn);
    return;
  }
  segue__http_exchange_release(conn->exchange);
  conn->exchange = NULL;
  conn->state = SEGUE__HTTP_LINGERING;
  segue__http_queue_set(conn, queue);
}

/* Ends a connection in the middle of a TLS handshake. If the descriptor were closed now, the kernel
 * would answer the next bytes of the client with a reset. So the client gets our end first, and a
 * moment to read it. */
void segue__http_conn_hang_up(segue__http_conn *conn) {
  conn->linger = true;
  conn_finish(conn, SEGUE__HTTP_LEAVE);
}

/* Ends an idle connection. A client that sends a request at this very moment finds the connection
 * closed and not reset: after a reset it might lose the previous answer. */
static void conn_leave(segue__http_conn *conn) {
  if (segue__http_conn_pending(conn)) {
    segue__http_queue_set(conn, SEGUE__HTTP_IDLE); /* it is read next */
    return;
  }
  conn->linger = true;
  conn_finish(conn, SEGUE__HTTP_LEAVE);
}

/* Called while nothing is read from the connection, so libuv does not see that the client left.
 * poll(2) without events reports a reset, and on a unix socket a close. */
static void conn_peek(segue__http_conn *conn) {
  struct pollfd p = {.fd = conn->fd};
  if (poll(&p, 1, 0) > 0 && (p.revents & (POLLERR | POLLHUP)))
    segue__http_conn_lost(conn);
  else
    segue__http_conn_wait(conn);
}

/* In the queue WRITE a slow client keeps its connection as long as it takes SEGUE__HTTP_PROGRESS
 * bytes in each write_ms: a limit for the whole answer would cut off a slow but honest client of a
 * large one. */
void segue__http_conn_expired(segue__http_conn *conn) {
  uint64_t taken = conn->queued - segue__http_unwritten(conn);
  switch (conn->queue) {
  case SEGUE__HTTP_HEAD:
    segue__http_refuse(conn, 408, "the head of the request took too long");
    break;
  case SEGUE__HTTP_BODY:
    segue__http_refuse(conn, 408, "the body of the request took too long");
    break;
  case SEGUE__HTTP_WRITE:
    if (taken - conn->taken_mark >= SEGUE__HTTP_PROGRESS)
      segue__http_queue_set(conn, SEGUE__HTTP_WRITE);
    else
      segue__http_conn_lost(conn);
    break;
  case SEGUE__HTTP_PEEK:
    conn_peek(conn);
    break;
  case SEGUE__HTTP_IDLE:
    conn_leave(conn);
    break;
  default: /* our side is shut already */
    segue__http_conn_lost(conn);
    break;
  }
}

/* ---- Reading --------------------------------------------------------------------------------- */

static void conn_pump(segue__http_conn *conn);
static void tls_received(segue__http_conn *conn, const char *data, size_t len);

static bool conn_discards(const segue__http_conn *conn) {
  return conn->state == SEGUE__HTTP_LINGERING ||
         (conn->state == SEGUE__HTTP_FLUSHING && conn->close_after);
}

static uv_buf_t rest_of(char *base, size_t cap, size_t used) {
  return uv_buf_init(base + used, (unsigned)(cap - used > 1 << 30 ? 1 << 30 : cap - used));
}

/* Returns room for the rest of a body in its own buffer, so that the bytes are not copied once
 * more. */
static uv_buf_t body_buffer(segue__http_exchange *exchange) {
  size_t left = (size_t)exchange->head.content_length - exchange->body_len;
  size_t want = left < SEGUE__HTTP_INPUT ? left : SEGUE__HTTP_INPUT;
  if (segue__http_body_room(exchange, want) != 0) return uv_buf_init(NULL, 0);
  uv_buf_t buf = rest_of(exchange->body, exchange->body_cap, exchange->body_len);
  if (buf.len > left) buf.len = left;
  return buf;
}

static bool reads_apart(const segue__http_conn *conn) {
  return conn->state == SEGUE__HTTP_IN_BODY && conn->exchange->body_apart &&
         conn->exchange->head.has_length;
}

/* Returns the room for the next bytes of requests. No base means out of memory, no length means
 * that the buffer is full. */
static uv_buf_t conn_room(segue__http_conn *conn) {
  if (!conn->exchange) conn->exchange = segue__http_exchange_acquire(conn);
  segue__http_exchange *exchange = conn->exchange;
  if (!exchange) return uv_buf_init(NULL, 0);
  if (reads_apart(conn)) return body_buffer(exchange);
  if (exchange->in_len == exchange->in_cap && conn->state == SEGUE__HTTP_IN_HEAD)
    segue__http_exchange_grow(exchange, conn->server->limits.head_bytes + 1);
  return rest_of(exchange->in, exchange->in_cap, exchange->in_len);
}

/* An empty buffer makes libuv report UV_ENOBUFS, which read_failed takes for out of memory.
 * Encrypted bytes go into the shared buffer, because they are copied into OpenSSL before the next
 * read; discarded bytes go there too. */
uv_buf_t segue__http_conn_buffer(segue__http_conn *conn) {
  if (conn->tls || conn_discards(conn) || conn->state == SEGUE__HTTP_CLOSED)
    return uv_buf_init(conn->server->sink, sizeof conn->server->sink);
  return conn_room(conn);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
  (void)suggested;
  *buf = segue__http_conn_buffer(handle->data);
}

static void read_failed(segue__http_conn *conn, ssize_t status) {
  if (status == UV_ENOBUFS && conn->state <= SEGUE__HTTP_IN_BODY) {
    segue__http_refuse(conn, 503, "out of memory");
    return;
  }
  if (status != UV_EOF || conn->state == SEGUE__HTTP_LINGERING) {
    segue__http_conn_lost(conn);
    return;
  }
  if (conn->eof) return; /* close_notify of TLS was the end already */
  conn->eof = true;
  if (conn->state == SEGUE__HTTP_HANDLED && conn->exchange->streaming &&
      !conn->server->limits.half_closed_streams)
    segue__http_conn_lost(conn); /* no client shuts its side to read a stream without end */
  else if (conn->state == SEGUE__HTTP_HANDLED)
    conn_peek(conn);
  else if (conn->state == SEGUE__HTTP_FLUSHING)
    return;
  else if (conn->exchange && conn->exchange->in_len)
    conn_pump(conn); /* finds that nothing more will come */
  else
    segue__http_conn_lost(conn);
}

/* n bytes were read into the place that conn_room returned. */
static void conn_received(segue__http_conn *conn, size_t n) {
  segue__http_exchange *exchange = conn->exchange;
  if (reads_apart(conn))
    exchange->body_len += n;
  else
    exchange->in_len += n;
  if (exchange->in_len == 0) { /* a wake-up without bytes */
    segue__http_exchange_release(exchange);
    conn->exchange = NULL;
    return;
  }
  conn_pump(conn);
}

void segue__http_conn_read(segue__http_conn *conn, ssize_t n, const uv_buf_t *buf) {
  if (conn->state == SEGUE__HTTP_CLOSED || conn_discards(conn)) {
    if (n < 0 && conn->state != SEGUE__HTTP_CLOSED) read_failed(conn, n);
  } else if (n < 0) {
    read_failed(conn, n);
  } else if (conn->tls) {
    tls_received(conn, buf->base, (size_t)n);
  } else {
    conn_received(conn, (size_t)n);
  }
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
  segue__http_conn_read(stream->data, n, buf);
}

/* ---- Reading through TLS --------------------------------------------------------------------- */

static void conn_tls_failed(segue__http_conn *conn) {
  segue__http_server *server = conn->server;
  if (!segue__tls_established(conn->tls) && server->events.on_tls_failure)
    server->events.on_tls_failure(server->data, conn->peer, conn->http_listener->auth,
                                  segue__tls_why(conn->tls));
  conn->close_after = conn->linger = true; /* the alert has to arrive */
  conn->state = SEGUE__HTTP_FLUSHING;
  if (segue__http_flush_tls(conn) < 0)
    segue__http_conn_lost(conn);
  else if (segue__http_unwritten(conn))
    segue__http_queue_set(conn, SEGUE__HTTP_WRITE);
  else
    segue__http_conn_flushed(conn);
}

/* The time limit of a head counts for the handshake too, and again for the first head. */
static bool conn_handshake(segue__http_conn *conn) {
  int rc = segue__tls_handshake(conn->tls);
  if (rc == UV_EPROTO) {
    conn_tls_failed(conn);
  } else if (segue__http_flush_tls(conn) < 0) {
    segue__http_conn_lost(conn);
  } else if (rc == 0) {
    segue__http_queue_set(conn, SEGUE__HTTP_IDLE);
    if (!conn->refused) return true;
    segue__http_refuse(conn, 503, TOO_MANY);
  } else if (conn->queue != SEGUE__HTTP_HEAD) {
    segue__http_queue_set(conn, SEGUE__HTTP_HEAD);
  }
  return false;
}

/* Decrypts one part of the bytes that OpenSSL has, and processes it. Returns false if there is no
 * more, or no room for it. */
static bool tls_step(segue__http_conn *conn) {
  uv_buf_t buf = conn_room(conn);
  if (!buf.base) {
    read_failed(conn, UV_ENOBUFS);
    return false;
  }
  if (!buf.len) return false;
  int n = segue__tls_read(conn->tls, buf.base, buf.len);
  if (n > 0) {
    conn_received(conn, (size_t)n);
    return true;
  }
  if (conn->state != SEGUE__HTTP_HANDLED && !conn->exchange->in_len) {
    segue__http_exchange_release(conn->exchange);
    conn->exchange = NULL;
  }
  if (n == UV_EOF)
    read_failed(conn, UV_EOF);
  else if (n != UV_EAGAIN)
    segue__http_conn_lost(conn);
  else if (segue__http_flush_tls(conn) < 0) /* a change of keys is answered */
    segue__http_conn_lost(conn);
  return false;
}

static void tls_pull(segue__http_conn *conn) {
  if (!segue__tls_established(conn->tls) && !conn_handshake(conn)) return;
  while (conn->state != SEGUE__HTTP_CLOSED && !conn->eof && !conn_discards(conn) && tls_step(conn))
    ;
}

/* A client that uses http:// on a TLS port gets an answer in plain text that names https://. */
static bool speaks_http(const segue__http_conn *conn, const char *data) {
  return !conn->tls_begun && *data >= 'A' && *data <= 'Z';
}

static void tls_received(segue__http_conn *conn, const char *data, size_t len) {
  if (conn->eof || !len) return;
  if (speaks_http(conn, data)) {
    segue__tls_free(conn->tls);
    conn->tls = NULL;
    segue__http_refuse(conn, 400, "this port speaks TLS: ask by https://");
    return;
  }
  conn->tls_begun = true;
  if (segue__tls_feed(conn->tls, data, len) < 0)
    segue__http_conn_lost(conn);
  else
    tls_pull(conn);
}

/* ---- From bytes to a request ----------------------------------------------------------------- */

/* A handler may answer inside the call. Then the answer only changes the state, and the loop of
 * conn_pump continues with the next pipelined request: in_handler prevents that it is
 * processed inside the call too, which would use stack for each request that the client sent. */
static void conn_dispatch(segue__http_conn *conn) {
  segue__http_server *server = conn->server;
  segue__http_exchange *exchange = conn->exchange;
  segue__http_head *head = &exchange->head;
  segue__http_request *request = &exchange->request;
  request->method = head->method;
  request->query = head->query;
  request->headers = head->headers;
  request->header_count = head->header_count;
  request->host = head->host;
  request->minor = head->minor;
  request->body.s = exchange->body_apart ? exchange->body : exchange->in + head->length;
  request->body.len = exchange->body_apart ? exchange->body_len : (size_t)head->content_length;
  request->local = conn->is_unix;
  request->tls = conn->tls != NULL;
  request->client = conn->tls ? segue__tls_client_ref(segue__tls_peer(conn->tls)) : NULL;
  request->auth = conn->http_listener->auth;
  request->who[0] = 0;
  request->about = 0;
  request->cut = 0;
  request->cut_bytes = 0;
  request->user = NULL;
  request->on_gone = request->on_left = request->on_drained = NULL;
  memcpy(request->peer, conn->peer, sizeof request->peer);
  exchange->silent = head->method.len == 4 && memcmp(head->method.s, "HEAD", 4) == 0;
  conn->state = SEGUE__HTTP_HANDLED;
  conn->in_handler = true;
  server->on_request(server->data, request);
  conn->in_handler = false;
  if (conn->state == SEGUE__HTTP_HANDLED) segue__http_conn_wait(conn);
}

/* The path is decoded where it stands: the result is never longer, and the byte after it, a space
 * or "?", makes room for the terminator. */
static bool conn_set_path(segue__http_conn *conn) {
  segue__http_exchange *exchange = conn->exchange;
  segue__http_text path = exchange->head.path;
  exchange->request.path = "/";
  if (!path.len) return true;
  char *raw = exchange->in + (path.s - exchange->in);
  exchange->request.path = raw;
  if (*raw == '*')
    raw[1] = 0;
  else if (segue__http_path_decode(raw, path.len, raw) < 0) {
    segue__http_refuse(conn, 400,
                       "the path has a malformed escape, leads above the root, or hides dots "
                       "behind an escaped slash");
    return false;
  }
  return true;
}

/* Makes room for the body. The buffer may move: the head is then parsed again. */
static int body_prepare(segue__http_exchange *exchange) {
  segue__http_head *head = &exchange->head;
  if (head->has_length && head->length + head->content_length <= exchange->in_cap) return 0;
  exchange->body_apart = true;
  if (head->chunked && exchange->in_cap - head->length < 1024) {
    if (segue__http_exchange_grow(exchange, exchange->in_cap * 2) != 0) return UV_ENOMEM;
    segue__http_parse_head(exchange->in, exchange->in_len, head);
  }
  exchange->chunked = (segue__http_chunked){0};
  if (head->chunked) return 0;
  size_t here = exchange->in_len - head->length;
  exchange->in_len = head->length;
  return segue__http_body_add(exchange, exchange->in + head->length, here);
}

/* 100 Continue is sent only if no byte of the body has come: a client that sends the body already
 * does not wait for it (RFC 9110 10.1.1). */
static bool body_begin(segue__http_conn *conn) {
  segue__http_exchange *exchange = conn->exchange;
  segue__http_head *head = &exchange->head;
  if (head->content_length > conn->server->limits.body_bytes) {
    segue__http_refuse(conn, 413, "the body is larger than this server takes");
    return false;
  }
  bool nothing_yet = exchange->in_len == head->length;
  exchange->used = head->length;
  if (body_prepare(exchange) != 0) {
    segue__http_refuse(conn, 503, "out of memory");
    return false;
  }
  if (!conn_set_path(conn)) return false;
  if (head->expect_continue && nothing_yet) {
    uv_buf_t interim = uv_buf_init("HTTP/1.1 100 Continue\r\n\r\n", 25);
    if (segue__http_write(conn, &interim, 1) < 0) {
      segue__http_conn_lost(conn);
      return false;
    }
  }
  conn->state = SEGUE__HTTP_IN_BODY;
  return true;
}

static segue__http_parsed conn_parse(segue__http_exchange *exchange) {
  while (segue__http_head_ready(exchange->in, exchange->in_len, &exchange->scanned)) {
    segue__http_parsed r = segue__http_parse_head(exchange->in, exchange->in_len, &exchange->head);
    if (r != SEGUE__HTTP_MORE) return r;
    exchange->head.method.len = 0; /* the buffer may move before the next try */
  }
  return SEGUE__HTTP_MORE;
}

static bool head_step(segue__http_conn *conn) {
  segue__http_exchange *exchange = conn->exchange;
  segue__http_head *head = &exchange->head;
  segue__http_parsed r = conn_parse(exchange);
  uint32_t limit = conn->server->limits.head_bytes;
  if ((r == SEGUE__HTTP_MORE && exchange->in_len > limit) ||
      (r == SEGUE__HTTP_OK && head->length > limit)) {
    segue__http_refuse(conn, 431, "the head of the request is too large");
  } else if (r == SEGUE__HTTP_BAD) {
    segue__http_refuse(conn, head->status, head->reason);
  } else if (r == SEGUE__HTTP_MORE && conn->eof) {
    segue__http_refuse(conn, 400, "the request ends early");
  } else if (r == SEGUE__HTTP_MORE) {
    if (conn->queue != SEGUE__HTTP_HEAD) segue__http_queue_set(conn, SEGUE__HTTP_HEAD);
  } else if (head->chunked || head->content_length) {
    return body_begin(conn);
  } else {
    exchange->used = head->length;
    if (conn_set_path(conn)) {
      conn_dispatch(conn);
      return true;
    }
  }
  return false;
}

/* Decodes the bytes in the buffer; the bytes after the body, if any, move up to the head. */
static segue__http_parsed conn_chunked_step(segue__http_conn *conn) {
  segue__http_exchange *exchange = conn->exchange;
  size_t at = exchange->head.length;
  segue__http_parsed r = SEGUE__HTTP_DATA;
  while (r == SEGUE__HTTP_DATA) {
    size_t consumed, len;
    const char *data;
    r = segue__http_chunked_next(&exchange->chunked, exchange->in + at, exchange->in_len - at,
                                 &consumed, &data, &len);
    at += consumed;
    if (exchange->body_len + len > conn->server->limits.body_bytes) {
      segue__http_refuse(conn, 413, "the body is larger than this server takes");
      return SEGUE__HTTP_BAD;
    }
    if (segue__http_body_add(exchange, data, len) != 0) {
      segue__http_refuse(conn, 503, "out of memory");
      return SEGUE__HTTP_BAD;
    }
  }
  if (r == SEGUE__HTTP_BAD) {
    segue__http_refuse(conn, 400, "the chunked body is malformed");
    return r;
  }
  memmove(exchange->in + exchange->head.length, exchange->in + at, exchange->in_len - at);
  exchange->in_len -= at - exchange->head.length;
  return r;
}

static bool body_step(segue__http_conn *conn) {
  segue__http_exchange *exchange = conn->exchange;
  segue__http_head *head = &exchange->head;
  bool complete;
  if (head->chunked) {
    segue__http_parsed r = conn_chunked_step(conn);
    if (r == SEGUE__HTTP_BAD) return false;
    complete = r == SEGUE__HTTP_OK;
  } else if (exchange->body_apart) {
    complete = exchange->body_len == head->content_length;
  } else {
    complete = exchange->in_len - head->length >= head->content_length;
    exchange->used = head->length + (complete ? (size_t)head->content_length : 0);
  }
  if (complete)
    conn_dispatch(conn);
  else if (conn->eof)
    segue__http_refuse(conn, 400, "the request ends early");
  else if (conn->queue != SEGUE__HTTP_BODY)
    segue__http_queue_set(conn, SEGUE__HTTP_BODY);
  return complete;
}

/* Stops reading when the input buffer is full of pipelined requests: the kernel's buffer then fills
 * up, and TCP makes the client wait. Otherwise one client could queue any number of bytes here. */
static void pause_if_full(segue__http_conn *conn) {
  segue__http_exchange *exchange = conn->exchange;
  if (conn->paused || conn->eof || !exchange || conn_discards(conn) ||
      exchange->in_len < exchange->in_cap ||
      (conn->state != SEGUE__HTTP_HANDLED && conn->state != SEGUE__HTTP_FLUSHING))
    return;
  if (conn->watched) uv_read_stop(&conn->uv.stream);
  conn->paused = true;
  if (conn->state == SEGUE__HTTP_HANDLED) segue__http_conn_wait(conn);
}

/* Continues a connection when its turn comes: also one that was paused, and has bytes left to
 * decrypt or to parse. */
void segue__http_conn_turn(segue__http_conn *conn) {
  conn_pump(conn);
  if (!conn->tls || conn->state == SEGUE__HTTP_CLOSED || conn->paused) return;
  tls_pull(conn);
  if (conn->state == SEGUE__HTTP_IN_HEAD && !conn->exchange && conn->queue == SEGUE__HTTP_HEAD)
    segue__http_queue_set(conn, SEGUE__HTTP_IDLE);
}

static void conn_pump(segue__http_conn *conn) {
  bool more = true;
  while (more) {
    if (conn->state == SEGUE__HTTP_IN_HEAD && conn->exchange && conn->exchange->in_len)
      more = head_step(conn);
    else
      more = conn->state == SEGUE__HTTP_IN_BODY && body_step(conn);
  }
  pause_if_full(conn);
}

/* ---- After an answer ------------------------------------------------------------------------- */

void segue__http_conn_wait(segue__http_conn *conn) {
  if (segue__http_unwritten(conn)) {
    if (conn->queue != SEGUE__HTTP_WRITE) segue__http_queue_set(conn, SEGUE__HTTP_WRITE);
  } else {
    segue__http_queue_set(conn, conn->paused || conn->eof ? SEGUE__HTTP_PEEK : SEGUE__HTTP_BUSY);
  }
}

static void conn_resume(segue__http_conn *conn) {
  if (conn->paused && !conn->eof) {
    conn->paused = false;
    int r = conn->polled ? segue__poller_again(conn->server->poller, &conn->uv.polled)
                         : uv_read_start(&conn->uv.stream, on_alloc, on_read);
    if (r != 0) {
      segue__http_conn_lost(conn);
    } else if (conn->tls && !conn_discards(conn) &&
               segue__tls_buffered(conn->tls)) { /* inside OpenSSL: the kernel sends no event */
      segue__http_queue_set(conn, SEGUE__HTTP_READY);
      segue__http_wake(conn->server);
    }
  }
}

/* The kernel has the whole answer: the connection continues with the next request, or ends. */
void segue__http_conn_flushed(segue__http_conn *conn) {
  if (conn->close_after) {
    conn_resume(conn);
    if (conn->state != SEGUE__HTTP_CLOSED) conn_finish(conn, SEGUE__HTTP_LINGER);
    return;
  }
  conn->state = SEGUE__HTTP_IN_HEAD;
  if (conn->exchange && conn->exchange->in_len) {
    segue__http_queue_set(conn, SEGUE__HTTP_READY);
    if (!conn->in_handler) segue__http_wake(conn->server);
  } else if (conn->eof) {
    segue__http_conn_lost(conn);
    return;
  } else {
    segue__http_queue_set(conn, SEGUE__HTTP_IDLE);
  }
  conn_resume(conn);
}

/* The answer is complete, though maybe still queued. Bytes that the client has sent beyond its
 * request move to the front. */
void segue__http_conn_answered(segue__http_conn *conn) {
  segue__http_exchange *exchange = conn->exchange;
  size_t rest = exchange ? exchange->in_len - exchange->used : 0;
  if (rest && !conn->close_after) {
    memmove(exchange->in, exchange->in + exchange->used, rest);
    exchange->in_len = rest;
    segue__http_exchange_reset(exchange);
  } else {
    conn->linger |= rest > 0;
    segue__http_exchange_release(exchange);
    conn->exchange = NULL;
  }
  conn->state = SEGUE__HTTP_FLUSHING;
  if (segue__http_unwritten(conn))
    segue__http_queue_set(conn, SEGUE__HTTP_WRITE);
  else
    segue__http_conn_flushed(conn);
}

/* ---- The beginning --------------------------------------------------------------------------- */

/* libuv releases a handle only through uv_close, also if it did not accept the descriptor. So the
 * descriptor is closed here, and the caller closes the handle by segue__http_conn_lost. */
int segue__http_conn_watch(segue__http_conn *conn) {
  uv_loop_t *loop = conn->server->loop;
  if (conn->polled) segue__poller_remove(conn->server->poller, &conn->uv.polled);
  conn->polled = false;
  int r = conn->is_unix ? uv_pipe_init(loop, &conn->uv.pipe, 0) : uv_tcp_init(loop, &conn->uv.tcp);
  if (r) return r;
  conn->uv.handle.data = conn;
  conn->watched = true;
  r = conn->is_unix ? uv_pipe_open(&conn->uv.pipe, conn->fd) : uv_tcp_open(&conn->uv.tcp, conn->fd);
  if (r) {
    segue__fork_close(conn->fd);
    conn->fd = -1; /* another descriptor may get this number soon */
  } else if (!conn->paused) {
    r = uv_read_start(&conn->uv.stream, on_alloc, on_read);
  }
  return r;
}

/* Under load the request is here when its connection is accepted. A connection that is answered and
 * closed at once is never watched by the kernel: a connection for each request then costs 4 system
 * calls and not 8. */
static void read_early(segue__http_conn *conn) {
  uv_buf_t buf = conn_room(conn);
  if (!buf.base) {
    read_failed(conn, UV_ENOBUFS);
    return;
  }
  ssize_t n = recv(conn->fd, buf.base, buf.len, 0);
  if (n > 0) {
    conn_received(conn, (size_t)n);
  } else { /* an end or an error is still there when the loop looks */
    segue__http_exchange_release(conn->exchange);
    conn->exchange = NULL;
  }
}

static bool over_limit(const segue__http_server *server, bool is_unix) {
  size_t remote = __atomic_load_n(server->total, __ATOMIC_RELAXED);
  return (is_unix ? server->local : remote) >= server->limits.connections;
}

/* Returns how many connections past the limit are being refused at a time: fewer if few connections
 * are allowed, because descriptors are scarce there. */
static size_t refusals_max(const segue__http_server *server) {
  size_t third = server->limits.connections / 3;
  return third < 1 ? 1 : third < SEGUE__HTTP_REFUSED_MAX ? third : SEGUE__HTTP_REFUSED_MAX;
}

bool segue__http_conn_must_wait(const segue__http_listener *http_listener) {
  const segue__http_server *server = http_listener->server;
  return over_limit(server, http_listener->is_local) && server->refused >= refusals_max(server);
}

/* Under TLS the refusal can only be sent after the handshake. */
static void conn_refuse(segue__http_conn *conn) {
  segue__http_server *server = conn->server;
  if (server->events.on_crowd) server->events.on_crowd(server->data, conn->peer);
  if (conn->tls)
    segue__http_queue_set(conn, SEGUE__HTTP_HEAD);
  else
    segue__http_refuse(conn, 503, TOO_MANY);
}

static segue__http_conn *conn_make(segue__http_listener *http_listener, int fd, const char *peer) {
  segue__http_server *server = http_listener->server;
  segue__http_conn *conn = segue__calloc(1, sizeof *conn);
  if (!conn) return NULL;
  conn->server = server;
  conn->http_listener = http_listener;
  conn->fd = fd;
  conn->is_unix = http_listener->is_local;
  conn->refused = over_limit(server, conn->is_unix);
  size_t len = strnlen(peer, sizeof conn->peer - 1);
  memcpy(conn->peer, peer, len); /* zeroed behind it */
  server->connections++;
  http_listener->connections++;
  server->refused += conn->refused;
  server->local += conn->is_unix && !conn->refused;
  if (!conn->is_unix && !conn->refused) __atomic_add_fetch(server->total, 1, __ATOMIC_RELAXED);
  return conn;
}

/* A connection that is closed before the loop watches it has no handle, so no close callback frees
 * it: that is done at the end, when no function above uses it any more. */
int segue__http_conn_open(segue__http_listener *http_listener, int fd, const char *peer,
                          bool early) {
  segue__http_conn *conn = conn_make(http_listener, fd, peer);
  if (!conn) {
    segue__fork_close(fd);
    return UV_ENOMEM;
  }
  int r = http_listener->tls ? segue__tls_new(&conn->tls, http_listener->tls) : 0;
  segue__http_queue_set(conn, SEGUE__HTTP_IDLE);
  if (r == 0 && conn->refused)
    conn_refuse(conn);
  else if (r == 0 && early && !conn->tls)
    read_early(conn);
  if (r == 0 && !conn->watched && conn->state != SEGUE__HTTP_CLOSED)
    r = segue__http_conn_attend(conn);
  if (r) segue__http_conn_lost(conn);
  if (!conn->watched && !conn->polled && conn->state == SEGUE__HTTP_CLOSED)
    segue__http_conn_free(conn);
  return r;
}
