/* SPDX-License-Identifier: MIT
 *
 * transfer.h: values between two Lua states, as bytes: the one that renders templates and the one
 * that runs Lua code of the policy. No error of one state can unwind the other one's calls, because
 * only texts pass from one to the other. The other half is lua/segue/template/transfer.lua.
 *
 *     n                    nothing            z          null in a list
 *     t, f                 true, false        s LEN ..   a text
 *     i, u, d  8 bytes     int64_t, uint64_t, double
 *     l N ..               a list             m N ..     a map: key, value, key, value ...
 *     S TYPE FIELDS N ..   a struct: its type as a text, then as a map; FIELDS, a list of all its
 *                          fields, only on the way to the code of the policy, and there once
 *     R .. ID              a table that becomes a view, and its number; 0: it has none
 *     r ID                 the table with this number, again, in both directions
 *     D                    the data of a template in Lua, on the way to templates
 *
 * LEN, N and ID have 4 bytes. All in the byte order of the machine. On the way to the code of the
 * policy a message begins with the number of its epoch: with a new one the numbers of tables begin
 * at 1 again, and the code's state forgets the tables that it has. So a message that was lost, or
 * that an error has cut, can never make a number mean another table.
 */
#ifndef SEGUE_BIND_TRANSFER_H
#define SEGUE_BIND_TRANSFER_H

#include "../runtime/state.h"

/* No result, and no text of a template, is larger. */
#define SEGUE__TRANSFER_MAX ((size_t)64 << 20)

/* In a new state of the policy's code. Adds the global float(n). */
void segue__transfer_open(lua_State *L);
/* Forgets the tables that were sent. */
void segue__transfer_forget(lua_State *L);
/* Reads the head of a message, and returns the first byte behind it. */
const char *segue__transfer_begin(lua_State *L, const char *at);
/* Pushes a value, and returns the first byte behind it. Raises if the state has no memory. */
const char *segue__transfer_push(lua_State *L, const char *at);
/* Sets the metatable of a struct at index `to` if the table at index `from` is one. */
void segue__transfer_copy_type(lua_State *L, int from, int to);
/* Appends the value at index. Raises if it is none that templates have, or too large. */
void segue__transfer_add(lua_State *L, int index, segue__buf *out);
/* Appends a number as a template shows it: an integer in decimal. */
void segue__transfer_number(segue__buf *out, double n);

#endif
