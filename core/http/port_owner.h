/* SPDX-License-Identifier: MIT
 *
 * port_owner.h: names the process that owns a TCP port, for the message "address in use".
 */
#ifndef SEGUE_HTTP_PORT_OWNER_H
#define SEGUE_HTTP_PORT_OWNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Writes "nginx (pid 71)"; false where that cannot be known (other users' processes). Reads /proc;
 * takes milliseconds. */
bool segue__http_port_owner(uint16_t port, char *out, size_t size);

#endif
