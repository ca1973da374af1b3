/* SPDX-License-Identifier: MIT
 *
 * The dispatcher as a module, replaced by "handover": the next one starts beside it and gets what
 * the queue pushes from then on; this one drains, which is over when each of its calls has been
 * reported.
 */
#include <dlfcn.h>
#include <string.h>
#include <uv.h>

#include "dispatcher.h"

/* ---- The door ---- */

static target *find(const dispatcher *d, const char *name) {
  for (size_t i = 0; i < d->target_count; i++)
    if (!strcmp(d->targets[i].name, name)) return &d->targets[i];
  return NULL;
}

/* Under the lock. */
static flight *board(dispatcher *d, target *t, pipe_call *call) {
  flight *f = d->spare;
  if (f)
    d->spare = f->next;
  else if (!(f = calloc(1, sizeof *f)))
    return NULL;
  f->dispatcher = d;
  f->call = pipe_call_ref(call);
  f->target = t;
  f->next = NULL;
  if (d->last)
    d->last->next = f;
  else
    d->inbox = f;
  d->last = f;
  d->active++;
  d->unsettled++;
  if (t) t->active++;
  return f;
}

static int push(pipe_dispatcher *face, pipe_call *call) {
  dispatcher *d = (dispatcher *)face;
  target *t = find(d, call->target);
  pthread_mutex_lock(&d->lock);
  int rc = d->stop || d->active >= d->concurrency ? PIPE_BUSY
           : t && t->active >= t->concurrency     ? PIPE_TARGET_BUSY
           : board(d, t, call)                    ? PIPE_TAKEN
                                                  : PIPE_BUSY;
  if (rc == PIPE_TAKEN) curl_multi_wakeup(d->multi);
  pthread_mutex_unlock(&d->lock);
  return rc;
}

/* ---- Life ---- */

/* libcurl stays when this plugin is unloaded: it leaves things behind that call into it. */
static int make(dispatcher *d, segue_op *op) {
  d->face = (pipe_dispatcher){push};
  d->s = segue_op_owner(op);
  d->queue = segue_gate_get(d->s, "queue");
  pthread_mutex_init(&d->lock, NULL);
  if (!dlopen("libcurl.so.4", RTLD_NOW | RTLD_NODELETE) || curl_global_init(CURL_GLOBAL_DEFAULT))
    return SEGUE_EMODULE;
  d->multi = curl_multi_init();
  return d->queue && d->multi ? 0 : UV_ENOMEM;
}

static void prepare(void *userdata, segue_op *op, const segue_slice *next, const segue_slice *prev,
                    void **instance) {
  (void)userdata, (void)prev;
  segue_error error = {0};
  dispatcher *d = calloc(1, sizeof *d);
  *instance = d;
  int rc = d ? make(d, op) : UV_ENOMEM;
  rc = rc ? segue_error_set(&error, rc, "libcurl does not start: %s", segue_strerror(rc))
          : dispatcher_read(d, next, &error);
  if (!rc) curl_multi_setopt(d->multi, CURLMOPT_MAXCONNECTS, (long)d->concurrency);
  segue_op_done(op, rc, rc ? &error : NULL);
}

static void start(void *instance, segue_op *op) {
  dispatcher *d = instance;
  int rc = -pthread_create(&d->thread, NULL, dispatcher_work, d);
  d->running = !rc;
  segue_op_done(op, rc, NULL);
}

static void drain(void *instance, segue_op *op) {
  dispatcher *d = instance;
  pthread_mutex_lock(&d->lock);
  bool idle = !d->unsettled;
  if (!idle) d->drain_op = op;
  pthread_mutex_unlock(&d->lock);
  if (idle) segue_op_done(op, 0, NULL);
}

static void begin_stop(dispatcher *d, segue_op *op) {
  pthread_mutex_lock(&d->lock);
  d->stop = true;
  d->stop_op = op;
  curl_multi_wakeup(d->multi);
  pthread_mutex_unlock(&d->lock);
}

/* Calls that its drain did not wait for are not cut off, but waited for here: a target may be
 * answering one at this moment. */
static void stop(void *instance, segue_op *op) {
  dispatcher *d = instance;
  if (d->running)
    begin_stop(d, op);
  else
    segue_op_done(op, 0, NULL);
}

static void destroy(void *instance) {
  dispatcher *d = instance;
  if (d->running) {
    if (!d->stop) begin_stop(d, NULL);
    pthread_join(d->thread, NULL);
  }
  while (d->spare) {
    flight *f = d->spare;
    d->spare = f->next;
    flight_free(f);
  }
  if (d->multi) {
    curl_multi_cleanup(d->multi);
    curl_global_cleanup();
  }
  pthread_mutex_destroy(&d->lock);
  free(d->targets);
  free(d);
}

static const segue_module_ops ops = {.size = sizeof ops,
                                     .prepare = prepare,
                                     .start = start,
                                     .drain = drain,
                                     .stop = stop,
                                     .destroy = destroy};

SEGUE_API const segue_module_descriptor segue_module = {.magic = SEGUE_MODULE_MAGIC,
                                                        .abi = SEGUE_MODULE_ABI,
                                                        .size = sizeof(segue_module_descriptor),
                                                        .name = "bigpipe.dispatcher",
                                                        .version = "1",
                                                        .ops = &ops};
