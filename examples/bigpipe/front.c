/* SPDX-License-Identifier: MIT
 *
 * The front: POST /call?target=NAME with a payload. It validates the call by the configuration of
 * its own generation and puts it into the queue, which answers. While the queue is restarted its
 * gate is shut, and calls wait there.
 */
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "pipe.h"

typedef struct front {
  segue *s;
  segue_gate *queue;
  uint64_t max_payload;
  char retry_after[16];
} front;

/* A call that waits at the queue's gate. */
typedef struct waiting {
  segue_arrival arrival; /* first */
  front *front;
  pipe_call *call;
} waiting;

/* ---- Answers ---- */

static void answer(segue_request *request, int status, const char *name, const char *value,
                   const char *text) {
  segue_header header = {{name, name ? strlen(name) : 0}, {value, value ? strlen(value) : 0}};
  segue_answer a = {.status = status,
                    .content_type = "text/plain; charset=utf-8",
                    .headers = &header,
                    .header_count = name != NULL,
                    .body = text,
                    .len = strlen(text)};
  if (segue_request_answer(request, &a)) segue_request_end(request);
}

static void refuse(const front *f, pipe_call *call) {
  (void)segue_count(f->s, "refused_total", 1);
  answer(call->request, 503, "Retry-After", f->retry_after, "the queue takes no calls now\n");
  pipe_call_unref(call);
}

/* ---- Into the queue ---- */

static void put(const front *f, segue_pass *pass, pipe_call *call) {
  pipe_queue *queue = pass->instance;
  int rc = queue->put(queue, call);
  segue_gate_leave(pass);
  if (rc) refuse(f, call);
}

static void on_gate(segue_arrival *arrival, int status) {
  waiting *w = (waiting *)arrival;
  waiting copy = *w;
  free(w);
  if (status)
    refuse(copy.front, copy.call);
  else
    put(copy.front, &copy.arrival.pass, copy.call);
}

static void wait_for(front *f, pipe_call *call) {
  waiting *w = calloc(1, sizeof *w);
  if (!w) {
    refuse(f, call);
    return;
  }
  *w = (waiting){
      .arrival = {.cb = on_gate, .bytes = sizeof *call + call->len}, .front = f, .call = call};
  int rc = segue_gate_submit(f->queue, &w->arrival);
  if (rc == SEGUE_QUEUED) return;
  on_gate(&w->arrival, rc == SEGUE_RUN ? 0 : rc);
}

static void hand_over(front *f, pipe_call *call) {
  segue_pass pass;
  int rc = segue_gate_enter(f->queue, &pass);
  if (rc == 0)
    put(f, &pass, call);
  else if (rc == UV_EAGAIN)
    wait_for(f, call);
  else
    refuse(f, call);
}

/* ---- Requests ---- */

static bool is_known(segue_request *request, const char *target) {
  const segue_node *root = segue_snapshot_root(segue_request_snapshot(request));
  return segue_node_member(segue_node_get(root, "dispatcher.targets"), target) != NULL;
}

static void take(front *f, segue_request *request) {
  char target[PIPE_TARGET_MAX + 1];
  segue_text body = segue_request_body(request);
  if (!segue_request_parameter(request, "target", target, sizeof target)) {
    answer(request, 400, NULL, NULL, "name the target: POST /call?target=NAME\n");
    return;
  }
  if (!is_known(request, target)) {
    answer(request, 404, NULL, NULL, "no such target: see dispatcher.targets in config.yaml\n");
    return;
  }
  if (body.len > f->max_payload) {
    answer(request, 413, NULL, NULL, "the payload is above front.max_payload\n");
    return;
  }
  pipe_call *call = pipe_call_new(body.len);
  if (!call) {
    answer(request, 503, "Retry-After", f->retry_after, "out of memory\n");
    return;
  }
  memcpy(call->target, target, sizeof target);
  if (body.len) memcpy(call->payload, body.s, body.len);
  call->request = request;
  hand_over(f, call);
}

static void handle(void *instance, segue_request *request) {
  segue_text method = segue_request_method(request);
  if (strcmp(segue_request_path(request), "/call") != 0)
    answer(request, 404, NULL, NULL, "POST /call?target=NAME\n");
  else if (method.len != 4 || memcmp(method.s, "POST", 4) != 0)
    answer(request, 405, "Allow", "POST", "POST /call?target=NAME\n");
  else
    take(instance, request);
}

/* ---- Life ---- */

static void prepare(void *userdata, segue_op *op, const segue_slice *next, const segue_slice *prev,
                    void **instance) {
  (void)userdata, (void)prev;
  segue_error error = {0};
  uint64_t retry_after = 1;
  front *f = calloc(1, sizeof *f);
  *instance = f;
  int rc = f ? 0 : segue_error_set(&error, UV_ENOMEM, "out of memory");
  if (!rc) {
    f->s = segue_op_owner(op);
    f->queue = segue_gate_get(f->s, "queue");
    if (!f->queue) rc = segue_error_set(&error, UV_ENOMEM, "out of memory");
  }
  if (!rc) rc = pipe_uint(next, "max_payload", 0, 1 << 20, 65536, &f->max_payload, &error);
  if (!rc) rc = pipe_uint(next, "retry_after", 1, 3600, 1, &retry_after, &error);
  if (!rc) snprintf(f->retry_after, sizeof f->retry_after, "%d", (int)retry_after);
  segue_op_done(op, rc, rc ? &error : NULL);
}

static const segue_module_ops ops = {
    .size = sizeof ops, .prepare = prepare, .destroy = free, .handle = handle};

SEGUE_API const segue_module_descriptor segue_module = {.magic = SEGUE_MODULE_MAGIC,
                                                        .abi = SEGUE_MODULE_ABI,
                                                        .size = sizeof(segue_module_descriptor),
                                                        .name = "bigpipe.front",
                                                        .version = "1",
                                                        .ops = &ops};
