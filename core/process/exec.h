/* SPDX-License-Identifier: MIT
 *
 * exec.h: the child of `segue exec` as a module of the policy. It starts when the modules that were
 * declared have committed the first generation; in later reloads it is signalled or restarted as
 * one step of the change set, so a plan lists it, a probe checks it, and an undo reloads it again
 * with the previous files. The child outlives the instances of the module. Control thread.
 */
#ifndef SEGUE_PROCESS_EXEC_H
#define SEGUE_PROCESS_EXEC_H

#include "../reload/policy.h"
#include "process.h"

typedef struct segue__exec segue__exec;

/* Options of the command line, which replace those of the policy. */
typedef struct segue__exec_flags {
  bool reload_given, splay_given;
  int reload_signal; /* 0: none */
  int kill_signal;   /* 0: not given */
  uint64_t kill_ms;  /* 0: not given */
  uint64_t splay_ms;
} segue__exec_flags;

/* Everything is borrowed until segue__exec_close. */
typedef struct segue__exec_setup {
  size_t size; /* sizeof(segue__exec_setup) */
  const char *const *argv;
  segue__exec_flags flags;
  const segue__terminal *terminal; /* NULL: none */
  int watcher;                     /* as in segue__process_options */
  /* Gets the exit code that a shell would report: the child's, 128 and the signal that ended it,
   * 127 or 126 if it could not be run. Stays as it is as long as none of these has happened. */
  int *code;
  void (*on_end)(
      void *data); /* the child has ended by itself, and no reload can be undone for it */
  void *data;
} segue__exec_setup;

int segue__exec_new(segue__exec **out, segue__loop *loop, const segue__logger *log,
                    const segue__os *os, const segue__exec_setup *setup);
/* Adds the module "exec" to a policy that was loaded. */
int segue__exec_join(segue__exec *exec, segue__policy *policy, segue__errors *errors);
/* NULL: it is closed. */
segue__process *segue__exec_process(const segue__exec *exec);
/* When the engine is freed, before the loop closes. A child that runs is killed. NULL allowed. */
void segue__exec_close(segue__exec *exec);

#endif
