/* SPDX-License-Identifier: MIT
 *
 * Reads a module's slice. The schema has validated it before; the errors here are for policies
 * without that schema, and for rules that a schema cannot express.
 */
#include <stdio.h>
#include <string.h>

#include "pipe.h"

int pipe_uint(const segue_slice *slice, const char *path, uint64_t min, uint64_t max,
              uint64_t otherwise, uint64_t *out, segue_error *error) {
  const segue_node *node = segue_node_get(slice->config, path);
  char what[80];
  *out = otherwise;
  if (!node || (!segue_node_uint(node, out) && *out >= min && *out <= max)) return 0;
  snprintf(what, sizeof what, "must be a number from %llu to %llu", (unsigned long long)min,
           (unsigned long long)max);
  return segue_error_at(error, SEGUE_ECONFIG, slice->snapshot, node, "%s %s", path, what);
}

int pipe_double(const segue_slice *slice, const char *path, double min, double max,
                double otherwise, double *out, segue_error *error) {
  const segue_node *node = segue_node_get(slice->config, path);
  char what[80];
  *out = otherwise;
  if (!node || (!segue_node_double(node, out) && *out >= min && *out <= max)) return 0;
  snprintf(what, sizeof what, "must be a number from %g to %g", min, max);
  return segue_error_at(error, SEGUE_ECONFIG, slice->snapshot, node, "%s %s", path, what);
}

int pipe_text(const segue_slice *slice, const char *path, const char *otherwise, const char **out,
              segue_error *error) {
  const segue_node *node = segue_node_get(slice->config, path);
  size_t len;
  *out = otherwise;
  if (!node || (!segue_node_string(node, out, &len) && len && strlen(*out) == len)) return 0;
  return segue_error_at(error, SEGUE_ECONFIG, slice->snapshot, node, "%s must be a text", path);
}
