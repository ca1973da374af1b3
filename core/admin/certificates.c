/* SPDX-License-Identifier: MIT
 *
 * Reports certificates that expire soon, in the log, in status and in metrics. They are checked
 * when a reload settles, when one expires, and every hour.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

enum { DAY_S = 86400, WARN_S = 14 * DAY_S, LOOK_MS = 3600 * 1000 };

/* A position in a walk over all certificates: first those of the admin API's listeners, then those
 * of the ingress. */
typedef struct round {
  segue__admin_listener *item;
  size_t index;
} round;

static segue__tls_notice *next_of_others(const segue__admin *admin, round *r) {
  segue__tls_notice *notice = NULL;
  do
    notice = admin->parts.more_certificates
                 ? admin->parts.more_certificates(admin->parts.data, r->index++)
                 : NULL;
  while (notice && !notice->context);
  return notice;
}

static segue__tls_notice *certificates_next(const segue__admin *admin, round *r) {
  while (r->item) {
    segue__admin_listener *item = r->item;
    r->item = item->next;
    if (!item->live || !item->auth || !item->auth->tls) continue;
    item->notice.address = item->auth->address;
    item->notice.context = item->auth->tls;
    return &item->notice;
  }
  return next_of_others(admin, r);
}

static int64_t left_s(const segue__admin *admin, const segue__tls_notice *notice) {
  return segue__tls_context_expires(notice->context) - segue__loop_wall_ms(admin->loop) / 1000;
}

/* Writes the warning about a certificate; empty if there is none to give. */
static void warning_of(int64_t left, char *buf, size_t size) {
  buf[0] = 0;
  if (left <= 0)
    snprintf(buf, size, "the certificate has expired: replace it, clients refuse it");
  else if (left < WARN_S)
    snprintf(buf, size, "the certificate expires in %" PRId64 " %s: replace it in time",
             left / (left < 2 * DAY_S ? 3600 : DAY_S), left < 2 * DAY_S ? "hours" : "days");
}

static void on_look(segue__timer *timer) {
  segue__certificates_look(timer->data);
}

/* Logs a certificate when it comes near its end, when it expires, and once a day.
 *
 * The next check is moved to the moment of expiry, plus 50 ms so that it is past then: the line
 * "has expired" must not come up to an hour late. */
static void certificates_look_at(segue__admin *admin, segue__tls_notice *notice,
                                 uint64_t *next_ms) {
  char warning[128];
  int64_t left = left_s(admin, notice);
  uint64_t now = segue__loop_now_ms(admin->loop);
  int stage = left <= 0 ? 2 : left < WARN_S;
  if (left > 0 && (uint64_t)left * 1000 < *next_ms) *next_ms = (uint64_t)left * 1000 + 50;
  warning_of(left, warning, sizeof warning);
  bool again = now - notice->warned_ms >= (uint64_t)DAY_S * 1000;
  if (stage && (stage != notice->warned || again)) {
    SEGUE__LOG(admin->log, stage == 2 ? SEGUE_ERROR : SEGUE_WARN, "http", warning,
               SEGUE__FIELD("address", notice->address),
               SEGUE__FIELD("subject", segue__tls_context_subject(notice->context)));
    notice->warned_ms = now;
  }
  notice->warned = stage;
}

void segue__certificates_look(segue__admin *admin) {
  uint64_t next_ms = LOOK_MS;
  bool any = false;
  round all = {admin->listeners, 0};
  for (segue__tls_notice *notice; (notice = certificates_next(admin, &all));) {
    certificates_look_at(admin, notice, &next_ms);
    any = true;
  }
  admin->certificate_timer.data = admin;
  segue__timer_stop(admin->loop, &admin->certificate_timer);
  if (any) segue__timer_start(admin->loop, &admin->certificate_timer, next_ms, on_look);
}

void segue__certificates_json(segue__buf *out, const segue__admin *admin) {
  const char *separator = "";
  char warning[128];
  segue__buf_addc(out, '[');
  round all = {admin->listeners, 0};
  for (const segue__tls_notice *notice; (notice = certificates_next(admin, &all));) {
    int64_t expires = segue__tls_context_expires(notice->context);
    warning_of(left_s(admin, notice), warning, sizeof warning);
    segue__buf_adds(out, separator);
    segue__buf_addc(out, '{');
    segue__render_member(out, "address", notice->address);
    segue__buf_addc(out, ',');
    segue__render_member(out, "subject", segue__tls_context_subject(notice->context));
    segue__buf_adds(out, ",\"expires\":");
    segue__render_time(out, expires * 1000);
    segue__buf_addc(out, ',');
    segue__render_member(out, "warning", warning[0] ? warning : NULL);
    segue__buf_addc(out, '}');
    separator = ",";
  }
  segue__buf_addc(out, ']');
}

void segue__certificates_metrics(segue__buf *out, const segue__admin *admin) {
  segue__metrics_head(out, "segue_tls_certificate_expiry_timestamp_seconds", "gauge",
                      "When the certificate of a listener expires, in seconds since 1970.");
  round all = {admin->listeners, 0};
  for (const segue__tls_notice *notice; (notice = certificates_next(admin, &all));) {
    segue__buf_adds(out, "segue_tls_certificate_expiry_timestamp_seconds{address=");
    segue__metrics_label(out, notice->address);
    segue__buf_addf(out, "} %" PRId64 "\n", segue__tls_context_expires(notice->context));
  }
}
