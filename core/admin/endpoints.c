/* SPDX-License-Identifier: MIT
 *
 * The endpoints of the admin API, one row each, and the answers if no row fits. `make lint`
 * compares the rows with the tables of the README and of segue(1).
 */
#include <stdio.h>
#include <string.h>

#include "../os/suggest.h"
#include "internal.h"

#define READ SEGUE__ROLE_READ
#define OPERATE SEGUE__ROLE_OPERATE

/* clang-format off: one row each */
static const segue__endpoint endpoints[] = {
    {"GET", "/", READ, .handler = segue__handle_index, .always = true},
    {"POST, PUT", "/-/reload", OPERATE,
     .parameters = {{"force", 16}, {"wait", 32}, {"accept-shrink", 16}},
     .handler = segue__handle_reload},
    {"GET", "/-/healthy", READ, .handler = segue__handle_healthy, .probe = SEGUE__PROBE_HEALTH,
     .always = true},
    {"GET", "/-/ready", READ, .handler = segue__handle_ready, .probe = SEGUE__PROBE_HEALTH},
    {"GET", "/metrics", READ, .handler = segue__handle_metrics, .probe = SEGUE__PROBE_METRICS},
    {"GET", "/api/v1/status", READ, .handler = segue__handle_status},
    {"GET", "/api/v1/modules", READ, .handler = segue__handle_modules},
    {"GET", "/api/v1/sources", READ, .handler = segue__handle_sources},
    {"GET", "/api/v1/files", READ, .handler = segue__handle_files},
    {"GET", "/api/v1/config", READ, .parameters = {{"path", 512}}, .handler = segue__handle_config},
    {"GET", "/api/v1/reloads", READ, .parameters = {{"limit", 32}, {"before", 32}},
     .handler = segue__handle_reloads},
    {"GET", "/api/v1/reloads/", READ, .handler = segue__handle_one_reload, .rest = "ID"},
    {"GET", "/api/v1/audit", READ, .parameters = {{"limit", 32}}, .handler = segue__handle_audit},
    {"GET", "/api/v1/diff", READ, .parameters = {{"from", 64}, {"to", 64}, {"wait", 32}},
     .handler = segue__handle_diff},
    {"GET", "/api/v1/why", READ, .parameters = {{"path", 512}}, .handler = segue__handle_why},
    {"POST", "/api/v1/plan", OPERATE,
     .parameters = {{"force", 16}, {"wait", 32}, {"accept-shrink", 16}},
     .handler = segue__handle_plan},
    {"POST", "/api/v1/rollback", OPERATE, .parameters = {{"to", 32}, {"wait", 32}},
     .handler = segue__handle_rollback},
    {"POST", "/api/v1/confirm", OPERATE, .parameters = {{"wait", 32}},
     .handler = segue__handle_confirm},
    {"POST", "/api/v1/freeze", OPERATE, .parameters = {{"why", 0}},
     .handler = segue__handle_freeze},
    {"POST", "/api/v1/unfreeze", OPERATE, .handler = segue__handle_unfreeze},
    {"POST", "/api/v1/recording", OPERATE, .parameters = {{"after", 32}},
     .handler = segue__handle_recording},
    {"GET", "/api/v1/events", READ, .handler = segue__handle_events},
};
/* clang-format on */
enum { ENDPOINT_COUNT = sizeof endpoints / sizeof *endpoints };

static bool endpoint_fits(const segue__endpoint *endpoint, const char *path, const char **rest) {
  size_t len = strlen(endpoint->path);
  *rest = path + len;
  if (endpoint->rest) return strncmp(path, endpoint->path, len) == 0 && path[len];
  return strcmp(path, endpoint->path) == 0;
}

const segue__endpoint *segue__endpoint_find(const char *path, const char **rest) {
  for (size_t i = 0; i < ENDPOINT_COUNT; i++)
    if (endpoint_fits(&endpoints[i], path, rest)) return &endpoints[i];
  return NULL;
}

bool segue__endpoint_looks_only(const segue__endpoint *endpoint) {
  return strcmp(endpoint->method, "GET") == 0;
}

/* HEAD is allowed where GET is (RFC 9110 9.3.2). */
bool segue__endpoint_takes(const segue__endpoint *endpoint, const segue__http_request *request) {
  if (segue__looks_only(request)) return segue__endpoint_looks_only(endpoint);
  for (const char *at = endpoint->method; *at; at += strspn(at, ", ")) {
    size_t len = strcspn(at, ",");
    if (request->method.len == len && memcmp(request->method.s, at, len) == 0) return true;
    at += len;
  }
  return false;
}

void segue__endpoint_not_found(segue__http_request *request) {
  const char *paths[ENDPOINT_COUNT];
  size_t count = 0;
  for (size_t i = 0; i < ENDPOINT_COUNT; i++)
    if (!endpoints[i].rest) paths[count++] = endpoints[i].path;
  const char *meant = segue__suggest(request->path, paths, count);
  segue__answer_error(request, 404, NULL, "there is no %.200s here: %s%s", request->path,
                      meant ? "did you mean " : "GET / lists all endpoints", meant ? meant : "");
}

void segue__endpoint_not_allowed(segue__http_request *request, const segue__endpoint *endpoint) {
  const char *allow = segue__endpoint_looks_only(endpoint) ? "GET, HEAD" : endpoint->method;
  char header[64];
  snprintf(header, sizeof header, "Allow: %s\r\n", allow);
  segue__answer_error(request, 405, header, "%s takes %s, not %.*s", endpoint->path, allow,
                      (int)(request->method.len > 20 ? 20 : request->method.len),
                      request->method.s);
}

void segue__handle_index(segue__admin *admin, segue__http_request *request, const char *rest) {
  (void)admin, (void)rest;
  segue__buf body;
  segue__buf_init(&body);
  segue__buf_addf(&body, "segue %s\n", segue_version());
  for (size_t i = 1; i < ENDPOINT_COUNT; i++)
    segue__buf_addf(&body, "%-4.*s %s%s\n", (int)strcspn(endpoints[i].method, ","),
                    endpoints[i].method, endpoints[i].path,
                    endpoints[i].rest ? endpoints[i].rest : "");
  segue__http_respond_buf(request, 200, "text/plain; charset=utf-8", NULL, &body);
}
