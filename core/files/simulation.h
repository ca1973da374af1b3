/* SPDX-License-Identifier: MIT
 *
 * simulation.h: the files of a rehearsal (segue.testing), which are in memory: sets are staged,
 * compared, committed, undone and settled as in the daemon, but no function of core/files touches
 * the disk. Only a destination that the store has exists, so that a rehearsal has the same result
 * on each machine. Control thread: a manual loop runs jobs there.
 */
#ifndef SEGUE_FILES_SIMULATION_H
#define SEGUE_FILES_SIMULATION_H

#include "set.h"

/* A file of the store. */
typedef struct segue__simulated_file {
  const char *data; /* NULL: it cannot be read */
  size_t len;
  unsigned mode;
  const char *owner;   /* as the policy has it; NULL: of this process */
  int code;            /* why it cannot be read */
  const char *message; /* NULL: the text of the code */
} segue__simulated_file;

typedef struct segue__file_store {
  /* Returns false if there is no file. Strings are borrowed until the next put or remove. */
  bool (*get)(void *data, const char *path, segue__simulated_file *out);
  int (*put)(void *data, const char *path, const segue__simulated_file *file);
  void (*remove)(void *data, const char *path);
  /* A check begins that sees the staged files of the set in place of the live ones; set NULL: the
   * check has started, and the live files are shown again. */
  void (*show)(void *data, const segue__file_set *set);
  void *data;
} segue__file_store;

int segue__simulation_new(segue__file_simulation **out, const segue__file_store *store);
void segue__simulation_free(segue__file_simulation *simulation); /* NULL allowed */

/* A check that names no staged file begins, or has begun. set->simulation may be NULL. */
void segue__simulation_show(const segue__file_set *set, bool shown);

#endif
