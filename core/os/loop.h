/* SPDX-License-Identifier: MIT
 *
 * loop.h: a small event loop for the engine: timers, messages from other threads, and jobs on a
 * worker thread. The daemon drives it with libuv (segue__loop_open_uv); the engine's specs step it
 * under a simulated clock (segue__loop_open_manual). Every function is called on the control thread
 * unless it is marked [any thread].
 */
#ifndef SEGUE_OS_LOOP_H
#define SEGUE_OS_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct segue__loop segue__loop;
struct uv_loop_s;

/* Real loop on top of a libuv loop that stays the caller's. Returns 0 or a negative code. */
int segue__loop_open_uv(segue__loop **out, struct uv_loop_s *uv);
/* Manual loop: time stands still until segue__loop_advance; jobs run inside segue__loop_step. */
int segue__loop_open_manual(segue__loop **out, uint64_t start_ms, int64_t wall_ms);
/* Closes the loop: stops timers, abandons queued jobs, lets the worker's current job end (its
 * done() still runs; abandoned jobs are not waited for, and a job that never returns is leaked with
 * its thread), delivers the posted messages, closes the libuv handles. closed_cb runs when the last
 * handle is closed and the loop is freed. For a manual loop it runs before the call returns, or at
 * the end of the step or advance that called it. After the call, timer_start and job_submit return
 * UV_ECANCELED. NULL is allowed. */
void segue__loop_close(segue__loop *loop, void (*closed_cb)(void *data), void *data);

/* Other threads may post for ever, also when it is closed: its memory is never freed. */
void segue__loop_keep(segue__loop *loop);

uint64_t segue__loop_now_ms(const segue__loop *loop);      /* monotonic */
int64_t segue__loop_wall_ms(const segue__loop *loop);      /* milliseconds since 1970 */
struct uv_loop_s *segue__loop_uv(const segue__loop *loop); /* NULL for a manual one */
/* The soft limit of open files that children get (spawn.h); 0, the default: this process's. */
void segue__loop_set_child_files(segue__loop *loop, uint64_t files);
uint64_t segue__loop_child_files(const segue__loop *loop);
/* The owner that was set, NULL at first. [any thread], once it was set. */
void segue__loop_set_owner(segue__loop *loop, void *owner);
void *segue__loop_owner(const segue__loop *loop);
/* Sets the mark of the process that owns the loop (fork.h): in a child segue__post does nothing. */
void segue__loop_set_mark(segue__loop *loop, const uint32_t *mark);

/* Manual loops only. step delivers messages, runs queued jobs and fires timers that are due until
 * nothing is left to do now; returns how many things it did. advance moves both clocks by ms,
 * firing timers in order at their own instants with a step after each. jump_wall moves the wall
 * clock only. While jobs are held they stay queued, as if the worker were hung; they can be
 * abandoned. */
size_t segue__loop_step(segue__loop *loop);
void segue__loop_advance(segue__loop *loop, uint64_t ms);
void segue__loop_jump_wall(segue__loop *loop, int64_t ms);
void segue__loop_hold_jobs(segue__loop *loop, bool hold);

/* Timers: one-shot, caller's memory (zeroed before first use). Starting a running one re-arms it;
 * stop is harmless on an idle one. Cost: O(log n). The callback may start, stop or free it. */
typedef struct segue__timer segue__timer;
struct segue__timer {
  void (*cb)(segue__timer *timer);
  void *data;
  uint64_t due_ms;
  uint64_t order; /* ties fire in the order they were started */
  size_t slot;    /* 1-based position in the heap; 0 = idle */
};
int segue__timer_start(segue__loop *loop, segue__timer *timer, uint64_t delay_ms,
                       void (*cb)(segue__timer *timer));
void segue__timer_stop(segue__loop *loop, segue__timer *timer);
bool segue__timer_active(const segue__timer *timer);

/* Messages: intrusive, so posting cannot fail. fn runs once on the control thread, in order of
 * posting. A message may be posted again from its own fn on. [any thread] */
typedef struct segue__message segue__message;
struct segue__message {
  segue__message *next;
  void (*fn)(segue__message *message);
};
void segue__post(segue__loop *loop, segue__message *message);

/* Jobs: run() on a worker thread, then done() on the control thread. Each purpose has a queue of
 * its own, in which jobs run one at a time, in order: a slow or hung job delays no other purpose.
 * Caller's memory, zeroed before first use, in use until done() or abandoned() ran. A job that
 * hangs is abandoned: its done() never runs, abandoned() runs on the control thread when (if) run()
 * ends, to free it; later jobs go to a new worker. A job that is still queued is never run. abandon
 * is harmless on a job that is not submitted. At most SEGUE__WORKERS_MAX jobs of a queue hang at
 * once; past that submit returns UV_EAGAIN, and queued jobs wait until one of them returns. */
#define SEGUE__WORKERS_MAX 4
/* X(name, text): the purposes. */
#define SEGUE__QUEUES(X)                                                                           \
  X(COLLECT, "collect") /* sources and policies are read and parsed */                             \
  X(SCHEMA, "schema")   /* a configuration is validated */                                         \
  X(WATCH, "watch")     /* folders are scanned for changes */                                      \
  X(PAGE, "page")       /* large answers of the admin API are written */                           \
  X(POLICY, "policy")   /* file operations and look-ups of Lua code */                             \
  X(FILES, "files")     /* sets of rendered files are staged, moved and restored */
typedef enum segue__queue {
#define X(name, text) SEGUE__QUEUE_##name,
  SEGUE__QUEUES(X)
#undef X
      SEGUE__QUEUE_COUNT
} segue__queue;
const char *segue__queue_name(segue__queue queue);

/* Upper bounds of the histogram of waiting; one more bucket is for what is above. */
#define SEGUE__JOB_WAIT_BOUNDS_US                                                                  \
  { 100, 1000, 10000, 100000, 1000000, 10000000 }
enum { SEGUE__JOB_WAIT_BUCKETS = 7 };
typedef struct segue__queue_status {
  size_t waiting, running, hanging;        /* jobs; hanging: abandoned while they ran */
  uint64_t waits[SEGUE__JOB_WAIT_BUCKETS]; /* jobs that were begun, by how long they had waited */
  uint64_t waited_us;                      /* all of them together */
} segue__queue_status;
void segue__queue_status_get(segue__loop *loop, segue__queue queue, segue__queue_status *out);

typedef struct segue__job segue__job;
struct segue__job {
  void (*run)(segue__job *job);       /* worker thread; sees plain C data only */
  void (*done)(segue__job *job);      /* control thread */
  void (*abandoned)(segue__job *job); /* control thread */
  segue__message message;
  segue__job *next;
  void *worker;
  int state;
  segue__queue queue;
  uint64_t order, since_us;
};
int segue__job_submit(segue__loop *loop, segue__queue queue, segue__job *job);
void segue__job_abandon(segue__loop *loop, segue__job *job);

#endif
