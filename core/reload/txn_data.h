/* SPDX-License-Identifier: MIT
 *
 * txn_data.h: the data of the parts of a transaction. Each struct has one owner, which is named
 * above it: only that file writes the fields. The others read them, or call the owner.
 */
#ifndef SEGUE_RELOAD_TXN_DATA_H
#define SEGUE_RELOAD_TXN_DATA_H

#include "engine_state.h"

typedef struct segue__txn segue__txn;
typedef struct segue__step segue__step;
typedef struct segue__undo segue__undo;
typedef struct segue__policy_call segue__policy_call;

/* phase_collect.c (the schema that was read, hashes) and phase_check.c (changes): what the
 * generation is made from. */
typedef struct segue__content {
  segue__document *schema_doc;  /* a reference, NULL: the policy has no schema */
  segue__documents schema_with; /* beside it, as policy->schema_with */
  segue__hash schema_hash;      /* of all their bytes and names */
  segue__hash input, raw;       /* of everything; of the sources only */
  segue__changes changes;       /* against the live generation */
  segue__errors warnings;       /* of collect; they follow the reasons of the outcome */
  segue__files *files;          /* all files that were read; NULL before the end of the run */
  bool new_credentials;         /* than those that the live policy was made with */
} segue__content;

/* guard.c: the number of items that each source of the policy delivered, and findings. */
typedef struct segue__guarded {
  segue__source_counts counts;
  segue__errors held;
} segue__guarded;

/* How far the undo log has come. */
typedef enum segue__undo_state {
  SEGUE__UNDO_DONE,
  SEGUE__UNDO_CALLED, /* the function of an entry has not returned */
  SEGUE__UNDO_WAITS   /* it has returned, and segue__undo_done will follow */
} segue__undo_state;

/* commit.c, made by plan.c: a step for each module, in the order of commit, and the undo log. */
typedef struct segue__change_set {
  segue__step *steps;
  size_t count;
  size_t cursor; /* the step that prepare or commit is at */
  segue__undo *undo;
  size_t undo_count, undo_capacity;
  segue__undo_state undo_state;
  void (*undone)(segue__txn *txn); /* follows the last entry */
  bool staged;                     /* the triggers of the next policy are open */
} segue__change_set;

/* The call of prepare, commit or confirm that is under way. */
typedef enum segue__call_state {
  SEGUE__CALL_OPEN,   /* there is none, or its phase runs */
  SEGUE__CALL_ENDED,  /* its phase has ended: its callback is posted */
  SEGUE__CALL_REFUSED /* it could not begin a phase: its callback is posted */
} segue__call_state;

/* txn_steps.c: the caller that drives prepare, commit and confirm: the
 * reload hook of the policy or, where there is none, the default. */
typedef struct segue__driver {
  segue__policy_call *reload; /* the hook, which spans prepare to confirm; NULL: none runs */
  bool failed;                /* the hook returned the failure of the transaction, or threw it */
  segue__txn_cb cb;           /* of the call under way; NULL: there is none */
  void *data;
  segue__call_state state;
  segue__message message; /* answers that are known at once still come later */
} segue__driver;

/* manual.c: the steps that the reload hook drives one by one. */
typedef struct segue__manual {
  size_t running;              /* verbs of txn.module */
  void (*cb)(segue__txn *txn); /* the hook has returned: follows the last one */
} segue__manual;

/* A write to the state folder at the end of a transaction. */
typedef enum segue__write_kind {
  SEGUE__WRITE_GOOD,  /* the last good generation */
  SEGUE__WRITE_STATE, /* the decisions, with the intents that are open */
  SEGUE__WRITE_CLOSED /* the same, after the intents of the transaction were removed */
} segue__write_kind;

/* txn_end.c: the write to the state folder that the transaction waits for, and those after it. */
typedef struct segue__txn_writes {
  segue__record_call call;
  void (*then)(segue__txn *txn, const segue_error *error); /* follows the write */
  segue__write_kind list[3];                               /* at the end, in this order */
  size_t count, next;
  bool failed; /* one of the list has */
} segue__txn_writes;

#endif
