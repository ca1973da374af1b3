/* SPDX-License-Identifier: MIT
 *
 * worker_threads.h: the data threads as modules see them that run on these threads. Each has a loop
 * of its own, whose functions are called on that thread, but for segue__post, by which other
 * threads ask it for something. There are lanes from the first policy on that has a module which
 * listens or runs on them, always the same, until all modules are gone.
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

/* On the lane of a request that streams, after a write that was refused (UV_EAGAIN): fn runs there
 * once, when the client has taken all that was written, or left. fn NULL: takes that back. */
void segue__ingress_request_await(segue_request *request, void (*fn)(void *data), void *data);
/* On the lane of an unanswered request: calls fn there once, when the client has left. fn must not
 * answer the request before it returns. */
void segue__request_on_left(segue_request *request, void (*fn)(void *data), void *data);

#endif
