/* SPDX-License-Identifier: MIT
 *
 * Exchanges: the memory of one request, pooled per server, and the growth of its buffers. A buffer
 * grows with the bytes that have arrived, never with the length that a client announces.
 */
#include "conn.h"

#include <string.h>

segue__http_exchange *segue__http_exchange_acquire(segue__http_conn *conn) {
  segue__http_server *server = conn->server;
  segue__http_exchange *exchange = server->pool;
  if (exchange) {
    server->pool = exchange->next;
    server->pooled--;
  } else {
    size_t headers = server->limits.header_count * sizeof(segue__http_header);
    exchange = segue__malloc(sizeof *exchange + headers);
    if (!exchange) return NULL;
    memset(exchange, 0, sizeof *exchange);
    exchange->in = segue__malloc(SEGUE__HTTP_INPUT);
    exchange->in_cap = SEGUE__HTTP_INPUT;
    if (!exchange->in) {
      segue__free(exchange);
      return NULL;
    }
  }
  exchange->conn = conn;
  exchange->server = server;
  exchange->in_len = 0;
  segue__http_exchange_reset(exchange);
  return exchange;
}

static void forget_client(segue__http_exchange *exchange) {
  segue__tls_client_unref(exchange->request.client);
  exchange->request.client = NULL;
}

void segue__http_exchange_reset(segue__http_exchange *exchange) {
  forget_client(exchange);
  exchange->head.headers = exchange->headers;
  exchange->head.header_max = exchange->server->limits.header_count;
  exchange->head.method = (segue__http_text){0};
  exchange->scanned = exchange->used = 0;
  exchange->body_len = 0;
  exchange->body_apart = exchange->answered = exchange->streaming = false;
  exchange->silent = exchange->chunked_out = false;
}

static void exchange_destroy(segue__http_exchange *exchange) {
  segue__free(exchange->body);
  segue__free(exchange->in);
  segue__free(exchange);
}

void segue__http_exchange_release(segue__http_exchange *exchange) {
  if (!exchange) return;
  segue__http_server *server = exchange->server;
  forget_client(exchange);
  if (!server || server->pooled >= SEGUE__HTTP_POOL_MAX || exchange->in_cap > SEGUE__HTTP_INPUT) {
    exchange_destroy(exchange);
    return;
  }
  if (exchange->body_cap > SEGUE__HTTP_BODY_KEEP) {
    segue__free(exchange->body);
    exchange->body = NULL;
    exchange->body_cap = 0;
  }
  exchange->conn = NULL;
  exchange->next = server->pool;
  server->pool = exchange;
  server->pooled++;
}

/* The buffer may move: called only while nothing points into it. */
int segue__http_exchange_grow(segue__http_exchange *exchange, size_t limit) {
  size_t cap = exchange->in_cap * 2;
  if (cap > limit) cap = limit;
  if (cap <= exchange->in_cap) return UV_ENOBUFS;
  char *in = segue__realloc(exchange->in, cap);
  if (!in) return UV_ENOMEM;
  exchange->in = in;
  exchange->in_cap = cap;
  return 0;
}

int segue__http_body_room(segue__http_exchange *exchange, size_t more) {
  size_t need = exchange->body_len + more;
  if (need <= exchange->body_cap) return 0;
  size_t cap = exchange->body_cap ? exchange->body_cap : SEGUE__HTTP_INPUT;
  while (cap < need)
    cap *= 2;
  char *body = segue__realloc(exchange->body, cap);
  if (!body) return UV_ENOMEM;
  exchange->body = body;
  exchange->body_cap = cap;
  return 0;
}

int segue__http_body_add(segue__http_exchange *exchange, const char *data, size_t len) {
  int r = segue__http_body_room(exchange, len);
  if (r) return r;
  if (len) memcpy(exchange->body + exchange->body_len, data, len);
  exchange->body_len += len;
  return 0;
}
