/* SPDX-License-Identifier: MIT
 *
 * lua_options.h: tables of options for what is written in Lua: arguments of library functions, what
 * constructors make, and the policy as a whole.
 */
#ifndef SEGUE_BIND_LUA_OPTIONS_H
#define SEGUE_BIND_LUA_OPTIONS_H

#include "../../options/describe.h"
#include "../runtime/state.h"
#include "loader.h"

/* All topics of a policy: those of the core, of the kinds of sources, of the Lua library, and of
 * the kinds of modules. The validation, the loader and the help use it. Fills out, which has room
 * for SEGUE__LUA_TOPICS_MAX. */
extern const segue_option_table segue__keys_options, segue__answer_options; /* keys_options.c */
enum { SEGUE__LUA_TOPICS_MAX = 96 };
segue__topics segue__lua_topics(const segue__module_kind *kinds, size_t kind_count,
                                segue__option_kind out[SEGUE__LUA_TOPICS_MAX]);

/* call_options.c: the numbers that a source in Lua keeps while its options are the same. */
segue__hash segue__source_identity(const segue_node *node);

/* Lua functions that specs of policies have too: duration(value) -> milliseconds, or nil and the
 * mistake; hint(word, list) -> "did you mean "x"?", or the whole list. */
int segue__lua_duration(lua_State *L);
int segue__lua_hint(lua_State *L);
/* For segue__lua_setup.open: adds made, validate_options, options, table, duration, argument and
 * hint to the table on top, and the functions of core/bind/io. */
void segue__lua_library_open(lua_State *L);

/* Runs plugins/NAME/init.lua beside lua_dir, within the limits of a policy, and calls use with its
 * table of options; NULL: it declares none. Returns UV_ENOENT if there is no such plugin; other
 * codes with err. */
typedef int (*segue__lua_use_options)(void *data, const segue_option_table *table);
int segue__lua_plugin_options(const char *lua_dir, const char *name, segue__lua_use_options use,
                              void *data, segue_error *err);

#endif
