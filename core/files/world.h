/* SPDX-License-Identifier: MIT
 *
 * world.h: the data that the modules of the kind "files" of one instance of segue share, and sets
 * that jobs may use after their module is gone. kind.c has the functions.
 */
#ifndef SEGUE_FILES_WORLD_H
#define SEGUE_FILES_WORLD_H

#include "../module/module.h"
#include "../os/log.h"
#include "../os/loop.h"
#include "../record/recorded_answers.h"
#include "../reload/wants.h"
#include "effect.h"
#include "set.h"

typedef struct segue__file_world segue__file_world;
typedef struct segue__engine segue__engine;
typedef struct segue__file_drift segue__file_drift;
typedef struct segue__inventory segue__inventory;

struct segue__file_world {
  int refs; /* itself, sets and settles */
  segue__loop *loop;
  const segue__logger *log;
  const segue__os *os;
  segue__file_book *book;      /* NULL: a simulation */
  segue__inventory *inventory; /* NULL: no set has begun */
  segue__file_drift *drift;    /* NULL: nothing is watched */
  segue__engine *engine;       /* whose observers follow the modules; NULL: there are none */
  bool namespaces_work;        /* a command has run in a private mount namespace */
  segue__wants *wants;
  segue__module_spec **leftovers; /* leftover.c */
  size_t leftover_count;
  segue__file_simulation *simulation;   /* NULL: the files are on the disk */
  const segue__effect_outside *outside; /* NULL: effects are real */
  segue__answers *answers;              /* NULL: effects are not recorded */
  segue__file_capture *capture;         /* NULL: files are staged */
  void *capture_data;
};
void segue__file_world_unref(segue__file_world *world);
void segue__file_world_clear_leftovers(segue__file_world *world); /* leftover.c */
/* drift.c: a set has settled: its files are watched from now on. */
void segue__file_drift_settled(segue__file_world *world);

void segue__inventory_deinit(segue__inventory *inventory); /* inventory.c; NULL allowed */

/* A set that jobs may use after its instance is gone. Counted, on the control thread. */
typedef struct segue__shared_set {
  int refs;
  segue__file_world *world;
  segue__file_set *set;
} segue__shared_set;
void segue__shared_set_unref(segue__shared_set *shared);

#endif
