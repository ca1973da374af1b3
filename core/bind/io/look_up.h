/* SPDX-License-Identifier: MIT
 *
 * look_up.h: names in the DNS, each looked up on a thread of its own, because the functions of the
 * C library cannot be interrupted and have no time limit. A thread that is abandoned runs on; it
 * returns its result through the bridge, or finds it closed.
 */
#ifndef SEGUE_BIND_LOOK_UP_H
#define SEGUE_BIND_LOOK_UP_H

#include <netinet/in.h>

#include "async_io.h"
#include "dns_records.h"

enum { SEGUE__LOOK_UP_THREADS = 32, SEGUE__ADDRESSES_MAX = 64 };

typedef struct segue__look_up segue__look_up;
struct segue__look_up {
  segue__message message; /* first */
  segue__bridge *bridge;
  /* Control thread, once, unless it was abandoned. It must free the look-up, then or later. */
  void (*done)(segue__look_up *look);
  void *owner; /* NULL: nothing waits */
  char *name;
  segue__dns_type type;
  struct sockaddr_in server; /* sin_port 0: the name servers of the system */
  segue_error error;         /* code 0: it was found */
  size_t count;
  char addresses[SEGUE__ADDRESSES_MAX][INET6_ADDRSTRLEN];
  segue__dns_records records;
};

/* Returns 0, UV_ENOMEM, or UV_EAGAIN if too many threads have not returned. server may be NULL. */
int segue__look_up_start(segue__look_up **out, segue__async_io *async_io, const char *name,
                         segue__dns_type type, const struct sockaddr_in *server,
                         void (*done)(segue__look_up *look), void *owner);
/* done is not called any more. NULL allowed. */
void segue__look_up_abandon(segue__look_up *look);
void segue__look_up_free(segue__look_up *look); /* NULL allowed */

#endif
