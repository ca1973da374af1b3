/* SPDX-License-Identifier: MIT
 *
 * record_internal.h: the insides of the record thread, for writer.c (what it writes) and
 * record_ask.c (questions that it answers).
 */
#ifndef SEGUE_RELOAD_RECORD_INTERNAL_H
#define SEGUE_RELOAD_RECORD_INTERNAL_H

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
  bool fresh;                 /* the paths are to be found out */
  uint64_t number, number2;
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
  segue__logger own_log;    /* a copy, silenced when the thread is left behind */
  const segue__logger *log; /* that */
  void (*render)(segue__buf *out, const segue__result *result, bool detail);
  char *history_path;
  segue__inputs *inputs;
  segue__record_contents found;
  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t wake, idle;
  queue urgent, busy, later;
  struct timespec busy_until;
  bool stopping, working, abandoned;
  /* The thread's. */
  segue__two_slot_file last_good, state, numbers;
  segue__numbers given; /* up to these, none is given by a later process */
  segue__history_limits limits;
  segue__history *history; /* the control thread asks whether there is one */
  bool stuck;              /* the folder is another process's */
  time_t opened_at;        /* or tried to; of the monotonic clock */
  int open_status;         /* the result of that */
};

/* Control thread. */
task *segue__record_task_new(work *run, segue__record_call *call); /* NULL: out of memory */
void segue__record_task_free(task *t);
void segue__record_push(segue__record *record, queue *q, task *t); /* the thread frees it */

#endif
