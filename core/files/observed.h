/* SPDX-License-Identifier: MIT
 *
 * observed.h: reports to the observers of the engine (event streams): the files that a set has
 * written, and the end of each command, signal or request. A plan and a rehearsal report nothing.
 * Control thread.
 */
#ifndef SEGUE_FILES_OBSERVED_H
#define SEGUE_FILES_OBSERVED_H

#include "../segue.h"
#include "module.h"

/* The set of the instance is live from this generation on. */
void segue__observed_written(const segue__file_instance *instance, uint64_t generation);
/* step: a constant: "check", "apply" or "undo". error NULL: the effect has succeeded. */
void segue__observed_ran(const segue__file_instance *instance, const char *step,
                         const segue__effect *effect, uint64_t ms, const segue_error *error);

#endif
