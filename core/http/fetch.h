/* SPDX-License-Identifier: MIT
 *
 * fetch.h: HTTP requests on the loop: libcurl's multi interface, loaded on first use. Everything is
 * called on the control thread; callbacks run from the loop, never within libcurl, and may start
 * and cancel requests. HTTP/1.1 only, no proxies, no signals; connections are kept for reuse while
 * there is something to do and for three seconds after.
 */
#ifndef SEGUE_HTTP_FETCH_H
#define SEGUE_HTTP_FETCH_H

#include "../os/error.h"
#include "../os/loop.h"

typedef struct segue__fetcher segue__fetcher;
typedef struct segue__fetch segue__fetch;

/* Needs a real loop (UV_ENOTSUP). Loads nothing yet. */
int segue__fetcher_new(segue__fetcher **out, segue__loop *loop);
/* Cancels all requests; calls cb when every handle is closed and the memory freed. NULL is allowed;
 * then cb runs at once. Must not be called in a callback of one of its requests. */
void segue__fetcher_close(segue__fetcher *fetcher, void (*cb)(void *data), void *data);

typedef struct segue__fetch_answer {
  int status;          /* 0 after connect_only */
  const char *headers; /* raw lines of the last answer, terminated */
  const char *body;    /* terminated past len; empty with on_data */
  size_t len;
  uint64_t total_bytes; /* of the body, also with on_data */
  uint64_t duration_ms;
} segue__fetch_answer;

#define SEGUE__FETCH_CONNECT_MS 5000
#define SEGUE__FETCH_BYTES (16u << 20)

/* Everything is copied. Zero fields mean the default in brackets. */
typedef struct segue__fetch_options {
  size_t size;                /* sizeof(segue__fetch_options) */
  const char *url;            /* http:// or https:// */
  const char *method;         /* ["GET", or "POST" with a body] */
  const char *const *headers; /* "Name: value" each, NULL-terminated, or NULL */
  const void *body;
  size_t body_len;
  const char *socket_path; /* a unix socket instead of the URL's host */
  uint64_t timeout_ms;     /* of all of it [none] */
  uint64_t connect_ms;     /* of name look-up, connection and TLS [SEGUE__FETCH_CONNECT_MS] */
  uint64_t idle_ms;        /* without a byte of the answer, while it may send some [none] */
  uint64_t max_bytes;      /* of the body [SEGUE__FETCH_BYTES; with on_data: no limit] */
  unsigned redirects;      /* followed at most [none: the 3xx itself is the answer] */
  bool connect_only;       /* connect (and TLS), then be done */
  bool insecure;           /* do not verify the server's certificate */
  const char *ca;          /* PEM file [the system's] */
  const char *cert, *key;  /* PEM files of our own certificate */
  const char *server_name; /* TLS: the name that the server has and is verified by [the host] */
  /* The head of the answer, before its body; an interim answer and a redirect that is followed have
   * none. Then nothing comes until segue__fetch_resume. */
  void (*on_head)(void *data, int status, const char *headers);
  /* The body as it comes. After each call nothing more comes until segue__fetch_resume. */
  void (*on_data)(void *data, const char *bytes, size_t len);
  /* Asked before bytes are kept; false ends the request with SEGUE_ELIMIT. Must not touch any
   * request. May be NULL. */
  bool (*reserve)(void *data, size_t bytes);
  /* Once, unless it is cancelled; never before segue__fetch_start returned. status 0 whenever an
   * answer came, whatever its status; then err is NULL, else answer is. Both are borrowed. */
  void (*on_done)(void *data, int status, const segue__fetch_answer *answer,
                  const segue_error *err);
  void *data;
} segue__fetch_options;

/* On failure nothing is held and no callback runs. Codes, here and in on_done: SEGUE_EUSAGE (not a
 * URL that can be fetched), UV_EAI_NONAME (no such host), UV_ECONNREFUSED and other system codes
 * (no connection), UV_EPROTO (TLS, or not HTTP), UV_ECONNRESET (broken off), SEGUE_ETIMEOUT,
 * SEGUE_ELIMIT (too large, or too many at once), UV_ENOMEM, UV_ENOSYS (libcurl is not installed).
 * The message names the URL, without its user, password and query. */
int segue__fetch_start(segue__fetcher *fetcher, const segue__fetch_options *options,
                       segue__fetch **out, segue_error *err);
void segue__fetch_resume(segue__fetch *fetch);
/* No callback of it runs any more. Not after on_done. */
void segue__fetch_cancel(segue__fetch *fetch);

#endif
