/* SPDX-License-Identifier: MIT
 *
 * module.h: module instances and their operations: who may call what when, deadlines, and what
 * happens to a done that comes late or twice. Knows nothing of reloads; the transaction drives it.
 * Control thread, except segue_op_done and segue_op_cancelled.
 */
#ifndef SEGUE_MODULE_MODULE_H
#define SEGUE_MODULE_MODULE_H

#include "../config/snapshot.h"
#include "../os/log.h"
#include "../os/loop.h"
#include "gate.h"
#include "op.h"
#include "plugin.h"
#include "service.h"

/* X(name, text) */
#define SEGUE__REPLACES(X) X(SWAP, "swap") X(HANDOVER, "handover") X(RESTART, "restart")
typedef enum segue__replace {
#define X(name, text) SEGUE__##name,
  SEGUE__REPLACES(X)
#undef X
} segue__replace;

#define SEGUE__MODULE_STATES(X)                                                                    \
  X(BUILDING, "building")                                                                          \
  X(READY, "ready")                                                                                \
  X(SERVING, "serving")                                                                            \
  X(DRAINING, "draining")                                                                          \
  X(STOPPED, "stopped")                                                                            \
  X(FAILED, "failed")
typedef enum segue__module_state {
#define X(name, text) SEGUE__MODULE_##name,
  SEGUE__MODULE_STATES(X)
#undef X
      SEGUE__MODULE_STATE_COUNT
} segue__module_state;
const char *segue__module_state_name(segue__module_state state);
const char *segue__replace_name(segue__replace replace);

/* Where requests are written down. */
typedef struct segue__access_spec {
  bool on;
  char *path; /* NULL: through the current log */
  bool json, no_query;
} segue__access_spec;

/* Where a module is reached from outside. 0: the default. */
typedef struct segue__listen_spec {
  char **urls; /* "http://127.0.0.1:8080", "https://..." */
  size_t url_count;
  char *cert, *key, *client_ca; /* of those that speak TLS: paths; NULL: none */
  bool client_optional;
  void *tls; /* what was made of them, by whoever opens listeners; NULL: nothing yet */
  void (*free_tls)(void *tls);
  segue__access_spec access;
  bool generation_header; /* answers name the generation that made them */
  uint64_t head_bytes, body_bytes, connections;
  uint64_t head_ms, body_ms, idle_ms, write_ms;
  char *file; /* where it is written, or NULL */
  uint32_t line;
} segue__listen_spec;

/* X(name, text): what becomes of a drain that runs over. */
#define SEGUE__OVERS(X) X(CUT, "cut") X(WAIT, "wait") X(UNDO, "undo")
typedef enum segue__over {
#define X(name, text) SEGUE__OVER_##name,
  SEGUE__OVERS(X)
#undef X
      SEGUE__OVER_ASK /* by hand only: who asked for the drain is told, and decides */
} segue__over;
bool segue__over_find(const char *text, segue__over *over);

/* How an instance is emptied. Zero: the defaults below. */
typedef struct segue__drain {
  uint64_t within_ms;
  segue__over over;
  uint64_t again; /* wait: so many times more, with a warning each time; then it is cut */
} segue__drain;

/* The part of a policy about one module. Owned by the policy. */
typedef struct segue__module_spec {
  char *name;
  char *kind; /* "c", "lua", ... as written */
  segue__replace replace;
  char *config; /* path of its slice; NULL or "" = the whole config */
  char **needs; /* names of modules that start before this one */
  size_t needs_count;
  uint64_t prepare_ms, start_ms, stop_ms; /* 0 = defaults below */
  segue__drain drain;
  segue__gate_limits buffer; /* of its gate */
  segue__listen_spec listen;
  segue__hash inputs;          /* bytes of code, template, argv: a change is a reason to replace */
  const segue_module_ops *ops; /* how to run it; outlives the policy, or is the plugin's */
  void *userdata;
  /* Its action, if a reload does more than replace an instance; NULL: as `replace` says. */
  const struct segue__action *action;
  void (*free)(void *userdata); /* for who made the spec; NULL: nothing to free */
  bool on_workers;              /* its code runs on the data threads, if it listens or not */
  segue__plugin *plugin;        /* a reference; NULL: the ops are the host's */
} segue__module_spec;

#define SEGUE__PREPARE_MS 30000
#define SEGUE__START_MS 30000
#define SEGUE__DRAIN_MS 10000
#define SEGUE__DRAIN_AGAIN 3
#define SEGUE__STOP_MS 10000

typedef enum segue__verb { SEGUE__PREPARE, SEGUE__START, SEGUE__DRAIN, SEGUE__STOP } segue__verb;

/* One instance of a module. Each verb runs at most once in its life. */
typedef void (*segue__verb_cb)(segue__instance *instance, segue__verb verb, int status,
                               const segue_error *error, void *data);

/* The instances of an engine: all that are not destroyed, and those of them that were given up
 * while an operation was outstanding. on_state, which may be NULL, hears of every state that one
 * enters.
 */
typedef struct segue__detached {
  segue__instance *head, *all;
  size_t count;
  void (*on_state)(void *data, const char *name, uint64_t generation, segue__module_state state);
  void *data;
} segue__detached;
/* How many instances of a module are in a state. */
size_t segue__detached_states(const segue__detached *detached, const char *name,
                              segue__module_state state);

/* Takes references on the snapshots; remembers ops, userdata and slice of spec, not spec itself. */
int segue__instance_new(segue__instance **out, segue__loop *loop, const segue__logger *log,
                        const segue__module_spec *spec, const segue_snapshot *next,
                        const segue_snapshot *prev, segue__detached *detached);
/* Calls the operation; cb runs once, never before this returns, with 0, the operation's error, or
 * SEGUE_ETIMEOUT after deadline_ms. A drain ends when the operation has, and everybody who was let
 * in has left. */
void segue__instance_call(segue__instance *instance, segue__verb verb, uint64_t deadline_ms,
                          segue__verb_cb cb, void *data);
/* Calls drain, with all the time that it gets this way. Nothing is undone here: undo is as cut. */
void segue__instance_drain(segue__instance *instance, const segue__drain *drain, segue__verb_cb cb,
                           void *data);
/* Does not wait for this operation any longer: it ends with SEGUE_ECANCELLED. Harmless if it is not
 * under way. */
void segue__instance_cancel(segue__instance *instance, segue__verb verb);
/* Tells it that nobody needs this operation any longer; it has its time all the same. */
void segue__instance_expedite(segue__instance *instance, segue__verb verb);
/* Gives the instance up: it is destroyed now, or as soon as its outstanding operation is done.
 * NULL allowed. */
void segue__instance_release(segue__instance *instance);
/* Somebody may be inside, by this gate: a drain is not over, and nothing is destroyed, before all
 * are unpinned. */
void segue__instance_pin(segue__instance *instance, segue_gate *gate);
void segue__instance_unpin(segue__instance *instance);
/* cb runs once, never before this returns: all: everybody who was let in has left; not all: they
 * had not in the time that they get this way, or stop_waiting was called. One at a time. */
void segue__instance_wait_left(segue__instance *instance, const segue__drain *drain,
                               void (*cb)(void *data, bool all), void *data);
void segue__instance_stop_waiting(segue__instance *instance); /* harmless if nobody waits */
/* Its drain, still to come, does not wait for who is inside. */
void segue__instance_cut(segue__instance *instance);
size_t segue__instance_inside(const segue__instance *instance); /* exact once its gate is shut */
/* Shutdown: what hangs in limbo is left to its fate (leaked, and said so in the log); returns how
 * many are about to finish by themselves and must be waited for. */
size_t segue__detached_abandon(segue__detached *detached);
segue__module_state segue__instance_state(const segue__instance *instance);
uint64_t segue__instance_generation(const segue__instance *instance);
/* Its drain, and the time limit of its stop, as its policy said. */
const segue__drain *segue__instance_limits(const segue__instance *instance, uint64_t *stop_ms);
void *segue__instance_object(const segue__instance *instance);
/* The service that it offers to all modules; NULL: none. */
const segue__service *segue__instance_service(const segue__instance *instance);
/* Prepared: takes over from the one that it will replace, if both are of one making. */
void segue__instance_inherit(segue__instance *instance, segue__instance *prev);
bool segue__instance_reopen(segue__instance *instance); /* false: there is nothing to open anew */
void segue__instance_metrics(segue__instance *instance,
                             void (*add)(void *sink, const char *text, size_t len), void *sink);
/* Largest size that a struct with a size field may claim. A larger one was not initialized. */
#define SEGUE__STRUCT_MAX 4096
/* Returns whether the ops can be used: compiled with an older header (shorter), with this one, or
 * with a newer one (longer, where only the part that is known here is used). */
bool segue__module_ops_fit(const segue_module_ops *ops);
/* Returns whether the module offers a service to other modules: then it can only be swapped. */
bool segue__module_ops_serve(const segue_module_ops *ops);
/* Does its policy say that it needs this module? */
bool segue__instance_needs(const segue__instance *instance, const char *name);
bool segue__instance_is_swapped(const segue__instance *instance); /* [any thread] */
/* Of the instance that somebody is inside of. [any thread] */
const segue_module_ops *segue__pass_ops(const segue_pass *pass);
const segue_module_ops *segue__instance_ops(const segue__instance *instance); /* [any thread] */

#endif
