/* SPDX-License-Identifier: MIT
 *
 * Addresses to listen on: numeric only, so that reading a policy never waits for a resolver, and
 * normalised, so that two texts are equal exactly when they mean the same socket.
 */
#include "http.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <uv.h>

/* Digits without sign or leading zeros, at most 65535. */
static bool parse_port(const char *s, uint16_t *out) {
  unsigned long port = 0;
  size_t len = strlen(s);
  if (len == 0 || len > 5 || (len > 1 && s[0] == '0')) return false;
  for (; *s; s++) {
    if (*s < '0' || *s > '9') return false;
    port = port * 10 + (unsigned long)(*s - '0');
  }
  *out = (uint16_t)port;
  return port <= 65535;
}

/* Collapses "//" and "/./". Rejects "..": with symbolic links, only the file system knows where it
 * leads. */
static bool clean_path(const char *path, char *out, size_t size) {
  size_t n = 0;
  while (*path) {
    path += strspn(path, "/");
    size_t len = strcspn(path, "/");
    if (len == 2 && memcmp(path, "..", 2) == 0) return false;
    if (len && !(len == 1 && *path == '.')) {
      if (n + len + 2 > size) return false;
      out[n++] = '/';
      memcpy(out + n, path, len);
      n += len;
    }
    path += len;
  }
  out[n] = 0;
  return n > 0;
}

static int parse_unix(const char *text, segue__http_address *out, segue_error *err) {
  struct sockaddr_un *un = (struct sockaddr_un *)(void *)out->sockaddr;
  const char *path = text + 5;
  if (*path != '/')
    return segue__errorf(err, SEGUE_EUSAGE,
                         "\"%s\" is not an absolute path: write unix:/run/name.sock", text);
  if (strlen(path) >= sizeof out->path)
    return segue__errorf(err, SEGUE_EUSAGE,
                         "\"%s\" is too long for a unix socket: use a path of at most %zu bytes",
                         text, sizeof out->path - 1);
  if (path[strlen(path) - 1] == '/' || !clean_path(path, out->path, sizeof out->path))
    return segue__errorf(err, SEGUE_EUSAGE,
                         "\"%s\" does not name a socket: write its whole path, without \"..\"",
                         text);
  un->sun_family = AF_UNIX;
  memcpy(un->sun_path, out->path, sizeof un->sun_path);
  out->is_unix = out->loopback = true;
  snprintf(out->text, sizeof out->text, "unix:%s", out->path);
  return 0;
}

static int set_ipv4(const char *host, uint16_t port, segue__http_address *out) {
  struct sockaddr_in *in = (struct sockaddr_in *)(void *)out->sockaddr;
  if (inet_pton(AF_INET, host, &in->sin_addr) != 1) return SEGUE_EUSAGE;
  in->sin_family = AF_INET;
  in->sin_port = htons(port);
  out->loopback = ntohl(in->sin_addr.s_addr) >> 24 == 127;
  snprintf(out->text, sizeof out->text, "%s:%u", host, port);
  return 0;
}

static int set_ipv6(const char *host, uint16_t port, segue__http_address *out) {
  struct sockaddr_in6 *in = (struct sockaddr_in6 *)(void *)out->sockaddr;
  char plain[INET6_ADDRSTRLEN];
  if (inet_pton(AF_INET6, host, &in->sin6_addr) != 1 || IN6_IS_ADDR_V4MAPPED(&in->sin6_addr))
    return SEGUE_EUSAGE;
  in->sin6_family = AF_INET6;
  in->sin6_port = htons(port);
  out->loopback = IN6_IS_ADDR_LOOPBACK(&in->sin6_addr);
  inet_ntop(AF_INET6, &in->sin6_addr, plain, sizeof plain);
  snprintf(out->text, sizeof out->text, "[%s]:%u", plain, port);
  return 0;
}

/* Splits "host:port" or "[host]:port"; false if it has neither shape. */
static bool address_split(const char *text, char *host, size_t size, const char **port,
                          bool *brackets) {
  const char *colon = strrchr(text, ':');
  *brackets = text[0] == '[';
  if (!colon || colon == text) return false;
  const char *start = text + *brackets, *end = colon - *brackets;
  if (end <= start || (*brackets && *end != ']') || (size_t)(end - start) >= size) return false;
  if (!*brackets && memchr(start, ':', (size_t)(end - start))) return false;
  memcpy(host, start, (size_t)(end - start));
  host[end - start] = 0;
  *port = colon + 1;
  return true;
}

int segue__http_address_parse(const char *text, segue__http_address *out, segue_error *err) {
  char host[64];
  const char *port_text;
  uint16_t port;
  bool brackets;
  memset(out, 0, sizeof *out);
  if (strncmp(text, "unix:", 5) == 0) return parse_unix(text, out, err);
  if (!address_split(text, host, sizeof host, &port_text, &brackets))
    return segue__errorf(err, SEGUE_EUSAGE,
                         "\"%.100s\" is not an address: write 127.0.0.1:7377, [::1]:7377, "
                         "localhost:7377 or unix:/run/name.sock",
                         text);
  if (!parse_port(port_text, &port))
    return segue__errorf(err, SEGUE_EUSAGE,
                         "the port of \"%.100s\" is not a number from 0 to 65535", text);
  if (!brackets && strcasecmp(host, "localhost") == 0) strcpy(host, "127.0.0.1");
  if ((brackets ? set_ipv6 : set_ipv4)(host, port, out) != 0)
    return segue__errorf(err, SEGUE_EUSAGE,
                         "\"%.100s\" is not a numeric address: names are not looked up here, "
                         "write 127.0.0.1, 0.0.0.0, [::1] or another address of this machine",
                         text);
  out->port = port;
  return 0;
}
