/* SPDX-License-Identifier: MIT
 *
 * scripted.h: modules and policy hooks that a spec controls, and that record each call: the
 * counterparts of the engine in its specs.
 */
#ifndef SPEC_SUPPORT_SCRIPTED_H
#define SPEC_SUPPORT_SCRIPTED_H

#include "../../core/record/writer.h"
#include "../../core/reload/engine.h"

/* The behaviour of a scripted operation. LATER and HANG alike keep the op; scripted_finish ends
 * it. */
enum scripted_deed {
  SCRIPTED_OK,
  SCRIPTED_FAIL,
  SCRIPTED_LATER,
  SCRIPTED_TWICE,       /* done, and done again at once */
  SCRIPTED_THREAD,      /* done from another thread */
  SCRIPTED_FAIL_ONCE,   /* fails, and is OK from then on */
  SCRIPTED_FAIL_AND_OK, /* done with an error, then done with success */
  SCRIPTED_REFUSE,      /* done with SEGUE_ECONFIG */
  SCRIPTED_DIE,         /* the instance reports its failure, then it is done with success */
  SCRIPTED_DIE_LATER    /* ... and keeps the op */
};

typedef struct scripted_world {
  segue__buf journal; /* one line per call: "a.prepare 2\n" */
  size_t instances;   /* alive */
  char holder[64];    /* name of the module instance that holds the exclusive resource, or "" */
} scripted_world;

typedef struct scripted_module {
  scripted_world *world;
  char name[32];
  int behaviour[4]; /* by segue__verb */
  bool exclusive;   /* start acquires the one resource of the scripted world, stop (or destroy)
                       releases it */
  segue_op *kept[4][256];
  int kept_count[4];
  segue_op *life; /* of the instance that was started last; NULL: it is destroyed */
} scripted_module;

scripted_world *scripted_world_new(void);
void scripted_world_free(scripted_world *world);
scripted_module *scripted_module_new(scripted_world *world, const char *name);
void scripted_module_free(scripted_module *module);
const segue_module_ops *scripted_module_ops(void);
/* Ends the kept operations of this verb; false if none is kept. */
bool scripted_finish(scripted_module *module, int verb, int status);
/* The instance that was started last reports its failure, on this thread or another one; false:
 * there is none. why "": without an error. */
bool scripted_die(scripted_module *module, const char *why, bool on_thread);
/* The result of segue_op_cancelled on another thread. */
bool scripted_cancelled_on_thread(const segue_op *op);

/* Hooks: check is a behaviour; probe is a behaviour; reload is a script of words: prepare commit
 * confirm reject defer fail hang drain:a try:a (a drain that may fail) restart:a+b replace:a shut:a
 * open:a (stops at the first that fails, and then ends with its error). */
typedef struct scripted_hooks {
  scripted_world *world;
  int check, probe;
  int check_code; /* of a failing check: SEGUE_EVETO or SEGUE_EPOLICY */
  char script[160], argument[32];
  bool both; /* two verbs are under way at once */
  uint64_t defer_ms;
  segue__drain drain; /* limits of a manual drain */
  int strategy;       /* a behaviour; SCRIPTED_OK wishes for a push */
  segue_op *kept[64]; /* of hooks that end LATER or hang */
  int kept_count;
  segue_op *reload_op;
  segue__txn *txn;
  const char *at;
  int freed;
} scripted_hooks;

scripted_hooks *scripted_hooks_new(scripted_world *world);
void scripted_hooks_free(scripted_hooks *hooks);
/* Ends what check, probe and reload kept. */
void scripted_hooks_finish(scripted_hooks *hooks);
const segue__policy_ops *scripted_policy_ops(void);

/* Files in memory behind segue__os: path -> bytes, or an error. */
typedef struct scripted_files scripted_files;
scripted_files *scripted_files_new(void);
void scripted_files_free(scripted_files *files);
void scripted_files_set(scripted_files *files, const char *path, const char *data, size_t len);
void scripted_files_del(scripted_files *files, const char *path);
/* A program has the file open for writing, or closes it. */
void scripted_files_open(scripted_files *files, const char *path, bool open);
/* Reading it fails with this code from now on. */
void scripted_files_fail(scripted_files *files, const char *path, int code);
const segue__os *scripted_files_os(scripted_files *files);

/* A loader that hands out the policy put into it last, or fails with a message. */
typedef struct scripted_loader {
  segue__policy *next; /* a reference */
  char message[128];   /* not empty: fail with this */
  size_t loads;
} scripted_loader;
scripted_loader *scripted_loader_new(void);
void scripted_loader_free(scripted_loader *loader);
void scripted_loader_put(scripted_loader *loader, segue__policy *policy); /* takes the reference */
segue__policy_loader scripted_loader_get(scripted_loader *loader);

/* Triggers: counts, and fails if the spec requests it. */
typedef struct scripted_triggers {
  int stages, settles, discards;
  bool fail;
} scripted_triggers;
segue__triggers_ops scripted_triggers_ops(scripted_triggers *triggers);

/* Waiters that store their answers. */
typedef struct scripted_waiter {
  segue__waiter waiter; /* first */
  int calls, status;
  segue__result *result; /* a reference, or NULL */
} scripted_waiter;
scripted_waiter *scripted_waiter_new(void);
void scripted_waiter_free(scripted_waiter *waiter);

/* Writes phases and outcomes into the world's journal: "#1 check". */
segue__observer *scripted_observer_new(scripted_world *world);
void scripted_observer_free(segue__observer *observer);

/* Engine options in one call; everything borrowed but the policy. */
int scripted_engine_new(segue__engine **out, segue__loop *loop, const segue__os *os,
                        segue__publication *publication, scripted_loader *loader,
                        scripted_triggers *triggers, scripted_world *log_to, segue__record *record);
/* A record in a folder, between the engine and os. */
int scripted_record_new(segue__record **out, segue__loop *loop, const segue__os *os,
                        const segue__logger *log, const char *folder);
/* Stops the engine; *stopped becomes true. */
void scripted_engine_stop(segue__engine *engine, bool *stopped);

/* Waits until the reclamation thread has done what it was given so far. */
void scripted_settle(segue__publication *publication);

#endif
