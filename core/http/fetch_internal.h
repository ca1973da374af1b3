/* SPDX-License-Identifier: MIT
 *
 * fetch_internal.h: the inside of a fetcher, shared only by fetcher.c (sockets, timers and delivery
 * on the loop) and fetch.c (one request: its options, its bytes, its errors).
 */
#ifndef SEGUE_HTTP_FETCH_INTERNAL_H
#define SEGUE_HTTP_FETCH_INTERNAL_H

#include <uv.h>

#include "../os/mem.h"
#include "fetch.h"
#include "libcurl.h"

/* One socket of libcurl's. */
typedef struct segue__fetch_watch {
  uv_poll_t poll;
  segue__fetcher *fetcher;
  curl_socket_t fd;
} segue__fetch_watch;

struct segue__fetcher {
  segue__loop *loop;
  const segue__curl *curl; /* NULL: not loaded yet */
  CURLM *multi;            /* NULL: nothing to do for a while */
  segue__timer timer, idle;
  segue__message message;
  segue__fetch_watch **watches; /* by fd */
  size_t watch_slots;
  segue__fetch *all, *ready, *ready_last; /* ready: in order */
  size_t count, open_handles;
  bool tls; /* a request went over TLS: its writes may raise SIGPIPE */
  bool posted, delivering, closing;
  void (*closed_cb)(void *data);
  void *closed_data;
};

struct segue__fetch {
  segue__fetcher *fetcher;
  CURL *easy;
  struct curl_slist *lines, *connect_to;
  char *url, *shown, *body, *method;
  char problem[CURL_ERROR_SIZE];
  uint64_t timeout_ms, connect_ms, idle_ms, max_bytes, started_ms, total;
  segue__timer idle;
  size_t body_len;
  bool secure, connect_only, follows;
  void (*on_head)(void *data, int status, const char *headers);
  void (*on_data)(void *data, const char *bytes, size_t len);
  bool (*reserve)(void *data, size_t bytes);
  void (*on_done)(void *data, int status, const segue__fetch_answer *answer,
                  const segue_error *err);
  void *data;
  segue__buf headers, content;
  bool answered;                                /* a line of an answer came */
  bool too_large, unaffordable, head_too_large; /* why we ended it */
  bool head_due;                                /* to on_head */
  bool asked;                                   /* whether it is silent, once more */
  bool silent;                                  /* for idle_ms */
  bool held;                                    /* libcurl was paused */
  bool waiting;                                 /* for segue__fetch_resume */
  bool done, queued, busy, gone;
  int socket_errno; /* why there was no socket; libcurl keeps it to itself */
  CURLcode code;
  segue__fetch *prev, *next, *ready_prev, *ready_next;
};

/* fetch.c */
int segue__fetch_set(segue__fetch *fetch, const segue__fetch_options *options, segue_error *err);
int segue__fetch_report(const segue__fetch *fetch, segue_error *err);
void segue__fetch_free(segue__fetch *fetch); /* not in the multi any more */

/* fetcher.c */
void segue__fetch_queue(segue__fetch *fetch);
void segue__fetch_restart_idle(segue__fetch *fetch); /* a byte came, or may come again */
/* libcurl closes a socket: it is no longer watched. */
int segue__fetcher_close_socket(void *fetcher, curl_socket_t fd);

#endif
