/* SPDX-License-Identifier: MIT
 *
 * txn.h: what the files of this folder share: the engine's and the transaction's insides. The
 * files:
 *   engine.c   queue, waiters, when a run starts, the record of results
 *   engine_status.c  the state of the engine for its readers
 *   txn.c      one run through its phases
 *   txn_steps.c  prepare, commit, confirm, as the reload hook or the default calls them
 *   txn_end.c  its end: outcome, undo, what is written to the state folder
 *   collect.c  read, parse, merge, hash, diff: one job off the loop
 *   policy_call.c     the policy's hooks while they run
 *   guard.c    is it too little, or too old?
 *   error_mask.c  what errors of reading may show
 *   validate.c    the schema, and what is secret: one job off the loop
 *   plan.c     old and new -> ordered steps
 *   commit.c   prepare, commit, flip, and the undo log
 *   action.c   what is done to one module: tables of operations
 *   effects.c  intents of effects outside memory, and their recovery
 *   manual.c   what a policy does with modules one by one
 *   untried.c  what a plan leaves out
 *   source_cache.c     what sources delivered, among the files of a generation
 *   sources.c  what is known of each source
 *   remote.c     the life of sources that are asked over a network: pulls, watches, back-off
 *   strategy.c pull or push, asked again when a source's health changes
 *   confirm.c  a new generation proves itself, or is undone
 *   operator.c     what operators decide: freeze, confirm, rollback
 *   drain.c   old instances drain in the background
 *   recover.c failed modules: their gates, and fresh instances with back-off
 *   result.c   the truth about one run
 */
#ifndef SEGUE_RELOAD_TXN_H
#define SEGUE_RELOAD_TXN_H

#include "../schema/schema.h"
#include "action.h"
#include "engine.h"
#include "remote.h"
#include "source_cache.h"
#include "writer.h"

/* ---- Queue: one running, one pending (and one pending plan, which changes nothing). ---- */
typedef struct segue__queued_run {
  uint64_t id;
  segue__trigger trigger;
  segue__buf cause;
  size_t joined;      /* triggers that came after the first */
  bool explicit_;     /* an explicit request: no debounce */
  bool unconditional; /* at least one trigger without If-Match */
  bool force, plan_only, rehearse, put_off;
  bool accept_shrink;  /* a trigger without a waiter, or a waiter that has not left, wants the
                          guards to accept the data */
  bool pull;           /* asynchronous sources are fetched; else their held deliveries are used */
  segue__files *files; /* a replay of these; NULL: the sources are read */
  uint64_t restores;   /* the generation they made */
  bool refreshes;      /* replays the live generation, with the present credentials */
  uint64_t first_ms, due_ms, not_before_ms;
  segue__waiter *waiters, *last_waiter; /* in order of asking */
} segue__queued_run;

/* A module, across policies and generations. */
typedef struct segue__module_record {
  char *name, *kind;
  segue__replace replace;
  segue_gate *gate;
  segue__instance *live;
  segue__instance **old; /* draining in the background, oldest first */
  size_t old_count;
  uint64_t drains_cut, inside_cut;
  /* recover.c. Failed: it has no instance, because that failed or could not be brought back. */
  bool failed;
  unsigned attempts;        /* to recover, without having served for long since */
  uint64_t recover_at_ms;   /* the next one */
  uint64_t failures;        /* instances that reported their failure */
  segue__instance *leaving; /* the one that failed; has to stop before the next starts */
  bool removed;             /* goes when its last instance is gone */
  segue_error error;
} segue__module_record;

enum { SEGUE__OLD_MAX = 2 }; /* instances of a module that drain in the background */
typedef struct segue__draining segue__draining;

struct segue__engine {
  segue__engine_options options;
  segue__loop *loop;
  const segue__os *os;
  const segue__logger *log;
  char *policy_path;

  segue__policy *policy; /* live, or NULL */
  segue_snapshot *live;  /* a reference each */
  segue_snapshot *previous;
  segue__schema *schema; /* the one compiled last, of these bytes */
  segue__hash schema_hash;
  bool schema_formats;
  uint64_t last_generation;  /* numbers that ever went live are not used again */
  segue__numbers reserved;   /* on disk: up to these no later process gives a number again */
  segue__numbers reserving;  /* the end of the block that is being written */
  segue__hash live_input;    /* input hash of the live generation */
  segue__hash refused_input; /* raw hash of the sources that were refused last */
  bool refused;
  segue__outcome refused_outcome;
  segue__hash last_raw; /* raw hash of the sources in the last run */

  segue__record *record;      /* NULL: nothing outlives the process */
  segue__decisions decisions; /* the operators' decisions */
  segue__journal journal;     /* the open intents of actions with effects outside memory */
  bool resumes;               /* nothing went live yet: numbers continue where they were */
  struct segue__freeze *freezes;
  struct segue__rollback *rollback; /* its files are being looked up */
  bool good_tried; /* the last good generation was replayed before what waits to be confirmed */
  bool starting;   /* it serves, and the run that the start is about has not ended */
  uint64_t
      taken_at_start; /* the generation that the start made of changed sources; 0: it did not */
  segue__record_call tick; /* the state is being written, beside what transactions write of it */
  bool tick_failed;        /* the disk has an older one: it is written again */
  segue__result *unkept;   /* the run that made the live generation, if it could not be written: the
                              one on disk is older. With it, what is to be written. NULL: it was */
  segue__files *unkept_files;
  uint64_t *unkept_items, unkept_ms;
  bool postponed;         /* a file was being written in the last run: it is read again later */
  unsigned postponements; /* in a row */
  /* Signals, saved files and the like for which no run could be allocated: the retry timer requests
   * one run for all of them. */
  bool trigger_owed;
  segue__trigger owed_trigger;
  uint64_t good_ms; /* when the age of the last good generation was noted last */

  segue__module_record **modules;
  size_t module_count;
  segue__gates *gates;
  segue__detached detached;
  segue__draining *draining;
  size_t swapping; /* of them: replaced by swap; the answer waits until they have stopped */
  bool recovering;
  void (*drained_cb)(void *data); /* an old instance is gone; NULL: nothing waits for one */
  void *drained_data;
  bool effects_tried; /* the intents that the start found were given to their actions */
  bool asking;        /* a strategy hook is under way */
  segue_op *hooks;    /* policy hooks that outlived their deadline, chained by data */

  segue__source_state **sources; /* of the live policy, and of one that is being tried */
  size_t source_count;
  segue__remote_call *remote_calls; /* fetches and watches that have not ended */
  uint64_t sources_end_ms;          /* when those are abandoned at the end; 0: not decided */
  uint32_t next_document;

  segue__queued_run *pending, *pending_plan, *pending_replay;
  segue__txn *txn; /* running */
  uint64_t next_id;
  uint64_t last_start_ms;
  bool started_once;
  segue__message kick;
  bool kicked;
  segue__timer start_timer, retry_timer, recover_timer;
  uint64_t effects_at_ms; /* when open intents are tried again; 0: not planned */
  unsigned effects_attempts;
  unsigned retries;
  uint64_t random;

  segue__result *results[SEGUE__RESULTS_MAX]; /* ring */
  size_t result_count, result_next;
  segue__observer *observers;
  segue__engine_stats stats;

  int64_t stale_since_wall_ms; /* 0: the live generation equals the sources */
  bool keep_files;             /* results have them in on_phase */
  bool stopping;
  void (*stopped_cb)(void *data);
  void *stopped_data;
};

/* ---- One run ---- */
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
typedef struct segue__undo {
  segue__undo_fn *fn;
  segue__step *step; /* NULL: not of one module */
} segue__undo;
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

/* A hook of the policy while it runs; may outlive the transaction. */
typedef struct segue__policy_call {
  segue_op op; /* first: the op is the hook */
  segue__policy *policy;
  segue__txn *txn; /* NULL once it was answered, and for hooks outside of transactions */
  char *source;    /* strategy: name of the source that it was asked about */
  segue__source_health health;
  segue_error error;
  bool push;
  struct segue__policy_call *next;
} segue__policy_call;

/* How far a transaction has come. It only increases; an undo does not change it. */
typedef enum segue__txn_state {
  SEGUE__TXN_OPEN,     /* nothing is built */
  SEGUE__TXN_PREPARED, /* every next instance is built */
  SEGUE__TXN_LIVE,     /* flipped: readers and callers meet the next generation */
  SEGUE__TXN_CONFIRMED /* it has proved itself, or did not have to */
} segue__txn_state;

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
  segue__errors held;     /* findings of the guards */
  segue__errors warnings; /* of collect; they follow the reasons of the outcome */
  uint64_t *items;        /* per source of policy: what its documents have */

  segue__step *steps;
  size_t step_count;
  size_t cursor; /* step that prepare or commit is at */
  segue__undo *undo;
  size_t undo_count, undo_capacity;
  segue__undo_state undo_state;
  segue__txn_state state;
  segue__phase at; /* the row of the table of phases (txn.c) that is under way */
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
  bool opened;     /* the state on disk has it as unconfirmed */
  bool own_window; /* and this process has opened the window */
  bool good_first; /* it runs again, after the last good generation is live */
  bool waits_for_operator;
  int decision; /* of an operator: segue__decision; 0: none */
  char decided_by[128];
  uint64_t confirm_until_ms, healthy_since_ms;
  uint64_t probe_failures; /* in a row */
  bool healthy;
  segue_error unhealthy; /* the probe's error to report; code 0: none yet */
  segue_error died;      /* of an instance that failed meanwhile; code 0: none */

  /* The call in flight of prepare, commit or confirm. */
  segue__txn_cb step_cb;
  void *step_data;
  segue__message step_message; /* answers that are known at once still come later */
  bool step_posted;
  bool step_refused; /* the call could not begin a phase */
  void (*undone)(segue__txn *txn);
};

/* engine.c */
void segue__engine_schedule(segue__engine *engine);
void segue__engine_finished(segue__engine *engine, segue__txn *txn); /* announces, then frees txn */
void segue__engine_notify(segue__engine *engine, const segue__result *result, segue__phase phase);
void segue__engine_check_stopped(segue__engine *engine);
uint64_t segue__engine_random(segue__engine *engine);
uint64_t segue__engine_backoff_ms(segue__engine *engine, unsigned attempt);
uint64_t segue__engine_now_us(const segue__engine *engine);
void segue__run_free(segue__queued_run *run);
/* Drops a reference off the loop where that can be: freeing a large tree takes milliseconds. */
void segue__engine_drop(segue__engine *engine, const segue_snapshot *snapshot);

/* txn.c */
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
/* Takes the secrets of the live config, and of one that is judged, out of the sentence. */
void segue__engine_scrub(const segue__engine *engine, segue_error *error);
/* False: the step cannot begin, and its cb is on the way, or a misuse was reported to it. */
bool segue__txn_step_begin(segue__txn *txn, segue__txn_call call, segue__txn_cb cb, void *data);

/* txn_end.c */
/* Begins the last phase: makes the generation permanent or, if the transaction has failed or is not
 * live, undoes it; then ends it. */
void segue__txn_conclude(segue__txn *txn);
void segue__txn_settle_or_undo(segue__txn *txn); /* that phase */
/* Fills in the result and hands it to the engine, which frees the transaction. Nothing may be built
 * or left to undo. */
void segue__txn_end(segue__txn *txn, segue__outcome outcome);

/* policy_call.c */
segue__policy_call *segue__policy_call_new(segue__engine *engine, segue__policy *policy,
                                           uint64_t deadline_ms,
                                           void (*answered)(segue_op *, int, const segue_error *));
segue__policy_call *segue__txn_policy_call_new(segue__txn *txn, uint64_t deadline_ms,
                                               void (*answered)(segue_op *, int,
                                                                const segue_error *));
/* The hook has answered: detaches it from the transaction and frees it, now or when it has
 * returned. */
void segue__policy_call_answered(segue__policy_call *policy_call);

/* collect.c. code 0: txn->collect has what was collected; negative: a job could not begin, and
 * there is no collect any more. Control thread. */
typedef void segue__collect_cb(segue__txn *txn, int code);
typedef enum segue__collect_stage {
  SEGUE__COLLECT_LOOK, /* has the policy changed? a job, only if a pull would follow */
  SEGUE__COLLECT_PULL, /* asynchronous sources are fetched, all at once */
  SEGUE__COLLECT_READ, /* the rest: a job */
  SEGUE__COLLECT_WAIT  /* no job: a file is being written, and its writer may close it in time */
} segue__collect_stage;

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
  bool *postponed;    /* per source: previous stands for what is being written */
  bool unreadable;    /* at least one error is the world's, not the content's */
  /* error_mask.c's, the worker's: */
  segue__schema *schema; /* what the engine has compiled, NULL: nothing that fits the policy */
  segue__hash compiled_hash;
  segue__mask *mask; /* what errors of reading hide; NULL: not known (yet) */
  bool mask_tried;
};
int segue__collect_start(segue__txn *txn, bool look_at_inputs, segue__collect_cb *cb);
void segue__collect_free(segue__collect *collect);
void segue__collect_pulled(segue__collect *collect); /* one of its fetches is over */
/* Leaves it behind, whatever it is at; collect is gone. */
void segue__collect_abandon(segue__collect *collect);

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
/* A schema as it was read. All borrowed. */
typedef struct segue__schema_text {
  segue__document *doc;
  segue__document *const *with;
  size_t with_count;
  const char *const *uris; /* of those; NULL: its name */
  bool formats;
  segue__limits limits;
} segue__schema_text;
/* Parses the documents that are not parsed yet, then compiles. On failure errors has the reason.
 * warnings: NULL allowed. */
int segue__schema_text_compile(const segue__schema_text *text, segue__schema **out,
                               segue__errors *errors, segue__errors *warnings);

/* guard.c: judge fills txn->held and txn->items from what was collected; hold fails the transaction
 * if that is something. settle: what is live now is what the next run is compared with. */
int segue__guards_check(segue__txn *txn, const segue__collect *collect);
bool segue__guards_hold(segue__txn *txn);
void segue__guards_settle(segue__txn *txn);
/* sources.c: adds to the result which sources are away and whose held delivery is used. */
void segue__sources_report(segue__txn *txn);

/* validate.c: validates txn->next by txn->schema_doc, and finds out what of it is secret. */
typedef struct segue__validate_job {
  segue__job job;
  segue__txn *txn;
  void (*cb)(segue__txn *txn);
  segue__limits limits;
  bool formats, defaults;
  uint64_t time_ms;
  segue_snapshot *live; /* a reference, NULL: none */
  segue__document *doc; /* a reference each; NULL: the policy has no schema */
  segue__documents with;
  char **uris;             /* of those; NULL: its name */
  segue__hash schema_hash; /* of doc and with */
  segue__config *config;
  segue__mask *secrets;  /* the policy's */
  segue__schema *schema; /* NULL: to be compiled */
  /* out */
  bool filled;            /* config is another one now, with the defaults of the schema; */
  segue__changes changes; /* and this is what has changed */
  segue__mask *mask;      /* what of the config is secret; NULL: nothing */
  segue__errors errors, warnings;
  int lost; /* a failure without memory for its message */
} segue__validate_job;
int segue__validate_job_start(segue__txn *txn, void (*cb)(segue__txn *txn));
void segue__validate_job_free(segue__validate_job *validation);

/* refusals.c. A verb that is in order, but that this module cannot do: a code and the reason. */
int segue__txn_impossible(const segue__txn *txn, segue__txn_call call, const char *module,
                          segue_error *error);

/* confirm.c */
void segue__confirm_run(segue__txn *txn);    /* ends by segue__txn_step_end */
void segue__confirm_cancel(segue__txn *txn); /* the daemon shuts down */

/* plan.c */
int segue__plan_make(segue__txn *txn);
/* Order in which modules start: needs first, else as declared. order has count entries. -1: cycle,
 * *at is a module on it. */
const segue__action *segue__action_of(const segue__module_spec *spec);
int segue__plan_order(const segue__module_spec *modules, size_t count, size_t *order, size_t *at);

/* untried.c: lists in the result what comes after prepare. */
int segue__untried_list(segue__txn *txn);

/* commit.c: each ends by txn->step_cb */
void segue__prepare_run(segue__txn *txn);
void segue__commit_run(segue__txn *txn);
/* Calls the commit of the step's action, which ends by done. */
void segue__step_commit(segue__step *step,
                        void (*done)(segue__step *step, int status, const segue_error *error));
/* Ends the waits of the running step early. */
void segue__commit_expedite(segue__txn *txn);
void segue__commit_abandon(segue__txn *txn); /* nor is what it builds, because the daemon stops */
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

/* effects.c. intend: adds the intent of a step to the journal, in memory. intend_all: of all that
 * are not committed yet; any: there is one. close: removes them, in memory. */
int segue__effects_intend(segue__step *step, segue_error *error);
int segue__effects_intend_all(segue__txn *txn, bool *any, segue_error *error);
bool segue__effects_any(const segue__txn *txn);
void segue__effects_close(segue__txn *txn);
/* Returns 0 unless an earlier change of the module is open. */
int segue__effects_check(const segue__step *step, segue_error *error);
/* Intents are open that no transaction works on. recover: gives them to their actions, then calls
 * `then`. */
bool segue__effects_open(const segue__engine *engine);
int segue__effects_recover(segue__engine *engine, void (*then)(segue__engine *engine));

/* manual.c */
segue__step *segue__txn_step(const segue__txn *txn, const char *name); /* NULL: none */
void segue__manual_step_end(segue__step *step, const segue_error *error);
/* Detaches the callbacks of the verbs that are running. cb: all of them have ended. */
void segue__manual_steps_release(segue__txn *txn, void (*cb)(segue__txn *txn));

/* drain.c */
segue__module_record *segue__module_find(const segue__engine *engine, const char *name);
segue__module_record *segue__module_get(segue__engine *engine,
                                        const segue__module_spec *spec); /* or new */
void segue__module_remove(segue__engine *engine, segue__module_record *module);
void segue__services_update(segue__engine *engine); /* live instances are other ones now */
/* Before the flip: a service that has started is offered where no live one is, so that modules that
 * need it can use it in their start. take: it is offered no more; true: it was, and threads may be
 * in it until a grace period is over. */
void segue__services_provide(segue__engine *engine, segue__instance *instance);
bool segue__services_take(segue__engine *engine, const segue__instance *instance);
/* cb is called whenever an old instance is gone; NULL: no longer. One watcher at a time. */
void segue__drain_watch(segue__engine *engine, void (*cb)(void *data), void *data);
bool segue__drain_watched(const segue__engine *engine);
void segue__gates_settle(segue__engine *engine); /* none is shut once a transaction is over */
/* Drains, stops and releases it in the background; after_grace: not before every read section that
 * is open now has ended. */
void segue__drain_instance(segue__engine *engine, segue__module_record *module,
                           segue__instance *instance, bool after_grace);
/* A drain failed or ran over: logs and counts it. */
void segue__drain_cut(segue__engine *engine, segue__module_record *module,
                      const segue__instance *instance, const segue_error *error);
/* As many old ones drain as may, and the oldest must not be cut. */
bool segue__drain_instance_waits(const segue__module_record *module);
void segue__drain_instance_all(
    segue__engine *engine); /* shutdown; segue__engine_check_stopped at the end */

/* recover.c */
/* An instance reported its failure: the callback of segue__detached. */
void segue__recover_failed(void *engine, segue__instance *instance);
/* Takes down the live instances that have failed, and sets the timer for what has to be recovered.
 * Does nothing while a transaction runs, at whose end it is called. */
void segue__recover_schedule(segue__engine *engine);
void segue__recover_later(segue__engine *engine, segue__module_record *module); /* with back-off */
/* Refuses calls of a module without an instance, or lets them wait, by its on_failure. */
void segue__recover_close_gate(segue__engine *engine, segue__module_record *module);
/* confirm.c: an instance failed while the transaction runs. A new one fails the transaction; any
 * one that is live while the generation waits to be confirmed undoes the generation. Otherwise the
 * failure is handled when the transaction ends. */
void segue__txn_instance_failed(segue__txn *txn, const segue__module_record *module,
                                const segue__instance *instance);

/* An operator decides about a generation that waits to be confirmed. */
typedef enum segue__decision { SEGUE__CONFIRM = 1, SEGUE__TAKE_BACK } segue__decision;
void segue__txn_decide(segue__txn *txn, segue__decision decision, const char *by);
/* Waits for the record's answer to txn->call, at most RECORD_MS, then runs `recorded`; error NULL:
 * it is written. status: the return value of the request. */
void segue__txn_record(segue__txn *txn, int status,
                       void (*recorded)(segue__txn *txn, const segue_error *error));
void segue__txn_recorded(segue__record_call *call,
                         segue__record_answer *answer); /* the call's cb */
void segue__run_answer(segue__queued_run *run, int status,
                       segue__result *result);                       /* engine.c: all */
void segue__run_wait(segue__queued_run *run, segue__waiter *waiter); /* engine.c: joins it */

/* operator.c */
/* Writes the decisions and the open intents, as one. call may be NULL. */
int segue__operator_write(segue__engine *engine, segue__record_call *call);
void segue__operator_write_now(
    segue__engine *engine); /* nothing waits for it; the tick repeats it */
/* A generation that a rollback brought back is live, and credentials of its listeners have changed:
 * it is brought back again, with the present ones. */
void segue__operator_refresh(segue__engine *engine);
void segue__operator_remove(segue__engine *engine, const segue__waiter *waiter);
/* Returns whether the files of a rollback that the start resumes are being looked up. */
bool segue__operator_resuming(const segue__engine *engine);
/* Was this content undone or reverted before, so that it does not go live again by itself? why: the
 * error message; outcome: the outcome of a request for it. */
bool segue__operator_postpone(const segue__txn *txn, segue_error *why, segue__outcome *outcome);
/* Before the flip of a generation that has to be confirmed: durable, then cb. */
void segue__operator_open(segue__txn *txn);
/* Has an operator, or a probe, to confirm it? A generation from before a restart, and its replay,
 * were confirmed then and are not confirmed twice. */
bool segue__operator_asks_operator(const segue__txn *txn);
bool segue__operator_asks_probe(const segue__txn *txn);
/* The live generation, which txn made, could not be kept: it is tried again by every tick. txn
 * NULL: there is none like that. */
void segue__unkept_set(segue__engine *engine, segue__txn *txn);
/* Returns true if the run has to wait until the last good generation is live, whose replay it
 * requests: the run would make the first generation of this process, which would wait to be
 * confirmed, and its undo needs a live generation to return to. */
bool segue__operator_good_first(segue__txn *txn);
/* The generation of the run is live, or the run has ended. */
void segue__operator_started(const segue__txn *txn);
/* An unconfirmed generation was undone. Returns true if the state has to be written before the
 * answer. */
bool segue__operator_pins(const segue__txn *txn); /* will the next function pin the sources? */
bool segue__operator_undone(segue__txn *txn);
/* Updates the decisions after a settled run. Returns true if they changed and have to be written.
 */
bool segue__operator_settle(segue__txn *txn);
uint64_t segue__operator_left_ms(const segue__txn *txn); /* of the time to confirm */
int segue__operator_request(segue__engine *engine, const segue__reload_request *request);
void segue__operator_close(segue__engine *engine); /* answers SEGUE_ECLOSED to all that wait */
/* strategy.c: asks the policy about sources whose health changed. */
void segue__strategy_ask(segue__engine *engine);

/* result.c */
int segue__result_new(segue__result **out, const segue__queued_run *run);
void segue__result_error(segue__result *result, const segue_error *error);
void segue__result_drop_changes(segue__result *result); /* others are taken */
/* mask: what is not shown. */
int segue__result_take_changes(segue__result *result, const segue__changes *changes,
                               const segue__mask *mask);

#endif
