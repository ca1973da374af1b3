/* SPDX-License-Identifier: MIT
 *
 * op.h: one call to foreign code (a module operation, a policy hook) that ends when that code calls
 * segue_op_done. The caller gets exactly one answer, at the latest at the deadline; the callee may
 * finish on any thread, late, or twice, without harm. Control thread unless marked.
 */
#ifndef SEGUE_OS_OP_H
#define SEGUE_OS_OP_H

#include "../segue.h"
#include "loop.h"

/* answered runs once, on the control thread, never before the callee was called: status 0, the
 * callee's error, or SEGUE_ETIMEOUT. finished runs once when the callee is done: right before
 * answered, or later if the deadline passed first; only then may the op be freed. Either may free
 * the memory that holds the op. */
struct segue_op {
  void (*answered)(segue_op *op, int status, const segue_error *error);
  void (*finished)(segue_op *op); /* only called when it comes after `answered` */
  void *data;

  /* Private. */
  segue__loop *loop;
  segue__message message;
  segue__timer deadline;
  void (*on_cancel)(void *data);
  void *cancel_data;
  segue_error error;
  int status;
  int state;     /* atomic: enum in op.c */
  int cancelled; /* atomic */
  int extra;     /* atomic: number of further calls of segue_op_done */
  bool was_answered, is_finished;
  bool scripted; /* set by the callee: its error message was made by a script and may quote
                    anything that the script has read */
  uint64_t deadline_ms;
  uint64_t retry_ms; /* of a source that is busy: see segue_op_retry_after; 0: not known */
};

/* When the deadline passes, by segue__loop_now_ms; 0: the operation has none. */
uint64_t segue__op_due_ms(const segue_op *op);
/* Begins. deadline_ms 0 = none. Then call the callee. */
void segue__op_begin(segue_op *op, segue__loop *loop, uint64_t deadline_ms,
                     void (*answered)(segue_op *, int, const segue_error *),
                     void (*finished)(segue_op *), void *data);
/* Cancels now: the deadline passes at once, with this code as the answer (delivered later, like
 * every answer). Harmless once it is answered. */
void segue__op_cancel(segue_op *op, int code);
/* Signals the callee by segue_op_cancelled that its result is not needed, and still waits for
 * it. */
void segue__op_expedite(segue_op *op);
/* For the callee, on the control thread: fn is called the moment the op is cancelled. One per op;
 * NULL removes it. */
void segue__op_on_cancel(segue_op *op, void (*fn)(void *data), void *data);
/* Returns whether it has begun and not ended. */
bool segue__op_outstanding(const segue_op *op);
/* Abandons the callee at shutdown: a later segue_op_done will write to nothing but the op itself,
 * which therefore must stay allocated. Returns false if a done is already posted: then `finished`
 * still runs. */
bool segue__op_orphan(segue_op *op);

#endif
