/* SPDX-License-Identifier: MIT
 *
 * Resource limits as a policy writes them.
 */
#include "limits.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "../os/error.h"

/* Reads one limit up to `end`. */
static bool limit_number(const char *text, const char *end, uint64_t *out) {
  char *stop;
  size_t len = (size_t)(end - text);
  if (len == 9 && !strncmp(text, "unlimited", len)) {
    *out = RLIM_INFINITY;
    return true;
  }
  errno = 0;
  *out = strtoull(text, &stop, 10);
  return len && *text >= '0' && *text <= '9' && stop == end && !errno;
}

int segue__limit_parse(const char *name, const char *value, segue__child_limit *out,
                       segue_error *err) {
  const char *end = value + strlen(value), *colon = strchr(value, ':');
  out->resource = segue__child_limit_find(name);
  if (out->resource < 0)
    return segue__errorf(err, SEGUE_EPOLICY,
                         "has no resource \"%.40s\": use names of prlimit(1) such as nofile", name);
  bool good = limit_number(value, colon ? colon : end, &out->soft);
  out->hard = out->soft;
  if (good && colon) good = limit_number(colon + 1, end, &out->hard);
  if (good && out->soft <= out->hard) return 0;
  return segue__errorf(err, SEGUE_EPOLICY,
                       "has a wrong %.40s: use a number, \"unlimited\" or \"SOFT:HARD\"", name);
}
