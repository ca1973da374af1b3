/* SPDX-License-Identifier: MIT
 *
 * file_report.h: the rendered files of an instance as they are now, for answers.
 */
#ifndef SEGUE_RECORD_FILE_REPORT_H
#define SEGUE_RECORD_FILE_REPORT_H

#include "file_change.h"

/* X(name, text) */
#define SEGUE__FILE_STATES(X)                                                                      \
  X(IN_PLACE, "in place")                                                                          \
  X(CHANGING, "changing") /* a reload replaces it, or its generation is not confirmed yet */       \
  X(DRIFTED, "drifted")   /* another program has changed or removed it */                          \
  X(ADOPTED, "adopted")   /* another program has changed it, and the policy leaves that version */ \
  X(UNREADABLE, "unreadable")
typedef enum segue__file_state {
#define X(name, text) SEGUE__FILE_##name,
  SEGUE__FILE_STATES(X)
#undef X
} segue__file_state;
const char *segue__file_state_name(segue__file_state state);

typedef struct segue__file_row {
  char *path;
  segue__file_side wanted, found; /* found: where it is another version */
  segue__file_state state;
  uint64_t generation;   /* that wrote it; of a file that was in place at a start: the first one */
  int64_t since_wall_ms; /* when that was */
} segue__file_row;

/* The files of one module. */
typedef struct segue__file_rows {
  char *module;
  segue__file_row *files;
  size_t count;
  char *refused; /* why the last rendering was not put in place; NULL: it was */
  /* The last time that the files were applied by this process. */
  bool applied;
  int64_t applied_wall_ms;
  uint64_t applied_ms; /* how long it took */
  char *applied_by;    /* the command as it would be typed */
  char *apply_failed;  /* its error: exit code and last lines; NULL: it was good */
} segue__file_rows;

typedef struct segue__file_report {
  segue__file_rows *modules;
  size_t count;
} segue__file_report;

void segue__file_rows_deinit(segue__file_rows *rows);
void segue__file_report_free(segue__file_report *report); /* NULL allowed */
/* Copies what a report may keep: on failure *out needs no deinit. */
int segue__file_rows_copy(segue__file_rows *out, const segue__file_rows *from);

#endif
