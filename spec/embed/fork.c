/* SPDX-License-Identifier: MIT
 *
 * fork FOLDER own|host|PORT [crash]: a host that forks while an instance runs. The first child
 * lives on and never closes anything. The second one calls every function, closes, and lives on as
 * well. Then the parent ends in order and starts another instance on the same state folder. With a
 * PORT the module listens there by FOLDER/reload.lua, and the parent connects to the port between
 * its instances. With crash, the first instance is in a process that ends without segue_close, and
 * only the first child is made. Each process prints its results; the spec checks them.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <segue.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

static segue *instance;
static segue_gate *gate;
static segue_pass inside;
static const char *folder, *which;
static uv_loop_t loop;
static int before; /* descriptors, before there was an instance */
static int ready[2], hold[2];
static pid_t children[2];
static int port; /* 0: the module does not listen */
static bool crash;
static int client = -1; /* a connection to the port */

static int descriptors(void) {
  int count = 0;
  DIR *all = opendir("/proc/self/fd");
  while (all && readdir(all))
    count++;
  if (all) closedir(all);
  return count;
}

static void print(const char *what, int code) {
  printf("child: %s %s\n", what, segue_error_name(code));
}

/* A child of a program with threads may only call what takes no lock; the parent waits meanwhile.
 */
static void use_everything(void) {
  segue_pass pass = {0};
  segue_arrival arrival;
  memset(&arrival, 0, sizeof arrival);
  print("start", segue_start(instance, NULL));
  print("run", segue_run(instance));
  print("reload", segue_reload(instance, true, NULL, NULL));
  print("register", segue_module_register(instance, "late", NULL, NULL));
  print("log", segue_log(instance, SEGUE_ERROR, "host", "in a child", NULL, 0));
  print("count", segue_count(instance, "total", 1));
  print("gauge", segue_gauge(instance, "level", 1));
  print("observe", segue_observe(instance, "time", 1));
  print("enter", segue_gate_enter(gate, &pass));
  print("submit", segue_gate_submit(gate, &arrival));
  printf("child: cancel %d\n", segue_gate_cancel(gate, &arrival));
  printf("child: enabled %d\n", segue_log_enabled(instance, SEGUE_ERROR));
  printf("child: gate %s\n", segue_gate_get(instance, "other") ? "made" : "none");
  printf("child: snapshot %s\n", segue_snapshot_acquire(instance) ? "there" : "none");
  printf("child: reader %s\n", segue_reader_new(instance) ? "made" : "none");
  segue_gate_leave(&inside);
  segue_stop(instance);
}

static void live_on(bool closes) {
  char byte;
  alarm(60);
  close(hold[1]);
  if (closes) {
    use_everything();
    segue_close(instance);
    /* the two pipes, less the end that was closed */
    printf("child: closed, %d descriptors more\n", descriptors() - before - 3);
    fflush(stdout);
  }
  if (write(ready[1], "x", 1) != 1) _exit(3);
  if (crash) {
    /* The end of the parent ends its connections, unless this child still has them. */
    ssize_t n = recv(client, &byte, 1, 0);
    printf("client: %s\n", n == 0 || (n < 0 && errno == ECONNRESET) ? "cut" : "hangs");
    fflush(stdout);
    if (write(ready[1], "x", 1) != 1) _exit(3);
  }
  _exit(read(hold[0], &byte, 1) == 0 ? 0 : 4);
}

static void make_child(int i) {
  char byte;
  fflush(stdout);
  children[i] = fork();
  if (children[i] == 0) live_on(i == 1);
  if (children[i] < 0 || read(ready[0], &byte, 1) != 1) exit(3);
}

static void on_reload(void *data, int status, const segue_report *report) {
  (void)data;
  printf("reload: %s\n", status || !report ? segue_error_name(status) : report->outcome);
  segue_stop(instance);
}

static int connected(void) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct timeval limit = {.tv_sec = 5};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit); /* connect obeys it */
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (connect(fd, (void *)&to, sizeof to) == 0) return fd;
  int code = errno;
  close(fd);
  errno = code;
  return -1;
}

/* Its first answer shows that a thread of the parent has accepted it. */
static void be_a_client(void) {
  static const char request[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
  char answer[1024];
  client = connected();
  if (client < 0 || send(client, request, sizeof request - 1, 0) < 0 ||
      recv(client, answer, sizeof answer, 0) <= 0)
    exit(3);
}

static void on_start(void *data, int status, const segue_report *report) {
  (void)data;
  printf("start: %s\n", status || !report ? segue_error_name(status) : report->outcome);
  if (children[1]) {
    segue_stop(instance);
    return;
  }
  gate = segue_gate_get(instance, "module");
  if (segue_gate_enter(gate, &inside)) exit(3);
  if (crash) be_a_client();
  make_child(0);
  if (crash) _exit(0);
  make_child(1);
  char path[4096];
  snprintf(path, sizeof path, "%s/state/control.sock", folder);
  printf("parent: socket %s\n", access(path, F_OK) ? "gone" : "there");
  segue_gate_leave(&inside);
  if (segue_reload(instance, true, on_reload, NULL)) exit(3);
}

static void prepare(void *userdata, segue_op *op, const segue_slice *next, const segue_slice *prev,
                    void **out) {
  (void)userdata, (void)next, (void)prev;
  *out = malloc(1);
  segue_op_done(op, *out ? 0 : SEGUE_EMODULE, NULL);
}

static void handle(void *data, segue_request *request) {
  segue_answer answer = {.status = 200};
  (void)data;
  (void)segue_request_answer(request, &answer);
}

/* A listener that a child still has drops what clients send, or lets them in and never answers. */
static void connect_to_it(void) {
  int fd = connected();
  printf("listener: %s\n", fd < 0 && errno == ECONNREFUSED ? "gone" : "there");
  fflush(stdout);
  if (fd >= 0) close(fd);
}

static int life(const char *config, const char *policy, const char *state) {
  static const segue_module_ops ops = {
      .size = sizeof ops, .prepare = prepare, .destroy = free, .handle = handle};
  segue_options options;
  segue_error error;
  segue_options_init(&options);
  options.uv_loop = strcmp(which, "host") == 0 ? &loop : NULL;
  options.config = port ? NULL : config;
  options.policy = port ? policy : NULL;
  options.lua_dir = "lua";
  options.state = state;
  options.on_start = on_start;
  int rc = segue_new(&instance, &options, &error);
  if (!rc) rc = segue_module_register(instance, "module", &ops, NULL);
  if (!rc) rc = segue_start(instance, &error);
  if (rc) printf("%s\n", error.message);
  if (!rc) rc = options.uv_loop ? uv_run(&loop, UV_RUN_DEFAULT) : segue_run(instance);
  segue_close(instance);
  return rc;
}

/* Returns 0 if it printed what it should before its end. */
static int life_that_crashes(const char *config, const char *policy, const char *state) {
  int status;
  char byte;
  pid_t host = fork();
  if (host == 0) _exit(life(config, policy, state) ? 3 : 4);
  crash = false;
  children[1] = host;
  if (host < 0 || waitpid(host, &status, 0) < 0 || status) return 3;
  return read(ready[0], &byte, 1) == 1 ? 0 : 3;
}

int main(int argc, char **argv) {
  char config[4096], policy[4096], state[4096];
  int status = 0;
  if (argc < 3) return 2;
  folder = argv[1];
  which = argv[2];
  port = atoi(which);
  crash = argc > 3;
  snprintf(config, sizeof config, "%s/config.yaml", folder);
  snprintf(policy, sizeof policy, "%s/reload.lua", folder);
  snprintf(state, sizeof state, "%s/state", folder);
  signal(SIGPIPE, SIG_IGN);
  if (uv_loop_init(&loop)) return 2;
  before = descriptors();
  if (pipe(ready) || pipe(hold)) return 2;
  bool crashes = crash;
  int rc = crash ? life_that_crashes(config, policy, state) : life(config, policy, state);
  if (port) connect_to_it();
  if (!rc) rc = life(config, policy, state); /* while both children live */
  close(hold[1]);
  for (int i = 0; !crashes && i < 2; i++) {
    if (waitpid(children[i], &status, 0) < 0) return 3;
    printf("child %d: %s\n", i,
           WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "lived on" : "died");
  }
  uv_loop_close(&loop);
  return rc ? 1 : 0;
}
