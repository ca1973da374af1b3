/* SPDX-License-Identifier: MIT
 *
 * JSON or text, by what the client accepts (RFC 9110 12.5.1): names of media types have no case,
 * ranges have weights, and a weight of 0 means "not this". A client without a preference, or one
 * that accepts neither, gets the caller's default: an answer in the wrong form is more useful than
 * 406.
 */
#include "http.h"

#include <string.h>
#include <strings.h>

typedef enum exactness { NONE, ANY, TYPE, EXACT } exactness;

/* Of the ranges that match one media type only the most exact one counts. */
typedef struct preference {
  exactness how;
  int weight; /* in thousandths */
} preference;

static segue__http_text accept_trim(segue__http_text t) {
  while (t.len && (*t.s == ' ' || *t.s == '\t'))
    t.s++, t.len--;
  while (t.len && (t.s[t.len - 1] == ' ' || t.s[t.len - 1] == '\t'))
    t.len--;
  return t;
}

/* Cuts *rest at the first separator outside quoted strings. Returns false at the end. */
static bool next_part(segue__http_text *rest, char separator, segue__http_text *part) {
  bool quoted = false;
  size_t n = 0;
  if (!rest->s) return false;
  for (; n < rest->len && (quoted || rest->s[n] != separator); n++) {
    if (quoted && rest->s[n] == '\\' && n + 1 < rest->len)
      n++;
    else if (rest->s[n] == '"')
      quoted = !quoted;
  }
  *part = accept_trim((segue__http_text){rest->s, n});
  *rest = n < rest->len ? (segue__http_text){rest->s + n + 1, rest->len - n - 1}
                        : (segue__http_text){NULL, 0};
  return true;
}

/* Converts "0.5" to 500. A malformed weight counts as 1, as if the range had none. */
static int weight_of(segue__http_text t) {
  int weight = 0, scale = 100;
  if (!t.len || (*t.s != '0' && *t.s != '1') || (t.len > 1 && t.s[1] != '.') || t.len > 5)
    return 1000;
  if (*t.s == '1') return 1000;
  for (size_t i = 2; i < t.len; i++, scale /= 10) {
    if (t.s[i] < '0' || t.s[i] > '9') return 1000;
    weight += (t.s[i] - '0') * scale;
  }
  return weight;
}

static exactness accept_match(segue__http_text range, const char *type) {
  size_t main = strcspn(type, "/") + 1;
  if (segue__http_text_is(range, type)) return EXACT;
  if (range.len == main + 1 && range.s[main] == '*' && strncasecmp(range.s, type, main) == 0)
    return TYPE;
  return segue__http_text_is(range, "*/*") ? ANY : NONE;
}

static void accept_consider(segue__http_text item, const char *type, preference *best) {
  segue__http_text part;
  if (!next_part(&item, ';', &part)) return;
  exactness how = accept_match(part, type);
  int weight = 1000;
  while (next_part(&item, ';', &part))
    if (part.len > 2 && (*part.s == 'q' || *part.s == 'Q') && part.s[1] == '=')
      weight = weight_of((segue__http_text){part.s + 2, part.len - 2});
  if (how > best->how) *best = (preference){how, weight};
}

static preference preference_for(const segue__http_request *request, const char *type) {
  preference best = {NONE, 0};
  for (size_t i = 0; i < request->header_count; i++) {
    segue__http_text rest = request->headers[i].value, item;
    if (!segue__http_text_is(request->headers[i].name, "Accept")) continue;
    while (next_part(&rest, ',', &item))
      accept_consider(item, type, &best);
  }
  return best;
}

bool segue__http_prefers_json(const segue__http_request *request, bool by_default) {
  preference json = preference_for(request, "application/json");
  preference text = preference_for(request, "text/plain");
  if (json.weight != text.weight) return json.weight > text.weight;
  if (json.weight && json.how == text.how && json.how == EXACT) return true;
  if (!json.weight || json.how == text.how) return by_default;
  return json.how > text.how;
}
