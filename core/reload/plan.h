/* SPDX-License-Identifier: MIT
 *
 * plan.h: the plan: the modules that a change affects, the action for each, and their order.
 */
#ifndef SEGUE_RELOAD_PLAN_H
#define SEGUE_RELOAD_PLAN_H

#include "action.h"
#include "txn.h"

int segue__plan_make(segue__txn *txn);
const segue__action *segue__action_of(const segue__module_spec *spec);

/* untried.c: lists in the result what comes after prepare. */
int segue__untried_list(segue__txn *txn);

#endif
