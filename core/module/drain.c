/* SPDX-License-Identifier: MIT
 *
 * Old instances drain, stop and are released in the background; at shutdown all instances stop in
 * order.
 */
#include <string.h>
#include <uv.h>

#include "modules_internal.h"

struct segue__draining {
  segue__modules *modules;
  segue__module_record *module;
  segue__instance *instance;
  segue__message grace_over;
  const segue__drain *drain; /* the instance's */
  uint64_t stop_ms;
  bool draining, answers; /* answers: the end of a transaction waits for it */
  segue__draining *next;
};

static void retire_begin(segue__message *message);
static void retired_step(segue__instance *instance, segue__verb verb, int status,
                         const segue_error *error, void *data);
static void drain_retired(segue__draining *draining, bool release);

bool segue__drains_swapping(const segue__modules *modules) {
  return modules->swapping > 0;
}

static int remember_old(segue__module_record *module, segue__instance *instance) {
  segue__instance **old =
      segue__realloc(module->old, (module->old_count + 1) * sizeof(segue__instance *));
  if (!old) return UV_ENOMEM;
  module->old = old;
  old[module->old_count++] = instance;
  return 0;
}

static void forget_old(segue__module_record *module, const segue__instance *instance) {
  for (size_t i = 0; i < module->old_count; i++) {
    if (module->old[i] != instance) continue;
    memmove(&module->old[i], &module->old[i + 1],
            (module->old_count - i - 1) * sizeof(segue__instance *));
    module->old_count--;
    return;
  }
}

void segue__drain_cut(segue__modules *modules, segue__module_record *module,
                      const segue__instance *instance, const segue_error *error) {
  size_t inside = segue__instance_inside(instance);
  module->drains_cut++;
  module->inside_cut += inside;
  SEGUE__LOG(modules->options.log, SEGUE_WARN, "module", "drain cut short",
             SEGUE__FIELD("module", module->name), SEGUE__FIELD("inside", inside),
             SEGUE__FIELD("error", error->message));
}

void segue__drain_watch(segue__modules *modules, void (*cb)(void *data), void *data) {
  modules->drained_cb = cb;
  modules->drained_data = data;
}

bool segue__drain_watched(const segue__modules *modules) {
  return modules->drained_cb != NULL;
}

bool segue__drain_has(const segue__module_record *module, const segue__instance *instance) {
  for (size_t i = 0; i < module->old_count; i++)
    if (module->old[i] == instance) return true;
  return false;
}

bool segue__drain_instance_waits(const segue__module_record *module) {
  uint64_t stop_ms;
  return module->old_count >= SEGUE__OLD_MAX &&
         segue__instance_limits(module->old[0], &stop_ms)->over == SEGUE__OVER_WAIT;
}

static void grace_over(void *data) {
  segue__draining *draining = data;
  segue__post(draining->modules->options.loop, &draining->grace_over);
}

/* Calls into a service are not counted: only after a grace period have all calls left. If memory
 * for the wait is missing, the instance is kept for ever: freeing it could crash a thread inside.
 */
static bool must_stay(segue__modules *modules, const segue__module_record *module,
                      const segue__instance *instance) {
  if (!segue__instance_service(instance)) return false;
  SEGUE__LOG(modules->options.log, SEGUE_ERROR, "module",
             "out of memory: an old instance is leaked", SEGUE__FIELD("module", module->name));
  return true;
}

void segue__drain_instance(segue__modules *modules, segue__module_record *module,
                           segue__instance *instance, bool after_grace) {
  bool service = segue__instance_service(instance) != NULL;
  segue__draining *draining = segue__calloc(1, sizeof *draining);
  if (!draining || remember_old(module, instance) < 0) {
    /* Without memory for the drain the instance is released at once, with calls inside. */
    segue__free(draining);
    if (must_stay(modules, module, instance)) return;
    SEGUE__LOG(modules->options.log, SEGUE_ERROR, "module",
               "out of memory: an old instance is cut off", SEGUE__FIELD("module", module->name));
    segue__instance_release(instance);
    return;
  }
  draining->modules = modules;
  draining->module = module;
  draining->instance = instance;
  draining->grace_over.fn = retire_begin;
  draining->next = modules->draining;
  modules->draining = draining;
  draining->drain = segue__instance_limits(instance, &draining->stop_ms);
  if (module->old_count > SEGUE__OLD_MAX) {
    SEGUE__LOG(modules->options.log, SEGUE_WARN, "module",
               "too many old instances: the oldest is cut", SEGUE__FIELD("module", module->name));
    segue__instance_cancel(module->old[0], SEGUE__DRAIN);
  }
  draining->answers = service;
  modules->swapping += service;
  bool waits = (after_grace || service) && modules->options.publication;
  if (waits && !segue__publication_defer(modules->options.publication, grace_over, draining))
    return;
  if (waits && must_stay(modules, module, instance))
    drain_retired(draining, false);
  else
    retire_begin(&draining->grace_over);
}

static void retire_begin(segue__message *message) {
  segue__draining *draining =
      (segue__draining *)((char *)message - offsetof(segue__draining, grace_over));
  draining->draining = true;
  segue__instance_drain(draining->instance, draining->drain, retired_step, draining);
}

static void drain_retired(segue__draining *draining, bool release) {
  segue__modules *modules = draining->modules;
  segue__module_record *module = draining->module;
  segue__draining **link = &modules->draining;
  while (*link != draining)
    link = &(*link)->next;
  *link = draining->next;
  forget_old(module, draining->instance);
  if (module->failure.leaving == draining->instance) module->failure.leaving = NULL;
  if (release) segue__instance_release(draining->instance);
  modules->swapping -= draining->answers;
  if (module->removed) segue__module_remove(modules, module);
  segue__free(draining);
  if (modules->drained_cb) modules->drained_cb(modules->drained_data);
  if (modules->options.on_gone) modules->options.on_gone(modules->options.data);
}

static void retired_step(segue__instance *instance, segue__verb verb, int status,
                         const segue_error *error, void *data) {
  segue__draining *draining = data;
  if (status < 0 && verb == SEGUE__DRAIN)
    segue__drain_cut(draining->modules, draining->module, instance, error);
  else if (status < 0)
    SEGUE__LOG(draining->modules->options.log, SEGUE_WARN, "module", "an old instance did not stop",
               SEGUE__FIELD("module", draining->module->name),
               SEGUE__FIELD("error", error->message));
  if (verb == SEGUE__DRAIN)
    segue__instance_call(instance, SEGUE__STOP, draining->stop_ms, retired_step, draining);
  else
    drain_retired(draining, true);
}

/* Without memory an instance is released at once, and the one before it is next. */
bool segue__drain_next(segue__modules *modules) {
  if (!modules->draining && !segue__modules_live(modules)) return false;
  for (size_t i = modules->count; i-- > 0 && !modules->draining;) {
    segue__module_record *module = modules->items[i];
    segue__gate_refuse(module->gate, SEGUE_ECLOSED);
    segue__instance *live = module->live;
    module->live = NULL;
    segue__services_update(modules);
    if (live) segue__drain_instance(modules, module, live, false);
  }
  return modules->draining != NULL;
}
