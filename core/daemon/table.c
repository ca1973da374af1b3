/* SPDX-License-Identifier: MIT
 *
 * The API's JSON as tables for people. It is read by the reader that configurations are read with.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../admin/render.h"
#include "cli.h"

/* Parses a JSON object; *out is freed with segue__document_unref. */
static int parse(const char *body, size_t len, segue__document **out) {
  char *copy = segue__strndup(body, len);
  if (!copy) return UV_ENOMEM;
  int rc = segue__document_new(out, 1, "answer", "answer", SEGUE__JSON, copy, len);
  if (rc < 0) return rc;
  rc = segue__document_parse(*out, NULL, NULL, NULL, NULL);
  if (rc < 0) {
    segue__document_unref(*out);
    *out = NULL;
  }
  return rc;
}

static const char *text(const segue_node *node, const char *path) {
  const char *s = NULL;
  return segue_node_string(segue_node_get(node, path), &s, NULL) == 0 ? s : "-";
}

static int64_t number(const segue_node *node, const char *path) {
  int64_t n = 0;
  segue_node_int(segue_node_get(node, path), &n);
  return n;
}

static bool flag(const segue_node *node, const char *path) {
  bool b = false;
  segue_node_bool(segue_node_get(node, path), &b);
  return b;
}

static bool given(const segue_node *node, const char *path) {
  const segue_node *value = segue_node_get(node, path);
  return value && segue_node_type(value) != SEGUE_NULL;
}

void segue__table_error(const char *body, size_t len, char *out, size_t size) {
  segue__document *answer = NULL;
  const char *sentence = NULL;
  if (len && body[0] == '{' && parse(body, len, &answer) == 0)
    segue_node_string(segue_node_get(&answer->root, "error"), &sentence, NULL);
  if (sentence)
    snprintf(out, size, "%s", sentence);
  else
    snprintf(out, size, "%.*s", (int)strcspn(body, "\n"), body);
  segue__document_unref(answer);
}

static const char *paint(bool colour, const char *code) {
  return colour ? code : "";
}

static void add_uptime(segue__buf *out, const segue_node *status) {
  double s = 0;
  segue_node_double(segue_node_get(status, "uptime_s"), &s);
  unsigned long n = (unsigned long)s;
  if (n >= 86400)
    segue__buf_addf(out, "%lud %luh", n / 86400, n % 86400 / 3600);
  else if (n >= 3600)
    segue__buf_addf(out, "%luh %lum", n / 3600, n % 3600 / 60);
  else if (n >= 60)
    segue__buf_addf(out, "%lum %lus", n / 60, n % 60);
  else
    segue__buf_addf(out, "%lus", n);
}

static void add_errors(segue__buf *out, const segue_node *list, const char *indent) {
  for (size_t i = 0; i < segue_node_count(list); i++) {
    const segue_node *error = segue_node_at(list, i, NULL);
    segue__buf_adds(out, indent);
    if (given(error, "file")) segue__buf_addf(out, "%s:", text(error, "file"));
    if (given(error, "line")) segue__buf_addf(out, "%" PRId64 ":", number(error, "line"));
    if (given(error, "column")) segue__buf_addf(out, "%" PRId64 ":", number(error, "column"));
    segue__buf_addf(out, "%s%s", given(error, "file") ? " " : "", text(error, "message"));
    if (given(error, "path")) segue__buf_addf(out, " (at %s)", text(error, "path"));
    segue__buf_addc(out, '\n');
  }
}

static void add_head(segue__buf *out, const segue_node *status, bool colour) {
  bool ready = flag(status, "ready");
  segue__buf_addf(out, "%-12s %s%s%s", text(status, "name"),
                  paint(colour, ready ? "\033[32m" : "\033[31m"), ready ? "ready" : "not ready",
                  paint(colour, "\033[0m"));
  if (!ready) segue__buf_addf(out, ": %s", text(status, "not_ready_because"));
  if (given(status, "stale_since"))
    segue__buf_addf(out, ", %sstale since %s%s: the sources give nothing good",
                    paint(colour, "\033[33m"), text(status, "stale_since"),
                    paint(colour, "\033[0m"));
  segue__buf_addf(out, "\n%-12s %" PRId64 " (%s)\n%-12s ", "generation",
                  number(status, "generation"), text(status, "hash"), "process");
  segue__buf_addf(out, "pid %" PRId64 ", segue %s, up ", number(status, "pid"),
                  text(status, "version"));
  add_uptime(out, status);
  segue__buf_addf(out, "\n%-12s %s\n", "policy", text(status, "policy"));
  const segue_node *listeners = segue_node_get(status, "listeners");
  for (size_t i = 0; i < segue_node_count(listeners); i++) {
    const char *address = "-";
    segue_node_string(segue_node_at(listeners, i, NULL), &address, NULL);
    segue__buf_addf(out, "%-12s %s\n", i ? "" : "listens on", address);
  }
  const segue_node *certificates = segue_node_get(status, "certificates");
  for (size_t i = 0; i < segue_node_count(certificates); i++) {
    const segue_node *certificate = segue_node_at(certificates, i, NULL);
    if (given(certificate, "warning"))
      segue__buf_addf(out, "%-12s %s%s: %s%s\n", "warning", paint(colour, "\033[33m"),
                      text(certificate, "address"), text(certificate, "warning"),
                      paint(colour, "\033[0m"));
  }
}

static void add_last(segue__buf *out, const segue_node *status, bool colour) {
  const segue_node *last = segue_node_get(status, "last");
  if (given(status, "running"))
    segue__buf_addf(out, "%-12s reload %" PRId64 " is in phase %s (%s)\n", "running",
                    number(status, "running.id"), text(status, "running.phase"),
                    text(status, "running.cause"));
  if (number(status, "deferred_ms"))
    segue__buf_addf(out, "%-12s the next reload in %" PRId64 " ms\n", "put off",
                    number(status, "deferred_ms"));
  if (!given(status, "last")) return;
  bool good = flag(status, "last_reload_successful");
  segue__buf_addf(out, "%-12s %s%s%s at %s (reload %" PRId64 ", %s)\n", "last reload",
                  paint(colour, good ? "\033[32m" : "\033[31m"), text(last, "outcome"),
                  paint(colour, "\033[0m"), text(last, "ended"), number(last, "id"),
                  text(last, "cause"));
  add_errors(out, segue_node_get(last, "errors"), "             ");
}

static void add_modules(segue__buf *out, const segue_node *list) {
  if (segue_node_count(list))
    segue__buf_addf(out, "\n%-16s %-10s %-10s %-10s %s\n", "MODULE", "STATE", "GATE", "REPLACE",
                    "GENERATION");
  for (size_t i = 0; i < segue_node_count(list); i++) {
    const segue_node *module = segue_node_at(list, i, NULL);
    segue__buf_addf(out, "%-16s %-10s %-10s %-10s %" PRId64 "\n", text(module, "name"),
                    text(module, "state"), text(module, "gate"), text(module, "replace"),
                    number(module, "generation"));
    if (given(module, "error")) segue__buf_addf(out, "  %s\n", text(module, "error.message"));
  }
}

static const char *health(const segue_node *source) {
  if (flag(source, "up")) return "up";
  return flag(source, "held") ? "held" : "down";
}

/* What is of interest only for some: beneath the line. */
static void add_source_detail(segue__buf *out, const segue_node *source) {
  double stale = 0, next = 0;
  segue_node_double(segue_node_get(source, "stale_s"), &stale);
  segue_node_double(segue_node_get(source, "next_pull_s"), &next);
  if (given(source, "revision")) segue__buf_addf(out, "  revision %s\n", text(source, "revision"));
  if (!flag(source, "up") && (stale > 0 || next > 0)) {
    segue__buf_adds(out, "  ");
    if (stale > 0) segue__buf_addf(out, "stale for %.0f s", stale);
    if (next > 0) segue__buf_addf(out, "%stried again in %.1f s", stale > 0 ? ", " : "", next);
    segue__buf_addc(out, '\n');
  }
  if (given(source, "error")) segue__buf_addf(out, "  %s\n", text(source, "error.message"));
}

static void add_sources(segue__buf *out, const segue_node *list) {
  if (segue_node_count(list))
    segue__buf_addf(out, "\n%-32s %-6s %-6s %-11s %9s %8s  %s\n", "SOURCE", "KIND", "HEALTH",
                    "STRATEGY", "DOCUMENTS", "FAILURES", "LAST SUCCESS");
  for (size_t i = 0; i < segue_node_count(list); i++) {
    const segue_node *source = segue_node_at(list, i, NULL);
    segue__buf_addf(out, "%-32s %-6s %-6s %-11s %9" PRId64 " %8" PRId64 "  %s\n",
                    text(source, "name"), text(source, "kind"), health(source),
                    strcmp(text(source, "activity"), "idle") == 0 ? text(source, "strategy")
                                                                  : text(source, "activity"),
                    number(source, "documents"), number(source, "failures"),
                    text(source, "last_success"));
    add_source_detail(out, source);
  }
}

int segue__table_status(segue__buf *out, const char *body, size_t len, bool colour) {
  segue__document *answer;
  int rc = parse(body, len, &answer);
  if (rc < 0) return rc;
  const segue_node *status = &answer->root;
  add_head(out, status, colour);
  add_last(out, status, colour);
  add_modules(out, segue_node_get(status, "modules"));
  add_sources(out, segue_node_get(status, "sources"));
  rc = flag(status, "ready");
  segue__document_unref(answer);
  return rc;
}

static void add_change(segue__buf *out, const segue_node *change, bool colour) {
  const char *op = text(change, "op");
  bool add = strcmp(op, "add") == 0, removal = strcmp(op, "remove") == 0;
  segue__buf_addf(out, "%s%c %s",
                  paint(colour, add       ? "\033[32m"
                                : removal ? "\033[31m"
                                          : "\033[33m"),
                  add       ? '+'
                  : removal ? '-'
                            : '~',
                  text(change, "path")[0] ? text(change, "path") : "(everything)");
  segue__buf_adds(out, " = ");
  if (!add) {
    segue__json_write(out, segue_node_get(change, "from"), 0);
    segue__buf_adds(out, removal ? "" : " -> ");
  }
  if (!removal) segue__json_write(out, segue_node_get(change, "to"), 0);
  segue__buf_addf(out, "%s\n", paint(colour, "\033[0m"));
}

int segue__table_diff(segue__buf *out, const char *body, size_t len, bool colour) {
  segue__document *answer;
  int rc = parse(body, len, &answer);
  if (rc < 0) return rc;
  const segue_node *diff = &answer->root, *changes = segue_node_get(diff, "changes");
  int64_t total = number(diff, "change_count");
  segue__buf_addf(out, "generation %" PRId64 " -> %" PRId64 ": %" PRId64 " change%s\n",
                  number(diff, "from.generation"), number(diff, "to.generation"), total,
                  total == 1 ? "" : "s");
  for (size_t i = 0; i < segue_node_count(changes); i++)
    add_change(out, segue_node_at(changes, i, NULL), colour);
  if ((int64_t)segue_node_count(changes) < total)
    segue__buf_addf(out, "and %" PRId64 " more\n", total - (int64_t)segue_node_count(changes));
  segue__document_unref(answer);
  return 0;
}
