/* SPDX-License-Identifier: MIT
 *
 * Drift: notices that another program has changed a live file. A watch on the files and their
 * folders starts a scan (book_scan.c), and so does the end of every run, because a watch may miss
 * changes (NFS, a limit of the kernel). The scan compares versions, so a commit of segue itself is
 * no drift: its files are not looked at until they are settled.
 *
 * In mode "restore" a scan requests a run in which the module is replaced. Two programs that
 * disagree about a file would do that for ever: each further run for the same module within
 * CALM_MS comes after a longer pause.
 */
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../os/fault.h"
#include "../reload/engine.h"
#include "../trigger/watch.h"
#include "module.h"

enum { QUIET_MS = 100, RESCAN_MS = 300000, CALM_MS = 60000, PAUSE_MS = 1000, PAUSE_MAX = 300000 };

/* A module whose files were restored. */
typedef struct drift_module {
  char *name;
  unsigned restores; /* in a row */
  uint64_t last_ms, due_ms;
  size_t count; /* of drifted files, in the last scan and in this one */
  size_t now;
} drift_module;

struct segue__file_drift {
  segue__file_world *world;
  segue__engine *engine;
  segue__observer observer;
  segue__watcher *watch; /* NULL: no file was rendered yet, or the loop has no watches */
  segue__timer timer;
  bool armed, scanning, again, watched_once;
  uint64_t due_ms;
  segue__hash watched; /* of the paths */
  drift_module *modules;
  size_t count;
};

typedef struct drift_scan {
  segue__job job;
  segue__file_world *world; /* a reference */
  segue__drifts drifts;
  int status;
} drift_scan;

static void drift_schedule(segue__file_drift *drift, uint64_t delay_ms);

/* ---- Results ---- */

static drift_module *drift_find(segue__file_drift *drift, const char *name) {
  for (size_t i = 0; i < drift->count; i++)
    if (!strcmp(drift->modules[i].name, name)) return &drift->modules[i];
  drift_module *modules = segue__realloc(drift->modules, (drift->count + 1) * sizeof *modules);
  char *copy = segue__strdup(name);
  if (modules) drift->modules = modules;
  if (!modules || !copy) {
    segue__free(copy);
    return NULL;
  }
  modules[drift->count] = (drift_module){.name = copy};
  return &modules[drift->count++];
}

static void drift_log(const segue__file_drift *drift, const segue__drifted *item) {
  static const char *const done[] = {
      [SEGUE__DRIFT_REPORT] = "it stays until the module changes, and is kept as a copy then",
      [SEGUE__DRIFT_RESTORE] = "it is kept as a copy, and written again",
      [SEGUE__DRIFT_ADOPT] = "it stays until the rendered content changes"};
  const char *then = item->no_file
                         ? "it stays, and the next change of the module is rejected: move it away"
                         : done[item->mode];
  segue_level level = item->mode == SEGUE__DRIFT_ADOPT ? SEGUE_INFO : SEGUE_WARN;
  SEGUE__LOG(drift->world->log, level, "files", "another program has changed a file",
             SEGUE__FIELD("module", item->module), SEGUE__FIELD("file", item->path),
             SEGUE__FIELD("change", item->how), SEGUE__FIELD("then", then));
}

/* Requests a run that restores the module, or schedules it after the pause. */
static void drift_restore(segue__file_drift *drift, drift_module *module,
                          const segue__drifted *item) {
  uint64_t now = segue__loop_now_ms(drift->world->loop);
  if (now < module->due_ms) {
    drift_schedule(drift, module->due_ms - now);
    return;
  }
  if (module->last_ms && now - module->last_ms > CALM_MS + (module->due_ms - module->last_ms))
    module->restores = 0;
  uint64_t pause = module->restores > 8 ? PAUSE_MAX : (uint64_t)PAUSE_MS << module->restores;
  module->restores++;
  module->last_ms = now;
  module->due_ms = now + (pause < PAUSE_MAX ? pause : PAUSE_MAX);
  char cause[256];
  snprintf(cause, sizeof cause, "%.200s was changed by another program", item->path);
  const segue__reload_request request = {.trigger = SEGUE__BY_WATCH, .cause = cause};
  (void)segue__engine_request(drift->engine, &request, NULL);
}

static void drift_report(segue__file_drift *drift, const segue__drifted *item, bool restores) {
  segue__buf what;
  drift_module *module = drift_find(drift, item->module);
  segue__buf_init(&what);
  segue__buf_addf(&what, "%s: %s", item->path, item->how);
  const segue__drift_report report = {.module = item->module,
                                      .count = module && module->now ? module->now : 1,
                                      .what = item->fresh && !what.failed ? what.data : NULL,
                                      .replace = restores};
  segue__engine_drift(drift->engine, &report);
  segue__buf_deinit(&what);
}

/* A module that had drifted files and has none any more. */
static void drift_clear(segue__file_drift *drift, drift_module *module) {
  if (module->count && !module->now) {
    const segue__drift_report none = {.module = module->name};
    segue__engine_drift(drift->engine, &none);
  }
  module->count = module->now;
  module->now = 0;
}

static void drift_results(segue__file_drift *drift, const segue__drifts *found) {
  for (size_t i = 0; i < found->count; i++) {
    drift_module *module = drift_find(drift, found->items[i].module);
    if (!module) continue;
    if (found->items[i].mode != SEGUE__DRIFT_ADOPT)
      module->now++;
    else
      module->count++; /* it is reported once, and cleared below */
  }
  for (size_t i = 0; i < found->count; i++) {
    const segue__drifted *item = &found->items[i];
    if (item->fresh) drift_log(drift, item);
    if (item->mode != SEGUE__DRIFT_ADOPT || item->fresh)
      drift_report(drift, item, item->mode == SEGUE__DRIFT_RESTORE);
  }
  for (size_t i = 0; i < found->count; i++) {
    const segue__drifted *item = &found->items[i];
    drift_module *module = drift_find(drift, item->module);
    bool seen = false;
    for (size_t j = 0; j < i && !seen; j++)
      seen = !strcmp(found->items[j].module, item->module);
    if (module && !seen && item->mode == SEGUE__DRIFT_RESTORE) drift_restore(drift, module, item);
  }
  for (size_t i = 0; i < drift->count; i++)
    drift_clear(drift, &drift->modules[i]);
}

/* ---- A scan ---- */

static void scan_end(drift_scan *scan) {
  segue__drifts_deinit(&scan->drifts);
  segue__file_world_unref(scan->world);
  segue__free(scan);
}

static void scan_run(segue__job *job) {
  drift_scan *scan = (drift_scan *)job;
  scan->status = SEGUE_FAULT("files.scan");
  if (!scan->status) scan->status = segue__file_book_scan(scan->world->book, &scan->drifts);
  (void)segue__file_book_save(scan->world->book, NULL); /* accepted versions; repeated by settle */
}

static void scan_done(segue__job *job) {
  drift_scan *scan = (drift_scan *)job;
  segue__file_drift *drift = scan->world->drift;
  if (drift) {
    drift->scanning = false;
    if (scan->status)
      drift_schedule(drift, PAUSE_MS);
    else
      drift_results(drift, &scan->drifts);
    if (drift->again) drift_schedule(drift, QUIET_MS);
    drift->again = false;
  }
  scan_end(scan);
}

static void scan_abandoned(segue__job *job) {
  scan_end((drift_scan *)job);
}

static void drift_due(segue__timer *timer) {
  segue__file_drift *drift = timer->data;
  drift->armed = false;
  if (drift->scanning) {
    drift->again = true;
    return;
  }
  drift_scan *scan = segue__calloc(1, sizeof *scan);
  if (!scan) {
    drift_schedule(drift, PAUSE_MS);
    return;
  }
  scan->job = (segue__job){.run = scan_run, .done = scan_done, .abandoned = scan_abandoned};
  scan->world = drift->world;
  drift->world->refs++;
  drift->scanning = true;
  if (!segue__job_submit(drift->world->loop, SEGUE__QUEUE_FILES, &scan->job)) return;
  drift->scanning = false;
  scan_end(scan);
  drift_schedule(drift, PAUSE_MS);
}

/* An earlier time stays: events that come all the time must not put the scan off for ever. */
static void drift_schedule(segue__file_drift *drift, uint64_t delay_ms) {
  uint64_t due = segue__loop_now_ms(drift->world->loop) + delay_ms;
  if (drift->armed && drift->due_ms <= due) return;
  drift->armed = true;
  drift->due_ms = due;
  drift->timer.data = drift;
  (void)segue__timer_start(drift->world->loop, &drift->timer, delay_ms, drift_due);
}

/* ---- Events ---- */

static void drift_on_event(void *data, const char *path) {
  (void)path;
  drift_schedule(data, QUIET_MS);
}

static void drift_on_phase(segue__observer *observer, const segue__result *result,
                           segue__phase phase) {
  segue__file_drift *drift = observer->data;
  if (phase == SEGUE__PHASE_SETTLED && !result->plan_only && drift->watched_once)
    drift_schedule(drift, 0);
}

/* A daemon that renders no files has no watch, which saves a descriptor. */
static int drift_open_watch(segue__file_drift *drift) {
  if (drift->watch) return 0;
  return segue__watch_new(&drift->watch, drift->world->loop, drift->world->log, drift_on_event,
                          drift);
}

static void drift_watch(segue__file_drift *drift) {
  segue__names paths = {0};
  segue__hash hash = {0, 0};
  if (segue__file_book_paths(drift->world->book, &paths)) {
    segue__names_deinit(&paths);
    return; /* no memory: the next settle, or the end of a run, comes here again */
  }
  for (size_t i = 0; i < paths.count; i++)
    hash = segue__hash_bytes(paths.items[i], strlen(paths.items[i]) + 1, hash);
  drift->watched_once |= paths.count > 0;
  if (drift->watched_once && !segue__hash_equal(hash, drift->watched) && !drift_open_watch(drift) &&
      !segue__watch_set(drift->watch, &paths, RESCAN_MS, NULL))
    drift->watched = hash;
  segue__names_deinit(&paths);
}

void segue__file_drift_settled(segue__file_world *world) {
  if (!world->drift) return;
  drift_watch(world->drift);
  drift_schedule(world->drift, 0);
}

int segue__file_world_watch(segue__file_world *world, segue__engine *engine) {
  segue__file_drift *drift = segue__calloc(1, sizeof *drift);
  if (!drift) return UV_ENOMEM;
  drift->world = world;
  drift->engine = engine;
  drift->observer.on_phase = drift_on_phase;
  drift->observer.data = drift;
  segue__engine_observe(engine, &drift->observer);
  world->drift = drift;
  world->engine = engine;
  return 0;
}

void segue__file_world_unwatch(segue__file_world *world, void (*cb)(void *data), void *data) {
  segue__file_drift *drift = world ? world->drift : NULL;
  if (!drift) {
    cb(data);
    return;
  }
  segue__watcher *watch = drift->watch;
  world->drift = NULL;
  world->engine = NULL;
  segue__timer_stop(world->loop, &drift->timer);
  segue__engine_unobserve(drift->engine, &drift->observer);
  for (size_t i = 0; i < drift->count; i++)
    segue__free(drift->modules[i].name);
  segue__free(drift->modules);
  segue__free(drift);
  segue__watch_close(watch, cb, data);
}
