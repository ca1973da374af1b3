/* SPDX-License-Identifier: MIT
 *
 * run.h: a run of the queue (queue.c), from its first trigger to its answer, and the clients that
 * wait for it.
 */
#ifndef SEGUE_RELOAD_RUN_H
#define SEGUE_RELOAD_RUN_H

#include "engine_state.h"

/* Whether the run ends without an outcome, and returns to the queue. */
typedef enum segue__put_off {
  SEGUE__RUNS_NOW,
  SEGUE__PUT_OFF,   /* the policy wants it later */
  SEGUE__GOOD_FIRST /* again after the last good generation is live, which a start replays first */
} segue__put_off;

struct segue__queued_run {
  uint64_t id;
  segue__trigger trigger;
  segue__buf cause;
  size_t joined;      /* triggers that came after the first */
  bool explicit_;     /* an explicit request: no debounce */
  bool unconditional; /* at least one trigger without If-Match */
  bool force, plan_only, rehearse;
  segue__put_off put_off;
  bool accept_shrink;  /* a trigger without a waiter, or a waiter that has not left, wants the
                          guards to accept the data */
  bool pull;           /* asynchronous sources are fetched; else their held deliveries are used */
  segue__files *files; /* a replay of these; NULL: the sources are read */
  uint64_t restores;   /* the generation they made */
  bool refreshes;      /* replays the live generation, with the present credentials */
  uint64_t first_ms, due_ms, not_before_ms;
  uint64_t quiet_until_ms; /* the latest moment that an automatic trigger of it waits for */
  /* It waits for values that its templates requested (wants.h): until when (0: it does not), its
   * tries so far, and the policy that was tried, whose sources have the names. */
  uint64_t wait_until_ms, next_try_ms;
  unsigned tries;
  segue__policy *policy;
  segue__waiter *waiters, *last_waiter; /* in order of asking */
};

void segue__run_answer(segue__queued_run *run, int status, segue__result *result); /* all */
void segue__run_wait(segue__queued_run *run, segue__waiter *waiter);               /* joins it */

/* The run has ended: announces its result, answers its waiters, frees txn. */
void segue__engine_finished(segue__engine *engine, segue__txn *txn);

/* ---- The queue, for the other parts ---- */
int segue__queue_new(segue__run_queue **out, segue__engine *engine);
void segue__queue_free(segue__run_queue *queue);  /* NULL allowed */
void segue__queue_close(segue__run_queue *queue); /* answers SEGUE_ECLOSED to all that wait */
/* A replay of the generation that is live after a rollback, with the present credentials. */
int segue__queue_refresh(segue__engine *engine, segue__files *files, uint64_t restores,
                         const char *cause);
bool segue__queue_has_replay(const segue__engine *engine); /* one is pending */
bool segue__queue_kicked(const segue__engine *engine);     /* its message is not delivered yet */
size_t segue__queue_waiting(const segue__engine *engine);  /* triggers of the pending run */
/* Was this content of the sources refused last? outcome: the outcome of that. */
bool segue__queue_refused(const segue__engine *engine, segue__hash raw, segue__outcome *outcome);
/* Whether a file was being written, so that a later run reads it. Returns true if the run before
 * found none. */
bool segue__queue_postpone(segue__engine *engine, bool postponed);

#endif
