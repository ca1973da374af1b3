/* SPDX-License-Identifier: MIT
 *
 * scribe.h: the thread that writes access logs, its rings (one for each lane), and the logs:
 * counted by the entries that name them.
 */
#ifndef SEGUE_INGRESS_SCRIBE_H
#define SEGUE_INGRESS_SCRIBE_H

#include <pthread.h>
#include <uv.h>

#include "../module/module.h"

typedef struct segue__scribe segue__scribe;
typedef struct segue__ring segue__ring;
typedef struct segue__access_log segue__access_log;

typedef struct segue__scribe_options {
  const segue__log *log; /* where failures are told */
  size_t rings;
  /* The current log, for access logs without a file; may wait. */
  int (*write_log)(void *data, const segue_log_entry *entry);
  void *data;
} segue__scribe_options;

int segue__scribe_new(segue__scribe **out, const segue__scribe_options *options);
void segue__scribe_abandon(segue__scribe *scribe); /* in a child after fork: closes descriptors */
/* Writes what there is, ends the thread. keep: somebody may put more, which is lost; its memory
 * stays. NULL allowed. */
void segue__scribe_end(segue__scribe *scribe, bool keep);
segue__ring *segue__scribe_ring(segue__scribe *scribe, size_t index);
void segue__scribe_reopen(segue__scribe *scribe); /* NULL allowed */
void segue__scribe_figures(const segue__scribe *scribe, uint64_t *lines, uint64_t *dropped);

/* Opens the file; err names it. */
int segue__access_log_new(segue__access_log **out, segue__scribe *scribe,
                          const segue__access_spec *spec, segue_error *err);
/* [any thread] NULL allowed. */
segue__access_log *segue__access_log_ref(segue__access_log *log);
void segue__access_log_unref(segue__access_log *log);
bool segue__access_log_is_json(const segue__access_log *log);
bool segue__access_log_tells_query(const segue__access_log *log);

/* A line with its end, on the ring's lane: never waits. */
void segue__ring_put(segue__ring *ring, segue__access_log *log, const char *text, size_t len);

#endif
