/* SPDX-License-Identifier: MIT
 *
 * manual.h: what a policy does with modules one by one.
 */
#ifndef SEGUE_RELOAD_MANUAL_H
#define SEGUE_RELOAD_MANUAL_H

#include "step.h"

segue__step *segue__txn_step(const segue__txn *txn, const char *name); /* NULL: none */
/* Detaches the callbacks of the verbs that are running. cb: all of them have ended. */
void segue__manual_steps_release(segue__txn *txn, void (*cb)(segue__txn *txn));

#endif
