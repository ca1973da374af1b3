/* SPDX-License-Identifier: MIT
 *
 * port_owner.h: finds the process that listens on a TCP port, for the error message of a port that
 * is in use.
 */
#ifndef SEGUE_SOCKET_PORT_OWNER_H
#define SEGUE_SOCKET_PORT_OWNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Writes "nginx (pid 71)". Returns false if that cannot be known (processes of other users). Reads
 * /proc, which takes milliseconds. */
bool segue__socket_port_owner(uint16_t port, char *out, size_t size);

#endif
