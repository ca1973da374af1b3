/* SPDX-License-Identifier: MIT
 *
 * POST /api/v1/recording: an incident as it happens, for `segue record`. The first request is
 * answered with the files of the last good generation. Each ?after=N is answered with the result of
 * the next reload, the bytes of every file that it read and that differs from the entry before, and
 * the answers that the policy got from commands and requests. An entry is kept until
 * SEGUE__ENTRIES_KEPT newer ones exist, so that a client may lose its connection and ask again. All
 * entries are freed when no request has come for a minute. Files contain secrets: only the control
 * socket serves this, and only to the role operate.
 */
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <uv.h>

#include "../config/utf8.h"
#include "../record/writer.h"
#include "internal.h"

enum { WAIT_MS = 20000, FORGET_MS = 60000 };

static const char mime[] = "application/x-ndjson";

/* ---- Text ------------------------------------------------------------------------------------ */

/* Adds the files of `files` that `before` lacks or has with other bytes. */
static void incident_add_files(segue__buf *out, const segue__files *files,
                               const segue__files *before) {
  bool any = false;
  segue__buf_adds(out, "\"inputs\":{");
  for (size_t i = 0; files && i < files->count; i++) {
    const segue__file *file = &files->items[i];
    const segue__file *old = before ? segue__files_find(before, file->path) : NULL;
    const char *data, *data_before = NULL;
    size_t len, len_before = 0;
    if (segue__file_bytes(file, &data, &len) < 0) out->failed = 1;
    if (out->failed || (old && segue__file_bytes(old, &data_before, &len_before) < 0)) break;
    if (old && len_before == len && memcmp(data_before, data, len) == 0) continue;
    if (any) segue__buf_addc(out, ',');
    any = true;
    segue__json_string(out, file->path, strlen(file->path));
    segue__buf_addc(out, ':');
    segue__json_bytes(out, data, len);
  }
  segue__buf_addc(out, '}');
}

/* Adds the variables that the sources of the policy read, and the ones that its code requested. The
 * rest of the environment is left out: it has nothing to do with the incident, and often holds
 * credentials. */
static void add_environment(segue__buf *out, const segue__engine *engine) {
  const segue__policy *policy = segue__engine_policy(engine);
  segue__record *record = segue__engine_record(engine);
  const segue__os *os = segue__os_default();
  bool any = false;
  segue__buf_adds(out, "\"env\":{");
  for (char **entry = os->environ(os->data); entry && *entry; entry++) {
    const char *value = strchr(*entry, '=');
    bool wanted =
        value && record &&
        segue__inputs_asked(segue__record_inputs(record), *entry, (size_t)(value - *entry));
    for (size_t i = 0; value && policy && i < policy->source_count && !wanted; i++) {
      const char *prefix = policy->sources[i].prefix;
      wanted = prefix && strncmp(*entry, prefix, strlen(prefix)) == 0;
    }
    if (!wanted || segue__utf8_check(*entry, strlen(*entry)) != strlen(*entry)) continue;
    if (any) segue__buf_addc(out, ',');
    any = true;
    segue__json_string(out, *entry, (size_t)(value - *entry));
    segue__buf_addc(out, ':');
    segue__json_string(out, value + 1, strlen(value + 1));
  }
  segue__buf_addc(out, '}');
}

/* ---- Entries --------------------------------------------------------------------------------- */

static void answer_entry(segue__http_request *request, uint64_t number, const char *text) {
  char headers[96];
  snprintf(headers, sizeof headers, "Segue-Entry: %" PRIu64 "\r\nCache-Control: no-store\r\n",
           number);
  segue__http_respond(request, 200, mime, headers, text, strlen(text));
}

static void incident_forget(segue__timer *timer) {
  segue__recording_close(timer->data);
}

/* Answers the waiting request with its entry, or with 204 if there is none yet: the client then
 * asks again. */
static void answer_waiter(segue__admin *admin) {
  segue__recording *recording = &admin->recording;
  segue__http_request *request = recording->waiter;
  uint64_t number = recording->wanted;
  if (!request) return;
  recording->waiter = NULL;
  request->on_gone = NULL;
  segue__timer_start(admin->loop, &recording->timer, FORGET_MS, incident_forget);
  const char *text =
      number <= recording->count ? recording->kept[number % SEGUE__ENTRIES_KEPT] : NULL;
  if (text)
    answer_entry(request, number, text);
  else
    segue__http_respond(request, 204, mime, "Cache-Control: no-store\r\n", NULL, 0);
}

static void incident_waited(segue__timer *timer) {
  answer_waiter(timer->data);
}

/* Returns whether a result belongs to an incident. A poll that found no change does not, nor a
 * plan, nor an input that was skipped because it was refused before. */
static bool of_interest(const segue__result *result) {
  bool by_itself = result->trigger == SEGUE__BY_POLL || result->trigger == SEGUE__BY_WATCH ||
                   result->trigger == SEGUE__BY_RETRY || result->trigger == SEGUE__BY_PUSH;
  return !result->plan_only && !result->skipped &&
         !(by_itself && result->outcome == SEGUE__UNCHANGED && !result->deferred);
}

/* An entry must contain everything that a replay needs. Where memory is short its place stays
 * empty, because a part of it would replay to something else. */
void segue__recording_add(segue__admin *admin, const segue__result *result) {
  segue__recording *recording = &admin->recording;
  segue__answers_running(admin->answers, false);
  if (!recording->on) return;
  if (!of_interest(result)) {
    segue__answers_forget(admin->answers);
    return;
  }
  segue__buf text, rest;
  segue__buf_init(&text);
  segue__buf_init(&rest);
  segue__render_result_json(&rest, result, true);
  segue__buf_addf(&text, "{\"started_ms\":%" PRId64 ",\"forced\":%s,", result->started_wall_ms,
                  result->forced ? "true" : "false");
  add_environment(&text, admin->engine);
  segue__buf_addc(&text, ',');
  segue__answers_take(admin->answers, &text);
  segue__buf_addc(&text, ',');
  incident_add_files(&text, result->files, recording->files);
  /* The members of the result follow in the same object, so its opening brace is left out. */
  if (!rest.failed) segue__buf_addf(&text, ",%s\n", rest.data + 1);
  char **slot = &recording->kept[++recording->count % SEGUE__ENTRIES_KEPT];
  segue__free(*slot);
  *slot = text.failed || rest.failed ? NULL : text.data;
  if (!*slot) segue__buf_deinit(&text);
  segue__buf_deinit(&rest);
  if (result->files) {
    segue__files_unref(recording->files);
    recording->files = segue__files_ref(result->files);
  }
  if (recording->waiter && recording->wanted <= recording->count) answer_waiter(admin);
}

/* ---- The beginning --------------------------------------------------------------------------- */

static void answer_head(segue__admin *admin, const segue__files *files) {
  segue__recording *recording = &admin->recording;
  segue__http_request *request = recording->waiter;
  char cwd[PATH_MAX];
  size_t size = sizeof cwd;
  segue__buf text;
  segue__buf_init(&text);
  segue__buf_addf(&text, "{\"segue_recording\":1,\"version\":\"%s\",", segue_version());
  segue__render_member(&text, "policy", admin->policy_path);
  segue__buf_addc(&text, ',');
  segue__render_member(&text, "cwd", uv_cwd(cwd, &size) == 0 ? cwd : NULL);
  segue__buf_addf(&text, ",\"started_ms\":%" PRId64, segue__loop_wall_ms(admin->loop));
  segue__buf_addc(&text, ',');
  add_environment(&text, admin->engine);
  if (files) {
    segue__buf_addc(&text, ',');
    incident_add_files(&text, files, NULL);
  }
  segue__buf_adds(&text, "}\n");
  recording->waiter = NULL;
  recording->starting = false;
  request->on_gone = NULL;
  segue__timer_start(admin->loop, &recording->timer, FORGET_MS, incident_forget);
  if (text.failed)
    segue__answer_error(request, 500, NULL, "out of memory");
  else
    answer_entry(request, recording->count, text.data);
  segue__buf_deinit(&text);
}

static void on_last_good(segue__record_call *call, segue__record_answer *answer) {
  segue__admin *admin = call->data;
  segue__files_unref(admin->recording.files);
  admin->recording.files = answer->status == 0 ? segue__files_ref(answer->files) : NULL;
  answer_head(admin, admin->recording.files);
}

static void incident_on_gone(segue__http_request *request) {
  segue__admin *admin = request->user;
  admin->recording.waiter = NULL;
  if (admin->recording.starting) segue__record_forget(&admin->recording.call);
  admin->recording.starting = false;
  segue__timer_start(admin->loop, &admin->recording.timer, FORGET_MS, incident_forget);
}

static void incident_wait_for(segue__admin *admin, segue__http_request *request) {
  admin->recording.waiter = request;
  request->user = admin;
  request->on_gone = incident_on_gone;
}

/* From here on the engine keeps the bytes of all files and the policy's answers: both are switched
 * off again by segue__recording_close, because they cost memory for each reload. */
static void incident_begin(segue__admin *admin, segue__http_request *request) {
  segue__recording *recording = &admin->recording;
  segue__record *record = segue__engine_record(admin->engine);
  recording->timer.data = admin;
  recording->on = recording->starting = true;
  segue__engine_keep_files(admin->engine, true);
  segue__answers_keep(admin->answers, true);
  incident_wait_for(admin, request);
  recording->call = (segue__record_call){.cb = on_last_good, .data = admin};
  int rc = record ? segue__record_last_good(record, &recording->call) : UV_ENOENT;
  segue__record_answer none = {.status = rc};
  if (rc < 0) on_last_good(&recording->call, &none);
}

/* ---- Asking ---------------------------------------------------------------------------------- */

void segue__handle_recording(segue__admin *admin, segue__http_request *request, const char *rest) {
  (void)rest;
  segue__recording *recording = &admin->recording;
  char after[32] = "";
  uint64_t number = 0;
  bool first = !segue__http_query_get(request, "after", after, sizeof after);
  if (!request->local) {
    segue__answer_error(request, 403, NULL,
                        "a recording holds whole files: it is only for the control socket");
  } else if (!first && !segue__number_parse(after, &number)) {
    segue__answer_error(request, 400, NULL, "after must be the number of an entry, not \"%s\"",
                        after);
  } else if (recording->waiter) {
    segue__answer_error(request, 409, NULL, "another client records already");
  } else if (first) {
    incident_begin(admin, request);
  } else if (!recording->on || number > recording->count ||
             recording->count - number >= SEGUE__ENTRIES_KEPT) {
    segue__answer_error(request, 410, NULL,
                        "the entries after %" PRIu64 " are not in memory: start a new recording",
                        number);
  } else {
    incident_wait_for(admin, request);
    recording->wanted = number + 1;
    segue__timer_start(admin->loop, &recording->timer, WAIT_MS, incident_waited);
    if (recording->wanted <= recording->count) answer_waiter(admin);
  }
}

void segue__recording_close(segue__admin *admin) {
  segue__recording *recording = &admin->recording;
  if (!recording->on) return;
  segue__timer_stop(admin->loop, &recording->timer);
  if (recording->starting) segue__record_forget(&recording->call);
  if (recording->waiter) {
    recording->waiter->on_gone = NULL;
    segue__answer_error(recording->waiter, 503, NULL, "segue is shutting down");
  }
  if (admin->engine) segue__engine_keep_files(admin->engine, false);
  segue__answers_keep(admin->answers, false);
  segue__files_unref(recording->files);
  for (size_t i = 0; i < SEGUE__ENTRIES_KEPT; i++)
    segue__free(recording->kept[i]);
  *recording = (segue__recording){0};
}
