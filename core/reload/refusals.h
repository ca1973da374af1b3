/* SPDX-License-Identifier: MIT
 *
 * refusals.h: the calls of a reload hook that are refused.
 */
#ifndef SEGUE_RELOAD_REFUSALS_H
#define SEGUE_RELOAD_REFUSALS_H

#include "txn.h"

/* A verb that is in order, but that this module cannot do: a code and the reason. */
int segue__txn_impossible(const segue__txn *txn, segue__txn_call call, const char *module,
                          segue_error *error);

#endif
