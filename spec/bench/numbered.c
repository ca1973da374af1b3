/* SPDX-License-Identifier: MIT
 *
 * numbered PORT ADMIN VALUE MODE CONNECTIONS RELOADS EVERY_MS: shows that no request is lost. Sends
 * numbered requests, whose bodies the module spec/plugin/numbered.c checks, on many connections
 * (MODE: keepalive, pipelined, or close, which is a connection for each request), and meanwhile
 * reloads by POST to ADMIN, each time with another value in the file VALUE, every EVERY_MS (0: as
 * soon as the last one is answered). Each request must be answered once, in order, by 200, on a
 * soon as the last one is answered). Each request must be answered once, in order, by 200, on a
 * connection that stays open, by one generation and nothing of another, and by none older than the
 * last reload that was answered before its first byte was sent. One thread does all this, so the
 * order of events is certain. Prints every 1000th reload and its counts; exits with 0 if no request
 * was lost or wrong.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "numbered.h"

enum { DEPTH = 8, IN_MAX = 65536, SHOWN = 10, BUCKETS = 200000, PATIENCE_MS = 30000 };

typedef enum mode { KEEPALIVE, PIPELINED, CLOSE } mode;

typedef struct asked {
  uint32_t number;
  uint64_t least; /* the generation that it must have */
  double at_ms;
} asked;

typedef struct conn {
  int fd; /* -1: none */
  uint32_t slot, next;
  asked asked[DEPTH]; /* not yet answered, the oldest first */
  size_t count;
  char *out;
  size_t out_len, out_at, out_size;
  char in[IN_MAX];
  size_t in_len;
  uint32_t events;
  uint64_t seen; /* the newest generation that answered it */
} conn;

typedef struct answer {
  int status;
  const char *body; /* without chunks */
  size_t len, taken;
  uint64_t generation; /* of the header; 0: none */
} answer;

static int port, admin_port, epoll_fd;
static const char *value_path;
static mode how;
static double every_ms;
static uint64_t reload_count;
static conn *conns, admin = {.fd = -1};
static size_t conn_count;
static bool stopping;

static uint64_t live, asked_for; /* generations: answered with 200, and of the reload in work */
static double reload_at_ms, reload_ms_max;
static bool reloading;
static uint64_t requests, answered, reloads, over_reload;
static uint64_t wrong;
static uint64_t buckets[BUCKETS + 1]; /* latencies in 10 µs */
static double longest_ms;

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void die(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(2);
}

__attribute__((format(printf, 1, 2))) static void complain(const char *format, ...) {
  if (wrong++ >= SHOWN) return;
  va_list list;
  va_start(list, format);
  fputs("wrong: ", stderr);
  vfprintf(stderr, format, list);
  fputc('\n', stderr);
  va_end(list);
}

/* ---- Sending ---- */

static void reserve(conn *c, size_t more) {
  if (c->out_len + more <= c->out_size) return;
  c->out_size = 2 * (c->out_len + more);
  c->out = realloc(c->out, c->out_size);
  if (!c->out) die("memory");
}

static void put(conn *c, const char *data, size_t len) {
  reserve(c, len);
  memcpy(c->out + c->out_len, data, len);
  c->out_len += len;
}

static void put_bytes(conn *c, uint32_t mix, size_t from, size_t to) {
  reserve(c, to - from);
  for (size_t i = from; i < to; i++)
    c->out[c->out_len++] = numbered_byte(mix, i);
}

static void put_chunk(conn *c, uint32_t mix, size_t from, size_t to) {
  char line[32];
  if (from == to) return;
  put(c, line, (size_t)snprintf(line, sizeof line, "%zx\r\n", to - from));
  put_bytes(c, mix, from, to);
  put(c, "\r\n", 2);
}

static void put_request(conn *c, uint32_t number) {
  char head[256];
  uint32_t mix = numbered_mix(c->slot, number);
  size_t len = numbered_body_len(c->slot, number);
  bool chunked = number % 5 == 0;
  int n = snprintf(head, sizeof head, "POST /n/%" PRIu32 "/%" PRIu32 " HTTP/1.1\r\nHost: x\r\n%s",
                   c->slot, number, how == CLOSE ? "Connection: close\r\n" : "");
  put(c, head, (size_t)n);
  n = chunked ? snprintf(head, sizeof head, "Transfer-Encoding: chunked\r\n\r\n")
              : snprintf(head, sizeof head, "Content-Length: %zu\r\n\r\n", len);
  put(c, head, (size_t)n);
  if (!chunked) {
    put_bytes(c, mix, 0, len);
    return;
  }
  put_chunk(c, mix, 0, len / 2);
  put_chunk(c, mix, len / 2, len);
  put(c, "0\r\n\r\n", 5);
}

static void lose(conn *c, const char *why);

static void watch(conn *c) {
  struct epoll_event event = {.events = EPOLLIN | (c->out_len ? EPOLLOUT : 0), .data.ptr = c};
  if (event.events == c->events) return;
  if (epoll_ctl(epoll_fd, c->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &event))
    die("epoll_ctl");
  c->events = event.events;
}

static void flush(conn *c) {
  while (c->out_at < c->out_len) {
    ssize_t n = send(c->fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) {
      lose(c, strerror(errno));
      return;
    }
    if (n < 0) break;
    c->out_at += (size_t)n;
  }
  if (c->out_at == c->out_len) c->out_at = c->out_len = 0;
  watch(c);
}

static void ask(conn *c) {
  size_t batch = how == PIPELINED ? DEPTH : 1;
  for (; c->count < batch; c->count++, c->next++, requests++) {
    c->asked[c->count] = (asked){c->next, live, now_ms()};
    put_request(c, c->next);
  }
  flush(c);
}

/* Waits in the kernel while the server's queue of connections is full. */
static void open_conn(conn *c, int to) {
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)to),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int one = 1;
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (c->fd < 0) die("socket");
  if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) die("connect");
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (fcntl(c->fd, F_SETFL, O_NONBLOCK)) die("fcntl");
  c->in_len = c->out_len = c->out_at = 0;
  c->events = 0;
  watch(c);
}

static void close_conn(conn *c) {
  if (c->fd >= 0) close(c->fd);
  c->fd = -1;
}

/* ---- Checking an answer ---- */

static const char *header(const char *head, const char *end, const char *name) {
  size_t len = strlen(name);
  for (const char *line = head; (line = memchr(line, '\n', (size_t)(end - line)));) {
    line++;
    if ((size_t)(end - line) > len && strncasecmp(line, name, len) == 0 && line[len] == ':')
      return line + len + 1 + strspn(line + len + 1, " ");
  }
  return NULL;
}

/* The length of all chunks, whose contents come together in `joined`; 0: there is more to come. */
static size_t join_chunks(const char *body, size_t len, char *joined, size_t *joined_len) {
  const char *at = body, *end = body + len;
  *joined_len = 0;
  for (;;) {
    const char *line = memchr(at, '\n', (size_t)(end - at));
    if (!line++) return 0;
    size_t size = strtoul(at, NULL, 16);
    if ((size_t)(end - line) < size + 2) return 0;
    memcpy(joined + *joined_len, line, size);
    *joined_len += size;
    at = line + size + 2;
    if (size == 0) return (size_t)(at - body);
  }
}

/* True: there is a whole answer at the beginning of what came. */
static bool parse(conn *c, answer *out) {
  static char joined[IN_MAX];
  const char *end = memmem(c->in, c->in_len, "\r\n\r\n", 4);
  *out = (answer){0};
  if (!end) return false;
  const char *body = end + 4, *length = header(c->in, end + 2, "Content-Length");
  const char *generation = header(c->in, end + 2, "Segue-Generation");
  size_t head = (size_t)(body - c->in), have = c->in_len - head, taken;
  out->status = (int)strtol(c->in + strlen("HTTP/1.1 "), NULL, 10);
  out->generation = generation ? strtoull(generation, NULL, 10) : 0;
  out->body = length ? body : joined;
  if (length)
    out->len = taken = strtoul(length, NULL, 10);
  else if (!(taken = join_chunks(body, have, joined, &out->len)))
    return false;
  out->taken = head + taken;
  return have >= taken;
}

/* All copies of the value are those of the generation that the head names. */
static bool copies_agree(const char *text, const char *end, uint64_t value) {
  size_t count = 0;
  while (text < end && *text == ' ') {
    char *next;
    if (strtoull(text, &next, 10) != value || next > end) return false;
    text = next;
    count++;
  }
  return text == end && count == NUMBERED_COPIES;
}

static void check(conn *c, const answer *a) {
  static char text[IN_MAX];
  const asked *asked = &c->asked[0];
  uint32_t number = 0;
  uint64_t generation = 0, value = 0, instance = 0;
  int at = 0;
  memcpy(text, a->body, a->len);
  text[a->len] = 0;
  int found = sscanf(
      text, "number=%" SCNu32 " generation=%" SCNu64 " value=%" SCNu64 " instance=%" SCNu64 "%n",
      &number, &generation, &value, &instance, &at);
  if (a->status != 200 || found != 4)
    complain("%" PRIu32 ".%" PRIu32 ": answered %d %.100s", c->slot, asked->number, a->status,
             text);
  else if (number != asked->number)
    complain("%" PRIu32 ".%" PRIu32 ": the answer to %" PRIu32 " came", c->slot, asked->number,
             number);
  else if (generation != a->generation || value != generation || instance != generation ||
           !copies_agree(text + at, text + a->len, value))
    complain("%" PRIu32 ".%" PRIu32 ": a mixture: header %" PRIu64 ", body %.200s", c->slot, number,
             a->generation, text);
  else if (generation < asked->least || generation > asked_for || generation < c->seen)
    complain("%" PRIu32 ".%" PRIu32 ": by generation %" PRIu64 ", not %" PRIu64 " to %" PRIu64
             ", after %" PRIu64,
             c->slot, number, generation, asked->least, asked_for, c->seen);
  c->seen = generation;
  over_reload += generation != asked->least;
}

static void count_latency(double ms) {
  size_t bucket = (size_t)(ms * 100);
  buckets[bucket < BUCKETS ? bucket : BUCKETS]++;
  if (ms > longest_ms) longest_ms = ms;
}

static double percentile(double part) {
  uint64_t sum = 0, bound = (uint64_t)((double)answered * part);
  for (size_t i = 0; i <= BUCKETS; i++)
    if ((sum += buckets[i]) > bound) return (double)i / 100;
  return longest_ms;
}

/* ---- Reloads ---- */

static void write_value(uint64_t value) {
  char temporary[4096];
  snprintf(temporary, sizeof temporary, "%s.new", value_path);
  FILE *file = fopen(temporary, "w");
  if (!file) die(temporary);
  fprintf(file, "service: {value: %" PRIu64 ", copies: [", value);
  for (int i = 0; i < NUMBERED_COPIES; i++)
    fprintf(file, "%s%" PRIu64, i ? ", " : "", value);
  fputs("]}\n", file);
  if (fclose(file) || rename(temporary, value_path)) die(value_path);
}

static void reload(void) {
  static const char text[] = "POST /-/reload HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                             "Accept: application/json\r\nContent-Length: 0\r\n\r\n";
  reloading = true;
  reload_at_ms = now_ms();
  write_value(++asked_for);
  put(&admin, text, sizeof text - 1);
  flush(&admin);
}

static void reloaded(const answer *a) {
  char want[64];
  int len = snprintf(want, sizeof want, "\"generation\":%" PRIu64, asked_for);
  double ms = now_ms() - reload_at_ms;
  if (a->status != 200 || !memmem(a->body, a->len, want, (size_t)len)) {
    complain("the reload to %" PRIu64 ": %d %.*s", asked_for, a->status, (int)a->len, a->body);
    stopping = true;
    return;
  }
  if (ms > reload_ms_max) reload_ms_max = ms;
  live = asked_for;
  reloading = false;
  if (++reloads % 1000 == 0) printf("%" PRIu64 " reloads\n", reloads);
  fflush(stdout);
}

/* ---- Receiving ---- */

static size_t busy; /* connections that wait for answers */

static void go_on(conn *c) {
  if (stopping || wrong > SHOWN) {
    busy--;
    close_conn(c);
    return;
  }
  if (c->fd < 0) open_conn(c, port);
  ask(c);
}

static void lose(conn *c, const char *why) {
  if (c == &admin) die("the connection of reloads is lost");
  close_conn(c);
  if (c->count || how != CLOSE)
    complain("%" PRIu32 ".%" PRIu32 ": the connection is lost: %s", c->slot, c->asked[0].number,
             why);
  c->count = 0;
  if (c->next > 1 && how == CLOSE && !wrong)
    go_on(c);
  else
    busy--;
}

static void take_answer(conn *c, const answer *a) {
  if (c == &admin) {
    reloaded(a);
    return;
  }
  if (!c->count) {
    complain("%" PRIu32 ": an answer that nobody asked for", c->slot);
    return;
  }
  check(c, a);
  count_latency(now_ms() - c->asked[0].at_ms);
  answered++;
  memmove(c->asked, c->asked + 1, --c->count * sizeof c->asked[0]);
}

static void take_input(conn *c) {
  answer a;
  while (c->in_len && parse(c, &a)) {
    take_answer(c, &a);
    c->in_len -= a.taken;
    memmove(c->in, c->in + a.taken, c->in_len);
  }
  if (c == &admin || c->count || how == CLOSE) return;
  if (c->in_len) complain("%" PRIu32 ": bytes that belong to no answer", c->slot);
  go_on(c);
}

static void on_event(conn *c, uint32_t events) {
  if (c->fd >= 0 && events & EPOLLOUT) flush(c);
  if (c->fd < 0 || !(events & ~(uint32_t)EPOLLOUT)) return;
  ssize_t n = recv(c->fd, c->in + c->in_len, sizeof c->in - c->in_len, 0);
  if (n < 0 && errno == EAGAIN) return;
  if (n <= 0) {
    if (c->in_len) complain("%" PRIu32 ": half an answer", c->slot);
    lose(c, n ? strerror(errno) : "closed");
    return;
  }
  c->in_len += (size_t)n;
  take_input(c);
}

/* ---- The whole ---- */

static void turn(double until_ms) {
  struct epoll_event events[64];
  double wait = until_ms - now_ms();
  int n = epoll_wait(epoll_fd, events, 64, wait > 0 ? (int)wait + 1 : 0);
  if (n < 0 && errno != EINTR) die("epoll_wait");
  for (int i = 0; i < n; i++)
    on_event(events[i].data.ptr, events[i].events);
}

static void run(void) {
  double end;
  for (size_t i = 0; i < conn_count; i++) {
    conns[i].fd = -1;
    conns[i].slot = (uint32_t)i;
    conns[i].next = 1;
    busy++;
    go_on(&conns[i]);
  }
  while (reloads < reload_count && busy && !stopping) {
    double due = reload_at_ms + every_ms, now = now_ms();
    if (!reloading && now >= due) reload();
    turn(reloading ? now + PATIENCE_MS : due);
  }
  stopping = true;
  end = now_ms() + PATIENCE_MS;
  while ((busy || reloading) && now_ms() < end && wrong <= SHOWN)
    turn(end);
  if (busy || reloading) complain("%zu connections wait for answers at the end", busy);
}

/* Reads the counts of the module. */
static void read_ledger(char *out, size_t size) {
  static const char text[] = "GET /ledger HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  static conn c;
  answer a;
  open_conn(&c, port);
  if (fcntl(c.fd, F_SETFL, 0) || send(c.fd, text, sizeof text - 1, MSG_NOSIGNAL) < 0) die("ledger");
  for (ssize_t n; (n = recv(c.fd, c.in + c.in_len, sizeof c.in - c.in_len, 0)) > 0;)
    c.in_len += (size_t)n;
  if (!parse(&c, &a)) die("ledger");
  snprintf(out, size, "%.*s", (int)a.len, a.body);
  close_conn(&c);
}

static void check_ledger(const char *ledger) {
  uint64_t n[5] = {0};
  int found = sscanf(ledger,
                     "arrived=%" SCNu64 " doubled=%" SCNu64 " disordered=%" SCNu64 " torn=%" SCNu64
                     " misplaced=%" SCNu64,
                     &n[0], &n[1], &n[2], &n[3], &n[4]);
  if (found != 5 || n[0] != requests || n[1] || n[2] || n[3] || n[4])
    complain("the module says: %s", ledger);
  if (answered != requests)
    complain("%" PRIu64 " requests, %" PRIu64 " answers", requests, answered);
}

static bool set_mode(const char *name) {
  static const char *const names[] = {"keepalive", "pipelined", "close"};
  for (how = KEEPALIVE; how <= CLOSE; how++)
    if (strcmp(name, names[how]) == 0) return true;
  return false;
}

int main(int argc, char **argv) {
  char ledger[256];
  if (argc != 8 || !set_mode(argv[4])) {
    fprintf(stderr, "usage: numbered PORT ADMIN VALUE keepalive|pipelined|close CONNECTIONS "
                    "RELOADS EVERY_MS\n");
    return 2;
  }
  port = atoi(argv[1]);
  admin_port = atoi(argv[2]);
  value_path = argv[3];
  conn_count = (size_t)atoi(argv[5]);
  reload_count = strtoull(argv[6], NULL, 10);
  every_ms = atof(argv[7]);
  conns = calloc(conn_count, sizeof *conns);
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (!conns || conn_count > NUMBERED_SLOTS || epoll_fd < 0) die("setup");
  live = asked_for = 1;
  open_conn(&admin, admin_port);
  run();
  read_ledger(ledger, sizeof ledger);
  check_ledger(ledger);
  printf("requests=%" PRIu64 " answered=%" PRIu64 " reloads=%" PRIu64 " during=%" PRIu64
         " wrong=%" PRIu64 " p50=%.2f p99=%.2f max=%.2f reload_max=%.2f\n%s",
         requests, answered, reloads, over_reload, wrong, percentile(0.5), percentile(0.99),
         longest_ms, reload_ms_max, ledger);
  return wrong ? 1 : 0;
}
