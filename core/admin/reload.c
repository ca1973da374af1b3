/* SPDX-License-Identifier: MIT
 *
 * POST /-/reload and POST /api/v1/plan, rollback and confirm: each asks the engine, waits for the
 * outcome of a run that began after the request, and answers with it. A client that leaves, or
 * whose wait ends, is removed from the waiters; the run continues.
 */
#include "../os/units.h"
#include "internal.h"
#include "render.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

struct segue__reload_call {
  segue__waiter waiter;
  segue__timer timer;
  segue__admin *admin;
  segue__http_request *request;
  segue__reload_call *prev, *next;
  char if_match[64];
  uint64_t wait_ms;
  bool limited; /* wait_ms counts */
  bool json, plan, rehearse, force, accept_shrink;
  enum { RELOAD, ROLLBACK, CONFIRM } what;
  uint64_t generation; /* to roll back to; 0: the one before */
  bool takes_back;     /* the unconfirmed generation */
};

static void reload_on_outcome(segue__waiter *waiter, int status, segue__result *result);
static void reload_on_gone(segue__http_request *request);
static void on_waited(segue__timer *timer);

static void if_match_get(const segue__http_request *request, char *buf, size_t size) {
  const segue__http_text *t = segue__http_header_get(request, "If-Match");
  snprintf(buf, size, "%.*s", t ? (int)(t->len < size ? t->len : size - 1) : 0, t ? t->s : "");
}

/* Reads a parameter that is on or off. Returns false if it is neither, which was answered with 400
 * then. A parameter without a value (?force) is on. */
static bool flag_get(segue__http_request *request, const char *name, bool *out) {
  static const char *const words[] = {"0", "1", "false", "true", "no", "yes"};
  char text[16] = "0";
  (void)segue__http_query_get(request, name, text, sizeof text);
  *out = !text[0]; /* ?force */
  if (*out) return true;
  for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
    if (strcmp(text, words[i]) != 0) continue;
    *out = i % 2 == 1;
    return true;
  }
  segue__answer_error(request, 400, NULL, "%s must be 1 or 0, not \"%s\"", name, text);
  return false;
}

static void reload_conflict(segue__admin *admin, segue__http_request *request,
                            const char *if_match) {
  const segue_snapshot *live = segue__engine_live(admin->engine);
  if (live)
    segue__answer_error(request, 412, NULL,
                        "generation %" PRIu64 " (%s) is live, not %s: nothing was reloaded",
                        segue_snapshot_generation(live), segue_snapshot_hash(live), if_match);
  else
    segue__answer_error(request, 412, NULL,
                        "no generation is live yet, so %s is not: nothing was "
                        "reloaded",
                        if_match);
}

static void reload_frozen(const segue__admin *admin, segue__http_request *request) {
  segue__operator_status hold;
  segue__engine_operator_status(admin->engine, &hold);
  segue__answer_error(request, 423, NULL, "reloads are frozen by %s: %s (segue unfreeze ends that)",
                      hold.frozen_by, hold.frozen_why);
}

/* Answers for a request that the engine did not accept. generation: the one to roll back to; 0 is
 * the one before the live one. */
static void reload_refused(segue__http_request *request, int status, uint64_t generation) {
  if (status == SEGUE_ERECORD)
    segue__answer_error(request, 409, NULL, "this instance keeps no history to roll back to");
  else if (status == UV_ENOENT && generation)
    segue__answer_error(request, 404, NULL,
                        "generation %" PRIu64 " is not in the history: segue history lists those "
                        "that are",
                        generation);
  else if (status == UV_ENOENT)
    segue__answer_error(request, 404, NULL, "the history has no generation before the live one");
  else if (status == UV_EBUSY)
    segue__answer_error(request, 409, NULL, "another rollback is running: try again");
  else if (status == SEGUE_ECLOSED)
    segue__answer_error(request, 503, "Retry-After: 1\r\n",
                        "segue is shutting down: this reload will not run");
  else if (status == SEGUE_EDEFERRED)
    segue__answer_error(request, 202, NULL, "the reload was postponed: it will run by itself");
  else
    segue__answer_error(request, 500, NULL, "the reload cannot be started: %s",
                        segue_strerror(status));
}

static void call_request(const segue__reload_call *call, segue__reload_request *out, char *cause,
                         size_t size) {
  const segue__http_request *request = call->request;
  snprintf(cause, size, "%.*s %s%s%s from %s", (int)request->method.len, request->method.s,
           request->path, request->who[0] ? " by " : "", request->who, request->peer);
  *out = (segue__reload_request){
      .trigger = request->local ? SEGUE__BY_CONTROL : SEGUE__BY_HTTP,
      .cause = cause,
      .force = call->force,
      .plan_only = call->plan,
      .rehearse = call->rehearse,
      .accept_shrink = call->accept_shrink,
      .if_match = call->if_match[0] ? call->if_match : NULL,
  };
}

void segue__requester(const segue__http_request *request, char *out, size_t size) {
  snprintf(out, size, "%s%s%s", request->who, request->who[0] ? " from " : "", request->peer);
}

/* waiter is NULL for a client that does not wait. Then If-Match was compared by ask_only, because a
 * request without a waiter cannot get 412 later. */
static int ask_engine(segue__reload_call *call, segue__waiter *waiter) {
  segue__engine *engine = call->admin->engine;
  segue__reload_request ask;
  char cause[SEGUE__CAUSE_SIZE];
  if (call->what == RELOAD) {
    call_request(call, &ask, cause, sizeof cause);
    if (!waiter) ask.if_match = NULL;
    return segue__engine_request(engine, &ask, waiter);
  }
  segue__requester(call->request, cause, sizeof cause);
  if (call->what == CONFIRM) return segue__engine_confirm(engine, cause, waiter);
  return segue__engine_rollback(engine, call->generation,
                                call->request->local ? SEGUE__BY_CONTROL : SEGUE__BY_HTTP, cause,
                                waiter);
}

/* The client does not wait: the answer contains what is known at once; the outcome is in the log
 * and in /api/v1/reloads. */
static void ask_only(segue__reload_call *call) {
  segue__admin *admin = call->admin;
  if (call->if_match[0] && !segue__engine_matches(admin->engine, call->if_match)) {
    reload_conflict(admin, call->request, call->if_match);
    return;
  }
  int rc = ask_engine(call, NULL);
  if (rc == SEGUE_EFROZEN)
    reload_frozen(admin, call->request);
  else if (rc < 0)
    reload_refused(call->request, rc, call->generation);
  else
    segue__answer_error(call->request, 202, NULL, "the %s was requested",
                        call->what == RELOAD ? "reload" : "rollback");
}

static void unlink_call(segue__reload_call *call) {
  if (call->prev)
    call->prev->next = call->next;
  else
    call->admin->calls = call->next;
  if (call->next) call->next->prev = call->prev;
  segue__timer_stop(call->admin->loop, &call->timer);
  call->request->on_gone = NULL;
  segue__free(call);
}

/* The call is in the list of waiting calls before the engine is asked, so that every error below, a
 * client that leaves and the end of the API remove it in the same way. If the time limit cannot be
 * armed the client gets an error: without its timer the call could wait for ever. */
static void ask_and_wait(const segue__reload_call *draft) {
  segue__admin *admin = draft->admin;
  segue__http_request *http = draft->request;
  segue__reload_call *call = segue__malloc(sizeof *call);
  if (!call) {
    reload_refused(http, UV_ENOMEM, 0);
    return;
  }
  *call = *draft;
  call->waiter.cb = reload_on_outcome;
  call->waiter.data = call;
  call->timer.data = call;
  call->next = admin->calls;
  if (call->next) call->next->prev = call;
  admin->calls = call;
  http->user = call;
  http->on_gone = reload_on_gone;
  int rc = ask_engine(call, &call->waiter);
  call->takes_back = rc > 0;
  if (rc >= 0 && call->limited &&
      (rc = segue__timer_start(admin->loop, &call->timer, call->wait_ms, on_waited)) < 0)
    segue__engine_forget(admin->engine, &call->waiter);
  if (rc < 0) {
    bool confirm = call->what == CONFIRM;
    unlink_call(call);
    if (rc == SEGUE_EFROZEN)
      reload_frozen(admin, http);
    else if (rc == SEGUE_ECONFLICT && confirm)
      segue__answer_error(http, 409, NULL, "no generation waits to be confirmed");
    else
      reload_refused(http, rc, draft->generation);
  }
}

/* A rollback and a confirm compare If-Match here; a reload leaves it to the engine, which compares
 * it when the run begins. The engine knows all forms of the condition (segue__engine_matches). */
static void reload_ask(segue__reload_call draft) {
  segue__http_request *request = draft.request;
  char wait[32];
  if (segue__http_query_get(request, "wait", wait, sizeof wait)) {
    draft.limited = true;
    if (!segue__duration_of(wait, &draft.wait_ms)) {
      segue__answer_error(request, 400, NULL,
                          "wait must be a duration such as 5s or 200ms, not \"%s\"", wait);
      return;
    }
  }
  draft.json = segue__wants_json(request);
  if (!flag_get(request, "force", &draft.force) ||
      !flag_get(request, "accept-shrink", &draft.accept_shrink))
    return;
  if_match_get(request, draft.if_match, sizeof draft.if_match);
  if (draft.what != RELOAD && draft.if_match[0] &&
      !segue__engine_matches(draft.admin->engine, draft.if_match))
    reload_conflict(draft.admin, request, draft.if_match);
  else if (draft.limited && draft.wait_ms == 0 && !draft.plan && draft.what != CONFIRM)
    ask_only(&draft);
  else
    ask_and_wait(&draft);
}

void segue__handle_reload(segue__admin *admin, segue__http_request *request, const char *rest) {
  (void)rest;
  reload_ask((segue__reload_call){.admin = admin, .request = request});
}

void segue__handle_confirm(segue__admin *admin, segue__http_request *request, const char *rest) {
  (void)rest;
  reload_ask((segue__reload_call){.admin = admin, .request = request, .what = CONFIRM});
}

void segue__handle_rollback(segue__admin *admin, segue__http_request *request, const char *rest) {
  (void)rest;
  segue__reload_call draft = {.admin = admin, .request = request, .what = ROLLBACK};
  char to[32];
  if (segue__http_query_get(request, "to", to, sizeof to) &&
      (!segue__number_parse(to, &draft.generation) || !draft.generation))
    segue__answer_error(request, 400, NULL, "to must be the number of a generation, not \"%s\"",
                        to);
  else
    reload_ask(draft);
}

void segue__handle_plan(segue__admin *admin, segue__http_request *request, const char *rest) {
  (void)rest;
  reload_ask(
      (segue__reload_call){.admin = admin, .request = request, .plan = true, .rehearse = true});
}

/* GET /api/v1/diff?to=next. The role `read` must not start builds of modules, so this plan prepares
 * nothing. */
void segue__handle_next(segue__admin *admin, segue__http_request *request, const char *rest) {
  (void)rest;
  reload_ask((segue__reload_call){.admin = admin, .request = request, .plan = true});
}

/* Answers 200 while the generation is live and waits for confirmation. */
static void unconfirmed(segue__admin *admin, segue__http_request *request, bool json,
                        const segue__result *result) {
  segue__operator_status hold;
  segue__buf body;
  segue__buf_init(&body);
  request->about = result->id;
  segue__engine_operator_status(admin->engine, &hold);
  if (json) {
    segue__buf_addf(&body,
                    "{\"id\":%" PRIu64 ",\"outcome\":\"unconfirmed\",\"generation\":%" PRIu64
                    ",\"hash\":\"%s\",\"until\":",
                    result->id, result->generation, result->hash);
    segue__render_time(&body, hold.unconfirmed_until_wall_ms);
    segue__buf_adds(&body, "}\n");
  } else {
    segue__buf_addf(&body, "unconfirmed: generation %" PRIu64 " is live until ",
                    result->generation);
    segue__render_time(&body, hold.unconfirmed_until_wall_ms);
    segue__buf_addf(
        &body, " (reload %" PRIu64 ")\nsegue confirm makes it stay, segue rollback reverts it\n",
        result->id);
  }
  segue__http_respond_buf(request, 200, json ? "application/json" : "text/plain; charset=utf-8",
                          "Cache-Control: no-store\r\n", &body);
}

static void reload_answer(segue__http_request *request, bool json, bool plan, bool reverted_live,
                          const segue__result *result) {
  segue__buf body;
  segue__buf_init(&body);
  request->about = result->id;
  if (json) {
    segue__render_result_json(&body, result, true);
    segue__buf_addc(&body, '\n');
  } else if (plan) {
    segue__render_plan_text(&body, result);
  } else {
    segue__render_result_text(&body, result);
  }
  segue__http_respond_buf(request, reverted_live ? 200 : segue__render_status(result->outcome),
                          json ? "application/json" : "text/plain; charset=utf-8",
                          "Cache-Control: no-store\r\n", &body);
}

/* Everything that the answer needs is copied before unlink_call frees the call. The answer comes
 * last: it may close the connection, and on_gone must not find a call any more. */
static void reload_on_outcome(segue__waiter *waiter, int status, segue__result *result) {
  segue__reload_call *call = waiter->data;
  segue__admin *admin = call->admin;
  segue__http_request *request = call->request;
  bool json = call->json, plan = call->plan;
  uint64_t generation = call->generation;
  char if_match[sizeof call->if_match];
  memcpy(if_match, call->if_match, sizeof if_match);
  /* Reverting an unconfirmed generation is what this rollback does. */
  bool reverted_live =
      call->takes_back && status == 0 && result->outcome == SEGUE__REVERTED && !result->undo_failed;
  unlink_call(call);
  if (status == SEGUE_ECONFLICT)
    reload_conflict(admin, request, if_match);
  else if (status == SEGUE_EFROZEN)
    reload_frozen(admin, request);
  else if (status == SEGUE_EUNCONFIRMED)
    unconfirmed(admin, request, json, result);
  else if (status < 0 || !result)
    reload_refused(request, status, generation);
  else
    reload_answer(request, json, plan, reverted_live, result);
}

static void on_waited(segue__timer *timer) {
  segue__reload_call *call = timer->data;
  segue__http_request *request = call->request;
  segue__engine_forget(call->admin->engine, &call->waiter);
  unlink_call(call);
  segue__answer_error(
      request, 504, NULL,
      "the reload takes longer than the requested wait: it continues, and its outcome "
      "will be in /api/v1/reloads");
}

static void reload_on_gone(segue__http_request *request) {
  segue__reload_call *call = request->user;
  if (call->admin->engine) segue__engine_forget(call->admin->engine, &call->waiter);
  unlink_call(call);
}

void segue__calls_close(segue__admin *admin) {
  while (admin->calls) {
    segue__reload_call *call = admin->calls;
    segue__http_request *request = call->request;
    segue__engine_forget(admin->engine, &call->waiter);
    unlink_call(call);
    reload_refused(request, SEGUE_ECLOSED, 0);
  }
}
