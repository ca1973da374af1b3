/* SPDX-License-Identifier: MIT
 *
 * phases.h: the functions of the table of phases that have files of their own. start: ends by
 * segue__txn_phase_end; cancel: the daemon shuts down.
 */
#ifndef SEGUE_RELOAD_PHASES_H
#define SEGUE_RELOAD_PHASES_H

#include "txn.h"

/* phase_collect.c */
void segue__phase_collect(segue__txn *txn);
void segue__phase_collect_cancel(segue__txn *txn);
void segue__content_deinit(segue__txn *txn);

/* phase_check.c */
void segue__phase_check(segue__txn *txn);
void segue__phase_check_cancel(segue__txn *txn);

#endif
