/* SPDX-License-Identifier: MIT
 *
 * budget.h: the signal with which this process cuts scripts that run too long.
 */
#ifndef SEGUE_DAEMON_BUDGET_H
#define SEGUE_DAEMON_BUDGET_H

/* Installs the handler and returns the signal's number; 0 if that cannot be done (scripts are then
 * cut by counting their steps). */
int segue__budget_signal(void);

#endif
