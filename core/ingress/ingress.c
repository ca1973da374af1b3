/* SPDX-License-Identifier: MIT
 *
 * The ingress on the control thread: which ports there are, where they lead, and what a transaction
 * does with them. Everything that can fail is done while staging: the socket is bound, the servers
 * of all lanes are made; what comes later is telling the lanes.
 */
#include "ingress.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "../module/module.h"
#include "../os/fork.h"
#include "../os/fork_fds.h"
#include "parts.h"

enum { GONE_MS = 30000, UNDONE_MS = 1000, ACCEPTS_SHARED = 4, CONNECTIONS = 10000 };
enum { SPARE_SHARE = 4 }; /* clients leave a quarter of a low limit of descriptors free */

int segue__ingress_new(segue__ingress **out, const segue__ingress_options *options) {
  segue__ingress *ingress = segue__calloc(1, sizeof *ingress);
  *out = ingress;
  if (!ingress) return UV_ENOMEM;
  ingress->options = *options;
  return 0;
}

/* ---- Entries ---- */

void segue__entry_unref(segue__entry *entry) {
  if (!entry || __atomic_sub_fetch(&entry->refs, 1, __ATOMIC_ACQ_REL)) return;
  segue__tls_context_unref(entry->tls);
  segue__access_log_unref(entry->log);
  segue__free(entry);
}

static segue__entry *entry_ref(segue__entry *entry) {
  if (entry) __atomic_add_fetch(&entry->refs, 1, __ATOMIC_RELAXED);
  return entry;
}

static uint32_t to_32(uint64_t n, uint32_t otherwise) {
  return !n ? otherwise : n < UINT32_MAX / 2 ? (uint32_t)n : UINT32_MAX / 2;
}

static segue__entry *entry_new(segue__ingress *ingress, const segue__module_spec *spec, bool tls,
                               segue__access_log *log) {
  const segue__listen_spec *listen = &spec->listen;
  segue_gate *gate = segue__gates_get(ingress->options.gates, spec->name);
  size_t name = strlen(spec->name) + 1;
  segue__entry *entry = gate ? segue__calloc(1, sizeof *entry + name) : NULL;
  if (!entry) return NULL;
  memcpy(entry->module, spec->name, name);
  entry->refs = 1;
  entry->gate = gate;
  entry->tls = tls ? segue__tls_context_ref(listen->tls) : NULL;
  entry->log = segue__access_log_ref(log);
  entry->generation_header = listen->generation_header;
  entry->limits = (segue__http_limits){
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
  return entry;
}

/* Takes the reference of entry over. */
static void lead_to(segue__port *port, segue__entry *entry) {
  segue__entry_unref(port->entry);
  port->entry = entry;
  for (size_t i = 0; i < port->outlet_count; i++)
    segue__outlet_enter_by(port->outlets[i], entry);
}

/* ---- Lanes ---- */

static void on_lane_empty(void *data);
static void on_lane_end(void *data);

static size_t lanes_wanted(const segue__policy *policy) {
  long cores = sysconf(_SC_NPROCESSORS_ONLN);
  return policy->threads ? (size_t)policy->threads : cores > 2 ? (size_t)cores - 1 : 1;
}

static int start_lanes(segue__ingress *ingress, const segue__policy *policy, segue_error *err) {
  const segue__lane_events events = {on_lane_empty, on_lane_end, ingress};
  size_t wanted = lanes_wanted(policy);
  if (ingress->lane_count) {
    if (ingress->lane_count != wanted)
      segue__log(ingress->options.log, SEGUE__WARN, "ingress",
                 "another number of threads counts from the next start on", "threads", 'd',
                 (int64_t)ingress->lane_count, NULL);
    return 0;
  }
  ingress->lanes = segue__calloc(wanted, sizeof(segue__lane *));
  int rc = ingress->lanes ? segue__lanes_watch_calls(ingress) : UV_ENOMEM;
  while (rc == 0 && ingress->lane_count < wanted) {
    rc = segue__lane_start(&ingress->lanes[ingress->lane_count], ingress->options.loop,
                           ingress->options.log, &events);
    ingress->lane_count += rc == 0;
  }
  if (rc == 0 || ingress->lane_count) return 0; /* fewer serve as well */
  segue__free(ingress->lanes);
  ingress->lanes = NULL;
  return segue__error_set(err, rc, "cannot start a thread that serves requests: %s",
                          segue_strerror(rc));
}

/* ---- Ports ---- */

void segue__port_unref(segue__port *port) {
  if (__atomic_sub_fetch(&port->refs, 1, __ATOMIC_ACQ_REL)) return;
  if (port->fd >= 0) segue__fork_close(port->fd);
  pthread_mutex_destroy(&port->lock);
  segue__free(port->outlets);
  segue__free(port->key);
  segue__free(port->module);
  segue__free(port);
}

/* The last one lets all in who have connected, and nobody connects behind it. */
void segue__port_leaving(segue__port *port) {
  pthread_mutex_lock(&port->lock);
  if (--port->staying == 0 && !port->taken) segue__http_deafen(port->fd, true);
  pthread_mutex_unlock(&port->lock);
}

void segue__port_left(segue__port *port) {
  pthread_mutex_lock(&port->lock);
  if (--port->listening == 0) {
    segue__fork_close(port->fd);
    port->fd = -1;
  }
  pthread_mutex_unlock(&port->lock);
}

void segue__port_done(segue__port *port, const segue__outlet *outlet) {
  pthread_mutex_lock(&port->lock);
  for (size_t i = 0; i < port->outlet_count; i++)
    if (port->outlets[i] == outlet) port->outlets[i] = NULL;
  pthread_mutex_unlock(&port->lock);
}

static int outlet_new(segue__outlet **out, segue__lane *lane, segue__port *port, int fd,
                      int accepts) {
  segue__outlet *outlet = segue__calloc(1, sizeof *outlet);
  *out = outlet;
  if (!outlet) return UV_ENOMEM;
  outlet->lane = lane;
  outlet->port = port;
  __atomic_add_fetch(&port->refs, 1, __ATOMIC_RELAXED);
  int rc = segue__http_server_make(&outlet->server, &port->staged->limits, segue__request_arrived,
                                   outlet);
  int copy = rc == 0 ? segue__fork_dup(fd) : -1;
  if (rc == 0 && copy < 0) rc = uv_translate_sys_error(errno);
  if (rc == 0) rc = segue__http_adopt(&outlet->listener, copy, &port->address, accepts);
  if (rc == 0) segue__http_server_share(outlet->server, &port->connections);
  return rc;
}

static int make_outlets(segue__ingress *ingress, segue__port *port, int fd) {
  size_t count = ingress->lane_count;
  port->outlets = segue__calloc(count, sizeof(segue__outlet *));
  int rc = port->outlets ? 0 : UV_ENOMEM;
  for (size_t i = 0; i < count && rc == 0; i++) {
    rc = outlet_new(&port->outlets[i], ingress->lanes[i], port, fd, count > 1 ? ACCEPTS_SHARED : 0);
    port->outlet_count = i + 1;
  }
  return rc;
}

/* Nobody on a lane knows of it yet. */
static void drop_unopened(segue__port *port) {
  for (size_t i = 0; i < port->outlet_count; i++)
    segue__outlet_drop(port->outlets[i]);
}

static void forget(segue__port *port) {
  segue__entry_unref(port->entry);
  segue__entry_unref(port->staged);
  segue__entry_unref(port->before);
  segue__port_unref(port);
}

/* ---- Addresses that were ours a moment ago ---- */

/* Nobody listens there, and no lane knows of it. */
static bool is_over(segue__port *port) {
  return __atomic_load_n(&port->refs, __ATOMIC_ACQUIRE) == 1;
}

static void reap(segue__ingress *ingress) {
  for (segue__port **link = &ingress->leaving; *link;) {
    segue__port *port = *link;
    if (is_over(port)) {
      *link = port->next;
      segue__port_unref(port);
    } else {
      link = &port->next;
    }
  }
}

/* A lane that is busy may still listen there, so the address cannot be bound: its socket goes on.
 * Negative: nobody does. */
static int take_over(const segue__ingress *ingress, const segue__http_address *address) {
  int fd = -1;
  for (segue__port *port = ingress->leaving; port && fd < 0; port = port->next) {
    if (strcmp(port->address.text, address->text) != 0) continue;
    pthread_mutex_lock(&port->lock);
    if (port->fd >= 0) fd = segue__fork_dup(port->fd);
    if (fd >= 0) {
      port->taken = true;
      segue__http_deafen(fd, false);
    }
    pthread_mutex_unlock(&port->lock);
  }
  return fd;
}

/* A client that is accepted by a lane without the news gets the present entry of the address. */
static void lead_old_ones(const segue__ingress *ingress, const segue__port *now) {
  for (segue__port *port = ingress->leaving; port; port = port->next) {
    if (strcmp(port->address.text, now->address.text) != 0) continue;
    pthread_mutex_lock(&port->lock);
    for (size_t i = 0; i < port->outlet_count; i++)
      if (port->outlets[i]) segue__outlet_enter_by(port->outlets[i], now->entry);
    pthread_mutex_unlock(&port->lock);
  }
}

/* ---- Opening ---- */

static int bind_port(segue__ingress *ingress, segue__port *port, segue_error *err) {
  port->fd = take_over(ingress, &port->address);
  if (port->fd < 0) port->fd = segue__http_bind(&port->address, 0, err);
  if (port->fd < 0) return port->fd;
  int rc = make_outlets(ingress, port, port->fd);
  if (rc < 0)
    segue__error_set(err, rc, "%s cannot be opened: %s", port->address.text, segue_strerror(rc));
  return rc;
}

static int open_port(segue__ingress *ingress, const segue__module_spec *spec,
                     const segue__http_address *address, segue__entry *entry, segue_error *err) {
  segue__port *port = segue__calloc(1, sizeof *port);
  char *key = segue__strdup(address->text), *module = segue__strdup(spec->name);
  if (!port || !key || !module) {
    segue__free(port);
    segue__free(key);
    segue__free(module);
    segue__entry_unref(entry);
    return segue__error_set(err, UV_ENOMEM, "%s cannot be opened: out of memory", address->text);
  }
  *port = (segue__port){.refs = 1,
                        .address = *address,
                        .key = key,
                        .module = module,
                        .staged = entry,
                        .wanted = true,
                        .fd = -1};
  pthread_mutex_init(&port->lock, NULL);
  int rc = bind_port(ingress, port, err);
  if (rc < 0) {
    drop_unopened(port);
    forget(port);
    return rc;
  }
  port->next = ingress->ports;
  ingress->ports = port;
  return 0;
}

/* Where the kernel chose the port, it is of a module, and led to once. */
static bool is_at(const segue__port *port, const segue__http_address *address, const char *module) {
  if (address->port) return strcmp(port->address.text, address->text) == 0;
  return !port->wanted && strcmp(port->key, address->text) == 0 &&
         strcmp(port->module, module) == 0;
}

static segue__port *find(const segue__ingress *ingress, const segue__http_address *address,
                         const char *module) {
  segue__port *port = ingress->ports;
  while (port && !is_at(port, address, module))
    port = port->next;
  return port;
}

static int stage_url(segue__ingress *ingress, const segue__module_spec *spec, const char *url,
                     segue__access_log *log, segue_error *err) {
  segue__http_address address;
  bool tls;
  int rc = segue__listen_parse(url, &address, &tls, err);
  if (rc < 0) return rc;
  segue__entry *entry = entry_new(ingress, spec, tls && spec->listen.tls, log);
  if (!entry) return segue__error_set(err, UV_ENOMEM, "%s: out of memory", url);
  segue__port *port = find(ingress, &address, spec->name);
  if (!port) return open_port(ingress, spec, &address, entry, err);
  segue__entry_unref(port->staged);
  port->staged = entry;
  port->wanted = true;
  return 0;
}

/* Its thread is there from the first access log on. */
static int start_scribe(segue__ingress *ingress, segue_error *err) {
  if (ingress->scribe) return 0;
  segue__scribe_options options = {.log = ingress->options.log,
                                   .rings = ingress->lane_count,
                                   .write_log = ingress->options.write_log,
                                   .data = ingress->options.data};
  int rc = segue__scribe_new(&ingress->scribe, &options);
  if (rc < 0)
    return segue__error_set(err, rc, "cannot start the thread that writes access logs: %s",
                            segue_strerror(rc));
  for (size_t i = 0; i < ingress->lane_count; i++)
    ingress->lanes[i]->ring = segue__scribe_ring(ingress->scribe, i);
  return 0;
}

static bool wants_lanes(const segue__module_spec *spec) {
  return spec->listen.url_count || spec->on_lanes;
}

int segue__ingress_rehearse(segue__ingress *ingress, const segue__policy *next,
                            segue__errors *errors) {
  segue_error err = {0};
  int rc = ingress->closing ? segue__error_set(&err, SEGUE_ECLOSED, "the instance shuts down") : 0;
  for (size_t i = 0; i < next->module_count && rc == 0; i++)
    if (wants_lanes(&next->modules[i]) && !ingress->lane_count)
      rc = start_lanes(ingress, next, &err);
  if (rc < 0) segue__errors_add(errors, &err);
  return rc;
}

static int stage_module(segue__ingress *ingress, const segue__policy *next,
                        const segue__module_spec *spec, segue_error *err) {
  const segue__listen_spec *listen = &spec->listen;
  segue__access_log *log = NULL;
  int rc = wants_lanes(spec) ? start_lanes(ingress, next, err) : 0;
  if (rc == 0 && listen->url_count && listen->access.on) {
    rc = start_scribe(ingress, err);
    if (rc == 0) rc = segue__access_log_new(&log, ingress->scribe, &listen->access, err);
  }
  for (size_t i = 0; i < listen->url_count && rc == 0; i++)
    rc = stage_url(ingress, spec, listen->urls[i], log, err);
  segue__access_log_unref(log);
  return rc;
}

void segue__ingress_reopen(const segue__ingress *ingress) {
  if (ingress) segue__scribe_reopen(ingress->scribe);
}

int segue__ingress_stage(segue__ingress *ingress, const segue__policy *next,
                         segue__errors *errors) {
  segue_error err = {0};
  int rc = ingress->closing ? segue__error_set(&err, SEGUE_ECLOSED, "the instance shuts down") : 0;
  reap(ingress);
  for (segue__port *port = ingress->ports; port; port = port->next)
    port->wanted = false;
  for (size_t i = 0; i < next->module_count && rc == 0; i++) {
    rc = stage_module(ingress, next, &next->modules[i], &err);
    if (rc < 0) segue__error_source(&err, next->modules[i].name);
  }
  if (rc == 0) return 0;
  segue__errors_add(errors, &err);
  segue__ingress_discard(ingress);
  return rc;
}

static void flip_port(const segue__ingress *ingress, segue__port *port, bool back) {
  segue__entry *to = back ? port->before : port->staged;
  if (!to) return;
  if (!back) port->before = entry_ref(port->entry);
  lead_to(port, entry_ref(to));
  if (port->open || back) return;
  port->open = true;
  port->listening = port->staying = port->outlet_count;
  lead_old_ones(ingress, port);
  for (size_t i = 0; i < port->outlet_count; i++)
    segue__outlet_begin(port->outlets[i]);
}

void segue__ingress_flip(segue__ingress *ingress, bool back) {
  for (segue__port *port = ingress->ports; port && !ingress->closing; port = port->next)
    flip_port(ingress, port, back);
}

/* Outlets that are open are their lanes': they may be gone as soon as they are told. */
static void end_outlets(segue__port *port, uint64_t grace_ms) {
  pthread_mutex_lock(&port->lock);
  for (size_t i = 0; i < port->outlet_count; i++)
    if (port->outlets[i]) segue__outlet_end(port->outlets[i], grace_ms);
  pthread_mutex_unlock(&port->lock);
}

static void close_port(segue__ingress *ingress, segue__port *port, uint64_t grace_ms) {
  if (!port->open) {
    drop_unopened(port);
    forget(port);
    return;
  }
  __atomic_add_fetch(&port->refs, 1, __ATOMIC_RELAXED);
  port->next = ingress->leaving;
  ingress->leaving = port;
  end_outlets(port, grace_ms);
  forget(port);
}

static void tell(const segue__ingress *ingress, const segue__port *port, const char *what) {
  segue__log(ingress->options.log, SEGUE__INFO, "ingress", what, "address", 's', port->address.text,
             NULL);
}

/* Closes those that are not wanted, or not live; what is staged is forgotten. */
static void sweep(segue__ingress *ingress, bool settled) {
  for (segue__port **link = &ingress->ports; *link;) {
    segue__port *port = *link;
    if (settled ? port->wanted : port->live) {
      segue__entry_unref(port->staged);
      segue__entry_unref(port->before);
      port->staged = port->before = NULL;
      if (!port->live) tell(ingress, port, "listening");
      port->live = true;
      link = &port->next;
      continue;
    }
    *link = port->next;
    if (port->live) tell(ingress, port, "closed");
    close_port(ingress, port, port->live ? GONE_MS : UNDONE_MS);
  }
}

void segue__ingress_settle(segue__ingress *ingress) {
  if (!ingress->closing) sweep(ingress, true);
}

void segue__ingress_discard(segue__ingress *ingress) {
  if (!ingress->closing) sweep(ingress, false);
}

/* ---- The end ---- */

static void tell_closed(segue__ingress *ingress) {
  void (*cb)(void *data) = ingress->cb;
  ingress->cb = NULL;
  /* No lane writes any more, unless one is lost; the log is still there. */
  segue__scribe_end(ingress->scribe, ingress->lanes_lost > 0);
  ingress->scribe = NULL;
  cb(ingress->data);
}

static void on_lane_empty(void *data) {
  segue__ingress *ingress = data;
  if (++ingress->lanes_empty == ingress->lane_count) tell_closed(ingress);
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
  while (ingress->ports) {
    segue__port *port = ingress->ports;
    ingress->ports = port->next;
    close_port(ingress, port, grace_ms);
  }
  for (size_t i = 0; i < ingress->lane_count; i++)
    segue__lane_stop(ingress->lanes[i], grace_ms);
  if (ingress->lane_count)
    segue__lanes_watch(ingress, grace_ms);
  else
    tell_closed(ingress);
}

static void release_ports(segue__ingress *ingress) {
  while (ingress->leaving) {
    segue__port *port = ingress->leaving;
    ingress->leaving = port->next;
    segue__port_unref(port);
  }
}

static void destroy(segue__ingress *ingress) {
  void (*cb)(void *data) = ingress->cb;
  void *data = ingress->data;
  bool all = !ingress->lanes_lost; /* or it stays, for those that may come back */
  release_ports(ingress);
  for (size_t i = 0; i < ingress->lane_count; i++)
    if (!ingress->lanes[i]->lost) segue__lane_free(ingress->lanes[i]);
  if (all) {
    segue__free(ingress->lanes);
    segue__free(ingress);
  }
  cb(data);
}

static void on_lane_end(void *data) {
  segue__ingress *ingress = data;
  if (++ingress->lanes_ended + ingress->lanes_lost == ingress->lane_count) destroy(ingress);
}

/* Without the lock, which a thread of the parent may have held at the fork. */
static void close_sockets(segue__port *port) {
  for (; port; port = port->next) {
    if (port->fd >= 0) segue__close_socket_everywhere(port->fd);
    port->fd = -1;
  }
}

/* Each worker thread has a descriptor of a listener's socket in its loop, and the port has one of
 * its own. One that stays open in the child keeps the address: clients of it wait for ever. A fork
 * may come when a thread has duplicated the socket and not yet stored the number, so the copies are
 * found by the socket, after the loops have closed what they know. */
void segue__ingress_abandon(segue__ingress *ingress) {
  for (size_t i = 0; i < ingress->lane_count; i++)
    if (ingress->lanes[i]) segue__uv_abandon(&ingress->lanes[i]->uv);
  close_sockets(ingress->ports);
  close_sockets(ingress->leaving);
  if (ingress->scribe) segue__scribe_abandon(ingress->scribe);
}

void segue__ingress_free(segue__ingress *ingress, void (*cb)(void *data), void *data) {
  if (!ingress) {
    cb(data);
    return;
  }
  ingress->cb = cb;
  ingress->data = data;
  segue__timer_stop(ingress->options.loop, &ingress->watch);
  for (size_t i = 0; i < ingress->lane_count; i++)
    if (!ingress->lanes[i]->lost) segue__lane_end(ingress->lanes[i]);
  if (ingress->lanes_lost == ingress->lane_count) destroy(ingress);
}

/* ---- For modules that run on the lanes ---- */

static size_t lane_count(void *data) {
  return ((const segue__ingress *)data)->lane_count;
}

static segue__loop *lane_loop(void *data, size_t index) {
  return ((const segue__ingress *)data)->lanes[index]->loop;
}

segue__lanes segue__ingress_lanes(segue__ingress *ingress) {
  return (segue__lanes){lane_count, lane_loop, ingress};
}
