/* SPDX-License-Identifier: MIT
 *
 * drift.h: changes by other programs, as the transaction sees them. Control thread.
 */
#ifndef SEGUE_RELOAD_DRIFT_H
#define SEGUE_RELOAD_DRIFT_H

#include "engine_state.h"

/* A module was replaced, or its files are as they were: nothing is known against it. */
void segue__drift_clear(segue__module_record *module);
/* Returns whether the next run has a module to replace for it. */
bool segue__drift_replaces(const segue__engine *engine);

#endif
