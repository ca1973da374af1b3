/* SPDX-License-Identifier: MIT
 *
 * Jobs: each purpose has a queue, and each queue one worker thread, which is started with its first
 * job and ends after some idle time. A job reads and parses files, so it may hang (a dead NFS
 * server) for as long as the kernel blocks it. Such a worker is abandoned and a new one replaces
 * it. When the old one returns, it passes its job to the control thread and ends, or continues as
 * the worker if there is no other. libuv's pool is not used: its four threads are shared with name
 * resolution, and four hung reads would stop it.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "fault.h"
#include "loop_internal.h"
#include "mem.h"
#include "thread.h"

enum { IDLE, QUEUED, RUNNING, ENDED, ABANDONED };

/* Parsing is recursive only to the depth limit; the reader of an address sanitizer build needs more
 * room per frame. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STACK_BYTES (4u << 20)
#else
#define STACK_BYTES (1u << 20)
#endif

/* A thread costs some 20 KiB while it sleeps. */
#define IDLE_MS SEGUE_TEST_MS("WORKER_IDLE_MS", 10000)

struct segue__worker {
  segue__loop *loop;
  segue__job_queue *queue;
  segue__worker *prev, *next;
  pthread_t thread;
  pthread_cond_t wake;
  segue__message reap;
  uint64_t idle_ms; /* read on the control thread, which may change the environment */
  bool quit;
};

static void worker_deliver(segue__message *message) {
  segue__job *job = (segue__job *)((char *)message - offsetof(segue__job, message));
  bool abandoned = job->state == ABANDONED;
  job->state = IDLE;
  if (!abandoned)
    job->done(job);
  else if (job->abandoned)
    job->abandoned(job);
}

static void finish_locked(segue__loop *loop, segue__job *job) {
  job->message.fn = worker_deliver;
  segue__post_locked(loop, &job->message);
}

/* ---- A queue ---- */

static uint64_t queue_now_us(const segue__loop *loop) {
  return loop->uv ? uv_hrtime() / 1000 : loop->now_ms * 1000;
}

static void queue_add_locked(segue__loop *loop, segue__job_queue *queue, segue__job *job) {
  job->next = NULL;
  job->order = loop->next_job++;
  job->since_us = queue_now_us(loop);
  if (queue->last)
    queue->last->next = job;
  else
    queue->first = job;
  queue->last = job;
  queue->status.waiting++;
}

static void queue_remove_locked(segue__job_queue *queue, segue__job *job) {
  segue__job *prev = NULL;
  for (segue__job *at = queue->first; at != job; at = at->next)
    prev = at;
  if (prev)
    prev->next = job->next;
  else
    queue->first = job->next;
  if (queue->last == job) queue->last = prev;
  job->next = NULL;
  queue->status.waiting--;
}

/* Takes the first job, and counts how long it has waited. */
static segue__job *queue_take_locked(segue__loop *loop, segue__job_queue *queue) {
  static const uint64_t bounds[] = SEGUE__JOB_WAIT_BOUNDS_US;
  segue__job *job = queue->first;
  if (!job) return NULL;
  queue_remove_locked(queue, job);
  uint64_t waited = queue_now_us(loop) - job->since_us;
  size_t i = 0;
  while (i < SEGUE__JOB_WAIT_BUCKETS - 1 && waited > bounds[i])
    i++;
  queue->status.waits[i]++;
  queue->status.waited_us += waited;
  return job;
}

const char *segue__queue_name(segue__queue queue) {
  static const char *const names[] = {
#define X(name, text) text,
      SEGUE__QUEUES(X)
#undef X
  };
  return names[queue];
}

void segue__queue_status_get(segue__loop *loop, segue__queue queue, segue__queue_status *out) {
  pthread_mutex_lock(&loop->mutex);
  *out = loop->queues[queue].status;
  pthread_mutex_unlock(&loop->mutex);
}

/* ---- A worker ---- */

static void unlink_worker_locked(segue__worker *worker) {
  if (worker->prev)
    worker->prev->next = worker->next;
  else
    worker->loop->workers = worker->next;
  if (worker->next) worker->next->prev = worker->prev;
}

static void free_worker(segue__worker *worker) {
  pthread_cond_destroy(&worker->wake);
  segue__free(worker);
}

/* Runs on the control thread when the worker has posted its last message: it is executing its last
 * instructions, and this waits for their end. */
static void worker_reap(segue__message *message) {
  segue__worker *worker = (segue__worker *)((char *)message - offsetof(segue__worker, reap));
  segue__loop *loop = worker->loop;
  pthread_join(worker->thread, NULL);
  free_worker(worker);
  pthread_mutex_lock(&loop->mutex);
  segue__loop_unref_unlock(loop);
}

/* Runs one job without the lock. Returns whether the worker continues. */
static bool run_one(segue__loop *loop, segue__worker *worker, segue__job *job) {
  job->state = RUNNING;
  job->worker = worker;
  worker->queue->status.running++;
  pthread_mutex_unlock(&loop->mutex);
  job->run(job);
  pthread_mutex_lock(&loop->mutex);
  job->worker = NULL;
  bool hung = job->state == ABANDONED;
  if (!hung) worker->queue->status.running--;
  if (!hung) job->state = ENDED;
  finish_locked(loop, job);
  if (!hung) return true;
  segue__job_queue *queue = worker->queue;
  queue->status.hanging--;
  if (queue->worker || loop->closing) return false;
  queue->worker = worker;
  return true;
}

/* Waits for a job. Returns false if none came for a while, or if the worker has to end. */
static bool wait_for_job_locked(segue__loop *loop, segue__worker *worker) {
  struct timespec until;
  uint64_t ms = worker->idle_ms;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += (time_t)(ms / 1000);
  until.tv_nsec += (long)(ms % 1000) * 1000000;
  if (until.tv_nsec >= 1000000000) {
    until.tv_sec++;
    until.tv_nsec -= 1000000000;
  }
  int rc = 0;
  while (!rc && !worker->quit && !worker->queue->first)
    rc = pthread_cond_timedwait(&worker->wake, &loop->mutex, &until);
  return !worker->quit && worker->queue->first;
}

static void *worker_main(void *arg) {
  segue__worker *worker = arg;
  segue__loop *loop = worker->loop;
  segue__job_queue *queue = worker->queue;
  bool go_on = true;
  pthread_mutex_lock(&loop->mutex);
  while (go_on && wait_for_job_locked(loop, worker))
    go_on = run_one(loop, worker, queue_take_locked(loop, queue));
  if (queue->worker == worker) queue->worker = NULL;
  if (loop->closed) { /* orphaned and detached: it frees its own memory */
    segue__loop_unref_unlock(loop);
    free_worker(worker);
    return NULL;
  }
  unlink_worker_locked(worker);
  worker->reap.fn = worker_reap;
  segue__post_locked(loop, &worker->reap);
  pthread_mutex_unlock(&loop->mutex);
  return NULL;
}

static void init_wake(pthread_cond_t *wake) {
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(wake, &attr);
  pthread_condattr_destroy(&attr);
}

static int start_worker_locked(segue__loop *loop, segue__job_queue *queue) {
  char name[16];
  segue__worker *worker = segue__calloc(1, sizeof *worker);
  if (!worker) return UV_ENOMEM;
  worker->loop = loop;
  worker->queue = queue;
  worker->idle_ms = IDLE_MS;
  init_wake(&worker->wake);
  snprintf(name, sizeof name, "segue-%s", segue__queue_name((segue__queue)(queue - loop->queues)));
  int rc = segue__thread_start(&worker->thread, name, STACK_BYTES, worker_main, worker);
  if (rc) {
    free_worker(worker);
    return rc;
  }
  worker->next = loop->workers;
  if (loop->workers) loop->workers->prev = worker;
  loop->workers = worker;
  queue->worker = worker;
  loop->refs++;
  return 0;
}

static int wake_locked(segue__loop *loop, segue__job_queue *queue) {
  if (!loop->uv) return 0;
  if (!queue->worker)
    return queue->status.hanging < SEGUE__WORKERS_MAX ? start_worker_locked(loop, queue) : 0;
  pthread_cond_signal(&queue->worker->wake);
  return 0;
}

/* ---- Jobs ---- */

int segue__job_submit(segue__loop *loop, segue__queue to, segue__job *job) {
  segue__job_queue *queue = &loop->queues[to];
  int rc = 0;
  pthread_mutex_lock(&loop->mutex);
  if (loop->closing)
    rc = UV_ECANCELED;
  else if (!queue->worker && queue->status.hanging == SEGUE__WORKERS_MAX)
    rc = UV_EAGAIN;
  else if (loop->uv && !queue->worker)
    rc = start_worker_locked(loop, queue);
  if (!rc) {
    job->queue = to;
    job->state = QUEUED;
    queue_add_locked(loop, queue, job);
  }
  segue__worker *worker = rc ? NULL : queue->worker;
  pthread_mutex_unlock(&loop->mutex);
  /* A worker that is woken under the lock waits for it at once, which is two switches of threads
   * more. It is freed on this thread only, so it still exists. */
  if (worker) pthread_cond_signal(&worker->wake);
  return rc;
}

void segue__job_abandon(segue__loop *loop, segue__job *job) {
  pthread_mutex_lock(&loop->mutex);
  segue__job_queue *queue = &loop->queues[job->queue];
  int state = job->state;
  if (state != IDLE) job->state = ABANDONED;
  if (state == QUEUED) {
    queue_remove_locked(queue, job);
    finish_locked(loop, job);
  } else if (state == RUNNING && loop->uv) {
    queue->status.running--;
    queue->status.hanging++;
    queue->worker = NULL;
    /* If no thread can be started now, the jobs wait for the next submit, or until the hung thread
     * returns. */
    if (queue->first) (void)wake_locked(loop, queue);
  }
  pthread_mutex_unlock(&loop->mutex);
}

/* Manual loops have one thread, so the jobs of all queues run in the order in which they were
 * submitted. */
static segue__job *take_oldest_locked(segue__loop *loop) {
  segue__job_queue *oldest = NULL;
  for (size_t i = 0; i < SEGUE__QUEUE_COUNT; i++) {
    segue__job_queue *queue = &loop->queues[i];
    if (queue->first && (!oldest || queue->first->order < oldest->first->order)) oldest = queue;
  }
  return oldest ? queue_take_locked(loop, oldest) : NULL;
}

bool segue__job_run_next(segue__loop *loop) {
  pthread_mutex_lock(&loop->mutex);
  segue__job *job = loop->hold_jobs ? NULL : take_oldest_locked(loop);
  if (job) job->state = RUNNING;
  pthread_mutex_unlock(&loop->mutex);
  if (!job) return false;
  job->run(job);
  pthread_mutex_lock(&loop->mutex); /* other threads post messages meanwhile */
  if (job->state == RUNNING) job->state = ENDED;
  finish_locked(loop, job);
  pthread_mutex_unlock(&loop->mutex);
  return true;
}

/* No job starts from now on; each worker ends after the job that it runs. */
void segue__jobs_close_locked(segue__loop *loop) {
  for (size_t i = 0; i < SEGUE__QUEUE_COUNT; i++) {
    segue__job_queue *queue = &loop->queues[i];
    while (queue->first) {
      segue__job *job = queue->first;
      queue_remove_locked(queue, job);
      job->state = ABANDONED;
      finish_locked(loop, job);
    }
    if (!queue->worker) continue;
    queue->worker->quit = true;
    pthread_cond_signal(&queue->worker->wake);
  }
}

bool segue__jobs_closed_locked(const segue__loop *loop) {
  for (size_t i = 0; i < SEGUE__QUEUE_COUNT; i++)
    if (loop->queues[i].worker) return false;
  return true;
}

void segue__workers_orphan_locked(segue__loop *loop) {
  for (segue__worker *worker = loop->workers; worker; worker = worker->next)
    pthread_detach(worker->thread);
  loop->workers = NULL;
}
