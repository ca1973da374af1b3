/* SPDX-License-Identifier: MIT
 *
 * Jobs: one worker thread, started with the first job. It reads files and parses what is in them,
 * so it may hang (a dead NFS server) for as long as the kernel likes. Such a worker is left behind
 * and a new one takes over; when the old one comes back it gives its job to the control thread and
 * ends, or goes on as the worker if there is no other. Not libuv's pool: its four threads are
 * shared with name resolution, and four hung reads would stop it.
 */
#include <signal.h>
#include <string.h>

#include "loop_internal.h"
#include "mem.h"

enum { IDLE, QUEUED, RUNNING, ENDED, ABANDONED };

/* Parsing is recursive only to the depth limit; the reader of an address sanitizer build needs more
 * room per frame. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STACK_BYTES (4u << 20)
#else
#define STACK_BYTES (1u << 20)
#endif

struct segue__worker {
  segue__loop *loop;
  segue__worker *prev, *next;
  pthread_t thread;
  pthread_cond_t wake;
  segue__message reap;
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

static segue__job *worker_pop_locked(segue__loop *loop) {
  segue__job *job = loop->first_job;
  if (!job) return NULL;
  loop->first_job = job->next;
  if (!job->next) loop->last_job = NULL;
  job->next = NULL;
  return job;
}

static void unlink_job_locked(segue__loop *loop, segue__job *job) {
  segue__job *prev = NULL;
  for (segue__job *at = loop->first_job; at != job; at = at->next)
    prev = at;
  if (prev)
    prev->next = job->next;
  else
    loop->first_job = job->next;
  if (loop->last_job == job) loop->last_job = prev;
  job->next = NULL;
}

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

/* Control thread: the worker is on its last instructions; wait for them. */
static void worker_reap(segue__message *message) {
  segue__worker *worker = (segue__worker *)((char *)message - offsetof(segue__worker, reap));
  segue__loop *loop = worker->loop;
  pthread_join(worker->thread, NULL);
  free_worker(worker);
  pthread_mutex_lock(&loop->mutex);
  segue__loop_unref_unlock(loop);
}

/* Returns whether the worker goes on. */
static bool run_one(segue__loop *loop, segue__worker *worker, segue__job *job) {
  job->state = RUNNING;
  job->worker = worker;
  pthread_mutex_unlock(&loop->mutex);
  job->run(job);
  pthread_mutex_lock(&loop->mutex);
  job->worker = NULL;
  bool hung = job->state == ABANDONED;
  if (!hung) job->state = ENDED;
  finish_locked(loop, job);
  if (!hung) return true;
  loop->hanging--;
  if (loop->worker || loop->closing) return false;
  loop->worker = worker;
  return true;
}

static void *worker_main(void *arg) {
  segue__worker *worker = arg;
  segue__loop *loop = worker->loop;
  bool go_on = true;
  pthread_mutex_lock(&loop->mutex);
  while (go_on && !worker->quit) {
    segue__job *job = worker_pop_locked(loop);
    if (job)
      go_on = run_one(loop, worker, job);
    else
      pthread_cond_wait(&worker->wake, &loop->mutex);
  }
  if (loop->worker == worker) loop->worker = NULL;
  if (loop->closed) { /* orphaned and detached: nobody is left to clean up after it */
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

/* All signals are blocked in the thread: they belong to the process's own threads. */
static int create_thread(segue__worker *worker) {
  sigset_t all, old;
  pthread_attr_t attr;
  sigfillset(&all);
  int rc = pthread_attr_init(&attr);
  if (rc) return -rc;
  pthread_attr_setstacksize(&attr, STACK_BYTES);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  rc = pthread_create(&worker->thread, &attr, worker_main, worker);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  pthread_attr_destroy(&attr);
  if (!rc) pthread_setname_np(worker->thread, "segue-worker");
  return -rc;
}

static int start_worker_locked(segue__loop *loop) {
  segue__worker *worker = segue__calloc(1, sizeof *worker);
  if (!worker) return UV_ENOMEM;
  worker->loop = loop;
  pthread_cond_init(&worker->wake, NULL);
  int rc = create_thread(worker);
  if (rc) {
    free_worker(worker);
    return rc;
  }
  worker->next = loop->workers;
  if (loop->workers) loop->workers->prev = worker;
  loop->workers = worker;
  loop->worker = worker;
  loop->refs++;
  return 0;
}

static int wake_locked(segue__loop *loop) {
  if (!loop->uv) return 0;
  if (!loop->worker) return loop->hanging < SEGUE__WORKERS_MAX ? start_worker_locked(loop) : 0;
  pthread_cond_signal(&loop->worker->wake);
  return 0;
}

int segue__job_submit(segue__loop *loop, segue__job *job) {
  int rc = 0;
  pthread_mutex_lock(&loop->mutex);
  if (loop->closing)
    rc = UV_ECANCELED;
  else if (!loop->worker && loop->hanging == SEGUE__WORKERS_MAX)
    rc = UV_EAGAIN;
  else
    rc = wake_locked(loop);
  if (!rc) {
    job->next = NULL;
    job->state = QUEUED;
    if (loop->last_job)
      loop->last_job->next = job;
    else
      loop->first_job = job;
    loop->last_job = job;
  }
  pthread_mutex_unlock(&loop->mutex);
  return rc;
}

void segue__job_abandon(segue__loop *loop, segue__job *job) {
  pthread_mutex_lock(&loop->mutex);
  int state = job->state;
  if (state != IDLE) job->state = ABANDONED;
  if (state == QUEUED) {
    unlink_job_locked(loop, job);
    finish_locked(loop, job);
  } else if (state == RUNNING && loop->uv) {
    loop->hanging++;
    loop->worker = NULL;
    /* If no thread can be had now the jobs wait for the next submit, or for the hung one. */
    if (loop->first_job) (void)wake_locked(loop);
  }
  pthread_mutex_unlock(&loop->mutex);
}

bool segue__job_run_next(segue__loop *loop) {
  pthread_mutex_lock(&loop->mutex);
  segue__job *job = loop->hold_jobs ? NULL : worker_pop_locked(loop);
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

/* No job starts any more; the worker ends after the one it has. */
void segue__jobs_close_locked(segue__loop *loop) {
  for (segue__job *job = worker_pop_locked(loop); job; job = worker_pop_locked(loop)) {
    job->state = ABANDONED;
    finish_locked(loop, job);
  }
  if (!loop->worker) return;
  loop->worker->quit = true;
  pthread_cond_signal(&loop->worker->wake);
}

void segue__workers_orphan_locked(segue__loop *loop) {
  for (segue__worker *worker = loop->workers; worker; worker = worker->next)
    pthread_detach(worker->thread);
  loop->workers = NULL;
}
