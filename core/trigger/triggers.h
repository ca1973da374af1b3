/* SPDX-License-Identifier: MIT
 *
 * triggers.h: the triggers that a policy names, except its listeners: signals, file watch, polls.
 * They change with the policy, inside the transaction: see segue__triggers_ops. Control thread.
 */
#ifndef SEGUE_TRIGGER_TRIGGERS_H
#define SEGUE_TRIGGER_TRIGGERS_H

#include "../reload/engine.h"

typedef struct segue__triggers segue__triggers;

typedef struct segue__triggers_options {
  size_t size; /* sizeof(segue__triggers_options) */
  segue__loop *loop;
  const segue__logger *log;
  bool signals;  /* false: signal triggers are left out (embedded) */
  uint64_t seed; /* of the polls' jitter; 0: from the system */
  /* Requests a reload; cause ("SIGHUP", "config.yaml changed", "poll every 30s") is borrowed. May
   * be called between stage and settle. */
  void (*on_trigger)(void *data, segue__trigger trigger, const char *cause);
  /* A signal that the policy names with the action "reopen". NULL: it does nothing. */
  void (*on_reopen)(void *data, const char *cause);
  /* When the running transaction began to read (wall clock). A path that is watched for the first
   * time and was touched since then requests one more reload once the policy is live, because no
   * event reported the change. NULL: a minute ago. */
  int64_t (*since_wall_ms)(void *data);
  void *data;
} segue__triggers_options;

int segue__triggers_new(segue__triggers **out, const segue__triggers_options *options);
/* Sets up the triggers of next that the live policy lacks; the live triggers continue. A trigger
 * that both have is not touched: a poll keeps its rhythm. New polls start with settle. Errors are
 * added. */
int segue__triggers_stage(segue__triggers *triggers, const segue__policy *next,
                          segue__errors *errors);
void segue__triggers_settle(segue__triggers *triggers);
void segue__triggers_discard(segue__triggers *triggers);
/* Returns whether there is a trigger for this signal. */
bool segue__triggers_take(const segue__triggers *triggers, int signum);
/* Runs the trigger of a signal that arrived before the trigger existed; returns false if there is
 * none. */
bool segue__triggers_deliver(segue__triggers *triggers, int signum);
/* See segue__watch_problem; NULL if there is none. */
const char *segue__triggers_problem(const segue__triggers *triggers);
/* Closes the set. No callback comes after this call; cb runs when every handle is closed and the
 * set freed. NULL is allowed; then cb runs at once. */
void segue__triggers_close(segue__triggers *triggers, void (*cb)(void *data), void *data);

#endif
