/* SPDX-License-Identifier: MIT
 *
 * TLS on OpenSSL's memory BIOs: TLS 1.2 and up, ciphers with forward secrecy and authentication
 * only, no compression, no renegotiation (a client's attempt is refused), HTTP/1.1 by ALPN. Session
 * tickets belong to a context: a new certificate or CA means new keys for them, so that a client
 * cannot resume a session that the old ones allowed.
 *
 * OpenSSL's queue of errors belongs to the thread, and SSL_get_error looks at it: an error that
 * another call left there would make a good connection fail. So the queue is cleared before each
 * operation.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tls_internal.h"

enum { OUTGOING_KEEP = 65536, NAMES_MAX = 4096 };

/* ---- Contexts -------------------------------------------------------------------------------- */

static const char *tls_reason(const segue__openssl *o) {
  const char *text = o->ERR_reason_error_string(o->ERR_peek_last_error());
  return text ? text : "not in the PEM format";
}

int segue__tls_refuse(const segue__tls_context *c, const segue__tls_file *file, const char *what,
                      segue_error *err) {
  segue__errorf(err, SEGUE_EPOLICY, "%s cannot be used as %s: %s", file->name, what,
                tls_reason(c->ssl));
  segue__error_set_place(err, file->name, 0, 0);
  c->ssl->ERR_clear_error();
  return SEGUE_EPOLICY;
}

static BIO *tls_open_file(const segue__tls_context *c, const segue__tls_file *file) {
  return c->ssl->BIO_new_mem_buf(file->data, (int)file->len);
}

/* Keeps the earliest end of all certificates in the chain: clients refuse the chain from then on.
 */
static void note_expiry(segue__tls_context *c, const X509 *x509) {
  struct tm tm;
  if (c->ssl->ASN1_TIME_to_tm(c->ssl->X509_get0_notAfter(x509), &tm) != 1) return;
  int64_t at = timegm(&tm);
  if (!c->expires || at < c->expires) c->expires = at;
}

/* The context takes a reference of its own to the certificate, but not to the ones that are added
 * to the chain. */
bool segue__tls_use_certificate(segue__tls_context *c, X509 *x509, bool first) {
  note_expiry(c, x509);
  if (!first) return c->ssl->SSL_CTX_ctrl(c->ctx, SSL_CTRL_CHAIN_CERT, 1, x509) == 1;
  c->ssl->X509_NAME_oneline(c->ssl->X509_get_subject_name(x509), c->subject, sizeof c->subject);
  return c->ssl->SSL_CTX_use_certificate(c->ctx, x509) == 1;
}

static bool add_authority(segue__tls_context *c, X509 *x509, bool first) {
  (void)first;
  return c->ssl->X509_STORE_add_cert(c->ssl->SSL_CTX_get_cert_store(c->ctx), x509) == 1 &&
         c->ssl->SSL_CTX_add_client_CA(c->ctx, x509) == 1;
}

/* Calls take for each certificate of a file. A file without a certificate is an error. */
int segue__tls_each_certificate(segue__tls_context *c, const segue__tls_file *file,
                                const char *what,
                                bool (*take)(segue__tls_context *c, X509 *x509, bool first),
                                segue_error *err) {
  BIO *bio = tls_open_file(c, file);
  if (!bio) return segue__errorf(err, UV_ENOMEM, "%s: out of memory", file->name);
  size_t count = 0;
  bool good = true;
  X509 *x509;
  c->ssl->ERR_clear_error();
  while (good && (x509 = c->ssl->PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
    good = take(c, x509, count++ == 0);
    c->ssl->X509_free(x509);
  }
  /* OpenSSL reports the end of the file as an error: the only one that is no fault. */
  unsigned long last = c->ssl->ERR_peek_last_error();
  bool ended = ERR_GET_LIB(last) == ERR_LIB_PEM && ERR_GET_REASON(last) == PEM_R_NO_START_LINE;
  int rc = good && count && ended ? 0 : segue__tls_refuse(c, file, what, err);
  c->ssl->BIO_free(bio);
  c->ssl->ERR_clear_error();
  return rc;
}

int segue__tls_no_passphrase(char *buf, int size, int writing, void *data) {
  (void)buf, (void)size, (void)writing, (void)data;
  return -1;
}

int segue__tls_use_key(segue__tls_context *c, const segue__tls_file *key_file,
                       const segue__tls_file *cert, segue_error *err) {
  const segue__openssl *o = c->ssl;
  BIO *bio = tls_open_file(c, key_file);
  if (!bio) return segue__errorf(err, UV_ENOMEM, "%s: out of memory", key_file->name);
  EVP_PKEY *key = o->PEM_read_bio_PrivateKey(bio, NULL, segue__tls_no_passphrase, NULL);
  o->BIO_free(bio);
  if (!key && memmem(key_file->data, key_file->len, "ENCRYPTED", 9)) {
    o->ERR_clear_error();
    segue__errorf(err, SEGUE_EPOLICY,
                  "%s is encrypted, and a daemon cannot ask for a passphrase: store the key "
                  "without one, readable for this user only",
                  key_file->name);
    segue__error_set_place(err, key_file->name, 0, 0);
    return SEGUE_EPOLICY;
  }
  if (!key) return segue__tls_refuse(c, key_file, "a private key", err);
  bool good = o->SSL_CTX_use_PrivateKey(c->ctx, key) == 1 && o->SSL_CTX_check_private_key(c->ctx);
  o->EVP_PKEY_free(key);
  if (good) return 0;
  o->ERR_clear_error();
  segue__errorf(err, SEGUE_EPOLICY,
                "the key in %s does not belong to the certificate in %s: replace both together",
                key_file->name, cert->name);
  segue__error_set_place(err, key_file->name, 0, 0);
  return SEGUE_EPOLICY;
}

/* The handshake refuses clients that offer ALPN without HTTP/1.1 (RFC 7301). */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *in, unsigned in_len, void *data) {
  static const unsigned char http11[] = "http/1.1";
  (void)ssl, (void)data;
  for (unsigned i = 0; i < in_len; i += in[i] + 1u) {
    if (in[i] != sizeof http11 - 1 || i + 1 + in[i] > in_len) continue;
    if (memcmp(in + i + 1, http11, in[i]) != 0) continue;
    *out = in + i + 1;
    *out_len = in[i];
    return SSL_TLSEXT_ERR_OK;
  }
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* SSL_MODE_RELEASE_BUFFERS frees the record buffers of idle connections. The session id context is
 * required where clients are verified: OpenSSL fails the handshake of a client that resumes a
 * session without it. */
static bool tls_set_rules(segue__tls_context *c) {
  const segue__openssl *o = c->ssl;
  static const unsigned char id[] = "segue";
  o->SSL_CTX_set_options(c->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                     SSL_OP_PRIORITIZE_CHACHA | SSL_OP_NO_COMPRESSION);
  o->SSL_CTX_ctrl(c->ctx, SSL_CTRL_MODE, SSL_MODE_RELEASE_BUFFERS, NULL);
  o->SSL_CTX_set_alpn_select_cb(c->ctx, choose_protocol, NULL);
  o->SSL_CTX_set_default_passwd_cb(c->ctx, segue__tls_no_passphrase);
  return o->SSL_CTX_ctrl(c->ctx, SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_2_VERSION, NULL) == 1 &&
         o->SSL_CTX_set_cipher_list(c->ctx, "ECDHE+AESGCM:ECDHE+CHACHA20") == 1 &&
         o->SSL_CTX_set_session_id_context(c->ctx, id, sizeof id - 1) == 1;
}

static int tls_fill(segue__tls_context *c, const void *given, segue_error *err) {
  const segue__tls_options *options = given;
  c->ctx = c->ssl->SSL_CTX_new(c->ssl->TLS_server_method());
  if (!c->ctx || !tls_set_rules(c)) return segue__errorf(err, UV_ENOMEM, "TLS cannot be set up");
  int rc = segue__tls_each_certificate(c, &options->cert, "a certificate",
                                       segue__tls_use_certificate, err);
  if (!rc) rc = segue__tls_use_key(c, &options->key, &options->cert, err);
  if (rc || !options->client_ca.len) return rc;
  c->asks = !options->client_optional;
  c->ssl->SSL_CTX_set_verify(
      c->ctx, SSL_VERIFY_PEER | (options->client_optional ? 0 : SSL_VERIFY_FAIL_IF_NO_PEER_CERT),
      NULL);
  /* A certificate that is named here is trusted, also one of an authority that another one has
   * signed. */
  c->ssl->X509_STORE_set_flags(c->ssl->SSL_CTX_get_cert_store(c->ctx), X509_V_FLAG_PARTIAL_CHAIN);
  return segue__tls_each_certificate(c, &options->client_ca, "the CA of clients", add_authority,
                                     err);
}

int segue__tls_context_make(segue__tls_context **out, const char *name,
                            int (*fill)(segue__tls_context *c, const void *options,
                                        segue_error *err),
                            const void *options, segue_error *err) {
  *out = NULL;
  const segue__openssl *o = segue__openssl_load(err);
  if (!o) return UV_ENOSYS;
  segue__tls_context *c = segue__calloc(1, sizeof *c);
  if (!c) return segue__errorf(err, UV_ENOMEM, "%s: out of memory", name);
  c->refs = 1;
  c->ssl = o;
  o->ERR_clear_error();
  int rc = fill(c, options, err);
  if (rc < 0)
    segue__tls_context_unref(c);
  else
    *out = c;
  return rc;
}

int segue__tls_context_new(segue__tls_context **out, const segue__tls_options *options,
                           segue_error *err) {
  return segue__tls_context_make(out, options->cert.name, tls_fill, options, err);
}

segue__tls_context *segue__tls_context_ref(segue__tls_context *context) {
  __atomic_add_fetch(&context->refs, 1, __ATOMIC_RELAXED);
  return context;
}

void segue__tls_context_unref(segue__tls_context *context) {
  if (!context || __atomic_sub_fetch(&context->refs, 1, __ATOMIC_ACQ_REL) > 0) return;
  context->ssl->SSL_CTX_free(context->ctx);
  segue__free(context);
}

bool segue__tls_context_asks(const segue__tls_context *context) {
  return context->asks;
}

const char *segue__tls_context_subject(const segue__tls_context *context) {
  return context->subject;
}

int64_t segue__tls_context_expires(const segue__tls_context *context) {
  return context->expires;
}

/* ---- The client's names ---------------------------------------------------------------------- */

/* Adds one name of the client. A name with a zero byte is ignored: every comparison as a C string
 * would take its beginning for the whole name. */
static void add_name(const segue__openssl *o, segue__name_kind kind, const ASN1_STRING *text,
                     segue__buf *out) {
  const char *s = text ? (const char *)o->ASN1_STRING_get0_data(text) : NULL;
  size_t len = s ? (size_t)o->ASN1_STRING_length(text) : 0;
  if (!len || memchr(s, 0, len) || out->len + len + 2 > NAMES_MAX) return;
  segue__buf_addc(out, (char)kind);
  segue__buf_add(out, s, len);
  segue__buf_addc(out, 0);
}

static void tls_add_subject(const segue__openssl *o, const X509 *x509, segue__buf *out) {
  const X509_NAME *subject = o->X509_get_subject_name(x509);
  int at = o->X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at >= 0)
    add_name(o, SEGUE__NAME_CN, o->X509_NAME_ENTRY_get_data(o->X509_NAME_get_entry(subject, at)),
             out);
  if (out->len) return;
  char line[SEGUE__TLS_SUBJECT_MAX];
  o->X509_NAME_oneline(subject, line, sizeof line);
  segue__buf_addc(out, SEGUE__NAME_SUBJECT);
  segue__buf_add(out, line, strlen(line) + 1);
}

static segue__name_kind tls_kind_of(int type) {
  return type == GEN_DNS ? SEGUE__NAME_DNS : type == GEN_EMAIL ? SEGUE__NAME_MAIL : SEGUE__NAME_URI;
}

static void add_alternatives(const segue__openssl *o, const X509 *x509, segue__buf *out) {
  GENERAL_NAMES *names = o->X509_get_ext_d2i(x509, NID_subject_alt_name, NULL, NULL);
  const OPENSSL_STACK *stack = (const OPENSSL_STACK *)names;
  for (int i = 0; names && i < o->OPENSSL_sk_num(stack); i++) {
    const GENERAL_NAME *name = o->OPENSSL_sk_value(stack, i);
    if (name->type == GEN_DNS || name->type == GEN_EMAIL || name->type == GEN_URI)
      add_name(o, tls_kind_of(name->type), name->d.ia5, out);
  }
  o->GENERAL_NAMES_free(names);
}

/* Reads the names of the client's certificate. Returns 0, or UV_ENOMEM: then the client is not
 * accepted, because its rights depend on its names. */
static int know_client(segue__tls *tls) {
  const segue__openssl *o = tls->context->ssl;
  X509 *x509 = o->SSL_get1_peer_certificate(tls->ssl);
  if (!x509) return 0;
  segue__buf names;
  segue__buf_init(&names);
  tls_add_subject(o, x509, &names);
  add_alternatives(o, x509, &names);
  o->X509_free(x509);
  segue__tls_client *client =
      names.failed || !names.data ? NULL : segue__malloc(sizeof *client + names.len);
  if (client) {
    client->refs = 1;
    client->len = names.len;
    memcpy(client->names, names.data, names.len);
  }
  segue__buf_deinit(&names);
  tls->client = client;
  return client ? 0 : UV_ENOMEM;
}

segue__tls_client *segue__tls_peer(const segue__tls *tls) {
  return tls->client;
}

bool segue__tls_name_next(const segue__tls_client *client, segue__tls_name *name) {
  if (!client) return false;
  const char *next = name->text ? name->text + strlen(name->text) + 1 : client->names;
  if (next >= client->names + client->len) return false;
  name->kind = (segue__name_kind)*next;
  name->text = next + 1;
  return true;
}

const char *segue__name_kind_text(segue__name_kind kind) {
  static const char *const texts[] = {"subject", "cn", "dns", "mail", "uri"};
  return texts[kind];
}

segue__tls_client *segue__tls_client_ref(segue__tls_client *client) {
  if (client) __atomic_add_fetch(&client->refs, 1, __ATOMIC_RELAXED);
  return client;
}

void segue__tls_client_unref(segue__tls_client *client) {
  if (client && !__atomic_sub_fetch(&client->refs, 1, __ATOMIC_ACQ_REL)) segue__free(client);
}

/* ---- Connections ----------------------------------------------------------------------------- */

int segue__tls_make(segue__tls **out, segue__tls_context *context) {
  const segue__openssl *o = context->ssl;
  *out = NULL;
  segue__tls *tls = segue__calloc(1, sizeof *tls);
  if (!tls) return UV_ENOMEM;
  tls->ssl = o->SSL_new(context->ctx);
  tls->in = o->BIO_new(o->BIO_s_mem());
  tls->out = o->BIO_new(o->BIO_s_mem());
  if (!tls->ssl || !tls->in || !tls->out) {
    o->SSL_free(tls->ssl);
    o->BIO_free(tls->in);
    o->BIO_free(tls->out);
    o->ERR_clear_error();
    segue__free(tls);
    return UV_ENOMEM;
  }
  o->SSL_set_bio(tls->ssl, tls->in, tls->out);
  tls->context = segue__tls_context_ref(context);
  *out = tls;
  return 0;
}

int segue__tls_new(segue__tls **out, segue__tls_context *context) {
  int rc = segue__tls_make(out, context);
  if (!rc) context->ssl->SSL_set_accept_state((*out)->ssl);
  return rc;
}

void segue__tls_free(segue__tls *tls) {
  if (!tls) return;
  tls->context->ssl->SSL_free(tls->ssl); /* and its BIOs */
  segue__tls_context_unref(tls->context);
  segue__tls_client_unref(tls->client);
  segue__free(tls);
}

int segue__tls_feed(segue__tls *tls, const char *data, size_t len) {
  return tls->context->ssl->BIO_write(tls->in, data, (int)len) == (int)len ? 0 : UV_ENOMEM;
}

static int http_tls_failed(segue__tls *tls) {
  const segue__openssl *o = tls->context->ssl;
  long verified = o->SSL_get_verify_result(tls->ssl);
  const char *text = verified != X509_V_OK ? o->X509_verify_cert_error_string(verified)
                                           : o->ERR_reason_error_string(o->ERR_peek_error());
  tls->why = text ? text : "the connection broke off";
  o->ERR_clear_error();
  return UV_EPROTO;
}

/* Returns the code for a call of OpenSSL that did not succeed. */
static int tls_outcome(segue__tls *tls, int result) {
  switch (tls->context->ssl->SSL_get_error(tls->ssl, result)) {
  case SSL_ERROR_WANT_READ:
  case SSL_ERROR_WANT_WRITE:
    return UV_EAGAIN;
  case SSL_ERROR_ZERO_RETURN:
    return UV_EOF;
  default:
    return http_tls_failed(tls);
  }
}

int segue__tls_handshake(segue__tls *tls) {
  if (tls->established) return 0;
  tls->context->ssl->ERR_clear_error();
  int result = tls->context->ssl->SSL_do_handshake(tls->ssl);
  if (result != 1) {
    int rc = tls_outcome(tls, result);
    return rc == UV_EOF ? http_tls_failed(tls) : rc;
  }
  if (!tls->outbound && know_client(tls) < 0) {
    tls->why = "out of memory";
    return UV_EPROTO;
  }
  tls->established = true;
  return 0;
}

bool segue__tls_established(const segue__tls *tls) {
  return tls->established;
}

int segue__tls_read(segue__tls *tls, char *buf, size_t size) {
  tls->context->ssl->ERR_clear_error();
  int n = tls->context->ssl->SSL_read(tls->ssl, buf, size > 1 << 30 ? 1 << 30 : (int)size);
  return n > 0 ? n : tls_outcome(tls, n);
}

bool segue__tls_buffered(const segue__tls *tls) {
  const segue__openssl *o = tls->context->ssl;
  return o->SSL_pending(tls->ssl) > 0 || o->BIO_ctrl(tls->in, BIO_CTRL_PENDING, 0, NULL) > 0;
}

/* A memory BIO accepts everything, so a write that would have to wait means that the BIO could not
 * grow. */
int segue__tls_write(segue__tls *tls, const char *data, size_t len) {
  while (len) {
    int part = len > 1 << 30 ? 1 << 30 : (int)len;
    tls->context->ssl->ERR_clear_error();
    int n = tls->context->ssl->SSL_write(tls->ssl, data, part);
    if (n <= 0) return tls_outcome(tls, n) == UV_EAGAIN ? UV_ENOMEM : UV_EPROTO;
    data += n;
    len -= (size_t)n;
  }
  return 0;
}

void segue__tls_end(segue__tls *tls) {
  tls->context->ssl->ERR_clear_error();
  tls->context->ssl->SSL_shutdown(tls->ssl);
  tls->context->ssl->ERR_clear_error();
}

size_t segue__tls_outgoing(const segue__tls *tls, char **data) {
  long len = tls->context->ssl->BIO_ctrl(tls->out, BIO_CTRL_INFO, 0, data);
  return len > 0 ? (size_t)len : 0;
}

/* A BIO keeps the memory of the largest content it ever had, so it is replaced after a large
 * answer. */
void segue__tls_taken(segue__tls *tls) {
  const segue__openssl *o = tls->context->ssl;
  char *data;
  BIO *fresh = segue__tls_outgoing(tls, &data) > OUTGOING_KEEP ? o->BIO_new(o->BIO_s_mem()) : NULL;
  if (fresh) {
    o->SSL_set0_wbio(tls->ssl, fresh);
    tls->out = fresh;
  } else {
    o->BIO_ctrl(tls->out, BIO_CTRL_RESET, 0, NULL);
  }
}

const char *segue__tls_why(const segue__tls *tls) {
  return tls->why ? tls->why : "no reason is known";
}
