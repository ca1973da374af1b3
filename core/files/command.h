/* SPDX-License-Identifier: MIT
 *
 * command.h: the check and apply commands of a files module: run under a time limit, tried again
 * where that is declared, and reported by exit code and the last lines of the output. Control
 * thread.
 */
#ifndef SEGUE_FILES_COMMAND_H
#define SEGUE_FILES_COMMAND_H

#include "../os/loop.h"
#include "../os/mem.h"
#include "../os/os.h"

/* The words of a command. One word alone is a line for the shell. */
typedef struct segue__file_command {
  char **words;
  size_t count;
} segue__file_command;

typedef struct segue__file_command_run segue__file_command_run;

/* Everything is copied but cb's data. */
typedef struct segue__file_command_options {
  size_t size;
  segue__loop *loop;
  const segue__os *os;
  const char *title; /* "check", "apply": for messages */
  const segue__file_command *command;
  const segue__file_command *shown; /* in messages, in place of command; NULL: command */
  const char *folder;               /* in which it runs; NULL: this process's */
  uint64_t timeout_ms;
  uint64_t times, pause_ms; /* how often it is tried again after a failure; the pause doubles */
  /* Runs once, never before start returned. status 0: it has succeeded. */
  void (*cb)(void *data, int status, const segue_error *error);
  void *data;
} segue__file_command_options;

/* On failure cb does not run. *out is valid until cb runs. */
int segue__file_command_start(segue__file_command_run **out,
                              const segue__file_command_options *options, segue_error *err);
/* Stops the command; cb runs with SEGUE_ECANCELLED when it is gone. NULL allowed. */
void segue__file_command_stop(segue__file_command_run *run);

/* The command is not tried again: a pause before the next try ends at once, with SEGUE_ECANCELLED.
 * A process that runs may end by itself. NULL allowed. */
void segue__file_command_hurry(segue__file_command_run *run);

int segue__file_command_copy(segue__file_command *out, const segue__file_command *from);
void segue__file_command_clear(segue__file_command *command);
/* "nginx -t": as it would be typed, for messages. */
void segue__file_command_shown(const segue__file_command *command, segue__buf *out);

#endif
