/* SPDX-License-Identifier: MIT
 *
 * Reports about rendered files: copies and their end.
 */
#include "file_report.h"

#include <string.h>
#include <uv.h>

#include "../os/mem.h"

const char *segue__file_state_name(segue__file_state state) {
  static const char *const names[] = {
#define X(name, text) text,
      SEGUE__FILE_STATES(X)
#undef X
  };
  return names[state];
}

void segue__file_rows_deinit(segue__file_rows *rows) {
  for (size_t i = 0; i < rows->count; i++)
    segue__free(rows->files[i].path);
  segue__free(rows->files);
  segue__free(rows->module);
  segue__free(rows->refused);
  segue__free(rows->applied_by);
  segue__free(rows->apply_failed);
  *rows = (segue__file_rows){0};
}

void segue__file_report_free(segue__file_report *report) {
  if (!report) return;
  for (size_t i = 0; i < report->count; i++)
    segue__file_rows_deinit(&report->modules[i]);
  segue__free(report->modules);
  segue__free(report);
}

static int copy_text(char **out, const char *from) {
  *out = segue__strdup(from);
  return from && !*out ? UV_ENOMEM : 0;
}

int segue__file_rows_copy(segue__file_rows *out, const segue__file_rows *from) {
  *out = *from;
  out->count = 0;
  out->files = segue__calloc(from->count + 1, sizeof *out->files);
  int rc = copy_text(&out->module, from->module);
  if (copy_text(&out->refused, from->refused)) rc = UV_ENOMEM;
  if (copy_text(&out->applied_by, from->applied_by)) rc = UV_ENOMEM;
  if (copy_text(&out->apply_failed, from->apply_failed)) rc = UV_ENOMEM;
  for (size_t i = 0; i < from->count && out->files && !rc; i++) {
    out->files[i] = from->files[i];
    rc = copy_text(&out->files[i].path, from->files[i].path);
    out->count++;
  }
  if (!rc && out->files) return 0;
  segue__file_rows_deinit(out);
  return UV_ENOMEM;
}
