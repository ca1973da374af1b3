/* SPDX-License-Identifier: MIT
 *
 * lua_config.h: configuration written in Lua, as a kind of source.
 */
#ifndef SEGUE_BIND_LUA_CONFIG_H
#define SEGUE_BIND_LUA_CONFIG_H

#include "../../source/source.h"

/* segue.lua_file: a text that returns a table. It is evaluated on the worker, in a state of its own
 * that lives as long as the evaluation, within the source's limits of time and memory, and sees
 * nothing but the functions that calculate: the same bytes give the same document. */
extern const segue__source_kind segue__source_lua;

#endif
