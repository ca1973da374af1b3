/* SPDX-License-Identifier: MIT
 *
 * One Lua state of a module instance, used only by its worker thread. It is built from the texts of
 * the module and runs operations and requests as tasks. A state that hits a limit is discarded and
 * built again; requests that arrive meanwhile wait in its queue.
 */
#include <string.h>

#include "../policy/lua_options.h"
#include "../runtime/value.h"
#include "module.h"

enum { LOAD_MS = 1000, AGAIN_MS = 1000 };

static const char *const names[] = {"handle", "start", "drain", "stop"};
static const char self_name[] = "segue.module_self";

void segue__lua_state_log(segue__lua_state *state, const char *what, const segue_error *err) {
  char text[sizeof err->message + sizeof err->file + 64];
  segue_error_format(err, text, sizeof text);
  const char *traceback = state->lua ? state->lua->last_traceback : NULL;
  SEGUE__LOG(state->context->all->options.log, SEGUE_ERROR, "module", "an error in a module",
             SEGUE__FIELD("module", state->code->name), SEGUE__FIELD("in", what),
             SEGUE__FIELD("error", text), SEGUE__FIELD("traceback", traceback));
  if (!traceback) return;
  segue__free(state->lua->last_traceback);
  state->lua->last_traceback = NULL;
}

/* ---- Making a state -------------------------------------------------------------------------- */

static void state_look_soon(segue__lua_state *state);

static void on_broken(void *data) {
  state_look_soon(data);
}

static void state_take(lua_State *L, segue__lua_state *state, int table) {
  segue__lua *lua = segue__lua_of(L);
  for (int i = 0; i < SEGUE__ON_COUNT; i++) {
    lua_getfield(L, table, names[i]);
    if (!lua_isfunction(L, -1)) {
      lua_pop(L, 1);
      continue;
    }
    lua_pushvalue(L, -1);
    segue__lua_place_of(lua, L, &state->places[i]);
    state->on[i] = segue__lua_ref(lua, L);
  }
}

static int state_load(lua_State *L, void *data, segue_error *err) {
  segue__lua_state *state = data;
  const segue__chunk *main = &state->code->program.chunks[0];
  segue__lua_request_open(L);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "segue.module");
  lua_call(L, 1, 1); /* 1 */
  segue__chunk_load(L, main);
  lua_call(L, 0, 1); /* 2 */
  lua_getfield(L, 1, "validate");
  lua_pushvalue(L, 2);
  lua_pushboolean(L, state->code->listens);
  lua_call(L, 2, 2); /* 3: the error message, 4: its line */
  if (!lua_isnil(L, 3)) {
    segue__errorf(err, SEGUE_EPOLICY, "%s", lua_tostring(L, 3));
    segue__error_set_place(err, main->path, (uint32_t)lua_tonumber(L, 4), 0);
    return SEGUE_EPOLICY;
  }
  state_take(L, state, 2);
  return 0;
}

static void state_forget(segue__lua_state *state) {
  segue__lua *lua = state->lua;
  state->lua = NULL;
  for (int i = 0; i < SEGUE__ON_COUNT; i++)
    state->on[i] = LUA_NOREF;
  segue__lua_free(lua);
}

int segue__lua_state_build(segue__lua_state *state, segue_error *err) {
  segue__thread_context *context = state->context;
  const segue__lua_modules_options *options = &context->all->options;
  segue__lua_setup setup = {
      .loop = context->loop,
      .log = options->log,
      .os = segue__os_default(),
      .budget = context->budget,
      .program = (segue__program *)&state->code->program, /* sealed */
      .async_io = context->async_io,
      .turns = &context->async_io->turns,
      .open = segue__lua_library_open,
      .lua_dir = options->lua_dir,
      .library = context->all->library,
      .bytes_max = state->code->memory_bytes,
      .services = options->services,
      .owner = state->code->tally->name, /* outlives the calls of the worker thread */
      .jit = state->code->jit,
      .pulse = &context->pulse};
  for (int i = 0; i < SEGUE__ON_COUNT; i++)
    state->on[i] = LUA_NOREF;
  int rc = segue__lua_new(&state->lua, &setup, err);
  if (rc) return rc;
  rc = segue__lua_call(state->lua, "loading the module", LOAD_MS, state_load, state, err);
  if (rc) {
    if (!err->file[0]) segue__error_set_place(err, state->code->program.chunks[0].path, 0, 0);
    state_forget(state);
    return rc;
  }
  state->lua->on_broken = on_broken;
  state->lua->on_broken_data = state;
  return 0;
}

/* ---- Requests that wait for the state -------------------------------------------------------- */

static void wait_for_state(segue__lua_state *state, segue__lua_request *lua_request) {
  lua_request->next = NULL;
  *state->last = lua_request;
  state->last = &lua_request->next;
}

static segue__lua_request *take_waiting(segue__lua_state *state) {
  segue__lua_request *first = state->first;
  state->first = NULL;
  state->last = &state->first;
  return first;
}

static void refuse_waiting(segue__lua_state *state, int status) {
  for (segue__lua_request *x = take_waiting(state), *next; x; x = next) {
    next = x->next;
    segue__lua_request_refuse(x, status);
  }
}

static bool is_ready(const segue__lua_state *state) {
  return state->lua && state->started && !state->starting && !segue__lua_is_broken(state->lua);
}

/* A request that runs may break the state, or start its rebuild: each further one then waits again.
 */
static void let_in(segue__lua_state *state) {
  for (segue__lua_request *x = take_waiting(state), *next; x; x = next) {
    next = x->next;
    if (is_ready(state))
      segue__lua_request_run(x);
    else
      wait_for_state(state, x);
  }
}

/* ---- Operations ------------------------------------------------------------------------------ */

struct turn {
  segue__lua_state *state;
  int verb;
};

static void state_over(segue__lua_state *state, int verb, int status, const segue_error *err);

/* self:failed(message) */
static int state_failed(lua_State *L) {
  segue__lua_state **self = luaL_checkudata(L, 1, self_name);
  size_t len;
  const char *message = luaL_checklstring(L, 2, &len);
  segue_error err;
  luaL_argcheck(L, len > 0, 2, "the reason is missing");
  segue__errorf(&err, SEGUE_EMODULE, "%s", message);
  (*self)->failed(*self, &err);
  return 0;
}

/* The second argument of start. The state outlives everything in its Lua state. */
static void push_self(lua_State *L, segue__lua_state *state) {
  segue__lua_state **self = lua_newuserdata(L, sizeof *self);
  *self = state;
  if (luaL_newmetatable(L, self_name)) {
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, state_failed);
    lua_setfield(L, -2, "failed");
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
  }
  lua_setmetatable(L, -2);
}

static int state_begin(lua_State *co, void *data, segue_error *err) {
  const struct turn *turn = data;
  segue__lua_state *state = turn->state;
  (void)err;
  lua_rawgeti(co, LUA_REGISTRYINDEX, state->on[turn->verb]);
  if (turn->verb != SEGUE__ON_START) return 0;
  segue__value_push(co, state->snapshot, state->config);
  push_self(co, state);
  return 2;
}

static void state_done(void *data, int status, const segue_error *err) {
  struct turn turn = *(struct turn *)data;
  segue_error reported = {0};
  segue__free(data);
  if (err) reported = *err;
  if (status && !reported.file[0]) {
    const segue__place *place = &turn.state->places[turn.verb];
    segue__error_set_place(&reported, place->file, place->line, 0);
  }
  state_over(turn.state, turn.verb, status, &reported);
}

/* start, drain and stop get a slice of at least LOAD_MS: they run once in the life of an instance,
 * and the small budget of a request would be too short for them. */
static void state_run(segue__lua_state *state, int verb) {
  struct turn *turn = segue__malloc(sizeof *turn);
  segue_error err;
  if (!turn) {
    state_over(state, verb, UV_ENOMEM, (segue__errorf(&err, UV_ENOMEM, "out of memory"), &err));
    return;
  }
  *turn = (struct turn){state, verb};
  segue__task_options options = {
      .name = names[verb],
      .slice_cpu_ms = state->code->budget_ms > LOAD_MS ? state->code->budget_ms : LOAD_MS,
      .begin = state_begin,
      .done = state_done,
      .data = turn,
      .slot = &state->task[verb],
      .frees_children = true};
  segue__task_start(state->lua, &options);
}

/* The state could not be built again. A request that arrives later starts the next attempt. */
static void state_abandon(segue__lua_state *state, const char *what, const segue_error *err) {
  segue__lua_state_log(state, what, err);
  state->again_ms = segue__loop_now_ms(state->context->loop) + AGAIN_MS;
  state->starting = false;
  if (state->lua) state_forget(state);
  refuse_waiting(state, 500);
}

static void make_anew(segue__lua_state *state) {
  segue_error err = {0};
  __atomic_add_fetch(&state->code->tally->rebuilds, 1, __ATOMIC_RELAXED);
  int rc = segue__lua_state_build(state, &err);
  if (rc) {
    state_abandon(state, "loading the module", &err);
    return;
  }
  state->starting = true;
  if (state->on[SEGUE__ON_START] == LUA_NOREF)
    state_over(state, SEGUE__ON_START, 0, NULL);
  else
    state_run(state, SEGUE__ON_START);
}

static void end_all(segue__lua_state *state) {
  if (state->lua) segue__task_cancel_all(state->lua);
  refuse_waiting(state, 503);
}

/* A `start` after a rebuild belongs to no operation of the engine: only queued requests wait for
 * it. An error of `stop` is logged and otherwise ignored: nothing can be done about an instance
 * that is going away. */
static void state_over(segue__lua_state *state, int verb, int status, const segue_error *err) {
  if (verb == SEGUE__ON_START && state->starting) { /* only requests wait for this start */
    if (status && !state->stopped && !state->gone) {
      state_abandon(state, "start", err);
    } else {
      state->starting = false;
      state_look_soon(state);
    }
    return;
  }
  if (verb == SEGUE__ON_START) state->started = status == 0;
  if (verb == SEGUE__ON_STOP) {
    if (status && !state->gone) segue__lua_state_log(state, names[verb], err);
    status = 0; /* the operation continues */
    end_all(state);
  }
  state->reported(state, verb, status, err);
}

void segue__lua_state_run(segue__lua_state *state, int verb) {
  if (verb == SEGUE__ON_STOP) {
    state->stopped = true;
    segue__lua_state_cancel(state, SEGUE__ON_DRAIN);
  }
  bool can = state->lua && !state->starting && !segue__lua_is_broken(state->lua);
  if (can && state->on[verb] != LUA_NOREF)
    state_run(state, verb);
  else
    state_over(state, verb, 0, NULL);
}

void segue__lua_state_cancel(segue__lua_state *state, int verb) {
  segue__task_cancel(state->task[verb]);
}

/* ---- Limits ---------------------------------------------------------------------------------- */

static void throw_away(segue__lua_state *state) {
  SEGUE__LOG(state->context->all->options.log, SEGUE_WARN, "module",
             "a state that hit a limit is built again; requests that waited in it are answered 500",
             SEGUE__FIELD("module", state->code->name),
             SEGUE__FIELD("thread", state->context->index),
             SEGUE__FIELD("requests", state->inside));
  state_forget(state);
}

static void state_look(segue__message *message) {
  segue__lua_state *state =
      (segue__lua_state *)((char *)message - offsetof(segue__lua_state, look_message));
  state->look_posted = false;
  if (state->gone) {
    state->free(state);
    return;
  }
  bool broken = state->lua && segue__lua_is_broken(state->lua);
  bool serves = state->started && !state->stopped;
  if (broken && serves)
    throw_away(state);
  else if (broken)
    state_forget(state);
  if (broken && serves && segue__loop_now_ms(state->context->loop) >= state->again_ms)
    make_anew(state);
  if (is_ready(state)) let_in(state);
}

static void state_look_soon(segue__lua_state *state) {
  if (state->look_posted) return;
  state->look_posted = true;
  state->look_message.fn = state_look;
  segue__post(state->context->loop, &state->look_message);
}

void segue__lua_state_handle(segue__lua_state *state, segue_request *request) {
  segue__lua_request *lua_request = segue__lua_request_new(state, request);
  if (!lua_request) {
    segue_request_end(request);
    return;
  }
  if (is_ready(state)) {
    segue__lua_request_run(lua_request);
  } else if (state->stopped || !state->started) {
    segue__lua_request_refuse(lua_request, 503);
  } else if (state->lua || segue__loop_now_ms(state->context->loop) >= state->again_ms) {
    wait_for_state(state, lua_request);
    if (!state->lua) make_anew(state);
  } else {
    segue__lua_request_refuse(lua_request, 500);
  }
}

void segue__lua_state_close(segue__lua_state *state) {
  state->gone = state->stopped = true;
  if (state->lua) state_forget(state);
  refuse_waiting(state, 503);
  if (!state->look_posted) state->free(state);
}
