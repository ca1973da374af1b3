/* SPDX-License-Identifier: MIT
 *
 * guard.h: guards of sources: too little, too old.
 */
#ifndef SEGUE_RELOAD_GUARD_H
#define SEGUE_RELOAD_GUARD_H

#include "txn.h"

typedef struct segue__collect segue__collect;

/* Check fills txn->held and txn->items from what was collected; hold fails the transaction
 * if that is something. settle: what is live now is what the next run is compared with. */
int segue__guards_check(segue__txn *txn, const segue__collect *collect);
bool segue__guards_hold(segue__txn *txn);
void segue__guards_settle(segue__txn *txn);

#endif
