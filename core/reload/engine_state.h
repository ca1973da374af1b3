/* SPDX-License-Identifier: MIT
 *
 * engine_state.h: the state of an engine that its parts share, and the services that every part
 * may use. A part that has data of its own keeps them in its file.
 */
#ifndef SEGUE_RELOAD_ENGINE_STATE_H
#define SEGUE_RELOAD_ENGINE_STATE_H

#include "../module/modules.h"
#include "../record/writer.h"
#include "../schema/schema.h"
#include "../source/sources.h"
#include "engine.h"

typedef struct segue__queued_run segue__queued_run;
typedef struct segue__confirm segue__confirm;
typedef struct segue__operator segue__operator;
typedef struct segue__run_queue segue__run_queue;

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
  uint64_t last_generation; /* numbers that ever went live are not used again */
  segue__numbers reserved;  /* on disk: up to these no later process gives a number again */
  segue__numbers reserving; /* the end of the block that is being written */
  segue__hash live_input;   /* input hash of the live generation */
  segue__hash last_raw;     /* raw hash of the sources in the last run */

  segue__record *record;      /* NULL: nothing outlives the process */
  segue__operator *operators; /* the decisions, and what is known of their writes */
  segue__journal journal;     /* the open intents of actions with effects outside memory */
  bool resumes;               /* nothing went live yet: numbers continue where they were */
  uint64_t
      taken_at_start; /* the generation that the start made of changed sources; 0: it did not */

  segue__modules *modules; /* across policies, with the old instances in the background */
  bool recovering;
  bool effects_tried; /* the intents that the start found were given to their actions */
  bool asking;        /* a strategy hook is under way */
  segue_op *hooks;    /* policy hooks that outlived their deadline, chained by data */

  segue__sources *sources; /* of the live policy, and of one that is being tried */
  uint64_t sources_end_ms; /* when their calls are abandoned at the end; 0: not decided */
  uint32_t next_document;

  segue__run_queue *queue;
  segue__confirm *confirm;
  segue__txn *txn; /* running */
  uint64_t next_id;
  segue__timer recover_timer;
  uint64_t effects_at_ms; /* when open intents are tried again; 0: not planned */
  unsigned effects_attempts;
  uint64_t random;

  segue__observer *observers; /* observers.c */

  int64_t stale_since_wall_ms; /* 0: the live generation equals the sources */
  bool keep_files;             /* results have them in on_phase */
  bool stopping;
  void (*stopped_cb)(void *data);
  void *stopped_data;
};

/* ---- Services (engine_life.c) ---- */
enum { SEGUE__RETRY_FIRST_MS = 1000 };
void segue__engine_schedule(segue__engine *engine);
/* Drops a reference off the loop where that can be: freeing a large tree takes milliseconds. */
void segue__engine_drop(segue__engine *engine, const segue_snapshot *snapshot);
void segue__engine_check_stopped(segue__engine *engine);
uint64_t segue__engine_backoff_ms(segue__engine *engine, unsigned attempt);
uint64_t segue__engine_now_us(const segue__engine *engine);
/* Takes the secrets of the live config, and of one that is validated, out of the sentence. */
void segue__engine_scrub(const segue__engine *engine, segue_error *error);

/* ---- observers.c: each calls all observers that have such a function ---- */
void segue__engine_notify(segue__engine *engine, const segue__result *result, segue__phase phase);
void segue__engine_notify_secrets(segue__engine *engine, const segue__mask *mask);
void segue__engine_notify_module(segue__engine *engine, const char *name, uint64_t generation,
                                 segue__module_state state);
void segue__engine_notify_drift(segue__engine *engine, const segue__drift_report *report);

/* ---- Calls that go up: a part reports, and the owner of the decision acts. ---- */
/* strategy.c: asks the policy about sources whose health has changed. */
void segue__strategy_ask(segue__engine *engine);
/* recover.c. Takes down the live instances that have failed, and sets the timer for what has to be
 * recovered. Does nothing while a transaction runs, at whose end it is called. */
void segue__recover_schedule(segue__engine *engine);
/* operator.c: the journal or the decisions are other ones now. Nothing waits for the write; the
 * tick repeats it. */
void segue__operator_write_now(segue__engine *engine);

#endif
