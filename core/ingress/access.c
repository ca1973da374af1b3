/* SPDX-License-Identifier: MIT
 *
 * Lines of an access log: made on the lane, from what the client said, so that nothing in it can
 * end a line or a field early. "combined" is nginx's and Apache's, with the time taken and the
 * generation behind it; the name before the time is that of the client's certificate.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../config/config.h"
#include "parts.h"

enum { PATH_MOST = 4096, WORD_MOST = 1024, NAME_MOST = 256 };

/* Of this line: what is said in either format. */
typedef struct line {
  const segue__access *access;
  segue_text method, path, query, referer, agent, client;
  int minor;
} line;

static segue_text cut(const char *s, size_t len, size_t most) {
  return (segue_text){s, len < most ? len : most};
}

static segue_text header(const segue__http_request *http, const char *name) {
  const segue__http_text *value = segue__http_header_get(http, name);
  return value ? cut(value->s, value->len, WORD_MOST) : (segue_text){NULL, 0};
}

static void look_at(line *l, const segue__http_request *http, bool query) {
  l->method = cut(http->method.s, http->method.len, NAME_MOST);
  l->path = cut(http->path, strlen(http->path), PATH_MOST);
  if (query && http->query.s) l->query = cut(http->query.s, http->query.len, PATH_MOST);
  l->referer = header(http, "Referer");
  l->agent = header(http, "User-Agent");
  if (http->client) l->client = cut(http->client->names, strlen(http->client->names), NAME_MOST);
  l->minor = http->minor;
}

/* ---- combined ---- */

/* As nginx does it: what is no printable ASCII is \xHH, and so are quotes and backslashes; spaces
 * too where a space ends the field. */
static void add_escaped(segue__buf *out, segue_text text, bool spaces) {
  static const char digits[] = "0123456789ABCDEF";
  if (!text.s) segue__buf_addc(out, '-');
  for (size_t i = 0; text.s && i < text.len; i++) {
    unsigned char c = (unsigned char)text.s[i];
    if (c >= ' ' && c < 127 && c != '"' && c != '\\' && !(spaces && c == ' ')) {
      segue__buf_addc(out, (char)c);
      continue;
    }
    char escape[4] = {'\\', 'x', digits[c >> 4], digits[c & 15]};
    segue__buf_add(out, escape, sizeof escape);
  }
}

/* The address alone: "127.0.0.1:53412" and "[::1]:53412" without their ports. */
static void add_host(segue__buf *out, const char *peer) {
  const char *colon = strrchr(peer, ':');
  size_t len = colon ? (size_t)(colon - peer) : strlen(peer);
  if (*peer == '[' && len > 2)
    segue__buf_add(out, peer + 1, len - 2);
  else
    segue__buf_add(out, peer, len);
}

static void add_date(segue__buf *out, const struct tm *tm) {
  static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
  segue__buf_addf(out, "[%02d/%.3s/%04d:%02d:%02d:%02d +0000]", tm->tm_mday,
                  months + tm->tm_mon * 3, tm->tm_year + 1900, tm->tm_hour, tm->tm_min, tm->tm_sec);
}

static void add_request(segue__buf *out, const line *l) {
  segue__buf_addc(out, '"');
  if (l->method.s) {
    add_escaped(out, l->method, false);
    segue__buf_addc(out, ' ');
    add_escaped(out, l->path, true);
    if (l->query.s) segue__buf_addc(out, '?');
    if (l->query.s) add_escaped(out, l->query, true);
    segue__buf_addf(out, " HTTP/1.%d", l->minor);
  } else {
    segue__buf_addc(out, '-'); /* refused before it was one */
  }
  segue__buf_addc(out, '"');
}

static void add_combined(segue__buf *out, const line *l, const struct tm *tm) {
  const segue__access *a = l->access;
  add_host(out, a->peer);
  segue__buf_adds(out, " - ");
  add_escaped(out, l->client, true);
  segue__buf_addc(out, ' ');
  add_date(out, tm);
  segue__buf_addc(out, ' ');
  add_request(out, l);
  segue__buf_addf(out, " %d %" PRIu64 " \"", a->status, a->bytes);
  add_escaped(out, l->referer, false);
  segue__buf_adds(out, "\" \"");
  add_escaped(out, l->agent, false);
  segue__buf_addf(out, "\" %.6f ", (double)a->took_ns / 1e9);
  if (a->generation)
    segue__buf_addf(out, "%" PRIu64, a->generation);
  else
    segue__buf_addc(out, '-');
  segue__buf_addc(out, '\n');
}

/* ---- json ---- */

static void add_member(segue__buf *out, const char *key, segue_text value) {
  segue__buf_addf(out, ",\"%s\":", key);
  if (value.s)
    segue__json_string(out, value.s, value.len);
  else
    segue__buf_adds(out, "null");
}

static void add_json(segue__buf *out, const line *l, const struct tm *tm, long ns) {
  const segue__access *a = l->access;
  segue__buf_addf(out, "{\"time\":\"%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ\"", tm->tm_year + 1900,
                  tm->tm_mon + 1, tm->tm_mday, tm->tm_hour, tm->tm_min, tm->tm_sec, ns / 1000000);
  add_member(out, "module", (segue_text){a->module, strlen(a->module)});
  add_member(out, "peer", (segue_text){a->peer, strlen(a->peer)});
  add_member(out, "client", l->client);
  add_member(out, "method", l->method);
  add_member(out, "path", l->path);
  add_member(out, "query", l->query);
  add_member(out, "referer", l->referer);
  add_member(out, "agent", l->agent);
  segue__buf_addf(out, ",\"status\":%d,\"bytes\":%" PRIu64 ",\"seconds\":%.6f,\"generation\":",
                  a->status, a->bytes, (double)a->took_ns / 1e9);
  if (a->generation)
    segue__buf_addf(out, "%" PRIu64 "}\n", a->generation);
  else
    segue__buf_adds(out, "null}\n");
}

void segue__access_note(segue__outlet *outlet, const segue__http_request *http,
                        const segue__access *access) {
  segue__access_log *log = outlet->entry->log;
  segue__buf *out = &outlet->lane->line;
  line l = {.access = access};
  struct timespec now;
  struct tm tm;
  if (http) look_at(&l, http, segue__access_log_tells_query(log));
  clock_gettime(CLOCK_REALTIME, &now);
  gmtime_r(&now.tv_sec, &tm);
  out->len = 0;
  out->failed = 0;
  if (segue__access_log_is_json(log))
    add_json(out, &l, &tm, now.tv_nsec);
  else
    add_combined(out, &l, &tm);
  if (!out->failed) segue__ring_put(outlet->lane->ring, log, out->data, out->len);
}
