/* SPDX-License-Identifier: MIT
 *
 * writer.h: the state folder, which outlives the process: the last good generation, the operator's
 * decisions, the numbers, the history. The record thread does all reading and writing, so that the
 * loop never waits for a disk; a caller that waits for a write passes a call. Control thread
 * throughout.
 *
 * Writes that a run waits for (the last good generation, the decisions, the numbers) go before the
 * others (the history and questions about it), which keep the order of their requests.
 */
#ifndef SEGUE_RECORD_WRITER_H
#define SEGUE_RECORD_WRITER_H

#include "../os/loop.h"
#include "decisions.h"
#include "history.h"
#include "last_good.h"
#include "numbers.h"
#include "result.h"

typedef struct segue__record segue__record;

typedef struct segue__record_options {
  size_t size;
  segue__loop *loop;
  const segue__logger *log;
  const char *folder;  /* the state folder, which exists */
  const segue__os *os; /* below the record's own os, which runs read through; NULL: default */
  const char *pass;    /* see segue__inputs_new */
  /* A result as JSON for the history. */
  void (*render)(segue__buf *out, const segue__result *result, bool detail);
} segue__record_options;

/* The answer of a call. Borrowed while cb runs; a field that is a reference may be taken by setting
 * it to NULL. */
typedef struct segue__record_answer {
  int status;      /* 0 or a negative code */
  uint64_t number; /* of the generation that files belong to, or whose reload is not kept */
  segue_error error;
  segue__buf text;          /* JSON of a question */
  segue__files *files;      /* a reference */
  segue_snapshot *snapshot; /* a reference */
  segue__file_changes changes;
} segue__record_answer;

/* Caller's memory, in use until cb ran or segue__record_forget. */
typedef struct segue__record_call segue__record_call;
struct segue__record_call {
  void (*cb)(segue__record_call *call, segue__record_answer *answer);
  void *data;
  struct segue__record_task *task;
};
void segue__record_forget(segue__record_call *call); /* cb will not run; harmless when it did */

/* The content of the state folder when it was opened. */
typedef struct segue__record_contents {
  segue__decisions state;
  segue__journal journal;      /* open intents of a process that has ended */
  segue__last_good last_good;  /* generation 0: none */
  uint64_t generation, reload; /* the highest numbers that were given, or may have been */
  segue__numbers reserved;     /* for this process; equal to the two above: the disk refused */
} segue__record_contents;

/* Opens all files, which blocks: for a start. A file that is damaged or cannot be opened is logged
 * and not used; only out of memory fails. */
int segue__record_new(segue__record **out, const segue__record_options *options);
/* Finishes all tasks first. NULL allowed. */
void segue__record_free(segue__record *record);
const segue__record_contents *segue__record_found(const segue__record *record);
/* Moves the journal that was found to its owner. */
void segue__record_take_journal(segue__record *record, segue__journal *out);

/* The os that loader and engine read through (inputs.h). */
segue__inputs *segue__record_inputs(segue__record *record);

/* Changes the bounds of the history. */
void segue__record_limit(segue__record *record, const segue__history_limits *limits);

/* Writes the decisions and the open intents in one write. call may be NULL. */
int segue__record_state(segue__record *record, const segue__decisions *state,
                        const segue__journal *journal, segue__record_call *call);

/* Writes the highest numbers that a later process must not assign again: the end of a block that
 * the caller reserves or, at its end, the numbers that it has assigned. call may be NULL. */
int segue__record_numbers(segue__record *record, const segue__numbers *numbers,
                          segue__record_call *call);

/* A run that has settled, or waits to be confirmed (result->unconfirmed): then it is passed again
 * when it has settled. segue__record_good writes snapshot as the last good generation, and answers
 * call when it is durable; segue__record_settled adds the run to the history. snapshot NULL: the
 * run made no generation. */
typedef struct segue__record_run {
  const segue__result *result;
  const segue_snapshot *snapshot;
  segue__hash input;
  segue__files *files; /* its files; NULL: not known. References are taken */
  const segue__changes *changes;
  const segue__source_counts *items; /* of each source of the policy; NULL: not known */
  bool fresh;   /* the first one of this process: the history finds out what changed */
  bool resumed; /* the generation that was recorded before: nothing new */
} segue__record_run;
int segue__record_good(segue__record *record, const segue__record_run *settled,
                       segue__record_call *call);
void segue__record_settled(segue__record *record, const segue__record_run *settled);

/* Adds a request to the admin API to the history. If the disk does not keep up, the entry is
 * dropped, which is logged. */
void segue__record_audit(segue__record *record, const segue__audit *audit);

/* Questions. UV_ENOENT: not kept. */
int segue__record_last_good(segue__record *record, segue__record_call *call); /* files */
int segue__record_reloads(segue__record *record, uint64_t limit, uint64_t before,
                          segue__record_call *call);                                      /* text */
int segue__record_reload(segue__record *record, uint64_t id, segue__record_call *call);   /* text */
int segue__record_audits(segue__record *record, uint64_t most, segue__record_call *call); /* text */
/* generation 0: the newest one before `live`. */
int segue__record_files(segue__record *record, uint64_t generation, uint64_t live,
                        segue__record_call *call);
int segue__record_snapshot(segue__record *record, uint64_t generation, segue__record_call *call);
/* Answers with the files that changed after generation `from` up to `to`, or, where `from` is the
 * later one, from it back to `to`, without the secrets of the mask; number is *missing of
 * segue__history_file_changes, and SEGUE_ELIMIT is its too. */
int segue__record_file_changes(segue__record *record, uint64_t from, uint64_t to,
                               const segue__mask *mask, segue__record_call *call);
int segue__record_why(segue__record *record, const char *path, size_t min_len, uint64_t until,
                      segue__record_call *call); /* text */

/* The folder belongs to another process now: nothing is written there any more. begin_anew: the
 * folder belongs to this process again and is empty; the decisions are written again, and a new
 * history is created. */
void segue__record_lose(segue__record *record);
void segue__record_begin_anew(segue__record *record, const segue__decisions *state,
                              const segue__journal *journal);

/* Waits until nothing is left to write; for specs and shutdown. */
void segue__record_flush(segue__record *record);

#endif
