/* SPDX-License-Identifier: MIT
 *
 * signals.h: the signals that a policy may name as triggers and that end a process which does not
 * catch them. `segue run` catches all of them from its first to its last moment, so that none ends
 * the daemon before its policy is known, or while it stops. Control thread.
 */
#ifndef SEGUE_DAEMON_SIGNALS_H
#define SEGUE_DAEMON_SIGNALS_H

#include <stdbool.h>
#include <uv.h>

#include "../segue.h"

enum { SEGUE__DAEMON_SIGNALS = 8 };

typedef struct segue__signals {
  uv_signal_t handles[SEGUE__DAEMON_SIGNALS];
  bool early[SEGUE__DAEMON_SIGNALS]; /* came before the first load was over */
  bool started;
  segue *instance; /* NULL: nothing is done about them */
  void (*on_unwanted)(void *data, const char *message);
  void *data;
} segue__signals;

/* Blocks them on this thread: they stay pending. */
void segue__signals_hold(void);
/* Catches them, then unblocks them. on_unwanted gets a message about each that no trigger takes. */
int segue__signals_open(segue__signals *signals, uv_loop_t *loop,
                        void (*on_unwanted)(void *data, const char *message), void *data);
/* From here on they are for this instance; NULL: it stops. */
void segue__signals_watch(segue__signals *signals, segue *instance);
/* The first load is over: the policy is known, and signals that came before are delivered. */
void segue__signals_started(segue__signals *signals);
/* Closes the handles; the signals are blocked for good. */
void segue__signals_close(segue__signals *signals);

#endif
