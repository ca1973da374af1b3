/* SPDX-License-Identifier: MIT
 *
 * The work between and after transactions: old instances drain, stop and are released in the
 * background; at shutdown all of them stop in order.
 */
#include <string.h>
#include <uv.h>

#include "drain.h"

typedef struct segue__draining segue__draining;
struct segue__draining {
  segue__engine *engine;
  segue__module_record *module;
  segue__instance *instance;
  segue__message grace_over;
  const segue__drain *drain; /* the instance's */
  uint64_t stop_ms;
  bool draining, answers; /* answers: the end of a transaction waits for it */
  segue__draining *next;
};

struct segue__drains {
  segue__draining *draining;
  size_t swapping; /* of them: replaced by swap; the answer waits until they have stopped */
  void (*drained_cb)(void *data); /* an old instance is gone; NULL: nothing waits for one */
  void *drained_data;
};

static void retire_begin(segue__message *message);
static void retired_step(segue__instance *instance, segue__verb verb, int status,
                         const segue_error *error, void *data);
static void drain_retired(segue__draining *draining, bool release);

int segue__drains_new(segue__drains **out) {
  *out = segue__calloc(1, sizeof **out);
  return *out ? 0 : UV_ENOMEM;
}

void segue__drains_free(segue__drains *drains) {
  segue__free(drains);
}

bool segue__drains_any(const segue__engine *engine) {
  return engine->drains->draining != NULL;
}

bool segue__drains_swapping(const segue__engine *engine) {
  return engine->drains->swapping > 0;
}

segue__module_record *segue__module_find(const segue__engine *engine, const char *name) {
  for (size_t i = 0; i < engine->module_count; i++)
    if (!strcmp(engine->modules[i]->name, name)) return engine->modules[i];
  return NULL;
}

static int drain_set_text(char **to, const char *text) {
  char *copy = segue__strdup(text ? text : "");
  if (!copy) return UV_ENOMEM;
  segue__free(*to);
  *to = copy;
  return 0;
}

segue__module_record *segue__module_get(segue__engine *engine, const segue__module_spec *spec) {
  segue__module_record *module = segue__module_find(engine, spec->name);
  if (!module) {
    segue__module_record **more = segue__realloc(
        engine->modules, (engine->module_count + 1) * sizeof(segue__module_record *));
    if (!more) return NULL;
    engine->modules = more;
    module = segue__calloc(1, sizeof *module);
    if (module) module->gate = segue__gates_get(engine->gates, spec->name);
    if (!module || !module->gate || drain_set_text(&module->name, spec->name) < 0) {
      segue__free(module);
      return NULL;
    }
    engine->modules[engine->module_count++] = module;
  }
  module->removed = false;
  module->replace = spec->replace;
  return drain_set_text(&module->kind, spec->kind) < 0 ? NULL : module;
}

/* Frees the record of a module only when no instance of it is left; it is called again when the
 * last old instance has gone. */
void segue__module_remove(segue__engine *engine, segue__module_record *module) {
  module->removed = true;
  if (module->live || module->old_count) return;
  for (size_t i = 0; i < engine->module_count; i++) {
    if (engine->modules[i] != module) continue;
    memmove(&engine->modules[i], &engine->modules[i + 1],
            (engine->module_count - i - 1) * sizeof(segue__module_record *));
    engine->module_count--;
    break;
  }
  segue__free(module->name);
  segue__free(module->kind);
  segue__free(module->old);
  segue__free(module->drift);
  segue__free(module);
}

/* ---- Old instances ---- */

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

void segue__drain_cut(segue__engine *engine, segue__module_record *module,
                      const segue__instance *instance, const segue_error *error) {
  size_t inside = segue__instance_inside(instance);
  module->drains_cut++;
  module->inside_cut += inside;
  SEGUE__LOG(engine->log, SEGUE_WARN, "module", "drain cut short",
             SEGUE__FIELD("module", module->name), SEGUE__FIELD("inside", inside),
             SEGUE__FIELD("error", error->message));
}

void segue__drain_watch(segue__engine *engine, void (*cb)(void *data), void *data) {
  engine->drains->drained_cb = cb;
  engine->drains->drained_data = data;
}

bool segue__drain_watched(const segue__engine *engine) {
  return engine->drains->drained_cb != NULL;
}

bool segue__drain_instance_waits(const segue__module_record *module) {
  uint64_t stop_ms;
  return module->old_count >= SEGUE__OLD_MAX &&
         segue__instance_limits(module->old[0], &stop_ms)->over == SEGUE__OVER_WAIT;
}

static void grace_over(void *data) {
  segue__draining *draining = data;
  segue__post(draining->engine->loop, &draining->grace_over);
}

/* Calls into a service are not counted: only after a grace period have all calls left. If memory
 * for the wait is missing, the instance is kept for ever: freeing it could crash a thread inside.
 */
static bool must_stay(segue__engine *engine, const segue__module_record *module,
                      const segue__instance *instance) {
  if (!segue__instance_service(instance)) return false;
  SEGUE__LOG(engine->log, SEGUE_ERROR, "module", "out of memory: an old instance is leaked",
             SEGUE__FIELD("module", module->name));
  return true;
}

/* Any thread loads these pointers without a lock (segue_log, segue_count), so they are stored with
 * release order after the service is complete. */
void segue__services_update(segue__engine *engine) {
  segue__services *services = engine->options.services;
  const segue__service *log = NULL, *stats = NULL;
  if (!services) return;
  for (size_t i = 0; i < engine->module_count; i++) {
    const segue__instance *live = engine->modules[i]->live;
    const segue__service *service = live ? segue__instance_service(live) : NULL;
    if (service && service->log.write) log = service;
    if (service && service->stats.record) stats = service;
  }
  __atomic_store_n(&services->log, log, __ATOMIC_RELEASE);
  __atomic_store_n(&services->stats, stats, __ATOMIC_RELEASE);
}

void segue__services_provide(segue__engine *engine, segue__instance *instance) {
  segue__services *services = engine->options.services;
  const segue__service *service = services ? segue__instance_service(instance) : NULL;
  if (!service) return;
  if (service->log.write && !services->log)
    __atomic_store_n(&services->log, service, __ATOMIC_RELEASE);
  if (service->stats.record && !services->stats)
    __atomic_store_n(&services->stats, service, __ATOMIC_RELEASE);
}

bool segue__services_take(segue__engine *engine, const segue__instance *instance) {
  const segue__services *services = engine->options.services;
  const segue__service *service = services ? segue__instance_service(instance) : NULL;
  if (!service || (services->log != service && services->stats != service)) return false;
  segue__services_update(engine);
  return true;
}

void segue__drain_instance(segue__engine *engine, segue__module_record *module,
                           segue__instance *instance, bool after_grace) {
  bool service = segue__instance_service(instance) != NULL;
  segue__draining *draining = segue__calloc(1, sizeof *draining);
  if (!draining || remember_old(module, instance) < 0) {
    /* Without memory for the drain the instance is released at once, with calls inside. */
    segue__free(draining);
    if (must_stay(engine, module, instance)) return;
    SEGUE__LOG(engine->log, SEGUE_ERROR, "module", "out of memory: an old instance is cut off",
               SEGUE__FIELD("module", module->name));
    segue__instance_release(instance);
    return;
  }
  draining->engine = engine;
  draining->module = module;
  draining->instance = instance;
  draining->grace_over.fn = retire_begin;
  draining->next = engine->drains->draining;
  engine->drains->draining = draining;
  draining->drain = segue__instance_limits(instance, &draining->stop_ms);
  if (module->old_count > SEGUE__OLD_MAX) {
    SEGUE__LOG(engine->log, SEGUE_WARN, "module", "too many old instances: the oldest is cut",
               SEGUE__FIELD("module", module->name));
    segue__instance_cancel(module->old[0], SEGUE__DRAIN);
  }
  draining->answers = service;
  engine->drains->swapping += service;
  bool waits = (after_grace || service) && engine->options.publication;
  if (waits && !segue__publication_defer(engine->options.publication, grace_over, draining)) return;
  if (waits && must_stay(engine, module, instance))
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
  segue__engine *engine = draining->engine;
  segue__draining **link = &engine->drains->draining;
  while (*link != draining)
    link = &(*link)->next;
  *link = draining->next;
  forget_old(draining->module, draining->instance);
  if (draining->module->leaving == draining->instance) {
    draining->module->leaving = NULL;
    segue__recover_schedule(engine);
  }
  if (release) segue__instance_release(draining->instance);
  engine->drains->swapping -= draining->answers;
  if (draining->module->removed) segue__module_remove(engine, draining->module);
  segue__free(draining);
  if (engine->drains->drained_cb) engine->drains->drained_cb(engine->drains->drained_data);
  if (engine->stopping) segue__drain_instance_all(engine);
}

static void retired_step(segue__instance *instance, segue__verb verb, int status,
                         const segue_error *error, void *data) {
  segue__draining *draining = data;
  if (status < 0 && verb == SEGUE__DRAIN)
    segue__drain_cut(draining->engine, draining->module, instance, error);
  else if (status < 0)
    SEGUE__LOG(draining->engine->log, SEGUE_WARN, "module", "an old instance did not stop",
               SEGUE__FIELD("module", draining->module->name),
               SEGUE__FIELD("error", error->message));
  if (verb == SEGUE__DRAIN)
    segue__instance_call(instance, SEGUE__STOP, draining->stop_ms, retired_step, draining);
  else
    drain_retired(draining, true);
}

/* Stops the modules in the reverse order of their starts, one at a time: drain_retired calls this
 * function again when an instance has gone. */
void segue__drain_instance_all(segue__engine *engine) {
  for (size_t i = engine->module_count; i-- > 0 && !engine->drains->draining;) {
    segue__module_record *module = engine->modules[i];
    segue__gate_refuse(module->gate, SEGUE_ECLOSED);
    segue__instance *live = module->live;
    module->live = NULL;
    segue__services_update(engine);
    if (live) segue__drain_instance(engine, module, live, false);
  }
  segue__engine_check_stopped(engine);
}
