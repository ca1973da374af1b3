/* SPDX-License-Identifier: MIT
 *
 * A recording keeps the values of each event of an io exactly as Lua got them, and a replay pushes
 * them again. All kinds and their errors are recorded and replayed by the same code, so the same
 * policy gets the same results.
 */
#include "async_io.h"

#include <string.h>

#include "../../config/config.h"

/* ---- Recording ------------------------------------------------------------------------------- */

void segue__io_ask(segue__io *io) {
  if (!io->kind->key) return;
  segue__policy_answer *answer = segue__answers_ask(io->async_io->answers, io->kind->metatable);
  if (!answer) return;
  io->asked_ms = segue__loop_now_ms(io->async_io->loop);
  io->answer = answer;
  if (io->kind->key(io, &answer->key)) return;
  io->answer = NULL;
  segue__answers_drop(answer);
}

static void write_value(segue__policy_answer *answer, lua_State *co, int index);

/* Writes a list of texts, or a map of texts and numbers: the results of operations have no other
 * tables. */
static void write_table(segue__policy_answer *answer, lua_State *co, int index) {
  size_t count = lua_objlen(co, index);
  bool first = true;
  if (!lua_checkstack(co, 3)) {
    answer->left_out = true;
    return;
  }
  segue__buf_adds(&answer->events, count ? "[" : "{\"table\":{");
  for (size_t i = 1; i <= count; i++) {
    if (i > 1) segue__buf_addc(&answer->events, ',');
    lua_rawgeti(co, index, (int)i);
    write_value(answer, co, lua_gettop(co));
    lua_pop(co, 1);
  }
  lua_pushnil(co);
  while (!count && lua_next(co, index)) {
    size_t len;
    const char *name = lua_tolstring(co, -2, &len); /* no key is a number */
    if (!first) segue__buf_addc(&answer->events, ',');
    first = false;
    segue__json_string(&answer->events, name, len);
    segue__buf_addc(&answer->events, ':');
    write_value(answer, co, lua_gettop(co));
    lua_pop(co, 1);
  }
  if (count) lua_pop(co, 1);
  segue__buf_adds(&answer->events, count ? "]" : "}}");
}

static void write_value(segue__policy_answer *answer, lua_State *co, int index) {
  size_t len;
  const char *text;
  switch (lua_type(co, index)) {
  case LUA_TSTRING:
    text = lua_tolstring(co, index, &len);
    answer->left_out = answer->left_out || answer->events.len + len > SEGUE__ANSWERS_BYTES;
    if (!answer->left_out) segue__json_bytes(&answer->events, text, len);
    break;
  case LUA_TNUMBER:
    segue__buf_addf(&answer->events, "%.17g", lua_tonumber(co, index));
    break;
  case LUA_TBOOLEAN:
    segue__buf_adds(&answer->events, lua_toboolean(co, index) ? "true" : "false");
    break;
  case LUA_TTABLE:
    write_table(answer, co, index);
    break;
  default:
    segue__buf_adds(&answer->events, "null");
  }
}

void segue__io_note(segue__io *io, lua_State *co, int n) {
  segue__policy_answer *answer = io->answer;
  if (!answer || answer->left_out) return;
  if (answer->events.len) segue__buf_addc(&answer->events, ',');
  int top = lua_gettop(co);
  segue__buf_addf(&answer->events, "{\"count\":%d,\"values\":[", n);
  for (int i = top - n + 1; i <= top; i++) {
    if (i > top - n + 1) segue__buf_addc(&answer->events, ',');
    write_value(answer, co, i);
  }
  segue__buf_adds(&answer->events, "]}");
}

void segue__io_answered(segue__io *io) {
  segue__policy_answer *answer = io->answer;
  io->answer = NULL;
  if (!answer) return;
  answer->ms = segue__loop_now_ms(io->async_io->loop) - io->asked_ms;
  segue__answers_add(io->async_io->answers, answer);
}

/* Call it before the Lua state closes: the memory of an io may outlive the instance, in a job that
 * hangs. */
void segue__io_unanswered(segue__io *io) {
  if (!io->answer) return;
  io->answer->abandoned = true;
  segue__io_answered(io);
}

/* ---- Replaying ------------------------------------------------------------------------------- */

static void recorded_answers_recalled(segue__timer *timer) {
  segue__io_finish(timer->data);
}

bool segue__io_recall(segue__io *io) {
  const segue__fake_io *fake_io = io->async_io->fake_io;
  if (!fake_io || !fake_io->recall || !io->kind->key) return false;
  segue__recalled *r = segue__calloc(1, sizeof *r);
  segue__buf key;
  segue__buf_init(&key);
  bool found = r && io->kind->key(io, &key) && !key.failed &&
               fake_io->recall(fake_io->recall_data, io->kind->metatable, key.data, r);
  segue__buf_deinit(&key);
  if (!found) {
    segue__free(r);
    return false;
  }
  io->recalled = r;
  r->timer.data = io;
  segue__io_begin(io, false);
  int rc = r->ms == UINT64_MAX ? 0
                               : segue__timer_start(io->async_io->loop, &r->timer, r->ms,
                                                    recorded_answers_recalled);
  if (!rc) return true;
  segue__errorf(&io->error, rc, "%s: %s", io->kind->metatable, segue_strerror(rc));
  segue__io_finish(io);
  return true;
}
