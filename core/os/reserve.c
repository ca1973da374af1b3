/* SPDX-License-Identifier: MIT
 *
 * The reserve of a Lua state that is being made.
 */
#include "reserve.h"

#include <string.h>
#include <uv.h>

#include "mem.h"

/* A state takes 20 KB, and 53 KB with all libraries and the ffi. */
enum { RESERVE = 96 * 1024 };

int segue__reserve_new(segue__reserve *reserve) {
  *reserve = (segue__reserve){.memory = segue__malloc(RESERVE)};
  return reserve->memory ? 0 : UV_ENOMEM;
}

void segue__reserve_free(segue__reserve *reserve) {
  segue__free(reserve->memory);
  *reserve = (segue__reserve){0};
}

bool segue__reserve_has(const segue__reserve *reserve, const void *p) {
  return reserve->memory && (const char *)p >= reserve->memory &&
         (const char *)p < reserve->memory + RESERVE;
}

void *segue__reserve_use(segue__reserve *reserve, void *p, size_t old_size, size_t new_size) {
  bool has = segue__reserve_has(reserve, p);
  if (has && new_size <= old_size) return p;
  size_t need = (new_size + 15) & ~(size_t)15;
  if (!reserve->memory || need > RESERVE - reserve->used) return NULL;
  char *q = reserve->memory + reserve->used;
  reserve->used += need;
  if (old_size) memcpy(q, p, old_size < new_size ? old_size : new_size);
  if (!has) segue__free(p);
  return q;
}
