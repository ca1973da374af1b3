/* SPDX-License-Identifier: MIT
 *
 * log: the cost of one log line for the thread that logs it, on 1 and on 2 threads, beside snprintf
 * and write(2) of the same line to the same kind of file. The queue holds all lines of a round, so
 * that the line is measured and not the disk.
 *
 * Argument: folder for the logs. Prints "name_threads nanoseconds" lines, the best of several
 * rounds, after each of which all lines are counted in the file; and log_paced, the median of lines
 * that come 20 us apart, beside controls at the same pace: two reads of the clock, which each of
 * these medians contains; that, a third read and a copy of as many bytes into as large a queue; and
 * that with the bytes formatted by snprintf.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lines.h"
#include "rounds.h"
#include "segue.h"

enum { LINES = 20000 };

static segue *instance;
static int fd;
static pthread_t worker;
static lines queued, written;
static size_t log_count, write_count;

static void log_line(int i) {
  segue_log_field fields[] = {{"client", "10.0.0.7", 0}, {"n", NULL, i}};
  if (segue_log(instance, SEGUE_INFO, "bench", "request served", fields, 2) != 1) exit(1);
}

static void write_line(int i) {
  char line[256], stamp[32];
  struct timespec now;
  struct tm tm;
  clock_gettime(CLOCK_REALTIME, &now);
  gmtime_r(&now.tv_sec, &tm);
  strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &tm);
  int len =
      snprintf(line, sizeof line, "%s.%03ldZ info  bench: request served client=10.0.0.7 n=%d\n",
               stamp, now.tv_nsec / 1000000, i);
  if (write(fd, line, (size_t)len) != len) exit(1);
}

static double log_all(void *data) {
  (void)data;
  double began = now_ns();
  for (int i = 0; i < LINES; i++)
    log_line(i);
  return (now_ns() - began) / LINES;
}

static double write_all(void *data) {
  (void)data;
  double began = now_ns();
  for (int i = 0; i < LINES; i++)
    write_line(i);
  return (now_ns() - began) / LINES;
}

/* Lines 20 us apart: a writer that has written all before is idle when the next one comes. */
enum { PACED_LINES = 2000, PACE_NS = 20000 };

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static double paced(void (*one)(int i)) {
  static double ns[PACED_LINES];
  for (int i = 0; i < PACED_LINES; i++) {
    double began = now_ns();
    one(i);
    ns[i] = now_ns() - began;
    while (now_ns() - began < PACE_NS)
      ;
  }
  qsort(ns, PACED_LINES, sizeof *ns, by_size);
  return ns[PACED_LINES / 2];
}

static double log_paced(void) {
  double ns = paced(log_line);
  lines_wait(&queued, log_count += PACED_LINES);
  return ns;
}

enum { QUEUE_BYTES = 8 << 20, LINE_BYTES = 78 };
static char *queue;
static size_t queue_at;

static void nothing(int i) {
  (void)i;
}

static char *queue_room(void) {
  queue_at = (queue_at + LINE_BYTES) % (QUEUE_BYTES - 256);
  return queue + queue_at;
}

static void copy_line(int i) {
  static char line[LINE_BYTES];
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  line[0] = (char)(now.tv_nsec + i);
  memcpy(queue_room(), line, LINE_BYTES);
}

static void format_line(int i) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  snprintf(queue_room(), 256, "%lld.%03ldZ info  bench: request served client=10.0.0.7 n=%d\n",
           (long long)now.tv_sec, now.tv_nsec / 1000000, i);
}

/* In turns, so that other load on the machine disturbs all alike; the least of three. */
static void print_paced(void) {
  double least[4] = {1e9, 1e9, 1e9, 1e9};
  for (int round = 0; round < 3; round++) {
    double ns[4] = {log_paced(), paced(nothing), paced(copy_line), paced(format_line)};
    for (int i = 0; i < 4; i++)
      if (ns[i] < least[i]) least[i] = ns[i];
  }
  printf("log_paced %.3f\nclock_paced %.3f\ncopy_paced %.3f\nformat_paced %.3f\n", least[0],
         least[1], least[2], least[3]);
}

static void catch_up(void *data, int threads) {
  (void)data;
  lines_wait(&queued, log_count += (size_t)(threads * LINES));
}

static void count_written(void *data, int threads) {
  (void)data;
  lines_wait(&written, write_count += (size_t)(threads * LINES));
}

static void *work(void *data) {
  (void)data;
  const rounds by_log = {.work = log_all, .between = catch_up};
  const rounds by_write = {.work = write_all, .between = count_written};
  lines_open(&queued, "queued.log");
  lines_open(&written, "written.log");
  for (int threads = 1; threads <= ROUND_THREADS_MAX; threads++) {
    printf("log_%d %.3f\n", threads, rounds_best(&by_log, threads));
    printf("write_%d %.3f\n", threads, rounds_best(&by_write, threads));
  }
  print_paced();
  segue_stop(instance);
  return NULL;
}

static void on_start(void *data, int status, const segue_report *report) {
  (void)data, (void)report;
  if (status || pthread_create(&worker, NULL, work, NULL)) exit(1);
}

static void write_file(const char *name, const char *text) {
  FILE *file = fopen(name, "w");
  if (!file || fputs(text, file) < 0 || fclose(file)) exit(1);
}

int main(int argc, char **argv) {
  segue_options options;
  segue_error error;
  if (argc != 2 || chdir(argv[1])) return 2;
  write_file("config.yaml", "log: {file: queued.log, queue: 8MiB}\n");
  write_file("reload.lua", "local segue = require \"segue\"\n"
                           "return { sources = { segue.file \"config.yaml\" }, triggers = {},\n"
                           "  modules = { log = { kind = \"c\", config = \"log\" } } }\n");
  fd = open("written.log", O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  segue_options_init(&options);
  options.policy = "reload.lua";
  options.on_start = on_start;
  queue = malloc(QUEUE_BYTES);
  if (queue) memset(queue, 0, QUEUE_BYTES);
  if (!queue || fd < 0 || segue_new(&instance, &options, &error) || segue_start(instance, &error))
    return 1;
  segue_run(instance);
  pthread_join(worker, NULL);
  segue_close(instance);
  return 0;
}
