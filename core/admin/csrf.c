/* SPDX-License-Identifier: MIT
 *
 * Rejects requests that a web page of another site makes through the browser of an authorized user.
 * There are two ways. A foreign name that resolves to the address of this listener (DNS rebinding):
 * the Host header must be a loopback name on a loopback listener, elsewhere an address or a name
 * that the policy lists. A cross-site request: Origin must be this host, and Sec-Fetch-Site must
 * not contradict it. Clients that are not browsers send neither header.
 */
#include "internal.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool ends_with(const char *s, const char *end) {
  size_t n = strlen(s), m = strlen(end);
  return n >= m && strcasecmp(s + n - m, end) == 0;
}

/* Copies a Host header without its port, and without the brackets of an IPv6 address. Returns false
 * if it is empty or too long. */
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

static bool is_address(const char *name) {
  struct in6_addr any;
  return inet_pton(AF_INET, name, &any) == 1 || inet_pton(AF_INET6, name, &any) == 1;
}

static bool csrf_listed(const segue__auth *auth, const char *name) {
  for (size_t i = 0; i < auth->host_count; i++)
    if (strcasecmp(auth->hosts[i], name) == 0) return true;
  return false;
}

static bool csrf_loopback(const char *name) {
  struct in_addr v4;
  struct in6_addr v6;
  if (inet_pton(AF_INET, name, &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  if (inet_pton(AF_INET6, name, &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
  return strcasecmp(name, "localhost") == 0 || ends_with(name, ".localhost");
}

/* Compares an Origin header with scheme://host[:port], where host is the Host header. */
static bool same_origin(segue__http_text origin, segue__http_text host, bool tls) {
  const char *scheme = tls ? "https://" : "http://";
  size_t skip = strlen(scheme);
  return origin.len == skip + host.len && strncasecmp(origin.s, scheme, skip) == 0 &&
         strncasecmp(origin.s + skip, host.s, host.len) == 0;
}

/* A name belongs to this listener only if the policy lists it. An address always does: no DNS
 * server can make it mean another machine. */
static bool csrf_is_ours(const segue__auth *auth, const char *name) {
  if (!auth) return csrf_loopback(name);
  if (csrf_listed(auth, name)) return true;
  if (auth->loopback) return csrf_loopback(name);
  return !auth->host_count || is_address(name);
}

/* A unix socket is exempt: no browser can connect to one. Sec-Fetch-Site is checked beside Origin,
 * because a browser sends no Origin with a plain GET, for example of an image. "none" is an address
 * that the user typed. */
int segue__guard_check(const segue__http_request *request, bool probe, char *why, size_t size) {
  const segue__auth *auth = request->auth;
  char name[256];
  if (request->local) return 0;
  /* HAProxy's `option httpchk` and other probes speak HTTP/1.0 without Host, or with an empty one.
   * A browser always names a host, so these are none, and what they ask for changes nothing. */
  bool nameless_probe = !request->host.len && probe;
  if (!nameless_probe &&
      (!host_name(request->host, name, sizeof name) || !csrf_is_ours(auth, name))) {
    bool local = !auth || (auth->loopback && !auth->host_count);
    snprintf(why, size, "the Host header \"%.*s\" is %s",
             (int)(request->host.len > 100 ? 100 : request->host.len), request->host.s,
             local ? "not a loopback name: ask for 127.0.0.1 or localhost"
                   : "no name of this listener: the policy lists those in hosts");
    return 403;
  }
  const segue__http_text *origin = segue__http_header_get(request, "Origin");
  const segue__http_text *site = segue__http_header_get(request, "Sec-Fetch-Site");
  if ((origin && !same_origin(*origin, request->host, request->tls)) ||
      (site && !segue__http_text_is(*site, "same-origin") && !segue__http_text_is(*site, "none"))) {
    snprintf(why, size, "requests that a browser makes for another site are refused");
    return 403;
  }
  return 0;
}
