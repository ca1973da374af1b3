/* SPDX-License-Identifier: MIT
 *
 * Changed files in tables, and the colours of diffs.
 */
#include <inttypes.h>
#include <string.h>

#include "../admin/render.h"
#include "../os/text.h"
#include "table.h"

/* ---- Colours ---- */

/* The code of a line of a diff; NULL: it has no colour. */
static const char *diff_colour(const char *line, size_t len) {
  if (len >= 4 && (!memcmp(line, "--- ", 4) || !memcmp(line, "+++ ", 4))) return "\033[1m";
  return line[0] == '@'   ? "\033[36m"
         : line[0] == '+' ? "\033[32m"
         : line[0] == '-' ? "\033[31m"
                          : NULL;
}

/* A diff begins at "--- " and ends with the first line that no line of a diff begins with. A
 * removed line with the text "-- " has another colour so, and nothing else. */
void segue__table_paint_diffs(segue__buf *out, const char *text, size_t len, bool colour) {
  bool inside = false;
  for (const char *at = text, *end = text + len; at < end;) {
    const char *stop = memchr(at, '\n', (size_t)(end - at));
    size_t n = stop ? (size_t)(stop - at) : (size_t)(end - at);
    inside = n && (inside ? segue__is_one_of(*at, "+-@ \\") : n > 4 && !memcmp(at, "--- ", 4));
    const char *code = colour && inside ? diff_colour(at, n) : NULL;
    if (code) segue__buf_adds(out, code);
    segue__buf_add(out, at, n);
    if (code) segue__buf_adds(out, "\033[0m");
    if (stop) segue__buf_addc(out, '\n');
    at += n + (stop != NULL);
  }
}

/* ---- Files ---- */

void segue__table_files(segue__buf *out, const segue_node *answer, bool colour) {
  segue__buf text;
  segue__file_changes files;
  if (segue__file_changes_read(&files, answer)) {
    out->failed = 1;
    return;
  }
  segue__buf_init(&text);
  segue__render_files_text(&text, &files);
  if (text.len) segue__table_paint_diffs(out, text.data, text.len, colour);
  if (text.failed) out->failed = 1;
  segue__buf_deinit(&text);
  segue__file_changes_deinit(&files);
}

/* ---- The rendered files as they are ---- */

static bool list_add_module(segue__buf *out, const segue_node *module, bool colour) {
  const char *bad = segue__table_paint(colour, "\033[31m"),
             *good = segue__table_paint(colour, "\033[32m"),
             *off = segue__table_paint(colour, "\033[0m");
  const segue_node *files = segue_node_get(module, "files");
  bool fine = !segue__table_given(module, "held");
  segue__buf_addf(out, "module %s", segue__table_text(module, "module"));
  if (segue__table_given(module, "apply")) {
    bool applied = false;
    segue_node_bool(segue_node_get(module, "apply.good"), &applied);
    fine &= applied;
    segue__buf_addf(out, ": %s%s%s at %s, %" PRId64 " ms, by %s", applied ? good : bad,
                    applied ? "applied" : "not applied", off, segue__table_text(module, "apply.at"),
                    segue__table_number(module, "apply.duration_ms"),
                    segue__table_text(module, "apply.by"));
  }
  segue__buf_addc(out, '\n');
  if (segue__table_given(module, "apply.message"))
    segue__buf_addf(out, "  %s\n", segue__table_text(module, "apply.message"));
  if (segue__table_given(module, "held"))
    segue__buf_addf(out, "  %sheld%s: %s\n", bad, off, segue__table_text(module, "held"));
  for (size_t i = 0; i < segue_node_count(segue_node_get(module, "due")); i++)
    segue__buf_addf(
        out, "  %sdue%s: %s\n", bad, off,
        segue__table_text(segue_node_at(segue_node_get(module, "due"), i, NULL), "does"));
  for (size_t i = 0; i < segue_node_count(files); i++) {
    const segue_node *file = segue_node_at(files, i, NULL);
    const char *state = segue__table_text(file, "state");
    bool in_place = !strcmp(state, "in place") || !strcmp(state, "adopted");
    fine &= in_place || !strcmp(state, "changing");
    segue__buf_addf(out, "  %s%-10s%s %s  %s, %" PRId64 " bytes, generation %" PRId64 " since %s\n",
                    in_place ? good : bad, state, off, segue__table_text(file, "path"),
                    segue__table_text(file, "wanted.mode"),
                    segue__table_number(file, "wanted.size"),
                    segue__table_number(file, "generation"), segue__table_text(file, "since"));
  }
  return fine;
}

int segue__table_file_list(segue__buf *out, const char *body, size_t len, bool colour) {
  segue__document *answer;
  bool fine = true;
  int rc = segue__table_parse_list(body, len, "modules", &answer);
  if (rc < 0) return rc;
  const segue_node *list = segue_node_get(&answer->root, "modules");
  for (size_t i = 0; i < segue_node_count(list); i++)
    fine &= list_add_module(out, segue_node_at(list, i, NULL), colour);
  if (!segue_node_count(list)) segue__buf_adds(out, "no module of the policy renders files\n");
  segue__document_unref(answer);
  return fine;
}
