/* SPDX-License-Identifier: MIT
 *
 * sources.h: the sources of an engine across policies and generations: what each delivered last,
 * its health, and the life of the asynchronous ones. Control thread.
 *
 * A remote source is pulled when the engine starts, for each requested reload, and by its own
 * timer: every interval, and after a failure with exponential back-off and full jitter. If the
 * policy wants a push and the source can push, a watch runs as well: each delivery requests a
 * reload, and a slow pull finds deliveries that the watch missed. After a failed watch the source
 * is pulled, and the watch is started again with a back-off of its own. The last delivery is held
 * until the next one. Only sources of the live policy have a timer and a watch; the transaction of
 * a new policy pulls its sources, and they get both when it settles.
 *
 * This part knows neither runs nor policies: it sees sets of sources, and reports to its owner by
 * the functions of segue__sources_options. No other part reads or writes the state of a source.
 */
#ifndef SEGUE_SOURCE_SOURCES_H
#define SEGUE_SOURCE_SOURCES_H

#include "../os/log.h"
#include "cache.h"
#include "source.h"

typedef struct segue__sources segue__sources;

/* The sources that belong together: those of one policy. Plain data, copied; its owner keeps the
 * items. */
typedef struct segue__source_set {
  void *owner; /* the policy: two sets are the same if their owners are; NULL: no set */
  const segue__source *items;
  size_t count;
  uint64_t fetch_ms; /* time limit of a fetch */
  bool strategy;     /* its owner decides who pushes; else each source does that can */
} segue__source_set;

/* X(NAME, text): kinds of failures of a fetch or a watch. */
#define SEGUE__FAILURE_KINDS(X)                                                                    \
  X(AWAY, "away")                                                                                  \
  X(BUSY, "busy")                                                                                  \
  X(DENIED, "denied")                                                                              \
  X(INVALID, "invalid")
/* X(NAME, text): reasons for a fetch of everything where changes would have been enough. */
#define SEGUE__RESYNC_REASONS(X)                                                                   \
  X(GONE, "gone")                                                                                  \
  X(GAP, "gap")                                                                                    \
  X(OVERFLOW, "overflow")
#define X(name, text) SEGUE__FAILURE_##name,
typedef enum segue__failure_kind {
  SEGUE__FAILURE_KINDS(X) SEGUE__FAILURE_COUNT
} segue__failure_kind;
#undef X
#define X(name, text) SEGUE__RESYNC_##name,
typedef enum segue__resync_reason {
  SEGUE__RESYNC_REASONS(X) SEGUE__RESYNC_COUNT
} segue__resync_reason;
#undef X

const char *segue__failure_kind_name(segue__failure_kind kind);
const char *segue__resync_reason_name(segue__resync_reason reason);

typedef struct segue__sources_options {
  size_t size;
  segue__loop *loop;
  const segue__logger *log;
  /* A reference on the owner of a set: a fetch uses its source until the source has ended it. */
  void (*hold)(void *owner);
  void (*release)(void *owner);
  /* A source has other content (or is back): requests a reload with this cause, which is borrowed.
   * source: for its debounce. Returns 0 or a negative code; then this part tries again later,
   * except after SEGUE_ECLOSED. */
  int (*changed)(void *data, const segue__source *source, bool pushed, const char *cause);
  void (*on_health)(void *data); /* the health of a source may have changed */
  void (*on_ended)(void *data);  /* a fetch or a watch has ended */
  /* Removes everything secret from an error: a script's message may quote the configuration. */
  void (*scrub)(void *data, segue_error *error);
  /* Returns whether a message may quote any value that the sources of this owner deliver. */
  bool (*nothing_secret)(void *data, void *owner);
  uint64_t (*random)(void *data);
  void *data; /* of all but hold and release */
} segue__sources_options;

int segue__sources_new(segue__sources **out, const segue__sources_options *options);
void segue__sources_free(segue__sources *sources); /* NULL allowed */

/* ---- sources.c: sets, and the state of each source ---- */
/* Sources of another set than the live one have states of their own, which begin with what the live
 * ones hold: what they deliver is not the live set's before it settles. While no set is live, the
 * one that is tried counts as live. */

/* This set is live now: its sources, which were on trial, are live, and get their timers and
 * watches. The sources that it does not name are forgotten. */
void segue__sources_settle(segue__sources *sources, const segue__source_set *set);
/* Forgets the sources of an ended trial; none while no set is live. */
void segue__sources_forget(segue__sources *sources);
/* A run has read a local source. documents NULL: it failed with this error. */
void segue__sources_note_read(segue__sources *sources, const segue__source_set *set,
                              const segue__source *source, const segue__documents *documents,
                              const segue_error *error);
/* The live generation has so many items of the source. */
void segue__sources_set_applied(segue__sources *sources, const segue__source_set *set,
                                const segue__source *source, uint64_t items);
/* Finds that count by kind and name: it counts also if the options of the source have changed. */
bool segue__sources_applied(const segue__sources *sources, const segue__source *source,
                            uint64_t *items);
/* Returns whether the source is away and a run used the held delivery (or, if the source is
 * optional, none); *why has the error. */
bool segue__sources_is_held(const segue__sources *sources, const segue__source_set *set,
                            const segue__source *source, segue_error *why);
/* Returns whether the source is away and its held delivery is older than its guard allows: by how
 * long, and why it is away (borrowed). */
bool segue__sources_is_too_old(const segue__sources *sources, const segue__source_set *set,
                               const segue__source *source, uint64_t *age_ms,
                               const segue_error **why);

/* The input of a strategy. Its texts are borrowed until the loop continues. */
typedef struct segue__source_health {
  const char *name, *kind;
  uint64_t failures; /* in a row; 0: the last fetch succeeded */
  const char *error; /* of the last one, NULL after a success */
  bool can_push;
} segue__source_health;
/* Finds a live source that the strategy has not seen yet, or whose health has changed since. It
 * counts as seen from now on. Returns false if there is none. */
bool segue__sources_next_health(segue__sources *sources, segue__source_health *out,
                                bool *is_pushing);
/* The strategy has decided about the live source of this name, if there still is one. */
void segue__sources_decide(segue__sources *sources, const char *name, bool push);

/* For status. */
typedef struct segue__source_status {
  const char *name, *kind;
  size_t documents;
  uint64_t fetches, failures, consecutive_failures;
  uint64_t watch_failures; /* in a row */
  const uint64_t *failed;  /* fetches and watches, by segue__failure_kind */
  const uint64_t *resyncs; /* by segue__resync_reason */
  uint64_t watch_restarts; /* of watches that were silent, or missed a change */
  const char *failure;     /* the kind of the last failure, NULL after a success */
  uint64_t keys;           /* of the last delivery; members at its root if it is no key space */
  uint64_t events;         /* pushes of watches, except those that only show that one lives */
  uint64_t lag_us;         /* from the last delivery that went live until then; 0: none did */
  int64_t last_success_wall_ms;
  const segue_error *error; /* the last failure, NULL after a success */
  bool push;                /* the policy's strategy; false: it is pulled */
  bool up;                  /* the last fetch was good and can be read; fetches 0: not known */
  bool too_old;             /* and its guard allows that no longer */
  bool held;                /* it is away, and its held delivery is used */
  const char *activity;     /* idle, fetching, watching, backing off */
  const char *revision;     /* or NULL */
  uint64_t stale_ms;        /* since the last success, while it is not up */
  uint64_t next_ms;         /* until it is pulled by the clock; 0 = it is not */
} segue__source_status;
size_t segue__sources_count(const segue__sources *sources); /* live ones */
void segue__sources_status(const segue__sources *sources, size_t index, segue__source_status *out);

/* ---- remote.c: fetches and watches ---- */
/* Waits for a fetch. Caller's memory, until fetched has run or segue__sources_release. */
typedef struct segue__fetch_waiter {
  void (*fetched)(void *data);
  void *data;
} segue__fetch_waiter;

/* Returns whether a run must fetch the source: it was never fetched, or it holds nothing and is not
 * optional. */
bool segue__sources_must_fetch(segue__sources *sources, const segue__source_set *set,
                               const segue__source *source);
/* Returns whether the source has requested a pause that has not passed yet. */
bool segue__sources_is_busy(const segue__sources *sources, const segue__source_set *set,
                            const segue__source *source);
/* Starts a fetch, and cancels a running one that the timer started. The waiter is called at its
 * end, unless this function returns a negative code: UV_EAGAIN: earlier fetches hang. */
int segue__sources_fetch(segue__sources *sources, const segue__source_set *set,
                         const segue__source *source, const segue__fetch_waiter *waiter);
/* Counts a fetch that could not begin as a failure of the source. */
void segue__sources_refused(segue__sources *sources, const segue__source_set *set,
                            const segue__source *source, int code);
/* Cancels the fetches of this waiter. */
void segue__sources_release(segue__sources *sources, const segue__fetch_waiter *waiter);
/* Passes on which documents of a live source are used, and fetches the source. Returns false if
 * there is no such source, or if it always delivers everything. */
bool segue__sources_want(segue__sources *sources, const char *name, const char *const *names,
                         size_t count);
/* Reports how a run of this set ended to the sources whose deliveries it used; the revision is
 * filled in here. outcome NULL: the run was a plan, which is not reported. */
void segue__sources_report(segue__sources *sources, const segue__source_set *set,
                           const segue_source_outcome *outcome);
/* Stops all timers and watches, and every fetch that nothing waits for. */
void segue__sources_stop(segue__sources *sources);
/* After stop. waiting: a fetch or a watch has not answered. busy: one has not returned, perhaps
 * after it was cancelled. */
bool segue__sources_waiting(const segue__sources *sources);
bool segue__sources_busy(const segue__sources *sources);
/* Abandons calls that do not return; returns how many will still return. */
size_t segue__sources_abandon(segue__sources *sources);

/* ---- held.c: what is held of each source ---- */
/* Appends the documents of the last good read of a local source; *had: there was one, perhaps
 * without documents. */
int segue__sources_copy_last(segue__sources *sources, const segue__source_set *set,
                             const segue__source *source, segue__documents *out, bool *had);
/* A run uses what is held: appends the documents, and fills head; or, if there is nothing, sets
 * away, unless the source is optional. strict: content that the source itself calls invalid counts
 * as nothing, although an older delivery is held. Returns 0 or UV_ENOMEM. */
int segue__sources_use(segue__sources *sources, const segue__source_set *set,
                       const segue__source *source, bool strict, segue__documents *out,
                       segue__cached_delivery *head, segue_error *away);
/* Holds a delivery that was cached with a generation until the next one, if nothing newer is held.
 * Takes the documents and the revision then. */
void segue__sources_adopt(segue__sources *sources, const segue__source_set *set,
                          const segue__source *source, segue__documents *documents,
                          segue__cached_delivery *head);
/* A run has parsed what it used: the parsed documents replace their bytes in the held delivery,
 * unless a newer one has come. error NULL: all can be read; else what is wrong with one. */
void segue__sources_note_parsed(segue__sources *sources, const segue__source_set *set,
                                const segue__source *source, const segue__documents *used,
                                const segue__documents *parsed, const segue_error *error);

#endif
