/* SPDX-License-Identifier: MIT
 *
 * One state of a module's instance, on the thread of its lane: it is made from the texts, runs the
 * operations and requests as tasks, and is thrown away and made anew when it has hit a limit.
 * Requests that come meanwhile wait.
 */
#include <string.h>

#include "module.h"
#include "value.h"

enum { LOAD_MS = 1000, AGAIN_MS = 1000 };

static const char *const names[] = {"handle", "start", "drain", "stop"};

void segue__cell_log(segue__cell *cell, const char *what, const segue_error *err) {
  char text[sizeof err->message + sizeof err->file + 64];
  segue_error_format(err, text, sizeof text);
  const char *traceback = cell->lua ? cell->lua->last_traceback : NULL;
  segue__log(cell->berth->all->options.log, SEGUE__ERROR, "module", "an error in a module",
             "module", 's', cell->code->name, "in", 's', what, "error", 's', text, "traceback", 's',
             traceback, NULL);
  if (!traceback) return;
  segue__free(cell->lua->last_traceback);
  cell->lua->last_traceback = NULL;
}

/* ---- Making a state -------------------------------------------------------------------------- */

static void look_soon(segue__cell *cell);

static void on_broken(void *data) {
  look_soon(data);
}

static void take(lua_State *L, segue__cell *cell, int table) {
  segue__lua *lua = segue__lua_of(L);
  for (int i = 0; i < SEGUE__ON_COUNT; i++) {
    lua_getfield(L, table, names[i]);
    if (!lua_isfunction(L, -1)) {
      lua_pop(L, 1);
      continue;
    }
    lua_pushvalue(L, -1);
    segue__lua_place_of(lua, L, &cell->places[i]);
    cell->on[i] = segue__lua_ref(lua, L);
  }
}

static int load(lua_State *L, void *data, segue_error *err) {
  segue__cell *cell = data;
  const segue__chunk *main = &cell->code->program.chunks[0];
  segue__exchange_open(L);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "segue.module");
  lua_call(L, 1, 1); /* 1 */
  segue__chunk_load(L, main);
  lua_call(L, 0, 1); /* 2 */
  lua_getfield(L, 1, "judge");
  lua_pushvalue(L, 2);
  lua_pushboolean(L, cell->code->listens);
  lua_call(L, 2, 2); /* 3: what is wrong, 4: in which line */
  if (!lua_isnil(L, 3)) {
    segue__error_set(err, SEGUE_EPOLICY, "%s", lua_tostring(L, 3));
    segue__error_at(err, main->path, (uint32_t)lua_tonumber(L, 4), 0);
    return SEGUE_EPOLICY;
  }
  take(L, cell, 2);
  return 0;
}

static void forget(segue__cell *cell) {
  segue__lua *lua = cell->lua;
  cell->lua = NULL;
  for (int i = 0; i < SEGUE__ON_COUNT; i++)
    cell->on[i] = LUA_NOREF;
  segue__lua_free(lua);
}

int segue__cell_build(segue__cell *cell, segue_error *err) {
  segue__berth *berth = cell->berth;
  const segue__lua_modules_options *options = &berth->all->options;
  segue__lua_setup setup = {.loop = berth->loop,
                            .log = options->log,
                            .os = segue__os_default(),
                            .budget = berth->budget,
                            .program = (segue__program *)&cell->code->program, /* sealed */
                            .outside = berth->outside,
                            .lua_dir = options->lua_dir,
                            .library = berth->all->library,
                            .bytes_max = cell->code->memory_bytes,
                            .services = options->services,
                            .owner = cell->code->tally->name, /* outlives the lane's calls */
                            .jit = cell->code->jit,
                            .pulse = &berth->pulse};
  for (int i = 0; i < SEGUE__ON_COUNT; i++)
    cell->on[i] = LUA_NOREF;
  int rc = segue__lua_new(&cell->lua, &setup, err);
  if (rc) return rc;
  rc = segue__lua_call(cell->lua, "loading the module", LOAD_MS, load, cell, err);
  if (rc) {
    if (!err->file[0]) segue__error_at(err, cell->code->program.chunks[0].path, 0, 0);
    forget(cell);
    return rc;
  }
  cell->lua->on_broken = on_broken;
  cell->lua->on_broken_data = cell;
  return 0;
}

/* ---- Requests that wait for the state -------------------------------------------------------- */

static void wait_for_state(segue__cell *cell, segue__exchange *exchange) {
  exchange->next = NULL;
  *cell->last = exchange;
  cell->last = &exchange->next;
}

static segue__exchange *take_waiting(segue__cell *cell) {
  segue__exchange *first = cell->first;
  cell->first = NULL;
  cell->last = &cell->first;
  return first;
}

static void refuse_waiting(segue__cell *cell, int status) {
  for (segue__exchange *x = take_waiting(cell), *next; x; x = next) {
    next = x->next;
    segue__exchange_refuse(x, status);
  }
}

static bool is_ready(const segue__cell *cell) {
  return cell->lua && cell->started && !cell->starting && !segue__lua_is_broken(cell->lua);
}

static void let_in(segue__cell *cell) {
  for (segue__exchange *x = take_waiting(cell), *next; x; x = next) {
    next = x->next;
    if (is_ready(cell))
      segue__exchange_run(x);
    else
      wait_for_state(cell, x);
  }
}

/* ---- Operations ------------------------------------------------------------------------------ */

struct turn {
  segue__cell *cell;
  int verb;
};

static void over(segue__cell *cell, int verb, int status, const segue_error *err);

static int begin(lua_State *co, void *data, segue_error *err) {
  const struct turn *turn = data;
  const segue__cell *cell = turn->cell;
  (void)err;
  lua_rawgeti(co, LUA_REGISTRYINDEX, cell->on[turn->verb]);
  if (turn->verb != SEGUE__ON_START) return 0;
  segue__value_push(co, cell->snapshot, cell->config);
  return 1;
}

static void done(void *data, int status, const segue_error *err) {
  struct turn turn = *(struct turn *)data;
  segue_error told = {0};
  segue__free(data);
  if (err) told = *err;
  if (status && !told.file[0]) {
    const segue__place *place = &turn.cell->places[turn.verb];
    segue__error_at(&told, place->file, place->line, 0);
  }
  over(turn.cell, turn.verb, status, &told);
}

static void run(segue__cell *cell, int verb) {
  struct turn *turn = segue__malloc(sizeof *turn);
  segue_error err;
  if (!turn) {
    over(cell, verb, UV_ENOMEM, (segue__error_set(&err, UV_ENOMEM, "out of memory"), &err));
    return;
  }
  *turn = (struct turn){cell, verb};
  segue__task_options options = {
      .name = names[verb],
      .slice_cpu_ms = cell->code->budget_ms > LOAD_MS ? cell->code->budget_ms : LOAD_MS,
      .begin = begin,
      .done = done,
      .data = turn,
      .slot = &cell->task[verb],
      .frees_children = true};
  segue__task_start(cell->lua, &options);
}

/* It could not be made anew: whoever asks a while later tries again. */
static void give_up(segue__cell *cell, const char *what, const segue_error *err) {
  segue__cell_log(cell, what, err);
  cell->again_ms = segue__loop_now_ms(cell->berth->loop) + AGAIN_MS;
  cell->starting = false;
  if (cell->lua) forget(cell);
  refuse_waiting(cell, 500);
}

static void make_anew(segue__cell *cell) {
  segue_error err = {0};
  __atomic_add_fetch(&cell->code->tally->rebuilds, 1, __ATOMIC_RELAXED);
  int rc = segue__cell_build(cell, &err);
  if (rc) {
    give_up(cell, "loading the module", &err);
    return;
  }
  cell->starting = true;
  if (cell->on[SEGUE__ON_START] == LUA_NOREF)
    over(cell, SEGUE__ON_START, 0, NULL);
  else
    run(cell, SEGUE__ON_START);
}

static void end_all(segue__cell *cell) {
  if (cell->lua) segue__task_cancel_all(cell->lua);
  refuse_waiting(cell, 503);
}

static void over(segue__cell *cell, int verb, int status, const segue_error *err) {
  if (verb == SEGUE__ON_START && cell->starting) { /* nobody waits for it but requests */
    if (status && !cell->stopped && !cell->gone) {
      give_up(cell, "start", err);
    } else {
      cell->starting = false;
      look_soon(cell);
    }
    return;
  }
  if (verb == SEGUE__ON_START) cell->started = status == 0;
  if (verb == SEGUE__ON_STOP) {
    if (status && !cell->gone) segue__cell_log(cell, names[verb], err);
    status = 0; /* it goes on */
    end_all(cell);
  }
  cell->told(cell, verb, status, err);
}

void segue__cell_run(segue__cell *cell, int verb) {
  if (verb == SEGUE__ON_STOP) {
    cell->stopped = true;
    segue__cell_cancel(cell, SEGUE__ON_DRAIN);
  }
  bool can = cell->lua && !cell->starting && !segue__lua_is_broken(cell->lua);
  if (can && cell->on[verb] != LUA_NOREF)
    run(cell, verb);
  else
    over(cell, verb, 0, NULL);
}

void segue__cell_cancel(segue__cell *cell, int verb) {
  segue__task_cancel(cell->task[verb]);
}

/* ---- Limits ---------------------------------------------------------------------------------- */

static void throw_away(segue__cell *cell) {
  segue__log(cell->berth->all->options.log, SEGUE__WARN, "module",
             "a state that hit a limit is made anew; requests that waited in it are answered 500",
             "module", 's', cell->code->name, "lane", 'u', (uint64_t)cell->berth->index, "requests",
             'u', (uint64_t)cell->inside, NULL);
  forget(cell);
}

static void look(segue__message *message) {
  segue__cell *cell = (segue__cell *)((char *)message - offsetof(segue__cell, look_message));
  cell->look_posted = false;
  if (cell->gone) {
    cell->free(cell);
    return;
  }
  bool broken = cell->lua && segue__lua_is_broken(cell->lua);
  bool serves = cell->started && !cell->stopped;
  if (broken && serves)
    throw_away(cell);
  else if (broken)
    forget(cell);
  if (broken && serves && segue__loop_now_ms(cell->berth->loop) >= cell->again_ms) make_anew(cell);
  if (is_ready(cell)) let_in(cell);
}

static void look_soon(segue__cell *cell) {
  if (cell->look_posted) return;
  cell->look_posted = true;
  cell->look_message.fn = look;
  segue__post(cell->berth->loop, &cell->look_message);
}

void segue__cell_handle(segue__cell *cell, segue_request *request) {
  segue__exchange *exchange = segue__exchange_new(cell, request);
  if (!exchange) {
    segue_request_end(request);
    return;
  }
  if (is_ready(cell)) {
    segue__exchange_run(exchange);
  } else if (cell->stopped || !cell->started) {
    segue__exchange_refuse(exchange, 503);
  } else if (cell->lua || segue__loop_now_ms(cell->berth->loop) >= cell->again_ms) {
    wait_for_state(cell, exchange);
    if (!cell->lua) make_anew(cell);
  } else {
    segue__exchange_refuse(exchange, 500);
  }
}

void segue__cell_close(segue__cell *cell) {
  cell->gone = cell->stopped = true;
  if (cell->lua) forget(cell);
  refuse_waiting(cell, 503);
  if (!cell->look_posted) cell->free(cell);
}
