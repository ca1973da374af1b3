/* SPDX-License-Identifier: MIT
 *
 * life CASE CONFIG own|host: a host that calls start, run, reload, stop and close in callbacks,
 * from other threads and in the wrong order. Prints the result of each call; the spec checks them.
 */
#include <errno.h>
#include <pthread.h>
#include <segue.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

enum { THREADS = 8, RELOADS = 50 };

static segue *instance;
static const char *what;
static uv_loop_t *host_loop;
static pthread_t loop_thread;
static long answered, refused, elsewhere; /* of reloads; the loop's thread counts */
static long accepted, closed;             /* atomic */

static sem_t warned;

static bool is(const char *name) {
  return !strcmp(what, name);
}

static void on_stopped(void *data) {
  (void)data;
  printf("stopped\n");
  if (is("close in on_stopped")) segue_close(instance);
}

static void *close_it(void *data) {
  segue_close(instance);
  return data;
}

static void *run_it(void *data) {
  printf("run: %s\n", segue_error_name(segue_run(instance)));
  return data;
}

static void *stop_it(void *data) {
  segue_stop(instance);
  return data;
}

static void on_reload(void *data, int status, const segue_report *report) {
  (void)data;
  if (!pthread_equal(pthread_self(), loop_thread)) elsewhere++;
  if (status == 0 && report) answered++;
  if (status == SEGUE_ECLOSED) refused++;
  if (is("reload in threads") && answered == THREADS * RELOADS) segue_stop(instance);
}

static void *reload_it(void *data) {
  for (int i = 0; i < RELOADS; i++) {
    int rc = segue_reload(instance, true, on_reload, NULL);
    __atomic_add_fetch(rc == 0 ? &accepted : &closed, 1, __ATOMIC_SEQ_CST);
    if (rc && rc != SEGUE_ECLOSED) printf("reload: %s\n", segue_error_name(rc));
  }
  return data;
}

static void in_thread(void *(*fn)(void *)) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, fn, NULL) || pthread_join(thread, NULL)) exit(3);
}

/* Does not wait: the threads meet the loop, and its end. */
static pthread_t storm_threads[THREADS];
static void storm(void *(*fn)(void *)) {
  for (int i = 0; i < THREADS; i++)
    if (pthread_create(&storm_threads[i], NULL, fn, NULL)) exit(3);
}

static void join_storm(void) {
  for (int i = 0; i < THREADS; i++)
    if (pthread_join(storm_threads[i], NULL)) exit(3);
}

static void on_log(void *data, const segue_log_entry *entry) {
  (void)data;
  if (strstr(entry->message, "a read section has been open")) sem_post(&warned);
}

/* The reload has replaced what the open section sees. */
static void on_replaced(void *data, int status, const segue_report *report) {
  (void)data;
  printf("reload: %s\n", status || !report ? segue_error_name(status) : report->outcome);
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += 30;
  int rc;
  while ((rc = sem_timedwait(&warned, &until)) && errno == EINTR)
    ;
  printf("%s\n", rc ? "not warned" : "warned");
  segue_read_end(instance);
  segue_stop(instance);
}

static void on_start(void *data, int status, const segue_report *report) {
  (void)data;
  loop_thread = pthread_self();
  printf("start: %s\n", status || !report ? segue_error_name(status) : report->outcome);
  if (is("close in on_start")) segue_close(instance);
  if (is("close in a thread")) in_thread(close_it);
  if (!strncmp(what, "close in", 8) && !is("close in on_stopped")) return;
  if (is("open section")) {
    segue_read_begin(instance);
    if (segue_reload(instance, true, on_replaced, NULL)) exit(3);
    return;
  }
  if (is("run in on_start")) run_it(NULL);
  if (is("run in a thread")) in_thread(run_it);
  if (is("stop in threads")) storm(stop_it);
  if (is("reload in threads") || is("reload and stop in threads")) storm(reload_it);
  if (!is("reload in threads")) segue_stop(instance);
}

static void host_run(void) {
  signal(SIGPIPE, SIG_IGN);
  uv_run(host_loop, UV_RUN_DEFAULT);
  printf("loop: %s\n", uv_loop_close(host_loop) ? "busy" : "closed");
}

/* After the end of the loop: an instance that is not closed yet still answers calls. */
static int finish(void) {
  if (strstr(what, "in threads")) join_storm();
  if (accepted + closed) {
    printf("reloads: %s, %ld elsewhere\n",
           accepted == answered + refused && accepted + closed == THREADS * RELOADS
               ? "each answered"
               : "lost",
           elsewhere);
    if (is("reload in threads")) printf("applied or unchanged: %ld\n", answered);
  }
  if (is("close before run") || is("close in on_start") || is("close in a thread") ||
      is("close in on_stopped"))
    return 0;
  printf("reload: %s\n", segue_error_name(segue_reload(instance, false, NULL, NULL)));
  run_it(NULL);
  segue_stop(instance);
  segue_close(instance);
  return 0;
}

int main(int argc, char **argv) {
  uv_loop_t loop;
  segue_options options;
  segue_error error;
  if (argc != 4 || sem_init(&warned, 0, 0)) return 2;
  what = argv[1];
  if (!strcmp(argv[3], "host") && uv_loop_init(&loop) == 0) host_loop = &loop;
  segue_options_init(&options);
  options.uv_loop = host_loop;
  options.config = argv[2];
  options.on_start = on_start;
  options.on_stopped = on_stopped;
  options.on_log = on_log;
  int rc = segue_new(&instance, &options, &error);
  if (!rc && is("run before start")) run_it(NULL);
  if (!rc) rc = segue_start(instance, &error);
  if (rc) printf("%s\n", error.message);
  if (rc) return 1;
  if (is("close before run")) segue_close(instance);
  if (host_loop)
    host_run();
  else if (!is("close before run"))
    run_it(NULL);
  return finish();
}
