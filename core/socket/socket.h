/* SPDX-License-Identifier: MIT
 *
 * socket.h: the registry that owns every listening socket of one instance, by type and normalised
 * address. Users (the admin API, the control socket, the ingress) hold leases and accept on
 * duplicates; none of them binds. So an address keeps its socket, and the clients in its queue,
 * while users come and go, and a socket that another process passed on is used in the place of a
 * new one.
 *
 * In a transaction: prepare acquires, which binds what is new; an undone transaction releases what
 * it acquired, and only that; settle releases what the new policy does not name.
 */
#ifndef SEGUE_SOCKET_SOCKET_H
#define SEGUE_SOCKET_SOCKET_H

#include "../os/log.h"
#include "passed.h"

typedef struct segue__sockets segue__sockets;
typedef struct segue__socket segue__socket;

/* A right to accept on a socket. Each is used by one thread at a time. */
typedef struct segue__socket_lease {
  segue__socket *socket; /* NULL: none */
  bool is_owner;         /* acquired, not lent: no second user may acquire the address meanwhile */
  bool has_left;
} segue__socket_lease;

typedef struct segue__socket_wish {
  const segue__address *address;
  unsigned mode;    /* of the file of a unix socket; 0: 0600 */
  const char *name; /* breaks ties: of several passed sockets the one with this name; NULL: any */
  const char *user; /* for messages: "the admin API" */
} segue__socket_wish;

int segue__sockets_new(segue__sockets **out, const segue__logger *log); /* log: outlives it */
/* Closes the sockets without a lease; the others close with their last lease. NULL allowed. */
void segue__sockets_free(segue__sockets *sockets);
/* In a child after fork: closes every duplicate of every socket, and nothing else. */
void segue__sockets_abandon(segue__sockets *sockets);

/* Takes over sockets that another process passed on (passed is empty afterwards). They wait for a
 * user, outlive each one, and are closed at the end: the other process has them too, so their
 * address cannot be bound again. Their files are not removed and no client is turned away for them.
 * Returns 0 or UV_ENOMEM. [control] */
int segue__sockets_adopt(segue__sockets *sockets, segue__passed *passed);
/* Logs each passed socket that has no user, once until it has had one. [control] */
void segue__sockets_report_unused(segue__sockets *sockets);

/* Leases the socket of an address: a passed one, one whose last user is just leaving, or a new one.
 * With port 0 it is always new. Returns 0, or a negative code with a message: UV_EADDRINUSE also if
 * another user of this instance has the address. [control] */
int segue__socket_acquire(segue__sockets *sockets, const segue__socket_wish *wish,
                          segue__socket_lease *out, segue_error *err);
/* A further lease of the same socket, for another thread. [control] */
void segue__socket_lend(const segue__socket_lease *lease, segue__socket_lease *out);
/* A duplicate of the descriptor, which the caller closes, or a negative system error. [any thread
 * that has a lease] */
int segue__socket_share(const segue__socket_lease *lease);
/* Ends new connections for this lease: once all leases have left, a unix socket loses its file, and
 * the kernel drops the first packets of new TCP connections. Then the user accepts those that have
 * connected before, closes its duplicate, and releases. Does nothing for a passed socket, and
 * nothing the second time. [any thread] */
void segue__socket_leave(segue__socket_lease *lease);
/* Returns whether the kernel drops the first packets of connections to this TCP socket, because all
 * leases have left. False for sockets of other kinds and for passed ones. [any thread] */
bool segue__socket_is_deaf(const segue__socket_lease *lease);
/* Returns how long the user that has left waits before it accepts again, for the last time, and
 * closes its duplicate; 0: it need not wait, because no handshake is under way. A connection whose
 * first packet came before the socket became deaf, and whose third packet has not come yet, is in
 * no queue, and the kernel would reset it. If the socket is not deaf any more by then, another user
 * accepts. [any thread] */
uint64_t segue__socket_linger_ms(const segue__socket_lease *lease);
/* A further lease that has left: it only keeps the socket open until it is released. [control] */
void segue__socket_keep(const segue__socket_lease *lease, segue__socket_lease *out);
/* Leaves, and returns the lease. The last one closes the socket unless it was passed. [any thread]
 */
void segue__socket_release(segue__socket_lease *lease);
/* The address as it is bound. NULL: no lease. */
const segue__address *segue__socket_address(const segue__socket_lease *lease);
/* Whether the file of a unix socket is still at its path. [control] */
bool segue__socket_has_file(const segue__socket_lease *lease);
/* The file at the path belongs to another process from now on, or is gone: release does not remove
 * it, and the address counts as free. [control] */
void segue__socket_disown(const segue__socket_lease *lease);
/* Shuts the socket down for all its duplicates, where no other process has it: for a thread that
 * does not come back and so cannot close its own. [control] */
void segue__socket_shut(const segue__socket_lease *lease);

#endif
