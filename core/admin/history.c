/* SPDX-License-Identifier: MIT
 *
 * The last reloads, the live configuration, and the difference between two configurations.
 */
#include "internal.h"
#include "large_response.h"
#include "render.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool segue__number_parse(const char *text, uint64_t *out) {
  char *end;
  errno = 0;
  unsigned long long n = strtoull(text, &end, 10);
  if (text[0] < '0' || text[0] > '9' || *end || errno) return false;
  *out = n;
  return true;
}

/* Answers 400 and returns false if the parameter is not a number. */
static bool number_get(segue__http_request *request, const char *name, uint64_t *out) {
  char text[32];
  if (!segue__http_query_get(request, name, text, sizeof text) || segue__number_parse(text, out))
    return true;
  segue__answer_error(request, 400, NULL, "%s must be a whole number, not \"%s\"", name, text);
  return false;
}

void segue__handle_reloads(segue__admin *admin, segue__http_request *request, const char *rest) {
  (void)rest;
  uint64_t limit = SEGUE__RESULTS_MAX, before = 0;
  if (!number_get(request, "limit", &limit) || !number_get(request, "before", &before)) return;
  if (segue__record_ask_reloads(admin, request, limit, before)) return;
  segue__buf body;
  segue__buf_init(&body);
  segue__buf_addc(&body, '[');
  size_t count = segue__engine_result_count(admin->engine);
  for (size_t i = 0; i < count && i < limit; i++) {
    if (i) segue__buf_addc(&body, ',');
    segue__render_result_json(&body, segue__engine_result(admin->engine, i), false);
  }
  segue__buf_adds(&body, "]\n");
  segue__answer_json(request, 200, &body);
}

void segue__handle_audit(segue__admin *admin, segue__http_request *request, const char *rest) {
  (void)rest;
  uint64_t limit = SEGUE__RESULTS_MAX;
  if (!number_get(request, "limit", &limit)) return;
  if (segue__record_ask_audit(admin, request, limit)) return;
  segue__answer_error(request, 404, NULL, "there is no audit list: this instance keeps no history");
}

static const segue__result *find_result(const segue__engine *engine, uint64_t id) {
  for (size_t i = 0; i < segue__engine_result_count(engine); i++)
    if (segue__engine_result(engine, i)->id == id) return segue__engine_result(engine, i);
  return NULL;
}

void segue__handle_one_reload(segue__admin *admin, segue__http_request *request, const char *rest) {
  uint64_t id;
  if (!segue__number_parse(rest, &id)) {
    segue__answer_error(request, 404, NULL, "\"%.40s\" is not the number of a reload", rest);
    return;
  }
  const segue__result *result = find_result(admin->engine, id);
  if (!result && segue__record_ask_reload(admin, request, id)) return;
  if (!result) {
    segue__answer_error(request, 404, NULL,
                        "reload %" PRIu64 " is not among the last %d, which are all that is kept",
                        id, SEGUE__RESULTS_MAX);
    return;
  }
  segue__buf body;
  segue__buf_init(&body);
  segue__render_result_json(&body, result, true);
  segue__buf_addc(&body, '\n');
  segue__answer_json(request, 200, &body);
}

/* ---- /config --------------------------------------------------------------------------------- */

/* If-None-Match holds a list of tags, each quoted, possibly with the prefix W/ (RFC 9110 13.1.2).
 * The quotes are a part of the text that is searched for, so one hash cannot match inside another
 * one. */
static bool none_match(const segue__http_request *request, const char *etag) {
  const segue__http_text *value = segue__http_header_get(request, "If-None-Match");
  if (!value) return false;
  return segue__http_text_is(*value, "*") ||
         memmem(value->s, value->len, etag, strlen(etag)) != NULL;
}

static void config_headers(char *buf, size_t size, const segue_snapshot *live) {
  snprintf(buf, size,
           "ETag: \"%s\"\r\nSegue-Generation: %" PRIu64 "\r\nCache-Control: no-cache\r\n",
           segue_snapshot_hash(live), segue_snapshot_generation(live));
}

static void render_config(segue__buf *out, const segue__large_response_request *ask) {
  segue__mask_write(out, ask->to->mask, ask->node, ask->path, 2, SEGUE__PAGE_MAX + 1);
  segue__buf_addc(out, '\n');
}

void segue__admin_cut(const segue_snapshot *live, char *path, size_t size) {
  segue__buf cut;
  segue__buf_init(&cut);
  int rc = segue__mask_cut(live->mask, path, &cut);
  if (rc < 0) path[0] = 0; /* the root's value is masked in any case */
  if (rc == 1 && cut.len) snprintf(path, size, "%s", cut.data);
  segue__buf_deinit(&cut);
}

void segue__handle_config(segue__admin *admin, segue__http_request *request, const char *rest) {
  (void)rest;
  const segue_snapshot *live = segue__engine_live(admin->engine);
  if (!live) {
    segue__answer_error(request, 404, NULL, "no configuration is live yet");
    return;
  }
  char path[512] = "", etag[40], headers[160];
  snprintf(etag, sizeof etag, "\"%s\"", segue_snapshot_hash(live));
  config_headers(headers, sizeof headers, live);
  if (none_match(request, etag)) {
    segue__http_respond(request, 304, NULL, headers, NULL, 0);
    return;
  }
  segue__http_query_get(request, "path", path, sizeof path);
  segue__admin_cut(live, path, sizeof path);
  const segue_node *node = segue_node_get(segue_snapshot_root(live), path);
  if (!node) {
    segue__answer_error(request, 404, headers, "the configuration has no value at %s", path);
    return;
  }
  segue__large_response_request ask = {.to = live, .node = node, .render = render_config};
  memcpy(ask.path, path, sizeof ask.path);
  segue__large_response_answer(admin, request, &ask, headers);
}

/* ---- /diff ----------------------------------------------------------------------------------- */

/* Finds "live", "previous", or the number of one of these two. The record has all others. */
static const segue_snapshot *find_generation(const segue__engine *engine, const char *text) {
  const segue_snapshot *live = segue__engine_live(engine);
  const segue_snapshot *previous = segue__engine_previous(engine);
  uint64_t n;
  if (strcmp(text, "live") == 0) return live;
  if (strcmp(text, "previous") == 0) return previous;
  if (!segue__number_parse(text, &n)) return NULL;
  if (live && segue_snapshot_generation(live) == n) return live;
  return previous && segue_snapshot_generation(previous) == n ? previous : NULL;
}

static void side_json(segue__buf *out, const char *key, const segue_snapshot *snapshot) {
  segue__buf_addf(out, "\"%s\":{\"generation\":%" PRIu64 ",\"hash\":\"%s\"}", key,
                  segue_snapshot_generation(snapshot), segue_snapshot_hash(snapshot));
}

static void change_json(segue__buf *out, const segue__change *change, const segue__mask *mask) {
  static const char *const ops[] = {"add", "remove", "change"};
  segue__buf_addf(out, "{\"op\":\"%s\",", ops[change->op]);
  segue__render_member(out, "path", change->path);
  if (change->secret) segue__buf_adds(out, ",\"secret\":true");
  segue__buf_adds(out, ",\"from\":");
  segue__render_side(out, change, change->from, mask);
  segue__buf_adds(out, ",\"to\":");
  segue__render_side(out, change, change->to, mask);
  segue__buf_addc(out, '}');
}

/* The masks of both sides are joined: a value that is secret in one of the two generations must not
 * be shown because it is not secret in the other. */
static void render_diff(segue__buf *out, const segue__large_response_request *ask) {
  segue__changes changes = {0};
  segue__mask *mask = NULL;
  if (segue__mask_join(&mask, ask->from->mask, ask->to->mask, NULL) < 0 ||
      segue__diff(segue_snapshot_root(ask->from), segue_snapshot_root(ask->to), &changes) < 0 ||
      segue__mask_changes(mask, &changes) < 0) {
    segue__changes_deinit(&changes);
    segue__mask_unref(mask);
    out->failed = 1;
    return;
  }
  segue__buf_addc(out, '{');
  side_json(out, "from", ask->from);
  segue__buf_addc(out, ',');
  side_json(out, "to", ask->to);
  segue__buf_addf(out, ",\"change_count\":%zu,\"changes\":[", changes.total);
  for (size_t i = 0; i < changes.count; i++) {
    if (i) segue__buf_addc(out, ',');
    change_json(out, &changes.items[i], mask);
  }
  segue__buf_addf(out, "]%s}\n", ask->members ? ask->members : "");
  segue__changes_deinit(&changes);
  segue__mask_unref(mask);
}

void segue__diff_answer(segue__admin *admin, segue__http_request *request,
                        const segue_snapshot *from, const segue_snapshot *to, char *members) {
  segue__large_response_request ask = {
      .from = from, .to = to, .members = members, .render = render_diff};
  segue__large_response_answer(admin, request, &ask, "Cache-Control: no-store\r\n");
}

/* Finds one side of a diff. Returns false if the name is wrong, which was answered then. *found is
 * NULL if the record has to be asked. */
static bool side_of(segue__admin *admin, segue__http_request *request, const char *name,
                    const segue_snapshot **found) {
  uint64_t n;
  *found = find_generation(admin->engine, name);
  if (*found || segue__number_parse(name, &n)) return true;
  if (strcmp(name, "live") == 0 || strcmp(name, "previous") == 0)
    segue__answer_error(request, 404, NULL, "there is no %s generation yet", name);
  else
    segue__answer_error(request, 400, NULL,
                        "a generation must be a number, live, previous or next, not \"%.40s\"",
                        name);
  return false;
}

void segue__handle_diff(segue__admin *admin, segue__http_request *request, const char *rest) {
  char from[64] = "previous", to[64] = "live";
  segue__http_query_get(request, "to", to, sizeof to);
  if (strcmp(to, "next") == 0) strcpy(from, "live");
  segue__http_query_get(request, "from", from, sizeof from);
  if (strcmp(to, "next") == 0) {
    if (strcmp(from, "live") == 0)
      segue__handle_next(admin, request, rest);
    else
      segue__answer_error(request, 400, NULL, "from must be live where to is next");
    return;
  }
  const char *names[2] = {from, to};
  const segue_snapshot *sides[2];
  if (side_of(admin, request, from, &sides[0]) && side_of(admin, request, to, &sides[1]))
    segue__record_ask_diff(admin, request, names, sides);
}
