/* SPDX-License-Identifier: MIT
 *
 * POST /api/v1/freeze and /unfreeze, and the decisions of operators in status and metrics.
 * (Rollback and confirm wait for a run, as a reload does: reload.c.)
 *
 * A freeze is answered only when it is on disk (on_frozen): an operator who got the answer must be
 * able to rely on it after a crash.
 */
#include "internal.h"
#include "render.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

static void on_frozen(void *data, int status, const segue_error *error) {
  segue__http_request *request = data;
  segue__admin *admin = request->user;
  request->on_gone = NULL;
  segue__operator_status hold;
  if (status == SEGUE_ECLOSED) {
    segue__answer_error(request, 503, "Retry-After: 1\r\n", "segue is shutting down");
  } else if (status < 0) {
    segue__answer_error(request, 500, NULL, "nothing was changed: %s", error->message);
  } else {
    segue__engine_operator_status(admin->engine, &hold);
    segue__answer_error(request, 200, NULL, "%s",
                        hold.frozen ? "frozen: nothing new goes live until unfreeze"
                                    : "not frozen: reloads are allowed again");
  }
}

static void freeze_on_gone(segue__http_request *request) {
  segue__admin *admin = request->user;
  if (admin->engine) segue__engine_freeze_forget(admin->engine, request);
}

static void freeze_set(segue__admin *admin, segue__http_request *request, bool frozen) {
  char why[256] = "", by[128];
  segue__operator_status hold;
  segue__http_query_get(request, "why", why, sizeof why);
  if (frozen && !why[0]) {
    segue__answer_error(request, 400, NULL, "why must give a reason, such as ?why=release+weekend");
    return;
  }
  segue__engine_operator_status(admin->engine, &hold);
  /* A second freeze must not overwrite the name and the reason of the first one: the operator who
   * unfreezes needs both. */
  if (frozen && hold.frozen) {
    segue__answer_error(request, 409, NULL,
                        "reloads are frozen already, by %s: %s (segue unfreeze ends that)",
                        hold.frozen_by, hold.frozen_why);
    return;
  }
  if (!frozen && !hold.frozen) {
    segue__answer_error(request, 409, NULL, "reloads are not frozen");
    return;
  }
  segue__requester(request, by, sizeof by);
  request->user = admin;
  request->on_gone = freeze_on_gone;
  int rc = frozen ? segue__engine_freeze(admin->engine, by, why, on_frozen, request)
                  : segue__engine_unfreeze(admin->engine, by, on_frozen, request);
  if (rc == 0) return;
  segue_error error;
  segue__errorf(&error, rc, "%s", segue_strerror(rc));
  on_frozen(request, rc, &error);
}

void segue__handle_freeze(segue__admin *admin, segue__http_request *request, const char *rest) {
  (void)rest;
  freeze_set(admin, request, true);
}

void segue__handle_unfreeze(segue__admin *admin, segue__http_request *request, const char *rest) {
  (void)rest;
  freeze_set(admin, request, false);
}

void segue__operator_json(segue__buf *out, const segue__engine *engine) {
  segue__operator_status hold;
  segue__engine_operator_status(engine, &hold);
  segue__buf_adds(out, "\"frozen\":");
  if (hold.frozen) {
    segue__buf_adds(out, "{\"since\":");
    segue__render_time(out, hold.frozen_wall_ms);
    segue__buf_addc(out, ',');
    segue__render_member(out, "by", hold.frozen_by);
    segue__buf_addc(out, ',');
    segue__render_member(out, "why", hold.frozen_why);
    segue__buf_addf(out, ",\"missed\":%" PRIu64 "}", hold.missed);
  } else {
    segue__buf_adds(out, "null");
  }
  segue__buf_adds(out, ",\"unconfirmed\":");
  if (hold.unconfirmed) {
    segue__buf_adds(out, "{\"until\":");
    segue__render_time(out, hold.unconfirmed_until_wall_ms);
    segue__buf_addf(out, ",\"by\":\"%s\"}", hold.by_operator ? "operator" : "probe");
  } else {
    segue__buf_adds(out, "null");
  }
  if (hold.pinned)
    segue__buf_addf(out, ",\"rolled_back_to\":%" PRIu64, hold.pinned_generation);
  else
    segue__buf_adds(out, ",\"rolled_back_to\":null");
}

void segue__operator_metrics(segue__buf *out, const segue__engine *engine) {
  segue__operator_status hold;
  segue__engine_operator_status(engine, &hold);
  segue__metrics_head(out, "segue_frozen", "gauge", "1 while reloads are frozen.");
  segue__buf_addf(out, "segue_frozen %d\n", hold.frozen);
  segue__metrics_head(out, "segue_config_unconfirmed", "gauge",
                      "1 while the live generation waits to be confirmed.");
  segue__buf_addf(out, "segue_config_unconfirmed %d\n", hold.unconfirmed);
  segue__metrics_head(out, "segue_config_rolled_back", "gauge",
                      "1 while a generation that a rollback restored is live.");
  segue__buf_addf(out, "segue_config_rolled_back %d\n", hold.pinned);
}
