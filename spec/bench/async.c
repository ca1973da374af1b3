/* SPDX-License-Identifier: MIT
 *
 * async SEGUE_LUA_DIR FOLDER: what the async library costs, each beside the bare system calls: a
 * call into Lua under a budget, a task that waits and continues, a command, a thousand requests at
 * once. Prints "name value" lines; the best of several rounds.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bind/policy/policy.h"

enum { ROUNDS = 5, CALLS = 200000, SWITCHES = 50000, COMMANDS = 200, REQUESTS = 1000 };

extern char **environ;
static uv_loop_t uv;
static segue__loop *loop;
static segue__lua_loader *loader;
static const char *folder;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void fail(const char *what) {
  fprintf(stderr, "async: %s\n", what);
  exit(1);
}

static void on_budget(int signum, siginfo_t *info, void *context) {
  (void)signum, (void)context;
  segue__budget_on_signal(info->si_value.sival_ptr);
}

static int budget_signal(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = on_budget;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  sigaction(SIGRTMIN + 4, &action, NULL);
  return SIGRTMIN + 4;
}

static segue__policy *load(const char *body) {
  char path[512], text[4096];
  segue__policy *policy = NULL;
  segue__errors errors;
  snprintf(path, sizeof path, "%s/reload.lua", folder);
  snprintf(text, sizeof text,
           "local segue = require 'segue'\nreturn { sources = { segue.value {} }, "
           "confirm = { within = '5m', probe = function()\n%s\nreturn true end } }\n",
           body);
  FILE *file = fopen(path, "w");
  if (!file || fputs(text, file) < 0 || fclose(file)) fail("cannot write the policy");
  segue__errors_init(&errors);
  segue__policy_loader from = segue__lua_loader_get(loader);
  if (from.load(from.data, path, &policy, &errors)) fail(errors.items[0].message);
  segue__errors_deinit(&errors);
  return policy;
}

typedef struct call {
  segue_op op; /* first */
  bool over;
  int status;
  segue_error error;
} call;

static void answered(segue_op *op, int status, const segue_error *error) {
  call *c = (call *)op;
  c->over = true;
  c->status = status;
  if (error) c->error = *error;
}

static void finished(segue_op *op) {
  (void)op;
}

/* Seconds that the policy's probe takes. */
static double run(segue__policy *policy) {
  call c = {.over = false};
  segue__op_begin(&c.op, loop, 300000, answered, finished, NULL);
  double began = now();
  policy->ops->probe(policy->impl, &c.op);
  while (!c.over)
    uv_run(&uv, UV_RUN_ONCE);
  double took = now() - began;
  if (c.status) fail(c.error.message);
  return took;
}

static int nothing(lua_State *L, void *data, segue_error *err) {
  (void)L, (void)data, (void)err;
  return 0;
}

static double budgeted_calls(void) {
  segue__policy *policy = load("");
  segue__lua *lua = ((segue__loaded *)policy->impl)->lua;
  segue_error err;
  double best = 1e9;
  for (int round = 0; round < ROUNDS; round++) {
    double began = now();
    for (int i = 0; i < CALLS; i++)
      if (segue__lua_call(lua, "bench", 1000, nothing, NULL, &err)) fail(err.message);
    double took = (now() - began) / CALLS;
    best = took < best ? took : best;
  }
  segue__policy_unref(policy);
  return best * 1e9;
}

static double best_run(const char *body, int count) {
  segue__policy *policy = load(body);
  double best = 1e9;
  for (int round = 0; round < ROUNDS; round++) {
    double took = run(policy) / count;
    best = took < best ? took : best;
  }
  segue__policy_unref(policy);
  return best;
}

/* ---- The bare system's side ---- */

static double bare_commands(void) {
  double best = 1e9;
  char *argv[] = {"true", NULL};
  for (int round = 0; round < ROUNDS; round++) {
    double began = now();
    for (int i = 0; i < COMMANDS; i++) {
      pid_t pid;
      if (posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ)) fail("posix_spawn");
      waitpid(pid, NULL, 0);
    }
    double took = (now() - began) / COMMANDS;
    best = took < best ? took : best;
  }
  return best * 1e6;
}

/* ---- A thousand requests ---- */

static double resident_kib(void) {
  long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (!file || fscanf(file, "%*d %ld", &pages) != 1) fail("statm");
  fclose(file);
  return (double)pages * (double)sysconf(_SC_PAGESIZE) / 1024;
}

/* Accepts all requests, reports that, and answers when the pipe requests it. */
static void serve(int listener, int pipe_fd) {
  static int clients[REQUESTS];
  char bytes[4096];
  const char *answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
  for (int i = 0; i < REQUESTS; i++)
    clients[i] = accept(listener, NULL, NULL);
  for (int i = 0; i < REQUESTS; i++)
    if (read(clients[i], bytes, sizeof bytes) <= 0) _exit(1);
  if (write(pipe_fd, "r", 1) != 1 || read(pipe_fd, bytes, 1) != 1) _exit(1);
  for (int i = 0; i < REQUESTS; i++)
    if (write(clients[i], answer, strlen(answer)) < 0) _exit(1);
  _exit(0);
}

static double memory_before, memory_each;

static void on_all_there(uv_poll_t *poll, int status, int events) {
  char byte;
  int fd = *(int *)poll->data;
  (void)status, (void)events;
  if (read(fd, &byte, 1) != 1) fail("the server broke off");
  memory_each = (resident_kib() - memory_before) / REQUESTS;
  uv_close((uv_handle_t *)poll, NULL);
  if (write(fd, "g", 1) != 1) fail("the server broke off");
}

static void requests(void) {
  int ends[2], listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof at;
  char body[512];
  uv_poll_t poll;
  if (listener < 0 || bind(listener, (struct sockaddr *)&at, len) || listen(listener, 2048) ||
      getsockname(listener, (struct sockaddr *)&at, &len) ||
      socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
    fail("no server");
  pid_t pid = fork();
  if (pid == 0) serve(listener, ends[1]);
  close(listener);
  snprintf(body, sizeof body,
           "local list = {} for i = 1, %d do list[i] = function()\n"
           "return assert(segue.fetch('http://127.0.0.1:%d/')).body end end\n"
           "assert(segue.all(list))",
           REQUESTS, ntohs(at.sin_port));
  best_run("segue.fetch('http://127.0.0.1:1/')", 1); /* libcurl is loaded */
  segue__policy *policy = load(body);
  poll.data = &ends[0];
  uv_poll_init(&uv, &poll, ends[0]);
  uv_poll_start(&poll, UV_READABLE, on_all_there);
  memory_before = resident_kib();
  run(policy);
  segue__policy_unref(policy);
  waitpid(pid, NULL, 0);
}

/* ---- */

static void done(void *data) {
  *(bool *)data = true;
}

int main(int argc, char **argv) {
  if (argc != 3) fail("usage: async LUA_DIR FOLDER");
  folder = argv[2];
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max < 4096 ? files.rlim_max : 4096;
  setrlimit(RLIMIT_NOFILE, &files);
  segue__lua_options options = {
      .size = sizeof options, .lua_dir = argv[1], .signal = budget_signal()};
  uv_loop_init(&uv);
  if (segue__loop_open_uv(&loop, &uv) || segue__lua_loader_new(&loader, loop, NULL, NULL, &options))
    fail("no loop");
  printf("call %.1f\n", budgeted_calls());
  printf("wait %.1f\n", best_run("for _ = 1, 50000 do segue.sleep(0) end", SWITCHES) * 1e9);
  printf("run %.1f\n",
         best_run("for _ = 1, 200 do assert(segue.run { '/bin/true' }) end", COMMANDS) * 1e6);
  printf("spawn %.1f\n", bare_commands());
  requests();
  printf("fetch %.2f\n", memory_each);
  bool closed = false;
  segue__lua_loader_close(loader, done, &closed);
  while (!closed)
    uv_run(&uv, UV_RUN_ONCE);
  segue__loop_close(loop, NULL, NULL);
  uv_run(&uv, UV_RUN_DEFAULT);
  uv_loop_close(&uv);
  return 0;
}
