/* SPDX-License-Identifier: MIT
 *
 * spawn_exec.h: the system calls that start a child, without waiting for it. spawn.c and it alone.
 */
#ifndef SEGUE_OS_SPAWN_EXEC_H
#define SEGUE_OS_SPAWN_EXEC_H

#include <sys/types.h>

#include "spawn.h"

typedef struct segue__child {
  pid_t pid;
  int pidfd;
  int output[2]; /* read ends, non-blocking; -1: joined */
} segue__child;

/* On failure nothing is held. */
int segue__child_start(const segue__spawn_options *options, segue__child *out, segue_error *err);

/* spawn_user.c: as options->user, which posix_spawn cannot do. ends: of standard output and error.
 * *in_folder: it is the folder that the user may not enter. */
int segue__child_spawn_as(const char *program, int input, const int ends[2],
                          const segue__spawn_options *options, pid_t *pid, bool *in_folder);

#endif
