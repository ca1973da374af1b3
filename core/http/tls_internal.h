/* SPDX-License-Identifier: MIT
 *
 * tls_internal.h: the inside of a TLS context, shared only by tls.c (the server's contexts, and
 * connections of both sides) and tls_outbound.c (contexts for connections that segue opens).
 */
#ifndef SEGUE_HTTP_TLS_INTERNAL_H
#define SEGUE_HTTP_TLS_INTERNAL_H

#include <uv.h>

#include "../os/mem.h"
#include "openssl.h"
#include "tls.h"

enum { SEGUE__TLS_SUBJECT_MAX = 256 };

struct segue__tls_context {
  long refs; /* atomic */
  const segue__openssl *ssl;
  SSL_CTX *ctx;
  bool asks; /* for a certificate of the client */
  char subject[SEGUE__TLS_SUBJECT_MAX];
  int64_t expires;
};

struct segue__tls {
  segue__tls_context *context;
  SSL *ssl;
  BIO *in, *out; /* the SSL's */
  bool outbound, established;
  const char *why;
  segue__tls_client *client;
};

/* Loads OpenSSL and calls fill for a new context; name: for the error message without memory. */
int segue__tls_context_make(segue__tls_context **out, const char *name,
                            int (*fill)(segue__tls_context *c, const void *options,
                                        segue_error *err),
                            const void *options, segue_error *err);
/* Calls take for each certificate of a file. A file without a certificate is an error. */
int segue__tls_each_certificate(segue__tls_context *c, const segue__tls_file *file,
                                const char *what,
                                bool (*take)(segue__tls_context *c, X509 *x509, bool first),
                                segue_error *err);
bool segue__tls_use_certificate(segue__tls_context *c, X509 *x509, bool first);
int segue__tls_use_key(segue__tls_context *c, const segue__tls_file *key_file,
                       const segue__tls_file *cert, segue_error *err);
int segue__tls_no_passphrase(char *buf, int size, int writing, void *data);
/* A connection that has no side yet. */
int segue__tls_make(segue__tls **out, segue__tls_context *context);

#endif
