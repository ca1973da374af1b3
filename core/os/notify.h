/* SPDX-License-Identifier: MIT
 *
 * notify.h: telling a service manager how things stand, by the datagrams of sd_notify(3). The
 * protocol is ours to speak, without libsystemd; what is said and when is the daemon's affair.
 */
#ifndef SEGUE_OS_NOTIFY_H
#define SEGUE_OS_NOTIFY_H

#include "../segue.h"

typedef struct segue__notify segue__notify;

/* address: what $NOTIFY_SOCKET holds: "/path", or "@name" for an abstract socket. UV_EINVAL for
 * anything else, UV_ENAMETOOLONG past what a socket address can hold. Nothing is sent yet, and it
 * is no error if nobody listens there. */
int segue__notify_open(segue__notify **out, const char *address, segue_error *err);
/* Sends assignments ("READY=1\nSTATUS=...") as one datagram, without waiting. What cannot be sent
 * at once because the reader is behind is kept if that is asked for, in order, and sent before
 * anything later: call segue__notify_flush until it returns 0. Past 64 that are kept the last one
 * gives way, so that the newest is what the reader ends with. Returns 0, UV_EAGAIN (kept or
 * dropped), or another code (nobody listens). */
int segue__notify_send(segue__notify *notify, const char *text, bool keep);
/* Sends what is kept. 0: nothing is left, or nobody wants it any more; UV_EAGAIN: not yet. */
int segue__notify_flush(segue__notify *notify);
/* Sends what is kept, waiting for a second at most. NULL allowed. */
void segue__notify_close(segue__notify *notify);

#endif
