/* SPDX-License-Identifier: MIT
 *
 * address.h: addresses of listening sockets. They are numeric, so that reading a policy never waits
 * for a name server, and normalised, so that two texts are equal exactly when they mean the same
 * socket.
 */
#ifndef SEGUE_SOCKET_ADDRESS_H
#define SEGUE_SOCKET_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "../os/error.h"

typedef enum segue__socket_type {
  SEGUE__SOCKET_TCP,
  SEGUE__SOCKET_UDP,
  SEGUE__SOCKET_UNIX /* a stream */
} segue__socket_type;

typedef struct segue__address {
  segue__socket_type type;
  bool is_abstract; /* of a unix socket: a name that is no file */
  bool loopback;    /* only this machine reaches it */
  uint16_t port;
  uint32_t sockaddr_size;
  char text[128];              /* normalised: equal text <=> equal address */
  char path[108];              /* of a unix socket, or its abstract name */
  unsigned char sockaddr[128]; /* aligned to 4, as its types need */
} segue__address;

/* Understands "127.0.0.1:7377", "[::1]:7377", "localhost:7377", the same after "tcp://" or
 * "udp://", "unix:/run/x.sock", and "unix:@name" for an abstract name. Returns 0 or SEGUE_EUSAGE.
 */
int segue__address_parse(const char *text, segue__address *out, segue_error *err);
/* Reads the address that a socket is bound to. Returns 0, a negative system error, or UV_ENOTSUP
 * for a socket that is not of one of the three types. */
int segue__address_of_fd(int fd, segue__address *out);
/* Stores the port that the kernel chose where it was 0. */
void segue__address_set_port(segue__address *address, uint16_t port);

#endif
