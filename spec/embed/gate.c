/* SPDX-License-Identifier: MIT
 *
 * A host with two threads that pass the gate of a module while it is restarted again and again. Two
 * instances at once would fail: each holds a lock on a file from start to stop. Arguments: policy,
 * lock file, number of reloads. Prints what became of the requests.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include <segue.h>

enum { THREADS = 2 };

typedef struct service {
  int fd; /* -1: it does not hold the lock; atomic */
} service;

typedef struct worker {
  segue_arrival request; /* first */
  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t wake;
  int answers, status; /* under the lock, to the request that waits */
  uint64_t sent, passed, waited, refused, doubled, older, unlocked;
} worker;

static segue *instance;
static segue_gate *gate;
static worker workers[THREADS];
static const char *lock_path;
static int reloads_left, applied, stopping, running;
static uint64_t answered; /* atomic: the generation that the last reload's answer named */

/* ---- The module ---- */

static void prepare(void *userdata, segue_op *op, const segue_slice *next, const segue_slice *prev,
                    void **out) {
  (void)userdata, (void)next, (void)prev;
  service *s = malloc(sizeof *s);
  if (s) s->fd = -1;
  *out = s;
  segue_op_done(op, s ? 0 : SEGUE_EMODULE, NULL);
}

static void start(void *data, segue_op *op) {
  service *s = data;
  int fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB)) {
    close(fd);
    fd = -1;
  }
  __atomic_store_n(&s->fd, fd, __ATOMIC_SEQ_CST);
  segue_op_done(op, fd < 0 ? SEGUE_EMODULE : 0, NULL);
}

static void stop(void *data, segue_op *op) {
  service *s = data;
  close(__atomic_exchange_n(&s->fd, -1, __ATOMIC_SEQ_CST));
  segue_op_done(op, 0, NULL);
}

static const segue_module_ops ops = {
    .size = sizeof ops, .prepare = prepare, .start = start, .stop = stop, .destroy = free};

/* ---- Requests ---- */

static void on_answer(segue_arrival *request, int status) {
  worker *w = (worker *)request;
  pthread_mutex_lock(&w->lock);
  w->answers++;
  w->status = status;
  pthread_cond_signal(&w->wake);
  pthread_mutex_unlock(&w->lock);
}

static int await_answer(worker *w) {
  w->waited++;
  pthread_mutex_lock(&w->lock);
  while (!w->answers)
    pthread_cond_wait(&w->wake, &w->lock);
  int status = w->status;
  pthread_mutex_unlock(&w->lock);
  return status;
}

static void serve(worker *w, uint64_t at_least) {
  const service *s = w->request.pass.instance;
  if (__atomic_load_n(&s->fd, __ATOMIC_SEQ_CST) < 0) w->unlocked++;
  if (segue_snapshot_generation(w->request.pass.snapshot) < at_least) w->older++;
  for (int i = 0; i < 20; i++)
    sched_yield();
  if (__atomic_load_n(&s->fd, __ATOMIC_SEQ_CST) < 0) w->unlocked++;
  w->passed++;
  segue_gate_leave(&w->request.pass);
}

static void *work(void *data) {
  worker *w = data;
  while (!__atomic_load_n(&stopping, __ATOMIC_SEQ_CST)) {
    uint64_t at_least = __atomic_load_n(&answered, __ATOMIC_SEQ_CST);
    w->answers = 0;
    w->sent++;
    int rc = segue_gate_submit(gate, &w->request);
    bool queued = rc == SEGUE_QUEUED;
    if (queued) rc = await_answer(w);
    if (rc < 0)
      w->refused++;
    else
      serve(w, at_least);
    pthread_mutex_lock(&w->lock);
    w->doubled += w->answers != queued;
    pthread_mutex_unlock(&w->lock);
  }
  if (__atomic_sub_fetch(&running, 1, __ATOMIC_SEQ_CST) == 0) segue_stop(instance);
  return NULL;
}

/* ---- Reloads, one after the other ---- */

static void on_reload(void *data, int status, const segue_report *report) {
  (void)data;
  if (report && status == 0) {
    applied++;
    __atomic_store_n(&answered, report->generation, __ATOMIC_SEQ_CST);
  } else {
    fprintf(stderr, "a reload failed: %s\n",
            report && report->error_count ? report->errors[0].message : segue_strerror(status));
  }
  if (reloads_left-- == 0 || segue_reload(instance, true, on_reload, NULL) < 0)
    __atomic_store_n(&stopping, 1, __ATOMIC_SEQ_CST);
}

static void on_start(void *data, int status, const segue_report *report) {
  for (int i = 0; i < THREADS; i++) {
    worker *w = &workers[i];
    w->request.cb = on_answer;
    w->request.key = (uint64_t)i + 1;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->wake, NULL);
    running++;
  }
  for (int i = 0; i < THREADS; i++)
    if (pthread_create(&workers[i].thread, NULL, work, &workers[i])) exit(1);
  on_reload(data, status, report);
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  segue_options options;
  segue_error error;
  segue_options_init(&options);
  options.policy = argv[1];
  options.lua_dir = "lua";
  options.on_start = on_start;
  lock_path = argv[2];
  reloads_left = atoi(argv[3]);
  int rc = segue_new(&instance, &options, &error);
  if (rc == 0) rc = segue_module_register(instance, "service", &ops, NULL);
  if (rc == 0 && !(gate = segue_gate_get(instance, "service"))) rc = SEGUE_EMODULE;
  if (rc == 0) rc = segue_start(instance, &error);
  if (rc == 0) rc = segue_run(instance);
  if (rc < 0) {
    fprintf(stderr, "%s\n", error.message);
    return 1;
  }
  worker sum = {0};
  for (int i = 0; i < THREADS; i++) {
    const worker *w = &workers[i];
    pthread_join(w->thread, NULL);
    sum.sent += w->sent;
    sum.passed += w->passed;
    sum.waited += w->waited;
    sum.refused += w->refused;
    sum.doubled += w->doubled;
    sum.older += w->older;
    sum.unlocked += w->unlocked;
  }
  segue_close(instance);
  printf("applied=%d waited=%" PRIu64 " passed=%" PRIu64 " refused=%" PRIu64 " lost=%" PRIu64
         " doubled=%" PRIu64 " older=%" PRIu64 " unlocked=%" PRIu64 "\n",
         applied, sum.waited, sum.passed, sum.refused, sum.sent - sum.passed - sum.refused,
         sum.doubled, sum.older, sum.unlocked);
  return 0;
}
