/* SPDX-License-Identifier: MIT
 *
 * effect.h: what a files module does besides its files: it runs a command, sends a signal to the
 * process of a pid file, or sends an HTTP request. An effect is plain data that its options fill;
 * intents contain it as JSON. A run of it has a time limit, tries again where that is declared, and
 * reports its real outcome, which is recorded for an incident. In a rehearsal effects go to the
 * author of the spec. Control thread.
 */
#ifndef SEGUE_FILES_EFFECT_H
#define SEGUE_FILES_EFFECT_H

#include "../options/options.h"
#include "../os/loop.h"
#include "../os/mem.h"
#include "../os/os.h"
#include "../record/recorded_answers.h"

typedef struct segue__effect_texts {
  char **items;
  size_t count;
} segue__effect_texts;

typedef struct segue__effect_pairs {
  segue_option_pair *items;
  size_t count;
} segue__effect_pairs;

/* One of four: a command (argv or shell), a signal (pidfile), a request (url), a function of the
 * policy (call). Strings are owned. */
typedef struct segue__effect {
  segue__effect_texts argv;
  char *shell;
  segue__effect_pairs env;
  char *user, *group, *folder; /* folder NULL: that of the policy */
  uint64_t kill_ms;
  char *pidfile, *name;
  int signal; /* index of the choice */
  char *url, *method, *body, *unix_socket, *ca, *cert, *key;
  segue__effect_pairs headers;
  bool verify;
  uint64_t timeout_ms; /* 0: that of the module */
  int call;            /* a function of the policy; has_call: it is given */
  bool has_call;
} segue__effect;

/* The options of a check (a command), of apply, and of undo (which may be a function). */
extern const segue_option_table segue__check_options, segue__apply_options, segue__undo_options;

/* Whether it does anything outside of the policy. */
bool segue__effect_any(const segue__effect *effect);
/* Copies the effect; folder and timeout_ms, the values of the module, are the defaults. On failure
 * *out needs no clear. */
int segue__effect_copy(const segue__effect *effect, const char *folder, uint64_t timeout_ms,
                       segue__effect *out, segue_error *err);
/* Appends the effect as JSON that read reads; of a function or of none "{}". */
void segue__effect_write(const segue__effect *effect, segue__buf *json);
/* json NULL: no effect. On failure *out needs no clear. */
int segue__effect_read(const char *json, segue__effect *out, segue_error *err);
void segue__effect_clear(segue__effect *effect); /* zeroed or read */
/* "nginx -t": as it would be typed, for messages; never a header, a body or the environment. */
void segue__effect_shown(const segue__effect *effect, segue__buf *out);

/* Appends the lines of an output that name the cause: ": LINE; LINE ...". */
void segue__effect_add_lines(const segue__buf *output, segue__buf *out);

typedef struct segue__effect_run segue__effect_run;

/* A try of an effect in a rehearsal. All is borrowed. */
typedef struct segue__effect_asked {
  const char *module, *title; /* title: "check", "apply", "undo" */
  const char *shown;          /* as segue__effect_shown writes it */
  const segue__effect *effect;
} segue__effect_asked;

/* The outside world of a rehearsal. Each function ends as the real one does: by on_exit, by
 * on_done, by done, later; on failure by none of them. */
typedef struct segue__fetch_options segue__fetch_options;
typedef struct segue__effect_outside {
  int (*spawn)(void *data, const segue__effect_asked *asked, const segue__spawn_options *options,
               segue__spawn **out, segue_error *err);
  int (*fetch)(void *data, const segue__effect_asked *asked, const segue__fetch_options *options,
               segue_error *err);
  void (*forget)(void *data,
                 const void *whose); /* options.data of a fetch: it ends without on_done */
  int (*signal)(void *data, const segue__effect_asked *asked,
                void (*done)(void *done_data, int status, const segue_error *error),
                void *done_data, segue_error *err);
  void *data;
} segue__effect_outside;

/* Everything is copied but cb's data. */
typedef struct segue__effect_options {
  size_t size;
  segue__loop *loop;
  const segue__os *os;
  const segue__effect_outside *outside; /* NULL: effects are real */
  segue__answers *answers;              /* NULL: the outcome is not recorded */
  const char *module;                   /* for outside; must outlive the run */
  const char *title;                    /* "check", "apply", "undo": for messages; a constant */
  const segue__effect *effect;
  const segue__effect *shown; /* in messages, in place of effect; NULL: effect */
  bool kill_rest;             /* processes that a command leaves in its group are ended with it */
  uint64_t times, pause_ms;   /* how often it is tried again after a failure; the pause doubles */
  /* Runs once, never before start returned. status 0: it has succeeded. */
  void (*cb)(void *data, int status, const segue_error *error);
  void *data;
} segue__effect_options;

/* On failure cb does not run. *out is valid until cb runs. */
int segue__effect_start(segue__effect_run **out, const segue__effect_options *options,
                        segue_error *err);
/* Ends the effect; cb runs with SEGUE_ECANCELLED when it has ended. NULL allowed. */
void segue__effect_stop(segue__effect_run *run);
/* The effect is not tried again: a pause before the next try ends at once, with SEGUE_ECANCELLED. A
 * try that runs may end by itself. NULL allowed. */
void segue__effect_hurry(segue__effect_run *run);

#endif
