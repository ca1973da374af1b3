/* SPDX-License-Identifier: MIT
 *
 * metrics.h: what is counted over the life of an instance and is not the engine's to know: how long
 * phases took. Everything else in /metrics is read from the engine and from /proc when asked.
 */
#ifndef SEGUE_ADMIN_METRICS_H
#define SEGUE_ADMIN_METRICS_H

#include "../reload/engine.h"

#define SEGUE__BUCKETS 16
typedef struct segue__histogram {
  uint64_t counts[SEGUE__BUCKETS + 1]; /* not cumulative; the last is +Inf */
  uint64_t count, sum_us;
} segue__histogram;

typedef struct segue__metrics {
  segue__histogram phases[SEGUE__PHASE_COUNT], total;
} segue__metrics;

/* A settled run. */
void segue__metrics_add(segue__metrics *metrics, const segue__result *result);
void segue__metrics_write(segue__buf *out, const segue__metrics *metrics);
/* process_*: CPU, memory, files, threads, start. */
void segue__metrics_process(segue__buf *out);
/* One sample family's head: # HELP and # TYPE. */
void segue__metrics_head(segue__buf *out, const char *name, const char *type, const char *help);
/* families.c: appends the lines of modules, sorted into families. */
void segue__metrics_gather(segue__buf *out, const char *text, size_t len);
/* A label's value, escaped and in quotes. */
void segue__metrics_label(segue__buf *out, const char *value);

#endif
