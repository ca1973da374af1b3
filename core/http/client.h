/* SPDX-License-Identifier: MIT
 *
 * client.h: one blocking HTTP call, for the command line. libcurl is loaded on the first call and
 * stays loaded; a program that never calls never pays for it. Not for the control thread.
 */
#ifndef SEGUE_HTTP_CLIENT_H
#define SEGUE_HTTP_CLIENT_H

#include "../os/error.h"

/* The request and its server. Zero fields mean the default in brackets. */
typedef struct segue__http_call_options {
  size_t size;                /* sizeof(segue__http_call_options) */
  const char *socket_path;    /* a unix socket; NULL: the host of url */
  const char *url;            /* "http://127.0.0.1:7377/-/reload", or https:// (UV_EPROTO: TLS
                               * failed); with a socket "/-/reload" too */
  const char *method;         /* ["GET", or "POST" with a body] */
  const char *const *headers; /* "Name: value" each, NULL-terminated array, or NULL */
  const void *body;
  size_t body_len;
  uint64_t timeout_ms;    /* of the whole call [none] */
  size_t answer_bytes;    /* most bytes of a collected answer [64 MiB] */
  const char *ca;         /* PEM file: the CA that signs the server's certificate [the system's] */
  const char *cert, *key; /* PEM files of our own certificate [none] */
  /* Gets the body as it comes instead of the answer; a result other than 0 ends the call, which
   * then succeeds. Only for status 200 to 299; other bodies are collected. */
  int (*on_data)(void *data, const char *bytes, size_t len);
  void *data;
} segue__http_call_options;

void segue__http_call_options_init(segue__http_call_options *options);

typedef struct segue__http_answer {
  int status;
  char *body; /* terminated, never NULL after success */
  size_t len;
  char *headers; /* raw lines of the last answer, terminated, never NULL after success */
} segue__http_answer;

void segue__http_answer_deinit(segue__http_answer *answer);
/* Copies the value of a header into buf; false if it is absent or too long. */
bool segue__http_answer_header(const segue__http_answer *answer, const char *name, char *buf,
                               size_t size);

/* Returns 0 if an answer came, whatever its status; follows no redirects and uses no proxies. Else
 * returns a negative code, and err names the server and the remedy: UV_ECONNREFUSED (no daemon
 * listens), UV_EACCES, SEGUE_ETIMEOUT, UV_ECONNRESET (the answer broke off), SEGUE_ELIMIT (too
 * large), SEGUE_EUSAGE, UV_ENOMEM, UV_ENOSYS (libcurl is not installed). */
int segue__http_call(const segue__http_call_options *options, segue__http_answer *out,
                     segue_error *err);

#endif
