/* SPDX-License-Identifier: MIT
 *
 * gate: what it costs to go in at an open gate and out again, on 1 and on 2 threads, beside a
 * pthread rwlock that is taken and given back. Prints "name_threads nanoseconds" lines, the best of
 * several rounds.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "config/config.h"
#include "module/module.h"

enum { ROUNDS = 20, THREADS = 2, BATCH = 1000 };
#define ROUND_NS 15000000.0

static segue_gate *gate;
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;

static double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

typedef struct task {
  int rwlock;
  double ns; /* for one in and out, result */
} task;

static void pass_gate(void) {
  segue_pass pass;
  if (segue_gate_enter(gate, &pass)) exit(1);
  segue_gate_leave(&pass);
}

static void pass_lock(void) {
  pthread_rwlock_rdlock(&lock);
  pthread_rwlock_unlock(&lock);
}

static void *run(void *data) {
  task *t = data;
  double began = now_ns(), now = began;
  uint64_t batches = 0;
  for (; now - began < ROUND_NS; now = now_ns(), batches++)
    for (int i = 0; i < BATCH; i++) {
      if (t->rwlock)
        pass_lock();
      else
        pass_gate();
    }
  t->ns = (now - began) / (double)(batches * BATCH);
  return NULL;
}

static double measure(int rwlock, int threads) {
  double best = 1e9;
  for (int round = 0; round < ROUNDS; round++) {
    task tasks[THREADS];
    pthread_t ids[THREADS];
    double sum = 0;
    for (int i = 0; i < threads; i++) {
      tasks[i] = (task){.rwlock = rwlock};
      if (pthread_create(&ids[i], NULL, run, &tasks[i])) exit(1);
    }
    for (int i = 0; i < threads; i++) {
      pthread_join(ids[i], NULL);
      sum += tasks[i].ns;
    }
    if (sum / threads < best) best = sum / threads;
  }
  return best;
}

static const segue_module_ops ops = {.size = sizeof ops};

int main(void) {
  segue__document *doc = NULL;
  segue__config *config = NULL;
  segue_snapshot *snapshot = NULL;
  segue__loop *loop = NULL;
  segue__gates *gates = NULL;
  segue__instance *instance = NULL;
  segue__limbo limbo = {0};
  segue__log log = {0};
  segue__module_spec spec = {.name = "bench", .ops = &ops};
  int rc = segue__document_new(&doc, 1, "a", "a", SEGUE__JSON, segue__strdup("{}"), 2);
  if (!rc) rc = segue__document_parse(doc, NULL, NULL, NULL, NULL);
  if (!rc) rc = segue__config_merge(&config, &doc, 1, NULL);
  if (!rc) rc = segue__snapshot_new(&snapshot, 1, config);
  if (!rc) rc = segue__loop_open_manual(&loop, 0, 0);
  if (!rc) rc = segue__gates_new(&gates);
  if (rc) return 1;
  segue__gates_begin(gates, loop);
  gate = segue__gates_get(gates, "bench");
  rc = segue__instance_new(&instance, loop, &log, &spec, snapshot, NULL, &limbo);
  if (rc || !gate || segue__gate_open(gate, instance, snapshot)) return 1;
  for (int threads = 1; threads <= THREADS; threads++) {
    printf("gate_%d %.3f\n", threads, measure(0, threads));
    printf("rwlock_%d %.3f\n", threads, measure(1, threads));
  }
  return 0;
}
