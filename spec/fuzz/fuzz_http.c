/* SPDX-License-Identifier: MIT
 *
 * Fuzzes the HTTP server. The first byte of an input chooses: the head parser, whole and in every
 * prefix; the chunked decoder, whole and in pieces; paths and queries; or a connection to a real
 * server over a socket pair, which must answer each request that reached a handler, speak HTTP, and
 * release all its memory.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/http/conn.h"
#include "core/socket/bind.h"

static void must(bool ok, const char *what) {
  if (!ok) {
    fprintf(stderr, "fuzz_http: %s\n", what);
    abort();
  }
}

/* A copy of exactly that size: reading past it is seen. */
static char *exactly(const char *data, size_t len) {
  char *copy = malloc(len ? len : 1);
  memcpy(copy, data, len);
  return copy;
}

/* ---- Heads ----------------------------------------------------------------------------------- */

static segue__http_parsed parse(const char *data, size_t len, segue__http_head *head) {
  static segue__http_header headers[20];
  char *copy = exactly(data, len);
  head->headers = headers;
  head->header_max = 20;
  segue__http_parsed r = segue__http_parse_head(copy, len, head);
  must(r != SEGUE__HTTP_DATA, "a head cannot be data");
  must(r != SEGUE__HTTP_OK || head->length <= len, "a head is longer than its buffer");
  must(r != SEGUE__HTTP_BAD || (head->status >= 400 && head->reason), "a refusal without reason");
  must(r != SEGUE__HTTP_OK || !(head->chunked && head->has_length), "two lengths");
  free(copy);
  return r;
}

/* A refusal never turns into an acceptance, and an acceptance does not depend on what follows. */
static void fuzz_head(const char *data, size_t len) {
  segue__http_head whole, part;
  segue__http_parsed r = parse(data, len, &whole), before = SEGUE__HTTP_MORE;
  size_t scanned = 0;
  for (size_t n = 0; n <= len && n < 400; n++) {
    segue__http_parsed now = parse(data, n, &part);
    must(before == SEGUE__HTTP_MORE || now == before, "more bytes change the verdict");
    must(now != SEGUE__HTTP_OK || (r == SEGUE__HTTP_OK && part.length == whole.length),
         "the end of a head depends on what follows");
    if (segue__http_head_ready(data, n, &scanned))
      must(now != SEGUE__HTTP_MORE || scanned == n, "ready in the middle");
    must(now != SEGUE__HTTP_OK || scanned >= part.length || before == now, "complete, not ready");
    before = now;
  }
}

static void fuzz_target(const char *data, size_t len) {
  char *out = malloc(len + 1), value[16], again[512];
  int n = segue__http_path_decode(data, len, out);
  if (n >= 0) {
    must((size_t)n <= len && strlen(out) == (size_t)n && out[0] == '/', "a path of wrong length");
    must(!strstr(out, "/../") && !strstr(out, "/./"), "a dot segment is left");
    must(!strstr(out, "//"), "two slashes in a row are left");
    if (n < 512)
      must(segue__http_path_decode(out, (size_t)n, again) < 0 || strlen(again) <= (size_t)n,
           "a path grows");
  }
  segue__http_query_find((segue__http_text){data, len}, "a", value, sizeof value);
  segue__http_host_valid((segue__http_text){data, len});
  free(out);
}

/* ---- Chunked bodies -------------------------------------------------------------------------- */

typedef struct decoded {
  segue__http_parsed result;
  size_t used, len;
  uint64_t sum;
} decoded;

static decoded decode(const char *data, size_t len, size_t step) {
  segue__http_chunked d = {0};
  decoded out = {.result = SEGUE__HTTP_MORE};
  while (out.used < len && (out.result == SEGUE__HTTP_MORE || out.result == SEGUE__HTTP_DATA)) {
    size_t n = len - out.used < step ? len - out.used : step, consumed, size;
    const char *piece;
    char *copy = exactly(data + out.used, n);
    out.result = segue__http_chunked_next(&d, copy, n, &consumed, &piece, &size);
    must(consumed <= n && (n == 0 || consumed > 0), "consumed too much or nothing");
    must(size == 0 || (piece >= copy && piece + size <= copy + n), "data outside the buffer");
    for (size_t i = 0; i < size; i++)
      out.sum = out.sum * 31 + (unsigned char)piece[i];
    out.len += size;
    out.used += consumed;
    free(copy);
  }
  if (out.result == SEGUE__HTTP_DATA) out.result = SEGUE__HTTP_MORE;
  return out;
}

static void fuzz_chunked(const char *data, size_t len) {
  decoded whole = decode(data, len, len ? len : 1);
  for (size_t step = 1; step < 8; step++) {
    decoded parts = decode(data, len, step);
    must(parts.result == whole.result && parts.used == whole.used && parts.len == whole.len &&
             parts.sum == whole.sum,
         "the body depends on how it is cut");
  }
}

/* ---- A connection ---------------------------------------------------------------------------- */

static uv_loop_t loop;
static segue__http_server *server;
static segue__http_listener *listener;
static segue__http_request *held[64];
static unsigned held_count;

static void on_gone(segue__http_request *request) {
  for (unsigned i = 0; i < held_count; i++)
    if (held[i] == request) held[i] = held[--held_count];
}

static void answer(segue__http_request *request) {
  const segue__http_text *x = segue__http_header_get(request, "x");
  if (strstr(request->path, "stream")) {
    segue__http_stream_begin(request, 200, "text/plain", NULL);
    if (segue__http_stream_write(request, request->body.s, request->body.len) == 0)
      segue__http_stream_write(request, "tail", 4);
    segue__http_stream_end(request);
  } else {
    segue__http_respond(request, x ? 404 : 200, NULL, NULL, request->body.s, request->body.len);
  }
}

static void on_request(void *data, segue__http_request *request) {
  (void)data;
  must(request->path[0] == '/' || strcmp(request->path, "*") == 0, "a path without root");
  must(request->body.len <= 5000, "a body over the limit");
  if (strstr(request->path, "later") && held_count < 64) {
    request->on_gone = on_gone;
    held[held_count++] = request;
  } else {
    answer(request);
  }
}

static void turn(void) {
  uv_run(&loop, UV_RUN_NOWAIT);
  while (held_count)
    answer(held[--held_count]);
  uv_run(&loop, UV_RUN_NOWAIT);
}

static void drain(int fd, bool *first) {
  char buf[4096];
  for (ssize_t n; (n = recv(fd, buf, sizeof buf, MSG_DONTWAIT)) > 0;) {
    if (*first) must(n >= 9 && memcmp(buf, "HTTP/1.1 ", 9) == 0, "the answer is not HTTP");
    *first = false;
  }
}

static void fuzz_connection(const char *data, size_t len) {
  int pair[2];
  bool first = true;
  if (len < 1 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return;
  size_t step = (unsigned char)data[0] % 64 ? (size_t)(unsigned char)data[0] * 7 : len;
  data++, len--;
  must(segue__http_conn_open(listener, pair[0], "fuzz", false) == 0, "cannot open a connection");
  while (len) {
    size_t n = len < step ? len : step;
    ssize_t sent = send(pair[1], data, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent <= 0) break;
    data += sent;
    len -= (size_t)sent;
    turn();
    drain(pair[1], &first);
  }
  shutdown(pair[1], SHUT_WR);
  for (int i = 0; i < 4; i++) {
    turn();
    drain(pair[1], &first);
  }
  close(pair[1]);
  for (int i = 0; i < 1000 && segue__http_connections(server); i++)
    turn();
  must(segue__http_connections(server) == 0, "a connection is left");
}

static void set_up(void) {
  segue__http_limits limits = {.head_bytes = 6000, .header_count = 20, .body_bytes = 5000};
  uv_loop_init(&loop);
  must(segue__http_server_new(&server, &loop, &limits, on_request, NULL) == 0, "no server");
  segue__address address;
  must(segue__address_parse("127.0.0.1:0", &address, NULL) == 0, "no address");
  int fd = segue__socket_bind(&address, 0, NULL);
  must(fd >= 0 && segue__http_listener_new(&listener, fd, false, 0) == 0, "no listener");
  must(segue__http_listener_begin(listener, server) == 0, "no listener");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  const char *data = (const char *)bytes + 1;
  if (size < 1) return 0;
  if (!server) set_up();
  switch (bytes[0] % 4) {
  case 0:
    fuzz_head(data, size - 1);
    break;
  case 1:
    fuzz_chunked(data, size - 1);
    break;
  case 2:
    fuzz_target(data, size - 1);
    break;
  default:
    fuzz_connection(data, size - 1);
    break;
  }
  return 0;
}
