/* SPDX-License-Identifier: MIT
 *
 * openssl.h: OpenSSL, loaded by dlopen: linking it would make every start of the daemon load two
 * large libraries that only a listener with TLS needs. The first caller loads it, for the life of
 * the process.
 */
#ifndef SEGUE_HTTP_OPENSSL_H
#define SEGUE_HTTP_OPENSSL_H

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "../os/error.h"

/* Names in parentheses are macros too. */
#define SEGUE__OPENSSL_FUNCTIONS(X)                                                                \
  X(TLS_server_method)                                                                             \
  X(TLS_client_method)                                                                             \
  X(SSL_CTX_set_default_verify_paths)                                                              \
  X(SSL_set_connect_state)                                                                         \
  X(SSL_set1_host)                                                                                 \
  X(SSL_get0_param)                                                                                \
  X(SSL_ctrl)                                                                                      \
  X(X509_VERIFY_PARAM_set1_ip_asc)                                                                 \
  X(SSL_CTX_new)                                                                                   \
  X(SSL_CTX_free)                                                                                  \
  X(SSL_CTX_ctrl)                                                                                  \
  X(SSL_CTX_set_options)                                                                           \
  X(SSL_CTX_set_cipher_list)                                                                       \
  X(SSL_CTX_set_alpn_select_cb)                                                                    \
  X(SSL_CTX_set_default_passwd_cb)                                                                 \
  X(SSL_CTX_use_certificate)                                                                       \
  X(SSL_CTX_use_PrivateKey)                                                                        \
  X(SSL_CTX_check_private_key)                                                                     \
  X(SSL_CTX_get_cert_store)                                                                        \
  X(SSL_CTX_set_verify)                                                                            \
  X(SSL_CTX_add_client_CA)                                                                         \
  X(SSL_CTX_set_session_id_context)                                                                \
  X(SSL_new)                                                                                       \
  X(SSL_free)                                                                                      \
  X(SSL_set_bio)                                                                                   \
  X(SSL_set0_wbio)                                                                                 \
  X(SSL_set_accept_state)                                                                          \
  X(SSL_do_handshake)                                                                              \
  X(SSL_read)                                                                                      \
  X(SSL_write)                                                                                     \
  X(SSL_shutdown)                                                                                  \
  X(SSL_pending)                                                                                   \
  X(SSL_get_error)                                                                                 \
  X(SSL_is_init_finished)                                                                          \
  X(SSL_get1_peer_certificate)                                                                     \
  X(SSL_get_verify_result)                                                                         \
  X(BIO_new)                                                                                       \
  X(BIO_s_mem)                                                                                     \
  X(BIO_new_mem_buf)                                                                               \
  X(BIO_write)                                                                                     \
  X(BIO_ctrl)                                                                                      \
  X(BIO_free)                                                                                      \
  X(PEM_read_bio_X509)                                                                             \
  X(PEM_read_bio_PrivateKey)                                                                       \
  X(X509_free)                                                                                     \
  X(EVP_PKEY_free)                                                                                 \
  X(X509_STORE_add_cert)                                                                           \
  X(X509_STORE_set_flags)                                                                          \
  X(X509_get_subject_name)                                                                         \
  X(X509_NAME_oneline)                                                                             \
  X(X509_NAME_get_index_by_NID)                                                                    \
  X(X509_NAME_get_entry)                                                                           \
  X(X509_NAME_ENTRY_get_data)                                                                      \
  X(X509_get0_notAfter)                                                                            \
  X(X509_get_ext_d2i)                                                                              \
  X(X509_verify_cert_error_string)                                                                 \
  X(ASN1_TIME_to_tm)                                                                               \
  X(ASN1_STRING_get0_data)                                                                         \
  X(ASN1_STRING_length)                                                                            \
  X(GENERAL_NAMES_free)                                                                            \
  X(OPENSSL_sk_num)                                                                                \
  X(OPENSSL_sk_value)                                                                              \
  X(EVP_MD_CTX_new)                                                                                \
  X(EVP_MD_CTX_free)                                                                               \
  X(EVP_DigestInit_ex)                                                                             \
  X(EVP_DigestUpdate)                                                                              \
  X(EVP_DigestFinal_ex)                                                                            \
  X(EVP_md5)                                                                                       \
  X(EVP_sha1)                                                                                      \
  X(EVP_sha256)                                                                                    \
  X(EVP_sha512)                                                                                    \
  X(ERR_peek_error)                                                                                \
  X(ERR_peek_last_error)                                                                           \
  X(ERR_clear_error)                                                                               \
  X(ERR_reason_error_string)

typedef struct segue__openssl {
#define X(name) __typeof__(&(name)) name;
  SEGUE__OPENSSL_FUNCTIONS(X)
#undef X
} segue__openssl;

/* Returns NULL, and the reason in err, if OpenSSL 3 is not installed. [any thread] */
const segue__openssl *segue__openssl_load(segue_error *err);

#endif
