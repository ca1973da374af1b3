/* SPDX-License-Identifier: MIT
 *
 * request:wait_gone() waits until the client of the handler closes the connection. Without it a
 * handler that sleeps or waits for another server works on for a client that has left. The task
 * never continues inside the server's callback: it continues by a message, like tasks that wait
 * when an answer ends.
 */
#include "lua_request.h"

#include "../../module/worker_threads.h"

struct segue__gone_waiting {
  segue__wait wait; /* must be the first member */
  segue__message message;
  segue__lua_request *lua_request; /* NULL: its message is posted */
  bool cancelled;                  /* no task waits any more: on_message frees it */
  int status;                      /* 0: the client left */
  segue__gone_waiting *next;
};

static int request_gone_push_outcome(lua_State *co, void *data) {
  const segue__gone_waiting *w = data;
  if (w->status == 0) {
    lua_pushboolean(co, 1);
    return 1;
  }
  lua_pushnil(co);
  lua_pushliteral(co, "the answer has ended");
  lua_pushstring(co, segue_error_name(w->status));
  return 3;
}

static void request_gone_on_message(segue__message *message) {
  segue__gone_waiting *w =
      (segue__gone_waiting *)((char *)message - offsetof(segue__gone_waiting, message));
  if (!w->cancelled) segue__wait_end(&w->wait, request_gone_push_outcome, w);
  segue__free(w);
}

/* The tasks are removed from the list before they continue: a task may call wait_gone again at
 * once. */
static void wake_all(segue__lua_request *x, int status) {
  while (x->gone_waiting) {
    segue__gone_waiting *w = x->gone_waiting;
    x->gone_waiting = w->next;
    w->lua_request = NULL;
    w->status = status;
    w->message.fn = request_gone_on_message;
    segue__post(x->state->context->loop, &w->message);
  }
}

static void request_gone_on_left(void *data) {
  wake_all(data, 0);
}

void segue__gone_end(segue__lua_request *x) {
  wake_all(x, SEGUE_ECLOSED);
}

static void request_gone_cancel(segue__wait *wait) {
  segue__gone_waiting *w = (segue__gone_waiting *)wait; /* wait is the first member */
  if (!w->lua_request) {
    w->cancelled = true;
    return;
  }
  segue__gone_waiting **link = &w->lua_request->gone_waiting;
  while (*link != w)
    link = &(*link)->next;
  *link = w->next;
  segue__free(w);
}

/* request:wait_gone() -> true; or nil, message, code if the answer ended first */
int segue__request_wait_gone(lua_State *L) {
  segue__lua_request *x = segue__lua_request_check(L);
  if (segue_request_gone(x->request)) {
    lua_pushboolean(L, 1);
    return 1;
  }
  segue__wait_check(L, "request:wait_gone");
  segue__gone_waiting *w = segue__calloc(1, sizeof *w);
  if (!w) return luaL_error(L, "request:wait_gone: out of memory");
  w->lua_request = x;
  w->next = x->gone_waiting;
  x->gone_waiting = w;
  w->wait.cancel = request_gone_cancel;
  segue__request_on_left(x->request, request_gone_on_left, x);
  return segue__wait_begin(L, &w->wait, "request:wait_gone");
}
