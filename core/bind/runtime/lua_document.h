/* SPDX-License-Identifier: MIT
 *
 * lua_document.h: documents as plain Lua values. Lua has one empty table for lists and maps, so
 * every list that was decoded is marked, as those of segue.array are. segue.null is null; integers
 * beyond 2^53 are segue.int. convert.h converts in the other direction.
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

enum { SEGUE__LUA_DEPTH_MAX = 200 };

/* Pushes a node as plain Lua values: null is segue.null, lists are marked. Raises if the budget of
 * the call is used up. */
void segue__lua_document_value(lua_State *L, const segue_node *node);

/* Marked lists. segue__list_open is called before the others. */
void segue__list_open(lua_State *L);
void segue__list_mark(lua_State *L, int index);
bool segue__list_test(lua_State *L, int index);

/* codec.c, codec_bytes.c: add their functions to the table on top (segue.core). */
void segue__codec_open(lua_State *L);
void segue__codec_bytes_open(lua_State *L);

#endif
