/* SPDX-License-Identifier: MIT
 *
 * managed.h: a child of a module of the kind "process": its start, its readiness, its output in the
 * log, and its end with the last lines of its output. Control thread.
 */
#ifndef SEGUE_PROCESS_MANAGED_H
#define SEGUE_PROCESS_MANAGED_H

#include "probe.h"
#include "process.h"

/* How it is known that a child is ready: X(name, text). */
#define SEGUE__READY_WAYS(X)                                                                       \
  X(EXEC, "exec") /* its program is executed */                                                    \
  X(NOTIFY, "notify")                                                                              \
  X(FD, "fd")                                                                                      \
  X(LINE, "line")                                                                                  \
  X(PROBE, "probe") /* a port, a request or a command */
typedef enum segue__ready_way {
#define X(name, text) SEGUE__READY_##name,
  SEGUE__READY_WAYS(X)
#undef X
} segue__ready_way;

typedef struct segue__managed segue__managed;

typedef struct segue__managed_options {
  size_t size; /* sizeof(segue__managed_options) */
  segue__loop *loop;
  const segue__os *os;
  const segue__logger *log;
  const char *module;
  const char *const *argv, *const *env;
  /* The rest of what the child gets. Its callbacks are set by segue__managed_start. */
  segue__child_options child;
  segue__process_manner manner;
  bool logs[2];        /* by segue__stream: its lines are logged */
  uint64_t line_bytes; /* longer lines are cut */
  double lines_per_s;  /* further ones are counted and not logged; 0: no limit */
  segue__ready_way ready;
  const char *ready_line;            /* LINE: a line that has this in it */
  segue__server_probe_options probe; /* PROBE */
  int ready_fd; /* FD: the end of a pipe that is read; closed here, also on failure. -1: none */
  uint64_t ready_ms;            /* time limit */
  uint64_t ready_most_ms;       /* with all extensions that the child requests */
  uint64_t watchdog_ms;         /* it is killed if it sends no WATCHDOG=1 for so long; 0: none */
  void (*on_ready)(void *data); /* once, unless it ends before */
  void (*on_notice)(void *data, const segue__notice *notice); /* when it is ready; NULL allowed */
  /* Once, and last: it has ended, and its output is read. It may free the child. end and why are
   * valid until it returns; why: one sentence with the last lines of the output. */
  void (*on_end)(void *data, const segue__child_exit *end, const segue_error *why);
  void *data;
} segue__managed_options;

/* The pointers of the options are borrowed until the child has ended, those of `child` and env
 * until this returns. Its callbacks run after that. */
int segue__managed_start(segue__managed **out, const segue__managed_options *options,
                         segue_error *err);
/* Another owner gets its callbacks. */
void segue__managed_set_owner(segue__managed *managed, void *data);
void segue__managed_set_manner(segue__managed *managed, const segue__process_manner *manner);
/* The kill signal, and KILL for its group when kill_ms has passed. on_end follows. */
void segue__managed_stop(segue__managed *managed);
void segue__managed_kill(segue__managed *managed); /* KILL for its group, now */
segue__process *segue__managed_process(const segue__managed *managed);
int segue__managed_pid(const segue__managed *managed); /* also after its end */
bool segue__managed_is_ready(const segue__managed *managed);
uint64_t segue__managed_ready_ms(const segue__managed *managed);   /* from the start; 0: not yet */
uint64_t segue__managed_started_ms(const segue__managed *managed); /* by the loop's clock */
uint64_t segue__managed_lost(const segue__managed *managed);       /* lines that were not logged */
const char *segue__managed_status(const segue__managed *managed);  /* its STATUS=; "" */
/* Kills it if it runs; no callback runs afterwards. NULL allowed. */
void segue__managed_free(segue__managed *managed);

#endif
