/* SPDX-License-Identifier: MIT
 *
 * GET /metrics: the engine, its sources and modules in the text format of Prometheus.
 */
#include "internal.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static void prometheus_number(segue__buf *out, const char *name, const char *type, const char *help,
                              uint64_t value) {
  segue__metrics_head(out, name, type, help);
  segue__buf_addf(out, "%s %" PRIu64 "\n", name, value);
}

static void prometheus_seconds(segue__buf *out, const char *name, const char *help,
                               int64_t wall_ms) {
  segue__metrics_head(out, name, "gauge", help);
  segue__buf_addf(out, "%s %.3f\n", name, (double)wall_ms / 1e3);
}

static void config_metrics(segue__buf *out, const segue__engine *engine) {
  const segue__engine_stats *stats = segue__engine_stats_get(engine);
  const segue_snapshot *live = segue__engine_live(engine);
  char why[512];
  segue__metrics_head(out, "segue_build_info", "gauge", "Always 1; the version is in the label.");
  segue__buf_addf(out, "segue_build_info{version=\"%s\"} 1\n", segue_version());
  prometheus_number(out, "segue_config_last_reload_successful", "gauge",
                    "Whether the last reload was applied or found nothing changed.",
                    stats->last_successful);
  prometheus_seconds(out, "segue_config_last_reload_success_timestamp_seconds",
                     "When the last successful reload ended, in seconds since 1970; 0 is never.",
                     stats->last_success_wall_ms);
  prometheus_number(out, "segue_config_generation", "gauge",
                    "The generation that is live; 0 is none.",
                    live ? segue_snapshot_generation(live) : 0);
  int64_t stale = segue__engine_stale_since(engine);
  prometheus_seconds(
      out, "segue_config_stale_seconds",
      "Time since the sources delivered the live configuration last, while they deliver no good "
      "one; 0 while they do.",
      stale ? segue__engine_wall_ms(engine) - stale : 0);
  segue__operator_metrics(out, engine);
  prometheus_number(out, "segue_changes_open", "gauge",
                    "Changes outside of the process (files, commands) that are neither finished "
                    "nor undone.",
                    segue__engine_open_change_count(engine));
  prometheus_number(out, "segue_ready", "gauge", "Whether every module runs a good generation.",
                    segue__admin_ready(engine, why, sizeof why));
}

static void reload_metrics(segue__buf *out, const segue__engine *engine) {
  const segue__engine_stats *stats = segue__engine_stats_get(engine);
  segue__metrics_head(out, "segue_reloads_total", "counter", "Reloads by their outcome.");
  for (int i = 0; i < SEGUE__OUTCOME_COUNT; i++)
    segue__buf_addf(out, "segue_reloads_total{outcome=\"%s\"} %" PRIu64 "\n",
                    segue__outcome_name((segue__outcome)i), stats->outcomes[i]);
  segue__metrics_head(out, "segue_triggers_total", "counter", "Requests for reloads, by trigger.");
  for (int i = 0; i < SEGUE__TRIGGER_COUNT; i++)
    segue__buf_addf(out, "segue_triggers_total{trigger=\"%s\"} %" PRIu64 "\n",
                    segue__trigger_name((segue__trigger)i), stats->triggers[i]);
  prometheus_number(out, "segue_triggers_coalesced_total", "counter",
                    "Requests that joined a run that was requested before.", stats->coalesced);
  prometheus_number(out, "segue_reloads_skipped_total", "counter",
                    "Automatic runs whose input was refused before.", stats->skipped);
  prometheus_number(out, "segue_reload_running", "gauge", "Whether a reload runs now.",
                    segue__engine_running(engine) != NULL);
  prometheus_number(out, "segue_reload_pending", "gauge", "Whether another run waits.",
                    segue__engine_pending(engine));
}

static void prometheus_labelled(segue__buf *out, const char *name, const char *label,
                                const char *value) {
  segue__buf_addf(out, "%s{%s=", name, label);
  segue__metrics_label(out, value);
  segue__buf_adds(out, "} ");
}

/* Writes one family over all sources, because the format requires the samples of a family in one
 * block. A value that is not known (NAN) has no sample. */
static void source_family(segue__buf *out, const segue__engine *engine, const char *name,
                          const char *type, const char *help,
                          double (*value)(const segue__source_status *source)) {
  segue__metrics_head(out, name, type, help);
  for (size_t i = 0; i < segue__engine_source_count(engine); i++) {
    segue__source_status source;
    segue__engine_source_status(engine, i, &source);
    double number = value(&source);
    if (isnan(number)) continue;
    prometheus_labelled(out, name, "source", source.name);
    segue__buf_addf(out, "%.17g\n", number);
  }
}

/* A start while reloads are frozen reads no source. 0 would raise an alarm about a source that is
 * well, and 1 would hide one that is away. */
static double source_up(const segue__source_status *source) {
  return source->fetches ? source->up : NAN;
}
static double source_held(const segue__source_status *source) {
  return source->held;
}
static double source_push(const segue__source_status *source) {
  return source->push;
}
static double source_stale(const segue__source_status *source) {
  return (double)source->stale_ms / 1e3;
}
static double source_documents(const segue__source_status *source) {
  return (double)source->documents;
}
static double source_fetches(const segue__source_status *source) {
  return (double)source->fetches;
}
static double source_success(const segue__source_status *source) {
  return (double)source->last_success_wall_ms / 1e3;
}

/* One family whose samples have a label beside the source: a number for each of `count` names. */
static void source_kinds(segue__buf *out, const segue__engine *engine, const char *name,
                         const char *label, const char *help, int count,
                         const char *(*text)(int index),
                         const uint64_t *(*values)(const segue__source_status *source)) {
  segue__metrics_head(out, name, "counter", help);
  for (size_t i = 0; i < segue__engine_source_count(engine); i++) {
    segue__source_status source;
    segue__engine_source_status(engine, i, &source);
    for (int k = 0; k < count; k++) {
      segue__buf_addf(out, "%s{source=", name);
      segue__metrics_label(out, source.name);
      segue__buf_addf(out, ",%s=\"%s\"} %" PRIu64 "\n", label, text(k), values(&source)[k]);
    }
  }
}
static const char *failure_kind(int kind) {
  return segue__failure_kind_name((segue__failure_kind)kind);
}
static const char *resync_reason(int reason) {
  return segue__resync_reason_name((segue__resync_reason)reason);
}
static const uint64_t *source_failed(const segue__source_status *source) {
  return source->failed;
}
static const uint64_t *source_resyncs(const segue__source_status *source) {
  return source->resyncs;
}
static double source_keys(const segue__source_status *source) {
  return (double)source->keys;
}
static double source_events(const segue__source_status *source) {
  return (double)source->events;
}
static double source_lag(const segue__source_status *source) {
  return source->lag_us ? (double)source->lag_us / 1e6 : NAN;
}
static double source_restarts(const segue__source_status *source) {
  return (double)source->watch_restarts;
}

static void source_metrics(segue__buf *out, const segue__engine *engine) {
  source_family(out, engine, "segue_source_up", "gauge",
                "Whether the last fetch succeeded; no sample before the first fetch.", source_up);
  source_family(out, engine, "segue_source_held", "gauge",
                "Whether the source is away and its last delivery is used.", source_held);
  source_family(out, engine, "segue_source_stale_seconds", "gauge",
                "Time since the last delivery of the source, while it is not up.", source_stale);
  source_family(out, engine, "segue_source_push", "gauge",
                "1 if the strategy is push, 0 if it is pull.", source_push);
  source_family(out, engine, "segue_source_documents", "gauge", "Documents of the last delivery.",
                source_documents);
  source_family(out, engine, "segue_source_keys", "gauge",
                "Keys of the last delivery; members at its root if it is no key space.",
                source_keys);
  source_family(out, engine, "segue_source_events_total", "counter", "Pushes of watches.",
                source_events);
  source_family(out, engine, "segue_source_lag_seconds", "gauge",
                "Time from the arrival of the last delivery that went live until it was live.",
                source_lag);
  source_family(out, engine, "segue_source_fetches_total", "counter", "Fetches.", source_fetches);
  source_kinds(out, engine, "segue_source_failures_total", "kind",
               "Fetches and watches that failed.", SEGUE__FAILURE_COUNT, failure_kind,
               source_failed);
  source_kinds(out, engine, "segue_source_resyncs_total", "reason",
               "Fetches of everything because changes were missing.", SEGUE__RESYNC_COUNT,
               resync_reason, source_resyncs);
  source_family(out, engine, "segue_source_watch_restarts_total", "counter",
                "Watches that were started again because they were silent or missed a change.",
                source_restarts);
  source_family(out, engine, "segue_source_last_success_timestamp_seconds", "gauge",
                "When the source was last fetched, in seconds since 1970; 0 is never.",
                source_success);
}

static void module_states(segue__buf *out, const segue__module_status *module) {
#define X(name_, text_)                                                                            \
  segue__buf_adds(out, "segue_module_state{module=");                                              \
  segue__metrics_label(out, module->name);                                                         \
  segue__buf_addf(out, ",state=\"%s\"} %d\n", text_, module->state == SEGUE__MODULE_##name_);
  SEGUE__MODULE_STATES(X)
#undef X
}

static void module_instances(segue__buf *out, const segue__module_status *module) {
  for (int k = 0; k < SEGUE__MODULE_STATE_COUNT; k++) {
    segue__buf_adds(out, "segue_module_instances{module=");
    segue__metrics_label(out, module->name);
    segue__buf_addf(out, ",state=\"%s\"} %zu\n", segue__module_state_name((segue__module_state)k),
                    module->instances[k]);
  }
}

static void module_family(segue__buf *out, const segue__engine *engine, const char *name,
                          const char *type, const char *help,
                          double (*value)(const segue__module_status *module)) {
  segue__metrics_head(out, name, type, help);
  for (size_t i = 0; i < segue__engine_module_count(engine); i++) {
    segue__module_status module;
    segue__engine_module_status(engine, i, &module);
    prometheus_labelled(out, name, "module", module.name);
    segue__buf_addf(out, "%.17g\n", value(&module));
  }
}

static double module_generation(const segue__module_status *module) {
  return (double)module->generation;
}
static double module_draining(const segue__module_status *module) {
  return (double)module->draining;
}
static double module_drains_cut(const segue__module_status *module) {
  return (double)module->drains_cut;
}
static double module_inside_cut(const segue__module_status *module) {
  return (double)module->inside_cut;
}
static double gate_open(const segue__module_status *module) {
  return module->gate.state == SEGUE__GATE_OPEN;
}
static double gate_inside(const segue__module_status *module) {
  return (double)module->gate.inside;
}
static double module_failures(const segue__module_status *module) {
  return (double)module->failures;
}

static double module_drifted(const segue__module_status *module) {
  return (double)module->drifted;
}

static double module_drifts(const segue__module_status *module) {
  return (double)module->drifts;
}

static double gate_waiting(const segue__module_status *module) {
  return (double)module->gate.waiting;
}

static void gate_refused(segue__buf *out, const segue__engine *engine) {
  segue__metrics_head(out, "segue_gate_refused_total", "counter",
                      "Requests refused at a gate, by reason.");
  for (size_t i = 0; i < segue__engine_module_count(engine); i++) {
    segue__module_status module;
    segue__engine_module_status(engine, i, &module);
    for (int k = 0; k < SEGUE__REFUSAL_COUNT; k++) {
      segue__buf_adds(out, "segue_gate_refused_total{module=");
      segue__metrics_label(out, module.name);
      segue__buf_addf(out, ",reason=\"%s\"} %" PRIu64 "\n", segue__refusal_name((segue__refusal)k),
                      module.gate.refused[k]);
    }
  }
}

static void gate_wait(segue__buf *out, const segue__module_status *module) {
  static const uint64_t bounds[] = SEGUE__WAIT_BOUNDS_MS;
  uint64_t count = 0;
  for (int k = 0; k < SEGUE__WAIT_BUCKETS; k++) {
    count += module->gate.waited[k];
    segue__buf_adds(out, "segue_gate_wait_seconds_bucket{module=");
    segue__metrics_label(out, module->name);
    if (k < SEGUE__WAIT_BUCKETS - 1)
      segue__buf_addf(out, ",le=\"%g\"} %" PRIu64 "\n", (double)bounds[k] / 1e3, count);
    else
      segue__buf_addf(out, ",le=\"+Inf\"} %" PRIu64 "\n", count);
  }
  prometheus_labelled(out, "segue_gate_wait_seconds_sum", "module", module->name);
  segue__buf_addf(out, "%.3f\n", (double)module->gate.waited_ms / 1e3);
  prometheus_labelled(out, "segue_gate_wait_seconds_count", "module", module->name);
  segue__buf_addf(out, "%" PRIu64 "\n", count);
}

static void gate_metrics(segue__buf *out, const segue__engine *engine) {
  module_family(out, engine, "segue_gate_open", "gauge", "Whether a module's gate lets callers in.",
                gate_open);
  module_family(out, engine, "segue_gate_inside", "gauge",
                "Callers that are inside a module's gate.", gate_inside);
  module_family(out, engine, "segue_gate_waiting", "gauge", "Callers that wait at a module's gate.",
                gate_waiting);
  gate_refused(out, engine);
  segue__metrics_head(out, "segue_gate_wait_seconds", "histogram",
                      "Time that callers waited at a gate before they entered.");
  for (size_t i = 0; i < segue__engine_module_count(engine); i++) {
    segue__module_status module;
    segue__engine_module_status(engine, i, &module);
    gate_wait(out, &module);
  }
}

static void prometheus_module_metrics(segue__buf *out, const segue__engine *engine) {
  segue__metrics_head(out, "segue_module_state", "gauge", "1 for the current state of a module.");
  for (size_t i = 0; i < segue__engine_module_count(engine); i++) {
    segue__module_status module;
    segue__engine_module_status(engine, i, &module);
    module_states(out, &module);
  }
  segue__metrics_head(out, "segue_module_instances", "gauge",
                      "Instances of a module by state, also starting and draining ones.");
  for (size_t i = 0; i < segue__engine_module_count(engine); i++) {
    segue__module_status module;
    segue__engine_module_status(engine, i, &module);
    module_instances(out, &module);
  }
  module_family(out, engine, "segue_module_generation", "gauge", "The generation a module runs.",
                module_generation);
  module_family(out, engine, "segue_module_draining", "gauge", "Old instances that still drain.",
                module_draining);
  module_family(out, engine, "segue_module_drains_cut_total", "counter",
                "Drains that were cut short.", module_drains_cut);
  module_family(out, engine, "segue_module_inside_cut_total", "counter",
                "Calls inside when their drain was cut short.", module_inside_cut);
  module_family(out, engine, "segue_module_failures_total", "counter",
                "Instances of a module that reported that they had failed.", module_failures);
  module_family(out, engine, "segue_module_drifted_files", "gauge",
                "Files of a module that another program has changed.", module_drifted);
  module_family(out, engine, "segue_module_drifts_total", "counter",
                "Changes of a module's files by other programs that were noticed.", module_drifts);
  gate_metrics(out, engine);
}

static void queue_wait(segue__buf *out, const char *name, const segue__queue_status *queue) {
  static const uint64_t bounds[] = SEGUE__JOB_WAIT_BOUNDS_US;
  uint64_t count = 0;
  for (int k = 0; k < SEGUE__JOB_WAIT_BUCKETS; k++) {
    count += queue->waits[k];
    segue__buf_addf(out, "segue_worker_queue_wait_seconds_bucket{queue=\"%s\",le=\"", name);
    if (k < SEGUE__JOB_WAIT_BUCKETS - 1)
      segue__buf_addf(out, "%g\"} %" PRIu64 "\n", (double)bounds[k] / 1e6, count);
    else
      segue__buf_addf(out, "+Inf\"} %" PRIu64 "\n", count);
  }
  segue__buf_addf(out, "segue_worker_queue_wait_seconds_sum{queue=\"%s\"} %.6f\n", name,
                  (double)queue->waited_us / 1e6);
  segue__buf_addf(out, "segue_worker_queue_wait_seconds_count{queue=\"%s\"} %" PRIu64 "\n", name,
                  count);
}

static void queue_metrics(segue__buf *out, segue__loop *loop) {
  segue__queue_status status[SEGUE__QUEUE_COUNT];
  for (int i = 0; i < SEGUE__QUEUE_COUNT; i++)
    segue__queue_status_get(loop, (segue__queue)i, &status[i]);
  segue__metrics_head(out, "segue_worker_queue_wait_seconds", "histogram",
                      "How long jobs waited for the thread of their queue before they began.");
  for (int i = 0; i < SEGUE__QUEUE_COUNT; i++)
    queue_wait(out, segue__queue_name((segue__queue)i), &status[i]);
  segue__metrics_head(out, "segue_worker_queue_jobs", "gauge",
                      "Jobs of a queue by state; hanging: abandoned while they ran.");
  for (int i = 0; i < SEGUE__QUEUE_COUNT; i++) {
    const char *name = segue__queue_name((segue__queue)i);
    const size_t jobs[] = {status[i].waiting, status[i].running, status[i].hanging};
    static const char *const states[] = {"waiting", "running", "hanging"};
    for (int k = 0; k < 3; k++)
      segue__buf_addf(out, "segue_worker_queue_jobs{queue=\"%s\",state=\"%s\"} %zu\n", name,
                      states[k], jobs[k]);
  }
}

static void prometheus_add_text(void *sink, const char *text, size_t len) {
  segue__buf_add(sink, text, len);
}

/* Copies len bytes to `to`, which is not behind them, without secrets. Returns the end. */
static char *copy_clean(const segue__engine *engine, char *to, char *from, size_t len) {
  char behind = from[len];
  from[len] = 0;
  segue__engine_scrub_text(engine, from);
  size_t left = strlen(from);
  memmove(to, from, left);
  from[len] = behind;
  return to + left;
}

/* Returns the length of the text in quotes that begins at s, behind the quote. */
static size_t quoted_length(const char *s) {
  size_t n = 0;
  while (s[n] && s[n] != '"' && s[n] != '\n')
    n += s[n] == '\\' && s[n + 1] && s[n + 1] != '\n' ? 2 : 1;
  return n;
}

/* Removes secrets from the values of labels and from help texts: modules write their own, and a
 * value may have become a secret after its series was made. Numbers of samples stay, because a page
 * with *** in the place of a number cannot be read. */
static void clean_page(const segue__engine *engine, segue__buf *page) {
  static const char help[] = "# HELP ";
  if (page->failed || !page->len) return;
  char *to = page->data, *at = page->data, *end = page->data + page->len;
  bool line_begins = true;
  while (at < end) {
    size_t part = 0;
    if (line_begins && !strncmp(at, help, sizeof help - 1)) part = strcspn(at, "\n");
    line_begins = *at == '\n';
    if (!part) *to++ = *at;
    if (!part && *at++ == '"') {
      part = quoted_length(at);
      to = copy_clean(engine, to, at, part);
      at += part;
      if (*at == '"') *to++ = *at++;
    } else if (part) {
      to = copy_clean(engine, to, at, part);
      at += part;
    }
  }
  *to = 0;
  page->len = (size_t)(to - page->data);
}

void segue__handle_metrics(segue__admin *admin, segue__http_request *request, const char *rest) {
  (void)rest;
  segue__buf body, modules;
  segue__buf_init(&body);
  segue__buf_init(&modules);
  config_metrics(&body, admin->engine);
  reload_metrics(&body, admin->engine);
  segue__metrics_write(&body, &admin->metrics);
  source_metrics(&body, admin->engine);
  prometheus_module_metrics(&body, admin->engine);
  queue_metrics(&body, admin->loop);
  segue__engine_module_metrics(admin->engine, prometheus_add_text, &modules);
  if (modules.failed) body.failed = true;
  segue__metrics_gather(&body, modules.data, modules.len);
  segue__buf_deinit(&modules);
  if (admin->parts.more_metrics) admin->parts.more_metrics(admin->parts.data, &body);
  prometheus_number(&body, "segue_http_connections", "gauge", "Open connections of the admin API.",
                    segue__http_connections(admin->server));
  segue__access_metrics(&body, admin);
  segue__certificates_metrics(&body, admin);
  segue__metrics_process(&body);
  clean_page(admin->engine, &body);
  segue__http_respond_buf(request, 200, "text/plain; version=0.0.4; charset=utf-8", NULL, &body);
}
