/* SPDX-License-Identifier: MIT
 *
 * A worker thread serves requests on a libuv loop of its own. Other threads post commands to it
 * under its lock and wake it. After stop it closes its connections; it ends only after a separate
 * end command, because modules may still run on it. Requests that are in use then keep its memory.
 */
#include <string.h>

#include "../os/thread.h"
#include "ingress_internal.h"

enum { SCARCE_TOLD_MS = 10000 }; /* time between two log lines about descriptors of one listener */

static __thread segue__worker_thread *here;

bool segue__worker_thread_is_here(const segue__worker_thread *worker) {
  return here == worker;
}

/* ---- Thread listeners, on the worker thread -------------------------------------------------- */

static void worker_on_server_closed(void *data) {
  segue__thread_listener *thread_listener = data;
  segue__worker_thread *worker = thread_listener->worker;
  for (segue__thread_listener **link = &worker->thread_listeners; *link; link = &(*link)->next)
    if (*link == thread_listener) {
      *link = thread_listener->next;
      break;
    }
  segue__listener_done(thread_listener->listener, thread_listener);
  segue__route_unref(thread_listener->route);
  segue__route_unref(__atomic_exchange_n(&thread_listener->next_route, NULL, __ATOMIC_ACQ_REL));
  segue__listener_unref(thread_listener->listener);
  segue__free(thread_listener);
  uv_async_send(&worker->async); /* it may be the last one */
}

/* Called before each request and each connection. Routes are exchanged by one pointer and not by a
 * message, because a message could be behind requests that arrived after the reload was answered.
 */
segue__route *segue__thread_listener_entry(segue__thread_listener *thread_listener) {
  if (__builtin_expect(!!__atomic_load_n(&thread_listener->next_route, __ATOMIC_ACQUIRE), 0)) {
    segue__route *route = __atomic_exchange_n(&thread_listener->next_route, NULL, __ATOMIC_ACQ_REL);
    segue__http_server_limit(thread_listener->server, &route->limits);
    if (thread_listener->http_listener)
      segue__http_listener_set(thread_listener->http_listener, route->tls, NULL, NULL);
    segue__route_unref(thread_listener->route);
    thread_listener->route = route;
  }
  return thread_listener->route;
}

/* From the answer to a reload on, clients get the certificate of the new policy. */
static void on_connection(void *data) {
  segue__thread_listener_entry(data);
}

static void add_one(uint64_t *counter) {
  __atomic_store_n(counter, *counter + 1, __ATOMIC_RELAXED);
}

static void worker_on_tls_failure(void *data, const char *peer, void *auth, const char *why) {
  (void)peer, (void)auth, (void)why; /* only counted: clients could fill a log */
  add_one(&((segue__thread_listener *)data)->handshakes);
}

static void on_refusal(void *data, const char *peer, int status) {
  segue__thread_listener *thread_listener = data;
  if (thread_listener->route->log)
    segue__access_note(
        thread_listener, NULL,
        &(segue__access){.peer = peer, .module = thread_listener->route->module, .status = status});
}

static void worker_on_crowd(void *data, const char *peer) {
  (void)peer;
  add_one(&((segue__thread_listener *)data)->crowd);
}

static void worker_on_scarce(void *data) {
  segue__thread_listener *thread_listener = data;
  uint64_t now = uv_now(&thread_listener->worker->uv);
  add_one(&thread_listener->scarce);
  if (thread_listener->scarce > 1 && now - thread_listener->scarce_reported_ms < SCARCE_TOLD_MS)
    return;
  thread_listener->scarce_reported_ms = now;
  SEGUE__LOG(
      thread_listener->worker->log, SEGUE_WARN, "ingress",
      "too few file descriptors are left: new clients of this listener wait until others leave "
      "(raise LimitNOFILE=, ulimit -n)",
      SEGUE__FIELD("address", thread_listener->listener->address.text));
}

static void worker_begin(segue__thread_listener *thread_listener) {
  static const segue__http_events events = {.on_connection = on_connection,
                                            .on_tls_failure = worker_on_tls_failure,
                                            .on_refusal = on_refusal,
                                            .on_scarce = worker_on_scarce,
                                            .on_crowd = worker_on_crowd};
  segue__worker_thread *worker = thread_listener->worker;
  thread_listener->next = worker->thread_listeners;
  worker->thread_listeners = thread_listener;
  segue__http_server_poll(thread_listener->server, worker->poller);
  segue__http_server_begin(thread_listener->server, &worker->uv);
  segue__http_server_watch(thread_listener->server, &events);
  segue__thread_listener_entry(thread_listener);
  int rc = segue__http_listener_begin(thread_listener->http_listener, thread_listener->server);
  if (rc == 0) return;
  thread_listener->http_listener = NULL;
  SEGUE__LOG(worker->log, SEGUE_ERROR, "ingress", "a worker thread cannot watch a listener",
             SEGUE__FIELD("address", thread_listener->listener->address.text),
             SEGUE__FIELD("error", uv_strerror(rc)));
}

static bool worker_may_accept(void *data) {
  const segue__thread_listener *thread_listener = data;
  return segue__socket_is_deaf(&thread_listener->lease);
}

static void worker_on_listener_closed(void *data) {
  segue__thread_listener *thread_listener = data;
  segue__listener_left(thread_listener->listener, thread_listener);
}

/* Without a listener (it could not be watched) nothing keeps the lease. */
static void worker_leave(segue__thread_listener *thread_listener) {
  segue__http_listener *http_listener = thread_listener->http_listener;
  segue__socket_leave(&thread_listener->lease);
  const segue__http_linger linger = {.ms = segue__socket_linger_ms(&thread_listener->lease),
                                     .may_accept = worker_may_accept,
                                     .on_closed = worker_on_listener_closed,
                                     .data = thread_listener};
  thread_listener->closing = true;
  thread_listener->http_listener = NULL;
  if (http_listener)
    segue__http_listener_linger(http_listener, &linger);
  else
    worker_on_listener_closed(thread_listener);
}

/* The lease leaves first, so that no further client connects; closing the server then accepts the
 * clients that have connected; only after that the thread's part of the socket is released. A
 * second call (a stop after the end of a listener) shortens the time limit only. */
static void close_server(segue__thread_listener *thread_listener, uint64_t grace_ms) {
  if (!thread_listener->closing) worker_leave(thread_listener);
  segue__http_server_close(thread_listener->server, grace_ms, worker_on_server_closed,
                           thread_listener);
}

static void worker_obey(segue__thread_listener *thread_listener, bool to_begin, bool to_end,
                        uint64_t grace_ms) {
  if (to_begin) worker_begin(thread_listener);
  if (to_end) close_server(thread_listener, grace_ms);
}

/* ---- Commands -------------------------------------------------------------------------------- */

static bool obey_one(segue__worker_thread *worker) {
  pthread_mutex_lock(&worker->lock);
  segue__thread_listener *thread_listener = worker->command;
  bool to_begin = false, to_end = false;
  uint64_t grace_ms = 0;
  if (thread_listener) {
    worker->command = thread_listener->command_next;
    if (!worker->command) worker->last_command = NULL;
    to_begin = thread_listener->begin;
    to_end = thread_listener->end;
    grace_ms = thread_listener->grace_ms;
    thread_listener->begin = thread_listener->end = thread_listener->queued = false;
  }
  pthread_mutex_unlock(&worker->lock);
  if (thread_listener) worker_obey(thread_listener, to_begin, to_end, grace_ms);
  return thread_listener != NULL;
}

/* Takes the requests that are in the inbox now. Requests that arrive meanwhile wait for the next
 * turn of the loop: an answer may lead to further requests, and the loop would not end. */
static segue_request *take_inbox(segue__worker_thread *worker, bool *stop) {
  pthread_mutex_lock(&worker->lock);
  segue_request *first = worker->inbox;
  worker->inbox = worker->last = NULL;
  *stop = worker->stop;
  pthread_mutex_unlock(&worker->lock);
  return first;
}

/* Shortens the time limit of servers that are closing already. */
static void worker_close_all(segue__worker_thread *worker) {
  for (segue__thread_listener *thread_listener = worker->thread_listeners; thread_listener;
       thread_listener = thread_listener->next)
    close_server(thread_listener, worker->stop_grace_ms);
}

static void on_empty(segue__message *message) {
  segue__worker_thread *worker =
      (segue__worker_thread *)((char *)message - offsetof(segue__worker_thread, empty_message));
  if (worker->is_empty) return; /* it returned after it was abandoned */
  worker->is_empty = true;
  worker->events.on_empty(worker->events.data);
}

/* No client is connected any more. Modules continue on this thread until they are stopped; then the
 * ingress allows it to end (`over`). The thread closes its inbox only if it is empty, under the
 * lock: a post of another thread comes either before, and is handled, or sees `closed`. */
static void wind_up(segue__worker_thread *worker) {
  if (!worker->reported_empty) {
    worker->reported_empty = true;
    worker->empty_message.fn = on_empty;
    segue__post(worker->control, &worker->empty_message);
  }
  pthread_mutex_lock(&worker->lock);
  bool over = worker->over && !worker->inbox && !worker->command && !worker->closed;
  if (over) worker->closed = true;
  pthread_mutex_unlock(&worker->lock);
  if (!over) return;
  uv_close((uv_handle_t *)&worker->async, NULL);
  segue__loop_close(worker->loop, NULL, NULL);
}

static void worker_on_async(uv_async_t *async) {
  segue__worker_thread *worker = async->data;
  bool stop;
  while (obey_one(worker))
    ;
  for (segue__thread_listener *thread_listener = worker->thread_listeners; thread_listener;
       thread_listener = thread_listener->next)
    segue__thread_listener_entry(thread_listener);
  for (segue_request *request = take_inbox(worker, &stop), *next; request; request = next) {
    next = request->next;
    segue__ingress_request_look(request);
  }
  if (stop) worker_close_all(worker);
  if (stop && !worker->thread_listeners) wind_up(worker);
}

/* The wake-up is sent under the lock, because the handle may be closed as soon as `closed` is set.
 */
bool segue__worker_thread_post_unlock(segue_request *request) {
  segue__worker_thread *worker = request->worker;
  bool taken = !worker->closed;
  if (taken && !request->posted) {
    request->posted = true;
    request->next = NULL;
    if (worker->last)
      worker->last->next = request;
    else
      worker->inbox = request;
    worker->last = request;
    uv_async_send(&worker->async);
  }
  pthread_mutex_unlock(&worker->lock);
  return taken;
}

static void worker_command(segue__thread_listener *thread_listener, bool to_end,
                           uint64_t grace_ms) {
  segue__worker_thread *worker = thread_listener->worker;
  pthread_mutex_lock(&worker->lock);
  thread_listener->begin |= !to_end;
  thread_listener->end |= to_end;
  thread_listener->grace_ms = grace_ms;
  if (!thread_listener->queued) {
    thread_listener->queued = true;
    thread_listener->command_next = NULL;
    if (worker->last_command)
      worker->last_command->command_next = thread_listener;
    else
      worker->command = thread_listener;
    worker->last_command = thread_listener;
    uv_async_send(&worker->async);
  }
  pthread_mutex_unlock(&worker->lock);
}

void segue__thread_listener_begin(segue__thread_listener *thread_listener) {
  worker_command(thread_listener, false, 0);
}

void segue__thread_listener_end(segue__thread_listener *thread_listener, uint64_t grace_ms) {
  worker_command(thread_listener, true, grace_ms);
}

void segue__thread_listener_enter_by(segue__thread_listener *thread_listener, segue__route *route) {
  __atomic_add_fetch(&route->refs, 1, __ATOMIC_RELAXED);
  segue__route_unref(__atomic_exchange_n(&thread_listener->next_route, route, __ATOMIC_ACQ_REL));
}

void segue__thread_listener_drop(segue__thread_listener *thread_listener) {
  if (!thread_listener) return;
  segue__http_listener_drop(thread_listener->http_listener);
  segue__socket_release(&thread_listener->lease);
  segue__http_server_drop(thread_listener->server);
  segue__route_unref(thread_listener->next_route);
  segue__listener_unref(thread_listener->listener);
  segue__free(thread_listener);
}

/* ---- Life ---- */

static void free_pool(segue__worker_thread *worker) {
  while (worker->pool) {
    segue_request *next = worker->pool->next;
    segue__free(worker->pool);
    worker->pool = next;
  }
}

static void on_ended(segue__message *message) {
  segue__worker_thread *worker =
      (segue__worker_thread *)((char *)message - offsetof(segue__worker_thread, message));
  pthread_join(worker->thread, NULL);
  worker->events.on_end(worker->events.data);
}

static void *worker_run(void *data) {
  segue__worker_thread *worker = data;
  here = worker;
  segue__poller_run(worker->poller);
  /* A child that another thread forks now finds the poller or NULL, never freed memory. */
  segue__poller_free(__atomic_exchange_n(&worker->poller, NULL, __ATOMIC_ACQ_REL));
  uv_loop_close(&worker->uv);
  free_pool(worker);
  segue__buf_deinit(&worker->headers);
  segue__buf_deinit(&worker->line);
  pthread_mutex_lock(&worker->lock);
  /* Requests that became orphans since the inbox closed have been subtracted before: the unsigned
   * sum is right in any order. */
  worker->orphans += worker->out;
  pthread_mutex_unlock(&worker->lock);
  worker->message.fn = on_ended;
  segue__post(worker->control, &worker->message);
  return NULL;
}

static int open_loop(segue__worker_thread *worker) {
  int rc = uv_loop_init(&worker->uv);
  if (rc < 0) return rc;
  rc = uv_async_init(&worker->uv, &worker->async, worker_on_async);
  if (rc < 0) {
    uv_loop_close(&worker->uv);
    return rc;
  }
  worker->async.data = worker;
  rc = segue__poller_new(&worker->poller, &worker->uv);
  if (rc == 0) rc = segue__loop_open_uv(&worker->loop, &worker->uv);
  if (rc == 0) rc = segue__thread_start(&worker->thread, "segue-ingress", 0, worker_run, worker);
  if (rc < 0) {
    uv_close((uv_handle_t *)&worker->async, NULL);
    segue__loop_close(worker->loop, NULL, NULL);
    uv_run(&worker->uv, UV_RUN_DEFAULT);
    segue__poller_free(worker->poller);
    uv_loop_close(&worker->uv);
  }
  return rc;
}

int segue__worker_thread_start(segue__worker_thread **out, segue__loop *control,
                               const segue__logger *log,
                               const segue__worker_thread_events *events) {
  segue__worker_thread *worker = segue__calloc(1, sizeof *worker);
  *out = NULL;
  if (!worker) return UV_ENOMEM;
  worker->control = control;
  worker->log = log;
  worker->events = *events;
  pthread_mutex_init(&worker->lock, NULL);
  int rc = open_loop(worker);
  if (rc < 0) {
    pthread_mutex_destroy(&worker->lock);
    segue__free(worker);
    return rc;
  }
  *out = worker;
  return 0;
}

void segue__worker_thread_stop(segue__worker_thread *worker, uint64_t grace_ms) {
  pthread_mutex_lock(&worker->lock);
  worker->stop_grace_ms = grace_ms;
  worker->stop = true;
  if (!worker->closed) uv_async_send(&worker->async);
  pthread_mutex_unlock(&worker->lock);
}

void segue__worker_thread_end(segue__worker_thread *worker) {
  pthread_mutex_lock(&worker->lock);
  worker->over = true;
  uv_async_send(&worker->async);
  pthread_mutex_unlock(&worker->lock);
}

void segue__worker_thread_free(segue__worker_thread *worker) {
  pthread_mutex_lock(&worker->lock);
  worker->disowned = true;
  bool free_it = worker->orphans == 0;
  pthread_mutex_unlock(&worker->lock);
  if (!free_it) return;
  pthread_mutex_destroy(&worker->lock);
  segue__free(worker);
}
