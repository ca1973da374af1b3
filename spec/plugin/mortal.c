/* SPDX-License-Identifier: MIT
 *
 * mortal: a module that reports by itself that it failed, from a thread of its own. Requests:
 *   GET /       "alive"
 *   GET /die    it fails now; the report comes twice
 * Its configuration, a text, is a list of words:
 *   start       it reports its failure while it starts
 *   started     ... right after its start
 *   drain       ... while it drains
 *   storm       four threads report it again and again, until it is destroyed
 */
#include <pthread.h>
#include <segue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 8 };

typedef struct mortal {
  segue_op *self; /* of prepare; valid for segue_module_failed until destroy returns */
  char words[128];
  pthread_mutex_t mutex;
  pthread_t threads[THREADS];
  size_t count;
  bool over;
} mortal;

static void report(mortal *m, const char *why) {
  segue_error error = {.code = SEGUE_EMODULE};
  snprintf(error.message, sizeof error.message, "%s", why);
  segue_module_failed(m->self, &error);
}

static void *die(void *data) {
  report(data, "the child process exited with code 7");
  report(data, "never seen");
  return NULL;
}

static bool is_over(mortal *m) {
  pthread_mutex_lock(&m->mutex);
  bool over = m->over;
  pthread_mutex_unlock(&m->mutex);
  return over;
}

static void *storm(void *data) {
  while (!is_over(data)) {
    report(data, "storm");
    sched_yield();
  }
  return NULL;
}

static void start_thread(mortal *m, void *(*run)(void *)) {
  pthread_mutex_lock(&m->mutex);
  if (m->count < THREADS && !pthread_create(&m->threads[m->count], NULL, run, m)) m->count++;
  pthread_mutex_unlock(&m->mutex);
}

static bool has(const mortal *m, const char *word) {
  for (const char *at = m->words; (at = strstr(at, word)); at++) {
    char after = at[strlen(word)];
    if ((at == m->words || at[-1] == ' ') && (!after || after == ' ')) return true;
  }
  return false;
}

static void prepare(void *userdata, segue_op *op, const segue_slice *next, const segue_slice *prev,
                    void **instance) {
  const char *words = NULL;
  (void)userdata, (void)prev;
  mortal *m = calloc(1, sizeof *m);
  if (!m) {
    segue_op_done(op, SEGUE_EMODULE, NULL);
    return;
  }
  pthread_mutex_init(&m->mutex, NULL);
  m->self = op;
  if (next->config && segue_node_string(next->config, &words, NULL) == 0)
    snprintf(m->words, sizeof m->words, "%s", words);
  *instance = m;
  segue_op_done(op, 0, NULL);
}

static void start(void *instance, segue_op *op) {
  mortal *m = instance;
  if (has(m, "start")) report(m, "died at once");
  segue_op_done(op, 0, NULL);
  if (has(m, "started")) start_thread(m, die);
  for (int i = 0; i < 4 && has(m, "storm"); i++)
    start_thread(m, storm);
}

static void drain(void *instance, segue_op *op) {
  if (has(instance, "drain")) report(instance, "died while it drained");
  segue_op_done(op, 0, NULL);
}

static void destroy(void *instance) {
  mortal *m = instance;
  pthread_mutex_lock(&m->mutex);
  m->over = true;
  pthread_mutex_unlock(&m->mutex);
  for (size_t i = 0; i < m->count; i++)
    pthread_join(m->threads[i], NULL);
  pthread_mutex_destroy(&m->mutex);
  free(m);
}

static void handle(void *instance, segue_request *request) {
  if (!strcmp(segue_request_path(request), "/die")) start_thread(instance, die);
  segue_answer answer = {.status = 200, .content_type = "text/plain", .body = "alive", .len = 5};
  segue_request_answer(request, &answer);
}

static const segue_module_ops ops = {.size = sizeof ops,
                                     .prepare = prepare,
                                     .start = start,
                                     .drain = drain,
                                     .destroy = destroy,
                                     .handle = handle};

SEGUE_API const segue_module_descriptor segue_module = {.magic = SEGUE_MODULE_MAGIC,
                                                        .abi = SEGUE_MODULE_ABI,
                                                        .size = sizeof segue_module,
                                                        .name = "mortal",
                                                        .version = "1",
                                                        .ops = &ops};
