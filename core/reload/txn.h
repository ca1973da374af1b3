/* SPDX-License-Identifier: MIT
 *
 * txn.h: one run through its phases: its data, and what its parts may call. The phases are in
 * phases.c, the steps of the policy in txn_steps.c, the end in txn_end.c.
 */
#ifndef SEGUE_RELOAD_TXN_H
#define SEGUE_RELOAD_TXN_H

#include "engine_state.h"

typedef struct segue__step segue__step;
typedef struct segue__policy_call segue__policy_call;
typedef struct segue__undo segue__undo;

/* How far the undo log has come. */
typedef enum segue__undo_state {
  SEGUE__UNDO_DONE,
  SEGUE__UNDO_CALLED, /* the function of an entry has not returned */
  SEGUE__UNDO_WAITS   /* it has returned, and segue__undo_done will follow */
} segue__undo_state;

/* A write to the state folder at the end of a transaction. */
typedef enum segue__write_kind {
  SEGUE__WRITE_GOOD,  /* the last good generation */
  SEGUE__WRITE_STATE, /* the decisions, with the intents that are open */
  SEGUE__WRITE_CLOSED /* the same, after the intents of the transaction were removed */
} segue__write_kind;
enum { SEGUE__RECORD_MS = 5000 }; /* how long a transaction waits for a write */

/* How far a transaction has come. It only increases; an undo does not change it. */
typedef enum segue__txn_state {
  SEGUE__TXN_OPEN,     /* nothing is built */
  SEGUE__TXN_PREPARED, /* every next instance is built */
  SEGUE__TXN_LIVE,     /* flipped: readers and callers meet the next generation */
  SEGUE__TXN_CONFIRMED /* it has proved itself, or did not have to */
} segue__txn_state;

/* guard.c: the number of items that each source of the policy delivered, and findings. */
typedef struct segue__guarded {
  segue__source_counts counts;
  segue__errors held;
} segue__guarded;

struct segue__txn {
  segue__engine *engine;
  segue__queued_run *run;
  segue__result *result;
  segue__phase phase;
  uint64_t phase_start_us;

  segue__policy *policy; /* the one that judges this run: the live one or its successor */
  struct segue__collect *collect;
  struct segue__validate_job *validation;
  segue__document *schema_doc;  /* a reference, NULL: the policy has no schema */
  segue__documents schema_with; /* beside it, as policy->schema_with */
  segue__hash schema_hash;      /* of all their bytes and names */
  segue_snapshot *next;
  segue_snapshot *was_live; /* after the flip: what undo brings back (a reference) */
  segue_snapshot
      *offered; /* at a start: the last good generation, as prev of the policy's reload */
  segue__hash input, raw;
  segue__changes changes;
  segue__guarded guarded;
  segue__errors warnings; /* of collect; they follow the reasons of the outcome */

  segue__step *steps;
  size_t step_count;
  size_t cursor; /* step that prepare or commit is at */
  segue__undo *undo;
  size_t undo_count, undo_capacity;
  segue__undo_state undo_state;
  segue__txn_state state;
  segue__phase at; /* the row of the table of phases (phases.c) that is under way */
  bool rejected, staged;

  segue_error failure; /* code 0: none */
  bool failed;
  bool hook_failed;                         /* the policy's reload returned it or threw it */
  segue__policy_call *policy_call;          /* check or probe that is running */
  size_t manual_steps;                      /* verbs of txn.module that are under way */
  void (*manual_steps_cb)(segue__txn *txn); /* the hook has returned: what follows the last one */
  segue__policy_call *reload_call; /* the policy's reload, which spans prepare to confirm */
  segue__timer timer;              /* collect's deadline, confirm's pauses, the record's deadline */
  segue__record_call call;         /* to the record */
  void (*recorded)(segue__txn *txn, const segue_error *error); /* what follows it */
  void (*looked)(segue__txn *txn); /* what follows the look that is under way; NULL: none is */
  bool begun;                      /* its numbers are reserved: clients may see it */
  segue__files *files;             /* what the generation was made from */
  bool first_here;                 /* the first one of this process */
  bool resumed;         /* it has the number that it had before the daemon was started again */
  bool new_credentials; /* than those that the live policy was made with */
  segue__write_kind writes[3]; /* what is written at the end, in this order */
  size_t write_count, write_next;
  bool unrecorded; /* one of them has failed */
  bool opened;     /* the state on disk has it as unconfirmed */
  bool own_window; /* and this process has opened the window */
  bool good_first; /* it runs again, after the last good generation is live */

  /* The call in flight of prepare, commit or confirm. */
  segue__txn_cb step_cb;
  void *step_data;
  segue__message step_message; /* answers that are known at once still come later */
  bool step_posted;
  bool step_refused; /* the call could not begin a phase */
  void (*undone)(segue__txn *txn);
};

/* phases.c */
int segue__txn_start(segue__engine *engine, segue__queued_run *run); /* 0: takes run */
void segue__txn_abort(segue__txn *txn); /* shutdown: before the flip undo, after it finish */
void segue__txn_enter(segue__txn *txn, segue__phase phase);
/* The phase that is under way has ended: the table of phases decides what follows. */
void segue__txn_phase_end(segue__txn *txn);
void segue__txn_phase_start(segue__txn *txn, segue__phase at);
void segue__txn_fail_closed(segue__txn *txn);                           /* the daemon shuts down */
void segue__txn_fail_code(segue__txn *txn, int code, const char *what); /* "what: message" */
/* Adds the changes to the result once the mask is known: a value that is secret on either side is
 * hidden. */
void segue__txn_report_changes(segue__txn *txn);
void segue__txn_add_findings(segue__txn *txn); /* of the policy, behind the first */

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
void segue__txn_settle_or_undo(segue__txn *txn); /* that phase */
/* Fills in the result and hands it to the engine, which frees the transaction. Nothing may be built
 * or left to undo. */
void segue__txn_end(segue__txn *txn, segue__outcome outcome);

/* Waits for the record's answer to txn->call, at most RECORD_MS, then runs `recorded`; error NULL:
 * it is written. status: the return value of the request. */
void segue__txn_record(segue__txn *txn, int status,
                       void (*recorded)(segue__txn *txn, const segue_error *error));
void segue__txn_recorded(segue__record_call *call,
                         segue__record_answer *answer); /* the call's cb */
/* confirm.c: an instance failed while the transaction runs. A new one fails the transaction; any
 * one that is live while the generation waits to be confirmed undoes the generation. Otherwise the
 * failure is handled when the transaction ends. */
void segue__txn_instance_failed(segue__txn *txn, const segue__module_record *module,
                                const segue__instance *instance);

#endif
