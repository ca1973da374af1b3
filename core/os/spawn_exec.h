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

/* files: its soft limit of open files; 0: ours. On failure nothing is held. */
int segue__child_start(const segue__spawn_options *options, uint64_t files, segue__child *out,
                       segue_error *err);

/* spawn_user.c: as options->user and with a limit of files, which posix_spawn cannot do. */
typedef struct segue__child_plan {
  const char *program;
  const segue__spawn_options *options;
  int input, ends[2]; /* standard input; output and error */
  uint64_t files;
  bool in_folder; /* what failed: the folder that the user may not enter */
} segue__child_plan;
int segue__child_spawn_as(segue__child_plan *plan, pid_t *pid);

#endif
