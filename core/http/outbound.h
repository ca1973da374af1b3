/* SPDX-License-Identifier: MIT
 *
 * outbound.h: a connection that segue opens, over TCP, TLS or a unix socket, for protocols other
 * than HTTP. Bytes go both ways on the loop, without a signal (SIGPIPE) and without blocking; name
 * look-ups are not done here. Everything is called on the control thread.
 */
#ifndef SEGUE_HTTP_OUTBOUND_H
#define SEGUE_HTTP_OUTBOUND_H

#include <sys/socket.h>

#include "../os/error.h"
#include "../os/loop.h"
#include "tls.h"

typedef struct segue__outbound segue__outbound;

/* An address as a policy writes it. */
typedef struct segue__outbound_address {
  char host[256];        /* a name or a numeric address; empty: a unix socket */
  unsigned char port[2]; /* big endian */
  char path[108];        /* of a unix socket; "@name" is an abstract name */
} segue__outbound_address;
/* Understands "host:port", "[::1]:port", the same after "tcp://", "unix:/path" and "unix:@name".
 * Returns 0 or SEGUE_EUSAGE. */
int segue__outbound_parse(const char *text, segue__outbound_address *out, segue_error *err);
/* Writes the socket address of a numeric address. Returns false if it is none. */
bool segue__outbound_numeric(const char *address, const segue__outbound_address *of,
                             struct sockaddr_storage *out);

typedef struct segue__outbound_options {
  size_t size;
  const char *shown;                        /* the address, for messages; borrowed to the end */
  const char *path;                         /* a unix socket, or NULL; */
  const struct sockaddr_storage *addresses; /* else these, in order, until one accepts; copied */
  size_t count;
  segue__tls_context *tls; /* of segue__tls_outbound_new; or NULL */
  const char *name;        /* that the server's certificate must have; copied by OpenSSL */
  uint64_t connect_ms;     /* for all addresses and the handshake; not 0 */
  /* Once: it is open, or it failed. After a failure nothing else is called. */
  void (*on_open)(void *data, int status, const segue_error *err);
  void (*on_data)(void *data, const char *bytes, size_t len);
  void (*on_sent)(void *data); /* some bytes were given to the kernel */
  /* Once: it cannot be used any more. UV_EOF: the other side has closed it. */
  void (*on_end)(void *data, int code, const segue_error *err);
  void *data;
} segue__outbound_options;

/* On failure nothing is held and no callback runs; else no callback runs before it returned. */
int segue__outbound_open(segue__outbound **out, segue__loop *loop,
                         const segue__outbound_options *options, segue_error *err);
/* While it is paused no bytes are read. */
void segue__outbound_pause(segue__outbound *o, bool pause);
/* Adds bytes to what is to be sent. Returns 0, or UV_ENOMEM, UV_EPROTO. */
int segue__outbound_write(segue__outbound *o, const char *bytes, size_t len);
/* How many bytes were added, and how many of these the kernel has, TLS included. */
uint64_t segue__outbound_added(const segue__outbound *o);
uint64_t segue__outbound_sent(const segue__outbound *o);
/* No callback but cb runs any more; cb runs, from the loop, when its memory is freed. NULL:
 * nothing happens. */
void segue__outbound_close(segue__outbound *o, void (*cb)(void *data), void *data);

#endif
