/* SPDX-License-Identifier: MIT
 *
 * exec.h: `segue exec`: the parts of it that are about this process: its terminal, the signals that
 * it passes to the child, and its exit code. The child itself is a module (core/process/exec.h).
 */
#ifndef SEGUE_DAEMON_EXEC_H
#define SEGUE_DAEMON_EXEC_H

#include <uv.h>

#include "../process/exec.h"
#include "cli.h"

enum { SEGUE__EXEC_SIGNALS = 5 };

/* Zeroed: `segue run`, where every function below does nothing. */
typedef struct segue__exec_mode {
  bool on;
  int code; /* of the child; -1: there is none yet */
  segue__terminal *terminal;
  segue__exec_setup setup;
  segue *instance;
  uv_signal_t handles[SEGUE__EXEC_SIGNALS];
  bool open;
} segue__exec_mode;

/* Reads the options and forks the watcher. Before threads start. Returns 0, or prints the mistake
 * and returns the exit code. on_end: the child has ended, and segue stops. */
int segue__exec_mode_init(segue__exec_mode *mode, const segue__cli *cli, void (*on_end)(void *data),
                          void *data);
int segue__exec_mode_open(segue__exec_mode *mode, uv_loop_t *loop);
/* Between segue_new and segue_start. */
void segue__exec_mode_attach(segue__exec_mode *mode, segue *instance);
/* Passes a signal to the child. Returns false if no child runs. */
bool segue__exec_mode_pass(segue__exec_mode *mode, int signum);
/* KILL for the child and its group, because this process ends at once. */
void segue__exec_mode_kill(segue__exec_mode *mode);
/* The loop must run once more after this call. */
void segue__exec_mode_close(segue__exec_mode *mode);
void segue__exec_mode_deinit(segue__exec_mode *mode);
/* The exit code of this process. exit_code: that of segue; signum: what stopped it, or 0. */
int segue__exec_mode_code(const segue__exec_mode *mode, int exit_code, int signum);

#endif
