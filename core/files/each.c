/* SPDX-License-Identifier: MIT
 *
 * Many waits for the disk at the same time. An fsync takes 3 to 4 ms where the disk is a real one,
 * nearly all of it waiting: one after the other 5,000 files take 15 to 20 seconds. Sixteen threads
 * take 2, because the file system writes all that they wait for in one commit of its journal (8
 * threads: 2.4 s, 32: 1.8 s). syncfs(2) is not used: it is as quick on an idle disk, but it waits
 * for all that other programs have written to the file system too, and its result names no file.
 *
 * The threads end before the function returns. Where one cannot be started the others do its work:
 * the calling thread is one of them.
 */
#include "each.h"

#include <pthread.h>
#include <stdint.h>

#include "../os/thread.h"

enum { THREADS = 16, STACK_BYTES = 1 << 20 };

/* The mutex guards all that changes. */
typedef struct each_work {
  pthread_mutex_t mutex;
  size_t count, next, failed; /* failed: SIZE_MAX: none */
  int (*run)(void *data, size_t index, segue_error *err);
  void *data;
  int rc;
  segue_error *err;
} each_work;

static bool each_take(each_work *work, size_t *index) {
  pthread_mutex_lock(&work->mutex);
  bool more = !work->rc && work->next < work->count;
  if (more) *index = work->next++;
  pthread_mutex_unlock(&work->mutex);
  return more;
}

/* Indices are taken in order, so the lowest one that fails is among those that were taken. */
static void each_failed(each_work *work, size_t index, int rc, const segue_error *error) {
  pthread_mutex_lock(&work->mutex);
  if (index < work->failed) {
    work->failed = index;
    work->rc = rc;
    if (work->err) *work->err = *error;
  }
  pthread_mutex_unlock(&work->mutex);
}

static void *each_run(void *data) {
  each_work *work = data;
  segue_error error = {0};
  for (size_t index = 0; each_take(work, &index);) {
    int rc = work->run(work->data, index, &error);
    if (rc) each_failed(work, index, rc, &error);
  }
  return NULL;
}

int segue__file_each(size_t count, bool waits,
                     int (*run)(void *data, size_t index, segue_error *err), void *data,
                     segue_error *err) {
  pthread_t threads[THREADS - 1];
  size_t started = 0;
  each_work work = {.count = count, .failed = SIZE_MAX, .run = run, .data = data, .err = err};
  pthread_mutex_init(&work.mutex, NULL);
  while (waits && started < THREADS - 1 && started + 1 < count &&
         !segue__thread_start(&threads[started], "segue-files", STACK_BYTES, each_run, &work))
    started++;
  each_run(&work);
  while (started)
    pthread_join(threads[--started], NULL);
  pthread_mutex_destroy(&work.mutex);
  return work.rc;
}
