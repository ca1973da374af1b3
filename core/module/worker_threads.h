/* SPDX-License-Identifier: MIT
 *
 * worker_threads.h: the worker threads, for modules whose code runs on them. Each has a loop of its
 * own, whose functions are called on that thread, except segue__post, by which other threads send
 * it messages. The worker threads exist from the first policy on that has a module which listens or
 * runs on them, until all modules are destroyed; their number does not change.
 */
#ifndef SEGUE_MODULE_WORKER_THREADS_H
#define SEGUE_MODULE_WORKER_THREADS_H

#include "../os/loop.h"
#include "../segue.h"

typedef struct segue__worker_threads {
  size_t (*count)(void *data); /* control thread */
  segue__loop *(*loop)(void *data, size_t index);
  void *data;
} segue__worker_threads;

/* As segue_request_on_writable, but only on the worker thread of a request that streams, after a
 * write that was refused (UV_EAGAIN). It replaces a callback that waits; NULL removes it. The end
 * of the answer removes it without a call. */
void segue__ingress_request_await(segue_request *request, void (*cb)(void *data, int status),
                                  void *data);
/* On the worker thread of an unanswered request: fn runs there once, when the client has left. fn
 * must not answer the request before it returns. */
void segue__request_on_left(segue_request *request, void (*fn)(void *data), void *data);

#endif
