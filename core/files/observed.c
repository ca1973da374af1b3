/* SPDX-License-Identifier: MIT
 *
 * The paths of a set of 5,000 files would be a megabyte in each of the events that are kept for
 * clients that come back: a report has the first ones, and the number of all.
 */
#include "observed.h"

#include "../reload/engine.h"

enum { OBSERVED_PATHS = 20 };

void segue__observed_written(const segue__file_instance *instance, uint64_t generation) {
  segue__engine *engine = instance->module->world->engine;
  const segue__file_set *set = instance->shared->set;
  const char *paths[OBSERVED_PATHS];
  segue__file_status file;
  segue__written_report report = {
      .module = instance->module->name, .generation = generation, .paths = paths};
  for (size_t i = 0; i < segue__file_set_count(set); i++) {
    segue__file_set_get(set, i, &file);
    if (!file.changed) continue;
    if (file.next.kind == SEGUE__FILE_NONE)
      report.removed++;
    else
      report.written++;
    if (report.path_count < OBSERVED_PATHS) paths[report.path_count++] = file.path;
  }
  if (engine && report.path_count) segue__engine_notify_written(engine, &report);
}

void segue__observed_ran(const segue__file_instance *instance, const char *step,
                         const segue__effect *effect, uint64_t ms, const segue_error *error) {
  segue__engine *engine = instance->module->world->engine;
  segue__buf shown;
  if (!engine || instance->planned) return;
  segue__buf_init(&shown);
  segue__effect_shown(effect, &shown);
  const segue__effect_report report = {.module = instance->module->name,
                                       .step = step,
                                       .shown = shown.failed ? NULL : shown.data,
                                       .ms = ms,
                                       .error = error ? error->message : NULL};
  segue__engine_notify_effect(engine, &report);
  segue__buf_deinit(&shown);
}
