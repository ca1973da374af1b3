/* SPDX-License-Identifier: MIT
 *
 * Lines of an access log. They are formatted on the worker thread and escaped, so that no text of a
 * client can end a line or a field early. "combined" is the format of nginx and Apache, with the
 * duration and the generation at the end; the user name is that of the client's certificate.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../config/config.h"
#include "../os/hex.h"
#include "ingress_internal.h"

enum { PATH_MOST = 4096, WORD_MOST = 1024, NAME_MOST = 256 };

/* The values of one line, for both formats. */
typedef struct line {
  const segue__access *access;
  segue_text method, path, query, referer, agent, client;
  int minor;
} line;

static segue_text access_cut(const char *s, size_t len, size_t most) {
  return (segue_text){s, len < most ? len : most};
}

static segue_text access_header(const segue__http_request *http, const char *name) {
  const segue__http_text *value = segue__http_header_get(http, name);
  return value ? access_cut(value->s, value->len, WORD_MOST) : (segue_text){NULL, 0};
}

static void access_look_at(line *l, const segue__http_request *http, bool query) {
  l->method = access_cut(http->method.s, http->method.len, NAME_MOST);
  l->path = access_cut(http->path, strlen(http->path), PATH_MOST);
  if (query && http->query.s) l->query = access_cut(http->query.s, http->query.len, PATH_MOST);
  l->referer = access_header(http, "Referer");
  l->agent = access_header(http, "User-Agent");
  segue__tls_name name = {.text = NULL};
  if (segue__tls_name_next(http->client, &name))
    l->client = access_cut(name.text, strlen(name.text), NAME_MOST);
  l->minor = http->minor;
}

/* printf would be most of the cost of a line: times are formatted once per second, and numbers
 * without printf. */
static void set_stamp(segue__stamp *stamp, time_t now) {
  static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
  struct tm tm;
  if (now == stamp->at) return;
  gmtime_r(&now, &tm);
  int year = (tm.tm_year + 1900) % 10000, day = tm.tm_mday % 100;
  int hour = tm.tm_hour % 100, min = tm.tm_min % 100, sec = tm.tm_sec % 100;
  snprintf(stamp->combined, sizeof stamp->combined, " [%02d/%.3s/%04d:%02d:%02d:%02d +0000] ", day,
           months + tm.tm_mon * 3, year, hour, min, sec);
  snprintf(stamp->json, sizeof stamp->json, "%04d-%02d-%02dT%02d:%02d:%02d", year,
           (tm.tm_mon + 1) % 100, day, hour, min, sec);
  stamp->at = now;
}

/* Appends the last digits of n. */
static void add_digits(segue__buf *out, uint64_t n, size_t digits) {
  char text[8];
  for (size_t i = digits; i-- > 0; n /= 10)
    text[i] = (char)('0' + n % 10);
  segue__buf_add(out, text, digits);
}

static void add_seconds(segue__buf *out, uint64_t ns) {
  uint64_t us = (ns + 500) / 1000;
  segue__buf_addu(out, us / 1000000);
  segue__buf_addc(out, '.');
  add_digits(out, us, 6);
}

/* ---- combined ---- */

/* Escapes as nginx does: bytes that are not printable ASCII, quotes and backslashes become \xHH; so
 * do spaces if a space ends the field. */
static bool access_is_plain(unsigned char c, bool spaces) {
  return c >= ' ' && c < 127 && c != '"' && c != '\\' && !(spaces && c == ' ');
}

static void access_add_escaped(segue__buf *out, segue_text text, bool spaces) {
  if (!text.s) segue__buf_addc(out, '-');
  for (size_t i = 0, from = 0; text.s && i <= text.len; i++) {
    bool end = i == text.len;
    if (!end && access_is_plain((unsigned char)text.s[i], spaces)) continue;
    segue__buf_add(out, text.s + from, i - from);
    from = i + 1;
    if (end) break;
    unsigned char c = (unsigned char)text.s[i];
    char escape[4] = {'\\', 'x', segue__hex_capital(c >> 4), segue__hex_capital(c)};
    segue__buf_add(out, escape, sizeof escape);
  }
}

/* Appends the address without its port: "127.0.0.1:53412", "[::1]:53412". */
static void add_host(segue__buf *out, const char *peer) {
  const char *colon = strrchr(peer, ':');
  size_t len = colon ? (size_t)(colon - peer) : strlen(peer);
  if (*peer == '[' && len > 2)
    segue__buf_add(out, peer + 1, len - 2);
  else
    segue__buf_add(out, peer, len);
}

static void add_request(segue__buf *out, const line *l) {
  segue__buf_addc(out, '"');
  if (l->method.s) {
    access_add_escaped(out, l->method, false);
    segue__buf_addc(out, ' ');
    access_add_escaped(out, l->path, true);
    if (l->query.s) segue__buf_addc(out, '?');
    if (l->query.s) access_add_escaped(out, l->query, true);
    segue__buf_adds(out, " HTTP/1.");
    segue__buf_addu(out, (uint64_t)l->minor);
  } else {
    segue__buf_addc(out, '-'); /* the request was refused before it was parsed */
  }
  segue__buf_addc(out, '"');
}

static void add_combined(segue__buf *out, const line *l, const segue__stamp *stamp) {
  const segue__access *a = l->access;
  add_host(out, a->peer);
  segue__buf_adds(out, " - ");
  access_add_escaped(out, l->client, true);
  segue__buf_adds(out, stamp->combined);
  add_request(out, l);
  segue__buf_addc(out, ' ');
  segue__buf_addu(out, (uint64_t)a->status);
  segue__buf_addc(out, ' ');
  segue__buf_addu(out, a->bytes);
  segue__buf_adds(out, " \"");
  access_add_escaped(out, l->referer, false);
  segue__buf_adds(out, "\" \"");
  access_add_escaped(out, l->agent, false);
  segue__buf_adds(out, "\" ");
  add_seconds(out, a->took_ns);
  segue__buf_addc(out, ' ');
  if (a->generation)
    segue__buf_addu(out, a->generation);
  else
    segue__buf_addc(out, '-');
  segue__buf_addc(out, '\n');
}

/* ---- json ---- */

static void add_member(segue__buf *out, const char *key, segue_text value) {
  segue__buf_adds(out, ",\"");
  segue__buf_adds(out, key);
  segue__buf_adds(out, "\":");
  if (value.s)
    segue__json_string(out, value.s, value.len);
  else
    segue__buf_adds(out, "null");
}

static void access_add_json(segue__buf *out, const line *l, const segue__stamp *stamp, long ns) {
  const segue__access *a = l->access;
  segue__buf_adds(out, "{\"time\":\"");
  segue__buf_adds(out, stamp->json);
  segue__buf_addc(out, '.');
  add_digits(out, (uint64_t)ns / 1000000, 3);
  segue__buf_adds(out, "Z\"");
  add_member(out, "module", (segue_text){a->module, strlen(a->module)});
  add_member(out, "peer", (segue_text){a->peer, strlen(a->peer)});
  add_member(out, "client", l->client);
  add_member(out, "method", l->method);
  add_member(out, "path", l->path);
  add_member(out, "query", l->query);
  add_member(out, "referer", l->referer);
  add_member(out, "agent", l->agent);
  segue__buf_adds(out, ",\"status\":");
  segue__buf_addu(out, (uint64_t)a->status);
  segue__buf_adds(out, ",\"bytes\":");
  segue__buf_addu(out, a->bytes);
  segue__buf_adds(out, ",\"seconds\":");
  add_seconds(out, a->took_ns);
  segue__buf_adds(out, ",\"generation\":");
  if (a->generation)
    segue__buf_addu(out, a->generation);
  else
    segue__buf_adds(out, "null");
  segue__buf_adds(out, "}\n");
}

void segue__access_note(segue__thread_listener *thread_listener, const segue__http_request *http,
                        const segue__access *access) {
  segue__access_log *log = thread_listener->route->log;
  segue__buf *out = &thread_listener->worker->line;
  line l = {.access = access};
  segue__stamp *stamp = &thread_listener->worker->stamp;
  struct timespec now;
  if (http) access_look_at(&l, http, segue__access_log_has_query(log));
  clock_gettime(CLOCK_REALTIME, &now);
  set_stamp(stamp, now.tv_sec);
  out->len = 0;
  out->failed = 0;
  if (segue__access_log_is_json(log))
    access_add_json(out, &l, stamp, now.tv_nsec);
  else
    add_combined(out, &l, stamp);
  if (!out->failed)
    segue__access_log_put(log, thread_listener->worker->log_lines, out->data, out->len);
}
