/* SPDX-License-Identifier: MIT
 *
 * child_exec.h: the system calls that start a child. For child.c.
 */
#ifndef SEGUE_OS_CHILD_EXEC_H
#define SEGUE_OS_CHILD_EXEC_H

#include <limits.h>
#include <sys/types.h>

#include "child.h"

typedef struct segue__executed {
  pid_t pid;
  int pidfd;
  int output[2]; /* read ends, non-blocking; -1: not streamed */
} segue__executed;

/* open_files: the soft limit of open files; 0: ours. notify: the value of NOTIFY_SOCKET, or NULL.
 * Returns when the program is executed. On failure nothing is held. */
int segue__child_execute(const segue__child_options *options, uint64_t open_files,
                         const char *notify, segue__executed *out, segue_error *err);

/* child_program.c: the file that argv[0] means. */
typedef struct segue__executable {
  char path[PATH_MAX]; /* as this process sees it */
  size_t skip;         /* of path, for the child: it is in its folder already when it executes */
} segue__executable;
/* Also checks that the working folder exists. */
int segue__executable_find(const segue__child_options *options, segue__executable *out,
                           segue_error *err);
/* Sets err for exec's own failure although the file was there; returns code. */
int segue__executable_error(segue_error *err, int code, const char *path);
int segue__child_folder_error(segue_error *err, int code, const segue__child_options *options);

/* child_env.c: the environment. */
typedef struct segue__child_env {
  const char **entries; /* NULL-terminated */
  char *owned[6];       /* entries that were made for the child */
  char *pid_digits[2];  /* where the child writes its own process id; NULL: nowhere */
} segue__child_env;
/* Fails with UV_EINVAL for a name of a descriptor that cannot be announced. */
int segue__child_env_make(const segue__child_options *options, const char *notify,
                          segue__child_env *out, segue_error *err);
void segue__child_env_free(segue__child_env *env);

#endif
