/* SPDX-License-Identifier: MIT
 *
 * holder.h: who has a TCP port, for the one error message where it matters most.
 */
#ifndef SEGUE_HTTP_HOLDER_H
#define SEGUE_HTTP_HOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Writes "nginx (pid 71)"; false where that cannot be known (other users' processes). Reads /proc;
 * takes milliseconds. */
bool segue__http_port_holder(uint16_t port, char *out, size_t size);

#endif
