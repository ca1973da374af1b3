/* SPDX-License-Identifier: MIT
 *
 * Probes. A try that runs when the probe is freed ends later, so the memory is freed by its end.
 */
#include "probe.h"

#include <stdio.h>
#include <uv.h>

#include "../os/error.h"
#include "../os/mem.h"

struct segue__server_probe {
  segue__loop *loop;
  const segue__os *os;
  const char *module;
  segue__server_probe_options options;
  void (*cb)(void *data);
  void *data;
  segue__timer timer;
  segue__effect_run *run; /* of a try */
  uv_tcp_t socket;
  uv_connect_t connect;
  bool open; /* socket */
  bool freed;
  char problem[256];
};

static void probe_try(segue__timer *timer);

static void probe_drop(segue__server_probe *probe) {
  segue__timer_stop(probe->loop, &probe->timer);
  segue__free(probe);
}

static void probe_tried(segue__server_probe *probe, int status, const char *why) {
  if (probe->freed) {
    probe_drop(probe);
    return;
  }
  if (!status) {
    probe->cb(probe->data);
    return;
  }
  snprintf(probe->problem, sizeof probe->problem, "%.255s", why);
  (void)segue__timer_start(probe->loop, &probe->timer, SEGUE__PROBE_PAUSE_MS, probe_try);
}

/* ---- A request or a command ---- */

static void probe_on_effect(void *data, int status, const segue_error *error) {
  segue__server_probe *probe = data;
  probe->run = NULL;
  probe_tried(probe, status, error ? error->message : "");
}

static int probe_effect(segue__server_probe *probe, segue_error *err) {
  const segue__effect_options options = {.size = sizeof options,
                                         .loop = probe->loop,
                                         .os = probe->os,
                                         .module = probe->module,
                                         .title = "ready",
                                         .effect = probe->options.effect,
                                         .kill_rest = true,
                                         .cb = probe_on_effect,
                                         .data = probe};
  return segue__effect_start(&probe->run, &options, err);
}

/* ---- A connection ---- */

static void probe_on_closed(uv_handle_t *handle) {
  segue__server_probe *probe = handle->data;
  int status = (int)(intptr_t)probe->connect.data;
  probe->open = false;
  probe_tried(probe, status, status ? segue_strerror(status) : "");
}

static void probe_on_connected(uv_connect_t *connect, int status) {
  segue__server_probe *probe = connect->handle->data;
  connect->data = (void *)(intptr_t)status;
  if (!uv_is_closing((uv_handle_t *)&probe->socket))
    uv_close((uv_handle_t *)&probe->socket, probe_on_closed);
}

static int probe_connect(segue__server_probe *probe, segue_error *err) {
  const segue__address *address = probe->options.address;
  int rc = uv_tcp_init(segue__loop_uv(probe->loop), &probe->socket);
  if (rc) return segue__errorf(err, rc, "%s", segue_strerror(rc));
  probe->open = true;
  probe->socket.data = probe;
  rc = uv_tcp_connect(&probe->connect, &probe->socket, (const struct sockaddr *)address->sockaddr,
                      probe_on_connected);
  if (!rc) return 0;
  probe->connect.data = (void *)(intptr_t)rc;
  uv_close((uv_handle_t *)&probe->socket, probe_on_closed);
  return 0;
}

/* ---- Its life ---- */

static void probe_try(segue__timer *timer) {
  segue__server_probe *probe = timer->data;
  segue_error error;
  int rc = probe->options.effect ? probe_effect(probe, &error) : probe_connect(probe, &error);
  if (rc) probe_tried(probe, rc, error.message);
}

int segue__server_probe_start(segue__server_probe **out, segue__loop *loop, const segue__os *os,
                              const char *module, const segue__server_probe_options *options,
                              void (*cb)(void *data), void *data) {
  segue__server_probe *probe = *out = segue__calloc(1, sizeof *probe);
  if (!probe) return UV_ENOMEM;
  *probe = (segue__server_probe){
      .loop = loop, .os = os, .module = module, .options = *options, .cb = cb, .data = data};
  probe->timer.data = probe;
  int rc = segue__timer_start(loop, &probe->timer, 0, probe_try);
  if (rc) {
    segue__free(probe);
    *out = NULL;
  }
  return rc;
}

const char *segue__server_probe_problem(const segue__server_probe *probe) {
  return probe->problem;
}

void segue__server_probe_free(segue__server_probe *probe) {
  if (!probe) return;
  probe->freed = true;
  segue__timer_stop(probe->loop, &probe->timer);
  if (probe->run)
    segue__effect_stop(probe->run);
  else if (!probe->open)
    segue__free(probe);
  else if (!uv_is_closing((uv_handle_t *)&probe->socket))
    uv_close((uv_handle_t *)&probe->socket, probe_on_closed);
}
