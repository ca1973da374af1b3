/* SPDX-License-Identifier: MIT
 *
 * confirm.h: a new generation proves itself to a probe or an operator, or is undone.
 */
#ifndef SEGUE_RELOAD_CONFIRM_H
#define SEGUE_RELOAD_CONFIRM_H

#include "txn.h"

void segue__confirm_run(segue__txn *txn);    /* ends by segue__txn_step_end */
void segue__confirm_cancel(segue__txn *txn); /* the daemon shuts down */

/* An operator decides about a generation that waits to be confirmed. */
typedef enum segue__decision { SEGUE__CONFIRM = 1, SEGUE__TAKE_BACK } segue__decision;
void segue__txn_decide(segue__txn *txn, segue__decision decision, const char *by);

#endif
