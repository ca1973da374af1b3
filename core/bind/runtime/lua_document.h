/* SPDX-License-Identifier: MIT
 *
 * lua_document.h: plain Lua values as documents and back. A table with texts as keys is a map; one
 * with the keys 1, 2, 3 ... is a list; an empty table is a map unless it was marked as a list
 * (segue.array, and every list that was decoded), because Lua has one empty table for both.
 * segue.null is null; integers beyond 2^53 are segue.int.
 */
#ifndef SEGUE_BIND_LUA_DOCUMENT_H
#define SEGUE_BIND_LUA_DOCUMENT_H

#include "value.h"

/* A document and its builder as a userdata of Lua: the collector frees both, also if an error is
 * raised while they are in use. */
typedef struct segue__lua_document {
  segue__document *doc; /* a reference; NULL: none */
  segue__builder *builder;
  segue__buf text;
  size_t charged; /* bytes that count against the limit of the state until it is collected */
} segue__lua_document;
/* Pushes a userdata without a document. */
segue__lua_document *segue__lua_document_push(lua_State *L);
/* Frees the document and the builder before the collector does. */
void segue__lua_document_clear(lua_State *L, segue__lua_document *box);

/* Adds the value at index to builder, maps in the order of their keys, bytewise. finite: NaN and
 * the infinities are refused. Returns 0, or a negative code with a sentence and the path in err.
 * Raises if the budget of the call is used up. b belongs to a segue__lua_document on the stack. */
enum { SEGUE__LUA_DEPTH_MAX = 200 };
int segue__lua_document_add(lua_State *L, int index, segue__builder *b, bool finite,
                            segue_error *err);

/* Pushes a node as plain Lua values: null is segue.null, lists are marked. Raises as above. */
void segue__lua_document_value(lua_State *L, const segue_node *node);

/* Marked lists. segue__list_open is called before the others. */
void segue__list_open(lua_State *L);
void segue__list_mark(lua_State *L, int index);
bool segue__list_test(lua_State *L, int index);

/* codec.c, codec_bytes.c: add their functions to the table on top (segue.core). */
void segue__codec_open(lua_State *L);
void segue__codec_bytes_open(lua_State *L);

#endif
