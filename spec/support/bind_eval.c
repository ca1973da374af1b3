/* SPDX-License-Identifier: MIT
 *
 * One state, one call, no loader and no loop.
 */
#include "bind_eval.h"

#include "core/bind/io/async_io.h"

typedef struct evaluation {
  const char *text;
  size_t len;
  segue__buf *out;
} evaluation;

static int evaluate(lua_State *L, void *data, segue_error *err) {
  evaluation *e = data;
  (void)err;
  if (luaL_loadbuffer(L, e->text, e->len, "=eval")) return lua_error(L);
  lua_call(L, 0, 1);
  size_t len;
  const char *answer = luaL_checklstring(L, -1, &len);
  segue__buf_add(e->out, answer, len);
  return 0;
}

int bind_eval(const char *text, size_t len, uint64_t cpu_ms, segue__buf *out, segue_error *err) {
  static const segue__logger silent;
  segue__program program = {0};
  segue__lua_setup setup = {.log = &silent,
                            .os = segue__os_default(),
                            .program = &program,
                            .open = segue__io_open,
                            .lua_dir = "lua",
                            .bytes_max = (size_t)256 << 20};
  segue__lua *lua = NULL;
  evaluation e = {text, len, out};
  int rc = segue__budget_new(&setup.budget, 0);
  if (!rc) rc = segue__lua_new(&lua, &setup, err);
  if (!rc) rc = segue__lua_call(lua, "eval", cpu_ms, evaluate, &e, err);
  segue__lua_free(lua);
  segue__budget_free(setup.budget);
  return rc;
}
