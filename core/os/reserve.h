/* SPDX-License-Identifier: MIT
 *
 * reserve.h: memory for a Lua state that is being made. lua_newstate crashes in LuaJIT if an
 * allocation fails: closing a half-made state reads a string table that does not exist yet. So
 * memory for a whole state is allocated first. Once an allocation has failed, all further ones come
 * from that reserve, one after the other, until the state is complete and has been closed. Freeing
 * the reserve and calling the allocator again is not enough: when memory is short, the next
 * allocations fail too.
 *
 * A state of luaL_newstate needs no reserve: LuaJIT's own allocator takes 128 KiB first, and a
 * state that is created fits into them, so that the creation fails as a whole or not at all.
 */
#ifndef SEGUE_OS_RESERVE_H
#define SEGUE_OS_RESERVE_H

#include <stdbool.h>
#include <stddef.h>

typedef struct segue__reserve {
  char *memory; /* NULL: there is none */
  size_t used;
} segue__reserve;

int segue__reserve_new(segue__reserve *reserve);
void segue__reserve_free(segue__reserve *reserve);
bool segue__reserve_has(const segue__reserve *reserve, const void *p);
/* Reallocates p, which may be a block of the reserve. Returns NULL if the reserve is used up, or
 * there is none.
 */
void *segue__reserve_use(segue__reserve *reserve, void *p, size_t old_size, size_t new_size);

#endif
