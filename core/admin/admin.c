/* SPDX-License-Identifier: MIT
 *
 * The life of the admin API, and the way of a request: its endpoint is looked up (endpoints.c), the
 * client is authorized (authorize.c), the query is validated (query.c), then the handler runs.
 *
 * The API outlives the engine: while the server still finishes its connections the engine may be
 * gone. From admin_detach on only endpoints that are marked `always` answer as before, the
 * others get 503.
 */
#include "internal.h"
#include "render.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <uv.h>

#include "../config/printable.h"

static void on_request(void *data, segue__http_request *request);
static void admin_on_phase(segue__observer *observer, const segue__result *result,
                           segue__phase phase);
static void on_module(segue__observer *observer, const char *module, uint64_t generation,
                      segue__module_state state);
static void on_drift(segue__observer *observer, const segue__drift_report *report);
static void on_written(segue__observer *observer, const segue__written_report *report);
static void on_effect(segue__observer *observer, const segue__effect_report *report);

enum { SPARE_SHARE = 8 }; /* half of what the clients of modules leave (core/ingress) */

/* Clients must never use up the descriptors that a reload needs for the files it reads. So ports
 * and unix sockets may take three eighths of the limit each. */
static uint32_t room_for_connections(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= 4096) return 1024;
  uint32_t room = (uint32_t)(limit.rlim_cur * 3 / 8);
  return room < 4 ? 4 : room < 1024 ? room : 1024;
}

int segue__admin_new(segue__admin **out, const segue__admin_options *options) {
  *out = NULL;
  segue__admin *admin = segue__calloc(1, sizeof *admin);
  if (!admin) return UV_ENOMEM;
  int rc = UV_ENOMEM;
  admin->loop = options->loop;
  admin->log = options->log;
  admin->sockets = options->sockets;
  admin->answers = options->answers;
  admin->parts = options->parts;
  admin->started_wall_ms = segue__loop_wall_ms(options->loop);
  admin->started_ms = segue__loop_now_ms(options->loop);
  admin->policy_path = segue__strdup(options->policy_path);
  admin->state = segue__strdup(options->state);
  if ((options->policy_path && !admin->policy_path) || (options->state && !admin->state)) goto fail;
  segue__events_init(admin);
  admin->connections_max = room_for_connections();
  segue__http_limits limits = {.connections = admin->connections_max, .spare_share = SPARE_SHARE};
  rc = segue__http_server_new(&admin->server, segue__loop_uv(options->loop), &limits, on_request,
                              admin);
  if (rc < 0) goto fail;
  segue__access_watch(admin);
  *out = admin;
  return 0;
fail:
  segue__free(admin->policy_path);
  segue__free(admin->state);
  segue__free(admin);
  return rc;
}

void segue__admin_attach(segue__admin *admin, segue__engine *engine) {
  admin->engine = engine;
  admin->observer.on_phase = admin_on_phase;
  admin->observer.on_module = on_module;
  admin->observer.on_drift = on_drift;
  admin->observer.on_written = on_written;
  admin->observer.on_effect = on_effect;
  admin->observer.data = admin;
  segue__engine_observe(engine, &admin->observer);
}

/* Requests that wait for a reload, the record, a page or a recording are answered before the engine
 * is released: each of them holds a waiter or a job inside it. */
static void admin_detach(segue__admin *admin) {
  if (!admin->engine) return;
  segue__calls_close(admin);
  segue__questions_close(admin);
  segue__file_questions_close(admin);
  segue__large_responses_close(admin);
  segue__recording_close(admin);
  segue__engine_unobserve(admin->engine, &admin->observer);
  admin->engine = NULL;
}

static void admin_on_server_closed(void *data) {
  segue__admin *admin = data;
  void (*cb)(void *data) = admin->closed_cb;
  void *cb_data = admin->closed_data;
  segue__free(admin->policy_path);
  segue__free(admin->state);
  segue__free(admin);
  cb(cb_data);
}

void segue__admin_abandon(segue__admin *admin) {
  segue__http_server_abandon(admin->server);
}

/* Detaches first, so that each waiting client gets its answer while its connection is still open.
 * The server then has grace_ms to send what is queued. */
void segue__admin_close(segue__admin *admin, uint64_t grace_ms, void (*cb)(void *data),
                        void *data) {
  admin_detach(admin);
  segue__events_close(admin);
  segue__timer_stop(admin->loop, &admin->certificate_timer);
  segue__listeners_close(admin);
  admin->closed_cb = cb;
  admin->closed_data = data;
  segue__http_server_close(admin->server, grace_ms, admin_on_server_closed, admin);
}

static void on_module(segue__observer *observer, const char *module, uint64_t generation,
                      segue__module_state state) {
  segue__events_module(observer->data, module, generation, state);
}

static void on_drift(segue__observer *observer, const segue__drift_report *report) {
  segue__events_drift(observer->data, report);
}

static void on_written(segue__observer *observer, const segue__written_report *report) {
  segue__events_written(observer->data, report);
}

static void on_effect(segue__observer *observer, const segue__effect_report *report) {
  segue__events_effect(observer->data, report);
}

/* Metrics and the recording get a result before it is logged. A client that waits for it gets its
 * answer from a waiter of its own (reload.c), not from here. */
static void admin_on_phase(segue__observer *observer, const segue__result *result,
                           segue__phase phase) {
  segue__admin *admin = observer->data;
  segue__events_phase(admin, result, phase);
  if (phase != SEGUE__PHASE_SETTLED) {
    segue__answers_running(admin->answers, true);
    return;
  }
  segue__metrics_add(&admin->metrics, result);
  segue__recording_add(admin, result);
  segue__announce(admin->log, result);
}

/* ---- Routing --------------------------------------------------------------------------------- */

static void admin_dispatch(segue__admin *admin, segue__http_request *request,
                           const segue__endpoint *endpoint, const char *rest) {
  if (!endpoint)
    segue__endpoint_not_found(request);
  else if (!segue__endpoint_takes(endpoint, request))
    segue__endpoint_not_allowed(request, endpoint);
  else if (!admin->engine && !endpoint->always)
    segue__answer_error(request, 503, "Retry-After: 1\r\n", "segue is shutting down");
  else if (segue__query_check(request, endpoint))
    endpoint->handler(admin, request, rest);
}

/* Authorization comes before 404 and 405: a client without a role learns nothing about paths. */
static void on_request(void *data, segue__http_request *request) {
  segue__admin *admin = data;
  const char *rest;
  const segue__endpoint *endpoint = segue__endpoint_find(request->path, &rest);
  if (segue__access_check(admin, request, endpoint)) admin_dispatch(admin, request, endpoint, rest);
}

/* ---- Answers --------------------------------------------------------------------------------- */

/* Below /api/ the default is JSON, elsewhere text. */
bool segue__wants_json(const segue__http_request *request) {
  return segue__http_prefers_json(request, strncmp(request->path, "/api/", 5) == 0);
}

void segue__answer_json(segue__http_request *request, int status, segue__buf *body) {
  segue__http_respond_buf(request, status, "application/json", "Cache-Control: no-store\r\n", body);
}

void segue__answer_error(segue__http_request *request, int status, const char *headers,
                         const char *format, ...) {
  char text[1024];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  segue__buf body;
  segue__buf_init(&body);
  bool json = segue__wants_json(request);
  if (json) {
    segue__buf_addc(&body, '{');
    segue__render_member(&body, status < 400 ? "message" : "error", text);
    segue__buf_adds(&body, "}\n");
  } else {
    segue__printable_lines(&body, text, strlen(text));
    segue__buf_addc(&body, '\n');
  }
  segue__http_respond_buf(request, status, json ? "application/json" : "text/plain; charset=utf-8",
                          headers, &body);
}
