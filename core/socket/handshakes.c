/* SPDX-License-Identifier: MIT
 *
 * Asks the kernel by netlink (sock_diag(7)), as `ss state syn-recv` does. No option of a listening
 * socket shows its handshakes, and /proc/net/tcp takes ten times as long and can be hidden.
 */
#include "handshakes.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct diag_request {
  struct nlmsghdr header;
  struct inet_diag_req_v2 body;
} diag_request;

static int diag_ask(int diag, int family, in_port_t port) {
  const diag_request request = {.header = {.nlmsg_len = sizeof request,
                                           .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                                           .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
                                .body = {.sdiag_family = (unsigned char)family,
                                         .sdiag_protocol = IPPROTO_TCP,
                                         .idiag_states = 1u << TCP_SYN_RECV,
                                         .id = {.idiag_sport = port}}};
  ssize_t n;
  do {
    n = send(diag, &request, sizeof request, 0);
  } while (n < 0 && errno == EINTR);
  return n < 0 ? -errno : 0;
}

/* The first message decides: a connection, the end of the list, or an error. The kernel has put it
 * into the queue before send returned, so recv need not wait. */
static int diag_read(int diag) {
  union {
    struct nlmsghdr header;
    char bytes[8192];
  } answer;
  ssize_t n = recv(diag, &answer, sizeof answer, MSG_DONTWAIT);
  if (n < 0) return -errno;
  if (!NLMSG_OK(&answer.header, (size_t)n)) return -EPROTO;
  if (answer.header.nlmsg_type == NLMSG_DONE) return 0;
  if (answer.header.nlmsg_type != NLMSG_ERROR) return 1;
  int error = ((const struct nlmsgerr *)NLMSG_DATA(&answer.header))->error;
  return error ? error : -EPROTO;
}

static int diag_look(int family, in_port_t port) {
  int diag = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  if (diag < 0) return -errno;
  int rc = diag_ask(diag, family, port);
  if (rc == 0) rc = diag_read(diag);
  close(diag);
  return rc;
}

/* The kernel counts clients of IPv4 at a socket of IPv6 as connections of IPv6. */
int segue__socket_handshakes(int fd) {
  union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
  } at = {.any = {0}};
  socklen_t len = sizeof at;
  if (getsockname(fd, &at.any, &len) != 0) return -errno;
  bool v6 = at.any.sa_family == AF_INET6;
  return diag_look(at.any.sa_family, v6 ? at.v6.sin6_port : at.v4.sin_port);
}
