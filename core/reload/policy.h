/* SPDX-License-Identifier: MIT
 *
 * policy.h: a policy as plain C data, and its hooks as function pointers. The engine needs nothing
 * else: the Lua binding fills it from reload.lua, hosts and specs fill it themselves. NULL hooks
 * mean the defaults.
 */
#ifndef SEGUE_RELOAD_POLICY_H
#define SEGUE_RELOAD_POLICY_H

#include "../config/mask.h"
#include "../module/module.h"
#include "../options/options.h"
#include "../source/sources.h"
#include "exec_options.h"
#include "listener_options.h"

typedef struct segue__txn segue__txn;
typedef struct segue__policy segue__policy;

typedef enum segue__trigger_type {
  SEGUE__TRIGGER_SIGNAL,
  SEGUE__TRIGGER_WATCH,
  SEGUE__TRIGGER_HTTP,
  SEGUE__TRIGGER_POLL,
  SEGUE__TRIGGER_TASK /* the policy's own: segue__policy_ops.triggers_start */
} segue__trigger_type;

typedef struct segue__trigger_spec {
  segue__trigger_type type;
  int signum;             /* signal */
  bool reopen;            /* signal: modules open their files again, and nothing is reloaded */
  char *address;          /* http: "127.0.0.1:7377" */
  segue__http_spec *http; /* http: access and limits; NULL: the defaults */
  void *auth;             /* http: built from it by the code that opens listeners */
  void (*free_auth)(void *auth);
  uint64_t interval_ms;         /* poll; watch: rescan (0 = default) */
  segue_option_kind_value made; /* from the policy's table */
} segue__trigger_spec;

/* A file whose bytes are part of the policy: reload.lua and what it loads. */
typedef struct segue__input {
  char *path;
  segue__hash hash;
  bool credential; /* of a listener of the admin API: every run reads its present file */
  bool secret;     /* must not be open to every user */
} segue__input;

/* Hooks. Each ends by exactly one segue_op_done on the op it is given; see segue.h for late and
 * double ones. Called on the control thread. */
typedef struct segue__policy_ops {
  /* 0 = good; SEGUE_EVETO = refused by the policy; SEGUE_EPOLICY, SEGUE_ELIMIT = the hook has a
   * bug: rejected. A code of the system, SEGUE_EMODULE, SEGUE_ERECORD, SEGUE_ESOURCE, SEGUE_ECLOSED
   * or SEGUE_ECANCELLED = a system error: failed, and tried again. prev is NULL for the first
   * generation. */
  void (*check)(void *impl, segue_op *op, const segue_snapshot *next, const segue_snapshot *prev);
  /* Adds everything that the last check or reload found to `out`, if that is more than the one
   * error it was done with (which is the first of them). May be NULL. */
  void (*explain)(void *impl, segue__errors *out);
  /* Runs the transaction (segue__txn_prepare and so on) instead of prepare-commit-confirm. Ends as
   * check does; from the first step on that changed something, any failure is reverted. */
  void (*reload)(void *impl, segue_op *op, segue__txn *txn);
  /* Is the new generation healthy? Called again until it is or `within` is over. */
  void (*probe)(void *impl, segue_op *op);
  /* Pull or push: stores its decision in *push before done. Asked when a source is new and whenever
   * its health changes; source and push stay until the op is done. */
  void (*strategy)(void *impl, segue_op *op, const segue__source_health *source, bool *push);
  /* The policy's own triggers run from settle until they are stopped, or the policy is freed. fire
   * requests a reload, not before triggers_start returned; cause is borrowed. May be NULL. */
  void (*triggers_start)(void *impl, void (*fire)(void *data, const char *cause), void *data);
  void (*triggers_stop)(void *impl);
  /* Called once when the last reference is dropped. */
  void (*free)(void *impl);
} segue__policy_ops;

/* A document beside the schema, and the URI that it is known by; NULL: its path. */
typedef struct segue__schema_part {
  char *uri, *path;
} segue__schema_part;

struct segue__policy {
  int refs; /* control thread only */
  char *name;
  segue__input *inputs;
  size_t input_count;
  segue__source *sources;
  size_t source_count;
  segue__trigger_spec *triggers;
  size_t trigger_count;
  bool triggers_given; /* else it has the default ones */
  segue__module_spec *modules;
  size_t module_count;
  char **plugins; /* folders with plugins, before the one that segue brings */
  size_t plugin_count;
  char *schema; /* path of a JSON Schema that the merged config must fit; NULL: none */
  segue__schema_part *schema_with;
  size_t schema_with_count;
  bool ready_strict;    /* a stale generation is not ready */
  bool schema_defaults; /* are filled in before anything is validated */
  bool formats_ignored; /* its "format" is an annotation; else it asserts */
  char **secrets;       /* patterns of paths, and the mask of them */
  size_t secret_count;
  segue__mask *mask;                         /* NULL: none */
  uint64_t threads;                          /* that serve requests; 0: one for each core but one */
  uint64_t debounce_min_ms, debounce_max_ms; /* defaults 50 and 1000 */
  uint64_t min_interval_ms;
  uint64_t collect_ms, check_ms, reload_ms; /* phase deadlines; defaults 30 s, 5 s, 10 min */
  bool confirm;                             /* the fields below count */
  uint64_t confirm_hold_ms, confirm_within_ms;
  uint64_t confirm_failures; /* of the probe in a row: reverted without waiting; 0: any number */
  bool confirm_by_operator;  /* a person confirms; the probe is not asked */
  uint64_t history_reloads, history_generations, history_age_ms, history_bytes; /* 0: default */
  uint64_t last_good_age_ms; /* a start does not serve an older one; 0: no limit */
  segue__exec_options exec;  /* of `segue exec` */
  bool has_check, has_reload, has_probe, has_strategy; /* which hooks the policy has */
  const segue__policy_ops *ops;                        /* NULL: none */
  void *impl;
};

/* Zeroed but for the defaults; one reference. */
int segue__policy_new(segue__policy **out);
segue__policy *segue__policy_ref(segue__policy *policy);
/* One more file whose bytes count as the policy's. */
int segue__policy_add_input(segue__policy *policy, const segue__input *input); /* path is copied */
/* Reads a token, key or certificate through os, as it is on the disk now, and adds it to the
 * inputs. A secret that others may read is rejected; out still has its bytes. */
int segue__policy_read_credential(segue__policy *policy, const segue__os *os, const char *path,
                                  bool secret, segue__bytes *out, segue_error *err);
void segue__policy_unref(segue__policy *policy); /* frees all arrays and strings with segue__free */
/* NULL: there is none of this name. policy NULL allowed. */
const segue__module_spec *segue__policy_module(const segue__policy *policy, const char *name);
/* The sources of the policy; none for NULL. */
segue__source_set segue__policy_sources(const segue__policy *policy);
/* Names unique, needs known and without a cycle, durations sane. Errors are added. */
int segue__policy_validate(const segue__policy *policy, segue__errors *errors);

/* Where policies come from. load evaluates the file in a fresh state, on the control thread, within
 * its own time limit. */
typedef struct segue__policy_loader {
  int (*load)(void *data, const char *path, segue__policy **out, segue__errors *errors);
  void *data;
} segue__policy_loader;

/* Order in which modules start: needs first, else as declared. order has count entries. -1: cycle,
 * *at is a module on it. */
int segue__policy_order(const segue__module_spec *modules, size_t count, size_t *order, size_t *at);

/* Modules that have left something outside memory, in this process or in an earlier one, and that
 * `next` does not have: the specs of the steps that drop them (segue__module_spec.removal). The
 * list is borrowed until the next call. NULL list: there are none. */
typedef struct segue__leftovers_ops {
  const segue__module_spec *const *(*list)(void *data, const segue__policy *next, size_t *count);
  void *data;
} segue__leftovers_ops;

#endif
