/* SPDX-License-Identifier: MIT
 *
 * pid_file.h: sends a signal to the process that a pid file names, if that is the process that is
 * meant. A pid file outlives a server that crashed, and its number may belong to any other process
 * by then. Blocks: for a worker. [any thread]
 */
#ifndef SEGUE_OS_PID_FILE_H
#define SEGUE_OS_PID_FILE_H

#include <stddef.h>

#include "../segue.h"
#include "claim.h"

/* All is borrowed. */
typedef struct segue__pid_file_options {
  size_t size; /* sizeof(segue__pid_file_options) */
  const char *path;
  const char *name; /* of the process or of its program; NULL: any, unless the process is obviously
                       another one */
  int signum;
  segue__claim *claim; /* taken right before the signal is sent; NULL: none */
} segue__pid_file_options;
/* *pid gets the process that was signalled. err names the file and the process: UV_ENOENT no file,
 * UV_EINVAL no number in it, UV_ESRCH no such process, UV_EPERM another user's process,
 * SEGUE_EUSAGE another process; SEGUE_ECANCELLED the claim is cancelled. */
int segue__pid_file_signal(const segue__pid_file_options *options, int *pid, segue_error *err);

#endif
