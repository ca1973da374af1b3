/* SPDX-License-Identifier: MIT
 *
 * Deliveries of sources in a recording, for a replay.
 */
#include "../../source/cache.h"
#include "rehearsal.h"

/* delivery(bytes) -> text and format of the first document; nothing if there is none. A source that
 * is a URL delivers one document, so the first one is all of it. */
int segue__testing_delivery(lua_State *L) {
  size_t len;
  const char *bytes = luaL_checklstring(L, 1, &len);
  segue__cached_delivery head;
  segue__documents documents = {0};
  int rc = segue__cached_delivery_parse(bytes, len, "", &head, &documents);
  if (rc) return luaL_error(L, "a delivery cannot be read: %s", segue_strerror(rc));
  segue__cached_delivery_deinit(&head);
  int count = 0;
  if (documents.count) {
    const segue__document *first = documents.items[0];
    lua_pushlstring(L, first->data ? first->data : "", first->len);
    lua_pushstring(L, segue__document_format_name(first->format));
    count = 2;
  }
  segue__documents_deinit(&documents);
  return count;
}
