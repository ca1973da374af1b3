/* SPDX-License-Identifier: MIT
 *
 * exchange.h: what exchange.c (the life of a request in a state, and its answer) and request.c
 * (what handle sees of it) know of each other.
 */
#ifndef SEGUE_BIND_EXCHANGE_H
#define SEGUE_BIND_EXCHANGE_H

#include "module.h"

/* request.c */
void segue__request_push(lua_State *L, segue__exchange *exchange);
/* Of argument 1; raises if it is no request, or one that is answered. */
segue__exchange *segue__request_check(lua_State *L);

/* exchange.c: methods */
int segue__request_stream(lua_State *L);
int segue__request_write(lua_State *L);

/* request_gone.c: the method request:wait_gone(), and the call that ends its waits when the answer
 * has ended. */
int segue__request_wait_gone(lua_State *L);
void segue__gone_end(segue__exchange *exchange);

#endif
