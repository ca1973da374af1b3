/* SPDX-License-Identifier: MIT
 *
 * Status, modules, sources and readiness, read from the engine when the request arrives.
 */
#include "../reload/wants.h"
#include "internal.h"
#include "render.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void modules_json(segue__buf *out, const segue__admin *admin);
static void sources_json(segue__buf *out, const segue__engine *engine);

/* A module whose gate refuses is not good although it serves: its callers get 503. */
static bool module_good(const segue__module_status *module) {
  return module->state == SEGUE__MODULE_SERVING && module->gate.state != SEGUE__GATE_REFUSING;
}

/* Returns whether the live configuration depends on data that a guard reports as too old. */
static bool status_too_old(const segue__engine *engine, char *why, size_t size) {
  for (size_t i = 0; i < segue__engine_source_count(engine); i++) {
    segue__source_status source;
    segue__engine_source_status(engine, i, &source);
    if (!source.too_old) continue;
    snprintf(why, size,
             "source %s is away, and its last delivery is older than its max_age allows: %s",
             source.name, source.error ? source.error->message : "");
    return true;
  }
  return false;
}

/* With `ready = "strict"` the policy requires 503 while anything that is served is stale. */
static bool too_strict(const segue__engine *engine, char *why, size_t size) {
  const segue__policy *policy = segue__engine_policy(engine);
  if (!policy || !policy->ready_strict) return false;
  if (segue__engine_stale_since(engine)) {
    snprintf(why, size, "the live configuration is stale: the sources deliver no good one");
    return true;
  }
  for (size_t i = 0; i < segue__engine_source_count(engine); i++) {
    segue__source_status source;
    segue__engine_source_status(engine, i, &source);
    if (!source.held) continue;
    snprintf(why, size, "source %s is away, its last delivery is held", source.name);
    return true;
  }
  return false;
}

/* Returns whether a load balancer may send clients here. A later generation that waits for
 * confirmation does not make the instance unready: if it fails, the previous one, which was good,
 * returns. */
bool segue__admin_ready(const segue__engine *engine, char *why, size_t size) {
  if (!segue__engine_live(engine)) {
    const segue__result *last =
        segue__engine_result_count(engine) ? segue__engine_result(engine, 0) : NULL;
    snprintf(why, size, "no generation is live: %s%s",
             last ? "the last load was " : "the first load has not finished",
             last ? segue__outcome_name(last->outcome) : "");
    return false;
  }
  if (segue__engine_starting(engine)) {
    snprintf(why, size,
             "the start is not complete: the last good generation serves until the one that waits "
             "to be confirmed is live");
    return false;
  }
  if (segue__engine_on_trial(engine)) {
    snprintf(why, size, "the first generation is not confirmed yet");
    return false;
  }
  for (size_t i = 0; i < segue__engine_module_count(engine); i++) {
    segue__module_status module;
    segue__engine_module_status(engine, i, &module);
    if (module_good(&module)) continue;
    snprintf(why, size, "module %s is %s%s%s", module.name, segue__module_state_name(module.state),
             module.error ? ": " : "", module.error ? module.error->message : "");
    return false;
  }
  return !too_strict(engine, why, size) && !status_too_old(engine, why, size);
}

void segue__handle_healthy(segue__admin *admin, segue__http_request *request, const char *rest) {
  (void)admin, (void)rest;
  segue__http_respond(request, 200, "text/plain; charset=utf-8", "Cache-Control: no-store\r\n",
                      "healthy\n", 8);
}

/* Names the sources that are away and whose last documents are in use: the instance is ready, but
 * serves old data. */
static void add_away(segue__buf *out, const segue__engine *engine) {
  for (size_t i = 0; i < segue__engine_source_count(engine); i++) {
    segue__source_status source;
    segue__engine_source_status(engine, i, &source);
    if (!source.held) continue;
    segue__buf_adds(out, ", ");
    segue__render_line(out, source.name);
    segue__buf_addf(out, " is away for %" PRIu64 " s and held", source.stale_ms / 1000);
  }
}

void segue__handle_ready(segue__admin *admin, segue__http_request *request, const char *rest) {
  (void)rest;
  char why[512];
  segue__buf body;
  segue__buf_init(&body);
  bool ready = segue__admin_ready(admin->engine, why, sizeof why);
  if (ready)
    segue__buf_addf(&body, "ready: generation %" PRIu64,
                    segue_snapshot_generation(segue__engine_live(admin->engine)));
  if (ready && segue__engine_stale_since(admin->engine)) {
    segue__buf_adds(&body, ", stale since ");
    segue__render_clock(&body, segue__engine_stale_since(admin->engine));
  }
  if (ready) add_away(&body, admin->engine);
  if (!ready) {
    segue__buf_adds(&body, "not ready: ");
    segue__render_line(&body, why);
  }
  segue__buf_addc(&body, '\n');
  segue__http_respond_buf(request, ready ? 200 : 503, "text/plain; charset=utf-8",
                          "Cache-Control: no-store\r\n", &body);
}

static void running_json(segue__buf *out, const segue__engine *engine) {
  const segue__result *running = segue__engine_running(engine);
  if (!running) {
    segue__buf_adds(out, "null");
    return;
  }
  segue__buf_addf(out, "{\"id\":%" PRIu64 ",\"phase\":\"%s\",", running->id,
                  segue__phase_name(running->phase));
  segue__render_member(out, "cause", running->cause);
  segue__buf_adds(out, ",\"started\":");
  segue__render_time(out, running->started_wall_ms);
  segue__buf_addc(out, '}');
}

void segue__open_changes_json(segue__buf *out, const segue__engine *engine, const char *module) {
  bool any = false;
  segue__buf_addc(out, '[');
  for (size_t i = 0; i < segue__engine_open_change_count(engine); i++) {
    segue__open_change change;
    segue__engine_open_change(engine, i, &change);
    if (module && strcmp(module, change.module) != 0) continue;
    char *does = segue__strdup(change.does);
    if (does) segue__engine_scrub_text(engine, does);
    segue__buf_adds(out, any ? ",{" : "{");
    any = true;
    segue__render_member(out, "module", change.module);
    segue__buf_addc(out, ',');
    segue__render_member(out, "action", change.action);
    segue__buf_addc(out, ',');
    segue__render_member(out, "does", does);
    segue__buf_addf(out, ",\"generation\":%" PRIu64 ",\"reload\":%" PRIu64 ",\"running\":%s}",
                    change.generation, change.reload, change.running ? "true" : "false");
    segue__free(does);
  }
  segue__buf_addc(out, ']');
}

/* Names that templates ask sources for. */
static void wants_json(segue__buf *out, const segue__engine *engine) {
  segue__buf modules;
  segue__buf_init(&modules);
  segue__buf_addc(out, '[');
  for (size_t i = 0; i < segue__engine_want_count(engine); i++) {
    segue__want_status want;
    segue__engine_want(engine, i, &modules, &want);
    segue__buf_adds(out, i ? ",{" : "{");
    segue__render_clean(out, engine, "name", want.name);
    segue__buf_addc(out, ',');
    segue__render_member(out, "modules", want.modules);
    segue__buf_addf(out, ",\"missing\":%s,\"unused\":%u}", want.missing ? "true" : "false",
                    want.unused);
  }
  segue__buf_addc(out, ']');
  segue__buf_deinit(&modules);
}

static void status_live(segue__buf *out, segue__admin *admin) {
  const segue_snapshot *live = segue__engine_live(admin->engine);
  const segue__policy *policy = segue__engine_policy(admin->engine);
  char why[512];
  bool ready = segue__admin_ready(admin->engine, why, sizeof why);
  segue__render_member(out, "name", policy ? policy->name : NULL);
  segue__buf_addf(out, ",\"ready\":%s,", ready ? "true" : "false");
  segue__render_member(out, "not_ready_because", ready ? NULL : why);
  segue__buf_addf(out, ",\"generation\":%" PRIu64 ",", live ? segue_snapshot_generation(live) : 0);
  segue__render_member(out, "hash", live ? segue_snapshot_hash(live) : NULL);
  segue__buf_adds(out, ",\"stale_since\":");
  segue__render_time(out, segue__engine_stale_since(admin->engine));
  segue__buf_addc(out, ',');
  segue__operator_json(out, admin->engine);
  segue__buf_adds(out, ",\"open_changes\":");
  segue__open_changes_json(out, admin->engine, NULL);
}

static void status_process(segue__buf *out, const segue__admin *admin) {
  segue__buf_addf(out, ",\"version\":\"%s\",\"pid\":%ld,\"started\":", segue_version(),
                  (long)getpid());
  segue__render_time(out, admin->started_wall_ms);
  segue__buf_addf(out, ",\"uptime_s\":%.1f,",
                  (double)(segue__loop_now_ms(admin->loop) - admin->started_ms) / 1e3);
  segue__render_member(out, "policy", admin->policy_path);
  segue__buf_addc(out, ',');
  segue__render_member(out, "state", admin->state);
  segue__buf_adds(out, ",\"listeners\":");
  segue__listeners_json(out, admin);
  segue__buf_adds(out, ",\"certificates\":");
  segue__certificates_json(out, admin);
}

static void status_queue(segue__buf *out, const segue__admin *admin) {
  const segue__engine *engine = admin->engine;
  const segue__engine_stats *stats = segue__engine_stats_get(engine);
  uint64_t deferred = segue__engine_deferred_until_ms(engine);
  uint64_t now = segue__loop_now_ms(admin->loop);
  segue__buf_adds(out, ",\"running\":");
  running_json(out, engine);
  segue__buf_addf(out, ",\"pending\":%s,\"deferred_ms\":%" PRIu64,
                  segue__engine_pending(engine) ? "true" : "false",
                  deferred > now ? deferred - now : 0);
  segue__buf_addf(out, ",\"last_reload_successful\":%s,\"last_success\":",
                  stats->last_successful ? "true" : "false");
  segue__render_time(out, stats->last_success_wall_ms);
  segue__buf_addf(out, ",\"reloads\":%" PRIu64 ",\"last\":", stats->runs);
  if (segue__engine_result_count(engine))
    segue__render_result_json(out, segue__engine_result(engine, 0), false);
  else
    segue__buf_adds(out, "null");
}

static void status_files(segue__buf *out, const segue__admin *admin) {
  size_t modules = 0, files = 0;
  if (admin->parts.file_totals) admin->parts.file_totals(admin->parts.data, &modules, &files);
  segue__buf_addf(out, ",\"files\":{\"modules\":%zu,\"files\":%zu}", modules, files);
}

void segue__handle_status(segue__admin *admin, segue__http_request *request, const char *rest) {
  (void)rest;
  segue__buf body;
  segue__buf_init(&body);
  segue__buf_addc(&body, '{');
  status_live(&body, admin);
  status_process(&body, admin);
  status_queue(&body, admin);
  segue__buf_adds(&body, ",\"modules\":");
  modules_json(&body, admin);
  segue__buf_adds(&body, ",\"sources\":");
  sources_json(&body, admin->engine);
  segue__buf_adds(&body, ",\"wants\":");
  wants_json(&body, admin->engine);
  status_files(&body, admin);
  segue__buf_adds(&body, "}\n");
  segue__answer_json(request, 200, &body);
}

void segue__handle_modules(segue__admin *admin, segue__http_request *request, const char *rest) {
  (void)rest;
  segue__buf body;
  segue__buf_init(&body);
  modules_json(&body, admin);
  segue__buf_addc(&body, '\n');
  segue__answer_json(request, 200, &body);
}

void segue__handle_sources(segue__admin *admin, segue__http_request *request, const char *rest) {
  (void)rest;
  segue__buf body;
  segue__buf_init(&body);
  sources_json(&body, admin->engine);
  segue__buf_addc(&body, '\n');
  segue__answer_json(request, 200, &body);
}

static const char *gate_name(segue__gate_state state) {
  return state == SEGUE__GATE_OPEN ? "open" : state == SEGUE__GATE_SHUT ? "shut" : "refusing";
}

static void modules_json(segue__buf *out, const segue__admin *admin) {
  const segue__engine *engine = admin->engine;
  segue__buf_addc(out, '[');
  for (size_t i = 0; i < segue__engine_module_count(engine); i++) {
    segue__module_status module;
    segue__engine_module_status(engine, i, &module);
    segue__buf_adds(out, i ? ",{" : "{");
    segue__render_member(out, "name", module.name);
    segue__buf_addc(out, ',');
    segue__render_member(out, "kind", module.kind);
    segue__buf_addf(out,
                    ",\"replace\":\"%s\",\"state\":\"%s\",\"gate\":\"%s\",\"generation\":%" PRIu64
                    ",\"draining\":%zu,\"drains_cut\":%" PRIu64 ",\"inside_cut\":%" PRIu64
                    ",\"failures\":%" PRIu64 ",\"inside\":%zu,\"waiting\":%zu,\"refused\":{",
                    module.replace, segue__module_state_name(module.state),
                    gate_name(module.gate.state), module.generation, module.draining,
                    module.drains_cut, module.inside_cut, module.failures, module.gate.inside,
                    module.gate.waiting);
    for (int k = 0; k < SEGUE__REFUSAL_COUNT; k++)
      segue__buf_addf(out, "%s\"%s\":%" PRIu64, k ? "," : "",
                      segue__refusal_name((segue__refusal)k), module.gate.refused[k]);
    segue__buf_adds(out, "},\"instances\":{");
    for (int k = 0; k < SEGUE__MODULE_STATE_COUNT; k++)
      segue__buf_addf(out, "%s\"%s\":%zu", k ? "," : "",
                      segue__module_state_name((segue__module_state)k), module.instances[k]);
    segue__buf_adds(out, "},\"listen\":[");
    if (admin->parts.module_addresses)
      admin->parts.module_addresses(admin->parts.data, module.name, out);
    segue__buf_addf(out, "],\"drifted\":%zu,", module.drifted);
    segue__render_clean(out, engine, "drift", module.drift);
    segue__buf_adds(out, ",\"error\":");
    segue__render_error_json(out, module.error);
    segue__buf_addc(out, '}');
  }
  segue__buf_addc(out, ']');
}

static void source_health(segue__buf *out, const segue__engine *engine,
                          const segue__source_status *source) {
  segue__buf_addf(out, ",\"up\":%s,\"held\":%s,\"activity\":\"%s\",",
                  !source->fetches ? "null"
                  : source->up     ? "true"
                                   : "false",
                  source->held ? "true" : "false", source->activity);
  segue__render_clean(out, engine, "revision", source->revision);
  segue__buf_addf(out, ",\"stale_s\":%.3f,\"next_pull_s\":%.3f,\"watch_failures\":%" PRIu64,
                  (double)source->stale_ms / 1e3, (double)source->next_ms / 1e3,
                  source->watch_failures);
  segue__buf_addf(
      out,
      ",\"keys\":%" PRIu64 ",\"events\":%" PRIu64 ",\"lag_s\":%.6f,\"watch_restarts\":%" PRIu64 ",",
      source->keys, source->events, (double)source->lag_us / 1e6, source->watch_restarts);
  segue__render_member(out, "failure", source->failure);
  segue__buf_adds(out, ",\"failed\":{");
  for (int k = 0; k < SEGUE__FAILURE_COUNT; k++)
    segue__buf_addf(out, "%s\"%s\":%" PRIu64, k ? "," : "",
                    segue__failure_kind_name((segue__failure_kind)k), source->failed[k]);
  segue__buf_adds(out, "},\"resyncs\":{");
  for (int k = 0; k < SEGUE__RESYNC_COUNT; k++)
    segue__buf_addf(out, "%s\"%s\":%" PRIu64, k ? "," : "",
                    segue__resync_reason_name((segue__resync_reason)k), source->resyncs[k]);
  segue__buf_addc(out, '}');
}

static void sources_json(segue__buf *out, const segue__engine *engine) {
  segue__buf_addc(out, '[');
  for (size_t i = 0; i < segue__engine_source_count(engine); i++) {
    segue__source_status source;
    segue__engine_source_status(engine, i, &source);
    segue__buf_adds(out, i ? ",{" : "{");
    segue__render_clean(out, engine, "name", source.name);
    segue__buf_addc(out, ',');
    segue__render_member(out, "kind", source.kind);
    segue__buf_addc(out, ',');
    segue__render_member(out, "strategy", source.push ? "push" : "pull");
    source_health(out, engine, &source);
    segue__buf_addf(out,
                    ",\"documents\":%zu,\"fetches\":%" PRIu64 ",\"failures\":%" PRIu64
                    ",\"consecutive_failures\":%" PRIu64 ",\"last_success\":",
                    source.documents, source.fetches, source.failures, source.consecutive_failures);
    segue__render_time(out, source.last_success_wall_ms);
    segue__buf_adds(out, ",\"error\":");
    segue__render_error_json(out, source.error);
    segue__buf_addc(out, '}');
  }
  segue__buf_addc(out, ']');
}
