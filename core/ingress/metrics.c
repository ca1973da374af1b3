/* SPDX-License-Identifier: MIT
 *
 * Metrics and status of the listeners of modules: their addresses, their certificates, and their
 * counts.
 */
#include <inttypes.h>
#include <string.h>

#include "ingress_internal.h"

segue__tls_notice *segue__ingress_certificate(const segue__ingress *ingress, size_t index) {
  segue__listener *listener = ingress ? ingress->listeners : NULL;
  for (; listener; listener = listener->next)
    if (listener->live && index-- == 0) break;
  if (!listener) return NULL;
  segue__tls_notice *notice = &listener->notice;
  const segue__tls_context *now = listener->route ? listener->route->tls : NULL;
  if (notice->context != now) notice->warned = 0;
  notice->context = now;
  notice->address = listener->address.text;
  return notice;
}

void segue__ingress_addresses(const segue__ingress *ingress, const char *module, segue__buf *out) {
  const char *separator = "";
  for (const segue__listener *listener = ingress ? ingress->listeners : NULL; listener;
       listener = listener->next) {
    if (!listener->open || !listener->route || strcmp(listener->route->module, module) != 0)
      continue;
    segue__buf_addf(out, "%s\"%s://%s\"", separator, listener->route->tls ? "https" : "http",
                    listener->address.text);
    separator = ",";
  }
}

static void metrics_head(segue__buf *out, const char *name, const char *type, const char *help) {
  segue__buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* Returns the sum over all worker threads of the counter at this offset in a thread listener. */
static uint64_t metrics_sum(const segue__listener *listener, size_t offset) {
  uint64_t total = 0;
  for (size_t i = 0; i < listener->thread_listener_count; i++)
    total += __atomic_load_n(
        (const uint64_t *)(const void *)((const char *)listener->thread_listeners[i] + offset),
        __ATOMIC_RELAXED);
  return total;
}

static void metrics_family(const segue__ingress *ingress, segue__buf *out, const char *name,
                           const char *help, size_t offset) {
  metrics_head(out, name, "counter", help);
  for (const segue__listener *listener = ingress->listeners; listener; listener = listener->next)
    segue__buf_addf(out, "%s{address=\"%s\"} %" PRIu64 "\n", name, listener->address.text,
                    metrics_sum(listener, offset));
}

static void answer_metrics(const segue__ingress *ingress, segue__buf *out) {
  static const char *const classes[] = {"gone", "1xx", "2xx", "3xx", "4xx", "5xx"};
  metrics_head(
      out, "segue_ingress_answers_total", "counter",
      "Requests of a module's listener, by class of the answer; gone: the client left before.");
  for (const segue__listener *listener = ingress->listeners; listener; listener = listener->next)
    for (size_t k = 0; k < SEGUE__CLASSES; k++)
      if (k != 1)
        segue__buf_addf(out,
                        "segue_ingress_answers_total{address=\"%s\",class=\"%s\"} %" PRIu64 "\n",
                        listener->address.text, classes[k],
                        metrics_sum(listener, offsetof(segue__thread_listener, answers) +
                                                  k * sizeof(uint64_t)));
}

/* The two counters change one after the other: a negative difference counts as 0. */
static size_t open_connections(const segue__listener *listener) {
  size_t left = __atomic_load_n(&listener->left, __ATOMIC_RELAXED);
  size_t all = __atomic_load_n(&listener->connections, __ATOMIC_RELAXED);
  return all > left ? all - left : 0;
}

static void log_metrics(const segue__access_log_writer *log_writer, segue__buf *out) {
  uint64_t lines, dropped;
  segue__access_log_writer_metrics(log_writer, &lines, &dropped);
  metrics_head(out, "segue_access_log_lines_total", "counter",
               "Lines of access logs that were written.");
  segue__buf_addf(out, "segue_access_log_lines_total %" PRIu64 "\n", lines);
  metrics_head(
      out, "segue_access_log_dropped_total", "counter",
      "Lines of access logs that were lost: there was no room, or they could not be written.");
  segue__buf_addf(out, "segue_access_log_dropped_total %" PRIu64 "\n", dropped);
}

void segue__ingress_metrics(const segue__ingress *ingress, segue__buf *out) {
  if (!ingress || !ingress->listeners) return;
  metrics_head(out, "segue_ingress_connections", "gauge",
               "Open connections to a module's listener.");
  for (const segue__listener *listener = ingress->listeners; listener; listener = listener->next)
    segue__buf_addf(out, "segue_ingress_connections{address=\"%s\"} %zu\n", listener->address.text,
                    open_connections(listener));
  metrics_head(
      out, "segue_ingress_left_inside", "gauge",
      "Requests whose client left and which their module has not answered; they count against "
      "the limit of connections.");
  for (const segue__listener *listener = ingress->listeners; listener; listener = listener->next)
    segue__buf_addf(out, "segue_ingress_left_inside{address=\"%s\"} %zu\n", listener->address.text,
                    __atomic_load_n(&listener->left, __ATOMIC_RELAXED));
  answer_metrics(ingress, out);
  metrics_family(ingress, out, "segue_ingress_connections_refused_total",
                 "Connections past the limit, which were answered 503.",
                 offsetof(segue__thread_listener, crowd));
  metrics_family(ingress, out, "segue_ingress_handshakes_failed_total",
                 "TLS handshakes of a module's listener that failed.",
                 offsetof(segue__thread_listener, handshakes));
  metrics_family(ingress, out, "segue_ingress_descriptors_scarce_total",
                 "Times that clients had to wait because too few file descriptors were left.",
                 offsetof(segue__thread_listener, scarce));
  if (ingress->log_writer) log_metrics(ingress->log_writer, out);
}
