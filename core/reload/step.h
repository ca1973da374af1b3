/* SPDX-License-Identifier: MIT
 *
 * step.h: a step of a transaction: one action on one module, and the undo log of the steps.
 */
#ifndef SEGUE_RELOAD_STEP_H
#define SEGUE_RELOAD_STEP_H

#include "txn.h"

typedef struct segue__action segue__action;

struct segue__step {
  const segue__action *action;
  const segue__module_spec *spec; /* of the next policy; NULL: it is removed */
  segue__module_record *module;   /* NULL: new, until prepare makes it */
  segue__instance *next, *old;
  segue__instance *fresh; /* undo brings it back in place of an old one that was stopped */
  segue__txn *txn;
  void (*done)(segue__step *step, int status, const segue_error *error); /* of segue__step_done */
  void (*stopped_cb)(segue__step *step);                                 /* next has stopped */
  bool started;                                                          /* next has */
  bool undo_failed;
  uint64_t intent; /* in the journal; 0: none */
  void *data;      /* the action's */
  bool stopped;    /* old has, or is about to */

  /* Manual steps. */
  bool shut, was_shut;    /* its gate is; or was, and the undo log has an entry */
  bool acted;             /* its action was done, or is running */
  bool busy;              /* a verb is under way */
  bool waits_for_leaving; /* every call has to leave the old one first */
  segue__over over;       /* manual steps: what to do if they do not */
  segue__txn_cb cb;       /* of the verb; may be NULL */
  void *cb_data;
  segue__message message;
  segue_error error;
  segue__record_call call; /* the intent of a manual step is being written */
  segue__timer timer;      /* its deadline */
};

/* An entry of the undo log: a function that undoes one thing, and ends by segue__undo_done. */
typedef void segue__undo_fn(segue__txn *txn, segue__step *step);
struct segue__undo {
  segue__undo_fn *fn;
  segue__step *step; /* NULL: not of one module */
};

/* ---- commit.c: each ends by txn->step_cb ---- */
void segue__prepare_run(segue__txn *txn);
void segue__commit_run(segue__txn *txn);
/* Calls the commit of the step's action, which ends by done. */
void segue__step_commit(segue__step *step,
                        void (*done)(segue__step *step, int status, const segue_error *error));
/* Ends the waits of the running step early. */
void segue__commit_expedite(segue__txn *txn);
/* The daemon stops: cancels the commit, and the instances that it builds. */
void segue__commit_abandon(segue__txn *txn);
/* The process stops: no commit and no undo waits longer than it has to. */
void segue__commit_hurry(segue__txn *txn);
/* Shuts the gate of a step, with its inverse on the undo log; fails for lack of memory. */
int segue__step_shut(segue__txn *txn, segue__step *step);
/* "module 'x': 2 are still inside after 500 ms", with the code of a time limit. */
void segue__still_inside(const segue__step *step, segue_error *error);
/* Opens its gate to the instance that is live, if it is shut. */
void segue__step_open_again(segue__step *step);
int segue__undo_push(segue__txn *txn, segue__undo_fn *fn, segue__step *step);
void segue__undo_done(segue__txn *txn); /* the entry under way is undone */
void segue__undo_run(segue__txn *txn, void (*undone)(segue__txn *txn));
void segue__txn_step_end(segue__txn *txn, const segue_error *error); /* NULL: good */
void segue__commit_settle(
    segue__txn *txn); /* the old ones retire, the new policy is the live one */

#endif
