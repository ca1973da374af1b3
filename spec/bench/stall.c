/* SPDX-License-Identifier: MIT
 *
 * stall FILE FILE2 [ROUNDS [POLICY LUA]]: two configurations that are put in place of each other by
 * rename and reloaded, on the loop of a host. How long one turn of that loop keeps the thread,
 * which is how long everything else in the host waits. With a policy, which names FILE.live.yaml,
 * and the folder of the Lua half, there is a history too. Prints "name value" lines, milliseconds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "segue.h"

enum { TURNS_MAX = 1 << 20 };

static uv_loop_t loop;
static uv_timer_t tick;
static uv_prepare_t prepare;
static segue *instance;
static const char *files[2];
static char live[4096];
static int rounds = 100, done;
static double turns_wall[TURNS_MAX], turns_cpu[TURNS_MAX], last_wall, last_cpu, reload_began,
    reload_ms;
static size_t turns;

static double now_ms(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* A turn: from one wait for events to the next, without the waiting. */
static void on_prepare(uv_prepare_t *handle) {
  (void)handle;
  double wall = now_ms(CLOCK_MONOTONIC) - (double)uv_metrics_idle_time(&loop) * 1e-6;
  double cpu = now_ms(CLOCK_THREAD_CPUTIME_ID);
  if (last_wall != 0 && turns < TURNS_MAX) {
    turns_wall[turns] = wall - last_wall;
    turns_cpu[turns++] = cpu - last_cpu;
  }
  last_wall = wall;
  last_cpu = cpu;
}

static void on_tick(uv_timer_t *handle) {
  (void)handle;
}

static void put(int which) {
  char temporary[4200];
  snprintf(temporary, sizeof temporary, "%s.next", live);
  unlink(temporary);
  if (link(files[which], temporary) || rename(temporary, live)) exit(1);
}

static void on_reloaded(void *data, int status, const segue_report *report);

static void reload(void) {
  put(done % 2);
  reload_began = now_ms(CLOCK_MONOTONIC);
  if (segue_reload(instance, false, on_reloaded, NULL)) exit(1);
}

static void on_reloaded(void *data, int status, const segue_report *report) {
  (void)data;
  if (status || strcmp(report->outcome, "applied") != 0) {
    fprintf(stderr, "stall: reload %d: %s\n", done, segue_strerror(status));
    exit(1);
  }
  reload_ms += now_ms(CLOCK_MONOTONIC) - reload_began;
  if (++done < rounds)
    reload();
  else
    segue_stop(instance);
}

static void on_start(void *data, int status, const segue_report *report) {
  (void)data;
  (void)report;
  if (status) exit(1);
  turns = 0;
  reload();
}

static void on_stopped(void *data) {
  (void)data;
  uv_close((uv_handle_t *)&tick, NULL);
  uv_close((uv_handle_t *)&prepare, NULL);
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void print(const char *name, double *values) {
  qsort(values, turns, sizeof *values, ascending);
  printf("%s_p999 %.3f\n%s_max %.3f\n", name, values[turns - 1 - turns / 1000], name,
         values[turns - 1]);
}

int main(int argc, char **argv) {
  segue_error error;
  segue_options options;
  if (argc < 3) {
    fprintf(stderr, "usage: stall FILE FILE2 [ROUNDS [POLICY LUA]]\n");
    return 2;
  }
  files[0] = argv[2]; /* the first reload brings the other one */
  files[1] = argv[1];
  if (argc > 3) rounds = atoi(argv[3]);
  snprintf(live, sizeof live, "%s.live%s", argv[1], strrchr(argv[1], '.'));
  put(1);
  uv_loop_init(&loop);
  uv_loop_configure(&loop, UV_METRICS_IDLE_TIME);
  uv_timer_init(&loop, &tick);
  uv_prepare_init(&loop, &prepare);
  uv_timer_start(&tick, on_tick, 1, 1);
  uv_prepare_start(&prepare, on_prepare);
  segue_options_init(&options);
  options.uv_loop = &loop;
  options.config = argc > 5 ? NULL : live;
  options.policy = argc > 5 ? argv[4] : NULL;
  options.lua_dir = argc > 5 ? argv[5] : NULL;
  options.on_start = on_start;
  options.on_stopped = on_stopped;
  if (segue_new(&instance, &options, &error) || segue_start(instance, &error)) {
    fprintf(stderr, "stall: %s\n", error.message);
    return 1;
  }
  uv_run(&loop, UV_RUN_DEFAULT);
  segue_close(instance);
  printf("turns %zu\nreload %.3f\n", turns, reload_ms / rounds);
  print("wall", turns_wall);
  print("cpu", turns_cpu);
  return 0;
}
