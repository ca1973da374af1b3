/* SPDX-License-Identifier: MIT
 *
 * A server takes a new configuration over some time after the command that asks it to: the master
 * of nginx starts workers, Prometheus reads its rules. So the answer "not yet" leads to another
 * call, until the time limit. The pause begins short, because most servers need a few milliseconds,
 * and doubles, because a call may be an HTTP request.
 */
#include "ask.h"

#include <stddef.h>
#include <string.h>
#include <uv.h>

#include "../os/error.h"

enum { ASK_PAUSE_MS = 20, ASK_PAUSE_MOST_MS = 1000 };

struct segue__ask {
  segue__ask_options options;
  segue__rendering rendering;
  segue__timer timer;
  uint64_t since_ms, pause_ms;
  bool calling, stopped;
  segue_error last; /* of the last answer "not yet" */
};

static void ask_end(segue__ask *ask, int status, const segue_error *error) {
  void (*cb)(void *data, int status, const segue_error *error) = ask->options.cb;
  void *data = ask->options.data;
  segue_error copy;
  if (error) copy = *error;
  segue__free(ask);
  cb(data, status, error ? &copy : NULL);
}

static segue__loop *ask_loop(const segue__ask *ask) {
  return ask->options.module->world->loop;
}

static uint64_t ask_left_ms(const segue__ask *ask) {
  uint64_t passed = segue__loop_now_ms(ask_loop(ask)) - ask->since_ms;
  return passed < ask->options.within_ms ? ask->options.within_ms - passed : 0;
}

static void ask_late(segue__ask *ask) {
  segue_error error;
  segue__errorf(&error, UV_ETIMEDOUT, "%s: the server does not use the new files after %g s%s%s",
                ask->options.function, (double)ask->options.within_ms / 1000,
                ask->last.message[0] ? ": " : "", ask->last.message);
  ask_end(ask, UV_ETIMEDOUT, &error);
}

static void ask_cancelled(segue__ask *ask) {
  segue_error error;
  segue__errorf(&error, SEGUE_ECANCELLED, "%s was stopped", ask->options.function);
  ask_end(ask, SEGUE_ECANCELLED, &error);
}

static void ask_done(segue__rendering *rendering, int status, const char *data, size_t len,
                     const segue_error *error);

static int ask_call(segue__ask *ask, segue_error *err) {
  segue__file_module *module = ask->options.module;
  memset(&ask->rendering, 0, sizeof ask->rendering);
  ask->rendering.done = ask_done;
  uint64_t left = ask_left_ms(ask);
  int rc = module->renderer.call(module->renderer.impl, module->name, ask->options.function,
                                 left ? left : 1, &ask->rendering, err);
  ask->calling = !rc;
  return rc;
}

static void ask_again(segue__timer *timer) {
  segue__ask *ask = timer->data;
  segue_error error;
  int rc = 0;
  if (ask->stopped)
    ask_cancelled(ask);
  else if (!ask_left_ms(ask))
    ask_late(ask);
  else if ((rc = ask_call(ask, &error)))
    ask_end(ask, rc, &error);
}

static void ask_later(segue__ask *ask, const segue_error *error) {
  uint64_t left = ask_left_ms(ask), pause = ask->pause_ms < left ? ask->pause_ms : left;
  ask->last = *error;
  ask->timer.data = ask;
  ask->pause_ms = ask->pause_ms * 2 < ASK_PAUSE_MOST_MS ? ask->pause_ms * 2 : ASK_PAUSE_MOST_MS;
  int rc = left ? segue__timer_start(ask_loop(ask), &ask->timer, pause, ask_again) : 0;
  if (rc)
    ask_end(ask, rc, error);
  else if (!left)
    ask_late(ask);
}

/* SEGUE_EPROBE: the function returned nil and a reason. If one call reaches its time limit, no time
 * is left for another call. */
static void ask_done(segue__rendering *rendering, int status, const char *data, size_t len,
                     const segue_error *error) {
  segue__ask *ask = (segue__ask *)((char *)rendering - offsetof(segue__ask, rendering));
  (void)data, (void)len;
  ask->calling = false;
  if (ask->stopped)
    ask_cancelled(ask);
  else if (status == SEGUE_EPROBE && ask->options.again)
    ask_later(ask, error);
  else if (status == SEGUE_ETIMEOUT && ask->options.again)
    ask_late(ask);
  else
    ask_end(ask, status == SEGUE_EPROBE ? SEGUE_EMODULE : status, error);
}

int segue__ask_start(segue__ask **out, const segue__ask_options *options, segue_error *err) {
  segue__ask *ask = segue__calloc(1, sizeof *ask);
  *out = NULL;
  if (!ask) return segue__errorf(err, UV_ENOMEM, "%s: out of memory", options->function);
  ask->options = *options;
  ask->since_ms = segue__loop_now_ms(ask_loop(ask));
  ask->pause_ms = ASK_PAUSE_MS;
  int rc = ask_call(ask, err);
  if (rc)
    segue__free(ask);
  else
    *out = ask;
  return rc;
}

void segue__ask_stop(segue__ask *ask) {
  if (!ask || ask->stopped) return;
  segue__renderer *renderer = &ask->options.module->renderer;
  ask->stopped = true;
  if (ask->calling)
    renderer->cancel(renderer->impl, &ask->rendering);
  else
    (void)segue__timer_start(ask_loop(ask), &ask->timer, 0, ask_again);
}
