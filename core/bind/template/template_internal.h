/* SPDX-License-Identifier: MIT
 *
 * template_internal.h: shared by the files of core/bind/template.
 */
#ifndef SEGUE_BIND_TEMPLATE_INTERNAL_H
#define SEGUE_BIND_TEMPLATE_INTERNAL_H

#include <lua.h>
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
  bool starved;           /* and the state was within its limit: the machine has no memory */
  /* Of the running call; owned here, because an error of Lua frees nothing. */
  segue__document *doc, *parsed;
  /* Of the running call, borrowed: the data of a job that is given. */
  bool given;
  const segue_node *node, *keys;
  const segue__config *config;
  segue__scripts *scripts; /* NULL: no template has used Lua code */
};

segue__template *segue__template_of(lua_State *L);
/* host.c: pushes the module segue.template.host. */
int segue__template_host_open(lua_State *L);
/* regex.c: adds regular expressions to the table on top. */
void segue__template_regex_open(lua_State *L);

#endif
