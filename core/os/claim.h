/* SPDX-License-Identifier: MIT
 *
 * claim.h: decides between a job that is about to change something and the control thread that
 * abandons the job: exactly one of both wins. A thread that hangs in the kernel cannot be
 * interrupted, so an abandoned job may continue hours later, when its change is undone and another
 * one is live. Zeroed before first use.
 */
#ifndef SEGUE_OS_CLAIM_H
#define SEGUE_OS_CLAIM_H

#include <stdbool.h>

typedef struct segue__claim {
  int winner; /* 0: undecided; atomic */
} segue__claim;

/* The worker, right before it changes something. Returns false if the job is abandoned: it must
 * change nothing. [any thread] */
bool segue__claim_act(segue__claim *claim);
/* The control thread, before it abandons the job. Returns false if the job acts already. */
bool segue__claim_cancel(segue__claim *claim);

#endif
