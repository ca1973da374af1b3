/* SPDX-License-Identifier: MIT
 *
 * script.h: Lua code of a policy that templates use: a file of functions, and templates in Lua. It
 * runs in a state of its own, the sandbox of core/bind/runtime, because the state that renders has
 * a JIT compiler and no limits but those of generated code. Used by segue.template.host.
 */
#ifndef SEGUE_BIND_SCRIPT_H
#define SEGUE_BIND_SCRIPT_H

#include <lua.h>

#include "../../os/mem.h"

typedef struct segue__template segue__template;

/* The states of one engine of templates. */
typedef struct segue__scripts segue__scripts;
void segue__scripts_free(segue__scripts *scripts); /* NULL allowed */
/* The rendering has ended: frees what it kept. NULL allowed. */
void segue__scripts_end(segue__scripts *scripts);

/* Adds the functions of script.c to the table on top, segue.template.host. */
void segue__script_open(lua_State *L);

#endif
