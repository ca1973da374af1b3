/* SPDX-License-Identifier: MIT
 *
 * tls.h: TLS 1.2 and 1.3 of both sides, without sockets: bytes of the network go in and out by
 * calls, so that the connection decides when something is read and written. OpenSSL is loaded by
 * the first context. Connections of any thread share a context; each connection is used on one
 * thread, that of its server.
 */
#ifndef SEGUE_HTTP_TLS_H
#define SEGUE_HTTP_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../os/error.h"
#include "../os/os.h"

/* One file's bytes, and the name that errors call it by. len 0: there is none. */
typedef struct segue__tls_file {
  const char *name, *data;
  size_t len;
} segue__tls_file;

typedef struct segue__tls_options {
  size_t size;
  segue__tls_file cert;      /* PEM: the certificate, then what leads to its CA */
  segue__tls_file key;       /* PEM, not encrypted */
  segue__tls_file client_ca; /* PEM: the CA that signs clients; none: clients show no certificate */
  bool client_optional;      /* a client without one is let in */
} segue__tls_options;

/* Key, certificate and rules, for any number of connections. Counted. */
typedef struct segue__tls_context segue__tls_context;
/* SEGUE_EPOLICY: a file cannot be used, err names it and the reason; UV_ENOSYS: OpenSSL is not
 * installed; UV_ENOMEM. */
int segue__tls_context_new(segue__tls_context **out, const segue__tls_options *options,
                           segue_error *err);
/* The same from files, each read by `read`, with the path as its name. */
typedef struct segue__tls_paths {
  const char *cert, *key, *client_ca; /* client_ca may be NULL */
  bool client_optional;
} segue__tls_paths;
typedef int segue__tls_read_file(void *data, const char *path, bool secret, segue__bytes *out,
                                 segue_error *err);
int segue__tls_context_load(segue__tls_context **out, const segue__tls_paths *paths,
                            segue__tls_read_file *read, void *data, segue_error *err);
/* Whom a connection that segue opens trusts, and the certificate that it shows. A file whose name
 * is NULL is not given; without ca the authorities of the system are trusted. */
typedef struct segue__tls_outbound {
  segue__tls_file ca, cert, key;
  bool insecure; /* the server is not verified */
} segue__tls_outbound;
/* [any thread] Results as of segue__tls_context_new. */
int segue__tls_outbound_new(segue__tls_context **out, const segue__tls_outbound *options,
                            segue_error *err);
/* [any thread] */
segue__tls_context *segue__tls_context_ref(segue__tls_context *context);
void segue__tls_context_unref(segue__tls_context *context); /* NULL allowed */
/* Returns whether clients must send a certificate. */
bool segue__tls_context_asks(const segue__tls_context *context);
/* The subject of the certificate, in one line; and the time when the certificate, or one of its
 * chain, expires (seconds since 1970). Borrowed. */
const char *segue__tls_context_subject(const segue__tls_context *context);
int64_t segue__tls_context_expires(const segue__tls_context *context);

/* A certificate in use, and the last warning about its age. */
typedef struct segue__tls_notice {
  const char *address;
  const segue__tls_context *context; /* NULL: plain */
  int warned;                        /* 1 it expires soon, 2 it has expired */
  uint64_t warned_ms;
} segue__tls_notice;

/* Names of different kinds are different names: the mail address "ops" of one certificate is not
 * the common name "ops" of another. So a name never goes anywhere without its kind. */
typedef enum segue__name_kind {
  SEGUE__NAME_SUBJECT, /* the whole subject in one line, where it has no common name */
  SEGUE__NAME_CN,
  SEGUE__NAME_DNS,
  SEGUE__NAME_MAIL,
  SEGUE__NAME_URI,
  SEGUE__NAME_KINDS
} segue__name_kind;

/* Names of a client's verified certificate, as a list of: one byte for the kind, text, zero byte.
 * The first one is the common name or the subject. Counted. */
typedef struct segue__tls_client {
  int refs; /* atomic */
  size_t len;
  char names[];
} segue__tls_client;

typedef struct segue__tls_name {
  segue__name_kind kind;
  const char *text; /* borrowed; NULL before the first one */
} segue__tls_name;
/* Moves on to the first or next name. Returns false if there is none; client may be NULL. */
bool segue__tls_name_next(const segue__tls_client *client, segue__tls_name *name);
/* "cn", "dns" ...: as policies write it, and segue_request_client_kind() returns it. */
const char *segue__name_kind_text(segue__name_kind kind);
/* [any thread] NULL allowed. */
segue__tls_client *segue__tls_client_ref(segue__tls_client *client);
void segue__tls_client_unref(segue__tls_client *client);

/* One connection. */
typedef struct segue__tls segue__tls;
int segue__tls_new(segue__tls **out, segue__tls_context *context); /* takes a reference */
/* The side of the client, with a context of segue__tls_outbound_new. name: the host name or address
 * that the certificate of the server must have. */
int segue__tls_connect(segue__tls **out, segue__tls_context *context, const char *name);
void segue__tls_free(segue__tls *tls); /* NULL allowed */
/* Adds bytes from the network. Returns 0 or UV_ENOMEM. */
int segue__tls_feed(segue__tls *tls, const char *data, size_t len);
/* Continues with the handshake: 0 it is over, UV_EAGAIN more has to come, UV_EPROTO it failed. */
int segue__tls_handshake(segue__tls *tls);
bool segue__tls_established(const segue__tls *tls);
/* Plain bytes, more than 0; UV_EAGAIN: none yet; UV_EOF: the other side has ended; UV_EPROTO.
 * After the handshake. */
int segue__tls_read(segue__tls *tls, char *buf, size_t size);
/* Returns whether bytes that were fed have not been read yet. */
bool segue__tls_buffered(const segue__tls *tls);
/* Encrypts all of it. 0, UV_ENOMEM, UV_EPROTO. */
int segue__tls_write(segue__tls *tls, const char *data, size_t len);
/* Appends close_notify to the outgoing bytes. */
void segue__tls_end(segue__tls *tls);
/* The bytes to send to the network; borrowed until the next call. taken: they were sent. */
size_t segue__tls_outgoing(const segue__tls *tls, char **data);
void segue__tls_taken(segue__tls *tls);
/* Why it failed, in words. */
const char *segue__tls_why(const segue__tls *tls);
/* NULL: the client showed no certificate. */
segue__tls_client *segue__tls_peer(const segue__tls *tls);

#endif
