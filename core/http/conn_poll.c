/* SPDX-License-Identifier: MIT
 *
 * Connections of a server with a poller: the descriptor is read here and not by libuv, until its
 * client reads too slowly for one write, or the connection ends. A connection for each request
 * then costs as many system calls as an event loop of its own would need.
 */
#include "conn.h"

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>

enum { READS_PER_TURN = 16 };

static segue__http_conn *conn_of(segue__polled *polled) {
  return (segue__http_conn *)((char *)polled - offsetof(segue__http_conn, uv));
}

static void conn_on_dropped(segue__polled *polled) {
  segue__http_conn_free(conn_of(polled));
}

static ssize_t conn_recv(const segue__http_conn *conn, const uv_buf_t *buf) {
  if (!buf->base || !buf->len) return UV_ENOBUFS;
  ssize_t n;
  do
    n = recv(conn->fd, buf->base, buf->len, 0);
  while (n < 0 && errno == EINTR);
  if (n < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
  return n ? n : UV_EOF;
}

static bool conn_is_read(const segue__http_conn *conn) {
  return conn->polled && conn->state != SEGUE__HTTP_CLOSED && !conn->paused && !conn->eof;
}

/* The poller reports new bytes once. A read that does not fill its buffer took them all, unless the
 * end of the client's side came with them. After some reads the other connections are served first.
 */
static void conn_on_ready(segue__polled *polled, bool ended) {
  segue__http_conn *conn = conn_of(polled);
  for (int reads = 0; conn_is_read(conn); reads++) {
    if (reads == READS_PER_TURN) {
      if (segue__poller_again(conn->server->poller, polled) < 0) segue__http_conn_lost(conn);
      return;
    }
    uv_buf_t buf = segue__http_conn_buffer(conn);
    ssize_t n = conn_recv(conn, &buf);
    segue__http_conn_read(conn, n, &buf);
    if (n <= 0 || ((size_t)n < buf.len && !ended)) return;
  }
}

/* Gives the descriptor to the poller, or to the loop if there is none. Only the loop can write for
 * a client that reads slowly: then segue__http_conn_watch moves the connection. */
int segue__http_conn_attend(segue__http_conn *conn) {
  if (!conn->server->poller || conn->is_unix) return segue__http_conn_watch(conn);
  conn->uv.polled =
      (segue__polled){.fd = conn->fd, .on_ready = conn_on_ready, .on_dropped = conn_on_dropped};
  int r = segue__poller_add(conn->server->poller, &conn->uv.polled, true);
  conn->polled = r == 0;
  return r;
}
