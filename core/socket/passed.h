/* SPDX-License-Identifier: MIT
 *
 * passed.h: listening sockets that another process opened and passes to this one: a service manager
 * by LISTEN_FDS (sd_listen_fds(3)). Numbers from outside are never trusted: each descriptor is
 * checked before anything else uses it.
 */
#ifndef SEGUE_SOCKET_PASSED_H
#define SEGUE_SOCKET_PASSED_H

#include <stddef.h>

#include "address.h"

typedef struct segue__passed_socket {
  int fd;
  char name[256]; /* FileDescriptorName= of the unit; "" where none was given */
  segue__address address;
} segue__passed_socket;

typedef struct segue__passed {
  segue__passed_socket *items;
  size_t count;
} segue__passed;

/* Reads LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES, and removes all three, also when they are for
 * another process or make no sense: commands that this process starts must not see them. The
 * descriptors are closed on exec from then on. Returns 0, also when nothing was passed, or a
 * negative code (SEGUE_EUSAGE: a descriptor does not fit; the message names it and what to do).
 * Changes the environment: no other thread may use it meanwhile. */
int segue__passed_read(segue__passed *out, segue_error *err);
/* Checks one descriptor and reads its address: a listening TCP or unix stream socket, or a UDP
 * socket. Returns 0 or SEGUE_EUSAGE. */
int segue__passed_check(segue__passed_socket *item, segue_error *err);
/* Closes what was read and not handed on. */
void segue__passed_close(segue__passed *passed);

#endif
