/* SPDX-License-Identifier: MIT
 *
 * Prints the JSON of the API as tables for people. The reader of configurations reads the JSON.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../admin/render.h"
#include "../config/printable.h"
#include "table.h"

/* How the lines of a text are drawn. */
typedef enum table_form { TABLE_LINE, TABLE_SENTENCE, TABLE_PAGE } table_form;

static int table_clean(segue__document *doc, const char **s, uint32_t *len, table_form form) {
  segue__buf text;
  segue__buf_init(&text);
  if (form == TABLE_SENTENCE)
    segue__printable_lines(&text, *s, *len);
  else if (form == TABLE_PAGE)
    segue__printable_page(&text, *s, *len, false);
  else
    segue__printable_add(&text, *s, *len);
  const char *copy =
      text.failed || !text.len ? NULL : segue__arena_strndup(&doc->arena, text.data, text.len);
  int rc = text.failed || (text.len && !copy) ? UV_ENOMEM : 0;
  *s = copy ? copy : "";
  *len = copy ? (uint32_t)text.len : 0;
  segue__buf_deinit(&text);
  return rc;
}

/* Makes every text of an answer safe to draw, before anything is measured or drawn. The tree was
 * parsed for this table alone, so its nodes may change. A message and a
 * diff may have several lines. */
static int clean_all(segue__document *doc, segue_node *node, table_form form) {
  int rc = 0;
  if (node->type == SEGUE_STRING) return table_clean(doc, &node->v.s, &node->count, form);
  for (uint32_t i = 0; node->type == SEGUE_LIST && i < node->count && !rc; i++)
    rc = clean_all(doc, (segue_node *)&node->v.items[i], form);
  for (uint32_t i = 0; node->type == SEGUE_MAP && i < node->count && !rc; i++) {
    segue__member *m = (segue__member *)&node->v.members[i];
    rc = clean_all(doc, &m->value,
                   strcmp(m->key, "message") == 0 ? TABLE_SENTENCE
                   : strcmp(m->key, "diff") == 0  ? TABLE_PAGE
                                                  : TABLE_LINE);
  }
  return rc;
}

int segue__table_parse(const char *body, size_t len, segue__document **out) {
  char *copy = segue__strndup(body, len);
  if (!copy) return UV_ENOMEM;
  int rc = segue__document_new(out, 1, "answer", "answer", SEGUE__JSON, copy, len);
  if (rc < 0) return rc;
  rc = segue__document_parse(*out, NULL, NULL, NULL, NULL);
  if (rc == 0) rc = clean_all(*out, &(*out)->root, TABLE_LINE);
  if (rc < 0) {
    segue__document_unref(*out);
    *out = NULL;
  }
  return rc;
}

int segue__table_parse_list(const char *body, size_t len, const char *name, segue__document **out) {
  segue__buf text;
  segue__buf_init(&text);
  segue__buf_addf(&text, "{\"%s\":", name);
  segue__buf_add(&text, body, len);
  segue__buf_addc(&text, '}');
  int rc = text.failed ? -1 : segue__table_parse(text.data, text.len, out);
  segue__buf_deinit(&text);
  return rc;
}

const char *segue__table_text(const segue_node *node, const char *path) {
  const char *s = NULL;
  return segue_node_string(segue_node_get(node, path), &s, NULL) == 0 ? s : "-";
}

int64_t segue__table_number(const segue_node *node, const char *path) {
  int64_t n = 0;
  segue_node_int(segue_node_get(node, path), &n);
  return n;
}

const char *segue__table_generation(const segue_node *node, const char *path, char buf[24]) {
  int64_t n = segue__table_number(node, path);
  snprintf(buf, 24, n ? "%" PRId64 : "-", n);
  return buf;
}

int segue__table_width(const segue_node *list, const char *path, const char *title) {
  size_t width = strlen(title);
  for (size_t i = 0; i < segue_node_count(list); i++) {
    size_t len = strlen(segue__table_text(segue_node_at(list, i, NULL), path));
    if (len > width) width = len;
  }
  return width < 60 ? (int)width : 60;
}

void segue__table_place(segue__buf *out, const segue_node *node) {
  int64_t line = segue__table_number(node, "line"), column = segue__table_number(node, "column");
  segue__buf_adds(out, segue__table_text(node, "file"));
  if (line) segue__buf_addf(out, ":%" PRId64, line);
  if (line && column) segue__buf_addf(out, ":%" PRId64, column);
}

static bool table_flag(const segue_node *node, const char *path) {
  bool b = false;
  segue_node_bool(segue_node_get(node, path), &b);
  return b;
}

bool segue__table_given(const segue_node *node, const char *path) {
  const segue_node *value = segue_node_get(node, path);
  return value && segue_node_type(value) != SEGUE_NULL;
}

void segue__table_error(const char *body, size_t len, char *out, size_t size) {
  segue__document *answer = NULL;
  const char *sentence = NULL;
  if (len && body[0] == '{' && segue__table_parse(body, len, &answer) == 0)
    segue_node_string(segue_node_get(&answer->root, "error"), &sentence, NULL);
  if (sentence)
    snprintf(out, size, "%s", sentence);
  else
    snprintf(out, size, "%.*s", (int)strcspn(body, "\n"), body);
  segue__document_unref(answer);
}

const char *segue__table_paint(bool colour, const char *code) {
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

void segue__table_errors(segue__buf *out, const segue_node *list, const char *indent) {
  for (size_t i = 0; i < segue_node_count(list); i++) {
    const segue_node *error = segue_node_at(list, i, NULL);
    segue__buf_adds(out, indent);
    if (segue__table_given(error, "file")) {
      segue__table_place(out, error);
      segue__buf_adds(out, ": ");
    }
    segue__buf_adds(out, segue__table_text(error, "message"));
    if (segue__table_given(error, "path"))
      segue__buf_addf(out, " (at %s)", segue__table_text(error, "path"));
    segue__buf_addc(out, '\n');
  }
}

static void add_decisions(segue__buf *out, const segue_node *status, bool colour) {
  const char *on = segue__table_paint(colour, "\033[33m"),
             *off = segue__table_paint(colour, "\033[0m");
  if (segue__table_given(status, "frozen"))
    segue__buf_addf(out, "\n%-12s %ssince %s%s by %s: %s", "frozen", on,
                    segue__table_text(status, "frozen.since"), off,
                    segue__table_text(status, "frozen.by"),
                    segue__table_text(status, "frozen.why"));
  if (segue__table_given(status, "unconfirmed"))
    segue__buf_addf(out, "\n%-12s %suntil %s%s: %s", "unconfirmed", on,
                    segue__table_text(status, "unconfirmed.until"), off,
                    !strcmp(segue__table_text(status, "unconfirmed.by"), "operator")
                        ? "segue confirm makes it stay"
                        : "waiting for the probe");
  if (segue__table_given(status, "rolled_back_to"))
    segue__buf_addf(out, "\n%-12s %sto generation %" PRId64 "%s until the sources change",
                    "rolled back", on, segue__table_number(status, "rolled_back_to"), off);
}

static void add_open_changes(segue__buf *out, const segue_node *status, bool colour) {
  const segue_node *list = segue_node_get(status, "open_changes");
  for (size_t i = 0; i < segue_node_count(list); i++) {
    const segue_node *change = segue_node_at(list, i, NULL);
    bool running = table_flag(change, "running");
    segue__buf_addf(
        out, "\n%-12s %smodule %s%s: %s (%s of reload %" PRId64 ")",
        running ? "changing" : "unfinished", segue__table_paint(colour, running ? "" : "\033[31m"),
        segue__table_text(change, "module"), segue__table_paint(colour, "\033[0m"),
        segue__table_given(change, "does") ? segue__table_text(change, "does") : "see the log",
        segue__table_text(change, "action"), segue__table_number(change, "reload"));
  }
}

/* The names that templates request: missing ones first, because a reload is held by them. */
static void add_wants(segue__buf *out, const segue_node *status, bool colour) {
  const segue_node *list = segue_node_get(status, "wants");
  for (int missing = 1; missing >= 0; missing--) {
    for (size_t i = 0; i < segue_node_count(list); i++) {
      const segue_node *want = segue_node_at(list, i, NULL);
      if (table_flag(want, "missing") != (missing != 0)) continue;
      const char *modules = segue__table_text(want, "modules");
      segue__buf_addf(out, "\n%-12s %s%s%s", missing ? "missing" : "wanted",
                      segue__table_paint(colour, missing ? "\033[31m" : ""),
                      segue__table_text(want, "name"), segue__table_paint(colour, "\033[0m"));
      if (*modules)
        segue__buf_addf(out, ": used by %s", modules);
      else
        segue__buf_addf(out, ": not used for %" PRId64 " generations",
                        segue__table_number(want, "unused"));
    }
  }
}

static void table_add_head(segue__buf *out, const segue_node *status, bool colour) {
  bool ready = table_flag(status, "ready");
  segue__buf_addf(out, "%-12s %s%s%s", segue__table_text(status, "name"),
                  segue__table_paint(colour, ready ? "\033[32m" : "\033[31m"),
                  ready ? "ready" : "not ready", segue__table_paint(colour, "\033[0m"));
  if (!ready) segue__buf_addf(out, ": %s", segue__table_text(status, "not_ready_because"));
  if (segue__table_given(status, "stale_since"))
    segue__buf_addf(out, ", %sstale since %s%s: the sources deliver nothing good",
                    segue__table_paint(colour, "\033[33m"),
                    segue__table_text(status, "stale_since"),
                    segue__table_paint(colour, "\033[0m"));
  add_decisions(out, status, colour);
  add_open_changes(out, status, colour);
  add_wants(out, status, colour);
  if (segue__table_number(status, "generation"))
    segue__buf_addf(out, "\n%-12s %" PRId64 " (%s)\n%-12s ", "generation",
                    segue__table_number(status, "generation"), segue__table_text(status, "hash"),
                    "process");
  else
    segue__buf_addf(out, "\n%-12s none is live yet\n%-12s ", "generation", "process");
  segue__buf_addf(out, "pid %" PRId64 ", segue %s, up ", segue__table_number(status, "pid"),
                  segue__table_text(status, "version"));
  add_uptime(out, status);
  if (segue__table_number(status, "files.files"))
    segue__buf_addf(out, "\n%-12s %" PRId64 " rendered, of %" PRId64 " module%s (segue files)",
                    "files", segue__table_number(status, "files.files"),
                    segue__table_number(status, "files.modules"),
                    segue__table_number(status, "files.modules") == 1 ? "" : "s");
  segue__buf_addf(out, "\n%-12s %s\n", "policy", segue__table_text(status, "policy"));
  const segue_node *listeners = segue_node_get(status, "listeners");
  for (size_t i = 0; i < segue_node_count(listeners); i++) {
    const char *address = "-";
    segue_node_string(segue_node_at(listeners, i, NULL), &address, NULL);
    segue__buf_addf(out, "%-12s %s\n", i ? "" : "listens on", address);
  }
  const segue_node *certificates = segue_node_get(status, "certificates");
  for (size_t i = 0; i < segue_node_count(certificates); i++) {
    const segue_node *certificate = segue_node_at(certificates, i, NULL);
    if (segue__table_given(certificate, "warning"))
      segue__buf_addf(out, "%-12s %s%s: %s%s\n", "warning", segue__table_paint(colour, "\033[33m"),
                      segue__table_text(certificate, "address"),
                      segue__table_text(certificate, "warning"),
                      segue__table_paint(colour, "\033[0m"));
  }
}

static void add_last(segue__buf *out, const segue_node *status, bool colour) {
  const segue_node *last = segue_node_get(status, "last");
  if (segue__table_given(status, "running"))
    segue__buf_addf(out, "%-12s reload %" PRId64 " is in phase %s (%s)\n", "running",
                    segue__table_number(status, "running.id"),
                    segue__table_text(status, "running.phase"),
                    segue__table_text(status, "running.cause"));
  if (segue__table_number(status, "deferred_ms"))
    segue__buf_addf(out, "%-12s the next reload in %" PRId64 " ms\n", "postponed",
                    segue__table_number(status, "deferred_ms"));
  if (!segue__table_given(status, "last")) return;
  bool good = table_flag(status, "last_reload_successful");
  segue__buf_addf(out, "%-12s %s%s%s at %s (reload %" PRId64 ", %s)\n", "last reload",
                  segue__table_paint(colour, good ? "\033[32m" : "\033[31m"),
                  segue__table_text(last, "outcome"), segue__table_paint(colour, "\033[0m"),
                  segue__table_text(last, "ended"), segue__table_number(last, "id"),
                  segue__table_text(last, "cause"));
  segue__table_errors(out, segue_node_get(last, "errors"), "             ");
}

static void table_add_modules(segue__buf *out, const segue_node *list) {
  int name = segue__table_width(list, "name", "MODULE");
  int state = segue__table_width(list, "state", "STATE");
  int gate = segue__table_width(list, "gate", "GATE");
  if (segue_node_count(list))
    segue__buf_addf(out, "\n%-*s  %-*s  %-*s  %-8s  %s\n", name, "MODULE", state, "STATE", gate,
                    "GATE", "REPLACE", "GENERATION");
  for (size_t i = 0; i < segue_node_count(list); i++) {
    const segue_node *module = segue_node_at(list, i, NULL);
    char generation[24];
    segue__buf_addf(out, "%-*s  %-*s  %-*s  %-8s  %s\n", name, segue__table_text(module, "name"),
                    state, segue__table_text(module, "state"), gate,
                    segue__table_text(module, "gate"), segue__table_text(module, "replace"),
                    segue__table_generation(module, "generation", generation));
    const segue_node *listen = segue_node_get(module, "listen");
    for (size_t k = 0; k < segue_node_count(listen); k++) {
      const char *url = "-";
      segue_node_string(segue_node_at(listen, k, NULL), &url, NULL);
      segue__buf_addf(out, "  listens on %s\n", url);
    }
    if (segue__table_given(module, "error"))
      segue__buf_addf(out, "  %s\n", segue__table_text(module, "error.message"));
  }
}

/* A start while reloads are frozen reads no source, so the health of a source may be unknown. */
static const char *table_health(const segue_node *source) {
  if (table_flag(source, "up")) return "up";
  if (!segue__table_number(source, "fetches") && !table_flag(source, "held")) return "unread";
  return table_flag(source, "held") ? "held" : "down";
}

static void add_source_pushes(segue__buf *out, const segue_node *source) {
  int64_t events = segue__table_number(source, "events");
  int64_t restarts = segue__table_number(source, "watch_restarts");
  double lag = 0;
  segue_node_double(segue_node_get(source, "lag_s"), &lag);
  if (!events && !restarts) return;
  segue__buf_addf(out, "  %" PRId64 " keys, %" PRId64 " pushes",
                  segue__table_number(source, "keys"), events);
  if (lag > 0) segue__buf_addf(out, ", the last one live after %.1f ms", lag * 1e3);
  if (restarts) segue__buf_addf(out, ", watch started again %" PRId64 " times", restarts);
  segue__buf_addc(out, '\n');
}

/* Prints details that only some sources have below their row. */
static void add_source_detail(segue__buf *out, const segue_node *source) {
  double stale = 0, next = 0;
  segue_node_double(segue_node_get(source, "stale_s"), &stale);
  segue_node_double(segue_node_get(source, "next_pull_s"), &next);
  if (segue__table_given(source, "revision"))
    segue__buf_addf(out, "  revision %s\n", segue__table_text(source, "revision"));
  if (!table_flag(source, "up") && (stale > 0 || next > 0)) {
    segue__buf_adds(out, "  ");
    if (stale > 0) segue__buf_addf(out, "stale for %.0f s", stale);
    if (next > 0) segue__buf_addf(out, "%stried again in %.1f s", stale > 0 ? ", " : "", next);
    segue__buf_addc(out, '\n');
  }
  add_source_pushes(out, source);
  if (segue__table_given(source, "error"))
    segue__buf_addf(out, "  %s\n", segue__table_text(source, "error.message"));
}

static void table_add_sources(segue__buf *out, const segue_node *list) {
  int name = segue__table_width(list, "name", "SOURCE");
  if (segue_node_count(list))
    segue__buf_addf(out, "\n%-*s  %-8s  %-6s  %-11s  %9s  %8s  %s\n", name, "SOURCE", "KIND",
                    "HEALTH", "STRATEGY", "DOCUMENTS", "FAILURES", "LAST SUCCESS");
  for (size_t i = 0; i < segue_node_count(list); i++) {
    const segue_node *source = segue_node_at(list, i, NULL);
    segue__buf_addf(
        out, "%-*s  %-8s  %-6s  %-11s  %9" PRId64 "  %8" PRId64 "  %s\n", name,
        segue__table_text(source, "name"), segue__table_text(source, "kind"), table_health(source),
        strcmp(segue__table_text(source, "activity"), "idle") == 0
            ? segue__table_text(source, "strategy")
            : segue__table_text(source, "activity"),
        segue__table_number(source, "documents"), segue__table_number(source, "failures"),
        segue__table_text(source, "last_success"));
    add_source_detail(out, source);
  }
}

int segue__table_status(segue__buf *out, const char *body, size_t len, bool colour) {
  segue__document *answer;
  int rc = segue__table_parse(body, len, &answer);
  if (rc < 0) return rc;
  const segue_node *status = &answer->root;
  table_add_head(out, status, colour);
  add_last(out, status, colour);
  table_add_modules(out, segue_node_get(status, "modules"));
  table_add_sources(out, segue_node_get(status, "sources"));
  rc = table_flag(status, "ready");
  segue__document_unref(answer);
  return rc;
}

static void table_add_change(segue__buf *out, const segue_node *change, bool colour) {
  const char *op = segue__table_text(change, "op");
  bool add = strcmp(op, "add") == 0, removal = strcmp(op, "remove") == 0;
  segue__buf_addf(out, "%s%c %s",
                  segue__table_paint(colour, add       ? "\033[32m"
                                             : removal ? "\033[31m"
                                                       : "\033[33m"),
                  add       ? '+'
                  : removal ? '-'
                            : '~',
                  segue__table_text(change, "path")[0] ? segue__table_text(change, "path")
                                                       : "(everything)");
  if (table_flag(change, "secret")) {
    segue__buf_addf(out, " %s, a secret%s\n",
                    add       ? "added"
                    : removal ? "removed"
                              : "changed",
                    segue__table_paint(colour, "\033[0m"));
    return;
  }
  segue__buf_adds(out, " = ");
  if (!add) {
    segue__json_write(out, segue_node_get(change, "from"), 0);
    segue__buf_adds(out, removal ? "" : " -> ");
  }
  if (!removal) segue__json_write(out, segue_node_get(change, "to"), 0);
  segue__buf_addf(out, "%s\n", segue__table_paint(colour, "\033[0m"));
}

int segue__table_diff(segue__buf *out, const char *body, size_t len, bool colour) {
  segue__document *answer;
  int rc = segue__table_parse(body, len, &answer);
  if (rc < 0) return rc;
  const segue_node *diff = &answer->root, *changes = segue_node_get(diff, "changes");
  int64_t total = segue__table_number(diff, "change_count");
  segue__buf_addf(out, "generation %" PRId64 " -> %" PRId64 ": %" PRId64 " change%s\n",
                  segue__table_number(diff, "from.generation"),
                  segue__table_number(diff, "to.generation"), total, total == 1 ? "" : "s");
  for (size_t i = 0; i < segue_node_count(changes); i++)
    table_add_change(out, segue_node_at(changes, i, NULL), colour);
  if ((int64_t)segue_node_count(changes) < total)
    segue__buf_addf(out, "and %" PRId64 " more\n", total - (int64_t)segue_node_count(changes));
  if (segue__table_given(diff, "files_missing"))
    segue__buf_addf(
        out,
        "the rendered files are not compared: the history does not have the reload that "
        "made generation %" PRId64 "\n",
        segue__table_number(diff, "files_missing"));
  if (segue__table_given(diff, "files_too_many"))
    segue__buf_adds(out,
                    "the rendered files are not compared: too many changes lie between the two "
                    "generations; compare nearer ones\n");
  segue__table_files(out, diff, colour);
  segue__document_unref(answer);
  return 0;
}
