/* SPDX-License-Identifier: MIT
 *
 * memory FILE FILE2 [keep]: a host whose configuration is one of the two files, reloaded five
 * times, with the other file each time. Prints "name value" lines, MB of resident memory: `steady`
 * after the last reload. With `keep` the host holds a reference to each generation: `kept` with all
 * of them, `released` after it dropped them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "segue.h"

enum { RELOADS = 5, LOOK_MS = 50, QUIET_LOOKS = 20 };

static uv_loop_t loop;
static uv_timer_t look;
static segue *instance;
static const char *files[2], *figure;
static char live[4096];
static const segue_snapshot *kept[RELOADS];
static int reloads, quiet_looks;
static double lowest;
static bool keep;

static double resident_mb(void) {
  unsigned long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (!file || fscanf(file, "%*u %lu", &pages) != 1) exit(1);
  fclose(file);
  return (double)pages * (double)sysconf(_SC_PAGESIZE) / 1e6;
}

static void settle(const char *name);

/* Another thread frees replaced snapshots: the result is read when it has not fallen for a second.
 */
static void on_look(uv_timer_t *timer) {
  double now = resident_mb();
  quiet_looks = now < lowest - 0.1 ? 0 : quiet_looks + 1;
  if (now < lowest) lowest = now;
  if (quiet_looks < QUIET_LOOKS) return;
  printf("%s %.2f\n", figure, now);
  uv_timer_stop(timer);
  if (!strcmp(figure, "kept")) {
    for (int i = 0; i < RELOADS; i++)
      segue_snapshot_unref(kept[i]);
    settle("released");
  } else {
    segue_stop(instance);
  }
}

static void settle(const char *name) {
  figure = name;
  quiet_looks = 0;
  lowest = resident_mb();
  uv_timer_start(&look, on_look, LOOK_MS, LOOK_MS);
}

static void put_file(const char *path) {
  char temporary[4200];
  snprintf(temporary, sizeof temporary, "%s.next", live);
  unlink(temporary);
  if (link(path, temporary) || rename(temporary, live)) exit(1);
}

static void reload(void *data, int status, const segue_report *report) {
  (void)data;
  if (status || (report && strcmp(report->outcome, "applied") != 0)) {
    fprintf(stderr, "memory: reload %d: %s\n", reloads, segue_strerror(status));
    exit(1);
  }
  if (reloads == RELOADS) {
    settle(keep ? "kept" : "steady");
    return;
  }
  if (keep) kept[reloads] = segue_snapshot_acquire(instance);
  put_file(files[++reloads % 2]);
  if (segue_reload(instance, false, reload, NULL)) exit(1);
}

static void on_stopped(void *data) {
  (void)data;
  uv_close((uv_handle_t *)&look, NULL);
}

int main(int argc, char **argv) {
  segue_error error;
  segue_options options;
  if (argc < 3) {
    fprintf(stderr, "usage: memory FILE FILE2 [keep]\n");
    return 2;
  }
  files[0] = argv[1];
  files[1] = argv[2];
  keep = argc > 3;
  snprintf(live, sizeof live, "%s.live%s", argv[1], strrchr(argv[1], '.'));
  put_file(files[0]);
  uv_loop_init(&loop);
  uv_timer_init(&loop, &look);
  segue_options_init(&options);
  options.uv_loop = &loop;
  options.config = live;
  options.on_start = reload;
  options.on_stopped = on_stopped;
  if (segue_new(&instance, &options, &error) || segue_start(instance, &error)) {
    fprintf(stderr, "memory: %s\n", error.message);
    return 1;
  }
  uv_run(&loop, UV_RUN_DEFAULT);
  segue_close(instance);
  return 0;
}
