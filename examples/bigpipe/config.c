/* SPDX-License-Identifier: MIT
 *
 * Reading a module's slice. The schema has judged it already; what is told here concerns policies
 * without that schema, and what no schema knows.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "pipe.h"

int pipe_fail(segue_error *error, int code, const char *format, ...) {
  va_list args;
  memset(error, 0, sizeof *error);
  error->code = code;
  va_start(args, format);
  vsnprintf(error->message, sizeof error->message, format, args);
  va_end(args);
  return code;
}

int pipe_wrong(const segue_slice *slice, const segue_node *node, const char *path, const char *what,
               segue_error *error) {
  const char *file = NULL;
  uint32_t line = 0, column = 0;
  if (node) segue_node_origin(slice->snapshot, node, NULL, &file, &line, &column);
  pipe_fail(error, SEGUE_EMODULE, "%s %s", path, what);
  error->line = line;
  error->column = column;
  snprintf(error->path, sizeof error->path, "%s", path);
  snprintf(error->file, sizeof error->file, "%s", file ? file : "");
  return SEGUE_EMODULE;
}

int pipe_uint(const segue_slice *slice, const char *path, uint64_t min, uint64_t max,
              uint64_t otherwise, uint64_t *out, segue_error *error) {
  const segue_node *node = segue_node_get(slice->config, path);
  char what[80];
  *out = otherwise;
  if (!node || (!segue_node_uint(node, out) && *out >= min && *out <= max)) return 0;
  snprintf(what, sizeof what, "must be a number from %llu to %llu", (unsigned long long)min,
           (unsigned long long)max);
  return pipe_wrong(slice, node, path, what, error);
}

int pipe_double(const segue_slice *slice, const char *path, double min, double max,
                double otherwise, double *out, segue_error *error) {
  const segue_node *node = segue_node_get(slice->config, path);
  char what[80];
  *out = otherwise;
  if (!node || (!segue_node_double(node, out) && *out >= min && *out <= max)) return 0;
  snprintf(what, sizeof what, "must be a number from %g to %g", min, max);
  return pipe_wrong(slice, node, path, what, error);
}

int pipe_text(const segue_slice *slice, const char *path, const char *otherwise, const char **out,
              segue_error *error) {
  const segue_node *node = segue_node_get(slice->config, path);
  size_t len;
  *out = otherwise;
  if (!node || (!segue_node_string(node, out, &len) && len && strlen(*out) == len)) return 0;
  return pipe_wrong(slice, node, path, "must be a text", error);
}
