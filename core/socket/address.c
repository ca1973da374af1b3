/* SPDX-License-Identifier: MIT
 *
 * Addresses of listening sockets: text to sockaddr, and sockaddr to its normalised text. A socket
 * that another process passes on is named by the same function as an address of a policy, so that
 * the two can be compared as texts.
 */
#include "address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <uv.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

/* ---- Names of sockaddrs ---------------------------------------------------------------------- */

static const char *address_prefix(const segue__address *address) {
  return address->type == SEGUE__SOCKET_UDP ? "udp://" : "";
}

static void address_name_ipv4(segue__address *out) {
  struct sockaddr_in *in = (struct sockaddr_in *)(void *)out->sockaddr;
  char host[INET_ADDRSTRLEN];
  inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
  out->port = ntohs(in->sin_port);
  out->loopback = ntohl(in->sin_addr.s_addr) >> 24 == 127;
  out->sockaddr_size = sizeof *in;
  snprintf(out->text, sizeof out->text, "%s%s:%u", address_prefix(out), host, out->port);
}

/* A link-local address exists on each interface, so the scope (the interface) is a part of the
 * socket's name. */
static void address_name_ipv6(segue__address *out) {
  struct sockaddr_in6 *in = (struct sockaddr_in6 *)(void *)out->sockaddr;
  char host[INET6_ADDRSTRLEN], scope[16] = "";
  inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof host);
  if (in->sin6_scope_id) snprintf(scope, sizeof scope, "%%%u", (unsigned)in->sin6_scope_id);
  out->port = ntohs(in->sin6_port);
  out->loopback = IN6_IS_ADDR_LOOPBACK(&in->sin6_addr);
  out->sockaddr_size = sizeof *in;
  snprintf(out->text, sizeof out->text, "%s[%s%s]:%u", address_prefix(out), host, scope, out->port);
}

void segue__address_set_port(segue__address *address, uint16_t port) {
  struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)address->sockaddr;
  in6->sin6_port = htons(port); /* struct sockaddr_in has it in the same place */
  if (in6->sin6_family == AF_INET)
    address_name_ipv4(address);
  else
    address_name_ipv6(address);
}

/* Copies a path in normal form: "//" and "/./" become one slash. Returns false for "..", because
 * symbolic links decide where that leads, and for a path that names no file. */
static bool address_clean_path(const char *path, char *out, size_t size) {
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

static void address_set_unix(segue__address *out) {
  struct sockaddr_un *un = (struct sockaddr_un *)(void *)out->sockaddr;
  size_t len = strlen(out->path);
  un->sun_family = AF_UNIX;
  memset(un->sun_path, 0, sizeof un->sun_path);
  memcpy(un->sun_path + out->is_abstract, out->path, len);
  out->type = SEGUE__SOCKET_UNIX;
  out->loopback = true;
  out->sockaddr_size =
      (uint32_t)(out->is_abstract ? offsetof(struct sockaddr_un, sun_path) + 1 + len : sizeof *un);
  snprintf(out->text, sizeof out->text, "unix:%s%s", out->is_abstract ? "@" : "", out->path);
}

/* ---- Sockets --------------------------------------------------------------------------------- */

static int address_option(int fd, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  return getsockopt(fd, SOL_SOCKET, name, &value, &size) == 0 ? value : -1;
}

/* Names an IPv4 address inside IPv6 (::ffff:127.0.0.1) as the IPv4 address, because clients reach
 * the same socket by it. */
static void address_unmap(segue__address *out) {
  struct sockaddr_in6 in;
  memcpy(&in, out->sockaddr, sizeof in);
  if (!IN6_IS_ADDR_V4MAPPED(&in.sin6_addr)) {
    address_name_ipv6(out);
    return;
  }
  struct sockaddr_in plain = {.sin_family = AF_INET, .sin_port = in.sin6_port};
  memcpy(&plain.sin_addr, in.sin6_addr.s6_addr + 12, sizeof plain.sin_addr);
  memset(out->sockaddr, 0, sizeof out->sockaddr);
  memcpy(out->sockaddr, &plain, sizeof plain);
  address_name_ipv4(out);
}

static int address_of_inet(int fd, int family, segue__address *out) {
  int type = address_option(fd, SO_TYPE), protocol = address_option(fd, SO_PROTOCOL);
  bool tcp = type == SOCK_STREAM && (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP);
  if (!tcp && !(type == SOCK_DGRAM && protocol == IPPROTO_UDP)) return UV_ENOTSUP;
  out->type = tcp ? SEGUE__SOCKET_TCP : SEGUE__SOCKET_UDP;
  if (family == AF_INET)
    address_name_ipv4(out);
  else
    address_unmap(out);
  return 0;
}

/* The length decides where an abstract name ends, because it may contain any byte. A name with a
 * zero byte has no text form, so no policy can name it: it is rejected. A socket without a name has
 * no path at all. */
static int address_of_unix(int fd, socklen_t size, segue__address *out) {
  const struct sockaddr_un *un = (struct sockaddr_un *)(void *)out->sockaddr;
  size_t head = offsetof(struct sockaddr_un, sun_path), len = size > head ? size - head : 0;
  char name[sizeof un->sun_path + 1] = "";
  if (address_option(fd, SO_TYPE) != SOCK_STREAM || !len || len > sizeof un->sun_path)
    return UV_ENOTSUP;
  out->is_abstract = un->sun_path[0] == 0;
  memcpy(name, un->sun_path + out->is_abstract, len - out->is_abstract);
  if (out->is_abstract ? strlen(name) != len - 1
                       : name[0] != '/' || !address_clean_path(name, out->path, sizeof out->path))
    return UV_ENOTSUP;
  if (out->is_abstract) memcpy(out->path, name, len);
  address_set_unix(out);
  return 0;
}

int segue__address_of_fd(int fd, segue__address *out) {
  socklen_t size = sizeof out->sockaddr;
  memset(out, 0, sizeof *out);
  if (getsockname(fd, (struct sockaddr *)(void *)out->sockaddr, &size) != 0)
    return uv_translate_sys_error(errno);
  const struct sockaddr *sockaddr = (const struct sockaddr *)(const void *)out->sockaddr;
  int family = sockaddr->sa_family;
  if (family == AF_UNIX) return address_of_unix(fd, size, out);
  return family == AF_INET || family == AF_INET6 ? address_of_inet(fd, family, out) : UV_ENOTSUP;
}

/* ---- Texts ----------------------------------------------------------------------------------- */

/* Digits without sign or leading zeros, at most 65535. */
static bool address_parse_port(const char *s, uint16_t *out) {
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

static int address_parse_unix(const char *text, segue__address *out, segue_error *err) {
  const char *path = text + strlen("unix:");
  out->is_abstract = path[0] == '@' && path[1];
  if (!out->is_abstract && *path != '/')
    return segue__errorf(err, SEGUE_EUSAGE,
                         "\"%s\" is not an absolute path: write unix:/run/name.sock", text);
  if (strlen(path) >= sizeof out->path)
    return segue__errorf(err, SEGUE_EUSAGE,
                         "\"%s\" is too long for a unix socket: use a path of at most %zu bytes",
                         text, sizeof out->path - 1);
  if (out->is_abstract)
    snprintf(out->path, sizeof out->path, "%s", path + 1);
  else if (path[strlen(path) - 1] == '/' || !address_clean_path(path, out->path, sizeof out->path))
    return segue__errorf(err, SEGUE_EUSAGE,
                         "\"%s\" does not name a socket: write its whole path, without \"..\"",
                         text);
  address_set_unix(out);
  return 0;
}

static int address_set_ipv4(const char *host, uint16_t port, segue__address *out) {
  struct sockaddr_in *in = (struct sockaddr_in *)(void *)out->sockaddr;
  if (inet_pton(AF_INET, host, &in->sin_addr) != 1) return SEGUE_EUSAGE;
  in->sin_family = AF_INET;
  in->sin_port = htons(port);
  address_name_ipv4(out);
  return 0;
}

static int address_set_ipv6(const char *host, uint16_t port, segue__address *out) {
  struct sockaddr_in6 *in = (struct sockaddr_in6 *)(void *)out->sockaddr;
  if (inet_pton(AF_INET6, host, &in->sin6_addr) != 1 || IN6_IS_ADDR_V4MAPPED(&in->sin6_addr))
    return SEGUE_EUSAGE;
  in->sin6_family = AF_INET6;
  in->sin6_port = htons(port);
  address_name_ipv6(out);
  return 0;
}

/* Splits "host:port" or "[host]:port"; returns false if it has neither shape. */
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

static segue__socket_type address_scheme(const char **text) {
  bool udp = strncmp(*text, "udp://", 6) == 0;
  if (udp || strncmp(*text, "tcp://", 6) == 0) *text += 6;
  return udp ? SEGUE__SOCKET_UDP : SEGUE__SOCKET_TCP;
}

int segue__address_parse(const char *text, segue__address *out, segue_error *err) {
  char host[64];
  const char *rest = text, *port_text;
  uint16_t port;
  bool brackets;
  memset(out, 0, sizeof *out);
  if (strncmp(text, "unix:", 5) == 0) return address_parse_unix(text, out, err);
  out->type = address_scheme(&rest);
  if (!address_split(rest, host, sizeof host, &port_text, &brackets))
    return segue__errorf(err, SEGUE_EUSAGE,
                         "\"%.100s\" is not an address: write 127.0.0.1:7377, [::1]:7377, "
                         "localhost:7377 or unix:/run/name.sock",
                         text);
  if (!address_parse_port(port_text, &port))
    return segue__errorf(err, SEGUE_EUSAGE,
                         "the port of \"%.100s\" is not a number from 0 to 65535", text);
  if (!brackets && strcasecmp(host, "localhost") == 0) strcpy(host, "127.0.0.1");
  if ((brackets ? address_set_ipv6 : address_set_ipv4)(host, port, out) != 0)
    return segue__errorf(err, SEGUE_EUSAGE,
                         "\"%.100s\" is not a numeric address: names are not looked up here, "
                         "write 127.0.0.1, 0.0.0.0, [::1] or another address of this machine",
                         text);
  return 0;
}
