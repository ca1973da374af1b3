/* SPDX-License-Identifier: MIT
 *
 * TLS for connections that segue opens: whom it trusts, and which certificate it shows. The bytes
 * come and go as for the server's connections (tls.c).
 */
#include <arpa/inet.h>
#include <string.h>

#include "tls_internal.h"

static bool outbound_trust(segue__tls_context *c, X509 *x509, bool first) {
  (void)first;
  return c->ssl->X509_STORE_add_cert(c->ssl->SSL_CTX_get_cert_store(c->ctx), x509) == 1;
}

/* A ca replaces the authorities of the system. A session is never resumed: a resumed one is not
 * verified again, so that a replaced ca would have no effect. */
static int outbound_fill(segue__tls_context *c, const void *given, segue_error *err) {
  const segue__tls_outbound *options = given;
  const segue__openssl *o = c->ssl;
  c->ctx = o->SSL_CTX_new(o->TLS_client_method());
  if (!c->ctx || o->SSL_CTX_ctrl(c->ctx, SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_2_VERSION, NULL) != 1)
    return segue__errorf(err, UV_ENOMEM, "TLS cannot be set up");
  o->SSL_CTX_set_options(c->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  o->SSL_CTX_ctrl(c->ctx, SSL_CTRL_MODE, SSL_MODE_RELEASE_BUFFERS, NULL);
  o->SSL_CTX_ctrl(c->ctx, SSL_CTRL_SET_SESS_CACHE_MODE, SSL_SESS_CACHE_OFF, NULL);
  o->SSL_CTX_set_default_passwd_cb(c->ctx, segue__tls_no_passphrase);
  o->SSL_CTX_set_verify(c->ctx, options->insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
  int rc = 0;
  if (options->ca.name) {
    o->X509_STORE_set_flags(o->SSL_CTX_get_cert_store(c->ctx), X509_V_FLAG_PARTIAL_CHAIN);
    rc = segue__tls_each_certificate(c, &options->ca, "a CA", outbound_trust, err);
  } else if (!options->insecure) {
    o->SSL_CTX_set_default_verify_paths(c->ctx);
  }
  if (rc || !options->cert.name) return rc;
  rc = segue__tls_each_certificate(c, &options->cert, "a certificate", segue__tls_use_certificate,
                                   err);
  return rc ? rc : segue__tls_use_key(c, &options->key, &options->cert, err);
}

int segue__tls_outbound_new(segue__tls_context **out, const segue__tls_outbound *options,
                            segue_error *err) {
  return segue__tls_context_make(out, "TLS", outbound_fill, options, err);
}

/* An address has no place in SNI (RFC 6066), and a certificate has it in a field of its own. */
int segue__tls_connect(segue__tls **out, segue__tls_context *context, const char *name) {
  const segue__openssl *o = context->ssl;
  unsigned char number[16];
  bool is_address = inet_pton(AF_INET, name, number) == 1 || inet_pton(AF_INET6, name, number) == 1;
  int rc = segue__tls_make(out, context);
  if (rc) return rc;
  SSL *ssl = (*out)->ssl;
  (*out)->outbound = true;
  o->SSL_set_connect_state(ssl);
  bool good = is_address ? o->X509_VERIFY_PARAM_set1_ip_asc(o->SSL_get0_param(ssl), name) == 1
                         : o->SSL_set1_host(ssl, name) == 1 &&
                               o->SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME,
                                           TLSEXT_NAMETYPE_host_name, (void *)name) == 1;
  if (good) return 0;
  o->ERR_clear_error();
  segue__tls_free(*out);
  *out = NULL;
  return UV_ENOMEM;
}
