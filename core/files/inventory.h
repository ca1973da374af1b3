/* SPDX-License-Identifier: MIT
 *
 * inventory.h: the rendered files of an instance of segue, for answers: what is in place since
 * which generation, and how the last apply ended. Control thread; the files are read on the worker.
 */
#ifndef SEGUE_FILES_INVENTORY_H
#define SEGUE_FILES_INVENTORY_H

#include "../record/file_report.h"
#include "../segue.h"
#include "module.h"

typedef enum segue__file_step {
  SEGUE__FILE_CHECK,
  SEGUE__FILE_APPLY,
  SEGUE__FILE_UNDO,
  SEGUE__FILE_STEPS
} segue__file_step;

/* Each of these keeps less, and fails nothing, without memory. */
/* The set begins to replace files, or has ended that. */
void segue__inventory_changing(segue__file_instance *instance, bool changing);
/* The set is the live one of its module. */
void segue__inventory_settled(segue__file_instance *instance, uint64_t generation);
/* The set was not put in place; error NULL: it is good. */
void segue__inventory_prepared(segue__file_instance *instance, const segue_error *error);
/* An apply or an undo has begun; it has ended by this effect, with an error or NULL. */
void segue__inventory_apply_begin(segue__file_instance *instance);
void segue__inventory_apply_end(segue__file_instance *instance, const segue__effect *effect,
                                bool undo, const segue_error *error);
/* A check, an apply or an undo has ended, after this time. Counts it. */
void segue__inventory_ran(segue__file_instance *instance, segue__file_step step, bool good,
                          uint64_t ms);
/* Reports to the observers of the engine (event streams): the files that the set has written, from
 * this generation on; an effect that has ended, with an error or NULL. step: a constant: "check",
 * "apply" or "undo". A plan and a rehearsal report nothing. */
void segue__inventory_notify_written(const segue__file_instance *instance, uint64_t generation);
void segue__inventory_notify_ran(const segue__file_instance *instance, const char *step,
                                 const segue__effect *effect, uint64_t ms,
                                 const segue_error *error);
/* Appends the metrics of the module. */
void segue__inventory_metrics(const segue__file_instance *instance, segue__buf *out);
/* The instance is destroyed: if it is the live one, its module has no files any more, unless it
 * could not be undone. */
void segue__inventory_remove(segue__file_instance *instance);

#endif
