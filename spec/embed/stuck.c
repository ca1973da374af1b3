/* SPDX-License-Identifier: MIT
 *
 * stuck POLICY own|host: a host whose module does not return from a request. The module "stuck" is
 * written in C: GET /loop spins until the host has closed the instance, then answers and logs. A
 * policy may name other modules. SIGTERM calls segue_stop. Prints what the host
 * sees; the spec validates.
 */
#include <pthread.h>
#include <segue.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

static segue *instance;
static uv_loop_t loop;
static sigset_t term;
static bool has_host_loop;
static int lives;
static int closed, inside; /* atomic */
static sem_t returned;

static void print(const char *what, const char *text) {
  flockfile(stdout);
  printf("%s: %s\n", what, text);
  fflush(stdout);
  funlockfile(stdout);
}

/* The lines about a thread that is stuck; others depend on the speed of the machine. */
static void on_log(void *data, const segue_log_entry *entry) {
  const char *module = "";
  (void)data;
  for (size_t i = 0; i < entry->field_count; i++)
    if (!strcmp(entry->fields[i].key, "module") && entry->fields[i].text)
      module = entry->fields[i].text;
  if (strstr(entry->message, "keeps its worker thread busy")) print("busy", module);
  if (strstr(entry->message, "a worker thread is abandoned")) print("abandoned", module);
  if (strstr(entry->message, "after the close")) print("log", entry->message);
}

static void handle(void *data, segue_request *request) {
  static const char text[] = "well\n";
  segue_answer answer = {.status = 200, .body = text, .len = sizeof text - 1};
  (void)data;
  bool is_loop = !strcmp(segue_request_path(request), "/loop");
  if (is_loop) {
    __atomic_store_n(&inside, 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&closed, __ATOMIC_SEQ_CST))
      ;
    segue_log(instance, SEGUE_ERROR, "host", "after the close", NULL, 0);
  }
  int rc = segue_request_answer(request, &answer);
  if (is_loop) print("answer", rc ? "failed" : "OK");
  if (is_loop) sem_post(&returned);
}

static void prepare(void *userdata, segue_op *op, const segue_slice *next, const segue_slice *prev,
                    void **out) {
  (void)userdata, (void)next, (void)prev;
  *out = malloc(1);
  segue_op_done(op, *out ? 0 : SEGUE_EMODULE, NULL);
}

static void on_start(void *data, int status, const segue_report *report) {
  (void)data;
  print("start", status || !report ? segue_error_name(status) : report->outcome);
  if (lives == 2) segue_stop(instance);
}

static void on_stopped(void *data) {
  (void)data;
  print("stopped", lives == 1 ? "first" : "second");
}

static void *stop_it(void *data) {
  int signal;
  if (sigwait(data, &signal) == 0) segue_stop(instance);
  return data;
}

/* Returns after segue_close. `instance` keeps the pointer: the stuck thread logs with it. */
static int live(const char *policy, segue **out) {
  static const segue_module_ops ops = {
      .size = sizeof ops, .prepare = prepare, .destroy = free, .handle = handle};
  segue_options options;
  segue_error error;
  segue_options_init(&options);
  options.uv_loop = has_host_loop ? &loop : NULL;
  options.policy = policy;
  options.lua_dir = "lua";
  options.on_start = on_start;
  options.on_stopped = on_stopped;
  options.on_log = on_log;
  lives++;
  int rc = segue_new(out, &options, &error);
  if (!rc) rc = segue_module_register(*out, "stuck", &ops, NULL);
  if (!rc) rc = segue_start(*out, &error);
  if (rc) print("error", error.message);
  pthread_t stopper;
  if (!rc && lives == 1 && pthread_create(&stopper, NULL, stop_it, &term)) exit(3);
  if (!rc) rc = has_host_loop ? uv_run(&loop, UV_RUN_DEFAULT) : segue_run(*out);
  print("run", rc ? "failed" : "OK");
  if (!rc && lives == 1) pthread_join(stopper, NULL);
  segue_close(*out);
  print("close", "returned");
  return rc;
}

int main(int argc, char **argv) {
  if (argc != 3 || sem_init(&returned, 0, 0)) return 2;
  signal(SIGPIPE, SIG_IGN);
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &term, NULL);
  has_host_loop = !strcmp(argv[2], "host");
  if (has_host_loop && uv_loop_init(&loop)) return 2;
  int rc = live(argv[1], &instance);
  __atomic_store_n(&closed, 1, __ATOMIC_SEQ_CST);
  while (__atomic_load_n(&inside, __ATOMIC_SEQ_CST) && sem_wait(&returned))
    ;
  if (!rc) rc = live(argv[1], &instance); /* on the same address and state folder */
  if (has_host_loop) print("loop", uv_loop_close(&loop) ? "busy" : "closed");
  return rc ? 1 : 0;
}
