/* SPDX-License-Identifier: MIT
 *
 * budget.h: the signal with which this process stops scripts that run too long.
 */
#ifndef SEGUE_DAEMON_BUDGET_H
#define SEGUE_DAEMON_BUDGET_H

/* Installs the handler and returns the number of the signal; 0 if that fails (then scripts are
 * stopped by counting their steps). */
int segue__budget_signal(void);

#endif
