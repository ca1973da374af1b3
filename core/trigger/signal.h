/* SPDX-License-Identifier: MIT
 *
 * signal.h: signals as callbacks on the loop. Only where the process is ours: embedded, the library
 * takes no signals. Control thread.
 */
#ifndef SEGUE_TRIGGER_SIGNAL_H
#define SEGUE_TRIGGER_SIGNAL_H

#include "../os/loop.h"

/* "HUP" or "SIGHUP", in any case -> its number; UV_EINVAL for a name that is unknown or that no
 * handler may have. */
int segue__signal_parse(const char *name, int *out);
/* "SIGHUP"; a phrase for a number without a name here. */
const char *segue__signal_name(int signum);

/* Calls cb for each delivery; the kernel merges signals that arrive faster than they are read.
 * Needs a real loop. */
typedef struct segue__signal segue__signal;
int segue__signal_new(segue__signal **out, segue__loop *loop, int signum,
                      void (*cb)(void *data, int signum), void *data);
/* When this returns, the signal has its default action again, unless another handle listens for it;
 * closed_cb (may be NULL) runs when the memory is freed. NULL is allowed; then closed_cb runs at
 * once. */
void segue__signal_close(segue__signal *signal, void (*closed_cb)(void *data), void *data);

#endif
