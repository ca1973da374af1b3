/* SPDX-License-Identifier: MIT
 *
 * The clients: connections that stay open, each of which posts one call after the other as fast as
 * it is answered. After a refusal a client waits a little.
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

enum { EVENTS = 128, REFUSED_US = 20000, UNREACHABLE_US = 20000 };
typedef enum client_state { CLOSED, IDLE, BUSY } client_state;

typedef struct client {
  client_state state;
  int fd;
  unsigned n;
  uint64_t sent_us, not_before_us;
  size_t len;
  char data[1024];
} client;

static client *clients;
static unsigned client_count;
static uint16_t front;
static int events_fd;
static atomic_bool paused, ended;
static atomic_uint busy;
static pthread_t thread;

/* ---- Measuring ---- */

static unsigned bucket_of(uint64_t us) {
  unsigned shift = us < 64 ? 0 : 58 - (unsigned)__builtin_clzll(us);
  unsigned bucket = shift ? 32 * shift + (unsigned)(us >> shift) : (unsigned)us;
  return bucket < 64 * 32 ? bucket : 64 * 32 - 1;
}

static void measure(phase *p, uint64_t us) {
  atomic_fetch_add_explicit(&p->counts[bucket_of(us)], 1, memory_order_relaxed);
  atomic_fetch_add_explicit(&p->accepted, 1, memory_order_relaxed);
  if (us > atomic_load(&p->slowest_us)) atomic_store(&p->slowest_us, us);
}

/* ---- Connections ---- */

static void hang_up(client *c, uint64_t wait_us) {
  if (c->state == BUSY) atomic_fetch_sub(&busy, 1);
  if (c->state != CLOSED) close(c->fd);
  c->state = CLOSED;
  c->not_before_us = now_us() + wait_us;
}

static void connect_now(client *c) {
  struct sockaddr_in at = {
      .sin_family = AF_INET, .sin_port = htons(front), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (c->fd < 0) die("no socket: %s", strerror(errno));
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
  c->state = IDLE;
  c->len = 0;
  if (connect(c->fd, (struct sockaddr *)&at, sizeof at)) {
    hang_up(c, UNREACHABLE_US);
    return;
  }
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
  if (epoll_ctl(events_fd, EPOLL_CTL_ADD, c->fd, &event)) die("epoll: %s", strerror(errno));
}

static void lost_connection(client *c) {
  if (c->state == BUSY) atomic_fetch_add(&books.unanswered, 1);
  atomic_fetch_add(&books.broken, 1);
  hang_up(c, UNREACHABLE_US);
}

/* Closed, and not heard of yet: no call is lost there. */
static bool is_closed(const client *c) {
  char byte;
  ssize_t got = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
}

static void post(client *c) {
  char text[PAYLOAD_MAX + 256], payload[PAYLOAD_MAX];
  if (is_closed(c)) {
    lost_connection(c);
    return;
  }
  c->n = atomic_fetch_add(&books.next, 1);
  if (c->n >= CALLS_MAX) die("too many calls for the books: make it shorter");
  size_t len = call_payload(c->n, payload);
  int head = snprintf(text, sizeof text,
                      "POST /call?target=%s HTTP/1.1\r\nHost: pipe\r\nContent-Length: %zu\r\n\r\n",
                      target_names[call_target(c->n)], len);
  memcpy(text + head, payload, len);
  c->state = BUSY;
  c->len = 0;
  atomic_fetch_add(&busy, 1);
  c->sent_us = now_us();
  size_t size = (size_t)head + len;
  if (send(c->fd, text, size, MSG_NOSIGNAL) != (ssize_t)size) lost_connection(c);
}

/* ---- Answers ---- */

static void answered(client *c) {
  uint64_t now = now_us();
  phase *p = &books.phases[atomic_load(&books.phase)];
  int status = atoi(c->data + 9);
  atomic_fetch_sub(&busy, 1);
  c->state = IDLE;
  c->not_before_us = 0;
  if (status == 202) {
    atomic_store(&books.calls[c->n].accepted, 1);
    atomic_fetch_add(&books.answered, 1);
    measure(p, now - c->sent_us);
  } else if (status == 503) {
    atomic_fetch_add(&p->refused, 1);
    c->not_before_us = now + REFUSED_US;
  } else if (atomic_fetch_add(&books.odd, 1) == 0) {
    fprintf(stderr, "call %u was answered: %.*s\n", c->n, (int)c->len, c->data);
  }
  if (strcasestr(c->data, "\r\nconnection: close")) hang_up(c, 0);
}

static void read_answer(client *c) {
  ssize_t got = recv(c->fd, c->data + c->len, sizeof c->data - 1 - c->len, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    lost_connection(c);
    return;
  }
  c->len += (size_t)got;
  c->data[c->len] = 0;
  const char *end = strstr(c->data, "\r\n\r\n"), *length = strcasestr(c->data, "content-length:");
  if (!end || !length) return;
  if (c->len >= (size_t)(end - c->data) + 4 + strtoul(length + 15, NULL, 10)) answered(c);
}

static void go_on(uint64_t now) {
  for (unsigned i = 0; i < client_count; i++) {
    client *c = &clients[i];
    if (c->state == BUSY || c->not_before_us > now) continue;
    if (c->state == CLOSED) connect_now(c);
    if (c->state == IDLE) post(c);
  }
}

static void *run(void *unused) {
  struct epoll_event events[EVENTS];
  (void)unused;
  while (!atomic_load(&ended)) {
    int n = epoll_wait(events_fd, events, EVENTS, 5);
    for (int i = 0; i < n; i++)
      read_answer(events[i].data.ptr);
    if (!atomic_load(&paused)) go_on(now_us());
  }
  return NULL;
}

void clients_start(uint16_t port, unsigned connections) {
  front = port;
  client_count = connections;
  clients = calloc(connections, sizeof *clients);
  events_fd = epoll_create1(EPOLL_CLOEXEC);
  if (!clients || pthread_create(&thread, NULL, run, NULL)) die("no clients");
}

void clients_stop(void) {
  uint64_t until = now_us() + 30000000;
  atomic_store(&paused, true);
  while (atomic_load(&busy) && now_us() < until)
    usleep(1000);
  if (atomic_load(&busy)) die("%u calls were never answered", atomic_load(&busy));
  atomic_store(&ended, true);
  pthread_join(thread, NULL);
  for (unsigned i = 0; i < client_count; i++)
    hang_up(&clients[i], 0);
  free(clients);
}
