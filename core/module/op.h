/* SPDX-License-Identifier: MIT
 *
 * op.h: one call to somebody else's code (a module operation, a policy hook) that ends whenever
 * that code says so. The caller gets exactly one answer, in time; the callee may finish on any
 * thread, late, or twice, without harm. Control thread unless marked.
 */
#ifndef SEGUE_MODULE_OP_H
#define SEGUE_MODULE_OP_H

#include "../os/loop.h"
#include "../segue.h"

/* answered runs once, on the control thread, never before the callee was called: status 0, the
 * callee's error, or SEGUE_ETIMEOUT. finished runs once when the callee is really through: right
 * before answered, or later if the deadline passed first; only after it may the op's memory go.
 * Either may free the memory that holds the op. */
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
  int extra;     /* atomic: how often done came again */
  bool was_answered, is_finished;
  uint64_t deadline_ms;
};

/* Begins. deadline_ms 0 = none. Then call the callee. */
void segue__op_begin(segue_op *op, segue__loop *loop, uint64_t deadline_ms,
                     void (*answered)(segue_op *, int, const segue_error *),
                     void (*finished)(segue_op *), void *data);
/* Cancels now: the deadline passes at once, with this code as the answer (delivered later, like
 * every answer). Harmless once it is answered. */
void segue__op_cancel(segue_op *op, int code);
/* Tells the callee that nobody needs it any longer, and waits for it as before. */
void segue__op_expedite(segue_op *op);
/* The callee, on the control thread, wants to be told the moment the op is cancelled. One per op;
 * NULL takes it back. */
void segue__op_on_cancel(segue_op *op, void (*fn)(void *data), void *data);
/* Begun and not through. */
bool segue__op_outstanding(const segue_op *op);
/* Gives up on a callee for good, at shutdown: a done that is still to come will touch nothing but
 * the op itself, which therefore must stay allocated. False if a done is already on its way: then
 * `finished` still comes. */
bool segue__op_orphan(segue_op *op);

#endif
