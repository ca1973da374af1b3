/* SPDX-License-Identifier: MIT
 *
 * Writing: straight to the socket while it accepts bytes; the rest is copied once and queued.
 * Answers of ordinary size never use the queue. Under TLS the encrypted bytes are written, and
 * limits count those.
 */
#include "conn.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

typedef struct pending {
  uv_write_t req;
  segue__http_conn *conn;
  char data[];
} pending;

size_t segue__http_unwritten(const segue__http_conn *conn) {
  return conn->watched ? uv_stream_get_write_queue_size(&conn->uv.stream) : 0;
}

/* The client has taken everything that was written. on_drained comes last: the handler may answer
 * inside it, or lose the connection. */
static void write_drained(segue__http_conn *conn) {
  segue__http_request *request = &conn->exchange->request;
  segue__http_conn_wait(conn);
  if (conn->exchange->streaming && request->on_drained) request->on_drained(request);
}

static void on_written(uv_write_t *req, int status) {
  pending *rest = (pending *)req;
  segue__http_conn *conn = rest->conn;
  segue__free(rest);
  if (conn->state == SEGUE__HTTP_CLOSED) return;
  if (status < 0)
    segue__http_conn_lost(conn);
  else if (segue__http_unwritten(conn) == 0 && conn->state == SEGUE__HTTP_FLUSHING)
    segue__http_conn_flushed(conn);
  else if (segue__http_unwritten(conn) == 0 && conn->state == SEGUE__HTTP_HANDLED)
    write_drained(conn);
}

static int queue_rest(segue__http_conn *conn, const uv_buf_t *bufs, unsigned count, size_t skip,
                      size_t rest) {
  pending *p = segue__malloc(sizeof *p + rest);
  if (!p) return UV_ENOMEM;
  size_t at = 0;
  for (unsigned i = 0; i < count; i++) {
    size_t from = skip < bufs[i].len ? skip : bufs[i].len;
    skip -= from;
    if (bufs[i].len > from) memcpy(p->data + at, bufs[i].base + from, bufs[i].len - from);
    at += bufs[i].len - from;
  }
  p->conn = conn;
  uv_buf_t buf = uv_buf_init(p->data, 0);
  buf.len = rest; /* past the 32 bits of uv_buf_init */
  int r = conn->watched ? 0 : segue__http_conn_watch(conn);
  if (r == 0) r = uv_write(&p->req, &conn->uv.stream, &buf, 1, on_written);
  if (r)
    segue__free(p);
  else
    conn->queued += rest;
  return r;
}

/* Writes what the socket accepts at once. send(2) costs less than write(2), and MSG_NOSIGNAL
 * prevents SIGPIPE here, which libuv cannot. */
static ssize_t try_send(const segue__http_conn *conn, const uv_buf_t *bufs, unsigned count) {
  struct msghdr message = {.msg_iov = (struct iovec *)bufs, .msg_iovlen = count};
  ssize_t n;
  do
    n = count == 1 ? send(conn->fd, bufs->base, bufs->len, MSG_NOSIGNAL)
                   : sendmsg(conn->fd, &message, MSG_NOSIGNAL);
  while (n < 0 && errno == EINTR);
  if (n >= 0) return n;
  return errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS ? 0 : -errno;
}

static int write_plain(segue__http_conn *conn, const uv_buf_t *bufs, unsigned count) {
  size_t total = 0, done = 0;
  for (unsigned i = 0; i < count; i++)
    total += bufs[i].len;
  if (segue__http_unwritten(conn) == 0) {
    ssize_t r = try_send(conn, bufs, count);
    if (r < 0) return (int)r;
    done = (size_t)r;
  }
  return done == total ? 0 : queue_rest(conn, bufs, count, done, total - done);
}

int segue__http_flush_tls(segue__http_conn *conn) {
  char *data = NULL;
  size_t len = segue__tls_outgoing(conn->tls, &data);
  if (!len) return 0;
  uv_buf_t buf = uv_buf_init(data, 0);
  buf.len = len; /* past the 32 bits of uv_buf_init */
  int r = write_plain(conn, &buf, 1);
  segue__tls_taken(conn->tls);
  return r;
}

/* Copies the bytes that the socket does not accept. After a negative result the connection is of no
 * more use, but the caller still has to call segue__http_conn_lost. */
int segue__http_write(segue__http_conn *conn, const uv_buf_t *bufs, unsigned count) {
  if (!conn->tls) return write_plain(conn, bufs, count);
  int r = 0;
  for (unsigned i = 0; i < count && r == 0; i++)
    r = segue__tls_write(conn->tls, bufs[i].base, bufs[i].len);
  return r ? r : segue__http_flush_tls(conn);
}
