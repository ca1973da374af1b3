/* SPDX-License-Identifier: MIT
 *
 * sources_internal.h: the state of each source, for sources.c, remote.c and held.c.
 */
#ifndef SEGUE_SOURCE_SOURCES_INTERNAL_H
#define SEGUE_SOURCE_SOURCES_INTERNAL_H

#include "../os/op.h"
#include "sources.h"

typedef struct segue__source_state segue__source_state;

/* A running fetch or watch. It lives until the source completes it, also after its user has gone.
 */
typedef struct segue__remote_call {
  segue_op op; /* first: the op is the call */
  segue__sources *sources;
  segue__source_set set; /* a reference on its owner: source is in it */
  const segue__source *source;
  segue__source_state *state;        /* NULL: forgotten */
  const segue__fetch_waiter *waiter; /* NULL: nothing waits for it */
  segue__emission delivery;
  segue__emitter emitter;
  bool dropped;   /* its delivery is ignored */
  bool answered;  /* it has ended for the engine; the source may not have completed it */
  bool overtaken; /* a push came after this fetch had begun */
  bool whole;     /* a fetch of everything, not of changes */
  bool second;    /* a fetch after refused credentials, which the source reads again for it */
  bool checks;    /* a fetch beside a watch that had proved itself and had not requested it */
  struct segue__remote_call *prev, *next;
} segue__remote_call;

/* The delivery that is held of a source: held.c writes it. */
typedef struct segue__held {
  segue__documents documents; /* of the last good fetch: handed to the next one */
  bool in_order;              /* they are in the order of their names, each name once */
  bool has;                   /* asynchronous: the documents are what it delivered last */
  char *revision;
  uint64_t came_us;       /* when these documents came; and those that the last run used: */
  uint64_t used_came_us;  /* 0: it is live, or there was none */
  bool forgotten;         /* the next fetch gets no revision and delivers everything */
  bool went_on_without;   /* a run used what is held while the source was away */
  char *used;             /* revision of the delivery that the last run used; NULL: none */
  bool was_used;          /* and its outcome was not reported yet */
  segue_error unreadable; /* why the documents cannot be read; code 0: they can */
} segue__held;

/* The timers and calls of an asynchronous source: remote.c writes it. */
typedef struct segue__remote {
  const segue__source *source; /* of the live set; NULL: it is of none */
  segue__remote_call *pull, *watch;
  bool trigger_owed;      /* something new came, and no run could be requested */
  bool again;             /* a fetch is due that must begin after the one under way */
  bool asked;             /* the watch, or its start, is why the next fetch is due */
  uint64_t busy_until_ms; /* the server has requested a pause until then */
  segue__timer pull_timer;
  segue__timer watch_timer; /* a watch runs: until it has proved itself; else: until the next */
  bool proven;              /* the watch that runs has emitted, or has run for a while */
  unsigned watch_attempts;  /* in a row that did not prove themselves, for the back-off */
  uint64_t watch_failures;  /* the same, for the strategy */
  unsigned watch_denials;   /* refusals of its credentials in a row */
  segue_error watch_error;
  bool continues;          /* the next watch continues one that its server has ended */
  uint64_t began_ms;       /* the watch that runs */
  uint64_t alive_ms;       /* it emitted last, or began */
  uint64_t missed_ms;      /* until then it must emit the change that a fetch has found; 0: none */
  segue__timer life_timer; /* for the two above */
  uint64_t restarts;
} segue__remote;

struct segue__source_state {
  segue__sources *sources;
  const segue__source_kind *kind;
  char *name;
  segue__hash spec;
  const void *trial; /* only the set of this owner, which is not live yet, uses it; NULL: live */
  uint64_t fetches, failures, consecutive_failures;
  uint64_t failed[SEGUE__FAILURE_COUNT];
  uint64_t resyncs[SEGUE__RESYNC_COUNT];
  uint64_t events, lag_us;
  int64_t last_success_wall_ms;
  segue_error error; /* code 0: the last fetch was good */
  bool push;         /* what the strategy decided */
  bool seen;         /* the strategy has seen it, when failures in a row were: */
  uint64_t seen_failures;
  bool applied; /* the live generation has so many items of it: */
  uint64_t applied_items;
  segue__held held;
  segue__remote remote;
};

struct segue__sources {
  segue__sources_options options;
  segue__loop *loop;
  const segue__logger *log;
  segue__source_set live;
  segue__source_state **items; /* of the live set, and of one that is tried */
  size_t count;
  segue__remote_call *calls; /* fetches and watches that have not ended */
  bool stopping;
};

/* ---- sources.c ---- */
/* By the source of a set. get: or new; NULL: no memory. */
segue__source_state *segue__source_find(const segue__sources *sources, const segue__source_set *set,
                                        const segue__source *source);
segue__source_state *segue__source_get(segue__sources *sources, const segue__source_set *set,
                                       const segue__source *source);
/* A fetch or a push was good. */
void segue__source_succeeded(segue__source_state *state);
void segue__source_failed(segue__source_state *state, const segue_error *error);
segue__failure_kind segue__failure_kind_of(int code);
uint64_t segue__sources_now_us(const segue__sources *sources);

/* ---- held.c ---- */
/* Takes a delivery. 1: other documents than those that are held, 0: the same; negative: it cannot
 * be taken. */
int segue__held_take(segue__source_state *state, segue__emission *delivery, segue_error *err);
/* Returns whether changes are missing between what is held and this delivery: only a delivery of
 * everything helps. */
bool segue__held_has_gap(const segue__source_state *state, const segue__emission *delivery);
/* The revision for the next fetch or watch; NULL: it delivers everything. */
const char *segue__held_revision(const segue__source_state *state);
/* Returns whether a run used what is held, for one report of its outcome. */
bool segue__held_take_used(segue__source_state *state);
int segue__held_copy(segue__held *to, const segue__held *from); /* for a trial */
void segue__held_hand_over(segue__held *from, segue__held *to); /* a trial is live: exchanges */
void segue__held_deinit(segue__held *held);

/* ---- remote.c ---- */
void segue__remote_init(segue__source_state *state);
/* The source is this one of the live set now. */
void segue__remote_settle(segue__source_state *state, const segue__source *source);
/* Stops its timer and its watch, before it is forgotten or at the end. */
void segue__remote_halt(segue__source_state *state);
bool segue__remote_is_watched(const segue__source_state *state);

/* ---- remote.c for remote_watch.c ---- */
segue__remote_call *segue__remote_call_new(segue__source_state *state, const segue__source_set *set,
                                           const segue__source *source); /* NULL: no memory */
/* Detaches the call from its source: a later delivery is dropped. NULL allowed. */
void segue__remote_drop(segue__remote_call *call);
/* The operation has ended: frees the call, and starts a watch in the place of a dropped one. */
void segue__remote_end_call(segue__remote_call *call);
void segue__remote_finished(segue_op *op); /* the same, for one that was answered before */
void segue__remote_schedule(segue__source_state *state);
/* asked: by the watch, whose silence about the change is then no sign. */
void segue__remote_pull_soon(segue__source_state *state, uint64_t ms, bool asked);
uint64_t segue__remote_backoff(segue__sources *sources, const segue__source *source,
                               uint64_t attempt);
uint64_t segue__remote_longest(segue__sources *sources, const segue__source *source);
/* The rest of a pause that the server has requested; 0: none. note: an operation has ended. */
uint64_t segue__remote_busy_ms(const segue__source_state *state);
void segue__remote_note_busy(segue__source_state *state, const segue_op *op, int status);
void segue__remote_fire(segue__source_state *state, bool pushed, const char *what);
/* Removes from the error what may be a value of a configuration. */
void segue__remote_conceal(const segue__remote_call *call, segue_error *error);
/* Everything is fetched next. */
void segue__remote_forget(segue__source_state *state, segue__resync_reason reason);

/* ---- remote_watch.c ---- */
void segue__remote_decided(segue__source_state *state); /* the strategy has decided */
void segue__watch_start(
    segue__source_state *state); /* if the source is to be watched, and is not */
void segue__watch_due(segue__timer *timer);
void segue__watch_emitted(void *data, segue__emission *delivery);
/* A fetch has found a change that the watch has not emitted, so far. */
void segue__watch_missed(segue__source_state *state);

#endif
