/* SPDX-License-Identifier: MIT
 *
 * The list of modules, across policies and generations, and the services that live modules offer.
 */
#include <string.h>
#include <uv.h>

#include "modules_internal.h"

int segue__modules_new(segue__modules **out, const segue__modules_options *options) {
  segue__modules *modules = *out = segue__calloc(1, sizeof *modules);
  if (!modules) return UV_ENOMEM;
  modules->options = *options;
  modules->gates = options->gates ? segue__gates_ref(options->gates) : NULL;
  if (!modules->gates && segue__gates_new(&modules->gates) < 0) {
    segue__free(modules);
    *out = NULL;
    return UV_ENOMEM;
  }
  segue__gates_begin(modules->gates, options->loop);
  modules->detached.on_state = options->on_state;
  modules->detached.on_failure = options->on_failure;
  modules->detached.data = options->data;
  return 0;
}

static void modules_free_record(segue__module_record *module) {
  segue__free(module->name);
  segue__free(module->kind);
  segue__free(module->old);
  segue__free(module->drift.what);
  segue__free(module);
}

void segue__modules_free(segue__modules *modules) {
  if (!modules) return;
  segue__gates_end(modules->gates);
  segue__gates_unref(modules->gates);
  for (size_t i = 0; i < modules->count; i++)
    modules_free_record(modules->items[i]);
  segue__free(modules->items);
  segue__free(modules);
}

/* ---- The list ---- */

size_t segue__modules_count(const segue__modules *modules) {
  return modules->count;
}

segue__module_record *segue__modules_at(const segue__modules *modules, size_t index) {
  return modules->items[index];
}

segue__detached *segue__modules_detached(segue__modules *modules) {
  return &modules->detached;
}

bool segue__modules_live(const segue__modules *modules) {
  for (size_t i = 0; i < modules->count; i++)
    if (modules->items[i]->live) return true;
  return false;
}

void segue__module_set_live(segue__module_record *module, segue__instance *instance) {
  module->live = instance;
}

void segue__module_place(segue__modules *modules, const segue__module_record *module, size_t at) {
  size_t from = at;
  while (from < modules->count && modules->items[from] != module)
    from++;
  if (from == modules->count) return;
  segue__module_record *moved = modules->items[from];
  memmove(&modules->items[at + 1], &modules->items[at], (from - at) * sizeof moved);
  modules->items[at] = moved;
}

segue__module_record *segue__module_find(const segue__modules *modules, const char *name) {
  for (size_t i = 0; i < modules->count; i++)
    if (!strcmp(modules->items[i]->name, name)) return modules->items[i];
  return NULL;
}

static segue__module_record *modules_add(segue__modules *modules, const segue__module_spec *spec) {
  segue__module_record **more =
      segue__realloc(modules->items, (modules->count + 1) * sizeof(segue__module_record *));
  if (!more) return NULL;
  modules->items = more;
  segue__module_record *module = segue__calloc(1, sizeof *module);
  if (!module) return NULL;
  module->gate = segue__gates_get(modules->gates, spec->name);
  module->name = segue__strdup(spec->name);
  module->kind = segue__strdup(spec->kind ? spec->kind : "");
  module->replace = spec->replace;
  if (module->gate && module->name && module->kind) return more[modules->count++] = module;
  modules_free_record(module);
  return NULL;
}

/* The kind and the replace of a module that is there stay until segue__module_settle: the reload
 * may be undone. */
segue__module_record *segue__module_get(segue__modules *modules, const segue__module_spec *spec) {
  segue__module_record *module = segue__module_find(modules, spec->name);
  if (!module) module = modules_add(modules, spec);
  if (module) module->removed = false;
  return module;
}

/* Without memory the status shows the previous kind. */
void segue__module_settle(segue__module_record *module, const segue__module_spec *spec) {
  char *kind = segue__strdup(spec->kind ? spec->kind : "");
  module->replace = spec->replace;
  if (!kind) return;
  segue__free(module->kind);
  module->kind = kind;
}

/* Frees the record of a module only when no instance of it is left; it is called again when the
 * last old instance is destroyed. */
void segue__module_remove(segue__modules *modules, segue__module_record *module) {
  module->removed = true;
  if (module->live || module->old_count) return;
  for (size_t i = 0; i < modules->count; i++) {
    if (modules->items[i] != module) continue;
    memmove(&modules->items[i], &modules->items[i + 1],
            (modules->count - i - 1) * sizeof(segue__module_record *));
    modules->count--;
    break;
  }
  modules_free_record(module);
}

/* ---- Services ---- */

/* Any thread loads these pointers without a lock (segue_log, segue_count), so they are stored with
 * release order after the service is complete. */
void segue__services_update(segue__modules *modules) {
  segue__services *services = modules->options.services;
  const segue__service *log = NULL, *stats = NULL;
  if (!services) return;
  for (size_t i = 0; i < modules->count; i++) {
    const segue__instance *live = modules->items[i]->live;
    const segue__service *service = live ? segue__instance_service(live) : NULL;
    if (service && service->log.write) log = service;
    if (service && service->stats.record) stats = service;
  }
  __atomic_store_n(&services->log, log, __ATOMIC_RELEASE);
  __atomic_store_n(&services->stats, stats, __ATOMIC_RELEASE);
}

void segue__services_provide(segue__modules *modules, segue__instance *instance) {
  segue__services *services = modules->options.services;
  const segue__service *service = services ? segue__instance_service(instance) : NULL;
  if (!service) return;
  if (service->log.write && !services->log)
    __atomic_store_n(&services->log, service, __ATOMIC_RELEASE);
  if (service->stats.record && !services->stats)
    __atomic_store_n(&services->stats, service, __ATOMIC_RELEASE);
}

bool segue__services_take(segue__modules *modules, const segue__instance *instance) {
  const segue__services *services = modules->options.services;
  const segue__service *service = services ? segue__instance_service(instance) : NULL;
  if (!service || (services->log != service && services->stats != service)) return false;
  segue__services_update(modules);
  return true;
}
