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
  bool early[SEGUE__DAEMON_SIGNALS]; /* arrived before the first load was over */
  bool started;
  segue *instance; /* NULL: signals are dropped */
  void (*on_unwanted)(void *data, const char *message);
  bool (*pass)(void *data, int signum); /* takes a signal that is no trigger; NULL: none does */
  void *data;
} segue__signals;

/* Blocks the signals on this thread: they stay pending. */
void segue__signals_hold(void);
/* Catches the signals, then unblocks them. on_unwanted gets a message about each signal that is no
 * trigger. */
int segue__signals_open(segue__signals *signals, uv_loop_t *loop,
                        void (*on_unwanted)(void *data, const char *message), void *data);
/* Passes signals to this instance from here on; NULL: the instance stops, and signals are
 * dropped. */
void segue__signals_watch(segue__signals *signals, segue *instance);
/* The first load is over: delivers the signals that arrived before. */
void segue__signals_started(segue__signals *signals);
/* Closes the handles; the signals stay blocked. */
void segue__signals_close(segue__signals *signals);

#endif
