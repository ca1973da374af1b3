/* SPDX-License-Identifier: MIT
 *
 * decisions.h: the operator's decisions, which a crash must not undo: a freeze, a generation that
 * waits to be confirmed, a rollback that stays. Small, in two state files: state.a and state.b.
 * Blocks: for the record thread. The value is text, a line for each fact: name, "=", value, with
 * "\\", "\n" escaped; unknown names are ignored. The lines of the journal of effects follow.
 *
 * Clocks. A process measures time with the monotonic clock: deadlines to confirm, holds of probes,
 * back-off, limits of hooks. Setting the wall clock changes none of them, and a machine that sleeps
 * stops them. Two times are compared after a restart and are wall time: the deadline to confirm,
 * the age of the last good generation. While the process lives, the deadline that is recorded
 * follows the monotonic one (segue__engine_tick), so that a clock that was set meanwhile moves it
 * too; only a change of the clock while no daemon runs has an effect. If the clock was set forward
 * past the deadline, the start reverts the generation; if it was set back, the window is never
 * longer than the policy allows.
 */
#ifndef SEGUE_RECORD_DECISIONS_H
#define SEGUE_RECORD_DECISIONS_H

#include "../config/tree.h"
#include "journal.h"
#include "two_slot_file.h"

typedef struct segue__decisions segue__decisions;
struct segue__decisions {
  bool frozen;
  int64_t frozen_wall_ms;
  char frozen_by[128], frozen_why[256];
  /* A generation that is live and not confirmed yet: reverted if the deadline passes, also while no
   * daemon runs. */
  bool unconfirmed;
  uint64_t unconfirmed_generation;
  segue__hash unconfirmed_raw; /* of the sources that it was made from */
  int64_t unconfirmed_until_wall_ms;
  /* The reload that made it. Its number was answered already, so the history of the next process
   * has it too. */
  uint64_t unconfirmed_reload; /* 0: not known, an older version has written it */
  unsigned unconfirmed_trigger;
  int64_t unconfirmed_wall_ms; /* when it began */
  char unconfirmed_cause[448]; /* its trigger in words */
  /* If it is a rollback: its target (else 0), and the hash of the sources at that time. */
  uint64_t unconfirmed_restores;
  segue__hash unconfirmed_sources;
  /* A generation of these sources was live and was reverted: it does not go live again before they
   * change, unless by force. */
  bool reverted;
  uint64_t reverted_generation, reverted_reload;
  segue__hash reverted_raw;
  char reverted_why[512];
  /* The content of the sources was undone (rolled back from, or not confirmed): it does not go live
   * by itself. */
  bool pinned;
  uint64_t pinned_generation; /* the generation that replaced it */
  segue__hash pinned_raw;     /* of the sources that were left */
  /* When the last good generation was last found equal to the sources; 0: when it went live. */
  int64_t good_wall_ms;
};

#define SEGUE__DURABLE_MAGIC "SEGUEST1"

/* journal: the lines of the open intents (journal.h), which are part of the same write; NULL: none.
 */
int segue__decisions_write(segue__two_slot_file *state_file, const segue__decisions *state,
                           const segue__buf *journal);
/* UV_ENOENT: there is none, *state is zeroed. Adds the intents to *journal. */
int segue__decisions_read(segue__two_slot_file *state_file, segue__decisions *state,
                          segue__journal *journal);

#endif
