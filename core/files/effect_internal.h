/* SPDX-License-Identifier: MIT
 *
 * effect_internal.h: what effect.c shares with the three kinds of effects.
 */
#ifndef SEGUE_FILES_EFFECT_INTERNAL_H
#define SEGUE_FILES_EFFECT_INTERNAL_H

#include "../http/fetch.h"
#include "../os/claim.h"
#include "../os/environment.h"
#include "effect.h"

/* start: begins a try, which ends by one segue__effect_tried, never before start returned. On
 * failure it is not called. stop: the try ends soon. */
typedef struct segue__effect_kind {
  int (*start)(segue__effect_run *run, segue_error *err);
  void (*stop)(segue__effect_run *run);
} segue__effect_kind;
extern const segue__effect_kind segue__effect_command, segue__effect_signal, segue__effect_request;

/* effect_work.c: blocking work of a try, with the time limit of the effect. */
typedef struct segue__effect_work segue__effect_work;
typedef struct segue__effect_work_options {
  const char *what; /* in the message of a work that is late: "signal" */
  int (*run)(segue__effect_work *work, segue_error *err); /* on a worker; no field of the run */
  void (*done)(segue__effect_run *run, segue__effect_work *work);
} segue__effect_work_options;
struct segue__effect_work {
  segue__job job;
  segue__effect_work_options options;
  segue__effect_run *run; /* NULL: it no longer waits */
  segue__claim claim;     /* taken by run, right before it changes something */
  segue__effect effect;   /* a copy */
  segue__user_entry user; /* out */
  int status;
  segue_error error;
};
/* Ends by done, or by segue__effect_tried where it is late or stopped. On failure neither. */
int segue__effect_work_start(segue__effect_run *run, const segue__effect_work_options *options,
                             segue_error *err);
void segue__effect_work_stop(segue__effect_run *run);

struct segue__effect_run {
  segue__effect_options options; /* effect and shown are not used */
  segue__effect effect, shown;
  const segue__effect_kind *kind;
  segue__timer timer;
  uint64_t tried, since_ms;
  bool stopped;
  /* Of the kinds. */
  segue__effect_work *work; /* under way; looks up the user, or sends the signal */
  segue__timer limit;       /* of it */
  int status;               /* of a request that has ended */
  segue_error error;
  segue__spawn *spawn;
  segue__user_entry user;
  segue__environment environment;
  char **changes; /* of the environment */
  segue__buf output;
  segue__fetcher *fetcher;
  segue__fetch *fetch;
  segue__message message;
  bool fetching;                /* outside has the request */
  segue__policy_answer *answer; /* of this try; NULL: it is not recorded */
  uint64_t asked_ms;
};

/* effect_record.c: the outcome of a try in a recording. ask: it begins. Each kind notes the
 * outcome; the first note counts. number is the exit code or the status. */
void segue__effect_ask(segue__effect_run *run);
void segue__effect_note(segue__effect_run *run, int number, int term_signal, bool timed_out,
                        const char *output, size_t len);
void segue__effect_note_failure(segue__effect_run *run, const segue_error *error);
void segue__effect_answered(segue__effect_run *run); /* it has ended */
/* The question to outside; *shown gets the text, which the caller frees after the use. */
segue__effect_asked segue__effect_asked_of(const segue__effect_run *run, segue__buf *shown);

void segue__effect_tried(segue__effect_run *run, int status, const segue_error *error);
/* Begins a message: "apply command nginx -s reload". */
void segue__effect_begin_message(const segue__effect_run *run, const char *what, segue__buf *out);
/* Ends it: appends how long it took, fills err, frees text. Returns code. */
int segue__effect_end_message(const segue__effect_run *run, int code, segue__buf *text,
                              segue_error *err);

#endif
