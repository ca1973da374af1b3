/* SPDX-License-Identifier: MIT
 *
 * Questions that the record answers: reloads of long ago, generations that are not in memory any
 * more, why a value is what it is. Each waits for the thread of the record.
 *
 * A question is owned by its request. If the client leaves or the API closes, segue__record_forget
 * makes sure that the pending call has no callback, so the question can be freed at once, although
 * the record's thread may be working on the answer.
 */
#include "internal.h"
#include "render.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../record/file_fold.h"
#include "../record/writer.h"

struct segue__question {
  segue__record_call call;
  segue__admin *admin;
  segue__http_request *request;
  segue__question *prev, *next;
  uint64_t number; /* of a reload */
  char names[2][64];
  const segue_snapshot *sides[2]; /* references */
  const segue_snapshot *live;     /* the same; of why */
  char path[512];
};

static void query_history_on_gone(segue__http_request *request);

static segue__question *question_new(segue__admin *admin, segue__http_request *request,
                                     void (*cb)(segue__record_call *, segue__record_answer *)) {
  segue__question *q = segue__calloc(1, sizeof *q);
  if (!q) {
    segue__answer_error(request, 500, NULL, "out of memory");
    return NULL;
  }
  q->call = (segue__record_call){.cb = cb, .data = q};
  q->admin = admin;
  q->request = request;
  q->next = admin->questions;
  if (q->next) q->next->prev = q;
  admin->questions = q;
  request->user = q;
  request->on_gone = query_history_on_gone;
  return q;
}

static void question_free(segue__question *q) {
  if (q->prev)
    q->prev->next = q->next;
  else
    q->admin->questions = q->next;
  if (q->next) q->next->prev = q->prev;
  segue__record_forget(&q->call);
  q->request->on_gone = NULL;
  segue_snapshot_unref(q->sides[0]);
  segue_snapshot_unref(q->sides[1]);
  segue_snapshot_unref(q->live);
  segue__free(q);
}

static void query_history_on_gone(segue__http_request *request) {
  question_free(request->user);
}

void segue__questions_close(segue__admin *admin) {
  while (admin->questions) {
    segue__http_request *request = admin->questions->request;
    question_free(admin->questions);
    segue__answer_error(request, 503, "Retry-After: 1\r\n", "segue is shutting down");
  }
}

static void cannot_say(segue__http_request *request, int status) {
  segue__answer_error(request, 500, NULL, "the history cannot be read: %s", segue_strerror(status));
}

/* ---- Reloads --------------------------------------------------------------------------------- */

static void add_answer(segue__buf *body, const segue__record_answer *answer) {
  segue__buf_init(body);
  segue__buf_add(body, answer->text.data, answer->text.len);
  segue__buf_addc(body, '\n');
}

static void on_reloads(segue__record_call *call, segue__record_answer *answer) {
  segue__question *q = call->data;
  segue__http_request *request = q->request;
  uint64_t id = q->number;
  question_free(q);
  segue__buf body;
  if (answer->status == UV_ENOENT) {
    segue__answer_error(
        request, 404, NULL,
        "reload %" PRIu64 " is not in the history: segue history lists those that are", id);
  } else if (answer->status < 0) {
    cannot_say(request, answer->status);
  } else {
    add_answer(&body, answer);
    segue__answer_json(request, 200, &body);
  }
}

/* Handles the return code of a call to the record. Returns false if this instance keeps no such
 * record: then nothing was answered, and the caller answers from memory. */
static bool query_history_asked(segue__question *q, int rc) {
  if (rc == 0) return true;
  segue__http_request *request = q->request;
  question_free(q);
  if (rc != UV_ENOENT) cannot_say(request, rc);
  return rc != UV_ENOENT;
}

bool segue__record_ask_reloads(segue__admin *admin, segue__http_request *request, uint64_t limit,
                               uint64_t before) {
  segue__record *record = segue__engine_record(admin->engine);
  segue__question *q = record ? question_new(admin, request, on_reloads) : NULL;
  if (!q) return record != NULL;
  return query_history_asked(q, segue__record_reloads(record, limit, before, &q->call));
}

bool segue__record_ask_audit(segue__admin *admin, segue__http_request *request, uint64_t limit) {
  segue__record *record = segue__engine_record(admin->engine);
  segue__question *q = record ? question_new(admin, request, on_reloads) : NULL;
  if (!q) return record != NULL;
  return query_history_asked(q, segue__record_audits(record, limit, &q->call));
}

bool segue__record_ask_reload(segue__admin *admin, segue__http_request *request, uint64_t id) {
  segue__record *record = segue__engine_record(admin->engine);
  segue__question *q = record ? question_new(admin, request, on_reloads) : NULL;
  if (!q) return record != NULL;
  q->number = id;
  return query_history_asked(q, segue__record_reload(record, id, &q->call));
}

/* ---- Two generations ------------------------------------------------------------------------- */

static void next_side(segue__question *q);
static void ask_file_changes(segue__question *q);

/* A generation of the history is shown with the mask of the live one: a value that is secret now
 * was secret then too, also if the schema of that time did not mark it. Without a live
 * configuration every value is secret. */
static int hide_as_live(const segue__admin *admin, segue_snapshot *snapshot) {
  const segue_snapshot *live = segue__engine_live(admin->engine);
  if (!live) return segue__mask_all(&snapshot->mask);
  snapshot->mask = segue__mask_ref(live->mask);
  return 0;
}

/* Also called directly, with a local answer, if the call to the record could not be made: both
 * errors are answered in one place. The question is freed before the answer is sent, because
 * question_free clears on_gone. */
static void on_side(segue__record_call *call, segue__record_answer *answer) {
  segue__question *q = call->data;
  int side = q->sides[0] ? 1 : 0;
  if (answer->status == 0) answer->status = hide_as_live(q->admin, answer->snapshot);
  if (answer->status == 0) {
    q->sides[side] = answer->snapshot;
    answer->snapshot = NULL;
    next_side(q);
    return;
  }
  segue__http_request *request = q->request;
  char name[sizeof q->names[0]];
  memcpy(name, q->names[side], sizeof name);
  question_free(q);
  if (answer->status == UV_ENOENT)
    segue__answer_error(request, 404, NULL,
                        "generation %s is not in the history: segue history lists those that are",
                        name);
  else
    cannot_say(request, answer->status);
}

/* Asks the record for a side that is missing, one at a time; answers if both are there. */
static void next_side(segue__question *q) {
  segue__record *record = segue__engine_record(q->admin->engine);
  for (int side = 0; side < 2; side++) {
    uint64_t number;
    if (q->sides[side]) continue;
    int rc = UV_ENOENT;
    if (record && segue__number_parse(q->names[side], &number))
      rc = segue__record_snapshot(record, number, &q->call);
    segue__record_answer answer = {.status = rc};
    if (rc < 0) on_side(&q->call, &answer);
    return;
  }
  ask_file_changes(q);
}

/* ---- Their rendered files ---- */

/* Files are shown with the mask of the live generation, as hide_as_live. Without one the mask hides
 * everything. The caller unrefs it. */
static int live_mask(const segue__admin *admin, segue__mask **out) {
  const segue_snapshot *live = segue__engine_live(admin->engine);
  *out = live ? segue__mask_ref(live->mask) : NULL;
  return live ? 0 : segue__mask_all(out);
}

/* Answers with the two sides and with their files. missing: a generation whose reload is not in the
 * history, so that the files are not known. too_many: there are more reloads between the two than
 * are joined. */
static void answer_diff(segue__question *q, segue__file_changes *files, uint64_t missing,
                        bool too_many) {
  segue__http_request *request = q->request;
  segue__admin *admin = q->admin;
  const segue_snapshot *from = segue_snapshot_ref(q->sides[0]);
  const segue_snapshot *to = segue_snapshot_ref(q->sides[1]);
  segue__buf members;
  segue__buf_init(&members);
  if (missing)
    segue__buf_addf(&members, ",\"files\":null,\"files_missing\":%" PRIu64, missing);
  else if (too_many)
    segue__buf_adds(&members, ",\"files\":null,\"files_too_many\":true");
  else
    segue__render_files_json(&members, files);
  question_free(q);
  if (members.failed) {
    segue__buf_deinit(&members);
    segue__answer_error(request, 500, NULL, "out of memory");
  } else {
    segue__diff_answer(admin, request, from, to, members.data);
  }
  segue_snapshot_unref(from);
  segue_snapshot_unref(to);
}

static void answer_from_memory(segue__question *q);

static void on_file_changes(segue__record_call *call, segue__record_answer *answer) {
  segue__question *q = call->data;
  segue__http_request *request = q->request;
  if (!answer->status || answer->status == SEGUE_ELIMIT) {
    answer_diff(q, &answer->changes, answer->number, answer->status != 0);
  } else if (answer->status == UV_ENOENT) {
    answer_from_memory(q);
  } else {
    question_free(q);
    cannot_say(request, answer->status);
  }
}

/* Answers from the results in memory, where there is no history. It has the files of one reload:
 * the one that made the later side and found the earlier one live. Its differences are short, so
 * they are masked here (txn_end.c). Any other two sides were in the history, which is gone now. */
static void answer_from_memory(segue__question *q) {
  const segue__engine *engine = q->admin->engine;
  uint64_t from = segue_snapshot_generation(q->sides[0]);
  uint64_t to = segue_snapshot_generation(q->sides[1]);
  uint64_t earlier = from < to ? from : to, later = from > to ? from : to;
  segue__file_fold *fold = NULL;
  segue__file_changes files = {0};
  segue__mask *mask = NULL;
  uint64_t missing = later;
  int rc = segue__file_fold_new(&fold);
  if (!rc) rc = live_mask(q->admin, &mask);
  for (size_t i = 0; i < segue__engine_result_count(engine) && !rc && missing; i++) {
    const segue__result *result = segue__engine_result(engine, i);
    if (result->generation != later || result->outcome != SEGUE__APPLIED || result->plan_only)
      continue;
    if (result->previous != earlier) break;
    rc = segue__file_fold_add(fold, &result->outputs);
    if (!rc) rc = segue__file_fold_finish(fold, from > to, &files);
    if (!rc) rc = segue__file_changes_clean(&files, mask);
    missing = 0;
  }
  segue__mask_unref(mask);
  segue__file_fold_free(fold);
  segue__record_answer answer = {.status = rc, .number = missing, .changes = files};
  on_file_changes(&q->call, &answer);
  segue__file_changes_deinit(&answer.changes);
}

static void ask_file_changes(segue__question *q) {
  segue__record *record = segue__engine_record(q->admin->engine);
  uint64_t from = segue_snapshot_generation(q->sides[0]);
  uint64_t to = segue_snapshot_generation(q->sides[1]);
  segue__file_changes none = {0};
  segue__mask *mask = NULL;
  if (from == to) {
    answer_diff(q, &none, 0, false);
    return;
  }
  q->call.cb = on_file_changes;
  int rc = live_mask(q->admin, &mask);
  if (!rc) rc = record ? segue__record_file_changes(record, from, to, mask, &q->call) : UV_ENOENT;
  segue__mask_unref(mask);
  segue__record_answer answer = {.status = rc};
  if (rc < 0) on_file_changes(&q->call, &answer);
}

void segue__record_ask_diff(segue__admin *admin, segue__http_request *request, const char *names[2],
                            const segue_snapshot *sides[2]) {
  segue__question *q = question_new(admin, request, on_side);
  if (!q) return;
  for (int side = 0; side < 2; side++) {
    snprintf(q->names[side], sizeof q->names[side], "%s", names[side]);
    if (sides[side]) q->sides[side] = segue_snapshot_ref(sides[side]);
  }
  next_side(q);
}

/* ---- Why ------------------------------------------------------------------------------------- */

/* The names of source and file are cleaned of secrets, because a source written in Lua chooses
 * them. */
static void origin_json(segue__buf *out, const segue__engine *engine, const segue_snapshot *live,
                        const segue_node *node) {
  const char *source, *file;
  uint32_t line, column;
  if (!node || segue_node_origin(live, node, &source, &file, &line, &column) < 0) {
    segue__buf_adds(out, "null");
    return;
  }
  segue__buf_addc(out, '{');
  segue__render_clean(out, engine, "source", source);
  segue__buf_addc(out, ',');
  segue__render_clean(out, engine, "file", file);
  segue__buf_addf(out, ",\"line\":%" PRIu32 ",\"column\":%" PRIu32 "}", line, column);
}

/* Returns the length of the topmost path at or above this one that has no value in the
 * configuration; 0 if this path has a value. */
static size_t missing_from(const segue_node *root, const char *path) {
  char above[512];
  size_t len = strlen(path), parent;
  if (segue_node_get(root, path)) return 0;
  while ((parent = segue__history_parent(path, len)) > 0) {
    snprintf(above, sizeof above, "%.*s", (int)parent, path);
    if (segue_node_get(root, above)) break;
    len = parent;
  }
  return len;
}

/* Answers 404 and names the value that blocks the path: greeting.x has no value where greeting is a
 * text. */
static void no_value(segue__question *q) {
  const segue_node *root = segue_snapshot_root(q->live);
  segue__http_request *request = q->request;
  char path[sizeof q->path], above[sizeof q->path] = "";
  memcpy(path, q->path, sizeof path);
  size_t len = segue__history_parent(path, missing_from(root, path));
  snprintf(above, sizeof above, "%.*s", (int)len, path);
  segue_type type = len ? segue_node_type(segue_node_get(root, above)) : SEGUE_MAP;
  question_free(q);
  if (type != SEGUE_MAP && type != SEGUE_LIST)
    segue__answer_error(request, 404, NULL,
                        "the configuration has no value at %s: %s is of type %s", path, above,
                        segue_type_name(type));
  else
    segue__answer_error(request, 404, NULL,
                        "the configuration has no value at %s, and no kept generation removed one",
                        path);
}

static void on_why(segue__record_call *call, segue__record_answer *answer) {
  segue__question *q = call->data;
  segue__http_request *request = q->request;
  const segue_node *node = segue_node_get(segue_snapshot_root(q->live), q->path);
  segue__buf body;
  if (answer->status < 0 && answer->status != UV_ENOENT) {
    question_free(q);
    cannot_say(request, answer->status);
    return;
  }
  if (answer->status < 0 && !node) {
    no_value(q);
    return;
  }
  segue__buf_init(&body);
  segue__buf_addc(&body, '{');
  segue__render_member(&body, "path", q->path);
  segue__buf_addf(&body, ",\"live\":%" PRIu64 ",\"value\":", segue_snapshot_generation(q->live));
  segue__render_value(&body, node, q->path, q->live->mask);
  segue__buf_adds(&body, ",\"origin\":");
  origin_json(&body, q->admin->engine, q->live, node);
  segue__buf_adds(&body, ",\"change\":");
  if (answer->status == 0)
    segue__buf_add(&body, answer->text.data, answer->text.len);
  else
    segue__buf_adds(&body, "null");
  segue__buf_adds(&body, "}\n");
  question_free(q);
  segue__answer_json(request, 200, &body);
}

void segue__handle_why(segue__admin *admin, segue__http_request *request, const char *rest) {
  (void)rest;
  const segue_snapshot *live = segue__engine_live(admin->engine);
  segue__record *record = segue__engine_record(admin->engine);
  char path[512] = "";
  if (!segue__http_query_get(request, "path", path, sizeof path) || !path[0]) {
    segue__answer_error(request, 400, NULL, "path must name a value, such as ?path=listen.port");
    return;
  }
  if (!live) {
    segue__answer_error(request, 404, NULL, "no configuration is live yet");
    return;
  }
  segue__question *q = question_new(admin, request, on_why);
  if (!q) return;
  snprintf(q->path, sizeof q->path, "%s", path);
  segue__admin_cut(live, q->path, sizeof q->path);
  q->live = segue_snapshot_ref(live);
  /* If the path has no value, a change answers the question only if it removed that value or a
   * container above it: a change of the text "greeting" is no answer about greeting.x. */
  size_t min_len = missing_from(segue_snapshot_root(live), q->path);
  int rc = record ? segue__record_why(record, q->path, min_len, segue_snapshot_generation(live),
                                      &q->call)
                  : UV_ENOENT;
  segue__record_answer answer = {.status = rc};
  if (rc < 0) on_why(&q->call, &answer);
}
