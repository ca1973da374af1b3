/* SPDX-License-Identifier: MIT
 *
 * The queue as a module: configuration, life, and its two doors. It holds a lock on its folder from
 * start to stop, so it cannot be there twice, and is replaced by "restart": its gate is shut for
 * the few milliseconds in which one instance writes what it has and the next one reads it.
 */
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "queue.h"

/* ---- The doors ---- */

static void append(pipe_call **first, pipe_call **last, pipe_call *call) {
  call->next = NULL;
  if (*last)
    (*last)->next = call;
  else
    *first = call;
  *last = call;
}

static int put(pipe_queue *face, pipe_call *call) {
  queue *q = (queue *)face;
  pthread_mutex_lock(&q->lock);
  bool room = q->kept_count < q->max_calls && call->len <= q->max_bytes &&
              q->kept_bytes <= q->max_bytes - call->len;
  if (room) {
    q->kept_count++;
    q->kept_bytes += call->len;
    append(&q->put_first, &q->put_last, call);
    pthread_cond_signal(&q->wake);
  }
  pthread_mutex_unlock(&q->lock);
  return room ? 0 : SEGUE_ELIMIT;
}

static void report(pipe_queue *face, pipe_call *call) {
  queue *q = (queue *)face;
  pthread_mutex_lock(&q->lock);
  append(&q->report_first, &q->report_last, call);
  pthread_cond_signal(&q->wake);
  pthread_mutex_unlock(&q->lock);
}

/* ---- Configuration ---- */

static int read_sync(queue *q, const segue_slice *slice, segue_error *error) {
  const segue_node *node = segue_node_get(slice->config, "fsync");
  const char *text = "always";
  if (segue_node_type(node) == SEGUE_INT)
    return pipe_uint(slice, "fsync", 2, 60000, 100, &q->sync_ms, error);
  if (node) (void)segue_node_string(node, &text, NULL);
  q->sync_ms = strcmp(text, "always") ? SYNC_NEVER : SYNC_ALWAYS;
  if (!strcmp(text, "always") || !strcmp(text, "never")) return 0;
  return segue_error_at(error, SEGUE_ECONFIG, slice->snapshot, node,
                        "fsync must be always, never, or every how many milliseconds");
}

static int read_folder(queue *q, const segue_slice *slice, segue_error *error) {
  const char *folder, *store;
  int rc = pipe_text(slice, "folder", "queue", &folder, error);
  if (!rc) rc = pipe_text(slice, "store", "disk", &store, error);
  if (rc) return rc;
  const segue_node *node = segue_node_get(slice->config, "folder");
  if (mkdir(folder, 0750) && access(folder, W_OK | X_OK))
    return segue_error_at(error, SEGUE_ECONFIG, slice->snapshot, node,
                          "folder cannot be written: make it, or name another one");
  q->folder = strdup(folder);
  q->memory = !strcmp(store, "memory");
  return q->folder ? 0 : segue_error_set(error, UV_ENOMEM, "out of memory");
}

static int read_config(queue *q, const segue_slice *slice, segue_error *error) {
  int rc = read_folder(q, slice, error);
  if (!rc) rc = read_sync(q, slice, error);
  if (!rc) rc = pipe_uint(slice, "max_calls", 1, 10000000, 100000, &q->max_calls, error);
  if (!rc) rc = pipe_uint(slice, "max_bytes", 1, 1ull << 34, 256 << 20, &q->max_bytes, error);
  return rc;
}

/* ---- Life ---- */

void legacy_unref(legacy *l) {
  if (!l || atomic_fetch_sub(&l->refs, 1) > 1) return;
  calls_deinit(&l->calls);
  free(l);
}

static void inherit(void *instance, void *prev) {
  legacy *left = ((queue *)prev)->left;
  if (left->layout != LEGACY_LAYOUT) return;
  atomic_fetch_add(&left->refs, 1);
  ((queue *)instance)->got = left;
}

static int make(queue *q, segue_op *op) {
  q->left = calloc(1, sizeof *q->left);
  if (q->left) q->left->layout = LEGACY_LAYOUT;
  if (q->left) atomic_init(&q->left->refs, 1);
  pthread_condattr_t attributes;
  q->face = (pipe_queue){put, report};
  q->s = segue_op_owner(op);
  q->dispatcher = segue_gate_get(q->s, "dispatcher");
  pthread_mutex_init(&q->lock, NULL);
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&q->wake, &attributes);
  pthread_condattr_destroy(&attributes);
  return q->dispatcher && q->left ? 0 : UV_ENOMEM;
}

static void prepare(void *userdata, segue_op *op, const segue_slice *next, const segue_slice *prev,
                    void **instance) {
  (void)userdata, (void)prev;
  segue_error error = {0};
  queue *q = calloc(1, sizeof *q);
  *instance = q;
  int rc = q ? make(q, op) : UV_ENOMEM;
  rc = rc ? segue_error_set(&error, rc, "out of memory") : read_config(q, next, &error);
  segue_op_done(op, rc, rc ? &error : NULL);
}

static void start(void *instance, segue_op *op) {
  queue *q = instance;
  q->start_op = op;
  int rc = -pthread_create(&q->thread, NULL, queue_work, q);
  q->running = !rc;
  if (rc) segue_op_done(op, rc, NULL);
}

static void stop(void *instance, segue_op *op) {
  queue *q = instance;
  if (!q->running) {
    segue_op_done(op, 0, NULL);
    return;
  }
  pthread_mutex_lock(&q->lock);
  q->stop_op = op;
  q->stop = true;
  pthread_cond_signal(&q->wake);
  pthread_mutex_unlock(&q->lock);
}

/* One whose start came too late was never stopped. */
static void end_thread(queue *q) {
  pthread_mutex_lock(&q->lock);
  q->stop = true;
  pthread_cond_signal(&q->wake);
  pthread_mutex_unlock(&q->lock);
  pthread_join(q->thread, NULL);
}

static void destroy(void *instance) {
  queue *q = instance;
  if (q->running) end_thread(q);
  if (q->locks) journal_close(&q->journal);
  calls_deinit(&q->calls);
  legacy_unref(q->left);
  legacy_unref(q->got);
  free(q->unwritten.data);
  free(q->folder);
  pthread_cond_destroy(&q->wake);
  pthread_mutex_destroy(&q->lock);
  free(q);
}

static const segue_module_ops ops = {.size = sizeof ops,
                                     .prepare = prepare,
                                     .start = start,
                                     .stop = stop,
                                     .destroy = destroy,
                                     .inherit = inherit};

SEGUE_API const segue_module_descriptor segue_module = {.magic = SEGUE_MODULE_MAGIC,
                                                        .abi = SEGUE_MODULE_ABI,
                                                        .size = sizeof(segue_module_descriptor),
                                                        .name = "bigpipe.queue",
                                                        .version = "1",
                                                        .ops = &ops};
