/* SPDX-License-Identifier: MIT
 *
 * collect.h: collect: read, parse, merge, hash, compare, as one job off the loop; and a quick
 * look at the sources.
 */
#ifndef SEGUE_RELOAD_COLLECT_H
#define SEGUE_RELOAD_COLLECT_H

#include "txn.h"

typedef struct segue__collect segue__collect;

/* collect.c. code 0: txn->collect has what was collected; negative: a job could not begin, and
 * there is no collect any more. Control thread. */
typedef void segue__collect_cb(segue__txn *txn, int code);
typedef enum segue__collect_stage {
  SEGUE__COLLECT_LOOK, /* has the policy changed? a job, only if a pull would follow */
  SEGUE__COLLECT_PULL, /* asynchronous sources are fetched, all at once */
  SEGUE__COLLECT_READ, /* the rest: a job */
  SEGUE__COLLECT_WAIT  /* no job: a file is being written, and its writer may close it in time */
} segue__collect_stage;

/* error_mask.c alone uses it, on the worker. */
typedef struct segue__secrecy {
  segue__schema *schema; /* what the engine has compiled, NULL: nothing that fits the policy */
  segue__hash compiled_hash;
  segue__mask *mask; /* what errors of reading hide; NULL: not known (yet) */
  bool tried;        /* to make the mask */
} segue__secrecy;

/* collect.c alone writes it; other parts read the results. */
struct segue__collect {
  segue__job job;
  segue__collect_stage stage;
  size_t pulls;    /* under way */
  segue__txn *txn; /* NULL: abandoned */
  segue__collect_cb *cb;
  segue__os os; /* a copy, held */
  segue__publication *publication;
  segue__limits limits;
  segue__policy *policy; /* a reference */
  segue__source_set set; /* its sources */
  segue__fetch_waiter waiter;
  size_t source_count;
  bool look_at_inputs;
  bool postpones;             /* the run is automatic: what is being written stays as it was */
  uint64_t wait_until_ms;     /* else: until then writers are waited for */
  bool last_look;             /* the wait is over */
  segue__collect_stage to;    /* of WAIT: what is done again */
  segue__timer timer;         /* of WAIT */
  segue_error waited_for;     /* the control thread's: the writer that the last look found */
  bool *had;                  /* per source: previous is what it delivered last, perhaps nothing */
  segue__documents *previous; /* per source of policy */
  segue__inputs *inputs;      /* where deliveries are kept, and read in a replay; NULL: nowhere */
  segue__cached_delivery *cached; /* per source: what is kept with its documents */
  segue_error *away;              /* per source: why there is nothing of it; code 0: there is */
  segue_snapshot *live;           /* a reference, NULL: none */
  uint32_t next_document;
  /* out */
  bool inputs_changed, credentials_changed;
  segue__documents *documents; /* per source */
  bool *fetched;               /* per source */
  segue__config *config;
  segue__hash input, raw;
  segue__changes changes;
  segue__errors errors, warnings; /* warnings: of what can go live nevertheless */
  segue__document *schema_doc;
  segue__documents schema_with;
  segue__hash schema_hash;
  bool writing;       /* a file that counts is being written */
  bool input_writing; /* one of the policy is */
  segue_error writer; /* the first of them */
  bool *postponed;    /* per source: previous is used in place of a file that is being written */
  bool unreadable;    /* at least one error is a system error, not one of the content */
  segue__secrecy secrecy;
};
int segue__collect_start(segue__txn *txn, bool look_at_inputs, segue__collect_cb *cb);
void segue__collect_free(segue__collect *collect);
/* Moves the results into the content of the transaction, except the config and its changes, which
 * count only where the run continues. */
void segue__collect_take(segue__collect *collect, segue__content *content);
void segue__collect_take_changes(segue__collect *collect, segue__content *content);
/* Abandons it at any step. collect is not valid afterwards. */
void segue__collect_abandon(segue__collect *collect);

/* cached.c: what a source has delivered, among the files of the run. Worker thread. */
int segue__cached_read(segue__inputs *inputs, const segue__source *source,
                       segue__cached_delivery *head, segue__documents *out); /* in a replay */
int segue__cached_keep(segue__inputs *inputs, const segue__source *source,
                       const segue__cached_delivery *head, const segue__documents *documents);

/* look.c: reads the sources as they are, for engine->last_raw, and then calls looked, perhaps at
 * once. If they cannot be read in time, last_raw stays as it is. */
void segue__look(segue__txn *txn, void (*looked)(segue__txn *txn));
void segue__look_abandon(segue__txn *txn); /* its job is left behind, or could not begin */

/* error_mask.c: errors of reading show values only where no secret can be. init: once the policy of
 * collect is set; collect must stay where it is. */
void segue__secrecy_init(segue__collect *collect, const segue__engine *engine);
void segue__secrecy_deinit(segue__collect *collect);
/* Cuts the paths of errors that were made without the mask, on the worker. */
void segue__secrecy_clean(segue__collect *collect, segue__errors *errors);
/* Returns whether the policy, its schema and the live generation all name no secret. Returns false
 * if one of them is not known. Control thread. */
bool segue__secrecy_is_none(const segue__engine *engine, const segue__policy *policy);

#endif
