/* SPDX-License-Identifier: MIT
 *
 * pipe.h: what the modules of this example are to each other. A module reaches another one by the
 * gate of that name; what it finds there begins with one of the tables below, which every build of
 * the modules shares. A call is one piece of memory with a count of who has it, so that it goes
 * from module to module while they are replaced.
 */
#ifndef BIGPIPE_PIPE_H
#define BIGPIPE_PIPE_H

#include <segue.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { PIPE_TARGET_MAX = 63, PIPE_REASON_MAX = 95 };

typedef enum pipe_outcome {
  PIPE_DELIVERED, /* the target answered 2xx: never again */
  PIPE_RETRY,     /* it did not: again in pause_ms */
  PIPE_DEAD       /* the retry rules give it up */
} pipe_outcome;

typedef struct pipe_call pipe_call;
struct pipe_call {
  atomic_int refs;
  uint64_t id;       /* given by the queue */
  uint32_t attempts; /* deliveries that failed */
  char target[PIPE_TARGET_MAX + 1];

  /* Owned by the current holder: the front, the queue's inbox, the dispatcher, the inbox again. */
  pipe_call *next;
  segue_request *request; /* until it is answered */
  pipe_outcome outcome;
  uint32_t pause_ms;
  char reason[PIPE_REASON_MAX + 1];

  size_t len;
  char payload[];
};

static inline pipe_call *pipe_call_new(size_t len) {
  pipe_call *call = calloc(1, sizeof *call + len);
  if (!call) return NULL;
  atomic_init(&call->refs, 1);
  call->len = len;
  return call;
}

static inline pipe_call *pipe_call_ref(pipe_call *call) {
  atomic_fetch_add_explicit(&call->refs, 1, memory_order_relaxed);
  return call;
}

static inline void pipe_call_unref(pipe_call *call) {
  if (call && atomic_fetch_sub_explicit(&call->refs, 1, memory_order_acq_rel) == 1) free(call);
}

/* The gate "queue" leads to this. [any thread] */
typedef struct pipe_queue pipe_queue;
struct pipe_queue {
  /* 0: the call and its request are the queue's, which answers 202 once the call is kept.
   * SEGUE_ELIMIT: it is full. UV_ENOMEM. */
  int (*put)(pipe_queue *queue, pipe_call *call);
  /* The outcome of a call that was handed out. Takes the reference. */
  void (*report)(pipe_queue *queue, pipe_call *call);
};

/* The gate "dispatcher" leads to this. [any thread] */
enum { PIPE_TAKEN, PIPE_TARGET_BUSY, PIPE_BUSY };
typedef struct pipe_dispatcher pipe_dispatcher;
struct pipe_dispatcher {
  /* PIPE_TAKEN: a reference of its own; exactly one report follows. Else nothing happened. */
  int (*push)(pipe_dispatcher *dispatcher, pipe_call *call);
};

/* ---- config.c: reads a module's slice; errors name the place ---- */

int pipe_uint(const segue_slice *slice, const char *path, uint64_t min, uint64_t max,
              uint64_t otherwise, uint64_t *out, segue_error *error);
int pipe_double(const segue_slice *slice, const char *path, double min, double max,
                double otherwise, double *out, segue_error *error);
int pipe_text(const segue_slice *slice, const char *path, const char *otherwise, const char **out,
              segue_error *error);

#endif
