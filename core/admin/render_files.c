/* SPDX-License-Identifier: MIT
 *
 * The files that a reload changes, as text and as JSON. The diffs contain no secrets
 * (core/files/preview.h), and as text no characters that control a terminal.
 */
#include <inttypes.h>
#include <string.h>

#include "../config/printable.h"
#include "render.h"

static void add_size(segue__buf *out, const segue__file_side *side) {
  segue__buf_addf(out, "%" PRIu64 " byte%s", side->size, side->size == 1 ? "" : "s");
}

/* "changed, +2 -1 lines, mode 0644 -> 0600" */
static void add_summary(segue__buf *out, const segue__file_change *change) {
  const segue__file_side *before = &change->before, *after = &change->after;
  bool both = before->exists && after->exists;
  bool text = strcmp(before->hash, after->hash) != 0;
  segue__buf_adds(out, !before->exists  ? "new"
                       : !after->exists ? "removed"
                       : text           ? "changed"
                                        : "same text");
  if (change->diff || change->added || change->removed)
    segue__buf_addf(out, ", +%zu -%zu line%s", change->added, change->removed,
                    change->added + change->removed == 1 ? "" : "s");
  if (!both) {
    segue__buf_adds(out, ", ");
    add_size(out, before->exists ? before : after);
  }
  if (!before->exists) segue__buf_addf(out, ", mode %04o", after->mode);
  if (both && before->mode != after->mode)
    segue__buf_addf(out, ", mode %04o -> %04o", before->mode, after->mode);
  if (both && (before->uid != after->uid || before->gid != after->gid))
    segue__buf_addf(out, ", owner %u:%u -> %u:%u", before->uid, before->gid, after->uid,
                    after->gid);
  if (!change->note) return;
  segue__buf_addf(out, ", %s", change->note);
  if (!both) return;
  segue__buf_adds(out, " (");
  add_size(out, before);
  segue__buf_adds(out, " -> ");
  add_size(out, after);
  segue__buf_addc(out, ')');
}

/* Tabs stay: a diff without them would show another text. */
static void add_diff(segue__buf *out, const segue__file_change *change) {
  segue__printable_page(out, change->diff, strlen(change->diff), false);
  if (change->left_out)
    segue__buf_addf(out, "(%zu more line%s of this difference)\n", change->left_out,
                    change->left_out == 1 ? "" : "s");
}

void segue__render_files_text(segue__buf *out, const segue__file_changes *files) {
  for (size_t i = 0; i < files->count; i++) {
    const segue__file_change *change = &files->items[i];
    segue__buf_addf(out, "  %-8s %-16s ", "file", change->module);
    segue__render_line(out, change->path);
    segue__buf_adds(out, ": ");
    add_summary(out, change);
    segue__buf_addc(out, '\n');
  }
  if (files->more)
    segue__buf_addf(out, "  and %zu more file%s\n", files->more, files->more == 1 ? "" : "s");
  for (size_t i = 0; i < files->count; i++)
    if (files->items[i].diff) add_diff(out, &files->items[i]);
}

static void side_json(segue__buf *out, const char *key, const segue__file_side *side) {
  if (!side->exists) {
    segue__buf_addf(out, ",\"%s\":null", key);
    return;
  }
  segue__buf_addf(out,
                  ",\"%s\":{\"size\":%" PRIu64
                  ",\"hash\":\"%s\",\"mode\":\"%04o\",\"uid\":%u,\"gid\":%u%s}",
                  key, side->size, side->hash, side->mode, side->uid, side->gid,
                  side->link ? ",\"link\":true" : "");
}

void segue__render_files_json(segue__buf *out, const segue__file_changes *files) {
  segue__buf_adds(out, ",\"files\":[");
  for (size_t i = 0; i < files->count; i++) {
    const segue__file_change *change = &files->items[i];
    segue__buf_adds(out, i ? ",{" : "{");
    segue__render_member(out, "module", change->module);
    segue__buf_addc(out, ',');
    segue__render_member(out, "path", change->path);
    side_json(out, "before", &change->before);
    side_json(out, "after", &change->after);
    segue__buf_addf(out, ",\"added\":%zu,\"removed\":%zu,", change->added, change->removed);
    segue__render_member(out, "diff", change->diff);
    segue__buf_addf(out, ",\"left_out\":%zu,", change->left_out);
    segue__render_member(out, "note", change->note);
    segue__buf_addc(out, '}');
  }
  segue__buf_addc(out, ']');
  if (files->more) segue__buf_addf(out, ",\"files_more\":%zu", files->more);
}
