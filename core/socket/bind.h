/* SPDX-License-Identifier: MIT
 *
 * bind.h: makes listening sockets. Only the registry (socket.h) calls this, and specs that need a
 * listener without a registry.
 */
#ifndef SEGUE_SOCKET_BIND_H
#define SEGUE_SOCKET_BIND_H

#include "address.h"

/* Binds the address, and listens unless it is UDP. Returns the descriptor, or a negative code with
 * a message that names, where that can be known, the process that has the port. Where the port was
 * 0, the port that the kernel chose is in address afterwards. mode: of the file of a unix socket
 * (0: 0600). A stale unix socket (no process accepts on it) is replaced, a live one is
 * UV_EADDRINUSE. */
int segue__socket_bind(segue__address *address, unsigned mode, segue_error *err);
/* The kernel drops the first packet of every new connection; connections that were begun continue.
 * A connection that is made between the last accept and the close would be reset. With the filter,
 * its client tries again a second later, and then either reaches a new listener or is refused. The
 * filter is a property of the socket, so it concerns every duplicate, also in other processes. */
void segue__socket_set_deaf(int fd, bool deaf);

#endif
