/* SPDX-License-Identifier: MIT
 *
 * handshakes.h: looks for TCP handshakes that are under way at a listening socket. Only the
 * registry (socket.h) calls this.
 */
#ifndef SEGUE_SOCKET_HANDSHAKES_H
#define SEGUE_SOCKET_HANDSHAKES_H

/* Returns 1 if a client has sent the first packet of a handshake to the port of the listening
 * socket fd, and the last packet has not come yet. 0: there is none. Negative: the kernel does not
 * report it. The kernel looks through all TCP connections of the machine: 20 us, and 10 ms with
 * 100,000 of them. [any thread] */
int segue__socket_handshakes(int fd);

#endif
