/* SPDX-License-Identifier: MIT
 *
 * pattern: ordinary uses of find, match, gmatch and gsub in a policy's state, whose matcher counts
 * its steps, and in a plain LuaJIT without compiler, whose matcher nothing can stop. Prints "ours
 * nanoseconds" and "luajit nanoseconds": the geometric mean over the uses, the best of some rounds.
 */
#include <lualib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "bind/io/async_io.h"

static const char chunk[] =
    "local line = \"2024-05-17T12:30:45Z host-12 nginx[812]: GET /index.html?x=1 HTTP/1.1 200\"\n"
    "local kv = (\"name = value # comment\\n\"):rep(20)\n"
    "local words = (\"the quick brown fox jumps over the lazy dog \"):rep(20)\n"
    "local uses = {\n"
    "  function() return line:find(\"HTTP/1.1\", 1, true) end,\n"
    "  function() return line:find(\"%d+%.%d+\") end,\n"
    "  function() return line:match(\"^(%d+)%-(%d+)%-(%d+)T(%d+):(%d+):(%d+)\") end,\n"
    "  function() return (\"10s\"):match(\"^(%d+)(%a+)$\") end,\n"
    "  function() return line:match(\"%[([^%]]*)%]\") end,\n"
    "  function() return (\"   some text here  \"):match(\"^%s*(.-)%s*$\") end,\n"
    "  function() for k, v in kv:gmatch(\"(%w+) = (%w+)\") do local _ = k, v end end,\n"
    "  function() return words:gsub(\"o\", \"0\") end,\n"
    "  function() return words:gsub(\"%w+\", function(w) return w end) end,\n"
    "}\n"
    "local clock, sum = os.clock, 0\n"
    "for _, use in ipairs(uses) do\n"
    "  local best = math.huge\n"
    "  for round = 1, 10 do\n"
    "    local n, began = 0, clock()\n"
    "    repeat\n"
    "      for i = 1, 100 do use() end\n"
    "      n = n + 100\n"
    "    until clock() - began > 0.01\n"
    "    best = math.min(best, (clock() - began) / n)\n"
    "  end\n"
    "  sum = sum + math.log(best * 1e9)\n"
    "end\n"
    "return math.exp(sum / #uses)\n";

static double run(lua_State *L) {
  if (luaL_loadbuffer(L, chunk, sizeof chunk - 1, "=pattern")) exit(1);
  lua_call(L, 0, 1);
  return lua_tonumber(L, -1);
}

static int ours(lua_State *L, void *data, segue_error *err) {
  (void)err;
  *(double *)data = run(L);
  return 0;
}

/* Without luaopen_jit nothing is compiled. */
static double plain(void) {
  static const luaL_Reg libraries[] = {
      {"", luaopen_base}, {"string", luaopen_string}, {"math", luaopen_math}, {"os", luaopen_os}};
  lua_State *L = luaL_newstate();
  if (!L) exit(1);
  for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
    lua_pushcfunction(L, libraries[i].func);
    lua_pushstring(L, libraries[i].name);
    lua_call(L, 1, 0);
  }
  double ns = run(L);
  lua_close(L);
  return ns;
}

int main(void) {
  static const segue__logger silent;
  segue__program program = {0};
  segue__lua_setup setup = {.log = &silent,
                            .os = segue__os_default(),
                            .program = &program,
                            .open = segue__io_open,
                            .lua_dir = "lua",
                            .bytes_max = (size_t)256 << 20};
  segue__lua *lua;
  segue_error err;
  double ns = 0;
  if (segue__budget_new(&setup.budget, 0) || segue__lua_new(&lua, &setup, &err)) return 1;
  if (segue__lua_call(lua, "pattern", 60000, ours, &ns, &err)) return 1;
  printf("ours %.1f\nluajit %.1f\n", ns, plain());
  segue__lua_free(lua);
  segue__budget_free(setup.budget);
  return 0;
}
