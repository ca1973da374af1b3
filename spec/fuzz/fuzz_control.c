/* SPDX-License-Identifier: MIT
 *
 * The control protocol: whole connections to the control socket of a live instance in this process.
 * The first byte chooses how the connection is cut into pieces, the second one a method and a path
 * that exist or, as 255, that the bytes are the connection as they are. Whatever is asked, it is
 * answered in HTTP, the connection ends, and the instance is ready afterwards.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "core/segue.h"

static const char *const requests[] = {
    "GET /",
    "POST /-/reload",
    "PUT /-/reload",
    "GET /-/healthy",
    "GET /-/ready",
    "GET /metrics",
    "GET /api/v1/status",
    "GET /api/v1/modules",
    "GET /api/v1/sources",
    "GET /api/v1/config",
    "GET /api/v1/reloads",
    "GET /api/v1/reloads/",
    "GET /api/v1/diff",
    "POST /api/v1/plan",
    "GET /api/v1/events",
    "HEAD /api/v1/config",
    "DELETE /metrics",
    "GET /api/v1/why",
    "POST /api/v1/rollback",
    "POST /api/v1/confirm",
    "POST /api/v1/freeze",
    "POST /api/v1/unfreeze",
    "POST /api/v1/recording",
};
enum { REQUESTS = sizeof requests / sizeof *requests, DEADLINE_MS = 5000 };

static uv_loop_t loop;
static segue *instance;
static bool started;
static char folder[] = "/tmp/segue-fuzz-XXXXXX";
static struct sockaddr_un address = {.sun_family = AF_UNIX};

static void must(bool ok, const char *what) {
  if (ok) return;
  fprintf(stderr, "fuzz_control: %s (%s)\n", what, strerror(errno));
  abort();
}

static void on_start(void *data, int status, const segue_report *report) {
  (void)data;
  (void)report;
  must(status == 0, "the first load failed");
  started = true;
}

static void remove_folder(void) {
  char command[64];
  snprintf(command, sizeof command, "rm -rf %s", folder);
  if (system(command)) return;
}

static void set_up(void) {
  char config[64], state[64];
  segue_options options;
  must(mkdtemp(folder) != NULL, "no folder");
  atexit(remove_folder);
  snprintf(config, sizeof config, "%s/config.yaml", folder);
  snprintf(state, sizeof state, "%s/state", folder);
  snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", folder);
  FILE *file = fopen(config, "w");
  must(file && fputs("a: {b: [1, 2, {c: d}]}\nkey: text\n", file) >= 0 && !fclose(file), "no file");
  must(uv_loop_init(&loop) == 0, "no loop");
  segue_options_init(&options);
  options.uv_loop = &loop;
  options.config = config;
  options.state = state;
  options.socket = address.sun_path;
  options.on_start = on_start;
  must(!segue_new(&instance, &options, NULL) && !segue_start(instance, NULL), "no instance");
  while (!started)
    uv_run(&loop, UV_RUN_ONCE);
}

static uint64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* True once the other side has ended. */
static bool drain(int fd, char first[9], size_t *seen) {
  char buf[16384];
  for (;;) {
    ssize_t n = recv(fd, buf, sizeof buf, MSG_DONTWAIT);
    if (n < 0) return errno != EAGAIN && errno != EWOULDBLOCK;
    if (n == 0) return true;
    for (ssize_t i = 0; i < n && *seen < 9; i++)
      first[(*seen)++] = buf[i];
  }
}

static void talk(const char *data, size_t len, size_t step, bool must_answer) {
  char first[9];
  size_t seen = 0;
  bool ended = false;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  must(fd >= 0 && !connect(fd, (struct sockaddr *)&address, sizeof address), "cannot connect");
  while (len && !ended) {
    size_t n = len < step ? len : step;
    ssize_t sent = send(fd, data, n, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) break;
    if (sent > 0) data += sent, len -= (size_t)sent;
    uv_run(&loop, UV_RUN_NOWAIT);
    ended = drain(fd, first, &seen);
  }
  shutdown(fd, SHUT_WR);
  for (uint64_t until = now_ms() + DEADLINE_MS; !ended;) {
    must(now_ms() < until, "the connection does not end");
    uv_run(&loop, UV_RUN_NOWAIT);
    ended = drain(fd, first, &seen);
  }
  must(!seen || (seen == 9 && !memcmp(first, "HTTP/1.1 ", 9)), "the answer is not HTTP");
  must(!must_answer || seen, "there is no answer");
  close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static unsigned runs;
  static const char ready[] = "GET /-/ready HTTP/1.1\r\nHost: localhost\r\n\r\n";
  if (size < 2 || size > 60000) return 0;
  if (!instance) set_up();
  size_t step = data[0] % 16 ? (size_t)data[0] * 5 : size + 200;
  if (data[1] == 255) {
    talk((const char *)data + 2, size - 2, step, false);
  } else {
    char *text = malloc(size + 200);
    must(text != NULL, "no memory");
    int n = sprintf(text, "%s", requests[data[1] % REQUESTS]);
    memcpy(text + n, data + 2, size - 2);
    talk(text, (size_t)n + size - 2, step, false);
    free(text);
  }
  if (++runs % 64 == 0) talk(ready, sizeof ready - 1, 1000, true);
  return 0;
}
