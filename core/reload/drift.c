/* SPDX-License-Identifier: MIT
 *
 * Drift: another program has changed what a module wrote outside memory. The module finds that out
 * (core/files/drift.c); the engine shows it, and replaces the module in the next run where its
 * policy wants that. Such a run is not "unchanged", although its input is.
 */
#include <string.h>

#include "drift.h"

void segue__drift_clear(segue__module_record *module) {
  segue__free(module->drift.what);
  module->drift.what = NULL;
  module->drift.count = 0;
  module->drift.replaces = false;
}

bool segue__drift_replaces(const segue__engine *engine) {
  for (size_t i = 0; i < segue__modules_count(engine->modules); i++) {
    const segue__module_record *module = segue__modules_at(engine->modules, i);
    if (module->live && module->drift.replaces) return true;
  }
  return false;
}

void segue__engine_drift(segue__engine *engine, const segue__drift_report *report) {
  segue__module_record *module = segue__module_find(engine->modules, report->module);
  if (!module) return;
  if (!report->count) {
    segue__drift_clear(module);
    return;
  }
  module->drift.count = report->count;
  module->drift.replaces = report->replace;
  if (!report->what) return;
  module->drift.reports++;
  segue__free(module->drift.what);
  module->drift.what = segue__strdup(report->what);
  segue__engine_notify_drift(engine, report);
}
