/* SPDX-License-Identifier: MIT
 *
 * result.h: the result of one run of the engine, as plain data, and the names in it. Answers, log,
 * history and events are made from it. Control thread.
 */
#ifndef SEGUE_RECORD_RESULT_H
#define SEGUE_RECORD_RESULT_H

#include "../config/mask.h"
#include "../config/tree.h"
#include "file_change.h"
#include "inputs.h"

/* X(name, text, automatic): the triggers of a reload. Automatic ones are debounced and skip an
 * input that was refused before; the others start at once. */
#define SEGUE__TRIGGERS(X)                                                                         \
  X(START, "start", false)                                                                         \
  X(SIGNAL, "signal", false)                                                                       \
  X(WATCH, "watch", true)                                                                          \
  X(HTTP, "http", false)                                                                           \
  X(CONTROL, "control", false)                                                                     \
  X(POLL, "poll", true)                                                                            \
  X(PUSH, "push", true)                                                                            \
  X(RETRY, "retry", true)
typedef enum segue__trigger {
#define X(name, text, automatic) SEGUE__BY_##name,
  SEGUE__TRIGGERS(X)
#undef X
      SEGUE__TRIGGER_COUNT
} segue__trigger;
const char *segue__trigger_name(segue__trigger trigger);
bool segue__trigger_find(const char *name, segue__trigger *out); /* false: there is none */

#define SEGUE__OUTCOMES(X)                                                                         \
  X(APPLIED, "applied")                                                                            \
  X(UNCHANGED, "unchanged")                                                                        \
  X(HELD, "held")                                                                                  \
  X(REJECTED, "rejected")                                                                          \
  X(FAILED, "failed")                                                                              \
  X(REVERTED, "reverted")
typedef enum segue__outcome {
#define X(name, text) SEGUE__##name,
  SEGUE__OUTCOMES(X)
#undef X
      SEGUE__OUTCOME_COUNT
} segue__outcome;
const char *segue__outcome_name(segue__outcome outcome);

#define SEGUE__PHASES(X)                                                                           \
  X(COLLECT, "collect")                                                                            \
  X(CHECK, "check")                                                                                \
  X(PLAN, "plan")                                                                                  \
  X(PREPARING, "prepare")                                                                          \
  X(COMMIT, "commit")                                                                              \
  X(CONFIRM, "confirm")                                                                            \
  X(SETTLED, "settled")
typedef enum segue__phase {
#define X(name, text) SEGUE__PHASE_##name,
  SEGUE__PHASES(X)
#undef X
      SEGUE__PHASE_COUNT
} segue__phase;
const char *segue__phase_name(segue__phase phase);

typedef struct segue__plan_step {
  const char *action; /* static: "keep", "add", "swap", "handover", "restart", "remove" ... */
  char *module;
  char *why; /* "bidder.timeout changed", "code changed", "new" ... */
} segue__plan_step;

/* The truth about one run. Counted, immutable once announced, so that answers, log, history and
 * event stream show the same. */
typedef struct segue__result {
  int refs;
  uint64_t id;    /* 1, 2, 3 ... within the life of the daemon */
  bool plan_only; /* nothing was done */
  char **untried; /* of a plan that prepared its modules: the later steps of a reload */
  size_t untried_count;
  size_t away;   /* sources that were away: their held deliveries were used */
  bool skipped;  /* automatic, and this input was refused before: nothing ran */
  bool deferred; /* the policy put it off: it will run later */
  bool undo_failed;
  bool forced;         /* it ran even if nothing had changed */
  bool taken_at_start; /* unchanged: the start of the daemon has taken the changes already */
  bool unconfirmed;    /* it waits to be confirmed: the outcome is not known yet */
  segue__files *files; /* the files that it read; only in on_phase with SETTLED, and only after
                          segue__engine_keep_files */
  segue__trigger trigger;
  char *cause; /* "SIGHUP", "config.yaml changed, +2 more triggers" */
  segue__outcome outcome;
  segue__phase phase;     /* the last one reached */
  uint64_t generation;    /* live after this run; 0 = none */
  uint64_t previous;      /* live before it, at a start in the process before; 0 = none */
  char confirmed_by[128]; /* an operator, or "probe"; "": none was needed, or none came */
  uint64_t restores;      /* a rollback: the generation whose files were replayed; 0: none */
  char hash[33];          /* of the live config after it */
  int64_t started_wall_ms, ended_wall_ms;
  uint64_t phase_us[SEGUE__PHASE_COUNT];
  segue__errors errors; /* why not applied; warnings of an applied one */
  segue__plan_step *steps;
  size_t step_count;
  segue__file_changes outputs; /* files that it changes, or would change */
  segue__changes changes;      /* from and to are NULL here; texts instead: */
  char **change_texts;         /* JSON of the new value (NULL for a removal), cut at 200 bytes */
} segue__result;
const char *segue__result_outcome(const segue__result *result); /* or "unconfirmed" */
segue__result *segue__result_ref(segue__result *result);
void segue__result_unref(segue__result *result);

/* cause: the text of the first trigger; joined: how many more there were. The caller fills in the
 * other fields. */
int segue__result_new(segue__result **out, uint64_t id, const segue__buf *cause, size_t joined);
void segue__result_error(segue__result *result, const segue_error *error);
void segue__result_drop_changes(segue__result *result); /* before others are added */
/* Copies the changes. mask: hides the values of secrets. */
int segue__result_take_changes(segue__result *result, const segue__changes *changes,
                               const segue__mask *mask);

#endif
