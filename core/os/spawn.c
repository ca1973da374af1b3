/* SPDX-License-Identifier: MIT
 *
 * A command: a child with a time limit, whose output is captured. child.c does the rest.
 */
#include "spawn.h"

#include <uv.h>

#include "error.h"
#include "mem.h"

typedef struct command {
  segue__spawn head; /* first: segue__spawn is what callers hold */
  segue__loop *loop;
  segue__child *child;
  segue__timer limit;
  segue__buf captured[2]; /* by segue__stream */
  size_t capture;
  void (*on_output)(void *, segue__stream, const char *, size_t);
  void (*on_exit)(void *, const segue__spawn_result *);
  void *data;
  segue__spawn_result result;
} command;

static void command_free(command *c) {
  segue__buf_deinit(&c->captured[0]);
  segue__buf_deinit(&c->captured[1]);
  segue__free(c);
}

static void command_on_output(void *data, segue__stream stream, const char *bytes, size_t len) {
  command *c = data;
  segue__buf *captured = &c->captured[stream];
  size_t room = c->capture - captured->len;
  segue__buf_add(captured, bytes, len < room ? len : room);
  c->result.output[stream].total += len;
  if (c->on_output) c->on_output(c->data, stream, bytes, len);
}

static void command_on_exit(void *data, const segue__child_exit *result) {
  command *c = data;
  segue__timer_stop(c->loop, &c->limit);
  c->result.status = result->status;
  c->result.exit_code = result->exit_code;
  c->result.term_signal = result->term_signal;
  c->result.stopped = result->stopped && !c->result.timed_out;
  c->result.duration_ms = result->duration_ms;
}

static void command_on_closed(void *data, bool output_cut) {
  command *c = data;
  c->result.output_cut = output_cut;
  for (int i = 0; i < 2; i++) {
    c->result.output[i].data = c->captured[i].data ? c->captured[i].data : "";
    c->result.output[i].len = c->captured[i].len;
  }
  c->on_exit(c->data, &c->result);
  command_free(c);
}

static void command_on_limit(segue__timer *timer) {
  command *c = timer->data;
  c->result.timed_out = true;
  segue__child_stop(c->child);
}

static void command_stop(segue__spawn *spawn) {
  command *c = (command *)spawn;
  segue__timer_stop(c->loop, &c->limit);
  segue__child_stop(c->child);
}

void segue__spawn_stop(segue__spawn *spawn) {
  if (spawn) spawn->stop(spawn);
}

static void command_pause(segue__spawn *spawn, bool paused) {
  segue__child_pause(((command *)spawn)->child, paused);
}

void segue__spawn_pause(segue__spawn *spawn, bool paused) {
  if (spawn && spawn->pause) spawn->pause(spawn, paused);
}

static int command_start(command *c, const segue__spawn_options *o, segue_error *err) {
  segue__child_options options = {.size = sizeof options,
                                  .argv = o->argv,
                                  .env = o->env,
                                  .cwd = o->cwd,
                                  .user = o->user,
                                  .input = o->input,
                                  .input_len = o->input_len,
                                  .join_output = o->join_output,
                                  .kill_rest = o->kill_rest,
                                  .stop_signal = o->stop_signal,
                                  .kill_ms = o->kill_ms,
                                  .linger_ms = o->linger_ms,
                                  .on_output = command_on_output,
                                  .on_exit = command_on_exit,
                                  .on_closed = command_on_closed,
                                  .data = c};
  return segue__child_start(c->loop, &options, &c->child, err);
}

int segue__spawn_start(segue__loop *loop, const segue__spawn_options *options, segue__spawn **out,
                       segue_error *err) {
  *out = NULL;
  command *c = segue__calloc(1, sizeof *c);
  if (!c) return segue__errorf(err, UV_ENOMEM, "out of memory");
  c->loop = loop;
  c->capture = options->capture ? options->capture : SEGUE__SPAWN_CAPTURE;
  c->on_output = options->on_output;
  c->on_exit = options->on_exit;
  c->data = options->data;
  c->limit.data = c;
  /* The timer is started first: it can fail without a child that would have to be ended. */
  int rc = 0;
  if (options->timeout_ms)
    rc = segue__timer_start(loop, &c->limit, options->timeout_ms, command_on_limit);
  if (rc)
    segue__errorf(err, rc, "cannot run %.200s: no timer for its limit: %s", options->argv[0],
                  segue_strerror(rc));
  else
    rc = command_start(c, options, err);
  if (rc) {
    segue__timer_stop(loop, &c->limit);
    command_free(c);
    return rc;
  }
  c->head = (segue__spawn){c->child->pid, command_stop, command_pause};
  *out = &c->head;
  return 0;
}
