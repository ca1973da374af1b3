/* SPDX-License-Identifier: MIT
 *
 * limits.h: resource limits as a policy writes them.
 */
#ifndef SEGUE_PROCESS_LIMITS_H
#define SEGUE_PROCESS_LIMITS_H

#include "../os/child.h"

/* value: "1024", "unlimited", or "SOFT:HARD" of these. Returns 0 or SEGUE_EPOLICY. */
int segue__limit_parse(const char *name, const char *value, segue__child_limit *out,
                       segue_error *err);

#endif
