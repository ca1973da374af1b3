/* SPDX-License-Identifier: MIT
 *
 * effects.h: intents of effects outside memory, and their recovery.
 */
#ifndef SEGUE_RELOAD_EFFECTS_H
#define SEGUE_RELOAD_EFFECTS_H

#include "step.h"

/* keep: the undo of the step has failed, so that its intent stays in the journal. */
void segue__effects_keep(segue__step *step);
/* intend: adds the intent of a step to the journal, in memory. intend_all: of all that
 * are not committed yet; any: there is one. close: removes them, in memory. */
int segue__effects_intend(segue__step *step, segue_error *error);
int segue__effects_intend_all(segue__txn *txn, bool *any, segue_error *error);
bool segue__effects_any(const segue__txn *txn);
/* Returns whether the intent with this number is of a step of the transaction. */
bool segue__effects_running(const segue__txn *txn, uint64_t intent);
void segue__effects_close(segue__txn *txn);
/* Returns 0 unless an earlier change of the module is open. */
int segue__effects_check(const segue__step *step, segue_error *error);
/* Intents are open that no transaction works on. recover: gives them to their actions, then calls
 * `then`. */
bool segue__effects_open(const segue__engine *engine);
int segue__effects_recover(segue__engine *engine, void (*then)(segue__engine *engine));

#endif
