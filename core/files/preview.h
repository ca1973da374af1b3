/* SPDX-License-Identifier: MIT
 *
 * preview.h: what a staged set would change, as results show it: the files that differ, and the
 * difference of each text without secrets. Control thread; the files are read on the worker.
 */
#ifndef SEGUE_FILES_PREVIEW_H
#define SEGUE_FILES_PREVIEW_H

#include "../record/file_change.h"
#include "../segue.h"
#include "world.h"

typedef struct segue__file_preview_options {
  size_t size;
  segue__shared_set *shared;
  const char *module;
  /* Of the configuration that the files were rendered from, and of the live one. NULL: there is
   * none. Both are needed until done runs. */
  const segue_slice *next, *prev;
  bool plan; /* an operator waits for the diff: longer files have one too */
  /* Runs once, perhaps before start returned. *changes may be moved. status: SEGUE_ECANCELLED if
   * the loop closes. A file of which no diff could be made has a note instead. */
  void (*done)(void *data, int status, segue__file_changes *changes);
  void *data;
} segue__file_preview_options;

void segue__file_preview_start(const segue__file_preview_options *options);
/* A version as answers show it. */
void segue__file_side_of(segue__file_side *out, const segue__file_version *version);

#endif
