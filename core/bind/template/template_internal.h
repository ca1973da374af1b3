/* SPDX-License-Identifier: MIT
 *
 * template_internal.h: shared by the files of core/bind/template.
 */
#ifndef SEGUE_BIND_TEMPLATE_INTERNAL_H
#define SEGUE_BIND_TEMPLATE_INTERNAL_H

#include <lua.h>
#include <setjmp.h>
#include <stdbool.h>

#include "../../os/reserve.h"
#include "script.h"
#include "template.h"

struct segue__template {
  lua_State *L; /* NULL: not open */
  char *lua_dir;
  size_t bytes;
  segue__reserve reserve; /* while the state is created */
  bool spoiled;           /* an allocation failed: the state is closed before the next call */
  bool lost;              /* and it was left without an error of Lua: it can only be closed */
  jmp_buf *escape;        /* of the innermost call into the state; NULL: none runs */
  int32_t site;           /* what the running template does, a number of lua/segue/template */
  bool starved;           /* the machine had no memory: the template is not to blame */
  /* Of the running call; owned here, because an error of Lua frees nothing. */
  segue__document *doc, *parsed;
  /* Of the running call, borrowed: the data of a job that is given. */
  bool given;
  const segue_node *node, *keys;
  const segue__config *config;
  segue__scripts *scripts; /* NULL: no template has used Lua code */
};

segue__template *segue__template_of(lua_State *L);
/* lua_cpcall that also ends where memory ends, see template_allocate. LUA_ERRMEM with t->lost set:
 * nothing may use the state any more, not even its stack. */
int segue__template_call(segue__template *t, lua_State *L, lua_CFunction f, void *data);
/* Leaves a lost state once more, for the call around the one that lost it. */
void segue__template_escape(segue__template *t);
/* luaL_loadbufferx for source text. LuaJIT's parser frees its lists where an error of Lua ends it,
 * and is no compiled code: so nothing escapes from it. A caller that gets LUA_ERRMEM releases what
 * it owns and escapes. */
int segue__template_parse(segue__template *t, lua_State *L, const char *code, size_t len,
                          const char *name);
/* host.c: pushes the module segue.template.host. */
int segue__template_host_open(lua_State *L);
/* regex.c: adds regular expressions to the table on top. */
void segue__template_regex_open(lua_State *L);

#endif
