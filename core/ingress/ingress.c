/* SPDX-License-Identifier: MIT
 *
 * The ingress on the control thread: its listeners, their routes, and what a transaction does with
 * them. Everything that can fail happens while staging: sockets are bound and the servers of all
 * worker threads are made; afterwards only messages are posted.
 */
#include "ingress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../module/module.h"
#include "../os/fork.h"
#include "ingress_internal.h"

/* ACCEPTS_SHARED: where several worker threads accept on one socket, each takes only a few
 * connections in one turn of its loop. Otherwise the thread that wakes first takes all of a crowd,
 * and the others stay idle. */
enum { GONE_MS = 30000, UNDONE_MS = 1000, ACCEPTS_SHARED = 4, CONNECTIONS = 10000 };
enum { SPARE_SHARE = 4 }; /* clients leave a quarter of a low limit of descriptors free */

int segue__ingress_new(segue__ingress **out, const segue__ingress_options *options) {
  segue__ingress *ingress = segue__calloc(1, sizeof *ingress);
  *out = ingress;
  if (!ingress) return UV_ENOMEM;
  ingress->options = *options;
  return 0;
}

/* ---- Routes ---------------------------------------------------------------------------------- */

void segue__route_unref(segue__route *route) {
  if (!route || __atomic_sub_fetch(&route->refs, 1, __ATOMIC_ACQ_REL)) return;
  segue__tls_context_unref(route->tls);
  segue__access_log_unref(route->log);
  segue__free(route);
}

static segue__route *entry_ref(segue__route *route) {
  if (route) __atomic_add_fetch(&route->refs, 1, __ATOMIC_RELAXED);
  return route;
}

static uint32_t to_32(uint64_t n, uint32_t otherwise) {
  return !n ? otherwise : n < UINT32_MAX / 2 ? (uint32_t)n : UINT32_MAX / 2;
}

/* Everything that a request needs is in the route, with references of its own, so that a worker
 * thread can use it without a lock while the policy that made it is replaced. */
static segue__route *ingress_entry_new(segue__ingress *ingress, const segue__module_spec *spec,
                                       bool tls, segue__access_log *log) {
  const segue__listen_spec *listen = &spec->listen;
  segue_gate *gate = segue__gates_get(ingress->options.gates, spec->name);
  size_t name = strlen(spec->name) + 1;
  segue__route *route = gate ? segue__calloc(1, sizeof *route + name) : NULL;
  if (!route) return NULL;
  memcpy(route->module, spec->name, name);
  route->refs = 1;
  route->gate = gate;
  route->tls = tls ? segue__tls_context_ref(listen->tls) : NULL;
  route->log = segue__access_log_ref(log);
  route->generation_header = listen->generation_header;
  route->limits = (segue__http_limits){
      .head_bytes = to_32(listen->head_bytes, 0),
      .body_bytes = listen->body_bytes,
      .connections = to_32(listen->connections, CONNECTIONS),
      .head_ms = listen->head_ms,
      .body_ms = listen->body_ms,
      .idle_ms = listen->idle_ms,
      .write_ms = listen->write_ms,
      .spare_share = SPARE_SHARE,
      .write_bytes = UINT32_MAX, /* segue_request_write has its own */
      .half_closed_streams = true,
  };
  return route;
}

/* Gives the route to all worker threads. Owns the reference to the route. */
static void lead_to(segue__listener *listener, segue__route *route) {
  segue__route_unref(listener->route);
  listener->route = route;
  for (size_t i = 0; i < listener->thread_listener_count; i++)
    segue__thread_listener_enter_by(listener->thread_listeners[i], route);
}

/* ---- Worker threads -------------------------------------------------------------------------- */

static void on_worker_empty(void *data);
static void on_worker_end(void *data);

static size_t workers_wanted(const segue__policy *policy) {
  long cores = sysconf(_SC_NPROCESSORS_ONLN);
  return policy->threads ? (size_t)policy->threads : cores > 2 ? (size_t)cores - 1 : 1;
}

/* The number of threads is fixed by the first policy that needs any, because instances of modules
 * run on each of them. */
static int start_workers(segue__ingress *ingress, const segue__policy *policy, segue_error *err) {
  const segue__worker_thread_events events = {on_worker_empty, on_worker_end, ingress};
  size_t wanted = workers_wanted(policy);
  if (ingress->worker_count) {
    if (ingress->worker_count != wanted)
      SEGUE__LOG(ingress->options.log, SEGUE_WARN, "ingress",
                 "the policy changes the number of threads: that needs a restart",
                 SEGUE__FIELD("threads", ingress->worker_count));
    return 0;
  }
  ingress->workers = segue__calloc(wanted, sizeof(segue__worker_thread *));
  int rc = ingress->workers ? segue__worker_threads_watch_calls(ingress) : UV_ENOMEM;
  while (rc == 0 && ingress->worker_count < wanted) {
    rc = segue__worker_thread_start(&ingress->workers[ingress->worker_count], ingress->options.loop,
                                    ingress->options.log, &events);
    ingress->worker_count += rc == 0;
  }
  if (rc == 0 || ingress->worker_count) return 0; /* fewer threads serve too */
  segue__free(ingress->workers);
  ingress->workers = NULL;
  return segue__errorf(err, rc, "cannot start a thread that serves requests: %s",
                       segue_strerror(rc));
}

/* ---- Listeners ------------------------------------------------------------------------------- */

void segue__listener_unref(segue__listener *listener) {
  if (__atomic_sub_fetch(&listener->refs, 1, __ATOMIC_ACQ_REL)) return;
  pthread_mutex_destroy(&listener->lock);
  segue__free(listener->thread_listeners);
  segue__free(listener->key);
  segue__free(listener->module);
  segue__free(listener);
}

/* Under the lock, because the control thread looks at the leases when a thread is stuck. */
void segue__listener_left(segue__listener *listener, segue__thread_listener *thread_listener) {
  pthread_mutex_lock(&listener->lock);
  segue__socket_release(&thread_listener->lease);
  pthread_mutex_unlock(&listener->lock);
}

void segue__listener_done(segue__listener *listener,
                          const segue__thread_listener *thread_listener) {
  pthread_mutex_lock(&listener->lock);
  for (size_t i = 0; i < listener->thread_listener_count; i++)
    if (listener->thread_listeners[i] == thread_listener) listener->thread_listeners[i] = NULL;
  pthread_mutex_unlock(&listener->lock);
}

static int thread_listener_new(segue__thread_listener **out, segue__worker_thread *worker,
                               segue__listener *listener, int accepts) {
  segue__thread_listener *thread_listener = segue__calloc(1, sizeof *thread_listener);
  *out = thread_listener;
  if (!thread_listener) return UV_ENOMEM;
  thread_listener->worker = worker;
  thread_listener->listener = listener;
  __atomic_add_fetch(&listener->refs, 1, __ATOMIC_RELAXED);
  segue__socket_lend(&listener->lease, &thread_listener->lease);
  int rc = segue__http_server_make(&thread_listener->server, &listener->staged->limits,
                                   segue__ingress_request_arrived, thread_listener);
  int fd = rc == 0 ? segue__socket_share(&thread_listener->lease) : rc;
  if (fd < 0) return fd;
  rc = segue__http_listener_new(&thread_listener->http_listener, fd, false, accepts);
  if (rc == 0) segue__http_server_share(thread_listener->server, &listener->connections);
  return rc;
}

static int make_thread_listeners(segue__ingress *ingress, segue__listener *listener) {
  size_t count = ingress->worker_count;
  listener->thread_listeners = segue__calloc(count, sizeof(segue__thread_listener *));
  int rc = listener->thread_listeners ? 0 : UV_ENOMEM;
  for (size_t i = 0; i < count && rc == 0; i++) {
    rc = thread_listener_new(&listener->thread_listeners[i], ingress->workers[i], listener,
                             count > 1 ? ACCEPTS_SHARED : 0);
    listener->thread_listener_count = i + 1;
  }
  return rc;
}

/* Frees the thread listeners directly, which is allowed only before a worker thread knows the
 * listener. */
static void drop_unopened(segue__listener *listener) {
  for (size_t i = 0; i < listener->thread_listener_count; i++)
    segue__thread_listener_drop(listener->thread_listeners[i]);
}

static void ingress_forget(segue__listener *listener) {
  segue__socket_release(&listener->lease);
  segue__route_unref(listener->route);
  segue__route_unref(listener->staged);
  segue__route_unref(listener->before);
  segue__listener_unref(listener);
}

/* ---- Addresses of listeners that have just closed -------------------------------------------- */

/* Returns whether no worker thread has the listener any more. */
static bool ingress_is_over(segue__listener *listener) {
  return __atomic_load_n(&listener->refs, __ATOMIC_ACQUIRE) == 1;
}

static void ingress_reap(segue__ingress *ingress) {
  for (segue__listener **link = &ingress->leaving; *link;) {
    segue__listener *listener = *link;
    if (ingress_is_over(listener)) {
      *link = listener->next;
      segue__listener_unref(listener);
    } else {
      link = &listener->next;
    }
  }
}

/* A worker thread that has not yet closed its old listener accepts clients for the present route of
 * the address. */
static void lead_old_ones(const segue__ingress *ingress, const segue__listener *now) {
  for (segue__listener *listener = ingress->leaving; listener; listener = listener->next) {
    if (strcmp(listener->address.text, now->address.text) != 0) continue;
    pthread_mutex_lock(&listener->lock);
    for (size_t i = 0; i < listener->thread_listener_count; i++)
      if (listener->thread_listeners[i])
        segue__thread_listener_enter_by(listener->thread_listeners[i], now->route);
    pthread_mutex_unlock(&listener->lock);
  }
}

/* ---- Opening ---- */

static int bind_port(segue__ingress *ingress, segue__listener *listener, segue_error *err) {
  char user[64];
  const segue__socket_wish wish = {
      .address = &listener->address, .name = listener->module, .user = user};
  snprintf(user, sizeof user, "module '%.50s'", listener->module);
  int rc = segue__socket_acquire(ingress->options.sockets, &wish, &listener->lease, err);
  if (rc < 0) return rc;
  listener->address = *segue__socket_address(&listener->lease);
  rc = make_thread_listeners(ingress, listener);
  if (rc < 0)
    segue__errorf(err, rc, "%s cannot be opened: %s", listener->address.text, segue_strerror(rc));
  return rc;
}

static int open_port(segue__ingress *ingress, const segue__module_spec *spec,
                     const segue__address *address, segue__route *route, segue_error *err) {
  segue__listener *listener = segue__calloc(1, sizeof *listener);
  char *key = segue__strdup(address->text), *module = segue__strdup(spec->name);
  if (!listener || !key || !module) {
    segue__free(listener);
    segue__free(key);
    segue__free(module);
    segue__route_unref(route);
    return segue__errorf(err, UV_ENOMEM, "%s cannot be opened: out of memory", address->text);
  }
  *listener = (segue__listener){.refs = 1,
                                .address = *address,
                                .key = key,
                                .module = module,
                                .staged = route,
                                .wanted = true};
  pthread_mutex_init(&listener->lock, NULL);
  int rc = bind_port(ingress, listener, err);
  if (rc < 0) {
    drop_unopened(listener);
    ingress_forget(listener);
    return rc;
  }
  listener->next = ingress->listeners;
  ingress->listeners = listener;
  return 0;
}

/* If the kernel chose the port, the address belongs to one module, and is used once. */
static bool is_at(const segue__listener *listener, const segue__address *address,
                  const char *module) {
  if (address->port) return strcmp(listener->address.text, address->text) == 0;
  return !listener->wanted && strcmp(listener->key, address->text) == 0 &&
         strcmp(listener->module, module) == 0;
}

static segue__listener *ingress_find(const segue__ingress *ingress, const segue__address *address,
                                     const char *module) {
  segue__listener *listener = ingress->listeners;
  while (listener && !is_at(listener, address, module))
    listener = listener->next;
  return listener;
}

static int stage_url(segue__ingress *ingress, const segue__module_spec *spec, const char *url,
                     segue__access_log *log, segue_error *err) {
  segue__address address;
  bool tls;
  int rc = segue__listen_parse(url, &address, &tls, err);
  if (rc < 0) return rc;
  segue__route *route = ingress_entry_new(ingress, spec, tls && spec->listen.tls, log);
  if (!route) return segue__errorf(err, UV_ENOMEM, "%s: out of memory", url);
  segue__listener *listener = ingress_find(ingress, &address, spec->name);
  if (!listener) return open_port(ingress, spec, &address, route, err);
  segue__route_unref(listener->staged);
  listener->staged = route;
  listener->wanted = true;
  return 0;
}

/* Starts the thread with the first access log. */
static int start_log_writer(segue__ingress *ingress, segue_error *err) {
  if (ingress->log_writer) return 0;
  segue__access_log_writer_options options = {.log = ingress->options.log,
                                              .queues = ingress->worker_count,
                                              .write_log = ingress->options.write_log,
                                              .data = ingress->options.data};
  int rc = segue__access_log_writer_new(&ingress->log_writer, &options);
  if (rc < 0)
    return segue__errorf(err, rc, "cannot start the thread that writes access logs: %s",
                         segue_strerror(rc));
  for (size_t i = 0; i < ingress->worker_count; i++)
    ingress->workers[i]->log_lines = segue__access_log_writer_queue(ingress->log_writer, i);
  return 0;
}

static bool wants_workers(const segue__module_spec *spec) {
  return spec->listen.url_count || spec->on_workers;
}

int segue__ingress_rehearse(segue__ingress *ingress, const segue__policy *next,
                            segue__errors *errors) {
  segue_error err = {0};
  int rc = ingress->closing ? segue__errorf(&err, SEGUE_ECLOSED, "the instance shuts down") : 0;
  for (size_t i = 0; i < next->module_count && rc == 0; i++)
    if (wants_workers(&next->modules[i]) && !ingress->worker_count)
      rc = start_workers(ingress, next, &err);
  if (rc < 0) segue__errors_add(errors, &err);
  return rc;
}

static int stage_module(segue__ingress *ingress, const segue__policy *next,
                        const segue__module_spec *spec, segue_error *err) {
  const segue__listen_spec *listen = &spec->listen;
  segue__access_log *log = NULL;
  int rc = wants_workers(spec) ? start_workers(ingress, next, err) : 0;
  if (rc == 0 && listen->url_count && listen->access.on) {
    rc = start_log_writer(ingress, err);
    if (rc == 0) rc = segue__access_log_new(&log, ingress->log_writer, &listen->access, err);
  }
  for (size_t i = 0; i < listen->url_count && rc == 0; i++)
    rc = stage_url(ingress, spec, listen->urls[i], log, err);
  segue__access_log_unref(log);
  return rc;
}

void segue__ingress_reopen(const segue__ingress *ingress) {
  if (ingress) segue__access_log_writer_reopen(ingress->log_writer);
}

int segue__ingress_stage(segue__ingress *ingress, const segue__policy *next,
                         segue__errors *errors) {
  segue_error err = {0};
  int rc = ingress->closing ? segue__errorf(&err, SEGUE_ECLOSED, "the instance shuts down") : 0;
  ingress_reap(ingress);
  for (segue__listener *listener = ingress->listeners; listener; listener = listener->next)
    listener->wanted = false;
  for (size_t i = 0; i < next->module_count && rc == 0; i++) {
    rc = stage_module(ingress, next, &next->modules[i], &err);
    if (rc < 0) segue__error_source(&err, next->modules[i].name);
  }
  if (rc == 0) return 0;
  segue__errors_add(errors, &err);
  segue__ingress_discard(ingress);
  return rc;
}

/* A new listener gets its route before its worker threads begin to accept, so that the first client
 * finds one. When the flip is undone, a listener that existed gets its previous route back; a new
 * one keeps its route until it is closed, for the clients that it has accepted. */
static void flip_port(const segue__ingress *ingress, segue__listener *listener, bool back) {
  segue__route *to = back ? listener->before : listener->staged;
  if (!to) return;
  if (!back) listener->before = entry_ref(listener->route);
  lead_to(listener, entry_ref(to));
  if (listener->open || back) return;
  listener->open = true;
  lead_old_ones(ingress, listener);
  for (size_t i = 0; i < listener->thread_listener_count; i++)
    segue__thread_listener_begin(listener->thread_listeners[i]);
}

void segue__ingress_flip(segue__ingress *ingress, bool back) {
  for (segue__listener *listener = ingress->listeners; listener && !ingress->closing;
       listener = listener->next)
    flip_port(ingress, listener, back);
}

/* A thread listener that is open belongs to its worker thread, which may free it as soon as the end
 * is posted. The worker thread removes it from the array under this lock first
 * (segue__listener_done). */
static void end_thread_listeners(segue__listener *listener, uint64_t grace_ms) {
  pthread_mutex_lock(&listener->lock);
  for (size_t i = 0; i < listener->thread_listener_count; i++)
    if (listener->thread_listeners[i])
      segue__thread_listener_end(listener->thread_listeners[i], grace_ms);
  pthread_mutex_unlock(&listener->lock);
}

/* The listener stays in `leaving` until the last worker thread has closed its part. A reload that
 * opens the same address meanwhile finds it there and gives its route to the clients that are still
 * accepted (lead_old_ones). */
static void close_port(segue__ingress *ingress, segue__listener *listener, uint64_t grace_ms) {
  if (!listener->open) {
    drop_unopened(listener);
    ingress_forget(listener);
    return;
  }
  __atomic_add_fetch(&listener->refs, 1, __ATOMIC_RELAXED);
  listener->next = ingress->leaving;
  ingress->leaving = listener;
  segue__socket_release(&listener->lease); /* now only the worker threads have it */
  end_thread_listeners(listener, grace_ms);
  ingress_forget(listener);
}

static void ingress_report(const segue__ingress *ingress, const segue__listener *listener,
                           const char *what) {
  SEGUE__LOG(ingress->options.log, SEGUE_INFO, "ingress", what,
             SEGUE__FIELD("address", listener->address.text));
}

/* Closes listeners that are not wanted, or not live, and discards what is staged. */
static void ingress_sweep(segue__ingress *ingress, bool settled) {
  for (segue__listener **link = &ingress->listeners; *link;) {
    segue__listener *listener = *link;
    if (settled ? listener->wanted : listener->live) {
      segue__route_unref(listener->staged);
      segue__route_unref(listener->before);
      listener->staged = listener->before = NULL;
      if (!listener->live) ingress_report(ingress, listener, "listening");
      listener->live = true;
      link = &listener->next;
      continue;
    }
    *link = listener->next;
    if (listener->live) ingress_report(ingress, listener, "closed");
    close_port(ingress, listener, listener->live ? GONE_MS : UNDONE_MS);
  }
}

void segue__ingress_settle(segue__ingress *ingress) {
  if (!ingress->closing) ingress_sweep(ingress, true);
}

void segue__ingress_discard(segue__ingress *ingress) {
  if (!ingress->closing) ingress_sweep(ingress, false);
}

/* ---- The end ---- */

static void report_closed(segue__ingress *ingress) {
  void (*cb)(void *data) = ingress->cb;
  ingress->cb = NULL;
  /* No worker thread writes any more, except abandoned ones; the log still exists. */
  segue__access_log_writer_end(ingress->log_writer, ingress->workers_stuck > 0);
  ingress->log_writer = NULL;
  cb(ingress->data);
}

static void on_worker_empty(void *data) {
  segue__ingress *ingress = data;
  if (++ingress->workers_empty == ingress->worker_count) report_closed(ingress);
}

void segue__ingress_close(segue__ingress *ingress, uint64_t grace_ms, void (*cb)(void *data),
                          void *data) {
  if (!ingress) {
    cb(data);
    return;
  }
  ingress->closing = true;
  ingress->cb = cb;
  ingress->data = data;
  while (ingress->listeners) {
    segue__listener *listener = ingress->listeners;
    ingress->listeners = listener->next;
    close_port(ingress, listener, grace_ms);
  }
  for (size_t i = 0; i < ingress->worker_count; i++)
    segue__worker_thread_stop(ingress->workers[i], grace_ms);
  if (ingress->worker_count)
    segue__worker_threads_watch(ingress, grace_ms);
  else
    report_closed(ingress);
}

static void release_ports(segue__ingress *ingress) {
  while (ingress->leaving) {
    segue__listener *listener = ingress->leaving;
    ingress->leaving = listener->next;
    segue__listener_unref(listener);
  }
}

static void ingress_destroy(segue__ingress *ingress) {
  void (*cb)(void *data) = ingress->cb;
  void *data = ingress->data;
  bool all = !ingress->workers_stuck; /* otherwise it stays for threads that may return */
  release_ports(ingress);
  for (size_t i = 0; i < ingress->worker_count; i++)
    if (!ingress->workers[i]->stuck) segue__worker_thread_free(ingress->workers[i]);
  if (all) {
    segue__free(ingress->workers);
    segue__free(ingress);
  }
  cb(data);
}

static void on_worker_end(void *data) {
  segue__ingress *ingress = data;
  if (++ingress->workers_ended + ingress->workers_stuck == ingress->worker_count)
    ingress_destroy(ingress);
}

/* The descriptors of the worker threads' loops. The registry closes the copies that a thread had
 * made and not yet stored at the fork. */
void segue__ingress_abandon(segue__ingress *ingress) {
  for (size_t i = 0; i < ingress->worker_count; i++)
    if (ingress->workers[i]) {
      segue__poller_abandon(ingress->workers[i]->poller);
      segue__uv_abandon(&ingress->workers[i]->uv);
    }
  if (ingress->log_writer) segue__access_log_writer_abandon(ingress->log_writer);
}

void segue__ingress_free(segue__ingress *ingress, void (*cb)(void *data), void *data) {
  if (!ingress) {
    cb(data);
    return;
  }
  ingress->cb = cb;
  ingress->data = data;
  segue__timer_stop(ingress->options.loop, &ingress->watch);
  for (size_t i = 0; i < ingress->worker_count; i++)
    if (!ingress->workers[i]->stuck) segue__worker_thread_end(ingress->workers[i]);
  if (ingress->workers_stuck == ingress->worker_count) ingress_destroy(ingress);
}

/* ---- For modules that run on worker threads -------------------------------------------------- */

static size_t ingress_worker_count(void *data) {
  return ((const segue__ingress *)data)->worker_count;
}

static segue__loop *ingress_worker_loop(void *data, size_t index) {
  return ((const segue__ingress *)data)->workers[index]->loop;
}

segue__worker_threads segue__ingress_worker_threads(segue__ingress *ingress) {
  return (segue__worker_threads){ingress_worker_count, ingress_worker_loop, ingress};
}
