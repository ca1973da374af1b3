/* SPDX-License-Identifier: MIT
 *
 * Accessors of a request for its handler.
 */
#include "parse.h"

#include <string.h>

const segue__http_text *segue__http_header_get(const segue__http_request *request,
                                               const char *name) {
  for (size_t i = 0; i < request->header_count; i++)
    if (segue__http_text_is(request->headers[i].name, name)) return &request->headers[i].value;
  return NULL;
}

bool segue__http_query_get(const segue__http_request *request, const char *name, char *buf,
                           size_t size) {
  return segue__http_query_find(request->query, name, buf, size);
}

bool segue__http_method_is(const segue__http_request *request, const char *method) {
  return request->method.len == strlen(method) &&
         memcmp(request->method.s, method, request->method.len) == 0;
}
