/* SPDX-License-Identifier: MIT
 *
 * drain.h: the modules across policies and generations, and their old instances, which drain in
 * the background.
 */
#ifndef SEGUE_RELOAD_DRAIN_H
#define SEGUE_RELOAD_DRAIN_H

#include "engine_state.h"

/* A module, across policies and generations. */
struct segue__module_record {
  char *name, *kind;
  segue__replace replace;
  segue_gate *gate;
  segue__instance *live;
  segue__instance **old; /* draining in the background, oldest first */
  size_t old_count;
  uint64_t drains_cut, inside_cut;
  /* recover.c. Failed: it has no instance, because that failed or could not be brought back. */
  bool failed;
  unsigned attempts;        /* to recover, without having served for long since */
  uint64_t recover_at_ms;   /* the next one */
  uint64_t failures;        /* instances that reported their failure */
  segue__instance *leaving; /* the one that failed; has to stop before the next starts */
  /* drift.c: what another program has changed */
  size_t drifted;
  uint64_t drifts;
  char *drift;
  bool drift_replaces; /* the next run replaces the module for it */
  bool removed;        /* goes when its last instance is gone */
  segue_error error;
};

enum { SEGUE__OLD_MAX = 2 }; /* instances of a module that drain in the background */

int segue__drains_new(segue__drains **out);
void segue__drains_free(segue__drains *drains); /* all are gone; NULL allowed */
bool segue__drains_any(const segue__engine *engine);
/* Some were replaced by swap: the answer of their reload waits until they have stopped. */
bool segue__drains_swapping(const segue__engine *engine);
segue__module_record *segue__module_find(const segue__engine *engine, const char *name);
segue__module_record *segue__module_get(segue__engine *engine,
                                        const segue__module_spec *spec); /* or new */
void segue__module_remove(segue__engine *engine, segue__module_record *module);
void segue__services_update(segue__engine *engine); /* live instances are other ones now */
/* Before the flip: a service that has started is offered where no live one is, so that modules that
 * need it can use it in their start. take: it is offered no more; true: it was, and threads may be
 * in it until a grace period is over. */
void segue__services_provide(segue__engine *engine, segue__instance *instance);
bool segue__services_take(segue__engine *engine, const segue__instance *instance);
/* cb is called whenever an old instance is gone; NULL: no longer. One watcher at a time. */
void segue__drain_watch(segue__engine *engine, void (*cb)(void *data), void *data);
bool segue__drain_watched(const segue__engine *engine);
/* Drains, stops and releases it in the background; after_grace: not before every read section that
 * is open now has ended. */
void segue__drain_instance(segue__engine *engine, segue__module_record *module,
                           segue__instance *instance, bool after_grace);
/* A drain failed or ran over: logs and counts it. */
void segue__drain_cut(segue__engine *engine, segue__module_record *module,
                      const segue__instance *instance, const segue_error *error);
/* As many old ones drain as may, and the oldest must not be cut. */
bool segue__drain_instance_waits(const segue__module_record *module);
void segue__drain_instance_all(
    segue__engine *engine); /* shutdown; segue__engine_check_stopped at the end */

#endif
