/* SPDX-License-Identifier: MIT
 *
 * ends PORT MODE CONNECTIONS WARM [PATH]: measures which calls a server answers while it ends. Asks
 * it on many connections (MODE: keepalive, pipelined, or close, which is a connection for each
 * request), as fast as it answers, until no server listens there any more. Requests are those of
 * the numbered client (numbered.h), or POST PATH. Prints "under load" once each client was answered
 * WARM times, and at the end how many calls were
 *
 *   answered  by 2xx, each with its own number
 *   refused   by 503
 *   odd       answered otherwise
 *   behind    written on a connection behind a request whose answer announced the close
 *   torn      ended in the middle of their answer
 *   fresh     without an answer, the first on their connection
 *   closed    without an answer, on a connection that was closed (FIN)
 *   reset     the same, by a reset
 *
 * A connection that has been closed when a request is due is not used. So the last three are calls
 * that were written while the connection was open.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "numbered.h"

enum { DEPTH = 8, IN_MAX = 65536, OUT_MAX = DEPTH * (NUMBERED_BODY_MAX + 512) };

typedef enum mode { KEEPALIVE, PIPELINED, CLOSE } mode;

typedef struct conn {
  int fd; /* -1: none, and none will be */
  bool connecting, used;
  uint32_t slot, next;
  uint32_t asked[DEPTH]; /* not yet answered, the oldest first */
  size_t count, answers;
  char *out, *in;
  size_t out_len, out_at, in_len;
} conn;

static uint16_t port;
static mode how;
static const char *path; /* NULL: numbered */
static int epoll_fd;
static conn conns[NUMBERED_SLOTS];
static size_t open_conns, cold, warm; /* cold: clients that were answered less than `warm` times */
static uint64_t answered, refused, odd, behind, torn, fresh, closed, reset;

static void die(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(2);
}

/* ---- Sending ---- */

static void put_request(conn *c, uint32_t number) {
  uint32_t mix = numbered_mix(c->slot, number);
  size_t len = path ? 100 : numbered_body_len(c->slot, number);
  char where[64];
  snprintf(where, sizeof where, "/n/%" PRIu32 "/%" PRIu32, c->slot, number);
  c->out_len += (size_t)sprintf(
      c->out + c->out_len, "POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %zu\r\n\r\n",
      path ? path : where, how == CLOSE ? "Connection: close\r\n" : "", len);
  for (size_t i = 0; i < len; i++)
    c->out[c->out_len++] = numbered_byte(mix, i);
}

static void watch(conn *c, int operation) {
  bool writes = c->connecting || c->out_at < c->out_len;
  struct epoll_event event = {.events = EPOLLIN | (writes ? EPOLLOUT : 0), .data.ptr = c};
  if (epoll_ctl(epoll_fd, operation, c->fd, &event)) die("epoll_ctl");
}

static void flush(conn *c) {
  while (c->out_at < c->out_len) {
    ssize_t n = send(c->fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) break;
    if (n < 0) return; /* the data that came before it decides */
    c->out_at += (size_t)n;
  }
  if (c->out_at == c->out_len) c->out_at = c->out_len = 0;
  watch(c, EPOLL_CTL_MOD);
}

static void open_conn(conn *c) {
  struct sockaddr_in address = {
      .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int one = 1;
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (c->fd < 0) die("socket");
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  c->in_len = c->out_len = c->out_at = c->count = 0;
  c->used = false;
  c->connecting = true;
  if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) {
    close(c->fd);
    c->fd = -1;
    open_conns--;
    return;
  }
  watch(c, EPOLL_CTL_ADD);
}

static void open_again(conn *c) {
  close(c->fd);
  open_conn(c);
}

static void ask(conn *c) {
  char byte;
  ssize_t n = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (n == 0 || (n < 0 && errno != EAGAIN)) { /* closed since the last answer */
    open_again(c);
    return;
  }
  for (size_t batch = how == PIPELINED ? DEPTH : 1; c->count < batch; c->next++) {
    c->asked[c->count++] = c->next;
    put_request(c, c->next);
  }
  flush(c);
}

/* ---- Receiving ---- */

static void on_end(conn *c, int error) {
  if (c->count && c->in_len)
    torn += c->count;
  else if (!c->used)
    fresh += c->count;
  else if (error)
    reset += c->count;
  else
    closed += c->count;
  if (c->count)
    fprintf(stderr, "%" PRIu32 ".%" PRIu32 ": %zu calls lost: %s\n", c->slot, c->asked[0], c->count,
            error ? strerror(error) : "closed");
  open_again(c);
}

/* Returns the length of a whole answer, or 0; sets last if it announces the close. */
static size_t whole(const conn *c, bool *last) {
  const char *end = memmem(c->in, c->in_len, "\r\n\r\n", 4);
  bool chunked = false;
  *last = false;
  if (!end) return 0;
  size_t head = (size_t)(end - c->in) + 4, body = 0;
  for (const char *line = c->in; line < end; line = memchr(line, '\n', c->in_len) + 1) {
    if (strncasecmp(line, "Content-Length:", 15) == 0) body = strtoul(line + 15, NULL, 10);
    if (strncasecmp(line, "Transfer-Encoding:", 18) == 0) chunked = true;
    if (strncasecmp(line, "Connection: close", 17) == 0) *last = true;
  }
  if (chunked) {
    const char *tail = memmem(c->in + head, c->in_len - head, "\r\n0\r\n\r\n", 7);
    return tail ? (size_t)(tail - c->in) + 7 : 0;
  }
  return c->in_len >= head + body ? head + body : 0;
}

static void check(conn *c, size_t len) {
  char number[32];
  int n = snprintf(number, sizeof number, "number=%" PRIu32 " ", c->asked[0]);
  int status = (int)strtol(c->in + strlen("HTTP/1.1 "), NULL, 10);
  if (status / 100 == 2 && (path || memmem(c->in, len, number, (size_t)n)))
    answered++;
  else if (status == 503)
    refused++;
  else if (odd++ == 0)
    fprintf(stderr, "%u.%u: %.*s\n", c->slot, c->asked[0], (int)len, c->in);
  c->used = true;
  if (++c->answers == warm && --cold == 0) {
    puts("under load");
    fflush(stdout);
  }
}

static void take_input(conn *c) {
  size_t len;
  bool last = false, closes;
  while (c->count && !last && (len = whole(c, &closes))) {
    last = closes;
    check(c, len);
    memmove(c->asked, c->asked + 1, --c->count * sizeof *c->asked);
    c->in_len -= len;
    memmove(c->in, c->in + len, c->in_len);
  }
  if (last || (how == CLOSE && !c->count)) {
    behind += c->count;
    open_again(c);
  } else if (!c->count) {
    ask(c);
  }
}

static void on_connected(conn *c) {
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
  if (error == ECONNREFUSED) {
    close(c->fd);
    c->fd = -1;
    open_conns--;
  } else if (error) {
    on_end(c, error);
  } else {
    c->connecting = false;
    ask(c);
  }
}

static void on_event(conn *c, uint32_t events) {
  if (c->connecting) {
    on_connected(c);
    return;
  }
  if (events & EPOLLOUT) flush(c);
  if (!(events & ~(uint32_t)EPOLLOUT)) return;
  ssize_t n = recv(c->fd, c->in + c->in_len, IN_MAX - c->in_len, 0);
  if (n < 0 && errno == EAGAIN) return;
  if (n <= 0) {
    on_end(c, n ? errno : 0);
    return;
  }
  c->in_len += (size_t)n;
  take_input(c);
}

int main(int argc, char **argv) {
  if (argc < 5) return 2;
  port = (uint16_t)strtoul(argv[1], NULL, 10);
  how = strcmp(argv[2], "pipelined") == 0 ? PIPELINED
        : strcmp(argv[2], "close") == 0   ? CLOSE
                                          : KEEPALIVE;
  open_conns = cold = strtoul(argv[3], NULL, 10);
  warm = strtoul(argv[4], NULL, 10);
  path = argc > 5 ? argv[5] : NULL;
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (open_conns > NUMBERED_SLOTS || epoll_fd < 0) die("too many connections, or no epoll");
  size_t count = open_conns;
  for (uint32_t i = 0; i < count; i++) {
    conns[i] = (conn){.slot = i, .next = 1, .out = malloc(OUT_MAX), .in = malloc(IN_MAX)};
    if (!conns[i].out || !conns[i].in) die("memory");
    open_conn(&conns[i]);
  }
  while (open_conns) {
    struct epoll_event events[64];
    int n = epoll_wait(epoll_fd, events, 64, -1);
    for (int i = 0; i < n; i++)
      on_event(events[i].data.ptr, events[i].events);
  }
  printf("answered=%" PRIu64 " refused=%" PRIu64 " odd=%" PRIu64 " behind=%" PRIu64 " torn=%" PRIu64
         " fresh=%" PRIu64 " closed=%" PRIu64 " reset=%" PRIu64 "\n",
         answered, refused, odd, behind, torn, fresh, closed, reset);
  for (size_t i = 0; i < count; i++) {
    free(conns[i].out);
    free(conns[i].in);
  }
  return 0;
}
