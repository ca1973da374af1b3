/* SPDX-License-Identifier: MIT
 *
 * Who may ask: anybody on this machine, but no web page of another site through the browser of
 * somebody on this machine. Two doors are shut: a name that resolves to the loopback address (the
 * Host header must be a loopback name), and a cross-site request (Origin must be this very host,
 * Sec-Fetch-Site must not say otherwise). Clients that are not browsers send neither header.
 */
#include "internal.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

bool segue__text_is(segue__http_text text, const char *s) {
  return text.len == strlen(s) && strncasecmp(text.s, s, text.len) == 0;
}

static bool ends_with(const char *s, const char *end) {
  size_t n = strlen(s), m = strlen(end);
  return n >= m && strcasecmp(s + n - m, end) == 0;
}

/* host without its port, and without the brackets of an IPv6 address */
static bool host_name(segue__http_text host, char *buf, size_t size) {
  if (!host.len || host.len >= size) return false;
  memcpy(buf, host.s, host.len);
  buf[host.len] = 0;
  if (buf[0] == '[') {
    char *end = strchr(buf, ']');
    if (!end) return false;
    *end = 0;
    memmove(buf, buf + 1, (size_t)(end - buf));
    return true;
  }
  char *colon = strchr(buf, ':');
  if (colon) *colon = 0;
  return true;
}

static bool loopback(const char *name) {
  struct in_addr v4;
  struct in6_addr v6;
  if (inet_pton(AF_INET, name, &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  if (inet_pton(AF_INET6, name, &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
  return strcasecmp(name, "localhost") == 0 || ends_with(name, ".localhost");
}

/* scheme://host[:port], with host as in the Host header */
static bool same_origin(segue__http_text origin, segue__http_text host) {
  static const char scheme[] = "http://";
  size_t skip = sizeof scheme - 1;
  return origin.len == skip + host.len && strncasecmp(origin.s, scheme, skip) == 0 &&
         strncasecmp(origin.s + skip, host.s, host.len) == 0;
}

int segue__guard_check(const segue__http_request *request, char *why, size_t size) {
  char name[256];
  if (request->local) return 0;
  if (!host_name(request->host, name, sizeof name) || !loopback(name)) {
    snprintf(why, size,
             "the Host header \"%.*s\" is not a loopback name: ask for 127.0.0.1 or localhost",
             (int)(request->host.len > 100 ? 100 : request->host.len), request->host.s);
    return 403;
  }
  const segue__http_text *origin = segue__http_header_get(request, "Origin");
  const segue__http_text *site = segue__http_header_get(request, "Sec-Fetch-Site");
  if ((origin && !same_origin(*origin, request->host)) ||
      (site && !segue__text_is(*site, "same-origin") && !segue__text_is(*site, "none"))) {
    snprintf(why, size, "requests that a browser makes for another site are refused");
    return 403;
  }
  return 0;
}
