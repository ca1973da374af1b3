/* SPDX-License-Identifier: MIT
 *
 * action.h: an action is what a change set does to one module, as a table of operations. Every step
 * of a plan has one. The engine walks the steps and calls the operations; nothing else in it
 * depends on which action a step has.
 *
 * The order of calls for one step:
 * - prepare builds the next state beside the live one; nothing of it is visible.
 * - commit does all of the change but the flip, in which readers and callers of every module meet
 *   the new generation at once.
 * - settle: the new generation is permanent. It releases what undo would have needed.
 * - undo, instead of settle: the previous state is back before it ends, however far commit has
 *   come, and after the flip too.
 *
 * undo is called for each step whose commit was called, in the reverse order of the commits; a step
 * that was only prepared is released without it.
 *
 * An action that changes something outside of memory (files, another process) has two more
 * operations. The engine calls intend after every prepare, right before the commits, and has all
 * intents on disk before the first commit (core/record/journal.h). If the process is killed then,
 * recover of the next process finishes the change or undoes it, before anything is served. recover
 * may meet any point of commit, undo and of an earlier recover, so it must be able to run twice.
 *
 * prepare, commit: each ends by one segue__step_done. undo ends by one segue__undo_done. Both may
 * be called before the operation returns. settle does not wait and cannot fail. Control thread.
 */
#ifndef SEGUE_RELOAD_ACTION_H
#define SEGUE_RELOAD_ACTION_H

#include "../module/module.h"
#include "../os/log.h"
#include "../os/loop.h"
#include "../os/os.h"
#include "../record/file_change.h"
#include "../record/journal.h"
#include "../segue.h"

typedef struct segue__step segue__step;
typedef struct segue__recovery segue__recovery;

/* Returned by intend: this step changes nothing outside memory. */
#define SEGUE__NO_EFFECTS 1

typedef struct segue__action {
  const char *name;    /* in plans, answers and the history */
  const char *untried; /* the words for it in a plan, which does not do it; NULL: it does nothing */
  bool builds;         /* it makes an instance, which is live after the flip */
  bool keeps;          /* the instance that is live stays */
  /* It reads what other modules change outside of memory: its commit comes after those of all
   * others, also of modules that are dropped, and its undo comes after their undos, when their
   * previous state is back. */
  bool last;
  /* Whether the prepared step changes something outside of memory that others read. NULL: no. */
  bool (*changes)(const segue__step *step);
  void (*prepare)(segue__step *step); /* NULL: there is nothing to prepare */
  void (*commit)(segue__step *step);  /* NULL: the flip is all of it */
  void (*undo)(segue__step *step);
  /* The process stops: commit or undo, if it runs or will, ends soon. Called at any time after the
   * step has an instance. NULL: neither waits for long. */
  void (*hurry)(segue__step *step);
  void (*settle)(segue__step *step); /* NULL: there is nothing to release */
  /* Called after settle, when the state folder has the generation and no intent any more: releases
   * what recover would have needed. Until then the process may be killed, and the next one undoes
   * the change. recorded false: the state folder could not be written, so that is still so. NULL:
   * nothing is kept for recover. */
  void (*close)(segue__step *step, bool recorded);
  /* NULL: no effects outside memory. SEGUE__NO_EFFECTS: none this time. Adds fields to the intent:
   * "does" (one sentence, for log and answers), and all that recover needs. On failure *error may
   * have the reason. */
  int (*intend)(segue__step *step, segue__intent *intent, segue_error *error);
  void (*recover)(segue__recovery *recovery); /* ends by one segue__recovery_done */
  /* Moves the files that the step changes into *out, for the result. Called once, after prepare or
   * its failure, before settle and undo; step->next may be NULL. NULL: it changes none. */
  void (*report)(segue__step *step, segue__file_changes *out);
} segue__action;

/* An intent that a process left behind. finish: its generation is the last good one, so the change
 * is completed; else the previous state is brought back. */
struct segue__recovery {
  segue__loop *loop;
  const segue__os *os;
  const segue__logger *log;
  const segue__intent *intent;
  bool finish;
  void *data; /* the action's */
};
void segue__recovery_done(segue__recovery *recovery, int status, const segue_error *error);

extern const segue__action segue__action_keep, segue__action_add, segue__action_swap,
    segue__action_handover, segue__action_restart, segue__action_remove;

/* The operation has ended: status 0, or negative with the reason. error NULL: the transaction has
 * failed already, or the step was cancelled. */
void segue__step_done(segue__step *step, int status, const segue_error *error);

/* For actions of other folders. next, old: the instances; NULL: there is none. data: a pointer that
 * is the action's; NULL until it is set. */
segue__instance *segue__step_next(const segue__step *step);
const segue__instance *segue__step_old(const segue__step *step);
const char *segue__step_module_name(const segue__step *step);
const segue__module_spec *segue__step_spec(const segue__step *step); /* NULL: it is removed */
const segue_snapshot *segue__step_next_snapshot(const segue__step *step);
bool segue__step_plans(const segue__step *step); /* of a plan: nothing goes live */
/* Returns whether another module changes something outside of memory and does not apply that
 * itself (segue__module_spec.unapplied). */
bool segue__step_follows_change(const segue__step *step);
void segue__step_set_data(segue__step *step, void *data);
void *segue__step_data(const segue__step *step);

/* Operations for use in tables. build makes the next instance and prepares it; start starts it.
 * Each ends by segue__step_done. */
void segue__step_build(segue__step *step);
void segue__step_start(segue__step *step);
/* Undoes both: the next instance stops, or drains in the background if it has served. Ends by
 * segue__undo_done. */
void segue__step_unstart(segue__step *step);
/* For settle: the old instance drains in the background. */
void segue__step_retire(segue__step *step);
/* For settle of a step that drops its module: the same, and the module goes with its last
 * instance. */
void segue__step_remove(segue__step *step);
/* Undo went wrong: the module counts as failed, its gate refuses, and its intent stays in the
 * journal. Ends the undo. */
void segue__step_undo_failed(segue__step *step, const segue_error *error);

#endif
