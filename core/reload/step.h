/* SPDX-License-Identifier: MIT
 *
 * step.h: a step of a transaction: one action on one module, and the undo log of the steps.
 */
#ifndef SEGUE_RELOAD_STEP_H
#define SEGUE_RELOAD_STEP_H

#include "txn.h"

typedef struct segue__action segue__action;

/* The gate of a module, as its step has moved it. */
typedef enum segue__step_gate {
  SEGUE__STEP_UNTOUCHED,
  SEGUE__STEP_SHUT,    /* shut; the undo log has an entry */
  SEGUE__STEP_REOPENED /* open again; the entry is still there */
} segue__step_gate;

/* The old instance. */
typedef enum segue__old_state {
  SEGUE__OLD_SERVES,
  SEGUE__OLD_EMPTIES, /* every call has to leave it first */
  SEGUE__OLD_STOPPED  /* it has stopped, or is about to: only a fresh instance can replace it */
} segue__old_state;

/* A verb of the reload hook at this step. */
typedef struct segue__manual_step {
  bool busy;        /* a verb is under way */
  bool acted;       /* a verb did the action of the step, or does it */
  segue__over over; /* of a drain: what follows if calls stay inside */
  segue__txn_cb cb; /* of the verb; may be NULL */
  void *cb_data;
  segue__message message; /* its answer */
  segue_error error;
  segue__record_call call; /* its intent is being written */
  segue__timer timer;      /* the deadline of that */
} segue__manual_step;

/* One action on one module. Each group of fields is written by the file above it, and read by the
 * others of the change set. */
struct segue__step {
  /* plan.c */
  segue__txn *txn;
  const segue__action *action;
  const segue__module_spec *spec; /* of the next policy; NULL: it is removed */
  segue__module_record *module;   /* NULL: new, until prepare makes it */
  /* commit.c */
  void (*done)(segue__step *step, int status, const segue_error *error); /* of segue__step_done */
  bool committed;                                                        /* its commit was called */
  segue__step_gate gate;
  /* action.c */
  segue__instance *next, *old;
  segue__instance *fresh; /* undo brings it back in place of an old one that has stopped */
  void (*stopped_cb)(segue__step *step); /* next has stopped */
  bool started;                          /* next has */
  segue__old_state old_state;
  void *data; /* of the action */
  /* effects.c */
  uint64_t intent;   /* in the journal; 0: none */
  bool intent_stays; /* the undo has failed */

  segue__manual_step manual; /* manual.c */
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
/* The old instances retire, the new policy is the live one. */
void segue__commit_settle(segue__txn *txn);
/* Frees the steps; releases the next instances that are not live. */
void segue__change_set_free(segue__txn *txn);
/* Adds the files that the actions change or would change. */
void segue__change_set_report(segue__txn *txn, segue__file_changes *out);
/* Calls the close of each action; recorded: as there. */
void segue__change_set_close(segue__txn *txn, bool recorded);
/* Returns the module that this instance was built for, or NULL: it is not of this transaction. */
segue__module_record *segue__change_set_builds(const segue__txn *txn,
                                               const segue__instance *instance);

#endif
