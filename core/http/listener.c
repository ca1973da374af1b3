/* SPDX-License-Identifier: MIT
 *
 * Accepting on listening sockets, which the registry of sockets makes. It is done here and not by
 * libuv: running out of descriptors, or of room to refuse more clients, pauses accepting (clients
 * wait in the kernel's queue) instead of spinning or dropping.
 */
#include "../os/fork_fds.h"
#include "conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ACCEPTS_PER_TURN = 64, QUEUED_MAX = 2048 };
enum { SPARE_OF = 16384 }; /* the share of free descriptors is computed from at most this many */

/* ---- Accepting ------------------------------------------------------------------------------- */

static char *put_number(char *at, unsigned n) {
  char digits[12], *end = digits + sizeof digits, *first = end;
  do
    *--first = (char)('0' + n % 10);
  while (n /= 10);
  memcpy(at, first, (size_t)(end - first));
  return at + (end - first);
}

/* Formats without printf and inet_ntop, which would be a measurable part of the cost of a
 * connection. */
static void name_ipv4(const struct sockaddr_in *in, char *out) {
  const unsigned char *byte = (const unsigned char *)&in->sin_addr;
  for (int i = 0; i < 4; i++) {
    out = put_number(out, byte[i]);
    *out++ = i < 3 ? '.' : ':';
  }
  *put_number(out, ntohs(in->sin_port)) = 0;
}

/* A socket of [::] that another process made may take clients of IPv4 too. They have the same names
 * there as elsewhere, because limits count by name. */
static void name_ipv4_mapped(const struct sockaddr_in6 *in6, char *out) {
  struct sockaddr_in in = {.sin_port = in6->sin6_port};
  memcpy(&in.sin_addr, in6->sin6_addr.s6_addr + 12, sizeof in.sin_addr);
  name_ipv4(&in, out);
}

static void name_peer(int fd, const struct sockaddr_storage *from, char *out, size_t size) {
  char host[INET6_ADDRSTRLEN] = "?";
  if (from->ss_family == AF_INET) {
    name_ipv4((const struct sockaddr_in *)from, out);
  } else if (from->ss_family == AF_INET6) {
    const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)from;
    if (IN6_IS_ADDR_V4MAPPED(&in->sin6_addr)) {
      name_ipv4_mapped(in, out);
      return;
    }
    inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof host);
    snprintf(out, size, "[%s]:%u", host, ntohs(in->sin6_port));
  } else {
    struct ucred who = {.pid = 0, .uid = (uid_t)-1};
    socklen_t len = sizeof who;
    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len);
    snprintf(out, size, "unix:pid=%d,uid=%u", (int)who.pid, (unsigned)who.uid);
  }
}

/* Returns whether an error concerns one connection that is gone already, and not the listener:
 * accept(2) on Linux passes on errors of the network that are pending for the new socket. */
static bool listener_passes(int error) {
  return error == EINTR || error == ECONNABORTED || error == EPROTO || error == ENETDOWN ||
         error == ENOPROTOOPT || error == EHOSTDOWN || error == ENONET || error == EHOSTUNREACH ||
         error == EOPNOTSUPP || error == ENETUNREACH || error == EPERM;
}

/* Reads the limit of descriptors. Clients of one listener must not take the last descriptors from
 * the rest of the process: clients of modules leave some to the admin API, clients of its ports
 * leave some to its unix sockets (the command line), and all leave some to the files of a reload.
 * The kernel gives out the lowest free number, so a highest number for connections keeps the
 * numbers above it free, without a counter that several threads would have to share. */
void segue__http_descriptors_look(segue__http_server *server) {
  struct rlimit limit;
  server->descriptors = INT_MAX;
  if (server->limits.spare_share == 0 || getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  if (limit.rlim_cur < INT_MAX) server->descriptors = (int)limit.rlim_cur;
}

static int listener_ceiling(const segue__http_listener *http_listener) {
  const segue__http_server *server = http_listener->server;
  int share = (int)server->limits.spare_share;
  if (server->descriptors == INT_MAX) return INT_MAX;
  int of = server->descriptors < SPARE_OF ? server->descriptors : SPARE_OF;
  int spare = of / share;
  return server->descriptors - (http_listener->is_local ? spare / 2 : spare);
}

static void listener_on_readable(uv_poll_t *poll, int status, int events);
static void listener_on_ready(segue__polled *polled, bool ended);

static int listener_attend(segue__http_listener *http_listener) {
  segue__poller *poller = http_listener->server->poller;
  if (!poller || http_listener->is_local)
    return uv_poll_start(&http_listener->poll, UV_READABLE, listener_on_readable);
  http_listener->polled = (segue__polled){.fd = http_listener->fd, .on_ready = listener_on_ready};
  int r = segue__poller_add(poller, &http_listener->polled, false);
  http_listener->is_polled = r == 0;
  return r;
}

static void listener_ignore(segue__http_listener *http_listener) {
  uv_poll_stop(&http_listener->poll);
  if (http_listener->is_polled)
    segue__poller_remove(http_listener->server->poller, &http_listener->polled);
  http_listener->is_polled = false;
}

/* Without the pause a listener that is readable but cannot accept would wake the loop again and
 * again. */
static void pause_accepting(segue__http_listener *http_listener) {
  segue__http_server *server = http_listener->server;
  listener_ignore(http_listener);
  http_listener->paused = true;
  server->accept_due = uv_now(server->loop) + SEGUE__HTTP_ACCEPT_RETRY_MS;
  segue__http_timer_arm(server, server->accept_due);
}

static bool is_scarce(const segue__http_server *server) {
  const segue__http_listener *http_listener = server->listeners;
  while (http_listener && !http_listener->scarce)
    http_listener = http_listener->next;
  return http_listener != NULL;
}

/* A shortage is reported once. It ends for a listener when the listener has accepted all of its
 * clients: a place that becomes free and is taken again at once does not end it. Listeners have
 * limits of their own, so each has its mark: a unix socket that still accepts does not end the
 * shortage of a port. */
static void run_short(segue__http_listener *http_listener) {
  segue__http_server *server = http_listener->server;
  bool reported = is_scarce(server);
  http_listener->scarce = true;
  pause_accepting(http_listener);
  if (!reported && server->events.on_scarce) server->events.on_scarce(server->data);
}

/* The lowest free number is the number of the next descriptor, so it shows how many are free. */
static bool has_descriptors(segue__http_listener *http_listener) {
  segue__http_server *server = http_listener->server;
  segue__http_descriptors_look(server);
  int fd = fcntl(http_listener->fd, F_DUPFD_CLOEXEC, 0);
  if (fd >= 0) close(fd);
  return fd >= 0 && fd < listener_ceiling(http_listener);
}

static int accept_one(int listener, struct sockaddr_storage *from, socklen_t *len) {
  segue__fork_hold();
  int fd = accept4(listener, (struct sockaddr *)from, len, SOCK_CLOEXEC | SOCK_NONBLOCK);
  segue__fork_mark(fd);
  segue__fork_release();
  return fd;
}

static bool has_clients(const segue__http_listener *http_listener) {
  struct pollfd p = {.fd = http_listener->fd, .events = POLLIN};
  return poll(&p, 1, 0) > 0;
}

/* last: the listener closes, so every client in the queue is accepted, past all limits: the kernel
 * would reset them. Before each further client poll(2) looks for one: an accept4(2) without a
 * client makes a socket and a file and frees both again, 1.1 us against 0.2 us, and under a
 * connection for each request about every second batch ends with one. */
static void accept_some(segue__http_listener *http_listener, int most, bool last) {
  if (http_listener->scarce && !last && !has_descriptors(http_listener)) {
    pause_accepting(http_listener);
    return;
  }
  for (int i = 0; i < most; i++) {
    if (!last && segue__http_conn_must_wait(http_listener)) {
      http_listener->server->crowded = true;
      pause_accepting(http_listener);
      return;
    }
    if (i > 0 && !last && !has_clients(http_listener)) break;
    struct sockaddr_storage from = {.ss_family = AF_UNSPEC};
    socklen_t len = sizeof from;
    char peer[64];
    int fd = accept_one(http_listener->fd, &from, &len);
    if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    if (fd < 0 && listener_passes(errno)) continue;
    if (fd < 0) {
      run_short(http_listener);
      return;
    }
    bool short_of = fd >= listener_ceiling(http_listener);
    name_peer(fd, &from, peer, sizeof peer);
    const segue__http_events *events = &http_listener->server->events;
    if (events->on_connection) events->on_connection(http_listener->server->data);
    segue__http_conn_open(http_listener, fd, peer, !last);
    if (uv_is_closing((uv_handle_t *)&http_listener->poll)) return; /* a handler closed it */
    if (short_of && !last) {
      run_short(http_listener);
      return;
    }
  }
  if (http_listener->scarce) http_listener->scarce = has_clients(http_listener);
}

static void listener_on_readable(uv_poll_t *poll, int status, int events) {
  (void)status; /* an error shows in accept4 */
  (void)events;
  segue__http_listener *http_listener = (segue__http_listener *)poll;
  accept_some(http_listener, http_listener->accepts, false);
}

static void listener_on_ready(segue__polled *polled, bool ended) {
  (void)ended;
  segue__http_listener *http_listener =
      (segue__http_listener *)((char *)polled - offsetof(segue__http_listener, polled));
  accept_some(http_listener, http_listener->accepts, false);
}

void segue__http_listener_resume(segue__http_listener *http_listener) {
  http_listener->paused = false;
  if (listener_attend(http_listener) != 0) pause_accepting(http_listener);
}

/* ---- Life ------------------------------------------------------------------------------------ */

int segue__http_listener_new(segue__http_listener **out, int fd, bool is_local, int accepts) {
  segue__http_listener *http_listener = segue__calloc(1, sizeof *http_listener);
  *out = http_listener;
  if (!http_listener) {
    segue__fork_close(fd);
    return UV_ENOMEM;
  }
  http_listener->fd = fd;
  http_listener->is_local = is_local;
  http_listener->accepts = accepts ? accepts : ACCEPTS_PER_TURN;
  return 0;
}

void segue__http_listener_drop(segue__http_listener *http_listener) {
  if (!http_listener) return;
  segue__fork_close(http_listener->fd);
  segue__http_listener_set(http_listener, NULL, NULL, NULL);
  segue__free(http_listener);
}

int segue__http_listener_begin(segue__http_listener *http_listener, segue__http_server *server) {
  int r = server->closing ? SEGUE_ECLOSED
                          : uv_poll_init(server->loop, &http_listener->poll, http_listener->fd);
  if (r) {
    segue__http_listener_drop(http_listener);
    return r;
  }
  http_listener->server = server;
  http_listener->next = server->listeners;
  server->listeners = http_listener;
  server->handles++;
  r = listener_attend(http_listener);
  if (r) segue__http_listener_close(http_listener);
  return r;
}

static void free_unused(segue__http_listener *http_listener) {
  if (!http_listener->closed || http_listener->connections) return;
  segue__http_listener_set(http_listener, NULL, NULL, NULL);
  segue__free(http_listener);
}

void segue__http_listener_left(segue__http_listener *http_listener) {
  http_listener->connections--;
  free_unused(http_listener);
}

static void on_listener_closed(uv_handle_t *handle) {
  segue__http_listener *http_listener = (segue__http_listener *)handle;
  segue__http_server *server = http_listener->server;
  server->handles--;
  http_listener->closed = true;
  free_unused(http_listener);
  segue__http_server_check(server);
}

static void listener_unlink(segue__http_listener **at, const segue__http_listener *http_listener) {
  while (*at && *at != http_listener)
    at = &(*at)->next;
  if (*at) *at = http_listener->next;
}

static void listener_end(segue__http_listener *http_listener) {
  segue__http_linger linger = http_listener->linger;
  uv_close((uv_handle_t *)&http_listener->poll, on_listener_closed);
  segue__fork_close(http_listener->fd);
  if (linger.on_closed) linger.on_closed(linger.data);
}

void segue__http_listener_linger(segue__http_listener *http_listener,
                                 const segue__http_linger *linger) {
  http_listener->linger = *linger;
}

/* Clients that have connected already are accepted first: the kernel would reset them. A client
 * whose handshake is under way is not among them. It is in the queue once its last packet has come,
 * so the descriptor stays open for a moment (linger), and the queue is emptied a second time. */
void segue__http_listener_close(segue__http_listener *http_listener) {
  if (!http_listener) return;
  segue__http_server *server = http_listener->server;
  listener_unlink(&server->listeners, http_listener);
  accept_some(http_listener, QUEUED_MAX, true);
  listener_ignore(http_listener); /* the set would keep the socket, of which others have copies */
  if (!http_listener->linger.ms) {
    listener_end(http_listener);
    return;
  }
  http_listener->next = server->lingering;
  server->lingering = http_listener;
  uv_update_time(server->loop);
  http_listener->linger_due = uv_now(server->loop) + http_listener->linger.ms;
  if (http_listener->linger_due < server->linger_due)
    server->linger_due = http_listener->linger_due;
  segue__http_timer_arm(server, server->linger_due);
}

void segue__http_listeners_end(segue__http_server *server, uint64_t now_ms) {
  segue__http_listener *list = server->lingering;
  server->lingering = NULL;
  server->linger_due = UINT64_MAX;
  for (segue__http_listener *next; list; list = next) {
    next = list->next;
    if (list->linger_due > now_ms) {
      list->next = server->lingering;
      server->lingering = list;
      if (list->linger_due < server->linger_due) server->linger_due = list->linger_due;
      continue;
    }
    if (list->linger.may_accept(list->linger.data)) accept_some(list, QUEUED_MAX, true);
    listener_end(list);
  }
}

void segue__http_listener_set(segue__http_listener *http_listener, segue__tls_context *tls,
                              void *auth, void (*free_auth)(void *auth)) {
  if (tls) segue__tls_context_ref(tls);
  segue__tls_context_unref(http_listener->tls);
  if (http_listener->free_auth) http_listener->free_auth(http_listener->auth);
  http_listener->tls = tls;
  http_listener->auth = auth;
  http_listener->free_auth = free_auth;
}
