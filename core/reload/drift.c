/* SPDX-License-Identifier: MIT
 *
 * Drift: another program has changed what a module wrote outside memory. The module finds that out
 * (core/files/drift.c); the engine shows it, and replaces the module in the next run where its
 * policy wants that. Such a run is not "unchanged", although its input is.
 */
#include <string.h>

#include "drain.h"
#include "drift.h"

void segue__drift_clear(segue__module_record *module) {
  segue__free(module->drift);
  module->drift = NULL;
  module->drifted = 0;
  module->drift_replaces = false;
}

bool segue__drift_replaces(const segue__engine *engine) {
  for (size_t i = 0; i < engine->module_count; i++)
    if (engine->modules[i]->live && engine->modules[i]->drift_replaces) return true;
  return false;
}

void segue__engine_drift(segue__engine *engine, const segue__drift_report *report) {
  segue__module_record *module = segue__module_find(engine, report->module);
  if (!module) return;
  if (!report->count) {
    segue__drift_clear(module);
    return;
  }
  module->drifted = report->count;
  module->drift_replaces = report->replace;
  if (!report->what) return;
  module->drifts++;
  segue__free(module->drift);
  module->drift = segue__strdup(report->what);
  for (segue__observer *o = engine->observers, *next; o; o = next) {
    next = o->next;
    if (o->on_drift) o->on_drift(o, report);
  }
}
