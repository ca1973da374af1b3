/* SPDX-License-Identifier: MIT
 *
 * engine.h: the reload engine: one queue, one transaction at a time, and the truth about each.
 * Control thread throughout. Start reading at queue.c (queue) and phases.c (phases).
 */
#ifndef SEGUE_RELOAD_ENGINE_H
#define SEGUE_RELOAD_ENGINE_H

#include "../record/result.h"
#include "../source/sources.h"
#include "policy.h"

typedef struct segue__engine segue__engine;
typedef struct segue__record segue__record;
struct segue__wants;

typedef struct segue__reload_request {
  segue__trigger trigger;
  const char *cause;  /* copied */
  bool force;         /* run even if nothing changed */
  bool plan_only;     /* stop after plan, do nothing */
  bool rehearse;      /* of a plan: prepares everything too, and takes it down again */
  bool accept_shrink; /* guards let it through, in the run that the waiter waits for, and only
                       * while it does */
  bool as_held; /* use the held deliveries of asynchronous sources, do not fetch; a watch, which is
                   about files, does so too */
  bool has_quiet; /* automatic ones: the run begins quiet_ms after the last request; else the pause
                     is that of the policy */
  uint64_t quiet_ms;
  const char
      *if_match; /* generation number or hash that must be live, else SEGUE_ECONFLICT; NULL */
} segue__reload_request;

/* Waits for the outcome of a run that begins after the request. Caller's memory; in use until cb
 * ran or segue__engine_forget. status 0 with a result; SEGUE_ECONFLICT, SEGUE_ECLOSED,
 * SEGUE_EFROZEN without; SEGUE_EDEFERRED without: a rate limit or the policy put the run off, it
 * will happen; SEGUE_EUNCONFIRMED with a result that is not complete: its generation is live, and
 * an operator is waited for. */
typedef struct segue__waiter segue__waiter;
struct segue__waiter {
  void (*cb)(segue__waiter *waiter, int status, segue__result *result);
  void *data;
  segue__waiter *prev, *next; /* the engine's */
  char *if_match;
  bool accept_shrink;
  void *run;
};

/* Requests a reload. waiter may be NULL (signals, watches). Returns 0 or a negative code (then the
 * waiter's cb never runs): SEGUE_EFROZEN for a request by HTTP or control socket while reloads are
 * frozen; every other trigger is remembered until they are not. cb never runs before this returns.
 */
int segue__engine_request(segue__engine *engine, const segue__reload_request *request,
                          segue__waiter *waiter);

/* A replay of files (a reference is taken) as a run of its own, before whatever is pending.
 * restores: the generation that they made, to which it goes back; 0: it is the last good one, at a
 * start. UV_EBUSY: another replay waits. */
int segue__engine_replay(segue__engine *engine, segue__files *files, uint64_t restores,
                         segue__trigger trigger, const char *cause, segue__waiter *waiter);
/* Looks up a generation and replays it; the content of the sources does not go live again by itself
 * until it changes. generation 0: the one before the live one. by: the client, for the log. While a
 * generation waits to be confirmed, a rollback to the one before ends that wait: then 1 is
 * returned, and the waiter gets the outcome of the run that is undone. The waiter's status may be
 * UV_ENOENT too: the history does not have that generation. UV_EBUSY: another rollback is running;
 * SEGUE_ERECORD: there is no state folder. */
int segue__engine_rollback(segue__engine *engine, uint64_t generation, segue__trigger trigger,
                           const char *by, segue__waiter *waiter);
/* For a start, before anything is requested. Returns 1 if the previous process died while a
 * rollback waited to be confirmed: the rollback continues with the rest of its time, and the waiter
 * is answered by that run, or, if the files are not kept any more, by one that reads the sources.
 * Returns 0 if there is no such rollback, or a negative code. */
int segue__engine_resume_rollback(segue__engine *engine, segue__waiter *waiter);
/* A generation that is no rollback waited to be confirmed then, and its time is not over. */
bool segue__engine_resumes(const segue__engine *engine);
/* The generation that waits to be confirmed is good; the waiter (or NULL) gets the outcome of its
 * run. SEGUE_ECONFLICT: none waits. */
int segue__engine_confirm(segue__engine *engine, const char *by, segue__waiter *waiter);

/* No generation goes live until unfreeze; survives a restart. cb runs when the decision is durable;
 * it may be NULL. SEGUE_ERECORD: it cannot be written, and is not done. */
typedef void (*segue__frozen_cb)(void *data, int status, const segue_error *error);
int segue__engine_freeze(segue__engine *engine, const char *by, const char *why,
                         segue__frozen_cb cb, void *data);
int segue__engine_unfreeze(segue__engine *engine, const char *by, segue__frozen_cb cb, void *data);
void segue__engine_freeze_forget(segue__engine *engine, void *data); /* cb will not run */
void segue__engine_forget(segue__engine *engine, segue__waiter *waiter);

/* A module has changed something outside memory (files), and another program has changed it since.
 */
typedef struct segue__drift_report {
  const char *module;
  size_t count; /* of the files that differ now; 0: none any more */
  const char
      *what;    /* one sentence about one of them; NULL: nothing has changed since the last one */
  bool replace; /* the next run replaces the module, also if its input has not changed */
} segue__drift_report;
/* Notes it for status, metrics, observers and the next run. Does not request a run. */
void segue__engine_drift(segue__engine *engine, const segue__drift_report *report);

/* A module has written files as one set; for observers. */
typedef struct segue__written_report {
  const char *module;
  uint64_t generation;
  size_t written, removed;
  const char *const *paths; /* the first of them */
  size_t path_count;
} segue__written_report;
/* A command, a signal or a request of a module has ended; for observers. */
typedef struct segue__effect_report {
  const char *module;
  const char *step;  /* "check", "apply" or "undo" */
  const char *shown; /* as it would be typed */
  uint64_t ms;
  const char *error; /* NULL: it has succeeded */
} segue__effect_report;

/* Follows every step of every run: log, metrics, event stream, record. Caller's memory. result is
 * complete in SETTLED only. */
typedef struct segue__observer segue__observer;
struct segue__observer {
  void (*on_phase)(segue__observer *observer, const segue__result *result, segue__phase phase);
  /* The secrets of the config under check are known; runs before any other observer sees the
   * config. May be NULL, like on_phase. */
  void (*on_secrets)(segue__observer *observer, const segue__mask *mask);
  /* An instance of a module, made for this generation, entered a state. May be NULL. */
  void (*on_module)(segue__observer *observer, const char *module, uint64_t generation,
                    segue__module_state state);
  /* Something that a module changed outside memory was changed by another program. May be NULL. */
  void (*on_drift)(segue__observer *observer, const segue__drift_report *report);
  /* These may be NULL. */
  void (*on_written)(segue__observer *observer, const segue__written_report *report);
  void (*on_effect)(segue__observer *observer, const segue__effect_report *report);
  void *data;
  segue__observer *next;
};
/* From now on, results in on_phase have the files that were read. */
void segue__engine_keep_files(segue__engine *engine, bool keep);
void segue__engine_observe(segue__engine *engine, segue__observer *observer);
void segue__engine_unobserve(segue__engine *engine, segue__observer *observer);
/* Calls on_written or on_effect of each observer. */
void segue__engine_notify_written(segue__engine *engine, const segue__written_report *report);
void segue__engine_notify_effect(segue__engine *engine, const segue__effect_report *report);

/* The triggers and listeners of a policy, set up and taken down with the transaction. stage binds
 * and opens what `next` has and the live one has not; errors fail the reload. settle makes it the
 * live set and closes what is gone; discard undoes stage. */
typedef struct segue__triggers_ops {
  int (*stage)(void *data, const segue__policy *next, segue__errors *errors);
  /* For a plan, instead of stage: what the modules of `next` need before they can prepare, and no
   * listener. NULL allowed. */
  int (*rehearse)(void *data, const segue__policy *next, segue__errors *errors);
  /* Of what was staged, before it settles: the next generation is live; back: it no longer is. NULL
   * allowed. */
  void (*flip)(void *data, bool back);
  void (*settle)(void *data);
  void (*discard)(void *data);
  void *data;
} segue__triggers_ops;

typedef struct segue__engine_options {
  size_t size;
  segue__loop *loop;
  const segue__os *os; /* NULL: default */
  const segue__logger *log;
  segue__publication *publication;
  segue__policy_loader loader; /* load NULL: `policy` below never changes */
  const char *policy_path;     /* for the loader */
  segue__policy *policy;       /* used when there is no loader; a reference is taken */
  segue__limits limits;
  segue__triggers_ops triggers; /* NULL functions: none */
  segue__record *record;        /* opened, borrowed; NULL: nothing outlives the process */
  segue__gates *gates;          /* a reference is taken; NULL: of its own */
  segue__services *services;    /* where it registers services for all modules; NULL: nowhere */
  /* Actions with effects outside memory, so that a start finds their recover by name. */
  const struct segue__action *const *actions;
  size_t action_count;
  segue__leftovers_ops leftovers;
  struct segue__wants *wants; /* names that modules ask sources for; borrowed; NULL: none does */
} segue__engine_options;

int segue__engine_new(segue__engine **out, const segue__engine_options *options);
/* Finishes or undoes the running transaction, answers every waiter, drains and stops all modules in
 * reverse order; then cb. */
void segue__engine_stop(segue__engine *engine, void (*cb)(void *data), void *data);
void segue__engine_free(segue__engine *engine); /* stopped, or never requested anything */

/* For status, metrics and the policy's hooks. Borrowed until the loop continues. */
const segue_snapshot *segue__engine_live(const segue__engine *engine);     /* NULL: none yet */
const segue_snapshot *segue__engine_previous(const segue__engine *engine); /* the one before */
/* The live generation is the first, and is not confirmed: there is no generation to revert to yet.
 */
bool segue__engine_on_trial(const segue__engine *engine);
const segue__policy *segue__engine_policy(const segue__engine *engine);  /* live one, or NULL */
const segue__result *segue__engine_running(const segue__engine *engine); /* NULL: idle */
/* Returns whether an If-Match condition holds: the number or the hash of the live generation as 3,
 * "3" or W/"3", or * for any. With no live generation, only 0 matches. */
bool segue__engine_matches(const segue__engine *engine, const char *if_match);
segue__record *segue__engine_record(const segue__engine *engine); /* or NULL */
bool segue__engine_pending(const segue__engine *engine);
uint64_t segue__engine_deferred_until_ms(const segue__engine *engine); /* loop time; 0 = no */
/* The last results, newest first; index 0 .. count-1. */
#define SEGUE__RESULTS_MAX 100
size_t segue__engine_result_count(const segue__engine *engine);
const segue__result *segue__engine_result(const segue__engine *engine, size_t index);

/* When the live generation was good last, while the sources cannot give a good one; 0: it is not
 * stale. instance.c sets and clears it. */
void segue__engine_set_stale(segue__engine *engine, int64_t since_wall_ms);
int64_t segue__engine_stale_since(const segue__engine *engine);
int64_t segue__engine_wall_ms(const segue__engine *engine); /* the engine's clock */

/* Called about every second: adjusts the recorded deadline to the clocks (decisions.h), and repeats
 * writes that failed. */
void segue__engine_tick(segue__engine *engine);
/* When the last good generation on disk was last found equal to the sources; 0: there is none. */
int64_t segue__engine_good_wall_ms(const segue__engine *engine);
/* A start serves the last good generation, and has not tried yet what waits to be confirmed. */
bool segue__engine_starting(const segue__engine *engine);

/* Decisions of operators, for status. */
typedef struct segue__operator_status {
  bool frozen;
  int64_t frozen_wall_ms;
  const char *frozen_by, *frozen_why; /* borrowed until the loop continues */
  uint64_t missed;                    /* triggers that came meanwhile */
  bool unconfirmed;                   /* the live generation is, until: */
  int64_t unconfirmed_until_wall_ms;
  bool by_operator; /* an operator has to confirm it; else a probe */
  bool pinned;      /* the live generation was brought back, and stays */
  uint64_t pinned_generation;
} segue__operator_status;
void segue__engine_operator_status(const segue__engine *engine, segue__operator_status *out);
/* A change of a module with effects outside memory that is neither finished nor undone: of the
 * transaction that runs, or one that a killed process or a failed undo has left. Its texts are the
 * journal's, and may quote secrets of the config. */
typedef struct segue__open_change {
  const char *module, *action;
  const char *does; /* in a sentence; NULL: not known */
  uint64_t generation, reload;
  bool running;
} segue__open_change;
size_t segue__engine_open_change_count(const segue__engine *engine);
void segue__engine_open_change(const segue__engine *engine, size_t index, segue__open_change *out);
/* The state folder is ours again, and empty: writes all of it again. */
void segue__engine_record_anew(segue__engine *engine);

typedef struct segue__engine_stats {
  uint64_t runs, outcomes[SEGUE__OUTCOME_COUNT], skipped, triggers[SEGUE__TRIGGER_COUNT], coalesced;
  int64_t last_success_wall_ms; /* 0 = never */
  bool last_successful;
} segue__engine_stats;
const segue__engine_stats *segue__engine_stats_get(const segue__engine *engine);

typedef struct segue__module_status {
  const char *name, *kind, *replace;
  segue__module_state state;
  segue__gate_status gate;
  uint64_t generation;
  size_t draining;     /* old instances that are still going */
  uint64_t drains_cut; /* drains that were cut short */
  uint64_t inside_cut; /* calls that were still inside then */
  uint64_t failures;   /* instances that reported that they failed */
  size_t drifted;      /* files that another program has changed */
  uint64_t drifts;     /* changes by other programs, since the start */
  const char *drift;   /* a sentence about one of them; NULL: none is known */
  size_t instances[SEGUE__MODULE_STATE_COUNT]; /* all of them, by state */
  const segue_error *error;                    /* why it failed; NULL */
} segue__module_status;
/* Makes the live modules open their files again; returns how many do. */
size_t segue__engine_reopen(segue__engine *engine);
/* Removes the secrets of the live config, and of one that is validated, from a text that leaves the
 * process. */
void segue__engine_scrub_text(const segue__engine *engine, char *text);
/* The metrics of the live modules. */
void segue__engine_module_metrics(const segue__engine *engine,
                                  void (*add)(void *sink, const char *text, size_t len),
                                  void *sink);
size_t segue__engine_module_count(const segue__engine *engine);
void segue__engine_module_status(const segue__engine *engine, size_t index,
                                 segue__module_status *out);

size_t segue__engine_source_count(const segue__engine *engine);
void segue__engine_source_status(const segue__engine *engine, size_t index,
                                 segue__source_status *out);

/* ---- For the policy's reload hook. Each ends by cb, never before it returns; but after the hook's
 * op was cancelled (segue__op_on_cancel) cb does not run, and txn must not be touched. ---- */
typedef void (*segue__txn_cb)(void *data, int status, const segue_error *error);
void segue__txn_prepare(segue__txn *txn, segue__txn_cb cb, void *data);
void segue__txn_commit(segue__txn *txn, segue__txn_cb cb, void *data);
void segue__txn_confirm(segue__txn *txn, segue__txn_cb cb, void *data);
/* Modules by name, before commit (manual.c). shut: arriving calls wait, until open, commit, or the
 * end. drain: shut, then waits until every call inside has left, at most within_ms (0: as in the
 * module's drain). If calls are still inside then: ASK: SEGUE_ETIMEOUT, the gate stays shut; WAIT,
 * CUT: they count as gone, and are not waited for again; UNDO: the transaction fails. restart:
 * stops the old one first, then starts the next; also of a module that the plan keeps. replace: as
 * the module's own replace. If restart or replace fails, the transaction fails. */
int segue__txn_shut(segue__txn *txn, const char *name, segue_error *error);
int segue__txn_open(segue__txn *txn, const char *name, segue_error *error);
void segue__txn_drain(segue__txn *txn, const char *name, const segue__drain *drain,
                      segue__txn_cb cb, void *data);
void segue__txn_restart(segue__txn *txn, const char *name, segue__txn_cb cb, void *data);
void segue__txn_replace(segue__txn *txn, const char *name, segue__txn_cb cb, void *data);
bool segue__txn_module_at(const segue__txn *txn, size_t index, const char **name);
/* Ends it before commit: outcome rejected; or put off by delay_ms (answered SEGUE_EDEFERRED). A
 * transaction that has failed or was rejected already keeps its outcome, and `why` is added to its
 * errors. Both do nothing where they are a misuse. */
void segue__txn_reject(segue__txn *txn, const char *why);
void segue__txn_defer(segue__txn *txn, uint64_t delay_ms, const char *why);
/* Calls of the hook that come in an order in which they cannot do anything. SEGUE_EPOLICY and a
 * sentence: this one, now, of this module (NULL: not of a module); 0: it is none. A step after one
 * that failed is none either: it ends with that failure. */
typedef enum segue__txn_call {
  SEGUE__TXN_PREPARE,
  SEGUE__TXN_COMMIT,
  SEGUE__TXN_CONFIRM,
  SEGUE__TXN_REJECT,
  SEGUE__TXN_DEFER,
  SEGUE__TXN_OLD, /* shut, open, drain */
  SEGUE__TXN_NEXT /* restart, replace */
} segue__txn_call;
int segue__txn_misuse(const segue__txn *txn, segue__txn_call call, const char *module,
                      segue_error *error);
const segue__result *segue__txn_result(const segue__txn *txn); /* cause, changes, steps */
const segue_snapshot *segue__txn_next(const segue__txn *txn);
const segue_snapshot *segue__txn_prev(const segue__txn *txn); /* NULL: first */

#endif
