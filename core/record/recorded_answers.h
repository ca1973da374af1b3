/* SPDX-License-Identifier: MIT
 *
 * recorded_answers.h: the answers that a policy gets from commands, requests and files while an
 * incident is recorded, so that a replay can give the same ones. The binding adds them, the admin
 * API takes them reload by reload. Bounded in bytes: an answer that does not fit is left out by
 * name. Control thread. NULL answers are allowed where nothing can be recorded (a host without a
 * policy).
 */
#ifndef SEGUE_RECORD_RECORDED_ANSWERS_H
#define SEGUE_RECORD_RECORDED_ANSWERS_H

#include "../os/mem.h"

#include <stdbool.h>

/* Of the answers between two recorded reloads, and of one answer. */
#define SEGUE__ANSWERS_BYTES ((size_t)8 << 20)

typedef struct segue__policy_answer {
  uint64_t number;   /* in the order of asking */
  bool running;      /* asked while a reload ran, not by a task of the policy between two reloads */
  const char *kind;  /* "segue.run"; static */
  segue__buf key;    /* the command, or the method and URL, or the path */
  segue__buf events; /* a JSON list: for each event a list of values */
  bool left_out;     /* the events are too large: there are none */
  bool abandoned;    /* nothing waited for the end any more */
  uint64_t ms;       /* from the request to the end */
  struct segue__policy_answer *next;
} segue__policy_answer;

typedef struct segue__answers segue__answers;

int segue__answers_new(segue__answers **out);
void segue__answers_free(segue__answers *answers);

/* on: answers are kept from now on; else all are freed and none is kept. */
void segue__answers_keep(segue__answers *answers, bool on);
/* Returns whether they are. */
bool segue__answers_kept(const segue__answers *answers);
/* A reload runs, or none does. */
void segue__answers_running(segue__answers *answers, bool running);

/* A request begins. NULL: nothing is recorded, or there is no memory; then it counts as left
 * out. */
segue__policy_answer *segue__answers_ask(segue__answers *answers, const char *kind);
/* Frees an answer that must not be kept. */
void segue__answers_drop(segue__policy_answer *answer);
/* Takes the answer. */
void segue__answers_add(segue__answers *answers, segue__policy_answer *answer);
/* Frees those of a reload that is not recorded. */
void segue__answers_forget(segue__answers *answers);
/* Writes the members "answers" and, if there is a reason, "answers_left_out", and frees them. */
void segue__answers_take(segue__answers *answers, segue__buf *out);

#endif
