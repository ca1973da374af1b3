/* SPDX-License-Identifier: MIT
 *
 * Accessors of a request for its handler.
 */
#include "parse.h"

#include <string.h>
#include <strings.h>

const segue__http_text *segue__http_header_get(const segue__http_request *request,
                                               const char *name) {
  size_t len = strlen(name);
  for (size_t i = 0; i < request->header_count; i++) {
    const segue__http_header *header = &request->headers[i];
    if (header->name.len == len && strncasecmp(header->name.s, name, len) == 0)
      return &header->value;
  }
  return NULL;
}

bool segue__http_query_get(const segue__http_request *request, const char *name, char *buf,
                           size_t size) {
  return segue__http_query_find(request->query, name, buf, size);
}
