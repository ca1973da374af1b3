/* SPDX-License-Identifier: MIT
 *
 * guard.h: guards of sources: too little, too old.
 */
#ifndef SEGUE_RELOAD_GUARD_H
#define SEGUE_RELOAD_GUARD_H

#include "txn.h"

typedef struct segue__collect segue__collect;

/* check: counts the items of each source, and collects the findings of the guards. hold: fails the
 * transaction if there are findings; returns whether there are. settle: the next run is compared
 * with these counts. take_counts: moves
 * them. deinit: before the transaction is freed. */
int segue__guards_check(segue__txn *txn, const segue__collect *collect);
bool segue__guards_hold(segue__txn *txn);
void segue__guards_settle(segue__txn *txn);
void segue__guards_take_counts(segue__txn *txn, segue__source_counts *out);
void segue__guards_deinit(segue__txn *txn);

#endif
