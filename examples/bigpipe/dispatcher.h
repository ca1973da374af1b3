/* SPDX-License-Identifier: MIT
 *
 * dispatcher.h: what the files of the dispatcher share. A call is pushed by the queue's thread,
 * delivered by the dispatcher's own, and reported through the queue's gate. The next dispatcher
 * starts beside this one, which continues with the calls that it has, by its own rules.
 */
#ifndef BIGPIPE_DISPATCHER_H
#define BIGPIPE_DISPATCHER_H

#include <curl/curl.h>
#include <pthread.h>

#include "pipe.h"

typedef struct target {
  char name[PIPE_TARGET_MAX + 1];
  const char *url; /* in the snapshot */
  uint64_t concurrency, active;
  char delivered[128], retried[128], dead[128]; /* series */
} target;

typedef struct retry_rules {
  uint64_t attempts, first_ms, max_ms;
  double factor;
} retry_rules;

typedef struct dispatcher dispatcher;

/* One delivery. The arrival is for the way back, when the queue's gate is shut. */
typedef struct flight {
  segue_arrival arrival; /* first */
  dispatcher *dispatcher;
  pipe_call *call;
  target *target; /* NULL: there is none of this name */
  CURL *easy;
  struct curl_slist *headers;
  char id_header[32];
  uint64_t deadline_ms; /* 0: the request has not been sent yet */
  long sent;            /* bytes of the request */
  struct flight *next, *prev;
} flight;

struct dispatcher {
  pipe_dispatcher face; /* first */
  segue *s;
  segue_gate *queue;
  uint64_t concurrency, timeout_ms;
  retry_rules retry;
  target *targets;
  size_t target_count;
  CURLM *multi;
  flight *flying; /* of the dispatcher's thread */

  pthread_mutex_t lock;
  flight *inbox, *last, *unreported, *spare;
  uint64_t active, unsettled; /* in flight; not yet reported */
  segue_op *drain_op, *stop_op;
  bool stop;
  pthread_t thread;
  bool running;
};

/* dispatcher_config.c */
int dispatcher_read(dispatcher *d, const segue_slice *slice, segue_error *error);

/* delivery.c */
void *dispatcher_work(void *instance);
void flight_free(flight *f);
void delivery_settled(dispatcher *d, flight *f); /* reported or abandoned */

#endif
