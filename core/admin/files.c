/* SPDX-License-Identifier: MIT
 *
 * GET /api/v1/files: the rendered files, as a worker has found them. A request that waits is in a
 * list, so that a client that leaves and the end of the API find it; the report comes in any case,
 * and frees it.
 */
#include <inttypes.h>
#include <uv.h>

#include "internal.h"
#include "render.h"

struct segue__file_question {
  segue__admin *admin;
  segue__http_request *request; /* NULL: the client has left, or was answered */
  segue__file_question *prev, *next;
};

static void question_leave(segue__file_question *q) {
  if (!q->request) return;
  if (q->prev)
    q->prev->next = q->next;
  else
    q->admin->file_questions = q->next;
  if (q->next) q->next->prev = q->prev;
  q->request->on_gone = NULL;
  q->request = NULL;
}

static void files_on_gone(segue__http_request *request) {
  question_leave(request->user);
}

void segue__file_questions_close(segue__admin *admin) {
  while (admin->file_questions) {
    segue__http_request *request = admin->file_questions->request;
    question_leave(admin->file_questions);
    segue__answer_error(request, 503, "Retry-After: 1\r\n", "segue is shutting down");
  }
}

static void add_version(segue__buf *out, const segue__file_side *side) {
  if (!side->exists) {
    segue__buf_adds(out, "null");
    return;
  }
  segue__buf_addf(
      out, "{\"size\":%" PRIu64 ",\"hash\":\"%s\",\"mode\":\"%04o\",\"uid\":%u,\"gid\":%u%s}",
      side->size, side->hash, side->mode, side->uid, side->gid, side->link ? ",\"link\":true" : "");
}

static void add_file(segue__buf *out, const segue__file_row *row) {
  segue__buf_addc(out, '{');
  segue__render_member(out, "path", row->path);
  segue__buf_addf(out, ",\"state\":\"%s\",\"generation\":%" PRIu64 ",\"since\":",
                  segue__file_state_name(row->state), row->generation);
  segue__render_time(out, row->since_wall_ms);
  segue__buf_adds(out, ",\"wanted\":");
  add_version(out, &row->wanted);
  if (row->state == SEGUE__FILE_DRIFTED || row->state == SEGUE__FILE_CHANGING ||
      row->state == SEGUE__FILE_ADOPTED) {
    segue__buf_adds(out, ",\"found\":");
    add_version(out, &row->found);
  }
  segue__buf_addc(out, '}');
}

static void add_apply(segue__buf *out, const segue__engine *engine, const segue__file_rows *rows) {
  segue__buf_adds(out, ",\"apply\":");
  if (!rows->applied) {
    segue__buf_adds(out, "null");
    return;
  }
  segue__buf_adds(out, "{\"at\":");
  segue__render_time(out, rows->applied_wall_ms);
  segue__buf_addf(out, ",\"duration_ms\":%" PRIu64 ",\"good\":%s,", rows->applied_ms,
                  rows->apply_failed ? "false" : "true");
  segue__render_clean(out, engine, "by", rows->applied_by);
  segue__buf_addc(out, ',');
  segue__render_clean(out, engine, "message", rows->apply_failed);
  segue__buf_addc(out, '}');
}

static void add_module(segue__buf *out, const segue__engine *engine, const segue__file_rows *rows) {
  segue__buf_addc(out, '{');
  segue__render_member(out, "module", rows->module);
  segue__buf_addc(out, ',');
  segue__render_clean(out, engine, "held", rows->refused);
  add_apply(out, engine, rows);
  segue__buf_adds(out, ",\"due\":");
  segue__open_changes_json(out, engine, rows->module);
  segue__buf_adds(out, ",\"files\":[");
  for (size_t i = 0; i < rows->count; i++) {
    if (i) segue__buf_addc(out, ',');
    add_file(out, &rows->files[i]);
  }
  segue__buf_adds(out, "]}");
}

static void files_answer(segue__http_request *request, const segue__engine *engine,
                         const segue__file_report *report) {
  segue__buf body;
  segue__buf_init(&body);
  const segue__policy *policy = segue__engine_policy(engine);
  bool any = false;
  segue__buf_addc(&body, '[');
  for (size_t i = 0; report && i < report->count; i++) {
    const segue__file_rows *rows = &report->modules[i];
    if (!policy || !segue__policy_module(policy, rows->module)) continue;
    if (any) segue__buf_addc(&body, ',');
    any = true;
    add_module(&body, engine, rows);
  }
  segue__buf_adds(&body, "]\n");
  segue__answer_json(request, 200, &body);
}

static void files_reported(void *data, segue__file_report *report) {
  segue__file_question *q = data;
  segue__http_request *request = q->request;
  const segue__engine *engine = request ? q->admin->engine : NULL;
  question_leave(q);
  segue__free(q);
  if (request && report)
    files_answer(request, engine, report);
  else if (request)
    segue__answer_error(request, 503, "Retry-After: 1\r\n", "segue is shutting down");
}

void segue__handle_files(segue__admin *admin, segue__http_request *request, const char *rest) {
  (void)rest;
  if (!admin->parts.file_report) {
    files_answer(request, admin->engine, NULL);
    return;
  }
  segue__file_question *q = segue__calloc(1, sizeof *q);
  if (!q) {
    segue__answer_error(request, 500, NULL, "out of memory");
    return;
  }
  *q = (segue__file_question){.admin = admin, .request = request, .next = admin->file_questions};
  if (q->next) q->next->prev = q;
  admin->file_questions = q;
  request->user = q;
  request->on_gone = files_on_gone;
  int rc = admin->parts.file_report(admin->parts.data, files_reported, q);
  if (!rc) return;
  question_leave(q);
  segue__free(q);
  segue__answer_error(request, rc == UV_EAGAIN ? 503 : 500, NULL,
                      "the files cannot be looked at: %s", segue_strerror(rc));
}
