/* SPDX-License-Identifier: MIT
 *
 * segue.run: commands. core/os/spawn.c runs the child; this file has the arguments, the user that
 * the child runs as (resolved on a worker thread, because NSS may use the network) and the events:
 * chunks of output for streaming callers, and the exit. A chunk that was not read yet blocks the
 * child's output.
 */
#include <string.h>

#include "../../config/config.h"
#include "../../os/environment.h"
#include "async_io.h"

enum { RUNNING_MAX = 256, USER_MS = 10000 };

typedef struct command {
  segue__io io; /* first */
  char **argv, **changes;
  char *cwd, *user_name, *input;
  size_t input_len, capture;
  uint64_t timeout_ms, kill_ms;
  bool streaming;
  /* Resolves the user. */
  segue__job job;
  segue__timer limit;
  segue__user_entry user;
  int user_status;
  segue__environment env; /* of the child */
  /* The child. */
  segue__spawn *child;
  segue__buf chunk[2]; /* by segue__stream: not read yet */
  size_t kept[2];      /* bytes charged */
  bool greedy;         /* it was stopped by the memory limit */
  segue__spawn_result result;
  char *output[2]; /* copies, if no task waited at the exit */
} command;

static command *run_of(segue__io *io) {
  return (command *)io; /* its first member */
}

/* ---- Events ---------------------------------------------------------------------------------- */

static int run_push_chunk(lua_State *co, command *c, int stream) {
  segue__buf *chunk = &c->chunk[stream];
  lua_pushstring(co, stream == SEGUE__STDOUT ? "stdout" : "stderr");
  lua_pushlstring(co, chunk->data, chunk->len);
  segue__buf_deinit(chunk);
  bool more = c->chunk[!stream].len || c->io.over;
  if (more)
    c->io.ready = true;
  else
    segue__spawn_pause(c->child, false);
  return 2;
}

static int run_push_result(lua_State *co, command *c) {
  const segue__spawn_result *r = &c->result;
  lua_pushboolean(co, 1);
  if (r->exit_code >= 0)
    lua_pushnumber(co, r->exit_code);
  else
    lua_pushnil(co);
  const char *name = r->term_signal ? sigabbrev_np(r->term_signal) : NULL;
  if (name)
    lua_pushstring(co, name);
  else if (r->term_signal)
    lua_pushfstring(co, "%d", r->term_signal);
  else
    lua_pushnil(co);
  bool truncated = false;
  for (int i = 0; i < 2; i++) {
    lua_pushlstring(co, r->output[i].data, r->output[i].len);
    truncated = truncated || r->output[i].total > r->output[i].len;
  }
  lua_pushboolean(co, truncated);
  lua_pushboolean(co, r->timed_out);
  lua_pushnumber(co, (lua_Number)r->duration_ms / 1000);
  return 8;
}

static int run_push(lua_State *co, segue__io *io) {
  command *c = run_of(io);
  if (c->chunk[0].len) return run_push_chunk(co, c, SEGUE__STDOUT);
  if (c->chunk[1].len) return run_push_chunk(co, c, SEGUE__STDERR);
  return io->error.code ? segue__io_push_error(co, io) : run_push_result(co, c);
}

/* ---- The child ------------------------------------------------------------------------------- */

/* Counts the captured output against the memory limit of the policy. */
static void run_charge(command *c, segue__stream stream, size_t len) {
  size_t room = c->capture - c->kept[stream];
  size_t kept = len < room ? len : room;
  c->kept[stream] += kept;
  if (c->greedy || c->io.stopped || segue__io_charge(&c->io, kept)) return;
  c->greedy = true;
  segue__spawn_stop(c->child);
}

/* The child's output is paused until the task has read the chunk: the pipe then fills up, and the
 * child waits. So a command that writes faster than the policy reads needs no memory here. */
static void on_output(void *data, segue__stream stream, const char *bytes, size_t len) {
  command *c = data;
  run_charge(c, stream, len);
  if (!c->streaming || c->io.stopped || c->greedy) return;
  segue__buf_add(&c->chunk[stream], bytes, len);
  if (c->chunk[stream].failed) {
    segue__errorf(&c->io.error, UV_ENOMEM, "segue.run: out of memory");
    segue__spawn_stop(c->child);
    return;
  }
  segue__spawn_pause(c->child, true);
  segue__io_ready(&c->io);
}

/* The output is borrowed until on_exit returns; a task that waits gets it without a copy. */
static bool keep_output(command *c) {
  bool waited_for = c->io.wait.task && !c->chunk[0].len && !c->chunk[1].len;
  if (waited_for || !c->io.box) return true;
  for (int i = 0; i < 2; i++) {
    segue__spawn_output *o = &c->result.output[i];
    c->output[i] = segue__strndup(o->data, o->len);
    if (!c->output[i]) return false;
    o->data = c->output[i];
  }
  return true;
}

static void run_on_end(void *data, const segue__spawn_result *result) {
  command *c = data;
  c->child = NULL;
  c->result = *result;
  if (c->io.error.code == 0 && result->status)
    segue__errorf(
        &c->io.error, result->status,
        "the exit status of %.100s is not known: something else in this process waited for it",
        c->argv[0]);
  if (!keep_output(c)) segue__errorf(&c->io.error, UV_ENOMEM, "segue.run: out of memory");
  segue__io_finish(&c->io);
}

static void run_launch(command *c) {
  const segue__os *os = c->io.lua->os;
  if (segue__environment_make(&c->env, os->environ(os->data), c->changes,
                              c->user_name ? &c->user : NULL)) {
    segue__errorf(&c->io.error, UV_ENOMEM, "segue.run: out of memory");
    segue__io_finish(&c->io);
    return;
  }
  segue__spawn_options options = {.size = sizeof options,
                                  .argv = (const char *const *)c->argv,
                                  .env = c->env.entries,
                                  .cwd = c->cwd,
                                  .user = c->user_name ? &c->user.user : NULL,
                                  .input = c->input,
                                  .input_len = c->input_len,
                                  .timeout_ms = c->timeout_ms,
                                  .kill_ms = c->kill_ms,
                                  .capture = c->capture,
                                  .on_output = on_output,
                                  .on_exit = run_on_end,
                                  .data = c};
  int rc = os->spawn(os->data, c->io.async_io->loop, &options, &c->child, &c->io.error);
  if (rc) {
    segue__io_finish(&c->io);
    return;
  }
  c->io.error.code = 0;
  segue__io_begin(&c->io, true);
}

/* ---- The user -------------------------------------------------------------------------------- */

/* Worker thread. */
static void find_user(segue__job *job) {
  command *c = (command *)((char *)job - offsetof(command, job));
  c->user_status = segue__user_find(c->user_name, NULL, &c->user, NULL);
}

static void user_found(segue__job *job) {
  command *c = (command *)((char *)job - offsetof(command, job));
  segue__timer_stop(c->io.async_io->loop, &c->limit);
  if (!c->user_status) {
    run_launch(c);
    return;
  }
  segue__errorf(
      &c->io.error, c->user_status, "cannot run %.100s as user %.60s: %s", c->argv[0], c->user_name,
      c->user_status == UV_ENOENT ? "there is no such user" : segue_strerror(c->user_status));
  segue__io_finish(&c->io);
}

static void user_abandoned(segue__job *job) {
  segue__io_end(&((command *)((char *)job - offsetof(command, job)))->io);
}

/* The job uses the memory until it returns, if it ever does. */
static void user_late(segue__timer *timer) {
  command *c = timer->data;
  segue__errorf(&c->io.error, SEGUE_ETIMEOUT,
                "cannot run %.100s: the user %.60s was not found within %d s", c->argv[0],
                c->user_name, USER_MS / 1000);
  segue__job_abandon(c->io.async_io->loop, &c->job);
  c->io.stopped = c->io.over = true;
  segue__io_ready(&c->io);
}

static void start_look_up(command *c) {
  segue__loop *loop = c->io.async_io->loop;
  c->job = (segue__job){.run = find_user, .done = user_found, .abandoned = user_abandoned};
  c->limit.data = c;
  int rc = segue__timer_start(loop, &c->limit, USER_MS, user_late);
  if (!rc) rc = segue__job_submit(loop, SEGUE__QUEUE_POLICY, &c->job);
  if (!rc) {
    segue__io_begin(&c->io, false);
    return;
  }
  segue__timer_stop(loop, &c->limit);
  segue__errorf(&c->io.error, rc, "cannot run %.100s: no thread to look up its user: %s",
                c->argv[0], segue_strerror(rc));
  segue__io_finish(&c->io);
}

/* ---- The kind -------------------------------------------------------------------------------- */

static void run_start(segue__io *io) {
  command *c = run_of(io);
  if (io->async_io->open >= RUNNING_MAX) {
    segue__errorf(&io->error, UV_EAGAIN,
                  "cannot run %.100s: %d commands are running already; wait for some of them",
                  c->argv[0], RUNNING_MAX);
    segue__io_finish(io);
  } else if (c->user_name) {
    start_look_up(c);
  } else {
    run_launch(c);
  }
}

/* Reading continues first: a child whose output is paused is not closed, and no task would continue
 * it any more. */
static void bind_run_stop(segue__io *io) {
  command *c = run_of(io);
  if (c->child) {
    segue__spawn_pause(c->child, false);
    segue__spawn_stop(c->child);
  } else {
    segue__timer_stop(io->async_io->loop, &c->limit);
    segue__job_abandon(io->async_io->loop, &c->job);
  }
}

static void run_release(segue__io *io) {
  command *c = run_of(io);
  segue__texts_free(c->argv);
  segue__texts_free(c->changes);
  segue__environment_free(&c->env);
  segue__free(c->cwd);
  segue__free(c->user_name);
  segue__user_entry_deinit(&c->user);
  segue__free(c->input);
  for (int i = 0; i < 2; i++) {
    segue__buf_deinit(&c->chunk[i]);
    segue__free(c->output[i]);
  }
}

static bool run_key(const segue__io *io, segue__buf *out) {
  const command *c = (const command *)io;
  for (char **word = c->argv; *word; word++) {
    segue__buf_addc(out, word == c->argv ? '[' : ',');
    segue__json_string(out, *word, strlen(*word));
  }
  segue__buf_addc(out, ']');
  return true;
}

static const segue__io_kind kind = {"segue.run",   sizeof(command), run_start, run_push,
                                    bind_run_stop, run_release,     run_key};

/* ---- Arguments ------------------------------------------------------------------------------- */

/* run(argv, environment changes, cwd, user, stdin, timeout ms, most bytes, kill ms, streaming) ->
 * io. Its events: stream, bytes; then true, code, signal, stdout, stderr, truncated, timed_out,
 * seconds; or nil, message, code. */
static int new_command(lua_State *L) {
  lua_settop(L, 9);
  luaL_checktype(L, 1, LUA_TTABLE);
  if (!lua_objlen(L, 1)) return luaL_argerror(L, 1, "the name of a program is missing");
  command *c = segue__io_new(L, &kind); /* index 10; an error below frees it */
  c->argv = segue__arg_texts(&c->io, L, 1);
  c->changes = segue__arg_texts(&c->io, L, 2);
  c->cwd =
      lua_isnil(L, 3) ? segue__strdup(c->io.lua->program->folder) : segue__arg_path(&c->io, L, 3);
  if (c->cwd && !*c->cwd) {
    segue__free(c->cwd);
    c->cwd = NULL;
  }
  c->user_name = segue__arg_text(&c->io, L, 4);
  c->input = segue__arg_bytes(&c->io, L, 5, &c->input_len);
  c->timeout_ms = segue__arg_number(L, 6);
  c->capture = (size_t)segue__arg_number(L, 7);
  c->kill_ms = segue__arg_number(L, 8);
  c->streaming = lua_toboolean(L, 9);
  return 1;
}

void segue__run_open(lua_State *L) {
  lua_pushcfunction(L, new_command);
  lua_setfield(L, -2, "run");
}
