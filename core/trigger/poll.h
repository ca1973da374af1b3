/* SPDX-License-Identifier: MIT
 *
 * poll.h: a timer that comes back, every time a little earlier or later, so that a fleet of daemons
 * started together does not ask its source together. Control thread; any loop.
 */
#ifndef SEGUE_TRIGGER_POLL_H
#define SEGUE_TRIGGER_POLL_H

#include "../os/loop.h"

/* Each pause is drawn at random within this many percent; the mean is the interval itself. */
#define SEGUE__POLL_JITTER_PERCENT 10

/* Caller's memory, zeroed before first use. */
typedef struct segue__poll {
  segue__timer timer;
  segue__loop *loop;
  uint64_t interval_ms, random;
  void (*cb)(void *data);
  void *data;
} segue__poll;

/* First after one interval. seed 0: from the system. cb may stop or start it. */
int segue__poll_start(segue__poll *poll, segue__loop *loop, uint64_t interval_ms, uint64_t seed,
                      void (*cb)(void *data), void *data);
void segue__poll_stop(segue__poll *poll);

#endif
