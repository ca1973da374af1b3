/* SPDX-License-Identifier: MIT
 *
 * The targets: HTTP servers on two ports each, on one thread, which count what is delivered to
 * them.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

enum { BUFFER = 4096, EVENTS = 1024 };

typedef struct peer {
  int fd;
  unsigned target;
  bool listens, hangs;
  struct peer *prev, *next;
  size_t len;
  char data[BUFFER];
} peer;

static int events_fd;
static peer *peers;
static pthread_t thread;
static atomic_bool ended, hurried, hold, held;
static atomic_uint era, era_wanted;
/* When the last three turns looked at the sockets. A request that one turn reads came after the
 * look two turns before: one turn accepts its connection, the next one reads it. */
static uint64_t looked_us[3];

static void watch(peer *p) {
  p->next = peers;
  if (peers) peers->prev = p;
  peers = p;
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = p};
  if (epoll_ctl(events_fd, EPOLL_CTL_ADD, p->fd, &event)) die("epoll: %s", strerror(errno));
}

static void hang_up(peer *p) {
  if (p->prev)
    p->prev->next = p->next;
  else
    peers = p->next;
  if (p->next) p->next->prev = p->prev;
  close(p->fd);
  free(p);
}

static void accept_all(const peer *listener) {
  for (int fd; (fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0;) {
    peer *p = calloc(1, sizeof *p);
    if (!p) die("out of memory");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    p->fd = fd;
    p->target = listener->target;
    watch(p);
  }
}

/* ---- Counting ---- */

/* A caller whose time limit was over may call again. But an answer that arrived within the limit
 * was in the socket when the caller looked, however late that was. */
static bool may_be_late(void) {
  return now_us() - looked_us[0] >= (uint64_t)given.timeout_ms * 1000;
}

static void count_good(entry *e) {
  unsigned now = atomic_load(&era);
  if (!atomic_load(&e->good) && may_be_late()) {
    atomic_store(&e->late, 1);
    atomic_fetch_add(&books.late, 1);
  } else if (atomic_fetch_add(&e->good, 1) == 0) {
    e->era = (unsigned short)now;
  } else if (e->era == now) {
    atomic_fetch_add(&books.twice, 1);
  } else {
    atomic_fetch_add(&books.excused, 1);
  }
}

static bool is_call(const peer *p, const char *body, size_t len, unsigned *n) {
  char expected[PAYLOAD_MAX];
  return len > 5 && sscanf(body, "call %u:", n) == 1 && *n < atomic_load(&books.next) &&
         call_payload(*n, expected) == len && !memcmp(body, expected, len) &&
         call_target(*n) == p->target;
}

/* False: the connection is to be closed. */
static bool answer_call(peer *p, const char *body, size_t len) {
  static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
  static const char bad[] = "HTTP/1.1 500 No\r\nContent-Length: 3\r\n\r\nno\n";
  unsigned n;
  if (!is_call(p, body, len, &n)) {
    atomic_fetch_add(&books.garbled, 1);
    return false;
  }
  entry *e = &books.calls[n];
  unsigned attempt = atomic_fetch_add(&e->tries, 1) + 1u;
  if (attempt > 1) atomic_fetch_add(&books.again, 1);
  answer a = call_answer(n, attempt);
  if (a == ANSWER_CLOSE) return false;
  if (a == ANSWER_500) return send(p->fd, bad, sizeof bad - 1, MSG_NOSIGNAL) > 0;
  p->hangs = a == ANSWER_NEVER;
  if (p->hangs) return true;
  if (send(p->fd, ok, sizeof ok - 1, MSG_NOSIGNAL) != (ssize_t)sizeof ok - 1) return false;
  count_good(e);
  return true;
}

/* ---- Reading ---- */

static size_t body_length(const char *head) {
  const char *at = strcasestr(head, "\r\ncontent-length:");
  return at ? strtoul(at + 17, NULL, 10) : 0;
}

static bool take_requests(peer *p) {
  for (;;) {
    p->data[p->len] = 0;
    char *end = strstr(p->data, "\r\n\r\n");
    if (!end) return p->len < BUFFER - 1;
    size_t head = (size_t)(end - p->data) + 4, body = body_length(p->data);
    if (head + body >= BUFFER) return false;
    if (p->len < head + body) return true;
    if (!answer_call(p, p->data + head, body)) return false;
    p->len -= head + body;
    memmove(p->data, p->data + head + body, p->len);
  }
}

static void read_peer(peer *p) {
  ssize_t n = recv(p->fd, p->data + p->len, BUFFER - 1 - p->len, 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n > 0) {
    p->len += (size_t)n;
    if (take_requests(p)) return;
  }
  hang_up(p);
}

/* Ends the calls that never get an answer, so that no client waits when no other call comes. */
static void end_hanging(void) {
  for (peer *p = peers, *next; p; p = next) {
    next = p->next;
    if (p->hangs) hang_up(p);
  }
}

void targets_hurry(void) {
  atomic_store(&hurried, true);
}

static void wait_while_held(void) {
  while (atomic_load(&hold)) {
    atomic_store(&held, true);
    usleep(500);
  }
  atomic_store(&held, false);
}

static void *serve(void *unused) {
  struct epoll_event events[EVENTS];
  (void)unused;
  looked_us[0] = looked_us[1] = looked_us[2] = now_us();
  while (!atomic_load(&ended)) {
    wait_while_held();
    looked_us[0] = looked_us[1];
    looked_us[1] = looked_us[2];
    looked_us[2] = now_us();
    int n = epoll_wait(events_fd, events, EVENTS, 10);
    for (int i = 0; i < n; i++) {
      peer *p = events[i].data.ptr;
      if (p->listens)
        accept_all(p);
      else
        read_peer(p);
    }
    if (atomic_load(&hurried)) end_hanging();
    if (n <= 0) atomic_store(&era, atomic_load(&era_wanted));
  }
  return NULL;
}

void targets_next_era(void) {
  unsigned wanted = atomic_fetch_add(&era_wanted, 1) + 1;
  while (atomic_load(&era) != wanted)
    usleep(1000);
}

static uint16_t listen_at_any(unsigned target) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof at;
  peer *p = calloc(1, sizeof *p);
  if (!p) die("out of memory");
  p->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  p->target = target;
  p->listens = true;
  if (p->fd < 0 || bind(p->fd, (struct sockaddr *)&at, size) || listen(p->fd, 1024) ||
      getsockname(p->fd, (struct sockaddr *)&at, &size))
    die("a target cannot listen: %s", strerror(errno));
  watch(p);
  return ntohs(at.sin_port);
}

void targets_start(uint16_t ports[PORTS]) {
  events_fd = epoll_create1(EPOLL_CLOEXEC);
  for (unsigned i = 0; i < PORTS; i++)
    ports[i] = listen_at_any(i % TARGETS);
  if (pthread_create(&thread, NULL, serve, NULL)) die("no thread for the targets");
}

void targets_hold(void) {
  atomic_store(&hold, true);
  while (!atomic_load(&held))
    usleep(500);
}

void targets_release(void) {
  atomic_store(&hold, false);
}

void targets_stop(void) {
  atomic_store(&ended, true);
  pthread_join(thread, NULL);
  while (peers)
    hang_up(peers);
}
