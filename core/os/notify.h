/* SPDX-License-Identifier: MIT
 *
 * notify.h: reports the state of the process to a service manager, by the datagrams of
 * sd_notify(3), without libsystemd. The daemon decides which messages to send, and when.
 */
#ifndef SEGUE_OS_NOTIFY_H
#define SEGUE_OS_NOTIFY_H

#include "../segue.h"

typedef struct segue__notify segue__notify;

/* address: the value of $NOTIFY_SOCKET: "/path", or "@name" for an abstract socket. Returns
 * UV_EINVAL for anything else, UV_ENAMETOOLONG if it does not fit into a socket address. Sends
 * nothing yet, and succeeds even if no process listens there. */
int segue__notify_open(segue__notify **out, const char *address, segue_error *err);
/* Sends assignments ("READY=1\nSTATUS=...") as one datagram, without waiting. If the reader is
 * behind and `keep` is set, the message is queued, in order, and sent before any later one: call
 * segue__notify_flush until it returns 0. Past 64 queued messages the new one replaces the last, so
 * that the reader ends with the newest state. Returns 0, UV_EAGAIN (queued or dropped), or another
 * code (no process listens). */
int segue__notify_send(segue__notify *notify, const char *text, bool keep);
/* Sends the queued messages. 0: none is left, or no process reads them any more; UV_EAGAIN: not
 * yet. */
int segue__notify_flush(segue__notify *notify);
/* Sends the queued messages, waiting for a second at most. NULL allowed. */
void segue__notify_close(segue__notify *notify);

#endif
