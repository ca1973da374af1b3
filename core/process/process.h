/* SPDX-License-Identifier: MIT
 *
 * process.h: one child process at a time: start, signal, stop, start again. The end of each child
 * is reported. The child shares standard input, output and error and the terminal with this
 * process, or has what `child` of its options gives it. The system calls are those of
 * core/os/child.h. Control thread.
 */
#ifndef SEGUE_PROCESS_PROCESS_H
#define SEGUE_PROCESS_PROCESS_H

#include "../os/log.h"
#include "../os/loop.h"
#include "../os/os.h"
#include "terminal.h"

typedef struct segue__process segue__process;

typedef struct segue__process_options {
  size_t size;       /* sizeof(segue__process_options) */
  segue__loop *loop; /* borrowed, as the next two */
  const segue__os *os;
  const char *const *argv;         /* NULL-terminated */
  const segue__terminal *terminal; /* borrowed; NULL: none */
  /* Borrowed until on_closed. The options of a child that shares nothing with this process, and its
   * on_output, on_notice and on_refused; it has a session of its own. The fields that the other
   * options, the manner and the start set are ignored. NULL: the child shares the descriptors 0 to
   * 2, the session and the terminal. */
  const segue__child_options *child;
  /* 0: none. A pipe to a process that watches this one: an int with the process group of each child
   * that is started, and 0 when it has ended. */
  int watcher;
  /* Called after the child has ended and is reaped. The callback may start the next child. */
  void (*on_end)(void *data, const segue__child_exit *end);
  /* Called after on_end, when the output is read to its end; also after segue__process_free. NULL:
   * nothing waits for it. */
  void (*on_closed)(void *data);
  void *data;
} segue__process_options;

/* How a child is signalled. Zero: the defaults of child.h. */
typedef struct segue__process_manner {
  int kill_signal;
  uint64_t kill_ms;
  bool group;   /* signals go to the whole process group, and not to the child only */
  bool at_once; /* segue__process_reload does not wait for a handler */
} segue__process_manner;

/* A child that ignores no signal has the default action of most: a process that gets one before it
 * has installed its handler ends. So a signal of segue__process_reload waits that long for it. */
#define SEGUE__PROCESS_HANDLER_MS 10000

int segue__process_new(segue__process **out, const segue__process_options *options);
/* Call it only while no child runs. env is NULL-terminated. err names the program; UV_ENOENT and
 * UV_EACCES as in child.h. */
int segue__process_start(segue__process *process, const char *const *env,
                         const segue__process_manner *manner, segue_error *err);
/* Changes how the running child is signalled. */
void segue__process_set_manner(segue__process *process, const segue__process_manner *manner);
/* Sends the kill signal, and SIGKILL to the whole group when kill_ms has passed. on_end is then
 * called with `stopped` set. Does nothing if no child runs. */
void segue__process_stop(segue__process *process);
void segue__process_kill(segue__process *process); /* SIGKILL for the whole group, now */
/* "the child nginx (process 7) exited with code 1 after 0.2 s": a sentence about its end. */
void segue__process_describe_end(const char *program, int pid, const segue__child_exit *end,
                                 segue_error *out);
bool segue__process_runs(const segue__process *process);
int segue__process_pid(const segue__process *process); /* 0: no child runs */
/* Sends the signal at once. Returns UV_ESRCH if no child runs. */
int segue__process_signal(segue__process *process, int signum);
/* Sends a signal that must not end the child: it is sent when the child has a handler for it or
 * ignores it, or at once where that is the manner. cb runs once, never before this returns: 0;
 * SEGUE_EMODULE if the child installs no handler in time, or has ended; SEGUE_ECANCELLED after
 * segue__process_cancel. One at a time. */
int segue__process_reload(segue__process *process, int signum,
                          void (*cb)(void *data, int status, const segue_error *error), void *data,
                          segue_error *err);
void segue__process_cancel(segue__process *process); /* harmless without one */
/* Returns whether job control has stopped the child since the last call (^Z, SIGSTOP). Call it
 * after each SIGCHLD. */
bool segue__process_was_stopped(segue__process *process);
/* Continues a stopped child, with the terminal if this process has it. */
void segue__process_continue(segue__process *process);
/* NULL allowed. No callback runs afterwards; a child that runs is killed. */
void segue__process_free(segue__process *process);

#endif
