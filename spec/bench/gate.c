/* SPDX-License-Identifier: MIT
 *
 * gate: what it costs to go in at an open gate and out again, on 1 and on 2 threads, beside a
 * pthread rwlock that is taken and given back. Prints "name_threads nanoseconds" lines, the best of
 * several rounds.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/config.h"
#include "module/module.h"
#include "rounds.h"

static segue_gate *gate;
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;

static void pass_gate(void *data) {
  (void)data;
  for (int i = 0; i < ROUND_BATCH; i++) {
    segue_pass pass;
    if (segue_gate_enter(gate, &pass)) exit(1);
    segue_gate_leave(&pass);
  }
}

static void pass_lock(void *data) {
  (void)data;
  for (int i = 0; i < ROUND_BATCH; i++) {
    pthread_rwlock_rdlock(&lock);
    pthread_rwlock_unlock(&lock);
  }
}

static double work_gate(void *data) {
  return rounds_batches(pass_gate, data);
}

static double work_lock(void *data) {
  return rounds_batches(pass_lock, data);
}

static const segue_module_ops ops = {.size = sizeof ops};

int main(void) {
  segue__document *doc = NULL;
  segue__config *config = NULL;
  segue_snapshot *snapshot = NULL;
  segue__loop *loop = NULL;
  segue__gates *gates = NULL;
  segue__instance *instance = NULL;
  segue__detached limbo = {0};
  segue__logger log = {0};
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
  const rounds at_gate = {.work = work_gate}, at_lock = {.work = work_lock};
  for (int threads = 1; threads <= ROUND_THREADS_MAX; threads++) {
    printf("gate_%d %.3f\n", threads, rounds_best(&at_gate, threads));
    printf("rwlock_%d %.3f\n", threads, rounds_best(&at_lock, threads));
  }
  return 0;
}
