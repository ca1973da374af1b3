/* SPDX-License-Identifier: MIT
 *
 * operator.h: the operators' decisions: freeze, confirm, rollback.
 */
#ifndef SEGUE_RELOAD_OPERATOR_H
#define SEGUE_RELOAD_OPERATOR_H

#include "txn.h"

/* found: the decisions in the state folder; NULL: there is none. */
int segue__operator_new(segue__operator **out, const segue__decisions *found);
void segue__operator_free(segue__operator *operators); /* NULL allowed */
const segue__decisions *segue__operator_decisions(const segue__engine *engine);
/* A write of the decisions failed: the tick repeats it. */
void segue__operator_write_failed(segue__engine *engine);

/* Writes the decisions and the open intents, as one. call may be NULL. */
int segue__operator_write(segue__engine *engine, segue__record_call *call);
/* A generation that a rollback brought back is live, and credentials of its listeners have changed:
 * it is brought back again, with the present ones. */
void segue__operator_refresh(segue__engine *engine);
void segue__operator_remove(segue__engine *engine, const segue__waiter *waiter);
/* Returns whether the files of a rollback that the start resumes are being looked up. */
bool segue__operator_resuming(const segue__engine *engine);
/* Was this content undone or reverted before, so that it does not go live again by itself? why: the
 * error message; outcome: the outcome of a request for it. */
bool segue__operator_postpone(const segue__txn *txn, segue_error *why, segue__outcome *outcome);
/* Before the flip of a generation that has to be confirmed: durable, then cb. */
void segue__operator_open(segue__txn *txn);
/* Has an operator, or a probe, to confirm it? A generation from before a restart, and its replay,
 * were confirmed then and are not confirmed twice. */
bool segue__operator_asks_operator(const segue__txn *txn);
bool segue__operator_asks_probe(const segue__txn *txn);
/* The live generation, which txn made, could not be kept: it is tried again by every tick. txn
 * NULL: there is none like that. */
void segue__unkept_set(segue__engine *engine, segue__txn *txn);
/* Returns true if the run has to wait until the last good generation is live, whose replay it
 * requests: the run would make the first generation of this process, which would wait to be
 * confirmed, and its undo needs a live generation to return to. */
bool segue__operator_good_first(segue__txn *txn);
/* The generation of the run is live, or the run has ended. */
void segue__operator_started(const segue__txn *txn);
/* An unconfirmed generation was undone. Returns true if the state has to be written before the
 * answer. */
bool segue__operator_pins(const segue__txn *txn); /* will the next function pin the sources? */
bool segue__operator_undone(segue__txn *txn);
/* Updates the decisions after a settled run. Returns true if they changed and have to be written.
 */
bool segue__operator_settle(segue__txn *txn);
uint64_t segue__operator_left_ms(const segue__txn *txn); /* of the time to confirm */
int segue__operator_request(segue__engine *engine, const segue__reload_request *request);
void segue__operator_close(segue__engine *engine); /* answers SEGUE_ECLOSED to all that wait */

#endif
