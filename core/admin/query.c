/* SPDX-License-Identifier: MIT
 *
 * Queries are judged before anybody acts on them: what cannot be read, or says two things, or means
 * nothing here, must not be taken for its absence. POST /api/v1/rollback?to=1%00 is no rollback to
 * the generation before the live one.
 */
#include <string.h>

#include "../http/parse.h"
#include "internal.h"

enum { NAME_BYTES = 64, PARAMETERS_MAX = 3 };

typedef struct parameter {
  const char *name; /* NULL: no more */
  size_t size;      /* what its handler has room for; 0: it takes the beginning */
} parameter;

/* Handlers that are not here take none. */
static const struct {
  segue__handler *handler;
  parameter parameters[PARAMETERS_MAX];
} table[] = {
    {segue__handle_reload, {{"force", 16}, {"wait", 32}, {"accept-shrink", 16}}},
    {segue__handle_plan, {{"force", 16}, {"wait", 32}, {"accept-shrink", 16}}},
    {segue__handle_rollback, {{"to", 32}, {"wait", 32}}},
    {segue__handle_confirm, {{"wait", 32}}},
    {segue__handle_freeze, {{"why", 0}}},
    {segue__handle_recording, {{"after", 32}}},
    {segue__handle_config, {{"path", 512}}},
    {segue__handle_why, {{"path", 512}}},
    {segue__handle_reloads, {{"limit", 32}, {"before", 32}}},
    {segue__handle_audit, {{"limit", 32}}},
    {segue__handle_diff, {{"from", 64}, {"to", 64}, {"wait", 32}}},
};

static const parameter *parameters_of(segue__handler *handler) {
  static const parameter none[PARAMETERS_MAX];
  for (size_t i = 0; i < sizeof table / sizeof *table; i++)
    if (table[i].handler == handler) return table[i].parameters;
  return none;
}

static bool query_refuse(segue__http_request *request, const char *name, const char *why,
                         const char *more) {
  segue__answer_error(request, 400, NULL, "the parameter %s%s%s", name, why, more);
  return false;
}

static size_t query_find(const parameter *known, const char *name) {
  size_t i = 0;
  while (i < PARAMETERS_MAX && known[i].name && strcmp(known[i].name, name) != 0)
    i++;
  return i < PARAMETERS_MAX && known[i].name ? i : PARAMETERS_MAX;
}

static bool refuse_unknown(segue__http_request *request, const parameter *known, const char *name) {
  const char *names[PARAMETERS_MAX];
  size_t count = 0;
  for (; count < PARAMETERS_MAX && known[count].name; count++)
    names[count] = known[count].name;
  const char *meant = segue__nearest(name, names, count);
  return query_refuse(request, name,
                      meant ? " is not known here: did you mean " : " is not known here",
                      meant ? meant : "");
}

static bool check_value(segue__http_request *request, const parameter *found,
                        segue__http_text value) {
  int len = segue__http_query_decode(value, NULL, 0);
  if (len < 0)
    return query_refuse(request, found->name,
                        " cannot be read: it holds a zero byte, or a % that begins no escape", "");
  if (found->size && (size_t)len >= found->size)
    return query_refuse(request, found->name, " is too long", "");
  return true;
}

bool segue__query_check(segue__http_request *request, segue__handler *handler, bool pass_others) {
  const parameter *known = parameters_of(handler);
  segue__http_text rest = request->query, name, value;
  unsigned seen = 0;
  while (segue__http_query_next(&rest, &name, &value)) {
    char text[NAME_BYTES];
    bool named = segue__http_query_decode(name, text, sizeof text) >= 0;
    size_t i = named ? query_find(known, text) : PARAMETERS_MAX;
    if (i == PARAMETERS_MAX && (pass_others || !name.len)) continue;
    if (!named)
      return query_refuse(request, "of this query", " has a name that cannot be read", "");
    if (i == PARAMETERS_MAX) return refuse_unknown(request, known, text);
    if (seen & 1U << i) return query_refuse(request, text, " is given twice: give it once", "");
    seen |= 1U << i;
    if (!check_value(request, &known[i], value)) return false;
  }
  return true;
}
