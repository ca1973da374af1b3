/* SPDX-License-Identifier: MIT
 *
 * Tables of the past: reloads, one reload, where a value was set.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "table.h"

static const char *outcome_paint(const char *outcome) {
  bool good = !strcmp(outcome, "applied") || !strcmp(outcome, "unchanged");
  return good ? "\033[32m" : !strcmp(outcome, "held") ? "\033[33m" : "\033[31m";
}

int segue__table_history(segue__buf *out, const char *body, size_t len, bool colour) {
  segue__document *answer;
  int rc = segue__table_parse_list(body, len, "reloads", &answer);
  if (rc < 0) return rc;
  const segue_node *list = segue_node_get(&answer->root, "reloads");
  segue__buf_addf(out, "%-8s %-26s %-11s %-11s %-8s %s\n", "RELOAD", "ENDED", "OUTCOME",
                  "GENERATION", "CHANGES", "CAUSE");
  for (size_t i = 0; i < segue_node_count(list); i++) {
    const segue_node *reload = segue_node_at(list, i, NULL);
    const char *outcome = segue__table_text(reload, "outcome");
    char generation[24];
    segue__buf_addf(out, "%-8" PRId64 " %-26s %s%-11s%s %-11s %-8" PRId64 " %s\n",
                    segue__table_number(reload, "id"), segue__table_text(reload, "ended"),
                    segue__table_paint(colour, outcome_paint(outcome)), outcome,
                    segue__table_paint(colour, "\033[0m"),
                    segue__table_generation(reload, "generation", generation),
                    segue__table_number(reload, "change_count"),
                    segue__table_text(reload, "cause"));
  }
  segue__document_unref(answer);
  return 0;
}

static void history_add_audit(segue__buf *out, const segue_node *row, int path, int who,
                              bool colour) {
  int64_t status = segue__table_number(row, "status"), folded = segue__table_number(row, "folded");
  char number[24] = "-"; /* the client left before its answer */
  if (status) snprintf(number, sizeof number, "%" PRId64, status);
  segue__buf_addf(out, "%-26s %s%-6s%s %-6s ", segue__table_text(row, "at"),
                  segue__table_paint(colour, status >= 400 ? "\033[31m" : "\033[32m"), number,
                  segue__table_paint(colour, "\033[0m"), segue__table_text(row, "method"));
  segue__buf_addf(out, "%-*s  %-*s  %s", path, segue__table_text(row, "path"), who,
                  segue__table_text(row, "who"), segue__table_text(row, "peer"));
  if (segue__table_given(row, "reload"))
    segue__buf_addf(out, ", reload %" PRId64, segue__table_number(row, "reload"));
  if (folded > 0) segue__buf_addf(out, ", and %" PRId64 " more were refused before", folded);
  segue__buf_addc(out, '\n');
}

int segue__table_audit(segue__buf *out, const char *body, size_t len, bool colour) {
  segue__document *answer;
  int rc = segue__table_parse_list(body, len, "audit", &answer);
  if (rc < 0) return rc;
  const segue_node *list = segue_node_get(&answer->root, "audit");
  int path = segue__table_width(list, "path", "PATH");
  int who = segue__table_width(list, "who", "WHO");
  segue__buf_addf(out, "%-26s %-6s %-6s %-*s  %-*s  %s\n", "AT", "STATUS", "METHOD", path, "PATH",
                  who, "WHO", "FROM");
  for (size_t i = 0; i < segue_node_count(list); i++)
    history_add_audit(out, segue_node_at(list, i, NULL), path, who, colour);
  segue__document_unref(answer);
  return 0;
}

static void add_steps(segue__buf *out, const segue_node *reload) {
  const segue_node *steps = segue_node_get(reload, "steps");
  for (size_t i = 0; i < segue_node_count(steps); i++) {
    const segue_node *step = segue_node_at(steps, i, NULL);
    segue__buf_addf(out, "  %-8s %-16s %s\n", segue__table_text(step, "action"),
                    segue__table_text(step, "module"), segue__table_text(step, "why"));
  }
}

static void daemon_history_add_changes(segue__buf *out, const segue_node *reload) {
  const segue_node *changes = segue_node_get(reload, "changes");
  for (size_t i = 0; i < segue_node_count(changes); i++) {
    const segue_node *change = segue_node_at(changes, i, NULL);
    const char *op = segue__table_text(change, "op"), *path = segue__table_text(change, "path");
    bool removal = !strcmp(op, "remove");
    segue__buf_addf(out, "  %c %s%s%s\n",
                    !strcmp(op, "add") ? '+'
                    : removal          ? '-'
                                       : '~',
                    *path ? path : "(everything)", removal ? "" : " = ",
                    removal ? "" : segue__table_text(change, "to_text"));
  }
  int64_t more = segue__table_number(reload, "change_count") - (int64_t)segue_node_count(changes);
  if (more > 0) segue__buf_addf(out, "  and %" PRId64 " more\n", more);
}

int segue__table_reload(segue__buf *out, const char *body, size_t len, bool colour) {
  segue__document *answer;
  int rc = segue__table_parse(body, len, &answer);
  if (rc < 0) return rc;
  const segue_node *reload = &answer->root;
  const char *outcome = segue__table_text(reload, "outcome");
  double ms = 0;
  segue_node_double(segue_node_get(reload, "duration_ms"), &ms);
  segue__buf_addf(out, "reload %" PRId64 ": %s%s%s, ", segue__table_number(reload, "id"),
                  segue__table_paint(colour, outcome_paint(outcome)), outcome,
                  segue__table_paint(colour, "\033[0m"));
  if (segue__table_number(reload, "generation"))
    segue__buf_addf(out, "generation %" PRId64 " live afterwards\n",
                    segue__table_number(reload, "generation"));
  else
    segue__buf_adds(out, "no generation live afterwards\n");
  segue__buf_addf(out, "cause        %s (%s)\nstarted      %s, took %.1f ms, last phase %s\n",
                  segue__table_text(reload, "cause"), segue__table_text(reload, "trigger"),
                  segue__table_text(reload, "started"), ms, segue__table_text(reload, "phase"));
  if (segue__table_given(reload, "confirmed_by"))
    segue__buf_addf(out, "confirmed by %s\n", segue__table_text(reload, "confirmed_by"));
  const segue_node *phases = segue_node_get(reload, "phases_ms");
  for (size_t i = 0; i < segue_node_count(phases); i++) {
    const char *name;
    double phase = 0;
    segue_node_double(segue_node_at(phases, i, &name), &phase);
    segue__buf_addf(out, "  %-10s %.3f ms\n", name, phase);
  }
  segue__table_errors(out, segue_node_get(reload, "errors"), "");
  add_steps(out, reload);
  daemon_history_add_changes(out, reload);
  segue__table_files(out, reload, colour);
  segue__document_unref(answer);
  return 0;
}

int segue__table_why(segue__buf *out, const char *body, size_t len, bool colour) {
  segue__document *answer;
  int rc = segue__table_parse(body, len, &answer);
  if (rc < 0) return rc;
  const segue_node *why = &answer->root;
  segue__buf_addf(out, "%s%s%s = ", segue__table_paint(colour, "\033[1m"),
                  segue__table_text(why, "path"), segue__table_paint(colour, "\033[0m"));
  segue__json_write(out, segue_node_get(why, "value"), 0);
  segue__buf_addf(out, " (generation %" PRId64 ")\n", segue__table_number(why, "live"));
  if (segue__table_given(why, "origin")) {
    segue__buf_adds(out, "written in   ");
    segue__table_place(out, segue_node_get(why, "origin"));
    segue__buf_addf(out, " (source %s)\n", segue__table_text(why, "origin.source"));
  } else {
    segue__buf_adds(out, "written in   nowhere: it was removed\n");
  }
  if (!segue__table_given(why, "change")) {
    segue__buf_adds(out, "since        longer than the history goes back\n");
  } else {
    bool exact = false;
    segue_node_bool(segue_node_get(why, "change.exact"), &exact);
    segue__buf_addf(out, "since        generation %" PRId64 "%s, by a change of %s\n",
                    segue__table_number(why, "change.generation"),
                    exact ? "" : " or a later one with more changes than the history keeps",
                    segue__table_text(why, "change.path"));
    segue__buf_addf(out, "by           reload %" PRId64 " at %s: %s\n",
                    segue__table_number(why, "change.reload.id"),
                    segue__table_text(why, "change.reload.ended"),
                    segue__table_text(why, "change.reload.cause"));
  }
  segue__document_unref(answer);
  return 0;
}
