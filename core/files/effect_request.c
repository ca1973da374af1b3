/* SPDX-License-Identifier: MIT
 *
 * An effect that sends an HTTP request. Each try has a fetcher of its own, and with it a connection
 * of its own: a connection that was kept may lead to the process that the last request has ended.
 */
#include <string.h>
#include <uv.h>

#include "../os/error.h"
#include "effect_internal.h"

enum { REQUEST_BODY = 1 << 20 };

static void request_closed(void *data) {
  segue__effect_run *run = data;
  segue_error error = run->error;
  segue__effect_tried(run, run->status, run->status ? &error : NULL);
}

/* A fetcher must not be closed within a callback of its request. */
static void request_close(segue__message *message) {
  segue__effect_run *run =
      (segue__effect_run *)((char *)message - offsetof(segue__effect_run, message));
  segue__fetcher *fetcher = run->fetcher;
  run->fetcher = NULL;
  segue__fetcher_close(fetcher, request_closed, run);
}

static void request_finish(segue__effect_run *run) {
  run->fetch = NULL;
  run->fetching = false;
  run->message.fn = request_close;
  segue__post(run->options.loop, &run->message);
}

static void request_decide(segue__effect_run *run, const segue__fetch_answer *answer) {
  segue__buf text;
  run->status = 0;
  if (answer->status >= 200 && answer->status < 300) return;
  segue__effect_begin_message(run, "request", &text);
  segue__buf_addf(&text, " was answered with status %d", answer->status);
  segue__buf_add(&run->output, answer->body, answer->len);
  segue__effect_add_lines(&run->output, &text);
  run->status = segue__effect_end_message(run, SEGUE_EMODULE, &text, &run->error);
}

static void request_done(void *data, int status, const segue__fetch_answer *answer,
                         const segue_error *err) {
  segue__effect_run *run = data;
  segue__buf text;
  if (status)
    segue__effect_note_failure(run, err);
  else
    segue__effect_note(run, answer->status, 0, false, answer->body, answer->len);
  if (status) {
    segue__effect_begin_message(run, "request", &text);
    segue__buf_addf(&text, " has failed: %s", err->message);
    /* SEGUE_ETIMEOUT is the engine's own deadline. */
    run->status = segue__effect_end_message(run, status == SEGUE_ETIMEOUT ? UV_ETIMEDOUT : status,
                                            &text, &run->error);
  } else {
    request_decide(run, answer);
  }
  request_finish(run);
}

static const char **request_headers(const segue__effect *effect, segue__buf *texts) {
  const segue__effect_pairs *headers = &effect->headers;
  const char **lines = segue__calloc(headers->count + 1, sizeof *lines);
  for (size_t i = 0; i < headers->count; i++) {
    segue__buf_addf(texts, "%s: %s", headers->items[i].key, headers->items[i].value);
    segue__buf_addc(texts, 0);
  }
  const char *at = texts->data;
  for (size_t i = 0; lines && !texts->failed && i < headers->count; i++, at += strlen(at) + 1)
    lines[i] = at;
  return lines;
}

static int request_hand_over(segue__effect_run *run, const segue__fetch_options *options,
                             segue_error *err) {
  const segue__effect_outside *outside = run->options.outside;
  if (!outside) return segue__fetch_start(run->fetcher, options, &run->fetch, err);
  segue__buf shown;
  const segue__effect_asked asked = segue__effect_asked_of(run, &shown);
  int rc = outside->fetch(outside->data, &asked, options, err);
  segue__buf_deinit(&shown);
  run->fetching = !rc;
  return rc;
}

static int request_send(segue__effect_run *run, segue_error *err) {
  const segue__effect *effect = &run->effect;
  segue__buf texts;
  segue__buf_init(&texts);
  const char **headers = request_headers(effect, &texts);
  segue__fetch_options options = {.size = sizeof options,
                                  .url = effect->url,
                                  .method = effect->method,
                                  .headers = headers,
                                  .body = effect->body,
                                  .body_len = effect->body ? strlen(effect->body) : 0,
                                  .socket_path = effect->unix_socket,
                                  .timeout_ms = effect->timeout_ms,
                                  .connect_ms = effect->timeout_ms,
                                  .max_bytes = REQUEST_BODY,
                                  .insecure = !effect->verify,
                                  .ca = effect->ca,
                                  .cert = effect->cert,
                                  .key = effect->key,
                                  .on_done = request_done,
                                  .data = run};
  int rc = headers && !texts.failed ? request_hand_over(run, &options, err)
                                    : segue__errorf(err, UV_ENOMEM, "out of memory");
  segue__free(headers);
  segue__buf_deinit(&texts);
  return rc;
}

static int request_start(segue__effect_run *run, segue_error *err) {
  int rc = run->options.outside ? 0 : segue__fetcher_new(&run->fetcher, run->options.loop);
  if (rc) return segue__errorf(err, rc, "no request can be sent: %s", segue_strerror(rc));
  rc = request_send(run, err);
  if (!rc) return 0;
  segue__effect_note_failure(run, err);
  /* The fetcher is closed on the loop, so the failure is reported from there. */
  run->error = *err;
  run->status = rc;
  request_finish(run);
  return 0;
}

static void request_stop(segue__effect_run *run) {
  if (!run->fetch && !run->fetching) return;
  if (run->fetch) segue__fetch_cancel(run->fetch);
  if (run->fetching) run->options.outside->forget(run->options.outside->data, run);
  run->status = SEGUE_ECANCELLED;
  request_finish(run);
}

const segue__effect_kind segue__effect_request = {request_start, request_stop};
