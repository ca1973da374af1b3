/* SPDX-License-Identifier: MIT
 *
 * connect_internal.h: a connection of segue.connect and the operations on it, shared only by
 * connect.c (reads, writes, the end, Lua) and connect_open.c (the steps until it is open).
 */
#ifndef SEGUE_BIND_CONNECT_INTERNAL_H
#define SEGUE_BIND_CONNECT_INTERNAL_H

#include "../../http/outbound.h"
#include "look_up.h"

typedef struct segue__connect_io segue__connect_io;

typedef struct segue__connection {
  size_t refs;
  segue__lua *lua; /* NULL: its state released it */
  segue__async_io *async_io;
  char *address, *ca, *cert, *key, *server_name;
  segue__outbound_address parsed;
  bool tls, insecure, opened, usable, is_fake, counted;
  uint64_t connect_ms, max_bytes;
  size_t charged;
  segue__outbound *out;
  segue__buf in;
  size_t in_at;               /* bytes before it were read */
  segue__connect_io *reader;  /* NULL: no task reads */
  segue__connect_io *writers; /* in the order of their bytes */
  segue__message message;     /* wakes both after the end */
  bool posted;
  segue_error end; /* why nothing can be written, or read behind the bytes that came */
} segue__connection;

typedef enum segue__connect_purpose {
  SEGUE__CONNECT_OPEN,
  SEGUE__CONNECT_READ,
  SEGUE__CONNECT_WRITE
} segue__connect_purpose;

struct segue__connect_io {
  segue__io io; /* first */
  segue__connect_purpose purpose;
  segue__connection *c;
  uint64_t limit_ms;
  segue__timer limit;
  /* OPEN */
  segue__look_up *look;
  segue__job job;
  bool found_host; /* the look-up has returned */
  bool working;    /* the job runs */
  segue__tls_context *context;
  segue_error failure; /* written by the worker thread */
  /* READ: count bytes, or until the delimiter, or what there is. */
  size_t count;
  char *delimiter;
  size_t delimiter_len, scanned;
  size_t found, skip; /* the result in c->in: found bytes, then skip that are dropped */
  bool complete;
  /* WRITE */
  char *bytes;
  size_t len;
  uint64_t until; /* segue__outbound_sent when the kernel has all of it */
  segue__connect_io *next;
};

/* connect.c: callbacks of the socket. */
void segue__connection_on_data(void *data, const char *bytes, size_t len);
void segue__connection_on_sent(void *data);
void segue__connection_on_end(void *data, int code, const segue_error *err);
/* The last step of closing the socket, which has a reference until then. */
void segue__connection_closed(void *data);
/* Ends everything that the connection uses outside of Lua. */
void segue__connection_shut(segue__connection *c);

/* connect_open.c: the operation that opens. */
void segue__connect_open_start(segue__connect_io *o);
void segue__connect_open_stop(segue__connect_io *o);

#endif
