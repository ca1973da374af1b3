/* SPDX-License-Identifier: MIT
 *
 * One datagram socket and a short queue. The address is given with every datagram instead of
 * connecting once, because a manager that is restarted listens at the same address again.
 */
#include "notify.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "error.h"
#include "mem.h"

enum { KEPT_MAX = 64 };

struct segue__notify {
  int fd;
  struct sockaddr_un address;
  socklen_t address_len;
  char *kept[KEPT_MAX]; /* oldest first */
  size_t kept_count;
};

static int notify_resolve(segue__notify *n, const char *address, segue_error *err) {
  size_t len = strlen(address);
  if ((address[0] != '/' && address[0] != '@') || len < 2)
    return segue__errorf(err, UV_EINVAL,
                         "NOTIFY_SOCKET is %.200s: only a path and an abstract socket (@name) "
                         "can be notified",
                         address);
  if (len >= sizeof n->address.sun_path)
    return segue__errorf(err, UV_ENAMETOOLONG, "NOTIFY_SOCKET is longer than %zu bytes",
                         sizeof n->address.sun_path - 1);
  n->address.sun_family = AF_UNIX;
  memcpy(n->address.sun_path, address, len);
  if (address[0] == '@') n->address.sun_path[0] = 0;
  /* The name of an abstract socket ends with the address, that of a file with a zero. */
  n->address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (address[0] == '/'));
  return 0;
}

int segue__notify_open(segue__notify **out, const char *address, segue_error *err) {
  *out = NULL;
  segue__notify *n = segue__calloc(1, sizeof *n);
  if (!n) return segue__errorf(err, UV_ENOMEM, "out of memory");
  int rc = notify_resolve(n, address, err);
  if (rc < 0) {
    segue__free(n);
    return rc;
  }
  n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (n->fd < 0) {
    rc = -errno;
    segue__free(n);
    return segue__errorf(err, rc, "cannot make a socket for NOTIFY_SOCKET: %s", uv_strerror(rc));
  }
  *out = n;
  return 0;
}

static int send_one(const segue__notify *n, const char *text) {
  struct iovec part = {(char *)text, strlen(text)};
  struct msghdr message = {.msg_name = (void *)&n->address,
                           .msg_namelen = n->address_len,
                           .msg_iov = &part,
                           .msg_iovlen = 1};
  ssize_t sent;
  do
    sent = sendmsg(n->fd, &message, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  if (sent >= 0) return 0;
  return errno == EAGAIN || errno == ENOBUFS ? UV_EAGAIN : -errno;
}

static void notify_forget(segue__notify *n, size_t count) {
  for (size_t i = 0; i < count; i++)
    segue__free(n->kept[i]);
  n->kept_count -= count;
  memmove(n->kept, n->kept + count, n->kept_count * sizeof *n->kept);
}

int segue__notify_flush(segue__notify *n) {
  size_t sent = 0;
  int rc = 0;
  while (sent < n->kept_count && (rc = send_one(n, n->kept[sent])) == 0)
    sent++;
  notify_forget(n, rc < 0 && rc != UV_EAGAIN ? n->kept_count : sent);
  return rc == UV_EAGAIN ? rc : 0;
}

int segue__notify_send(segue__notify *n, const char *text, bool keep) {
  int rc = segue__notify_flush(n);
  if (rc == 0) rc = send_one(n, text);
  if (rc != UV_EAGAIN || !keep) return rc;
  char *copy = segue__strdup(text);
  if (!copy) return UV_ENOMEM;
  if (n->kept_count == KEPT_MAX) segue__free(n->kept[--n->kept_count]);
  n->kept[n->kept_count++] = copy;
  return UV_EAGAIN;
}

void segue__notify_close(segue__notify *n) {
  if (!n) return;
  if (n->kept_count) {
    struct timeval limit = {.tv_sec = 1};
    setsockopt(n->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    fcntl(n->fd, F_SETFL, 0);
    (void)segue__notify_flush(n);
  }
  notify_forget(n, n->kept_count);
  close(n->fd);
  segue__free(n);
}
