/* SPDX-License-Identifier: MIT
 *
 * Validates a query before its handler runs. A parameter that is malformed, given twice or unknown
 * must not count as absent: POST /api/v1/rollback?to=1%00 must not roll back to the generation
 * before the live one.
 */
#include <string.h>

#include "../http/parse.h"
#include "../os/suggest.h"
#include "internal.h"

enum { NAME_BYTES = 64 };

static bool query_refuse(segue__http_request *request, const char *name, const char *why,
                         const char *more) {
  segue__answer_error(request, 400, NULL, "the parameter %s%s%s", name, why, more);
  return false;
}

static size_t query_find(const segue__parameter *known, const char *name) {
  size_t i = 0;
  while (i < SEGUE__PARAMETERS_MAX && known[i].name && strcmp(known[i].name, name) != 0)
    i++;
  return i < SEGUE__PARAMETERS_MAX && known[i].name ? i : SEGUE__PARAMETERS_MAX;
}

static bool refuse_unknown(segue__http_request *request, const segue__parameter *known,
                           const char *name) {
  const char *names[SEGUE__PARAMETERS_MAX];
  size_t count = 0;
  for (; count < SEGUE__PARAMETERS_MAX && known[count].name; count++)
    names[count] = known[count].name;
  const char *meant = segue__suggest(name, names, count);
  return query_refuse(request, name,
                      meant ? " is not known here: did you mean " : " is not known here",
                      meant ? meant : "");
}

/* Decodes the value only to measure it. A value that does not fit into the buffer of its handler
 * would be cut there, and a cut path names another value. */
static bool check_value(segue__http_request *request, const segue__parameter *found,
                        segue__http_text value) {
  int len = segue__http_query_decode(value, NULL, 0);
  if (len < 0)
    return query_refuse(request, found->name,
                        " cannot be read: it holds a zero byte, or a % that begins no escape", "");
  if (found->size && (size_t)len >= found->size)
    return query_refuse(request, found->name, " is too long", "");
  return true;
}

bool segue__query_check(segue__http_request *request, const segue__endpoint *endpoint) {
  const segue__parameter *known = endpoint->parameters;
  bool pass_others = segue__endpoint_looks_only(endpoint);
  segue__http_text rest = request->query, name, value;
  unsigned seen = 0;
  while (segue__http_query_next(&rest, &name, &value)) {
    char text[NAME_BYTES];
    bool named = segue__http_query_decode(name, text, sizeof text) >= 0;
    size_t i = named ? query_find(known, text) : SEGUE__PARAMETERS_MAX;
    if (i == SEGUE__PARAMETERS_MAX && (pass_others || !name.len)) continue;
    if (!named)
      return query_refuse(request, "of this query", " has a name that cannot be read", "");
    if (i == SEGUE__PARAMETERS_MAX) return refuse_unknown(request, known, text);
    if (seen & 1U << i) return query_refuse(request, text, " is given twice: give it once", "");
    seen |= 1U << i;
    if (!check_value(request, &known[i], value)) return false;
  }
  return true;
}
