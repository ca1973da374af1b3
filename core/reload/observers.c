/* SPDX-License-Identifier: MIT
 *
 * The observers of an engine: the log, metrics, event streams and the record follow its runs. An
 * observer may remove itself while it is called.
 */
#include "engine_state.h"

void segue__engine_observe(segue__engine *engine, segue__observer *observer) {
  observer->next = engine->observers;
  engine->observers = observer;
}

void segue__engine_unobserve(segue__engine *engine, segue__observer *observer) {
  segue__observer **link = &engine->observers;
  while (*link && *link != observer)
    link = &(*link)->next;
  if (*link) *link = observer->next;
}

void segue__engine_notify(segue__engine *engine, const segue__result *result, segue__phase phase) {
  for (segue__observer *o = engine->observers, *next; o; o = next) {
    next = o->next;
    if (o->on_phase) o->on_phase(o, result, phase);
  }
}

void segue__engine_notify_secrets(segue__engine *engine, const segue__mask *mask) {
  for (segue__observer *o = engine->observers, *next; o; o = next) {
    next = o->next;
    if (o->on_secrets) o->on_secrets(o, mask);
  }
}

void segue__engine_notify_module(segue__engine *engine, const char *name, uint64_t generation,
                                 segue__module_state state) {
  for (segue__observer *o = engine->observers, *next; o; o = next) {
    next = o->next;
    if (o->on_module) o->on_module(o, name, generation, state);
  }
}

void segue__engine_notify_drift(segue__engine *engine, const segue__drift_report *report) {
  for (segue__observer *o = engine->observers, *next; o; o = next) {
    next = o->next;
    if (o->on_drift) o->on_drift(o, report);
  }
}

void segue__engine_notify_written(segue__engine *engine, const segue__written_report *report) {
  for (segue__observer *o = engine->observers, *next; o; o = next) {
    next = o->next;
    if (o->on_written) o->on_written(o, report);
  }
}

void segue__engine_notify_effect(segue__engine *engine, const segue__effect_report *report) {
  for (segue__observer *o = engine->observers, *next; o; o = next) {
    next = o->next;
    if (o->on_effect) o->on_effect(o, report);
  }
}
