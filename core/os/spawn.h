/* SPDX-License-Identifier: MIT
 *
 * spawn.h: runs a command under a time limit and captures its output; no process of it is left
 * behind. One use of child.h, where the start, the signals and the end of a child are described.
 * Control thread; needs a real loop.
 */
#ifndef SEGUE_OS_SPAWN_H
#define SEGUE_OS_SPAWN_H

#include "../segue.h"
#include "child.h"

typedef struct segue__spawn_output {
  const char *data; /* the first bytes, terminated past len; borrowed until the callback returns */
  size_t len;
  uint64_t total; /* bytes written by the child; more than len if the cap was reached */
} segue__spawn_output;

typedef struct segue__spawn_result {
  int status;      /* 0: the fields below count; UV_ECHILD: other code of this process reaped it */
  int exit_code;   /* -1 if a signal ended it */
  int term_signal; /* 0 if it exited */
  bool timed_out;  /* by our time limit */
  bool stopped;    /* by segue__spawn_stop */
  bool output_cut; /* it exited, but others kept its output open; they were not waited for */
  uint64_t duration_ms;
  segue__spawn_output output[2]; /* by segue__stream */
} segue__spawn_result;

#define SEGUE__SPAWN_CAPTURE 65536

/* Everything is copied. Zero means the default. */
typedef struct segue__spawn_options {
  size_t size;             /* sizeof(segue__spawn_options) */
  const char *const *argv; /* NULL-terminated; argv[0] with a slash is a path (relative to cwd),
                              else it is looked up in the PATH of env */
  const char *const *env;  /* NULL-terminated "NAME=value"; NULL: this process's */
  const char *cwd;         /* NULL: this process's */
  const segue__user *user; /* NULL: this process's; another one needs root */
  const void *input;       /* its standard input, all of it; NULL: empty */
  size_t input_len;
  uint64_t timeout_ms; /* 0: none */
  int stop_signal;     /* first signal at the time limit or stop; 0: SIGTERM */
  uint64_t kill_ms;    /* from the stop signal to SIGKILL */
  uint64_t linger_ms;
  size_t capture;   /* most bytes kept of each stream; SIZE_MAX: all */
  bool join_output; /* standard error goes into standard output, in order */
  bool kill_rest;   /* when it exits by itself its process group gets SIGKILL */
  /* Output as it comes; may be NULL. Must not stop the loop from turning for long. */
  void (*on_output)(void *data, segue__stream stream, const char *bytes, size_t len);
  /* Runs once, when the child is gone, its output is read and every handle is closed; never before
   * segue__spawn_start returned. The segue__spawn is freed after it. */
  void (*on_exit)(void *data, const segue__spawn_result *result);
  void *data;
} segue__spawn_options;

/* A running child. The head is open so that a replacement in a test can embed it. */
typedef struct segue__spawn segue__spawn;
struct segue__spawn {
  int pid;
  void (*stop)(segue__spawn *spawn);
  void (*pause)(segue__spawn *spawn, bool paused); /* may be NULL */
};

/* Starts the command. err names the program, or the folder, that is missing or not usable; then
 * on_exit never runs. At the time limit segue__child_stop is called. A command that exits by itself
 * leaves its process group alone, unless kill_rest is set: it may have started a daemon. */
int segue__spawn_start(segue__loop *loop, const segue__spawn_options *options, segue__spawn **out,
                       segue_error *err);
/* As if the time limit had passed. Does nothing when that is under way. */
void segue__spawn_stop(segue__spawn *spawn);
/* While paused its output is not read: the child waits as soon as its pipes are full. Time limits
 * continue. */
void segue__spawn_pause(segue__spawn *spawn, bool paused);

#endif
