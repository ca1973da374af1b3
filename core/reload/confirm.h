/* SPDX-License-Identifier: MIT
 *
 * confirm.h: a new generation proves itself to a probe or an operator, or is undone.
 */
#ifndef SEGUE_RELOAD_CONFIRM_H
#define SEGUE_RELOAD_CONFIRM_H

#include "txn.h"

/* An operator decides about a generation that waits to be confirmed. */
typedef enum segue__decision { SEGUE__UNDECIDED, SEGUE__CONFIRM, SEGUE__TAKE_BACK } segue__decision;

/* One for an engine: its data are those of the transaction that runs. reset: another one begins. */
int segue__confirm_new(segue__confirm **out);
void segue__confirm_free(segue__confirm *confirm); /* NULL allowed */
void segue__confirm_reset(segue__confirm *confirm);
/* Of the generation that waits: an operator is waited for; the end of its time, 0: none is open. */
bool segue__confirm_by_operator(const segue__txn *txn);
uint64_t segue__confirm_until_ms(const segue__txn *txn);
void segue__confirm_run(segue__txn *txn);    /* ends by segue__txn_step_end */
void segue__confirm_cancel(segue__txn *txn); /* the daemon shuts down */

void segue__txn_decide(segue__txn *txn, segue__decision decision, const char *by);

#endif
