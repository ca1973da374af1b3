/* SPDX-License-Identifier: MIT
 *
 * module.h: module instances and their operations: which thread may call which of them when,
 * deadlines, and a segue_op_done that comes late or twice. It does not depend on reloads; the
 * transaction calls it. Control thread, except segue_op_done and segue_op_cancelled.
 */
#ifndef SEGUE_MODULE_MODULE_H
#define SEGUE_MODULE_MODULE_H

#include "../config/snapshot.h"
#include "../options/options.h"
#include "../os/log.h"
#include "../os/loop.h"
#include "../os/op.h"
#include "gate.h"
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

/* The access log of a listener. */
typedef struct segue__access_spec {
  bool on;
  char *path; /* NULL: through the current log */
  bool json;
  bool query; /* lines have the part of the URL behind "?" */
} segue__access_spec;

/* The listeners of a module. 0: the default. */
typedef struct segue__listen_spec {
  char **urls; /* "http://127.0.0.1:8080", "https://..." */
  size_t url_count;
  char *cert, *key, *client_ca; /* of listeners with TLS: paths; NULL: none */
  bool client_optional;
  void *tls; /* made from these files by the code that opens listeners; NULL: not made yet */
  void (*free_tls)(void *tls);
  segue__access_spec access;
  bool generation_header; /* answers name the generation that served them */
  uint64_t head_bytes, body_bytes, connections;
  uint64_t head_ms, body_ms, idle_ms, write_ms;
  char *file; /* its file, or NULL */
  uint32_t line;
} segue__listen_spec;

/* X(name, text): the action when a drain exceeds its time limit. */
#define SEGUE__OVERS(X) X(CUT, "cut") X(WAIT, "wait") X(UNDO, "undo")
typedef enum segue__over {
#define X(name, text) SEGUE__OVER_##name,
  SEGUE__OVERS(X)
#undef X
      SEGUE__OVER_ASK /* only between engine and module: the caller of the drain decides */
} segue__over;
bool segue__over_find(const char *text, segue__over *over);

/* How an instance is drained. Zero: the defaults below. */
typedef struct segue__drain {
  uint64_t within_ms;
  segue__over over;
  uint64_t again; /* wait: the number of further waits, with a warning each time; then it is cut */
} segue__drain;

/* The part of a policy about one module. Owned by the policy. */
typedef struct segue__module_spec {
  char *name;
  char *kind; /* "c", "lua", ... as written */
  segue__replace replace;
  bool replace_given; /* else the kind of module decides */
  char *config;       /* path of its slice; NULL or "" = the whole config */
  char **needs;       /* names of modules that start before this one */
  size_t needs_count;
  uint64_t prepare_ms, start_ms, stop_ms; /* 0 = defaults below */
  bool failed_waits; /* while it has failed, calls wait at its gate; false: they are refused */
  segue__drain drain;
  segue__gate_limits buffer; /* of its gate */
  segue__listen_spec listen;
  segue__hash inputs; /* hash of code, template and argv: a change is a reason to replace */
  const segue_module_ops *ops; /* how to run it; outlives the policy, or is the plugin's */
  void *userdata;
  /* Its action, if a reload does more than replace an instance; NULL: the one of `replace`. */
  const struct segue__action *action;
  void (*free)(void *userdata); /* frees userdata, for the maker of the spec; NULL: none */
  /* The spec of the step that drops this module in a reload: its action removes what the module has
   * outside memory. Owned by userdata. NULL: the module has nothing there. */
  const struct segue__module_spec *removal;
  /* A reason to replace a live instance that its part of the configuration and `inputs` do not
   * show: the path of a value that it has read elsewhere, and that is another one in next; NULL:
   * none. Borrowed until the instance is destroyed. May be NULL. */
  const char *(*differs)(const void *object, const segue_snapshot *next);
  /* Chooses the action where the module is new (live NULL) or there is a reason to replace its live
   * instance, which is of the same kind. NULL: `action`, or the one of `replace`. */
  const struct segue__action *(*choose)(const struct segue__module_spec *spec, const void *live,
                                        const segue_snapshot *next, bool forced);
  /* It changes something outside memory, and no command of its own applies that: the modules that
   * follow do. */
  bool unapplied;
  /* It has no part of the configuration of its own: the reasons to replace it are `differs`, its
   * options, and a change or the end of a module that is `unapplied`. */
  bool follows;
  bool on_workers;              /* its code runs on the worker threads, whether it listens or not */
  segue__plugin *plugin;        /* a reference; NULL: the ops are the host's */
  segue_option_kind_value made; /* from the policy's table: the kind's own options */
  segue__option_values *values; /* options by the table of its plugin, a reference; NULL: none */
  segue__hash options;          /* of these as written: a change is a reason to replace */
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

/* The instances of an engine: `all` has every one that is not destroyed; `head` the ones that were
 * released and are not destroyed yet. on_state, which may be NULL, is called when an instance
 * enters a state. */
typedef struct segue__detached {
  segue__instance *head, *all;
  size_t count;
  void (*on_state)(void *data, const char *name, uint64_t generation, segue__module_state state);
  /* An instance that serves has reported that it failed (segue_module_failed). May be NULL. */
  void (*on_failure)(void *data, segue__instance *instance);
  void *data;
} segue__detached;
/* Returns how many instances of a module are in a state. */
size_t segue__detached_states(const segue__detached *detached, const char *name,
                              segue__module_state state);

/* Takes references to the snapshots; copies ops, userdata and slice from spec. */
int segue__instance_new(segue__instance **out, segue__loop *loop, const segue__logger *log,
                        const segue__module_spec *spec, const segue_snapshot *next,
                        const segue_snapshot *prev, segue__detached *detached);
/* Calls the operation; cb runs once, never before this returns, with 0, the operation's error, or
 * SEGUE_ETIMEOUT after deadline_ms. A drain ends when its operation is done and all callers have
 * left. */
void segue__instance_call(segue__instance *instance, segue__verb verb, uint64_t deadline_ms,
                          segue__verb_cb cb, void *data);
/* Calls drain, with the time limits of `drain`. Undoes nothing: over = undo acts as cut. */
void segue__instance_drain(segue__instance *instance, const segue__drain *drain, segue__verb_cb cb,
                           void *data);
/* Ends the wait for this operation, with SEGUE_ECANCELLED. Harmless if it has not begun or has
 * ended. */
void segue__instance_cancel(segue__instance *instance, segue__verb verb);
/* Signals the operation by segue_op_cancelled that its result is not needed; still waits for it
 * until its deadline. */
void segue__instance_expedite(segue__instance *instance, segue__verb verb);
/* Releases the instance: it is destroyed now, or as soon as its outstanding operation is done. NULL
 * allowed. */
void segue__instance_release(segue__instance *instance);
/* A lease of this gate lets callers in: until unpin a drain does not end, and the instance is not
 * destroyed. */
void segue__instance_pin(segue__instance *instance, segue_gate *gate);
void segue__instance_unpin(segue__instance *instance);
/* Waits until all callers have left. cb runs once, never before this returns. all: they have left;
 * else the time limit of drain passed, or stop_waiting was called. One wait at a time. */
void segue__instance_wait_left(segue__instance *instance, const segue__drain *drain,
                               void (*cb)(void *data, bool all), void *data);
void segue__instance_stop_waiting(segue__instance *instance); /* harmless without a wait */
/* The drain that will follow does not wait for callers. */
void segue__instance_cut(segue__instance *instance);
size_t segue__instance_inside(const segue__instance *instance); /* exact once its gate is shut */
/* At shutdown: leaks the instances with an operation that does not finish, and logs each; returns
 * the number of operations that have finished and whose message must be waited for. */
size_t segue__detached_abandon(segue__detached *detached);
segue__module_state segue__instance_state(const segue__instance *instance);
/* The failure that it has reported; NULL: none. */
const segue_error *segue__instance_failure(const segue__instance *instance);
/* The time since it began to serve; 0: it never did. */
uint64_t segue__instance_served_ms(const segue__instance *instance);
uint64_t segue__instance_generation(const segue__instance *instance);
/* Returns its drain, and the time limit of its stop, as in its policy. */
const segue__drain *segue__instance_limits(const segue__instance *instance, uint64_t *stop_ms);
void *segue__instance_object(const segue__instance *instance);
/* Returns its service for other modules; NULL: it has none. */
const segue__service *segue__instance_service(const segue__instance *instance);
/* Called after prepare: the instance inherits state from the one that it will replace, if both come
 * from the same plugin or registration. */
void segue__instance_inherit(segue__instance *instance, segue__instance *prev);
bool segue__instance_reopen(segue__instance *instance); /* false: it has no files to reopen */
void segue__instance_metrics(segue__instance *instance,
                             void (*add)(void *sink, const char *text, size_t len), void *sink);
/* Largest size that a struct with a size field may claim. A larger one was not initialized. */
#define SEGUE__STRUCT_MAX 4096
/* Returns whether the ops can be used: compiled with an older header (shorter), with this one, or
 * with a newer one (longer, where only the part that is known here is used). */
bool segue__module_ops_fit(const segue_module_ops *ops);
/* Returns whether the module offers a service to other modules: then it can only be swapped. */
bool segue__module_ops_serve(const segue_module_ops *ops);
/* Returns whether this module is in its `needs`. */
bool segue__instance_needs(const segue__instance *instance, const char *name);
bool segue__instance_is_swapped(const segue__instance *instance); /* [any thread] */
/* Returns the operations of the instance that the pass is inside of. [any thread] */
const segue_module_ops *segue__pass_ops(const segue_pass *pass);
const segue_module_ops *segue__instance_ops(const segue__instance *instance); /* [any thread] */

#endif
