/* SPDX-License-Identifier: MIT
 *
 * http segue|uv PORT: a server that answers every request with 200 and a short text: ours, or a
 * bare libuv loop that looks for the end of a head and knows no limits. http tls PORT CERT KEY:
 * ours through TLS. Runs until it is stopped.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "http/http.h"
#include "socket/bind.h"

static uv_loop_t loop;

static void on_request(void *data, segue__http_request *request) {
  (void)data;
  segue__http_respond(request, 200, "text/plain", NULL, "m0\n", 3);
}

static segue__tls_file read_pem(const char *path) {
  static char texts[2][16384];
  static int used;
  FILE *file = fopen(path, "r");
  if (!file || used == 2) exit(1);
  size_t len = fread(texts[used], 1, sizeof texts[used], file);
  fclose(file);
  return (segue__tls_file){path, texts[used++], len};
}

static segue__tls_context *read_tls(const char *cert, const char *key) {
  segue__tls_context *tls;
  segue_error error;
  segue__tls_options options = {
      .size = sizeof options, .cert = read_pem(cert), .key = read_pem(key)};
  if (segue__tls_context_new(&tls, &options, &error)) exit(1);
  return tls;
}

static void serve_segue(const char *port, segue__tls_context *tls) {
  segue__http_limits limits = {.connections = 8192};
  segue__http_server *server;
  segue__http_listener *listener;
  segue__address address;
  segue_error error;
  char text[64];
  snprintf(text, sizeof text, "127.0.0.1:%s", port);
  if (segue__http_server_new(&server, &loop, &limits, on_request, NULL) ||
      segue__address_parse(text, &address, &error))
    exit(1);
  int fd = segue__socket_bind(&address, 0, &error);
  if (fd < 0 || segue__http_listener_new(&listener, fd, false, 0) ||
      segue__http_listener_begin(listener, server))
    exit(1);
  segue__http_listener_set(listener, tls, NULL, NULL);
}

typedef struct client {
  uv_tcp_t tcp;
  size_t len;
  char in[4096];
} client;

static const char answer[] = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
                             "Content-Type: text/plain\r\nContent-Length: 3\r\n\r\nm0\n";

static void on_closed(uv_handle_t *handle) {
  free(handle->data);
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf) {
  client *c = handle->data;
  (void)size;
  *buf = uv_buf_init(c->in + c->len, (unsigned)(sizeof c->in - c->len));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
  client *c = stream->data;
  uv_buf_t out = uv_buf_init((char *)answer, sizeof answer - 1);
  (void)buf;
  if (n < 0) {
    uv_close((uv_handle_t *)stream, on_closed);
    return;
  }
  c->len += (size_t)n;
  if (c->len < 4 || memcmp(c->in + c->len - 4, "\r\n\r\n", 4) != 0) return;
  c->len = 0;
  if (uv_try_write(stream, &out, 1) < 0) uv_close((uv_handle_t *)stream, on_closed);
}

static void on_connection(uv_stream_t *server, int status) {
  client *c = status ? NULL : malloc(sizeof *c);
  if (!c) return;
  c->len = 0;
  uv_tcp_init(&loop, &c->tcp);
  c->tcp.data = c;
  if (uv_accept(server, (uv_stream_t *)&c->tcp)) exit(1);
  uv_tcp_nodelay(&c->tcp, 1);
  uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
}

static void serve_uv(const char *port) {
  static uv_tcp_t server;
  struct sockaddr_in address;
  uv_ip4_addr("127.0.0.1", atoi(port), &address);
  uv_tcp_init(&loop, &server);
  if (uv_tcp_bind(&server, (const struct sockaddr *)&address, 0) ||
      uv_listen((uv_stream_t *)&server, 1024, on_connection))
    exit(1);
}

int main(int argc, char **argv) {
  bool tls = argc == 5 && strcmp(argv[1], "tls") == 0;
  if (argc != 3 && !tls) {
    fprintf(stderr, "usage: http segue|uv PORT, or http tls PORT CERT KEY\n");
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  uv_loop_init(&loop);
  if (strcmp(argv[1], "uv") == 0)
    serve_uv(argv[2]);
  else
    serve_segue(argv[2], tls ? read_tls(argv[3], argv[4]) : NULL);
  return uv_run(&loop, UV_RUN_DEFAULT);
}
