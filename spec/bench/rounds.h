/* SPDX-License-Identifier: MIT
 *
 * rounds.h: the measuring loop of the drivers that measure the cost of an operation for its
 * threads. A round is the same work on each of some threads; the result is the best of several
 * rounds. Also for C++.
 */
#ifndef SEGUE_BENCH_ROUNDS_H
#define SEGUE_BENCH_ROUNDS_H

#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>

enum { ROUNDS = 20, ROUND_THREADS_MAX = 2, ROUND_BATCH = 1000 };
#define ROUND_NS 15000000.0

typedef struct rounds {
  double (*work)(void *data);               /* on each thread: nanoseconds for one operation */
  void (*between)(void *data, int threads); /* after each round; may be NULL */
  void *data;
} rounds;

typedef struct rounds_thread {
  const rounds *of;
  pthread_t id;
  double ns;
} rounds_thread;

static inline double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static inline void *rounds_run(void *data) {
  rounds_thread *thread = (rounds_thread *)data;
  thread->ns = thread->of->work(thread->of->data);
  return NULL;
}

/* The mean of the threads, in the best round. */
static inline double rounds_best(const rounds *of, int threads) {
  double best = 1e9;
  for (int round = 0; round < ROUNDS; round++) {
    rounds_thread all[ROUND_THREADS_MAX];
    double sum = 0;
    for (int i = 0; i < threads; i++) {
      all[i].of = of;
      if (pthread_create(&all[i].id, NULL, rounds_run, &all[i])) exit(1);
    }
    for (int i = 0; i < threads; i++) {
      pthread_join(all[i].id, NULL);
      sum += all[i].ns;
    }
    if (sum / threads < best) best = sum / threads;
    if (of->between) of->between(of->data, threads);
  }
  return best;
}

/* For a `work`: does ROUND_BATCH operations at a time, for as long as a round takes. */
static inline double rounds_batches(void (*batch)(void *data), void *data) {
  double began = now_ns(), now = began, batches = 0;
  for (; now - began < ROUND_NS; now = now_ns(), batches++)
    batch(data);
  return (now - began) / (batches * ROUND_BATCH);
}

#endif
