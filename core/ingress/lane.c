/* SPDX-License-Identifier: MIT
 *
 * A lane: a thread that does nothing but serve requests, on a libuv loop of its own. Others ask it
 * for something by leaving it a note under its lock; it is woken then. Told to stop, it lets its
 * connections end; it goes when it is told to after that, because modules may still have work to do
 * on it. Requests that are out at that time keep its memory.
 */
#include <signal.h>
#include <string.h>

#include "parts.h"

enum { SCARCE_TOLD_MS = 10000 }; /* time between two log lines about descriptors of one listener */

static __thread segue__lane *here;

bool segue__lane_is_here(const segue__lane *lane) {
  return here == lane;
}

/* ---- Outlets, on the lane ---- */

static void on_server_closed(void *data) {
  segue__outlet *outlet = data;
  segue__lane *lane = outlet->lane;
  for (segue__outlet **link = &lane->outlets; *link; link = &(*link)->next)
    if (*link == outlet) {
      *link = outlet->next;
      break;
    }
  segue__port_done(outlet->port, outlet);
  segue__entry_unref(outlet->entry);
  segue__entry_unref(__atomic_exchange_n(&outlet->next_entry, NULL, __ATOMIC_ACQ_REL));
  segue__port_unref(outlet->port);
  segue__free(outlet);
  uv_async_send(&lane->async); /* it may be the last */
}

segue__entry *segue__outlet_entry(segue__outlet *outlet) {
  if (__builtin_expect(!!__atomic_load_n(&outlet->next_entry, __ATOMIC_ACQUIRE), 0)) {
    segue__entry *entry = __atomic_exchange_n(&outlet->next_entry, NULL, __ATOMIC_ACQ_REL);
    segue__http_server_limit(outlet->server, &entry->limits);
    if (outlet->listener) segue__http_listener_set(outlet->listener, entry->tls, NULL, NULL);
    segue__entry_unref(outlet->entry);
    outlet->entry = entry;
  }
  return outlet->entry;
}

/* From the answer to a reload on, a client meets the certificate that the new policy names. */
static void on_connection(void *data) {
  segue__outlet_entry(data);
}

static void add_one(uint64_t *counter) {
  __atomic_store_n(counter, *counter + 1, __ATOMIC_RELAXED);
}

static void on_tls_failure(void *data, const char *peer, void *door, const char *why) {
  (void)peer, (void)door, (void)why; /* counted: whoever knocks could fill a log */
  add_one(&((segue__outlet *)data)->handshakes);
}

static void on_refusal(void *data, const char *peer, int status) {
  segue__outlet *outlet = data;
  if (outlet->entry->log)
    segue__access_note(
        outlet, NULL,
        &(segue__access){.peer = peer, .module = outlet->entry->module, .status = status});
}

static void on_crowd(void *data, const char *peer) {
  (void)peer;
  add_one(&((segue__outlet *)data)->crowd);
}

static void on_scarce(void *data) {
  segue__outlet *outlet = data;
  uint64_t now = uv_now(&outlet->lane->uv);
  add_one(&outlet->scarce);
  if (outlet->scarce > 1 && now - outlet->scarce_told_ms < SCARCE_TOLD_MS) return;
  outlet->scarce_told_ms = now;
  segue__log(outlet->lane->log, SEGUE__WARN, "ingress",
             "too few file descriptors are left: clients of this listener wait until others leave "
             "(raise LimitNOFILE=, ulimit -n)",
             "address", 's', outlet->port->address.text, NULL);
}

static void begin(segue__outlet *outlet) {
  static const segue__http_events events = {.on_connection = on_connection,
                                            .on_tls_failure = on_tls_failure,
                                            .on_refusal = on_refusal,
                                            .on_scarce = on_scarce,
                                            .on_crowd = on_crowd};
  segue__lane *lane = outlet->lane;
  outlet->next = lane->outlets;
  lane->outlets = outlet;
  segue__http_server_begin(outlet->server, &lane->uv);
  segue__http_server_watch(outlet->server, &events);
  segue__outlet_entry(outlet);
  int rc = segue__http_listener_begin(outlet->listener, outlet->server);
  if (rc == 0) return;
  outlet->listener = NULL;
  segue__log(lane->log, SEGUE__ERROR, "ingress", "a data thread cannot watch a listener", "address",
             's', outlet->port->address.text, "error", 's', uv_strerror(rc), NULL);
}

/* Clients that have connected already are accepted by the close, so its listener is forgotten after
 * it. */
static void close_server(segue__outlet *outlet, uint64_t grace_ms) {
  bool again = outlet->closing;
  outlet->closing = true;
  if (!again) segue__port_leaving(outlet->port);
  segue__http_server_close(outlet->server, grace_ms, on_server_closed, outlet);
  outlet->listener = NULL;
  if (!again) segue__port_left(outlet->port);
}

static void obey(segue__outlet *outlet, bool to_begin, bool to_end, uint64_t grace_ms) {
  if (to_begin) begin(outlet);
  if (to_end) close_server(outlet, grace_ms);
}

/* ---- Notes ---- */

static bool obey_one(segue__lane *lane) {
  pthread_mutex_lock(&lane->lock);
  segue__outlet *outlet = lane->command;
  bool to_begin = false, to_end = false;
  uint64_t grace_ms = 0;
  if (outlet) {
    lane->command = outlet->command_next;
    if (!lane->command) lane->last_command = NULL;
    to_begin = outlet->begin;
    to_end = outlet->end;
    grace_ms = outlet->grace_ms;
    outlet->begin = outlet->end = outlet->queued = false;
  }
  pthread_mutex_unlock(&lane->lock);
  if (outlet) obey(outlet, to_begin, to_end, grace_ms);
  return outlet != NULL;
}

/* Requests that arrive meanwhile wait for the next turn: answering may lead to more of them. */
static segue_request *take_inbox(segue__lane *lane, bool *stop) {
  pthread_mutex_lock(&lane->lock);
  segue_request *first = lane->inbox;
  lane->inbox = lane->last = NULL;
  *stop = lane->stop;
  pthread_mutex_unlock(&lane->lock);
  return first;
}

/* Shortens the time of servers that are closing already. */
static void close_all(segue__lane *lane) {
  for (segue__outlet *outlet = lane->outlets; outlet; outlet = outlet->next)
    close_server(outlet, lane->stop_grace_ms);
}

static void on_empty(segue__message *message) {
  segue__lane *lane = (segue__lane *)((char *)message - offsetof(segue__lane, empty_message));
  if (lane->is_empty) return; /* it came back after it was given up */
  lane->is_empty = true;
  lane->events.on_empty(lane->events.data);
}

/* Nobody is connected any more: modules go on here until they are stopped. */
static void wind_up(segue__lane *lane) {
  if (!lane->told_empty) {
    lane->told_empty = true;
    lane->empty_message.fn = on_empty;
    segue__post(lane->control, &lane->empty_message);
  }
  pthread_mutex_lock(&lane->lock);
  bool over = lane->over && !lane->inbox && !lane->command && !lane->closed;
  if (over) lane->closed = true;
  pthread_mutex_unlock(&lane->lock);
  if (!over) return;
  uv_close((uv_handle_t *)&lane->async, NULL);
  segue__loop_close(lane->loop, NULL, NULL);
}

static void on_async(uv_async_t *async) {
  segue__lane *lane = async->data;
  bool stop;
  while (obey_one(lane))
    ;
  for (segue__outlet *outlet = lane->outlets; outlet; outlet = outlet->next)
    segue__outlet_entry(outlet);
  for (segue_request *request = take_inbox(lane, &stop), *next; request; request = next) {
    next = request->next;
    segue__request_look(request);
  }
  if (stop) close_all(lane);
  if (stop && !lane->outlets) wind_up(lane);
}

bool segue__lane_post_unlock(segue_request *request) {
  segue__lane *lane = request->lane;
  bool taken = !lane->closed;
  if (taken && !request->posted) {
    request->posted = true;
    request->next = NULL;
    if (lane->last)
      lane->last->next = request;
    else
      lane->inbox = request;
    lane->last = request;
    uv_async_send(&lane->async);
  }
  pthread_mutex_unlock(&lane->lock);
  return taken;
}

static void command(segue__outlet *outlet, bool to_end, uint64_t grace_ms) {
  segue__lane *lane = outlet->lane;
  pthread_mutex_lock(&lane->lock);
  outlet->begin |= !to_end;
  outlet->end |= to_end;
  outlet->grace_ms = grace_ms;
  if (!outlet->queued) {
    outlet->queued = true;
    outlet->command_next = NULL;
    if (lane->last_command)
      lane->last_command->command_next = outlet;
    else
      lane->command = outlet;
    lane->last_command = outlet;
    uv_async_send(&lane->async);
  }
  pthread_mutex_unlock(&lane->lock);
}

void segue__outlet_begin(segue__outlet *outlet) {
  command(outlet, false, 0);
}

void segue__outlet_end(segue__outlet *outlet, uint64_t grace_ms) {
  command(outlet, true, grace_ms);
}

void segue__outlet_enter_by(segue__outlet *outlet, segue__entry *entry) {
  __atomic_add_fetch(&entry->refs, 1, __ATOMIC_RELAXED);
  segue__entry_unref(__atomic_exchange_n(&outlet->next_entry, entry, __ATOMIC_ACQ_REL));
}

void segue__outlet_drop(segue__outlet *outlet) {
  if (!outlet) return;
  segue__http_listener_drop(outlet->listener);
  segue__http_server_drop(outlet->server);
  segue__entry_unref(outlet->next_entry);
  segue__port_unref(outlet->port);
  segue__free(outlet);
}

/* ---- Life ---- */

static void free_pool(segue__lane *lane) {
  while (lane->pool) {
    segue_request *next = lane->pool->next;
    segue__free(lane->pool);
    lane->pool = next;
  }
}

static void on_ended(segue__message *message) {
  segue__lane *lane = (segue__lane *)((char *)message - offsetof(segue__lane, message));
  pthread_join(lane->thread, NULL);
  lane->events.on_end(lane->events.data);
}

static void *run(void *data) {
  segue__lane *lane = data;
  here = lane;
  uv_run(&lane->uv, UV_RUN_DEFAULT);
  uv_loop_close(&lane->uv);
  free_pool(lane);
  segue__buf_deinit(&lane->headers);
  segue__buf_deinit(&lane->line);
  pthread_mutex_lock(&lane->lock);
  lane->orphans += lane->out; /* less those who were orphaned since it closed */
  pthread_mutex_unlock(&lane->lock);
  lane->message.fn = on_ended;
  segue__post(lane->control, &lane->message);
  return NULL;
}

/* Signals are for the threads of the host. */
static int start_thread(segue__lane *lane) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int rc = -pthread_create(&lane->thread, NULL, run, lane);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return rc;
}

static int open_loop(segue__lane *lane) {
  int rc = uv_loop_init(&lane->uv);
  if (rc < 0) return rc;
  rc = uv_async_init(&lane->uv, &lane->async, on_async);
  if (rc < 0) {
    uv_loop_close(&lane->uv);
    return rc;
  }
  lane->async.data = lane;
  rc = segue__loop_open_uv(&lane->loop, &lane->uv);
  if (rc == 0) rc = start_thread(lane);
  if (rc < 0) {
    uv_close((uv_handle_t *)&lane->async, NULL);
    segue__loop_close(lane->loop, NULL, NULL);
    uv_run(&lane->uv, UV_RUN_DEFAULT);
    uv_loop_close(&lane->uv);
  }
  return rc;
}

int segue__lane_start(segue__lane **out, segue__loop *control, const segue__log *log,
                      const segue__lane_events *events) {
  segue__lane *lane = segue__calloc(1, sizeof *lane);
  *out = NULL;
  if (!lane) return UV_ENOMEM;
  lane->control = control;
  lane->log = log;
  lane->events = *events;
  pthread_mutex_init(&lane->lock, NULL);
  int rc = open_loop(lane);
  if (rc < 0) {
    pthread_mutex_destroy(&lane->lock);
    segue__free(lane);
    return rc;
  }
  *out = lane;
  return 0;
}

void segue__lane_stop(segue__lane *lane, uint64_t grace_ms) {
  pthread_mutex_lock(&lane->lock);
  lane->stop_grace_ms = grace_ms;
  lane->stop = true;
  if (!lane->closed) uv_async_send(&lane->async);
  pthread_mutex_unlock(&lane->lock);
}

void segue__lane_end(segue__lane *lane) {
  pthread_mutex_lock(&lane->lock);
  lane->over = true;
  uv_async_send(&lane->async);
  pthread_mutex_unlock(&lane->lock);
}

void segue__lane_free(segue__lane *lane) {
  pthread_mutex_lock(&lane->lock);
  lane->disowned = true;
  bool free_it = lane->orphans == 0;
  pthread_mutex_unlock(&lane->lock);
  if (!free_it) return;
  pthread_mutex_destroy(&lane->lock);
  segue__free(lane);
}
