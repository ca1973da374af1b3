/* SPDX-License-Identifier: MIT
 *
 * A socket of segue__outbound: connecting to one address after the other, the handshake, and bytes
 * in both directions. The socket is watched by uv_poll and written by send(2) with MSG_NOSIGNAL:
 * the streams of libuv would raise SIGPIPE in a host that does not ignore it.
 *
 * A watch lives until libuv has closed it, longer than its socket: so each attempt to connect has a
 * watch of its own, and the outbound is freed after the last one.
 */
#include "outbound.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "../os/mem.h"
#include "../os/text.h"

enum { PART_BYTES = 16 << 10, PARTS_IN_TURN = 4, KEEP_BYTES = 64 << 10 };

typedef struct outbound_watch {
  uv_poll_t poll;
  segue__outbound *owner;
  int events; /* that libuv watches for */
} outbound_watch;

struct segue__outbound {
  segue__loop *loop;
  const char *shown;
  struct sockaddr_storage *addresses;
  size_t count, next; /* next: of the addresses */
  char path[108];
  segue__tls *tls;
  uint64_t connect_ms, deadline_ms;
  segue__timer timer;
  int fd;
  outbound_watch *watch; /* of fd; NULL: there is none */
  size_t watches;        /* that libuv has not closed */
  bool connecting, open, ended, paused, closing;
  int last_error; /* of the last address that did not accept */
  segue__buf out; /* bytes for the kernel, from out_at on */
  size_t out_at;
  uint64_t added, sent;
  segue__message message;
  bool posted;
  void (*on_open)(void *data, int status, const segue_error *err);
  void (*on_data)(void *data, const char *bytes, size_t len);
  void (*on_sent)(void *data);
  void (*on_end)(void *data, int code, const segue_error *err);
  void *data;
  void (*closed_cb)(void *data);
  void *closed_data;
};

static void outbound_try_next(segue__outbound *o);
static void outbound_on_poll(uv_poll_t *poll, int status, int events);

/* ---- Addresses ------------------------------------------------------------------------------- */

static int outbound_refuse(const char *text, segue_error *err) {
  return segue__errorf(err, SEGUE_EUSAGE,
                       "\"%.200s\" is no address: write \"host:port\", \"[::1]:port\" or "
                       "\"unix:/path\"",
                       text);
}

static int outbound_parse_unix(const char *text, const char *path, segue__outbound_address *out,
                               segue_error *err) {
  size_t len = strlen(path);
  if ((*path != '/' && *path != '@') || len < 2) return outbound_refuse(text, err);
  if (len >= sizeof out->path)
    return segue__errorf(err, SEGUE_EUSAGE,
                         "%.200s is too long for the path of a unix socket: at most %zu bytes",
                         path, sizeof out->path - 1);
  memcpy(out->path, path, len + 1);
  return 0;
}

int segue__outbound_parse(const char *text, segue__outbound_address *out, segue_error *err) {
  *out = (segue__outbound_address){0};
  if (!strncmp(text, "unix:", 5)) return outbound_parse_unix(text, text + 5, out, err);
  const char *host = strncmp(text, "tcp://", 6) ? text : text + 6, *colon = strrchr(host, ':');
  size_t len = colon ? (size_t)(colon - host) : 0;
  bool bracket = len > 2 && *host == '[' && host[len - 1] == ']';
  if (!bracket && len && memchr(host, ':', len)) return outbound_refuse(text, err);
  if (bracket) host++, len -= 2;
  size_t digits = colon ? strspn(colon + 1, "0123456789") : 0;
  if (!len || len >= sizeof out->host || !digits || digits > 5 || colon[1 + digits])
    return outbound_refuse(text, err);
  for (size_t i = 0; i < len; i++)
    if ((unsigned char)host[i] <= ' ' || segue__is_one_of(host[i], "/@?#[]"))
      return outbound_refuse(text, err);
  long port = strtol(colon + 1, NULL, 10);
  if (port < 1 || port > 65535) return outbound_refuse(text, err);
  memcpy(out->host, host, len);
  out->port[0] = (unsigned char)(port >> 8);
  out->port[1] = (unsigned char)port;
  return 0;
}

bool segue__outbound_numeric(const char *address, const segue__outbound_address *of,
                             struct sockaddr_storage *out) {
  int port = of->port[0] << 8 | of->port[1];
  memset(out, 0, sizeof *out);
  return !uv_ip4_addr(address, port, (struct sockaddr_in *)out) ||
         !uv_ip6_addr(address, port, (struct sockaddr_in6 *)out);
}

/* ---- Watching -------------------------------------------------------------------------------- */

static void outbound_free_if_over(segue__outbound *o) {
  if (!o->closing || o->watches || o->posted) return;
  void (*cb)(void *) = o->closed_cb;
  void *data = o->closed_data;
  segue__tls_free(o->tls);
  segue__buf_deinit(&o->out);
  segue__free(o->addresses);
  segue__free(o);
  if (cb) cb(data);
}

static void on_watch_closed(uv_handle_t *handle) {
  outbound_watch *watch = handle->data;
  segue__outbound *o = watch->owner;
  segue__free(watch);
  o->watches--;
  outbound_free_if_over(o);
}

static void outbound_drop(segue__outbound *o) {
  if (o->watch) {
    uv_poll_stop(&o->watch->poll);
    uv_close((uv_handle_t *)&o->watch->poll, on_watch_closed);
  }
  if (o->fd >= 0) close(o->fd);
  o->watch = NULL;
  o->fd = -1;
}

static void outbound_update(segue__outbound *o) {
  bool writes = o->connecting || o->out.len > o->out_at;
  bool reads = !o->connecting && !(o->open && o->paused);
  if (!o->watch) return;
  int events = (reads ? UV_READABLE : 0) | (writes ? UV_WRITABLE : 0);
  if (events == o->watch->events) return;
  o->watch->events = events;
  if (events)
    uv_poll_start(&o->watch->poll, events, outbound_on_poll);
  else
    uv_poll_stop(&o->watch->poll);
}

static int outbound_add_watch(segue__outbound *o) {
  outbound_watch *watch = segue__calloc(1, sizeof *watch);
  if (!watch) return UV_ENOMEM;
  int rc = uv_poll_init(segue__loop_uv(o->loop), &watch->poll, o->fd);
  if (rc) {
    segue__free(watch);
    return rc;
  }
  watch->poll.data = watch;
  watch->owner = o;
  o->watch = watch;
  o->watches++;
  return 0;
}

/* ---- The end --------------------------------------------------------------------------------- */

static void outbound_fail_open(segue__outbound *o, const segue_error *err) {
  outbound_drop(o);
  segue__timer_stop(o->loop, &o->timer);
  o->ended = true;
  o->on_open(o->data, err->code, err);
}

static void outbound_end(segue__outbound *o, int code, const char *why) {
  segue_error err;
  if (o->ended) return;
  if (code == UV_EOF)
    segue__errorf(&err, code, "%s has closed the connection", o->shown);
  else
    segue__errorf(&err, code, "the connection to %s broke off: %s", o->shown,
                  why ? why : segue_strerror(code));
  if (!o->open) {
    if (o->tls)
      segue__errorf(&err, code, "no trusted connection to %s: %s", o->shown,
                    why              ? why
                    : code == UV_EOF ? "it was closed during the TLS handshake"
                                     : segue_strerror(code));
    outbound_fail_open(o, &err);
    return;
  }
  outbound_drop(o);
  o->ended = true;
  o->on_end(o->data, code, &err);
}

/* ---- Bytes ----------------------------------------------------------------------------------- */

/* Returns 0, or the negative error that ended the connection. */
static int outbound_flush(segue__outbound *o) {
  while (o->out.len > o->out_at) {
    ssize_t n = send(o->fd, o->out.data + o->out_at, o->out.len - o->out_at, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return 0;
    if (n < 0) return -errno;
    o->out_at += (size_t)n;
    o->sent += (uint64_t)n;
  }
  o->out.len = o->out_at = 0;
  if (o->out.cap > KEEP_BYTES) segue__buf_deinit(&o->out);
  return 0;
}

static int outbound_collect(segue__outbound *o) {
  char *data;
  size_t len = segue__tls_outgoing(o->tls, &data);
  if (!len) return 0;
  segue__buf_add(&o->out, data, len);
  segue__tls_taken(o->tls);
  o->added += len;
  return o->out.failed ? UV_ENOMEM : 0;
}

/* Returns 0, or why the connection has ended. */
static int outbound_read_tls(segue__outbound *o, const char *bytes, size_t len) {
  char plain[PART_BYTES];
  int rc = len ? segue__tls_feed(o->tls, bytes, len) : 0;
  while (!rc && !o->ended) {
    int n = segue__tls_read(o->tls, plain, sizeof plain);
    if (n <= 0) rc = n;
    if (n > 0) o->on_data(o->data, plain, (size_t)n);
    if (o->closing) return UV_EAGAIN;
  }
  return rc == UV_EAGAIN ? outbound_collect(o) : rc;
}

static int outbound_handshake(segue__outbound *o, const char *bytes, size_t len) {
  int rc = len ? segue__tls_feed(o->tls, bytes, len) : 0;
  if (!rc) rc = segue__tls_handshake(o->tls);
  int sent = outbound_collect(o);
  if (!sent) sent = outbound_flush(o); /* an alert to the server, too */
  if (rc == UV_EAGAIN) return sent;
  if (rc || sent) return rc ? rc : sent;
  o->open = true;
  segue__timer_stop(o->loop, &o->timer);
  o->on_open(o->data, 0, NULL);
  /* The server may have sent bytes right behind its handshake. */
  return o->closing ? 0 : outbound_read_tls(o, "", 0);
}

static const char *outbound_why(const segue__outbound *o, int rc) {
  return o->tls && rc == UV_EPROTO ? segue__tls_why(o->tls) : NULL;
}

/* Gives bytes of the kernel to the caller, a few parts in a turn of the loop, so that a fast server
 * does not starve the other handles. An end without the close of TLS is no end of the data:
 * a device on the way may have cut it. */
static void outbound_receive(segue__outbound *o) {
  char part[PART_BYTES];
  for (int i = 0; i < PARTS_IN_TURN && !o->closing && !o->ended && !(o->open && o->paused); i++) {
    ssize_t n = recv(o->fd, part, sizeof part, 0);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
    if (n < 0) return outbound_end(o, -errno, NULL);
    if (n == 0 && o->tls && o->open)
      return outbound_end(o, UV_ECONNRESET, "it was closed without an end of TLS");
    if (n == 0) return outbound_end(o, UV_EOF, NULL);
    if (!o->tls) {
      o->on_data(o->data, part, (size_t)n);
      continue;
    }
    int rc =
        o->open ? outbound_read_tls(o, part, (size_t)n) : outbound_handshake(o, part, (size_t)n);
    if (rc && !o->closing && !o->ended) outbound_end(o, rc, outbound_why(o, rc));
  }
}

static void outbound_send_rest(segue__outbound *o) {
  uint64_t before = o->sent;
  int rc = outbound_flush(o);
  if (rc) return outbound_end(o, rc, NULL);
  if (o->sent > before && o->open) o->on_sent(o->data);
}

/* ---- Connecting ------------------------------------------------------------------------------ */

static void outbound_connected(segue__outbound *o) {
  o->connecting = false;
  if (!o->tls) {
    o->open = true;
    segue__timer_stop(o->loop, &o->timer);
    o->on_open(o->data, 0, NULL);
    return;
  }
  int rc = outbound_handshake(o, NULL, 0);
  if (rc && !o->closing && !o->ended) outbound_end(o, rc, outbound_why(o, rc));
}

static void outbound_on_poll(uv_poll_t *poll, int status, int events) {
  outbound_watch *watch = poll->data;
  segue__outbound *o = watch->owner;
  if (watch != o->watch) return;
  if (status < 0) watch->events = 0; /* libuv has stopped the watch */
  if (o->connecting) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(o->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error || status < 0) {
      o->last_error = error ? -error : status;
      outbound_drop(o);
      outbound_try_next(o);
      return;
    }
    outbound_connected(o);
  } else {
    if (events & UV_WRITABLE) outbound_send_rest(o);
    if ((status < 0 || events & UV_READABLE) && !o->closing && !o->ended) outbound_receive(o);
  }
  if (!o->closing && !o->ended) outbound_update(o);
}

/* A connection that a firewall forgot sends no packet any more: the kernel asks the other side
 * after 30 s of silence, and again each 10 s. */
static void outbound_set_options(int fd, int family) {
  int on = 1, idle = 30, interval = 10;
  if (family == AF_UNIX) return;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
}

static socklen_t outbound_sockaddr(const segue__outbound *o, struct sockaddr_storage *out) {
  if (!*o->path) {
    *out = o->addresses[o->next];
    return out->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
  }
  struct sockaddr_un *un = (struct sockaddr_un *)out;
  size_t len = strlen(o->path);
  memset(out, 0, sizeof *out);
  un->sun_family = AF_UNIX;
  memcpy(un->sun_path, o->path, len);
  if (*o->path == '@') un->sun_path[0] = 0;
  return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (*o->path != '@'));
}

/* Returns 0 if the connection is open or begins, or the negative error. */
static int outbound_connect(segue__outbound *o) {
  struct sockaddr_storage address;
  socklen_t size = outbound_sockaddr(o, &address);
  o->fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (o->fd < 0) return -errno;
  outbound_set_options(o->fd, address.ss_family);
  int rc = connect(o->fd, (struct sockaddr *)&address, size);
  /* EAGAIN: the queue of a unix socket is full, and the kernel reports no place in it later. */
  if (rc && errno != EINPROGRESS && errno != EINTR) return -errno;
  o->connecting = true;
  return outbound_add_watch(o);
}

static void outbound_on_time(segue__timer *timer);

/* Each address has an equal share of the time that is left: one that swallows packets must not use
 * the time of the next one. */
static void outbound_try_next(segue__outbound *o) {
  size_t count = *o->path ? 1 : o->count;
  o->connecting = false;
  for (; o->next < count; o->next++) {
    int rc = outbound_connect(o);
    uint64_t now = segue__loop_now_ms(o->loop),
             left = o->deadline_ms > now ? o->deadline_ms - now : 0;
    if (!rc) {
      rc = segue__timer_start(o->loop, &o->timer, left / (count - o->next), outbound_on_time);
      o->next++;
      if (!rc) return outbound_update(o);
    }
    o->last_error = rc;
    outbound_drop(o);
  }
  segue_error err;
  if (o->last_error == UV_ECONNREFUSED || (*o->path && o->last_error == UV_ENOENT))
    segue__errorf(&err, o->last_error, "no server answers on %s: is it running?", o->shown);
  else if (o->last_error == UV_ETIMEDOUT)
    segue__errorf(&err, SEGUE_ETIMEOUT, "no connection to %s within %llu ms", o->shown,
                  (unsigned long long)o->connect_ms);
  else
    segue__errorf(&err, o->last_error, "cannot connect to %s: %s", o->shown,
                  segue_strerror(o->last_error));
  outbound_fail_open(o, &err);
}

static void outbound_on_time(segue__timer *timer) {
  segue__outbound *o = timer->data;
  if (o->connecting) {
    o->last_error = UV_ETIMEDOUT;
    outbound_drop(o);
    outbound_try_next(o);
    return;
  }
  segue_error err;
  segue__errorf(&err, SEGUE_ETIMEOUT, "no TLS connection to %s within %llu ms", o->shown,
                (unsigned long long)o->connect_ms);
  outbound_fail_open(o, &err);
}

static void outbound_begin(segue__message *message) {
  segue__outbound *o = (segue__outbound *)((char *)message - offsetof(segue__outbound, message));
  o->posted = false;
  if (o->closing)
    outbound_free_if_over(o);
  else
    outbound_try_next(o);
}

/* ---- Open, write, close ---------------------------------------------------------------------- */

int segue__outbound_open(segue__outbound **out, segue__loop *loop,
                         const segue__outbound_options *options, segue_error *err) {
  *out = NULL;
  segue__outbound *o = segue__calloc(1, sizeof *o);
  size_t bytes = options->count * sizeof *options->addresses;
  struct sockaddr_storage *addresses = bytes ? segue__malloc(bytes) : NULL;
  int rc = !o || (bytes && !addresses) ? UV_ENOMEM : segue__loop_uv(loop) ? 0 : UV_ENOTSUP;
  if (!rc && options->tls) rc = segue__tls_connect(&o->tls, options->tls, options->name);
  if (rc) {
    segue__free(addresses);
    segue__free(o);
    return segue__errorf(err, rc, "cannot connect to %s: %s", options->shown, segue_strerror(rc));
  }
  if (bytes) memcpy(addresses, options->addresses, bytes);
  if (options->path) strncpy(o->path, options->path, sizeof o->path - 1);
  o->loop = loop;
  o->shown = options->shown;
  o->addresses = addresses;
  o->count = options->count;
  o->connect_ms = options->connect_ms;
  o->deadline_ms = segue__loop_now_ms(loop) + options->connect_ms;
  o->timer.data = o;
  o->fd = -1;
  o->last_error = UV_EAI_NONAME;
  o->on_open = options->on_open;
  o->on_data = options->on_data;
  o->on_sent = options->on_sent;
  o->on_end = options->on_end;
  o->data = options->data;
  o->posted = true;
  o->message.fn = outbound_begin;
  segue__post(loop, &o->message);
  *out = o;
  return 0;
}

void segue__outbound_pause(segue__outbound *o, bool pause) {
  if (o->paused == pause) return;
  o->paused = pause;
  outbound_update(o);
}

int segue__outbound_write(segue__outbound *o, const char *bytes, size_t len) {
  int rc = 0;
  if (o->ended) return UV_EPIPE;
  if (o->tls) {
    rc = segue__tls_write(o->tls, bytes, len);
    if (!rc) rc = outbound_collect(o);
  } else {
    segue__buf_add(&o->out, bytes, len);
    o->added += len;
    if (o->out.failed) rc = UV_ENOMEM;
  }
  if (!rc) rc = outbound_flush(o);
  if (!rc) outbound_update(o);
  return rc;
}

uint64_t segue__outbound_added(const segue__outbound *o) {
  return o->added;
}

uint64_t segue__outbound_sent(const segue__outbound *o) {
  return o->sent;
}

void segue__outbound_close(segue__outbound *o, void (*cb)(void *data), void *data) {
  if (!o) return;
  o->closing = true;
  o->closed_cb = cb;
  o->closed_data = data;
  if (o->tls && o->open && !o->ended) {
    segue__tls_end(o->tls);
    if (!outbound_collect(o)) outbound_flush(o);
  }
  segue__timer_stop(o->loop, &o->timer);
  outbound_drop(o);
  outbound_free_if_over(o);
}
