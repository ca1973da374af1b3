/* SPDX-License-Identifier: MIT
 *
 * The admin API's table of routes, and the life of the API. A request is let in (authorize.c: who
 * asks), finds its place in the table (what, and by which method), and is then its handler's.
 */
#include "internal.h"
#include "render.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <uv.h>

#include "../config/printable.h"

typedef enum method { GET = 1, POST = 2, PUT = 4 } method;

typedef struct route {
  const char *path; /* one that ends in "/" takes everything below it */
  unsigned methods;
  bool always; /* answered even while no engine is there */
  segue__handler *handler;
} route;

static const route routes[] = {
    {"/", GET, true, segue__handle_index},
    {"/-/reload", POST | PUT, false, segue__handle_reload},
    {"/-/healthy", GET, true, segue__handle_healthy},
    {"/-/ready", GET, false, segue__handle_ready},
    {"/metrics", GET, false, segue__handle_metrics},
    {"/api/v1/status", GET, false, segue__handle_status},
    {"/api/v1/modules", GET, false, segue__handle_modules},
    {"/api/v1/sources", GET, false, segue__handle_sources},
    {"/api/v1/config", GET, false, segue__handle_config},
    {"/api/v1/reloads", GET, false, segue__handle_reloads},
    {"/api/v1/reloads/", GET, false, segue__handle_one_reload},
    {"/api/v1/audit", GET, false, segue__handle_audit},
    {"/api/v1/diff", GET, false, segue__handle_diff},
    {"/api/v1/why", GET, false, segue__handle_why},
    {"/api/v1/plan", POST, false, segue__handle_plan},
    {"/api/v1/rollback", POST, false, segue__handle_rollback},
    {"/api/v1/confirm", POST, false, segue__handle_confirm},
    {"/api/v1/freeze", POST, false, segue__handle_freeze},
    {"/api/v1/unfreeze", POST, false, segue__handle_unfreeze},
    {"/api/v1/recording", POST, false, segue__handle_recording},
    {"/api/v1/events", GET, false, segue__handle_events},
};
enum { ROUTE_COUNT = sizeof routes / sizeof *routes };

static void on_request(void *data, segue__http_request *request);
static void admin_on_phase(segue__observer *observer, const segue__result *result,
                           segue__phase phase);
static void on_module(segue__observer *observer, const char *module, uint64_t generation,
                      segue__module_state state);

enum { SPARE_SHARE = 8 }; /* half of what the clients of modules leave (core/ingress) */

/* Whatever clients do, a reload finds descriptors for the files it reads: ports and unix sockets
 * may take three eighths each. */
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
  admin->more_metrics = options->more_metrics;
  admin->more_certificates = options->more_certificates;
  admin->module_addresses = options->module_addresses;
  admin->more_data = options->data;
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
  admin->observer.data = admin;
  segue__engine_observe(engine, &admin->observer);
}

void segue__admin_detach(segue__admin *admin) {
  if (!admin->engine) return;
  segue__calls_close(admin);
  segue__questions_close(admin);
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

void segue__admin_close(segue__admin *admin, uint64_t grace_ms, void (*cb)(void *data),
                        void *data) {
  segue__admin_detach(admin);
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

bool segue__method_is(const segue__http_request *request, const char *method) {
  return request->method.len == strlen(method) &&
         memcmp(request->method.s, method, request->method.len) == 0;
}

static unsigned method_of(const segue__http_request *request) {
  if (segue__method_is(request, "GET") || segue__method_is(request, "HEAD")) return GET;
  if (segue__method_is(request, "POST")) return POST;
  return segue__method_is(request, "PUT") ? PUT : 0;
}

/* Ends in "/": only what is below it is something. */
static bool admin_is_folder(const route *r) {
  size_t len = strlen(r->path);
  return len > 1 && r->path[len - 1] == '/';
}

static bool admin_matches(const route *r, const char *path, const char **rest) {
  size_t len = strlen(r->path);
  *rest = path + len;
  if (admin_is_folder(r)) return strncmp(path, r->path, len) == 0 && path[len];
  return strcmp(path, r->path) == 0;
}

static void admin_not_found(segue__http_request *request) {
  const char *paths[ROUTE_COUNT];
  size_t count = 0;
  for (size_t i = 0; i < ROUTE_COUNT; i++)
    if (!admin_is_folder(&routes[i])) paths[count++] = routes[i].path;
  const char *meant = segue__nearest(request->path, paths, count);
  segue__answer_error(request, 404, NULL, "there is no %.200s here: %s%s", request->path,
                      meant ? "did you mean " : "GET / lists what there is", meant ? meant : "");
}

static void method_not_allowed(segue__http_request *request, const route *r) {
  const char *allow = r->methods == GET ? "GET, HEAD" : r->methods == POST ? "POST" : "POST, PUT";
  char header[64];
  snprintf(header, sizeof header, "Allow: %s\r\n", allow);
  segue__answer_error(request, 405, header, "%s takes %s, not %.*s", r->path, allow,
                      (int)(request->method.len > 20 ? 20 : request->method.len),
                      request->method.s);
}

static void admin_dispatch(segue__admin *admin, segue__http_request *request, const route *r,
                           const char *rest) {
  if (!(r->methods & method_of(request)))
    method_not_allowed(request, r);
  else if (!admin->engine && !r->always)
    segue__answer_error(request, 503, "Retry-After: 1\r\n", "segue is shutting down");
  else if (segue__query_check(request, r->handler, r->methods == GET))
    r->handler(admin, request, rest);
}

static void on_request(void *data, segue__http_request *request) {
  segue__admin *admin = data;
  const char *rest;
  if (!segue__access_check(admin, request)) return;
  for (size_t i = 0; i < ROUTE_COUNT; i++)
    if (admin_matches(&routes[i], request->path, &rest)) {
      admin_dispatch(admin, request, &routes[i], rest);
      return;
    }
  admin_not_found(request);
}

void segue__handle_index(segue__admin *admin, segue__http_request *request, const char *rest) {
  (void)admin, (void)rest;
  segue__buf body;
  segue__buf_init(&body);
  segue__buf_addf(&body, "segue %s\n", segue_version());
  for (size_t i = 1; i < ROUTE_COUNT; i++)
    segue__buf_addf(&body, "%-4s %s%s\n", routes[i].methods & GET ? "GET" : "POST", routes[i].path,
                    strcmp(routes[i].path, "/api/v1/reloads/") == 0 ? "ID" : "");
  segue__admin_answer(request, 200, "text/plain; charset=utf-8", NULL, &body);
}

/* ---- Answers --------------------------------------------------------------------------------- */

void segue__admin_answer(segue__http_request *request, int status, const char *type,
                         const char *headers, segue__buf *body) {
  static const char oom[] = "out of memory while answering\n";
  if (body->failed)
    segue__http_respond(request, 500, "text/plain; charset=utf-8", NULL, oom, sizeof oom - 1);
  else
    segue__http_respond(request, status, type, headers, body->data, body->len);
  segue__buf_deinit(body);
}

void segue__answer_json(segue__http_request *request, int status, segue__buf *body) {
  segue__admin_answer(request, status, "application/json", "Cache-Control: no-store\r\n", body);
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
  segue__admin_answer(request, status, json ? "application/json" : "text/plain; charset=utf-8",
                      headers, &body);
}
