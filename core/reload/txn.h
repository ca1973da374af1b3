/* SPDX-License-Identifier: MIT
 *
 * txn.h: one run through its phases: its data, and what its parts may call. The phases are in
 * phases.c, the steps of the policy in txn_steps.c, the end in txn_end.c.
 */
#ifndef SEGUE_RELOAD_TXN_H
#define SEGUE_RELOAD_TXN_H

#include "txn_data.h"

/* How far a transaction has come. It only increases; an undo does not change it. */
typedef enum segue__txn_state {
  SEGUE__TXN_NEW,      /* its numbers are being reserved: no client may see it */
  SEGUE__TXN_OPEN,     /* nothing is built */
  SEGUE__TXN_PREPARED, /* every next instance is built */
  SEGUE__TXN_LIVE,     /* flipped: readers and callers meet the next generation */
  SEGUE__TXN_CONFIRMED /* it has proved itself, or did not have to */
} segue__txn_state;

/* The number of its generation. */
typedef enum segue__origin {
  SEGUE__LATER,  /* a new one */
  SEGUE__FIRST,  /* a new one, and the first generation of this process: known at commit */
  SEGUE__RESUMED /* the number that the same content had before the daemon was started again */
} segue__origin;

/* The window in which the generation has to be confirmed. */
typedef enum segue__window {
  SEGUE__NO_WINDOW,     /* the state on disk has none for it */
  SEGUE__WINDOW_OPENED, /* by this run */
  SEGUE__WINDOW_RESUMED /* by an earlier process, whose deadline counts */
} segue__window;

struct segue__txn {
  segue__engine *engine;
  segue__queued_run *run;
  segue__result *result; /* its phase is the last one that clients saw */
  segue__policy *policy; /* the one that validates this run: the live one or its successor */

  segue__phase at; /* the row of the table of phases (phases.c) that is under way */
  segue__txn_state state;
  segue__origin origin;
  segue__window window;
  uint64_t phase_start_us;
  segue_error failure; /* the first one; code 0: none (segue__txn_failed) */
  bool rejected;       /* by the policy, before any failure */

  segue__content content;
  segue__guarded guarded;
  segue__change_set set;
  segue__driver driver;
  segue__manual manual;
  segue__txn_writes writes;

  segue_snapshot *next;
  segue_snapshot *was_live; /* after the flip: the one that an undo restores (a reference) */
  segue_snapshot *offered;  /* at a start: the last good generation, as prev of the reload hook */

  /* Operations that are under way; NULL: none. */
  struct segue__collect *collect;
  void (*looked)(segue__txn *txn); /* follows the look */
  struct segue__validate_job *validation;
  segue__policy_call *policy_call; /* check or probe */
  segue__timer timer;              /* deadline of collect, check or a write; pause of confirm */
};

static inline bool segue__txn_failed(const segue__txn *txn) {
  return txn->failure.code != 0;
}

/* phases.c */
int segue__txn_start(segue__engine *engine, segue__queued_run *run); /* 0: takes run */
void segue__txn_free(segue__txn *txn);
void segue__txn_abort(segue__txn *txn); /* shutdown: before the flip undo, after it finish */
void segue__txn_enter(segue__txn *txn, segue__phase phase);
/* The phase that is under way has ended: the table of phases decides what follows. */
void segue__txn_phase_end(segue__txn *txn);
void segue__txn_phase_start(segue__txn *txn, segue__phase at);
void segue__txn_fail_closed(segue__txn *txn);                           /* the daemon shuts down */
void segue__txn_fail_code(segue__txn *txn, int code, const char *what); /* "what: message" */

/* phase_check.c */
void segue__txn_add_findings(segue__txn *txn); /* of the policy, behind the first */
/* Replaces the changes by those against txn->offered. */
void segue__txn_compare_with_offered(segue__txn *txn);

/* phase_collect.c: ends the copying of files, which the generation was made from. */
void segue__txn_take_files(segue__txn *txn);

/* txn_steps.c: the functions of the table that drive prepare, commit and confirm. */
void segue__txn_act(segue__txn *txn);
void segue__txn_next_call(segue__txn *txn);    /* calls back the caller of the phase that ended */
void segue__txn_cancel_steps(segue__txn *txn); /* the daemon shuts down */
/* Remembers the first. Secrets of the next and of the live config are taken out of the sentence. */
void segue__txn_fail(segue__txn *txn, const segue_error *error);
/* Fails it with each error of the list; nothing if there is none. */
void segue__txn_fail_with(segue__txn *txn, const segue__errors *errors, const char *what);
/* Adds an error to the result, without the secrets that it may quote. */
void segue__txn_report(segue__txn *txn, const segue_error *error);

/* txn_end.c */
/* Begins the last phase: makes the generation permanent or, if the transaction has failed or is not
 * live, undoes it; then ends it. */
void segue__txn_conclude(segue__txn *txn);
/* Moves the differences of files into the result. Called again, it adds only those that are new. */
void segue__txn_report_files(segue__txn *txn);
void segue__txn_settle_or_undo(segue__txn *txn); /* that phase */
/* Fills in the result and hands it to the engine, which frees the transaction. Nothing may be built
 * or left to undo. */
void segue__txn_end(segue__txn *txn, segue__outcome outcome);

/* The call for a request to the record thread, for segue__txn_record. cb: NULL, or a function that
 * ends by segue__txn_recorded. */
segue__record_call *segue__txn_call_new(segue__txn *txn, void (*cb)(segue__record_call *call,
                                                                    segue__record_answer *answer));
/* Waits for the answer to that call, at most RECORD_MS, then calls `then`; error NULL: the
 * write succeeded. status: the return value of the request. */
enum { SEGUE__RECORD_MS = 5000 };
void segue__txn_record(segue__txn *txn, int status,
                       void (*then)(segue__txn *txn, const segue_error *error));
void segue__txn_recorded(segue__record_call *call,
                         segue__record_answer *answer); /* the call's cb */
/* confirm.c: an instance failed while the transaction runs. A new one fails the transaction; any
 * one that is live while the generation waits to be confirmed undoes the generation. Otherwise the
 * failure is handled when the transaction ends. */
void segue__txn_instance_failed(segue__txn *txn, const segue__module_record *module,
                                const segue__instance *instance);

#endif
