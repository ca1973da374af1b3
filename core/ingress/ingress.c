/* SPDX-License-Identifier: MIT
 *
 * The ingress on the control thread: which ports there are, where they lead, and what a transaction
 * does with them. Everything that can fail is done while staging: the socket is bound, the servers
 * of all lanes are made; what comes later is telling the lanes.
 */
#include "ingress.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "../module/module.h"
#include "parts.h"

enum { GONE_MS = 30000, UNDONE_MS = 1000, ACCEPTS_SHARED = 4, CONNECTIONS = 10000 };

struct segue__ingress {
  segue__ingress_options options;
  segue__lane **lanes;
  size_t lane_count, lanes_ended;
  segue__port *ports;
  bool closing;
  void (*cb)(void *data);
  void *data;
};

int segue__ingress_new(segue__ingress **out, const segue__ingress_options *options) {
  segue__ingress *ingress = segue__calloc(1, sizeof *ingress);
  *out = ingress;
  if (!ingress) return UV_ENOMEM;
  ingress->options = *options;
  return 0;
}

/* ---- Addresses ---- */

static int parse(const char *url, segue__http_address *out, segue_error *err) {
  static const char scheme[] = "http://";
  char text[128];
  size_t len = strlen(url), skip = sizeof scheme - 1;
  if (strncmp(url, scheme, skip) != 0)
    return segue__error_set(err, SEGUE_EPOLICY,
                            "listen = \"%s\" is not of the form \"http://HOST:PORT\"", url);
  if (len > skip && url[len - 1] == '/') len--;
  if (len - skip >= sizeof text)
    return segue__error_set(err, SEGUE_EPOLICY, "listen = \"%s\" is too long", url);
  memcpy(text, url + skip, len - skip);
  text[len - skip] = 0;
  int rc = segue__http_address_parse(text, out, err);
  if (rc == 0 && out->is_unix)
    rc = segue__error_set(err, SEGUE_EPOLICY,
                          "listen = \"%s\": a module is reached at \"http://HOST:PORT\"", url);
  return rc;
}

/* True: an earlier one in the policy is the same address. A port 0 is another one each time. */
static bool taken(const segue__policy *policy, size_t module, size_t url,
                  const segue__http_address *address) {
  segue__http_address other;
  for (size_t i = 0; i <= module; i++) {
    const segue__listen_spec *listen = &policy->modules[i].listen;
    for (size_t k = 0; k < (i < module ? listen->url_count : url); k++)
      if (parse(listen->urls[k], &other, NULL) == 0 && strcmp(other.text, address->text) == 0)
        return true;
  }
  return false;
}

static int check_one(const segue__policy *policy, size_t module, size_t url, segue_error *err) {
  const segue__module_spec *spec = &policy->modules[module];
  segue__http_address address;
  int rc = parse(spec->listen.urls[url], &address, err);
  if (rc < 0) return rc;
  if (taken(policy, module, url, &address))
    return segue__error_set(err, SEGUE_EPOLICY,
                            "listen = \"%s\" is there twice: each address leads to one module",
                            spec->listen.urls[url]);
  if (spec->ops->size < offsetof(segue_module_ops, handle) + sizeof spec->ops->handle ||
      !spec->ops->handle)
    return segue__error_set(err, SEGUE_EPOLICY,
                            "module '%s' has listen, but its code serves no requests: it has no "
                            "handle operation",
                            spec->name);
  return 0;
}

int segue__ingress_check(const segue__policy *policy, segue__errors *errors) {
  int status = 0;
  for (size_t i = 0; i < policy->module_count; i++) {
    const segue__listen_spec *listen = &policy->modules[i].listen;
    for (size_t k = 0; policy->modules[i].ops && k < listen->url_count; k++) {
      segue_error err = {0};
      int rc = check_one(policy, i, k, &err);
      if (rc == 0) continue;
      segue__error_source(&err, policy->modules[i].name);
      if (listen->file) segue__error_at(&err, listen->file, listen->line, 0);
      segue__errors_add(errors, &err);
      status = SEGUE_EPOLICY;
    }
  }
  return status;
}

/* ---- Entries ---- */

void segue__entry_unref(segue__entry *entry) {
  if (entry && !__atomic_sub_fetch(&entry->refs, 1, __ATOMIC_ACQ_REL)) segue__free(entry);
}

static segue__entry *entry_ref(segue__entry *entry) {
  if (entry) __atomic_add_fetch(&entry->refs, 1, __ATOMIC_RELAXED);
  return entry;
}

static uint32_t to_32(uint64_t n, uint32_t otherwise) {
  return !n ? otherwise : n < UINT32_MAX / 2 ? (uint32_t)n : UINT32_MAX / 2;
}

static segue__entry *entry_new(segue__ingress *ingress, const segue__module_spec *spec) {
  const segue__listen_spec *listen = &spec->listen;
  segue_gate *gate = segue__gates_get(ingress->options.gates, spec->name);
  segue__entry *entry = gate ? segue__calloc(1, sizeof *entry) : NULL;
  if (!entry) return NULL;
  entry->refs = 1;
  entry->gate = gate;
  entry->generation_header = listen->generation_header;
  entry->limits = (segue__http_limits){
      .head_bytes = to_32(listen->head_bytes, 0),
      .body_bytes = listen->body_bytes,
      .connections = to_32(listen->connections, CONNECTIONS),
      .head_ms = listen->head_ms,
      .body_ms = listen->body_ms,
      .idle_ms = listen->idle_ms,
      .write_ms = listen->write_ms,
      .write_bytes = UINT32_MAX, /* segue_request_write has its own */
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

static void on_lane_end(void *data);

static size_t lanes_wanted(const segue__policy *policy) {
  long cores = sysconf(_SC_NPROCESSORS_ONLN);
  return policy->threads ? (size_t)policy->threads : cores > 2 ? (size_t)cores - 1 : 1;
}

static int start_lanes(segue__ingress *ingress, const segue__policy *policy, segue_error *err) {
  size_t wanted = lanes_wanted(policy);
  if (ingress->lane_count) {
    if (ingress->lane_count != wanted)
      segue__log(ingress->options.log, SEGUE__WARN, "ingress",
                 "another number of threads counts from the next start on", "threads", 'd',
                 (int64_t)ingress->lane_count, NULL);
    return 0;
  }
  ingress->lanes = segue__calloc(wanted, sizeof(segue__lane *));
  int rc = ingress->lanes ? 0 : UV_ENOMEM;
  while (rc == 0 && ingress->lane_count < wanted) {
    rc = segue__lane_start(&ingress->lanes[ingress->lane_count], ingress->options.loop,
                           ingress->options.log, on_lane_end, ingress);
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
  segue__free(port->outlets);
  segue__free(port->key);
  segue__free(port);
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
  int copy = rc == 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
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

static int bind_port(segue__ingress *ingress, segue__port *port, segue_error *err) {
  int fd = segue__http_bind(&port->address, 0, err);
  if (fd < 0) return fd;
  int rc = make_outlets(ingress, port, fd);
  close(fd);
  if (rc < 0)
    segue__error_set(err, rc, "%s cannot be opened: %s", port->address.text, segue_strerror(rc));
  return rc;
}

static int open_port(segue__ingress *ingress, const segue__http_address *address,
                     segue__entry *entry, segue_error *err) {
  segue__port *port = segue__calloc(1, sizeof *port);
  char *key = segue__strdup(address->text);
  if (!port || !key) {
    segue__free(port);
    segue__free(key);
    segue__entry_unref(entry);
    return segue__error_set(err, UV_ENOMEM, "%s cannot be opened: out of memory", address->text);
  }
  *port =
      (segue__port){.refs = 1, .address = *address, .key = key, .staged = entry, .wanted = true};
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

static segue__port *find(const segue__ingress *ingress, const char *key) {
  segue__port *port = ingress->ports;
  while (port && strcmp(port->key, key) != 0)
    port = port->next;
  return port;
}

static int stage_url(segue__ingress *ingress, const segue__module_spec *spec, const char *url,
                     segue_error *err) {
  segue__http_address address;
  int rc = parse(url, &address, err);
  if (rc < 0) return rc;
  segue__entry *entry = entry_new(ingress, spec);
  if (!entry) return segue__error_set(err, UV_ENOMEM, "%s: out of memory", url);
  segue__port *port = find(ingress, address.text);
  if (!port) return open_port(ingress, &address, entry, err);
  segue__entry_unref(port->staged);
  port->staged = entry;
  port->wanted = true;
  return 0;
}

static int stage_module(segue__ingress *ingress, const segue__policy *next,
                        const segue__module_spec *spec, segue_error *err) {
  int rc = spec->listen.url_count ? start_lanes(ingress, next, err) : 0;
  for (size_t i = 0; i < spec->listen.url_count && rc == 0; i++)
    rc = stage_url(ingress, spec, spec->listen.urls[i], err);
  return rc;
}

int segue__ingress_stage(segue__ingress *ingress, const segue__policy *next,
                         segue__errors *errors) {
  segue_error err = {0};
  int rc = ingress->closing ? segue__error_set(&err, SEGUE_ECLOSED, "the instance shuts down") : 0;
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

static void flip_port(segue__port *port, bool back) {
  segue__entry *to = back ? port->before : port->staged;
  if (!to) return;
  if (!back) port->before = entry_ref(port->entry);
  lead_to(port, entry_ref(to));
  if (port->open || back) return;
  port->open = true;
  for (size_t i = 0; i < port->outlet_count; i++)
    segue__outlet_begin(port->outlets[i]);
}

void segue__ingress_flip(segue__ingress *ingress, bool back) {
  for (segue__port *port = ingress->ports; port && !ingress->closing; port = port->next)
    flip_port(port, back);
}

static void close_port(segue__port *port, uint64_t grace_ms) {
  for (size_t i = 0; i < port->outlet_count && port->open; i++)
    segue__outlet_end(port->outlets[i], grace_ms);
  if (!port->open) drop_unopened(port);
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
    close_port(port, port->live ? GONE_MS : UNDONE_MS);
  }
}

void segue__ingress_settle(segue__ingress *ingress) {
  if (!ingress->closing) sweep(ingress, true);
}

void segue__ingress_discard(segue__ingress *ingress) {
  if (!ingress->closing) sweep(ingress, false);
}

/* ---- The end ---- */

static void destroy(segue__ingress *ingress) {
  void (*cb)(void *data) = ingress->cb;
  void *data = ingress->data;
  for (size_t i = 0; i < ingress->lane_count; i++)
    segue__lane_free(ingress->lanes[i]);
  segue__free(ingress->lanes);
  segue__free(ingress);
  cb(data);
}

static void on_lane_end(void *data) {
  segue__ingress *ingress = data;
  if (++ingress->lanes_ended == ingress->lane_count) destroy(ingress);
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
    close_port(port, grace_ms);
  }
  for (size_t i = 0; i < ingress->lane_count; i++)
    segue__lane_stop(ingress->lanes[i], grace_ms);
  if (!ingress->lane_count) destroy(ingress);
}

/* ---- Figures ---- */

static uint64_t answers(const segue__port *port, size_t class) {
  uint64_t sum = 0;
  for (size_t i = 0; i < port->outlet_count; i++)
    sum += __atomic_load_n(&port->outlets[i]->answers[class], __ATOMIC_RELAXED);
  return sum;
}

static void head(segue__buf *out, const char *name, const char *type, const char *help) {
  segue__buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void segue__ingress_metrics(const segue__ingress *ingress, segue__buf *out) {
  static const char *const classes[] = {"gone", "1xx", "2xx", "3xx", "4xx", "5xx"};
  if (!ingress || !ingress->ports) return;
  head(out, "segue_ingress_connections", "gauge", "Open connections to a module's listener.");
  for (const segue__port *port = ingress->ports; port; port = port->next)
    segue__buf_addf(out, "segue_ingress_connections{address=\"%s\"} %zu\n", port->address.text,
                    __atomic_load_n(&port->connections, __ATOMIC_RELAXED));
  head(out, "segue_ingress_answers_total", "counter",
       "Requests of a module's listener, by what became of them; gone: the client left before.");
  for (const segue__port *port = ingress->ports; port; port = port->next)
    for (size_t k = 0; k < SEGUE__CLASSES; k++)
      if (k != 1)
        segue__buf_addf(out,
                        "segue_ingress_answers_total{address=\"%s\",class=\"%s\"} %" PRIu64 "\n",
                        port->address.text, classes[k], answers(port, k));
}
