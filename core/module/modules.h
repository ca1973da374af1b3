/* SPDX-License-Identifier: MIT
 *
 * modules.h: the modules of an engine, across policies and generations, and their old instances,
 * which drain in the background. Control thread. modules.c owns the list, and the fields of a
 * record that are not named below; drain.c owns its old instances.
 */
#ifndef SEGUE_MODULE_MODULES_H
#define SEGUE_MODULE_MODULES_H

#include "../config/snapshot.h"
#include "module.h"

typedef struct segue__modules segue__modules;

/* reload/recover.c: a module without an instance, because that failed or could not be restored.
 */
typedef struct segue__module_failure {
  bool failed;
  unsigned attempts;        /* to recover, without having served for long since */
  uint64_t recover_at_ms;   /* the next one */
  uint64_t reports;         /* instances that reported their failure */
  segue__instance *leaving; /* the one that failed, until drain.c has released it: it has to stop
                               before the next one starts. NULL: none */
  segue_error error;
} segue__module_failure;

/* reload/drift.c: what another program has changed of the module's files. */
typedef struct segue__module_drift {
  size_t count;     /* files that differ now */
  uint64_t reports; /* changes, since the start */
  char *what;       /* a sentence about one of them; NULL: none is known */
  bool replaces;    /* the next run replaces the module for it */
} segue__module_drift;

typedef struct segue__module_record {
  char *name, *kind;
  segue__replace replace;
  segue_gate *gate;
  segue__instance *live;
  bool removed;          /* it is removed when its last instance is destroyed */
  segue__instance **old; /* draining in the background, oldest first */
  size_t old_count;
  uint64_t drains_cut, inside_cut;
  segue__module_failure failure;
  segue__module_drift drift;
} segue__module_record;

typedef struct segue__modules_options {
  size_t size;
  segue__loop *loop;
  const segue__logger *log;
  segue__publication *publication; /* NULL: nothing waits for read sections */
  segue__gates *gates;             /* a reference is taken; NULL: of its own */
  segue__services *services;       /* where services are offered to all threads; NULL: nowhere */
  /* An instance of a module, made for this generation, has entered a state. */
  void (*on_state)(void *data, const char *name, uint64_t generation, segue__module_state state);
  void (*on_failure)(void *data, segue__instance *instance); /* it has reported its failure */
  void (*on_gone)(void *data); /* an old instance was released; after the watcher's callback */
  void *data;
} segue__modules_options;

int segue__modules_new(segue__modules **out, const segue__modules_options *options);
void segue__modules_free(segue__modules *modules); /* no instance is left; NULL allowed */

/* ---- modules.c: the list, in the order of starting ---- */
size_t segue__modules_count(const segue__modules *modules);
segue__module_record *segue__modules_at(const segue__modules *modules, size_t index);
segue__module_record *segue__module_find(const segue__modules *modules, const char *name);
segue__module_record *segue__module_get(segue__modules *modules,
                                        const segue__module_spec *spec); /* or new */
/* Its spec is that of the live policy now. */
void segue__module_settle(segue__module_record *module, const segue__module_spec *spec);
/* Moves a module to this place of the list. */
void segue__module_place(segue__modules *modules, const segue__module_record *module, size_t at);
/* Frees the record, now or when its last instance is destroyed. */
void segue__module_remove(segue__modules *modules, segue__module_record *module);
bool segue__modules_live(const segue__modules *modules); /* at least one has a live instance */
/* The instance that callers meet; NULL: none. services_update follows, after the last module of a
 * flip. */
void segue__module_set_live(segue__module_record *module, segue__instance *instance);
/* For segue__instance_new: every instance of the engine. */
segue__detached *segue__modules_detached(segue__modules *modules);

void segue__services_update(segue__modules *modules); /* live instances are other ones now */
/* Before the flip: offers a service that has started where no live one is, so that modules that
 * need it can use it in their start. take: withdraws it; returns true if it was offered: then
 * threads may be in it until a grace period is over. */
void segue__services_provide(segue__modules *modules, segue__instance *instance);
bool segue__services_take(segue__modules *modules, const segue__instance *instance);

/* ---- drain.c: old instances ---- */
enum { SEGUE__OLD_MAX = 2 }; /* instances of a module that drain in the background */

/* Returns whether at least one was replaced by swap: the answer of its reload waits until it has
 * stopped. */
bool segue__drains_swapping(const segue__modules *modules);
/* cb is called whenever an old instance was destroyed; NULL: no longer. One watcher at a time. */
void segue__drain_watch(segue__modules *modules, void (*cb)(void *data), void *data);
bool segue__drain_watched(const segue__modules *modules);
/* Drains, stops and releases it in the background; after_grace: not before every read section that
 * is open now has ended. */
void segue__drain_instance(segue__modules *modules, segue__module_record *module,
                           segue__instance *instance, bool after_grace);
/* Returns whether it drains. */
bool segue__drain_has(const segue__module_record *module, const segue__instance *instance);
/* A drain failed or ran over: logs and counts it. */
void segue__drain_cut(segue__modules *modules, segue__module_record *module,
                      const segue__instance *instance, const segue_error *error);
/* Returns whether as many old instances drain as may, and the oldest must not be cut. */
bool segue__drain_instance_waits(const segue__module_record *module);
/* Shutdown: refuses all calls and drains the live instances in the reverse order of their starts,
 * one for each call. Returns false if no instance is live or draining. */
bool segue__drain_next(segue__modules *modules);

#endif
