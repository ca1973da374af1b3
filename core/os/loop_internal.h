/* SPDX-License-Identifier: MIT
 *
 * loop_internal.h: the inside of a loop, shared only by loop.c (opening, closing, messages),
 * timers.c and worker.c.
 */
#ifndef SEGUE_OS_LOOP_INTERNAL_H
#define SEGUE_OS_LOOP_INTERNAL_H

#include <pthread.h>
#include <uv.h>

#include "loop.h"

typedef struct segue__worker segue__worker;

/* A binary heap of the caller's timers, 1-based so that slot 0 can mean idle. */
typedef struct segue__timers {
  segue__timer **heap;
  size_t count, capacity;
  uint64_t next_order;
  bool firing; /* the libuv timer is armed once, after the batch */
} segue__timers;

/* The jobs of one purpose. Under the loop's mutex. */
typedef struct segue__job_queue {
  segue__job *first, *last;
  segue__worker *worker; /* the one that takes jobs; NULL: none is needed, or it hangs */
  segue__queue_status status;
} segue__job_queue;

struct segue__loop {
  struct uv_loop_s *uv; /* NULL: manual */
  uv_timer_t uv_timer;
  uv_async_t uv_async;
  segue__timers timers;
  uint64_t now_ms; /* manual clocks */
  int64_t wall_ms;
  uint64_t child_files;
  void *owner;
  const uint32_t *mark; /* fork.h */
  size_t depth;         /* manual: nested step and advance calls */
  bool hold_jobs;       /* manual */
  bool closing;
  int open_handles;
  void (*closed_cb)(void *data);
  void *closed_data;

  /* Under the mutex from here on. A worker that hangs outlives the loop's handles, so the memory
   * is counted: one reference for the opener, one for each worker. */
  pthread_mutex_t mutex;
  size_t refs;
  bool closed; /* messages are not delivered any more */
  segue__message *first, *last;
  segue__job_queue queues[SEGUE__QUEUE_COUNT];
  uint64_t next_job;
  segue__worker *workers; /* all of them */
};

/* timers.c */
size_t segue__timers_fire(segue__loop *loop, uint64_t now_ms);
void segue__timers_deinit(segue__loop *loop);

/* loop.c. Both with the mutex held. */
void segue__post_locked(segue__loop *loop, segue__message *message);
void segue__loop_unref_unlock(segue__loop *loop);

/* worker.c */
bool segue__job_run_next(segue__loop *loop); /* manual: runs one on this thread */
void segue__jobs_close_locked(segue__loop *loop);
bool segue__jobs_closed_locked(const segue__loop *loop); /* no worker will take another job */
void segue__workers_orphan_locked(segue__loop *loop);

#endif
