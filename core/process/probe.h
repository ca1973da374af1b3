/* SPDX-License-Identifier: MIT
 *
 * probe.h: asks a server again and again until it answers: a TCP connection, an HTTP request, or a
 * command. Control thread.
 */
#ifndef SEGUE_PROCESS_PROBE_H
#define SEGUE_PROCESS_PROBE_H

#include "../files/effect.h"
#include "../socket/address.h"

typedef struct segue__server_probe segue__server_probe;

typedef struct segue__server_probe_options {
  const segue__effect *effect;   /* a request or a command; NULL: */
  const segue__address *address; /* that takes connections */
} segue__server_probe_options;

#define SEGUE__PROBE_PAUSE_MS 50

/* cb runs once, later, when a try has succeeded. The options and module are borrowed until free. */
int segue__server_probe_start(segue__server_probe **out, segue__loop *loop, const segue__os *os,
                              const char *module, const segue__server_probe_options *options,
                              void (*cb)(void *data), void *data);
/* The reason why the last try failed; "" if none has. */
const char *segue__server_probe_problem(const segue__server_probe *probe);
void segue__server_probe_free(
    segue__server_probe *probe); /* NULL allowed; cb does not run afterwards */

#endif
