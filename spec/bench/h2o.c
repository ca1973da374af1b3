/* SPDX-License-Identifier: MIT
 *
 * h2o PORT: what `http segue` answers, by libh2o on a libuv loop, as its own example of a simple
 * server sets it up. Runs until it is stopped.
 */
#define H2O_USE_LIBUV 1
#include <h2o.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static uv_loop_t loop;
static h2o_globalconf_t config;
static h2o_context_t context;
static h2o_accept_ctx_t accepting = {.ctx = &context};

static int on_request(h2o_handler_t *handler, h2o_req_t *request) {
  (void)handler;
  request->res.status = 200;
  request->res.reason = "OK";
  h2o_add_header(&request->pool, &request->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL,
                 H2O_STRLIT("text/plain"));
  h2o_send_inline(request, H2O_STRLIT("m0\n"));
  return 0;
}

static void on_closed(uv_handle_t *handle) {
  free(handle);
}

static void on_connection(uv_stream_t *server, int status) {
  uv_tcp_t *tcp = status ? NULL : malloc(sizeof *tcp);
  if (!tcp) return;
  uv_tcp_init(&loop, tcp);
  if (uv_accept(server, (uv_stream_t *)tcp)) exit(1);
  uv_tcp_nodelay(tcp, 1);
  h2o_accept(&accepting, h2o_uv_socket_create((uv_stream_t *)tcp, on_closed));
}

int main(int argc, char **argv) {
  uv_tcp_t server;
  struct sockaddr_in address;
  if (argc != 2) {
    fprintf(stderr, "usage: h2o PORT\n");
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  uv_loop_init(&loop);
  h2o_config_init(&config);
  h2o_hostconf_t *host =
      h2o_config_register_host(&config, h2o_iovec_init(H2O_STRLIT("default")), 65535);
  h2o_pathconf_t *path = h2o_config_register_path(host, "/", 0);
  h2o_create_handler(path, sizeof(h2o_handler_t))->on_req = on_request;
  h2o_context_init(&context, &loop, &config);
  accepting.hosts = config.hosts;
  uv_ip4_addr("127.0.0.1", atoi(argv[1]), &address);
  uv_tcp_init(&loop, &server);
  if (uv_tcp_bind(&server, (const struct sockaddr *)&address, 0) ||
      uv_listen((uv_stream_t *)&server, 1024, on_connection))
    return 1;
  return uv_run(&loop, UV_RUN_DEFAULT);
}
