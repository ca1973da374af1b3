/* SPDX-License-Identifier: MIT
 *
 * Operations that end when the callee calls segue_op_done. That may happen on any thread and at any
 * time, so it does no more than win or lose one atomic exchange and post a message; all decisions
 * are made on the control thread.
 */
#include "op.h"

#include <string.h>

#include "error.h"

enum { IDLE, PENDING, DONE, ORPHANED };

static void op_deliver(segue__message *message);
static void deadline_passed(segue__timer *timer);

#define OP_OF(ptr, member) ((segue_op *)((char *)(ptr)-offsetof(segue_op, member)))

void segue__op_begin(segue_op *op, segue__loop *loop, uint64_t deadline_ms,
                     void (*answered)(segue_op *, int, const segue_error *),
                     void (*finished)(segue_op *), void *data) {
  memset(op, 0, sizeof *op);
  op->answered = answered;
  op->finished = finished;
  op->data = data;
  op->loop = loop;
  op->deadline_ms = deadline_ms;
  op->message.fn = op_deliver;
  __atomic_store_n(&op->state, PENDING, __ATOMIC_RELEASE);
  /* If the timer cannot be set, memory has run out: the operation then has no deadline. */
  if (deadline_ms) (void)segue__timer_start(loop, &op->deadline, deadline_ms, deadline_passed);
}

void segue_op_done(segue_op *op, int status, const segue_error *error) {
  int expected = PENDING;
  if (!__atomic_compare_exchange_n(&op->state, &expected, DONE, false, __ATOMIC_ACQ_REL,
                                   __ATOMIC_ACQUIRE)) {
    __atomic_add_fetch(&op->extra, 1, __ATOMIC_RELAXED);
    return;
  }
  /* After the exchange this thread owns the fields until the message is delivered. */
  op->status = status > 0 ? 0 : status;
  if (error && status < 0)
    op->error = *error;
  else if (status < 0)
    segue__errorf(&op->error, status, "%s", segue_strerror(status));
  segue__post(op->loop, &op->message);
}

void segue_op_retry_after(segue_op *op, uint64_t ms) {
  op->retry_ms = ms;
}

segue *segue_op_owner(const segue_op *op) {
  return segue__loop_owner(op->loop);
}

bool segue_op_cancelled(const segue_op *op) {
  return __atomic_load_n(&op->cancelled, __ATOMIC_ACQUIRE) != 0;
}

void segue__op_on_cancel(segue_op *op, void (*fn)(void *data), void *data) {
  op->on_cancel = fn;
  op->cancel_data = data;
}

uint64_t segue__op_due_ms(const segue_op *op) {
  return segue__timer_active(&op->deadline) ? op->deadline.due_ms : 0;
}

bool segue__op_outstanding(const segue_op *op) {
  return op->loop && !op->is_finished;
}

bool segue__op_orphan(segue_op *op) {
  int expected = PENDING;
  segue__timer_stop(op->loop, &op->deadline);
  return __atomic_compare_exchange_n(&op->state, &expected, ORPHANED, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE);
}

/* The first delivery answers the operation. If a deadline or a cancel answered it before, this one
 * only reports that the callee has finished at last. */
static void op_deliver(segue__message *message) {
  segue_op *op = OP_OF(message, message);
  segue__timer_stop(op->loop, &op->deadline);
  op->is_finished = true;
  op->on_cancel = NULL;
  if (op->was_answered) {
    op->finished(op);
    return;
  }
  op->was_answered = true;
  op->answered(op, op->status, op->status < 0 ? &op->error : NULL);
}

void segue__op_expedite(segue_op *op) {
  __atomic_store_n(&op->cancelled, 1, __ATOMIC_RELEASE);
  void (*on_cancel)(void *) = op->on_cancel;
  op->on_cancel = NULL;
  if (on_cancel) on_cancel(op->cancel_data);
}

/* Answers from a copy: the callee may be writing op->error on another thread at this moment.
 *
 * The operation stays outstanding: the callee must still call segue_op_done, and only then its
 * instance may be destroyed. */
static void op_abandon(segue_op *op, const segue_error *error) {
  op->was_answered = true;
  segue__op_expedite(op);
  op->answered(op, error->code, error);
}

/* A busy loop runs all timers that are due before it delivers messages. An operation that has ended
 * in time must not fail then: its message, which is on its way, has the answer. */
static void deadline_passed(segue__timer *timer) {
  segue_op *op = OP_OF(timer, deadline);
  segue_error error;
  if (__atomic_load_n(&op->state, __ATOMIC_ACQUIRE) == DONE) return;
  segue__errorf(&error, SEGUE_ETIMEOUT, "not done after %llu ms",
                (unsigned long long)op->deadline_ms);
  op_abandon(op, &error);
}

static void op_cancel_now(segue__timer *timer) {
  segue_op *op = OP_OF(timer, deadline);
  segue_error error = {0};
  int code = (int)(intptr_t)timer->data;
  segue__errorf(&error, code, "%s", segue_strerror(code));
  op_abandon(op, &error);
}

/* The answer comes from a timer of 0 ms, never inside this call: the caller may be in the middle of
 * a change that the answer would see half done. */
void segue__op_cancel(segue_op *op, int code) {
  if (op->was_answered || op->is_finished) return;
  op->deadline.data = (void *)(intptr_t)code;
  (void)segue__timer_start(op->loop, &op->deadline, 0, op_cancel_now);
}
