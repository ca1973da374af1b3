/* SPDX-License-Identifier: MIT
 *
 * tls_idle PORT N: opens N connections through TLS, one after the other, asks once on each, prints
 * "answered" and keeps them open until it is stopped.
 */
#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

static int dial(int port) {
  struct sockaddr_in to = {.sin_family = AF_INET,
                           .sin_port = htons((uint16_t)port),
                           .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
    perror("tls_idle");
    exit(1);
  }
  return fd;
}

static void ask(SSL_CTX *context, int port) {
  char answer[4096];
  SSL *ssl = SSL_new(context);
  if (!ssl || SSL_set_fd(ssl, dial(port)) != 1 || SSL_connect(ssl) != 1 ||
      SSL_write(ssl, request, sizeof request - 1) <= 0 ||
      SSL_read(ssl, answer, sizeof answer) < 12 || memcmp(answer, "HTTP/1.1 200", 12) != 0) {
    fprintf(stderr, "tls_idle: there was no good answer\n");
    exit(1);
  }
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: tls_idle PORT N\n");
    return 2;
  }
  SSL_CTX *context = SSL_CTX_new(TLS_client_method());
  for (int i = 0; i < atoi(argv[2]); i++)
    ask(context, atoi(argv[1]));
  puts("answered");
  fflush(stdout);
  for (;;)
    pause();
}
