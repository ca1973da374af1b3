/* SPDX-License-Identifier: MIT
 *
 * ask.h: calls the functions of a policy that belong to the commit of a files module: "before" and
 * "verify", which decide whether the server uses the new files, and "undo". Control thread.
 */
#ifndef SEGUE_FILES_ASK_H
#define SEGUE_FILES_ASK_H

#include "module.h"

typedef struct segue__ask segue__ask;

typedef struct segue__ask_options {
  size_t size;
  segue__file_module *module; /* outlives the run */
  const char *function;       /* a constant */
  uint64_t within_ms;         /* how long it is asked, and time limit of a call */
  bool again; /* nil and a reason: it is asked again, with a longer pause each time */
  /* Runs once, never before start returned. status 0: it returned true. */
  void (*cb)(void *data, int status, const segue_error *error);
  void *data;
} segue__ask_options;

/* On failure cb does not run. *out is valid until cb runs. */
int segue__ask_start(segue__ask **out, const segue__ask_options *options, segue_error *err);
/* Ends soon, with SEGUE_ECANCELLED. NULL allowed. */
void segue__ask_stop(segue__ask *ask);

#endif
