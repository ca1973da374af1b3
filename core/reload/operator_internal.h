/* SPDX-License-Identifier: MIT
 *
 * operator_internal.h: the data of the operators' decisions, for operator.c (freeze, confirm, what
 * is written) and rollback.c (replays of earlier generations).
 */
#ifndef SEGUE_RELOAD_OPERATOR_INTERNAL_H
#define SEGUE_RELOAD_OPERATOR_INTERNAL_H

#include "operator.h"

struct segue__operator {
  segue__decisions decisions;
  struct segue__freeze *freezes;    /* their writes are under way */
  struct segue__rollback *rollback; /* its files are being looked up */
  bool good_tried; /* the last good generation was replayed before what waits to be confirmed */
  bool starting;   /* it serves, and the run that the start is about has not ended */
  segue__record_call tick; /* the state is being written, beside what transactions write of it */
  bool tick_failed;        /* the disk has an older one: it is written again */
  /* The run that made the live generation, if it could not be written: the one on disk is older.
   * With it, what is to be written. NULL: it was. */
  segue__result *unkept;
  segue__files *unkept_files;
  segue__source_counts unkept_items;
  uint64_t unkept_ms; /* the last try */
  uint64_t good_ms;   /* when the age of the last good generation was noted last */
};

/* A generation waits to be confirmed. */
bool segue__operator_waits(const segue__engine *engine);
/* The time to confirm has ended for a generation that waited when an earlier process ended. */
bool segue__operator_late(const segue__engine *engine);
/* The last good generation is on disk. */
bool segue__operator_has_kept(const segue__engine *engine);

/* rollback.c */
void segue__rollback_close(segue__engine *engine);

#endif
