/* SPDX-License-Identifier: MIT
 *
 * remote.h: what the engine knows of a source across policies and generations, and the life of the
 * asynchronous ones. Control thread.
 *
 * A remote source is pulled when the engine starts, for each requested reload, and by its own
 * timer: every interval, and after a failure with exponential back-off and full jitter. If the
 * policy wants a push and the source can push, a watch runs as well: each delivery requests a
 * reload, and a slow pull finds deliveries that the watch missed. After a failed watch the source
 * is pulled, and the watch is started again with a back-off of its own. The last delivery is held
 * until the next one. Only sources of the live policy have a timer and a watch; the transaction of
 * a new policy pulls its sources, and they get both when it settles.
 */
#ifndef SEGUE_RELOAD_REMOTE_H
#define SEGUE_RELOAD_REMOTE_H

#include "../module/op.h"
#include "policy.h"

typedef struct segue__engine segue__engine;
typedef struct segue__collect segue__collect;
typedef struct segue__source_state segue__source_state;

/* A running fetch or watch. It lives until the source completes it, also after its user has gone.
 */
typedef struct segue__remote_call {
  segue_op op; /* first: the op is the call */
  segue__engine *engine;
  segue__policy *policy; /* a reference: source is in it */
  const segue__source *source;
  segue__source_state *state; /* NULL: forgotten */
  segue__collect *collect;    /* the run that waits for this fetch; NULL: none */
  segue__emission delivery;
  segue__emitter emitter;
  bool dropped;   /* its delivery is ignored */
  bool answered;  /* it has ended for the engine; the source may not have completed it */
  bool overtaken; /* a push came after this fetch had begun */
  bool whole;     /* a fetch of everything, not of changes */
  struct segue__remote_call *prev, *next;
} segue__remote_call;

typedef struct segue__remote {
  segue__engine *engine;
  const segue__source *source; /* of the live policy; NULL: it is of none */
  bool has;                    /* the documents of the state are what it delivered last */
  char *revision;
  bool went_on_without; /* a run used what is held while the source was away */
  segue__remote_call *pull, *watch;
  bool trigger_owed; /* something new came, and no run could be requested */
  bool again;        /* a fetch is due that must begin after the one under way */
  segue__timer pull_timer;
  segue__timer watch_timer; /* a watch runs: until it has proved itself; else: until the next */
  uint64_t gaps;            /* times that a delta did not continue what is held */
  bool forgotten;           /* the next fetch gets no revision and delivers everything */
  char *used;               /* revision of the delivery that the last run used; NULL: none */
  bool was_used;
  bool proven;             /* the watch that runs has emitted, or has run for a while */
  unsigned watch_attempts; /* in a row that did not prove themselves, for the back-off */
  uint64_t watch_failures; /* the same, for the strategy */
  segue_error watch_error;
} segue__remote;

struct segue__source_state {
  const segue__source_kind *kind;
  char *name;
  segue__hash spec;
  const segue__policy *trial; /* only this policy, which is not live yet, goes by it; NULL: live */
  segue__documents documents; /* of the last good fetch: handed to the next one */
  uint64_t fetches, failures, consecutive_failures;
  int64_t last_success_wall_ms;
  segue_error error;   /* code 0: the last fetch was good */
  segue_error content; /* what it delivered last cannot be read; code 0: it can */
  bool push;           /* what the policy decided */
  bool asked;          /* it was asked, when failures in a row were: */
  uint64_t asked_failures;
  bool applied; /* the live generation has so many items of it: */
  uint64_t applied_items;
  segue__remote remote; /* asynchronous kinds */
};

/* ---- sources.c: the list ---- */
/* By the source of a policy. One that is not live yet has states of its own, which begin with what
 * the live ones hold: what it fetches is not the live policy's before it settles. get: or new. */
segue__source_state *segue__source_find(const segue__engine *engine, const segue__policy *policy,
                                        const segue__source *source);
segue__source_state *segue__source_get(segue__engine *engine, const segue__policy *policy,
                                       const segue__source *source);
/* Another policy is live: its sources, which were on trial, are live. */
void segue__sources_settle(segue__engine *engine);
/* Forgets sources that the live policy does not name, and those of an ended trial; none while there
 * is no policy. */
void segue__sources_forget(segue__engine *engine);
void segue__sources_free(segue__engine *engine);
/* Returns the consecutive failures of the current way of fetching, for the strategy. */
uint64_t segue__source_failures(const segue__source_state *state);
/* Returns whether the source is away and a run used the held delivery (or, if the source is
 * optional, none); *why has the error. */
bool segue__source_is_held(const segue__engine *engine, const segue__policy *policy,
                           const segue__source *source, segue_error *why);
/* guard.c: returns whether the source is away and its held delivery is older than the guard allows.
 */
bool segue__guard_too_old(const segue__engine *engine, const segue__source_state *state,
                          const segue__guard *guard);
bool segue__source_up(const segue__source_state *state);

/* ---- remote.c ---- */
/* Starts a fetch, and cancels a running one that the timer started. segue__collect_pulled reports
 * the end to collect, unless this returns a negative code. */
int segue__remote_pull(segue__engine *engine, segue__policy *policy, const segue__source *source,
                       segue__collect *collect);
/* Counts a fetch that could not begin as a failure of the source. */
void segue__remote_refused(segue__engine *engine, const segue__policy *policy,
                           const segue__source *source, int code);
/* Holds the delivery that was cached with a generation until the next one. Takes the references
 * and the revision. */
void segue__remote_adopt(segue__source_state *state, segue__documents *documents, char **revision,
                         int64_t wall_ms);
/* Cancels the fetches of this run. */
void segue__remotes_release(segue__engine *engine, const segue__collect *collect);
/* Another policy is live: starts the timers and watches of its sources. */
void segue__remotes_settle(segue__engine *engine);
/* The strategy has decided. */
void segue__remote_decided(segue__engine *engine, segue__source_state *state);
/* Stops its timer and its watch, before it is forgotten or at the end. */
void segue__remote_halt(segue__engine *engine, segue__source_state *state);
void segue__remotes_stop(segue__engine *engine);
/* At the end: returns whether fetches or watches have not completed. */
bool segue__remotes_waiting(const segue__engine *engine);
/* Abandons calls that do not complete; returns how many will still complete. */
size_t segue__remotes_abandon(segue__engine *engine);

/* Passes on which documents of a source of the live policy are used, and fetches the source.
 * Returns false if there is no such source, or if it always delivers everything. */
bool segue__remote_want(segue__engine *engine, const char *name, const char *const *names,
                        size_t count);
/* A run uses what is held. Returns 0 or UV_ENOMEM. */
int segue__remote_note_used(segue__source_state *state);
/* Reports the outcome of a run to the sources whose deliveries it used. */
void segue__remotes_report(struct segue__txn *txn);

/* sources.c: adds to the result which sources are away and whose held delivery is used. */
void segue__sources_report(segue__txn *txn);

/* strategy.c: asks the policy about sources whose health changed. */
void segue__strategy_ask(segue__engine *engine);

#endif
