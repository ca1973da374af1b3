/* SPDX-License-Identifier: MIT
 *
 * lua_request.h: shared by lua_request.c (life of a request in a state, and its answer) and
 * request.c (the object that `handle` gets).
 */
#ifndef SEGUE_BIND_LUA_REQUEST_H
#define SEGUE_BIND_LUA_REQUEST_H

#include "module.h"

/* request.c */
void segue__lua_request_push(lua_State *L, segue__lua_request *lua_request);
/* Returns the request of argument 1. Raises an error if it is not a request, or if the request was
 * answered already. */
segue__lua_request *segue__lua_request_check(lua_State *L);

/* lua_request.c: methods */
int segue__lua_request_stream(lua_State *L);
int segue__lua_request_write(lua_State *L);

/* request_gone.c: the method request:wait_gone(), and the call that ends its waits when the answer
 * has ended. */
int segue__request_wait_gone(lua_State *L);
void segue__gone_end(segue__lua_request *lua_request);

#endif
