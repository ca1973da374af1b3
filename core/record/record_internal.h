/* SPDX-License-Identifier: MIT
 *
 * record_internal.h: the record thread, shared only by writer.c, which writes the state folder, and
 * record_ask.c, which reads from it for queries.
 */
#ifndef SEGUE_RECORD_RECORD_INTERNAL_H
#define SEGUE_RECORD_RECORD_INTERNAL_H

#include <pthread.h>
#include <time.h>

#include "writer.h"

typedef struct segue__record_task task;
typedef int work(segue__record *record, task *t);

struct segue__record_task {
  segue__message message; /* first */
  task *next;
  work *run;
  segue__record_call *call; /* control thread only */
  segue__record_answer answer;
  unsigned tries;
  /* Input of the work. */
  segue__decisions state;
  segue__buf journal; /* the lines of the open intents */
  segue__numbers numbers;
  segue__last_good good;
  segue__files *files;        /* a reference */
  segue__history_entry entry; /* its strings, paths and snapshot are the task's */
  bool fresh;                 /* the changed paths must be computed on the record thread */
  uint64_t number, number2;
  segue__mask *mask; /* a reference */
  char *text;
  segue__audit *audit;
  segue__history_limits limits;
};

typedef struct queue {
  task *first, **last;
  size_t count;
} queue;

struct segue__record {
  segue__loop *loop;
  segue__logger own_log;    /* a copy, silenced when the thread is abandoned */
  const segue__logger *log; /* = &own_log */
  void (*render)(segue__buf *out, const segue__result *result, bool detail);
  char *history_path;
  segue__inputs *inputs;
  segue__record_contents found;
  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t wake, idle;
  segue__timer wake_timer; /* of the control thread, for tasks that are not urgent */
  queue urgent, busy, later;
  struct timespec busy_until;
  bool stopping, working, ended, abandoned;
  /* Used by the record thread only, except history. */
  segue__two_slot_file last_good, state, numbers;
  segue__numbers given; /* the reserved numbers: a later process continues after them */
  segue__history_limits limits;
  segue__history *history; /* atomic: the control thread checks whether it is NULL */
  bool stuck;              /* another process owns the folder */
  uint64_t opened_at_ns;   /* time of the last attempt to open it (uv_hrtime) */
  int open_status;         /* result of that attempt */
};

/* Control thread. */
task *segue__record_task_new(work *run, segue__record_call *call); /* NULL: out of memory */
void segue__record_task_free(task *t);
void segue__record_push(segue__record *record, queue *q, task *t); /* the thread frees it */

#endif
