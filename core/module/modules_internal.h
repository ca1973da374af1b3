/* SPDX-License-Identifier: MIT
 *
 * modules_internal.h: the data of the list of modules, for modules.c and drain.c.
 */
#ifndef SEGUE_MODULE_MODULES_INTERNAL_H
#define SEGUE_MODULE_MODULES_INTERNAL_H

#include "modules.h"

typedef struct segue__draining segue__draining;

struct segue__modules {
  segue__modules_options options;
  segue__gates *gates;
  segue__detached detached;
  segue__module_record **items;
  size_t count;
  /* drain.c */
  segue__draining *draining;
  size_t swapping; /* of them: replaced by swap; the answer waits until they have stopped */
  /* Called when an old instance was destroyed; NULL: no caller waits. */
  void (*drained_cb)(void *data);
  void *drained_data;
};

#endif
